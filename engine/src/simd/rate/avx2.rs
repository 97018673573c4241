//! Four windows at a time; rates are the scalar loop, compiled for AVX2.

use std::arch::x86_64::{
    __m128i, __m256d, __m256i, _CMP_GE_OQ, _mm_and_si128, _mm_andnot_si128, _mm_castsi128_ps, _mm_cmpgt_epi32,
    _mm_loadu_si128, _mm_movemask_ps, _mm_set1_epi32, _mm_storeu_si128, _mm_sub_epi32, _mm256_add_epi64,
    _mm256_blendv_pd, _mm256_castsi256_pd, _mm256_cmp_pd, _mm256_cvtepi32_pd, _mm256_div_pd, _mm256_mul_pd,
    _mm256_set_epi64x, _mm256_set1_epi64x, _mm256_set1_pd, _mm256_storeu_pd, _mm256_sub_epi64, _mm256_sub_pd,
};

use super::{Ends, Kind, Reach, Windows, scalar};

const LANES: usize = 4;

/// As [`scalar::reach`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn reach(windows: Windows<'_>, reach: &mut Reach) {
    let mut done = 0;
    if are_near(windows, reach.len()) {
        let mut end = _mm256_add_epi64(_mm256_set1_epi64x(windows.end), multiples(windows.interval));
        let advance = _mm256_set1_epi64x(windows.interval * LANES as i64);
        let bounds = windows.starts.chunks_exact(LANES).zip(windows.ends.chunks_exact(LANES));
        for (starts, ends) in bounds.take(reach.len() / LANES) {
            // SAFETY: four numbers of four bytes are 16 readable bytes.
            let starts = unsafe { _mm_loadu_si128(starts.as_ptr().cast()) };
            // SAFETY: as above.
            let ends = unsafe { _mm_loadu_si128(ends.as_ptr().cast()) };
            if !of_four(windows, (starts, ends), end, (reach, done)) {
                scalar::reach_of(windows, done..done + LANES, reach);
            }
            done += LANES;
            end = _mm256_add_epi64(end, advance);
        }
    }
    scalar::reach_of(windows, done..reach.len(), reach);
}

/// Whether all times and their differences are numbers that become floats by the addition of a constant, and
/// samples are chosen by numbers of 31 bits.
fn are_near(windows: Windows<'_>, count: usize) -> bool {
    const FAR: i64 = 1 << 49;
    let is_near = |time: i64| (-FAR..FAR).contains(&time);
    let length = windows.interval.checked_mul(count as i64 + LANES as i64);
    let last = length.and_then(|length| windows.end.checked_add(length));
    let times = [windows.timestamps.first(), windows.timestamps.last()];
    times.into_iter().all(|time| time.is_some_and(|time| is_near(*time)))
        && [Some(windows.end), last, Some(windows.range)].into_iter().all(|time| time.is_some_and(is_near))
        && windows.timestamps.len() < 1 << 31
}

/// Fills four windows from `at` on, which end at `end`; does nothing and gives `false` where one of them has no two
/// samples.
#[target_feature(enable = "avx2")]
#[inline]
fn of_four(
    windows: Windows<'_>,
    (starts, ends): (__m128i, __m128i),
    end: __m256i,
    (reach, at): (&mut Reach, usize),
) -> bool {
    let count = windows.timestamps.len();
    let last = _mm_sub_epi32(ends, _mm_set1_epi32(1));
    // Bounds of 32 bits are negative here; so is the last sample where there is none.
    let is_long = _mm_andnot_si128(starts, _mm_cmpgt_epi32(last, starts));
    let is_valid = _mm_and_si128(is_long, _mm_cmpgt_epi32(_mm_set1_epi32(count as i32), last));
    if _mm_movemask_ps(_mm_castsi128_ps(is_valid)) != 0b1111 {
        return false;
    }
    let first_time = times(starts, windows.timestamps);
    let last_time = times(last, windows.timestamps);
    let thousand = _mm256_set1_pd(1000.0);
    let seconds = _mm256_div_pd(float(_mm256_sub_epi64(last_time, first_time)), thousand);
    let average = _mm256_div_pd(seconds, _mm256_cvtepi32_pd(_mm_sub_epi32(last, starts)));
    let (threshold, half) = (_mm256_mul_pd(average, _mm256_set1_pd(1.1)), _mm256_mul_pd(average, _mm256_set1_pd(0.5)));
    let start = _mm256_sub_epi64(end, _mm256_set1_epi64x(windows.range));
    let gap = |gap: __m256i| {
        let gap = _mm256_div_pd(float(gap), thousand);
        _mm256_blendv_pd(gap, half, _mm256_cmp_pd::<_CMP_GE_OQ>(gap, threshold))
    };
    let columns = [
        (&mut reach.sampled, seconds),
        (&mut reach.to_start, gap(_mm256_sub_epi64(first_time, start))),
        (&mut reach.to_end, gap(_mm256_sub_epi64(end, last_time))),
    ];
    for (column, numbers) in columns {
        // SAFETY: the slice is four numbers of eight bytes.
        unsafe { _mm256_storeu_pd(column[at..at + LANES].as_mut_ptr(), numbers) };
    }
    for (column, picked) in [(&mut reach.firsts, starts), (&mut reach.lasts, last)] {
        // SAFETY: the slice is four numbers of four bytes.
        unsafe { _mm_storeu_si128(column[at..at + LANES].as_mut_ptr().cast(), picked) };
    }
    reach.valid[at / 64] |= 0b1111 << (at % 64);
    true
}

/// The times of four samples.
#[target_feature(enable = "avx2")]
#[inline]
fn times(picked: __m128i, timestamps: &[i64]) -> __m256i {
    let mut places = [0u32; LANES];
    // SAFETY: four numbers of four bytes are 16 writable bytes.
    unsafe { _mm_storeu_si128(places.as_mut_ptr().cast(), picked) };
    let [a, b, c, d] = places.map(|place| timestamps[place as usize]);
    _mm256_set_epi64x(d, c, b, a)
}

/// Numbers of less than 51 bits as floats: added to the bits of 1.5 * 2^52 they are its lowest ones.
#[target_feature(enable = "avx2")]
#[inline]
fn float(numbers: __m256i) -> __m256d {
    const SHIFTED: f64 = 6_755_399_441_055_744.0;
    let bits = _mm256_add_epi64(numbers, _mm256_set1_epi64x(SHIFTED.to_bits() as i64));
    _mm256_sub_pd(_mm256_castsi256_pd(bits), _mm256_set1_pd(SHIFTED))
}

/// `number` times each lane's place.
#[target_feature(enable = "avx2")]
#[inline]
fn multiples(number: i64) -> __m256i {
    _mm256_set_epi64x(3 * number, 2 * number, number, 0)
}

/// As [`scalar::rates`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn rates(reach: &Reach, ends: &Ends, kind: Kind, out: &mut [f64]) {
    scalar::rates(reach, ends, kind, out);
}
