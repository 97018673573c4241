//! The specification; inlined into the wider instruction sets too, where the compiler turns its loops
//! into vectors: what a branch would choose is computed both ways and selected.

// A window is a place in several columns at once.
#![allow(clippy::needless_range_loop)]

use super::{Ends, Kind, Reach, Sign};

/// From milliseconds to what is extrapolated.
#[inline(always)]
pub fn reach(reach: &mut Reach) {
    let len = reach.intervals.len();
    let intervals = &reach.intervals[..len];
    let sampled = &mut reach.sampled[..len];
    let (to_start, to_end) = (&mut reach.to_start[..len], &mut reach.to_end[..len]);
    for at in 0..len {
        sampled[at] /= 1000.0;
        let average = sampled[at] / intervals[at];
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
