//! `--format`: whether a command shows its table, JSON lines, or what a template makes of each row.

use std::str::FromStr;

use anyhow::Result;
use serde_json::{Map, Value};

use crate::table;
use crate::template::{ParseError, Template};

/// The value of `--format`.
#[derive(Clone, Debug, Default)]
pub(crate) enum Format {
    /// What the command shows when nothing is asked for.
    #[default]
    Own,
    /// A JSON document a line.
    Json,
    /// What the template makes of a row, a line each.
    Lines(Template),
    /// `table TEMPLATE`: columns between tabs, below their headings.
    Table(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        let template = |text: &str| {
            let text = text.replace("\\t", "\t").replace("\\n", "\n");
            text.parse().map_err(|error: ParseError| error.to_string())
        };
        match (text, text.strip_prefix("table ")) {
            ("" | "table", _) => Ok(Format::Own),
            ("json", _) => Ok(Format::Json),
            (_, Some(columns)) => template(columns).map(Format::Table),
            _ if text.contains("{{") => template(text).map(Format::Lines),
            _ => Err("it is `table`, `json`, or a template as '{{.ID}} {{.Size}}'".into()),
        }
    }
}

impl Format {
    /// The lines for `rows`, each with its end; `None` if the command's own form is wanted. A
    /// heading stands for each field of a row in `table TEMPLATE`.
    ///
    /// # Errors
    /// When the template cannot be applied to a row.
    pub(crate) fn lines(
        &self,
        rows: &[Value],
        headings: &[(&str, &str)],
    ) -> Result<Option<String>> {
        let rendered = |template: &Template| -> Result<Vec<String>> {
            Ok(rows
                .iter()
                .map(|row| template.render(row))
                .collect::<Result<_, _>>()?)
        };
        Ok(match self {
            Format::Own => None,
            Format::Json => Some(joined(rows.iter().map(Value::to_string))),
            Format::Lines(template) => Some(joined(rendered(template)?.into_iter())),
            Format::Table(template) => {
                let fields: Map<String, Value> = headings
                    .iter()
                    .map(|(field, heading)| ((*field).into(), (*heading).into()))
                    .collect();
                let heading = template.render(&fields.into())?;
                let cells = |line: &str| line.split('\t').map(String::from).collect::<Vec<_>>();
                let rows: Vec<Vec<String>> =
                    rendered(template)?.iter().map(|line| cells(line)).collect();
                let heading: Vec<&str> = heading.split('\t').collect();
                Some(table::layout(&heading, &rows) + "\n")
            }
        })
    }
}

fn joined(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect()
}
