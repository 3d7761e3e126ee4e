//! PAX extended header records: `LENGTH KEY=VALUE\n`, LENGTH counting itself.

use crate::model::Time;

/// Prefix of the keys that carry extended attributes.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Appends one record.
pub(super) fn push(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + digits(rest);
    // The length's own digits may carry it over a power of ten.
    if digits(len) != digits(rest) {
        len = rest + digits(len);
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// Splits the first record off: key, value, rest. `None` when it is malformed.
pub(super) fn split(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|&byte| byte == b' ')?;
    let len = usize::try_from(decimal(&records[..space])?).ok()?;
    if len <= space + 1 || len > records.len() {
        return None;
    }
    let (record, rest) = records.split_at(len);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, rest))
}

/// A whole number without sign.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Spells a time as seconds with as many decimals as it needs.
pub(super) fn format_time(time: Time) -> String {
    if time.nanos == 0 {
        return time.seconds.to_string();
    }
    let (sign, seconds, nanos) = if time.seconds < 0 {
        ("-", -(time.seconds + 1), 1_000_000_000 - time.nanos)
    } else {
        ("", time.seconds, time.nanos)
    };
    let text = format!("{sign}{seconds}.{nanos:09}");
    text.trim_end_matches('0').to_owned()
}

/// Reads a time as PAX spells it; digits beyond nanoseconds are cut off.
pub(super) fn parse_time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let nanos = (0..9).fold(0_u32, |nanos, index| {
        nanos * 10 + u32::from(fraction.get(index).map_or(0, |digit| digit - b'0'))
    });
    Some(match (negative, nanos) {
        (false, nanos) => Time { seconds, nanos },
        (true, 0) => Time {
            seconds: -seconds,
            nanos: 0,
        },
        (true, nanos) => Time {
            seconds: -seconds - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for len in [
            0, 1, 80, 85, 86, 87, 88, 89, 90, 980, 985, 986, 987, 988, 995,
        ] {
            let mut out = Vec::new();
            let value = vec![b'v'; len];
            push(&mut out, b"path", &value);
            assert_eq!(split(&out), Some((&b"path"[..], &value[..], &b""[..])));
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for text in [
            &b"6 a=b\n"[..],
            b"7 a=b\n",
            b"5 a=b\n",
            b"06 a=b\n ",
            b"5 =b\n",
            b"4 ab\n",
            b"6 a=bc",
            b"-6 a=b\n",
            b" 6 a=b\n",
            b"99999999999999999999 a=b\n",
            b"",
        ] {
            let accepted = split(text).is_some();
            assert_eq!(accepted, text == b"6 a=b\n", "{:?}", text.escape_ascii());
        }
    }

    #[track_caller]
    fn check_time(text: &str, seconds: i64, nanos: u32) {
        let time = Time { seconds, nanos };
        assert_eq!(parse_time(text.as_bytes()), Some(time));
        assert_eq!(format_time(time), text);
    }

    #[test]
    fn times_are_decimal_fractions() {
        check_time("0", 0, 0);
        check_time("1350244992.02396009", 1_350_244_992, 23_960_090);
        check_time("-1", -1, 0);
        check_time("-1.5", -2, 500_000_000);
        check_time("-0.25", -1, 750_000_000);
        for bad in ["", "-", ".5", "1.x", "1e3", "+1", "99999999999999999999"] {
            assert_eq!(parse_time(bad.as_bytes()), None, "{bad}");
        }
    }
}
