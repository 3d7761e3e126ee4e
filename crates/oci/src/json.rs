//! JSON as Go's `encoding/json` writes it, so that equal values have equal digests everywhere.

use serde::{Deserialize, Deserializer, Serialize};

/// Writes `value` as Go would: compact, or indented by two spaces; `<`, `>`, `&`, U+2028 and
/// U+2029 escaped inside strings. The order of keys is the value's own.
///
/// # Errors
/// When a map of `value` has keys that are not text.
pub fn to_go_json<T: Serialize + ?Sized>(
    value: &T,
    indented: bool,
) -> Result<Vec<u8>, serde_json::Error> {
    let plain = if indented {
        serde_json::to_vec_pretty(value)?
    } else {
        serde_json::to_vec(value)?
    };
    Ok(escape_for_html(&plain))
}

/// The characters that Go escapes on top of what JSON demands can occur in JSON only inside
/// strings, so they may be replaced without looking at the structure.
fn escape_for_html(json: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some((&byte, tail)) = rest.split_first() {
        let (replacement, length): (&[u8], usize) = match (byte, tail) {
            (b'<', _) => (b"\\u003c", 1),
            (b'>', _) => (b"\\u003e", 1),
            (b'&', _) => (b"\\u0026", 1),
            (0xe2, [0x80, 0xa8, ..]) => (b"\\u2028", 3),
            (0xe2, [0x80, 0xa9, ..]) => (b"\\u2029", 3),
            _ => (&rest[..1], 1),
        };
        escaped.extend_from_slice(replacement);
        rest = &rest[length..];
    }
    escaped
}

/// Reads `null` as the empty value, as Go does for slices, maps, texts and numbers.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Whether a number or flag is what Go's `omitempty` leaves out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, json: &str) {
        let written = to_go_json(value, false).expect("text is JSON");
        assert_eq!(String::from_utf8(written).expect("JSON is text"), json);
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        check("a && b < c > d", r#""a \u0026\u0026 b \u003c c \u003e d""#);
        check("\u{2028}|\u{2029}|\u{2027}", "\"\\u2028|\\u2029|\u{2027}\"");
        check(
            "\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}",
            "\"\\b\\f\\n\\r\\t\\u0001\\u001f\u{7f}\"",
        );
        check("\"\\/é😀", "\"\\\"\\\\/é😀\"");
    }

    #[test]
    fn indentation_is_two_spaces_and_empty_containers_stay_closed() {
        let value = serde_json::json!({"a": [], "b": {}, "c": [1]});
        let written = to_go_json(&value, true).expect("JSON");
        let expected = "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1\n  ]\n}";
        assert_eq!(String::from_utf8(written).expect("text"), expected);
    }
}
