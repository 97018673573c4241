//! Buckets: their configuration, and the operations that components need of them.

/// One bucket.
pub mod bucket;
/// Bucket bytes that are kept in memory and on disk.
pub mod cache;
/// The YAML that describes a bucket.
pub mod config;
/// Counts and durations of operations.
pub mod metrics;
/// Where an S3 client looks for credentials.
pub mod credentials;
/// The HTTP of an S3 client.
mod wire;
/// Buckets of S3 and what speaks its protocol.
mod s3;
/// A bucket whose folder can't be opened yet.
mod later;
/// Objects of a bucket that is a folder.
mod walk;

pub use bucket::{Bucket, ObjectInfo};
pub use config::BucketConfig;
