//! Sixteen by sixteen: a vector of one list against all rotations of a vector of the other, matches
//! compressed in register.

use std::arch::x86_64::{
    __m512i, _mm512_alignr_epi32, _mm512_cmpeq_epi32_mask, _mm512_loadu_si512, _mm512_maskz_compress_epi32,
    _mm512_storeu_si512,
};

use super::scalar;

const LANES: usize = 16;

/// As [`scalar::intersect`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
pub fn intersect(a: &[u32], b: &[u32], out: &mut Vec<u32>) {
    let (mut i, mut j) = (0, 0);
    out.reserve(a.len().min(b.len()) + LANES);
    while i + LANES <= a.len() && j + LANES <= b.len() {
        let left = load(a, i);
        push(left, matches(left, load(b, j)), out);
        let (last_a, last_b) = (a[i + LANES - 1], b[j + LANES - 1]);
        i += LANES * usize::from(last_a <= last_b);
        j += LANES * usize::from(last_b <= last_a);
    }
    scalar::intersect(&a[i..], &b[j..], out);
}

/// As [`scalar::subtract`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
pub fn subtract(a: &[u32], b: &[u32], out: &mut Vec<u32>) {
    let (mut i, mut j) = (0, 0);
    let mut found = 0u16;
    out.reserve(a.len() + LANES);
    while i + LANES <= a.len() && j + LANES <= b.len() {
        let left = load(a, i);
        found |= matches(left, load(b, j));
        let (last_a, last_b) = (a[i + LANES - 1], b[j + LANES - 1]);
        if last_a <= last_b {
            push(left, !found, out);
            found = 0;
            i += LANES;
        }
        j += LANES * usize::from(last_b <= last_a);
    }
    let rest = LANES.min(a.len() - i) * usize::from(found != 0);
    for (lane, &x) in a[i..i + rest].iter().enumerate() {
        if found >> lane & 1 == 0 && b[j..].binary_search(&x).is_err() {
            out.push(x);
        }
    }
    scalar::subtract(&a[i + rest..], &b[j..], out);
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(list: &[u32], at: usize) -> __m512i {
    let lanes = &list[at..at + LANES];
    // SAFETY: `lanes` is sixteen readable values.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

/// The lanes of `a` that are in `b`.
#[target_feature(enable = "avx512f")]
#[inline]
fn matches(a: __m512i, b: __m512i) -> u16 {
    macro_rules! any_rotation {
        ($($by:literal)*) => {
            _mm512_cmpeq_epi32_mask(a, b) $(| _mm512_cmpeq_epi32_mask(a, _mm512_alignr_epi32::<$by>(b, b)))*
        };
    }
    any_rotation!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
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
