//! What a block's index says: which series there are, where their chunks lie, which series have a
//! label.

/// The questions that are asked of an index, whichever form it has.
pub mod block_index;
/// The column index: ours, made to be scanned.
pub mod column;
/// Thanos' binary index-header.
pub mod header;
/// The TSDB's index asked through its index-header.
pub mod header_index;
/// Labels of one series at a time.
pub mod labels;
/// A source that is far away, in pages.
pub mod pages;
pub(crate) mod select;
/// The TSDB's index file, versions 1 and 2.
pub mod tsdb;
/// No index, with the reason.
pub mod unreadable;

pub use block_index::{BlockIndex, ChunkColumns};
pub use header_index::HeaderIndex;
pub use labels::SeriesLabels;
pub use unreadable::Unreadable;

use crate::model::ChunkRef;

/// Where a chunk lies and which times it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ChunkMeta {
    /// Unix milliseconds of the first sample.
    pub min_time: i64,
    /// Unix milliseconds of the last sample.
    pub max_time: i64,
    /// Where the chunk lies in the block's segment files.
    pub chunk_ref: ChunkRef,
}
