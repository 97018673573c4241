//! Chunks: from the bytes of a segment to what the wire carries.

use std::collections::HashSet;

use crate::chunk::aggr::{self, AggrChunk};
use crate::chunk::{Encoding, reencode_for_storeapi, segment};
use crate::codec::{Corrupt, varint};
use crate::model::{Error, ErrorKind};

use super::request::{Aggregate, Aggregates};
use super::sink::{ChunkData, ChunkSet};

/// Bytes of a chunk's record besides the length and the data: encoding and checksum.
const RECORD_OVERHEAD: u64 = 5;

/// Longest record that is believed; a length above is damage.
pub const RECORD_BYTES_MAX: u64 = 32 << 20;

/// A chunk whose checksum was found right, in an encoding that StoreAPI's clients know.
#[derive(Debug)]
pub enum Record<'a> {
    /// As it is stored.
    Stored(ChunkData<'a>),
    /// In another encoding than it is stored.
    Recoded(Encoding, Vec<u8>),
    /// Count, sum, min, max and counter of windows; elsewhere, as most records are none and lie side by side.
    Aggregated(Box<AggrChunk<'a>>),
}

/// Bytes that the record at the start of `bytes` has by its own word; `None` when not even its length
/// is there.
pub fn record_len(bytes: &[u8]) -> Option<u64> {
    let (data, len) = varint::decode_u64(bytes)?;
    data.checked_add(len as u64 + RECORD_OVERHEAD)
}

impl<'a> Record<'a> {
    /// Reads the record at the start of `bytes`, which start at byte `offset` of their segment.
    pub fn decode(bytes: &'a [u8], offset: u64) -> Result<Self, Corrupt> {
        let chunk = segment::read_at(bytes, offset, offset)?;
        let within = |corrupt: Corrupt| {
            let reason = format!("at byte {} of its data: {}", corrupt.offset, corrupt.reason);
            Corrupt::new(corrupt.what, offset, reason)
        };
        match chunk.encoding {
            Encoding::Xor | Encoding::Histogram | Encoding::FloatHistogram => {
                Ok(Self::Stored(ChunkData { encoding: chunk.encoding, data: chunk.data }))
            }
            Encoding::Aggr => aggr::split(chunk.data).map(|parts| Self::Aggregated(Box::new(parts))).map_err(within),
            other => {
                let mut data = Vec::new();
                let plain = reencode_for_storeapi(other, chunk.data, &mut data).map(|(encoding, _)| encoding);
                plain.map(|encoding| Self::Recoded(encoding, data)).map_err(within)
            }
        }
    }

    /// Appends what a client that asked for `aggregates` gets of the record.
    #[inline]
    pub fn push_set<'s>(
        &'s self,
        (min_time, max_time): (i64, i64),
        aggregates: Aggregates,
        sets: &mut Vec<ChunkSet<'s>>,
    ) -> Result<(), Error> {
        match self {
            Self::Stored(chunk) => sets.push(ChunkSet::raw(min_time, max_time, *chunk)),
            Self::Recoded(encoding, data) => {
                sets.push(ChunkSet::raw(min_time, max_time, ChunkData { encoding: *encoding, data }));
            }
            Self::Aggregated(parts) => {
                let mut set = ChunkSet::empty(min_time, max_time);
                for aggregate in aggregates.iter() {
                    let Some(part) = parts.get(stored(aggregate)) else {
                        let message = format!("aggregate {} does not exist", aggregate.name());
                        return Err(Error::new(ErrorKind::Invalid, message));
                    };
                    set.set_part(aggregate, ChunkData { encoding: part.encoding, data: part.data });
                }
                sets.push(set);
            }
        }
        Ok(())
    }
}

fn stored(aggregate: Aggregate) -> aggr::Aggregate {
    match aggregate {
        Aggregate::Count => aggr::Aggregate::Count,
        Aggregate::Sum => aggr::Aggregate::Sum,
        Aggregate::Min => aggr::Aggregate::Min,
        Aggregate::Max => aggr::Aggregate::Max,
        Aggregate::Counter => aggr::Aggregate::Counter,
    }
}

/// Puts the chunk sets of one series in order of time, drops copies, and those that are empty beside others
/// that are not.
pub fn settle(sets: &mut Vec<ChunkSet<'_>>) {
    if sets.iter().any(|set| !set.is_empty()) {
        sets.retain(|set| !set.is_empty());
    }
    let times = |set: &ChunkSet<'_>| (set.min_time, set.max_time);
    if !sets.is_sorted_by(|left, right| times(left) < times(right)) {
        arrange(sets, |set| *set);
    }
}

/// Most bytes of sets of one series that are put in order with memory beside them.
const SORTED_BESIDE_BYTES_MAX: usize = 1 << 20;

/// Puts `items`, each of which is a set of chunks, in [`ChunkSet::order`] and drops copies.
pub fn arrange<T: PartialEq>(items: &mut Vec<T>, set: impl for<'a> Fn(&'a T) -> ChunkSet<'a>) {
    let is_single = |item: &T| set(item).parts.iter().flatten().count() <= 1;
    if !items.iter().all(is_single) {
        drop_copies(items, &set);
    }
    let order = |left: &T, right: &T| set(left).order(&set(right));
    // Those of one place are equal. What is quicker where they come in runs takes as much memory again.
    if size_of_val(items.as_slice()) <= SORTED_BESIDE_BYTES_MAX {
        items.sort_by(order);
    } else {
        items.sort_unstable_by(order);
    }
    items.dedup_by(|later, earlier| is_single(later) && later == earlier);
}

/// Drops copies of downsampled sets as Thanos does, as what its queriers make of replicas depends on it: of the
/// parts of a set (raw, count, max, min, sum, counter) the first that is new is noted, and a set without a new one is
/// a copy. So of two equal sets of counts and sums both stay.
fn drop_copies<T>(items: &mut Vec<T>, set: impl for<'a> Fn(&'a T) -> ChunkSet<'a>) {
    const NOTED: [usize; 6] = [0, 1, 4, 3, 2, 5];
    let mut noted = HashSet::new();
    let is_new = |item| {
        let set: ChunkSet<'_> = set(item);
        set.is_empty() || NOTED.iter().filter_map(|part| set.parts[*part]).any(|chunk| noted.insert(chunk.data))
    };
    let stays: Vec<bool> = items.iter().map(is_new).collect();
    let mut stays = stays.into_iter();
    items.retain(|_| stays.next().unwrap_or(true));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_of<'r>(record: &'r Record<'_>, aggregates: Aggregates) -> Result<ChunkSet<'r>, Error> {
        let mut sets = Vec::new();
        record.push_set((1, 2), aggregates, &mut sets).map(|()| sets[0])
    }

    #[test]
    fn of_equal_sets_as_many_stay_as_they_have_parts() {
        let part = |data: &'static [u8]| ChunkData { encoding: Encoding::Xor, data };
        let set = |counts: &'static [u8], sums: &'static [u8]| {
            let mut set = ChunkSet::empty(1, 2);
            set.set_part(Aggregate::Count, part(counts));
            set.set_part(Aggregate::Sum, part(sums));
            set
        };
        let settled = |mut sets: Vec<ChunkSet<'static>>| {
            settle(&mut sets);
            sets.len()
        };
        let raw = ChunkSet::raw(1, 2, part(b"a"));
        assert_eq!(settled(vec![raw; 3]), 1);
        assert_eq!(settled(vec![set(b"c", b"s"); 2]), 2);
        assert_eq!(settled(vec![set(b"c", b"s"); 3]), 2);
        assert_eq!(settled(vec![set(b"c", b"c"); 3]), 1);
        assert_eq!(settled(vec![set(b"c", b"s"), set(b"c", b"t"), set(b"c", b"s")]), 3);
        assert_eq!(settled(vec![ChunkSet::empty(1, 2); 2]), 1);
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn encodings_that_the_wire_lacks_go_out_as_prometheus_writes_the_same_samples() {
        let lines = include_str!("../chunk/testdata/start_timestamps.txt").lines();
        for line in lines.filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split(' ').collect();
            let encoding = Encoding::parse(fields[0].parse().unwrap(), 0).unwrap();
            let mut bytes = Vec::new();
            segment::encode(encoding, &hex(fields[2]), &mut bytes);
            assert_eq!(record_len(&bytes), Some(bytes.len() as u64));
            let record = Record::decode(&bytes, 8).unwrap();
            let set = set_of(&record, Aggregates::default()).unwrap();
            let plain = [Encoding::Xor, Encoding::Histogram, Encoding::FloatHistogram][encoding.byte() as usize - 4];
            assert_eq!(set.raw_part(), Some(ChunkData { encoding: plain, data: &hex(fields[3]) }));
        }
    }

    #[test]
    fn sets_of_the_same_times_are_in_the_order_of_thanos() {
        let set = |encoding, data: &'static [u8]| ChunkSet::raw(1, 2, ChunkData { encoding, data });
        let mut sets = vec![
            set(Encoding::Histogram, &[9]),
            set(Encoding::Xor, &[1, 2]),
            set(Encoding::Xor, &[1, 2]),
            set(Encoding::Xor, &[3]),
            ChunkSet::raw(0, 3, ChunkData { encoding: Encoding::Xor, data: &[0] }),
        ];
        settle(&mut sets);
        let data: Vec<&[u8]> = sets.iter().map(|set| set.raw_part().unwrap().data).collect();
        assert_eq!(data, [&[0][..], &[3], &[1, 2], &[9]]);
    }

    #[test]
    fn an_aggregate_that_a_chunk_lacks_is_an_error_and_one_that_nobody_wants_is_not() {
        let sum = aggr::Part { encoding: Encoding::Xor, data: &[0, 0] };
        let mut parts = AggrChunk::default();
        parts.set(aggr::Aggregate::Sum, sum);
        let (mut data, mut bytes) = (Vec::new(), Vec::new());
        aggr::encode(&parts, &mut data);
        segment::encode(Encoding::Aggr, &data, &mut bytes);
        let record = Record::decode(&bytes, 8).unwrap();
        let wanted = Aggregates::default().with(Aggregate::Sum);
        assert!(set_of(&record, wanted).unwrap().part(Aggregate::Sum).is_some());
        assert!(set_of(&record, Aggregates::default()).unwrap().is_empty());
        let error = set_of(&record, wanted.with(Aggregate::Min)).unwrap_err();
        assert_eq!(error.message(), "aggregate min does not exist");
    }
}
