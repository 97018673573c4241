//! Making one series of several replicas of it.
//!
//! Replicas are time columns; the result is a list of [`Pick`]s, so that floats and histograms
//! travel through the same code and nothing is copied before it is chosen.

/// Samples of all replicas in time order, each timestamp once.
pub mod chain;
/// Penalty over the overlapping chunks of one series.
pub mod fold;
/// A heap whose entries move as in Go's.
pub(crate) mod heap;
/// Overlapping chunks of one series set apart into replicas.
pub mod overlap;
/// One replica at a time, switching only over gaps.
pub mod penalty;

/// One sample of one replica's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Which replica, by its place in the list of replicas.
    pub replica: u32,
    /// Which of its samples.
    pub sample: u32,
}
