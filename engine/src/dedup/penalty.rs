//! Penalty de-duplication: follow one replica and switch only when it has a gap.
//!
//! Replicas are folded from the left: the first two become one timeline, that and the third
//! another. Of two timelines the one with the earlier next sample is followed; the other must then
//! lie at least twice the last distance ahead before it is considered again, so that a switch never
//! raises the sampling frequency. Described in Thanos' documentation of the querier; the constants
//! are its.

use super::Pick;

/// Penalty in milliseconds before a distance between two samples is known.
const INITIAL_PENALTY_MS: i64 = 5000;

/// Whether values are corrected at a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjust {
    /// Values stay as they are.
    Nothing,
    /// The values are counters: a replica that lags behind the value last seen is lifted to it, so
    /// that a switch never looks like a counter reset.
    Counters,
}

/// One replica: ascending timestamps in milliseconds and as many values; NaN where the sample is a
/// histogram.
#[derive(Clone, Copy, Debug)]
pub struct Replica<'a> {
    /// Timestamps, ascending.
    pub timestamps: &'a [i64],
    /// Values, NaN for histograms.
    pub values: &'a [f64],
}

/// Appends the samples that stay to `picks`, and their values, corrected if asked for, to `values`.
pub fn merge(replicas: &[Replica<'_>], adjust: Adjust, picks: &mut Vec<Pick>, values: &mut Vec<f64>) {
    if let [only] = replicas {
        picks.extend((0..only.timestamps.len()).map(|sample| Pick { replica: 0, sample: sample as u32 }));
        values.extend_from_slice(only.values);
    }
    let Some(root) = replicas.len().checked_sub(2) else {
        return;
    };
    let leaves = replicas.iter().map(|replica| Leaf { replica: *replica, at: 0, lift: 0.0 }).collect();
    let mut timelines = Timelines { leaves, pairs: vec![Pair::default(); root + 1], adjust };
    while let Some(leaf) = timelines.next(root) {
        let leaf_now = &timelines.leaves[leaf];
        picks.push(Pick { replica: leaf as u32, sample: leaf_now.at as u32 });
        values.push(leaf_now.value());
    }
}

/// A replica, how far it was read, and by how much its values are lifted.
struct Leaf<'a> {
    replica: Replica<'a>,
    at: usize,
    lift: f64,
}

impl Leaf<'_> {
    fn time(&self) -> Option<i64> {
        self.replica.timestamps.get(self.at).copied()
    }

    fn value(&self) -> f64 {
        self.value_at(self.at, self.lift)
    }

    /// The value of sample `at`, lifted by `lift`; a stale marker would be an ordinary NaN as part of a sum.
    fn value_at(&self, at: usize, lift: f64) -> f64 {
        let value = self.replica.values[at];
        if lift > 0.0 && !value.is_nan() { value + lift } else { value }
    }

    fn seek(&mut self, time: i64) {
        let rest = &self.replica.timestamps[self.at..];
        self.at += rest.iter().take_while(|known| **known < time).count();
    }
}

/// The merge of the timeline to the left with one more replica.
#[derive(Clone, Copy, Default)]
struct Pair {
    last_time: Option<i64>,
    penalty_left: i64,
    penalty_right: i64,
    /// The leaf whose sample was emitted last; `None` before the first sample and after the last.
    current: Option<usize>,
    uses_right: bool,
}

struct Timelines<'a> {
    leaves: Vec<Leaf<'a>>,
    pairs: Vec<Pair>,
    adjust: Adjust,
}

impl Timelines<'_> {
    /// Advances `pair` (its left side is pair `pair - 1`, or leaf 0) by one sample; the leaf that
    /// holds it.
    fn next(&mut self, pair: usize) -> Option<usize> {
        let before = self.pairs[pair];
        let after = before.last_time.map_or(i64::MIN, |last| last.saturating_add(1));
        // Few samples are the last before a switch: of the others no value is looked at.
        let place = |leaf: usize, leaves: &[Leaf<'_>]| (leaf, leaves[leaf].at, leaves[leaf].lift);
        let last = before.current.map(|leaf| place(leaf, &self.leaves));
        let left = self.seek_left(pair, after.saturating_add(before.penalty_left));
        // Before the first sample upstream takes the left side's first value for the last one seen.
        let last = last.or_else(|| match before.last_time {
            None => left.map(|(leaf, _)| place(leaf, &self.leaves)),
            Some(_) => None,
        });
        self.leaves[pair + 1].seek(after.saturating_add(before.penalty_right));
        let right = self.leaves[pair + 1].time().map(|time| (pair + 1, time));
        let chosen = self.pairs[pair].choose(left, right);
        let switched = before.uses_right != self.pairs[pair].uses_right;
        if let (true, Adjust::Counters, Some((leaf, at, lift))) = (switched, self.adjust, last) {
            self.lift_to(pair + 1, self.leaves[leaf].value_at(at, lift));
        }
        chosen
    }

    /// Moves the left side of `pair` to its first sample at or after `time`; the leaf that holds it
    /// and its time.
    fn seek_left(&mut self, pair: usize, time: i64) -> Option<(usize, i64)> {
        let Some(left) = pair.checked_sub(1) else {
            self.leaves[0].seek(time);
            return self.leaves[0].time().map(|time| (0, time));
        };
        let mut current = self.pairs[left].current;
        loop {
            if let Some(leaf) = current
                && let Some(found) = self.leaves[leaf].time()
                && found >= time
            {
                return Some((leaf, found));
            }
            current = self.next(left);
            current?;
        }
    }

    /// Lifts each of the replicas up to `last` that is below `value`.
    fn lift_to(&mut self, last: usize, value: f64) {
        for leaf in self.leaves[..=last].iter_mut().filter(|leaf| leaf.time().is_some()) {
            let behind = value - leaf.value();
            if behind > 0.0 {
                leaf.lift += behind;
            }
        }
    }
}

impl Pair {
    /// Chooses between the next samples of both sides, (leaf, time) each, and sets the penalties.
    fn choose(&mut self, left: Option<(usize, i64)>, right: Option<(usize, i64)>) -> Option<usize> {
        let takes_right = match (left, right) {
            (Some((_, left)), Some((_, right))) => right < left,
            (left, _) => left.is_none(),
        };
        self.uses_right = takes_right;
        let chosen = if takes_right { right } else { left };
        self.current = chosen.map(|(leaf, _)| leaf);
        let (_, time) = chosen?;
        let penalty = match (left.and(right), self.last_time) {
            (None, _) => None,
            (Some(_), None) => Some(INITIAL_PENALTY_MS),
            (Some(_), Some(last)) => Some(2 * (time - last)),
        };
        let (own, other) = if takes_right {
            (&mut self.penalty_right, &mut self.penalty_left)
        } else {
            (&mut self.penalty_left, &mut self.penalty_right)
        };
        *own = 0;
        *other = penalty.unwrap_or(*other);
        self.last_time = Some(time);
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::{STALE_NAN_BITS, is_stale_nan};

    const STALE: f64 = f64::from_bits(STALE_NAN_BITS);

    /// The merge of replicas given as (timestamp, value) lists.
    fn merged(replicas: &[&[(i64, f64)]], adjust: Adjust) -> Vec<(i64, f64)> {
        let columns: Vec<(Vec<i64>, Vec<f64>)> =
            replicas.iter().map(|samples| samples.iter().copied().unzip()).collect();
        let views: Vec<Replica<'_>> =
            columns.iter().map(|(timestamps, values)| Replica { timestamps, values }).collect();
        let (mut picks, mut values) = (Vec::new(), Vec::new());
        merge(&views, adjust, &mut picks, &mut values);
        picks.iter().map(|pick| columns[pick.replica as usize].0[pick.sample as usize]).zip(values).collect()
    }

    fn at(times: &[i64], value: f64) -> Vec<(i64, f64)> {
        times.iter().map(|time| (*time, value)).collect()
    }

    #[test]
    fn the_first_replica_is_followed_while_both_have_samples() {
        let left = at(&[10_000, 20_000, 30_000], 1.0);
        let right = at(&[10_000, 20_000, 30_000], 2.0);
        assert_eq!(merged(&[&left, &right], Adjust::Nothing), left);
    }

    #[test]
    fn the_replica_that_starts_first_is_followed() {
        let left = at(&[10_100, 20_100, 30_100], 1.0);
        let right = at(&[10_000, 20_000, 30_000], 2.0);
        assert_eq!(merged(&[&left, &right], Adjust::Nothing), right);
    }

    #[test]
    fn one_missed_scrape_is_no_reason_to_switch_but_two_are() {
        let right = at(&[10_100, 20_100, 30_100, 40_100, 50_100, 60_100], 2.0);
        let one_missed = at(&[10_000, 20_000, 40_000], 1.0);
        assert_eq!(merged(&[&one_missed, &right[..4]], Adjust::Nothing), one_missed);
        let two_missed = at(&[10_000, 20_000, 30_000, 60_000, 70_000], 1.0);
        let switched = [&two_missed[..3], &right[4..]].concat();
        assert_eq!(merged(&[&two_missed, &right], Adjust::Nothing), switched);
    }

    #[test]
    fn a_lagging_counter_is_lifted_at_a_switch_and_stays_lifted() {
        let left = [(10_000, 10.0), (20_000, 20.0), (30_000, 30.0)];
        let right = [(10_100, 5.0), (20_100, 15.0), (50_100, 25.0), (60_100, 27.0)];
        let expected = [(10_000, 10.0), (20_000, 20.0), (30_000, 30.0), (50_100, 30.0), (60_100, 32.0)];
        assert_eq!(merged(&[&left, &right], Adjust::Counters), expected);
        assert_eq!(merged(&[&left, &right], Adjust::Nothing)[3], (50_100, 25.0));
    }

    #[test]
    fn stale_markers_stay_what_they_are() {
        let left = [(10_000, 10.0), (20_000, STALE), (30_000, 30.0)];
        let right = [(10_100, 5.0), (20_100, 15.0), (50_100, 25.0), (60_100, STALE)];
        for adjust in [Adjust::Nothing, Adjust::Counters] {
            let result = merged(&[&left, &right], adjust);
            let stale = result.iter().filter(|(_, value)| is_stale_nan(*value)).map(|(time, _)| *time);
            assert_eq!(stale.collect::<Vec<_>>(), [20_000, 60_100], "{adjust:?}");
        }
    }

    #[test]
    fn a_lone_or_empty_replica_passes_through() {
        let only = at(&[1, 2, 3], 1.0);
        assert_eq!(merged(&[&only], Adjust::Counters), only);
        assert_eq!(merged(&[&only, &[]], Adjust::Counters), only);
        assert_eq!(merged(&[&[], &only, &[]], Adjust::Counters), only);
        assert_eq!(merged(&[&[], &[]], Adjust::Counters), []);
        assert_eq!(merged(&[], Adjust::Counters), []);
    }

    #[test]
    fn timestamps_always_ascend() {
        let mut state = 11u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let replicas: Vec<Vec<(i64, f64)>> = (0..1 + next(4))
                .map(|_| {
                    let mut time = next(20_000) as i64;
                    let step = 5_000 + next(20_000) as i64;
                    let take = |_| {
                        time += step * (1 + next(8) as i64 / 7 * 4);
                        (time, next(100) as f64)
                    };
                    (0..40).map(take).collect()
                })
                .collect();
            let views: Vec<&[(i64, f64)]> = replicas.iter().map(Vec::as_slice).collect();
            for adjust in [Adjust::Nothing, Adjust::Counters] {
                let result = merged(&views, adjust);
                assert!(result.windows(2).all(|pair| pair[0].0 < pair[1].0), "{result:?}");
                assert!(!result.is_empty());
            }
        }
    }
}
