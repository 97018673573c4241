//! PromQL over HTTP: the fixed queries that speed is judged on, asked of uru and of a peer over the
//! same blocks. Answers are held against each other before anything is timed, and those that are timed against
//! the first of the same side.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::compare::{self, Row};
use crate::settings::{Settings, at_least_one};
use crate::usage;

use answer::First;
use questions::Question;
use sides::Asked;

/// What is answered.
mod answer;
/// A connection that questions go over.
pub mod client;
/// What is asked.
pub mod questions;
/// Who is asked.
mod sides;

/// Who is asked, and when.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with the blocks that uru and a peer's command line serve, as `perf blocks` writes them.
    #[arg(long)]
    blocks: Option<PathBuf>,
    /// A Thanos program: its `query` over its `store` over the same blocks is compared with.
    #[arg(long)]
    thanos: Option<PathBuf>,
    /// A Prometheus program to compare with; it gets a copy of the blocks.
    #[arg(long)]
    prometheus: Option<PathBuf>,
    /// A VictoriaMetrics program to compare with; vmctl, beside it or on the search path, imports the blocks.
    #[arg(long)]
    victoria_metrics: Option<PathBuf>,
    /// Where a peer answers Prometheus' HTTP API; it must hold the same blocks.
    #[arg(long)]
    peer_url: Option<String>,
    /// Process of the peer at that URL, whose CPU time and memory count.
    #[arg(long)]
    peer_pid: Option<u32>,
    /// Command line of a peer to start; `{address}` and `{blocks}` in it are replaced.
    #[arg(long)]
    peer_cmd: Option<String>,
    /// Where uru answers, when it runs already.
    #[arg(long)]
    uru_url: Option<String>,
    /// Process of uru at that URL.
    #[arg(long)]
    uru_pid: Option<u32>,
    /// Command line of uru; otherwise `all-in-one` of the program beside this one.
    #[arg(long)]
    uru_cmd: Option<String>,
    /// How often each side is asked each question.
    #[arg(long, default_value_t = 9, value_parser = at_least_one)]
    rounds: usize,
    /// Only questions whose names contain this; may repeat.
    #[arg(long)]
    only: Vec<String>,
    /// What becomes of answers that differ: some peers compute rates in ways of their own.
    #[arg(long, value_enum, default_value_t = Differing::Fails)]
    differing: Differing,
    #[command(flatten)]
    times: questions::Times,
}

/// What becomes of answers that differ.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Differing {
    /// The comparison ends.
    Fails,
    /// They are named beside the question.
    Noted,
}

/// Runs the comparison.
pub fn run(args: &Args, settings: &Settings) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot wait for sockets: {error}"))?;
    let questions = questions::all(&args.times).into_iter().collect();
    let questions = compare::chosen(questions, |question: &Question| question.name, &args.only)?;
    let mut sides = sides::start(&runtime, args)?;
    sides.iter().take(1).for_each(|uru| settings.ask_revision(uru.client.address()));
    eprintln!("every side is asked each question once before it is timed: pages are warm, and caches of programs");
    let mut rows = Vec::new();
    for question in questions {
        rows.push(measure(&runtime, &mut sides, &question, args)?);
        eprintln!("asked: {}", question.name);
        if let (Some(profile), Some(uru)) = (&settings.profile, sides.first_mut()) {
            let scene = format!("query {}", question.name);
            let pid = *uru.pids.first().ok_or("--profile needs the process of uru: give --uru-pid")?;
            profile.draw(&scene, pid, || runtime.block_on(uru.client.ask(&question)).map(drop))?;
        }
    }
    compare::check_answers(&rows)?;
    let table = compare::table(&rows) + &means(&rows);
    settings.tell("query", &compare::lines(&rows), &table)
}

/// Names of all questions.
#[cfg(test)]
pub fn question_names() -> Vec<&'static str> {
    questions::names().collect()
}

/// Asks every side once and holds their answers against each other, then asks in turn.
fn measure(runtime: &Runtime, sides: &mut [Asked], question: &Question, args: &Args) -> Result<Row, String> {
    for asked in sides.iter_mut() {
        let failed = |why: String| format!("{}: {}: {why}", question.name, asked.name);
        let bytes = runtime.block_on(asked.client.ask(question)).map_err(|why| format!("{}: {why}", asked.name))?;
        asked.first = First::parse(&bytes).map_err(failed)?;
        asked.pids.iter().try_for_each(|pid| usage::reset_peak(*pid))?;
    }
    let (uru, peers) = sides.split_first().ok_or("there is no side to ask")?;
    let difference = |peer: &Asked| Some((peer.name.clone(), uru.first.answer.difference(&peer.first.answer)?));
    let differing: Vec<(String, String)> = peers.iter().filter_map(difference).collect();
    if let (Some((name, how)), Differing::Fails) = (differing.first(), args.differing) {
        return Err(format!("{}: {name} answers otherwise: {how}", question.name));
    }
    let note: String = differing.iter().map(|(name, _)| format!(", {name} otherwise")).collect();
    let answer = format!("{}{note}", uru.first.describe());
    let runs = compare::interleave(sides, args.rounds, |asked| {
        let before = asked.usage()?;
        let begin = Instant::now();
        let bytes = runtime.block_on(asked.client.ask(question)).map_err(|why| format!("{}: {why}", asked.name))?;
        let wall = begin.elapsed();
        let after = asked.usage()?;
        let failed = |why: String| format!("{}: {}, not as at first: {why}", question.name, asked.name);
        asked.first.hold(&bytes).map_err(failed)?;
        Ok((wall, after.cpu.saturating_sub(before.cpu), after.peak_bytes))
    })?;
    let sides = sides.iter().map(|asked| asked.name.clone()).zip(runs).collect();
    Ok(Row { question: question.name.to_owned(), answer, sides })
}

/// Geometric means of how many times uru's figures those of each peer are, in the order of the sides.
fn means(rows: &[Row]) -> String {
    let sides = rows.first().map(|row| row.sides.as_slice()).unwrap_or_default();
    sides.iter().enumerate().skip(1).map(|(at, (name, _))| means_of(rows, (at, name))).collect()
}

/// The same of the peer `name`, which has the place `at` among the sides.
fn means_of(rows: &[Row], (at, name): (usize, &str)) -> String {
    let of = |figure: fn(&compare::Runs) -> f64| {
        let ratios = rows.iter().filter_map(|row| match (row.sides.first(), row.sides.get(at)) {
            (Some((_, uru)), Some((_, peer))) if figure(uru) > 0.0 && figure(peer) > 0.0 => {
                Some((figure(peer) / figure(uru)).ln())
            }
            _ => None,
        });
        let (sum, count) = ratios.fold((0.0, 0), |(sum, count), ratio| (sum + ratio, count + 1));
        if count > 0 { format!("{:.2}x", (sum / f64::from(count)).exp()) } else { "-".to_owned() }
    };
    let (least, median) = (of(|runs| runs.wall_ms().min), of(|runs| runs.wall_ms().median));
    let (cpu, memory) = (of(|runs| runs.cpu_ms().median), of(compare::Runs::peak_mib));
    format!("geometric means of {name}: {least} least time, {median} median time, {cpu} CPU, {memory} memory\n")
}

/// Longest time that one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_told_of_each_peer_by_name() {
        let runs = |ms: u64| {
            let mut runs = compare::Runs::default();
            runs.push(Duration::from_millis(ms), Duration::from_millis(ms), ms << 20);
            runs
        };
        let row = |times: [u64; 3]| {
            let sides = ["uru", "thanos", "prometheus"].into_iter().zip(times);
            let sides = sides.map(|(name, ms)| (name.to_owned(), runs(ms))).collect();
            Row { question: "q".into(), answer: "1 series".into(), sides }
        };
        let text = means(&[row([1, 2, 3]), row([1, 8, 3])]);
        assert_eq!(
            text,
            "geometric means of thanos: 4.00x least time, 4.00x median time, 4.00x CPU, 4.00x memory\n\
             geometric means of prometheus: 3.00x least time, 3.00x median time, 3.00x CPU, 3.00x memory\n"
        );
        assert_eq!(means(&[]), "");
    }
}
