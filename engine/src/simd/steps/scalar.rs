//! The specification: samples are about as regular as steps, so each search starts where the last one's
//! advance leads.

use super::{Limits, Samples};
use crate::model::value::is_stale_nan;

/// For each step the number of timestamps that are at most its limit.
#[inline(always)]
pub fn bounds(timestamps: &[i64], limits: Limits, out: &mut [u32]) {
    let mut search = Search::new(timestamps, limits.of(0));
    for (step, bound) in out.iter_mut().enumerate() {
        *bound = search.next(timestamps, limits.of(step)) as u32;
    }
}

/// The newest sample of each step.
#[inline(always)]
pub fn newest(samples: Samples<'_>, limits: (Limits, i64), row: (&mut [f64], &mut [u64])) {
    newest_from(samples, limits, 0, row);
}

/// The same from step `first` on.
#[inline(always)]
pub(super) fn newest_from(
    samples: Samples<'_>,
    (limits, lookback): (Limits, i64),
    first: usize,
    (values, valid): (&mut [f64], &mut [u64]),
) {
    if first >= values.len() {
        return;
    }
    let mut search = Search::new(samples.timestamps, limits.of(first));
    for (step, value) in values.iter_mut().enumerate().skip(first) {
        let limit = limits.of(step);
        let Some(at) = search.next(samples.timestamps, limit).checked_sub(1) else { continue };
        if samples.timestamps[at] > limit.saturating_sub(lookback) && !is_stale_nan(samples.values[at]) {
            *value = samples.values[at];
            valid[step / 64] |= 1 << (step % 64);
        }
    }
}

/// Bounds of limits that ascend.
pub(super) struct Search {
    /// The last bound.
    pub(super) before: usize,
    /// How far it lies behind the one before it.
    pub(super) advance: usize,
}

impl Search {
    /// Before the first `limit`: an instant may lie behind all samples, and many queries have no other.
    #[inline(always)]
    pub(super) fn new(timestamps: &[i64], limit: i64) -> Self {
        Self { before: timestamps.partition_point(|time| *time <= limit), advance: 0 }
    }

    /// The number of timestamps that are at most `limit`.
    #[inline(always)]
    pub(super) fn next(&mut self, timestamps: &[i64], limit: i64) -> usize {
        let mut at = (self.before + self.advance).min(timestamps.len());
        while at < timestamps.len() && timestamps[at] <= limit {
            at += 1;
        }
        while at > self.before && timestamps[at - 1] > limit {
            at -= 1;
        }
        self.advance = at - self.before;
        self.before = at;
        at
    }
}
