//! The generator behind Go's `math/rand.NewSource`, which decides the shards of shuffle sharding.
//!
//! An additive lagged Fibonacci generator after Mitchell and Reeds: `x[k] = x[k-607] + x[k-273]`
//! modulo 2^64. Go seeds it by mixing a small generator into a table, which is the state of the
//! same recurrence after 7.8e12 steps from a first seed. The table is computed here by jumping
//! ahead: the state after `n` steps is `z^n mod (z^607 - z^334 - 1)` applied to the first one.

use std::sync::OnceLock;

const LEN: usize = 607;
const TAP: usize = 273;
const TABLE_STEPS: u64 = 7_800_000_000_000;
const SMALL_MODULUS: i64 = (1 << 31) - 1;
const SEED_FOR_ZERO: i64 = 89_482_311;

/// The source of `rand.NewSource(seed)`.
pub struct GoRand {
    state: Vec<u64>,
    tap: usize,
    feed: usize,
}

impl GoRand {
    /// The source that Go makes of `seed`.
    pub fn new(seed: i64) -> Self {
        let table = table();
        let mut state = seeded(seed, 40);
        for (word, cooked) in state.iter_mut().zip(table) {
            *word ^= cooked;
        }
        Self { state, tap: 0, feed: LEN - TAP }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.tap = (self.tap + LEN - 1) % LEN;
        self.feed = (self.feed + LEN - 1) % LEN;
        self.state[self.feed] = self.state[self.feed].wrapping_add(self.state[self.tap]);
        self.state[self.feed]
    }
}

/// A state filled from the small generator `x -> 48271 x mod (2^31 - 1)`, three of its numbers a
/// word, the first shifted by `shift`, the second by half of that.
fn seeded(seed: i64, shift: u32) -> Vec<u64> {
    let mut small = match seed.rem_euclid(SMALL_MODULUS) {
        0 => SEED_FOR_ZERO,
        seed => seed,
    };
    let mut next = || {
        small = small * 48271 % SMALL_MODULUS;
        small as u64
    };
    for _ in 0..20 {
        next();
    }
    (0..LEN).map(|_| (next() << shift) ^ (next() << (shift / 2)) ^ next()).collect()
}

/// Go's table of "cooked" numbers.
fn table() -> &'static [u64] {
    static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let first = seeded(1, 20);
        // The recurrence's values in order: the word that step k replaces holds value k - 607.
        let mut values: Vec<u64> = (0..LEN).map(|at| first[(2 * LEN - TAP - 1 - at) % LEN]).collect();
        for at in LEN..2 * LEN {
            values.push(values[at - LEN].wrapping_add(values[at - TAP]));
        }
        let jump = power_of_z(TABLE_STEPS);
        let value_at = |offset: usize| {
            let terms = jump.iter().zip(&values[offset..]);
            terms.fold(0u64, |sum, (factor, value)| sum.wrapping_add(factor.wrapping_mul(*value)))
        };
        let mut table = vec![0; LEN];
        for at in 0..LEN {
            let step = TABLE_STEPS as usize + at;
            table[(2 * LEN - TAP - 1 - step % LEN) % LEN] = value_at(at);
        }
        table
    })
}

/// Coefficients of `z^exponent` modulo `z^607 - z^334 - 1`, lowest first, modulo 2^64.
fn power_of_z(exponent: u64) -> Vec<u64> {
    let mut power = vec![0; LEN];
    power[0] = 1;
    for bit in (0..u64::BITS - exponent.leading_zeros()).rev() {
        let mut square = vec![0u64; 2 * LEN];
        for (left, left_factor) in power.iter().enumerate() {
            for (right, right_factor) in power.iter().enumerate() {
                let term = u64::wrapping_mul(*left_factor, *right_factor);
                square[left + right] = square[left + right].wrapping_add(term);
            }
        }
        if exponent >> bit & 1 == 1 {
            square.insert(0, 0);
        }
        for degree in (LEN..square.len()).rev() {
            let factor = square[degree];
            square[degree - LEN] = square[degree - LEN].wrapping_add(factor);
            square[degree - TAP] = square[degree - TAP].wrapping_add(factor);
        }
        square.truncate(LEN);
        power = square;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_go() {
        // rand.New(rand.NewSource(seed)).Uint64(), three times, by Go 1.26.
        for (seed, expected) in GO {
            let mut source = GoRand::new(seed);
            assert_eq!([source.next_u64(), source.next_u64(), source.next_u64()], expected, "seed {seed}");
        }
    }

    const GO: [(i64, [u64; 3]); 3] = [
        (1, [5577006791947779410, 8674665223082153551, 15352856648520921629]),
        (0, [8717895732742165505, 2259404117704393152, 6050128673802995827]),
        (-8123456789012345678, [9234183763933343003, 5353500338132719277, 14684610923097534890]),
    ];
}
