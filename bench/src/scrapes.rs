//! Scraped samples of the kinds and shares that real blocks hold: 120 samples a chunk, 15 s apart.

use engine::model::FloatColumns;

const SAMPLES: i64 = 120;
const INTERVAL_MS: i64 = 15_000;
const START_MS: i64 = 1_700_000_000_000;

/// When scrapes happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Up to 5 ms early or late.
    Jittered,
    /// On the grid.
    Regular,
}

/// Numbers that look random and follow from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

/// The samples of `count` chunks: one in eight constant, one in five of fractions, the others
/// counters and gauges of whole numbers, a third of whose samples repeat the one before.
pub fn chunks(seed: u64, count: usize, timing: Timing) -> Vec<FloatColumns> {
    let mut random = Random(seed | 1);
    (0..count).map(|_| chunk(&mut random, timing)).collect()
}

fn chunk(random: &mut Random, timing: Timing) -> FloatColumns {
    let mut columns = FloatColumns::default();
    let kind = random.below(1000);
    let step_bits = 1 + random.below(10);
    let step_max = 2 + random.below(1 << step_bits);
    let mut value = random.below(1_000_000) as f64;
    for at in 0..SAMPLES {
        let jitter = if timing == Timing::Jittered { random.below(11) as i64 - 5 } else { 0 };
        columns.push(START_MS + at * INTERVAL_MS + jitter, value);
        let repeats = random.below(10) < 2;
        value = match kind {
            0..126 => value,
            _ if repeats => value,
            126..342 => value + random.below(1 << 40) as f64 / 1e9,
            342..800 => value + random.below(step_max) as f64,
            _ => (value + random.below(step_max) as f64 - step_max as f64 / 2.0).abs().floor(),
        };
    }
    columns
}
