//! Windows side by side, added lane by lane.

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

/// Sample number `number` of each window.
#[inline(always)]
fn gather<const LANES: usize>(column: &[f64], starts: &[usize; LANES], number: usize) -> [f64; LANES] {
    std::array::from_fn(|lane| column[starts[lane] + number])
}

/// Sums of windows, one each lane, and what they have lost.
pub(super) type LaneSums<const LANES: usize> = ([f64; LANES], [f64; LANES]);

/// As [`super::scalar::sums`], with `window_sums` of windows of which each has a sample. What is lost is no number where
/// the sum is not finite, by which it shows that the window has to be added anew.
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

/// The four sums of lines, x, y, xy and xx, of a window each lane, and what they have lost.
pub(super) type LineSums<const LANES: usize> = ([[f64; LANES]; 4], [[f64; LANES]; 4]);

/// As [`super::scalar::lines`], with `line_sums` of windows and the times that their x is counted from.
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
