//! The scalar loops, compiled for AVX2.

use super::{Ends, Kind, Reach, scalar};

/// As [`scalar::reach`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn reach(reach: &mut Reach) {
    scalar::reach(reach);
}

/// As [`scalar::rates`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn rates(reach: &Reach, ends: &Ends, kind: Kind, out: &mut [f64]) {
    scalar::rates(reach, ends, kind, out);
}
