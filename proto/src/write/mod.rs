//! Remote write, both versions, read in one pass from the request's bytes: nothing is copied, and
//! what has a lying length is an error that names its offset.
//!
//! ```text
//! v1  prometheus.WriteRequest
//!     0x0a length TimeSeries …            0x1a length MetricMetadata …
//!     TimeSeries  0x0a Label … 0x12 Sample … 0x1a Exemplar … 0x22 Histogram …
//! v2  io.prometheus.write.v2.Request
//!     0x22 length symbol …                0x2a length TimeSeries …
//!     TimeSeries  0x0a refs 0x12 Sample … 0x1a Histogram … 0x22 Exemplar … 0x2a Metadata
//! ```
//!
//! What is found goes to a [`Sink`], series by series. Labels come as bytes in the order of the
//! request: whether they are sorted, unique and UTF-8 is for the sink to say. The labels of a series
//! come before all else of it, as every sender writes fields in the order of their numbers.

mod cursor;
mod encode;
mod forward;
mod histogram;
mod v1;
mod v2;

use std::fmt;
use std::ops::Range;

pub use encode::{put_double, put_label, put_message, put_sample, put_text};
pub use forward::{TenantSeries, scan_forwarded};
pub use histogram::{Buckets, Count, Histogram, ResetHint, put_histogram};
pub use v1::scan as scan_v1;
pub use v2::{REFS_MAX, scan as scan_v2};

/// Bytes that are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Where, in bytes from the start of the request.
    pub offset: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed write request at byte {}: {}", self.offset, self.reason)
    }
}

impl std::error::Error for Malformed {}

/// A float sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Unix milliseconds.
    pub time: i64,
    /// Its value; NaNs keep their bits.
    pub value: f64,
    /// Unix milliseconds at which counting began; 0 when not given.
    pub start: i64,
}

/// An exemplar without its labels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Exemplar {
    /// Unix milliseconds.
    pub time: i64,
    /// Its value.
    pub value: f64,
}

/// Names and values in the order of the request.
pub type LabelPairs<'a> = [(&'a [u8], &'a [u8])];

/// The labels of a series as they lie in a request of version 1: consecutive `labels` fields, each of
/// a name and then a value, with lengths that take no byte too many.
///
/// ```text
/// ( 0x0a length { 0x0a length name 0x12 length value } ) …
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelRun<'a> {
    /// Where, in bytes from the start of the request.
    pub offset: usize,
    /// The fields.
    pub bytes: &'a [u8],
}

/// What a metric is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata<'a> {
    /// The kind of metric: 0 unknown, 1 counter, 2 gauge, 3 histogram, 4 gauge histogram,
    /// 5 summary, 6 info, 7 state set; both versions number them alike.
    pub kind: u8,
    /// The metric family, of version 1; empty in version 2, where the series before is meant.
    pub family: &'a [u8],
    /// One sentence.
    pub help: &'a [u8],
    /// Its unit.
    pub unit: &'a [u8],
}

/// Most labels of a series: of one with more, as many and one more are told, which says so; the others are looked at
/// and left out.
pub const LABELS_MAX: usize = 10_000;

/// The same of an exemplar, whose labels may have as many characters in all.
pub const EXEMPLAR_LABELS_MAX: usize = 128;

/// What of a request of version 2 refers to symbols that there are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The next series.
    Series,
    /// An exemplar of the current series.
    Exemplar,
    /// What the metric of the current series is.
    Metadata,
}

/// Takes what a request holds, in the order in which it is written.
pub trait Sink<'a> {
    /// Reading takes `bytes` beside what is told, until they are given back: whether there is room for them. What
    /// they were for is left out where there is none.
    fn take_room(&mut self, _bytes: usize) -> bool {
        true
    }
    /// Bytes of [`Sink::take_room`] are not needed any more.
    fn give_room(&mut self, _bytes: usize) {}
    /// The next series is this field of the request, from its key on; told of version 1.
    #[inline]
    fn series_field(&mut self, _field: Range<usize>) {}
    /// The next series begins, and behind these bytes it has one sample and nothing else. They are presumed
    /// to be its labels in that form, but were not read: a sink that takes them without having met the same
    /// bytes before has to find out. A sink that does says true; for others they are read.
    #[inline]
    fn presumed_labels(&mut self, _run: LabelRun<'a>) -> bool {
        false
    }
    /// The next series begins, and its labels lie in that form. A sink for which that is enough says
    /// true; for others they come to [`Sink::series`].
    #[inline]
    fn label_run(&mut self, _run: LabelRun<'a>) -> bool {
        false
    }
    /// The next series begins; of more labels than [`LABELS_MAX`], the first.
    fn series(&mut self, labels: &LabelPairs<'a>);
    /// Something comes that refers to no symbol, or to a name without a value. It is left out, a series with
    /// all that it holds, and what comes after it can be read.
    fn unresolved(&mut self, _what: Unresolved) {}
    /// A float sample of the series.
    fn sample(&mut self, sample: Sample);
    /// A native histogram of the series.
    fn histogram(&mut self, histogram: Histogram);
    /// An exemplar of the series; of more labels than [`EXEMPLAR_LABELS_MAX`], the first.
    fn exemplar(&mut self, labels: &LabelPairs<'a>, exemplar: Exemplar);
    /// What a metric is: between series in version 1, within one in version 2.
    fn metadata(&mut self, metadata: Metadata<'a>);
}

#[cfg(test)]
mod tests;
