//! Four integers at a time: their eight bytes are gathered, shifted and masked.

use std::arch::x86_64::{
    _mm_storeu_si128, _mm256_add_epi64, _mm256_and_si256, _mm256_castsi256_si128, _mm256_i64gather_epi64,
    _mm256_permutevar8x32_epi32, _mm256_set1_epi64x, _mm256_setr_epi32, _mm256_setr_epi64x, _mm256_srli_epi64,
    _mm256_srlv_epi64,
};

use super::scalar;

const LANES: usize = 4;

/// As [`scalar::unpack`].
///
/// # Safety
/// `packed` must hold eight bytes from the first byte of every integer that is wanted.
#[target_feature(enable = "avx2,bmi2")]
pub unsafe fn unpack(packed: &[u8], width: u32, first: usize, out: &mut [u32]) {
    let start = (first * width as usize) as i64;
    let wide = i64::from(width);
    let mask = _mm256_set1_epi64x((1i64 << width) - 1);
    let step = _mm256_set1_epi64x(wide * LANES as i64);
    let even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    let mut bits = _mm256_setr_epi64x(start, start + wide, start + 2 * wide, start + 3 * wide);
    let mut groups = out.chunks_exact_mut(LANES);
    let mut done = 0;
    for group in &mut groups {
        let at = _mm256_srli_epi64::<3>(bits);
        // SAFETY: the caller promises eight bytes from the first byte of every integer.
        let eight = unsafe { _mm256_i64gather_epi64::<1>(packed.as_ptr().cast(), at) };
        let shifted = _mm256_srlv_epi64(eight, _mm256_and_si256(bits, _mm256_set1_epi64x(7)));
        let values = _mm256_permutevar8x32_epi32(_mm256_and_si256(shifted, mask), even);
        // SAFETY: `group` is four writable values.
        unsafe { _mm_storeu_si128(group.as_mut_ptr().cast(), _mm256_castsi256_si128(values)) };
        bits = _mm256_add_epi64(bits, step);
        done += LANES;
    }
    scalar::unpack(packed, width, first + done, groups.into_remainder());
}
