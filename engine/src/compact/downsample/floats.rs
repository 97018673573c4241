//! Raw floats to the five aggregates, columns to columns.

use super::window::{Extent, RAW_STEP_MS, batch_len, window_end};
use crate::chunk::aggr::{self, AggrChunk, Aggregate, Part};
use crate::chunk::{Encoding, xor};
use crate::compact::output::Made;
use crate::model::FloatColumns;
use crate::model::value::is_stale_nan;
use crate::simd::{self, Kernel};

/// The aggregates of a run of windows: columns of one length.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// Last millisecond of each window.
    pub(super) times: Vec<i64>,
    /// Where its samples end.
    ends: Vec<usize>,
    /// Number of samples.
    pub(super) counts: Vec<f64>,
    /// Their sum.
    pub(super) sums: Vec<f64>,
    /// The smallest.
    pub(super) mins: Vec<f64>,
    /// The largest.
    pub(super) maxs: Vec<f64>,
    /// The last, resets since the first sample of the run removed.
    pub(super) counters: Vec<f64>,
    /// By how much a counter rises with each sample.
    rises: Vec<f64>,
}

impl Windows {
    fn clear(&mut self) {
        let Self { times, ends, counts, sums, mins, maxs, counters, rises: _ } = self;
        times.clear();
        ends.clear();
        for column in [counts, sums, mins, maxs, counters] {
            column.clear();
        }
    }

    /// Replaces the windows by those of `times`, which ascend, and `values`, which are of one length. A window
    /// with a NaN in it has a sum that is one.
    pub(super) fn reduce(&mut self, times: &[i64], values: &[f64], resolution: i64) {
        self.clear();
        self.split(times, resolution);
        if simd::run_on(simd::isa(), Rises(values)) {
            self.reduce_rising(values);
        } else {
            self.reduce_any(values);
        }
    }

    /// Finds the windows.
    fn split(&mut self, times: &[i64], resolution: i64) {
        let Some(last_time) = times.last() else { return };
        let (mut start, mut end, mut len) = (0, i64::MIN, 1);
        while start < times.len() {
            let time = times[start];
            // Mostly the next window, which needs no division, and with as many samples as the one before.
            let next = end.saturating_add(resolution);
            end = if end >= 0 && time <= next { next } else { window_end(time, resolution) };
            len = window_len(&times[start..], end, len);
            start += len;
            self.times.push(end.min(*last_time));
            self.ends.push(start);
            self.counts.push(len as f64);
        }
    }

    /// Reduces values of which [`Rises`] is true: the first of a window is its smallest, the last its largest and
    /// what the counter comes to.
    fn reduce_rising(&mut self, values: &[f64]) {
        let starts = || std::iter::once(0).chain(self.ends.iter().copied());
        let sum = |(start, end): (usize, &usize)| values[start..*end].iter().fold(0.0, |sum, value| sum + value);
        self.sums.extend(starts().zip(&self.ends).map(sum));
        self.mins.extend(starts().zip(&self.ends).map(|(start, _)| values[start]));
        self.maxs.extend(self.ends.iter().map(|end| values[end - 1]));
        self.counters.extend_from_slice(&self.maxs);
    }

    fn reduce_any(&mut self, values: &[f64]) {
        if self.rises.len() < values.len() {
            self.rises.resize(values.len(), 0.0);
        }
        simd::run_on(simd::isa(), RisesOf { values, rises: &mut self.rises });
        // Adding the first to this gives it, even where it is a negative zero.
        let (mut counter, mut start) = (-0.0, 0);
        for end in self.ends.iter().copied() {
            let mut window = Window::EMPTY;
            for (value, rise) in values[start..end].iter().zip(&self.rises[start..end]) {
                window.add(*value);
                counter += *rise;
            }
            self.sums.push(window.sum);
            self.mins.push(window.min);
            self.maxs.push(window.max);
            self.counters.push(counter);
            start = end;
        }
    }
}

/// By how much a counter rises with each value: by what it is more than the one before, and after a reset by all of
/// it. The first counts as behind a reset.
struct RisesOf<'a> {
    values: &'a [f64],
    rises: &'a mut [f64],
}

impl Kernel for RisesOf<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let ([first, rest @ ..], [first_rise, rises @ ..]) = (self.values, self.rises) else { return };
        *first_rise = *first;
        for ((before, value), rise) in self.values.iter().zip(rest).zip(rises) {
            *rise = value - if value < before { 0.0 } else { *before };
        }
    }
}

/// Whether values never fall, and a counter of them is the last of them at any time, as what they rise by is added
/// without an error: so it is with integers, and where no value is more than twice the one before it.
struct Rises<'a>(&'a [f64]);

/// Values that are looked at without a branch.
const PART: usize = 128;

impl Kernel for Rises<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let ([first, ..], [.., last]) = (self.0, self.0) else { return true };
        // Zeros of two signs have no order, and windows start with finite numbers.
        let is_plain = first.to_bits() != (-0.0f64).to_bits() && first.is_finite() && last.is_finite();
        let rises = |pairs: (&[f64], &[f64])| {
            pairs.0.iter().zip(pairs.1).fold(true, |all, (before, value)| {
                let added = before + (value - before);
                all & (value >= before) & (added.to_bits() == value.to_bits())
            })
        };
        // In parts, for most of what falls falls soon.
        is_plain && self.0.chunks(PART).zip(self.0[1..].chunks(PART)).all(rises)
    }
}

/// How many of `times`, which ascend, are at most `end`; the first is within, though the end of the last window that
/// there is wraps. `guess` is what is likely.
#[inline(always)]
fn window_len(times: &[i64], end: i64, guess: usize) -> usize {
    let is_within = |at: usize| times.get(at).is_some_and(|time| *time <= end);
    if is_within(guess - 1) && !is_within(guess) {
        return guess;
    }
    times.iter().take_while(|time| **time <= end).count().max(1)
}

/// One window.
#[derive(Clone, Copy)]
struct Window {
    sum: f64,
    min: f64,
    max: f64,
}

impl Window {
    const EMPTY: Self = Self { sum: 0.0, min: f64::MAX, max: -f64::MAX };

    #[inline(always)]
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.min = simd::least(value, self.min);
        self.max = simd::greatest(value, self.max);
    }
}

/// Whether there is nothing to be left out before windows are made.
pub(super) fn is_clean(times: &[i64], values: &[f64]) -> bool {
    simd::run_on(simd::isa(), IsClean { times, values })
}

struct IsClean<'a> {
    times: &'a [i64],
    values: &'a [f64],
}

impl Kernel for IsClean<'_> {
    type Output = bool;

    #[inline(always)]
    fn run(self) -> bool {
        let falls = self.times.windows(2).fold(false, |any, pair| any | (pair[1] < pair[0]));
        !self.values.iter().fold(falls, |any, value| any | value.is_nan())
    }
}

/// Replaces `clean` by the samples without stale markers and those that go back in time within their
/// chunk.
pub(super) fn clean(
    (times, values): (&[i64], &[f64]),
    chunk_ends: impl Iterator<Item = usize>,
    clean: &mut FloatColumns,
) {
    clean.clear();
    let mut start = 0;
    for end in chunk_ends {
        let mut last = i64::MIN;
        for (time, value) in times[start..end].iter().zip(&values[start..end]) {
            if !is_stale_nan(*value) && *time >= last {
                clean.push(*time, *value);
                last = *time;
            }
        }
        start = end;
    }
}

/// Room for downsampling floats.
#[derive(Debug, Default)]
pub(super) struct Floats {
    windows: Windows,
    /// Samples of a batch that are numbers.
    numbers: FloatColumns,
    clean: FloatColumns,
    parts: [Vec<u8>; 5],
    data: Vec<u8>,
}

impl Floats {
    /// Downsamples the samples of one series, whose chunks end at `chunk_ends`.
    pub(super) fn downsample(
        &mut self,
        (times, values): (&[i64], &[f64]),
        chunk_ends: impl Iterator<Item = usize>,
        resolution: i64,
        made: &mut Made,
    ) {
        if is_clean(times, values) {
            self.batches((times, values), resolution, made);
            return;
        }
        let mut room = std::mem::take(&mut self.clean);
        clean((times, values), chunk_ends, &mut room);
        self.batches((&room.timestamps, &room.values), resolution, made);
        self.clean = room;
    }

    fn batches(&mut self, columns: (&[i64], &[f64]), resolution: i64, made: &mut Made) {
        let mut start = 0;
        while let Some(next) = self.batch(columns, start, resolution, made) {
            start = next;
        }
    }

    /// Makes a chunk of the samples from number `start` on, of all of a series, which are clean. Gives the
    /// sample behind those that went into it; nothing when there is none left.
    pub(super) fn batch(
        &mut self,
        (times, values): (&[i64], &[f64]),
        start: usize,
        resolution: i64,
        made: &mut Made,
    ) -> Option<usize> {
        let extent = Extent { min_time: *times.first()?, max_time: *times.last()?, samples: times.len() };
        let samples = times.len() / extent.chunks(RAW_STEP_MS, resolution) + 1;
        let len = batch_len(&times[start..], samples, resolution);
        if len == 0 {
            return None;
        }
        self.chunk(&times[start..start + len], &values[start..start + len], resolution, made);
        Some(start + len)
    }

    /// Makes one chunk of all samples that are numbers.
    fn chunk(&mut self, times: &[i64], values: &[f64], resolution: i64, made: &mut Made) {
        self.windows.reduce(times, values, resolution);
        // A sum can be none too where infinities are added.
        if self.windows.sums.iter().any(|sum| sum.is_nan()) && values.iter().any(|value| value.is_nan()) {
            let mut numbers = std::mem::take(&mut self.numbers);
            numbers.clear();
            for (time, value) in times.iter().zip(values).filter(|(_, value)| !value.is_nan()) {
                numbers.push(*time, *value);
            }
            self.chunk(&numbers.timestamps, &numbers.values, resolution, made);
            self.numbers = numbers;
            return;
        }
        let (Some(first), Some(last)) = (times.first().zip(values.first()), values.last()) else { return };
        self.encode((*first.0, *first.1), *last, made);
    }

    /// Encodes the windows; the counter starts with the first raw sample and ends with the last raw
    /// value, so that what follows knows of a reset between chunks.
    fn encode(&mut self, first: (i64, f64), last: f64, made: &mut Made) {
        let Windows { times, counts, sums, mins, maxs, counters, .. } = &mut self.windows;
        let [count_part, sum_part, min_part, max_part, counter_part] = &mut self.parts;
        let columns = [(counts, count_part), (sums, sum_part), (mins, min_part), (maxs, max_part)];
        for (values, part) in columns {
            part.clear();
            xor::encode(times, values, part);
        }
        let (min_time, max_time) = (times[0], times[times.len() - 1]);
        let samples = times.len() as u16;
        times.insert(0, first.0);
        times.push(max_time);
        counters.insert(0, first.1);
        counters.push(last);
        counter_part.clear();
        xor::encode(times, counters, counter_part);
        let mut chunk = AggrChunk::default();
        for (aggregate, part) in Aggregate::ALL.into_iter().zip(&self.parts) {
            chunk.set(aggregate, Part { encoding: Encoding::Xor, data: part });
        }
        self.data.clear();
        aggr::encode(&chunk, &mut self.data);
        made.encode((min_time, max_time), (Encoding::Aggr, &self.data), samples);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::window::for_each;
    use super::*;

    proptest! {
        /// Against a reduction that looks at one window and one aggregate at a time.
        #[test]
        fn every_aggregate_is_that_of_its_window(
            steps in prop::collection::vec((0..90_000i64, prop_oneof![Just(0.0), -5.0..5.0f64, 0.0..1e9f64]), 1..200),
            start in -1_000_000..1_000_000i64,
            rising in prop::option::of((prop_oneof![Just(-0.0), Just(-7.0), Just(0.1), Just(1e300), Just(f64::INFINITY)], any::<bool>())),
            gap in (0..200usize, 0..2_000_000i64),
        ) {
            let (mut times, mut values, mut time) = (Vec::new(), Vec::new(), start);
            for (at, (step, value)) in steps.into_iter().enumerate() {
                time += step + if at == gap.0 { gap.1 } else { 0 };
                times.push(time);
                values.push(rising.map_or(value, |(first, is_whole)| {
                    let more = if is_whole { value.abs().floor() } else { value.abs() };
                    values.last().map_or(first, |last| last + more)
                }));
            }
            let mut windows = Windows::default();
            windows.reduce(&times, &values, 300_000);
            let mut at = 0;
            for_each(&times, 300_000, |end, range| {
                let within = &values[range.clone()];
                assert_eq!(windows.times[at], end);
                let counter = values[..range.end].windows(2).fold(values[0], |counter, pair| {
                    counter + if pair[1] < pair[0] { pair[1] } else { pair[1] - pair[0] }
                });
                let least = within.iter().fold(f64::MAX, |least, value| if *value < least { *value } else { least });
                let most = within.iter().fold(-f64::MAX, |most, value| if *value > most { *value } else { most });
                let sum = within.iter().fold(0.0, |sum, value| sum + value);
                let found = [&windows.counts, &windows.sums, &windows.mins, &windows.maxs, &windows.counters];
                for (column, wanted) in found.into_iter().zip([within.len() as f64, sum, least, most, counter]) {
                    let is_same = column[at].to_bits() == wanted.to_bits() || column[at].is_nan() && wanted.is_nan();
                    assert!(is_same, "{} at {at}, not {wanted}", column[at]);
                }
                at += 1;
            });
            prop_assert_eq!(at, windows.times.len());
        }
    }

    #[test]
    fn windows_at_the_end_of_time_end() {
        let mut windows = Windows::default();
        windows.reduce(&[5, i64::MAX - 1, i64::MAX, i64::MAX], &[1.0, 2.0, 3.0, 4.0], 300_000);
        assert_eq!(windows.counts, [1.0; 4]);
        assert_eq!(windows.sums, [1.0, 2.0, 3.0, 4.0]);
    }
}
