//! docs/cli: a page for each command, made from the flags themselves. `cargo xtask docs` writes it;
//! the test here fails when it is old.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::args::Cli;

const MARK: &str = "<!-- made by `cargo xtask docs` -->\n";
const GLOBAL: &str = "Global options";

/// Every page by its file name.
fn pages() -> BTreeMap<String, String> {
    let mut kiln = Cli::command();
    kiln.build();
    let (groups, commands): (Vec<&Command>, Vec<&Command>) =
        kiln.get_subcommands().partition(|c| c.has_subcommands());
    let mut pages = BTreeMap::from([("README.md".to_string(), overview(&commands, &groups))]);
    for command in commands {
        pages.insert(format!("{}.md", command.get_name()), page(command));
    }
    pages
}

fn overview(commands: &[&Command], groups: &[&Command]) -> String {
    let mut text = format!(
        "{MARK}# Commands\n\n\
         [exit-codes.md](../exit-codes.md) says how they end, [configuration.md](../configuration.md) what else \
         they go by.\n\n| command | |\n|---|---|\n"
    );
    for command in commands {
        let name = command.get_name();
        line(
            &mut text,
            &format!("[`kiln {name}`]({name}.md)"),
            &about(command),
        );
    }
    text.push_str(
        "\nSpellings of docker's that mean the same:\n\n| docker's | kiln's |\n|---|---|\n",
    );
    for group in groups {
        for command in group.get_subcommands() {
            let own = about(command);
            let own = format!("[`{own}`]({}.md)", own.trim_start_matches("kiln "));
            let names = [group, command].map(|part| {
                let aliases = part.get_all_aliases();
                let all: Vec<&str> = [part.get_name()].into_iter().chain(aliases).collect();
                all.join("\\|")
            });
            line(&mut text, &format!("`kiln {}`", names.join(" ")), &own);
        }
    }
    text
}

fn page(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let mut text = format!(
        "{MARK}# kiln {}\n\n{}.\n\n```\n{usage}\n```\n",
        command.get_name(),
        about(command)
    );
    let shown = |arg: &&Arg| !arg.is_hide_set() && !is_help(arg);
    let (arguments, mut options): (Vec<&Arg>, Vec<&Arg>) = command
        .get_arguments()
        .filter(shown)
        .partition(|arg| arg.is_positional());
    options.sort_by_key(|arg| arg.get_long());
    let (global, own): (Vec<&Arg>, Vec<&Arg>) = options
        .into_iter()
        .partition(|arg| arg.get_help_heading() == Some(GLOBAL));
    for (title, list) in [
        ("argument", arguments),
        ("option", own),
        ("global option", global),
    ] {
        if list.is_empty() {
            continue;
        }
        _ = write!(text, "\n| {title} | |\n|---|---|\n");
        for arg in list {
            line(&mut text, &spelling(arg), &meaning(arg));
        }
    }
    text
}

fn line(text: &mut String, left: &str, right: &str) {
    _ = writeln!(text, "| {left} | {right} |");
}

fn is_help(arg: &Arg) -> bool {
    matches!(
        arg.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    )
}

fn about(command: &Command) -> String {
    command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// A flag or an argument as it is typed; `…` where it may come several times.
fn spelling(arg: &Arg) -> String {
    let several = match arg.get_action() {
        ArgAction::Append => " …",
        _ => "",
    };
    let values = arg.get_value_names().unwrap_or_default();
    let value = values
        .first()
        .map(|name| name.to_string())
        .unwrap_or_default();
    if arg.is_positional() {
        return format!("`{}`{several}", cell(&value));
    }
    let takes_value = arg.get_action().takes_values();
    let value = if takes_value {
        format!(" {}", cell(&value))
    } else {
        String::new()
    };
    let short = arg.get_short().map(|letter| format!("-{letter}"));
    let long = arg.get_long().map(|word| format!("--{word}"));
    let aliases = arg.get_visible_aliases().unwrap_or_default();
    let aliases = aliases.into_iter().map(|word| format!("--{word}"));
    let mut names: Vec<String> = short.into_iter().chain(long).chain(aliases).collect();
    if let Some(last) = names.last_mut() {
        last.push_str(&value);
    }
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ") + several
}

/// What a flag does, its values, its default, and the variable that sets it.
fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let mut lines: Vec<String> = help
        .split(
            "

",
        )
        .map(cell)
        .collect();
    if arg.get_action().takes_values() {
        lines.extend(values(arg));
        let defaults = arg
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy());
        lines.extend(
            defaults
                .filter(|value| !value.is_empty())
                .map(|value| format!("default: `{value}`")),
        );
    }
    if let Some(variable) = arg.get_env() {
        lines.push(format!("environment: `{}`", variable.to_string_lossy()));
    }
    lines.join("<br>")
}

/// The values of a flag that takes certain ones: a line for each that explains itself, or all in one.
fn values(arg: &Arg) -> Vec<String> {
    let values = arg.get_possible_values();
    let shown = values.iter().filter(|value| !value.is_hide_set());
    let explained = shown.clone().all(|value| value.get_help().is_some());
    let lines = shown.map(|value| match value.get_help() {
        Some(help) => format!("`{}`: {}", value.get_name(), cell(&help.to_string())),
        None => format!("`{}`", value.get_name()),
    });
    let lines: Vec<String> = lines.collect();
    match explained {
        true => lines,
        false => vec![lines.join(" or ")],
    }
}

/// A text that neither ends a cell of a table nor begins a tag.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[test]
fn the_pages_of_commands_are_what_the_flags_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli");
    let expected = pages();
    if std::env::var_os("KILN_UPDATE").is_some() {
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).expect("docs is writable");
        for (name, text) in &expected {
            std::fs::write(folder.join(name), text).expect("docs/cli is writable");
        }
    }
    let entries = std::fs::read_dir(&folder).expect("docs/cli is there");
    let found: BTreeMap<String, String> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            (
                name.into_owned(),
                std::fs::read_to_string(&path).expect("a page"),
            )
        })
        .collect();
    let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&found),
        names(&expected),
        "cargo xtask docs writes them anew"
    );
    for (name, text) in &expected {
        assert!(
            found[name] == *text,
            "docs/cli/{name} is old: cargo xtask docs writes it anew"
        );
    }
}

#[test]
fn every_flag_says_in_one_line_what_it_does() {
    fn check(command: &Command) {
        for arg in command.get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let place = format!("{} {}", command.get_name(), arg.get_id());
            assert!(!help.is_empty(), "{place} says nothing");
            assert!(help.len() <= 100, "{place} says too much: {help}");
            assert!(
                !help.contains('\n') && !help.ends_with('.'),
                "{place}: {help}"
            );
        }
        assert!(
            !about(command).is_empty(),
            "{} says nothing",
            command.get_name()
        );
        command.get_subcommands().for_each(check);
    }
    let mut kiln = Cli::command();
    kiln.build();
    kiln.get_subcommands().for_each(check);
}
