//! PromQL's syntax: text to tree and back.
//!
//! [`parse`] accepts what Prometheus 3.14 accepts and refuses the rest in its words, position
//! included. Trees print in Prometheus' canonical form, which parses back to an equal tree.
//!
//! Strings may hold any bytes, as Go's do: string literals and the values of matchers are
//! [`ByteString`](crate::model::ByteString)s. Label names are UTF-8: the invalid bytes of a name in
//! quotes become U+FFFD, as no series can have such a name.

/// The syntax tree.
pub mod ast;
mod error;
/// Functions and their signatures.
pub mod functions;
mod json;
mod lexer;
mod literal;
mod operator;
mod options;
mod parser;
mod pretty;
mod print;
mod room;
mod scan;
mod token;
mod typed;

pub use ast::{Expr, TextRange};
pub use error::ParseError;
pub use functions::{FUNCTIONS, Function, ValueType, function};
pub use json::to_json;
pub use options::Options;
pub use parser::{HEIGHT_MAX, NESTING_MAX, parse, parse_match, parse_metric, parse_selector, parse_within};
pub use pretty::prettify;
pub use room::{height, with_room};
