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
    /// Asks for the slot where a series of `hash` is looked for first.
    #[inline]
    pub(super) fn prefetch(&self, hash: SeriesHash) {
        if let Some(slot) = self.slots.get(self.home(hash.0)) {
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
        let mut at = self.home(hash.0);
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

    /// Adds `number`, which has these hashes and isn't there yet; `hash_of` gives the hashes of the
    /// others.
    pub(super) fn insert(
        &mut self,
        (hash, check): (SeriesHash, SeriesCheck),
        number: u32,
        hash_of: impl Fn(u32) -> u64,
    ) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![Slot::default(); (old.len() * 2).max(SLOTS_MIN)];
            for slot in old.into_iter().filter(|slot| slot.number != 0) {
                self.put(hash_of(slot.number - 1), slot);
            }
        }
        self.put(hash.0, Slot { tag: (hash.0 >> 32) as u32, number: number + 1, check: check.0 });
        self.len += 1;
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    fn put(&mut self, hash: u64, slot: Slot) {
        let mut at = self.home(hash);
        while self.slots[at].number != 0 {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
    }

    /// The low half of the hash says the slot, so that tags tell apart what shares one.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        hash as usize & self.slots.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_check_also_when_hashes_collide() {
        let hash = |number: u32| u64::from(number % 300).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut table = SeriesTable::default();
        for number in 0..1000 {
            table.insert((SeriesHash(hash(number)), SeriesCheck(u64::from(number))), number, hash);
        }
        for number in 0..1000 {
            let check = SeriesCheck(u64::from(number));
            assert_eq!(table.find(SeriesHash(hash(number)), check), Some(number));
        }
        assert_eq!(table.find(SeriesHash(hash(5)), SeriesCheck(1001)), None);
        assert_eq!(table.find(SeriesHash(12345), SeriesCheck(5)), None);
        assert_eq!(SeriesTable::default().find(SeriesHash(1), SeriesCheck(1)), None);
    }
}
