//! HTTP: what every component answers.

/// The block viewer's API.
pub mod blocks;
/// Compressed bodies.
pub mod coding;
/// Who may ask.
pub mod guard;
/// Health, readiness and metrics.
pub mod health;
/// Counting and logging requests.
pub mod measure;
/// Paths that are written oddly.
pub mod paths;
/// Where the process spends its CPU time.
pub mod profile;
/// Prometheus' HTTP API.
pub mod query;
