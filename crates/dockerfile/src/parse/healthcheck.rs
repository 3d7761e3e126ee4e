//! `HEALTHCHECK` and the durations of its options.

use std::time::Duration;

use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::character::complete::{char, digit0};
use nom::combinator::{all_consuming, opt, value, verify};
use nom::multi::fold_many1;
use nom::sequence::{pair, preceded};
use nom::{IResult, Parser};

use super::flags::{Flags, RawFlag, Table, Takes};
use super::fragment::Fragment;
use super::{Parsed, shell_or_exec};
use crate::ast::{Check, Healthcheck, ShellOrExec};
use crate::diagnostic::Diagnostic;

const FLAGS: Table = &[
    ("interval", Takes::Value),
    ("timeout", Takes::Value),
    ("start-period", Takes::Value),
    ("start-interval", Takes::Value),
    ("retries", Takes::Value),
];

/// Shortest time that an option may name, other than zero.
const MINIMUM: Duration = Duration::from_millis(1);

pub(super) fn parse(
    keyword: Fragment<'_>,
    flags: Vec<RawFlag>,
    arguments: Fragment<'_>,
) -> Parsed<Healthcheck> {
    let (kind, rest) = arguments.split_first();
    let rest = rest.unwrap_or(arguments.slice(arguments.text.len()..arguments.text.len()));
    match kind.text.to_ascii_uppercase().as_str() {
        "" => Err(Box::new(
            Diagnostic::error(
                "too-few-arguments",
                keyword.span(),
                "HEALTHCHECK requires at least one argument",
            )
            .with_help("write `HEALTHCHECK CMD <command>` or `HEALTHCHECK NONE`"),
        )),
        "NONE" if rest.text.is_empty() => Ok(Healthcheck::None),
        "NONE" => Err(Box::new(
            Diagnostic::error(
                "too-many-arguments",
                rest.span(),
                "HEALTHCHECK NONE takes no arguments",
            )
            .with_help("remove what follows NONE"),
        )),
        "CMD" => {
            let flags = Flags::check(flags, "HEALTHCHECK", FLAGS)?;
            check(&flags, kind, rest).map(Healthcheck::Check)
        }
        _ => {
            let message = format!("unknown type `{}` in HEALTHCHECK (try CMD)", kind.text);
            Err(Box::new(
                Diagnostic::error("unknown-healthcheck", kind.span(), message)
                    .with_remark("neither CMD nor NONE")
                    .with_help(format!("write `HEALTHCHECK CMD {}`", arguments.text)),
            ))
        }
    }
}

fn check(flags: &Flags, kind: Fragment<'_>, rest: Fragment<'_>) -> Parsed<Check> {
    let command = shell_or_exec(rest)?;
    let missing = match &command {
        ShellOrExec::Shell(text) => text.text().is_empty(),
        ShellOrExec::Exec(words) => words.is_empty(),
    };
    if missing {
        return Err(Box::new(
            Diagnostic::error(
                "missing-command",
                kind.span(),
                "missing command after HEALTHCHECK CMD",
            )
            .with_help("write the command that tells whether the container is healthy"),
        ));
    }
    Ok(Check {
        command,
        interval: interval(flags, "interval")?,
        timeout: interval(flags, "timeout")?,
        start_period: interval(flags, "start-period")?,
        start_interval: interval(flags, "start-interval")?,
        retries: retries(flags)?,
    })
}

fn interval(flags: &Flags, name: &str) -> Parsed<Duration> {
    let Some(word) = flags.value(name) else {
        return Ok(Duration::ZERO);
    };
    let Some((negative, length)) = duration(word.text()) else {
        let message = format!("invalid duration `{}`", word.text());
        return Err(Box::new(
            Diagnostic::error("invalid-duration", word.span(), message)
                .with_help("write a number and a unit: `30s`, `1m30s`, `500ms`"),
        ));
    };
    if length.is_zero() {
        return Ok(Duration::ZERO);
    }
    if negative || length < MINIMUM {
        let message = format!("interval \"{name}\" cannot be less than 1ms");
        return Err(Box::new(
            Diagnostic::error("invalid-duration", word.span(), message)
                .with_help("0 means that the default or the base image's value is used"),
        ));
    }
    Ok(length)
}

fn retries(flags: &Flags) -> Parsed<u32> {
    let Some(word) = flags.value("retries") else {
        return Ok(0);
    };
    match word.text().parse::<i32>() {
        Ok(number) if number < 0 => Err(Box::new(
            Diagnostic::error(
                "invalid-retries",
                word.span(),
                format!("--retries cannot be negative ({number})"),
            )
            .with_help("0 means the default"),
        )),
        Ok(number) => Ok(number.unsigned_abs()),
        Err(_) => Err(Box::new(
            Diagnostic::error(
                "invalid-retries",
                word.span(),
                format!("invalid number of retries `{}`", word.text()),
            )
            .with_help("write a whole number, at most 2147483647"),
        )),
    }
}

/// Reads a duration as Go writes it: numbers with units, `1h2m3.5s`, at most 2⁶³−1 ns. The first
/// of the pair is the sign.
fn duration(text: &str) -> Option<(bool, Duration)> {
    let (_, (sign, nanoseconds)) = signed(text).ok()?;
    let nanoseconds = nanoseconds.filter(|total| *total <= i64::MAX.unsigned_abs())?;
    Some((sign == Some('-'), Duration::from_nanos(nanoseconds)))
}

fn signed(input: &str) -> IResult<&str, (Option<char>, Option<u64>)> {
    let sign = opt(alt((char('-'), char('+'))));
    let sum = fold_many1(
        part,
        || Some(0),
        |sum: Option<u64>, part: Option<u64>| sum?.checked_add(part?),
    );
    let zero = value(Some(0), tag("0"));
    (sign, alt((all_consuming(sum), all_consuming(zero)))).parse(input)
}

/// One number with its unit, in nanoseconds; `None` when that is too many.
fn part(input: &str) -> IResult<&str, Option<u64>> {
    let number = verify(
        pair(digit0, opt(preceded(char('.'), digit0))),
        |(whole, fraction): &(&str, Option<&str>)| {
            !whole.is_empty() || fraction.is_some_and(|digits| !digits.is_empty())
        },
    );
    let unit = alt((
        value(1, tag("ns")),
        value(1_000, alt((tag("us"), tag("µs"), tag("μs")))),
        value(1_000_000, tag("ms")),
        value(1_000_000_000, tag("s")),
        value(60_000_000_000, tag("m")),
        value(3_600_000_000_000, tag("h")),
    ));
    let (rest, ((whole, fraction), unit)) = pair(number, unit).parse(input)?;
    Ok((rest, nanoseconds(whole, fraction.unwrap_or_default(), unit)))
}

fn nanoseconds(whole: &str, fraction: &str, unit: u64) -> Option<u64> {
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut scale = unit;
    let mut total = whole.checked_mul(unit)?;
    for digit in fraction.bytes() {
        // Ten times the digit's worth, so that the last digit is not lost to rounding.
        total = total.checked_add(u64::from(digit - b'0') * scale / 10)?;
        scale /= 10;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(bool, u64)>) {
        assert_eq!(
            duration(text).map(|(sign, d)| (sign, d.as_nanos() as u64)),
            expected
        );
    }

    #[test]
    fn reads_durations_like_go() {
        check("30s", Some((false, 30_000_000_000)));
        check("1h2m3.5s", Some((false, 3_723_500_000_000)));
        check("-1.5h", Some((true, 5_400_000_000_000)));
        check(".5ms", Some((false, 500_000)));
        check("0", Some((false, 0)));
        check("1µs", Some((false, 1_000)));
        check("9223372036s", Some((false, 9_223_372_036_000_000_000)));
        for bad in [
            "",
            "30",
            "s",
            ".s",
            "1d",
            "1s ",
            "9223372037s",
            "99999999999999999999s",
            "--1s",
        ] {
            check(bad, None);
        }
    }
}
