//! Float samples with start timestamps: as `chunk::xor`, with one prefix for timestamp and value.
//!
//! ```text
//! count u16 BE │ start header u8 │ t0 varint │ v0 f64 BE │ start │ t1-t0 uvarint │ v1 value │ start │ sample 2 │ …
//!
//! sample  0                                       the same difference and value as before
//!         10  known                               the same difference, another value
//!         110    difference of differences:13 value  two's complement
//!         1110   difference of differences:20 value
//!         11110  difference of differences:64 value
//!         11111                                   the same difference, a stale marker
//! value   0 the same │ 10 payload │ 110 zeros:5 width:6 payload │ 111 a stale marker
//! known   0 payload │ 1 zeros:5 width:6 payload
//! ```
//! A stale marker leaves the value that the next one is xored with. Start timestamps are drawn in
//! [`super::start`].

use crate::codec::Corrupt;
use crate::codec::bits::{BitReader, BitWriter};
use crate::model::FloatColumns;
use crate::model::value::{is_stale_nan, stale_nan};

use super::native::xored::Xored;
use super::start::{StartReader, StartWriter};
use super::xor::SAMPLES_MAX;

/// Bytes in front of the first sample.
pub const HEADER_LEN: usize = 3;

const WHAT: &str = "XOR2 chunk";

/// Where a chunk stands between two samples.
struct State {
    time: i64,
    delta: i64,
    /// The last value that is not a stale marker.
    value: Xored,
}

/// Appends the samples of the chunk `data` to `columns`, and to `starts` their start timestamps in
/// Unix milliseconds, 0 where they are not known; on an error nothing is appended.
pub fn decode(data: &[u8], columns: &mut FloatColumns, starts: &mut Vec<i64>) -> Result<(), Corrupt> {
    let lens = (columns.len(), starts.len());
    let decoded = decode_samples(data, columns, starts);
    if decoded.is_err() {
        columns.timestamps.truncate(lens.0);
        columns.values.truncate(lens.0);
        starts.truncate(lens.1);
    }
    decoded
}

fn decode_samples(data: &[u8], columns: &mut FloatColumns, starts: &mut Vec<i64>) -> Result<(), Corrupt> {
    let Some([high, low, start]) = data.first_chunk::<HEADER_LEN>() else {
        return Err(Corrupt::new(WHAT, 0, format!("{} bytes, too few for a header", data.len())));
    };
    let count = usize::from(u16::from_be_bytes([*high, *low]));
    let mut reader = BitReader::new(WHAT, data, HEADER_LEN);
    let mut start = StartReader::new(*start);
    let mut state = State { time: 0, delta: 0, value: Xored::decoded(0.0) };
    for at in 0..count {
        let before = state.time;
        let value = match at {
            0 => {
                state.time = reader.varint()?;
                let value = f64::from_bits(reader.bits(64));
                if value.to_bits() != stale_nan().to_bits() {
                    state.value.value = value;
                }
                value
            }
            1 => {
                state.delta = reader.uvarint()? as i64;
                state.time = state.time.wrapping_add(state.delta);
                read_value(&mut state.value, &mut reader)
            }
            _ => read_sample(&mut state, &mut reader),
        };
        starts.push(start.read(&mut reader, at, (before, state.time))?);
        reader.check()?;
        columns.push(state.time, value);
    }
    Ok(())
}

/// A sample from the third on; gives its value.
fn read_sample(state: &mut State, reader: &mut BitReader<'_>) -> f64 {
    let window = reader.peek();
    let ones = (!window).leading_zeros().min(5);
    reader.skip((ones + 1).min(5));
    let width = [0, 0, 13, 20, 64, 0][ones as usize];
    if width > 0 {
        let change = reader.bits(width) << (64 - width);
        state.delta = state.delta.wrapping_add(change as i64 >> (64 - width));
    }
    state.time = state.time.wrapping_add(state.delta);
    match ones {
        0 => state.value.value,
        1 => {
            state.value.read_changed(reader.peek(), 0, reader);
            state.value.value
        }
        5 => stale_nan(),
        _ => read_value(&mut state.value, reader),
    }
}

/// A value that may be the same, another one or a stale marker.
fn read_value(last: &mut Xored, reader: &mut BitReader<'_>) -> f64 {
    let window = reader.peek();
    match window >> 61 {
        0b000..=0b011 => reader.skip(1),
        0b100 | 0b101 => last.read_changed(window << 1, 1, reader),
        0b110 => {
            reader.skip(2);
            last.read_changed(1 << 63 | (window << 3 >> 1), 0, reader);
        }
        _ => {
            reader.skip(3);
            return stale_nan();
        }
    }
    last.value
}

/// Appends to `out` the data of a chunk of these samples; of `starts`, in Unix milliseconds, 0 is one
/// that is not known.
///
/// # Panics
/// When there are more samples than the header can count, or the columns differ in length.
pub fn encode(times: &[i64], values: &[f64], starts: &[i64], out: &mut Vec<u8>) {
    assert!(times.len() <= SAMPLES_MAX, "a chunk holds at most {SAMPLES_MAX} samples");
    assert!(times.len() == values.len() && times.len() == starts.len(), "columns of a chunk have one length");
    let header = out.len();
    let [high, low] = (times.len() as u16).to_be_bytes();
    out.extend([high, low, 0]);
    let mut writer = BitWriter::new(out);
    let mut start = StartWriter::default();
    let mut state = State { time: 0, delta: 0, value: Xored::start(0.0) };
    for (at, ((time, value), known)) in times.iter().zip(values).zip(starts).enumerate() {
        let (before, delta_before) = (state.time, state.delta);
        state.time = *time;
        match at {
            0 => {
                writer.put_varint(*time);
                writer.put_wide(value.to_bits(), 64);
                if !is_stale_nan(*value) {
                    state.value.value = *value;
                }
            }
            _ => {
                state.delta = time.wrapping_sub(before);
                if at == 1 {
                    writer.put_uvarint(state.delta as u64);
                    put_value(&mut state.value, *value, &mut writer);
                } else {
                    put_sample(&mut state.value, state.delta.wrapping_sub(delta_before), *value, &mut writer);
                }
            }
        }
        start.put(&mut writer, at, (before, *time), *known);
    }
    writer.finish();
    out[header + HEADER_LEN - 1] = start.header();
}

/// Appends a sample from the third on, `change` being the difference of differences of its timestamp.
fn put_sample(last: &mut Xored, change: i64, value: f64, writer: &mut BitWriter<'_>) {
    let fits = |width: u32| change << (64 - width) >> (64 - width) == change;
    match change {
        0 if is_stale_nan(value) => return writer.put(0b11111, 5),
        0 if value.to_bits() == last.value.to_bits() => return writer.put(0, 1),
        0 => return last.put_changed(value, [(0b100, 3), (0b101, 3)], writer),
        _ if fits(13) => writer.put(0b110 << 13 | change as u64 & ((1 << 13) - 1), 16),
        _ if fits(20) => writer.put(0b1110 << 20 | change as u64 & ((1 << 20) - 1), 24),
        _ => {
            writer.put(0b11110, 5);
            writer.put_wide(change as u64, 64);
        }
    }
    put_value(last, value, writer);
}

/// Appends a value that may be the same, another one or a stale marker.
fn put_value(last: &mut Xored, value: f64, writer: &mut BitWriter<'_>) {
    if is_stale_nan(value) {
        writer.put(0b111, 3);
    } else if value.to_bits() == last.value.to_bits() {
        writer.put(0, 1);
    } else {
        last.put_changed(value, [(0b10, 2), (0b110, 3)], writer);
    }
}
