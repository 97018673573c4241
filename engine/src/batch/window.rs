//! Range vectors: for each step the samples in `(time - range, time]`, as index ranges.

use crate::simd;

use super::step::StepGrid;

/// Index ranges into the samples of one series, one per step; both ends ascend.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    /// First sample of each window.
    pub starts: Vec<u32>,
    /// One behind the last sample of each window.
    pub ends: Vec<u32>,
}

impl Windows {
    /// Finds the window of each time of `grid` in `timestamps`, which ascend.
    pub fn find(&mut self, grid: &StepGrid, range: i64, timestamps: &[i64]) {
        self.find_between(grid, (-range, 0), timestamps);
    }

    /// As [`Windows::find`] for the windows `(time + from, time + to]`.
    pub fn find_between(&mut self, grid: &StepGrid, (from, to): (i64, i64), timestamps: &[i64]) {
        bounds(grid, to, timestamps, &mut self.ends);
        // Where the window is as long as some steps, it starts where an earlier one ended.
        let length = to - from;
        let steps =
            if grid.interval > 0 && length % grid.interval == 0 { (length / grid.interval) as usize } else { 0 };
        let own = if steps == 0 { grid.count } else { steps.min(grid.count) };
        bounds(&StepGrid { count: own, ..*grid }, from, timestamps, &mut self.starts);
        self.starts.extend_from_slice(&self.ends[..grid.count - own]);
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is no window.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Window `step` as an index range.
    #[inline]
    pub fn range(&self, step: usize) -> std::ops::Range<usize> {
        self.starts[step] as usize..self.ends[step] as usize
    }

    /// Samples in the widest window, and in all windows together.
    pub fn widest_and_total(&self) -> (usize, usize) {
        simd::run_on(simd::isa(), Lengths { starts: &self.starts, ends: &self.ends })
    }

    /// Samples in all windows together.
    pub fn total(&self) -> usize {
        self.widest_and_total().1
    }
}

/// The lengths of windows.
struct Lengths<'a> {
    starts: &'a [u32],
    ends: &'a [u32],
}

impl simd::Kernel for Lengths<'_> {
    type Output = (usize, usize);

    #[inline(always)]
    fn run(self) -> (usize, usize) {
        let lengths = self.starts.iter().zip(self.ends).map(|(start, end)| end - start);
        let (widest, total) =
            lengths.fold((0, 0), |(widest, total): (u32, u64), length| (widest.max(length), total + u64::from(length)));
        (widest as usize, total as usize)
    }
}

/// For each time of `grid` the number of `timestamps` that are at most `time + shift`.
pub(super) fn bounds(grid: &StepGrid, shift: i64, timestamps: &[i64], out: &mut Vec<u32>) {
    out.resize(grid.count, 0);
    simd::steps::bounds(simd::isa(), timestamps, grid.limits(shift), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_whole_steps_start_where_earlier_ones_end() {
        let timestamps: Vec<i64> = (0..200).map(|at| at * 7 + at % 3).chain([2000, 2001, 2500]).collect();
        for (range, interval, count) in [(60, 20, 90), (20, 20, 5), (50, 20, 70), (400, 20, 10), (60, 60, 1)] {
            let grid = StepGrid::range(13, 13 + interval * (count as i64 - 1), interval);
            let mut windows = Windows::default();
            windows.find(&grid, range, &timestamps);
            for step in 0..count {
                let end = grid.time(step);
                let at_most = |limit: i64| timestamps.partition_point(|time| *time <= limit);
                assert_eq!(windows.range(step), at_most(end - range)..at_most(end), "{range} {interval} {step}");
            }
        }
    }

    #[test]
    fn windows_are_open_on_the_left_and_closed_on_the_right() {
        let mut windows = Windows::default();
        windows.find(&StepGrid::range(10, 30, 10), 10, &[0, 5, 10, 20, 25]);
        assert_eq!((0..3).map(|at| windows.range(at)).collect::<Vec<_>>(), [1..3, 3..4, 4..5]);
    }
}
