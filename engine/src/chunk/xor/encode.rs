//! Samples to a chunk: the first two here, the others as runs of fields.

use crate::codec::bits::BitWriter;
use crate::codec::varint;
use crate::simd::bits::BitPlace;
use crate::simd::fields::scalar::{self, Field};
use crate::simd::fields::{self, RUN, SAMPLE_BYTES_MAX, SLACK, Window};
use crate::simd::{self, Isa};

use super::SAMPLES_MAX;

/// Bytes that must be there for the longest sample.
pub(super) const SAMPLE_ROOM: usize = SAMPLE_BYTES_MAX + BitPlace::ROOM;

/// What encoding of the next sample depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) time: i64,
    pub(super) delta: i64,
    pub(super) value: u64,
    pub(super) window: Window,
}

impl State {
    /// The state before the first sample.
    pub(super) const START: Self = Self { time: 0, delta: 0, value: 0, window: Window::NONE };
}

/// Appends to `out` the data of a chunk of `timestamps` (Unix milliseconds) and `values`, which
/// are of one length. The bytes are those that Prometheus' appender gives.
///
/// # Panics
/// When the lengths differ or are over [`SAMPLES_MAX`].
pub fn encode(timestamps: &[i64], values: &[f64], out: &mut Vec<u8>) {
    encode_on(simd::isa(), timestamps, values, out);
}

/// As [`encode`], with the instructions of `isa`.
pub(super) fn encode_on(isa: Isa, timestamps: &[i64], values: &[f64], out: &mut Vec<u8>) {
    assert_eq!(timestamps.len(), values.len(), "a chunk has as many values as timestamps");
    assert!(timestamps.len() <= SAMPLES_MAX, "{} samples do not fit into one chunk", timestamps.len());
    out.extend_from_slice(&(timestamps.len() as u16).to_be_bytes());
    let mut state = State::START;
    let ([first_time, ..], [first_value, ..]) = (timestamps, values) else { return };
    first(*first_time, first_value.to_bits(), &mut state, out);
    let ([_, second_time, rest @ ..], [_, second_value, ..]) = (timestamps, values) else { return };
    self::second_time(*second_time, &mut state, out);
    let mut writer = BitWriter::new(out);
    let (place, bytes) = writer.reserve(SAMPLE_ROOM);
    (*place, state) = put_value(second_value.to_bits(), state, (*place, bytes));
    let mut window = state.window;
    for start in (0..rest.len()).step_by(RUN) {
        let end = (start + RUN).min(rest.len()) + 2;
        let (times, values) = (&timestamps[start..end], &values[start + 1..end]);
        let (place, bytes) = writer.reserve(values.len() * SAMPLE_BYTES_MAX + SLACK);
        let behind;
        (behind, window) = fields::put(isa, times, values, window, (bytes, place.bit()));
        *place = BitPlace::resume(bytes, behind);
    }
    writer.finish();
}

/// The first sample.
pub(super) fn first(time: i64, value: u64, state: &mut State, out: &mut Vec<u8>) {
    varint::encode_i64(time, out);
    out.extend_from_slice(&value.to_be_bytes());
    state.time = time;
    state.value = value;
}

/// The timestamp of the second sample.
pub(super) fn second_time(time: i64, state: &mut State, out: &mut Vec<u8>) {
    state.delta = time.wrapping_sub(state.time);
    state.time = time;
    varint::encode_u64(state.delta as u64, out);
}

/// A sample from the third on; gives the place and the state behind it.
#[inline(always)]
pub(super) fn put_sample(time: i64, value: u64, state: State, to: (BitPlace, &mut [u8])) -> (BitPlace, State) {
    let delta = time.wrapping_sub(state.time);
    let change = delta.wrapping_sub(state.delta);
    let (place, window) = scalar::put_sample(change, value ^ state.value, state.window, to);
    (place, State { time, delta, value, window })
}

/// The value of the second sample; gives the place and the state behind it.
#[inline(always)]
pub(super) fn put_value(value: u64, state: State, to: (BitPlace, &mut [u8])) -> (BitPlace, State) {
    let (place, window) = scalar::put_value(Field::NONE, value ^ state.value, state.window, to);
    (place, State { value, window, ..state })
}
