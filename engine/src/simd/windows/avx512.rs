//! Lanes of windows, compiled for AVX-512: eight windows side by side.

use std::arch::x86_64::{
    __m256i, __m512d, _mm256_cmpgt_epu32_mask, _mm256_loadu_si256, _mm256_set1_epi32, _mm512_add_pd, _mm512_loadu_pd,
    _mm512_mask_i32gather_pd, _mm512_mask_mov_pd, _mm512_mul_pd, _mm512_setzero_pd, _mm512_storeu_pd, _mm512_sub_pd,
};

use super::lanes::{self, Block, LineSums};
use super::{Lines, Ranges, Sums};
use crate::simd::rate::avx512::thousandths;

const LANES: usize = 8;

/// As [`super::scalar::sums`].
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn sums(values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    lanes::sums(values, ranges, out, |windows| {
        let column = Column::new(values, windows);
        let mut sum = Sum { sum: column.sample(0), lost: _mm512_setzero_pd() };
        for number in 1..windows.least {
            sum = sum.add(column.sample(number));
        }
        for number in windows.least..column.most {
            sum = sum.add_some(column.longer_than(number), column.sample(number));
        }
        (array(sum.sum), array(sum.lost))
    });
}

/// As [`super::scalar::squares`].
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn squares(values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    lanes::squares::<LANES>(values, ranges, out);
}

/// As [`super::scalar::lines`].
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn lines((times, values): (&[f64], &[f64]), ranges: Ranges<'_>, origins: &[f64], out: &mut Lines) {
    lanes::lines((times, values), ranges, origins, out, |windows, origin| {
        line_sums((Column::new(times, windows), Column::new(values, windows)), windows.least, origin)
    });
}

/// The samples of windows in a column.
#[derive(Clone, Copy)]
struct Column<'a> {
    samples: &'a [f64],
    starts: __m256i,
    lens: __m256i,
    /// The most samples that a window has.
    most: usize,
}

impl<'a> Column<'a> {
    /// The column of `windows`.
    ///
    /// # Panics
    /// When one ends behind `samples`.
    #[target_feature(enable = "avx512f,avx512vl,avx2")]
    #[inline]
    fn new(samples: &'a [f64], windows: &Block<LANES>) -> Self {
        let ends = windows.starts.iter().zip(&windows.lens).map(|(start, len)| start + len);
        assert!(ends.fold(0, usize::max) <= samples.len().min(i32::MAX as usize), "a window ends behind the samples");
        let most = windows.lens.iter().fold(0, |most, len| most.max(*len));
        let vector = |numbers: [usize; LANES]| {
            let numbers = numbers.map(|number| number as u32);
            // SAFETY: eight numbers are 32 readable bytes.
            unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) }
        };
        Self { samples, starts: vector(windows.starts), lens: vector(windows.lens), most }
    }

    /// The windows that have sample number `number`, one bit each.
    #[target_feature(enable = "avx512f,avx512vl,avx2")]
    #[inline]
    fn longer_than(&self, number: usize) -> u8 {
        _mm256_cmpgt_epu32_mask(self.lens, _mm256_set1_epi32(number as i32))
    }

    /// Sample number `number` of each window, zero where there is none.
    #[target_feature(enable = "avx512f,avx512vl,avx2")]
    #[inline]
    fn sample(&self, number: usize) -> __m512d {
        let (zero, base) = (_mm512_setzero_pd(), self.samples.as_ptr().wrapping_add(number));
        // SAFETY: `new` found that the samples of each window lie within the column.
        unsafe { _mm512_mask_i32gather_pd::<8>(zero, self.longer_than(number), self.starts, base.cast()) }
    }
}

/// A sum of each lane and what it has lost.
#[derive(Clone, Copy)]
struct Sum {
    sum: __m512d,
    lost: __m512d,
}

impl Sum {
    /// With `value` added to it, as [`super::scalar::add`] where the sum stays finite, without a choice between lanes:
    /// the error of an addition as Knuth finds it. Beyond that what is lost is no number.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn add(self, value: __m512d) -> Self {
        let sum = _mm512_add_pd(self.sum, value);
        let added = _mm512_sub_pd(sum, self.sum);
        let error = _mm512_sub_pd(self.sum, _mm512_sub_pd(sum, added));
        let error = _mm512_add_pd(error, _mm512_sub_pd(value, added));
        Self { sum, lost: _mm512_add_pd(self.lost, error) }
    }

    /// With `value` added to it in the lanes that are set in `some`.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn add_some(self, some: u8, value: __m512d) -> Self {
        let Self { sum, lost } = self.add(value);
        Self { sum: _mm512_mask_mov_pd(self.sum, some, sum), lost: _mm512_mask_mov_pd(self.lost, some, lost) }
    }
}

/// The sums of the lines of windows, of which compilers make as many moves between lanes as additions.
#[target_feature(enable = "avx512f,avx512vl,avx2")]
#[inline]
fn line_sums((times, values): (Column<'_>, Column<'_>), least: usize, origin: &[f64; LANES]) -> LineSums<LANES> {
    let zero = _mm512_setzero_pd();
    let mut all = [Sum { sum: zero, lost: zero }; 4];
    // SAFETY: eight numbers are 64 readable bytes.
    let origin = unsafe { _mm512_loadu_pd(origin.as_ptr()) };
    for number in 0..values.most {
        let y = values.sample(number);
        let x = thousandths(_mm512_sub_pd(times.sample(number), origin));
        let next = [x, y, _mm512_mul_pd(x, y), _mm512_mul_pd(x, x)];
        let [sum_x, sum_y, sum_xy, sum_xx] = all;
        all = if number < least {
            [sum_x.add(next[0]), sum_y.add(next[1]), sum_xy.add(next[2]), sum_xx.add(next[3])]
        } else {
            let some = values.longer_than(number);
            [
                sum_x.add_some(some, next[0]),
                sum_y.add_some(some, next[1]),
                sum_xy.add_some(some, next[2]),
                sum_xx.add_some(some, next[3]),
            ]
        };
    }
    (all.map(|sum| array(sum.sum)), all.map(|sum| array(sum.lost)))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn array(vector: __m512d) -> [f64; LANES] {
    let mut lanes = [0.0; LANES];
    // SAFETY: eight numbers are 64 writable bytes.
    unsafe { _mm512_storeu_pd(lanes.as_mut_ptr(), vector) };
    lanes
}
