//! What git says about the context, in names and labels. Pure: facts in, text out.

use anyhow::{Context as _, Result, bail};
use engine::GitState;

/// Whether a name has a place for what git says.
pub(super) fn is_template(name: &str) -> bool {
    name.contains('{')
}

/// Fills `{git}`, `{git.short}`, `{git.branch}` and `{git.tag}` in.
pub(super) fn expand(template: &str, state: &GitState) -> Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').context("a `{` is not closed")?;
        text.push_str(before);
        text.push_str(&value(name, state)?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

fn value(name: &str, state: &GitState) -> Result<String> {
    Ok(match name {
        "git" => state.revision(),
        "git.short" => state.short(),
        "git.branch" => {
            let branch = state
                .branch
                .as_deref()
                .context("{git.branch}: HEAD is at no branch")?;
            state.marked(&tag_text(branch))
        }
        "git.tag" => {
            let tag = state
                .tag
                .as_deref()
                .context("{git.tag}: no git tag points to the commit")?;
            state.marked(&tag_text(tag))
        }
        other => {
            bail!("{{{other}}}: kiln knows {{git}}, {{git.short}}, {{git.branch}} and {{git.tag}}")
        }
    })
}

/// A git name as part of an image's tag, which has letters, digits, `_`, `.` and `-` only.
fn tag_text(name: &str) -> String {
    let plain = |character: char| {
        let fits = character.is_ascii_alphanumeric() || "_.-".contains(character);
        if fits { character } else { '-' }
    };
    name.chars().map(plain).collect()
}

/// The names and values that say where an image comes from.
pub(super) fn facts(state: &GitState) -> Result<Vec<(String, String)>> {
    let name = |last: &str| format!("org.opencontainers.image.{last}");
    let created = jiff::Timestamp::from_second(state.time)?;
    let mut facts = vec![
        (name("created"), created.to_string()),
        (name("revision"), state.revision()),
    ];
    if let Some(source) = &state.source {
        facts.push((name("source"), source.clone()));
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, dirty: bool, expected: Result<&str, &str>) {
        let state = GitState {
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            time: 0,
            branch: Some("topic/one".into()),
            tag: None,
            dirty: dirty.then(|| "fedcba987654".into()),
            source: None,
        };
        let found = expand(template, &state).map_err(|error| error.to_string());
        assert_eq!(found.as_deref(), expected.map_err(String::from).as_deref());
    }

    #[test]
    fn templates() {
        check("app:1", false, Ok("app:1"));
        check(
            "app:{git}",
            false,
            Ok("app:0123456789abcdef0123456789abcdef01234567"),
        );
        check("app:v-{git.short}", false, Ok("app:v-0123456789ab"));
        check(
            "app:{git.short}",
            true,
            Ok("app:0123456789ab-dirty-fedcba987654"),
        );
        check("app:{git.branch}", false, Ok("app:topic-one"));
        check(
            "app:{git.tag}",
            false,
            Err("{git.tag}: no git tag points to the commit"),
        );
        check(
            "app:{hg}",
            false,
            Err("{hg}: kiln knows {git}, {git.short}, {git.branch} and {git.tag}"),
        );
        check("app:{git", false, Err("a `{` is not closed"));
    }
}
