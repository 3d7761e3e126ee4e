//! Devices as their vendors describe them to container engines: the Container Device Interface
//! (<https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>, up to 1.1).
//!
//! ```text
//! specification files ──document──► Catalog ──find("vendor.com/class=name")──► edits ──inject──► ProcessSpec
//! ```
//!
//! What belongs to a container is what can be taken away with it: nodes, mounts, variables, groups.
//! Hooks are refused: they are programs of the machine that change the container's files, which
//! would be in the layer, and differ from machine to machine.

mod document;
mod inject;
mod yaml;

use document::{Device, Document, Edits};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) use inject::{inject, inject_machine};

/// Why a device cannot be given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CdiError {
    /// A text that names no device.
    #[error("write vendor.com/class, vendor.com/class=name or vendor.com/class=*")]
    Name,
    /// Nobody describes it.
    #[error("no specification describes it: looked in {}{}", list(.directories), unread(.problems))]
    Missing {
        /// Where.
        directories: Vec<PathBuf>,
        /// Files that could not be understood.
        problems: Vec<String>,
    },
    /// Two files of one directory do.
    #[error("it is described in both {} and {}", one.display(), other.display())]
    Conflict {
        /// A file.
        one: PathBuf,
        /// Another.
        other: PathBuf,
    },
    /// Something that kiln does not do.
    #[error("its specification {} asks for {what}", file.display())]
    Unsupported {
        /// The specification.
        file: PathBuf,
        /// What.
        what: String,
    },
    /// Not a device.
    #[error("{} is no device", path.display())]
    NoDevice {
        /// What it was taken for.
        path: PathBuf,
    },
    /// Something of the machine is not there.
    #[error("find {}", path.display())]
    Machine {
        /// A node, directory or file.
        path: PathBuf,
        /// The errno.
        source: std::io::Error,
    },
}

fn list(directories: &[PathBuf]) -> String {
    let names: Vec<_> = directories
        .iter()
        .map(|directory| directory.display().to_string())
        .collect();
    names.join(", ")
}

fn unread(problems: &[String]) -> String {
    match problems {
        [] => String::new(),
        some => format!("; not understood: {}", some.join("; ")),
    }
}

/// All devices that are described.
pub(crate) struct Catalog {
    directories: Vec<PathBuf>,
    files: Vec<(PathBuf, Document)>,
    /// By whole name, in order.
    devices: BTreeMap<String, Entry>,
    problems: Vec<String>,
}

/// A device, or the files that cannot both be right about it.
enum Entry {
    One { file: usize, device: usize },
    Conflict { one: PathBuf, other: PathBuf },
}

/// A device that was found.
#[derive(Clone, Copy)]
pub(crate) struct Found<'c> {
    name: &'c str,
    path: &'c Path,
    document: &'c Document,
    device: &'c Device,
}

impl Catalog {
    /// Reads the files `*.json`, `*.yaml` and `*.yml` of these directories, as far as they are
    /// there. What a later one says counts more.
    pub(crate) fn read(directories: &[PathBuf]) -> Catalog {
        let mut catalog = Catalog {
            directories: directories.to_vec(),
            files: Vec::new(),
            devices: BTreeMap::new(),
            problems: Vec::new(),
        };
        for directory in directories {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                match document::read(&path) {
                    Some(Ok(document)) => catalog.add(path, document),
                    Some(Err(problem)) => catalog
                        .problems
                        .push(format!("{}: {problem}", path.display())),
                    None => {}
                }
            }
        }
        catalog
    }

    fn add(&mut self, path: PathBuf, document: Document) {
        let file = self.files.len();
        for (device, described) in document.devices.iter().enumerate() {
            let name = format!("{}={}", document.kind, described.name);
            let entry = match self.devices.get(&name) {
                Some(Entry::One { file: other, .. })
                    if self.files[*other].0.parent() == path.parent() =>
                {
                    Entry::Conflict {
                        one: self.files[*other].0.clone(),
                        other: path.clone(),
                    }
                }
                _ => Entry::One { file, device },
            };
            self.devices.insert(name, entry);
        }
        self.files.push((path, document));
    }

    /// What a name means: a device; the first of a class; with `=*`, all of them; or all whose
    /// annotation calls them so.
    ///
    /// # Errors
    /// [`CdiError::Missing`] when it means none.
    pub(crate) fn find(&self, name: &str) -> Result<Vec<Found<'_>>, CdiError> {
        let (kind, device) = name.split_once('=').unwrap_or((name, ""));
        if !document::is_kind(kind) {
            return Err(CdiError::Name);
        }
        let class = format!("{kind}=");
        let of_class = || {
            let all = self.devices.iter();
            all.filter(|(name, _)| name.starts_with(&class))
        };
        let chosen: Vec<_> = match device {
            "" => of_class().take(1).collect(),
            "*" => of_class().collect(),
            _ => match self.devices.get_key_value(name) {
                Some(found) => vec![found],
                None => of_class()
                    .filter(|(name, entry)| {
                        self.found(name, entry)
                            .is_ok_and(|found| found.annotation(CLASS) == Some(device))
                    })
                    .collect(),
            },
        };
        if chosen.is_empty() {
            return Err(CdiError::Missing {
                directories: self.directories.clone(),
                problems: self.problems.clone(),
            });
        }
        let found = chosen.iter().map(|(name, entry)| self.found(name, entry));
        found.collect()
    }

    fn found<'c>(&'c self, name: &'c str, entry: &Entry) -> Result<Found<'c>, CdiError> {
        match entry {
            Entry::One { file, device } => {
                let (path, document) = &self.files[*file];
                Ok(Found {
                    name,
                    path,
                    document,
                    device: &document.devices[*device],
                })
            }
            Entry::Conflict { one, other } => Err(CdiError::Conflict {
                one: one.clone(),
                other: other.clone(),
            }),
        }
    }
}

/// What else a device may be asked for by.
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// Whether a device may be used by whoever asks.
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";

impl<'c> Found<'c> {
    /// Its whole name.
    pub(crate) fn name(&self) -> &'c str {
        self.name
    }

    /// Whether the machine's administrator lets everybody have it.
    pub(crate) fn is_for_all(&self) -> bool {
        matches!(
            self.annotation(AUTO_ALLOW),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True")
        )
    }

    fn annotation(&self, key: &str) -> Option<&'c str> {
        let own = self.device.annotations.get(key);
        let text = own.or_else(|| self.document.annotations.get(key));
        text.map(String::as_str)
    }

    /// What is to be done for any device of its file.
    fn common(&self) -> &'c Edits {
        &self.document.edits
    }

    fn own(&self) -> &'c Edits {
        &self.device.edits
    }
}

/// Whether a name that was allowed, a device's or a class's, allows a device.
pub(crate) fn allows(allowed: &str, device: &str) -> bool {
    device == allowed
        || device
            .split_once('=')
            .is_some_and(|(kind, _)| kind == allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `files`: paths below a folder and their content; directories in the order of `one`, `two`.
    /// `expect`: names that are found, or the error.
    #[track_caller]
    fn check(files: &[(&str, &str)], name: &str, expect: Result<&[&str], &str>) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let catalog = Catalog::read(&["one", "two"].map(|name| folder.path().join(name)));
        let found = catalog.find(name);
        let found = found.map(|all| all.iter().map(Found::name).collect::<Vec<_>>());
        let top = format!("{}/", folder.path().display());
        let found = found.map_err(|error| error.to_string().replace(&top, ""));
        assert_eq!(
            found,
            expect.map(<[_]>::to_vec).map_err(String::from),
            "{name}"
        );
    }

    fn file(devices: &str) -> String {
        format!(
            "cdiVersion: 0.6.0\nkind: v.com/c\nannotations: {{{CLASS}: set}}\n\
             devices: [{devices}]\n"
        )
    }

    #[test]
    fn names() {
        let b = "{name: b, containerEdits: {env: [A=1]}, annotations: {x: y}}";
        let a =
            format!("{{name: a, annotations: {{{CLASS}: own}}, containerEdits: {{env: [A=1]}}}}");
        let (first, second) = (file(b), file(&a));
        let files = [
            ("one/b.yaml", first.as_str()),
            ("two/a.yml", second.as_str()),
        ];
        check(&files, "v.com/c=a", Ok(&["v.com/c=a"]));
        check(&files, "v.com/c", Ok(&["v.com/c=a"]));
        check(&files, "v.com/c=*", Ok(&["v.com/c=a", "v.com/c=b"]));
        check(&files, "v.com/c=own", Ok(&["v.com/c=a"]));
        check(&files, "v.com/c=set", Ok(&["v.com/c=b"]));
        let missing = Err("no specification describes it: looked in one, two");
        check(&files, "v.com/c=none", missing);
        check(&files, "v.com/d", missing);
        check(&files, "v.com/d=*", missing);
        let wrong = Err("write vendor.com/class, vendor.com/class=name or vendor.com/class=*");
        check(&files, "c", wrong);
        check(&files, "=a", wrong);
        check(&files, "v.com/c/d=a", wrong);
    }

    #[test]
    fn files_that_contradict_each_other() {
        let a = file("{name: a, containerEdits: {env: [A=1]}}");
        let one = ("one/x.yaml", a.as_str());
        // A later directory wins; one directory has to agree with itself.
        check(&[one, ("two/x.yaml", &a)], "v.com/c=a", Ok(&["v.com/c=a"]));
        let conflict = Err("it is described in both one/w.yaml and one/x.yaml");
        check(&[one, ("one/w.yaml", &a)], "v.com/c=a", conflict);
    }

    #[test]
    fn files_that_are_not_understood_are_told_of_where_nothing_is_found() {
        let broken = ("one/broken.json", "{");
        let good = file("{name: a, containerEdits: {env: [A=1]}}");
        check(
            &[broken, ("one/good.yaml", &good), ("one/note.txt", "x")],
            "v.com/c=a",
            Ok(&["v.com/c=a"]),
        );
        check(
            &[broken],
            "v.com/c=a",
            Err(
                "no specification describes it: looked in one, two; not understood: \
                 one/broken.json: EOF while parsing an object at line 1 column 1",
            ),
        );
    }

    #[test]
    fn what_is_allowed() {
        assert!(allows("v.com/c", "v.com/c=a"));
        assert!(allows("v.com/c=a", "v.com/c=a"));
        assert!(!allows("v.com/c=b", "v.com/c=a"));
        assert!(!allows("v.com", "v.com/c=a"));
    }
}
