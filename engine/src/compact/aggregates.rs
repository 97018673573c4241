//! Downsampled chunks: each aggregate is a timeline of its own, except that the times of the counts say
//! where chunks are cut.
//!
//! A float counter ends with the raw last value, at the time of the sample before it:
//!
//! ```text
//! times    t1   t5   t9   t9
//! counter  c1   c5   c9   raw last value, by which the next chunk knows a reset before it
//! ```

use std::ops::Range;

use super::merge::Replicas;
use super::workers::{self, Budget};
use crate::chunk::Encoding;
use crate::chunk::aggr::{self, AggrChunk, Aggregate, Part};
use crate::chunk::samples::{ChunkSink, Encoder, SAMPLES_PER_CHUNK, Samples, Value};
use crate::chunk::xor::SAMPLES_MAX;
use crate::codec::Corrupt;
use crate::dedup::Pick;
use crate::dedup::chain::Chain;
use crate::dedup::fold::Fold;

/// One aggregate of a run of chunks.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// Its samples.
    pub(super) samples: Samples,
    /// For each sample, the raw value behind it where a counter's chunk ended with it.
    raw_last: Vec<Option<Value>>,
}

/// All aggregates of a run of chunks.
pub(super) type Timelines = [Option<Timeline>; 5];

impl Timeline {
    /// The timeline of `samples`.
    pub(super) fn new(samples: Samples) -> Self {
        let raw_last = vec![None; samples.times.len()];
        Self { samples, raw_last }
    }

    /// Appends the samples of one chunk, its raw last value set apart.
    fn decode(&mut self, aggregate: Aggregate, part: Part<'_>) -> Result<Range<usize>, Corrupt> {
        let start = self.samples.times.len();
        self.samples.decode(part.encoding, part.data)?;
        self.raw_last.resize(self.samples.times.len(), None);
        if aggregate == Aggregate::Counter
            && let [.., before, last] = self.samples.times[start..]
            && before == last
        {
            self.samples.times.pop();
            self.raw_last.pop();
            let raw = self.samples.values.pop();
            if let Some(last) = self.raw_last.last_mut() {
                *last = raw;
            }
        }
        Ok(start..self.samples.times.len())
    }

    /// The samples of which `picks` are the numbers.
    fn select(&self, picks: &[u32]) -> Self {
        let at = |pick: &u32| *pick as usize;
        Self {
            samples: Samples {
                times: picks.iter().map(|pick| self.samples.times[at(pick)]).collect(),
                values: picks.iter().map(|pick| self.samples.values[at(pick)].clone()).collect(),
                ..Samples::default()
            },
            raw_last: picks.iter().map(|pick| self.raw_last[at(pick)].clone()).collect(),
        }
    }
}

/// Writes the chunk `data` without the windows at times of which `stays` is false.
pub(super) fn cut(data: &[u8], stays: &dyn Fn(i64) -> bool, sink: &mut impl ChunkSink) -> Result<(), Corrupt> {
    let chunk = aggr::split(data)?;
    let mut timelines: Timelines = Default::default();
    for aggregate in Aggregate::ALL {
        let Some(part) = chunk.get(aggregate) else { continue };
        let mut whole = Timeline::default();
        let range = whole.decode(aggregate, part)?;
        let picks: Vec<u32> = range.filter(|at| stays(whole.samples.times[*at])).map(|at| at as u32).collect();
        timelines[aggregate as usize] = Some(whole.select(&picks));
    }
    encode(&timelines, SAMPLES_MAX / 2, sink);
    Ok(())
}

/// Merging chunks that overlap, which can be interrupted.
#[derive(Default)]
pub(super) struct Merging {
    /// Number of the aggregate whose samples are decoded and picked.
    aggregate: usize,
    /// Chunks of which that was decoded.
    decoded: usize,
    all: Timeline,
    ranges: Vec<Range<usize>>,
    picking: Picking,
    /// The aggregates before.
    timelines: Timelines,
    /// Windows that were written.
    written: usize,
}

impl Merging {
    /// Goes on with the merge of `chunks`, the base first, which are the same each time, and writes what
    /// they become, until `budget` is spent; whether there is more to do.
    pub(super) fn resume(
        &mut self,
        chunks: &[&[u8]],
        replicas: Replicas,
        sink: &mut impl ChunkSink,
        budget: &mut Budget,
    ) -> Result<bool, (usize, Corrupt)> {
        while let Some(aggregate) = Aggregate::ALL.get(self.aggregate) {
            while self.decoded < chunks.len() {
                if budget.is_spent() {
                    return Ok(true);
                }
                // The base comes last, as upstream has it.
                let at = (self.decoded + 1) % chunks.len();
                let split = aggr::split(chunks[at]).map_err(|corrupt| (at, corrupt))?;
                if let Some(part) = split.get(*aggregate) {
                    self.ranges.push(self.all.decode(*aggregate, part).map_err(|corrupt| (at, corrupt))?);
                    budget.spend(workers::units(part.encoding));
                }
                self.decoded += 1;
            }
            if self.picking.resume(&self.all.samples.times, &self.ranges, replicas, budget) {
                return Ok(true);
            }
            if !self.ranges.is_empty() {
                self.timelines[self.aggregate] = Some(self.all.select(self.picking.picks(replicas)));
            }
            (self.all, self.picking, self.decoded) = (Timeline::default(), Picking::default(), 0);
            self.ranges.clear();
            self.aggregate += 1;
        }
        while let Some(written) = encode_next(&self.timelines, (self.written, SAMPLES_PER_CHUNK), sink) {
            self.written = written;
            budget.spend(workers::units(Encoding::Aggr));
            if budget.is_spent() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Picking the samples that stay of timelines, which can be interrupted.
#[derive(Default)]
pub(super) struct Picking {
    fold: Fold,
    /// Timelines that were folded.
    folded: usize,
    chain: Chain,
    picks: Vec<u32>,
    found: Vec<Pick>,
}

impl Picking {
    /// Goes on with picking from timelines that lie at `ranges` of `times`, which are the same each time,
    /// until `budget` is spent; whether there is more to do.
    pub(super) fn resume(
        &mut self,
        times: &[i64],
        ranges: &[Range<usize>],
        replicas: Replicas,
        budget: &mut Budget,
    ) -> bool {
        match replicas {
            Replicas::Penalty => {
                while let Some(range) = ranges.get(self.folded) {
                    if budget.is_spent() {
                        return true;
                    }
                    self.fold.add(&times[range.clone()], range.start as u32);
                    budget.spend(workers::sample_units(range.len()));
                    self.folded += 1;
                }
                false
            }
            Replicas::OneToOne => {
                let timelines: Vec<&[i64]> = ranges.iter().map(|range| &times[range.clone()]).collect();
                let has_more = self.chain.resume(&timelines, budget.samples(), &mut self.found);
                budget.spend(workers::sample_units(self.found.len()));
                let first = |pick: &Pick| ranges[pick.replica as usize].start as u32;
                self.picks.extend(self.found.iter().map(|pick| first(pick) + pick.sample));
                self.found.clear();
                has_more
            }
        }
    }

    /// The numbers of the samples that stay, once all are picked.
    pub(super) fn picks(&self, replicas: Replicas) -> &[u32] {
        match replicas {
            Replicas::Penalty => self.fold.picks(),
            Replicas::OneToOne => &self.picks,
        }
    }
}

/// The numbers of the samples that stay of timelines that lie at `ranges` of `times`.
pub(super) fn pick(times: &[i64], ranges: &[Range<usize>], replicas: Replicas) -> Vec<u32> {
    let mut picking = Picking::default();
    while picking.resume(times, ranges, replicas, &mut Budget::new(usize::MAX)) {}
    picking.picks(replicas).to_vec()
}

/// A chunk that collects what an encoder gives.
#[derive(Default)]
struct Collected {
    chunks: Vec<(i64, Encoding, Vec<u8>)>,
}

impl ChunkSink for Collected {
    fn chunk(&mut self, times: (i64, i64), chunk: (Encoding, &[u8]), _samples: u16) {
        self.chunks.push((times.1, chunk.0, chunk.1.to_vec()));
    }
}

/// Writes chunks of at most `windows_max` windows each.
pub(super) fn encode(timelines: &Timelines, windows_max: usize, sink: &mut impl ChunkSink) {
    let mut written = 0;
    while let Some(next) = encode_next(timelines, (written, windows_max), sink) {
        written = next;
    }
}

/// Writes the chunk of at most `windows_max` windows that starts with window number `start`; gives the
/// window behind it, and nothing when there is no window.
fn encode_next(
    timelines: &Timelines,
    (start, windows_max): (usize, usize),
    sink: &mut impl ChunkSink,
) -> Option<usize> {
    let times = &timelines[Aggregate::Count as usize].as_ref()?.samples.times;
    if start >= times.len() {
        return None;
    }
    let mut end = times.len().min(start + windows_max);
    let parts = loop {
        let (parts, cut) = encode_parts(timelines, times[start]..=times[end - 1]);
        // A histogram that cannot follow the one before it ends the chunk of all aggregates.
        let sooner = cut.map(|cut| start + times[start..end].partition_point(|time| *time <= cut));
        match sooner.filter(|sooner| (start + 1..end).contains(sooner)) {
            Some(sooner) => end = sooner,
            None => break parts,
        }
    };
    let mut chunk = AggrChunk::default();
    for (aggregate, part) in Aggregate::ALL.into_iter().zip(&parts) {
        if let Some((encoding, data)) = part {
            chunk.set(aggregate, Part { encoding: *encoding, data });
        }
    }
    let mut data = Vec::new();
    aggr::encode(&chunk, &mut data);
    sink.chunk((times[start], times[end - 1]), (Encoding::Aggr, &data), (end - start) as u16);
    Some(end)
}

type Parts = [Option<(Encoding, Vec<u8>)>; 5];

/// The chunks of all aggregates in a range of times; with the earliest time after which one of them
/// had to be cut, where one had.
fn encode_parts(timelines: &Timelines, range: std::ops::RangeInclusive<i64>) -> (Parts, Option<i64>) {
    let (mut parts, mut cut) = (Parts::default(), None::<i64>);
    for aggregate in Aggregate::ALL {
        let Some(Timeline { samples, raw_last }) = &timelines[aggregate as usize] else { continue };
        let from = samples.times.partition_point(|time| time < range.start());
        let to = samples.times.partition_point(|time| time <= range.end());
        let mut encoder = Encoder::new(SAMPLES_MAX).without_reset();
        let mut collected = Collected::default();
        for at in from..to {
            encoder.push(samples.times_of(at), &samples.values[at], &mut collected);
        }
        if aggregate == Aggregate::Counter
            && from < to
            && let Some(value @ Value::Float(_)) = raw_last[to - 1].as_ref().or(samples.values.get(to - 1))
        {
            encoder.push(samples.times_of(to - 1), value, &mut collected);
        }
        encoder.finish(&mut collected);
        let mut chunks = collected.chunks.into_iter();
        if let Some((end, encoding, data)) = chunks.next() {
            if chunks.next().is_some() {
                cut = Some(cut.map_or(end, |cut| cut.min(end)));
            }
            parts[aggregate as usize] = Some((encoding, data));
        }
    }
    (parts, cut)
}
