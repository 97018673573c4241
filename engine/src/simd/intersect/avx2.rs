//! Eight by eight: a vector of one list against all rotations of a vector of the other.

use std::arch::x86_64::{
    __m256i, _mm256_castsi256_ps, _mm256_cmpeq_epi32, _mm256_loadu_si256, _mm256_movemask_ps, _mm256_or_si256,
    _mm256_permutevar8x32_epi32, _mm256_setr_epi32, _mm256_storeu_si256,
};

use super::scalar;

const LANES: usize = 8;

/// For each mask of lanes, their numbers in ascending order, then zeros.
static COMPRESS: [[u32; LANES]; 256] = compress_table();

const fn compress_table() -> [[u32; LANES]; 256] {
    let mut table = [[0; LANES]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut to) = (0, 0);
        while lane < LANES {
            if mask >> lane & 1 == 1 {
                table[mask][to] = lane as u32;
                to += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    table
}

/// As [`scalar::intersect`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
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
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn subtract(a: &[u32], b: &[u32], out: &mut Vec<u32>) {
    let (mut i, mut j) = (0, 0);
    let mut found = 0u8;
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

#[target_feature(enable = "avx2")]
#[inline]
fn load(list: &[u32], at: usize) -> __m256i {
    let lanes = &list[at..at + LANES];
    // SAFETY: `lanes` is eight readable values.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

/// The lanes of `a` that are in `b`.
#[target_feature(enable = "avx2")]
#[inline]
fn matches(a: __m256i, b: __m256i) -> u8 {
    let rotate = _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 0);
    let mut rotated = b;
    let mut equal = _mm256_cmpeq_epi32(a, rotated);
    for _ in 1..LANES {
        rotated = _mm256_permutevar8x32_epi32(rotated, rotate);
        equal = _mm256_or_si256(equal, _mm256_cmpeq_epi32(a, rotated));
    }
    _mm256_movemask_ps(_mm256_castsi256_ps(equal)) as u8
}

/// Appends the lanes of `values` that `mask` names.
#[target_feature(enable = "avx2,popcnt")]
#[inline]
fn push(values: __m256i, mask: u8, out: &mut Vec<u32>) {
    let order = load(&COMPRESS[mask as usize], 0);
    let packed = _mm256_permutevar8x32_epi32(values, order);
    out.reserve(LANES);
    let spare = out.spare_capacity_mut();
    // SAFETY: `reserve` made room for eight more values.
    unsafe { _mm256_storeu_si256(spare.as_mut_ptr().cast(), packed) };
    let len = out.len() + mask.count_ones() as usize;
    // SAFETY: the values up to `len` were written just now, and `len` grew by at most eight.
    unsafe { out.set_len(len) };
}
