//! Where steps lie among the samples of a series, and the newest sample at each of them: lanes are steps.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
/// The specification.
pub mod scalar;

use super::Isa;

/// Times up to which samples count, one for each step (Unix milliseconds).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The first step.
    pub start: i64,
    /// Milliseconds between steps.
    pub interval: i64,
    /// Milliseconds from a step to its limit.
    pub shift: i64,
}

/// Samples of a series: columns of one length.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// Unix milliseconds, ascending.
    pub timestamps: &'a [i64],
    /// Values.
    pub values: &'a [f64],
}

impl Limits {
    /// The limit of step `step`.
    #[inline(always)]
    pub fn of(&self, step: usize) -> i64 {
        self.start.wrapping_add(self.interval.wrapping_mul(step as i64)).saturating_add(self.shift)
    }

    /// Whether the limits of `count` steps are all that far apart, and as far before and behind any time.
    #[cfg(target_arch = "x86_64")]
    fn is_regular(&self, count: usize) -> bool {
        const FAR: i64 = 1 << 60;
        let length = self.interval.checked_mul(count as i64 + 8);
        let is_near = |time: i64| (-FAR..FAR).contains(&time);
        is_near(self.start) && is_near(self.shift) && length.is_some_and(is_near) && self.interval >= 0
    }
}

/// For each step the number of `timestamps`, which ascend, that are at most its limit.
pub fn bounds(isa: Isa, timestamps: &[i64], limits: Limits, out: &mut [u32]) {
    dispatch!(isa, bounds(timestamps, limits, out));
}

/// Fills a row with the newest sample up to each step's limit, unless it is `lookback` old or older or a stale
/// marker: values, and a bitmap of the steps that have one, which is empty before.
pub fn newest(isa: Isa, samples: Samples<'_>, (limits, lookback): (Limits, i64), row: (&mut [f64], &mut [u64])) {
    dispatch!(isa, newest(samples, (limits, lookback), row));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::value::STALE_NAN_BITS;
    use crate::simd::isas;

    fn timestamps() -> impl Strategy<Value = Vec<i64>> {
        let regular = (0..20_000i64, prop::collection::vec(-5..5i64, 0..600));
        let regular = regular.prop_map(|(start, jitter)| {
            jitter.iter().enumerate().map(|(at, jitter)| start + 15_000 * at as i64 + jitter).collect()
        });
        let gap = prop_oneof![8 => Just(15_000), 2 => 1..100_000i64, 1 => Just(0), 1 => 0..1i64 << 45];
        let any = (-1i64 << 61..1i64 << 61, prop::collection::vec(gap, 0..300)).prop_map(|(start, gaps)| {
            gaps.iter()
                .scan(start, |at, gap| {
                    *at += gap;
                    Some(*at)
                })
                .collect()
        });
        prop_oneof![regular, any]
    }

    proptest! {
        #[test]
        fn every_isa_finds_what_counting_finds(
            timestamps in timestamps(),
            (start, interval, count) in (-100_000..9_000_000i64, prop_oneof![Just(60_000), 0..100_000i64], 0..200usize),
            shift in prop_oneof![Just(0), -400_000..400_000i64, Just(i64::MAX), Just(i64::MIN)],
            lookback in prop_oneof![Just(300_000), 1..100_000i64],
            offset in prop::bool::ANY,
        ) {
            let start = if offset { timestamps.first().copied().unwrap_or(0) + start } else { start };
            let limits = Limits { start, interval, shift };
            let values: Vec<f64> = (0..timestamps.len())
                .map(|at| if at % 17 == 3 { f64::from_bits(STALE_NAN_BITS) } else { at as f64 })
                .collect();
            let counted: Vec<u32> = (0..count)
                .map(|step| timestamps.partition_point(|time| *time <= limits.of(step)) as u32)
                .collect();
            let picked: Vec<Option<u64>> = (0..count)
                .map(|step| {
                    let at = (counted[step] as usize).checked_sub(1)?;
                    let is_new = timestamps[at] > limits.of(step).saturating_sub(lookback);
                    (is_new && values[at].to_bits() != STALE_NAN_BITS).then(|| values[at].to_bits())
                })
                .collect();
            for isa in isas() {
                let mut found = vec![7; count];
                bounds(isa, &timestamps, limits, &mut found);
                prop_assert_eq!(&found, &counted, "{:?}", isa);
                let (mut row, mut valid) = (vec![0.0; count], vec![0u64; count.div_ceil(64)]);
                let samples = Samples { timestamps: &timestamps, values: &values };
                newest(isa, samples, (limits, lookback), (&mut row, &mut valid));
                let has = |step: usize| valid[step / 64] >> (step % 64) & 1 == 1;
                let found: Vec<Option<u64>> = (0..count).map(|step| has(step).then(|| row[step].to_bits())).collect();
                prop_assert_eq!(&found, &picked, "{:?}", isa);
                prop_assert_eq!(valid.iter().map(|word| word.count_ones() as usize).sum::<usize>(),
                    picked.iter().flatten().count());
            }
        }
    }
}
