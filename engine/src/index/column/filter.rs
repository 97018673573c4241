//! A binary fuse filter over the values of one label: says of most values that are not there that
//! they are not there, reading three bytes.
//!
//! ```text
//! seed <u64> │ segment length <u32> │ segment count length <u32> │ fingerprints <u8 each>
//! ```
//!
//! Keys are the XXH64 of the values (seed 0); places and fingerprints are those of xorf's
//! `BinaryFuse8` (9 bits a value, 0.4 % of values that are not there pass).

use xorf::BinaryFuse8;
use xxhash_rust::xxh64::xxh64;

use crate::codec::{Corrupt, Cursor};

const WHAT: &str = "value filter";

/// Labels with fewer values have no filter: their dictionary is as quick to search.
pub const VALUES_MIN: usize = 64;

/// Appends the filter of `values`; false, and nothing appended, when none could be built.
pub fn encode<'v>(values: impl Iterator<Item = &'v str>, out: &mut Vec<u8>) -> bool {
    let mut keys: Vec<u64> = values.map(|value| xxh64(value.as_bytes(), 0)).collect();
    keys.sort_unstable();
    keys.dedup();
    let Ok(filter) = BinaryFuse8::try_from(&keys) else { return false };
    out.extend(filter.descriptor.seed.to_le_bytes());
    out.extend(filter.descriptor.segment_length.to_le_bytes());
    out.extend(filter.descriptor.segment_count_length.to_le_bytes());
    out.extend_from_slice(&filter.fingerprints);
    true
}

/// The filter of a label.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    seed: u64,
    segment_len: u32,
    segments_len: u32,
    fingerprints: &'a [u8],
}

impl<'a> Filter<'a> {
    /// The filter in `bytes`; checks that all places lie within.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        let mut cursor = Cursor::new(WHAT, bytes, 0);
        let (seed, segment_len, segments_len) = (cursor.u64_le()?, cursor.u32_le()?, cursor.u32_le()?);
        let fingerprints = cursor.bytes(cursor.remaining())?;
        let needed = u64::from(segments_len) + 2 * u64::from(segment_len);
        if !segment_len.is_power_of_two() || segments_len == 0 || needed > fingerprints.len() as u64 {
            let reason = format!("{segments_len} + 2 * {segment_len} places, {} fingerprints", fingerprints.len());
            return Err(cursor.corrupt(reason));
        }
        Ok(Self { seed, segment_len, segments_len, fingerprints })
    }

    /// False when no series of the block has `value`; true for all that are there and a few others.
    pub fn may_contain(self, value: &str) -> bool {
        let hash = mixed(xxh64(value.as_bytes(), 0).wrapping_add(self.seed));
        let mask = self.segment_len as usize - 1;
        let first = ((u128::from(hash) * u128::from(self.segments_len)) >> 64) as usize;
        let second = (first + self.segment_len as usize) ^ ((hash >> 18) as usize & mask);
        let third = (first + 2 * self.segment_len as usize) ^ (hash as usize & mask);
        let at = |place: usize| self.fingerprints.get(place).copied().unwrap_or(0);
        (hash ^ (hash >> 32)) as u8 == at(first) ^ at(second) ^ at(third)
    }
}

/// The finalizer of MurmurHash3.
fn mixed(mut key: u64) -> u64 {
    key ^= key >> 33;
    key = key.wrapping_mul(0xff51_afd7_ed55_8ccd);
    key ^= key >> 33;
    key = key.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    key ^ (key >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_there_pass_and_most_others_do_not() {
        for count in [1, 2, 64, 1000, 20_000] {
            let values: Vec<String> = (0..count).map(|at| format!("pod-{at}")).collect();
            let mut bytes = Vec::new();
            assert!(encode(values.iter().map(String::as_str), &mut bytes));
            let filter = Filter::decode(&bytes).unwrap();
            assert!(values.iter().all(|value| filter.may_contain(value)), "{count} values");
            let passed = (0..10_000).filter(|at| filter.may_contain(&format!("other-{at}"))).count();
            assert!(passed < 100, "{passed} of 10000 others pass among {count} values");
        }
    }

    #[test]
    fn a_damaged_filter_is_an_error_or_readable() {
        let mut bytes = Vec::new();
        assert!(encode(["a", "b", "c"].into_iter(), &mut bytes));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(filter) = Filter::decode(&damaged) {
                filter.may_contain("a");
            }
        }
        assert!(Filter::decode(&bytes[..15]).is_err());
    }
}
