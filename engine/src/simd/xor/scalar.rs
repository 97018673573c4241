//! One chunk after the other, one sample after the other, with a branch for each kind of field: the
//! specification, and the fastest way without AVX-512.

use super::{Batch, Fault, HEADER_LEN};
use crate::simd::bits::{VARINT_LEN_MAX, varint};

/// Bytes that hold the longest sample without a wide timestamp field, from any bit on.
const WINDOW: usize = 16;
/// Bytes at the end of a chunk that are decoded from a copy with zeros behind it.
const TAIL: usize = 32;

/// Where a chunk stands between two samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    /// Next bit.
    pub(super) at: usize,
    pub(super) time: i64,
    pub(super) delta: i64,
    pub(super) value: u64,
    /// Bits of the payload of a value, 1 to 64.
    pub(super) width: u32,
    /// Zeros below the payload; over 63 in a chunk that lies, whose payload then counts as 0.
    pub(super) below: u32,
}

/// Decodes `chunks` into the room that `batch` has for them.
pub(super) fn decode_batch(chunks: &[&[u8]], batch: &mut Batch) -> Result<(), (usize, Fault)> {
    for (at, data) in chunks.iter().enumerate() {
        let (times, values) = batch.slots(at);
        decode(data, times, values).map_err(|fault| (at, fault))?;
    }
    Ok(())
}

/// Decodes the chunk `data`, whose header announces as many samples as `times` and `values` have
/// room for, to Unix milliseconds and values.
pub fn decode(data: &[u8], times: &mut [i64], values: &mut [f64]) -> Result<(), Fault> {
    match head(data, times, values)? {
        Some(state) => rest(data, state, &mut times[2..], &mut values[2..]),
        None => Ok(()),
    }
}

/// Decodes the first two samples, which are coded differently; gives the state behind them when
/// there are more.
#[inline(always)]
pub(super) fn head(data: &[u8], times: &mut [i64], values: &mut [f64]) -> Result<Option<State>, Fault> {
    let ([first_time, times @ ..], [first_value, values @ ..]) = (times, values) else { return Ok(None) };
    let (mut state, second_at) = first(data)?;
    (*first_time, *first_value) = (state.time, f64::from_bits(state.value));
    let ([second_time, times @ ..], [second_value, ..]) = (times, values) else { return Ok(None) };
    second(data, second_at, &mut state)?;
    (*second_time, *second_value) = (state.time, f64::from_bits(state.value));
    Ok(Some(state).filter(|_| !times.is_empty()))
}

/// The first sample, and where the second starts.
#[inline(always)]
fn first(data: &[u8]) -> Result<(State, usize), Fault> {
    let (raw, at) = uvarint(data, HEADER_LEN)?;
    let time = ((raw >> 1) as i64) ^ -((raw & 1) as i64);
    let Some(value) = data.get(at..).and_then(<[u8]>::first_chunk) else { return Err(short(data)) };
    Ok((State { at: 0, time, delta: 0, value: u64::from_be_bytes(*value), width: 64, below: 0 }, at + 8))
}

/// The second sample: its timestamp is a plain difference.
#[inline(always)]
fn second(data: &[u8], at: usize, state: &mut State) -> Result<(), Fault> {
    let (delta, at) = uvarint(data, at)?;
    let tail = data.get(at..).unwrap_or(&[]);
    let window = match tail.first_chunk() {
        Some(window) => *window,
        None => {
            let mut window = [0u8; WINDOW];
            window[..tail.len()].copy_from_slice(tail);
            window
        }
    };
    state.at = at * 8;
    state.delta = delta as i64;
    state.time = state.time.wrapping_add(state.delta);
    value_field(u128::from_be_bytes(window), 0, state);
    if state.at > data.len() * 8 { Err(short(data)) } else { Ok(()) }
}

/// All samples from the third on.
fn rest(data: &[u8], mut state: State, times: &mut [i64], values: &mut [f64]) -> Result<(), Fault> {
    let done = run(data, data.len() * 8, &mut state, times, values);
    let (times, values) = (&mut times[done..], &mut values[done..]);
    if times.is_empty() {
        return Ok(());
    }
    let start = state.at / 8;
    let Some(tail) = data.get(start..).filter(|tail| tail.len() <= TAIL) else { return Err(short(data)) };
    let mut padded = [0u8; 2 * TAIL];
    padded[..tail.len()].copy_from_slice(tail);
    state.at %= 8;
    let done = run(&padded, tail.len() * 8, &mut state, times, values);
    if done < times.len() || state.at > tail.len() * 8 { Err(short(data)) } else { Ok(()) }
}

/// Decodes samples until there is no room for more, bit `limit` is reached, or too few bytes follow
/// to read a sample without looking. Gives how many it decoded.
///
/// Where a sample ends follows from its control bits and the width before it, so with the branches
/// guessed right the next sample's bits are read before this one's payload is there.
pub(super) fn run(bytes: &[u8], limit: usize, state: &mut State, times: &mut [i64], values: &mut [f64]) -> usize {
    let Some(last) = bytes.len().checked_sub(WINDOW) else { return 0 };
    let limit = limit.min(last * 8 + 8);
    let mut now = *state;
    let mut done = 0;
    for (time, value) in times.iter_mut().zip(values) {
        if now.at >= limit {
            break;
        }
        let control = word(bytes, now.at);
        let skip = if control >> 63 == 0 {
            1
        } else if control >> 62 == 0b10 {
            now.delta = now.delta.wrapping_add(dod(control << 2, 14));
            16
        } else {
            // A copy, so that what is hot stays in registers.
            let mut after = now;
            if !wide_sample(bytes, &mut after) {
                break;
            }
            now = after;
            (*time, *value) = (now.time, f64::from_bits(now.value));
            done += 1;
            continue;
        };
        now.time = now.time.wrapping_add(now.delta);
        let field = control << skip;
        if field >> 63 == 0 {
            now.at += skip + 1;
        } else {
            let mut len = skip + 2;
            if field >> 62 == 0b11 {
                (now.width, now.below) = new_width(field);
                len = skip + 13;
            }
            let payload = bits(bytes, now.at + len, now.width);
            now.value ^= payload.checked_shl(now.below).unwrap_or(0);
            now.at += len + now.width as usize;
        }
        (*time, *value) = (now.time, f64::from_bits(now.value));
        done += 1;
    }
    *state = now;
    done
}

/// One sample whose timestamp is wide; false where too few bytes follow.
#[cold]
#[inline(never)]
fn wide_sample(bytes: &[u8], state: &mut State) -> bool {
    let Some(found) = window(bytes, state.at) else { return false };
    let (change, len) = wide_dod(found);
    state.delta = state.delta.wrapping_add(change);
    state.at += len;
    let Some(behind) = window(bytes, state.at) else { return false };
    state.time = state.time.wrapping_add(state.delta);
    value_field(behind, 0, state);
    true
}

/// The bits from bit `at` on; at least 57 of them. The byte that holds it is followed by seven more.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    let start = at / 8;
    debug_assert!(start + 8 <= bytes.len(), "eight bytes are there");
    // SAFETY: `run` reads samples only while `WINDOW` bytes follow the first one's, of which a control
    // field and a payload's first eight bytes end before the thirteenth: `at` is at most 7 + 29 bits in.
    let word = unsafe { bytes.as_ptr().add(start).cast::<u64>().read_unaligned() };
    u64::from_be(word) << (at % 8)
}

/// `width` bits from bit `at` on, 1 to 64.
#[inline(always)]
fn bits(bytes: &[u8], at: usize, width: u32) -> u64 {
    let mut found = word(bytes, at);
    if width > 57 {
        let behind = u64::from(bytes.get(at / 8 + 8).copied().unwrap_or(0));
        found |= behind << (at % 8) >> 8;
    }
    found >> (64 - width)
}

/// Width of the payload and zeros below it, as the control field of a new window says.
#[inline(always)]
fn new_width(control: u64) -> (u32, u32) {
    let above = (control >> 57) as u32 & 31;
    let width = (control >> 51) as u32 & 63;
    let width = if width == 0 { 64 } else { width };
    (width, 64u32.wrapping_sub(above + width))
}

/// The bits from bit `at` on; at least 121 of them.
#[inline(always)]
fn window(bytes: &[u8], at: usize) -> Option<u128> {
    let window = bytes.get(at / 8..)?.first_chunk::<WINDOW>()?;
    Some(u128::from_be_bytes(*window) << (at % 8))
}

/// Decodes the value field that is `skip` bits into `window`, and moves behind it.
#[inline(always)]
fn value_field(window: u128, skip: u32, state: &mut State) {
    let control = (window << skip >> 64) as u64;
    let len = if control >> 63 == 0 {
        state.at += (skip + 1) as usize;
        return;
    } else if control >> 62 == 0b10 {
        skip + 2
    } else {
        (state.width, state.below) = new_width(control);
        skip + 13
    };
    let payload = (window << len >> 64) as u64 >> (64 - state.width);
    state.value ^= payload.checked_shl(state.below).unwrap_or(0);
    state.at += (len + state.width) as usize;
}

/// The difference of two deltas in the highest `len` bits of `bits`: two's complement, except that
/// the smallest number stands for the one above the largest.
#[inline(always)]
fn dod(bits: u64, len: u32) -> i64 {
    let ones = (1i64 << (64 - len)) - 1;
    -(ones.wrapping_sub(bits as i64) >> (64 - len))
}

/// A difference of two deltas of 17, 20 or 64 bits at the start of `window`, and the bits it takes.
#[cold]
fn wide_dod(window: u128) -> (i64, usize) {
    let control = (window >> 64) as u64;
    match control >> 60 {
        0b1111 => ((window << 4 >> 64) as i64, 68),
        0b1110 => (dod(control << 4, 20), 24),
        _ => (dod(control << 3, 17), 20),
    }
}

/// The variable-length integer at byte `at`, and the byte after it.
#[inline(always)]
fn uvarint(data: &[u8], at: usize) -> Result<(u64, usize), Fault> {
    match varint(data.get(at..).unwrap_or(&[])) {
        Some((value, len)) => Ok((value, at + len)),
        None => Err(no_uvarint(data, at)),
    }
}

/// What is wrong where there is none: it is too long, or cut off.
#[cold]
fn no_uvarint(data: &[u8], at: usize) -> Fault {
    if data.len().saturating_sub(at) >= VARINT_LEN_MAX {
        return Fault { offset: at, reason: Fault::VARINT };
    }
    short(data)
}

fn short(data: &[u8]) -> Fault {
    Fault { offset: data.len(), reason: Fault::SHORT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_length_are_what_they_are_byte_by_byte() {
        for shift in 0..64 {
            for value in [u64::MAX >> shift, 1 << shift, 0x5a5a_a5a5_1234_9876 >> shift] {
                let (mut data, mut rest) = (vec![7], value);
                while rest >= 0x80 {
                    data.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                data.push(rest as u8);
                let end = data.len();
                assert_eq!(uvarint(&data, 1), Ok((value, end)));
                data.extend([0xff; 9]);
                assert_eq!(uvarint(&data, 1), Ok((value, end)), "{value:#x}");
            }
        }
        assert_eq!(uvarint(&[0xff; 12], 1).map_err(|fault| fault.reason), Err(Fault::VARINT));
        assert_eq!(uvarint(&[0xff; 9], 1).map_err(|fault| fault.reason), Err(Fault::SHORT));
    }
}
