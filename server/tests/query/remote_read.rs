//! Remote read: Debian's Prometheus reads from uru, in chunks and in samples, and answers as uru does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use engine::chunk::native::decode;
use prost::Message;
use proto::prometheus_copy::histogram::Count;
use proto::prometheus_copy::{
    ChunkedReadResponse, Histogram, LabelMatcher, Query, ReadHints, ReadRequest, ReadResponse,
};
use serde_json::Value;

use crate::support;
use crate::support::endpoint::{Answers, Endpoint, Step, series_frame};
use crate::support::{Uru, blocks_in, copy_block, get, shared};

/// Queries that have their turn.
const IN_FLIGHT: &str = "thanos_query_concurrent_gate_queries_in_flight";

/// A running Prometheus, ended when dropped.
struct Prometheus {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Starts a Prometheus that has nothing of its own and reads from `uru`; `None`, said loudly, where
    /// it isn't installed.
    fn start(uru: &Uru) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        let url = format!("http://{}/api/v1/read", uru.http);
        std::fs::write(&config, format!("remote_read:\n- url: {url}\n  read_recent: true\n")).unwrap();
        let started = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "prometheus is required: {error}");
                eprintln!("SKIPPED: prometheus cannot be started: {error}");
                return None;
            }
        };
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        let (mut address, mut ready) = (None, false);
        // The two are said by two of its threads, in either order.
        let address = loop {
            if ready && let Some(address) = address.take() {
                break address;
            }
            let line = lines.next().unwrap_or_else(|| panic!("prometheus ended before it was ready:\n{said}"));
            if let Some((_, rest)) =
                line.split_once("\"Listening on\"").and_then(|(_, rest)| rest.split_once("address="))
            {
                address = rest.split(' ').next().map(str::to_owned);
            }
            ready |= line.contains("Server is ready to receive web requests");
            said.push_str(&line);
            said.push('\n');
        };
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, address, _folder: folder })
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn all_in_one(block: &str) -> Option<(Uru, tempfile::TempDir)> {
    let golden = shared(&format!("golden/blocks/{block}"))?;
    let folder = tempfile::tempdir().unwrap();
    for block in blocks_in(&golden) {
        copy_block(&block, &folder.path().join("bucket"), &[("cluster", "c1")]);
    }
    Some((Uru::start("all-in-one", &["--no-self-scrape", &format!("--data-dir={}", folder.path().display())]), folder))
}

/// What is answered to a query: each series and its value.
fn answer(address: &str, query: &str, time: i64) -> Vec<(String, Value)> {
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
    let (status, body) = get(address, &format!("/api/v1/query?time={time}&{form}")).unwrap();
    let body = body.lines().find(|line| line.starts_with('{')).unwrap_or(&body).to_owned();
    let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert_eq!(status, 200, "{query}: {answer}");
    let mut found: Vec<(String, Value)> = answer["data"]["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|series| {
            let value = if series["value"].is_null() { &series["histogram"] } else { &series["value"] };
            (series["metric"].to_string(), rounded(value))
        })
        .collect();
    found.sort_by(|left, right| left.0.cmp(&right.0));
    found
}

/// A number to twelve digits: Debian's Prometheus adds without carrying what rounding loses.
fn rounded(value: &Value) -> Value {
    match value[1].as_str().and_then(|text| text.parse::<f64>().ok()) {
        Some(number) => Value::String(format!("{} {number:.12e}", value[0])),
        None => value.clone(),
    }
}

/// The time of the last sample of the golden blocks, Unix seconds.
fn end_of(block: &str) -> i64 {
    let folder = &blocks_in(&shared(&format!("golden/blocks/{block}")).unwrap())[0];
    let meta: Value = serde_json::from_slice(&std::fs::read(folder.join("meta.json")).unwrap()).unwrap();
    meta["maxTime"].as_i64().unwrap() / 1000 - 1
}

// Debian's Prometheus, 2.42, keeps the float samples of what it reads and drops the histograms beside
// them, whatever it is sent: they are held to what uru itself answers below.
#[test]
fn prometheus_reads_floats() {
    let Some((uru, _folder)) = all_in_one("k8s") else { return };
    let Some(prometheus) = Prometheus::start(&uru) else { return };
    let time = end_of("k8s");
    for query in
        ["sum by (namespace) (rate(http_request_duration_seconds_count[5m]))", "count({namespace=\"team-01\"})"]
    {
        let theirs = answer(&prometheus.address, query, time);
        assert!(!theirs.is_empty(), "{query} has an answer");
        assert_eq!(theirs, answer(&uru.http, query, time), "{query}");
    }
}

/// The messages of a stream of chunks, each of which carries the checksum that it must.
fn chunked(mut stream: &[u8]) -> Vec<ChunkedReadResponse> {
    let mut messages = Vec::new();
    while !stream.is_empty() {
        let len = prost::encoding::decode_varint(&mut stream).unwrap() as usize;
        let (sum, rest) = stream.split_first_chunk::<4>().unwrap();
        let (message, rest) = rest.split_at(len);
        assert_eq!(u32::from_be_bytes(*sum), engine::simd::crc32c::crc32c(message));
        messages.push(ChunkedReadResponse::decode(message).unwrap());
        stream = rest;
    }
    messages
}

/// The body of an answer of which each part says its length.
fn unchunked(head: &str, body: Vec<u8>) -> Vec<u8> {
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return body;
    }
    let (mut rest, mut whole) = (body.as_slice(), Vec::new());
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        whole.extend_from_slice(&rest[end + 2..end + 2 + len]);
        rest = &rest[end + 2 + len + 2..];
    }
    whole
}

#[test]
fn native_histograms_are_read_as_samples_and_as_chunks() {
    let Some((uru, _folder)) = all_in_one("native") else { return };
    let time = end_of("native");
    let metric = "rpc_latency_seconds_01";
    let counted = answer(&uru.http, &format!("sum(count_over_time({metric}[10m]))"), time);
    let count = counted[0].1.as_str().unwrap().split(' ').nth(1).unwrap().parse::<f64>().unwrap() as usize;
    let summed = answer(&uru.http, &format!("histogram_count(sum(sum_over_time({metric}[10m])))"), time);
    let sum: f64 = summed[0].1.as_str().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let asked = Query {
        // A range of PromQL leaves its start out.
        start_timestamp_ms: (time - 600) * 1000 + 1,
        end_timestamp_ms: time * 1000,
        matchers: vec![metric_matcher(metric)],
        hints: None,
    };
    let request = ReadRequest { queries: vec![asked], accepted_response_types: vec![0] };
    let (status, head, body) = post(&uru, &request);
    assert_eq!(status, 200, "{head}");
    let plain = snap::raw::Decoder::new().decompress_vec(&unchunked(&head, body)).unwrap();
    let read = ReadResponse::decode(plain.as_slice()).unwrap();
    let histograms = read.results[0].timeseries.iter().flat_map(|series| &series.histograms);
    let total: f64 = histograms
        .clone()
        .map(|histogram| match histogram.count {
            Some(Count::CountFloat(count)) => count,
            Some(Count::CountInt(count)) => count as f64,
            None => 0.0,
        })
        .sum();
    let are_integers = |histogram: &Histogram| matches!(histogram.count, Some(Count::CountInt(_)));
    assert!(histograms.clone().all(are_integers), "as they are stored");
    assert_eq!((histograms.count(), (total - sum).abs() < 1e-6 * sum), (count, true), "{total} {sum}");

    let (status, head, body) = post(&uru, &ReadRequest { accepted_response_types: vec![1], ..request });
    assert_eq!(status, 200, "{head}");
    let mut counts = Vec::new();
    for message in chunked(&unchunked(&head, body)) {
        for chunk in message.chunked_series.iter().flat_map(|series| &series.chunks) {
            assert_eq!(chunk.r#type, proto::prometheus_copy::chunk::Encoding::Histogram as i32, "as they are stored");
            decode(&chunk.data, |_, histogram: engine::model::Histogram| counts.push(histogram.count)).unwrap();
        }
    }
    let total = counts.iter().sum::<u64>() as f64;
    assert_eq!((counts.len(), (total - sum).abs() < 1e-6 * sum), (count, true), "{total} {sum}");
}

/// Posts a request; the status, head and body of the answer.
fn post(uru: &Uru, request: &ReadRequest) -> (u16, String, Vec<u8>) {
    taken(begin(uru, "/api/v1/read", request))
}

/// Posts a request; its answer is yet to be read.
fn begin(uru: &Uru, path: &str, request: &ReadRequest) -> TcpStream {
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap();
    let mut stream = TcpStream::connect(&uru.http).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: uru\r\nConnection: close\r\nContent-Encoding: snappy\r\n\
         Content-Type: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    stream
}

/// The status, head and body of an answer.
fn taken(mut stream: TcpStream) -> (u16, String, Vec<u8>) {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head, answer.split_off(end + 4))
}

fn metric_matcher(name: &str) -> LabelMatcher {
    LabelMatcher { r#type: 0, name: "__name__".into(), value: name.into() }
}

#[test]
fn samples_are_answered_to_those_who_ask_for_them_and_limits_hold() {
    let folder = tempfile::tempdir().unwrap();
    let start = 1_700_000_000_000;
    support::write_block(&folder.path().join("bucket"), 1, (3, start));
    let data_dir = format!("--data-dir={}", folder.path().display());
    let uru = Uru::start("all-in-one", &["--no-self-scrape", &data_dir, "--query.max-samples=100"]);
    let up = metric_matcher("up");
    let of = |from: i64, to: i64| Query {
        start_timestamp_ms: start + from * 60_000,
        end_timestamp_ms: start + to * 60_000,
        matchers: vec![up.clone()],
        hints: None,
    };
    let request = ReadRequest { queries: vec![of(10, 19), of(50, 100)], accepted_response_types: Vec::new() };
    let (status, head, body) = post(&uru, &request);
    assert_eq!(status, 200, "{head}");
    assert!(head.to_lowercase().contains("content-type: application/x-protobuf"), "{head}");
    let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    let answer = ReadResponse::decode(plain.as_slice()).unwrap();
    let counts = |at: usize| answer.results[at].timeseries.iter().map(|one| one.samples.len()).collect::<Vec<_>>();
    assert_eq!((counts(0), counts(1)), (vec![10; 3], vec![10; 3]));
    assert_eq!(answer.results[0].timeseries[2].samples[0].value, 210.0);
    let labels: Vec<&str> = answer.results[0].timeseries[0].labels.iter().map(|label| label.name.as_str()).collect();
    assert_eq!(labels, ["__name__", "cluster", "instance"]);

    let (status, head, body) = post(&uru, &ReadRequest { queries: vec![of(0, 59)], ..ReadRequest::default() });
    assert_eq!(status, 422, "{head}");
    assert!(String::from_utf8_lossy(&body).contains("exceeded sample limit (100)"), "{head}");
    let unknown = ReadRequest { accepted_response_types: vec![9], ..request };
    assert_eq!(post(&uru, &unknown).0, 400);
}

#[test]
fn times_that_the_hints_leave_out_are_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let start = 1_700_000_000_000;
    support::write_block(&folder.path().join("bucket"), 1, (3, start));
    let data_dir = format!("--data-dir={}", folder.path().display());
    let uru = Uru::start("all-in-one", &["--no-self-scrape", &data_dir]);
    let (min_time, max_time) = (start + 10 * 60_000, start + 19 * 60_000);
    let request = |func: &str, kind: i32| {
        let hints = ReadHints { func: func.into(), start_ms: min_time, end_ms: max_time, ..ReadHints::default() };
        let mut request = all_of_up(kind);
        request.queries[0].hints = Some(hints);
        request
    };
    // Those of labels alone have no samples.
    for (func, count) in [("", 10), ("rate", 10), ("series", 0)] {
        let (status, head, body) = post(&uru, &request(func, 0));
        assert_eq!(status, 200, "{head}");
        let plain = snap::raw::Decoder::new().decompress_vec(&unchunked(&head, body)).unwrap();
        let answer = ReadResponse::decode(plain.as_slice()).unwrap();
        let counts: Vec<usize> = answer.results[0].timeseries.iter().map(|series| series.samples.len()).collect();
        assert_eq!(counts, [count; 3], "{func}");
        let (status, head, body) = post(&uru, &request(func, 1));
        assert_eq!(status, 200, "{head}");
        let series = chunked(&unchunked(&head, body)).into_iter().flat_map(|message| message.chunked_series);
        let chunks = series.flat_map(|series| series.chunks);
        let times: Vec<(i64, i64)> = chunks.map(|chunk| (chunk.min_time_ms, chunk.max_time_ms)).collect();
        assert_eq!(times, [(min_time, max_time); 3], "{func}");
    }
}

#[test]
fn a_querier_streams_the_chunks_of_its_endpoints() {
    let folder = tempfile::tempdir().unwrap();
    let start = 1_700_000_000_000;
    // More series than a batch of the querier has.
    support::write_block(&folder.path().join("bucket"), 1, (300, start));
    let data_dir = format!("--data-dir={}", folder.path().display());
    let store = Uru::start("all-in-one", &["--no-self-scrape", &data_dir]);
    let querier = Uru::start("query", &[&format!("--endpoint={}", store.grpc)]);
    let up = metric_matcher("up");
    let query = Query { start_timestamp_ms: start, end_timestamp_ms: i64::MAX, matchers: vec![up], hints: None };
    let request = ReadRequest { queries: vec![query.clone(), query], accepted_response_types: vec![1] };
    let read = |uru: &Uru| {
        let (status, head, body) = post(uru, &request);
        assert_eq!(status, 200, "{head}");
        chunked(&unchunked(&head, body))
    };
    let found = read(&querier);
    assert_eq!(found.len(), 600);
    assert_eq!(found, read(&store));
}

/// A request for all samples of `up`, to be answered as `kind`.
fn all_of_up(kind: i32) -> ReadRequest {
    let query =
        Query { start_timestamp_ms: 0, end_timestamp_ms: i64::MAX, matchers: vec![metric_matcher("up")], hints: None };
    ReadRequest { queries: vec![query], accepted_response_types: vec![kind] }
}

#[test]
fn what_cannot_be_read_fails_a_remote_read_unless_it_says_that_it_may_be_missing() {
    let up = series_frame(&[("__name__", "up"), ("instance", "a")], &[(1000, 1.0)]);
    let well = Endpoint::start(Answers::store(&[("store", "well")], vec![Step::Send(up)]));
    let gone = support::free_address();
    let flags = [format!("--endpoint={}", well.address), format!("--endpoint-strict={gone}")];
    let uru = Uru::start("query", &[&flags[0], &flags[1]]);
    for kind in [0, 1] {
        let request = all_of_up(kind);
        for path in ["/api/v1/read", "/api/v1/read?partial_response=false"] {
            let (status, head, body) = taken(begin(&uru, path, &request));
            let body = String::from_utf8_lossy(&body);
            assert!(status == 500 && body.contains(&gone), "{path} {kind}: {head} {body}");
        }
        let (status, head, body) = taken(begin(&uru, "/api/v1/read?partial_response=true", &request));
        assert_eq!(status, 200, "{head}");
        let body = unchunked(&head, body);
        let series = if kind == 0 {
            let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
            ReadResponse::decode(plain.as_slice()).unwrap().results[0].timeseries.len()
        } else {
            chunked(&body).len()
        };
        assert_eq!(series, 1, "{kind}");
        let is_told = |line: &&str| line.contains("remote read answers what is left") && line.contains(&gone);
        support::wait(|| uru.log().lines().filter(is_told).count() == kind as usize + 1);
    }
}

#[test]
fn a_remote_read_takes_the_turn_of_a_query() {
    let hung = Endpoint::start(Answers::store(&[("store", "hung")], vec![Step::Hang]));
    let endpoint = format!("--endpoint={}", hung.address);
    let uru = Uru::start("query", &[&endpoint, "--query.max-concurrent=1", "--query.timeout=1h"]);
    for kind in [0, 1] {
        let reading = begin(&uru, "/api/v1/read", &all_of_up(kind));
        hung.wait_for_a_call();
        let (status, body) = uru.get("/api/v1/query?query=up&timeout=100ms");
        assert!(status == 503 && body.contains("query timed out in query queue"), "{kind}: {body}");
        drop(reading);
        hung.wait_for_the_end_of_calls();
        support::wait(|| uru.metric(IN_FLIGHT) == Some(0.0));
    }
}

#[test]
fn what_a_remote_read_gathers_ends_at_the_limit_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    support::write_block(&bucket, 1, (9000, 1_700_000_000_000));
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    let store = Uru::start("store", &[&objstore, &format!("--data-dir={}", folder.path().join("data").display())]);
    // Packed it is some 3 MB.
    let uru = Uru::start("query", &[&format!("--endpoint={}", store.grpc), "--query.memory-limit=2MiB"]);
    let mut request = all_of_up(0);
    let (status, _, body) = post(&uru, &request);
    let said = String::from_utf8_lossy(&body);
    assert!(status == 422 && said.contains("query.memory-limit"), "{status} {said:.300}");
    assert!(!said.contains("answering"), "it ends before all is gathered: {said}");
    support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
    request.queries[0].matchers.push(LabelMatcher { r#type: 2, name: "instance".into(), value: "i-00.*".into() });
    let (status, head, body) = post(&uru, &request);
    assert_eq!(status, 200, "{head}");
    let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    assert_eq!(ReadResponse::decode(plain.as_slice()).unwrap().results[0].timeseries.len(), 100);
    support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
}

#[test]
fn one_who_does_not_read_chunks_is_waited_for_until_the_query_times_out() {
    let folder = tempfile::tempdir().unwrap();
    support::write_block(&folder.path().join("bucket"), 1, (9000, 1_700_000_000_000));
    let data_dir = format!("--data-dir={}", folder.path().display());
    let uru = Uru::start("all-in-one", &["--no-self-scrape", &data_dir, "--query.timeout=3s"]);
    let used = || uru.metric("uru_memory_used_bytes").unwrap();
    let idle = used();
    // Some 100 MB, of which the sockets hold the least part.
    let mut request = all_of_up(1);
    request.queries = vec![request.queries[0].clone(); 40];
    let mut stalled = begin(&uru, "/api/v1/read", &request);
    support::wait(|| uru.metric(IN_FLIGHT) == Some(1.0));
    support::wait(|| uru.metric(IN_FLIGHT) == Some(0.0));
    let mut answer = Vec::new();
    // It is broken off, which may be an error here too.
    let _ = stalled.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{} bytes", answer.len());
    assert!(!answer.ends_with(b"\r\n0\r\n\r\n"), "an answer that lacks something has no end");
    support::wait(|| uru.log().contains("query timed out in query execution"));
    support::wait(|| used() == idle);
}
