//! A core and all it owns: one pinned thread with a mailbox and an I/O ring of its own.
//!
//! ```text
//! edge ──urgent──▶ ┌ shard 0 ┐ ──answers──▶ edge
//!    └─background─▶│ mailbox │
//!                  │ BlockIo │   one thread for each core, no async runtime
//!                  └─────────┘
//! ```
//!
//! Architecture invariant: shards share nothing mutable. What crosses is an owned message over a
//! bounded channel; a full channel is back-pressure and is counted.

/// Requests split over the shards.
pub mod gather;
/// Heads and logs over the shards.
pub mod ingest;
/// The mailbox, its lanes and the thread that empties it.
pub mod pool;
/// Threads that wait for bytes from afar.
mod waiting;

pub use gather::{Answer, Fetcher, Fetching, Selector, SeriesStream, Setting, block_on};
pub use ingest::{Flush, Ingest, IngestOptions};
pub use pool::{Background, Job, Options, Pool, PoolCounters, Progress, ShardContext};

#[cfg(test)]
mod tests;
