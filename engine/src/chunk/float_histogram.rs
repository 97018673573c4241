//! Chunks of float native histograms; see `chunk::native` for what stands in front of the samples.
//!
//! ```text
//! sample 0     time int │ count f64 BE │ zero count f64 BE │ sum f64 BE │ positive f64 BE … │ negative f64 BE …
//! sample 1…    time int │ count value  │ zero count value  │ sum value  │ positive value …  │ negative value …
//! ```
//! From the second sample on `int` is the difference of differences to the timestamps before, and
//! `value` is the value field of `chunk::xor`. Buckets are absolute counts.

use std::sync::Arc;

use crate::codec::Corrupt;
use crate::codec::bits::{BitReader, BitWriter};
use crate::model::value::is_stale_nan;
use crate::model::{CounterReset, FloatHistogram, FloatHistogramColumns, Span};

use super::native::layout::{Layout, bucket_count};
use super::native::varbit::{put_int, read_int};
use super::native::xored::Xored;
use super::native::{self, Cause, Fields, Native};

/// A chunk of float histograms that grows one by one.
pub type Appender = native::Appender<FloatHistogram>;

/// What coding of the next sample depends on.
#[derive(Clone, Debug, Default)]
pub struct State {
    time: i64,
    delta: i64,
    count: Xored,
    zero_count: Xored,
    sum: Xored,
    /// The positive buckets, then the negative ones.
    buckets: Vec<Xored>,
    positive_len: usize,
}

/// Appends the samples of the chunk `data` to `columns`; on an error nothing is appended.
pub fn decode(data: &[u8], columns: &mut FloatHistogramColumns) -> Result<(), Corrupt> {
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
    columns: &mut FloatHistogramColumns,
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
pub fn encode(columns: &FloatHistogramColumns, counter_reset: CounterReset, out: &mut Vec<u8>) {
    native::encode(&columns.timestamps, &columns.values, counter_reset, out);
}

/// The number of samples of the chunk `data` and what it says of a reset before it.
pub fn header(data: &[u8]) -> Result<(usize, CounterReset), Corrupt> {
    native::header::<FloatHistogram>(data)
}

impl Native for FloatHistogram {
    type Bucket = f64;
    type Count = f64;
    type State = State;
    const WHAT: &'static str = "float histogram chunk";
    const BUCKET_BITS_MIN: usize = 64;

    fn fields(&self) -> Fields<'_, f64> {
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

    fn with_sides(&self, positive: (Vec<Span>, Vec<f64>), negative: (Vec<Span>, Vec<f64>)) -> Self {
        Self {
            positive_spans: positive.0,
            positive_buckets: positive.1,
            negative_spans: negative.0,
            negative_buckets: negative.1,
            custom_values: Arc::clone(&self.custom_values),
            ..*self
        }
    }

    fn absolute(buckets: &[f64]) -> Vec<f64> {
        buckets.to_vec()
    }

    fn last_counts(state: &State) -> (Vec<f64>, Vec<f64>) {
        let values = |buckets: &[Xored]| buckets.iter().map(|bucket| bucket.value).collect();
        let (positive, negative) = state.buckets.split_at(state.positive_len);
        (values(positive), values(negative))
    }

    fn last_sum(state: &State) -> f64 {
        state.sum.value
    }

    fn count_fell(&self, state: &State) -> bool {
        self.count < state.count.value
    }

    fn zero_count_fell(&self, state: &State) -> bool {
        self.zero_count < state.zero_count.value
    }

    fn reset_when_cut(cause: Cause) -> CounterReset {
        match cause {
            Cause::SaidReset | Cause::Reset => CounterReset::Yes,
            Cause::GaugeBefore | Cause::StaleBefore | Cause::LayoutChange => CounterReset::Unknown,
        }
    }

    fn reset_after(cause: Option<Cause>) -> CounterReset {
        match cause {
            Some(Cause::SaidReset | Cause::Reset) => CounterReset::Yes,
            _ => CounterReset::No,
        }
    }

    fn put_first(&self, time: i64, state: &mut State, writer: &mut BitWriter<'_>) {
        let stale = is_stale_nan(self.sum);
        let (count, zero_count) = if stale { (0.0, 0.0) } else { (self.count, self.zero_count) };
        state.time = time;
        state.delta = 0;
        state.count = Xored::start(count);
        state.zero_count = Xored::start(zero_count);
        state.sum = Xored::start(self.sum);
        state.buckets.clear();
        state.positive_len = 0;
        if !stale {
            let buckets = self.positive_buckets.iter().chain(&self.negative_buckets);
            state.buckets.extend(buckets.map(|bucket| Xored::start(*bucket)));
            state.positive_len = self.positive_buckets.len();
        }
        put_int(time, writer);
        let fields = [state.count, state.zero_count, state.sum];
        fields.iter().chain(&state.buckets).for_each(|field| writer.put_wide(field.value.to_bits(), 64));
    }

    fn put_next(&self, time: i64, state: &mut State, writer: &mut BitWriter<'_>) {
        let delta = time.wrapping_sub(state.time);
        put_int(delta.wrapping_sub(state.delta), writer);
        (state.time, state.delta) = (time, delta);
        let stale = is_stale_nan(self.sum);
        let (count, zero_count) = if stale { (0.0, 0.0) } else { (self.count, self.zero_count) };
        state.count.put(count, writer);
        state.zero_count.put(zero_count, writer);
        state.sum.put(self.sum, writer);
        if !stale {
            let buckets = self.positive_buckets.iter().chain(&self.negative_buckets);
            state.buckets.iter_mut().zip(buckets).for_each(|(last, bucket)| last.put(*bucket, writer));
        }
    }

    fn read_first(layout: &Layout, reader: &mut BitReader<'_>) -> State {
        let positive_len = bucket_count(&layout.positive_spans);
        let len = positive_len + bucket_count(&layout.negative_spans);
        let time = read_int(reader);
        let first = |reader: &mut BitReader<'_>| Xored::decoded(f64::from_bits(reader.bits(64)));
        State {
            time,
            delta: 0,
            count: first(reader),
            zero_count: first(reader),
            sum: first(reader),
            buckets: (0..len).map(|_| first(reader)).collect(),
            positive_len,
        }
    }

    fn read_next(state: &mut State, reader: &mut BitReader<'_>) {
        state.delta = state.delta.wrapping_add(read_int(reader));
        state.time = state.time.wrapping_add(state.delta);
        state.count.read(reader);
        state.zero_count.read(reader);
        state.sum.read(reader);
        if !is_stale_nan(state.sum.value) {
            state.buckets.iter_mut().for_each(|bucket| bucket.read(reader));
        }
    }

    fn last_time(state: &State) -> i64 {
        state.time
    }

    fn take(state: &State, layout: &Layout, counter_reset: CounterReset) -> Self {
        let sum = state.sum.value;
        if is_stale_nan(sum) {
            return Self { sum, ..Self::default() };
        }
        let (positive, negative) = Self::last_counts(state);
        Self {
            counter_reset,
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count: state.zero_count.value,
            count: state.count.value,
            sum,
            positive_spans: layout.positive_spans.clone(),
            negative_spans: layout.negative_spans.clone(),
            positive_buckets: positive,
            negative_buckets: negative,
            custom_values: Arc::clone(&layout.custom_values),
        }
    }
}
