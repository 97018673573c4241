//! What the benches work on.

/// Indexes of a fleet of pods.
pub mod fleet;
/// Scraped samples.
pub mod scrapes;
/// Write requests of a fleet.
pub mod writes;
