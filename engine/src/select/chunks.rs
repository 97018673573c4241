//! Chunks: from the bytes of a segment to what the wire carries.

use crate::chunk::aggr::{self, AggrChunk};
use crate::chunk::{Encoding, segment};
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
    /// Count, sum, min, max and counter of windows.
    Aggregated(AggrChunk<'a>),
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
        match chunk.encoding {
            Encoding::Xor | Encoding::Histogram | Encoding::FloatHistogram => {
                Ok(Self::Stored(ChunkData { encoding: chunk.encoding, data: chunk.data }))
            }
            Encoding::Aggr => aggr::split(chunk.data).map(Self::Aggregated).map_err(|corrupt| {
                let reason = format!("at byte {} of its data: {}", corrupt.offset, corrupt.reason);
                Corrupt::new(corrupt.what, offset, reason)
            }),
            other => Err(Corrupt::new("chunk", offset, format!("encoding {other:?} has no form on the wire"))),
        }
    }

    /// What a client that asked for `aggregates` gets of the record.
    pub fn to_set(&self, (min_time, max_time): (i64, i64), aggregates: Aggregates) -> Result<ChunkSet<'_>, Error> {
        match self {
            Self::Stored(chunk) => Ok(ChunkSet::raw(min_time, max_time, *chunk)),
            Self::Recoded(encoding, data) => {
                Ok(ChunkSet::raw(min_time, max_time, ChunkData { encoding: *encoding, data }))
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
                Ok(set)
            }
        }
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

/// Puts the chunk sets of one series in order of time, drops equal ones, and those that are empty
/// beside others that are not.
pub fn settle(sets: &mut Vec<ChunkSet<'_>>) {
    if sets.iter().any(|set| !set.is_empty()) {
        sets.retain(|set| !set.is_empty());
    }
    let key = |set: &ChunkSet<'_>| (set.min_time, set.max_time);
    if !sets.is_sorted_by(|left, right| key(left) < key(right)) {
        sets.sort_by(|left, right| key(left).cmp(&key(right)).then_with(|| left.data().cmp(right.data())));
        sets.dedup();
    }
}
