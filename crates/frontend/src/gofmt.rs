//! History texts in the form that BuildKit, a Go program, writes them in: `%q`, `%v`, `%+v` and
//! durations. Tools compare and parse these texts, so they are kept to the letter (row Y4).

use std::fmt::Write as _;

use oci::Healthcheck;

/// A list as `%q` prints it: `["a" "b"]`.
pub(crate) fn quoted_list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(" "))
}

/// A list as `%v` prints it: `[a b]`.
pub(crate) fn plain_list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// A health check as `%+v` prints it:
/// `{Test:[CMD x] Interval:30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}`.
pub(crate) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "{{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        plain_list(&check.test),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries,
    )
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        escape(character, &mut out);
    }
    out.push('"');
    out
}

/// Writes one character as it stands between double quotes.
fn escape(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        character if is_printable(character) => out.push(character),
        character => {
            let code = u32::from(character);
            let written = match code {
                0..=0x7f => write!(out, "\\x{code:02x}"),
                0x80..=0xffff => write!(out, "\\u{code:04x}"),
                _ => write!(out, "\\U{code:08x}"),
            };
            written.expect("a String takes whatever is written to it");
        }
    }
}

/// Go prints letters, marks, numbers, punctuation, symbols and the ASCII space as they are.
fn is_printable(character: char) -> bool {
    character == ' '
        || !(character.is_control() || character.is_whitespace() || is_format(character))
}

/// Format characters, private use and non-characters that occur in text.
fn is_format(character: char) -> bool {
    matches!(
        u32::from(character),
        0xad | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb
            | 0xe000..=0xf8ff | 0xe0001..=0xe007f | 0xf0000..=0x10ffff
    )
}

/// Nanoseconds as `time.Duration` prints them: `1m30s`, `1.5s`, `100ms`, `0s`.
fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{total}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", decimal(total, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(total, 1_000_000)),
        _ => {
            let minutes = total / 60_000_000_000;
            let seconds = decimal(total % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// `value / unit` with as many decimals as it needs.
fn decimal(value: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let fraction = format!("{:0digits$}", value % unit);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        (value / unit).to_string()
    } else {
        format!("{}.{fraction}", value / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_go() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(duration(nanoseconds), text);
        }
    }

    #[test]
    fn health_checks_read_like_go() {
        let check = Healthcheck {
            test: vec!["CMD-SHELL".to_owned(), "a \"b\"".to_owned()],
            interval: 300_000_000_000,
            timeout: 3_000_000_000,
            retries: 3,
            ..Healthcheck::default()
        };
        let text = "{Test:[CMD-SHELL a \"b\"] Interval:5m0s Timeout:3s StartPeriod:0s \
                    StartInterval:0s Retries:3}";
        assert_eq!(healthcheck(&check), text);
    }

    #[test]
    fn lists_read_like_go() {
        let list = |items: &[&str]| {
            items
                .iter()
                .map(|&item| item.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            quoted_list(&list(&["sh", "a \"b\"\n\u{1b}é"])),
            r#"["sh" "a \"b\"\n\x1bé"]"#
        );
        assert_eq!(quoted_list(&[]), "[]");
        assert_eq!(
            plain_list(&list(&["80/tcp", "443/tcp"])),
            "[80/tcp 443/tcp]"
        );
    }
}
