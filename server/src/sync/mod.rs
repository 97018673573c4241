//! Which blocks a bucket holds and which of them count: one listing, the metas that changed, then
//! filters in Thanos' order.

/// Listing the bucket and reading metas.
pub mod fetch;
/// Leaving blocks out.
pub mod filter;
/// `thanos_blocks_meta_*`.
pub mod metrics;

pub use fetch::{BlockFiles, FetchOptions, Fetcher, PartialBlock, SyncedBlock, View, as_listed, is_json};
pub use filter::{Duplicates, Filters};
pub use metrics::{State, SyncMetrics};
