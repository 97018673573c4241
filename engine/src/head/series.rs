//! What a head knows of one series: the line that appends touch, and the rest.

use std::sync::{Arc, LazyLock};

use super::hash::{SeriesCheck, SeriesHash};
use super::native::{self, OpenNative};
use super::out_of_order::OutOfOrder;
use crate::chunk::Encoding;
use crate::chunk::xor::{self, Tail};
use crate::model::histogram::{FloatHistogram, Histogram};
use crate::model::value::stale_nan;
use crate::model::{FloatColumns, HistogramValue};

/// The last sample of the series is a float.
pub(super) const FLOAT: u8 = 0;
/// The last sample of the series is a histogram.
pub(super) const NATIVE: u8 = 1;

/// What an append touches of a series: one cache line, and the end of the data.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
pub(super) struct Line {
    /// The open chunk of floats and the last sample of whatever kind.
    pub tail: Tail,
    /// The open chunk's data; empty without one.
    pub data: Vec<u8>,
    /// When the open chunk is to end, in Unix milliseconds.
    pub next_at: i64,
}

/// A stale marker among histograms of integers.
static STALE_INTEGERS: LazyLock<HistogramValue> =
    LazyLock::new(|| HistogramValue::Integer(Box::new(Histogram { sum: stale_nan(), ..Histogram::default() })));

/// A stale marker among histograms of floats.
static STALE_FLOATS: LazyLock<HistogramValue> =
    LazyLock::new(|| HistogramValue::Float(Box::new(FloatHistogram { sum: stale_nan(), ..FloatHistogram::default() })));

const _: () = assert!(size_of::<Line>() == 64, "a line is one cache line");

/// What a series is known by.
pub(super) type Key = (SeriesHash, SeriesCheck);

/// What else is known of a series.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    /// Where its labels start.
    pub labels_at: u32,
    /// Number of its labels.
    pub labels: u16,
    /// Ended chunks in the order of time.
    pub closed: Vec<Closed>,
    /// The open chunk of histograms.
    pub native: Option<Box<OpenNative>>,
    /// Samples that came late.
    pub out_of_order: Option<Box<OutOfOrder>>,
}

/// A chunk that has ended.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Unix milliseconds of the first sample.
    pub min_time: i64,
    /// Unix milliseconds of the last sample.
    pub max_time: i64,
    /// How `data` is encoded.
    pub encoding: Encoding,
    /// The chunk's data.
    pub data: Arc<[u8]>,
}

impl Line {
    /// The open chunk of floats; `None` without one.
    pub(super) fn open_chunk(&self) -> Option<Closed> {
        if self.tail.count() == 0 {
            return None;
        }
        let mut data: Arc<[u8]> = Arc::from(self.data.as_slice());
        if let Some(data) = Arc::get_mut(&mut data) {
            self.tail.write_count(data);
        }
        Some(Closed {
            min_time: Tail::first_time(&self.data),
            max_time: self.tail.last_time(),
            encoding: Encoding::Xor,
            data,
        })
    }
}

impl Meta {
    /// Whether the last sample is a float of this value. After a restart only its chunk may know.
    #[cold]
    pub(super) fn ends_with_float(&self, line: &Line, value: f64) -> bool {
        let last = match self.last_closed(line) {
            Some(chunk) => {
                let mut columns = FloatColumns::default();
                // A head's own chunk can be decoded.
                let _ = xor::decode(&chunk.data, &mut columns);
                columns.values.last().map(|value| value.to_bits())
            }
            None => Some(line.tail.last_bits()),
        };
        last == Some(value.to_bits())
    }

    /// Whether the last sample is a histogram that `is_it` accepts.
    #[cold]
    pub(super) fn ends_with_native(&self, line: &Line, is_it: impl Fn(&HistogramValue) -> bool) -> bool {
        match (&self.native, self.last_closed(line)) {
            (Some(open), _) => is_it(open.last()),
            (None, Some(chunk)) => {
                let mut values = Vec::new();
                native::decode(chunk, &mut values);
                values.last().is_some_and(|(_, value)| is_it(value))
            }
            (None, None) => false,
        }
    }

    /// The stale marker that ends a series of histograms: of the kind of its last one, so that it goes
    /// into the same chunk.
    pub(super) fn stale_native(&self, line: &Line) -> &'static HistogramValue {
        let is_float = match (&self.native, self.last_closed(line)) {
            (Some(open), _) => matches!(open.last(), HistogramValue::Float(_)),
            (None, Some(chunk)) => chunk.encoding == Encoding::FloatHistogram,
            (None, None) => false,
        };
        if is_float { &STALE_FLOATS } else { &STALE_INTEGERS }
    }

    /// The ended chunk that the last sample is in, if no open one holds it.
    fn last_closed(&self, line: &Line) -> Option<&Closed> {
        let is_open = line.tail.count() > 0 || self.native.is_some();
        self.closed.last().filter(|chunk| !is_open && chunk.max_time == line.tail.last_time())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let closed: usize = self.closed.iter().map(|chunk| chunk.data.len() + 16).sum();
        closed
            + self.closed.capacity() * size_of::<Closed>()
            + self.native.as_ref().map_or(0, |native| native.heap_bytes())
            + self.out_of_order.as_ref().map_or(0, |late| late.heap_bytes())
    }
}
