//! One series of a TSDB, from several of its blocks: chunks that overlap are made into chunks that don't, as
//! Prometheus' merge of chunk series does; the others stay as they are.
//!
//! ```text
//! block            ▐──a──▌▐──b──▌                  ▐─1─▌▐─2─▌▐─3─▌▐──d──▌
//! late samples         ▐────c────▌          ──>     samples of a, b, c
//! head                            ▐──d──▌
//! ```

use crate::chunk::Encoding;
use crate::chunk::samples::{ChunkSink, Encoder, SAMPLES_PER_CHUNK, Samples};
use crate::codec::Corrupt;
use crate::dedup::{chain, overlap};
use crate::model::{Error, Reservation, TimeRange};

use super::request::Meter;
use super::sink::{ChunkData, ChunkSet};

/// Bytes that a decoded float is accounted for with, and that it takes when it is encoded again.
const FLOAT_BYTES: u64 = 48;

/// Bytes that a decoded histogram is accounted for with.
const HISTOGRAM_BYTES: u64 = 512;

/// Chunks of which none overlaps another of the same series of a TSDB.
#[derive(Debug, Default)]
pub(super) struct Joined<'a> {
    passed: Vec<ChunkSet<'a>>,
    made: Made,
    /// Memory that the chunks are accounted for with.
    held: Vec<Reservation>,
}

/// Chunks that were made: the times of each, its encoding and its data.
#[derive(Debug, Default)]
struct Made(Vec<((i64, i64), Encoding, Vec<u8>)>);

/// A chunk that can't be decoded, by its place among those that were to be merged, and why.
type Undecoded = (usize, Corrupt);

/// Whether a chunk begins before one of another block of its TSDB has ended: of each the TSDB, if there is one,
/// the block, and the first and last time. Those of a TSDB, and of a block, are beside each other.
pub(super) fn may_overlap(chunks: impl IntoIterator<Item = (Option<u32>, u32, TimeRange)>) -> bool {
    let mut last = (None, 0);
    let (mut ended, mut ends) = (i64::MIN, i64::MIN);
    for (tsdb, block, times) in chunks {
        if tsdb.is_none() {
            continue;
        }
        if tsdb != last.0 {
            (ended, ends) = (i64::MIN, i64::MIN);
        } else if block != last.1 {
            ended = ends;
        }
        if times.min_time <= ended {
            return true;
        }
        last = (tsdb, block);
        ends = ends.max(times.max_time);
    }
    false
}

impl<'a> Joined<'a> {
    /// Accounts for the chunks that stay as they are. Limit when there is no memory for them.
    pub(super) fn hold_passed(&mut self, meter: &Meter) -> Result<(), Error> {
        self.held.push(meter.hold(size_of_val(&self.passed[..]) as u64)?);
        Ok(())
    }

    /// Adds a chunk as it is.
    pub(super) fn pass(&mut self, set: ChunkSet<'a>) {
        self.passed.push(set);
    }

    /// Adds the chunks of one series of a TSDB, in their order. Where one can't be decoded, those that it overlaps
    /// stay as they are, and it is given back with the reason. Limit when there is no memory for the samples.
    pub(super) fn add(
        &mut self,
        sets: &[ChunkSet<'a>],
        meter: &Meter,
    ) -> Result<Option<(ChunkSet<'a>, Corrupt)>, Error> {
        let mut undecoded = None;
        let mut rest = sets;
        while !rest.is_empty() {
            let (group, behind) = rest.split_at(overlapping(rest));
            rest = behind;
            if group.len() == 1 || group.iter().any(|set| set.raw_part().is_none()) {
                self.passed.extend_from_slice(group);
                continue;
            }
            let mut held = meter.hold(group.iter().filter_map(ChunkSet::raw_part).map(decoded_bytes).sum())?;
            let before = self.made.0.len();
            if let Err((at, corrupt)) = merge(group, &mut self.made) {
                self.passed.extend_from_slice(group);
                undecoded = Some((group[at], corrupt));
            }
            // The samples are gone; what was made of them stays until the whole range was taken.
            held.shrink(held.bytes().saturating_sub(self.made.heap_bytes_from(before)));
            self.held.push(held);
        }
        Ok(undecoded)
    }

    /// Puts the chunks that have a millisecond of `range` between their first and last sample in the place of
    /// what `sets` held.
    pub(super) fn sets<'s>(&'s self, range: TimeRange, sets: &mut Vec<ChunkSet<'s>>) {
        let made = self.made.0.iter().map(|((min_time, max_time), encoding, data)| {
            ChunkSet::raw(*min_time, *max_time, ChunkData { encoding: *encoding, data })
        });
        let within = made.filter(|set| range.overlaps(TimeRange::new(set.min_time, set.max_time)));
        sets.clear();
        sets.extend(self.passed.iter().copied().chain(within));
    }
}

impl Made {
    /// Bytes of the chunks from number `first` on.
    fn heap_bytes_from(&self, first: usize) -> u64 {
        self.0[first..].iter().map(|chunk| (size_of_val(chunk) + chunk.2.capacity()) as u64).sum()
    }
}

impl ChunkSink for Made {
    fn chunk(&mut self, times: (i64, i64), (encoding, data): (Encoding, &[u8]), _samples: u16) {
        self.0.push((times, encoding, data.to_vec()));
    }
}

/// How many of `sets`, from the first on, overlap one before them, the first among them.
fn overlapping(sets: &[ChunkSet<'_>]) -> usize {
    let mut end = i64::MIN;
    let follows = |set: &ChunkSet<'_>| {
        let follows = set.min_time > end && end > i64::MIN;
        end = end.max(set.max_time);
        follows
    };
    sets.iter().position(follows).unwrap_or(sets.len())
}

/// Bytes that the samples of `chunk` take, and the chunks that they go into.
fn decoded_bytes(chunk: ChunkData<'_>) -> u64 {
    let samples = chunk.data.first_chunk().map_or(0, |count| u64::from(u16::from_be_bytes(*count)));
    samples * if chunk.encoding == Encoding::Xor { FLOAT_BYTES } else { HISTOGRAM_BYTES }
}

/// Appends the samples of `sets` to `made`, each time once.
fn merge(sets: &[ChunkSet<'_>], made: &mut Made) -> Result<(), Undecoded> {
    let ranges: Vec<TimeRange> = sets.iter().map(|set| TimeRange::new(set.min_time, set.max_time)).collect();
    let mut lanes: Vec<Samples> = Vec::new();
    for (at, (set, lane)) in sets.iter().zip(overlap::split(&ranges)).enumerate() {
        lanes.resize_with(lanes.len().max(lane as usize + 1), Samples::default);
        let Some(chunk) = set.raw_part() else { continue };
        let decoded = lanes[lane as usize].decode(chunk.encoding, chunk.data);
        decoded.map_err(|corrupt| (at, corrupt))?;
    }
    let columns: Vec<&[i64]> = lanes.iter().map(|lane| lane.times.as_slice()).collect();
    let mut picks = Vec::new();
    chain::merge(&columns, &mut picks);
    let mut encoder = Encoder::new(SAMPLES_PER_CHUNK);
    for pick in picks {
        let (lane, at) = (&lanes[pick.replica as usize], pick.sample as usize);
        encoder.push(lane.times_of(at), &lane.values[at], made);
    }
    encoder.finish(made);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::xor;
    use crate::model::Budget;
    use crate::select::Limits;

    #[test]
    fn of_a_joined_series_the_chunks_alone_are_held() {
        let (times, values): (Vec<i64>, Vec<f64>) = (0..100).map(|at| (at * 1000, at as f64)).unzip();
        let mut data = Vec::new();
        xor::encode(&times, &values, &mut data);
        let late: Vec<i64> = times.iter().map(|time| time + 500).collect();
        let mut late_data = Vec::new();
        xor::encode(&late, &values, &mut late_data);
        let chunk = |data| ChunkData { encoding: Encoding::Xor, data };
        let sets = [ChunkSet::raw(0, 99_000, chunk(&data)), ChunkSet::raw(500, 99_500, chunk(&late_data))];

        // The samples of one series fit in, of two they don't.
        let budget = Budget::new("store.memory-limit", 300 * FLOAT_BYTES);
        let meter = Meter::new(Limits::default(), &budget);
        let all: Vec<Joined<'_>> = (0..5)
            .map(|_| {
                let mut joined = Joined::default();
                assert_eq!(joined.add(&sets, &meter), Ok(None));
                joined
            })
            .collect();
        let made: u64 = all.iter().map(|joined| joined.made.heap_bytes_from(0)).sum();
        assert_eq!(budget.usage().used, made);
        let mut chunks = Vec::new();
        all[4].sets(TimeRange::new(0, 100_000), &mut chunks);
        assert_eq!(
            chunks.iter().filter_map(ChunkSet::raw_part).map(|raw| xor::count(raw.data).unwrap()).sum::<usize>(),
            200
        );
        drop(all);
        assert_eq!(budget.usage().used, 0);
    }
}
