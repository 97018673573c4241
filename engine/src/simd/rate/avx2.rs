//! The scalar loops, compiled for AVX2.

use super::{Ends, Kind, Reach, Windows, scalar};

/// As [`scalar::reach`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn reach(windows: Windows<'_>, reach: &mut Reach) {
    scalar::reach(windows, reach);
}

/// As [`scalar::rates`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn rates(reach: &Reach, ends: &Ends, kind: Kind, out: &mut [f64]) {
    scalar::rates(reach, ends, kind, out);
}
