//! Smallest and largest sample of each window: a queue of candidates, each sample in it once.

use std::collections::VecDeque;

use super::{RangeInput, RowOut};

pub fn max(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    slide(input, out, |kept, new| new > kept, |at| input.values[at]);
}

pub fn min(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    slide(input, out, |kept, new| new < kept, |at| input.values[at]);
}

pub fn time_of_max(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    slide(input, out, |kept, new| new >= kept, |at| input.timestamps[at] as f64 / 1000.0);
}

pub fn time_of_min(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    slide(input, out, |kept, new| new <= kept, |at| input.timestamps[at] as f64 / 1000.0);
}

/// For each window what `answer` says of the sample that no other sample `replaces`. NaN gives way
/// to any number; in a window of nothing but NaN the last one stays.
fn slide(
    input: &RangeInput<'_>,
    out: &mut RowOut<'_>,
    replaces: impl Fn(f64, f64) -> bool,
    answer: impl Fn(usize) -> f64,
) {
    let mut queue: VecDeque<usize> = VecDeque::new();
    let mut next = 0;
    input.each(1, out, |_, range| {
        next = next.max(range.start);
        while next < range.end {
            let value = input.values[next];
            if !value.is_nan() {
                while queue.back().is_some_and(|kept| replaces(input.values[*kept], value)) {
                    queue.pop_back();
                }
                queue.push_back(next);
            }
            next += 1;
        }
        while queue.front().is_some_and(|kept| *kept < range.start) {
            queue.pop_front();
        }
        answer(queue.front().copied().unwrap_or(range.end - 1))
    });
}
