//! Exec form: a JSON array of strings, or something that only looks like one.

use serde_json::Value;

use super::Parsed;
use super::fragment::Fragment;
use crate::diagnostic::Diagnostic;
use crate::word::Word;

/// Reads an argument in exec form. `None` is anything that is not a JSON array: it is shell form,
/// whatever it looks like.
///
/// An array with something else than strings in it is an error.
pub(super) fn array(argument: Fragment<'_>) -> Parsed<Option<Vec<Word>>> {
    let argument = argument.trim();
    if !argument.text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<Value>>(argument.text) else {
        return Ok(None);
    };
    if let Some(other) = values.iter().find(|value| !value.is_string()) {
        let message = "only string type is allowed in JSON style arrays";
        return Err(Box::new(
            Diagnostic::error("json-not-strings", argument.span(), message)
                .with_remark(format!("`{other}` is no string"))
                .with_help(format!(
                    "write `\"{}\"`",
                    other.to_string().replace('"', "\\\"")
                )),
        ));
    }
    let mut places = strings(argument).into_iter();
    let words = values.into_iter().filter_map(|value| {
        let Value::String(text) = value else {
            return None;
        };
        let place = places.next()?;
        // Without escapes the text stands in the file letter by letter.
        let inside = place.slice(1..place.text.len() - 1);
        Some(if inside.text == text {
            inside.word()
        } else {
            Word::decoded(text, place.span())
        })
    });
    Ok(Some(words.collect()))
}

/// Finds the strings, quotes included, of a text that is known to be an array of strings.
fn strings(array: Fragment<'_>) -> Vec<Fragment<'_>> {
    let mut found = Vec::new();
    let mut begin = None;
    let mut bytes = array.text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (byte, begin) {
            (b'"', None) => begin = Some(at),
            (b'"', Some(from)) => {
                found.push(array.slice(from..at + 1));
                begin = None;
            }
            (b'\\', Some(_)) => {
                bytes.next();
            }
            _ => {}
        }
    }
    found
}
