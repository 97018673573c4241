//! Ingestion as a whole, with logs on disk and synced: what new series and samples cost, how long requests
//! take, how fast the log is replayed and a snapshot read.
//!
//! ```text
//! cargo run --release -p bench --bin ingest -- [series] [scrapes] [folder]
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bench::fleet;
use bench::writes::batches;
use engine::head::WriteBatch;
use engine::model::Labels;
use engine::shard::ingest::WriteLimits;
use engine::shard::{Ingest, IngestOptions, Options, Pool, block_on};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads that send, each one request at a time.
const SENDERS: usize = 4;

/// A time of the clock and of the processors.
struct Timer {
    begin: Instant,
    cpu: f64,
}

impl Timer {
    fn start() -> Self {
        Self { begin: Instant::now(), cpu: cpu_seconds() }
    }

    /// Prints what `count` of something cost.
    fn print(&self, what: &str, count: usize, of: &str) {
        let (wall, cpu) = (self.begin.elapsed().as_secs_f64(), cpu_seconds() - self.cpu);
        let (rate, each) = (count as f64 / wall, cpu * 1e6 / count as f64);
        let by_core = count as f64 / cpu.max(1e-9);
        println!(
            "{what:<14} {wall:>7.2} s  {cpu:>7.2} CPU s  {rate:>12.0} {of}/s  {by_core:>12.0} {of}/CPU s  {each:>6.3} CPU s per million"
        );
    }
}

/// CPU seconds of this process so far, by hundredths.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or("").split(' ').collect();
    fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Bytes of memory that this process has.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn open(folder: &Path) -> Arc<Ingest> {
    let pool = Pool::start(&Options::default()).expect("the shards start");
    let options = IngestOptions { data_dir: folder.to_owned(), ..IngestOptions::default() };
    Ingest::open(&pool, options).expect("the folder can be opened")
}

/// Sends all of `batches`, some at once; adds how long each took.
fn send(ingest: &Ingest, batches: Vec<WriteBatch>, times: &Mutex<Vec<Duration>>) {
    let tenant: Arc<str> = Arc::from("bench");
    let next = Mutex::new(batches.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                loop {
                    let Some(batch) = next.lock().expect("no sender panics").next() else { return };
                    let begin = Instant::now();
                    let report = block_on(ingest.append(&tenant, batch, WriteLimits::default()));
                    assert!(report.expect("the log can be written").rejected.is_empty(), "samples are in order");
                    times.lock().expect("no sender panics").push(begin.elapsed());
                }
            });
        }
    });
}

fn run(labels: &[Labels], scrapes: usize, folder: &Path) {
    let before = resident_bytes();
    let (ingest, times) = (open(folder), Mutex::new(Vec::new()));
    let first = batches(labels, 0);
    let timer = Timer::start();
    send(&ingest, first, &times);
    timer.print("new series", labels.len(), "series");
    times.lock().expect("no sender panics").clear();
    let mut spent = Duration::ZERO;
    let (mut cpu, begin) = (0.0, cpu_seconds());
    for scrape in 1..scrapes {
        let sent = batches(labels, scrape);
        let timer = Timer::start();
        send(&ingest, sent, &times);
        spent += timer.begin.elapsed();
        cpu += cpu_seconds() - timer.cpu;
    }
    let samples = labels.len() * (scrapes - 1);
    let making = Timer { begin: Instant::now() - spent, cpu: cpu_seconds() - cpu };
    making.print("append", samples, "samples");
    println!("{:<14} {:.2} CPU s with making the requests", "", cpu_seconds() - begin);
    let mut times = times.into_inner().expect("no sender panics");
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!("{:<14} p50 {:.2} ms, p99 {:.2} ms, of {} requests by {SENDERS} senders", "", at(50), at(99), times.len());
    let resident = resident_bytes().saturating_sub(before);
    println!("{:<14} {} bytes of memory for each series", "", resident / labels.len() as u64);
    let counters = ingest.counters();
    println!(
        "{:<14} {:.2} bytes of log for each sample",
        "",
        counters.wal.bytes as f64 / (samples + labels.len()) as f64
    );
    drop(ingest);
    let timer = Timer::start();
    let ingest = open(folder);
    timer.print("replay", samples + labels.len(), "samples");
    block_on(ingest.close()).expect("a snapshot can be written");
    drop(ingest);
    let timer = Timer::start();
    let ingest = open(folder);
    timer.print("from snapshot", labels.len(), "series");
    assert_eq!(ingest.stats("bench").map(|stats| stats.series), Some(labels.len() as u64), "every series is there");
}

fn main() {
    let mut words = std::env::args().skip(1);
    let mut number = |default| words.next().and_then(|word| word.parse().ok()).unwrap_or(default);
    let (series, scrapes): (usize, usize) = (number(100_000), number(30));
    let name = format!("uru-bench-ingest-{}", std::process::id());
    let folder = words.next().map_or_else(std::env::temp_dir, PathBuf::from).join(name);
    run(&fleet::labels(series), scrapes, &folder);
    drop(std::fs::remove_dir_all(&folder));
}
