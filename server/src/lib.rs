//! The process: flags, configuration, object stores, gRPC and HTTP, and the components that wire
//! them to the engine.

#![forbid(unsafe_code)]

/// The command line: flags as data.
pub mod cli;
/// Configuration values.
pub mod config;
/// Buckets.
pub mod objstore;
/// Logs and metrics.
pub mod telemetry;
/// What a process knows of its peers.
pub mod cluster;
