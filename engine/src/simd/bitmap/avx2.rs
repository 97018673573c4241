//! The scalar loops, compiled for AVX2.

use super::scalar;

/// As [`scalar::and`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn and(a: &mut [u64], b: &[u64]) {
    scalar::and(a, b);
}

/// As [`scalar::or`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn or(a: &mut [u64], b: &[u64]) {
    scalar::or(a, b);
}

/// As [`scalar::and_not`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn and_not(a: &mut [u64], b: &[u64]) {
    scalar::and_not(a, b);
}

/// As [`scalar::count`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn count(words: &[u64]) -> u64 {
    scalar::count(words)
}

/// As [`scalar::ordinals`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn ordinals(words: &[u64], base: u32, out: &mut Vec<u32>) {
    scalar::ordinals(words, base, out);
}

/// As [`scalar::probe`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn probe(list: &[u32], words: &[u64], out: &mut Vec<u32>) {
    scalar::probe(list, words, out);
}
