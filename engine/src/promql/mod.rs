//! Prometheus' query language over columns.

/// Text to tree and back.
pub mod syntax;
/// Histograms, classic and native: what functions compute from them.
pub mod histogram;
