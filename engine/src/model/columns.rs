//! Samples as columns: what chunk decoders append to and encoders read from.

use super::histogram::{FloatHistogram, Histogram};

/// Float samples: two columns of one length, in time order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatColumns {
    /// Unix milliseconds.
    pub timestamps: Vec<i64>,
    /// Values, stale markers among them.
    pub values: Vec<f64>,
}

/// Integer native histograms: columns of one length, in time order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramColumns {
    /// Unix milliseconds.
    pub timestamps: Vec<i64>,
    /// Histograms.
    pub values: Vec<Histogram>,
}

/// Float native histograms: columns of one length, in time order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogramColumns {
    /// Unix milliseconds.
    pub timestamps: Vec<i64>,
    /// Histograms.
    pub values: Vec<FloatHistogram>,
}

impl FloatColumns {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Appends one sample.
    pub fn push(&mut self, timestamp: i64, value: f64) {
        self.timestamps.push(timestamp);
        self.values.push(value);
    }

    /// Removes all samples and keeps the room.
    pub fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
    }
}
