//! The first and last sample of each window.

use super::{RangeInput, RowOut};

pub fn first(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    input.each(1, out, |_, range| input.values[range.start]);
}

pub fn last(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    input.each(1, out, |_, range| input.values[range.end - 1]);
}

pub fn time_of_first(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    input.each(1, out, |_, range| input.timestamps[range.start] as f64 / 1000.0);
}

pub fn time_of_last(input: &RangeInput<'_>, out: &mut RowOut<'_>) {
    input.each(1, out, |_, range| input.timestamps[range.end - 1] as f64 / 1000.0);
}
