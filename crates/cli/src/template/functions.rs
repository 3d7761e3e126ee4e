//! The functions of templates: Go's own and docker's.

use serde_json::Value;

use super::RenderError;
use super::eval::printed;

/// A function by its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    name: &'static str,
    run: fn(&[Value]) -> Result<Value, String>,
}

const fn function(name: &'static str, run: fn(&[Value]) -> Result<Value, String>) -> Function {
    Function { name, run }
}

static FUNCTIONS: [Function; 19] = [
    function("and", |values| pick(values, false)),
    function("eq", |values| compare(values).map(Value::from)),
    function("index", index),
    function("join", join),
    function("json", |values| Ok(one(values)?.to_string().into())),
    function("len", |values| length(one(values)?).map(Value::from)),
    function("lower", |values| {
        Ok(text(one(values)?)?.to_lowercase().into())
    }),
    function("ne", |values| Ok((!compare(values)?).into())),
    function("not", |values| Ok((!truth(one(values)?)).into())),
    function("or", |values| pick(values, true)),
    function("print", |values| Ok(spaced(values).into())),
    function("printf", printf),
    function("println", |values| {
        Ok(format!("{}\n", spaced(values)).into())
    }),
    function("slice", slice),
    function("split", split),
    function("title", |values| Ok(title(text(one(values)?)?).into())),
    function("trim", |values| Ok(text(one(values)?)?.trim().into())),
    function("truncate", truncate),
    function("upper", |values| {
        Ok(text(one(values)?)?.to_uppercase().into())
    }),
];

impl Function {
    pub(super) fn named(name: &str) -> Option<Function> {
        FUNCTIONS
            .iter()
            .find(|function| function.name == name)
            .copied()
    }

    pub(super) fn call(self, values: &[Value]) -> Result<Value, RenderError> {
        (self.run)(values).map_err(|problem| RenderError::Function {
            function: self.name,
            problem,
        })
    }
}

/// Whether a value counts as true: it is there, and neither zero nor empty.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// What a value is, in a word.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "missing value",
        Value::Bool(_) => "truth value",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

fn one(values: &[Value]) -> Result<&Value, String> {
    match values {
        [value] => Ok(value),
        _ => Err(format!("one argument was expected, not {}", values.len())),
    }
}

fn two(values: &[Value]) -> Result<[&Value; 2], String> {
    match values {
        [first, second] => Ok([first, second]),
        _ => Err(format!("two arguments were expected, not {}", values.len())),
    }
}

fn text(value: &Value) -> Result<&str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("a {} is no text", kind(value)))
}

fn number(value: &Value) -> Result<usize, String> {
    let number = value
        .as_u64()
        .and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("{} is no position", printed(value)))
}

/// The first value that decides, else the last one.
fn pick(values: &[Value], decides: bool) -> Result<Value, String> {
    let found = values
        .iter()
        .find(|value| truth(value) == decides)
        .or(values.last());
    found
        .cloned()
        .ok_or_else(|| "an argument is missing".into())
}

/// Whether the first value equals one of the others.
fn compare(values: &[Value]) -> Result<bool, String> {
    match values {
        [first, others @ ..] if !others.is_empty() => Ok(others.contains(first)),
        _ => Err(format!("two arguments were expected, not {}", values.len())),
    }
}

fn index(values: &[Value]) -> Result<Value, String> {
    let [of, path @ ..] = values else {
        return Err("a list or map is missing".into());
    };
    let mut value = of;
    for key in path {
        value = match value {
            Value::Array(items) => {
                let place = number(key)?;
                items
                    .get(place)
                    .ok_or_else(|| format!("no element {place} among {}", items.len()))?
            }
            Value::Object(fields) => fields.get(text(key)?).unwrap_or(&Value::Null),
            Value::Null => &Value::Null,
            other => return Err(format!("a {} has no elements", kind(other))),
        };
    }
    Ok(value.clone())
}

fn join(values: &[Value]) -> Result<Value, String> {
    let [list, between] = two(values)?;
    let items: Vec<String> = match list {
        Value::Array(items) => items.iter().map(printed).collect(),
        Value::Null => Vec::new(),
        other => return Err(format!("a {} is no list", kind(other))),
    };
    Ok(items.join(text(between)?).into())
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(fields) => Ok(fields.len()),
        Value::Null => Ok(0),
        other => Err(format!("a {} has no length", kind(other))),
    }
}

fn slice(values: &[Value]) -> Result<Value, String> {
    let [of, places @ ..] = values else {
        return Err("a text or list is missing".into());
    };
    let length = length(of)?;
    let (from, to) = match places {
        [] => (0, length),
        [from] => (number(from)?, length),
        [from, to] => (number(from)?, number(to)?),
        _ => return Err("at most two positions were expected".into()),
    };
    let outside = || format!("{from} to {to} is outside of 0 to {length}");
    match of {
        Value::String(text) => text.get(from..to).map(Value::from).ok_or_else(outside),
        Value::Array(items) => items
            .get(from..to)
            .map(|items| items.to_vec().into())
            .ok_or_else(outside),
        other => Err(format!("a {} cannot be sliced", kind(other))),
    }
}

fn split(values: &[Value]) -> Result<Value, String> {
    let [whole, between] = two(values)?;
    let parts: Vec<Value> = text(whole)?
        .split(text(between)?)
        .map(Value::from)
        .collect();
    Ok(parts.into())
}

fn truncate(values: &[Value]) -> Result<Value, String> {
    let [whole, length] = two(values)?;
    let shorter: String = text(whole)?.chars().take(number(length)?).collect();
    Ok(shorter.into())
}

fn title(text: &str) -> String {
    let mut starts = true;
    let cased = text.chars().map(|character| {
        let upper = starts;
        starts = character.is_whitespace();
        if upper {
            character.to_uppercase().to_string()
        } else {
            character.to_string()
        }
    });
    cased.collect()
}

fn spaced(values: &[Value]) -> String {
    values.iter().map(printed).collect::<Vec<_>>().join(" ")
}

/// `%s`, `%d` and `%v` print the next value, `%q` in quotes; `%%` is a percent sign.
fn printf(values: &[Value]) -> Result<Value, String> {
    let [format, values @ ..] = values else {
        return Err("a format is missing".into());
    };
    let mut values = values.iter();
    let mut out = String::new();
    let mut rest = text(format)?.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let verb = rest.next();
        match verb {
            Some('%') => out.push('%'),
            Some('s' | 'd' | 'v' | 'q') => {
                let value = values.next().ok_or("a value is missing")?;
                if verb == Some('q') {
                    out.push_str(&Value::from(printed(value)).to_string());
                } else {
                    out.push_str(&printed(value));
                }
            }
            _ => return Err("only %s, %d, %v, %q and %% are known".into()),
        }
    }
    Ok(out.into())
}
