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

/// Penalty in milliseconds before a distance between two samples is known.
const INITIAL_PENALTY_MS: i64 = 5000;

/// The timelines folded so far. Its room serves one fold after the other.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    times: Vec<i64>,
    picks: Vec<u32>,
    /// The latest time up to which any sample so far keeps the other side from being looked at.
    reaches: Vec<i64>,
    tail_times: Vec<i64>,
    tail_picks: Vec<u32>,
}

/// One of two sides that are merged.
struct Side<'a> {
    times: &'a [i64],
    at: usize,
    penalty: i64,
}

impl Side<'_> {
    fn seek(&mut self, after: i64) -> Option<i64> {
        let target = after.saturating_add(self.penalty);
        while let Some(time) = self.times.get(self.at) {
            if *time >= target {
                return Some(*time);
            }
            self.at += 1;
        }
        None
    }
}

impl Fold {
    /// Forgets all timelines.
    pub fn clear(&mut self) {
        self.times.clear();
        self.picks.clear();
        self.reaches.clear();
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
        let (mut tail_times, mut tail_picks) =
            (std::mem::take(&mut self.tail_times), std::mem::take(&mut self.tail_picks));
        tail_times.clear();
        tail_times.extend_from_slice(&self.times[stays..]);
        tail_picks.clear();
        tail_picks.extend_from_slice(&self.picks[stays..]);
        self.times.truncate(stays);
        self.picks.truncate(stays);
        self.reaches.truncate(stays);
        self.merge((&tail_times, &tail_picks), times, first_pick);
        (self.tail_times, self.tail_picks) = (tail_times, tail_picks);
    }

    /// Appends what the penalty leaves of the two sides, the left one continuing the samples so far.
    fn merge(&mut self, (left_times, left_picks): (&[i64], &[u32]), right_times: &[i64], first_pick: u32) {
        let mut last = self.times.last().copied();
        let mut left = Side { times: left_times, at: 0, penalty: 0 };
        let mut right = Side { times: right_times, at: 0, penalty: self.last_penalty() };
        loop {
            let after = last.map_or(i64::MIN, |last| last.saturating_add(1));
            let takes_left = match (left.seek(after), right.seek(after)) {
                (None, None) => return,
                (Some(left), right) => right.is_none_or(|right| left <= right),
                (None, Some(_)) => false,
            };
            let (own, other) = if takes_left { (&mut left, &mut right) } else { (&mut right, &mut left) };
            let time = own.times[own.at];
            let pick = if takes_left { left_picks[own.at] } else { first_pick + own.at as u32 };
            own.at += 1;
            own.penalty = 0;
            if other.at < other.times.len() {
                other.penalty = penalty(last, time);
            }
            self.push(time, pick);
            last = Some(time);
        }
    }

    fn push(&mut self, time: i64, pick: u32) {
        let reach = time.saturating_add(1).saturating_add(penalty(self.times.last().copied(), time));
        self.reaches.push(self.reaches.last().map_or(reach, |before| reach.max(*before)));
        self.times.push(time);
        self.picks.push(pick);
    }

    /// The penalty that the sample taken last has put on the other side.
    fn last_penalty(&self) -> i64 {
        match self.times[..] {
            [] => 0,
            [only] => penalty(None, only),
            [.., before, last] => penalty(Some(before), last),
        }
    }
}

/// The penalty of the side that was not followed when a sample at `time` comes after one at `last`.
fn penalty(last: Option<i64>, time: i64) -> i64 {
    last.map_or(INITIAL_PENALTY_MS, |last| time.saturating_sub(last).saturating_mul(2))
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn folding_chunk_by_chunk_gives_what_penalty_gives(timelines in timelines()) {
            prop_assert_eq!(folded(&mut Fold::default(), &timelines), specified(&timelines));
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
