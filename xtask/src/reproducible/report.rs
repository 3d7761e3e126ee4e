//! What `kiln diff` said, in a few words for a cell of the table; and the table. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::steps::Step;

/// Names that a cell spells out; of more, it tells how many they are.
const NAMED: usize = 5;

/// One cell: `same`, or which files of a layer differ in what.
pub(super) fn cell(differences: &Value, layer: usize) -> String {
    let rows = differences
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut by_respect: BTreeMap<(usize, &str), Vec<&str>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row["layer"] == layer) {
        let aspects = row["reasons"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let aspects: Vec<&str> = aspects
            .iter()
            .filter_map(|r| r["aspect"].as_str())
            .collect();
        let item = row["item"].as_str().unwrap_or_default();
        by_respect.entry(respect(&aspects)).or_default().push(item);
    }
    if by_respect.is_empty() {
        return "**same**".into();
    }
    let parts = by_respect.iter().map(|((_, what), items)| {
        let several = |count: usize| if count == 1 { "" } else { "s" };
        if *what == "time" {
            return format!("times of {} file{}", items.len(), several(items.len()));
        }
        if items.len() > NAMED {
            let (count, folder) = (items.len(), common_folder(items));
            return format!("{what} {count} files below `{folder}`");
        }
        let named: Vec<String> = items.iter().map(|item| format!("`{item}`")).collect();
        format!("{what} {}", named.join(", "))
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// The deepest directory that has all of some paths below it.
fn common_folder(paths: &[&str]) -> String {
    let folder = |path: &str| {
        path.rsplit_once('/')
            .map_or("", |(folder, _)| folder)
            .to_owned()
    };
    let mut common = paths.first().map(|path| folder(path)).unwrap_or_default();
    while !paths
        .iter()
        .all(|path| path.starts_with(&format!("{common}/")))
    {
        common = folder(&common);
    }
    if common.is_empty() {
        "/".into()
    } else {
        common
    }
}

/// What matters most of what is different about a file, with its rank.
fn respect(aspects: &[&str]) -> (usize, &'static str) {
    if aspects.contains(&"added") || aspects.contains(&"removed") {
        return (1, "in one only:");
    }
    match aspects {
        ["time"] => (3, "time"),
        _ if aspects.contains(&"content") => (0, "content of"),
        _ => (2, "metadata of"),
    }
}

/// Versions of packages, from dpkg's status file.
pub(super) fn versions(status: &str, packages: &[&str]) -> Vec<String> {
    let field = |paragraph: &str, name: &str| {
        let line = paragraph.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().to_owned())
    };
    let version = |package: &&str| {
        let mut paragraphs = status.split("\n\n");
        let paragraph = paragraphs.find(|p| field(p, "Package:").as_deref() == Some(*package))?;
        Some(format!("{package} {}", field(paragraph, "Version:")?))
    };
    packages.iter().filter_map(version).collect()
}

/// When and with what the table was made.
pub(super) fn caption(day: &str, builders: &[String], packages: &[String]) -> String {
    let (builders, packages) = (builders.join(" and "), packages.join(", "));
    format!("Made on {day} with {builders}, on top of Debian 12 with {packages}.\n\n")
}

/// The table in Markdown.
pub(super) fn table(builders: &[&str], rows: &[(&Step, Vec<String>)]) -> String {
    let mut text = format!("| step | {} |\n", builders.join(" | "));
    text.push_str(&"|---".repeat(builders.len() + 1));
    text.push_str("|\n");
    for (step, cells) in rows {
        text.push_str(&format!("| {} | {} |\n", step.title, cells.join(" | ")));
    }
    text
}

/// Puts the table between the marks of a document; `None` when it has none.
pub(super) fn insert(document: &str, table: &str) -> Option<String> {
    const BEGIN: &str = "<!-- made by `cargo xtask reproducible` -->\n";
    const END: &str = "<!-- end -->";
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(rows: &[(&str, &[&str])], expected: &str) {
        let row = |(item, aspects): &(&str, &[&str])| {
            let reasons = aspects.iter().map(|aspect| json!({"aspect": aspect}));
            json!({"layer": 2, "item": item, "reasons": reasons.collect::<Vec<_>>()})
        };
        let other = json!({"layer": 1, "item": "/other", "reasons": [{"aspect": "content"}]});
        let rows: Vec<Value> = rows.iter().map(row).chain([other]).collect();
        assert_eq!(cell(&Value::Array(rows), 2), expected);
    }

    #[test]
    fn cells() {
        check(&[], "**same**");
        check(&[("/a", &["time"])], "times of 1 file");
        check(
            &[
                ("/t", &["time"]),
                ("/a", &["content", "time"]),
                ("/u", &["time"]),
                ("/b", &["content"]),
                ("/c", &["added"]),
                ("/d", &["mode"]),
            ],
            "content of `/a`, `/b`; in one only: `/c`; metadata of `/d`; times of 2 files",
        );
        let seven: Vec<String> = (0..7).map(|n| format!("/d/{n}/f")).collect();
        let seven: Vec<(&str, &[&str])> = seven.iter().map(|n| (&**n, &["content"][..])).collect();
        check(&seven, "content of 7 files below `/d`");
    }

    #[test]
    fn versions_of_packages() {
        let status = "Package: a\nStatus: install ok\nVersion: 1:2-3\n\nPackage: ab\nVersion: 4\n";
        assert_eq!(versions(status, &["ab", "a", "b"]), ["ab 4", "a 1:2-3"]);
    }

    #[test]
    fn only_the_part_between_the_marks_changes() {
        let document = "a\n<!-- made by `cargo xtask reproducible` -->\nold\n<!-- end -->\nb\n";
        let new = insert(document, "new\n").expect("marks");
        assert_eq!(new, document.replace("old", "new"));
        assert_eq!(insert("nothing", "new"), None);
    }
}
