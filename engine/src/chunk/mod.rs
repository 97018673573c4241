//! Chunks: runs of one series' samples, compressed; and the segment files that hold them.
//!
//! A chunk is an [`Encoding`] and data. *Data* is always what lies between the encoding byte and the
//! checksum in a segment, which is also what StoreAPI calls `data`.

/// Thanos' downsampled data.
pub mod aggr;
/// The byte that says how a chunk's data is encoded.
pub mod encoding;
/// Float native histograms.
pub mod float_histogram;
/// Integer native histograms.
pub mod histogram;
/// What both kinds of native histograms have in common.
pub mod native;
mod reencode;
/// Samples of any kind: decoded, and encoded again as Prometheus does when it merges.
pub mod samples;
/// Segment files: chunks behind each other, each with a checksum.
pub mod segment;
/// Start timestamps, behind each sample of the encodings that have them.
pub mod start;
/// Float samples.
pub mod xor;
/// Float samples with start timestamps.
pub mod xor2;

pub use encoding::Encoding;
pub use reencode::reencode_for_storeapi;

#[cfg(test)]
mod tests;
