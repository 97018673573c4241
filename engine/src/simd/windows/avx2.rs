//! Lanes of windows, for AVX2: four windows side by side.

use std::arch::x86_64::{
    __m128i, __m256d, __m256i, _mm_loadu_si128, _mm256_add_pd, _mm256_blendv_pd, _mm256_castsi256_pd,
    _mm256_cmpgt_epi64, _mm256_div_pd, _mm256_loadu_pd, _mm256_loadu_si256, _mm256_mask_i32gather_pd, _mm256_mul_pd,
    _mm256_set_pd, _mm256_set1_epi64x, _mm256_set1_pd, _mm256_setzero_pd, _mm256_storeu_pd, _mm256_sub_pd,
};

use super::lanes::{self, Block, LineSums};
use super::{Lines, Ranges, Sums};

const LANES: usize = 4;

/// As [`super::scalar::sums`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn sums(values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    lanes::sums(values, ranges, out, |windows| {
        let column = Column::new(values, windows);
        let mut sum = Sum { sum: column.sample(0), lost: _mm256_setzero_pd() };
        for number in 1..column.least {
            sum = sum.add(column.sample(number));
        }
        for number in column.least..column.most {
            sum = sum.add_some(column.longer_than(number), column.sample(number));
        }
        (array(sum.sum), array(sum.lost))
    });
}

/// As [`super::scalar::squares`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn squares(values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    lanes::squares::<LANES>(values, ranges, out);
}

/// As [`super::scalar::lines`].
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
pub fn lines((times, values): (&[f64], &[f64]), ranges: Ranges<'_>, origins: &[f64], out: &mut Lines) {
    lanes::lines((times, values), ranges, origins, out, |windows, origin| {
        line_sums((Column::new(times, windows), Column::new(values, windows)), origin)
    });
}

/// The samples of windows in a column.
#[derive(Clone, Copy)]
struct Column<'a> {
    samples: &'a [f64],
    starts: [usize; LANES],
    lens: __m256i,
    /// The least and the most samples that a window has.
    least: usize,
    most: usize,
}

impl<'a> Column<'a> {
    /// The column of `windows`.
    ///
    /// # Panics
    /// When one ends behind `samples`.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(samples: &'a [f64], windows: &Block<LANES>) -> Self {
        let ends = windows.starts.iter().zip(&windows.lens).map(|(start, len)| start + len);
        assert!(ends.fold(0, usize::max) <= samples.len().min(i32::MAX as usize), "a window ends behind the samples");
        let most = windows.lens.iter().fold(0, |most, len| most.max(*len));
        let lens = windows.lens.map(|len| len as u64);
        // SAFETY: four numbers of eight bytes are 32 readable bytes.
        let lens = unsafe { _mm256_loadu_si256(lens.as_ptr().cast()) };
        Self { samples, starts: windows.starts, lens, least: windows.least, most }
    }

    /// The windows that have sample number `number`, all bits of their lanes.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn longer_than(&self, number: usize) -> __m256d {
        _mm256_castsi256_pd(_mm256_cmpgt_epi64(self.lens, _mm256_set1_epi64x(number as i64)))
    }

    /// Sample number `number` of each window, zero where there is none.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn sample(&self, number: usize) -> __m256d {
        let base = self.samples.as_ptr().wrapping_add(number);
        let [a, b, c, d] = self.starts;
        if number < self.least {
            // SAFETY: `new` found that the samples of each window lie within the column, and all have this one.
            return unsafe { _mm256_set_pd(*base.add(d), *base.add(c), *base.add(b), *base.add(a)) };
        }
        let (zero, some) = (_mm256_setzero_pd(), self.longer_than(number));
        // SAFETY: as above, of the windows that are chosen; the others are not read.
        unsafe { _mm256_mask_i32gather_pd::<8>(zero, base, indices(self.starts), some) }
    }
}

/// A sum of each lane and what it has lost.
#[derive(Clone, Copy)]
struct Sum {
    sum: __m256d,
    lost: __m256d,
}

impl Sum {
    /// With `value` added to it, as [`super::scalar::add`] where the sum stays finite, without a choice between lanes:
    /// the error of an addition as Knuth finds it. Beyond that what is lost is no number.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn add(self, value: __m256d) -> Self {
        let sum = _mm256_add_pd(self.sum, value);
        let added = _mm256_sub_pd(sum, self.sum);
        let error = _mm256_sub_pd(self.sum, _mm256_sub_pd(sum, added));
        let error = _mm256_add_pd(error, _mm256_sub_pd(value, added));
        Self { sum, lost: _mm256_add_pd(self.lost, error) }
    }

    /// With `value` added to it in the lanes that are set in `some`.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn add_some(self, some: __m256d, value: __m256d) -> Self {
        let Self { sum, lost } = self.add(value);
        Self { sum: _mm256_blendv_pd(self.sum, sum, some), lost: _mm256_blendv_pd(self.lost, lost, some) }
    }
}

/// The sums of the lines of windows, of which compilers make as many moves between lanes as additions.
#[target_feature(enable = "avx2")]
#[inline]
fn line_sums((times, values): (Column<'_>, Column<'_>), origin: &[f64; LANES]) -> LineSums<LANES> {
    let zero = _mm256_setzero_pd();
    let mut all = [Sum { sum: zero, lost: zero }; 4];
    // SAFETY: four numbers are 32 readable bytes.
    let origin = unsafe { _mm256_loadu_pd(origin.as_ptr()) };
    let terms = |number: usize| {
        let y = values.sample(number);
        let x = _mm256_div_pd(_mm256_sub_pd(times.sample(number), origin), _mm256_set1_pd(1e3));
        [x, y, _mm256_mul_pd(x, y), _mm256_mul_pd(x, x)]
    };
    for number in 0..values.least {
        let ([x, y, xy, xx], [sum_x, sum_y, sum_xy, sum_xx]) = (terms(number), all);
        all = [sum_x.add(x), sum_y.add(y), sum_xy.add(xy), sum_xx.add(xx)];
    }
    for number in values.least..values.most {
        let ([x, y, xy, xx], [sum_x, sum_y, sum_xy, sum_xx]) = (terms(number), all);
        let some = values.longer_than(number);
        all = [sum_x.add_some(some, x), sum_y.add_some(some, y), sum_xy.add_some(some, xy), sum_xx.add_some(some, xx)];
    }
    (all.map(|sum| array(sum.sum)), all.map(|sum| array(sum.lost)))
}

/// Where windows start, as a gather takes it.
#[target_feature(enable = "avx2")]
#[inline]
fn indices(starts: [usize; LANES]) -> __m128i {
    let starts = starts.map(|start| start as u32);
    // SAFETY: four numbers of four bytes are 16 readable bytes.
    unsafe { _mm_loadu_si128(starts.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn array(vector: __m256d) -> [f64; LANES] {
    let mut lanes = [0.0; LANES];
    // SAFETY: four numbers are 32 writable bytes.
    unsafe { _mm256_storeu_pd(lanes.as_mut_ptr(), vector) };
    lanes
}
