//! The limits of queries that come over gRPC: samples, memory, time and turns, in every component that
//! evaluates. What is over a limit ends with an error that names it, and the process goes on.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use proto::thanos::info::{InfoRequest, InfoResponse};
use proto::thanos::{LabelMatcher, QueryRequest, QueryResponse, SeriesRequest, query_response};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::support;
use crate::support::write;
use crate::support::write::{NOW, float_series};
use crate::support::{Uru, run, write_block};

/// Series that every component of these tests has.
const SERIES: usize = 2000;

async fn ask(uru: &Uru, request: QueryRequest) -> Result<Vec<query_response::Result>, Status> {
    let mut client = Grpc::new(uru.connect().await).max_decoding_message_size(usize::MAX);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/thanos.Query/Query");
    let codec = ProstCodec::<QueryRequest, QueryResponse>::default();
    let mut stream = client.server_streaming(Request::new(request), path, codec).await?.into_inner();
    let mut parts = Vec::new();
    while let Some(message) = stream.message().await? {
        parts.extend(message.result);
    }
    Ok(parts)
}

fn query(text: &str) -> QueryRequest {
    QueryRequest { query: text.to_owned(), time_seconds: NOW / 1000, ..QueryRequest::default() }
}

/// What the only sample of an answer says.
fn number(parts: &[query_response::Result]) -> f64 {
    let [query_response::Result::Timeseries(series), query_response::Result::Stats(_)] = parts else {
        panic!("{parts:?}")
    };
    series.samples[0].value
}

/// Starts `component`, which has [`SERIES`] series called `up`, with `flags`.
fn start(component: &str, folder: &Path, flags: &[&str]) -> Uru {
    if component == "receive" {
        let uru = write::start(folder, flags);
        let names: Vec<String> = (0..SERIES).map(|number| format!("i-{number:04}")).collect();
        let series: Vec<_> =
            names.iter().map(|name| float_series(&[("__name__", "up"), ("instance", name)], &[(NOW, 1.0)])).collect();
        assert_eq!(write::write(&uru, "a", &series).status, 200);
        return uru;
    }
    write_block(&folder.join("bucket"), 1, (SERIES, NOW));
    let (bucket, data) = (folder.join("bucket"), folder.join("data"));
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    let data = format!("--data-dir={}", data.display());
    let more: &[&str] = if component == "all-in-one" { &["--no-self-scrape"] } else { &[] };
    Uru::start(component, &[&[objstore.as_str(), &data], more, flags].concat())
}

#[test]
fn a_query_over_a_limit_ends_with_its_name_and_the_next_one_is_answered() {
    for component in ["store", "all-in-one", "receive"] {
        for (flag, code, name) in [
            ("--query.max-samples=1000", Code::ResourceExhausted, "too many samples into memory"),
            ("--query.memory-limit=100KB", Code::ResourceExhausted, "query.memory-limit"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let uru = start(component, folder.path(), &[flag]);
            let refused = run(ask(&uru, query("up"))).expect_err("2,000 series are too many");
            assert_eq!(refused.code(), code, "{component} {flag}: {refused}");
            assert!(refused.message().contains(name), "{component} {flag}: {refused}");
            let answer = run(ask(&uru, query("count(up{instance=~\"i-00.*\"})"))).unwrap();
            assert_eq!(number(&answer), 100.0, "{component} {flag}");
        }
    }
}

#[test]
fn queries_as_high_as_they_may_be_are_answered_and_higher_ones_refused() {
    let folder = tempfile::tempdir().unwrap();
    let uru = start("all-in-one", folder.path(), &[]);
    let post = |path: &str, query: &str| {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("query", query), ("time", "0"), ("start", "0"), ("end", "60"), ("step", "60")])
            .finish();
        let kind = ["Content-Type: application/x-www-form-urlencoded"];
        let (status, _, body) = support::request(&uru.http, ("POST", path), &kind, form.as_bytes());
        (status, String::from_utf8(body).unwrap())
    };
    let chain = |of: &str, operator: &str, count: usize| vec![of; count].join(operator);
    let up = "up{instance=\"i-0001\"}";
    for text in [
        chain("1", "+", 2_000),
        chain("vector(1)", "*", 1_999),
        chain(up, " or ", 2_000),
        format!("sum({})", chain(up, "+", 1_999)),
    ] {
        for path in ["/api/v1/query", "/api/v1/query_range", "/api/v1/parse_query"] {
            let (status, body) = post(path, &text);
            assert_eq!(status, 200, "{path}: {}", &body[..body.len().min(300)]);
        }
        run(ask(&uru, query(&text))).unwrap();
    }
    // What these write is as long as the square of the query.
    for path in ["/api/v1/query_explain", "/api/v1/query?analyze=true"] {
        assert_eq!(post(path, &chain("vector(1)", "*", 900)).0, 200, "{path}");
    }
    assert_eq!(post("/api/v1/format_query", &chain("up", " or ", 300)).0, 200);
    let (status, body) = post("/api/v1/query", &chain("1", "+", 100_000));
    assert!(status == 400 && body.contains("expression is 2001 operators deep, the limit is 2000"), "{body}");
}

#[test]
fn regexps_that_compile_to_very_much_are_refused_and_keep_nobody_else_waiting() {
    let matchers: Vec<String> = (0..40).map(|number| format!("a=~\"[\\\\pL]{{500}}{number}\"")).collect();
    let text = format!("x{{{}}}", matchers.join(","));
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs([("query", &text)]).finish();
    let kind = ["Content-Type: application/x-www-form-urlencoded"];
    let uru = Uru::start("query", &["--query.memory-limit=256MiB"]);
    let idle = uru.peak_bytes();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| support::request(&uru.http, ("POST", "/api/v1/query"), &kind, form.as_bytes()));
        while !asked.is_finished() {
            let begin = std::time::Instant::now();
            assert_eq!(uru.get("/-/healthy").0, 200);
            assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let (status, _, body) = asked.join().unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(status == 422 && body.contains("regexps of all requests, an eighth of the memory limit: "), "{body}");
    });
    assert!(uru.peak_bytes() - idle < 320e6, "{} of {idle}", uru.peak_bytes());
    support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
    let refused = run(ask(&uru, query(&text))).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let folder = tempfile::tempdir().unwrap();
    let store = start("store", folder.path(), &[]);
    let matcher = |number| LabelMatcher { r#type: 2, name: "a".into(), value: format!("[\\pL]{{500}}{number}").into() };
    let request = SeriesRequest { matchers: (0..40).map(matcher).collect(), ..support::everything() };
    let refused = run(async { support::series(&store.connect().await, request).await }).unwrap_err();
    let is_named = refused.message().contains("regexps of one request");
    assert!(refused.code() == Code::ResourceExhausted && is_named, "{refused}");
    // Usual ones are counted and given back, too.
    assert_eq!(uru.get("/api/v1/query?query=count(up%7Ba=~%22x%5B0-9%5D.y%22%7D)").0, 200);
    support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
}

#[test]
fn metadata_of_a_call_may_be_as_long_as_heads_over_http_1() {
    let folder = tempfile::tempdir().unwrap();
    let uru = start("store", folder.path(), &[]);
    run(async {
        let mut client = Grpc::new(uru.connect().await);
        client.ready().await.unwrap();
        let mut request = Request::new(InfoRequest {});
        request.metadata_mut().insert("x-long", "a".repeat(60_000).parse().unwrap());
        let path = PathAndQuery::from_static("/thanos.info.Info/Info");
        let codec = ProstCodec::<InfoRequest, InfoResponse>::default();
        client.unary(request, path, codec).await.unwrap();
    });
}

#[test]
fn a_query_that_takes_too_long_ends_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let uru = start("store", folder.path(), &["--query.timeout=0s"]);
    let late = run(ask(&uru, query("up"))).unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    assert!(late.message().starts_with("query timed out in "), "{late}");
}

#[test]
fn queries_hold_memory_of_the_process_until_their_answer_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let uru = start("store", folder.path(), &["--store.memory-limit=64MB"]);
    let matrix = QueryRequest { response_batch_size: 64, ..query("up[1h]") };
    let answer = run(ask(&uru, matrix)).unwrap();
    let sizes: Vec<usize> = answer
        .iter()
        .filter_map(|part| match part {
            query_response::Result::TimeseriesBatch(batch) => Some(batch.series.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), SERIES);
    assert!(sizes.iter().all(|size| *size <= 64), "{sizes:?}");
    let peak = uru.metric("uru_memory_peak_bytes").unwrap();
    assert!(peak >= (SERIES * 16) as f64, "{peak}");
    support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));

    // Subqueries of all series at once: far more than the process may hold, whatever the query may.
    let large = "count_over_time(up[1h:100ms]) and on () vector(1)";
    let refused = run(ask(&uru, query(large))).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(uru.peak_bytes() < 256e6, "{}", uru.peak_bytes());
    assert_eq!(number(&run(ask(&uru, query("count(up)"))).unwrap()), SERIES as f64);
    support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
}

#[test]
fn a_querier_over_stores_that_send_very_much_stays_within_its_memory() {
    const LIMIT: f64 = 32.0 * 1024.0 * 1024.0;
    // Frames on their way, what threads decode just now, and what the allocator keeps.
    const BESIDE: f64 = 128.0 * 1024.0 * 1024.0;
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    write_block(&bucket, 1, (9000, NOW));
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    let store = Uru::start("store", &[&objstore, &format!("--data-dir={}", folder.path().join("data").display())]);
    let endpoint = format!("--endpoint={}", store.grpc);
    // Twice 32 million samples are more than the default.
    let uru = Uru::start("query", &[&endpoint, "--query.memory-limit=32MiB", "--query.max-samples=100000000"]);
    let (start, end) = (NOW / 1000, NOW / 1000 + 3540);
    let range = format!("query_range?start={start}&end={end}&step=1&query=");
    let idle = uru.peak_bytes();
    for (asked, is_answered) in [
        // 250 MiB of steps, and as many of text if they were fewer.
        (format!("{range}up"), false),
        (format!("{range}max_over_time(up[10m])"), false),
        (format!("{range}sum(rate(up[10m]))"), true),
        (format!("{range}count(up==bool 5)"), true),
        (format!("{range}topk(2, up)"), true),
        (format!("query?time={end}&query=up[1h]"), false),
        (format!("query?time={end}&query=up"), true),
        (format!("query?time={end}&query=count_over_time(up[1h:1s])"), false),
    ] {
        let (status, body) = uru.get(&format!("/api/v1/{}", asked.replace(' ', "%20")));
        assert_eq!(status, if is_answered { 200 } else { 422 }, "{asked}: {}", &body[..body.len().min(300)]);
        assert!(is_answered || body.contains("query.memory-limit"), "{asked}: {body}");
        let peak = uru.peak_bytes();
        assert!(peak < idle + LIMIT + BESIDE, "{asked}: {idle} bytes before, {peak} at the most");
    }
    support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
}

#[test]
fn an_answer_holds_memory_for_as_long_as_its_caller_takes_to_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    write_block(&bucket, 1, (9000, NOW));
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    let data = format!("--data-dir={}", folder.path().join("data").display());
    let uru = Uru::start("all-in-one", &[&objstore, &data, "--no-self-scrape", "--store.memory-limit=256MiB"]);
    let used = || uru.metric("uru_memory_used_bytes").unwrap();
    let idle = used();
    // Some 14 MB of text, of which the sockets hold the least part.
    let mut slow = TcpStream::connect(&uru.http).unwrap();
    let path = format!("/api/v1/query?query=up%5B1h%5D&time={}", NOW / 1000 + 3540);
    write!(slow, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    slow.peek(&mut [0]).unwrap();
    support::wait(|| used() - idle < 2e7);
    assert!(used() - idle > 4e6, "{} of {idle}", used());
    drop(slow);
    support::wait(|| used() == idle);
}

#[test]
fn queries_over_grpc_and_http_wait_at_one_gate_that_metrics_show() {
    for component in ["store", "all-in-one", "receive", "query"] {
        let folder = tempfile::tempdir().unwrap();
        let flag = "--query.max-concurrent=3";
        let uru =
            if component == "query" { Uru::start("query", &[flag]) } else { start(component, folder.path(), &[flag]) };
        run(ask(&uru, query("vector(1)"))).unwrap();
        assert_eq!(uru.metric("thanos_query_concurrent_gate_queries_max"), Some(3.0), "{component}");
        assert_eq!(uru.metric("thanos_query_concurrent_gate_queries_in_flight"), Some(0.0), "{component}");
        assert_eq!(uru.metric("thanos_query_concurrent_gate_queries_duration_seconds_count"), Some(1.0));
        assert_eq!(uru.metric("thanos_query_concurrent_gate_queries_total"), Some(1.0), "{component}");
    }
}

/// What is answered to a call of which `bytes` come and no more, and no end; as long as nothing is, it waits.
async fn unfinished(mut channel: Channel, path: &'static str, bytes: usize) -> Code {
    static PIECE: [u8; 16_000] = [b'a'; 16_000];
    let piece = |at: usize| Bytes::from_static(&PIECE[..PIECE.len().min(bytes - at)]);
    let pieces = (0..bytes).step_by(PIECE.len()).map(|at| Ok::<_, Status>(Frame::data(piece(at))));
    let pieces: Vec<_> = pieces.collect();
    let body = Body::new(StreamBody::new(stream::iter(pieces).chain(stream::pending())));
    let request = http::Request::post(path).version(http::Version::HTTP_2);
    let request = request.header("content-type", "application/grpc").header("te", "trailers").body(body).unwrap();
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let response = channel.call(request).await.unwrap();
    Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
}

/// One connection with such calls once made a process of 100 MB take 600.
#[test]
fn questions_that_are_never_finished_are_accounted_for_and_other_calls_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    for (component, flag, path) in [
        ("store", "--store.memory-limit=64MB", "/thanos.Store/Series"),
        ("receive", "--store.memory-limit=64MB", "/thanos.Store/LabelNames"),
        ("query", "--query.memory-limit=64MB", "/thanos.Store/Series"),
        ("query", "--query.memory-limit=64MB", "/thanos.Query/Query"),
    ] {
        let folder = folder.path().join(format!("{component}-{}", path.len()));
        let uru = if component == "query" { Uru::start("query", &[flag]) } else { start(component, &folder, &[flag]) };
        let used = || uru.metric("uru_memory_used_bytes").unwrap();
        let idle = (used(), uru.peak_bytes());
        run(async {
            let channel = uru.connect().await;
            let mut calls = Vec::new();
            calls.extend((0..100).map(|_| tokio::spawn(unfinished(channel.clone(), path, 5))));
            tokio::time::sleep(Duration::from_millis(200)).await;
            calls.extend((0..40).map(|_| tokio::spawn(unfinished(channel.clone(), path, 4 << 20))));
            // Most of the long ones are refused, and no short one.
            while calls.iter().filter(|call| call.is_finished()).count() < 20 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(used() > idle.0 + 2e6, "{component} {path}: {}", used());
            let told = support::unary::<_, InfoResponse>(&channel, "/thanos.info.Info/Info", InfoRequest {}).await;
            told.unwrap_or_else(|status| panic!("{component} {path}: {status}"));
            assert!(calls[..100].iter().all(|call| !call.is_finished()), "{component} {path}");
            for call in calls {
                if call.is_finished() {
                    assert_eq!(call.await.unwrap(), Code::ResourceExhausted, "{component} {path}");
                } else {
                    call.abort();
                }
            }
        });
        support::wait(|| used() <= idle.0);
        let grown = uru.peak_bytes() - idle.1;
        assert!(grown < 128e6, "{component} {path}: {grown} bytes more");
    }
}

#[test]
fn forms_that_are_never_finished_are_accounted_for_until_their_senders_are_gone() {
    let uru = Uru::start("query", &["--query.memory-limit=64MB"]);
    let begin = || {
        let mut stream = TcpStream::connect(&uru.http).unwrap();
        let kind = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000000";
        write!(stream, "POST /api/v1/query HTTP/1.1\r\nHost: a\r\n{kind}\r\n\r\nquery={}", "1".repeat(30_000)).unwrap();
        stream
    };
    let streams: Vec<TcpStream> = (0..200).map(|_| begin()).collect();
    // What lies aside is for some sixty of them.
    support::wait(|| uru.metric("uru_memory_used_bytes") > Some(100.0 * 30_000.0));
    drop(streams);
    support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
}

#[test]
fn an_engine_that_does_not_exist_and_times_out_of_range_are_refused() {
    let uru = Uru::start("query", &[]);
    for bad in [
        QueryRequest { engine: 9, ..query("vector(1)") },
        QueryRequest { time_seconds: i64::MAX, ..query("vector(1)") },
        QueryRequest { lookback_delta_seconds: i64::MAX, ..query("vector(1)") },
    ] {
        assert_eq!(run(ask(&uru, bad.clone())).unwrap_err().code(), Code::InvalidArgument, "{bad:?}");
    }
    let unfinished = run(ask(&uru, query("vector("))).unwrap_err();
    assert_eq!(unfinished.code(), Code::Unknown, "as from Thanos: {unfinished}");
    // No time is now.
    let answer = run(ask(&uru, QueryRequest { time_seconds: 0, ..query("time()") })).unwrap();
    assert!(number(&answer) > 1.7e9);
}

#[test]
fn a_selection_of_a_query_over_the_limits_of_a_call_ends_the_query() {
    let folder = tempfile::tempdir().unwrap();
    let store = start("store", folder.path(), &[]);
    let endpoint = format!("--endpoint={}", store.grpc);
    for (flag, name) in [
        ("--store.limits.request-series=1000", "store.limits.request-series"),
        ("--store.limits.request-samples=120000", "store.limits.request-samples"),
    ] {
        let uru = Uru::start("query", &[&endpoint, flag]);
        let now = NOW / 1000;
        for path in
            [format!("/api/v1/query?query=count(up)&time={now}"), format!("/api/v1/series?match[]=up&end={now}")]
        {
            // Series alone have no samples.
            let is_over = path.contains("query") || flag.contains("series");
            let (status, body) = uru.get(&path);
            assert_eq!(status, if is_over { 422 } else { 200 }, "{flag} {path}: {body}");
            assert_eq!(body.contains(name), is_over, "{flag} {path}: {body}");
        }
        let narrower = "/api/v1/query?query=count(up%7Binstance=~%22i-00.*%22%7D)&time=";
        assert!(uru.get(&format!("{narrower}{now}")).1.contains("\"100\""), "{flag}");
        let (reason, times) = if flag.contains("series") { ("series", 2.0) } else { ("chunks", 1.0) };
        let dropped = format!("thanos_store_selects_dropped_total{{reason=\"{reason}\"}}");
        assert_eq!(uru.metric(&dropped), Some(times), "{flag}");
    }
}

#[test]
fn addresses_that_cannot_be_and_configurations_that_cannot_be_read_are_refused_at_the_start() {
    for (flag, name) in
        [("--endpoint=nothing", "nothing"), ("--endpoint.sd-config-file=/no/such/file.yml", "/no/such/file.yml")]
    {
        let text = support::refused(&["query", flag]);
        assert!(text.contains(name), "{flag}: {text}");
    }
}
