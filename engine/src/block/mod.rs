//! Blocks: what was deleted from them, writing them, verifying them.

/// Deleted ranges.
pub mod tombstones;
