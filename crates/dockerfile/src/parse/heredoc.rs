//! Words that announce here-documents: `<<EOF`, `3<<-"END"`.

use nom::bytes::complete::{tag, take_while};
use nom::character::complete::{char, digit0};
use nom::combinator::{opt, rest, verify};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use super::fragment::Fragment;
use crate::ast::{Heredoc, Spanned};
use crate::expand::split_raw;
use crate::source::Span;

/// What a marker word says.
struct Marker {
    file_descriptor: u32,
    strip_tabs: bool,
    name: String,
    expand: bool,
}

/// Finds the here-documents that an instruction's line announces, their bodies still empty. A
/// line whose quotes are not balanced announces none.
pub(super) fn markers(line: Fragment<'_>) -> Vec<Heredoc> {
    if !line.text.contains("<<") {
        return Vec::new();
    }
    let mut cursor = 0;
    let mut found = Vec::new();
    for word in split_raw(line.text, true).unwrap_or_default() {
        let place = line.text[cursor..]
            .find(&word)
            .map(|at| cursor + at..cursor + at + word.len());
        cursor = place.as_ref().map_or(cursor, |place| place.end);
        let Some(marker) = marker(&word) else {
            continue;
        };
        let place = line.slice(place.unwrap_or(0..line.text.len()));
        found.push(Heredoc {
            marker: place.word(),
            name: marker.name,
            file_descriptor: marker.file_descriptor,
            expand: marker.expand,
            strip_tabs: marker.strip_tabs,
            body: Spanned {
                value: String::new(),
                span: Span::default(),
            },
        });
    }
    found
}

/// Tells whether a word announces a here-document.
pub(super) fn is_marker(word: &str) -> bool {
    word.contains("<<") && marker(word).is_some()
}

fn marker(word: &str) -> Option<Marker> {
    let (_, (digits, dash, delimiter)) = parts(word).ok()?;
    let mut plain = split_raw(delimiter, false)?;
    let name = plain.pop().filter(|_| plain.is_empty())?;
    let raw = split_raw(delimiter, true)?;
    Some(Marker {
        file_descriptor: digits.parse().unwrap_or_default(),
        strip_tabs: dash.is_some(),
        // Any quote or escape in the delimiter shows as a difference.
        expand: raw.first() == Some(&name),
        name,
    })
}

fn parts(word: &str) -> IResult<&str, (&str, Option<char>, &str)> {
    let delimiter = verify(rest, |text: &str| !text.is_empty() && !text.contains('<'));
    let delimiter = preceded(take_while(char::is_whitespace), delimiter);
    (digit0, preceded(tag("<<"), opt(char('-'))), delimiter).parse(word)
}
