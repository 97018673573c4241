//! HTTP: what every component answers.

/// Health, readiness and metrics.
pub mod health;
/// Prometheus' HTTP API.
pub mod query;
