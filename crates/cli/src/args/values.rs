//! Values of flags: sizes and durations as docker writes them.

use std::time::Duration;

/// Parses `64m`, `1.5GB`, `1024`: powers of 1024, as docker reads them.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("`{unit}` is no unit of size (use b, k, m, g or t)")),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole
            .checked_mul(1 << shift)
            .ok_or_else(|| format!("`{text}` is too large"));
    }
    match number.parse::<f64>() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked against the range"
        )]
        Ok(value) if value >= 0.0 && value * ((1u64 << shift) as f64) < u64::MAX as f64 => {
            Ok((value * (1u64 << shift) as f64) as u64)
        }
        _ => Err(format!("`{text}` is no size (try 512m or 2g)")),
    }
}

/// Parses Go's durations: `24h`, `1h30m`, `10s`, `500ms`; and days, `7d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration (try 24h or 30m)");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let value: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(wrong()),
        };
        rest = &rest[unit..];
        total += Duration::try_from_secs_f64(value * seconds).map_err(|_| wrong())?;
    }
    if text.is_empty() {
        Err(wrong())
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        #[track_caller]
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
        check("0", Some(0));
        check("64m", Some(64 << 20));
        check("1.5GB", Some(3 << 29));
        check("10 kib", Some(10240));
        check("", None);
        check("12q", None);
        check("-1", None);
        check("99999999999t", None);
    }

    #[test]
    fn durations() {
        #[track_caller]
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(
                parse_duration(text).ok(),
                expected.map(Duration::from_millis),
                "{text}"
            );
        }
        check("24h", Some(86_400_000));
        check("1h30m", Some(5_400_000));
        check("500ms", Some(500));
        check("7d", Some(604_800_000));
        check("", None);
        check("5", None);
        check("h", None);
    }
}
