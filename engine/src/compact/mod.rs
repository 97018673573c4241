//! Better blocks: which blocks are merged, downsampled or deleted, and doing it.
//!
//! Decisions are pure functions of what meta.json and the markers say, and are those of Thanos. Jobs
//! read source blocks piece by piece from wherever they lie and write a block into a local folder; both
//! cut the series into slices, on which several threads work.

mod aggregates;
/// How much is left to do.
pub mod backlog;
/// Raw data to five minutes to an hour.
pub mod downsample;
mod fetch;
/// Blocks that belong together.
pub mod group;
/// Several blocks to one.
pub mod merge;
mod output;
mod pipeline;
/// Which blocks are merged next.
pub mod plan;
/// How long blocks are kept.
pub mod retention;
mod slice;
/// Blocks that are read from.
pub mod source;
mod verify;
/// Looking at a job from outside.
pub mod watch;
mod workers;

pub use downsample::{DownsampleOptions, downsample};
pub use merge::{MergeOptions, Merged, Repair, Replicas, merge, repair};
pub use output::{JobStats, Target, Written};
pub use source::SourceBlock;
pub use verify::{settle_written, verify_written};
pub use watch::{Progress, Unwatched, Watch};
pub use workers::{LANE_UNITS_MAX, Lane, LaneWork, Workers, run_in_background};
