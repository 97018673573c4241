//! What a block's index says: which series there are, where their chunks lie, which series have a
//! label.

/// Thanos' binary index-header.
pub mod header;
/// The TSDB's index file, versions 1 and 2.
pub mod tsdb;

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
