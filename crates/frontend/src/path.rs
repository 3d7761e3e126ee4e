//! Paths of the target, which is Linux whatever this runs on: slashes, no drive letters.

use oci::path::clamp;

/// Cleans an absolute or relative path as Go's `path.Clean` of `/` + path does: absolute, no
/// empty, `.` or `..` components, no trailing slash; `..` stops at the root.
pub(crate) fn clean_absolute(path: &str) -> String {
    let relative = clamp(path);
    format!("/{relative}")
}

/// `path` below `directory`, cleaned; an absolute path stands for itself.
pub(crate) fn resolve(directory: &str, path: &str) -> String {
    if path.starts_with('/') {
        clean_absolute(path)
    } else {
        clean_absolute(&format!("{directory}/{path}"))
    }
}

/// Whether a destination says that it is a directory (C2).
pub(crate) fn names_directory(destination: &str) -> bool {
    matches!(destination, "" | ".") || destination.ends_with('/') || destination.ends_with("/.")
}

/// Whether a source is a pattern (C5).
pub(crate) fn is_pattern(path: &str) -> bool {
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' | '?' | '[' => return true,
            '\\' => {
                characters.next();
            }
            _ => {}
        }
    }
    false
}

/// Last component, as Go's `path.Base`; `/` for a path without any.
pub(crate) fn base_name(path: &str) -> &str {
    let mut parts = path.rsplit('/').filter(|part| !part.is_empty());
    parts.next().unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_like_go() {
        let cases = [
            ("", "/"),
            ("/", "/"),
            ("a//b/./c/", "/a/b/c"),
            ("../../x", "/x"),
            ("/a/../../b", "/b"),
            ("/app/", "/app"),
        ];
        for (path, clean) in cases {
            assert_eq!(clean_absolute(path), clean, "{path:?}");
        }
        assert_eq!(resolve("/w", "a/../b"), "/w/b");
        assert_eq!(resolve("/w", "/b"), "/b");
        assert_eq!(resolve("/", ""), "/");
    }

    #[test]
    fn knows_directories_patterns_and_base_names() {
        for directory in ["", ".", "/", "a/", "a/."] {
            assert!(names_directory(directory), "{directory:?}");
        }
        for file in ["a", "/a", "a.", ".."] {
            assert!(!names_directory(file), "{file:?}");
        }
        for (path, expected) in [
            ("*.c", true),
            ("[ab]", true),
            (r"\*.c", false),
            (r"a\", false),
        ] {
            assert_eq!(is_pattern(path), expected, "{path:?}");
        }
        assert_eq!(base_name("/a/b/"), "b");
        assert_eq!(base_name("//"), "/");
    }
}
