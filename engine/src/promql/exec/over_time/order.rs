//! Functions of the order of a window's samples. The window is kept sorted while it slides.

use super::super::math;
use super::{RangeInput, RowOut};

/// Windows that overlap less than this share of their samples are sorted anew.
const OVERLAP_MIN: usize = 2;

pub fn quantile(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    let mut sorted = Sorted::default();
    input.each(1, out, |step, range| {
        let q = input.params[0][step];
        if let Some(answer) = math::degenerate_quantile(q, range.len()) {
            return answer;
        }
        sorted.slide_to(input.values, range);
        math::sorted_quantile(q, &sorted.values)
    });
}

pub fn median_deviation(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    let mut scratch = Vec::new();
    input.each(1, out, |_, range| {
        scratch.clear();
        scratch.extend_from_slice(&input.values[range]);
        if scratch.iter().any(|value| value.is_nan()) {
            return f64::NAN;
        }
        let median = math::quantile(0.5, &mut scratch);
        for value in &mut scratch {
            *value = (*value - median).abs();
        }
        math::quantile(0.5, &mut scratch)
    });
}

/// The samples of a window in order, NaN first.
#[derive(Default)]
struct Sorted {
    values: Vec<f64>,
    start: usize,
    end: usize,
}

impl Sorted {
    fn slide_to(&mut self, samples: &[f64], range: std::ops::Range<usize>) {
        let shared = self.end.saturating_sub(range.start);
        if shared * OVERLAP_MIN < range.len() {
            self.values.clear();
            self.values.extend_from_slice(&samples[range.clone()]);
            self.values.sort_unstable_by(math::nan_first);
        } else {
            for leaving in &samples[self.start..range.start] {
                let at = self.values.partition_point(|kept| math::nan_first(kept, leaving).is_lt());
                self.values.remove(at);
            }
            for entering in &samples[self.end..range.end] {
                let at = self.values.partition_point(|kept| math::nan_first(kept, entering).is_lt());
                self.values.insert(at, *entering);
            }
        }
        (self.start, self.end) = (range.start, range.end);
    }
}
