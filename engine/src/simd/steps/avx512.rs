//! Eight steps at a time: each guesses where its sample is from the last step before them and from how far
//! samples are apart, and looks whether that is right.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_cmpeq_epi64_mask, _mm512_cmpgt_epi64_mask, _mm512_cmple_epi64_mask,
    _mm512_cvtepi64_pd, _mm512_cvttpd_epi64, _mm512_mask_i64gather_epi64, _mm512_mask_storeu_epi64, _mm512_max_epi64,
    _mm512_min_epi64, _mm512_mul_pd, _mm512_mullo_epi64, _mm512_set1_epi64, _mm512_set1_pd, _mm512_setr_epi64,
    _mm512_setzero_si512, _mm512_storeu_si512, _mm512_sub_epi64,
};

use super::{Limits, Samples, scalar};
use crate::model::value::STALE_NAN_BITS;

const LANES: usize = 8;

/// Wrong guesses after which samples are no more believed to be regular.
const MISSES_MAX: u32 = 32;

/// As [`scalar::bounds`], whose one guess costs less than eight that are held against samples.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn bounds(timestamps: &[i64], limits: Limits, out: &mut [u32]) {
    scalar::bounds(timestamps, limits, out);
}

/// As [`scalar::newest`].
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn newest(samples: Samples<'_>, (limits, lookback): (Limits, i64), (values, valid): (&mut [f64], &mut [u64])) {
    let mut done = 0;
    let is_plain = samples.values.len() == samples.timestamps.len() && (0..1 << 60).contains(&lookback);
    let guess = Guess::new(samples.timestamps, limits, values.len()).filter(|_| is_plain);
    if let Some(mut guess) = guess {
        let (one, stale) = (_mm512_set1_epi64(1), _mm512_set1_epi64(STALE_NAN_BITS as i64));
        for row in values.chunks_mut(LANES) {
            // The lanes of the last steps that are none are looked for as the others, and left out.
            let is_step = (0xffu16 >> (LANES - row.len())) as u8;
            let oldest = _mm512_sub_epi64(guess.limits, _mm512_set1_epi64(lookback));
            let Some((found, times)) = guess.next(samples.timestamps) else { break };
            let has_sample = is_step & _mm512_cmpgt_epi64_mask(found, _mm512_setzero_si512());
            let is_new = has_sample & _mm512_cmpgt_epi64_mask(times, oldest);
            // SAFETY: bounds above 0 are at most the number of samples, so that one less is one of them; other
            // lanes are not read.
            let picked = unsafe {
                let at = _mm512_sub_epi64(found, one);
                _mm512_mask_i64gather_epi64::<8>(_mm512_setzero_si512(), is_new, at, samples.values.as_ptr().cast())
            };
            let is_valid = is_new & !_mm512_cmpeq_epi64_mask(picked, stale);
            // SAFETY: the mask has no more bits than `row` has places of eight bytes.
            unsafe { _mm512_mask_storeu_epi64(row.as_mut_ptr().cast(), is_valid, picked) };
            valid[done / 64] |= u64::from(is_valid) << (done % 64);
            done += row.len();
        }
    }
    scalar::newest_from(samples, (limits, lookback), done, (values, valid));
}

/// Where the next eight steps are guessed to be.
struct Guess {
    /// The limits of the next eight steps.
    limits: __m512i,
    advance: __m512i,
    /// Samples in a millisecond.
    density: f64,
    /// The bound of the step before them, at least 1.
    before: usize,
    misses: u32,
}

impl Guess {
    /// Before the first of `count` steps; `None` where samples are better looked for one by one.
    #[target_feature(enable = "avx512f,avx512dq")]
    #[inline]
    fn new(timestamps: &[i64], limits: Limits, count: usize) -> Option<Self> {
        let (first, last) = (*timestamps.first()?, *timestamps.last()?);
        let is_near = |time: i64| (-1 << 61..1 << 61).contains(&time);
        if count < LANES || !limits.is_regular(count) || !is_near(first) || !is_near(last) || last <= first {
            return None;
        }
        let interval = _mm512_set1_epi64(limits.interval);
        let lanes = _mm512_mullo_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), interval);
        Some(Self {
            limits: _mm512_add_epi64(_mm512_set1_epi64(limits.of(0)), lanes),
            advance: _mm512_mullo_epi64(interval, _mm512_set1_epi64(LANES as i64)),
            density: (timestamps.len() - 1) as f64 / (last - first) as f64,
            before: timestamps.partition_point(|time| *time <= limits.of(0)).max(1),
            misses: 0,
        })
    }

    /// The bounds of the next eight steps, and the times of the samples before them where there are any;
    /// `None` once the guesses are often wrong.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    #[inline]
    fn next(&mut self, timestamps: &[i64]) -> Option<(__m512i, __m512i)> {
        let (zero, one) = (_mm512_setzero_si512(), _mm512_set1_epi64(1));
        let count = _mm512_set1_epi64(timestamps.len() as i64);
        let since = _mm512_sub_epi64(self.limits, _mm512_set1_epi64(timestamps[self.before - 1]));
        let ahead = _mm512_cvttpd_epi64(_mm512_mul_pd(_mm512_cvtepi64_pd(since), _mm512_set1_pd(self.density)));
        let guess = _mm512_add_epi64(_mm512_set1_epi64(self.before as i64), ahead);
        let mut found = _mm512_max_epi64(_mm512_min_epi64(guess, count), zero);
        // SAFETY: guesses are from 0 to the number of timestamps; of these 0 has nothing before it, and the
        // number of all nothing behind it, and these lanes are not read.
        let (mut times, behind) = unsafe {
            let before = _mm512_sub_epi64(found, one);
            let (has_before, has_behind) =
                (_mm512_cmpgt_epi64_mask(found, zero), _mm512_cmpgt_epi64_mask(count, found));
            let least = _mm512_set1_epi64(i64::MIN);
            let most = _mm512_set1_epi64(i64::MAX);
            let column = timestamps.as_ptr();
            (
                _mm512_mask_i64gather_epi64::<8>(least, has_before, before, column),
                _mm512_mask_i64gather_epi64::<8>(most, has_behind, found, column),
            )
        };
        let is_wrong = !(_mm512_cmple_epi64_mask(times, self.limits) & _mm512_cmpgt_epi64_mask(behind, self.limits));
        if is_wrong != 0 {
            self.misses += is_wrong.count_ones();
            if self.misses > MISSES_MAX {
                return None;
            }
            (found, times) = exact(timestamps, self.limits);
        }
        let mut bounds = [0i64; LANES];
        // SAFETY: eight numbers of eight bytes are 64 writable bytes.
        unsafe { _mm512_storeu_si512(bounds.as_mut_ptr().cast(), found) };
        self.before = (bounds[LANES - 1] as usize).max(1);
        self.limits = _mm512_add_epi64(self.limits, self.advance);
        Some((found, times))
    }
}

/// Bounds and times as [`Guess::next`] gives them, looked for one by one.
#[target_feature(enable = "avx512f")]
#[cold]
fn exact(timestamps: &[i64], limits: __m512i) -> (__m512i, __m512i) {
    let mut lanes = [0i64; LANES];
    // SAFETY: eight numbers of eight bytes are 64 writable bytes.
    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), limits) };
    let bounds = lanes.map(|limit| timestamps.partition_point(|time| *time <= limit));
    let times = bounds.map(|bound| bound.checked_sub(1).map_or(i64::MIN, |at| timestamps[at]));
    let vector = |[a, b, c, d, e, f, g, h]: [i64; LANES]| _mm512_setr_epi64(a, b, c, d, e, f, g, h);
    (vector(bounds.map(|bound| bound as i64)), vector(times))
}
