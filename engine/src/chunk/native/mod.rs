//! Chunks of native histograms, integer and float alike: a layout that all of them share, then one
//! run of fields for each.
//!
//! ```text
//! count u16 BE │ counter reset u8 │ layout │ sample │ sample │ … │ 0 to 7 zeros
//!
//! counter reset   of the highest two bits: 00 unknown, 10 before this chunk, 01 none, 11 gauges
//!
//! with start timestamps:
//! counter reset:2 count:14 │ start header u8 │ layout │ sample │ start │ sample │ start │ … │ 0 to 7 zeros
//! ```
//!
//! A histogram whose sum is the stale marker has neither counts nor buckets; nothing but others of
//! the kind may follow it. How samples look is said in `chunk::histogram` and
//! `chunk::float_histogram`.

mod appender;
/// How one side of a histogram becomes as wide as that of another.
pub mod inserts;
/// What all histograms of a chunk share.
pub mod layout;
/// Integers in buckets of widths.
pub mod varbit;
/// Floats xored with what they were before.
pub mod xored;

use std::fmt::Debug;
use std::sync::Arc;

use crate::codec::Corrupt;
use crate::codec::bits::{BitReader, BitWriter};
use crate::model::{CounterReset, Span};

use super::start::{StartReader, StartWriter};
pub use appender::Appender;
use layout::Layout;

/// Bytes in front of the layout.
pub const HEADER_LEN: usize = 3;
/// Samples that a chunk can hold.
pub const SAMPLES_MAX: usize = u16::MAX as usize;
/// The bits of the first two bytes that hold the count when what is known of a reset shares them.
pub const COUNT_MASK_WITH_STARTS: u16 = 0x3fff;
/// Bits of the shortest sample.
const SAMPLE_BITS_MIN: usize = 4;

/// Why a histogram does not go into the chunk before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The chunk is one of gauges and the histogram a counter.
    GaugeBefore,
    /// The histogram itself says that there was a reset.
    SaidReset,
    /// The last histogram of the chunk is stale and this one is not.
    StaleBefore,
    /// Schema or zero threshold changed.
    LayoutChange,
    /// A count fell, a bucket in use is gone, or custom bounds changed.
    Reset,
}

/// The fields of a histogram that both kinds have.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a, B> {
    /// What is known of a reset before it.
    pub counter_reset: CounterReset,
    /// Resolution, or -53 for custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Sum of all observations.
    pub sum: f64,
    /// Where the positive buckets lie, and the buckets.
    pub positive: (&'a [Span], &'a [B]),
    /// Where the negative buckets lie, and the buckets.
    pub negative: (&'a [Span], &'a [B]),
    /// Bounds of custom buckets.
    pub custom_values: &'a Arc<[f64]>,
}

/// A kind of native histogram, integer or float.
pub trait Native: Clone + Debug {
    /// A bucket as the histogram holds it.
    type Bucket: Copy;
    /// A bucket's absolute count.
    type Count: Copy + PartialOrd + Default;
    /// What coding of the next sample depends on.
    type State: Clone + Debug + Default;
    /// What an error calls a chunk of these.
    const WHAT: &'static str;
    /// Bits that a bucket takes at least in the first sample.
    const BUCKET_BITS_MIN: usize;

    /// The fields that both kinds have.
    fn fields(&self) -> Fields<'_, Self::Bucket>;
    /// The same histogram with other buckets.
    fn with_sides(&self, positive: (Vec<Span>, Vec<Self::Count>), negative: (Vec<Span>, Vec<Self::Count>)) -> Self;
    /// The absolute counts of `buckets`.
    fn absolute(buckets: &[Self::Bucket]) -> Vec<Self::Count>;
    /// The absolute counts of the positive and negative buckets of the last sample.
    fn last_counts(state: &Self::State) -> (Vec<Self::Count>, Vec<Self::Count>);
    /// The sum of the last sample.
    fn last_sum(state: &Self::State) -> f64;
    /// Whether the number of all observations fell since the last sample.
    fn count_fell(&self, state: &Self::State) -> bool;
    /// Whether the number of observations in the zero bucket fell since the last sample.
    fn zero_count_fell(&self, state: &Self::State) -> bool;
    /// What is known of a reset at the start of a chunk that was cut for `cause`.
    fn reset_when_cut(cause: Cause) -> CounterReset;
    /// What is known of a reset at the start of a chunk that was begun after another, to which its
    /// first histogram could have been appended, or not for a cause.
    fn reset_after(cause: Option<Cause>) -> CounterReset;
    /// Appends the first sample, at `time`, behind the layout.
    fn put_first(&self, time: i64, state: &mut Self::State, writer: &mut BitWriter<'_>);
    /// Appends a sample that is not the first.
    fn put_next(&self, time: i64, state: &mut Self::State, writer: &mut BitWriter<'_>);
    /// Reads the first sample.
    fn read_first(layout: &Layout, reader: &mut BitReader<'_>) -> Self::State;
    /// Reads a sample that is not the first.
    fn read_next(state: &mut Self::State, reader: &mut BitReader<'_>);
    /// The timestamp of the last sample.
    fn last_time(state: &Self::State) -> i64;
    /// The histogram that was read last.
    fn take(state: &Self::State, layout: &Layout, counter_reset: CounterReset) -> Self;
}

/// The byte that stands for what is known of a reset.
pub fn reset_byte(counter_reset: CounterReset) -> u8 {
    match counter_reset {
        CounterReset::Unknown => 0,
        CounterReset::No => 0b0100_0000,
        CounterReset::Yes => 0b1000_0000,
        CounterReset::Gauge => 0b1100_0000,
    }
}

/// What is known of a reset, of the highest two bits of `byte`.
pub fn reset_of(byte: u8) -> CounterReset {
    match byte >> 6 {
        0b00 => CounterReset::Unknown,
        0b01 => CounterReset::No,
        0b10 => CounterReset::Yes,
        _ => CounterReset::Gauge,
    }
}

/// What the sample number `at` of a chunk says of a reset before it: a chunk's first sample doesn't
/// know, as the chunk before it may be another one by now.
pub fn reset_of_sample(chunk: CounterReset, at: usize) -> CounterReset {
    match chunk {
        CounterReset::Gauge => CounterReset::Gauge,
        _ if at > 0 => CounterReset::No,
        _ => CounterReset::Unknown,
    }
}

/// The number of samples of the chunk `data` and what it says of a reset before it.
pub fn header<N: Native>(data: &[u8]) -> Result<(usize, CounterReset), Corrupt> {
    let [high, low, flags] = header_bytes::<N>(data)?;
    let count = usize::from(u16::from_be_bytes([high, low]));
    if count > (data.len() - HEADER_LEN) * 8 / SAMPLE_BITS_MIN {
        return Err(Corrupt::new(N::WHAT, 0, format!("{count} samples announced in {} bytes", data.len())));
    }
    Ok((count, reset_of(flags)))
}

fn header_bytes<N: Native>(data: &[u8]) -> Result<[u8; HEADER_LEN], Corrupt> {
    let header = data.first_chunk::<HEADER_LEN>().copied();
    header.ok_or_else(|| Corrupt::new(N::WHAT, 0, format!("{} bytes, too few for a header", data.len())))
}

/// The same of a chunk with start timestamps, whose count shares two bytes with what is known of a
/// reset; and its start timestamps.
fn header_with_starts<N: Native>(data: &[u8]) -> Result<(usize, CounterReset, StartReader), Corrupt> {
    let [high, low, start] = header_bytes::<N>(data)?;
    let count = usize::from(u16::from_be_bytes([high, low]) & COUNT_MASK_WITH_STARTS);
    Ok((count, reset_of(high), StartReader::new(start)))
}

/// Calls `push` with the timestamps and histograms of the chunk `data`; after an error, with those
/// before it.
pub fn decode<N: Native>(data: &[u8], mut push: impl FnMut(i64, N)) -> Result<(), Corrupt> {
    let (count, counter_reset) = header::<N>(data)?;
    decode_samples(data, (count, counter_reset, StartReader::default()), |_, time, histogram| push(time, histogram))
}

/// Calls `push` with the start timestamps, timestamps and histograms of the chunk `data`, whose
/// encoding is the one with start timestamps; gives what it says of a reset before it.
pub fn decode_with_starts<N: Native>(data: &[u8], push: impl FnMut(i64, i64, N)) -> Result<CounterReset, Corrupt> {
    let header = header_with_starts::<N>(data)?;
    decode_samples(data, header, push)?;
    Ok(header.1)
}

fn decode_samples<N: Native>(
    data: &[u8],
    header: (usize, CounterReset, StartReader),
    mut push: impl FnMut(i64, i64, N),
) -> Result<(), Corrupt> {
    let (count, counter_reset, mut starts) = header;
    if count == 0 {
        return Ok(());
    }
    let mut reader = BitReader::new(N::WHAT, data, HEADER_LEN);
    let layout = Layout::read(&mut reader, N::BUCKET_BITS_MIN)?;
    let mut state = N::read_first(&layout, &mut reader);
    let mut before = 0;
    for at in 0..count {
        if at > 0 {
            N::read_next(&mut state, &mut reader);
        }
        let time = N::last_time(&state);
        let start = starts.read(&mut reader, at, (before, time))?;
        reader.check()?;
        push(start, time, N::take(&state, &layout, reset_of_sample(counter_reset, at)));
        before = time;
    }
    Ok(())
}

/// Appends to `out` the data of a chunk of histograms of one layout, before which `counter_reset` is
/// known.
///
/// # Panics
/// When there are more timestamps than histograms or the reverse, or more than [`SAMPLES_MAX`].
pub fn encode<N: Native>(timestamps: &[i64], values: &[N], counter_reset: CounterReset, out: &mut Vec<u8>) {
    assert_eq!(timestamps.len(), values.len(), "a chunk has as many histograms as timestamps");
    let mut appender = Appender::<N>::with_reset(counter_reset);
    for (time, value) in timestamps.iter().zip(values) {
        appender.push(*time, value);
    }
    out.extend_from_slice(appender.data());
}

/// Appends to `out` the chunk `data` in the encoding with start timestamps; `starts` are those of its
/// samples in Unix milliseconds, 0 where they are not known.
///
/// # Panics
/// When `data` is no chunk of as many samples, or of more than that encoding can count.
pub fn add_starts<N: Native>(data: &[u8], starts: &[i64], out: &mut Vec<u8>) {
    let max = usize::from(COUNT_MASK_WITH_STARTS);
    assert!(starts.len() <= max, "a chunk with start timestamps holds at most {max} histograms");
    assert!(rewrite_with_starts::<N>(data, starts, out) == Ok(starts.len()), "a chunk has a start for each histogram");
}

fn rewrite_with_starts<N: Native>(data: &[u8], starts: &[i64], out: &mut Vec<u8>) -> Result<usize, Corrupt> {
    let (count, counter_reset) = header::<N>(data)?;
    let [high, low] = (count as u16).to_be_bytes();
    let first = out.len();
    out.extend([high | reset_byte(counter_reset), low, 0]);
    let mut writer = BitWriter::new(out);
    Layout::read(&mut BitReader::new(N::WHAT, data, HEADER_LEN), N::BUCKET_BITS_MIN)?.put(&mut writer);
    let (mut state, mut start_writer, mut at, mut before) = (N::State::default(), StartWriter::default(), 0, 0);
    decode::<N>(data, |time, histogram| {
        match at {
            0 => histogram.put_first(time, &mut state, &mut writer),
            _ => histogram.put_next(time, &mut state, &mut writer),
        }
        start_writer.put(&mut writer, at, (before, time), starts.get(at).copied().unwrap_or(0));
        (at, before) = (at + 1, time);
    })?;
    writer.finish();
    out[first + HEADER_LEN - 1] = start_writer.header();
    Ok(count)
}

#[cfg(test)]
mod tests;
