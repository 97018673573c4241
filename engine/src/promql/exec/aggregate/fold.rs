//! The state of simple aggregations: for each group a few rows over the steps.
//!
//! ```text
//!            sum, avg          stddev, stdvar    min, max   count, group
//! primary    sum (or mean)     sum of squares    extreme
//! secondary  compensation      mean
//! counts     samples           samples                      samples
//! ```

use crate::batch::{StepBatch, bitmap};
use crate::model::FloatHistogram;
use crate::simd::{self, reduce};

use super::super::super::plan::AggregateOperator as A;
use super::super::math::kahan_add;
use super::super::{CELLS_MAX, ROWS_AT_ONCE};
use super::native::NativeState;

/// State of all groups.
#[derive(Debug)]
pub struct State {
    operator: A,
    steps: usize,
    words: usize,
    primary: Vec<f64>,
    secondary: Vec<f64>,
    counts: Vec<f64>,
    seen: Vec<u64>,
    /// Where a mean is moved instead of a sum divided; empty while nothing has overflowed.
    incremental: Vec<u64>,
    unnamed: Vec<bool>,
    /// Histograms of `sum` and `avg`.
    pub native: NativeState,
}

impl State {
    /// No groups over `steps` steps.
    pub fn new(operator: A, steps: usize) -> Self {
        Self {
            operator,
            steps,
            words: bitmap::words(steps),
            primary: Vec::new(),
            secondary: Vec::new(),
            counts: Vec::new(),
            seen: Vec::new(),
            incremental: Vec::new(),
            unnamed: Vec::new(),
            native: NativeState::new(operator),
        }
    }

    /// Makes room for `groups` groups.
    pub fn grow(&mut self, groups: usize) {
        if groups <= self.unnamed.len() {
            return;
        }
        let cells = groups * self.steps;
        let at_once = CELLS_MAX.min(ROWS_AT_ONCE * self.steps);
        let extend = |column: &mut Vec<f64>, value| {
            column.reserve(at_once.max(cells) - column.len());
            column.resize(cells, value);
        };
        self.unnamed.resize(groups, false);
        self.seen.resize(groups * self.words, 0);
        match self.operator {
            A::Min | A::Max => extend(&mut self.primary, f64::NAN),
            A::Sum => {
                extend(&mut self.primary, 0.0);
                extend(&mut self.secondary, 0.0);
            }
            A::Avg | A::Stddev | A::Stdvar => {
                extend(&mut self.primary, 0.0);
                extend(&mut self.secondary, 0.0);
                extend(&mut self.counts, 0.0);
            }
            _ => extend(&mut self.counts, 0.0),
        }
        if !self.incremental.is_empty() {
            self.incremental.resize(groups * self.words, 0);
        }
    }

    /// Bytes that it uses of the room that it has; histograms, which are few, are left out.
    pub fn heap_bytes(&self) -> usize {
        let cells = self.primary.len() + self.secondary.len() + self.counts.len();
        8 * (cells + self.seen.len() + self.incremental.len()) + self.unnamed.len()
    }

    /// Takes a histogram, with the name of its metric, into `group`.
    pub fn add_histogram(&mut self, (group, step): (usize, u32), (histogram, metric): (&FloatHistogram, &str)) {
        if bitmap::get(&self.seen[group * self.words..], step as usize) {
            self.native.close((group, step));
        }
        self.native.add((group, step), (histogram, metric));
    }

    /// Remembers that a member of `group` is to lose its name.
    pub fn mark_unnamed(&mut self, group: usize) {
        self.unnamed[group] = true;
    }

    /// Whether a member of `group` is to lose its name.
    pub fn unnamed(&self, group: usize) -> bool {
        self.unnamed[group]
    }

    /// Takes a row into `group`, but for what comes behind histograms that do not fit.
    pub fn add_row(&mut self, group: usize, values: &[f64], valid: &[u64]) {
        let looked_at = self.native.without_mixed(group, valid);
        self.add_floats(group, values, &looked_at);
    }

    /// Takes floats into `group`.
    pub fn add_floats(&mut self, group: usize, values: &[f64], valid: &[u64]) {
        let cells = group * self.steps..(group + 1) * self.steps;
        let seen = &mut self.seen[group * self.words..(group + 1) * self.words];
        let isa = simd::isa();
        match self.operator {
            A::Sum => {
                let sums = (&mut self.primary[cells.clone()], &mut self.secondary[cells]);
                each_run(valid, self.steps, |run| {
                    reduce::sum(isa, &mut sums.0[run.clone()], &mut sums.1[run.clone()], &values[run]);
                });
            }
            A::Min => {
                let least = &mut self.primary[cells];
                each_run(valid, self.steps, |run| reduce::least(isa, &mut least[run.clone()], &values[run]));
            }
            A::Max => {
                let most = &mut self.primary[cells];
                each_run(valid, self.steps, |run| reduce::greatest(isa, &mut most[run.clone()], &values[run]));
            }
            A::Avg => return self.add_means(group, values, valid),
            A::Stddev | A::Stdvar => {
                let squares = &mut self.primary[cells.clone()];
                let means = &mut self.secondary[cells.clone()];
                let counts = &mut self.counts[cells];
                for step in bitmap::ones(valid) {
                    counts[step] += 1.0;
                    let delta = values[step] - means[step];
                    means[step] += delta / counts[step];
                    squares[step] += delta * (values[step] - means[step]);
                }
            }
            _ => {
                let counts = &mut self.counts[cells];
                each_run(valid, self.steps, |run| counts[run].iter_mut().for_each(|count| *count += 1.0));
            }
        }
        bitmap::union(seen, valid);
    }

    /// Takes one sample into `group`.
    pub fn add_floats_at(&mut self, group: usize, step: usize, value: f64) {
        let mut valid = vec![0; self.words];
        bitmap::set(&mut valid, step);
        let mut values = vec![0.0; self.steps];
        values[step] = value;
        self.add_floats(group, &values, &valid);
    }

    fn add_means(&mut self, group: usize, values: &[f64], valid: &[u64]) {
        let cells = group * self.steps..(group + 1) * self.steps;
        let words = group * self.words..(group + 1) * self.words;
        let (sums, comps) = (&mut self.primary[cells.clone()], &mut self.secondary[cells.clone()]);
        let counts = &mut self.counts[cells];
        let overflows = sums.iter().zip(values).any(|(sum, value)| (sum + value).is_infinite());
        if self.incremental.is_empty() && !overflows {
            each_run(valid, self.steps, |run| {
                reduce::sum(simd::isa(), &mut sums[run.clone()], &mut comps[run.clone()], &values[run.clone()]);
                counts[run].iter_mut().for_each(|count| *count += 1.0);
            });
        } else {
            self.incremental.resize(self.seen.len(), 0);
            let incremental = &mut self.incremental[words.clone()];
            for step in bitmap::ones(valid) {
                counts[step] += 1.0;
                let mut state = MeanState { sum: &mut sums[step], c: &mut comps[step], count: counts[step] };
                if bitmap::get(incremental, step) {
                    state.move_mean(values[step]);
                } else if state.would_overflow(values[step]) {
                    state.start_moving();
                    state.move_mean(values[step]);
                    bitmap::set(incremental, step);
                } else {
                    (*state.sum, *state.c) = kahan_add(values[step], *state.sum, *state.c);
                }
            }
        }
        bitmap::union(&mut self.seen[words], valid);
    }

    /// Takes group `from` of `other` into `group`.
    pub fn merge(&mut self, group: usize, other: &Self, from: usize) {
        let floats = &self.seen[group * self.words..(group + 1) * self.words];
        let theirs = &other.seen[from * self.words..(from + 1) * self.words];
        let looked_at = self.native.merge((group, floats), (&other.native, from), theirs);
        let theirs: &[u64] = &looked_at;
        let (to, at) = (group * self.steps, from * self.steps);
        match self.operator {
            A::Sum => each_run(theirs, self.steps, |run| self.merge_sums(to, (other, at), run)),
            A::Min | A::Max => {
                let pick = if self.operator == A::Min { reduce::least } else { reduce::greatest };
                each_run(theirs, self.steps, |run| {
                    let (own, others) = (to + run.start..to + run.end, at + run.start..at + run.end);
                    pick(simd::isa(), &mut self.primary[own], &other.primary[others]);
                });
            }
            A::Avg => bitmap::ones(theirs).for_each(|step| self.merge_mean((group, step), other, (from, step))),
            A::Stddev | A::Stdvar => {
                bitmap::ones(theirs).for_each(|step| self.merge_variance(to + step, other, at + step));
            }
            _ => bitmap::ones(theirs).for_each(|step| self.counts[to + step] += other.counts[at + step]),
        }
        bitmap::union(&mut self.seen[group * self.words..(group + 1) * self.words], theirs);
        self.unnamed[group] |= other.unnamed[from];
    }

    /// Takes the sums of steps `run` of the cells of `other` from `at` on into the cells from `to` on.
    fn merge_sums(&mut self, to: usize, (other, at): (&Self, usize), run: std::ops::Range<usize>) {
        let (own, others) = (to + run.start..to + run.end, at + run.start..at + run.end);
        let (sums, lost) = (&mut self.primary[own.clone()], &mut self.secondary[own]);
        reduce::sum(simd::isa(), sums, lost, &other.primary[others.clone()]);
        for ((sum, lost), other) in sums.iter().zip(lost).zip(&other.secondary[others]) {
            *lost += if sum.is_finite() { *other } else { 0.0 };
        }
    }

    fn merge_sum(&mut self, to: usize, other: &Self, at: usize) {
        (self.primary[to], self.secondary[to]) = kahan_add(other.primary[at], self.primary[to], self.secondary[to]);
        if self.primary[to].is_finite() {
            self.secondary[to] += other.secondary[at];
        }
    }

    fn merge_mean(&mut self, (group, step): (usize, usize), other: &Self, (from, at_step): (usize, usize)) {
        let (to, at) = (group * self.steps + step, from * self.steps + at_step);
        let (mine, theirs) = (self.counts[to], other.counts[at]);
        let total = mine + theirs;
        let moving = (self.is_incremental(group, step), other.is_incremental(from, at_step));
        let sum = self.primary[to] + other.primary[at];
        if mine == 0.0 {
            self.primary[to] = other.primary[at];
            self.secondary[to] = other.secondary[at];
        } else if moving == (false, false) && !sum.is_infinite() {
            self.merge_sum(to, other, at);
        } else {
            let own = if moving.0 { mine / total } else { 1.0 / total };
            let share = if moving.1 { theirs / total } else { 1.0 / total };
            (self.primary[to], self.secondary[to]) =
                kahan_add(other.primary[at] * share, self.primary[to] * own, self.secondary[to] * own);
            self.secondary[to] += other.secondary[at] * share;
        }
        let summed = moving == (false, false) && (mine == 0.0 || !sum.is_infinite());
        if !summed {
            self.incremental.resize(self.seen.len(), 0);
            bitmap::set(&mut self.incremental[group * self.words..(group + 1) * self.words], step);
        }
        self.counts[to] = total;
    }

    fn merge_variance(&mut self, to: usize, other: &Self, at: usize) {
        let (mine, theirs) = (self.counts[to], other.counts[at]);
        let delta = other.secondary[at] - self.secondary[to];
        let total = mine + theirs;
        if mine == 0.0 {
            self.primary[to] = other.primary[at];
            self.secondary[to] = other.secondary[at];
        } else {
            self.primary[to] += other.primary[at] + delta * delta * mine * theirs / total;
            self.secondary[to] += delta * theirs / total;
        }
        self.counts[to] = total;
    }

    /// The results of all groups, each in the place of what it comes of.
    pub fn finish(mut self) -> StepBatch {
        let mut values = std::mem::take(&mut self.primary);
        let pairs = values.iter_mut().zip(&self.secondary);
        match self.operator {
            A::Sum => pairs.for_each(|(sum, lost)| *sum += lost),
            A::Avg => pairs.zip(&self.counts).enumerate().for_each(|(cell, ((sum, lost), count))| {
                let is_mean = self.is_incremental(cell / self.steps, cell % self.steps);
                *sum = if is_mean { *sum + lost } else { *sum / count + lost / count };
            }),
            A::Stdvar => values.iter_mut().zip(&self.counts).for_each(|(squares, count)| *squares /= count),
            A::Stddev => {
                values.iter_mut().zip(&self.counts).for_each(|(squares, count)| *squares = (*squares / count).sqrt());
            }
            A::Min | A::Max => {}
            A::Count => values = self.counts,
            _ => {
                values = self.counts;
                values.fill(1.0);
            }
        }
        StepBatch::from_columns(self.steps, values, self.seen)
    }

    fn is_incremental(&self, group: usize, step: usize) -> bool {
        let words = self.incremental.get(group * self.words..(group + 1) * self.words);
        words.is_some_and(|words| bitmap::get(words, step))
    }
}

/// One mean: `sum` is the sum, or the mean itself once the sum would overflow.
struct MeanState<'a> {
    sum: &'a mut f64,
    c: &'a mut f64,
    count: f64,
}

impl MeanState<'_> {
    /// Whether the next value makes the sum infinite. The first value is taken as it is.
    fn would_overflow(&self, value: f64) -> bool {
        self.count > 1.0 && (*self.sum + value).is_infinite()
    }

    /// Turns the sum of all values but the next into their mean.
    fn start_moving(&mut self) {
        *self.sum /= self.count - 1.0;
        *self.c /= self.count - 1.0;
    }

    fn move_mean(self, value: f64) {
        let q = (self.count - 1.0) / self.count;
        (*self.sum, *self.c) = kahan_add(value / self.count, q * *self.sum, q * *self.c);
    }
}

/// Calls `f` with each run of set bits, at most a word long unless all of the `count` bits are set.
#[inline]
fn each_run(valid: &[u64], count: usize, mut f: impl FnMut(std::ops::Range<usize>)) {
    if bitmap::all(valid, count) {
        return f(0..count);
    }
    for (word, bits) in valid.iter().enumerate() {
        let mut left = *bits;
        let mut base = word * 64;
        while left != 0 {
            let skip = left.trailing_zeros() as usize;
            left >>= skip;
            let run = left.trailing_ones() as usize;
            f(base + skip..base + skip + run);
            base += skip + run;
            left = if run == 64 { 0 } else { left >> run };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_exactly_the_set_bits() {
        let valid = [0b1110_0101, u64::MAX, 1 << 63];
        let mut covered = Vec::new();
        each_run(&valid, 192, |run| covered.extend(run));
        assert_eq!(covered, bitmap::ones(&valid).collect::<Vec<_>>());
    }

    #[test]
    fn a_mean_survives_the_overflow_of_its_sum() {
        let mut state = State::new(A::Avg, 1);
        state.grow(1);
        for value in [f64::MAX, f64::MAX, f64::MAX / 2.0] {
            state.add_floats(0, &[value], &[1]);
        }
        let mean = state.finish().values(0)[0];
        assert!((mean / (f64::MAX / 6.0 * 5.0) - 1.0).abs() < 1e-12, "{mean}");
    }

    #[test]
    fn a_mean_of_parts_survives_the_overflow_of_their_sums() {
        let values = [1.7e308, 1.7e308, 1.7e308, 0.5e308];
        let of = |values: &[f64]| {
            let mut state = State::new(A::Avg, 1);
            state.grow(1);
            values.iter().for_each(|value| state.add_floats(0, &[*value], &[1]));
            state
        };
        for cut in 1..values.len() {
            let mut whole = of(&values[..cut]);
            whole.merge(0, &of(&values[cut..]), 0);
            let mean = whole.finish().values(0)[0];
            assert!((mean / 1.4e308 - 1.0).abs() < 1e-12, "{cut}: {mean}");
        }
    }
}
