//! From a series' hashes to its number: open addressing, sixteen bytes a slot.
//!
//! ```text
//! slot   upper half of the hash u32 │ number plus 1 u32, 0 where it is free │ check u64
//! ```
//! What a series is looked for by is in the slot, so that one that is there costs one cache line. See
//! [`SeriesCheck`] for why its labels needn't be compared.

use super::batch::{SeriesCheck, SeriesHash};
use crate::simd::prefetch;

/// Slots of the smallest table.
const SLOTS_MIN: usize = 64;

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(16))]
struct Slot {
    tag: u32,
    number: u32,
    check: u64,
}

const _: () = assert!(size_of::<Slot>() == 16, "a slot lies within one cache line");

#[derive(Clone, Debug, Default)]
pub(super) struct SeriesTable {
    slots: Vec<Slot>,
    len: usize,
}

impl SeriesTable {
    /// Asks for the slot where a series of `check` is looked for first.
    #[inline]
    pub(super) fn prefetch(&self, check: SeriesCheck) {
        if let Some(slot) = self.slots.get(self.home(check.0)) {
            prefetch(slot);
        }
    }

    /// The number of the series with these hashes.
    #[inline]
    pub(super) fn find(&self, hash: SeriesHash, check: SeriesCheck) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let tag = (hash.0 >> 32) as u32;
        let mut at = self.home(check.0);
        loop {
            let slot = self.slots[at];
            if slot.number == 0 {
                return None;
            }
            if slot.tag == tag && slot.check == check.0 {
                return Some(slot.number - 1);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Adds `number`, which has these hashes and isn't there yet.
    pub(super) fn insert(&mut self, (hash, check): (SeriesHash, SeriesCheck), number: u32) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![Slot::default(); (old.len() * 2).max(SLOTS_MIN)];
            for slot in old.into_iter().filter(|slot| slot.number != 0) {
                self.put(slot);
            }
        }
        self.put(Slot { tag: (hash.0 >> 32) as u32, number: number + 1, check: check.0 });
        self.len += 1;
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    fn put(&mut self, slot: Slot) {
        let mut at = self.home(slot.check);
        while self.slots[at].number != 0 {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
    }

    /// The check says the slot, so that growing needs nothing but the slots.
    #[inline]
    fn home(&self, check: u64) -> usize {
        check as usize & self.slots.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_both_hashes_also_when_slots_are_shared() {
        let hashes = |number: u32| {
            let check = u64::from(number % 300) << 1;
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
