//! Tombstones: deleted ranges of the series of a local block.
//!
//! ```text
//! ┌──────────────────────┬──────────────┐
//! │ magic 0130ba30 <4b>  │ version <1b> │
//! ├──────────────────────┴──────────────┤
//! │ series ref <uvarint>                │
//! │ min time <varint>                   │  as often as there are ranges
//! │ max time <varint>                   │
//! ├─────────────────────────────────────┤
//! │ crc32c of the ranges <4b>           │
//! └─────────────────────────────────────┘
//! ```

use std::collections::BTreeMap;

use crate::codec::{Corrupt, Cursor, section, varint};
use crate::model::{SeriesRef, TimeRange};

/// The first four bytes.
pub const MAGIC: u32 = 0x0130_ba30;

/// The only version.
const VERSION: u8 = 1;

/// Bytes before the ranges.
const HEADER_LEN: usize = 5;

/// Bytes of the checksum.
const CHECKSUM_LEN: usize = 4;

const WHAT: &str = "tombstones";

/// Deleted ranges by series; the ranges of a series ascend and do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tombstones {
    by_series: BTreeMap<SeriesRef, Vec<TimeRange>>,
}

impl Tombstones {
    /// The tombstones in `bytes`, a whole file.
    pub fn parse(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut cursor = Cursor::new(WHAT, bytes, 0);
        let magic = cursor.u32_be()?;
        if magic != MAGIC {
            return Err(Corrupt::new(WHAT, 0, format!("magic is {magic:08x}, not {MAGIC:08x}")));
        }
        let version = cursor.u8()?;
        if version != VERSION {
            return Err(Corrupt::new(WHAT, 4, format!("version is {version}, known is {VERSION}")));
        }
        let Some(len) = cursor.remaining().checked_sub(CHECKSUM_LEN) else {
            return Err(cursor.corrupt("the checksum is cut off"));
        };
        let content = cursor.bytes(len)?;
        section::check(WHAT, HEADER_LEN as u64, content, cursor.u32_be()?)?;
        let mut ranges = Cursor::new(WHAT, content, HEADER_LEN as u64);
        let mut tombstones = Self::default();
        while ranges.remaining() > 0 {
            let series_ref = SeriesRef(ranges.uvarint()?);
            let (min_time, max_time) = (ranges.varint()?, ranges.varint()?);
            if min_time > max_time {
                return Err(ranges.corrupt(format!("a range ends at {max_time} before it starts at {min_time}")));
            }
            tombstones.add(series_ref, TimeRange::new(min_time, max_time));
        }
        Ok(tombstones)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_be_bytes().to_vec();
        bytes.push(VERSION);
        for (series_ref, ranges) in &self.by_series {
            for range in ranges {
                varint::encode_u64(series_ref.0, &mut bytes);
                varint::encode_i64(range.min_time, &mut bytes);
                varint::encode_i64(range.max_time, &mut bytes);
            }
        }
        let stored = section::checksum(&bytes[HEADER_LEN..]);
        bytes.extend_from_slice(&stored.to_be_bytes());
        bytes
    }

    /// Deletes `range` of a series; ranges that overlap or touch become one.
    pub fn add(&mut self, series_ref: SeriesRef, range: TimeRange) {
        let ranges = self.by_series.entry(series_ref).or_default();
        let start = ranges.partition_point(|known| known.max_time.saturating_add(1) < range.min_time);
        let end = ranges.partition_point(|known| known.min_time <= range.max_time.saturating_add(1)).max(start);
        let joined = ranges[start..end].iter().fold(range, |joined, known| joined.hull(*known));
        ranges.splice(start..end, [joined]);
    }

    /// The deleted ranges of a series, ascending.
    pub fn of(&self, series_ref: SeriesRef) -> &[TimeRange] {
        self.by_series.get(&series_ref).map_or(&[], Vec::as_slice)
    }

    /// Whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.by_series.is_empty()
    }

    /// Number of deleted ranges.
    pub fn len(&self) -> usize {
        self.by_series.values().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tombstones_are_the_nine_bytes_that_prometheus_writes() {
        let empty = [0x01, 0x30, 0xba, 0x30, 1, 0, 0, 0, 0];
        assert_eq!(Tombstones::default().to_bytes(), empty);
        assert!(Tombstones::parse(&empty).unwrap().is_empty());
    }

    #[test]
    fn ranges_come_back_and_join_where_they_touch() {
        let mut tombstones = Tombstones::default();
        for (min_time, max_time) in [(10, 20), (40, 50), (21, 25), (60, 70), (45, 65), (i64::MIN, -5), (1, 2)] {
            tombstones.add(SeriesRef(7), TimeRange::new(min_time, max_time));
        }
        let expected = [(i64::MIN, -5), (1, 2), (10, 25), (40, 70)].map(|(min, max)| TimeRange::new(min, max));
        assert_eq!(tombstones.of(SeriesRef(7)), expected);
        tombstones.add(SeriesRef(9), TimeRange::new(i64::MAX - 1, i64::MAX));
        assert_eq!(Tombstones::parse(&tombstones.to_bytes()).unwrap(), tombstones);
        tombstones.add(SeriesRef(7), TimeRange::ALL);
        assert_eq!(tombstones.of(SeriesRef(7)), [TimeRange::ALL]);
        assert_eq!(tombstones.len(), 2);
    }

    #[test]
    fn damage_is_refused() {
        let mut tombstones = Tombstones::default();
        tombstones.add(SeriesRef(300), TimeRange::new(-1, 1_700_000_000_000));
        let sound = tombstones.to_bytes();
        for at in 0..sound.len() {
            assert!(Tombstones::parse(&sound[..at]).is_err(), "{at} bytes");
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            assert!(Tombstones::parse(&bytes).is_err(), "byte {at}");
        }
    }
}
