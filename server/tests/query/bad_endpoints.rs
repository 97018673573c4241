//! Endpoints that hang, lie, break off or send far too much: a query ends in time, says what went
//! wrong, and answers with what the others have.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::prometheus_copy::{Sample, TimeSeries};
use proto::thanos::{
    Meta, MetricMetadata, MetricMetadataEntry, MetricMetadataResponse, QueryRangeResponse, Rule, RuleGroup,
    RulesResponse, SeriesResponse, metric_metadata_response, query_range_response, rules_response, series_response,
};
use serde_json::Value;
use tokio::sync::Semaphore;
use tonic::Code;

use crate::support;
use crate::support::Uru;
use crate::support::endpoint::{Answers, Endpoint, Step, framed, label, series_frame};
use crate::support::way::{Closed, Way};

/// A time near which every endpoint here has a sample.
const NOW: i64 = 1_789_984_800;

fn up(instance: &str) -> Step {
    Step::Send(series_frame(&[("__name__", "up"), ("instance", instance)], &[(NOW * 1000, 1.0)]))
}

fn endpoint(name: &str, series: Vec<Step>) -> Endpoint {
    Endpoint::start(Answers::store(&[("store", name)], series))
}

fn querier(endpoints: &[&Endpoint], flags: &[&str]) -> Uru {
    let addresses: Vec<String> = endpoints.iter().map(|found| format!("--endpoint={}", found.address)).collect();
    let all: Vec<&str> = addresses.iter().map(String::as_str).chain(flags.iter().copied()).collect();
    Uru::start("query", &all)
}

fn ask(uru: &Uru, path: &str) -> (u16, Value) {
    let (status, body) = uru.get(path);
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

fn query(uru: &Uru, rest: &str) -> (u16, Value) {
    ask(uru, &format!("/api/v1/query?query=up&time={NOW}{rest}"))
}

/// The instances of an answer, and its warnings.
fn found(answer: &Value) -> (Vec<String>, Vec<String>) {
    let series = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let instances = series.iter().map(|one| one["metric"]["instance"].as_str().unwrap().to_owned());
    let warnings = answer["warnings"].as_array().into_iter().flatten();
    (instances.collect(), warnings.map(|text| text.as_str().unwrap().to_owned()).collect())
}

#[test]
fn a_query_ends_at_its_timeout_whatever_its_endpoints_do() {
    for hangs in [vec![Step::Mute], vec![Step::Hang], vec![up("a"), Step::Hang]] {
        let hung = endpoint("hung", hangs);
        let uru = querier(&[&hung], &["--query.timeout=1s"]);
        let (status, answer) = query(&uru, "");
        assert_eq!((status, &answer["errorType"]), (503, &"timeout".into()), "{answer}");
        assert!(answer["error"].as_str().unwrap().starts_with("query timed out in "), "{answer}");
        hung.wait_for_the_end_of_calls();
        // Another timeout of the request itself, and what is asked of labels and series.
        let (status, answer) = query(&uru, "&timeout=100ms");
        assert_eq!((status, &answer["errorType"]), (503, &"timeout".into()), "{answer}");
        let (status, answer) = ask(&uru, "/api/v1/series?match[]=up");
        assert_eq!((status, &answer["errorType"]), (503, &"timeout".into()), "{answer}");
        hung.wait_for_the_end_of_calls();
    }
}

#[test]
fn a_stopped_endpoint_is_not_waited_for_until_the_query_times_out() {
    std::thread::scope(|threads| {
        for flag in ["--endpoint", "--endpoint-strict"] {
            threads.spawn(move || stop_an_endpoint(flag));
        }
    });
}

fn stop_an_endpoint(flag: &str) {
    let (well, stopped) = (endpoint("well", vec![up("a")]), endpoint("stopped", vec![up("b")]));
    let way = Way::to(&stopped.address, Closed::Loses);
    let uru = querier(&[&well], &[&format!("{flag}={}", way.address), "--query.timeout=1h"]);
    let both = (vec!["a".to_owned(), "b".to_owned()], Vec::new());
    support::wait(|| found(&query(&uru, "").1) == both);
    way.close();
    // Asked before anybody can know it.
    let (status, answer) = query(&uru, "");
    let (instances, warnings) = found(&answer);
    assert_eq!((status, instances), (200, vec!["a".to_owned()]), "{answer}");
    assert!(warnings.len() == 1 && warnings[0].contains(&way.address), "{answer}");
    // And once it is known.
    let is_known = |stores: &Value| {
        let all = stores["data"].as_object().unwrap().values().flat_map(|kind| kind.as_array().unwrap());
        all.filter(|store| store["name"] == way.address.as_str()).all(|store| !store["lastError"].is_null())
    };
    support::wait(|| is_known(&ask(&uru, "/api/v1/stores").1));
    let (status, answer) = query(&uru, "");
    assert_eq!((status, found(&answer).0), (200, vec!["a".to_owned()]), "{answer}");
    let is_strict = flag == "--endpoint-strict";
    assert_eq!(found(&answer).1.iter().any(|warning| warning.contains("health")), is_strict, "{answer}");
}

#[test]
fn a_client_that_goes_away_ends_the_work_at_the_endpoints() {
    let hung = endpoint("hung", vec![up("a"), Step::Hang]);
    let uru = querier(&[&hung], &["--query.timeout=1h"]);
    for path in ["query?query=up", "query_range?query=up&start=0&end=60&step=1", "series?match[]=up"] {
        let mut client = TcpStream::connect(&uru.http).unwrap();
        client.write_all(format!("GET /api/v1/{path} HTTP/1.1\r\nHost: uru\r\n\r\n").as_bytes()).unwrap();
        hung.wait_for_a_call();
        drop(client);
        hung.wait_for_the_end_of_calls();
        // Whoever worked on the query has ended too.
        support::wait(|| uru.metric("thanos_query_concurrent_gate_queries_in_flight") == Some(0.0));
    }
}

#[test]
fn answers_that_wait_for_another_endpoint_keep_back_no_others() {
    let large = endpoint("large", large(8));
    let hung = endpoint("hung", vec![Step::Hang]);
    let uru = querier(&[&large, &hung], &["--query.timeout=1h"]);
    // More than all that may be on its way over one connection, each of them unread as long as the other hangs.
    let waiting: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut client = TcpStream::connect(&uru.http).unwrap();
            client.write_all(b"GET /api/v1/query?query=up HTTP/1.1\r\nHost: uru\r\n\r\n").unwrap();
            client
        })
        .collect();
    support::wait(|| large.requests().len() == 8 && hung.requests().len() == 8);
    for _ in 0..3 {
        let path = format!("/api/v1/query?query=count(up%7Bstore=%22large%22%7D)&time={NOW}&timeout=30s");
        let (status, answer) = ask(&uru, &path);
        assert_eq!((status, &answer["data"]["result"][0]["value"][1]), (200, &"8".into()), "{answer}");
    }
    drop(waiting);
    hung.wait_for_the_end_of_calls();
}

/// So many series of 1 MiB each, which come in order.
fn large(count: usize) -> Vec<Step> {
    let padding = "x".repeat(1 << 20);
    let one = |number: usize| {
        let labels = [("__name__", "up"), ("instance", &*format!("{number:03}")), ("padding", &*padding)];
        Step::Send(series_frame(&labels, &[(NOW * 1000, 1.0)]))
    };
    (0..count).map(one).collect()
}

#[test]
fn an_answer_is_read_while_another_endpoint_waits_for_its_end() {
    // As between stores that each let one call in, where another query has the turn of the second.
    let nothing = Step::Send(SeriesResponse::default());
    for before in [vec![], vec![nothing], vec![up("!")]] {
        let turns = Arc::new(Semaphore::new(0));
        let first = [large(8), vec![Step::Free(Arc::clone(&turns))]].concat();
        let count =
            9 + before.iter().filter(|step| matches!(step, Step::Send(frame) if frame.result.is_some())).count();
        let second = [before, vec![Step::Take(turns), up("last")]].concat();
        let (first, second) = (endpoint("first", first), endpoint("second", second));
        let uru = querier(&[&first, &second], &["--query.timeout=1h"]);
        let (status, answer) = ask(&uru, &format!("/api/v1/query?query=count(up)&time={NOW}&timeout=60s"));
        assert_eq!((status, &answer["warnings"]), (200, &Value::Null), "{answer}");
        assert_eq!(answer["data"]["result"][0]["value"][1], count.to_string(), "{answer}");
        support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
    }
}

#[test]
fn an_answer_that_there_is_no_memory_to_read_while_others_wait_ends_the_query() {
    let (large, hung) = (endpoint("large", large(40)), endpoint("hung", vec![Step::Hang]));
    let uru = querier(&[&large, &hung], &["--query.timeout=1h", "--query.memory-limit=64MB"]);
    let (status, answer) = query(&uru, "");
    let error = answer["error"].as_str().unwrap();
    assert_eq!(status, 422, "{answer}");
    assert!(error.contains("query.memory-limit: no room for what") && error.contains(&large.address), "{answer}");
    large.wait_for_the_end_of_calls();
    hung.wait_for_the_end_of_calls();
    support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
}

#[test]
fn the_next_start_tells_which_queries_ran_when_the_process_was_killed() {
    let hung = endpoint("hung", vec![Step::Hang]);
    let folder = tempfile::tempdir().unwrap();
    let path = format!("--query.active-query-path={}", folder.path().join("deep/active").display());
    let uru = querier(&[&hung], &["--query.timeout=1h", &path]);
    assert!(!uru.log().contains("did not finish"), "{}", uru.log());
    query(&uru, "&timeout=1s");
    hung.wait_for_the_end_of_calls();
    let mut client = TcpStream::connect(&uru.http).unwrap();
    client.write_all(b"GET /api/v1/query?query=rate(up[5m]) HTTP/1.1\r\nHost: uru\r\n\r\n").unwrap();
    hung.wait_for_a_call();
    uru.kill();
    let uru = querier(&[&hung], &[&path]);
    let log = uru.log();
    let line = log.lines().find(|line| line.contains("these queries did not finish in the last run")).expect(&log);
    assert!(line.contains("rate(up[5m])") && line.matches("timestamp_sec").count() == 1, "{line}");
    assert!(uru.terminate().success());
    assert!(!querier(&[&hung], &[&path]).log().contains("did not finish"));
    let file = format!("--query.active-query-path={}", folder.path().join("deep/active/queries.active").display());
    let told = support::refused(&["query", &file]);
    let path = file.strip_prefix("--").unwrap().replace('=', ": ");
    assert!(told.contains(&path) && told.contains("give a folder"), "{told}");
}

#[test]
fn silent_endpoints_are_left_out_after_the_response_timeout() {
    let well = endpoint("well", vec![up("well")]);
    let silent = [vec![Step::Mute], vec![Step::Hang], vec![up("before"), Step::Hang]];
    let silent = silent.map(|steps| endpoint("silent", steps));
    let all = [&well, &silent[0], &silent[1], &silent[2]];
    let uru = querier(&all, &["--store.response-timeout=300ms", "--query.timeout=1h"]);
    let (status, answer) = query(&uru, "");
    let (instances, warnings) = found(&answer);
    assert_eq!((status, instances), (200, vec!["before".to_owned(), "well".to_owned()]), "{answer}");
    for hung in &silent {
        let said = warnings.iter().find(|text| text.contains(&hung.address)).unwrap_or_else(|| panic!("{answer}"));
        assert!(said.contains("failed to receive any data in 300ms (--store.response-timeout)"), "{said}");
        hung.wait_for_the_end_of_calls();
    }
    let (status, answer) = query(&uru, "&partial_response=false");
    assert_eq!((status, &answer["errorType"]), (422, &"execution".into()), "{answer}");
    // Labels are asked for over unary calls, with the same patience.
    let (status, answer) = ask(&uru, "/api/v1/labels?partial_response=false");
    assert_eq!((status, &answer["errorType"]), (422, &"execution".into()), "{answer}");
}

#[test]
fn what_is_broken_is_a_warning_and_the_rest_is_answered() {
    let half: Bytes = {
        let whole = framed(&series_frame(&[("__name__", "up"), ("instance", "half")], &[(NOW * 1000, 1.0)]));
        whole.slice(..whole.len() / 2)
    };
    let huge = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
    // Its length is more than a quarter of what may be held, so nothing of it is waited for.
    let large = Bytes::from_static(&[0, 0x02, 0x80, 0, 0, 1, 2, 3]);
    // Two bytes for each of very many things, which take a hundred times as much when they have been read.
    let many = |head: &[u8], tag: u8| {
        let things = [tag, 0].repeat(2_000_000);
        let field = |tag: u8, bytes: &[u8]| {
            let mut field = vec![tag];
            prost::encoding::encode_varint(bytes.len() as u64, &mut field);
            [&field, bytes].concat()
        };
        let message = field(if tag == 0x12 { 0x0a } else { 0x22 }, &[head, &things].concat());
        Bytes::from([&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat())
    };
    let garbage = framed(&prost_types::Any { type_url: "x".repeat(100), value: vec![0xff; 100] });
    let warned = SeriesResponse { result: Some(series_response::Result::Warning("a block is gone".into())) };
    let kinds: Vec<(&str, Vec<Step>, &str)> = vec![
        ("half a frame", vec![up("before"), Step::Bytes(half), Step::Break], "endpoint"),
        (
            "a frame of 4 GiB",
            vec![Step::Bytes(huge), Step::Hang],
            "found 4294967295 bytes, the limit is: 16777216 bytes",
        ),
        (
            "a frame of 40 MiB",
            vec![Step::Bytes(large), Step::Hang],
            "query.memory-limit: receive series from 127.0.0.1:",
        ),
        (
            "a frame of very many chunks",
            vec![Step::Bytes(many(b"\x0a\x06\x0a\x01a\x12\x01b", 0x12))],
            " of 67108864 bytes are in use",
        ),
        ("a frame of very many series", vec![Step::Bytes(many(b"", 0x0a))], " of 67108864 bytes are in use"),
        ("no protobuf", vec![Step::Bytes(garbage)], "endpoint"),
        ("a broken stream", vec![up("before"), Step::Break], "Internal"),
        ("a status", vec![up("before"), Step::End(Code::ResourceExhausted, "too many series")], "too many series"),
        ("unsorted series", vec![up("b"), up("a")], "they must ascend"),
        ("a warning", vec![Step::Send(warned)], "a block is gone"),
    ];
    let well = endpoint("well", vec![up("well")]);
    for (what, steps, said) in kinds {
        let broken = endpoint("broken", steps);
        let uru = querier(&[&well, &broken], &["--query.memory-limit=64MiB"]);
        let (status, answer) = query(&uru, "");
        assert_eq!(status, 200, "{what}: {answer}");
        let (instances, warnings) = found(&answer);
        assert!(instances.contains(&"well".to_owned()), "{what}: {answer}");
        let is_said = warnings.iter().any(|text| text.contains(said));
        assert!(is_said || said == "endpoint" && !warnings.is_empty(), "{what}: {answer}");
        let (status, answer) = query(&uru, "&partial_response=0");
        assert_eq!((status, &answer["errorType"]), (422, &"execution".into()), "{what}: {answer}");
        let refused = if what.starts_with("a frame of") { 2.0 } else { 0.0 };
        assert_eq!(uru.metric("uru_memory_refused_requests_total"), Some(refused), "{what}");
        broken.wait_for_the_end_of_calls();
    }
}

#[test]
fn an_endpoint_that_sends_without_end_is_stopped_at_a_limit_of_memory() {
    let chunk = framed(&series_frame(&[("__name__", "up"), ("instance", "a")], &[(NOW * 1000, 1.0)]));
    let flood = |answers: Answers| Endpoint::start(answers);
    let mut large = Vec::new();
    for part in 0..20 {
        let samples: Vec<(i64, f64)> = (0..5000).map(|at| (NOW * 1000 + at, (part * at) as f64 * 1.37)).collect();
        large.extend_from_slice(&framed(&series_frame(&[("__name__", "up"), ("instance", "a")], &samples)));
    }
    let large = Bytes::from(large);
    // Chunks that come twice count once: all of these together are larger than what may be held.
    let limit = format!("--query.memory-limit={}", large.len() / 2);
    let orderly = flood(Answers::store(&[("store", "a")], vec![Step::Flood(large)]));
    let mut unordered = Answers::store(&[("store", "b")], vec![Step::Flood(chunk)]);
    unordered.info.store.as_mut().unwrap().supports_without_replica_labels = false;
    let unordered = flood(unordered);
    for endless in [&orderly, &unordered] {
        let uru = querier(&[endless], &[&limit, "--query.replica-label=replica", "--query.timeout=1h"]);
        let (status, answer) = query(&uru, "&partial_response=0");
        assert_eq!((status, &answer["errorType"]), (422, &"execution".into()), "{answer}");
        assert!(answer["error"].as_str().unwrap().contains("query.memory-limit"), "{answer}");
        endless.wait_for_the_end_of_calls();
        assert!(uru.metric("process_resident_memory_bytes").unwrap() < 1e9);
    }
}

#[test]
fn a_warning_of_series_out_of_order_tells_the_beginning_of_their_labels() {
    let long = |first: &str| up(&format!("{first}{}", "x".repeat(2 << 20)));
    let unsorted = endpoint("unsorted", vec![long("b"), long("a")]);
    let (status, answer) = ask(&querier(&[&unsorted], &[]), &format!("/api/v1/query?query=count(up)&time={NOW}"));
    assert_eq!((status, &answer["data"]["result"][0]["value"][1]), (200, &"1".into()), "{:.4000}", answer.to_string());
    let [said] = answer["warnings"].as_array().unwrap().as_slice() else { panic!("{:.4000}", answer.to_string()) };
    let said = said.as_str().unwrap();
    let begins = format!("endpoint {}: series {{__name__=\"up\", instance=\"axxx", unsorted.address);
    assert!(said.starts_with(&begins) && said.ends_with("x...: they must ascend"), "{said:.4000}");
    assert!(said.contains("instance=\"bxxx") && said.len() < 4096, "{}", said.len());
}

/// A frame of the series `{a="<value>"}` with so many chunks of nothing, two bytes each.
fn empty_chunks(value: u8, count: usize) -> Vec<u8> {
    let series = [&[0x0a, 6, 0x0a, 1, b'a', 0x12, 1, value][..], &[0x12, 0].repeat(count)].concat();
    let mut message = vec![0x0a];
    prost::encoding::encode_varint(series.len() as u64, &mut message);
    message.extend_from_slice(&series);
    [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat()
}

#[test]
fn chunks_are_accounted_for_with_the_lists_that_they_are_moved_between() {
    let few = |frame: i64| {
        let one = |at: i64| {
            let sent = series_frame(&[("a", "b")], &[(NOW * 1000 + frame * 20 + at, 1.0)]);
            let Some(series_response::Result::Series(series)) = sent.result else { panic!("{sent:?}") };
            series
        };
        let chunks = (0..20).flat_map(|at| one(at).chunks).collect();
        let series = proto::thanos::Series { chunks, ..one(0) };
        framed(&SeriesResponse { result: Some(series_response::Result::Series(series)) })
    };
    let kinds: [(&str, Vec<u8>); 3] = [
        ("one series in many frames", (0..25_000).map(few).collect::<Vec<_>>().concat()),
        ("one frame", empty_chunks(b'b', 2_000_000)),
        ("series of a frame each", (b'b'..b'z').flat_map(|value| empty_chunks(value, 100_000)).collect()),
    ];
    for (what, sent) in kinds {
        let large = endpoint("large", vec![Step::Bytes(Bytes::from(sent))]);
        let uru = querier(&[&large], &["--query.memory-limit=120MB", "--query.timeout=1h"]);
        let (status, answer) = query(&uru, "&partial_response=0");
        assert_eq!(status, 422, "{what}: {:.200}", answer.to_string());
        assert!(answer["error"].as_str().unwrap().contains("query.memory-limit"), "{what}: {answer}");
        assert!(uru.peak_bytes() < 140e6, "{what}: {}", uru.peak_bytes());
        support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
    }
}

#[test]
fn lists_of_endpoints_are_accounted_for_as_what_they_become() {
    let metadata = (0..300_000).map(|number| {
        let entry = MetricMetadataEntry { metas: vec![Meta::default()] };
        (format!("m{number}"), entry)
    });
    let said = metric_metadata_response::Result::Metadata(MetricMetadata { metadata: metadata.collect() });
    let mut answers = Answers::store(&[("store", "large")], Vec::new()).with_federation();
    answers.metadata = vec![MetricMetadataResponse { result: Some(said) }];
    answers.values = (0..1_000_000).map(|number| format!("{number:06}")).collect();
    let large = Endpoint::start(answers);
    let uru = querier(&[&large], &["--query.memory-limit=40MiB", "--no-metric-metadata.partial-response"]);
    for path in ["/api/v1/metadata", "/api/v1/label/a/values?partial_response=0"] {
        let (status, answer) = ask(&uru, path);
        assert_eq!(status, 422, "{path}: {:.200}", answer.to_string());
        assert!(answer["error"].as_str().unwrap().contains("query.memory-limit"), "{path}: {answer}");
        support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
    }
    let uru = querier(&[&large], &["--query.memory-limit=4GiB"]);
    for (path, least) in [("/api/v1/metadata", 6e8), ("/api/v1/label/a/values", 5e7)] {
        assert_eq!(ask(&uru, path).0, 200);
        assert!(uru.metric("uru_memory_peak_bytes").unwrap() > least, "{path}");
        support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
    }
}

#[test]
fn what_becomes_large_when_it_is_decoded_is_refused_before() {
    let group = RuleGroup { rules: vec![Rule::default(); 400_000], ..RuleGroup::default() };
    let mut answers = Answers::store(&[("store", "small")], Vec::new()).with_federation();
    answers.rules = vec![RulesResponse { result: Some(rules_response::Result::Group(group)) }];
    let small = Endpoint::start(answers);
    let uru = querier(&[&small], &["--query.memory-limit=40MiB", "--no-rule.partial-response"]);
    let idle = uru.peak_bytes();
    let (status, answer) = ask(&uru, "/api/v1/rules");
    assert_eq!(status, 422, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("query.memory-limit"), "{answer}");
    assert!(uru.peak_bytes() < idle + 40e6, "{} of {idle}", uru.peak_bytes());
    support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
}

#[test]
fn an_endpoint_is_asked_for_values_that_match_one_selector_after_the_other() {
    let answers = Answers::store(&[("store", "slow")], Vec::new());
    let slow = Endpoint::start(Answers { values: vec!["a".into()], values_time: Duration::from_millis(20), ..answers });
    let uru = querier(&[&slow], &[]);
    let (status, answer) = ask(&uru, &format!("/api/v1/label/a/values?{}", ["match[]=up"; 10].join("&")));
    assert_eq!((status, &answer["data"]), (200, &serde_json::json!(["a"])), "{answer}");
    let calls = slow.values_calls();
    assert_eq!((calls.all, calls.most), (10, 1));
}

#[test]
fn an_endpoint_that_is_late_is_not_waited_for_with_each_selector() {
    let answers = Answers::store(&[("store", "late")], Vec::new());
    let late = Endpoint::start(Answers { values: vec!["a".into()], values_time: Duration::from_secs(600), ..answers });
    let uru = querier(&[&late], &["--store.response-timeout=300ms"]);
    let (status, answer) = ask(&uru, &format!("/api/v1/label/a/values?{}", ["match[]=up"; 10].join("&")));
    assert_eq!((status, answer["warnings"].as_array().map(Vec::len)), (200, Some(1)), "{answer}");
    assert_eq!(late.values_calls().all, 1);
}

#[test]
fn a_warning_that_several_selectors_are_answered_with_comes_once() {
    let gone = support::free_address();
    let uru = querier(&[], &[&format!("--endpoint-strict={gone}")]);
    for path in ["series", "labels", "label/a/values"] {
        let (status, answer) = ask(&uru, &format!("/api/v1/{path}?match[]=up&match[]=down&match[]=other"));
        let warnings = answer["warnings"].as_array().unwrap_or_else(|| panic!("{path}: {answer}"));
        assert_eq!((status, warnings.len()), (200, 1), "{path}: {answer}");
        assert!(warnings[0].as_str().unwrap().contains(&gone), "{path}: {answer}");
    }
}

#[test]
fn what_is_no_query_has_flags_of_its_own_for_endpoints_that_fail() {
    let going = Answers::store(&[("store", "going")], Vec::new()).with_federation();
    let going = Endpoint::start_on("127.0.0.31", going);
    let endpoint = format!("--endpoint-strict={}", going.address);
    let kinds = ["rule", "target", "metric-metadata", "exemplar", "status"];
    let own = kinds.map(|kind| format!("--no-{kind}.partial-response"));
    let strict = querier(&[], &own.iter().chain([&endpoint]).map(String::as_str).collect::<Vec<_>>());
    let of_queries = querier(&[], &[&endpoint, "--no-query.partial-response"]);
    let address = going.address.clone();
    drop(going);
    for path in ["rules", "alerts", "targets", "metadata", "query_exemplars?query=up", "status/tsdb"] {
        let (status, answer) = ask(&of_queries, &format!("/api/v1/{path}"));
        assert_eq!(status, 200, "{path}: {answer}");
        assert!(answer["warnings"][0].as_str().unwrap().contains(&address), "{path}: {answer}");
        let (status, answer) = ask(&strict, &format!("/api/v1/{path}"));
        assert_eq!(status, 500, "{path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(&address), "{path}: {answer}");
    }
    assert_eq!(ask(&of_queries, "/api/v1/rules?partial_response=0").0, 500, "rules take the parameter");
    assert_eq!((ask(&of_queries, "/api/v1/labels").0, ask(&strict, "/api/v1/labels").0), (422, 200));
}

#[test]
fn warnings_that_are_too_many_are_left_out_and_series_are_not() {
    let warning = |number: usize| {
        let text = format!("{number} {}", "x".repeat(100_000));
        Step::Send(SeriesResponse { result: Some(series_response::Result::Warning(text)) })
    };
    let loud = endpoint("loud", (0..40).map(warning).chain([up("a")]).collect());
    let uru = querier(&[&loud], &[]);
    let (status, answer) = query(&uru, "");
    assert_eq!(status, 200, "{answer}");
    let (instances, warnings) = found(&answer);
    assert_eq!(instances, ["a"]);
    assert_eq!(warnings.len(), 11, "ten are a million bytes");
    assert!(warnings.iter().any(|text| text.ends_with("warnings beyond 1048576 bytes are left out")), "{warnings:?}");
}

/// They have no bytes to be counted, and were taken without end.
#[test]
fn warnings_without_words_are_left_out_too_where_they_are_too_many() {
    let empty = || Step::Send(SeriesResponse { result: Some(series_response::Result::Warning(String::new())) });
    let loud = endpoint("loud", (0..50_000).map(|_| empty()).chain([up("a")]).collect());
    let uru = querier(&[&loud], &[]);
    let (status, answer) = query(&uru, "");
    let (instances, warnings) = found(&answer);
    assert_eq!((status, instances), (200, vec!["a".to_owned()]));
    assert!(warnings.iter().any(|text| text.ends_with("warnings beyond 1048576 bytes are left out")));
}

#[test]
fn what_an_endpoint_makes_of_a_query_is_taken_up_to_a_limit_of_memory() {
    let series = |bytes: usize| {
        let labels = vec![label("group", &"x".repeat(bytes))];
        let samples = vec![Sample { value: 1.0, timestamp: NOW * 1000 }];
        let series = TimeSeries { labels, samples, ..TimeSeries::default() };
        QueryRangeResponse { result: Some(query_range_response::Result::Timeseries(series)) }
    };
    let answering = |name: &str, messages: Vec<QueryRangeResponse>| {
        Endpoint::start(Answers::store(&[("store", name)], Vec::new()).with_ranges(messages))
    };
    let ask = |uru: &Uru, partial: u8| {
        let path = format!("/api/v1/query_range?query=sum(up)&start={NOW}&end={NOW}&step=1&partial_response={partial}");
        let (status, answer) = ask(uru, &path);
        let said = if status == 200 { &answer["warnings"][0] } else { &answer["error"] };
        (status, said.as_str().unwrap_or_default().to_owned())
    };
    let flags = ["--query.mode=distributed", "--query.memory-limit=32MiB"];
    let is_limit = |said: &str| said.contains("query.memory-limit: ") && said.contains(" of 33554432 bytes are in use");
    // Whoever sends too much by itself has failed alone.
    let loud = answering("loud", vec![series(1 << 20); 40]);
    let uru = querier(&[&loud], &flags);
    for (partial, expected, refused) in [(0, 422, 1.0), (1, 200, 2.0)] {
        let (status, said) = ask(&uru, partial);
        assert!(status == expected && is_limit(&said) && said.contains(&loud.address), "{status}: {said:.200}");
        assert_eq!(uru.metric("uru_memory_refused_requests_total"), Some(refused));
    }
    // Of many that each send little none lacks anything, so that no answer is whole without the memory.
    let many: Vec<Endpoint> = (0..8).map(|at| answering(&at.to_string(), vec![series(3 << 19)])).collect();
    let uru = querier(&many.iter().collect::<Vec<_>>(), &flags);
    for partial in [0, 1] {
        let (status, said) = ask(&uru, partial);
        assert!(status == 422 && is_limit(&said), "{status}: {said:.200}");
    }
}

/// Whatever it said of itself was kept, and nobody counted it.
#[test]
fn an_endpoint_that_says_too_much_of_itself_is_not_taken() {
    let loud = Endpoint::start(Answers::store(&[("store", &"x".repeat(8 << 20))], Vec::new()));
    let uru = querier(&[&loud], &["--query.memory-limit=64MiB"]);
    let listed = uru.wait_for("/api/v1/stores", "message length too large");
    assert!(listed.contains(&loud.address), "{listed:.300}");
    assert!(listed.len() < 1 << 20, "{}", listed.len());
}

#[test]
fn warnings_of_an_evaluation_that_are_too_many_are_left_out_and_end_no_query() {
    let text = "x".repeat(1 << 20);
    let warned = QueryRangeResponse { result: Some(query_range_response::Result::Warnings(text)) };
    let answers = Answers::store(&[("store", "loud")], Vec::new()).with_ranges(vec![warned; 40]);
    let loud = Endpoint::start(answers);
    let uru = querier(&[&loud], &["--query.mode=distributed", "--query.memory-limit=96MiB"]);
    for partial in [0, 1] {
        let path = format!("/api/v1/query_range?query=sum(up)&start={NOW}&end={NOW}&step=1&partial_response={partial}");
        let (status, answer) = ask(&uru, &path);
        let (_, warnings) = found(&answer);
        assert_eq!((status, warnings.len()), (200, 2), "{:.200}", answer.to_string());
        let left_out = format!("endpoint {}: warnings beyond 1048576 bytes are left out", loud.address);
        assert!(warnings.contains(&left_out), "{:.200}", answer.to_string());
    }
    assert_eq!(uru.metric("uru_memory_refused_requests_total"), Some(0.0));
}

#[test]
fn an_endpoint_that_could_not_evaluate_a_query_is_told_from_one_that_is_away() {
    let answers = Answers::store(&[("store", "odd")], Vec::new());
    let same = "vector cannot contain metrics with the same labelset";
    for (code, text, expected) in [
        (Code::Aborted, same, 422),
        // Thanos says so of all that goes wrong with the evaluation of a range.
        (Code::Aborted, "expanding series: context deadline exceeded", 200),
        (Code::FailedPrecondition, "counts and sums do not fit", 422),
        (Code::Unavailable, same, 200),
    ] {
        let odd = Endpoint::start(answers.clone().with_failing_queries(code, text));
        let uru = querier(&[&odd], &["--query.mode=distributed"]);
        let (status, answer) = ask(&uru, &format!("/api/v1/query?query=sum(up)&time={NOW}"));
        assert_eq!(status, expected, "{code:?}: {answer}");
        let said = if status == 200 { &answer["warnings"][0] } else { &answer["error"] };
        let said = said.as_str().unwrap();
        assert!(said.contains(text) && said.contains(&odd.address) == (status == 200), "{code:?}: {answer}");
    }
}

#[test]
fn an_endpoint_that_is_not_there_is_not_waited_for() {
    let well = endpoint("well", vec![up("well")]);
    // A port that nobody listens on: it was bound a moment ago.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let strict = format!("--endpoint-strict={gone}");
    let uru = querier(&[&well], &[&strict]);
    let (status, answer) = query(&uru, "");
    let (instances, warnings) = found(&answer);
    assert_eq!((status, instances), (200, vec!["well".to_owned()]), "{answer}");
    assert!(warnings.iter().any(|text| text.contains(&gone.to_string())), "a strict endpoint is asked: {answer}");
    // A warning says what was asked for.
    for (path, what) in [("labels", "fetch label names"), ("label/job/values", "fetch label values")] {
        let (_, answer) = ask(&uru, &format!("/api/v1/{path}"));
        let warnings: Vec<&str> = answer["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let said = format!("{what} from {gone}: rpc error: code = ");
        assert!(warnings.iter().any(|text| text.starts_with(&said)), "{said}: {answer}");
    }
    let loose = querier(&[&well], &[&format!("--endpoint={gone}")]);
    let (status, answer) = query(&loose, "&partial_response=0");
    assert_eq!((status, found(&answer)), (200, (vec!["well".to_owned()], Vec::new())), "{answer}");
}

#[test]
fn queries_over_limits_fail_as_prometheus_lets_them_fail() {
    let hung = endpoint("hung", vec![up("a"), Step::Hang]);
    let well = endpoint("well", vec![up("a"), up("b")]);
    let uru = querier(&[&well], &["--query.max-samples=1"]);
    let (status, answer) = query(&uru, "");
    assert_eq!((status, &answer["errorType"]), (422, &"execution".into()), "{answer}");
    let said = answer["error"].as_str().unwrap();
    assert!(said.contains("query processing would load too many samples into memory"), "{said}");
    let (status, answer) = ask(&uru, "/api/v1/query_range?query=up&start=0&end=11001&step=1");
    assert_eq!((status, &answer["errorType"]), (400, &"bad_data".into()), "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("11,000 points per timeseries"), "{answer}");
    let (status, answer) = ask(&uru, "/api/v1/query?query=sum(");
    assert_eq!((status, &answer["errorType"]), (400, &"bad_data".into()), "{answer}");

    let busy = querier(&[&hung], &["--query.max-concurrent=1", "--query.timeout=1h"]);
    let mut first = TcpStream::connect(&busy.http).unwrap();
    first.write_all(b"GET /api/v1/query?query=up HTTP/1.1\r\nHost: uru\r\n\r\n").unwrap();
    hung.wait_for_a_call();
    let (status, answer) = query(&busy, "&timeout=100ms");
    assert_eq!((status, &answer["errorType"]), (503, &"timeout".into()), "{answer}");
    assert_eq!(answer["error"], "query timed out in query queue");
}
