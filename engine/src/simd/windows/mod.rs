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

use super::Isa;

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
}

/// The sums that a least-squares line is made of, one of each window; undefined where a window is
/// empty.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// Of times in seconds, from the window's own origin.
    pub x: Vec<f64>,
    /// Of samples.
    pub y: Vec<f64>,
    /// Of their products.
    pub xy: Vec<f64>,
    /// Of squares of times.
    pub xx: Vec<f64>,
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
        for column in [&mut self.x, &mut self.y, &mut self.xy, &mut self.xx] {
            column.resize(len, 0.0);
        }
    }
}

/// The compensated sum of each window, from its first sample on.
pub fn sums(isa: Isa, values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    out.resize(ranges.len());
    dispatch!(isa, sums(values, ranges, out));
}

/// The compensated sum of the squared distances of each window's samples from their mean, which moves
/// along with them.
pub fn squares(isa: Isa, values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    out.resize(ranges.len());
    dispatch!(isa, squares(values, ranges, out));
}

/// The sums of each window's line: of samples `values` at `times` milliseconds, whole numbers all, with
/// the window's origin at `origins`.
pub fn lines(isa: Isa, (times, values): (&[f64], &[f64]), ranges: Ranges<'_>, origins: &[f64], out: &mut Lines) {
    out.resize(ranges.len());
    dispatch!(isa, lines((times, values), ranges, origins, out));
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

    proptest! {
        #[test]
        fn every_isa_gives_the_bits_of_the_scalar_twin(
            values in prop::collection::vec(
                prop_oneof![Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(f64::MAX), -1e6..1e6f64, -1.0..1.0],
                0..200,
            ),
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
                [own.sums, own.lost, spread.sums, spread.lost, line.x, line.y, line.xy, line.xx]
                    .map(|column| bits(&column, ranges))
            };
            for isa in isas() {
                prop_assert_eq!(of(isa), of(Isa::Scalar), "{:?}", isa);
            }
        }
    }
}
