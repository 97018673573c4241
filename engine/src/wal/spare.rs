//! Memory of records that were written, for those that come next: one thread fills it and another would give it
//! back to the allocator, so that each request would go through fresh pages.

use std::sync::{Mutex, PoisonError};

/// Most pieces that are kept: as many requests as come while one frame is written, about.
const SPARE_MAX: usize = 4;

/// Most bytes of a piece that is kept.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Memory of records that were written, the last ones first.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    /// Some memory without bytes in it; it may have no room.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps memory of which nobody needs the bytes any more, as much as may be.
    pub(super) fn keep(&self, written: Vec<Vec<u8>>) {
        let is_kept = |room: &Vec<u8>| (1..=SPARE_BYTES_MAX).contains(&room.capacity());
        for mut room in written.into_iter().filter(is_kept) {
            room.clear();
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < SPARE_MAX {
                kept.push(room);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pieces_of_memory_are_kept_and_no_long_ones() {
        let spare = Spare::default();
        let piece = |len: usize| vec![7u8; len];
        spare.keep(vec![piece(10), Vec::new(), piece(SPARE_BYTES_MAX + 1)]);
        spare.keep((0..2 * SPARE_MAX).map(|_| piece(SPARE_BYTES_MAX)).collect());
        let rooms: Vec<Vec<u8>> = (0..SPARE_MAX).map(|_| spare.take()).collect();
        assert!(rooms.iter().all(|room| room.is_empty() && room.capacity() > 0));
        assert_eq!(rooms.iter().filter(|room| room.capacity() >= SPARE_BYTES_MAX).count(), SPARE_MAX - 1);
        assert_eq!(spare.take().capacity(), 0);
    }
}
