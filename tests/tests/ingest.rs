//! Ingestion held to others: PromQL over heads and cut blocks answers as over memory, and promtool reads
//! the blocks that are cut.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use engine::batch::SampleBatch;
use engine::block::BlockSet;
use engine::head::WriteBatch;
use engine::model::histogram::Histogram;
use engine::model::{HistogramValue, Labels, Span};
use engine::promql::blocks::Scope;
use engine::promql::source::{MemorySource, Source};
use engine::promql::{Context, Engine, Options, Parsed, RangeSteps, When, syntax};
use engine::shard::ingest::{Flush, Ingest, IngestOptions, WriteLimits};
use engine::shard::{self, Pool, block_on};
use tests::scratch::Scratch;

const STEP: i64 = 15_000;
const STEPS: i64 = 1_300;
const SERIES: i64 = 12;

const QUERIES: [&str; 8] = [
    "sum by (zone) (rate(requests_total[5m]))",
    "requests_total{series=~\"1.*\"}",
    "max_over_time(requests_total[17m]) - min_over_time(requests_total[17m])",
    "count(requests_total) + absent(nothing)",
    "histogram_quantile(0.9, sum(rate(latency[10m])))",
    "histogram_count(latency)",
    "resets(requests_total[1h])",
    "topk(2, delta(requests_total[20m] offset 30m))",
];

fn open(pool: &Arc<Pool>, folder: &Path) -> Arc<Ingest> {
    let options = IngestOptions { data_dir: folder.to_owned(), ..IngestOptions::default() };
    Ingest::open(pool, options).unwrap()
}

fn value(series: i64, at: i64) -> f64 {
    ((at * (series + 1)) % 900) as f64
}

fn histogram(at: i64) -> Histogram {
    let (low, high) = (3 * at, 2 * at + at % 5);
    Histogram {
        count: (low + high) as u64,
        sum: at as f64,
        schema: 1,
        positive_spans: vec![Span { offset: 1, length: 2 }],
        positive_buckets: vec![low, high - low],
        ..Histogram::default()
    }
}

fn labels(series: i64) -> [(&'static str, String); 3] {
    [("__name__", "requests_total".to_owned()), ("series", series.to_string()), ("zone", format!("z{}", series % 3))]
}

/// Appends everything, request after request.
fn fill(ingest: &Ingest) {
    let tenant = Arc::from("team-a");
    for at in 1..STEPS {
        let mut batch = WriteBatch::new();
        for series in 0..SERIES {
            let labels = labels(series);
            batch.push_series(labels.iter().map(|(name, value)| (*name, value.as_str())));
            batch.push_sample(at * STEP, value(series, at));
        }
        batch.push_series([("__name__", "latency")]);
        batch.push_histogram(at * STEP, 0, HistogramValue::Integer(Box::new(histogram(at))));
        let report = block_on(ingest.append(&tenant, batch, WriteLimits::default())).unwrap();
        assert_eq!((report.samples, report.histograms), (SERIES as u64, 1));
    }
}

fn in_memory() -> MemorySource {
    let mut all = SampleBatch::default();
    for series in 0..SERIES {
        (1..STEPS).for_each(|at| all.floats.push(at * STEP, value(series, at)));
        all.finish_series(Arc::new(Labels::from_pairs(labels(series))));
    }
    for at in 1..STEPS {
        all.histograms.timestamps.push(at * STEP);
        all.histograms.values.push(Arc::new(histogram(at).to_float()));
    }
    all.finish_series(Arc::new(Labels::from_pairs([("__name__", "latency")])));
    MemorySource::new(&all)
}

fn answers(source: Arc<dyn Source>) -> Vec<String> {
    let engine = Engine::new(Options::default());
    let when = When::Range(RangeSteps { start: 0, end: STEPS * STEP, step: 61_000 });
    let answer = |query: &&str| {
        let expr = syntax::parse(query, syntax::Options::default()).unwrap();
        let asked = Parsed { text: query, expr: &expr };
        let result = engine.evaluate(asked, when, Arc::clone(&source), &Context::default()).unwrap();
        format!("{query}: {:?}", result.value)
    };
    QUERIES.iter().map(answer).collect()
}

#[test]
fn queries_over_heads_and_blocks_answer_as_over_memory() {
    let folder = Scratch::new("ingest-promql");
    let pool = Pool::start(&shard::Options::default()).unwrap();
    let expected = answers(Arc::new(in_memory()));
    let ingest = open(&pool, &folder.0);
    fill(&ingest);
    let check = |ingest: &Arc<Ingest>, stage: &str| {
        let on_shards = || Scope { cores: Some(pool.clone()), ..Scope::default() };
        // As if they had been shipped, and were in a bucket too.
        let local = ingest.local_blocks("team-a");
        let shipped = Arc::new(BlockSet::new(local.iter().map(|block| Arc::clone(block.opened()))));
        let alone = answers(Arc::new(ingest.source(None, Scope::default())));
        let by_shards = answers(Arc::new(ingest.source(None, on_shards())));
        let beside = answers(Arc::new(ingest.source(None, on_shards()).beside(shipped)));
        for found in [alone, by_shards, beside] {
            assert_eq!(found, expected, "{stage}");
        }
    };
    check(&ingest, "in the heads");
    assert_eq!(block_on(ingest.flush(None, Flush::Due)).unwrap().len(), 2);
    check(&ingest, "in heads and blocks");
    drop(ingest);
    let ingest = open(&pool, &folder.0);
    check(&ingest, "after a restart");
    assert_eq!(block_on(ingest.flush(None, Flush::All)).unwrap().len(), 1);
    check(&ingest, "in blocks");
}

#[test]
fn promtool_reads_the_blocks_that_are_cut() {
    let found = Command::new("promtool").arg("--version").output().is_ok();
    let required = std::env::var_os("URU_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(found || !required, "promtool is absent");
    if !found {
        return eprintln!("SKIPPED: promtool is absent");
    }
    let folder = Scratch::new("ingest-promtool");
    let pool = Pool::start(&shard::Options::default()).unwrap();
    let ingest = open(&pool, &folder.0);
    fill(&ingest);
    let blocks = block_on(ingest.flush(None, Flush::All)).unwrap();
    let tenant = folder.0.join("team-a");
    fs::create_dir_all(tenant.join("wal")).unwrap();
    for block in &blocks {
        let id = block.meta.ulid.to_string();
        let analyzed =
            Command::new("promtool").args(["tsdb", "analyze"]).args([&tenant, Path::new(&id)]).output().unwrap();
        let text = String::from_utf8_lossy(&analyzed.stdout).into_owned();
        assert!(analyzed.status.success(), "{}", String::from_utf8_lossy(&analyzed.stderr));
        assert!(text.contains(&format!("Series: {}\n", SERIES + 1)), "{text}");
    }
    let dumped = Command::new("promtool").args(["tsdb", "dump"]).arg(&tenant).output().unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let text = String::from_utf8(dumped.stdout).unwrap();
    // It dumps floats alone.
    let floats: u64 = blocks.iter().map(|block| block.meta.stats.num_float_samples).sum();
    let histograms: u64 = blocks.iter().map(|block| block.meta.stats.num_histogram_samples).sum();
    assert_eq!((floats, histograms), ((SERIES * (STEPS - 1)) as u64, (STEPS - 1) as u64));
    assert_eq!(text.lines().count() as u64, floats);
    for (series, at) in [(0, 1), (5, 700), (11, STEPS - 1)] {
        let line = format!("{} {} {}", Labels::from_pairs(labels(series)), value(series, at), at * STEP);
        assert!(text.lines().any(|found| found == line), "{line}");
    }
}
