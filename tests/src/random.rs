//! Numbers that look random and follow from a seed (SplitMix64).

/// A sequence of such numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, below `end`.
    ///
    /// # Panics
    /// When `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Whether something happens that happens once in `times`; never when that is 0.
    pub fn is_one_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }

    /// A sequence of its own, told apart from others by `number`.
    pub fn branch(&mut self, number: u64) -> Self {
        Self(self.below(u64::MAX) ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }
}
