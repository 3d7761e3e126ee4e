//! Templates as trees.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::functions::Function;
use super::scan::{Piece, Token, TokenKind, pieces};

/// A parsed template.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Node>);

impl Template {
    pub(super) fn nodes(&self) -> &[Node] {
        &self.0
    }
}

/// Why a text is no template. It names the character, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ParseError {
    at: usize,
    problem: String,
}

impl ParseError {
    pub(super) fn new(at: usize, problem: impl Into<String>) -> ParseError {
        ParseError {
            at,
            problem: problem.into(),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "character {}: {}", self.at, self.problem)
    }
}

impl std::error::Error for ParseError {}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    /// The first branch whose condition holds.
    If {
        branches: Vec<(Pipeline, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    Range {
        key: Option<String>,
        value: Option<String>,
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        value: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

/// Commands, each of which gets the result of the one before it as its last argument.
#[derive(Clone, Debug)]
pub(super) struct Pipeline(pub(super) Vec<Step>);

#[derive(Clone, Debug)]
pub(super) enum Step {
    Value(Term),
    Call(Function, Vec<Term>),
}

#[derive(Clone, Debug)]
pub(super) enum Term {
    Literal(Value),
    /// The value at hand.
    Dot,
    Variable(String),
    Nested(Box<Pipeline>),
    Call(Function),
    Fields(Box<Term>, Vec<String>),
}

impl FromStr for Template {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Template, ParseError> {
        let mut parser = Parser {
            pieces: pieces(text)?.into_iter(),
            variables: vec![String::new()],
        };
        let (nodes, end) = parser.nodes()?;
        match end {
            None => Ok(Template(nodes)),
            Some((at, word)) => Err(ParseError::new(
                at,
                format!("{} without if, range or with", word.name()),
            )),
        }
    }
}

/// A list of nodes and what ends it, if it is not the end of the template.
type Nodes = (Vec<Node>, Option<(usize, Terminator)>);

/// What ends a list of nodes.
enum Terminator {
    End,
    Else,
    ElseIf(Pipeline),
}

impl Terminator {
    fn name(&self) -> &'static str {
        match self {
            Terminator::End => "end",
            Terminator::Else | Terminator::ElseIf(_) => "else",
        }
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    /// Names in scope.
    variables: Vec<String>,
}

impl Parser {
    /// Nodes up to an `end` or `else` of the block around them, and which it is.
    fn nodes(&mut self) -> Result<Nodes, ParseError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let mut action = Action {
                tokens: &tokens,
                next: 0,
                variables: &self.variables,
            };
            let (at, word) = (tokens[0].at, action.word());
            match word.as_deref() {
                Some("end") => {
                    action.end()?;
                    return Ok((nodes, Some((at, Terminator::End))));
                }
                Some("else") => {
                    let ends = if action.word().as_deref() == Some("if") {
                        Terminator::ElseIf(action.pipeline()?)
                    } else {
                        Terminator::Else
                    };
                    action.end()?;
                    return Ok((nodes, Some((at, ends))));
                }
                Some("if") => {
                    let condition = action.pipeline()?;
                    action.end()?;
                    nodes.push(self.choice(at, condition)?);
                }
                Some("with") => {
                    let value = action.pipeline()?;
                    action.end()?;
                    let (body, otherwise) = self.body(at, "with")?;
                    nodes.push(Node::With {
                        value,
                        body,
                        otherwise,
                    });
                }
                Some("range") => {
                    let names = action.declaration()?;
                    let over = action.pipeline()?;
                    action.end()?;
                    nodes.push(self.range(at, names, over)?);
                }
                Some(word @ ("template" | "define" | "block" | "break" | "continue")) => {
                    return Err(ParseError::new(
                        at,
                        format!("{word} is not supported in --format"),
                    ));
                }
                _ => {
                    action.next = 0;
                    let pipeline = action.pipeline()?;
                    action.end()?;
                    nodes.push(Node::Print(pipeline));
                }
            }
        }
        Ok((nodes, None))
    }

    fn choice(&mut self, at: usize, condition: Pipeline) -> Result<Node, ParseError> {
        let mut branches = Vec::new();
        let mut condition = condition;
        loop {
            let (body, end) = self.block(at, "if")?;
            branches.push((condition, body));
            match end {
                Terminator::End => {
                    return Ok(Node::If {
                        branches,
                        otherwise: Vec::new(),
                    });
                }
                Terminator::Else => {
                    let otherwise = self.last(at, "if")?;
                    return Ok(Node::If {
                        branches,
                        otherwise,
                    });
                }
                Terminator::ElseIf(next) => condition = next,
            }
        }
    }

    fn range(&mut self, at: usize, names: Vec<String>, over: Pipeline) -> Result<Node, ParseError> {
        let outer = self.variables.len();
        self.variables.extend(names.iter().cloned());
        let bodies = self.body(at, "range");
        self.variables.truncate(outer);
        let (body, otherwise) = bodies?;
        let mut names = names.into_iter().rev();
        let (value, key) = (names.next(), names.next());
        Ok(Node::Range {
            key,
            value,
            over,
            body,
            otherwise,
        })
    }

    /// The body of a block and what stands behind its `else`.
    fn body(&mut self, at: usize, word: &str) -> Result<(Vec<Node>, Vec<Node>), ParseError> {
        let (body, end) = self.block(at, word)?;
        match end {
            Terminator::End => Ok((body, Vec::new())),
            Terminator::Else => Ok((body, self.last(at, word)?)),
            Terminator::ElseIf(_) => Err(ParseError::new(at, format!("else if inside {word}"))),
        }
    }

    fn block(&mut self, at: usize, word: &str) -> Result<(Vec<Node>, Terminator), ParseError> {
        match self.nodes()? {
            (nodes, Some((_, end))) => Ok((nodes, end)),
            (_, None) => Err(ParseError::new(
                at.saturating_sub(2),
                format!("{word} without end"),
            )),
        }
    }

    fn last(&mut self, at: usize, word: &str) -> Result<Vec<Node>, ParseError> {
        match self.block(at, word)? {
            (nodes, Terminator::End) => Ok(nodes),
            _ => Err(ParseError::new(at, format!("{word} with a second else"))),
        }
    }
}

/// The tokens of one action. The last one is [`TokenKind::End`].
struct Action<'a> {
    tokens: &'a [Token],
    next: usize,
    variables: &'a [String],
}

impl Action<'_> {
    fn token(&self) -> &Token {
        &self.tokens[self.next]
    }

    fn take(&mut self, wanted: &TokenKind) -> bool {
        let found = self.token().kind == *wanted;
        self.next += usize::from(found);
        found
    }

    fn word(&mut self) -> Option<String> {
        let TokenKind::Word(word) = &self.token().kind else {
            return None;
        };
        let word = word.clone();
        self.next += 1;
        Some(word)
    }

    fn end(&self) -> Result<(), ParseError> {
        match self.token().kind {
            TokenKind::End => Ok(()),
            _ => Err(ParseError::new(self.token().at, "}} was expected here")),
        }
    }

    /// `$value :=` or `$key, $value :=`.
    fn declaration(&mut self) -> Result<Vec<String>, ParseError> {
        if !self
            .tokens
            .iter()
            .any(|token| token.kind == TokenKind::Declare)
        {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        loop {
            let at = self.token().at;
            match &self.token().kind {
                TokenKind::Variable(name) if !name.is_empty() && names.len() < 2 => {
                    names.push(name.clone())
                }
                _ => {
                    return Err(ParseError::new(
                        at,
                        "one or two variables and := were expected here",
                    ));
                }
            }
            self.next += 1;
            if self.take(&TokenKind::Declare) {
                return Ok(names);
            }
            self.take(&TokenKind::Comma);
        }
    }

    fn pipeline(&mut self) -> Result<Pipeline, ParseError> {
        let mut steps = vec![self.step()?];
        while self.take(&TokenKind::Pipe) {
            let at = self.token().at;
            match self.step()? {
                Step::Value(_) => {
                    return Err(ParseError::new(at, "a function was expected behind |"));
                }
                call @ Step::Call(..) => steps.push(call),
            }
        }
        Ok(Pipeline(steps))
    }

    fn step(&mut self) -> Result<Step, ParseError> {
        let at = self.token().at;
        let first = self
            .term()?
            .ok_or_else(|| ParseError::new(at, "a value or function is missing"))?;
        let mut arguments = Vec::new();
        while let Some(argument) = self.term()? {
            arguments.push(argument);
        }
        match first {
            Term::Call(function) => Ok(Step::Call(function, arguments)),
            value if arguments.is_empty() => Ok(Step::Value(value)),
            _ => Err(ParseError::new(at, "only functions take arguments")),
        }
    }

    fn term(&mut self) -> Result<Option<Term>, ParseError> {
        let Token { at, kind } = self.token().clone();
        self.next += 1;
        let term =
            match kind {
                TokenKind::Text(text) => Term::Literal(text.into()),
                TokenKind::Number(number) => Term::Literal(number.into()),
                TokenKind::Word(word) => match word.as_str() {
                    "true" => Term::Literal(true.into()),
                    "false" => Term::Literal(false.into()),
                    "nil" => Term::Literal(Value::Null),
                    name => Term::Call(Function::named(name).ok_or_else(|| {
                        ParseError::new(at, format!("there is no function {name}"))
                    })?),
                },
                TokenKind::Fields(names) if names.is_empty() => Term::Dot,
                TokenKind::Fields(names) => Term::Fields(Box::new(Term::Dot), names),
                TokenKind::Variable(name) if self.variables.contains(&name) => {
                    self.with_fields(Term::Variable(name))
                }
                TokenKind::Variable(name) => {
                    return Err(ParseError::new(at, format!("there is no variable ${name}")));
                }
                TokenKind::Open => {
                    let inner = self.pipeline()?;
                    if !self.take(&TokenKind::Close) {
                        return Err(ParseError::new(at, "( without )"));
                    }
                    self.with_fields(Term::Nested(Box::new(inner)))
                }
                TokenKind::Close
                | TokenKind::Pipe
                | TokenKind::Comma
                | TokenKind::Declare
                | TokenKind::End => {
                    self.next -= 1;
                    return Ok(None);
                }
            };
        Ok(Some(term))
    }

    /// `$.A` and `(…).A`: fields that follow without a space.
    fn with_fields(&mut self, of: Term) -> Term {
        let end = self.tokens[self.next - 1].at + self.tokens[self.next - 1].kind.len();
        match &self.token().kind {
            TokenKind::Fields(names) if self.token().at == end && !names.is_empty() => {
                let names = names.clone();
                self.next += 1;
                Term::Fields(Box::new(of), names)
            }
            _ => of,
        }
    }
}

impl TokenKind {
    /// Characters of those tokens that fields may follow.
    fn len(&self) -> usize {
        match self {
            TokenKind::Variable(name) => 1 + name.chars().count(),
            _ => 1,
        }
    }
}
