//! Eight windows at a time; rates are the scalar loop, compiled for AVX-512.

use std::arch::x86_64::{
    __m512d, __m512i, _CMP_GE_OQ, _mm256_cmple_epu32_mask, _mm256_cmplt_epu32_mask, _mm256_loadu_si256,
    _mm256_maskz_mov_epi32, _mm256_set1_epi32, _mm256_storeu_si256, _mm256_sub_epi32, _mm512_add_epi64,
    _mm512_cmp_pd_mask, _mm512_cvtepi32_pd, _mm512_cvtepi64_pd, _mm512_div_pd, _mm512_fmadd_pd, _mm512_fnmadd_pd,
    _mm512_mask_blend_pd, _mm512_mask_i32gather_epi64, _mm512_mul_pd, _mm512_mullo_epi64, _mm512_set1_epi64,
    _mm512_set1_pd, _mm512_setr_epi64, _mm512_setzero_si512, _mm512_storeu_pd, _mm512_sub_epi64,
};

use super::{Ends, Kind, Reach, Windows, scalar};

const LANES: usize = 8;

/// As [`scalar::reach`].
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn reach(windows: Windows<'_>, reach: &mut Reach) {
    let whole = reach.sampled.len() / LANES * LANES;
    // Samples are chosen by signed numbers of 32 bits.
    let Ok(count) = i32::try_from(windows.timestamps.len()) else { return scalar::reach(windows, reach) };
    let interval = _mm512_set1_epi64(windows.interval);
    let lanes = _mm512_mullo_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), interval);
    let mut end = _mm512_add_epi64(_mm512_set1_epi64(windows.end), lanes);
    let advance = _mm512_mullo_epi64(interval, _mm512_set1_epi64(LANES as i64));
    let range = _mm512_set1_epi64(windows.range);
    let (one, count) = (_mm256_set1_epi32(1), _mm256_set1_epi32(count));
    let columns = reach.sampled.chunks_exact_mut(LANES).zip(reach.to_start.chunks_exact_mut(LANES));
    let columns = columns.zip(reach.to_end.chunks_exact_mut(LANES));
    let picks = reach.firsts.chunks_exact_mut(LANES).zip(reach.lasts.chunks_exact_mut(LANES));
    let bounds = windows.starts.chunks_exact(LANES).zip(windows.ends.chunks_exact(LANES));
    for (at, ((((sampled, to_start), to_end), (firsts, lasts)), bounds)) in columns.zip(picks).zip(bounds).enumerate() {
        // SAFETY: eight numbers of four bytes are 32 readable bytes.
        let starts = unsafe { _mm256_loadu_si256(bounds.0.as_ptr().cast()) };
        // SAFETY: as above.
        let ends = unsafe { _mm256_loadu_si256(bounds.1.as_ptr().cast()) };
        let last = _mm256_sub_epi32(ends, one);
        let is_valid = _mm256_cmplt_epu32_mask(starts, last)
            & _mm256_cmple_epu32_mask(ends, count)
            & _mm256_cmplt_epu32_mask(last, ends);
        // SAFETY: chosen lanes are less than the number of timestamps, the others are not read.
        let first_time = unsafe { times(is_valid, starts, windows.timestamps) };
        // SAFETY: as above.
        let last_time = unsafe { times(is_valid, last, windows.timestamps) };
        let seconds = thousandths(_mm512_cvtepi64_pd(_mm512_sub_epi64(last_time, first_time)));
        let average = _mm512_div_pd(seconds, _mm512_cvtepi32_pd(_mm256_sub_epi32(last, starts)));
        let threshold = _mm512_mul_pd(average, _mm512_set1_pd(1.1));
        let half = _mm512_mul_pd(average, _mm512_set1_pd(0.5));
        let before = _mm512_sub_epi64(first_time, _mm512_sub_epi64(end, range));
        let gaps = [(to_start, before), (to_end, _mm512_sub_epi64(end, last_time))];
        for (column, gap) in gaps {
            let gap = thousandths(_mm512_cvtepi64_pd(gap));
            let gap = _mm512_mask_blend_pd(_mm512_cmp_pd_mask::<_CMP_GE_OQ>(gap, threshold), gap, half);
            // SAFETY: eight numbers of eight bytes are 64 writable bytes.
            unsafe { _mm512_storeu_pd(column.as_mut_ptr(), gap) };
        }
        // SAFETY: as above.
        unsafe { _mm512_storeu_pd(sampled.as_mut_ptr(), seconds) };
        for (column, picked) in [(firsts, starts), (lasts, last)] {
            // SAFETY: eight numbers of four bytes are 32 writable bytes.
            unsafe { _mm256_storeu_si256(column.as_mut_ptr().cast(), _mm256_maskz_mov_epi32(is_valid, picked)) };
        }
        reach.valid[at * LANES / 64] |= u64::from(is_valid) << (at * LANES % 64);
        end = _mm512_add_epi64(end, advance);
    }
    scalar::reach_of(windows, whole..reach.len(), reach);
}

/// The times of the samples `picked` where `chosen`, and 0 elsewhere.
///
/// # Safety
/// Chosen lanes are less than the number of timestamps, which is a number of 31 bits.
#[target_feature(enable = "avx512f,avx512vl")]
#[inline]
unsafe fn times(chosen: u8, picked: std::arch::x86_64::__m256i, timestamps: &[i64]) -> __m512i {
    // SAFETY: the caller says that chosen lanes lie within; others are not read.
    unsafe { _mm512_mask_i32gather_epi64::<8>(_mm512_setzero_si512(), chosen, picked, timestamps.as_ptr()) }
}

/// `numbers / 1000`, rounded alike, for whole numbers: a quotient that is less than a unit in its last place off,
/// corrected by what it leaves over times the rounded reciprocal, is the rounded quotient (Markstein), and 1000's
/// reciprocal is rounded by less than a fifth of half a unit.
#[target_feature(enable = "avx512f")]
#[inline]
pub(in crate::simd) fn thousandths(numbers: __m512d) -> __m512d {
    let (thousand, reciprocal) = (_mm512_set1_pd(1000.0), _mm512_set1_pd(1.0 / 1000.0));
    let quotient = _mm512_mul_pd(numbers, reciprocal);
    let left = _mm512_fnmadd_pd(quotient, thousand, numbers);
    _mm512_fmadd_pd(left, reciprocal, quotient)
}

/// One [`thousandths`].
#[cfg(test)]
pub fn thousandth_of(number: f64) -> f64 {
    #[target_feature(enable = "avx512f")]
    fn lane(number: f64) -> f64 {
        std::arch::x86_64::_mm512_cvtsd_f64(thousandths(_mm512_set1_pd(number)))
    }
    // SAFETY: the test asks for this where the machine has AVX-512 only.
    unsafe { lane(number) }
}

/// As [`scalar::rates`].
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn rates(reach: &Reach, ends: &Ends, kind: Kind, out: &mut [f64]) {
    scalar::rates(reach, ends, kind, out);
}
