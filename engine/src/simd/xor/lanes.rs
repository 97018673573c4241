//! Chunks side by side, whatever vectors hold them: the order in which they are taken, what is done
//! before the lanes start, and what becomes of those that lanes cannot decode.
//!
//! Chunks of about one length are taken together. Each is copied behind the other with zeros after
//! it, so that any lane may read a window of 16 bytes from any bit up to [`SLACK`] behind its end.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use super::scalar::{self, State};
use super::{Batch, Fault};

/// Chunks that are decoded side by side.
pub(super) const GROUP: usize = 16;
/// Steps between two stores.
pub(super) const STEPS: usize = 8;
/// Zeros behind each copied chunk. A lane is at most a cut sample (19 bytes) and seven samples of
/// two bits behind its end when it reads a window of 16 bytes.
const SLACK: usize = 64;
/// A group of fewer chunks is not worth the lanes.
const GROUP_MIN: usize = 5;
/// Lengths that are told apart when chunks are put in order, in steps of eight samples.
const LENGTHS: usize = 64;
/// Wide timestamp fields that a group may have, and one more for so many samples of a lane.
const WIDE_MAX: usize = 4;
const SAMPLES_PER_WIDE: usize = 32;
const CACHE_LINE: usize = 64;

/// One chunk of a group.
#[derive(Clone, Copy)]
pub(super) struct Lane {
    pub(super) chunk: usize,
    /// Its first sample that is not decoded yet, within the columns.
    pub(super) start: usize,
    /// Samples that are not decoded yet.
    pub(super) left: usize,
    /// The bit behind its copy.
    pub(super) end: u64,
    pub(super) state: State,
}

/// As [`scalar::decode_batch`], groups of chunks by `decode_group`, which gives the lanes whose chunks
/// it did not decode, one bit each.
pub(super) fn decode(
    chunks: &[&[u8]],
    batch: &mut Batch,
    decode_group: impl Fn(&[Lane], &mut Batch) -> u32,
) -> Result<(), (usize, Fault)> {
    let order = sort(batch);
    let mut group = Vec::with_capacity(GROUP);
    batch.copies.clear();
    let mut taken = 0;
    while taken < order.len() || !group.is_empty() {
        while group.len() < GROUP && taken < order.len() {
            if let Some(ahead) = order.get(taken + GROUP) {
                prefetch(chunks[*ahead as usize]);
            }
            begin(chunks, order[taken] as usize, batch, &mut group)?;
            taken += 1;
        }
        let undecoded = if group.len() < GROUP_MIN { u32::MAX } else { decode_group(&group, batch) };
        for (at, lane) in group.iter().enumerate() {
            if undecoded >> at & 1 == 1 {
                decode_alone(chunks, lane.chunk, batch)?;
            }
        }
        group.clear();
        batch.copies.clear();
    }
    batch.order = order;
    Ok(())
}

/// Wide timestamp fields after which a group whose longest lane has `longest` samples left is given to
/// the scalar decoder.
pub(super) fn wide_max(longest: usize) -> usize {
    WIDE_MAX + longest / SAMPLES_PER_WIDE
}

/// Decodes a sample of each lane, one lane after the other; gives the states behind it. The fields are
/// bit, time, delta, value, unused bits and zeros below the payload, each of all lanes.
pub(super) fn step_alone<const LANES: usize>(fields: [[u64; LANES]; 6], copies: &[u8]) -> [State; LANES] {
    let [at, time, delta, value, unused, below] = fields;
    std::array::from_fn(|lane| {
        let mut state = State {
            at: at[lane] as usize,
            time: time[lane] as i64,
            delta: delta[lane] as i64,
            value: value[lane],
            width: 64 - unused[lane] as u32,
            below: below[lane] as u32,
        };
        scalar::run(copies, usize::MAX, &mut state, &mut [0], &mut [0.0]);
        state
    })
}

/// Chunks in descending order of their lengths.
fn sort(batch: &mut Batch) -> Vec<u32> {
    let mut order = std::mem::take(&mut batch.order);
    let key = |at: usize| LENGTHS - 1 - (batch.range(at).len().saturating_sub(2).div_ceil(STEPS)).min(LENGTHS - 1);
    let mut places = [0u32; LENGTHS];
    for at in 0..batch.len() {
        places[key(at)] += 1;
    }
    let mut next = 0;
    for place in &mut places {
        next += std::mem::replace(place, next);
    }
    order.clear();
    order.resize(batch.len(), 0);
    for at in 0..batch.len() {
        let place = &mut places[key(at)];
        order[*place as usize] = at as u32;
        *place += 1;
    }
    order
}

fn prefetch(data: &[u8]) {
    for line in data.chunks(CACHE_LINE) {
        // SAFETY: a prefetch reads nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
}

/// Decodes what comes before the lanes start; when something is left, copies the chunk and gives it a lane.
#[inline(always)]
fn begin(chunks: &[&[u8]], chunk: usize, batch: &mut Batch, group: &mut Vec<Lane>) -> Result<(), (usize, Fault)> {
    let data = chunks[chunk];
    let range = batch.range(chunk);
    let (times, values) = batch.slots(chunk);
    let Some(mut state) = scalar::head(data, times, values).map_err(|fault| (chunk, fault))? else { return Ok(()) };
    if is_constant(data, &state, times.len() - 2) {
        let mut time = state.time;
        for slot in &mut times[2..] {
            time = time.wrapping_add(state.delta);
            *slot = time;
        }
        values[2..].fill(f64::from_bits(state.value));
        return Ok(());
    }
    let (start, left) = (range.start + 2, range.len() - 2);
    state.at += batch.copies.len() * 8;
    batch.copies.extend_from_slice(data);
    let end = batch.copies.len() as u64 * 8;
    batch.copies.extend_from_slice(&[0; SLACK]);
    group.push(Lane { chunk, start, left, end, state });
    Ok(())
}

/// Whether all `left` samples behind `state` are two zeros.
fn is_constant(data: &[u8], state: &State, left: usize) -> bool {
    let bits = data.len() * 8 - state.at;
    let Some(([first, rest @ ..], true)) =
        data.get(state.at / 8..).map(|bytes| (bytes, (2 * left..2 * left + 8).contains(&bits)))
    else {
        return false;
    };
    first << (state.at % 8) == 0 && rest.iter().all(|byte| *byte == 0)
}

fn decode_alone(chunks: &[&[u8]], chunk: usize, batch: &mut Batch) -> Result<(), (usize, Fault)> {
    let (times, values) = batch.slots(chunk);
    scalar::decode(chunks[chunk], times, values).map_err(|fault| (chunk, fault))
}
