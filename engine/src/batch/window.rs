//! Range vectors: for each step the samples in `(time - range, time]`, as index ranges.

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
        bounds(grid, from, timestamps, &mut self.starts);
        bounds(grid, to, timestamps, &mut self.ends);
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

    /// Samples in all windows together.
    pub fn total(&self) -> usize {
        self.starts.iter().zip(&self.ends).map(|(start, end)| (end - start) as usize).sum()
    }
}

/// For each time of `grid` the number of `timestamps` that are at most `time + shift`.
fn bounds(grid: &StepGrid, shift: i64, timestamps: &[i64], out: &mut Vec<u32>) {
    out.clear();
    let mut next = 0usize;
    for step in 0..grid.count {
        let limit = grid.time(step).saturating_add(shift);
        while next < timestamps.len() && timestamps[next] <= limit {
            next += 1;
        }
        out.push(next as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_open_on_the_left_and_closed_on_the_right() {
        let mut windows = Windows::default();
        windows.find(&StepGrid::range(10, 30, 10), 10, &[0, 5, 10, 20, 25]);
        assert_eq!((0..3).map(|at| windows.range(at)).collect::<Vec<_>>(), [1..3, 3..4, 4..5]);
    }
}
