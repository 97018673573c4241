//! Store gateways over the same bucket, asked the same questions over gRPC: uru, a peer when one is
//! named, and a plain copy of the answers' bytes through the same stack.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::compare::{self, Row, Runs};
use crate::grpc::Client;
use crate::profile::Watched;
use crate::settings::{Settings, at_least_one};
use crate::side::{CommandLine, Side, free_address, get};

use answer::Answer;
use questions::Question;

/// What answers hold.
mod answer;
/// A server of bytes that are there already.
pub mod copy;
/// What is asked.
mod questions;

/// Time that questions are warmed up for at most, before they are timed.
const WARM_UP: Duration = Duration::from_millis(500);

/// Who is asked what.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with the bucket: blocks with a section `thanos` in their meta.json, as
    /// `perf blocks --label cluster=c1` writes them.
    #[arg(long)]
    bucket: PathBuf,
    /// A Thanos program, whose `store` is compared with.
    #[arg(long)]
    thanos: Option<PathBuf>,
    /// Command line of another peer, for example "thanos store --debug.name=x". Flags for its bucket, its folder and its
    /// addresses are added unless it says them.
    #[arg(long)]
    peer_cmd: Option<String>,
    /// Command line of uru; otherwise the program beside this one.
    #[arg(long)]
    uru_cmd: Option<String>,
    /// How often each side is asked each question.
    #[arg(long, default_value_t = 15, value_parser = at_least_one)]
    rounds: usize,
    /// Only questions whose names contain this; may repeat.
    #[arg(long)]
    only: Vec<String>,
    /// Start of what is asked for, Unix milliseconds.
    #[arg(long, default_value_t = 1_789_984_800_000)]
    start: u64,
    /// End of what is asked for, Unix milliseconds.
    #[arg(long, default_value_t = 1_789_992_000_000)]
    end: u64,
    /// Coarsest resolution that is asked for, in milliseconds; with one all aggregates are.
    #[arg(long, default_value_t = 0)]
    resolution: u64,
    /// How often each side is ended and started again over its own folder before it is asked; each start
    /// is timed, and told when there are several.
    #[arg(long, default_value_t = 0)]
    restarts: usize,
}

/// A side, the connection to it, and what it took to be ready.
struct Asked {
    side: Side,
    client: Client,
    first_start: Runs,
    restarts: Runs,
}

/// Runs the comparison.
pub fn run(args: &Args, settings: &Settings) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot wait for sockets: {error}"))?;
    let bucket = args.bucket.canonicalize().map_err(|error| format!("{}: {error}", args.bucket.display()))?;
    let questions = questions::all((args.start, args.end), args.resolution);
    let questions = compare::chosen(questions, |question| &question.name, &args.only)?;
    let mut commands = vec![("uru", CommandLine::uru(args.uru_cmd.as_deref(), &["store"])?)];
    commands.extend(args.thanos.iter().map(|program| ("thanos", CommandLine::of(program, &["store"]))));
    if let Some(peer) = &args.peer_cmd {
        commands.push(("peer", CommandLine::parse(peer)?));
    }
    let mut sides = Vec::new();
    for (name, command) in commands {
        sides.push(start_store(&runtime, (name, settings), command, (&bucket, args.restarts))?);
    }
    let mut starts = starts(&sides, blocks(&bucket)?);
    sides.push(start_copy(&runtime)?);
    eprintln!("every side is asked each question for {WARM_UP:?} before it is timed: pages and caches are warm");
    let mut rows = Vec::new();
    for question in &questions {
        rows.push(measure(&runtime, &mut sides, question, args.rounds)?);
        eprintln!("asked: {}", question.name);
        if let (Some(profile), Some(uru)) = (&settings.profile, sides.first_mut()) {
            let (scene, pid) = (format!("store {}", question.name), uru.side.pid());
            profile.draw(&scene, pid, || runtime.block_on(uru.ask(question, |_| {})))?;
        }
    }
    compare::check_answers(&rows)?;
    starts.extend(rows);
    settings.tell("store", &compare::lines(&starts), &compare::table(&starts))
}

/// What it took each side to be ready, where sides were started several times.
fn starts(sides: &[Asked], blocks: usize) -> Vec<Row> {
    let sides: Vec<(&str, &Runs, &Runs)> =
        sides.iter().map(|asked| (&*asked.side.name, &asked.first_start, &asked.restarts)).collect();
    start_rows(&sides, blocks)
}

/// The rows of sides, each with its name, its first start and those after it.
fn start_rows(sides: &[(&str, &Runs, &Runs)], blocks: usize) -> Vec<Row> {
    // The copy of bytes is started once and has nothing to get ready.
    let started: Vec<_> = sides.iter().filter(|(.., restarts)| !restarts.wall.is_empty()).collect();
    if started.is_empty() {
        return Vec::new();
    }
    let row = |question: &str, runs: fn(&(&str, &Runs, &Runs)) -> Runs| {
        let sides = started.iter().map(|side| (side.0.to_owned(), runs(side))).collect();
        Row { question: question.to_owned(), answer: format!("{blocks} blocks"), sides }
    };
    vec![row("first start", |side| side.1.clone()), row("restart", |side| side.2.clone())]
}

/// Number of the blocks in a bucket.
fn blocks(bucket: &Path) -> Result<usize, String> {
    let entries = std::fs::read_dir(bucket).map_err(|error| format!("{}: {error}", bucket.display()))?;
    Ok(entries.flatten().filter(|entry| entry.path().join("meta.json").is_file()).count())
}

/// Names of all questions.
#[cfg(test)]
pub fn question_names() -> Vec<String> {
    questions::all((0, 1), 0).into_iter().map(|question| question.name).collect()
}

/// Starts a store gateway over `bucket` and waits until it answers; then so many times again. Each start
/// of uru's is drawn when there is a profile to draw into.
fn start_store(
    runtime: &Runtime,
    (name, settings): (&str, &Settings),
    mut command: CommandLine,
    (bucket, restarts): (&Path, usize),
) -> Result<Asked, String> {
    let profile = settings.profile.as_ref().filter(|_| name == "uru");
    let (mut first_start, mut again) = (Runs::default(), Runs::default());
    let scratch = Side::scratch()?;
    if !command.has_flag(&["objstore.config", "objstore.config-file"]) {
        let config = format!("{{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
        command.flag("objstore.config", &config);
    }
    command.flag("data-dir", &scratch.path().join("data").display().to_string());
    let http = command.flag("http-address", &free_address()?);
    let grpc = command.flag("grpc-address", &free_address()?);
    let (mut side, mut watched) =
        Side::start_drawn(name, &command, scratch, profile.map(|profile| (profile, "store first start")))?;
    for number in 0..=restarts {
        let start = if number > 0 { format!("restart {number}") } else { "first start".to_owned() };
        if number > 0 {
            let scene = format!("store {start}");
            watched = side.restart(&command, profile.map(|profile| (profile, scene.as_str())))?;
        }
        let took = side.wait_ready(&http, "/-/ready")?;
        while get(&http, "/metrics").is_some_and(|(_, text)| is_building(&text)) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let usage = side.usage()?;
        watched.take().map_or(Ok(()), Watched::draw)?;
        let runs = if number > 0 { &mut again } else { &mut first_start };
        runs.push(took, usage.cpu, usage.peak_bytes);
        eprintln!(
            "{name}: {start} ready after {:.2} s, {:.2} s of CPU, peak {} MiB",
            took.as_secs_f64(),
            usage.cpu.as_secs_f64(),
            usage.peak_bytes >> 20
        );
    }
    if name == "uru" {
        settings.ask_revision(&http);
    }
    Ok(Asked { side, client: connect(runtime, &grpc)?, first_start, restarts: again })
}

/// Whether uru still builds column indexes in the background, as its metrics tell.
fn is_building(metrics: &str) -> bool {
    let pending = metrics.lines().find_map(|line| line.strip_prefix("thanos_bucket_store_column_indexes_pending "));
    pending.is_some_and(|pending| pending.trim() != "0")
}

fn start_copy(runtime: &Runtime) -> Result<Asked, String> {
    let scratch: TempDir = Side::scratch()?;
    let own = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    let mut command = CommandLine::parse(&format!("'{}' copy", own.display()))?;
    command.flag("answers", &scratch.path().display().to_string());
    let address = command.flag("address", &free_address()?);
    let side = Side::start("copy", &command, scratch)?;
    let client = connect(runtime, &address)?;
    Ok(Asked { side, client, first_start: Runs::default(), restarts: Runs::default() })
}

/// Connects as soon as the other end listens.
fn connect(runtime: &Runtime, address: &str) -> Result<Client, String> {
    let begin = Instant::now();
    loop {
        match runtime.block_on(Client::connect(address)) {
            Err(_) if begin.elapsed() < Duration::from_secs(10) => std::thread::sleep(Duration::from_millis(5)),
            outcome => return outcome,
        }
    }
}

/// Asks every side once and holds their answers against each other, then asks in turn.
fn measure(runtime: &Runtime, sides: &mut [Asked], question: &Question, rounds: usize) -> Result<Row, String> {
    let mut expected: Option<(Answer, Vec<u8>)> = None;
    let copy = sides.len() - 1;
    for (at, asked) in sides.iter_mut().enumerate() {
        if let (true, Some((_, bytes))) = (at == copy, &expected) {
            let path = asked.side.folder().join(file_name(question));
            std::fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let mut bytes = Vec::new();
        runtime.block_on(asked.ask(question, |piece| bytes.extend_from_slice(piece)))?;
        let answer = Answer::read(question.call, &bytes);
        match &expected {
            None => expected = Some((answer, bytes)),
            Some((first, _)) if *first != answer => {
                return Err(format!("{}: {} answers {answer:?}, uru {first:?}", question.name, asked.side.name));
            }
            Some(_) => {}
        }
        let begin = Instant::now();
        while begin.elapsed() < WARM_UP {
            runtime.block_on(asked.ask(question, |_| {}))?;
        }
        asked.side.reset_peak()?;
    }
    let (answer, bytes) = expected.ok_or("there is no side to ask")?;
    let runs = compare::interleave(sides, rounds, |asked| {
        let before = asked.side.usage()?;
        let (begin, mut received) = (Instant::now(), 0);
        runtime.block_on(asked.ask(question, |piece| received += piece.len()))?;
        let wall = begin.elapsed();
        let after = asked.side.usage()?;
        if asked.side.name == "uru" && received != bytes.len() {
            return Err(format!("{}: an answer of {received} bytes after one of {}", question.name, bytes.len()));
        }
        Ok((wall, after.cpu.saturating_sub(before.cpu), after.peak_bytes))
    })?;
    let sides = sides.iter().map(|asked| asked.side.name.clone()).zip(runs).collect();
    Ok(Row { question: question.name.clone(), answer: answer.describe(bytes.len()), sides })
}

impl Asked {
    async fn ask(&mut self, question: &Question, each: impl FnMut(&[u8])) -> Result<(), String> {
        let headers = [(copy::ANSWER_HEADER, file_name(question))];
        self.client.call(question.call.path(), &headers, &question.request, each).await
    }
}

/// The file in which a question's answer lies for the copy.
fn file_name(question: &Question) -> String {
    question.name.replace([' ', ','], "-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn starts_are_told_of_each_side_that_was_started_again() {
        let runs = |seconds: &[u64]| {
            let mut runs = Runs::default();
            seconds.iter().for_each(|wall| runs.push(Duration::from_secs(*wall), Duration::from_secs(1), 1 << 20));
            runs
        };
        let (first, again, none) = (runs(&[9]), runs(&[2, 1, 3]), Runs::default());
        let rows = start_rows(&[("uru", &first, &again), ("thanos", &first, &again), ("copy", &none, &none)], 12);
        let lines = compare::lines(&rows);
        assert_eq!(lines.len(), 4);
        assert_eq!((&lines[0]["question"], &lines[0]["wall_ms"]["min"]), (&json!("first start"), &json!(9000.0)));
        assert_eq!((&lines[3]["question"], &lines[3]["side"]), (&json!("restart"), &json!("thanos")));
        assert_eq!((&lines[3]["answer"], &lines[3]["runs"]), (&json!("12 blocks"), &json!(3)));
        assert_eq!(lines[3]["wall_ms"]["median"], 2000.0);
        assert_eq!(start_rows(&[("uru", &first, &none)], 12).len(), 0);
    }

    #[test]
    fn blocks_are_folders_with_a_meta() {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::write(folder.path().join("b/meta.json"), "{}").unwrap();
        assert_eq!(blocks(folder.path()), Ok(1));
    }
}
