//! Thanos' downsampled data: up to five chunks of one run of time windows behind each other.
//!
//! ```text
//! count │ sum │ min │ max │ counter      in this order; each is
//!
//! length of data uvarint │ encoding u8 │ data     or a single 0 when the aggregate is absent
//! ```

use crate::codec::{Corrupt, Cursor, varint};

use super::Encoding;

/// What was computed of the samples of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// Their number.
    Count = 0,
    /// Their sum.
    Sum = 1,
    /// The smallest.
    Min = 2,
    /// The largest.
    Max = 3,
    /// The last, with all counter resets of the chunk removed.
    Counter = 4,
}

impl Aggregate {
    /// All of them, in the order in which they are stored.
    pub const ALL: [Self; 5] = [Self::Count, Self::Sum, Self::Min, Self::Max, Self::Counter];
}

/// The chunk of one aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// How `data` is encoded.
    pub encoding: Encoding,
    /// The chunk's data.
    pub data: &'a [u8],
}

/// The chunks of all aggregates that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AggrChunk<'a> {
    parts: [Option<Part<'a>>; 5],
}

impl<'a> AggrChunk<'a> {
    /// The chunk of `aggregate`.
    pub fn get(&self, aggregate: Aggregate) -> Option<Part<'a>> {
        self.parts[aggregate as usize]
    }

    /// Sets the chunk of `aggregate`.
    pub fn set(&mut self, aggregate: Aggregate, part: Part<'a>) {
        self.parts[aggregate as usize] = Some(part);
    }
}

/// The chunks within `data`, an aggregates chunk.
pub fn split(data: &[u8]) -> Result<AggrChunk<'_>, Corrupt> {
    let mut cursor = Cursor::new("aggregates chunk", data, 0);
    let mut chunk = AggrChunk::default();
    for part in &mut chunk.parts {
        let len = cursor.count()?;
        if len == 0 {
            continue;
        }
        let offset = cursor.offset();
        let encoding = Encoding::parse(cursor.u8()?, offset)?;
        if encoding == Encoding::Aggr {
            return Err(Corrupt::new("aggregates chunk", offset, "an aggregate is itself an aggregates chunk"));
        }
        *part = Some(Part { encoding, data: cursor.bytes(len)? });
    }
    Ok(chunk)
}

/// Appends the data of an aggregates chunk to `out`.
pub fn encode(chunk: &AggrChunk<'_>, out: &mut Vec<u8>) {
    for part in &chunk.parts {
        let Some(part) = part else {
            out.push(0);
            continue;
        };
        varint::encode_u64(part.data.len() as u64, out);
        out.push(part.encoding.byte());
        out.extend_from_slice(part.data);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn absent_aggregates_take_one_byte_each() {
        let mut chunk = AggrChunk::default();
        chunk.set(Aggregate::Sum, Part { encoding: Encoding::Xor, data: &[7, 8] });
        let mut data = Vec::new();
        encode(&chunk, &mut data);
        assert_eq!(data, [0, 2, 1, 7, 8, 0, 0, 0]);
        assert_eq!(split(&data).unwrap(), chunk);
        for len in 0..data.len() {
            assert!(split(&data[..len]).is_err(), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_parts_or_an_error(data in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = split(&data);
        }
    }
}
