//! Instructions that stages of queries and writes take, counted by valgrind: the same on a busy machine as on an
//! idle one, so that a regression shows in a number and not in a feeling.
//!
//! ```text
//! instructions check    counts every stage and compares with bench/instructions.tsv
//! instructions record   counts every stage and writes bench/instructions.tsv
//! instructions run <stage>   what valgrind runs: only the stage's own function is counted
//! ```
//! Valgrind knows no AVX-512: what is counted is the code of machines with AVX2.

use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use bench::fleet;
use bench::scrapes::{self, Timing};
use bench::writes::{self, BATCH_SERIES, batches};
use engine::batch::{SampleBatch, StepBatch, StepGrid};
use engine::block::SeriesBatch;
use engine::chunk::xor::{self, Batch};
use engine::dedup::penalty::{self, Adjust, Replica};
use engine::head::{Head, WriteBatch};
use engine::model::{FloatColumns, Labels};
use engine::promql::json::push_value;
use engine::promql::source::MemorySource;
use engine::promql::value::QueryValue;
use engine::promql::{Context, Engine, Options, RangeSteps};
use engine::select::merge::{Within, merge};
use engine::simd::steps::{self, Samples};
use engine::simd::{self, Isa};
use engine::wal::Recorder;

/// Growth from which on a check fails, in hundredths.
const GROWTH_MAX: u64 = 5;

/// Settings of the C library under which a copy takes the same instructions on every machine: with
/// `rep movsb`, which valgrind counts byte by byte, each processor has thresholds of its own.
const SAME_COPIES: &str = "glibc.cpu.hwcaps=-ERMS,-FSRM:glibc.cpu.x86_non_temporal_threshold=0x4000000";

/// Series of a batch.
const SERIES: usize = 64;

/// A stage: its name, and what sets it up and runs it.
const STAGES: &[(&str, fn())] = &[
    ("decode", decode),
    ("align", align_steps),
    ("rate_window", rate_window),
    ("aggregate", aggregate),
    ("merge", merge_runs),
    ("dedup", dedup),
    ("json", json),
    ("create", create),
    ("append", append),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["check"] => check(),
        ["record"] => record(),
        ["run", stage] => run(stage),
        _ => Err("usage: instructions check | record | run <stage>".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn baseline() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.tsv"))
}

fn run(stage: &str) -> Result<(), String> {
    simd::limit_to(Isa::Avx2);
    let known = STAGES.iter().find(|(name, _)| *name == stage);
    known.map(|(_, run)| run()).ok_or_else(|| format!("there is no stage {stage:?}"))
}

/// Instructions of one run of a stage's own function.
fn count(stage: &str) -> Result<u64, String> {
    let own = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"]);
    command.arg(format!("--toggle-collect=*stage_{stage}*")).arg(own).args(["run", stage]);
    command.env("GLIBC_TUNABLES", SAME_COPIES);
    let output = command.output().map_err(|error| format!("valgrind (Debian's package has it): {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let counted = text.lines().find_map(|line| line.split("Collected :").nth(1)?.trim().parse().ok());
    counted.filter(|count| *count > 0).ok_or_else(|| format!("{stage}: valgrind counted nothing:\n{text}"))
}

fn record() -> Result<(), String> {
    let mut table = String::from("stage\tinstructions\n");
    for (stage, _) in STAGES {
        let line = format!("{stage}\t{}\n", count(stage)?);
        print!("{line}");
        table.push_str(&line);
    }
    let path = baseline();
    std::fs::write(&path, table).map_err(|error| format!("{}: {error}", path.display()))
}

fn check() -> Result<(), String> {
    let path = baseline();
    let table = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut grown = Vec::new();
    for (stage, _) in STAGES {
        let known = table.lines().find_map(|line| line.strip_prefix(stage)?.trim().parse::<u64>().ok());
        let known = known.ok_or_else(|| format!("{}: no stage {stage}: record it", path.display()))?;
        let now = count(stage)?;
        println!("{stage}\t{known}\t{now}\t{:+.1} %", (now as f64 / known as f64 - 1.0) * 100.0);
        if now * 100 > known * (100 + GROWTH_MAX) {
            grown.push(*stage);
        }
    }
    if grown.is_empty() {
        return Ok(());
    }
    let grown = grown.join(", ");
    Err(format!("more than {GROWTH_MAX} % more instructions: {grown}. Where that is meant, record them anew"))
}

/// The samples of many series, 120 each.
fn samples() -> SampleBatch {
    let mut batch = SampleBatch::default();
    for (at, columns) in scrapes::chunks(7, SERIES, Timing::Jittered).into_iter().enumerate() {
        batch.floats.timestamps.extend(columns.timestamps);
        batch.floats.values.extend(columns.values);
        let group = (at % 5).to_string();
        let labels = [("__name__", "a_total"), ("group", &group), ("instance", &at.to_string())];
        batch.finish_series(Arc::new(Labels::from_pairs(labels)));
    }
    batch
}

fn range_steps(samples: &SampleBatch) -> RangeSteps {
    let start = samples.floats.timestamps[0];
    RangeSteps { start: start + 300_000, end: start + 1_800_000, step: 30_000 }
}

fn decode() {
    let encoded = scrapes::chunks(7, 4 * SERIES, Timing::Jittered);
    let encode = |columns: &FloatColumns| {
        let mut data = Vec::new();
        xor::encode(&columns.timestamps, &columns.values, &mut data);
        data
    };
    let encoded: Vec<Vec<u8>> = encoded.iter().map(encode).collect();
    let chunks: Vec<&[u8]> = encoded.iter().map(Vec::as_slice).collect();
    let mut batch = Batch::default();
    stage_decode(&chunks, &mut batch);
    black_box(batch.values());
}

#[inline(never)]
fn stage_decode(chunks: &[&[u8]], batch: &mut Batch) {
    xor::decode_batch(chunks, batch).expect("the encoder's own chunks");
}

fn align_steps() {
    let samples = samples();
    let RangeSteps { start, end, step } = range_steps(&samples);
    let mut rows = StepBatch::new(StepGrid::range(start, end, step).count);
    stage_align(&samples, &StepGrid::range(start, end, step), &mut rows);
    black_box(&rows);
}

#[inline(never)]
fn stage_align(samples: &SampleBatch, grid: &StepGrid, rows: &mut StepBatch) {
    let limits = grid.limits(0);
    for series in samples.iter() {
        let row = rows.push_row();
        let samples = Samples { timestamps: series.timestamps, values: series.values };
        steps::newest(simd::isa(), samples, (limits, 300_000), rows.row_mut(row));
    }
}

fn rate_window() {
    let samples = samples();
    let source = Arc::new(MemorySource::new(&samples));
    black_box(stage_rate_window(source, range_steps(&samples)));
}

#[inline(never)]
fn stage_rate_window(source: Arc<MemorySource>, steps: RangeSteps) -> QueryValue {
    evaluate("rate(a_total[5m])", source, steps)
}

fn aggregate() {
    let samples = samples();
    let source = Arc::new(MemorySource::new(&samples));
    black_box(stage_aggregate(source, range_steps(&samples)));
}

#[inline(never)]
fn stage_aggregate(source: Arc<MemorySource>, steps: RangeSteps) -> QueryValue {
    evaluate("sum by (group) (a_total)", source, steps)
}

fn evaluate(query: &str, source: Arc<MemorySource>, steps: RangeSteps) -> QueryValue {
    let engine = Engine::new(Options::default());
    engine.range(query, steps, source, &Context::default()).expect("the query is valid").value
}

fn merge_runs() {
    let run = |first: usize| {
        let mut run = SeriesBatch::default();
        for at in (first..16 * SERIES).step_by(2) {
            run.push_label("__name__", "http_requests_total");
            run.push_label("instance", &format!("10.0.0.{at:05}:8080"));
            run.push_label("job", "api");
            run.finish_series();
        }
        run
    };
    let runs = [run(0), run(1), run(0)];
    black_box(stage_merge(&runs));
}

#[inline(never)]
fn stage_merge(runs: &[SeriesBatch]) -> usize {
    merge(runs, Within::Distinct).len()
}

fn dedup() {
    let columns = scrapes::chunks(7, 2 * SERIES, Timing::Jittered);
    black_box(stage_dedup(&columns));
}

#[inline(never)]
fn stage_dedup(columns: &[FloatColumns]) -> usize {
    let (mut picks, mut values) = (Vec::new(), Vec::new());
    for pair in columns.chunks(2) {
        let replica =
            |columns: &FloatColumns| -> (Vec<i64>, Vec<f64>) { (columns.timestamps.clone(), columns.values.clone()) };
        let (one, other) = (replica(&pair[0]), replica(&pair[1]));
        let replicas = [&one, &other].map(|(timestamps, values)| Replica { timestamps, values });
        penalty::merge(&replicas, Adjust::Counters, &mut picks, &mut values);
    }
    values.len()
}

fn json() {
    let samples = samples();
    let value = evaluate("rate(a_total[5m])", Arc::new(MemorySource::new(&samples)), range_steps(&samples));
    black_box(stage_json(&value));
}

#[inline(never)]
fn stage_json(value: &QueryValue) -> usize {
    let mut text = Vec::new();
    push_value(&mut text, value, 0);
    text.len()
}

fn create() {
    let first = batches(&fleet::labels(BATCH_SERIES), 0);
    let (mut head, mut log) = (Head::new(writes::OPTIONS, i64::MIN), Recorder::default());
    black_box(stage_create(&mut head, &first, &mut log));
}

#[inline(never)]
fn stage_create(head: &mut Head, batches: &[WriteBatch], log: &mut Recorder) -> u64 {
    writes::append(head, batches, log);
    head.stats().series
}

fn append() {
    let series = fleet::labels(BATCH_SERIES);
    let (mut head, mut log) = (Head::new(writes::OPTIONS, i64::MIN), Recorder::default());
    for scrape in 0..8 {
        writes::append(&mut head, &batches(&series, scrape), &mut log);
    }
    let next = batches(&series, 8);
    black_box(stage_append(&mut head, &next, &mut log));
}

/// Of what it gives it is told from the stage above, with which it would be made one.
#[inline(never)]
fn stage_append(head: &mut Head, batches: &[WriteBatch], log: &mut Recorder) -> usize {
    writes::append(head, batches, log);
    log.bytes().len()
}
