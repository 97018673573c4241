//! Where the time of uru's requests goes, as its own metrics tell: seconds that passed in each stage, of
//! requests that are served side by side.

use serde_json::{Value, json};

/// Each stage, and how the line of its metric begins.
const STAGES: [(&str, &str); 8] = [
    ("receive", "uru_receive_stage_seconds_total{stage=\"receive\"} "),
    ("decompress", "uru_receive_stage_seconds_total{stage=\"decompress\"} "),
    ("parse, hash", "uru_receive_stage_seconds_total{stage=\"parse\"} "),
    ("route", "uru_receive_stage_seconds_total{stage=\"route\"} "),
    ("shards and log", "uru_receive_stage_seconds_total{stage=\"append\"} "),
    ("lookup on shards", "uru_receive_lookup_seconds_total "),
    ("lookup and append on shards", "uru_receive_append_seconds_total "),
    ("writing and syncing logs", "uru_receive_wal_seconds_total "),
];

/// Seconds in each stage so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stages([f64; STAGES.len()]);

impl Stages {
    /// As `metrics` tell; `None` where they know no stages.
    pub fn read(metrics: &str) -> Option<Self> {
        let value = |start: &str| metrics.lines().find_map(|line| line.strip_prefix(start)?.trim().parse().ok());
        value(STAGES[0].1)?;
        Some(Self(STAGES.map(|(_, start)| value(start).unwrap_or_default())))
    }

    /// What passed since `before`, in milliseconds for a million of `samples`.
    pub fn since(&self, before: &Self, samples: usize) -> Self {
        let mut passed = *self;
        passed
            .0
            .iter_mut()
            .zip(before.0)
            .for_each(|(now, before)| *now = (*now - before) * 1e9 / samples.max(1) as f64);
        passed
    }

    /// The stages in a line for people.
    pub fn text(&self) -> String {
        let stages = STAGES.iter().zip(self.0).map(|((name, _), ms)| format!("{name} {ms:.0}"));
        format!("  ms a million samples, requests side by side: {}\n", stages.collect::<Vec<_>>().join("; "))
    }

    /// The stages as JSON.
    pub fn json(&self) -> Value {
        STAGES.iter().zip(self.0).map(|((name, _), ms)| ((*name).to_owned(), json!(ms))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_what_passed_between_two_looks_at_the_metrics() {
        let metrics = |parse: f64, wal: f64| {
            format!(
                "# TYPE x counter\nuru_receive_stage_seconds_total{{stage=\"receive\"}} 1\n\
                 uru_receive_stage_seconds_total{{stage=\"parse\"}} {parse}\nuru_receive_wal_seconds_total {wal}\n"
            )
        };
        let [before, after] = [metrics(1.0, 0.5), metrics(3.0, 0.75)].map(|text| Stages::read(&text).unwrap());
        let passed = after.since(&before, 2_000_000);
        assert_eq!(passed.0, [0.0, 0.0, 1000.0, 0.0, 0.0, 0.0, 0.0, 125.0]);
        assert!(passed.text().contains("parse, hash 1000; route 0"), "{}", passed.text());
        assert_eq!(passed.json()["writing and syncing logs"], 125.0);
        assert_eq!(Stages::read("up 1\n"), None);
    }
}
