//! Reads `WWW-Authenticate` (RFC 9110, 11.6.1): several headers, several challenges in each.

use std::collections::BTreeMap;

/// One way in that a server offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// `bearer`, `basic`, …: in small letters.
    pub(crate) scheme: String,
    /// Parameters, names in small letters.
    pub(crate) parameters: BTreeMap<String, String>,
}

/// Reads one header's value. What makes no sense is skipped.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=', '"']).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        let tail = tail.trim_start_matches([' ', '\t']);
        if let Some(value) = tail.strip_prefix('=') {
            let (value, tail) = read_value(value.trim_start_matches([' ', '\t']));
            if let Some(challenge) = challenges.last_mut() {
                let name = word.to_ascii_lowercase();
                challenge.parameters.entry(name).or_insert(value);
            }
            rest = tail;
        } else if !word.is_empty() {
            let scheme = word.to_ascii_lowercase();
            challenges.push(Challenge {
                scheme,
                parameters: BTreeMap::new(),
            });
            rest = tail;
        } else if tail.is_empty() {
            return challenges;
        } else {
            // A quote where a name should be: pass over it.
            rest = &tail[1..];
        }
    }
}

/// A quoted text or a bare word, and what follows it.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_string(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[position + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Challenges as `scheme name=value name=value`.
    #[track_caller]
    fn check(header: &str, expected: &[&str]) {
        let read: Vec<String> = parse(header)
            .into_iter()
            .map(|challenge| {
                let parameters = challenge.parameters.iter();
                parameters.fold(challenge.scheme, |text, (name, value)| {
                    format!("{text} {name}={value}")
                })
            })
            .collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn challenges_of_every_shape() {
        check("", &[]);
        check("Basic", &["basic"]);
        check(r#"Basic realm="x y""#, &["basic realm=x y"]);
        check(
            r#"Bearer realm="https://a/t",service="s",scope="repository:a:pull,push""#,
            &["bearer realm=https://a/t scope=repository:a:pull,push service=s"],
        );
        check(
            r#"Basic realm="x", Bearer realm="y""#,
            &["basic realm=x", "bearer realm=y"],
        );
        check(r#"Bearer realm="y" , Basic"#, &["bearer realm=y", "basic"]);
        check(
            "BEARER Realm = y , Service=z",
            &["bearer realm=y service=z"],
        );
        check(r#"Bearer realm="a\"b\\c""#, &[r#"bearer realm=a"b\c"#]);
        check(r#"Bearer realm="unclosed"#, &["bearer realm=unclosed"]);
        check(
            r#"Negotiate, Basic realm="x""#,
            &["negotiate", "basic realm=x"],
        );
        check(r#"Bearer ""realm=x"#, &["bearer realm=x"]);
        check("realm=x", &[]);
        check("\"é\"é =", &["é é="]);
    }
}
