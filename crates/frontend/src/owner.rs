//! `user[:group]` and modes, as `--chown`, `--chmod`, `USER` and mounts write them.

use dockerfile::{Diagnostic, Span};
use graph::{ModeChange, Owner, Principal};

/// Reads `user[:group]`. A part of digits is an id, anything else a name.
pub(crate) fn parse_owner(text: &str) -> Owner {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    Owner {
        user: principal(user),
        group: group.filter(|group| !group.is_empty()).map(principal),
    }
}

fn principal(text: &str) -> Principal {
    match text.parse() {
        _ if text.is_empty() => Principal::Id(0),
        Ok(id) => Principal::Id(id),
        Err(_) => Principal::Name(text.to_owned()),
    }
}

/// Whether every part is a number, so that no passwd file is needed.
pub(crate) fn is_numeric(owner: &Owner) -> bool {
    let numeric = |principal: &Principal| matches!(principal, Principal::Id(_));
    numeric(&owner.user) && owner.group.as_ref().is_none_or(numeric)
}

/// Reads the value of `--chmod`: octal, or symbolic as in chmod(1) (C13).
pub(crate) fn parse_mode(text: &str, span: Span) -> Result<ModeChange, Diagnostic> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        let mode = u32::from_str_radix(text, 8)
            .ok()
            .filter(|&mode| mode <= 0o7777);
        return mode.map(ModeChange::Octal).ok_or_else(|| {
            let message = format!(
                "invalid chmod parameter: '{text}'. it should be octal string and between 0 and \
                 07777"
            );
            Diagnostic::error("chmod", span, message)
                .with_help("write three or four digits from 0 to 7, as in 0644")
        });
    }
    if text.split(',').all(is_symbolic_clause) {
        return Ok(ModeChange::Symbolic(text.to_owned()));
    }
    let message = format!("invalid chmod parameter: '{text}'");
    let error = Diagnostic::error("chmod", span, message)
        .with_help("write an octal mode like 0644, or a symbolic one like u=rwX,go=rX");
    Err(error)
}

/// `[ugoa]*([-+=]([rwxXst]*|[ugo]))+`
fn is_symbolic_clause(clause: &str) -> bool {
    let mut rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let Some(permissions) = rest.strip_prefix(['-', '+', '=']) else {
            return false;
        };
        let letters = permissions.trim_start_matches(['r', 'w', 'x', 'X', 's', 't']);
        rest = match letters.len() == permissions.len() {
            true => permissions
                .strip_prefix(['u', 'g', 'o'])
                .unwrap_or(permissions),
            false => letters,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c13_modes() {
        let span = Span::new(0, 0);
        assert_eq!(
            parse_mode("0644", span).ok(),
            Some(ModeChange::Octal(0o644))
        );
        assert_eq!(
            parse_mode("7777", span).ok(),
            Some(ModeChange::Octal(0o7777))
        );
        for symbolic in ["u=rwX,go=rX", "+x", "a-w", "g=u", "u+rw-x", "=", "ug+s,+t"] {
            let expected = ModeChange::Symbolic(symbolic.to_owned());
            assert_eq!(
                parse_mode(symbolic, span).ok(),
                Some(expected),
                "{symbolic}"
            );
        }
        for bad in ["10000", "888", "u", "u=z", "rw", "u=rw,", "0x1", "-1"] {
            assert!(parse_mode(bad, span).is_err(), "{bad}");
        }
    }

    #[test]
    fn c12_owners() {
        let id = Principal::Id;
        let name = |name: &str| Principal::Name(name.to_owned());
        let cases = [
            ("1000", id(1000), None),
            ("app:staff", name("app"), Some(name("staff"))),
            ("1000:0", id(1000), Some(id(0))),
            ("app:", name("app"), None),
            (":5", id(0), Some(id(5))),
            ("99999999999", name("99999999999"), None),
        ];
        for (text, user, group) in cases {
            assert_eq!(parse_owner(text), Owner { user, group }, "{text}");
        }
    }
}
