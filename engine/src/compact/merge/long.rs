//! Merges that can be interrupted: of more chunks than a core takes at once, such as those of replicas
//! over weeks, and of all chunks that are not floats. All chunks are decoded, then the samples that stay
//! are picked, then these are encoded; each goes on where it was.

use std::ops::Range;

use super::items::Item;
use super::{Act, DECODE_CHUNKS, Replicas, is_aggregates, is_floats};
use crate::chunk::samples::{Encoder, SAMPLES_PER_CHUNK, Samples};
use crate::chunk::{Encoding, xor};
use crate::compact::aggregates::{Merging, Picking};
use crate::compact::output::Made;
use crate::compact::workers::{self, Budget};
use crate::model::Error;

/// A merge of many chunks.
pub(super) enum Long {
    /// All are floats.
    Floats(Box<Floats>),
    /// All are downsampled.
    Aggregates(Box<Aggregates>),
    /// Kinds differ, or all are histograms.
    Others(Box<Others>),
}

impl Long {
    /// The merge of the chunks of `group`.
    pub(super) fn of(group: &[Item]) -> Self {
        match (is_floats(group), is_aggregates(group)) {
            (true, _) => Self::Floats(Box::default()),
            (_, true) => Self::Aggregates(Box::default()),
            _ => Self::Others(Box::default()),
        }
    }

    /// Goes on until `budget` is spent; whether there is more to do.
    pub(super) fn resume(
        &mut self,
        group: &[Item],
        act: &mut Act<'_>,
        made: &mut Made,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        match self {
            Self::Floats(floats) => floats.resume(group, act, made, budget),
            Self::Aggregates(aggregates) => aggregates.resume(group, act, made, budget),
            Self::Others(others) => others.resume(group, act, made, budget),
        }
    }
}

/// The place in `group` of the chunk that is decoded as number `at`: the base first, or last where no
/// replica is preferred, as upstream has it.
fn place(at: usize, group: &[Item], replicas: Replicas) -> usize {
    match replicas {
        Replicas::Penalty => at,
        Replicas::OneToOne => (at + 1) % group.len(),
    }
}

/// A merge of floats.
#[derive(Default)]
pub(super) struct Floats {
    times: Vec<i64>,
    values: Vec<f64>,
    /// Where the samples of each chunk lie that was decoded.
    ranges: Vec<Range<usize>>,
    picking: Picking,
    /// Samples that were encoded.
    encoded: usize,
}

impl Floats {
    fn resume(
        &mut self,
        group: &[Item],
        act: &mut Act<'_>,
        made: &mut Made,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        let units = workers::units(Encoding::Xor);
        while self.ranges.len() < group.len() {
            if budget.is_spent() {
                return Ok(true);
            }
            let len = budget.count_of(units).min(DECODE_CHUNKS).min(group.len() - self.ranges.len());
            self.decode(len, group, act, made)?;
            budget.spend(len * units);
        }
        if self.picking.resume(&self.times, &self.ranges, act.replicas, budget) {
            return Ok(true);
        }
        let super::Floats { times, values, data, .. } = &mut *act.floats;
        let picks = self.picking.picks(act.replicas);
        while self.encoded < picks.len() {
            if budget.is_spent() {
                return Ok(true);
            }
            let picks = &picks[self.encoded..picks.len().min(self.encoded + SAMPLES_PER_CHUNK)];
            times.clear();
            times.extend(picks.iter().map(|pick| self.times[*pick as usize]));
            values.clear();
            values.extend(picks.iter().map(|pick| self.values[*pick as usize]));
            data.clear();
            xor::encode(times, values, data);
            made.encode((times[0], times[times.len() - 1]), (Encoding::Xor, data), times.len() as u16);
            self.encoded += picks.len();
            budget.spend(units);
        }
        Ok(false)
    }

    /// Decodes the next `len` chunks.
    fn decode(&mut self, len: usize, group: &[Item], act: &mut Act<'_>, made: &mut Made) -> Result<(), Error> {
        let next = self.ranges.len();
        let items: Vec<Item> = (next..next + len).map(|at| group[place(at, group, act.replicas)]).collect();
        let chunks: Vec<&[u8]> = items.iter().map(|item| act.items.chunk(*item, act.origin).data).collect();
        let batch = &mut act.floats.batch;
        let decoded = xor::decode_batch(&chunks, batch);
        decoded.map_err(|(at, corrupt)| act.items.place(items[at], corrupt, act.origin))?;
        let start = self.times.len();
        self.times.extend_from_slice(batch.timestamps());
        self.values.extend_from_slice(batch.values());
        self.ranges.extend((0..len).map(|chunk| start + batch.range(chunk).start..start + batch.range(chunk).end));
        made.stats.chunks_decoded += len as u64;
        made.stats.samples_decoded += batch.sample_count() as u64;
        Ok(())
    }
}

/// A merge of samples of any kinds.
pub(super) struct Others {
    samples: Samples,
    /// Where the samples of each chunk lie that was decoded.
    ranges: Vec<Range<usize>>,
    picking: Picking,
    encoder: Encoder,
    /// Samples that were encoded.
    encoded: usize,
}

impl Default for Others {
    fn default() -> Self {
        let (samples, picking, encoder) = (Samples::default(), Picking::default(), Encoder::new(SAMPLES_PER_CHUNK));
        Self { samples, ranges: Vec::new(), picking, encoder, encoded: 0 }
    }
}

impl Others {
    /// As [`Long::resume`].
    pub(super) fn resume(
        &mut self,
        group: &[Item],
        act: &mut Act<'_>,
        made: &mut Made,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        let Self { samples, ranges, picking, encoder, encoded } = self;
        while ranges.len() < group.len() {
            if budget.is_spent() {
                return Ok(true);
            }
            let item = group[place(ranges.len(), group, act.replicas)];
            let (chunk, start) = (act.items.chunk(item, act.origin), samples.times.len());
            let decoded = samples.decode(chunk.encoding, chunk.data);
            decoded.map_err(|corrupt| act.items.place(item, corrupt, act.origin))?;
            ranges.push(start..samples.times.len());
            made.stats.chunks_decoded += 1;
            made.stats.samples_decoded += (samples.times.len() - start) as u64;
            budget.spend(workers::units(chunk.encoding));
        }
        if picking.resume(&samples.times, ranges, act.replicas, budget) {
            return Ok(true);
        }
        let picks = picking.picks(act.replicas);
        while let Some(pick) = picks.get(*encoded) {
            if budget.is_spent() {
                return Ok(true);
            }
            let pick = *pick as usize;
            encoder.push(samples.times_of(pick), &samples.values[pick], made);
            budget.spend(workers::units(samples.values[pick].encoding()).div_ceil(SAMPLES_PER_CHUNK));
            *encoded += 1;
        }
        encoder.finish(made);
        Ok(false)
    }
}

/// A merge of downsampled chunks.
#[derive(Default)]
pub(super) struct Aggregates {
    merging: Merging,
    counted: bool,
}

impl Aggregates {
    /// As [`Long::resume`].
    pub(super) fn resume(
        &mut self,
        group: &[Item],
        act: &mut Act<'_>,
        made: &mut Made,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        if !std::mem::replace(&mut self.counted, true) {
            made.stats.chunks_decoded += group.len() as u64;
        }
        let chunks: Vec<&[u8]> = group.iter().map(|item| act.items.chunk(*item, act.origin).data).collect();
        let merged = self.merging.resume(&chunks, act.replicas, made, budget);
        merged.map_err(|(at, corrupt)| act.items.place(group[at], corrupt, act.origin))
    }
}
