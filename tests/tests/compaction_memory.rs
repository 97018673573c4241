//! The memory that a merge, a downsampling and a cut of heads take at most, measured in processes of their own: that of
//! the first two is about the same for a block ten times as large.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use engine::block::writer::BlockWriter;
use engine::bucket::Meta;
use engine::bucket::meta::{Thanos, source};
use engine::chunk::{Encoding, xor};
use engine::compact::{
    DownsampleOptions, MergeOptions, Merged, Replicas, SourceBlock, Target, Unwatched, Workers, downsample, merge,
    verify_written,
};
use engine::head::WriteBatch;
use engine::index::tsdb::Symbols;
use engine::model::{BlockId, Labels, Resolution};
use engine::shard::ingest::{Flush, Ingest, IngestOptions, WriteLimits};
use engine::shard::{self, Pool, block_on};
use tests::scratch::Scratch;
use tests::written::{Chunk, chunk_data};

/// Values of the first label; those of the second are as many as it takes, so that symbols are few.
const PODS: usize = 200;

/// Chunks of a series, and samples of a chunk.
const CHUNKS: usize = 4;
const SAMPLES: usize = 120;

/// Series of the small block. The large one has ten times as many.
const SMALL: usize = 4_000;
const LARGE: usize = 10 * SMALL;

/// The memory for the large blocks is at most so many percent of that for the small ones.
const GROWTH_PERCENT_MAX: u64 = 140;

/// Says what this process is to do when it is one of those that are measured: a job and two blocks.
const JOB: &str = "URU_TEST_JOB";

fn block(parent: &Path, id: u128, series: usize) -> PathBuf {
    let id = BlockId::from_parts(1_700_000_000_000, id);
    let names = (0..PODS.max(series.div_ceil(PODS))).map(|at| format!("{at:05}"));
    let symbols: std::collections::BTreeSet<String> = names.chain(["job", "pod"].map(str::to_owned)).collect();
    let symbols = Symbols::from_sorted(symbols.iter().map(String::as_str));
    let mut writer = BlockWriter::create(parent, id, symbols).unwrap();
    for number in 0..series {
        let chunks: Vec<Chunk> = (0..CHUNKS)
            .map(|chunk| {
                let times: Vec<i64> = (0..SAMPLES).map(|at| ((chunk * SAMPLES + at) * 15_000) as i64).collect();
                let values: Vec<f64> = (0..SAMPLES).map(|at| (at * (1 + number % 7) * (at % 5)) as f64 / 7.0).collect();
                let mut data = Vec::new();
                xor::encode(&times, &values, &mut data);
                Chunk { min_time: times[0], max_time: times[SAMPLES - 1], encoding: Encoding::Xor, data }
            })
            .collect();
        let (job, pod) = (format!("{:05}", number / PODS), format!("{:05}", number % PODS));
        writer.add_labels(&Labels::from_pairs([("job", job), ("pod", pod)]), &chunk_data(&chunks)).unwrap();
    }
    let range = writer.time_range().unwrap();
    let meta = Meta { thanos: Some(Thanos::default()), ..Meta::new(id, range.min_time, range.max_time + 1) };
    writer.finish(meta).unwrap();
    parent.join(id.to_string())
}

/// What a measured process does.
fn work(job: &str, sources: [&Path; 2]) {
    let scratch = Scratch::new("memory-result");
    let (labels, extensions) = (BTreeMap::new(), serde_json::Value::Null);
    let id = BlockId::from_parts(1_800_000_000_000, 1);
    let target = Target { parent: scratch.0.clone(), id, labels, extensions, source: source::COMPACTOR };
    let workers = Workers::threads(1);
    let open = |source: &Path| SourceBlock::open(source).unwrap();
    if job == "downsample" {
        let options = DownsampleOptions { workers: workers.clone(), ..DownsampleOptions::default() };
        downsample(open(sources[0]), Resolution::FIVE_MINUTES, &target, &options, &Unwatched).unwrap();
    } else {
        let options = MergeOptions { replicas: Replicas::Penalty, workers: workers.clone(), ..MergeOptions::default() };
        let made = merge(sources.map(open).into(), &target, &options, &Unwatched).unwrap();
        assert!(matches!(made, Merged::Block(_)));
    }
    verify_written(&scratch.0.join(id.to_string()), &workers).unwrap();
}

/// What a process of its own says that runs the test called `name` for `job`.
fn run(name: &str, job: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", name, "--nocapture"]).env(JOB, job).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The number behind `name` in `text`.
fn number(text: &str, name: &str) -> u64 {
    let (_, behind) = text.split_once(name).unwrap_or_else(|| panic!("{name} is not in {text}"));
    behind.split_whitespace().next().unwrap().parse().unwrap()
}

/// KiB of memory that this process has (`VmRSS:`) or had at most (`VmHWM:`).
fn memory(name: &str) -> u64 {
    number(&std::fs::read_to_string("/proc/self/status").unwrap(), name)
}

/// The most memory in KiB that a process of its own takes for `job`.
fn peak(job: &str, sources: &[PathBuf; 2]) -> u64 {
    let [first, second] = sources.each_ref().map(|source| source.display());
    number(&run("memory_does_not_grow_with_blocks", &format!("{job}\n{first}\n{second}")), "VmHWM:")
}

#[test]
fn memory_does_not_grow_with_blocks() {
    if let Ok(asked) = std::env::var(JOB) {
        let mut words = asked.lines();
        let job = words.next().unwrap();
        work(job, [words.next().unwrap(), words.next().unwrap()].map(Path::new));
        println!("\nVmHWM: {}", memory("VmHWM:"));
        return;
    }
    let scratch = Scratch::new("memory");
    let blocks = |series: usize| [1, 2].map(|id| block(&scratch.0, (series + id) as u128, series));
    let (small, large) = (blocks(SMALL), blocks(LARGE));
    for job in ["merge", "downsample"] {
        let (small, large) = (peak(job, &small), peak(job, &large));
        println!("{job}: {small} KiB of {SMALL} series, {large} KiB of {LARGE}");
        assert!(large * 100 <= small * GROWTH_PERCENT_MAX, "{job}: {small} KiB of {SMALL} series, {large} of {LARGE}");
    }
}

/// Series with long texts that are cut, and the bytes of each text.
const CUT_SERIES: usize = 20_000;
const TEXT_BYTES: usize = 2_000;

/// Cuts heads of long texts; says what was held before and at most.
fn cut() {
    let scratch = Scratch::new("memory-cut");
    let pool = Pool::start(&shard::Options::default()).unwrap();
    let options = IngestOptions { data_dir: scratch.0.clone(), ..IngestOptions::default() };
    let ingest = Ingest::open(&pool, options).unwrap();
    for first in (0..CUT_SERIES).step_by(100) {
        let mut batch = WriteBatch::new();
        for number in first..first + 100 {
            let text = format!("{number:0TEXT_BYTES$}");
            batch.push_series([("__name__", "up"), ("text", text.as_str())]);
            batch.push_sample(1_700_000_000_000, 1.0);
        }
        block_on(ingest.append(&Arc::from("team"), batch, WriteLimits::default())).unwrap();
    }
    println!("\nbefore: {}", memory("VmRSS:"));
    block_on(ingest.flush(None, Flush::All)).unwrap();
    println!("\nVmHWM: {}", memory("VmHWM:"));
}

/// Once in the excerpts and once for the writer; after that for who verifies the block, and for its index. They were in the
/// excerpts to the end.
#[test]
fn a_cut_has_long_texts_in_memory_about_twice() {
    if std::env::var(JOB).is_ok() {
        return cut();
    }
    let text = run("a_cut_has_long_texts_in_memory_about_twice", "cut");
    let (before, peak) = (number(&text, "before:"), number(&text, "VmHWM:"));
    let texts = (CUT_SERIES * TEXT_BYTES) as u64 >> 10;
    println!("{before} KiB before, {peak} at most, {texts} of texts");
    assert!(peak - before <= texts * 9 / 4, "{before} KiB before, {peak} at most, {texts} of texts");
}
