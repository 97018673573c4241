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
/// Which blocks a bucket holds.
pub mod sync;
/// The upkeep of a bucket: marks, deletion, moving blocks.
pub mod upkeep;
/// Threads for work that computes.
pub mod threads;
/// Threads that wait for sockets and object stores.
pub mod edge;
/// What the process answers: gRPC and HTTP.
pub mod api;
/// Many endpoints as one.
pub mod fanout;
/// Samples on their way in.
pub mod ingest;
/// The store gateway.
pub mod gateway;
/// Better blocks: merging, downsampling, letting go.
pub mod compactor;
/// Tools that look at a bucket and mend it by hand.
pub mod tools;
/// The components that wire all of this.
pub mod component;
