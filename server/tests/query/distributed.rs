//! `--query.mode=distributed`: endpoints do their share of aggregations where that gives the same
//! answer, and are asked for series where it doesn't.

use proto::prometheus_copy::{Sample, TimeSeries};
use proto::thanos::{QueryRangeResponse, QueryResponse, QueryStats, query_range_response, query_response};
use serde_json::Value;
use tonic::Code;

use crate::support::endpoint::{Answers, Endpoint, Step, label, series_frame};
use crate::support::{Uru, set_labels, write_block};

const START: i64 = 1_700_000_040_000;

/// A store of one block of `series` series below this external label set.
fn store(folder: &std::path::Path, labels: &[(&str, &str)], series: usize) -> Uru {
    let bucket = folder.join("bucket");
    let block = write_block(&bucket, series as u128, (series, START));
    set_labels(&block, labels);
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    Uru::start("store", &[&objstore, &format!("--data-dir={}", folder.join("data").display())])
}

fn querier(stores: &[&Uru], mode: &str) -> Uru {
    querier_with(stores, mode, &[])
}

fn querier_with(stores: &[&Uru], mode: &str, more: &[&str]) -> Uru {
    let mut flags: Vec<String> = stores.iter().map(|store| format!("--endpoint={}", store.grpc)).collect();
    flags.extend([format!("--query.mode={mode}"), "--query.replica-label=replica".to_owned()]);
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    Uru::start("query", &flags.iter().map(String::as_str).collect::<Vec<_>>())
}

fn ask(uru: &Uru, query: &str) -> [Value; 2] {
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
    let (start, end) = (START / 1000, START / 1000 + 3600);
    let paths = [format!("query?time={end}&{form}"), format!("query_range?start={start}&end={end}&step=300&{form}")];
    paths.map(|path| {
        let (status, body) = uru.get(&format!("/api/v1/{path}"));
        assert_eq!(status, 200, "{query}: {body}");
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        assert!(answer["warnings"].is_null(), "{query}: {body}");
        let result = answer["data"]["result"].as_array_mut().unwrap();
        result.sort_by_key(|series| series["metric"].to_string());
        answer["data"].take()
    })
}

/// How often a store was asked for answers to queries.
fn queries(store: &Uru) -> f64 {
    let (_, text) = store.get("/metrics");
    let handled = text
        .lines()
        .filter(|line| line.starts_with("grpc_server_handled_total") && line.contains("grpc_service=\"thanos.Query\""));
    handled.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn endpoints_that_have_nothing_in_common_do_their_share() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stores = [store(one.path(), &[("cluster", "a")], 5), store(two.path(), &[("cluster", "b")], 9)];
    let both = [&stores[0], &stores[1]];
    let (local, distributed) = (querier(&both, "local"), querier(&both, "distributed"));
    for (query, is_pushed) in [
        ("sum(up)", true),
        ("sum by (cluster) (rate(up[10m]))", true),
        ("avg by (instance) (up)", true),
        ("avg by (__name__) (up)", false),
        ("avg without (instance) (up)", false),
        ("avg without (instance) (count_over_time(up[10m]))", true),
        ("sum by (__name__) (up)", true),
        ("count without (instance) (up > 100)", true),
        ("max(up) - min(up)", true),
        ("group by (cluster) (up)", true),
        ("sum(up offset 10m) / count(up @ end())", true),
        ("topk(2, sum by (cluster) (up))", true),
        ("sum(up{cluster=\"a\"})", true),
        // A series that ends leaves nothing behind where one looks back.
        ("sum by (instance) (up < 130)", true),
        ("quantile(0.5, up)", false),
        ("max_over_time(sum(up)[10m:1m])", false),
        ("up", false),
    ] {
        let before = queries(&stores[0]);
        assert_eq!(ask(&distributed, query), ask(&local, query), "{query}");
        assert_eq!(queries(&stores[0]) > before, is_pushed, "{query}");
    }
}

#[test]
fn endpoints_that_may_have_the_same_series_are_asked_for_series() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stores = [
        store(one.path(), &[("cluster", "a"), ("replica", "1")], 5),
        store(two.path(), &[("cluster", "a"), ("replica", "2")], 9),
    ];
    let uru = querier(&[&stores[0], &stores[1]], "distributed");
    let [instant, _] = ask(&uru, "count(up)");
    // Five of the nine series are there twice.
    assert_eq!(instant["result"][0]["value"][1], "9");
    assert_eq!(queries(&stores[0]) + queries(&stores[1]), 0.0);
}

#[test]
fn what_endpoints_know_nothing_of_is_not_asked_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), &[("cluster", "a"), ("replica", "1")], 5);
    let selector = ["--selector-label=q=\"a\""];
    let queriers = ["local", "distributed"].map(|mode| querier_with(&[&store], mode, &selector));
    for query in ["sum(up{q=\"a\"})", "sum(up{q=~\"a|b\"}) + 1", "count(up{q=\"b\"})"] {
        assert_eq!(ask(&queriers[1], query), ask(&queriers[0], query), "{query}");
    }
    let [instant, _] = ask(&queriers[1], "count(up{q=\"a\"})");
    assert_eq!(instant["result"][0]["value"][1], "5");
    // Replicas that follow each other, which endpoints merge by penalty.
    let chaining = querier_with(&[&store], "distributed", &["--deduplication.func=chain"]);
    let [instant, _] = ask(&chaining, "count(up)");
    assert_eq!(instant["result"][0]["value"][1], "5");
    assert_eq!(queries(&store), 0.0);
    ask(&queriers[1], "count(up)");
    assert!(queries(&store) > 0.0);
}

/// The time at which endpoints that are told what to answer are asked.
const NOW: i64 = START / 1000 + 3600;

/// Messages with results, each of a group, and then with these warnings.
fn results(found: &[(&str, f64)], warnings: &[&str]) -> Vec<QueryResponse> {
    let series = found.iter().map(|(group, value)| {
        let labels = if group.is_empty() { Vec::new() } else { vec![label("group", group)] };
        let samples = vec![Sample { value: *value, timestamp: NOW * 1000 }];
        query_response::Result::Timeseries(TimeSeries { labels, samples, ..TimeSeries::default() })
    });
    let warnings = warnings.iter().map(|text| query_response::Result::Warnings((*text).to_owned()));
    series.chain(warnings).map(|result| QueryResponse { result: Some(result) }).collect()
}

/// An endpoint that answers these instant queries and fails all others.
fn answering(name: &str, answers: Vec<(&'static str, Vec<QueryResponse>)>) -> Endpoint {
    let store = Answers::store(&[("store", name)], Vec::new());
    Endpoint::start(store.with_failing_queries(Code::Unavailable, "no more").with_results(answers))
}

/// The status and the answer of an instant query of a querier over these endpoints.
fn answer(endpoints: &[&Endpoint], query: &str) -> (u16, Value) {
    let mut flags: Vec<String> = endpoints.iter().map(|found| format!("--endpoint={}", found.address)).collect();
    flags.push("--query.mode=distributed".to_owned());
    let uru = Uru::start("query", &flags.iter().map(String::as_str).collect::<Vec<_>>());
    let form = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
    let (status, body) = uru.get(&format!("/api/v1/query?time={NOW}&{form}"));
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

/// Groups and values of an instant query, and warnings, of a querier over these endpoints.
fn told(endpoints: &[&Endpoint], query: &str) -> (Vec<(String, String)>, Vec<String>) {
    let (status, answer) = answer(endpoints, query);
    assert_eq!(status, 200, "{query}: {answer}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let series = answer["data"]["result"].as_array().unwrap().iter();
    let mut found: Vec<_> = series.map(|one| (text(&one["metric"]["group"]), text(&one["value"][1]))).collect();
    found.sort();
    (found, answer["warnings"].as_array().into_iter().flatten().map(text).collect())
}

#[test]
fn an_endpoint_that_fails_half_of_a_mean_has_no_part_in_it() {
    let whole = || {
        let answers = vec![("sum(x)", results(&[("", 10.0)], &[])), ("count(x)", results(&[("", 2.0)], &[]))];
        answering("a", answers)
    };
    let lacks = ["receive series from b: rpc error"];
    for half in [
        vec![("count(x)", results(&[("", 8.0)], &[]))],
        vec![("sum(x)", results(&[("", 90.0)], &[]))],
        // One that had all it asks itself for one half alone.
        vec![("sum(x)", results(&[("", 90.0)], &lacks)), ("count(x)", results(&[("", 8.0)], &[]))],
    ] {
        let (one, other) = (whole(), answering("b", half));
        let (found, warnings) = told(&[&one, &other], "avg(x)");
        assert_eq!(found, [(String::new(), "5".to_owned())]);
        assert!(warnings.len() == 1 && warnings[0].contains(&other.address), "{warnings:?}");
    }
    let partial = vec![("sum(x)", results(&[("", 90.0)], &lacks)), ("count(x)", results(&[("", 8.0)], &lacks))];
    let (one, other) = (whole(), answering("b", partial));
    let (found, warnings) = told(&[&one, &other], "avg(x)");
    assert_eq!((found, warnings), (vec![(String::new(), "10".to_owned())], vec![lacks[0].to_owned()]));
}

/// A remark of PromQL.
const REMARK: &str =
    "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\"";

#[test]
fn what_an_endpoint_could_not_read_is_a_warning_whatever_it_is_joined_with() {
    let lacks = "receive series from c: rpc error: code = Unavailable desc = no, really";
    for joined in [format!("{REMARK}, {lacks}"), format!("{lacks}, {REMARK}")] {
        let endpoint = answering("a", vec![("sum(x)", results(&[("", 3.0)], &[&joined]))]);
        let (found, warnings) = told(&[&endpoint], "sum(x)");
        assert_eq!((found, warnings), (vec![(String::new(), "3".to_owned())], vec![lacks.to_owned()]));
    }
    let unknown = format!("PromQL info: something of a later version, {lacks}");
    let endpoint = answering("a", vec![("sum(x)", results(&[("", 3.0)], &[&unknown]))]);
    let (_, warnings) = told(&[&endpoint], "sum(x)");
    assert_eq!(warnings, [format!("endpoint {}: {unknown}", endpoint.address)]);
}

#[test]
fn a_mean_is_of_an_endpoint_that_says_what_it_lacks_in_another_order() {
    let (one, two) = ("receive series from c: no", "receive series from d: no");
    let sums = format!("{one}, {REMARK}, {two}");
    let counts = format!("{two}, {one}, {REMARK}");
    let answers = vec![("sum(x)", results(&[("", 10.0)], &[&sums])), ("count(x)", results(&[("", 2.0)], &[&counts]))];
    let endpoint = answering("a", answers);
    let (found, warnings) = told(&[&endpoint], "avg(x)");
    assert_eq!((found, warnings), (vec![(String::new(), "5".to_owned())], vec![format!("{one}, {two}")]));
}

#[test]
fn what_an_endpoint_does_not_understand_is_evaluated_here() {
    let failures = [
        (Code::Unknown, "1:5: parse error: unknown function with name \"max_of\""),
        (Code::InvalidArgument, "1:5: parse error: unexpected \"</\""),
        (Code::Unimplemented, "unknown service thanos.Query"),
    ];
    for (code, message) in failures {
        let series = |name: &'static str, value: f64| {
            let labels = [("__name__", "x"), ("store", name)];
            Answers::store(&[("store", name)], vec![Step::Send(series_frame(&labels, &[(NOW * 1000, value)]))])
        };
        let old = Endpoint::start(series("a", 5.0).with_failing_queries(code, message));
        let well = series("b", 7.0).with_failing_queries(Code::Unavailable, "no more");
        let well = Endpoint::start(well.with_results(vec![("sum(x)", results(&[("", 7.0)], &[]))]));
        let (found, warnings) = told(&[&old, &well], "sum(x)");
        assert_eq!((found, warnings), (vec![(String::new(), "12".to_owned())], Vec::new()), "{code:?}");
        assert_eq!((old.requests().len(), well.requests().len()), (1, 1), "{code:?}");
    }
}

/// Thanos ends such an instant query well, with its error as a warning that names nobody.
#[test]
fn a_query_that_an_endpoint_of_thanos_could_not_evaluate_fails_and_its_other_warnings_name_it() {
    let same = "vector cannot contain metrics with the same labelset";
    let endpoint = answering("a", vec![("sum(x)", results(&[], &[same]))]);
    let well = answering("b", vec![("sum(x)", results(&[("", 3.0)], &[]))]);
    let (status, said) = answer(&[&endpoint, &well], "sum(x)");
    assert_eq!((status, &said["errorType"], &said["error"]), (422, &"execution".into(), &same.into()), "{said}");
    let late = "context deadline exceeded";
    let endpoint = answering("a", vec![("sum(x)", results(&[], &[late]))]);
    let (found, warnings) = told(&[&endpoint, &well], "sum(x)");
    let named = format!("endpoint {}: {late}", endpoint.address);
    assert_eq!((found, warnings), (vec![(String::new(), "3".to_owned())], vec![named]));
}

#[test]
fn an_endpoint_that_falls_silent_is_not_waited_for_and_one_that_evaluates_is() {
    let flags = ["--query.mode=distributed", "--store.response-timeout=2s"];
    let of = |endpoint: &Endpoint| {
        let address = format!("--endpoint={}", endpoint.address);
        Uru::start("query", &[flags[0], flags[1], &address])
    };
    let samples = vec![Sample { value: 3.0, timestamp: NOW * 1000 }];
    let series = TimeSeries { samples, ..TimeSeries::default() };
    let first = QueryRangeResponse { result: Some(query_range_response::Result::Timeseries(series)) };
    let silent = Answers::store(&[("store", "a")], Vec::new()).with_ranges(vec![first]);
    let silent = Endpoint::start(Answers { ranges_hang: true, ..silent });
    let (status, body) = of(&silent).get(&format!("/api/v1/query_range?query=sum(x)&start={NOW}&end={NOW}&step=1"));
    let answer: Value = serde_json::from_str(&body).unwrap();
    let said = answer["warnings"][0].as_str().unwrap_or_default();
    assert!(status == 200 && said.contains(&silent.address) && said.contains("--store.response-timeout"), "{body}");
    let slow = Answers::store(&[("store", "a")], Vec::new()).with_failing_queries(Code::Unavailable, "no more");
    let slow = slow.with_results(vec![("sum(x)", results(&[("", 3.0)], &[]))]);
    let slow = Endpoint::start(Answers { results_time: std::time::Duration::from_secs(3), ..slow });
    let (status, body) = of(&slow).get(&format!("/api/v1/query?query=sum(x)&time={NOW}"));
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &answer["data"]["result"][0]["value"][1]), (200, &"3".into()), "{body}");
    assert!(answer["warnings"].is_null(), "{body}");
}

#[test]
fn an_explanation_tells_who_does_what_and_statistics_what_it_cost_there() {
    let stats = QueryStats { samples_total: 70, peak_samples: 7 };
    let stats = QueryResponse { result: Some(query_response::Result::Stats(stats)) };
    let mut messages = results(&[("", 3.0)], &[]);
    messages.push(stats);
    let endpoint = answering("a", vec![("sum(x)", messages)]);
    let uru = Uru::start("query", &["--query.mode=distributed", &format!("--endpoint={}", endpoint.address)]);
    let share = format!("remote sum(x) on {}", endpoint.address);
    let (status, body) = uru.get(&format!("/api/v1/query_explain?query=sum(x)&time={NOW}"));
    assert!(status == 200 && body.contains(&share), "{body}");
    let (status, body) = uru.get(&format!("/api/v1/query?query=sum(x)&time={NOW}&analyze=true&stats=all"));
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert!(status == 200 && answer["data"]["analysis"].to_string().contains(&share), "{body}");
    let samples = answer["data"]["stats"]["samples"]["totalQueryableSamples"].as_u64();
    assert!(samples.is_some_and(|samples| samples >= 70), "{body}");
}

#[test]
fn a_mix_of_buckets_is_told_once() {
    let mixed = "PromQL warning: vector contains a mix of histograms with exponential and custom buckets schemas";
    let mixed = format!("{mixed} for metric name \"x\"");
    let answers = vec![("sum(x)", results(&[], &[&mixed])), ("count(x)", results(&[("", 2.0)], &[]))];
    let endpoint = answering("a", answers);
    assert_eq!(told(&[&endpoint], "sum(x)"), (Vec::new(), vec![mixed]));
}

#[test]
fn a_mean_whose_sum_overflows_is_a_number() {
    let large = 2f64.powi(1023);
    let sums = |name: &str, sum: f64, count: f64, means: &[f64]| {
        let mut answers = vec![("sum(x)", results(&[("", sum)], &[])), ("count(x)", results(&[("", count)], &[]))];
        answers.extend(means.iter().map(|mean| ("avg(x)", results(&[("", *mean)], &[]))));
        answering(name, answers)
    };
    let mean = |endpoints: [Endpoint; 2]| {
        let (found, warnings) = told(&[&endpoints[0], &endpoints[1]], "avg(x)");
        assert_eq!((found.len(), warnings), (1, Vec::new()));
        found[0].1.parse::<f64>().unwrap()
    };
    // That of both together, without another question.
    assert_eq!(mean([sums("a", large, 1.0, &[]), sums("b", large, 2.0, &[])]), large / 3.0 * 2.0);
    // That of one alone.
    assert_eq!(mean([sums("a", f64::INFINITY, 3.0, &[large]), sums("b", large, 1.0, &[])]), large);
    assert_eq!(mean([sums("a", f64::INFINITY, 3.0, &[large]), sums("b", -large, 1.0, &[])]), large / 2.0);
    // A sample is infinite.
    assert_eq!(mean([sums("a", f64::INFINITY, 3.0, &[f64::INFINITY]), sums("b", large, 1.0, &[])]), f64::INFINITY);
}

#[test]
fn a_group_of_which_an_endpoint_has_no_sum_has_none() {
    let mixed = ["PromQL warning: encountered a mix of histograms and floats for aggregation"];
    let one = answering(
        "a",
        vec![
            ("sum by (group) (x)", results(&[("one", 1.0)], &mixed)),
            ("count by (group) (x)", results(&[("one", 1.0), ("two", 2.0)], &[])),
        ],
    );
    let other = answering(
        "b",
        vec![
            ("sum by (group) (x)", results(&[("one", 2.0), ("two", 5.0), ("three", 7.0)], &[])),
            ("count by (group) (x)", results(&[("one", 2.0), ("two", 1.0), ("three", 2.0)], &[])),
        ],
    );
    let pair = |group: &str, value: &str| (group.to_owned(), value.to_owned());
    for (query, expected) in [
        ("sum by (group) (x)", [pair("one", "3"), pair("three", "7")]),
        ("avg by (group) (x)", [pair("one", "1"), pair("three", "3.5")]),
    ] {
        let (found, warnings) = told(&[&one, &other], query);
        assert_eq!(found, expected, "{query}");
        let is_mixed = |text: &String| text.starts_with(mixed[0]);
        assert!(!warnings.is_empty() && warnings.iter().all(is_mixed), "{query}: {warnings:?}");
    }
}

#[test]
fn infos_of_endpoints_are_infos_of_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), &[("cluster", "a")], 5);
    let infos = |mode: &str| {
        let time = START / 1000 + 3600;
        let (_, body) = querier(&[&store], mode).get(&format!("/api/v1/query?query=sum(rate(up[10m]))&time={time}"));
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert!(answer["warnings"].is_null(), "{body}");
        let infos = answer["infos"].as_array().unwrap_or_else(|| panic!("{mode}: {body}"));
        // Where in the query that is only who has parsed it whole can say.
        let words = |info: &Value| info.as_str().unwrap().split(" (").next().unwrap().to_owned();
        infos.iter().map(words).collect::<Vec<_>>()
    };
    let local = infos("local");
    assert!(local.len() == 1 && local[0].starts_with("PromQL info: metric might not be a counter"), "{local:?}");
    assert_eq!(infos("distributed"), local);
}

#[test]
fn warnings_of_endpoints_tell_no_place_in_a_query_that_nobody_has_asked() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), &[("cluster", "a")], 5);
    let time = START / 1000 + 3600;
    let query = "1%20%2B%20sum(quantile_over_time(2,up[10m]))";
    for (mode, place) in [("local", " (1:28)"), ("distributed", "")] {
        let (_, body) = querier(&[&store], mode).get(&format!("/api/v1/query?query={query}&time={time}"));
        let answer: Value = serde_json::from_str(&body).unwrap();
        let said = format!("PromQL warning: quantile value should be between 0 and 1, got 2{place}");
        assert_eq!(answer["warnings"], serde_json::json!([said]), "{mode}: {body}");
    }
}

#[test]
fn a_query_that_cannot_be_evaluated_fails_whoever_evaluates_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), &[("cluster", "a")], 5);
    let endpoint = format!("--endpoint={}", store.grpc);
    for mode in ["local", "distributed"] {
        let mode = format!("--query.mode={mode}");
        let uru = Uru::start("query", &[&endpoint, &mode, "--enable-feature=promql-experimental-functions"]);
        let query = "sum(double_exponential_smoothing(up[10m],2,0.5))";
        let (status, body) = uru.get(&format!("/api/v1/query?query={query}&time={}", START / 1000 + 3600));
        assert!(status == 422 && body.contains("\"invalid smoothing factor"), "{mode}: {status} {body}");
    }
    assert!(queries(&store) > 0.0);
}
