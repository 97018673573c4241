//! PromQL's syntax: text to tree and back.

/// The syntax tree.
pub mod ast;
/// Functions and their signatures.
pub mod functions;

pub use ast::Expr;
pub use functions::{FUNCTIONS, Function, ValueType, function};
