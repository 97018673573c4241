//! The scalar loops, compiled for AVX-512.

use super::Survey;
use super::scalar;

/// As [`scalar::sum`].
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn sum(sums: &mut [f64], lost: &mut [f64], values: &[f64]) {
    scalar::sum(sums, lost, values);
}

/// As [`scalar::least`].
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn least(kept: &mut [f64], values: &[f64]) {
    scalar::least(kept, values);
}

/// As [`scalar::greatest`].
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn greatest(kept: &mut [f64], values: &[f64]) {
    scalar::greatest(kept, values);
}

/// As [`scalar::survey`].
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn survey(values: &[f64]) -> Survey {
    scalar::survey(values)
}
