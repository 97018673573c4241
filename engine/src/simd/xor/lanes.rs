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
#[derive(Clone, Copy, Default)]
pub(super) struct Lane {
    pub(super) chunk: usize,
    /// Its first sample that is not decoded yet, within the columns.
    pub(super) start: usize,
    /// Samples that are not decoded yet.
    pub(super) left: usize,
}

/// Bit, time, delta, value, unused bits and zeros below the payload of `LANES` chunks.
pub(super) type Fields<const LANES: usize> = [[u64; LANES]; 6];

/// Chunks that are decoded side by side. What vectors are loaded from is written a chunk at a time while the
/// chunks are begun: written right before the load, it would have to be waited for.
#[derive(Default)]
pub(super) struct Group {
    lanes: [Lane; GROUP],
    len: usize,
    fields: Fields<GROUP>,
    /// The bit behind each copy.
    ends: [u64; GROUP],
    lefts: [u64; GROUP],
}

impl Group {
    pub(super) fn lanes(&self) -> &[Lane] {
        &self.lanes[..self.len]
    }

    /// The states of the lanes of vector `at`.
    pub(super) fn fields<const LANES: usize>(&self, at: usize) -> [&[u64; LANES]; 6] {
        self.fields.each_ref().map(|column| part(column, at))
    }

    /// Where the chunks of vector `at` end.
    pub(super) fn ends<const LANES: usize>(&self, at: usize) -> &[u64; LANES] {
        part(&self.ends, at)
    }

    /// Samples that are not decoded yet of the chunks of vector `at`.
    pub(super) fn lefts<const LANES: usize>(&self, at: usize) -> &[u64; LANES] {
        part(&self.lefts, at)
    }

    /// Samples that the longest chunk has left, and the shortest, or none where there are fewer than sixteen.
    pub(super) fn longest_and_shortest(&self) -> (usize, usize) {
        let lefts = || self.lanes().iter().map(|lane| lane.left);
        let shortest = lefts().min().filter(|_| self.len == GROUP);
        (lefts().max().unwrap_or(0), shortest.unwrap_or(0))
    }

    #[inline(always)]
    fn push(&mut self, lane: Lane, end: u64, state: &State) {
        let at = self.len;
        self.lanes[at] = lane;
        for (column, field) in self.fields.iter_mut().zip(fields_of(state)) {
            column[at] = field;
        }
        self.ends[at] = end;
        self.lefts[at] = lane.left as u64;
        self.len += 1;
    }

    /// Lets the lanes without a chunk do what the first does.
    fn fill(&mut self) {
        if self.len == GROUP {
            return;
        }
        for column in self.fields.iter_mut().chain([&mut self.ends, &mut self.lefts]) {
            let first = column[0];
            column[self.len..].fill(first);
        }
    }
}

/// What vector `at` of `LANES` lanes has of a column.
fn part<const LANES: usize>(column: &[u64; GROUP], at: usize) -> &[u64; LANES] {
    column[at * LANES..].first_chunk().expect("a group is whole vectors")
}

#[inline(always)]
fn fields_of(state: &State) -> [u64; 6] {
    let unused = u64::from(64 - state.width);
    [state.at as u64, state.time as u64, state.delta as u64, state.value, unused, u64::from(state.below)]
}

/// As [`scalar::decode_batch`], groups of chunks by `decode_group`, which gives the lanes whose chunks
/// it did not decode, one bit each.
pub(super) fn decode(
    chunks: &[&[u8]],
    batch: &mut Batch,
    decode_group: impl Fn(&Group, &mut Batch) -> u32,
) -> Result<(), (usize, Fault)> {
    let order = sort(batch);
    let mut group = Group::default();
    batch.copies.clear();
    let mut taken = 0;
    while taken < order.len() || group.len > 0 {
        while group.len < GROUP && taken < order.len() {
            if let Some(ahead) = order.get(taken + GROUP) {
                prefetch(chunks[*ahead as usize]);
            }
            begin(chunks, order[taken] as usize, batch, &mut group)?;
            taken += 1;
        }
        group.fill();
        let undecoded = if group.len < GROUP_MIN { u32::MAX } else { decode_group(&group, batch) };
        for (at, lane) in group.lanes().iter().enumerate() {
            if undecoded >> at & 1 == 1 {
                decode_alone(chunks, lane.chunk, batch)?;
            }
        }
        group.len = 0;
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

/// Decodes a sample of each lane, one lane after the other.
pub(super) fn step_alone<const LANES: usize>(fields: &mut Fields<LANES>, copies: &[u8]) {
    for lane in 0..LANES {
        let [at, time, delta, value, unused, below] = fields.each_ref().map(|column| column[lane]);
        let mut state = State {
            at: at as usize,
            time: time as i64,
            delta: delta as i64,
            value,
            width: 64 - unused as u32,
            below: below as u32,
        };
        scalar::run(copies, usize::MAX, &mut state, &mut [0], &mut [0.0]);
        for (column, field) in fields.iter_mut().zip(fields_of(&state)) {
            column[lane] = field;
        }
    }
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
fn begin(chunks: &[&[u8]], chunk: usize, batch: &mut Batch, group: &mut Group) -> Result<(), (usize, Fault)> {
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
    group.push(Lane { chunk, start, left }, end, &state);
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
