//! HTTP: what every component answers.

/// Health, readiness and metrics.
pub mod common;
/// Prometheus' HTTP API.
pub mod query;
