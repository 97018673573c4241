//! Prometheus' query language over columns.

/// Text to tree and back.
pub mod syntax;
