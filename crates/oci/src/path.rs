//! Paths inside an image or an archive of images: slashes, whatever this runs on. Reads no file
//! system, so links are not followed.

/// A path from the root without a leading slash and without empty, `.` and `..` components; `..`
/// stops at the root, which is the empty path.
pub fn clamp(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_root() {
        let cases = [
            ("", ""),
            ("/", ""),
            ("a//b/./c/", "a/b/c"),
            ("../../x", "x"),
            ("/a/../../b", "b"),
            ("/app/..", ""),
        ];
        for (path, clamped) in cases {
            assert_eq!(clamp(path), clamped, "{path:?}");
        }
    }
}
