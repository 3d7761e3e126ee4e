//! Times that programs wrote into files, in the usual forms: recognised where two files begin to
//! differ, so that a person is told that it is a time. Pure.

/// Bytes before and after the first difference that are looked at: the longest form, and its ends.
pub(super) const WINDOW: usize = 32;

/// A part of a written time.
#[derive(Clone, Copy)]
enum Part {
    /// Four digits, 19xx or 20xx.
    Year,
    /// Two digits, 01 to 12.
    Month,
    /// Two digits, 01 to 31.
    Day,
    /// The same, the first digit may be a space, or be missing.
    LooseDay,
    /// Two digits, 00 to 23.
    Hour,
    /// Two digits, 00 to 60: minutes, and seconds.
    Sixty,
    /// `Jan`.
    MonthName,
    /// `Mon`.
    Weekday,
    /// A space or `T`.
    Gap,
    /// This byte.
    Is(u8),
    /// Since 1970, from 2001 to 2100: ten digits of seconds and so many further ones.
    Epoch(usize),
}

use Part::{Day, Epoch, Gap, Hour, Is, LooseDay, Month, MonthName, Sixty, Weekday, Year};

const DASH: Part = Is(b'-');
const COLON: Part = Is(b':');
const SPACE: Part = Is(b' ');
const SLASH: Part = Is(b'/');

/// The forms, those before that are parts of others.
const FORMS: [&[Part]; 14] = [
    // date(1), ctime(3)
    &[
        Weekday, SPACE, MonthName, SPACE, LooseDay, SPACE, Hour, COLON, Sixty, COLON, Sixty,
    ],
    // RFC 2822
    &[
        Weekday,
        Is(b','),
        SPACE,
        LooseDay,
        SPACE,
        MonthName,
        SPACE,
        Year,
        SPACE,
        Hour,
        COLON,
        Sixty,
        COLON,
        Sixty,
    ],
    // ISO 8601, RFC 3339
    &[
        Year, DASH, Month, DASH, Day, Gap, Hour, COLON, Sixty, COLON, Sixty,
    ],
    &[Year, DASH, Month, DASH, Day],
    &[Year, Month, Day, Gap, Hour, Sixty, Sixty],
    &[Year, SLASH, Month, SLASH, Day],
    // __DATE__
    &[MonthName, SPACE, LooseDay, SPACE, Year],
    &[LooseDay, SPACE, MonthName, SPACE, Year],
    &[MonthName, SPACE, LooseDay],
    &[Hour, COLON, Sixty, COLON, Sixty],
    &[Epoch(9)],
    &[Epoch(3)],
    &[Epoch(0)],
    &[Year, Month, Day],
];

const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
const WEEKDAYS: &[u8] = b"SunMonTueWedThuFriSat";

/// The times that two texts have at a position, in the same form, if that is what is there.
pub(super) fn at(one: &[u8], other: &[u8], position: usize) -> Option<(String, String)> {
    FORMS.iter().find_map(|form| {
        (0..=position).find_map(|start| {
            let one = find(form, one, start, position)?;
            Some((one, find(form, other, start, position)?))
        })
    })
}

/// What has this form from `start` on and reaches `position`.
fn find(form: &[Part], text: &[u8], start: usize, position: usize) -> Option<String> {
    let before = start.checked_sub(1).and_then(|at| text.get(at));
    let mut rest = text.get(start..)?;
    for part in form {
        rest = &rest[length(*part, rest)?..];
    }
    let end = text.len() - rest.len();
    let runs_on = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    // `Z` and `T` may follow.
    let ends = !rest.first().is_some_and(u8::is_ascii_digit);
    (end > position && ends && !runs_on(before))
        .then(|| String::from_utf8_lossy(&text[start..end]).into_owned())
}

/// Bytes of a part at the beginning of a text.
fn length(part: Part, text: &[u8]) -> Option<usize> {
    let number = |digits: usize| -> Option<u64> {
        let digits = text.get(..digits)?;
        digits.iter().try_fold(0, |number, digit| {
            let value = u64::from(digit.wrapping_sub(b'0'));
            digit.is_ascii_digit().then(|| number * 10 + value)
        })
    };
    let name = |names: &[u8]| names.chunks(3).any(|name| text.starts_with(name));
    let fits = |holds: bool, length: usize| holds.then_some(length);
    match part {
        Year => fits(matches!(number(4)?, 1900..2100), 4),
        Month => fits(matches!(number(2)?, 1..=12), 2),
        Day => fits(matches!(number(2)?, 1..=31), 2),
        LooseDay => match (text.first()?, number(2)) {
            (_, Some(1..=31)) => Some(2),
            (b' ', _) => fits(text.get(1)?.is_ascii_digit(), 2),
            (first, None) => fits(first.is_ascii_digit(), 1),
            (_, Some(_)) => None,
        },
        Hour => fits(number(2)? < 24, 2),
        Sixty => fits(number(2)? <= 60, 2),
        MonthName => fits(name(MONTHS), 3),
        Weekday => fits(name(WEEKDAYS), 3),
        Gap => fits(matches!(text.first()?, b' ' | b'T'), 1),
        Is(byte) => fits(*text.first()? == byte, 1),
        Epoch(more) => {
            number(10 + more)?;
            fits(
                matches!(number(10)?, 1_000_000_000..4_102_444_800),
                10 + more,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two texts, and what is recognised where they begin to differ.
    #[track_caller]
    fn check(one: &str, other: &str, expected: Option<(&str, &str)>) {
        let (one, other) = (one.as_bytes(), other.as_bytes());
        let position = one.iter().zip(other).position(|(a, b)| a != b);
        let found = at(one, other, position.expect("a difference"));
        let expected = expected.map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn usual_forms() {
        for (one, other) in [
            ("Sat Nov 21 18:52:01", "Sun Nov 22 19:53:02"),
            ("Sat Nov  7 18:52:01", "Sat Nov  8 19:53:02"),
            ("Sat, 21 Nov 2026 18:52:01", "Sun, 22 Nov 2026 19:53:02"),
            ("2026-11-21 18:52:01", "2026-11-22 19:53:02"),
            ("2026-11-21T18:52:01", "2026-11-21T18:53:02"),
            ("2026-11-21", "2026-11-22"),
            ("20261121T185201", "20261122T195302"),
            ("2026/11/21", "2026/12/21"),
            ("Nov 21 2026", "Nov 22 2026"),
            ("21 Nov 2026", "22 Nov 2026"),
            ("Nov 21", "Dec 21"),
            ("18:52:01", "19:53:02"),
            ("1795287121", "1795377182"),
            ("1795287121123", "1795377182124"),
            ("20261121", "20261122"),
        ] {
            check(one, other, Some((one, other)));
            let within = |time| format!("at \"{time}\" it was");
            check(&within(one), &within(other), Some((one, other)));
        }
        check(
            "2026-11-21T18:52:01Z",
            "2026-11-22T19:53:02Z",
            Some(("2026-11-21T18:52:01", "2026-11-22T19:53:02")),
        );
    }

    #[test]
    fn what_is_no_time() {
        check("one", "two", None);
        check("2026-13-21", "2026-14-21", None);
        check("version 1.2.3", "version 1.2.4", None);
        check("179528712", "179528713", None);
        check("9795287121", "9795287122", None);
        check("a2026-11-21", "a2026-11-22", None);
        check("2026-11-21 x", "2026-11-21 y", None);
        check("99:52:01", "98:52:01", None);
        check("2026-11-21", "2026-11-2x", None);
    }
}
