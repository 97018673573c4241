//! Summaries: quantiles of what was observed in the last minutes, beside the sum and count of all.
//!
//! What is observed falls into buckets whose bounds grow by one percent, one set of them for each two
//! minutes. A quantile is that of the last five sets, so of eight to ten minutes, and half a percent off
//! at most.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::metrics::MetricLabels;

/// The quantiles that Go's client is asked for by Prometheus' engine.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// How much greater a bucket's upper bound is than its lower one.
const GROWTH: f64 = 1.01;

/// Sets of buckets that are kept.
const SETS: usize = 5;

/// How long a set is filled.
const SET_TIME: Duration = Duration::from_secs(2 * 60);

/// What counts as nothing, in the unit of what is observed.
const LEAST: f64 = 1e-9;

/// A summary for each value of one label, all there from the start; clones share them.
#[derive(Clone, Debug)]
pub struct Summaries {
    label: &'static str,
    each: Arc<[(&'static str, Mutex<Window>)]>,
}

/// What was observed.
#[derive(Debug)]
struct Window {
    /// How often a value fell into each bucket, by the power of `GROWTH` that is its upper bound; the
    /// newest set comes first.
    sets: [BTreeMap<i32, u64>; SETS],
    /// Since when the newest is filled.
    begin: Instant,
    sum: f64,
    count: u64,
}

impl Summaries {
    /// Nothing yet for each of `values` of `label`.
    pub fn new(label: &'static str, values: &[&'static str]) -> Self {
        let begin = Instant::now();
        let window = || Window { sets: Default::default(), begin, sum: 0.0, count: 0 };
        Self { label, each: values.iter().map(|value| (*value, Mutex::new(window()))).collect() }
    }

    /// `observed` came up for the label's `value`, now.
    pub fn observe(&self, value: &str, observed: f64) {
        self.observe_at(Instant::now(), value, observed);
    }

    fn observe_at(&self, now: Instant, value: &str, observed: f64) {
        let Some((_, window)) = self.each.iter().find(|(known, _)| *known == value) else { return };
        let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
        window.turn(now);
        *window.sets[0].entry((observed.max(LEAST).ln() / GROWTH.ln()).ceil() as i32).or_default() += 1;
        window.sum += observed;
        window.count += 1;
    }

    fn encode_at(&self, now: Instant, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (value, window) in self.each.iter() {
            let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
            window.turn(now);
            let labels: MetricLabels = vec![(self.label, (*value).to_owned())];
            for (quantile, observed) in QUANTILES.into_iter().zip(window.quantiles()) {
                let labels = [&labels[..], &[("quantile", quantile.to_string())]].concat();
                encoder.encode_family(&labels)?.encode_gauge(&observed)?;
            }
            // Its sum and count are written as those of a histogram are.
            encoder.encode_family(&labels)?.encode_histogram::<NoLabelSet>(window.sum, window.count, &[], None)?;
        }
        Ok(())
    }
}

impl Window {
    /// Drops the sets that are too old at `now`.
    fn turn(&mut self, now: Instant) {
        let turns = now.saturating_duration_since(self.begin).as_secs() / SET_TIME.as_secs();
        for _ in 0..turns.min(SETS as u64) {
            self.sets.rotate_right(1);
            self.sets[0].clear();
        }
        self.begin += SET_TIME * u32::try_from(turns).unwrap_or(u32::MAX);
    }

    /// The least value that the wanted share of values does not exceed, for each quantile; NaN where
    /// there is none.
    fn quantiles(&self) -> [f64; QUANTILES.len()] {
        let mut buckets = BTreeMap::new();
        for (power, count) in self.sets.iter().flatten() {
            *buckets.entry(*power).or_insert(0) += *count;
        }
        let all: u64 = buckets.values().sum();
        QUANTILES.map(|quantile| {
            let wanted = (quantile * all as f64).ceil() as u64;
            let mut seen = 0;
            let reached = buckets.iter().find(|(_, count)| {
                seen += **count;
                seen >= wanted
            });
            // The middle between the bucket's bounds, in proportion.
            reached.map_or(f64::NAN, |(power, _)| GROWTH.powi(*power) * 2.0 / (1.0 + GROWTH))
        })
    }
}

impl EncodeMetric for Summaries {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.encode_at(Instant::now(), encoder)
    }

    /// The library knows no summaries; what it calls unknown is published as one.
    fn metric_type(&self) -> MetricType {
        MetricType::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantiles(summaries: &Summaries, now: Instant) -> [f64; 3] {
        let mut window = summaries.each[0].1.lock().unwrap();
        window.turn(now);
        window.quantiles()
    }

    fn assert_near(found: [f64; 3], wanted: [f64; 3]) {
        for (found, wanted) in found.into_iter().zip(wanted) {
            assert!((found / wanted - 1.0).abs() < 0.0051, "{found} instead of {wanted}");
        }
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list() {
        let summaries = Summaries::new("slice", &["eval"]);
        let now = Instant::now();
        let mut state = 1u64;
        let mut all: Vec<f64> = (0..10_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                10f64.powf((state >> 33) as f64 / (1u64 << 31) as f64 * 9.0 - 6.0)
            })
            .collect();
        for value in &all {
            summaries.observe_at(now, "eval", *value);
        }
        all.sort_by(f64::total_cmp);
        assert_near(quantiles(&summaries, now), [all[4_999], all[8_999], all[9_899]]);
    }

    #[test]
    fn few_values_are_themselves_and_none_are_not_a_number() {
        let summaries = Summaries::new("slice", &["eval"]);
        let now = Instant::now();
        assert!(quantiles(&summaries, now).iter().all(|quantile| quantile.is_nan()));
        summaries.observe_at(now, "eval", 0.0015);
        summaries.observe_at(now, "eval", 0.06);
        assert_near(quantiles(&summaries, now), [0.0015, 0.06, 0.06]);
    }

    #[test]
    fn what_is_older_than_ten_minutes_counts_no_more() {
        let summaries = Summaries::new("slice", &["eval"]);
        let begin = Instant::now();
        let after = |minutes: u64| begin + Duration::from_secs(60 * minutes);
        summaries.observe_at(after(0), "eval", 9.0);
        summaries.observe_at(after(7), "eval", 1.0);
        assert_near(quantiles(&summaries, after(9)), [1.0, 9.0, 9.0]);
        assert_near(quantiles(&summaries, after(11)), [1.0; 3]);
        assert!(quantiles(&summaries, after(600))[0].is_nan());
        summaries.observe_at(after(601), "eval", 2.0);
        assert_near(quantiles(&summaries, after(601)), [2.0; 3]);
        let window = summaries.each[0].1.lock().unwrap();
        assert_eq!((window.sum, window.count), (12.0, 3));
    }
}
