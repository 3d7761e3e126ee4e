//! Templates at work on a value.

use std::fmt::{self, Write};

use serde_json::Value;

use super::functions::{self, truth};
use super::parse::{Node, Pipeline, Step, Term};

/// Why a template makes nothing of a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RenderError {
    /// `.of.name` does not exist.
    NoField {
        /// The last name.
        name: String,
        /// The path before it.
        of: String,
        /// What is there instead.
        found: String,
    },
    /// A function cannot take what it was given.
    Function {
        /// Its name.
        function: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RenderError::NoField { name, of, found } => {
                write!(f, "no field {name} in {of}: {found}")
            }
            RenderError::Function { function, problem } => write!(f, "{function}: {problem}"),
        }
    }
}

impl std::error::Error for RenderError {}

/// Names in scope, the innermost last. The root is called the empty text.
type Variables = Vec<(String, Value)>;

pub(super) fn render(nodes: &[Node], root: &Value) -> Result<String, RenderError> {
    let mut scope = Scope {
        variables: vec![(String::new(), root.clone())],
        out: String::new(),
    };
    scope.nodes(nodes, root)?;
    Ok(scope.out)
}

struct Scope {
    variables: Variables,
    out: String,
}

impl Scope {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), RenderError> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    self.out.push_str(&printed(&value));
                }
                Node::If {
                    branches,
                    otherwise,
                } => self.choose(branches, otherwise, dot)?,
                Node::With {
                    value,
                    body,
                    otherwise,
                } => {
                    let value = self.pipeline(value, dot)?;
                    if truth(&value) {
                        self.nodes(body, &value)?;
                    } else {
                        self.nodes(otherwise, dot)?;
                    }
                }
                Node::Range {
                    key,
                    value,
                    over,
                    body,
                    otherwise,
                } => {
                    let items = items(self.pipeline(over, dot)?)?;
                    if items.is_empty() {
                        self.nodes(otherwise, dot)?;
                    }
                    for (index, item) in items {
                        let outer = self.variables.len();
                        self.variables.extend(key.clone().map(|key| (key, index)));
                        self.variables
                            .extend(value.clone().map(|value| (value, item.clone())));
                        self.nodes(body, &item)?;
                        self.variables.truncate(outer);
                    }
                }
            }
        }
        Ok(())
    }

    fn choose(
        &mut self,
        branches: &[(Pipeline, Vec<Node>)],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<(), RenderError> {
        for (condition, body) in branches {
            if truth(&self.pipeline(condition, dot)?) {
                return self.nodes(body, dot);
            }
        }
        self.nodes(otherwise, dot)
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, RenderError> {
        let mut piped = None;
        for step in &pipeline.0 {
            let value = match step {
                Step::Value(term) => self.term(term, dot)?,
                Step::Call(function, arguments) => {
                    let mut values = arguments
                        .iter()
                        .map(|argument| self.term(argument, dot))
                        .collect::<Result<Vec<_>, _>>()?;
                    values.extend(piped);
                    function.call(&values)?
                }
            };
            piped = Some(value);
        }
        Ok(piped.unwrap_or_default())
    }

    fn term(&self, term: &Term, dot: &Value) -> Result<Value, RenderError> {
        match term {
            Term::Literal(value) => Ok(value.clone()),
            Term::Dot => Ok(dot.clone()),
            Term::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                Ok(known.map(|(_, value)| value.clone()).unwrap_or_default())
            }
            Term::Nested(pipeline) => self.pipeline(pipeline, dot),
            Term::Call(function) => function.call(&[]),
            Term::Fields(of, names) => {
                let mut value = self.term(of, dot)?;
                let mut path = String::new();
                for name in names {
                    value = field(&value, name, &path)?;
                    let _ = write!(path, ".{name}");
                }
                Ok(value)
            }
        }
    }
}

fn field(value: &Value, name: &str, path: &str) -> Result<Value, RenderError> {
    let of = if path.is_empty() { "." } else { path };
    let fail = |found: String| RenderError::NoField {
        name: name.into(),
        of: of.into(),
        found,
    };
    match value {
        Value::Object(fields) => fields.get(name).cloned().ok_or_else(|| {
            let known = fields.keys().map(String::as_str);
            fail(match engine::nearest(name, known.clone()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
            })
        }),
        // What is not there has no fields that are there.
        Value::Null => Ok(Value::Null),
        other => Err(fail(format!("it is a {}", functions::kind(other)))),
    }
}

/// Keys and values of a map by key, numbers and elements of a list.
fn items(value: Value) -> Result<Vec<(Value, Value)>, RenderError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => Ok(items
            .into_iter()
            .enumerate()
            .map(|(index, item)| (index.into(), item))
            .collect()),
        Value::Object(fields) => Ok(fields
            .into_iter()
            .map(|(key, item)| (key.into(), item))
            .collect()),
        other => Err(RenderError::Function {
            function: "range",
            problem: format!("a {} has no elements", functions::kind(&other)),
        }),
    }
}

/// A value as Go prints it.
pub(super) fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(printed).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("{key}:{}", printed(value)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}
