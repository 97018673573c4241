//! Blocks: those that can be asked, and the set of all of them; what was deleted from them, writing
//! them, verifying them.

/// Looking at a block before it goes elsewhere.
pub mod glance;
/// What an index says of its own soundness.
pub mod health;
/// An opened block.
pub mod opened;
/// Labels and chunk places of many series.
pub mod series;
/// All blocks, by external labels and resolution.
pub mod set;
/// Deleted ranges.
pub mod tombstones;
/// Checking all of a block.
pub mod verify;
/// Writing a block.
pub mod writer;

pub use opened::{BlockInfo, CHUNK_BYTES_GUESS, ChunkScratch, ChunkSource, Detail, Home, OpenedBlock, Segments};
pub use series::{ChunkPlace, LabelView, SeriesBatch};
pub use set::{BlockSet, Chosen};
