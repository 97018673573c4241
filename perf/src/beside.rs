//! How long queries take while the same process compacts, and when it does not: an all-in-one over a
//! bucket is asked the same questions in turn until its first run of compaction has ended, and
//! as often again afterwards. The blocks that it serves stay the same meanwhile.

use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::profile::Watched;
use crate::query::client::Client;
use crate::query::questions::{self, Question};
use crate::settings::Settings;
use crate::side::{CommandLine, Side, free_address, get, link_tree};
use crate::usage;

/// The metric that tells that a run of compaction has ended.
const ITERATIONS: &str = "thanos_compact_iterations_total ";

/// Time between two looks at that metric.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Who is asked, and when.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with the bucket: blocks with a section `thanos` in their meta.json that can be compacted. Its
    /// files are linked and stay as they are.
    #[arg(long)]
    bucket: std::path::PathBuf,
    /// Command line of uru; otherwise `all-in-one` of the program beside this one.
    #[arg(long)]
    uru_cmd: Option<String>,
    /// Only questions whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// Milliseconds between an answer and the next question.
    #[arg(long, default_value_t = 10)]
    pause: u64,
    #[command(flatten)]
    times: questions::Times,
}

/// Milliseconds that the answers to each question took.
struct Phase {
    took: Vec<Vec<f64>>,
    wall: Duration,
    cpu: Duration,
}

/// Runs the comparison.
pub fn run(args: &Args, settings: &Settings) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot wait for sockets: {error}"))?;
    let bucket = args.bucket.canonicalize().map_err(|error| format!("{}: {error}", args.bucket.display()))?;
    let mut questions = questions::all(&args.times);
    questions.retain(|question| question.name.contains(&args.only));
    if questions.is_empty() {
        return Err(format!("there is no question whose name contains {:?}", args.only));
    }
    let scratch = Side::scratch()?;
    let copy = scratch.path().join("bucket");
    link_tree(&bucket, &copy)?;
    let mut command = CommandLine::uru(args.uru_cmd.as_deref(), &["all-in-one"])?;
    command.flag("objstore.config", &format!("{{type: FILESYSTEM, config: {{directory: '{}'}}}}", copy.display()));
    command.flag("data-dir", &scratch.path().join("data").display().to_string());
    command.flag("grpc-address", &free_address()?);
    let http = command.flag("http-address", &free_address()?);
    let mut side = Side::start("uru", &command, scratch)?;
    side.wait_ready(&http, "/-/ready")?;
    settings.ask_revision(&http);
    let mut asking = Asking { client: runtime.block_on(Client::connect(&http))?, runtime, questions, side, http };
    let phases = ["it compacts", "it does not"];
    let watch = |pid: u32, phase: &str| {
        settings.profile.as_ref().map(|profile| profile.watch(&format!("beside, while {phase}"), pid)).transpose()
    };
    let watched = watch(asking.side.pid(), phases[0])?;
    let during = asking.ask(args.pause, None)?;
    watched.map_or(Ok(()), Watched::draw)?;
    let asks = during.took.iter().map(Vec::len).sum();
    if asks == 0 {
        return Err("compaction had ended before the first question: take a larger bucket".into());
    }
    let watched = watch(asking.side.pid(), phases[1])?;
    let after = asking.ask(args.pause, Some(asks))?;
    watched.map_or(Ok(()), Watched::draw)?;
    let phases = [(phases[0], &during), (phases[1], &after)];
    settings.tell("beside", &lines(&asking.questions, phases), &table(&asking.questions, phases))
}

/// A process and what it is asked.
struct Asking {
    client: Client,
    runtime: Runtime,
    questions: Vec<Question>,
    side: Side,
    http: String,
}

impl Asking {
    /// Asks `asks` questions, or until the first run of compaction has ended. Each question was asked once
    /// before: the first answer opens blocks, which has nothing to do with what else the process does.
    fn ask(&mut self, pause: u64, asks: Option<usize>) -> Result<Phase, String> {
        for question in &self.questions {
            self.runtime.block_on(self.client.ask(question))?;
        }
        let mut took = vec![Vec::new(); self.questions.len()];
        let (begin, before) = (Instant::now(), usage::of(self.side.pid())?);
        let mut looked = begin;
        for at in 0..asks.unwrap_or(usize::MAX) {
            if asks.is_none() && looked.elapsed() >= LOOK_INTERVAL {
                looked = Instant::now();
                if self.has_compacted() {
                    break;
                }
            }
            let at = at % self.questions.len();
            let asked = Instant::now();
            self.runtime.block_on(self.client.ask(&self.questions[at]))?;
            took[at].push(asked.elapsed().as_secs_f64() * 1e3);
            std::thread::sleep(Duration::from_millis(pause));
        }
        let cpu = usage::of(self.side.pid())?.cpu.saturating_sub(before.cpu);
        Ok(Phase { took, wall: begin.elapsed(), cpu })
    }

    fn has_compacted(&self) -> bool {
        let metrics = get(&self.http, "/metrics").map(|(_, text)| text).unwrap_or_default();
        metrics.lines().any(|line| line.strip_prefix(ITERATIONS).is_some_and(|count| count.trim() != "0"))
    }
}

/// What the answers of one phase took, of each question and of all.
fn took<'a>(questions: &'a [Question], phase: &'a Phase) -> impl Iterator<Item = (&'a str, Vec<f64>)> {
    let each = questions.iter().zip(&phase.took).map(|(question, took)| (question.name, took.clone()));
    each.chain([("all", phase.took.concat())])
}

/// Median, the 90th and 99th percentile, and the most; `None` of a question that was never asked.
fn percentiles(mut took: Vec<f64>) -> Option<[f64; 4]> {
    took.sort_unstable_by(f64::total_cmp);
    let last = took.len().checked_sub(1)?;
    Some([0.5, 0.9, 0.99, 1.0].map(|part| took[((took.len() as f64 * part) as usize).min(last)]))
}

fn lines(questions: &[Question], phases: [(&str, &Phase); 2]) -> Vec<Value> {
    let line = |name: &str, question: &str, took: Vec<f64>| {
        let asks = took.len();
        let wall_ms =
            percentiles(took).map(|[p50, p90, p99, max]| json!({"p50": p50, "p90": p90, "p99": p99, "max": max}));
        json!({"question": question, "while": name, "asks": asks, "wall_ms": wall_ms})
    };
    let of = |(name, phase): (&str, &Phase)| -> Vec<Value> {
        took(questions, phase).map(|(question, took)| line(name, question, took)).collect()
    };
    phases.into_iter().flat_map(of).collect()
}

/// Percentiles of each question, and of all.
fn table(questions: &[Question], phases: [(&str, &Phase); 2]) -> String {
    let mut text = format!(
        "{:<20} {:<12} {:>6} {:>9} {:>9} {:>9} {:>9}\n",
        "question", "while", "asks", "p50 ms", "p90 ms", "p99 ms", "max ms"
    );
    let [(during_name, during), (after_name, after)] = phases;
    for ((question, during), (_, after)) in took(questions, during).zip(took(questions, after)) {
        for (name, took) in [(during_name, during), (after_name, after)] {
            let asks = took.len();
            let known = percentiles(took).map(|figures| figures.map(|ms| format!("{ms:.2}")));
            let [p50, p90, p99, max] = known.unwrap_or_else(|| std::array::from_fn(|_| "-".to_owned()));
            // Writing to a string does not fail.
            let _ = writeln!(text, "{question:<20} {name:<12} {asks:>6} {p50:>9} {p90:>9} {p99:>9} {max:>9}");
        }
    }
    for (name, phase) in phases {
        let (wall, cpu) = (phase.wall.as_secs_f64(), phase.cpu.as_secs_f64());
        let _ = writeln!(text, "while {name}: {wall:.2} s, {cpu:.2} s CPU");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_stand_beside_each_other() {
        let questions = questions::all(&questions::Times { start: 0, end: 7200, step: 60 });
        let phase = |scale: f64| Phase {
            took: questions.iter().map(|_| (1..=100).map(|at| f64::from(at) * scale).collect()).collect(),
            wall: Duration::from_secs(2),
            cpu: Duration::from_secs(1),
        };
        let (during, after) = (phase(2.0), phase(1.0));
        let phases = [("it compacts", &during), ("it does not", &after)];
        let text = table(&questions, phases);
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["instant_sum_rate", "it", "compacts", "100", "102.00", "182.00", "200.00", "200.00"]);
        assert!(text.ends_with("while it does not: 2.00 s, 1.00 s CPU\n"), "{text}");
        assert_eq!(lines(&questions, phases)[14]["wall_ms"]["p50"], 102.0);
    }

    #[test]
    fn a_question_that_was_never_asked_has_no_figures() {
        let questions = questions::all(&questions::Times { start: 0, end: 7200, step: 60 });
        let mut took = vec![Vec::new(); questions.len()];
        took[0].push(3.0);
        let phase = Phase { took, wall: Duration::from_secs(1), cpu: Duration::from_secs(1) };
        let phases = [("it compacts", &phase), ("it does not", &phase)];
        let text = table(&questions, phases);
        let line = text.lines().find(|line| line.starts_with("range_topk")).unwrap();
        assert!(line.ends_with("     0         -         -         -         -"), "{line}");
        let lines = lines(&questions, phases);
        assert_eq!((&lines[0]["wall_ms"]["p50"], &lines[1]["wall_ms"]), (&json!(3.0), &Value::Null));
    }
}
