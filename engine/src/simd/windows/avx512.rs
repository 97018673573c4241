//! Lanes of windows, compiled for AVX-512: eight windows side by side.

use std::arch::x86_64::{
    __m512d, _mm512_add_pd, _mm512_div_pd, _mm512_mul_pd, _mm512_set1_pd, _mm512_setr_pd, _mm512_setzero_pd,
    _mm512_storeu_pd, _mm512_sub_pd,
};

use super::lanes::{self, LineSums};
use super::{Lines, Ranges, Sums};

const LANES: usize = 8;

/// As [`super::scalar::sums`].
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn sums(values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    lanes::sums::<LANES>(values, ranges, out);
}

/// As [`super::scalar::squares`].
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn squares(values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    lanes::squares::<LANES>(values, ranges, out);
}

/// As [`super::scalar::lines`].
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
pub fn lines(samples: (&[f64], &[f64]), ranges: Ranges<'_>, origins: &[f64], out: &mut Lines) {
    lanes::lines(samples, ranges, origins, out, |columns, origin, len| line_sums(columns, origin, len));
}

/// A sum of each lane and what it has lost.
#[derive(Clone, Copy)]
struct Sum {
    sum: __m512d,
    lost: __m512d,
}

impl Sum {
    /// With `value` added to it, as [`lanes::add_finite`] does.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn add(self, value: __m512d) -> Self {
        let sum = _mm512_add_pd(self.sum, value);
        let added = _mm512_sub_pd(sum, self.sum);
        let error = _mm512_sub_pd(self.sum, _mm512_sub_pd(sum, added));
        let error = _mm512_add_pd(error, _mm512_sub_pd(value, added));
        Self { sum, lost: _mm512_add_pd(self.lost, error) }
    }
}

/// As [`lanes::line_sums`], of which compilers make as many moves between lanes as additions.
#[target_feature(enable = "avx512f")]
#[inline]
fn line_sums(
    (times, values): ([&[f64]; LANES], [&[f64]; LANES]),
    origin: &[f64; LANES],
    len: usize,
) -> LineSums<LANES> {
    let zero = _mm512_setzero_pd();
    let mut all = [Sum { sum: zero, lost: zero }; 4];
    let (origin, second) = (vector(*origin), _mm512_set1_pd(1e3));
    for number in 0..len {
        let y = vector(values.map(|values| values[number]));
        let x = _mm512_div_pd(_mm512_sub_pd(vector(times.map(|times| times[number])), origin), second);
        let [sum_x, sum_y, sum_xy, sum_xx] = all;
        all = [sum_x.add(x), sum_y.add(y), sum_xy.add(_mm512_mul_pd(x, y)), sum_xx.add(_mm512_mul_pd(x, x))];
    }
    (all.map(|sum| array(sum.sum)), all.map(|sum| array(sum.lost)))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn vector([a, b, c, d, e, f, g, h]: [f64; LANES]) -> __m512d {
    _mm512_setr_pd(a, b, c, d, e, f, g, h)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn array(vector: __m512d) -> [f64; LANES] {
    let mut lanes = [0.0; LANES];
    // SAFETY: eight numbers are 64 writable bytes.
    unsafe { _mm512_storeu_pd(lanes.as_mut_ptr(), vector) };
    lanes
}
