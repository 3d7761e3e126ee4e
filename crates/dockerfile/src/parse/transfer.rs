//! `COPY` and `ADD`.

use std::collections::HashSet;

use super::flags::{Flags, RawFlag, Table, Takes, plain};
use super::fragment::Fragment;
use super::{Parsed, heredoc, json, run};
use crate::ast::{Add, Copy, Heredoc, Transfer};
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::word::Word;

const COPY_FLAGS: Table = &[
    ("from", Takes::Value),
    ("chown", Takes::Value),
    ("chmod", Takes::Value),
    ("link", Takes::Bool),
    ("parents", Takes::Bool),
    ("exclude", Takes::Values),
];

const ADD_FLAGS: Table = &[
    ("chown", Takes::Value),
    ("chmod", Takes::Value),
    ("link", Takes::Bool),
    ("keep-git-dir", Takes::Bool),
    ("checksum", Takes::Value),
    ("unpack", Takes::Bool),
    ("exclude", Takes::Values),
];

pub(super) fn copy(
    keyword: Fragment<'_>,
    flags: Vec<RawFlag>,
    arguments: Fragment<'_>,
    heredocs: Vec<Heredoc>,
) -> Parsed<Copy> {
    let flags = Flags::check(flags, "COPY", COPY_FLAGS)?;
    let from = flags.value("from");
    if let Some(from) = from.as_ref().filter(|from| run::has_variable(from.text())) {
        let message = "variable expansion is not supported for --from, define a new stage with \
                       FROM using ARG from global scope as a workaround";
        return Err(Box::new(
            Diagnostic::error("variable-in-from", from.span(), message)
                .with_remark("a variable")
                .with_help(format!(
                    "add a stage `FROM {} AS <name>` and write `--from=<name>`",
                    from.text()
                )),
        ));
    }
    Ok(Copy {
        from: from.as_ref().map(plain),
        parents: flags.bool("parents").unwrap_or_default(),
        transfer: transfer(keyword, "COPY", &flags, arguments, heredocs)?,
    })
}

pub(super) fn add(
    keyword: Fragment<'_>,
    flags: Vec<RawFlag>,
    arguments: Fragment<'_>,
    heredocs: Vec<Heredoc>,
) -> Parsed<Add> {
    let flags = Flags::check(flags, "ADD", ADD_FLAGS)?;
    let transfer = transfer(keyword, "ADD", &flags, arguments, heredocs)?;
    let checksum = flags.value("checksum");
    if let Some(checksum) = checksum.as_ref().filter(|_| transfer.sources.len() > 1) {
        let message = "checksum can't be specified for multiple sources";
        return Err(Box::new(
            Diagnostic::error("checksum-of-several", checksum.span(), message)
                .with_help("write one ADD for each source"),
        ));
    }
    Ok(Add {
        checksum,
        keep_git_dir: flags.bool("keep-git-dir"),
        unpack: flags.bool("unpack"),
        transfer,
    })
}

fn transfer(
    keyword: Fragment<'_>,
    name: &str,
    flags: &Flags,
    arguments: Fragment<'_>,
    mut heredocs: Vec<Heredoc>,
) -> Parsed<Transfer> {
    let (mut words, exec) = match json::array(arguments)? {
        Some(words) => (words, true),
        None => (
            arguments
                .split_blanks()
                .iter()
                .map(Fragment::word)
                .collect(),
            false,
        ),
    };
    let (Some(destination), false) = (words.pop(), words.is_empty()) else {
        let message = format!("{name} requires at least two arguments");
        return Err(Box::new(
            Diagnostic::error("too-few-arguments", keyword.span(), message)
                .with_remark("needs a source and a destination")
                .with_help(format!("write `{name} <source>… <destination>`")),
        ));
    };
    if !exec && heredoc::is_marker(destination.text()) {
        let message = format!("{name} cannot accept a heredoc as a destination");
        return Err(Box::new(
            Diagnostic::error("heredoc-destination", destination.span(), message)
                .with_help("the last word is where the files go"),
        ));
    }
    // A delimiter with a quoted blank in it falls apart here, and then announces nothing.
    let places: HashSet<Span> = words.iter().map(Word::span).collect();
    heredocs.retain(|heredoc| places.contains(&heredoc.marker.span()));
    let places: HashSet<Span> = heredocs
        .iter()
        .map(|heredoc| heredoc.marker.span())
        .collect();
    words.retain(|word| !places.contains(&word.span()));
    Ok(Transfer {
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.bool("link").unwrap_or_default(),
        excludes: flags
            .values("exclude")
            .map(|(_, word)| plain(word))
            .collect(),
        sources: words,
        heredocs,
        destination,
    })
}
