//! Four steps at a time: samples are about as regular as steps, so that a step's sample lies as far behind that of
//! the step before it as that did. Whether this holds for all four one branch tells; where it does not they are
//! searched for one by one.

use std::arch::x86_64::{
    __m256d, __m256i, _mm_loadu_si128, _mm256_add_epi64, _mm256_andnot_si256, _mm256_castpd_si256,
    _mm256_castsi128_si256, _mm256_castsi256_pd, _mm256_cmpeq_epi64, _mm256_cmpgt_epi64, _mm256_inserti128_si256,
    _mm256_movemask_pd, _mm256_set_epi64x, _mm256_set_pd, _mm256_set1_epi64x, _mm256_storeu_pd, _mm256_sub_epi64,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
};

use super::scalar::{self, Search};
use super::{Limits, Samples};
use crate::model::value::{STALE_NAN_BITS, is_stale_nan};

const LANES: usize = 4;

/// As [`scalar::bounds`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn bounds(timestamps: &[i64], limits: Limits, out: &mut [u32]) {
    let Some(mut steps) = Steps::new(timestamps, limits, out.len()) else {
        return scalar::bounds(timestamps, limits, out);
    };
    let mut step = 0;
    for bounds in out.chunks_mut(LANES) {
        match steps.next(timestamps, bounds.len()) {
            Some(run) => bounds.iter_mut().enumerate().for_each(|(at, bound)| *bound = run.bound(at) as u32),
            None => {
                for (at, bound) in bounds.iter_mut().enumerate() {
                    *bound = steps.search.next(timestamps, limits.of(step + at)) as u32;
                }
            }
        }
        step += LANES;
    }
}

/// As [`scalar::newest`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn newest(samples: Samples<'_>, (limits, lookback): (Limits, i64), (values, valid): (&mut [f64], &mut [u64])) {
    let is_plain = samples.values.len() == samples.timestamps.len() && (0..1 << 60).contains(&lookback);
    let steps = Steps::new(samples.timestamps, limits, values.len()).filter(|_| is_plain);
    let Some(mut steps) = steps else { return scalar::newest(samples, (limits, lookback), (values, valid)) };
    let back = _mm256_set1_epi64x(lookback);
    let mut step = 0;
    for row in values.chunks_mut(LANES) {
        let oldest = _mm256_sub_epi64(steps.limits, back);
        // Four steps do not cross a word.
        let bits = &mut valid[step / 64];
        if let Some(run) = steps.next(samples.timestamps, row.len()) {
            let picked = run.values(samples.values);
            let stale = _mm256_cmpeq_epi64(_mm256_castpd_si256(picked), _mm256_set1_epi64x(STALE_NAN_BITS as i64));
            let found = _mm256_andnot_si256(stale, _mm256_cmpgt_epi64(run.times, oldest));
            if _mm256_movemask_pd(_mm256_castsi256_pd(found)) == 0b1111 {
                // SAFETY: a run has four steps, for which `row` is 32 writable bytes.
                unsafe { _mm256_storeu_pd(row.as_mut_ptr(), picked) };
                *bits |= 0b1111 << (step % 64);
                step += LANES;
                continue;
            }
            steps.search = run.before;
        }
        for (at, slot) in row.iter_mut().enumerate() {
            let limit = limits.of(step + at);
            let Some(sample) = steps.search.next(samples.timestamps, limit).checked_sub(1) else { continue };
            if samples.timestamps[sample] > limit - lookback && !is_stale_nan(samples.values[sample]) {
                *slot = samples.values[sample];
                *bits |= 1 << ((step + at) % 64);
            }
        }
        step += LANES;
    }
}

/// The next four steps.
struct Steps {
    search: Search,
    limits: __m256i,
    advance: __m256i,
}

/// The bounds of four steps, equally far apart, of which the first is not 0.
struct Run {
    first: usize,
    advance: usize,
    /// The times of the samples before them.
    times: __m256i,
    /// The search as it was.
    before: Search,
}

impl Steps {
    /// Before the first of `count` steps; `None` where sums of times may not be numbers of 64 bits.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(timestamps: &[i64], limits: Limits, count: usize) -> Option<Self> {
        if count < LANES || !limits.is_regular(count) {
            return None;
        }
        let (first, interval) = (limits.of(0), limits.interval);
        Some(Self {
            search: Search::new(timestamps, first),
            limits: _mm256_add_epi64(
                _mm256_set1_epi64x(first),
                _mm256_set_epi64x(3 * interval, 2 * interval, interval, 0),
            ),
            advance: _mm256_set1_epi64x(LANES as i64 * interval),
        })
    }

    /// Those of the next steps, of which `count` are wanted, where four go on as the last one did; otherwise the
    /// search stays where it is.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn next(&mut self, timestamps: &[i64], count: usize) -> Option<Run> {
        let limits = self.limits;
        self.limits = _mm256_add_epi64(limits, self.advance);
        let advance = self.search.advance;
        let first = self.search.before + advance;
        let last = first + (LANES - 1) * advance;
        if count < LANES || first == 0 || last >= timestamps.len() {
            return None;
        }
        // SAFETY: of the samples before and behind each bound, the first is that before the first bound, which is
        // not 0, and the last that behind the last bound, which is less than the number of samples.
        let pair = |at: usize| unsafe { _mm_loadu_si128(timestamps.as_ptr().add(first - 1 + at * advance).cast()) };
        let even = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(pair(0)), pair(2));
        let odd = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(pair(1)), pair(3));
        let (times, behind) = (_mm256_unpacklo_epi64(even, odd), _mm256_unpackhi_epi64(even, odd));
        let holds = _mm256_andnot_si256(_mm256_cmpgt_epi64(times, limits), _mm256_cmpgt_epi64(behind, limits));
        if _mm256_movemask_pd(_mm256_castsi256_pd(holds)) != 0b1111 {
            return None;
        }
        let before = std::mem::replace(&mut self.search, Search { before: last, advance });
        Some(Run { first, advance, times, before })
    }
}

impl Run {
    #[inline(always)]
    fn bound(&self, at: usize) -> usize {
        self.first + at * self.advance
    }

    /// The values of the samples before the bounds.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn values(&self, values: &[f64]) -> __m256d {
        let values = &values[self.first - 1..self.bound(LANES - 1)];
        let at = |lane: usize| values[lane * self.advance];
        _mm256_set_pd(at(3), at(2), at(1), at(0))
    }
}
