//! Windows side by side: what all of them have is added lane by lane, the rest window by window.

// A lane is a place in several arrays at once.
#![allow(clippy::needless_range_loop)]

use super::scalar::{Line, Spread};
use super::{Lines, Ranges, Sums};

/// The windows from `at` on: first samples, lengths, and the least of these.
#[inline(always)]
fn block<const LANES: usize>(ranges: Ranges<'_>, at: usize) -> ([usize; LANES], [usize; LANES], usize) {
    let (mut starts, mut lens) = ([0; LANES], [0; LANES]);
    let mut least = usize::MAX;
    for lane in 0..LANES {
        let (start, end) = ranges.of(at + lane);
        (starts[lane], lens[lane]) = (start, end.saturating_sub(start));
        least = least.min(lens[lane]);
    }
    (starts, lens, least)
}

/// As [`super::scalar::add`] where the sum stays finite, without a choice between lanes: the error of an addition as
/// Knuth finds it. Beyond that what is lost is no number, by which it shows that the window has to be
/// added anew.
#[inline(always)]
pub(super) fn add_finite(value: f64, (sum, lost): (f64, f64)) -> (f64, f64) {
    let total = sum + value;
    let added = total - sum;
    (total, lost + ((sum - (total - added)) + (value - added)))
}

/// Sample number `number` of each window.
#[inline(always)]
fn gather<const LANES: usize>(column: &[f64], starts: &[usize; LANES], number: usize) -> [f64; LANES] {
    std::array::from_fn(|lane| column[starts[lane] + number])
}

#[inline(always)]
pub(super) fn sums<const LANES: usize>(values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    let whole = ranges.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let (starts, lens, least) = block::<LANES>(ranges, at);
        if least == 0 {
            super::scalar::sums_of(values, ranges, at..at + LANES, out);
            continue;
        }
        let (mut sums, mut lost) = (gather(values, &starts, 0), [0.0; LANES]);
        for number in 1..least {
            let row = gather(values, &starts, number);
            add_row(&row, (&mut sums, &mut lost));
        }
        for lane in 0..LANES {
            let rest = &values[starts[lane] + least..starts[lane] + lens[lane]];
            let sum = rest.iter().fold((sums[lane], lost[lane]), |sum, value| add_finite(*value, sum));
            (out.sums[at + lane], out.lost[at + lane]) = sum;
            if !(sum.0 + sum.1).is_finite() {
                super::scalar::sums_of(values, ranges, at + lane..at + lane + 1, out);
            }
        }
    }
    super::scalar::sums_of(values, ranges, whole..ranges.len(), out);
}

#[inline(always)]
pub(super) fn squares<const LANES: usize>(values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    let whole = ranges.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let (starts, lens, least) = block::<LANES>(ranges, at);
        let (mut means, mut mean_lost) = ([0.0; LANES], [0.0; LANES]);
        let (mut sums, mut lost) = ([0.0; LANES], [0.0; LANES]);
        for number in 0..least {
            let row = gather(values, &starts, number);
            for lane in 0..LANES {
                let mut spread = Spread {
                    count: number as f64,
                    mean: (means[lane], mean_lost[lane]),
                    squares: (sums[lane], lost[lane]),
                };
                spread.add(row[lane]);
                ((means[lane], mean_lost[lane]), (sums[lane], lost[lane])) = (spread.mean, spread.squares);
            }
        }
        for lane in 0..LANES {
            let (mean, squares) = ((means[lane], mean_lost[lane]), (sums[lane], lost[lane]));
            let mut spread = Spread { count: least as f64, mean, squares };
            let rest = &values[starts[lane] + least..starts[lane] + lens[lane]];
            rest.iter().for_each(|value| spread.add(*value));
            (out.sums[at + lane], out.lost[at + lane]) = spread.squares;
        }
    }
    super::scalar::squares_of(values, ranges, whole..ranges.len(), out);
}

/// Adds a number to the sum of each lane.
#[inline(always)]
fn add_row<const LANES: usize>(row: &[f64; LANES], (sums, lost): (&mut [f64; LANES], &mut [f64; LANES])) {
    for lane in 0..LANES {
        (sums[lane], lost[lane]) = add_finite(row[lane], (sums[lane], lost[lane]));
    }
}

/// The four sums of lines, x, y, xy and xx, of a window each lane, and what they have lost.
pub(super) type LineSums<const LANES: usize> = ([[f64; LANES]; 4], [[f64; LANES]; 4]);

/// The sums of lines of `len` samples each, of which `columns` are the times and the values; `origin` are the times
/// that x is counted from.
#[inline(always)]
pub(super) fn line_sums<const LANES: usize>(
    (times, values): ([&[f64]; LANES], [&[f64]; LANES]),
    origin: &[f64; LANES],
    len: usize,
) -> LineSums<LANES> {
    let (mut sums, mut lost) = ([[0.0; LANES]; 4], [[0.0; LANES]; 4]);
    for number in 0..len {
        let y = values.map(|values| values[number]);
        let x: [f64; LANES] = std::array::from_fn(|lane| (times[lane][number] - origin[lane]) / 1e3);
        let xy = std::array::from_fn(|lane| x[lane] * y[lane]);
        let xx = std::array::from_fn(|lane| x[lane] * x[lane]);
        for (which, row) in [x, y, xy, xx].iter().enumerate() {
            add_row(row, (&mut sums[which], &mut lost[which]));
        }
    }
    (sums, lost)
}

/// As [`super::scalar::lines`], with [`line_sums`] or what gives the same.
#[inline(always)]
pub(super) fn lines<const LANES: usize>(
    (times, values): (&[f64], &[f64]),
    ranges: Ranges<'_>,
    origins: &[f64],
    out: &mut Lines,
    line_sums: impl Fn(([&[f64]; LANES], [&[f64]; LANES]), &[f64; LANES], usize) -> LineSums<LANES>,
) {
    let whole = ranges.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let (starts, lens, least) = block::<LANES>(ranges, at);
        let origin: [f64; LANES] = std::array::from_fn(|lane| origins[at + lane]);
        let columns = (starts.map(|start| &times[start..][..least]), starts.map(|start| &values[start..][..least]));
        let (sums, lost) = line_sums(columns, &origin, least);
        for lane in 0..LANES {
            let pair = |which: usize| (sums[which][lane], lost[which][lane]);
            let mut line = Line { x: pair(0), y: pair(1), xy: pair(2), xx: pair(3) };
            for number in starts[lane] + least..starts[lane] + lens[lane] {
                line.add_by(add_finite, (times[number], origin[lane]), values[number]);
            }
            line.store(at + lane, out);
            if !line.is_finite() {
                let window = at + lane..at + lane + 1;
                super::scalar::lines_of((times, values), ranges, (origins, window), out);
            }
        }
    }
    super::scalar::lines_of((times, values), ranges, (origins, whole..ranges.len()), out);
}
