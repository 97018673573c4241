//! Sums of whole numbers: as long as a float has each of them exactly, a window's sum is the difference of two sums from
//! the first sample of the series on, and nothing is lost.

use super::{Ranges, Sums as Out};
use crate::simd::Kernel;

/// A float that is this added to a whole number of at most [`WHOLE_MAX`] has that number as the lowest bits of its own.
const SHIFT: f64 = 3.0 * (1u64 << 51) as f64;
/// The largest number that is looked at.
const WHOLE_MAX: f64 = (1u64 << 51) as f64;
/// The largest sum that a float has exactly, as all below it.
const EXACT_MAX: f64 = (1u64 << 53) as f64;
/// Samples between two looks at whether all were whole numbers.
const SAMPLES_UNWATCHED: usize = 64;

/// As [`super::whole_sums`].
pub(super) struct Sums<'a> {
    pub(super) values: &'a [f64],
    pub(super) ranges: Ranges<'a>,
    pub(super) out: &'a mut Out,
}

impl Kernel for Sums<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let Self { values, ranges, out } = self;
        out.before.clear();
        out.before.reserve(values.len() + 1);
        out.before.push(0);
        let most = EXACT_MAX / f64::from(ranges.longest().max(1));
        let mut sum = 0i64;
        for part in values.chunks(SAMPLES_UNWATCHED) {
            if !part.iter().fold(true, |all, value| all & is_whole(*value, most)) {
                return false;
            }
            out.before.extend(part.iter().map(|value| {
                sum = sum.wrapping_add(whole(*value));
                sum
            }));
        }
        for at in 0..ranges.len() {
            let (start, end) = ranges.of(at);
            out.sums[at] = out.before[end].wrapping_sub(out.before[start]) as f64;
            out.lost[at] = 0.0;
        }
        true
    }
}

/// Whether `value` is a whole number of at most `most`, and not the zero below zero.
#[inline(always)]
fn is_whole(value: f64, most: f64) -> bool {
    ((value + SHIFT) - SHIFT).to_bits() == value.to_bits() && value.abs() <= WHOLE_MAX && value.abs() <= most
}

/// What [`is_whole`] found to be one.
#[inline(always)]
fn whole(value: f64) -> i64 {
    (value + SHIFT).to_bits() as i64 - SHIFT.to_bits() as i64
}
