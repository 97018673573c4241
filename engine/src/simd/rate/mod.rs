//! Rates of windows: the differences between their first and last samples, extrapolated to their
//! bounds as Prometheus does. Lanes are windows, each with the operations of the scalar twin in its
//! order, so that every instruction set gives the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
/// The specification.
pub mod scalar;

use super::Isa;

/// What is made of the difference between the samples of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kind {
    /// What the samples are.
    pub sign: Sign,
    /// Seconds that the result is for each of; 1 for an increase.
    pub seconds: f64,
}

/// What samples can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A counter's: extrapolation stops where it was zero.
    Counter,
    /// A gauge's.
    Gauge,
}

/// Windows of the samples of a series, one for each step.
#[derive(Clone, Copy, Debug)]
pub struct Windows<'a> {
    /// Unix milliseconds of the samples, ascending.
    pub timestamps: &'a [i64],
    /// First sample of each window.
    pub starts: &'a [u32],
    /// One behind the last sample of each window.
    pub ends: &'a [u32],
    /// Where the first window ends, in Unix milliseconds.
    pub end: i64,
    /// Milliseconds from the end of a window to that of the next.
    pub interval: i64,
    /// Length of the windows in milliseconds.
    pub range: i64,
}

/// How far windows reach beyond their samples: columns of one length, which depend on the samples'
/// times alone. Lanes of windows that hold less than two samples hold anything, if not said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Seconds from the first sample to the last.
    pub sampled: Vec<f64>,
    /// Seconds before the first sample that are extrapolated.
    pub to_start: Vec<f64>,
    /// Seconds behind the last sample that are extrapolated.
    pub to_end: Vec<f64>,
    /// First sample; 0 where there are less than two.
    pub firsts: Vec<u32>,
    /// Last sample, likewise.
    pub lasts: Vec<u32>,
    /// Windows of two samples at least, as a bitmap.
    pub valid: Vec<u64>,
}

/// The samples at the ends of windows: columns of one length.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// First sample.
    pub first: Vec<f64>,
    /// Last sample less first sample, a counter's resets added.
    pub difference: Vec<f64>,
}

impl Reach {
    /// Number of windows.
    pub fn len(&self) -> usize {
        self.sampled.len()
    }

    /// Whether there is no window.
    pub fn is_empty(&self) -> bool {
        self.sampled.is_empty()
    }

    /// Makes room for `len` windows, all of them without samples.
    fn reset(&mut self, len: usize) {
        for column in [&mut self.sampled, &mut self.to_start, &mut self.to_end] {
            column.resize(len, 1.0);
        }
        for column in [&mut self.firsts, &mut self.lasts] {
            column.clear();
            column.resize(len, 0);
        }
        self.valid.clear();
        self.valid.resize(len.div_ceil(64), 0);
    }
}

/// How far `windows` reach: what is extrapolated is the distance to the bound, and half a usual interval where
/// the next sample is overdue.
pub fn reach(isa: Isa, windows: Windows<'_>, reach: &mut Reach) {
    reach.reset(windows.starts.len().min(windows.ends.len()));
    dispatch!(isa, reach(windows, reach));
}

/// The rate of each window; all columns are as long as `out`.
pub fn rates(isa: Isa, reach: &Reach, ends: &Ends, kind: Kind, out: &mut [f64]) {
    dispatch!(isa, rates(reach, ends, kind, out));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::isas;

    type Lane = (f64, f64, f64, f64, f64);

    fn lanes() -> impl Strategy<Value = Vec<Lane>> {
        let value = || prop_oneof![Just(0.0), Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), -1e6..1e6f64];
        let seconds = || prop_oneof![Just(0.0), (0..600_000i64).prop_map(|millis| millis as f64 / 1e3)];
        prop::collection::vec((value(), value(), seconds(), seconds(), seconds()), 0..70)
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }).collect()
    }

    proptest! {
        #[test]
        fn rates_of_every_isa_are_the_bits_of_the_scalar_twin(lanes in lanes(), seconds in 1..600u32) {
            let column = |pick: fn(&Lane) -> f64| lanes.iter().map(pick).collect::<Vec<f64>>();
            let ends = Ends { difference: column(|lane| lane.0), first: column(|lane| lane.1) };
            let reach = Reach {
                sampled: column(|lane| lane.2),
                to_start: column(|lane| lane.3),
                to_end: column(|lane| lane.4),
                ..Reach::default()
            };
            for sign in [Sign::Counter, Sign::Gauge] {
                let kind = Kind { sign, seconds: f64::from(seconds) };
                let of = |isa| {
                    let mut out = vec![0.0; lanes.len()];
                    rates(isa, &reach, &ends, kind, &mut out);
                    bits(&out)
                };
                for isa in isas() {
                    prop_assert_eq!(of(isa), of(Isa::Scalar), "{:?}", isa);
                }
            }
        }

        #[test]
        fn reaches_of_every_isa_are_those_of_the_scalar_twin(
            gaps in prop::collection::vec(prop_oneof![4 => 1..30_000i64, 1 => 0..3i64, 1 => 0..1i64 << 50], 0..60),
            windows in prop::collection::vec((0..70u32, 0..70u32), 0..150),
            (start, end) in prop_oneof![(Just(0), -1_000_000..1_000_000i64), (any::<i64>().prop_map(|at| at >> 8), 0..1i64 << 50)],
            (interval, range) in (0..1_000_000i64, 0..1_000_000i64),
        ) {
            let timestamps: Vec<i64> = gaps.iter().scan(start, |at, gap| { *at += gap; Some(*at) }).collect();
            let (starts, ends): (Vec<u32>, Vec<u32>) = windows.iter().copied().unzip();
            let windows = Windows { timestamps: &timestamps, starts: &starts, ends: &ends, end, interval, range };
            let of = |isa| {
                let mut found = Reach::default();
                reach(isa, windows, &mut found);
                let lanes = (0..found.len()).filter(|at| found.valid[at / 64] >> (at % 64) & 1 == 1);
                let columns = [&found.sampled, &found.to_start, &found.to_end];
                let numbers: Vec<[u64; 3]> = lanes.map(|at| columns.map(|column| bits(&column[at..=at])[0])).collect();
                (numbers, found.firsts, found.lasts, found.valid)
            };
            for isa in isas() {
                prop_assert_eq!(of(isa), of(Isa::Scalar), "{:?}", isa);
            }
        }

        #[test]
        fn thousandths_are_quotients(millis in any::<i64>()) {
            #[cfg(target_arch = "x86_64")]
            if isas().any(|isa| isa == Isa::Avx512) {
                for shift in 0..63 {
                    let number = (millis >> shift) as f64;
                    prop_assert_eq!(avx512::thousandth_of(number).to_bits(), (number / 1000.0).to_bits(), "{}", number);
                }
            }
        }
    }
}
