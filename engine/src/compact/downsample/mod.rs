//! Downsampling: samples of each window of five minutes or an hour become their count, sum, minimum,
//! maximum and counter.

/// Which blocks are downsampled.
pub mod plan;
