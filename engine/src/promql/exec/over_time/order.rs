//! Functions of the order of a window's samples.

use std::ops::Range;

use crate::batch::Windows;
use crate::model::Error;

use super::super::super::order::sort_in_place_while;
use super::super::math;
use super::{RangeInput, RowOut};

/// Sorted windows that overlap less than this share of their samples are sorted anew.
const OVERLAP_MIN: usize = 2;

pub fn quantile(input: &RangeInput<'_>, ranks: &mut Ranks, out: &mut RowOut<'_>) -> Result<(), Error> {
    ranks.stretch = 0..0;
    input.try_each(1, out, |step, range| {
        let q = input.params[0][step];
        if let Some(answer) = math::degenerate_quantile(q, range.len()) {
            return Ok(answer);
        }
        ranks.slide_to(input.values, input.windows, step, || input.budget.check())?;
        Ok(math::ranked_quantile(q, range.len(), |rank| ranks.two(input.values, rank)))
    })
}

/// Samples that are sorted at once, when windows of fewer overlap.
const STRETCH_SAMPLES: usize = 1024;

/// The order of a stretch of samples, which is found once for all windows in it, and which of them the
/// current window holds: sliding flips a bit for each sample that leaves or enters.
///
/// ```text
/// order    of each rank: key of the value, number of the sample in the stretch
/// ranks    of each sample of the stretch
/// held     a bit for each rank, 64 to a word
/// counts   bits of each word
/// ```
#[derive(Debug, Default)]
pub struct Ranks {
    stretch: Range<usize>,
    window: Range<usize>,
    order: Vec<(i64, u32)>,
    ranks: Vec<u32>,
    held: Vec<u64>,
    counts: Vec<u8>,
}

impl Ranks {
    /// Makes window `step` the current one; steps ascend within a series. Fails as soon as `check` does.
    fn slide_to(
        &mut self,
        samples: &[f64],
        windows: &Windows,
        step: usize,
        check: impl FnMut() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let range = windows.range(step);
        if range.end > self.stretch.end || range.start < self.stretch.start {
            self.begin(samples, stretch(windows, step), check)?;
        }
        for leaving in self.window.start..range.start.min(self.window.end) {
            let (word, bit) = self.place(leaving);
            self.held[word] &= !bit;
            self.counts[word] -= 1;
        }
        for entering in self.window.end.max(range.start)..range.end {
            let (word, bit) = self.place(entering);
            self.held[word] |= bit;
            self.counts[word] += 1;
        }
        self.window = range;
        Ok(())
    }

    fn begin(
        &mut self,
        samples: &[f64],
        stretch: Range<usize>,
        check: impl FnMut() -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.order.clear();
        self.order.extend(samples[stretch.clone()].iter().zip(0u32..).map(|(value, at)| (key(*value), at)));
        sort_in_place_while(&mut self.order, Ord::cmp, check)?;
        self.ranks.resize(stretch.len(), 0);
        for ((_, at), rank) in self.order.iter().zip(0u32..) {
            self.ranks[*at as usize] = rank;
        }
        let words = stretch.len().div_ceil(64);
        self.held.clear();
        self.held.resize(words, 0);
        self.counts.clear();
        self.counts.resize(words, 0);
        self.window = stretch.start..stretch.start;
        self.stretch = stretch;
        Ok(())
    }

    fn place(&self, sample: usize) -> (usize, u64) {
        let rank = self.ranks[sample - self.stretch.start];
        ((rank >> 6) as usize, 1 << (rank & 63))
    }

    /// The window's values of a rank, which is below its length, and of the next, or the last one twice.
    fn two(&self, samples: &[f64], rank: usize) -> (f64, f64) {
        let (mut word, mut before) = (0, rank);
        while before >= usize::from(self.counts[word]) {
            before -= usize::from(self.counts[word]);
            word += 1;
        }
        let mut bits = self.held[word];
        for _ in 0..before {
            bits &= bits - 1;
        }
        let value = |word: usize, bits: u64| {
            let (_, at) = self.order[64 * word + bits.trailing_zeros() as usize];
            samples[self.stretch.start + at as usize]
        };
        let lower = value(word, bits);
        bits &= bits - 1;
        while bits == 0 && word + 1 < self.held.len() {
            word += 1;
            bits = self.held[word];
        }
        (lower, if bits == 0 { lower } else { value(word, bits) })
    }
}

/// The samples of window `step` and of those behind it that overlap, as far as they are sorted at once.
fn stretch(windows: &Windows, step: usize) -> Range<usize> {
    let first = windows.range(step);
    let reach = first.start + STRETCH_SAMPLES.max(2 * first.len());
    let behind = (step + 1..windows.len()).map(|step| windows.range(step)).take_while(|next| next.end <= reach);
    first.start..behind.fold(first.end, |end, next| if next.start < end { next.end } else { end })
}

/// A number that orders as the value does, NaN first.
fn key(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    if value.is_nan() { i64::MIN } else { bits ^ (((bits >> 63) as u64) >> 1) as i64 }
}

pub fn median_deviation(input: &RangeInput<'_>, out: &mut RowOut<'_>) -> Result<(), Error> {
    let (mut sorted, mut deviations) = (Sorted::default(), Vec::new());
    input.try_each(1, out, |_, range| {
        sorted.slide_to(input.values, range, || input.budget.check())?;
        // NaN comes first.
        if sorted.values[0].is_nan() {
            return Ok(f64::NAN);
        }
        let median = math::sorted_quantile(0.5, &sorted.values);
        push_deviations(&sorted.values, median, &mut deviations);
        Ok(math::sorted_quantile(0.5, &deviations))
    })
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

/// The samples of a window in order, NaN first, kept so while it slides.
#[derive(Default)]
struct Sorted {
    values: Vec<f64>,
    start: usize,
    end: usize,
}

impl Sorted {
    /// Makes `range` the window. Fails as soon as `check` does.
    fn slide_to(
        &mut self,
        samples: &[f64],
        range: Range<usize>,
        check: impl FnMut() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let shared = self.end.saturating_sub(range.start);
        if shared * OVERLAP_MIN < range.len() {
            self.values.clear();
            self.values.extend_from_slice(&samples[range.clone()]);
            sort_in_place_while(&mut self.values, math::nan_first, check)?;
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranks_of_sliding_windows_are_those_of_each_sorted_alone(
            values in prop::collection::vec(
                prop_oneof![Just(f64::NAN), Just(f64::INFINITY), (-5..5i8).prop_map(f64::from), -1e9..1e9f64],
                1..3000,
            ),
            moves in prop::collection::vec((0..9usize, 0..40usize), 1..60),
            scale in 1..40usize,
        ) {
            let mut windows = Windows::default();
            let (mut start, mut end) = (0, 0);
            for (begin, length) in moves {
                start = (start + begin * scale).min(values.len());
                end = (start + length * scale).clamp(end, values.len().max(end));
                windows.starts.push(start as u32);
                windows.ends.push(end as u32);
            }
            let mut ranks = Ranks::default();
            for step in 0..windows.len() {
                let mut alone = values[windows.range(step)].to_vec();
                if alone.is_empty() {
                    continue;
                }
                alone.sort_unstable_by(math::nan_first);
                ranks.slide_to(&values, &windows, step, || Ok(())).unwrap();
                for rank in 0..alone.len() {
                    let (value, next) = ranks.two(&values, rank);
                    prop_assert_eq!(math::nan_first(&value, &alone[rank]), std::cmp::Ordering::Equal);
                    let after = alone[(rank + 1).min(alone.len() - 1)];
                    prop_assert_eq!(math::nan_first(&next, &after), std::cmp::Ordering::Equal);
                }
            }
        }

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
