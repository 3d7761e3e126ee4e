//! `cargo xtask tidy`: the house rules that no compiler knows. Reads files, changes nothing.
//!
//! - the layering table of docs/architecture.md is what `cargo metadata` says;
//! - tokio stays in the crates that may be asynchronous;
//! - every crate but `sys` forbids unsafe code;
//! - every file of a `tests/it` folder is a module of its test binary;
//! - files over 600 lines are reported.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::machine::{output, root};

const LONG_FILE: usize = 600;
const ASYNC_CRATES: [&str; 4] = ["distribution", "engine", "cli", "testkit"];

type Dependencies = BTreeMap<String, BTreeSet<String>>;

/// Checks everything and reports all violations at once.
pub(crate) fn run() -> Result<()> {
    let metadata: serde_json::Value = serde_json::from_str(&output(
        "cargo",
        &["metadata", "--format-version=1", "--no-deps", "--locked"],
    )?)?;
    let document = fs::read_to_string(root().join("docs/architecture.md"))?;
    let mut problems = layering(&table(&document)?, &workspace_dependencies(&metadata));
    problems.extend(async_boundary(&metadata));
    let mut files = Vec::new();
    for folder in ["crates", "xtask"] {
        rust_files(&root().join(folder), &mut files)?;
    }
    for file in &files {
        problems.extend(check_file(file)?);
    }
    if !problems.is_empty() {
        bail!(
            "tidy found {} problem(s):\n  {}",
            problems.len(),
            problems.join("\n  ")
        );
    }
    println!("tidy: {} files, layering as documented", files.len());
    Ok(())
}

/// The rows of the layering table: crate, and the workspace crates it may depend on.
fn table(document: &str) -> Result<Dependencies> {
    let mut rows = Dependencies::new();
    let table = document
        .lines()
        .skip_while(|line| !line.starts_with("| crate |"));
    for line in table
        .take_while(|line| line.starts_with('|'))
        .filter(|line| line.starts_with("| `"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, dependencies, ..] = cells.as_slice() else {
            continue;
        };
        let name = name.trim_matches('`').to_string();
        let dependencies = dependencies
            .split_whitespace()
            .filter(|word| *word != "–")
            .map(String::from)
            .collect();
        rows.insert(name, dependencies);
    }
    if rows.is_empty() {
        bail!("docs/architecture.md has no layering table");
    }
    Ok(rows)
}

fn packages(metadata: &serde_json::Value) -> impl Iterator<Item = (&str, &Vec<serde_json::Value>)> {
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|package| {
            Some((
                package["name"].as_str()?,
                package["dependencies"].as_array()?,
            ))
        })
}

fn workspace_dependencies(metadata: &serde_json::Value) -> Dependencies {
    let names: BTreeSet<&str> = packages(metadata).map(|(name, _)| name).collect();
    packages(metadata)
        .map(|(name, dependencies)| {
            let inner = dependencies
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .filter_map(|dependency| dependency["name"].as_str())
                .filter(|dependency| names.contains(dependency))
                .map(String::from)
                .collect();
            (name.to_string(), inner)
        })
        .collect()
}

fn layering(documented: &Dependencies, actual: &Dependencies) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, allowed) in documented {
        match actual.get(name) {
            None => problems.push(format!(
                "docs/architecture.md documents crate `{name}`, which does not exist"
            )),
            Some(found) if found != allowed => problems.push(format!(
                "crate `{name}` depends on {found:?}, docs/architecture.md says {allowed:?}"
            )),
            Some(_) => {}
        }
    }
    for name in actual.keys().filter(|name| !documented.contains_key(*name)) {
        problems.push(format!(
            "crate `{name}` is missing from the table in docs/architecture.md"
        ));
    }
    problems
}

fn async_boundary(metadata: &serde_json::Value) -> Vec<String> {
    packages(metadata)
        .filter(|(name, _)| !ASYNC_CRATES.contains(name))
        .filter(|(_, dependencies)| {
            dependencies
                .iter()
                .any(|d| d["name"] == "tokio" || d["name"] == "reqwest")
        })
        .map(|(name, _)| {
            format!(
                "crate `{name}` depends on tokio or reqwest: asynchronous code stops at the engine"
            )
        })
        .collect()
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn check_file(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path)?;
    let relative = path.strip_prefix(root()).unwrap_or(path);
    let shown = relative.display();
    let mut problems = Vec::new();
    if text.lines().count() > LONG_FILE {
        println!(
            "tidy: {shown} has {} lines: would a reader rather find two ideas in two files?",
            text.lines().count()
        );
    }
    let is_root = relative.ends_with("src/lib.rs") || relative.ends_with("src/main.rs");
    if is_root && !relative.starts_with("crates/sys") && !text.contains("#![forbid(unsafe_code)]") {
        problems.push(format!("{shown} lacks #![forbid(unsafe_code)]"));
    }
    let is_test = relative
        .components()
        .any(|part| part.as_os_str() == "tests");
    if !is_test && !text.starts_with("//!") && !text.starts_with("#![") {
        problems.push(format!(
            "{shown} does not begin by saying what the module is"
        ));
    }
    if let Some(folder) = path.parent().filter(|folder| folder.ends_with("tests/it")) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let main = fs::read_to_string(folder.join("main.rs"))?;
        if stem != "main" && !main.contains(&format!("mod {stem};")) {
            problems.push(format!(
                "{shown} is no module of its test binary, so its tests never run"
            ));
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(documented: &str, actual: &[(&str, &[&str])], expected: &[&str]) {
        let actual = actual
            .iter()
            .map(|(name, on)| {
                (
                    name.to_string(),
                    on.iter().map(ToString::to_string).collect(),
                )
            })
            .collect();
        assert_eq!(
            layering(&table(documented).expect("a table"), &actual),
            expected
        );
    }

    #[test]
    fn a_table_that_tells_the_truth() {
        check(
            "| crate |\n| `a` | x | – | no |\n| `b` | y | a | no |",
            &[("a", &[]), ("b", &["a"])],
            &[],
        );
    }

    #[test]
    fn an_edge_nobody_documented() {
        check(
            "| crate |\n| `a` | x | – | no |\n| `b` | y | – | no |",
            &[("a", &[]), ("b", &["a"])],
            &["crate `b` depends on {\"a\"}, docs/architecture.md says {}"],
        );
    }

    #[test]
    fn crates_on_one_side_only() {
        check(
            "| crate |\n| `a` | x | – | no |",
            &[("b", &[])],
            &[
                "docs/architecture.md documents crate `a`, which does not exist",
                "crate `b` is missing from the table in docs/architecture.md",
            ],
        );
    }

    #[test]
    fn this_repository_is_tidy() {
        run().expect("the tree is tidy");
    }
}
