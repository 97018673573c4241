//! Samples to a chunk, one field after the other.

use crate::codec::bits::{BitPlace, BitWriter};
use crate::codec::varint;
use crate::simd::{self, Isa, Kernel};

use super::SAMPLES_MAX;

/// Longest payload that goes out in one write with the fields before it.
const JOINED_MAX: u32 = 56 - 16 - 13;

/// Bytes that must be there for the longest sample: 145 bits, seven before them, and a write's room.
pub(super) const SAMPLE_ROOM: usize = 32;
/// Samples that are written between two looks at the room.
const RUN: usize = 16;

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
    encode_on(simd::isa(), timestamps, values, out);
}

/// As [`encode`], with the instructions of `isa`.
pub(super) fn encode_on(isa: Isa, timestamps: &[i64], values: &[f64], out: &mut Vec<u8>) {
    assert_eq!(timestamps.len(), values.len(), "a chunk has as many values as timestamps");
    assert!(timestamps.len() <= SAMPLES_MAX, "{} samples do not fit into one chunk", timestamps.len());
    out.extend_from_slice(&(timestamps.len() as u16).to_be_bytes());
    simd::run_on(isa, Samples { timestamps, values, out });
}

/// Samples to be appended to the data of a chunk, behind its count.
struct Samples<'a> {
    timestamps: &'a [i64],
    values: &'a [f64],
    out: &'a mut Vec<u8>,
}

impl Kernel for Samples<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        put_samples(self.timestamps, self.values, self.out);
    }
}

#[inline(always)]
fn put_samples(timestamps: &[i64], values: &[f64], out: &mut Vec<u8>) {
    let mut state = State::START;
    let ([first_time, times @ ..], [first_value, values @ ..]) = (timestamps, values) else { return };
    first(*first_time, first_value.to_bits(), &mut state, out);
    let ([second_time, times @ ..], [second_value, values @ ..]) = (times, values) else { return };
    self::second_time(*second_time, &mut state, out);
    let mut writer = BitWriter::new(out);
    let (place, bytes) = writer.reserve(SAMPLE_ROOM);
    (*place, state) = put_value(Field::NONE, second_value.to_bits(), state, (*place, bytes));
    for (times, values) in times.chunks(RUN).zip(values.chunks(RUN)) {
        let (place, bytes) = writer.reserve(RUN * SAMPLE_ROOM);
        let mut now = *place;
        for (time, value) in times.iter().zip(values) {
            (now, state) = put_sample(*time, value.to_bits(), state, (now, bytes));
        }
        *place = now;
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

/// Bits that are to be written together with those behind them.
#[derive(Clone, Copy)]
pub(super) struct Field {
    bits: u64,
    len: u32,
}

impl Field {
    /// No bits.
    pub(super) const NONE: Self = Self { bits: 0, len: 0 };

    #[inline(always)]
    fn then(self, bits: u64, len: u32) -> Self {
        Self { bits: self.bits << len | bits, len: self.len + len }
    }
}

/// A sample from the third on; gives the place and the state behind it.
#[inline(always)]
pub(super) fn put_sample(time: i64, value: u64, state: State, to: (BitPlace, &mut [u8])) -> (BitPlace, State) {
    let (place, bytes) = to;
    let delta = time.wrapping_sub(state.time);
    let change = delta.wrapping_sub(state.delta);
    let state = State { time, delta, ..state };
    if change == 0 {
        put_value(Field { bits: 0, len: 1 }, value, state, (place, bytes))
    } else if in_range(change, 14) {
        let field = Field { bits: 0b10 << 14 | (change as u64 & 0x3fff), len: 16 };
        put_value(field, value, state, (place, bytes))
    } else {
        let place = put_wide_change(change, place, bytes);
        put_value(Field::NONE, value, state, (place, bytes))
    }
}

/// The value field of `value` behind `field`; gives the place and the state behind it.
#[inline(always)]
pub(super) fn put_value(field: Field, value: u64, state: State, to: (BitPlace, &mut [u8])) -> (BitPlace, State) {
    let (place, bytes) = to;
    let xor = value ^ state.value;
    let mut state = State { value, ..state };
    if xor == 0 {
        return (place.put(bytes, field.bits << 1, field.len + 1), state);
    }
    let above = (xor.leading_zeros() as u8).min(31);
    let below = xor.trailing_zeros() as u8;
    let field = if above >= state.above && below >= state.below {
        field.then(0b10, 2)
    } else {
        (state.above, state.below) = (above, below);
        field.then(0b11 << 11 | u64::from(above) << 6 | u64::from(64 - above - below) & 63, 13)
    };
    let width = 64 - u32::from(state.above) - u32::from(state.below);
    let payload = xor >> state.below;
    let place = if width <= JOINED_MAX {
        let field = field.then(payload, width);
        place.put(bytes, field.bits, field.len)
    } else {
        place.put(bytes, field.bits, field.len).put_wide(bytes, payload, width)
    };
    (place, state)
}

#[cold]
#[inline(never)]
fn put_wide_change(change: i64, place: BitPlace, bytes: &mut [u8]) -> BitPlace {
    if in_range(change, 17) {
        place.put(bytes, 0b110 << 17 | (change as u64 & 0x1_ffff), 20)
    } else if in_range(change, 20) {
        place.put(bytes, 0b1110 << 20 | (change as u64 & 0xf_ffff), 24)
    } else {
        place.put(bytes, 0b1111, 4).put_wide(bytes, change as u64, 64)
    }
}

/// Whether `change` lies in the range of a field of `len` bits, whose smallest number stands for the
/// one above the largest.
#[inline(always)]
fn in_range(change: i64, len: u32) -> bool {
    let half = 1i64 << (len - 1);
    -half < change && change <= half
}
