//! Which series a batch has made since those that come next were looked for: a filter of bits, so that what was not
//! found then is only looked for again where it may be one of these.
//!
//! ```text
//! part        looked for │ part before appended │ part appended
//! before                  └ bits of its series ┘
//! now                                           └ bits of its series ┘
//! ```

use super::SeriesHash;

/// Words of the bits of a part: several for each of its series, so that few share one.
const WORDS: usize = 16;

/// Bits of the hashes of series that were made while two parts of a batch were appended.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    before: [u64; WORDS],
    now: [u64; WORDS],
}

impl Recent {
    /// Another part is appended, which was looked for before the one before it was.
    pub(super) fn begin_part(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Notes that a series was made.
    pub(super) fn note(&mut self, hash: SeriesHash) {
        let (word, bit) = place(hash);
        self.now[word] |= bit;
    }

    /// Whether a series of this hash may have been made; it may not have been all the same.
    #[inline]
    pub(super) fn may_have(&self, hash: SeriesHash) -> bool {
        let (word, bit) = place(hash);
        (self.before[word] | self.now[word]) & bit != 0
    }
}

/// The word and the bit of a hash.
#[inline]
fn place(hash: SeriesHash) -> (usize, u64) {
    let at = hash.0 as usize % (WORDS * u64::BITS as usize);
    (at / u64::BITS as usize, 1 << (at % u64::BITS as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_this_part_and_of_the_one_before_are_known_and_few_others_taken_for_them() {
        let hash = |number: u64| SeriesHash(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32));
        let mut recent = Recent::default();
        for part in 0..20u64 {
            recent.begin_part();
            (0..64).for_each(|at| recent.note(hash(part * 64 + at)));
            assert!(
                (part.saturating_sub(1) * 64..part * 64 + 64).all(|number| recent.may_have(hash(number))),
                "{part}"
            );
            let others = (1_000_000..1_001_000).filter(|number| recent.may_have(hash(*number))).count();
            assert!(others < 250, "{others} of a thousand");
        }
        recent.begin_part();
        recent.begin_part();
        assert!((0..10_000).all(|number| !recent.may_have(hash(number))));
    }
}
