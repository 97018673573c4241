//! HTTP: what every component answers.

/// The block viewer's API.
pub mod blocks;
/// Health, readiness and metrics.
pub mod health;
/// Prometheus' HTTP API.
pub mod query;
