//! PromQL over HTTP: the fixed queries that speed is judged on, asked of uru and of a peer over the
//! same blocks. Answers are held against each other before anything is timed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::compare::{self, Row};
use crate::side::{CommandLine, Side, free_address};
use crate::usage;

use answer::Answer;
use client::Client;
use questions::Question;

/// What is answered.
mod answer;
/// A connection that questions go over.
mod client;
/// What is asked.
mod questions;

/// Who is asked, and when.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with the blocks that uru and a peer's command line serve, as `perf blocks` writes them.
    #[arg(long)]
    blocks: Option<PathBuf>,
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
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Only questions whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
    /// What becomes of answers that differ: some peers compute rates in ways of their own.
    #[arg(long, value_enum, default_value_t = Differing::Fails)]
    differing: Differing,
    /// Start of the blocks, Unix seconds.
    #[arg(long, default_value_t = 1_789_984_800)]
    start: i64,
    /// End of the blocks, Unix seconds.
    #[arg(long, default_value_t = 1_789_992_000)]
    end: i64,
    /// Seconds between steps.
    #[arg(long, default_value_t = 60)]
    step: i64,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    json: bool,
}

/// What becomes of answers that differ.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Differing {
    /// The comparison ends.
    Fails,
    /// They are named beside the question.
    Noted,
}

/// A side: where it answers, and whose time and memory count.
struct Asked {
    name: String,
    client: Client,
    pid: Option<u32>,
    /// Started here: ends with the comparison.
    _side: Option<Side>,
}

/// Runs the comparison.
pub fn run(args: &Args) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot wait for sockets: {error}"))?;
    let mut sides = vec![uru(&runtime, args)?];
    sides.extend(peer(&runtime, args)?);
    let mut rows = Vec::new();
    for question in questions::all(args.start, args.end, args.step) {
        if question.name.contains(&args.only) {
            rows.push(measure(&runtime, &mut sides, &question, args)?);
            eprintln!("asked: {}", question.name);
        }
    }
    if args.json {
        print!("{}", compare::json_lines(&rows));
        return Ok(());
    }
    print!("{}{}", compare::table(&rows), means(&rows));
    Ok(())
}

fn uru(runtime: &Runtime, args: &Args) -> Result<Asked, String> {
    if let Some(url) = &args.uru_url {
        return connect(runtime, "uru", url, args.uru_pid);
    }
    let blocks = args.blocks.as_ref().ok_or("give --blocks, or --uru-url where uru runs already")?;
    let blocks = blocks.canonicalize().map_err(|error| format!("{}: {error}", blocks.display()))?;
    let scratch = Side::scratch()?;
    let line = args.uru_cmd.as_deref().map(CommandLine::parse).transpose()?;
    let mut command = line.unwrap_or_else(|| CommandLine::uru(&["all-in-one"]));
    let config = format!("{{type: FILESYSTEM, config: {{directory: {}}}}}", blocks.display());
    command.flag("objstore.config", &config);
    command.flag("data-dir", &scratch.path().join("data").display().to_string());
    command.flag("grpc-address", &free_address()?);
    let http = command.flag("http-address", &free_address()?);
    let mut side = Side::start("uru", &command, scratch)?;
    side.wait_ready(&http, "/-/ready")?;
    let (client, pid) = (runtime.block_on(Client::connect(&http))?, Some(side.pid()));
    Ok(Asked { name: "uru".into(), client, pid, _side: Some(side) })
}

/// The peer, when one is named.
fn peer(runtime: &Runtime, args: &Args) -> Result<Option<Asked>, String> {
    if let Some(url) = &args.peer_url {
        return connect(runtime, "peer", url, args.peer_pid).map(Some);
    }
    let Some(line) = &args.peer_cmd else { return Ok(None) };
    let address = free_address()?;
    let blocks = args.blocks.as_deref().unwrap_or(Path::new("")).display().to_string();
    let line = line.replace("{address}", &address).replace("{blocks}", &blocks);
    let mut side = Side::start("peer", &CommandLine::parse(&line)?, Side::scratch()?)?;
    side.wait_ready(&address, "/api/v1/query?query=1")?;
    let (client, pid) = (runtime.block_on(Client::connect(&address))?, Some(side.pid()));
    Ok(Some(Asked { name: "peer".into(), client, pid, _side: Some(side) }))
}

fn connect(runtime: &Runtime, name: &str, url: &str, pid: Option<u32>) -> Result<Asked, String> {
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    Ok(Asked { name: name.to_owned(), client: runtime.block_on(Client::connect(address))?, pid, _side: None })
}

/// Asks every side once and holds their answers against each other, then asks in turn.
fn measure(runtime: &Runtime, sides: &mut [Asked], question: &Question, args: &Args) -> Result<Row, String> {
    let mut expected: Option<(Answer, usize)> = None;
    let mut difference = None;
    for asked in sides.iter_mut() {
        let bytes = runtime.block_on(asked.client.ask(question))?;
        let answer = Answer::parse(&bytes).map_err(|why| format!("{}: {}: {why}", question.name, asked.name))?;
        match &expected {
            None => expected = Some((answer, bytes.len())),
            Some((first, _)) => difference = first.difference(&answer),
        }
        if let Some(pid) = asked.pid {
            usage::reset_peak(pid)?;
        }
    }
    if let (Some(difference), Differing::Fails) = (&difference, args.differing) {
        return Err(format!("{}: the peer answers otherwise: {difference}", question.name));
    }
    let runs = compare::interleave(sides, args.rounds, |asked| {
        let usage = |asked: &Asked| asked.pid.map(usage::of).transpose().map(Option::unwrap_or_default);
        let before = usage(asked)?;
        let begin = Instant::now();
        runtime.block_on(asked.client.ask(question))?;
        let wall = begin.elapsed();
        let after = usage(asked)?;
        Ok((wall, after.cpu.saturating_sub(before.cpu), after.peak_bytes))
    })?;
    let (answer, len) = expected.ok_or("there is no side to ask")?;
    let note = if difference.is_some() { ", the peer otherwise" } else { "" };
    let answer = format!("{} series, {} samples, {len} B{note}", answer.series(), answer.samples());
    let sides = sides.iter().map(|asked| asked.name.clone()).zip(runs).collect();
    Ok(Row { question: question.name.to_owned(), answer, sides })
}

/// Geometric means of how many times uru's figures the peer's are.
fn means(rows: &[Row]) -> String {
    let of = |figure: fn(&compare::Runs) -> f64| {
        let ratios = rows.iter().filter_map(|row| match row.sides.as_slice() {
            [(_, uru), (_, peer)] if figure(uru) > 0.0 && figure(peer) > 0.0 => Some((figure(peer) / figure(uru)).ln()),
            _ => None,
        });
        let (sum, count) = ratios.fold((0.0, 0), |(sum, count), ratio| (sum + ratio, count + 1));
        if count > 0 { format!("{:.2}x", (sum / f64::from(count)).exp()) } else { "-".to_owned() }
    };
    let (least, median) = (of(|runs| runs.wall_ms().min), of(|runs| runs.wall_ms().median));
    let (cpu, memory) = (of(|runs| runs.cpu_ms().median), of(compare::Runs::peak_mib));
    format!("geometric means: {least} least time, {median} median time, {cpu} CPU, {memory} memory\n")
}

/// Longest time that one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);
