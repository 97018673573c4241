//! What PromQL computes from histograms, as pure functions: quantiles and fractions of classic and
//! native ones, and rates, sums and means of the native ones of a window.

/// Classic histograms: cumulative counts by upper bound.
pub mod classic;
mod extended;
/// Quantiles, fractions and variances of one native histogram.
pub mod native;
mod notes;
mod rate;
mod window;

pub use extended::{Boundary, ExtendedRange, interpolate};
pub use notes::{Note, Notes};
pub use rate::{RateRange, SeriesRates, is_start_reset, starts_overlap};
pub use window::{HistogramSample, avg, instant, sum};

/// What is made of the difference between the histograms of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Increase of a counter per second.
    Rate,
    /// Increase of a counter.
    Increase,
    /// Difference of a gauge.
    Delta,
}

impl Difference {
    /// Whether resets are made up for.
    pub fn is_counter(self) -> bool {
        self != Self::Delta
    }
}
