//! From a series' hash to its number: open addressing, eight bytes a slot.
//!
//! ```text
//! slot   upper half of the hash u32 │ number plus 1 u32, 0 where it is free
//! ```
//! Half a hash says which slots are worth a look; whether the labels are the same the caller finds out.

use crate::simd::prefetch;

/// Slots of the smallest table.
const SLOTS_MIN: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct SeriesTable {
    slots: Vec<(u32, u32)>,
    len: usize,
}

impl SeriesTable {
    /// Asks for the slot where a series of `hash` is looked for first.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(slot) = self.slots.get(self.home(hash)) {
            prefetch(slot);
        }
    }

    /// The first number whose half of the hash is that of `hash` and that `is_it` accepts.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let tag = (hash >> 32) as u32;
        let mut at = self.home(hash);
        loop {
            let (found, number) = self.slots[at];
            if number == 0 {
                return None;
            }
            if found == tag && is_it(number - 1) {
                return Some(number - 1);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Adds `number`, which has `hash` and isn't there yet; `hash_of` gives the hashes of the others.
    pub(super) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![(0, 0); (old.len() * 2).max(SLOTS_MIN)];
            for (_, number) in old.into_iter().filter(|(_, number)| *number != 0) {
                self.put(hash_of(number - 1), number);
            }
        }
        self.put(hash, number + 1);
        self.len += 1;
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<(u32, u32)>()
    }

    fn put(&mut self, hash: u64, number: u32) {
        let mut at = self.home(hash);
        while self.slots[at].1 != 0 {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = ((hash >> 32) as u32, number);
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
    fn numbers_are_found_by_their_hash_also_when_hashes_collide() {
        let hash = |number: u32| u64::from(number % 300).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut table = SeriesTable::default();
        for number in 0..1000 {
            table.insert(hash(number), number, hash);
        }
        for number in 0..1000 {
            assert_eq!(table.find(hash(number), |found| found == number), Some(number));
        }
        assert_eq!(table.find(hash(5), |_| false), None);
        assert_eq!(table.find(12345, |_| true), None);
        assert_eq!(SeriesTable::default().find(1, |_| true), None);
    }
}
