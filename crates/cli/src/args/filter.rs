//! Conditions on what the cache holds, written as buildx writes them: `KEY=VALUE`, `KEY!=VALUE`,
//! `KEY~=REGEX`, and `KEY` alone for what is so or not.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::UsageRow;
use regex_lite::Regex;

use super::parse_duration;

/// One condition.
#[derive(Clone, Debug)]
pub(crate) enum UsageFilter {
    /// `until`, `unused-for`: not used for so long.
    UnusedFor(Duration),
    /// A text, or several of which one has to fit.
    Text(Text, Comparison),
    /// Something that is so or not.
    Flag(Flag, bool),
}

/// What is compared as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Id,
    Parents,
    Description,
    Kind,
}

/// How texts are compared.
#[derive(Clone, Debug)]
pub(crate) enum Comparison {
    Is(String),
    IsNot(String),
    Matches(Regex),
}

/// What is so or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    InUse,
    Mutable,
    Immutable,
    Shared,
    Private,
}

/// Types by buildx's names, and by kiln's own where it has any.
const KINDS: [(&str, &[&str]); 8] = [
    ("layer", &["layer"]),
    ("blob", &["blob"]),
    ("cachemount", &["cachemount"]),
    ("regular", &["layer", "blob"]),
    ("exec.cachemount", &["cachemount"]),
    // kiln keeps nothing of these types: contexts are read in place, no frontend is an image.
    ("source.local", &[]),
    ("frontend", &[]),
    ("internal", &[]),
];

const KEYS: &str = "until, unused-for, id, parents, description, type, inuse, mutable, immutable, shared and private";

impl UsageFilter {
    /// Whether something fits.
    pub(crate) fn fits(&self, row: &UsageRow, now: SystemTime) -> bool {
        match self {
            UsageFilter::UnusedFor(least) => {
                let used = UNIX_EPOCH + Duration::from_secs(row.last_used);
                now.duration_since(used).unwrap_or_default() >= *least
            }
            UsageFilter::Text(text, comparison) => comparison.fits(&text.of(row)),
            UsageFilter::Flag(flag, wanted) => flag.of(row) == *wanted,
        }
    }
}

impl Text {
    fn of(self, row: &UsageRow) -> Vec<&str> {
        match self {
            Text::Id => vec![&row.id],
            Text::Parents => row.parents.iter().map(String::as_str).collect(),
            Text::Description => vec![&row.description],
            Text::Kind => KINDS
                .iter()
                .filter(|(_, kinds)| kinds.contains(&row.kind))
                .map(|(name, _)| *name)
                .collect(),
        }
    }
}

impl Comparison {
    fn fits(&self, texts: &[&str]) -> bool {
        match self {
            Comparison::Is(wanted) => texts.contains(&wanted.as_str()),
            Comparison::IsNot(unwanted) => !texts.contains(&unwanted.as_str()),
            Comparison::Matches(regex) => texts.iter().any(|text| regex.is_match(text)),
        }
    }
}

impl Flag {
    fn of(self, row: &UsageRow) -> bool {
        match self {
            Flag::InUse => row.in_use,
            Flag::Mutable => row.mutable,
            Flag::Immutable => !row.mutable,
            Flag::Shared => row.shared,
            Flag::Private => !row.shared,
        }
    }
}

impl FromStr for UsageFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<UsageFilter, String> {
        let (key, operator, value) = split(text);
        match key.to_ascii_lowercase().as_str() {
            "until" | "unused-for" if operator == "=" => {
                parse_duration(value).map(UsageFilter::UnusedFor)
            }
            "until" | "unused-for" => Err(format!("{key} takes a duration, as {key}=24h")),
            // As in buildx, where a part of an id is enough.
            "id" if operator == "=" => compare(Text::Id, "~=", value),
            "id" => compare(Text::Id, operator, value),
            "parent" | "parents" => compare(Text::Parents, operator, value),
            "description" => compare(Text::Description, operator, value),
            "type" => compare(Text::Kind, operator, value),
            "inuse" => flag(Flag::InUse, operator, value),
            "mutable" => flag(Flag::Mutable, operator, value),
            "immutable" => flag(Flag::Immutable, operator, value),
            "shared" => flag(Flag::Shared, operator, value),
            "private" => flag(Flag::Private, operator, value),
            _ => Err(format!("kiln filters by {KEYS}")),
        }
    }
}

/// Key, operator and value; no operator when there is only a key.
fn split(text: &str) -> (&str, &str, &str) {
    let Some(at) = text.find('=') else {
        return (text.trim(), "", "");
    };
    let (key, rest) = text.split_at(at);
    let (key, operator) = match key.chars().last() {
        Some('!') => (&key[..at - 1], "!="),
        Some('~') => (&key[..at - 1], "~="),
        _ => (key, "="),
    };
    // `==` is what BuildKit itself calls equality.
    let value = &rest[1..];
    let value = match operator {
        "=" => value.strip_prefix('=').unwrap_or(value),
        _ => value,
    };
    (key.trim(), operator, value.trim())
}

fn compare(text: Text, operator: &str, value: &str) -> Result<UsageFilter, String> {
    if text == Text::Kind && matches!(operator, "=" | "!=") {
        known_kind(value)?;
    }
    let comparison = match operator {
        "=" => Comparison::Is(value.to_string()),
        "!=" => Comparison::IsNot(value.to_string()),
        "~=" => Comparison::Matches(Regex::new(value).map_err(|error| error.to_string())?),
        _ => return Err("a value is missing: KEY=VALUE".into()),
    };
    Ok(UsageFilter::Text(text, comparison))
}

fn known_kind(value: &str) -> Result<(), String> {
    let names = || KINDS.iter().map(|(name, _)| *name);
    match names().any(|name| name == value) {
        true => Ok(()),
        false => Err(format!(
            "`{value}` is no type: there are {}",
            names().collect::<Vec<_>>().join(", ")
        )),
    }
}

fn flag(flag: Flag, operator: &str, value: &str) -> Result<UsageFilter, String> {
    let value = match (operator, value) {
        ("", _) | ("=" | "!=", "true" | "1") => true,
        ("=" | "!=", "false" | "0") => false,
        _ => return Err("it is true or false".into()),
    };
    Ok(UsageFilter::Flag(flag, value ^ (operator == "!=")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn rows() -> [UsageRow; 3] {
        let row = |id: &str, parents: &[&str], kind, description: &str, age| UsageRow {
            id: id.into(),
            parents: parents.iter().map(|id| id.to_string()).collect(),
            kind,
            size: 1,
            created: NOW - age,
            last_used: NOW - age,
            in_use: false,
            shared: false,
            mutable: kind == "cachemount",
            description: description.into(),
        };
        [
            row("step-1", &["sha256-a", "step-0"], "layer", "RUN make", 10),
            UsageRow {
                shared: true,
                in_use: true,
                ..row("sha256:b", &[], "blob", "", 7200)
            },
            row("c", &[], "cachemount", "cargo", 100_000),
        ]
    }

    /// Ids of what fits.
    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let filter: UsageFilter = text.parse().unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let rows = rows();
        let fitting = rows.iter().filter(|row| filter.fits(row, now));
        assert_eq!(
            fitting.map(|row| row.id.as_str()).collect::<Vec<_>>(),
            expected,
            "{text}"
        );
    }

    #[track_caller]
    fn check_refused(text: &str, reason: &str) {
        let error = text.parse::<UsageFilter>().unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }

    #[test]
    fn times() {
        check("until=1h", &["sha256:b", "c"]);
        check("unused-for=24h", &["c"]);
        check("until=0s", &["step-1", "sha256:b", "c"]);
        check_refused("until=yesterday", "no duration");
        check_refused("until!=1h", "takes a duration");
    }

    #[test]
    fn texts() {
        check("id=ep-", &["step-1"]);
        check("id==^(step|c)", &["step-1", "c"]);
        check("id!=c", &["step-1", "sha256:b"]);
        check("parents=step-0", &["step-1"]);
        check("parent=step", &[]);
        check("parents~=^sha256-", &["step-1"]);
        check("parents!=sha256-a", &["sha256:b", "c"]);
        check("description=cargo", &["c"]);
        check("description~=^RUN .*ke$", &["step-1"]);
        check("description!=", &["step-1", "c"]);
        check_refused("id~=(", "open group");
        check_refused("description", "a value is missing");
    }

    #[test]
    fn types_have_buildx_names_too() {
        check("type=layer", &["step-1"]);
        check("type=regular", &["step-1", "sha256:b"]);
        check("type=exec.cachemount", &["c"]);
        check("type!=exec.cachemount", &["step-1", "sha256:b"]);
        check("type=source.local", &[]);
        check("type~=cache", &["c"]);
        check_refused("type=image", "`image` is no type: there are layer, blob");
    }

    #[test]
    fn what_is_so_or_not() {
        check("inuse", &["sha256:b"]);
        check("INUSE=false", &["step-1", "c"]);
        check("inuse!=true", &["step-1", "c"]);
        check("shared=1", &["sha256:b"]);
        check("private=true", &["step-1", "c"]);
        check("private=0", &["sha256:b"]);
        check("mutable", &["c"]);
        check("immutable", &["step-1", "sha256:b"]);
        check_refused("shared=maybe", "true or false");
        check_refused("shared~=true", "true or false");
        check_refused("colour=red", "kiln filters by");
        check_refused("", "kiln filters by");
    }
}
