//! From a series' hashes to its number: open addressing, sixteen bytes a slot.
//!
//! ```text
//! table     segments by the uppermost bits of the check, each of which grows on its own
//! segment   slots from the lower half of the check on, which is scaled to their number
//! slot      upper half of the hash u32 │ number plus 1 u32, 0 where it is free │ check u64
//! ```
//! What a series is looked for by is in the slot, so that one that is there costs one cache line. See
//! [`SeriesCheck`] for why its labels needn't be compared. Segments are many, so that no append waits
//! long for one to grow. They grow by half: doubled, up to five of eight slots would be free.

use super::hash::{SeriesCheck, SeriesHash};
use crate::simd::prefetch;

/// Segments of a table.
const SEGMENTS: usize = 64;

/// Slots of the smallest segment.
const SLOTS_MIN: usize = 4;

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(16))]
struct Slot {
    tag: u32,
    number: u32,
    check: u64,
}

const _: () = assert!(size_of::<Slot>() == 16, "a slot lies within one cache line");

#[derive(Clone, Debug)]
pub(super) struct SeriesTable {
    segments: [Segment; SEGMENTS],
}

#[derive(Clone, Debug, Default)]
struct Segment {
    slots: Vec<Slot>,
    len: usize,
}

impl Default for SeriesTable {
    fn default() -> Self {
        Self { segments: std::array::from_fn(|_| Segment::default()) }
    }
}

impl SeriesTable {
    /// Asks for the slot where a series of `check` is looked for first.
    #[inline]
    pub(super) fn prefetch(&self, check: SeriesCheck) {
        let segment = self.segment(check);
        if let Some(slot) = segment.slots.get(segment.home(check.0)) {
            prefetch(slot);
        }
    }

    /// The number of the series with these hashes.
    #[inline]
    pub(super) fn find(&self, hash: SeriesHash, check: SeriesCheck) -> Option<u32> {
        self.segment(check).find((hash.0 >> 32) as u32, check.0)
    }

    /// Adds `number`, which has these hashes and isn't there yet.
    pub(super) fn insert(&mut self, (hash, check): (SeriesHash, SeriesCheck), number: u32) {
        let segment = &mut self.segments[segment_of(check)];
        segment.insert(Slot { tag: (hash.0 >> 32) as u32, number: number + 1, check: check.0 });
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.segments.iter().map(|segment| segment.slots.capacity() * size_of::<Slot>()).sum()
    }

    #[inline]
    fn segment(&self, check: SeriesCheck) -> &Segment {
        &self.segments[segment_of(check)]
    }
}

#[inline]
fn segment_of(check: SeriesCheck) -> usize {
    ((check.0 >> 32) as usize * SEGMENTS) >> 32
}

impl Segment {
    #[inline]
    fn find(&self, tag: u32, check: u64) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = self.home(check);
        loop {
            let slot = self.slots[at];
            if slot.number == 0 {
                return None;
            }
            if slot.tag == tag && slot.check == check {
                return Some(slot.number - 1);
            }
            at = self.behind(at);
        }
    }

    fn insert(&mut self, slot: Slot) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![Slot::default(); (old.len() * 3 / 2).max(SLOTS_MIN)];
            for slot in old.into_iter().filter(|slot| slot.number != 0) {
                self.put(slot);
            }
        }
        self.put(slot);
        self.len += 1;
    }

    fn put(&mut self, slot: Slot) {
        let mut at = self.home(slot.check);
        while self.slots[at].number != 0 {
            at = self.behind(at);
        }
        self.slots[at] = slot;
    }

    /// The check says the slot, so that growing needs nothing but the slots.
    #[inline]
    fn home(&self, check: u64) -> usize {
        ((u64::from(check as u32) * self.slots.len() as u64) >> 32) as usize
    }

    /// The slot behind `at`, the first one behind the last.
    #[inline]
    fn behind(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_both_hashes_also_when_slots_are_shared() {
        let hashes = |number: u32| {
            let check = (u64::from(number % 300) << 1) | (u64::from(number % 5) << 61);
            (SeriesHash(u64::from(number) << 32), SeriesCheck(check))
        };
        let mut table = SeriesTable::default();
        for number in 0..1000 {
            table.insert(hashes(number), number);
        }
        for number in 0..1000 {
            let (hash, check) = hashes(number);
            assert_eq!(table.find(hash, check), Some(number));
        }
        assert_eq!(table.find(SeriesHash(5 << 32), SeriesCheck(12)), None);
        assert_eq!(table.find(SeriesHash(2000 << 32), SeriesCheck(10)), None);
        assert_eq!(SeriesTable::default().find(SeriesHash(1), SeriesCheck(1)), None);
    }
}
