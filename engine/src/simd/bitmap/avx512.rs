//! The scalar loops compiled for AVX-512 (counting with VPOPCNTDQ); the numbers of set bits are
//! made sixteen at a time by compressing a vector of consecutive numbers.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_maskz_compress_epi32, _mm512_set1_epi32, _mm512_setr_epi32, _mm512_storeu_si512,
};

use super::scalar;

const LANES: usize = 16;

/// As [`scalar::and`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub fn and(a: &mut [u64], b: &[u64]) {
    scalar::and(a, b);
}

/// As [`scalar::or`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub fn or(a: &mut [u64], b: &[u64]) {
    scalar::or(a, b);
}

/// As [`scalar::and_not`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub fn and_not(a: &mut [u64], b: &[u64]) {
    scalar::and_not(a, b);
}

/// As [`scalar::count`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq,popcnt")]
pub fn count(words: &[u64]) -> u64 {
    scalar::count(words)
}

/// As [`scalar::ordinals`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,popcnt")]
pub fn ordinals(words: &[u64], base: u32, out: &mut Vec<u32>) {
    let steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (at, &word) in words.iter().enumerate() {
        if word == 0 {
            continue;
        }
        let first = base.wrapping_add(at as u32 * 64);
        if word.count_ones() < 8 {
            scalar::ordinals(&[word], first, out);
            continue;
        }
        for quarter in 0..4 {
            let start = first.wrapping_add(quarter * LANES as u32);
            let numbers = _mm512_add_epi32(_mm512_set1_epi32(start as i32), steps);
            push(numbers, (word >> (quarter * LANES as u32)) as u16, out);
        }
    }
}

/// As [`scalar::probe`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
pub fn probe(list: &[u32], words: &[u64], out: &mut Vec<u32>) {
    scalar::probe(list, words, out);
}

/// Appends the lanes of `values` that `mask` names.
#[target_feature(enable = "avx512f,popcnt")]
#[inline]
fn push(values: __m512i, mask: u16, out: &mut Vec<u32>) {
    let packed = _mm512_maskz_compress_epi32(mask, values);
    out.reserve(LANES);
    let spare = out.spare_capacity_mut();
    // SAFETY: `reserve` made room for sixteen more values.
    unsafe { _mm512_storeu_si512(spare.as_mut_ptr().cast(), packed) };
    let len = out.len() + mask.count_ones() as usize;
    // SAFETY: the values up to `len` were written just now, and `len` grew by at most sixteen.
    unsafe { out.set_len(len) };
}
