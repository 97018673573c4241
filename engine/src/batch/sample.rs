//! Sample batches: many series, each with its own timestamps, in a few columns.
//!
//! ```text
//! series            0           1      2
//! float_ends        5           7      7
//! floats       t t t t t | t t |          timestamps and values
//! histogram_ends    0       0      3
//! histograms                     t t t    timestamps and histograms
//! ```

use std::sync::Arc;

use super::step::{histogram_bytes, histogram_samples};
use crate::model::{FloatColumns, FloatHistogram, Labels};

/// Native histograms of several series, one after the other.
#[derive(Clone, Debug, Default)]
pub struct HistogramPoints {
    /// Unix milliseconds.
    pub timestamps: Vec<i64>,
    /// Histograms, stale ones (by their sum) among them.
    pub values: Vec<Arc<FloatHistogram>>,
}

/// What the counts of a native histogram were where it was stored; in a batch they are floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountKind {
    /// Integers.
    Integers,
    /// Floats, or what was computed of integers.
    Floats,
}

/// Many series with their stored samples. Sources append the samples of one series to `floats`
/// and `histograms`, then call [`SampleBatch::finish_series`].
#[derive(Clone, Debug, Default)]
pub struct SampleBatch {
    /// Labels of each series.
    pub labels: Vec<Arc<Labels>>,
    /// Float samples of all series; stale markers among them.
    pub floats: FloatColumns,
    /// Start timestamps of the float samples: as long as `floats`, or empty when none is known.
    pub float_starts: Vec<i64>,
    /// Histogram samples of all series.
    pub histograms: HistogramPoints,
    /// Start timestamps of the histograms: as long as `histograms`, or empty.
    pub histogram_starts: Vec<i64>,
    /// What the counts of the histograms were: as long as `histograms`, or empty.
    pub histogram_kinds: Vec<CountKind>,
    float_ends: Vec<usize>,
    histogram_ends: Vec<usize>,
}

/// The samples of one series of a batch.
#[derive(Clone, Copy, Debug)]
pub struct SeriesSamples<'a> {
    /// Labels.
    pub labels: &'a Arc<Labels>,
    /// Unix milliseconds of the float samples, ascending.
    pub timestamps: &'a [i64],
    /// Float samples.
    pub values: &'a [f64],
    /// Start timestamps of the float samples, or empty.
    pub starts: &'a [i64],
    /// Unix milliseconds of the histograms, ascending.
    pub histogram_timestamps: &'a [i64],
    /// Histograms.
    pub histograms: &'a [Arc<FloatHistogram>],
    /// Start timestamps of the histograms, or empty.
    pub histogram_starts: &'a [i64],
    /// What the counts of the histograms were, or empty.
    pub histogram_kinds: &'a [CountKind],
}

impl SampleBatch {
    /// Number of finished series.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether no series is finished.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of samples of all finished series, a histogram counted as one.
    pub fn samples(&self) -> usize {
        let last = |ends: &[usize]| ends.last().copied().unwrap_or(0);
        last(&self.float_ends) + last(&self.histogram_ends)
    }

    /// Samples of all finished series as the budget of a query counts them: a histogram as many as floats with their
    /// times have its size.
    pub fn weight(&self) -> usize {
        self.iter().map(|series| series.weight()).sum()
    }

    /// Bytes that the batch occupies; labels that series share count for each.
    pub fn heap_bytes(&self) -> usize {
        let labels = self.labels.iter().map(|labels| size_of::<Labels>() + labels.heap_bytes()).sum::<usize>();
        let histograms = self.histograms.values.iter().map(|histogram| histogram_bytes(histogram)).sum::<usize>();
        let columns = 2 * self.floats.len() + self.float_starts.len() + 2 * self.histograms.timestamps.len();
        let kinds = size_of_val(self.histogram_kinds.as_slice());
        labels + histograms + kinds + 8 * (columns + self.histogram_starts.len() + 3 * self.len())
    }

    /// Ends the series whose samples were appended since the last call.
    pub fn finish_series(&mut self, labels: Arc<Labels>) {
        self.labels.push(labels);
        self.float_ends.push(self.floats.len());
        self.histogram_ends.push(self.histograms.timestamps.len());
    }

    /// Ends a series of floats alone, which lie in the float columns up to `end`; the columns may be
    /// longer.
    pub fn finish_floats(&mut self, labels: Arc<Labels>, end: usize) {
        self.labels.push(labels);
        self.float_ends.push(end);
        self.histogram_ends.push(self.histograms.timestamps.len());
    }

    /// Removes all series and keeps the room.
    pub fn clear(&mut self) {
        self.labels.clear();
        self.floats.clear();
        self.float_starts.clear();
        self.histograms.timestamps.clear();
        self.histograms.values.clear();
        self.histogram_starts.clear();
        self.histogram_kinds.clear();
        self.float_ends.clear();
        self.histogram_ends.clear();
    }

    /// The samples of series `at`.
    pub fn series(&self, at: usize) -> SeriesSamples<'_> {
        let floats = range(&self.float_ends, at);
        let histograms = range(&self.histogram_ends, at);
        SeriesSamples {
            labels: &self.labels[at],
            timestamps: &self.floats.timestamps[floats.clone()],
            values: &self.floats.values[floats.clone()],
            starts: self.float_starts.get(floats).unwrap_or(&[]),
            histogram_timestamps: &self.histograms.timestamps[histograms.clone()],
            histograms: &self.histograms.values[histograms.clone()],
            histogram_starts: self.histogram_starts.get(histograms.clone()).unwrap_or(&[]),
            histogram_kinds: self.histogram_kinds.get(histograms).unwrap_or(&[]),
        }
    }

    /// All series in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = SeriesSamples<'_>> {
        (0..self.len()).map(|at| self.series(at))
    }
}

impl SeriesSamples<'_> {
    /// Samples as the budget of a query counts them: a histogram as many as floats with their times have its size.
    pub fn weight(&self) -> usize {
        let native = self.histograms.iter().map(|histogram| histogram_samples(histogram));
        self.values.len() + native.sum::<usize>()
    }

    /// Bytes that the series occupies in its batch.
    pub fn heap_bytes(&self) -> usize {
        let histograms = self.histograms.iter().map(|histogram| histogram_bytes(histogram)).sum::<usize>();
        let columns = 2 * self.values.len() + self.starts.len() + 2 * self.histograms.len();
        let kinds = size_of_val(self.histogram_kinds);
        let labels = size_of::<Labels>() + self.labels.heap_bytes();
        labels + histograms + kinds + 8 * (columns + self.histogram_starts.len() + 3)
    }
}

fn range(ends: &[usize], at: usize) -> std::ops::Range<usize> {
    let start = if at == 0 { 0 } else { ends[at - 1] };
    start..ends[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_weighs_and_occupies_what_its_series_do() {
        let mut batch = SampleBatch::default();
        (0..3).for_each(|at| batch.floats.push(at, 1.0));
        batch.float_starts.extend([0; 3]);
        batch.finish_series(Arc::new(Labels::from_pairs([("__name__", "f")])));
        for at in 0..2 {
            batch.histograms.timestamps.push(at);
            let histogram = FloatHistogram { positive_buckets: vec![1.0; 25], ..FloatHistogram::default() };
            batch.histograms.values.push(Arc::new(histogram));
            batch.histogram_starts.push(0);
            batch.histogram_kinds.push(CountKind::Floats);
        }
        batch.finish_series(Arc::new(Labels::from_pairs([("__name__", "h")])));
        // 168 bytes and 25 counts are 23 floats with their times.
        assert_eq!((batch.samples(), batch.weight()), (5, 3 + 2 * 23));
        assert_eq!(batch.heap_bytes(), batch.iter().map(|series| series.heap_bytes()).sum::<usize>());
    }
}
