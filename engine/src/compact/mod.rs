//! Better blocks: which blocks are merged, downsampled or deleted, and doing it.
//!
//! Decisions are pure functions of what meta.json and the markers say, and are those of Thanos.

/// How much is left to do.
pub mod backlog;
/// What is hidden, marked or deleted.
pub mod clean;
/// Raw data to five minutes to an hour.
pub mod downsample;
/// Blocks that belong together.
pub mod group;
/// Which blocks are merged next.
pub mod plan;
/// How long blocks are kept.
pub mod retention;
