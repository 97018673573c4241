//! Chunks of integer native histograms; see `chunk::native` for what stands in front of the samples.
//!
//! ```text
//! sample 0     time int │ count uint │ zero count uint │ sum f64 BE │ positive buckets int … │ negative int …
//! sample 1…    time int │ count int  │ zero count int  │ sum value  │ positive buckets int … │ negative int …
//! ```
//! From the second sample on each `int` is the difference of differences to the samples before, and
//! `value` is the value field of `chunk::xor`. A bucket is the difference to the bucket before it.

use std::sync::Arc;

use crate::codec::Corrupt;
use crate::codec::bits::{BitReader, BitWriter};
use crate::model::value::is_stale_nan;
use crate::model::{CounterReset, Histogram, HistogramColumns, Span};

use super::native::layout::{Layout, bucket_count};
use super::native::varbit::{put_int, put_uint, read_int, read_uint};
use super::native::xored::Xored;
use super::native::{self, Cause, Fields, Native};

/// A chunk of integer histograms that grows one by one.
pub type Appender = native::Appender<Histogram>;

/// An integer that is coded as the difference of differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tracked {
    value: i64,
    delta: i64,
}

impl Tracked {
    fn put(&mut self, value: i64, writer: &mut BitWriter<'_>) {
        let delta = value.wrapping_sub(self.value);
        put_int(delta.wrapping_sub(self.delta), writer);
        (self.value, self.delta) = (value, delta);
    }

    #[inline]
    fn read(&mut self, reader: &mut BitReader<'_>) {
        self.delta = self.delta.wrapping_add(read_int(reader));
        self.value = self.value.wrapping_add(self.delta);
    }
}

/// What coding of the next sample depends on.
#[derive(Clone, Debug, Default)]
pub struct State {
    time: Tracked,
    count: Tracked,
    zero_count: Tracked,
    sum: Xored,
    /// The positive buckets, then the negative ones.
    buckets: Vec<Tracked>,
    positive_len: usize,
}

/// Appends the samples of the chunk `data` to `columns`; on an error nothing is appended.
pub fn decode(data: &[u8], columns: &mut HistogramColumns) -> Result<(), Corrupt> {
    let start = columns.timestamps.len();
    let decoded = native::decode(data, |time, histogram| {
        columns.timestamps.push(time);
        columns.values.push(histogram);
    });
    if decoded.is_err() {
        columns.timestamps.truncate(start);
        columns.values.truncate(start);
    }
    decoded
}

/// As [`decode`], of a chunk with start timestamps, which are appended to `starts` in Unix
/// milliseconds, 0 where they are not known. Gives what the chunk says of a reset before it.
pub fn decode_with_starts(
    data: &[u8],
    columns: &mut HistogramColumns,
    starts: &mut Vec<i64>,
) -> Result<CounterReset, Corrupt> {
    let lens = (columns.timestamps.len(), starts.len());
    let decoded = native::decode_with_starts(data, |start, time, histogram| {
        starts.push(start);
        columns.timestamps.push(time);
        columns.values.push(histogram);
    });
    if decoded.is_err() {
        columns.timestamps.truncate(lens.0);
        columns.values.truncate(lens.0);
        starts.truncate(lens.1);
    }
    decoded
}

/// Appends to `out` the data of a chunk of histograms of one layout, before which `counter_reset` is
/// known. Histograms of changing layouts go through an [`Appender`].
///
/// # Panics
/// When the columns differ in length or are over [`native::SAMPLES_MAX`].
pub fn encode(columns: &HistogramColumns, counter_reset: CounterReset, out: &mut Vec<u8>) {
    native::encode(&columns.timestamps, &columns.values, counter_reset, out);
}

/// The number of samples of the chunk `data` and what it says of a reset before it.
pub fn header(data: &[u8]) -> Result<(usize, CounterReset), Corrupt> {
    native::header::<Histogram>(data)
}

impl Native for Histogram {
    type Bucket = i64;
    type Count = i64;
    type State = State;
    const WHAT: &'static str = "histogram chunk";
    const BUCKET_BITS_MIN: usize = 1;

    fn fields(&self) -> Fields<'_, i64> {
        Fields {
            counter_reset: self.counter_reset,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            positive: (&self.positive_spans, &self.positive_buckets),
            negative: (&self.negative_spans, &self.negative_buckets),
            custom_values: &self.custom_values,
        }
    }

    fn with_sides(&self, positive: (Vec<Span>, Vec<i64>), negative: (Vec<Span>, Vec<i64>)) -> Self {
        Self {
            positive_spans: positive.0,
            positive_buckets: differences(&positive.1),
            negative_spans: negative.0,
            negative_buckets: differences(&negative.1),
            custom_values: Arc::clone(&self.custom_values),
            ..*self
        }
    }

    fn absolute(buckets: &[i64]) -> Vec<i64> {
        let sums = buckets.iter().scan(0i64, |count, delta| {
            *count = count.wrapping_add(*delta);
            Some(*count)
        });
        sums.collect()
    }

    fn last_counts(state: &State) -> (Vec<i64>, Vec<i64>) {
        let buckets: Vec<i64> = state.buckets.iter().map(|bucket| bucket.value).collect();
        let (positive, negative) = buckets.split_at(state.positive_len);
        (Self::absolute(positive), Self::absolute(negative))
    }

    fn last_sum(state: &State) -> f64 {
        state.sum.value
    }

    fn count_fell(&self, state: &State) -> bool {
        self.count < state.count.value as u64
    }

    fn zero_count_fell(&self, state: &State) -> bool {
        self.zero_count < state.zero_count.value as u64
    }

    fn reset_when_cut(cause: Cause) -> CounterReset {
        Self::reset_after(Some(cause))
    }

    fn reset_after(cause: Option<Cause>) -> CounterReset {
        match cause {
            None | Some(Cause::GaugeBefore) => CounterReset::No,
            Some(Cause::SaidReset | Cause::Reset) => CounterReset::Yes,
            Some(Cause::StaleBefore | Cause::LayoutChange) => CounterReset::Unknown,
        }
    }

    fn put_first(&self, time: i64, state: &mut State, writer: &mut BitWriter<'_>) {
        let stale = is_stale_nan(self.sum);
        let first = |value: i64| Tracked { value, delta: 0 };
        let (count, zero_count) = if stale { (0, 0) } else { (self.count, self.zero_count) };
        put_int(time, writer);
        put_uint(count, writer);
        put_uint(zero_count, writer);
        writer.put_wide(self.sum.to_bits(), 64);
        state.time = first(time);
        state.count = first(count as i64);
        state.zero_count = first(zero_count as i64);
        state.sum = Xored::start(self.sum);
        state.buckets.clear();
        state.positive_len = 0;
        if !stale {
            state.buckets.extend(self.positive_buckets.iter().chain(&self.negative_buckets).copied().map(first));
            state.positive_len = self.positive_buckets.len();
        }
        state.buckets.iter().for_each(|bucket| put_int(bucket.value, writer));
    }

    fn put_next(&self, time: i64, state: &mut State, writer: &mut BitWriter<'_>) {
        state.time.put(time, writer);
        if is_stale_nan(self.sum) {
            writer.put(0, 2);
            return state.sum.put(self.sum, writer);
        }
        state.count.put(self.count as i64, writer);
        state.zero_count.put(self.zero_count as i64, writer);
        state.sum.put(self.sum, writer);
        let buckets = self.positive_buckets.iter().chain(&self.negative_buckets);
        state.buckets.iter_mut().zip(buckets).for_each(|(last, bucket)| last.put(*bucket, writer));
    }

    fn read_first(layout: &Layout, reader: &mut BitReader<'_>) -> State {
        let first = |value: i64| Tracked { value, delta: 0 };
        let positive_len = bucket_count(&layout.positive_spans);
        let len = positive_len + bucket_count(&layout.negative_spans);
        State {
            time: first(read_int(reader)),
            count: first(read_uint(reader) as i64),
            zero_count: first(read_uint(reader) as i64),
            sum: Xored::decoded(f64::from_bits(reader.bits(64))),
            buckets: (0..len).map(|_| first(read_int(reader))).collect(),
            positive_len,
        }
    }

    fn read_next(state: &mut State, reader: &mut BitReader<'_>) {
        state.time.read(reader);
        state.count.read(reader);
        state.zero_count.read(reader);
        state.sum.read(reader);
        if !is_stale_nan(state.sum.value) {
            state.buckets.iter_mut().for_each(|bucket| bucket.read(reader));
        }
    }

    fn last_time(state: &State) -> i64 {
        state.time.value
    }

    fn take(state: &State, layout: &Layout, counter_reset: CounterReset) -> Self {
        let sum = state.sum.value;
        if is_stale_nan(sum) {
            return Self { sum, ..Self::default() };
        }
        let (positive, negative) = state.buckets.split_at(state.positive_len);
        let values = |buckets: &[Tracked]| buckets.iter().map(|bucket| bucket.value).collect();
        Self {
            counter_reset,
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count: state.zero_count.value as u64,
            count: state.count.value as u64,
            sum,
            positive_spans: layout.positive_spans.clone(),
            negative_spans: layout.negative_spans.clone(),
            positive_buckets: values(positive),
            negative_buckets: values(negative),
            custom_values: Arc::clone(&layout.custom_values),
        }
    }
}

/// Counts as the differences between them.
fn differences(counts: &[i64]) -> Vec<i64> {
    let deltas = counts.iter().scan(0i64, |last, count| Some(count.wrapping_sub(std::mem::replace(last, *count))));
    deltas.collect()
}
