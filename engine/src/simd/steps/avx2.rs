//! The scalar loops, compiled for AVX2.

use super::{Limits, Samples, scalar};

/// As [`scalar::bounds`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn bounds(timestamps: &[i64], limits: Limits, out: &mut [u32]) {
    scalar::bounds(timestamps, limits, out);
}

/// As [`scalar::newest`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn newest(samples: Samples<'_>, limits: (Limits, i64), row: (&mut [f64], &mut [u64])) {
    scalar::newest(samples, limits, row);
}
