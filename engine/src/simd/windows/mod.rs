//! Sums, variances and straight lines of the windows of a series. A lane is a window, and each lane
//! adds its samples in their order with the scalar twin's operations, so that every instruction set
//! gives the same bits; windows that follow each other have about as many samples.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod lanes;
/// The specification.
pub mod scalar;
mod whole;

use super::{Isa, Kernel, run_on};

/// Windows as index ranges into the samples of a series: columns of one length.
#[derive(Clone, Copy, Debug)]
pub struct Ranges<'a> {
    /// First sample of each.
    pub starts: &'a [u32],
    /// One behind the last sample of each.
    pub ends: &'a [u32],
}

/// Compensated sums, one of each window; undefined where a window is empty.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// Sums.
    pub sums: Vec<f64>,
    /// What they have lost.
    pub lost: Vec<f64>,
    /// Of whole numbers, the sum before each sample and behind the last.
    before: Vec<i64>,
}

/// Least-squares lines, one of each window; undefined where a window is empty.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// Slopes, per second.
    pub slopes: Vec<f64>,
    /// Values at the windows' own origins.
    pub intercepts: Vec<f64>,
    /// Sums of times in seconds from the window's own origin, of samples, of their products, and of squares of
    /// times.
    sums: [Vec<f64>; 4],
}

impl Ranges<'_> {
    /// Number of windows.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is no window.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The longest window's samples.
    fn longest(&self) -> u32 {
        self.starts.iter().zip(self.ends).fold(0, |longest, (start, end)| longest.max(end.saturating_sub(*start)))
    }

    #[inline(always)]
    fn of(&self, at: usize) -> (usize, usize) {
        (self.starts[at] as usize, self.ends[at] as usize)
    }
}

impl Sums {
    fn resize(&mut self, len: usize) {
        self.sums.resize(len, 0.0);
        self.lost.resize(len, 0.0);
    }
}

impl Lines {
    fn resize(&mut self, len: usize) {
        for column in self.sums.iter_mut().chain([&mut self.slopes, &mut self.intercepts]) {
            column.resize(len, 0.0);
        }
    }
}

/// Makes lines of their sums.
struct Slopes<'a> {
    ranges: Ranges<'a>,
    lines: &'a mut Lines,
}

impl Kernel for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Lines { slopes, intercepts, sums: [x, y, xy, xx] } = self.lines;
        let lines = slopes.iter_mut().zip(intercepts).zip(x.iter().zip(y)).zip(xy.iter().zip(xx));
        let ranges = self.ranges.starts.iter().zip(self.ranges.ends);
        for ((((slope, intercept), (x, y)), (xy, xx)), (start, end)) in lines.zip(ranges) {
            let n = f64::from(end.wrapping_sub(*start));
            let covariance = *xy - *x * *y / n;
            let variance = *xx - *x * *x / n;
            *slope = covariance / variance;
            *intercept = *y / n - *slope * *x / n;
        }
    }
}

/// The compensated sum of each window, from its first sample on.
pub fn sums(isa: Isa, values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    out.resize(ranges.len());
    dispatch!(isa, sums(values, ranges, out));
}

/// As [`sums`], each window in the same time however long it is, when that gives the same: of whole numbers whose
/// sums are all exact. Otherwise false, and what `out` holds is of no use.
pub fn whole_sums(isa: Isa, values: &[f64], ranges: Ranges<'_>, out: &mut Sums) -> bool {
    out.resize(ranges.len());
    run_on(isa, whole::Sums { values, ranges, out })
}

/// The compensated sum of the squared distances of each window's samples from their mean, which moves
/// along with them.
pub fn squares(isa: Isa, values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    out.resize(ranges.len());
    dispatch!(isa, squares(values, ranges, out));
}

/// The line of each window: of samples `values` at `times` milliseconds, whole numbers all, with the window's
/// origin at `origins`.
pub fn lines(isa: Isa, (times, values): (&[f64], &[f64]), ranges: Ranges<'_>, origins: &[f64], out: &mut Lines) {
    out.resize(ranges.len());
    dispatch!(isa, lines((times, values), ranges, origins, out));
    run_on(isa, Slopes { ranges, lines: out });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::isas;

    fn bits(values: &[f64], ranges: Ranges<'_>) -> Vec<u64> {
        let windows = values.iter().enumerate().filter(|(at, _)| ranges.starts[*at] < ranges.ends[*at]);
        windows.map(|(_, value)| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }).collect()
    }

    fn wholes(least: i64, most: i64) -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec((least..=most).prop_map(|value| value as f64), 0..200)
    }

    #[test]
    fn whole_numbers_are_summed_at_once_as_long_as_their_sums_are_exact() {
        let ranges = Ranges { starts: &[0, 1, 3], ends: &[3, 4, 4] };
        let found = |values: [f64; 4]| {
            let mut out = Sums::default();
            isas().map(|isa| whole_sums(isa, &values, ranges, &mut out).then(|| out.sums.clone())).collect::<Vec<_>>()
        };
        let most = (1u64 << 51) as f64;
        for (values, expected) in [
            ([1.0, 2.0, -3.0, 0.0], Some(vec![0.0, -1.0, 0.0])),
            ([most, most, -most, 1.0], Some(vec![most, 1.0, 1.0])),
            ([most, most, most + 1.0, 1.0], None),
            ([1.0, 2.0, 3.0, 0.5], None),
            ([1.0, 2.0, 3.0, -0.0], None),
            ([1.0, 2.0, f64::NAN, 3.0], None),
            ([1.0, 2.0, 3.0, f64::INFINITY], None),
        ] {
            assert!(found(values).iter().all(|found| *found == expected), "{values:?}: {:?}", found(values));
        }
    }

    proptest! {
        #[test]
        fn every_isa_gives_the_bits_of_the_scalar_twin(
            values in prop_oneof![
                prop::collection::vec(
                    prop_oneof![
                        Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(f64::MAX), -1e6..1e6f64, -1.0..1.0
                    ],
                    0..200,
                ),
                wholes(-1_000, 1_000),
                wholes(-(1 << 47), 1 << 47),
                wholes(-(1 << 53), 1 << 53),
            ],
            windows in prop::collection::vec((0..200u32, 0..40u32), 0..40),
        ) {
            let count = values.len() as u32;
            let starts: Vec<u32> = windows.iter().map(|(start, _)| (*start).min(count)).collect();
            let ends: Vec<u32> = starts.iter().zip(&windows).map(|(start, (_, len))| (start + len).min(count)).collect();
            let ranges = Ranges { starts: &starts, ends: &ends };
            let times: Vec<f64> = (0..count).map(|at| f64::from(at * 15_000 + at % 7)).collect();
            let origins: Vec<f64> = starts.iter().map(|start| f64::from(start * 15_000)).collect();
            let of = |isa| {
                let (mut own, mut spread, mut line) = (Sums::default(), Sums::default(), Lines::default());
                sums(isa, &values, ranges, &mut own);
                squares(isa, &values, ranges, &mut spread);
                lines(isa, (&times, &values), ranges, &origins, &mut line);
                let mut exact = Sums::default();
                if whole_sums(isa, &values, ranges, &mut exact) {
                    assert_eq!(bits(&exact.sums, ranges), bits(&own.sums, ranges));
                    assert_eq!(bits(&exact.lost, ranges), bits(&own.lost, ranges));
                }
                let [x, y, xy, xx] = line.sums;
                [own.sums, own.lost, spread.sums, spread.lost, x, y, xy, xx, line.slopes, line.intercepts]
                    .map(|column| bits(&column, ranges))
            };
            for isa in isas() {
                prop_assert_eq!(of(isa), of(Isa::Scalar), "{:?}", isa);
            }
        }
    }
}
