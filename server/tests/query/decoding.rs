//! What endpoints send is decoded batch by batch: answers are the same as over blocks of one's own, in
//! the same order; a chunk that is broken is left out, and memory is accounted for.

use std::path::Path;

use proto::thanos::query_client::QueryClient;
use proto::thanos::{
    AggrChunk, QueryRangeRequest, QueryRequest, SeriesResponse, ShardInfo, query_range_response, query_response,
    series_response,
};
use serde_json::Value;

use crate::support;
use crate::support::endpoint::{Answers, Endpoint, Step, series_frame};
use crate::support::{Uru, run, set_labels, write_block};

const START: i64 = 1_700_000_040_000;

/// Series of a store: several batches of them.
const SERIES: usize = 3000;

/// Flags of a store of one block below these external labels.
fn flags(folder: &Path, labels: &[(&str, &str)]) -> [String; 2] {
    let bucket = folder.join("bucket");
    let block = write_block(&bucket, 1, (SERIES, START));
    set_labels(&block, labels);
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    [objstore, format!("--data-dir={}", folder.join("data").display())]
}

fn querier(endpoints: &[&str], more: &[&str]) -> Uru {
    let endpoints: Vec<String> = endpoints.iter().map(|address| format!("--endpoint={address}")).collect();
    let all: Vec<&str> = endpoints.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Uru::start("query", &all)
}

fn ask(uru: &Uru, query: &str, rest: &str) -> (u16, Value) {
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
    let (status, body) = uru.get(&format!("/api/v1/{rest}&{form}"));
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn answers_over_endpoints_are_those_over_own_blocks_in_the_same_order() {
    let folder = tempfile::tempdir().unwrap();
    let [objstore, data] = flags(folder.path(), &[("cluster", "c1")]);
    let local = Uru::start("all-in-one", &[&objstore, &data, "--no-self-scrape"]);
    let remote = querier(&[&local.grpc], &[]);
    let (start, end) = (START / 1000, START / 1000 + 3540);
    let instant = format!("query?time={end}");
    let range = format!("query_range?start={start}&end={end}&step=60");
    for query in [
        "up",
        "up[10m]",
        "rate(up[5m])",
        "sum by (cluster) (rate(up[5m]))",
        "topk(3, up)",
        "quantile(0.9, up)",
        "up and up > 100000",
        "up{instance=\"i-2999\"}",
        "up{instance=~\"i-00.*\"} + on (instance) up",
    ] {
        for rest in [&instant, &range] {
            let (expected, found) = (ask(&local, query, rest), ask(&remote, query, rest));
            assert_eq!(found, expected, "{query} {rest}");
        }
    }
    support::wait(|| remote.metric("uru_memory_used_bytes") == Some(0.0));
}

#[test]
fn replicas_become_one_and_a_series_of_two_endpoints_comes_once() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let stores = ["a", "b"].map(|replica| {
        let folder = folders[usize::from(replica == "b")].path();
        let [objstore, data] = flags(folder, &[("cluster", "c1"), ("replica", replica)]);
        Uru::start("store", &[&objstore, &data])
    });
    let replica_label = "--query.replica-label=replica";
    let one = querier(&[&stores[0].grpc], &[replica_label]);
    let both = querier(&[&stores[0].grpc, &stores[1].grpc], &[replica_label]);
    let (start, end) = (START / 1000, START / 1000 + 3540);
    let range = format!("query_range?start={start}&end={end}&step=60");
    for query in ["up", "rate(up[5m])", "sum(up)", "count_over_time(up[7m])"] {
        assert_eq!(ask(&both, query, &range), ask(&one, query, &range), "{query}");
    }
    let (_, apart) = ask(&both, "count(up)", &format!("query?dedup=false&time={end}"));
    assert_eq!(apart["data"]["result"][0]["value"][1], (2 * SERIES).to_string());
}

#[test]
fn a_question_about_little_wakes_no_shard_and_one_about_much_does() {
    let folder = tempfile::tempdir().unwrap();
    let [objstore, data] = flags(folder.path(), &[("cluster", "c1")]);
    let uru = Uru::start("all-in-one", &[&objstore, &data, "--no-self-scrape"]);
    let instant = format!("query?time={}", START / 1000 + 3540);
    let asked = 40;
    let waits = |query: &str| {
        let before = uru.waits_of("shard-");
        for _ in 0..asked {
            assert_eq!(ask(&uru, query, &instant).1["data"]["result"].as_array().map(Vec::len), Some(1), "{query}");
        }
        uru.waits_of("shard-") - before
    };
    let (little, much) = (waits("up{instance=\"i-2999\"}"), waits("count(up)"));
    assert!(little < asked / 2 && much >= asked, "{little} {much}");
}

/// What is said of the chunks of `endpoint` that are left out, up to why the one of `instance` is.
fn left_out(endpoint: &Endpoint, instance: &str) -> String {
    format!(
        "endpoint {}: chunks that cannot be read are left out, one of series \
         {{__name__=\"up\", instance=\"{instance}\"}}: ",
        endpoint.address
    )
}

/// The warnings of an answer.
fn warnings(answer: &Value) -> Vec<&str> {
    answer["warnings"].as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn a_broken_chunk_among_many_is_left_out_and_said_to_be() {
    let frame = |number: usize| {
        let name = format!("i-{number:04}");
        series_frame(&[("__name__", "up"), ("instance", &name)], &[(START, 1.0), (START + 60_000, 2.0)])
    };
    let mut steps: Vec<Step> = (0..1000).map(|number| Step::Send(frame(number))).collect();
    let well = Endpoint::start(Answers::store(&[("store", "a")], steps.clone()));
    for at in [700, 900] {
        let Step::Send(broken) = &mut steps[at] else { panic!("it is a message") };
        let Some(series_response::Result::Series(series)) = &mut broken.result else { panic!("it is a series") };
        series.chunks[0].raw.as_mut().unwrap().data = vec![0, 9, 1].into();
    }
    let broken = Endpoint::start(Answers::store(&[("store", "b")], steps));
    let at = format!("query?time={}", START / 1000 + 60);
    let uru = querier(&[&broken.address], &[]);
    let both = querier(&[&broken.address, &well.address], &[]);
    let said = left_out(&broken, "i-0700") + "XOR chunk";
    for (uru, query, expected) in [(&uru, "count(up)", "998"), (&uru, "sum(up)", "1996"), (&both, "sum(up)", "2000")] {
        let (status, answer) = ask(uru, query, &at);
        assert_eq!((status, &answer["data"]["result"][0]["value"][1]), (200, &expected.into()), "{query}: {answer}");
        let warnings = warnings(&answer);
        assert!(warnings.len() == 1 && warnings[0].starts_with(&said), "{query}: {warnings:?}");
        let (status, answer) = ask(uru, query, &format!("{at}&partial_response=0"));
        assert_eq!((status, &answer["errorType"]), (422, &"execution".into()), "{query}: {answer}");
        assert!(answer["error"].as_str().unwrap().starts_with(&said), "{query}: {answer}");
    }
    support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
    let (_, answer) = ask(&querier(&[&well.address], &[]), "count(up)", &at);
    assert_eq!((&answer["data"]["result"][0]["value"][1], warnings(&answer).len()), (&"1000".into(), 0), "{answer}");
}

#[test]
fn what_is_left_of_a_series_is_answered_whatever_kind_its_other_chunks_are_of() {
    let series = |instance: &str| {
        let frame = series_frame(&[("__name__", "up"), ("instance", instance)], &[(START, 1.0)]);
        let Some(series_response::Result::Series(series)) = frame.result else { panic!("it is a series") };
        series
    };
    let step = |series| Step::Send(SeriesResponse { result: Some(series_response::Result::Series(series)) });
    let damage = |chunk: &mut AggrChunk| chunk.raw.as_mut().unwrap().data = vec![0, 9, 1].into();
    let (sound, mut histogram, mut lacking, mut rest) = (series("a"), series("b"), series("c"), series("d"));
    damage(&mut histogram.chunks[0]);
    histogram.chunks[0].raw.as_mut().unwrap().r#type = 1;
    // Of a mean there is a count alone.
    lacking.chunks[0].count = lacking.chunks[0].raw.take();
    let mut before = rest.chunks[0].clone();
    (before.min_time, before.max_time) = (START - 60_000, START - 60_000);
    damage(&mut before);
    rest.chunks.insert(0, before);
    let mut other = series("e");
    other.chunks[0].count = other.chunks[0].raw.take();
    let one = Endpoint::start(Answers::store(&[("store", "a")], [sound, histogram, lacking, rest].map(step).to_vec()));
    let two = Endpoint::start(Answers::store(&[("store", "b")], vec![step(other)]));
    let uru = querier(&[&one.address, &two.address], &[]);
    let at = format!("query?time={}", START / 1000);
    let (status, answer) = ask(&uru, "up", &at);
    let found = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let instances: Vec<&str> = found.iter().map(|series| series["metric"]["instance"].as_str().unwrap()).collect();
    assert_eq!((status, instances), (200, vec!["a", "d"]), "{answer}");
    // One of each endpoint.
    let said = [left_out(&one, "b"), left_out(&two, "e") + "no valid chunk found"];
    let warnings = warnings(&answer);
    assert!(warnings.len() == 2, "{warnings:?}");
    assert!(said.iter().all(|said| warnings.iter().any(|text| text.starts_with(said))), "{warnings:?}");
    let (status, answer) = ask(&uru, "up", &format!("{at}&partial_response=0"));
    assert_eq!((status, &answer["errorType"]), (422, &"execution".into()), "{answer}");
    assert!(answer["error"].as_str().unwrap().starts_with(&said[0]), "{answer}");
}

#[test]
fn a_query_over_a_limit_ends_though_an_endpoint_has_not() {
    let frame = |number: usize| {
        let name = format!("i-{number:04}");
        series_frame(&[("__name__", "up"), ("instance", &name)], &[(START, 1.0), (START + 60_000, 2.0)])
    };
    let steps = (0..1000).map(|number| Step::Send(frame(number))).chain([Step::Hang]).collect();
    let endpoint = Endpoint::start(Answers::store(&[("store", "a")], steps));
    let limits = ["--query.max-samples=500", "--query.timeout=24h"];
    let uru = querier(&[&endpoint.address.to_string()], &limits);
    let (status, answer) = ask(&uru, "up", &format!("query?time={}", START / 1000 + 60));
    assert_eq!((status, &answer["errorType"]), (422, &"execution".into()), "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("too many samples"), "{answer}");
    support::wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
}

/// What `count(up)` is over a share of the series, asked over gRPC: at `time` (Unix seconds), and at the two
/// steps of a range that ends there.
async fn share_over_grpc(uru: &Uru, shard: ShardInfo, time: i64) -> Vec<usize> {
    let (mut client, query, mut counts) = (QueryClient::new(uru.connect().await), "count(up)".to_owned(), Vec::new());
    let asked = QueryRequest {
        query: query.clone(),
        time_seconds: time,
        shard_info: Some(shard.clone()),
        ..QueryRequest::default()
    };
    let mut stream = client.query(asked).await.unwrap().into_inner();
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(query_response::Result::Timeseries(series)) = message.result {
            counts.extend(series.samples.iter().map(|sample| sample.value as usize));
        }
    }
    let (start_time_seconds, end_time_seconds, interval_seconds) = (time - 60, time, 60);
    let asked = QueryRangeRequest {
        query,
        start_time_seconds,
        end_time_seconds,
        interval_seconds,
        shard_info: Some(shard),
        ..QueryRangeRequest::default()
    };
    let mut stream = client.query_range(asked).await.unwrap().into_inner();
    while let Some(message) = stream.message().await.unwrap() {
        if let Some(query_range_response::Result::Timeseries(series)) = message.result {
            counts.extend(series.samples.iter().map(|sample| sample.value as usize));
        }
    }
    counts
}

#[test]
fn shares_of_the_series_are_disjoint_and_whole_whoever_divides_them() {
    let folder = tempfile::tempdir().unwrap();
    let [objstore, data] = flags(folder.path(), &[("cluster", "c1")]);
    let local = Uru::start("all-in-one", &[&objstore, &data, "--no-self-scrape"]);
    // An endpoint that gives every series whatever share is asked for, as a sidecar does.
    let frame = |number: usize| {
        let name = format!("i-{number:04}");
        let samples = [(START + 3_480_000, 1.0), (START + 3_540_000, 1.0)];
        Step::Send(series_frame(&[("__name__", "up"), ("instance", &name)], &samples))
    };
    let whole = Endpoint::start(Answers::store(&[("store", "a")], (0..SERIES).map(frame).collect()));
    let remote = querier(&[&local.grpc], &[]);
    let over_whole = querier(&[&whole.address.to_string()], &[]);
    let distributed = querier(&[&local.grpc], &["--query.mode=distributed"]);
    let time = START / 1000 + 3540;
    let at = format!("query?time={time}");
    for uru in [&local, &remote, &over_whole, &distributed] {
        let shares = [0, 1, 2].map(|index| {
            let info = ShardInfo { shard_index: index, total_shards: 3, by: true, labels: vec!["instance".to_owned()] };
            let shard = format!("{{\"shard_index\":{index},\"total_shards\":3,\"by\":true,\"labels\":[\"instance\"]}}");
            let shard = form_urlencoded::Serializer::new(String::new()).append_pair("shard_info", &shard).finish();
            let (status, answer) = ask(uru, "count(up)", &format!("{at}&{shard}"));
            assert_eq!(status, 200, "{answer}");
            let share = answer["data"]["result"][0]["value"][1].as_str().unwrap().parse::<usize>().unwrap();
            assert_eq!(run(share_over_grpc(uru, info, time)), [share; 3], "share {index}");
            share
        });
        assert_eq!(shares.iter().sum::<usize>(), SERIES, "{shares:?}");
        assert!(shares.iter().all(|share| *share > SERIES / 4), "{shares:?}");
    }
    let (_, answer) = ask(&remote, "count(up)", &format!("{at}&shard_info=null"));
    assert_eq!(answer["data"]["result"][0]["value"][1], SERIES.to_string(), "{answer}");
    let (status, answer) = ask(&remote, "up", &format!("{at}&shard_info=x"));
    assert_eq!((status, &answer["errorType"]), (400, &"bad_data".into()), "{answer}");
}
