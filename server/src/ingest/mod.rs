//! Samples on their way in: what requests are made of, who sends them and what they may hold.

/// Bodies of requests: read, decompressed, bounded.
pub mod body;
/// What tenants may send.
pub mod limits;
/// OTLP metrics as Prometheus sees them.
pub mod otlp;
/// The hashrings file, read again while the process runs.
pub mod ring;
/// Who sends.
pub mod tenant;
