//! Callers that go away in the middle: what they asked for is not worked on any longer. Compared is CPU
//! time, which a busy machine does not stretch: of the whole request, and of what follows when its caller
//! has gone.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::block::writer::{BlockWriter, ChunkData};
use engine::bucket::Meta;
use engine::chunk::{Encoding, xor};
use engine::index::tsdb::Symbols;
use engine::model::{BlockId, Labels};
use prost::Message;
use proto::prometheus_copy::label_matcher::Type;
use proto::prometheus_copy::{LabelMatcher, Query, ReadRequest};
use proto::thanos::QueryRangeRequest;
use proto::thanos::query_client::QueryClient;
use support::Uru;

const START: i64 = 1_700_000_040_000;

/// Series of the block.
const SERIES: usize = 6_000;

/// Chunks of each, of two hours together.
const CHUNKS: i64 = 4;

const CHUNK_SAMPLES: i64 = 120;

const STEP_MS: i64 = 15_000;

/// End of the block, in seconds.
const END: i64 = (START + CHUNKS * CHUNK_SAMPLES * STEP_MS) / 1000;

/// Shares of the work after which the caller goes away.
const SHARES: [f64; 3] = [0.15, 0.5, 0.8];

/// No CPU time in this while is no work.
const QUIET: Duration = Duration::from_millis(150);

/// What a process does in [`QUIET`] when it has no work.
const IDLE_CPU: Duration = Duration::from_millis(10);

/// A block whose whole content takes long to answer.
fn write_large_block(bucket: &Path) {
    let id = BlockId::from_parts(START as u64, 7);
    let values: Vec<String> = (0..SERIES).map(|number| format!("i-{number:05}")).collect();
    let mut symbols = vec!["", "__name__", "instance", "load"];
    symbols.extend(values.iter().map(String::as_str));
    symbols.sort_unstable();
    std::fs::create_dir_all(bucket).unwrap();
    let mut writer = BlockWriter::create(bucket, id, Symbols::from_sorted(symbols)).unwrap();
    for (number, value) in values.iter().enumerate() {
        let chunks: Vec<(Vec<i64>, Vec<u8>)> = (0..CHUNKS)
            .map(|chunk| {
                let first = chunk * CHUNK_SAMPLES;
                let times: Vec<i64> = (first..first + CHUNK_SAMPLES).map(|at| START + at * STEP_MS).collect();
                let load = |at: i64| ((number as i64 * 31 + at * at * 7) % 1000) as f64 / 8.0;
                let samples: Vec<f64> = (first..first + CHUNK_SAMPLES).map(load).collect();
                let mut data = Vec::new();
                xor::encode(&times, &samples, &mut data);
                (times, data)
            })
            .collect();
        let chunks: Vec<ChunkData<'_>> = chunks
            .iter()
            .map(|(times, data)| {
                let (min_time, max_time) = (times[0], times[times.len() - 1]);
                ChunkData { min_time, max_time, encoding: Encoding::Xor, data }
            })
            .collect();
        let labels = Labels::from_pairs([("__name__", "load"), ("instance", value.as_str())]);
        writer.add_labels(&labels, &chunks).unwrap();
    }
    let meta = serde_json::json!({
        "ulid": id.to_string(), "minTime": START, "maxTime": END * 1000, "version": 1,
        "compaction": {"level": 1, "sources": [id.to_string()]},
        "thanos": {"version": 1, "labels": {"cluster": "c1"}, "downsample": {"resolution": 0}, "source": "sidecar"},
    });
    writer.finish(Meta::parse(meta.to_string().as_bytes()).unwrap()).unwrap();
}

/// How something is asked.
enum Asked {
    /// Over HTTP: lines of the head, path, body.
    Http(Vec<&'static str>, String, Vec<u8>),
    /// A range query over gRPC.
    Query(QueryRangeRequest),
}

/// A caller that reads and forgets what it is answered; it goes away when dropped.
struct Caller {
    stream: Option<TcpStream>,
    runtime: Option<tokio::runtime::Runtime>,
    reader: Option<JoinHandle<()>>,
    is_done: Arc<AtomicBool>,
}

impl Caller {
    fn begin(asked: &Asked, uru: &Uru) -> Self {
        match asked {
            Asked::Http(lines, path, body) => Self::begin_http(uru, (lines, path), body),
            Asked::Query(query) => Self::begin_query(uru, query.clone()),
        }
    }

    fn begin_http(uru: &Uru, (lines, path): (&[&str], &str), body: &[u8]) -> Self {
        let is_done = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&is_done);
        let mut stream = TcpStream::connect(&uru.http).unwrap();
        let method = if body.is_empty() { "GET" } else { "POST" };
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let len = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: uru\r\n{lines}Content-Length: {len}\r\n");
        stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut read = stream.try_clone().unwrap();
        let reader = std::thread::spawn(move || {
            let mut room = vec![0; 1 << 20];
            while matches!(read.read(&mut room), Ok(1..)) {}
            done.store(true, Ordering::Relaxed);
        });
        Self { stream: Some(stream), runtime: None, reader: Some(reader), is_done }
    }

    fn begin_query(uru: &Uru, query: QueryRangeRequest) -> Self {
        let is_done = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&is_done);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let channel = runtime.block_on(uru.connect());
        runtime.spawn(async move {
            let mut client = QueryClient::new(channel).max_decoding_message_size(usize::MAX);
            let mut stream = client.query_range(query).await.unwrap().into_inner();
            while stream.message().await.unwrap().is_some() {}
            done.store(true, Ordering::Relaxed);
        });
        Self { stream: None, runtime: Some(runtime), reader: None, is_done }
    }

    fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Relaxed)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(self.runtime.take());
        self.reader.take().into_iter().for_each(|reader| reader.join().unwrap());
    }
}

fn cpu(processes: &[&Uru]) -> Duration {
    processes.iter().map(|process| process.cpu_time()).sum()
}

/// Waits until nothing is worked on any more; how long that took.
fn settle(processes: &[&Uru]) -> Duration {
    let in_flight = "thanos_query_concurrent_gate_queries_in_flight";
    let begin = Instant::now();
    let (mut since, mut before) = (begin, cpu(processes));
    loop {
        std::thread::sleep(Duration::from_millis(5));
        let now = cpu(processes);
        if now > before + IDLE_CPU {
            (since, before) = (Instant::now(), now);
        } else if since.elapsed() >= QUIET {
            if processes[0].metric(in_flight) == Some(0.0) {
                return since - begin;
            }
            (since, before) = (Instant::now(), cpu(processes));
        }
    }
}

/// Lets the caller go away at several points of its request and sees what is still done for it.
fn assert_ended(processes: &[&Uru], (name, asked): &(&str, Asked)) {
    settle(processes);
    let before = cpu(processes);
    let caller = Caller::begin(asked, processes[0]);
    while !caller.is_done() {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(caller);
    settle(processes);
    let whole = cpu(processes) - before;
    let mut interrupted = 0;
    for share in SHARES {
        let before = cpu(processes);
        let caller = Caller::begin(asked, processes[0]);
        while cpu(processes) - before < whole.mul_f64(share) && !caller.is_done() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if caller.is_done() {
            continue;
        }
        interrupted += 1;
        // The connection is closed when this returns.
        drop(caller);
        let at = cpu(processes);
        let ended = settle(processes);
        let more = cpu(processes) - at;
        println!("{name}: of {whole:?} CPU gone after {:?}; {more:?} CPU in {ended:?} followed", at - before);
        let allowed = (whole / 8).max(Duration::from_millis(100));
        assert!(more < allowed, "{name}: {more:?} CPU followed when the caller had gone after {:?}", at - before);
    }
    assert!(interrupted > 0, "{name}: the answer was always there before its caller could go away");
}

fn http(lines: &[&'static str], path: &str) -> Asked {
    Asked::Http(lines.to_vec(), path.to_owned(), Vec::new())
}

fn everything() -> Vec<(&'static str, Asked)> {
    let all = "%7B__name__%3D~%22.%2B%22%7D";
    let instant = format!("/api/v1/query?query={all}%5B2h%5D&time={END}");
    let times = format!("start={}&end={END}&step=15", START / 1000);
    let range = format!("/api/v1/query_range?query={all}&{times}");
    let rates = format!("/api/v1/query_range?query=rate({all}%5B5m%5D)&{times}");
    let query = QueryRangeRequest {
        query: "{__name__=~\".+\"}".to_owned(),
        start_time_seconds: START / 1000,
        end_time_seconds: END,
        interval_seconds: STEP_MS / 1000,
        ..QueryRangeRequest::default()
    };
    let matcher = LabelMatcher { r#type: Type::Re.into(), name: "__name__".into(), value: ".+".into() };
    let (start_timestamp_ms, end_timestamp_ms) = (START, END * 1000);
    let read = Query { start_timestamp_ms, end_timestamp_ms, matchers: vec![matcher], hints: None };
    let read = ReadRequest { queries: vec![read], accepted_response_types: Vec::new() }.encode_to_vec();
    let read = snap::raw::Encoder::new().compress_vec(&read).unwrap();
    vec![
        ("raw samples", http(&[], &instant)),
        ("raw samples in gzip", http(&["Accept-Encoding: gzip"], &instant)),
        ("a range query", http(&[], &range)),
        ("rates", http(&[], &rates)),
        ("remote read", Asked::Http(vec!["Content-Encoding: snappy"], "/api/v1/read".to_owned(), read)),
        ("a range query over gRPC", Asked::Query(query)),
    ]
}

#[test]
fn a_querier_and_its_store_stop_when_the_caller_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    write_large_block(&bucket);
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    let store = Uru::start("store", &[&objstore, &format!("--data-dir={}", folder.path().join("data").display())]);
    let query = Uru::start("query", &[&format!("--endpoint={}", store.grpc)]);
    everything().iter().for_each(|asked| assert_ended(&[&query, &store], asked));
}

#[test]
fn a_process_with_its_own_blocks_stops_when_the_caller_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    write_large_block(&folder.path().join("bucket"));
    let flags = ["--no-self-scrape", &format!("--data-dir={}", folder.path().display())];
    let uru = Uru::start("all-in-one", &flags);
    everything().iter().for_each(|asked| assert_ended(&[&uru], asked));
}
