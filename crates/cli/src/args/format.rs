//! `--format` of listings: a table, JSON, or a Go template, of which docker's listings use fields,
//! `json` and the escapes `\t` and `\n`. No conditions, loops or other functions.

use std::str::FromStr;

use serde_json::{Map, Value};

/// How a listing is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Columns that the command chooses.
    Table,
    /// One JSON object a line.
    Json,
    /// What the template says, for each row.
    Template(Template),
}

/// Text with fields of a row in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
    /// It began with `table`: columns, below their headings.
    table: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// `{{.NAME}}`
    Field(String),
    /// `{{json .}}`, `{{json .NAME}}`
    Json(Option<String>),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        Ok(match text {
            "table" => Format::Table,
            "json" => Format::Json,
            text if text.contains("{{") => Format::Template(text.parse()?),
            _ => return Err("it is `table`, `json`, or a template as '{{.ID}} {{.Size}}'".into()),
        })
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Template, String> {
        let body = text.strip_prefix("table ");
        let mut parts = Vec::new();
        let mut rest = body.unwrap_or(text);
        while let Some((before, after)) = rest.split_once("{{") {
            parts.push(Part::Text(unescape(before)));
            let (action, after) = after
                .split_once("}}")
                .ok_or_else(|| format!("`{{{{{after}` has no end: }}}} is missing"))?;
            parts.push(parse_action(action.trim())?);
            rest = after;
        }
        parts.push(Part::Text(unescape(rest)));
        parts.retain(|part| *part != Part::Text(String::new()));
        let table = body.is_some();
        Ok(Template { parts, table })
    }
}

fn parse_action(action: &str) -> Result<Part, String> {
    let wrong =
        || format!("`{{{{{action}}}}}` is neither a field, as {{{{.ID}}}}, nor {{{{json .}}}}");
    let name = |text: &str| {
        let name = text.strip_prefix('.')?;
        let sound = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        sound.then(|| name.to_string())
    };
    match action.strip_prefix("json ") {
        Some(argument) => match name(argument.trim()) {
            Some(name) if name.is_empty() => Ok(Part::Json(None)),
            Some(name) => Ok(Part::Json(Some(name))),
            None => Err(wrong()),
        },
        None => match name(action) {
            Some(name) if !name.is_empty() => Ok(Part::Field(name)),
            _ => Err(wrong()),
        },
    }
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

impl Template {
    /// All rows, a line each, or a table.
    ///
    /// # Errors
    /// When it names a field that rows do not have.
    pub(crate) fn render(&self, rows: &[Map<String, Value>]) -> Result<String, String> {
        let lines: Vec<String> = rows
            .iter()
            .map(|row| self.line(|name| field(row, name)))
            .collect::<Result<_, _>>()?;
        if !self.table {
            return Ok(lines.join("\n"));
        }
        let cells = |line: &String| line.split('\t').map(String::from).collect::<Vec<_>>();
        let heading = self.line(|name| Ok(Value::from(name.to_uppercase())))?;
        let headings: Vec<&str> = heading.split('\t').collect();
        let rows: Vec<Vec<String>> = lines.iter().map(cells).collect();
        Ok(crate::table::layout(&headings, &rows))
    }

    fn line(&self, field: impl Fn(&str) -> Result<Value, String>) -> Result<String, String> {
        let mut line = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => line.push_str(text),
                Part::Field(name) => match field(name)? {
                    Value::String(text) => line.push_str(&text),
                    other => line.push_str(&other.to_string()),
                },
                Part::Json(name) => {
                    line.push_str(&field(name.as_deref().unwrap_or_default())?.to_string());
                }
            }
        }
        Ok(line)
    }
}

/// A field of a row; the whole row without a name.
fn field(row: &Map<String, Value>, name: &str) -> Result<Value, String> {
    if name.is_empty() {
        return Ok(Value::Object(row.clone()));
    }
    row.get(name).cloned().ok_or_else(|| {
        let names = row.keys().map(String::as_str);
        match engine::nearest(name, names.clone()) {
            Some(nearest) => format!("there is no field .{name}: did you mean .{nearest}?"),
            None => format!(
                "there is no field .{name}: there are .{}",
                names.collect::<Vec<_>>().join(", .")
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(template: &str, expected: &str) {
        let rows = [
            json!({"ID": "a", "Size": 1}),
            json!({"ID": "long", "Size": 22}),
        ];
        let rows = rows.map(|row| row.as_object().unwrap().clone());
        let rendered = match template.parse() {
            Ok(Format::Template(template)) => template.render(&rows),
            Ok(other) => panic!("{template}: {other:?}"),
            Err(error) => Err(error),
        };
        let (Ok(text) | Err(text)) = rendered;
        assert_eq!(text, expected, "{template}");
    }

    #[test]
    fn templates() {
        check("{{.ID}}", "a\nlong");
        check("<{{ .ID }}>\\t{{.Size}}", "<a>\t1\n<long>\t22");
        check("{{json .ID}}:{{json .Size}}", "\"a\":1\n\"long\":22");
        check(
            "{{json .}}",
            "{\"ID\":\"a\",\"Size\":1}\n{\"ID\":\"long\",\"Size\":22}",
        );
        check(
            "table {{.ID}}\\t{{.Size}}",
            "ID     SIZE\na      1\nlong   22",
        );
        check("{{.Sise}}", "there is no field .Sise: did you mean .Size?");
        check(
            "{{.Colour}}",
            "there is no field .Colour: there are .ID, .Size",
        );
        check("{{.ID", "`{{.ID` has no end: }} is missing");
        check(
            "{{range .}}",
            "`{{range .}}` is neither a field, as {{.ID}}, nor {{json .}}",
        );
        check(
            "{{.}}",
            "`{{.}}` is neither a field, as {{.ID}}, nor {{json .}}",
        );
    }

    #[test]
    fn words() {
        assert_eq!("table".parse(), Ok(Format::Table));
        assert_eq!("json".parse(), Ok(Format::Json));
        assert!("tabel".parse::<Format>().is_err());
    }
}
