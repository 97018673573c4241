//! Rates of windows: the differences between their first and last samples, extrapolated to their
//! bounds as Prometheus does. Lanes are windows, each with the operations of the scalar twin in its
//! order, so that every instruction set gives the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
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

/// How far windows reach beyond their samples: columns of one length, which depend on the samples'
/// times alone. Lanes that stand for no window hold anything.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Number of samples less one, at least 1.
    pub intervals: Vec<f64>,
    /// From the first sample to the last: milliseconds, seconds after [`reach`].
    pub sampled: Vec<f64>,
    /// From the start of the window to the first sample, in the same unit; after [`reach`] what is
    /// extrapolated.
    pub to_start: Vec<f64>,
    /// From the last sample to the end of the window, likewise.
    pub to_end: Vec<f64>,
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
        self.intervals.len()
    }

    /// Whether there is no window.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// Makes room for `len` windows.
    pub fn resize(&mut self, len: usize) {
        for column in [&mut self.intervals, &mut self.sampled, &mut self.to_start, &mut self.to_end] {
            column.resize(len, 1.0);
        }
    }
}

/// Turns milliseconds into seconds, and distances from samples to bounds into what of them is
/// extrapolated: half a usual interval where the next sample is overdue.
pub fn reach(isa: Isa, reach: &mut Reach) {
    dispatch!(isa, reach(reach));
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

    type Lane = (f64, f64, f64, f64, f64, f64);

    fn lanes() -> impl Strategy<Value = Vec<Lane>> {
        let value = || prop_oneof![Just(0.0), Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), -1e6..1e6f64];
        let millis = || prop_oneof![Just(0.0), (0..600_000i64).prop_map(|millis| millis as f64)];
        let intervals = (1..50i32).prop_map(f64::from);
        prop::collection::vec((value(), value(), millis(), millis(), millis(), intervals), 0..70)
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|value| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }).collect()
    }

    proptest! {
        #[test]
        fn every_isa_gives_the_bits_of_the_scalar_twin(lanes in lanes(), seconds in 1..600u32) {
            let column = |pick: fn(&Lane) -> f64| lanes.iter().map(pick).collect::<Vec<f64>>();
            let ends = Ends { difference: column(|lane| lane.0), first: column(|lane| lane.1) };
            let raw = Reach {
                sampled: column(|lane| lane.2),
                to_start: column(|lane| lane.3),
                to_end: column(|lane| lane.4),
                intervals: column(|lane| lane.5),
            };
            for sign in [Sign::Counter, Sign::Gauge] {
                let kind = Kind { sign, seconds: f64::from(seconds) };
                let of = |isa| {
                    let (mut own, mut out) = (raw.clone(), vec![0.0; lanes.len()]);
                    reach(isa, &mut own);
                    rates(isa, &own, &ends, kind, &mut out);
                    (bits(&own.sampled), bits(&own.to_start), bits(&own.to_end), bits(&out))
                };
                for isa in isas() {
                    prop_assert_eq!(of(isa), of(Isa::Scalar), "{:?}", isa);
                }
            }
        }
    }
}
