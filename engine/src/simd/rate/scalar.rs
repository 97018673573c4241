//! The specification; inlined into the wider instruction sets too, where the compiler turns its loops
//! into vectors: what a branch would choose is computed both ways and selected.

// A window is a place in several columns at once.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::{Ends, Kind, Reach, Sign, Windows};

/// How far windows reach.
#[inline(always)]
pub fn reach(windows: Windows<'_>, reach: &mut Reach) {
    reach_of(windows, 0..reach.len(), reach);
}

/// The same of the windows `which`.
#[inline(always)]
pub(super) fn reach_of(windows: Windows<'_>, which: Range<usize>, reach: &mut Reach) {
    let Windows { timestamps, starts, ends, .. } = windows;
    for at in which.clone() {
        let (start, end) = (starts[at] as usize, ends[at] as usize);
        if end < start + 2 || end > timestamps.len() {
            continue;
        }
        let (first_time, last_time) = (timestamps[start], timestamps[end - 1]);
        let window_end = windows.end.wrapping_add(windows.interval.wrapping_mul(at as i64));
        let window_start = window_end.wrapping_sub(windows.range);
        reach.sampled[at] = last_time.wrapping_sub(first_time) as f64;
        reach.to_start[at] = first_time.wrapping_sub(window_start) as f64;
        reach.to_end[at] = window_end.wrapping_sub(last_time) as f64;
        (reach.firsts[at], reach.lasts[at]) = (start as u32, end as u32 - 1);
        reach.valid[at / 64] |= 1 << (at % 64);
    }
    let Reach { sampled, to_start, to_end, firsts, lasts, .. } = reach;
    let count = which.len();
    let (sampled, to_start, to_end) =
        (&mut sampled[which.clone()], &mut to_start[which.clone()], &mut to_end[which.clone()]);
    let (firsts, lasts) = (&firsts[which.clone()], &lasts[which]);
    let (sampled, to_start, to_end) = (&mut sampled[..count], &mut to_start[..count], &mut to_end[..count]);
    let (firsts, lasts) = (&firsts[..count], &lasts[..count]);
    for at in 0..count {
        sampled[at] /= 1000.0;
        let average = sampled[at] / f64::from(lasts[at].wrapping_sub(firsts[at]));
        let (threshold, half) = (average * 1.1, average / 2.0);
        let (start, end) = (to_start[at] / 1000.0, to_end[at] / 1000.0);
        to_start[at] = if start >= threshold { half } else { start };
        to_end[at] = if end >= threshold { half } else { end };
    }
}

/// The rate of each window.
#[inline(always)]
pub fn rates(reach: &Reach, ends: &Ends, kind: Kind, out: &mut [f64]) {
    let len = out.len();
    let (first, difference) = (&ends.first[..len], &ends.difference[..len]);
    let (sampled, to_start, to_end) = (&reach.sampled[..len], &reach.to_start[..len], &reach.to_end[..len]);
    let counts = kind.sign == Sign::Counter;
    for at in 0..len {
        let to_zero = sampled[at] * (first[at] / difference[at]);
        let was_zero = counts & (difference[at] > 0.0) & (first[at] >= 0.0) & (to_zero < to_start[at]);
        let before = if was_zero { to_zero } else { to_start[at] };
        let factor = (sampled[at] + before + to_end[at]) / sampled[at];
        let factor = if sampled[at] == 0.0 { 1.0 } else { factor };
        out[at] = difference[at] * (factor / kind.seconds);
    }
}
