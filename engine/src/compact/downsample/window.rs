//! Windows: which samples are aggregated into one.

/// Samples of a chunk of downsampled data that are aimed at, at most.
const SAMPLES_AIMED_AT: i64 = 140;

/// Milliseconds between samples of raw data for estimates; most are scraped more often.
pub(super) const RAW_STEP_MS: i64 = 60 * 1000;

/// The last millisecond of the window of `resolution` milliseconds that `time` falls into: blocks end
/// before their last time, so that the end of a window belongs to the next.
pub(super) fn window_end(time: i64, resolution: i64) -> i64 {
    time.wrapping_sub(time % resolution).wrapping_add(resolution - 1)
}

/// What decides how many chunks a series is downsampled to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Unix milliseconds of the first sample.
    pub(super) min_time: i64,
    /// Unix milliseconds of the last sample.
    pub(super) max_time: i64,
    /// Samples.
    pub(super) samples: usize,
}

impl Extent {
    /// How many chunks samples every `step` milliseconds become at `resolution`: as many as it takes
    /// to have at most 140 windows in each, given how much of the time has samples at all.
    pub(super) fn chunks(self, step: i64, resolution: i64) -> usize {
        let duration = self.max_time.saturating_sub(self.min_time);
        let fullness = (self.samples as f64 / (duration as f64 / step as f64)).min(1.0);
        let windows = ((duration / resolution) as f64 * fullness) as i64 + 1;
        (1..).find(|chunks| windows / chunks <= SAMPLES_AIMED_AT).unwrap_or(1) as usize
    }
}

/// The samples of one batch, which become one chunk: about `samples` of them, and all others of the
/// last one's window.
pub(super) fn batch_len(times: &[i64], samples: usize, resolution: i64) -> usize {
    let len = samples.min(times.len());
    let Some(last) = len.checked_sub(1).map(|last| times[last]) else { return 0 };
    let end = window_end(last, resolution);
    len + times[len..].iter().take_while(|time| **time <= end).count()
}

/// Calls `each` with the last millisecond of every window of `times`, and with the range of the samples
/// in it. The last window ends with the last sample, for another chunk may start behind it.
pub(super) fn for_each(times: &[i64], resolution: i64, mut each: impl FnMut(i64, std::ops::Range<usize>)) {
    let Some(last) = times.last() else { return };
    let mut at = 0;
    while at < times.len() {
        let end = window_end(times[at], resolution).min(*last);
        let start = at;
        at += 1;
        while at < times.len() && times[at] <= end {
            at += 1;
        }
        each(end, start..at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_one_millisecond_before_the_next() {
        assert_eq!(window_end(0, 300_000), 299_999);
        assert_eq!(window_end(299_999, 300_000), 299_999);
        assert_eq!(window_end(300_000, 300_000), 599_999);
        let mut windows = Vec::new();
        for_each(&[1, 2, 10, 11, 25, 27], 10, |end, range| windows.push((end, range)));
        assert_eq!(windows, [(9, 0..2), (19, 2..4), (27, 4..6)]);
    }

    #[test]
    fn chunks_are_as_many_as_keep_them_small() {
        let day = 24 * 60 * 60 * 1000;
        let extent = |days: i64, samples| Extent { min_time: 0, max_time: days * day, samples };
        assert_eq!(extent(0, 1).chunks(RAW_STEP_MS, 300_000), 1);
        assert_eq!(extent(1, 1440).chunks(RAW_STEP_MS, 300_000), 3);
        assert_eq!(extent(1, 700).chunks(RAW_STEP_MS, 300_000), 2, "141 windows");
        assert_eq!(extent(1, 695).chunks(RAW_STEP_MS, 300_000), 1, "140 windows");
        assert_eq!(extent(14, 100_000).chunks(RAW_STEP_MS, 300_000), 29);
        assert_eq!(extent(14, 4032).chunks(300_000, 3_600_000), 3);
    }

    #[test]
    fn a_batch_takes_the_rest_of_its_last_window() {
        let times: Vec<i64> = (0..100).map(|at| at * 10).collect();
        assert_eq!(batch_len(&times, 12, 100), 20);
        assert_eq!(batch_len(&times, 500, 100), 100);
        assert_eq!(batch_len(&[], 5, 100), 0);
    }
}
