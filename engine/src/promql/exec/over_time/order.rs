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
    let (mut sorted, mut deviations) = (Sorted::default(), Vec::new());
    input.each(1, out, |_, range| {
        sorted.slide_to(input.values, range);
        // NaN comes first.
        if sorted.values[0].is_nan() {
            return f64::NAN;
        }
        let median = math::sorted_quantile(0.5, &sorted.values);
        push_deviations(&sorted.values, median, &mut deviations);
        math::sorted_quantile(0.5, &deviations)
    });
}

/// Replaces `out` by the distances of `sorted` from `median`, in order: those below it ascend towards
/// the front and those above it towards the back, so the two are merged.
fn push_deviations(sorted: &[f64], median: f64, out: &mut Vec<f64>) {
    out.clear();
    if !median.is_finite() {
        // Infinity has no distance from itself.
        out.extend(sorted.iter().map(|value| (value - median).abs()));
        out.sort_unstable_by(math::nan_first);
        return;
    }
    let (below, above) = sorted.split_at(sorted.partition_point(|value| *value < median));
    let mut below = below.iter().rev().map(|value| (value - median).abs()).peekable();
    let mut above = above.iter().map(|value| (value - median).abs()).peekable();
    while let (Some(left), Some(right)) = (below.peek(), above.peek()) {
        let nearer = if left <= right { below.next() } else { above.next() };
        out.extend(nearer);
    }
    out.extend(below);
    out.extend(above);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn deviations_of_a_sorted_window_are_those_of_its_samples_in_order(
            mut values in prop::collection::vec(
                prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(0.1), (-5..5i8).prop_map(f64::from), -1e9..1e9f64],
                1..60,
            ),
        ) {
            values.sort_unstable_by(math::nan_first);
            let median = math::sorted_quantile(0.5, &values);
            let mut merged = Vec::new();
            push_deviations(&values, median, &mut merged);
            let mut expected: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
            expected.sort_unstable_by(math::nan_first);
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&merged), bits(&expected));
        }
    }
}
