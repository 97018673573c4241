//! Windows side by side: what all of them have is added lane by lane, the rest window by window.

// A lane is a place in several arrays at once.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::scalar::{Line, Spread};
use super::{Lines, Ranges, Sums};

/// Windows side by side.
pub(super) struct Block<const LANES: usize> {
    /// First samples.
    pub(super) starts: [usize; LANES],
    /// Numbers of samples.
    pub(super) lens: [usize; LANES],
    /// The least of these.
    pub(super) least: usize,
}

impl<const LANES: usize> Block<LANES> {
    /// The windows from `at` on.
    #[inline(always)]
    fn new(ranges: Ranges<'_>, at: usize) -> Self {
        let (mut starts, mut lens) = ([0; LANES], [0; LANES]);
        let mut least = usize::MAX;
        for lane in 0..LANES {
            let (start, end) = ranges.of(at + lane);
            (starts[lane], lens[lane]) = (start, end.saturating_sub(start));
            least = least.min(lens[lane]);
        }
        Self { starts, lens, least }
    }

    /// The samples of a window that not all have.
    #[inline(always)]
    fn rest(&self, lane: usize) -> Range<usize> {
        self.starts[lane] + self.least..self.starts[lane] + self.lens[lane]
    }
}

/// Where blocks start that together are all windows, if there are enough for one; the last may have some of those before
/// it once more.
#[inline(always)]
fn block_starts<const LANES: usize>(ranges: Ranges<'_>) -> impl Iterator<Item = usize> {
    let last = ranges.len().checked_sub(LANES);
    last.into_iter().flat_map(|last| (0..last).step_by(LANES).chain([last]))
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

/// Sums of windows, one each lane, and what they have lost.
pub(super) type LaneSums<const LANES: usize> = ([f64; LANES], [f64; LANES]);

/// The sums of windows, of which each has a sample.
#[inline(always)]
pub(super) fn window_sums<const LANES: usize>(values: &[f64], windows: &Block<LANES>) -> LaneSums<LANES> {
    let (mut sums, mut lost) = (gather(values, &windows.starts, 0), [0.0; LANES]);
    for number in 1..windows.least {
        let row = gather(values, &windows.starts, number);
        add_row(&row, (&mut sums, &mut lost));
    }
    for lane in 0..LANES {
        let sum =
            values[windows.rest(lane)].iter().fold((sums[lane], lost[lane]), |sum, value| add_finite(*value, sum));
        (sums[lane], lost[lane]) = sum;
    }
    (sums, lost)
}

/// As [`super::scalar::sums`], with [`window_sums`] or what gives the same.
#[inline(always)]
pub(super) fn sums<const LANES: usize>(
    values: &[f64],
    ranges: Ranges<'_>,
    out: &mut Sums,
    window_sums: impl Fn(&Block<LANES>) -> LaneSums<LANES>,
) {
    for at in block_starts::<LANES>(ranges) {
        let windows = Block::new(ranges, at);
        if windows.least == 0 {
            super::scalar::sums_of(values, ranges, at..at + LANES, out);
            continue;
        }
        let (sums, lost) = window_sums(&windows);
        for lane in 0..LANES {
            (out.sums[at + lane], out.lost[at + lane]) = (sums[lane], lost[lane]);
            if !(sums[lane] + lost[lane]).is_finite() {
                super::scalar::sums_of(values, ranges, at + lane..at + lane + 1, out);
            }
        }
    }
    if ranges.len() < LANES {
        super::scalar::sums_of(values, ranges, 0..ranges.len(), out);
    }
}

#[inline(always)]
pub(super) fn squares<const LANES: usize>(values: &[f64], ranges: Ranges<'_>, out: &mut Sums) {
    for at in block_starts::<LANES>(ranges) {
        let windows = Block::<LANES>::new(ranges, at);
        let (mut means, mut mean_lost) = ([0.0; LANES], [0.0; LANES]);
        let (mut sums, mut lost) = ([0.0; LANES], [0.0; LANES]);
        for number in 0..windows.least {
            let row = gather(values, &windows.starts, number);
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
            let mut spread = Spread { count: windows.least as f64, mean, squares };
            values[windows.rest(lane)].iter().for_each(|value| spread.add(*value));
            (out.sums[at + lane], out.lost[at + lane]) = spread.squares;
        }
    }
    if ranges.len() < LANES {
        super::scalar::squares_of(values, ranges, 0..ranges.len(), out);
    }
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

/// The sums of the lines of windows; `origin` are the times that x is counted from.
#[inline(always)]
pub(super) fn line_sums<const LANES: usize>(
    (times, values): (&[f64], &[f64]),
    windows: &Block<LANES>,
    origin: &[f64; LANES],
) -> LineSums<LANES> {
    let (mut sums, mut lost) = ([[0.0; LANES]; 4], [[0.0; LANES]; 4]);
    for number in 0..windows.least {
        let y = gather(values, &windows.starts, number);
        let x: [f64; LANES] = std::array::from_fn(|lane| (times[windows.starts[lane] + number] - origin[lane]) / 1e3);
        let xy = std::array::from_fn(|lane| x[lane] * y[lane]);
        let xx = std::array::from_fn(|lane| x[lane] * x[lane]);
        for (which, row) in [x, y, xy, xx].iter().enumerate() {
            add_row(row, (&mut sums[which], &mut lost[which]));
        }
    }
    for lane in 0..LANES {
        let mut line = Line(std::array::from_fn(|which| (sums[which][lane], lost[which][lane])));
        for number in windows.rest(lane) {
            line.add_by(add_finite, (times[number], origin[lane]), values[number]);
        }
        for (which, sum) in line.0.into_iter().enumerate() {
            (sums[which][lane], lost[which][lane]) = sum;
        }
    }
    (sums, lost)
}

/// As [`super::scalar::lines`], with [`line_sums`] or what gives the same.
#[inline(always)]
pub(super) fn lines<const LANES: usize>(
    samples: (&[f64], &[f64]),
    ranges: Ranges<'_>,
    origins: &[f64],
    out: &mut Lines,
    line_sums: impl Fn(&Block<LANES>, &[f64; LANES]) -> LineSums<LANES>,
) {
    for at in block_starts::<LANES>(ranges) {
        let origin: [f64; LANES] = std::array::from_fn(|lane| origins[at + lane]);
        let (sums, lost) = line_sums(&Block::new(ranges, at), &origin);
        for lane in 0..LANES {
            let line = Line(std::array::from_fn(|which| (sums[which][lane], lost[which][lane])));
            line.store(at + lane, out);
            if !line.is_finite() {
                super::scalar::lines_of(samples, ranges, (origins, at + lane..at + lane + 1), out);
            }
        }
    }
    if ranges.len() < LANES {
        super::scalar::lines_of(samples, ranges, (origins, 0..ranges.len()), out);
    }
}
