//! Errors of parsing, with the place in the query and Prometheus' words.

use std::fmt;

use crate::model::{Error, ErrorKind};

use super::ast::TextRange;

/// Why a query was refused, printed as Prometheus prints it: `1:5: parse error: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The bytes of the query that are at fault.
    pub range: TextRange,
    /// What is wrong.
    pub message: String,
    kind: ErrorKind,
    place: Place,
}

/// Where a query went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The query is empty.
    Unknown,
    /// Line and column in bytes, both from 1.
    At { line: usize, column: usize },
}

impl ParseError {
    /// An error at `range` of `query`.
    pub(super) fn new(query: &str, range: TextRange, message: impl Into<String>) -> Self {
        let before = query.as_bytes().get(..range.start).unwrap_or(query.as_bytes());
        let place = if query.is_empty() {
            Place::Unknown
        } else {
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            Place::At { line, column: before.len() - line_start + 1 }
        };
        Self { range, message: message.into(), kind: ErrorKind::Invalid, place }
    }

    /// The same of another kind: what refuses a query may be a limit.
    pub(super) fn of_kind(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Unknown => f.write_str("unknown position")?,
            Place::At { line, column } => write!(f, "{line}:{column}")?,
        }
        write!(f, ": parse error: {}", self.message)
    }
}

impl std::error::Error for ParseError {}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Self::new(error.kind, error.to_string())
    }
}
