//! Changes and resets: counted once over the series, then subtracted.

use super::{RangeInput, RowOut};

pub fn changes(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    count_pairs(input, out, |before, after| after != before && !(after.is_nan() && before.is_nan()));
}

pub fn resets(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    count_pairs(input, out, |before, after| after < before);
}

/// For each window the number of neighbours in it that `counts` says yes to.
fn count_pairs(input: &RangeInput<'_>, out: &mut RowOut<'_>, counts: impl Fn(f64, f64) -> bool) {
    let mut total = 0u32;
    let mut before = Vec::with_capacity(input.values.len());
    before.push(0);
    for pair in input.values.windows(2) {
        total += u32::from(counts(pair[0], pair[1]));
        before.push(total);
    }
    input.each(1, out, |_, range| f64::from(before[range.end - 1] - before[range.start]));
}
