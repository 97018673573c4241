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
/// Segment files: chunks behind each other, each with a checksum.
pub mod segment;
/// Float samples.
pub mod xor;

pub use encoding::Encoding;

#[cfg(test)]
mod tests;
