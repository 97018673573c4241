//! Queries over a block in process, without HTTP: what an engine takes for each of them, for profilers.
//!
//! ```text
//! queries <folder of a block> <rounds> [<query>…]     least and median milliseconds, CPU milliseconds
//! ```
//! Without queries it asks those that `perf query` asks uru and its peers.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::block::{BlockInfo, BlockSet, ChunkSource, OpenedBlock, Segments};
use engine::bucket::Meta;
use engine::index::{column, tsdb};
use engine::model::Error;
use engine::promql::blocks::{BlockSource, Scope};
use engine::promql::json::push_value;
use engine::promql::{Context, Engine, Options, RangeSteps};
use engine::shard::{self, Pool};

const QUERIES: &[&str] = &[
    "sum by (namespace) (rate(http_request_duration_seconds_count[5m]))",
    "histogram_quantile(0.99, sum by (namespace, le) (rate(http_request_duration_seconds_bucket[5m])))",
    "process_bytes_00",
    "avg by (namespace) (avg_over_time(process_bytes_00[10m]))",
    "max by (job) (queue_ratio_04)",
    "topk(5, sum by (pod) (rate(http_request_duration_seconds_count[5m])))",
    "sum by (job) (rate(http_request_duration_seconds_sum[5m])) \
     / sum by (job) (rate(http_request_duration_seconds_count[5m]))",
    "rate(http_request_duration_seconds_sum{handler=\"/api/v1/h0\"}[5m]) \
     / rate(http_request_duration_seconds_count{handler=\"/api/v1/h0\"}[5m])",
    "max_over_time(sum by (namespace) (rate(errors_total_03[5m]))[30m:1m])",
    "count by (__name__) ({__name__=~\"container_.*\", namespace=~\"team-0[1-4]\"})",
    "absent(nonexistent_metric{job=\"x\"})",
    "quantile_over_time(0.9, queue_ratio_04[15m])",
    "sum(deriv(process_bytes_05[10m]))",
];

/// Between the start of a block and the first step, in milliseconds.
const BEFORE_FIRST_STEP: i64 = 600_000;
/// Between the last step and the end of a block.
const AFTER_LAST_STEP: i64 = 60_000;
/// Between steps.
const STEP: i64 = 60_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let asked = match words.as_slice() {
        [folder, rounds, queries @ ..] => rounds.parse().ok().map(|rounds: usize| (folder, rounds, queries)),
        _ => None,
    };
    let Some((folder, rounds, queries)) = asked else {
        eprintln!("usage: queries <folder of a block> <rounds> [<query>…]");
        return ExitCode::FAILURE;
    };
    let queries: Vec<&str> =
        if queries.is_empty() { QUERIES.to_vec() } else { queries.iter().map(String::as_str).collect() };
    match run(Path::new(folder), rounds.max(1), &queries) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("queries: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path, rounds: usize, queries: &[&str]) -> Result<(), Error> {
    let block = open(folder)?;
    let info = block.info();
    let steps =
        RangeSteps { start: info.min_time + BEFORE_FIRST_STEP, end: info.max_time - AFTER_LAST_STEP, step: STEP };
    let blocks = Arc::new(BlockSet::new([Arc::clone(&block)]));
    let pool = Pool::start(&shard::Options::default())?;
    let engine = Engine::new(Options::default());
    println!("{:>9} {:>9} {:>9}  query", "min ms", "median", "CPU ms");
    for query in queries {
        let mut walls = Vec::with_capacity(rounds);
        let cpu = cpu();
        for _ in 0..rounds {
            let begin = Instant::now();
            let source = BlockSource::new(Arc::clone(&blocks), Scope { cores: Some(pool.clone()), ..Scope::default() });
            let result = engine.range(query, steps, Arc::new(source), &Context::default());
            let result = result.map_err(|failed| failed.error)?;
            push_value(&mut Vec::new(), &result.value, 0);
            walls.push(begin.elapsed());
        }
        let cpu = self::cpu().saturating_sub(cpu) / rounds as u32;
        walls.sort_unstable();
        let [least, median, cpu] = [walls[0], walls[rounds / 2], cpu].map(|time: Duration| time.as_secs_f64() * 1e3);
        println!("{least:9.2} {median:9.2} {cpu:9.2}  {query}");
    }
    Ok(())
}

/// Time that the process has been on a CPU.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(10) * ticks.filter_map(|ticks| ticks.parse::<u32>().ok()).sum::<u32>()
}

/// The block in `folder`, with a column index in memory.
fn open(folder: &Path) -> Result<Arc<OpenedBlock>, Error> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))
    };
    let meta = Meta::parse(&read("meta.json")?)?;
    let columns = column::build_in_memory(&tsdb::Reader::open(read("index")?)?)?;
    let index = column::Reader::from_bytes(columns, column::Check::Everything)?;
    let mut segments: Vec<_> = std::fs::read_dir(folder.join("chunks"))
        .map_err(|error| Error::invalid(format!("{}: {error}", folder.display())))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    segments.sort();
    let chunks = ChunkSource::Local(Segments::new(segments));
    Ok(Arc::new(OpenedBlock::new(BlockInfo::from_meta(&meta), Arc::new(index), chunks)))
}
