//! Samples to a chunk, one field after the other.

use crate::codec::bits::BitWriter;
use crate::codec::varint;

use super::SAMPLES_MAX;

/// Longest payload that goes out in one write with the fields before it.
const JOINED_MAX: u32 = 56 - 16 - 13;

/// What encoding of the next sample depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) time: i64,
    pub(super) delta: i64,
    pub(super) value: u64,
    /// Zeros above the payload of a value; over 63 before the first payload.
    pub(super) above: u8,
    /// Zeros below the payload of a value.
    pub(super) below: u8,
}

impl State {
    /// The state before the first sample.
    pub(super) const START: Self = Self { time: 0, delta: 0, value: 0, above: 0xff, below: 0 };
}

/// Appends to `out` the data of a chunk of `timestamps` (Unix milliseconds) and `values`, which
/// are of one length. The bytes are those that Prometheus' appender gives.
///
/// # Panics
/// When the lengths differ or are over [`SAMPLES_MAX`].
pub fn encode(timestamps: &[i64], values: &[f64], out: &mut Vec<u8>) {
    assert_eq!(timestamps.len(), values.len(), "a chunk has as many values as timestamps");
    assert!(timestamps.len() <= SAMPLES_MAX, "{} samples do not fit into one chunk", timestamps.len());
    out.extend_from_slice(&(timestamps.len() as u16).to_be_bytes());
    let mut state = State::START;
    let mut samples = timestamps.iter().zip(values);
    if let Some((time, value)) = samples.next() {
        first(*time, value.to_bits(), &mut state, out);
    }
    let Some((time, value)) = samples.next() else { return };
    second_time(*time, &mut state, out);
    let mut writer = BitWriter::new(out);
    put_value(0, 0, value.to_bits(), &mut state, &mut writer);
    for (time, value) in samples {
        put_sample(*time, value.to_bits(), &mut state, &mut writer);
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

/// A sample from the third on.
#[inline(always)]
pub(super) fn put_sample(time: i64, value: u64, state: &mut State, writer: &mut BitWriter<'_>) {
    let delta = time.wrapping_sub(state.time);
    let change = delta.wrapping_sub(state.delta);
    state.time = time;
    state.delta = delta;
    let (field, len) = if change == 0 {
        (0, 1)
    } else if in_range(change, 14) {
        (0b10 << 14 | (change as u64 & 0x3fff), 16)
    } else {
        put_wide_change(change, writer);
        (0, 0)
    };
    put_value(field, len, value, state, writer);
}

/// The value field of `value` behind `field`, which is `field_len` bits long.
#[inline(always)]
pub(super) fn put_value(field: u64, field_len: u32, value: u64, state: &mut State, writer: &mut BitWriter<'_>) {
    let xor = value ^ state.value;
    state.value = value;
    if xor == 0 {
        return writer.put(field << 1, field_len + 1);
    }
    let above = (xor.leading_zeros() as u8).min(31);
    let below = xor.trailing_zeros() as u8;
    let (field, field_len) = if above >= state.above && below >= state.below {
        (field << 2 | 0b10, field_len + 2)
    } else {
        state.above = above;
        state.below = below;
        let width = u64::from(64 - above - below) & 63;
        (field << 13 | 0b11 << 11 | u64::from(above) << 6 | width, field_len + 13)
    };
    let width = 64 - u32::from(state.above) - u32::from(state.below);
    let payload = xor >> state.below;
    if width <= JOINED_MAX {
        writer.put(field << width | payload, field_len + width);
    } else {
        writer.put(field, field_len);
        writer.put_wide(payload, width);
    }
}

#[cold]
fn put_wide_change(change: i64, writer: &mut BitWriter<'_>) {
    if in_range(change, 17) {
        writer.put(0b110 << 17 | (change as u64 & 0x1_ffff), 20);
    } else if in_range(change, 20) {
        writer.put(0b1110 << 20 | (change as u64 & 0xf_ffff), 24);
    } else {
        writer.put(0b1111, 4);
        writer.put_wide(change as u64, 64);
    }
}

/// Whether `change` lies in the range of a field of `len` bits, whose smallest number stands for the
/// one above the largest.
#[inline(always)]
fn in_range(change: i64, len: u32) -> bool {
    let half = 1i64 << (len - 1);
    -half < change && change <= half
}
