//! Random numbers from a seed: wyrand, one multiplication a number.

/// A stream of random numbers; the same seed gives the same stream.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of `seeds`, taken together.
    pub fn new(seeds: &[u64]) -> Self {
        let mut random = Self(0x9e37_79b9_7f4a_7c15);
        for seed in seeds {
            random.0 ^= seed.wrapping_mul(0xd6e8_feb8_6659_fd93);
            random.0 = random.next();
        }
        random
    }

    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0xa076_1d64_78bd_642f);
        let product = u128::from(self.0) * u128::from(self.0 ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    }

    /// A number from 0 to less than `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// A number from 0 to less than 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_stay_within_their_bounds() {
        let (mut one, mut other) = (Random::new(&[1, 2]), Random::new(&[1, 2]));
        assert_ne!(Random::new(&[2, 1]).next(), Random::new(&[1, 2]).next());
        let mut sum = 0.0;
        for _ in 0..10_000 {
            assert_eq!(one.next(), other.next());
            assert!(one.below(7) < 7);
            let unit = one.unit();
            assert!((0.0..1.0).contains(&unit));
            sum += unit;
            other = one.clone();
        }
        assert!((4_800.0..5_200.0).contains(&sum), "{sum}");
    }
}
