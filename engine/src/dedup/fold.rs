//! Penalty de-duplication of many short timelines, such as the overlapping chunks of one series:
//! [`super::penalty`] for timelines that come in the order in which they start.
//!
//! Timelines are folded from the left. As a timeline touches the result so far only around itself,
//! what lies before it stays untouched:
//!
//! ```text
//! so far     ●  ●  ●  ●  ●  ●  ●  ●
//! next                      ○  ○  ○  ○  ○
//!            └─ stays ──┘   └ merged ┘
//! ```
//!
//! Most often all of it stays and only the end of the next timeline follows. Behind a sample at `t`, `d`
//! after the one before it, the other side is looked at from its *reach* `t + 1 + 2 d` on: as long as
//! each sample lies within the reach of the one before it, the other side has no say. The few samples
//! that don't are kept as *gaps*, so that a whole chunk is passed by looking at the gaps within it.

/// Penalty in milliseconds before a distance between two samples is known.
const INITIAL_PENALTY_MS: i64 = 5000;

/// The timelines folded so far. Its room serves one fold after the other.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    times: Vec<i64>,
    picks: Vec<u32>,
    /// The latest time up to which any sample so far keeps the other side from being looked at.
    reaches: Vec<i64>,
    /// Places of the samples that lie beyond the reach of the one before them, ascending.
    gaps: Vec<u32>,
    tail_times: Vec<i64>,
    tail_picks: Vec<u32>,
}

/// How far the result so far is followed beside the next timeline.
enum Followed {
    /// To its end; then come the samples of the timeline from number `next` on.
    Whole { next: usize },
    /// Up to the sample number `gap`, in front of which sample number `next` of the timeline lies.
    Until { gap: usize, next: usize },
}

/// One of two sides that are merged.
struct Side<'a> {
    times: &'a [i64],
    at: usize,
}

impl Side<'_> {
    /// The next sample at `time` or later.
    fn seek(&mut self, time: i64) -> Option<i64> {
        self.at += self.times[self.at..].partition_point(|own| *own < time);
        self.times.get(self.at).copied()
    }
}

/// The numbers of a run of samples.
enum Picks<'a> {
    /// One after the other from this one on.
    From(u32),
    /// These.
    Of(&'a [u32]),
}

impl Fold {
    /// Forgets all timelines.
    pub fn clear(&mut self) {
        self.times.clear();
        self.picks.clear();
        self.reaches.clear();
        self.gaps.clear();
    }

    /// Unix milliseconds of the samples that stay, ascending.
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    /// For each sample that stays, the number it was given.
    pub fn picks(&self) -> &[u32] {
        &self.picks
    }

    /// Folds in the next timeline, ascending Unix milliseconds; its samples have the numbers from
    /// `first_pick` on.
    pub fn add(&mut self, times: &[i64], first_pick: u32) {
        let Some(first) = times.first() else { return };
        let by_time = self.times.partition_point(|time| time <= first);
        let by_reach = self.reaches.partition_point(|reach| reach <= first) + 1;
        let stays = by_time.min(by_reach).min(self.times.len());
        match self.follow(stays, times) {
            Followed::Whole { next } => self.merge((&[], &[]), (times, next), first_pick),
            Followed::Until { gap, next } => self.rejoin(gap, (times, next), first_pick),
        }
    }

    /// How far the samples from number `stays` on are followed with `times` on the other side.
    fn follow(&self, stays: usize, times: &[i64]) -> Followed {
        let Some(last_reach) = self.reaches.last() else { return Followed::Whole { next: 0 } };
        if stays == 0 {
            return Followed::Until { gap: 0, next: 0 };
        }
        let mut other = Side { times, at: 0 };
        let first_gap = self.gaps.partition_point(|gap| (*gap as usize) < stays);
        for gap in self.gaps[first_gap..].iter().map(|gap| *gap as usize) {
            if other.seek(self.reaches[gap - 1]).is_some_and(|time| time < self.times[gap]) {
                return Followed::Until { gap, next: other.at };
            }
        }
        other.seek(*last_reach);
        Followed::Whole { next: other.at }
    }

    /// Merges the samples from number `gap` on with `times`, of which those before number `next` are
    /// passed.
    fn rejoin(&mut self, gap: usize, right: (&[i64], usize), first_pick: u32) {
        let (mut tail_times, mut tail_picks) =
            (std::mem::take(&mut self.tail_times), std::mem::take(&mut self.tail_picks));
        tail_times.clear();
        tail_times.extend_from_slice(&self.times[gap..]);
        tail_picks.clear();
        tail_picks.extend_from_slice(&self.picks[gap..]);
        self.times.truncate(gap);
        self.picks.truncate(gap);
        self.reaches.truncate(gap);
        self.gaps.truncate(self.gaps.partition_point(|at| (*at as usize) < gap));
        self.merge((&tail_times, &tail_picks), right, first_pick);
        (self.tail_times, self.tail_picks) = (tail_times, tail_picks);
    }

    /// Appends what the penalty leaves of the two sides, the left one continuing the samples so far; of
    /// the right one the samples before number `next` are passed.
    fn merge(
        &mut self,
        (left_times, left_picks): (&[i64], &[u32]),
        (right_times, next): (&[i64], usize),
        first_pick: u32,
    ) {
        let mut left = Side { times: left_times, at: 0 };
        let mut right = Side { times: right_times, at: next };
        loop {
            let after = self.times.last().map_or(i64::MIN, |last| last.saturating_add(1));
            let takes_left = match (left.seek(after), right.seek(after)) {
                (None, None) => return,
                (Some(left), right) => right.is_none_or(|right| left <= right),
                (None, Some(_)) => false,
            };
            let other = if takes_left {
                left.at += self.take_run(&left.times[left.at..], Picks::Of(&left_picks[left.at..]));
                &mut right
            } else {
                right.at += self.take_run(&right.times[right.at..], Picks::From(first_pick + right.at as u32));
                &mut left
            };
            // What the samples of earlier runs reach lies before this one.
            other.seek(self.reaches.last().copied().unwrap_or(i64::MIN));
        }
    }

    /// Appends the first of `times`, which comes after all so far, and those behind it in which the other
    /// side has no say; gives how many.
    fn take_run(&mut self, times: &[i64], of: Picks<'_>) -> usize {
        let Some((first, rest)) = times.split_first() else { return 0 };
        let start = self.times.len();
        let last = match self.times[..] {
            [] => None,
            [only] => Some((None, only)),
            [.., before, last] => Some((Some(before), last)),
        };
        if last.is_some_and(|(before, last)| *first > reach(before, last)) {
            self.gaps.push(start as u32);
        }
        let (mut before, mut reach) = (*first, reach(last.map(|(_, last)| last), *first));
        let mut reach_max = self.reaches.last().map_or(reach, |before| reach.max(*before));
        self.reaches.reserve(times.len());
        self.reaches.push(reach_max);
        self.reaches.extend(rest.iter().map_while(|time| {
            if *time <= before || *time >= reach {
                return None;
            }
            reach = self::reach(Some(before), *time);
            reach_max = reach_max.max(reach);
            before = *time;
            Some(reach_max)
        }));
        let len = self.reaches.len() - start;
        self.times.extend_from_slice(&times[..len]);
        match of {
            Picks::From(first) => self.picks.extend(first..first + len as u32),
            Picks::Of(picks) => self.picks.extend_from_slice(&picks[..len]),
        }
        len
    }
}

/// The time from which on the other side is looked at behind a sample at `time` that comes after one at
/// `last`: behind the penalty of twice the distance.
fn reach(last: Option<i64>, time: i64) -> i64 {
    let penalty = last.map_or(INITIAL_PENALTY_MS, |last| {
        let distance = time.saturating_sub(last);
        distance.saturating_add(distance)
    });
    time.saturating_add(1).saturating_add(penalty)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::penalty::{self, Adjust, Replica};
    use super::*;

    /// What [`penalty::merge`] makes of the timelines, as numbers of samples.
    fn specified(timelines: &[Vec<i64>]) -> Vec<u32> {
        let values: Vec<Vec<f64>> = timelines.iter().map(|times| vec![0.0; times.len()]).collect();
        let replicas: Vec<_> =
            timelines.iter().zip(&values).map(|(timestamps, values)| Replica { timestamps, values }).collect();
        let (mut picks, mut values) = (Vec::new(), Vec::new());
        penalty::merge(&replicas, Adjust::Nothing, &mut picks, &mut values);
        let first = |replica: u32| timelines[..replica as usize].iter().map(Vec::len).sum::<usize>() as u32;
        picks.iter().map(|pick| first(pick.replica) + pick.sample).collect()
    }

    fn folded(fold: &mut Fold, timelines: &[Vec<i64>]) -> Vec<u32> {
        fold.clear();
        let mut first_pick = 0;
        for times in timelines {
            fold.add(times, first_pick);
            first_pick += times.len() as u32;
        }
        fold.picks().to_vec()
    }

    fn timelines() -> impl Strategy<Value = Vec<Vec<i64>>> {
        let steps = prop::collection::vec(prop_oneof![9 => 1..40i64, 1 => 1..4000i64], 1..30);
        let timeline = (0..3000i64, 1..400i64, steps).prop_map(|(start, scale, steps)| {
            let mut time = start * 7;
            steps
                .into_iter()
                .map(|step| {
                    time += step * scale;
                    time
                })
                .collect::<Vec<_>>()
        });
        prop::collection::vec(timeline, 1..9).prop_map(|mut timelines| {
            timelines.sort_by_key(|times| times[0]);
            timelines
        })
    }

    /// Chunks of replicas that are scraped alike, with scrapes missing here and there.
    fn replicas() -> impl Strategy<Value = Vec<Vec<i64>>> {
        let scrape = (-20..20i64, prop_oneof![12 => Just(1i64), 2 => Just(2i64), 1 => 3..9i64]);
        let replica = (0..15_000i64, 5..40usize, prop::collection::vec(scrape, 1..150));
        prop::collection::vec(replica, 1..4).prop_map(|replicas| {
            let mut chunks = Vec::new();
            for (phase, len, scrapes) in replicas {
                let mut slot = 0;
                let times: Vec<i64> = scrapes
                    .into_iter()
                    .map(|(jitter, steps)| {
                        slot += steps;
                        phase + slot * 15_000 + jitter
                    })
                    .collect();
                chunks.extend(times.chunks(len).map(<[i64]>::to_vec));
            }
            chunks.sort_by_key(|times| (times[0], times[times.len() - 1]));
            chunks
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn folding_chunk_by_chunk_gives_what_penalty_gives(timelines in timelines()) {
            prop_assert_eq!(folded(&mut Fold::default(), &timelines), specified(&timelines));
        }

        #[test]
        fn chunks_of_replicas_with_missing_scrapes_give_what_penalty_gives(timelines in replicas()) {
            prop_assert_eq!(folded(&mut Fold::default(), &timelines), specified(&timelines));
        }

        #[test]
        fn times_out_of_order_are_left_out(timelines in prop::collection::vec(prop::collection::vec(-9..99i64, 0..9), 0..5)) {
            let mut fold = Fold::default();
            folded(&mut fold, &timelines);
            prop_assert!(fold.times().is_sorted_by(|a, b| a < b));
            prop_assert_eq!(fold.times().len(), fold.picks().len());
        }
    }

    #[test]
    fn replicas_scraped_together_are_taken_chunk_by_chunk_and_not_mixed() {
        let chunk = |start: i64| (0..120).map(|at| start + at * 15_000).collect::<Vec<_>>();
        let timelines: Vec<_> = [0, 3_000, 1_800_000, 1_803_000].map(chunk).to_vec();
        let mut fold = Fold::default();
        for _ in 0..2 {
            let picks = folded(&mut fold, &timelines);
            assert_eq!(picks, specified(&timelines));
            let switches = picks.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
            assert_eq!(switches, 1, "{picks:?}");
            assert!(fold.times().is_sorted());
        }
    }
}
