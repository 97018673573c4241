//! A cache of bucket bytes: pages of segments and indexes that lie in an object store, in memory and
//! on the local disk. A bucket that is a folder needs none, as the system caches its files.
//!
//! ```text
//! range ─▶ pages ─▶ memory ─▶ disk ─▶ bucket     what is missing is read in few requests,
//!                                                 and kept in memory and on disk; what is on
//!                                                 its way already is waited for
//! ```

/// Sizes, as Thanos' flags give them.
pub mod config;
mod flights;
/// `thanos_store_bucket_cache_*`, `thanos_store_index_cache_*`, `thanos_cache_inmemory_*`.
pub mod metrics;
/// Pages in memory and on disk.
pub mod pages;
/// Ranges of objects, made of pages.
pub mod ranges;

pub use config::CacheConfig;
pub use pages::{PageCache, Wanted};
pub use ranges::{RangeRead, Ranges};
