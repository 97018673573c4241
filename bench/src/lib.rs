//! What the benches work on.

/// Blocks on disk.
pub mod blocks;
/// Indexes of a fleet of pods.
pub mod fleet;
/// Folders for files.
pub mod folder;
/// Frames of answers.
pub mod frames;
/// Requests for series.
pub mod questions;
/// Scraped samples.
pub mod scrapes;
/// Write requests of a fleet.
pub mod writes;

/// Part of its size at which a bench runs when it is only to be tried.
const TRIED_PART: usize = 50;

/// `full`, or little of it when the bench is only tried, with `--test`.
pub fn sized(full: usize) -> usize {
    if std::env::args().any(|word| word == "--test") { (full / TRIED_PART).max(1) } else { full }
}
