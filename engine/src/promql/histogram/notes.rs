//! What is noteworthy about a computation: which annotations a query gets for it.

use super::super::annotations::{Annotation, HistogramOperation};

/// One annotation, without its metric name and position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Note {
    /// Exponential and custom buckets met: there is no result.
    MixedExponentialCustom,
    /// A gauge histogram under a function of counters.
    NotCounter,
    /// A counter histogram under a function of gauges.
    NotGauge,
    /// Custom bounds differed and were reconciled by an addition.
    ReconciledByAddition,
    /// Custom bounds differed and were reconciled by a subtraction.
    ReconciledBySubtraction,
    /// Custom bounds differed and were reconciled by an aggregation.
    ReconciledByAggregation,
    /// Of the aggregated histograms one had a counter reset before it and another had none.
    CounterResetCollision,
    /// A sample's start lies before the sample before it.
    StartOverlap,
    /// NaN observations make a quantile NaN.
    QuantileIsNan,
    /// NaN observations move a quantile up.
    QuantileIsSkewed,
    /// NaN observations are in no fraction.
    NansInNoFraction,
}

/// A set of notes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    bits: u16,
}

impl Note {
    /// The annotation, for a series of `metric` in an expression at `position`.
    pub fn at(self, metric: &str, position: usize) -> Annotation {
        let reconciled = |operation| Annotation::mismatched_custom_buckets(operation, position);
        match self {
            Self::MixedExponentialCustom => Annotation::mixed_exponential_custom(metric, position),
            Self::NotCounter => Annotation::native_histogram_not_counter(metric, position),
            Self::NotGauge => Annotation::native_histogram_not_gauge(metric, position),
            Self::ReconciledByAddition => reconciled(HistogramOperation::Addition),
            Self::ReconciledBySubtraction => reconciled(HistogramOperation::Subtraction),
            Self::ReconciledByAggregation => reconciled(HistogramOperation::Aggregation),
            Self::CounterResetCollision => {
                Annotation::counter_reset_collision(HistogramOperation::Aggregation, position)
            }
            Self::StartOverlap => Annotation::start_time_overlap(metric, position),
            Self::QuantileIsNan => Annotation::native_histogram_quantile_nan_result(metric, position),
            Self::QuantileIsSkewed => Annotation::native_histogram_quantile_nan_skew(metric, position),
            Self::NansInNoFraction => Annotation::native_histogram_fraction_nans(metric, position),
        }
    }

    const ALL: [Self; 11] = [
        Self::MixedExponentialCustom,
        Self::NotCounter,
        Self::NotGauge,
        Self::ReconciledByAddition,
        Self::ReconciledBySubtraction,
        Self::ReconciledByAggregation,
        Self::CounterResetCollision,
        Self::StartOverlap,
        Self::QuantileIsNan,
        Self::QuantileIsSkewed,
        Self::NansInNoFraction,
    ];
}

impl Notes {
    /// Adds `note`.
    pub fn add(&mut self, note: Note) {
        self.bits |= 1 << note as u16;
    }

    /// Forgets all but `note`.
    pub fn only(&mut self, note: Note) {
        self.bits = 1 << note as u16;
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Self) {
        self.bits |= other.bits;
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// All that were added, each once.
    pub fn iter(self) -> impl Iterator<Item = Note> {
        Note::ALL.into_iter().filter(move |note| self.bits & (1 << *note as u16) != 0)
    }
}
