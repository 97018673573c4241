//! What was sent, what was acknowledged, and what may therefore be read.

use std::collections::{BTreeMap, BTreeSet};

use engine::head::WriteBatch;
use engine::model::Labels;
use tests::random::Random;

/// Series that are written.
const SERIES: u32 = 5;

/// Milliseconds between two samples of a series.
const STEP: i64 = 120_000;

/// Samples of each series that come together.
const STEPS: i64 = 10;

/// The name of a sample: the number of its series and its time.
pub type SampleKey = (u32, i64);

/// What a reader found: times and values by the number of the series.
pub type Found = BTreeMap<u32, Vec<(i64, f64)>>;

/// A sender, and what it knows.
#[derive(Debug, Default)]
pub struct Sender {
    now: i64,
    /// Samples that are to be sent, until they are acknowledged or refused for good.
    waiting: BTreeSet<SampleKey>,
    /// Samples that come late, by the time when they come.
    late: Vec<(i64, SampleKey)>,
    sent: BTreeSet<SampleKey>,
    acknowledged: BTreeSet<SampleKey>,
}

/// The value of a sample, which follows from its name.
fn value((series, time): SampleKey) -> f64 {
    (time / 1000 + i64::from(series)) as f64
}

/// The labels of a series, without external ones.
pub fn labels(series: u32) -> Labels {
    Labels::from_pairs([("__name__", "metric"), ("series", series.to_string().as_str())])
}

impl Sender {
    /// Time goes on: more samples are to be sent, some of them later than others.
    pub fn advance(&mut self, random: &mut Random) {
        for _ in 0..STEPS {
            self.now += STEP;
            for series in 0..SERIES {
                match random.below(20) {
                    0 => self.late.push((self.now + STEP * random.below(15) as i64, (series, self.now))),
                    1 => {}
                    _ => drop(self.waiting.insert((series, self.now))),
                }
            }
        }
        let now = self.now;
        self.waiting.extend(self.late.extract_if(.., |(due, _)| *due <= now).map(|(_, sample)| sample));
        // Senders give up after a time.
        self.waiting.retain(|(_, time)| now - time < 6 * STEPS * STEP);
    }

    /// Everything that waits, as one batch; and which samples these are, by the numbers of their series
    /// within it.
    pub fn batch(&mut self) -> (WriteBatch, Vec<(u32, Vec<i64>)>) {
        let (mut batch, mut samples) = (WriteBatch::new(), Vec::new());
        for series in 0..SERIES {
            let times: Vec<i64> =
                self.waiting.range((series, i64::MIN)..=(series, i64::MAX)).map(|key| key.1).collect();
            if times.is_empty() {
                continue;
            }
            batch.push_series(labels(series).iter());
            times.iter().for_each(|time| batch.push_sample(*time, value((series, *time))));
            samples.push((series, times));
        }
        self.sent.extend(&self.waiting);
        (batch, samples)
    }

    /// The batch of `samples` was acknowledged but for those that were `rejected`, told by the number of
    /// the series within the batch and the time.
    pub fn acknowledge(&mut self, samples: &[(u32, Vec<i64>)], rejected: &BTreeSet<(u32, i64)>) {
        for (at, (series, times)) in samples.iter().enumerate() {
            let taken = times.iter().filter(|time| !rejected.contains(&(at as u32, **time)));
            self.acknowledged.extend(taken.map(|time| (*series, *time)));
        }
        self.waiting.clear();
    }

    /// Holds what was read to what was written. Whether it is whole is said by whoever reads; `place` says
    /// where it was read.
    pub fn hold(&self, found: &Found, place: &str) {
        let mut read = BTreeSet::new();
        for (series, samples) in found {
            for (time, read_value) in samples {
                let key = (*series, *time);
                assert!(self.sent.contains(&key), "{place}: {key:?} was never sent");
                assert_eq!(value(key).to_bits(), read_value.to_bits(), "{place}: {key:?} has another value");
                assert!(read.insert(key), "{place}: {key:?} is there twice");
            }
            assert!(samples.is_sorted_by_key(|sample| sample.0), "{place}: series {series} is not sorted");
        }
        let lost: Vec<_> = self.acknowledged.difference(&read).take(5).collect();
        assert!(lost.is_empty(), "{place}: of {} acknowledged samples {lost:?} … are lost", self.acknowledged.len());
    }

    /// How many samples were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }
}
