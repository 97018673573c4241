//! Receivers started again over what they have taken, every series some times: after they were killed, so
//! that they replay their logs, and after they were told to end, when uru leaves a snapshot of its heads.

use std::time::Duration;

use serde_json::{Value, json};

use super::receivers::{self, End};
use super::send::send;
use super::{Args, Kind};
use crate::compare::{self, Row, Runs, Spread};
use crate::profile::Profile;

/// The figures of all starts.
pub struct Starts {
    rows: Vec<Row>,
    samples: u64,
    series: u64,
}

impl Starts {
    /// Feeds receivers of their own with a warm-up and rounds of known series, and starts each again so
    /// often after each kind of end. With a profile uru's first start after each is drawn.
    pub fn time(args: &Args, profile: Option<&Profile>, start: i64) -> Result<Self, String> {
        let mut all = receivers::start(args)?;
        for round in 0..=args.rounds {
            let bodies = Kind::Steady.requests(args, start, (round, 0));
            for receiver in &all {
                send(receiver.target(), args.connections, &bodies)?;
            }
        }
        let (series, samples) = (args.series as u64, (args.series * (args.rounds + 1)) as u64);
        let (all, mut rows) = (all.as_mut_slice(), Vec::new());
        for end in [End::Killed, End::Told] {
            // One drawing is enough.
            let mut profile = profile;
            let runs = compare::interleave(all, args.starts, |receiver| {
                let watching = if receiver.name == "uru" { profile.take() } else { None };
                let scene = format!("receive {}", question(end));
                let wall = receiver.start_again(end, watching.map(|profile| (profile, scene.as_str())))?;
                let usage = receiver.usage()?;
                if receiver.name == "uru" && receiver.series()? != series {
                    return Err(format!("uru has {} series after its start, {series} were sent", receiver.series()?));
                }
                Ok((wall, usage.cpu, usage.peak_bytes))
            })?;
            let sides = all.iter().map(|receiver| receiver.name.to_owned()).zip(runs).collect();
            let answer = format!("{samples} samples of {series} series");
            rows.push(Row { question: question(end).to_owned(), answer, sides });
        }
        Ok(Self { rows, samples, series })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = compare::table(&self.rows);
        for (row, (name, runs)) in self.sides() {
            let (rate, by_core) = self.rates(runs);
            text.push_str(&format!(
                "{name:<16} {:<18} {rate:>10.0} samples/s  {by_core:>10.0} samples/CPU s  {:.2} s for {} series\n",
                row.question,
                runs.wall_ms().median / 1e3,
                self.series,
            ));
        }
        text
    }

    /// For programs.
    pub fn lines(&self) -> Vec<Value> {
        let mut lines = compare::lines(&self.rows);
        for (line, (_, (_, runs))) in lines.iter_mut().zip(self.sides()) {
            let (rate, by_core) = self.rates(runs);
            line["series"] = json!(self.series);
            line["samples_per_second"] = json!({"median": rate});
            line["samples_per_cpu_second"] = json!({"median": by_core});
        }
        lines
    }

    fn sides(&self) -> impl Iterator<Item = (&Row, &(String, Runs))> {
        self.rows.iter().flat_map(|row| row.sides.iter().map(move |side| (row, side)))
    }

    /// Samples for each second of the clock and for each of a processor, medians.
    fn rates(&self, runs: &Runs) -> (f64, f64) {
        let rate = |times: &[Duration]| {
            Spread::of(times.iter().map(|time| self.samples as f64 / time.as_secs_f64().max(1e-3))).median
        };
        (rate(&runs.wall), rate(&runs.cpu))
    }
}

fn question(end: End) -> &'static str {
    match end {
        End::Killed => "start after a kill",
        End::Told => "start after an end",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_all_samples() {
        let mut runs = Runs::default();
        runs.push(Duration::from_secs(2), Duration::from_secs(4), 1 << 20);
        let rows =
            vec![Row { question: question(End::Killed).into(), answer: "x".into(), sides: vec![("uru".into(), runs)] }];
        let starts = Starts { rows, samples: 8_000_000, series: 10 };
        let lines = starts.lines();
        assert_eq!(lines[0]["samples_per_second"]["median"], 4e6);
        assert_eq!(lines[0]["samples_per_cpu_second"]["median"], 2e6);
        assert!(starts.text().contains("4000000 samples/s"), "{}", starts.text());
    }
}
