//! An open chunk of native histograms, of either kind.

use std::sync::Arc;

use super::series::Closed;
use crate::chunk::native::Appender;
use crate::chunk::{Encoding, float_histogram, histogram};
use crate::model::{CounterReset, FloatHistogramColumns, HistogramColumns, HistogramValue};

/// Bytes from which a chunk takes no more, so that a snapshot's frame holds any: a histogram may come with millions
/// of buckets.
const CHUNK_BYTES_MAX: usize = 16 << 20;

/// A chunk of histograms that grows.
#[derive(Clone, Debug)]
pub(super) struct OpenNative {
    appender: Kind,
    last: HistogramValue,
    /// Unix milliseconds of the first histogram.
    pub min_time: i64,
    /// Whether its end was foretold from how full it was.
    pub end_is_computed: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Integer(histogram::Appender),
    Float(float_histogram::Appender),
}

impl OpenNative {
    pub(super) fn new(time: i64, value: &HistogramValue) -> Self {
        let appender = match value {
            HistogramValue::Integer(value) => {
                let mut appender = histogram::Appender::default();
                appender.append(time, value);
                Kind::Integer(appender)
            }
            HistogramValue::Float(value) => {
                let mut appender = float_histogram::Appender::default();
                appender.append(time, value);
                Kind::Float(appender)
            }
        };
        Self { appender, last: value.clone(), min_time: time, end_is_computed: false }
    }

    pub(super) fn is_of_kind(&self, value: &HistogramValue) -> bool {
        matches!(
            (&self.appender, value),
            (Kind::Integer(_), HistogramValue::Integer(_)) | (Kind::Float(_), HistogramValue::Float(_))
        )
    }

    /// The histogram appended last.
    pub(super) fn last(&self) -> &HistogramValue {
        &self.last
    }

    pub(super) fn last_time(&self) -> i64 {
        match &self.appender {
            Kind::Integer(appender) => appender.last_time(),
            Kind::Float(appender) => appender.last_time(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.appender {
            Kind::Integer(appender) => appender.len(),
            Kind::Float(appender) => appender.len(),
        }
    }

    pub(super) fn data(&self) -> &[u8] {
        match &self.appender {
            Kind::Integer(appender) => appender.data(),
            Kind::Float(appender) => appender.data(),
        }
    }

    /// Appends a histogram of the same kind; when it doesn't go into the chunk, or that is full, it starts
    /// another, and the finished one is given back.
    pub(super) fn append(&mut self, time: i64, value: &HistogramValue) -> Option<Closed> {
        if self.data().len() >= CHUNK_BYTES_MAX {
            return Some(self.cut(time, value));
        }
        let before = self.times();
        let finished = match (&mut self.appender, value) {
            (Kind::Integer(appender), HistogramValue::Integer(value)) => appender.append(time, value),
            (Kind::Float(appender), HistogramValue::Float(value)) => appender.append(time, value),
            _ => None,
        };
        self.last = value.clone();
        finished.map(|data| self.finished(time, before, data))
    }

    /// Ends the chunk and starts another with a histogram of the same kind.
    pub(super) fn cut(&mut self, time: i64, value: &HistogramValue) -> Closed {
        let before = self.times();
        let next = match (&self.appender, value) {
            (Kind::Integer(appender), HistogramValue::Integer(value)) => {
                Kind::Integer(Appender::after(appender, time, value))
            }
            (Kind::Float(appender), HistogramValue::Float(value)) => {
                Kind::Float(Appender::after(appender, time, value))
            }
            _ => Self::new(time, value).appender,
        };
        let data = match std::mem::replace(&mut self.appender, next) {
            Kind::Integer(appender) => appender.into_data(),
            Kind::Float(appender) => appender.into_data(),
        };
        self.last = value.clone();
        self.finished(time, before, data)
    }

    pub(super) fn to_chunk(&self) -> Closed {
        self.chunk(self.times(), Arc::from(self.data()))
    }

    pub(super) fn into_chunk(self) -> Closed {
        self.to_chunk()
    }

    /// The open chunk that `chunk` was, so that appends go on in it; `None` when it can't be decoded
    /// or is empty.
    pub(super) fn resume(chunk: &Closed) -> Option<Self> {
        let (appender, last) = match chunk.encoding {
            Encoding::Histogram => {
                let mut columns = HistogramColumns::default();
                histogram::decode(&chunk.data, &mut columns).ok()?;
                let last = HistogramValue::Integer(Box::new(columns.values.pop()?));
                (Kind::Integer(histogram::Appender::resume(&chunk.data).ok()?), last)
            }
            Encoding::FloatHistogram => {
                let mut columns = FloatHistogramColumns::default();
                float_histogram::decode(&chunk.data, &mut columns).ok()?;
                let last = HistogramValue::Float(Box::new(columns.values.pop()?));
                (Kind::Float(float_histogram::Appender::resume(&chunk.data).ok()?), last)
            }
            _ => return None,
        };
        Some(Self { appender, last, min_time: chunk.min_time, end_is_computed: false })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + 3 * self.data().len()
    }

    fn times(&self) -> (i64, i64) {
        (self.min_time, self.last_time())
    }

    fn finished(&mut self, time: i64, times: (i64, i64), data: Vec<u8>) -> Closed {
        self.min_time = time;
        self.end_is_computed = false;
        self.chunk(times, Arc::from(data))
    }

    fn chunk(&self, (min_time, max_time): (i64, i64), data: Arc<[u8]>) -> Closed {
        let encoding = match &self.appender {
            Kind::Integer(_) => Encoding::Histogram,
            Kind::Float(_) => Encoding::FloatHistogram,
        };
        Closed { min_time, max_time, encoding, data }
    }
}

/// Histograms as chunks, in order; what is known of resets at the start of each comes from the one
/// before.
pub(super) fn encode<'a>(values: impl IntoIterator<Item = (i64, &'a HistogramValue)>, chunks: &mut Vec<Closed>) {
    let mut open: Option<OpenNative> = None;
    for (time, value) in values {
        open = match open {
            Some(mut native) if native.is_of_kind(value) => {
                chunks.extend(native.append(time, value));
                Some(native)
            }
            other => {
                chunks.extend(other.map(OpenNative::into_chunk));
                Some(OpenNative::new(time, value))
            }
        };
    }
    chunks.extend(open.map(OpenNative::into_chunk));
}

/// Appends the histograms of the chunk `data`, its own guesses about resets forgotten as they were
/// made among other samples.
pub(super) fn decode(chunk: &Closed, values: &mut Vec<(i64, HistogramValue)>) {
    let forget = |known: &mut CounterReset| {
        if *known != CounterReset::Gauge {
            *known = CounterReset::Unknown;
        }
    };
    match chunk.encoding {
        Encoding::Histogram => {
            let mut columns = HistogramColumns::default();
            // A head's own chunk can be decoded.
            let _ = histogram::decode(&chunk.data, &mut columns);
            for (time, mut value) in columns.timestamps.into_iter().zip(columns.values) {
                forget(&mut value.counter_reset);
                values.push((time, HistogramValue::Integer(Box::new(value))));
            }
        }
        Encoding::FloatHistogram => {
            let mut columns = FloatHistogramColumns::default();
            let _ = float_histogram::decode(&chunk.data, &mut columns);
            for (time, mut value) in columns.timestamps.into_iter().zip(columns.values) {
                forget(&mut value.counter_reset);
                values.push((time, HistogramValue::Float(Box::new(value))));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FloatHistogram, Span};

    #[test]
    fn a_chunk_of_large_histograms_ends_before_it_is_larger_than_a_frame() {
        let buckets = 500_000;
        let histogram = |seed: u32| {
            let counts = (0..buckets).map(|at: u32| f64::from((at ^ seed).wrapping_mul(0x9e37_79b9))).collect();
            HistogramValue::Float(Box::new(FloatHistogram {
                counter_reset: CounterReset::Gauge,
                positive_spans: vec![Span { offset: 0, length: buckets }],
                positive_buckets: counts,
                ..FloatHistogram::default()
            }))
        };
        let values: Vec<_> = (0..8).map(|at| (i64::from(at), histogram(at))).collect();
        let mut chunks = Vec::new();
        encode(values.iter().map(|(time, value)| (*time, value)), &mut chunks);
        assert!(chunks.len() > 1);
        for chunk in &chunks {
            assert!(chunk.data.len() < 2 * CHUNK_BYTES_MAX, "{}", chunk.data.len());
        }
        let mut decoded = Vec::new();
        chunks.iter().for_each(|chunk| super::decode(chunk, &mut decoded));
        assert_eq!(decoded, values);
    }
}
