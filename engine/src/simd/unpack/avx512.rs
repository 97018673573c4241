//! Eight integers at a time: their eight bytes are gathered, shifted and masked.

use std::arch::x86_64::{
    _mm256_storeu_si256, _mm512_add_epi64, _mm512_and_si512, _mm512_cvtepi64_epi32, _mm512_i64gather_epi64,
    _mm512_mullo_epi64, _mm512_set1_epi64, _mm512_setr_epi64, _mm512_srli_epi64, _mm512_srlv_epi64,
};

use super::scalar;

const LANES: usize = 8;

/// As [`scalar::unpack`].
///
/// # Safety
/// `packed` must hold eight bytes from the first byte of every integer that is wanted.
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
pub unsafe fn unpack(packed: &[u8], width: u32, first: usize, out: &mut [u32]) {
    let wide = _mm512_set1_epi64(i64::from(width));
    let mask = _mm512_set1_epi64((1i64 << width) - 1);
    let step = _mm512_set1_epi64(i64::from(width) * LANES as i64);
    let start = _mm512_set1_epi64((first * width as usize) as i64);
    let mut bits = _mm512_add_epi64(start, _mm512_mullo_epi64(wide, _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7)));
    let mut groups = out.chunks_exact_mut(LANES);
    let mut done = 0;
    for group in &mut groups {
        let at = _mm512_srli_epi64::<3>(bits);
        // SAFETY: the caller promises eight bytes from the first byte of every integer.
        let eight = unsafe { _mm512_i64gather_epi64::<1>(at, packed.as_ptr().cast()) };
        let shifted = _mm512_srlv_epi64(eight, _mm512_and_si512(bits, _mm512_set1_epi64(7)));
        let values = _mm512_cvtepi64_epi32(_mm512_and_si512(shifted, mask));
        // SAFETY: `group` is eight writable values.
        unsafe { _mm256_storeu_si256(group.as_mut_ptr().cast(), values) };
        bits = _mm512_add_epi64(bits, step);
        done += LANES;
    }
    scalar::unpack(packed, width, first + done, groups.into_remainder());
}
