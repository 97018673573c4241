//! Lanes of windows, compiled for AVX2: four windows side by side.

use super::{Lines, Ranges, Sums, lanes};

const LANES: usize = 4;

/// As [`super::scalar::sums`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn sums(values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    lanes::sums::<LANES>(values, ranges, out, |windows| lanes::window_sums(values, windows));
}

/// As [`super::scalar::squares`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn squares(values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    lanes::squares::<LANES>(values, ranges, out);
}

/// As [`super::scalar::lines`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn lines(samples: (&[f64], &[f64]), ranges: Ranges<'_>, origins: &[f64], out: &mut Lines) {
    lanes::lines::<LANES>(samples, ranges, origins, out, |windows, origin| lanes::line_sums(samples, windows, origin));
}
