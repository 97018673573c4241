//! Answers that a Thanos querier gave over a pair of replicas, and ours: of a querier over a store
//! in another process, and of both in one.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::{Uru, blocks_in, copy_block, shared};

/// Queries that are answered otherwise on purpose, each for its reason.
const OTHERWISE: [&str; 1] = [
    // Thanos lifts gauges as if they were counters: a lifted gauge shows no reset where each replica
    // has some. uru answers as Prometheus does over one replica.
    "resets(process_bytes_00{namespace=~\"team-0[2-8]\"}[5m])",
];

#[test]
fn replicas_become_the_series_that_thanos_makes_of_them() {
    let (Some(recorded), Some(blocks)) = (shared("golden/dedup.jsonl"), shared("golden/blocks")) else { return };
    let folder = tempfile::tempdir().unwrap();
    for replica in ["a", "b"] {
        for block in blocks_in(&blocks.join(format!("ha-{replica}"))) {
            copy_block(&block, &folder.path().join("bucket"), &[("cluster", "c1"), ("replica", replica)]);
        }
    }
    let text = std::fs::read_to_string(recorded).unwrap();
    let recorded: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let store = start("store", folder.path(), &[]);
    let query = Uru::start("query", &[&format!("--endpoint={}", store.grpc), "--query.replica-label=replica"]);
    compare(&query, &recorded);
    drop((store, query));
    compare(&start("all-in-one", folder.path(), &["--query.replica-label=replica"]), &recorded);
}

fn start(component: &str, folder: &Path, flags: &[&str]) -> Uru {
    let bucket = folder.join("bucket").display().to_string();
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {bucket}}}}}");
    let data_dir = format!("--data-dir={}", folder.join(component).display());
    Uru::start(component, &[&[objstore.as_str(), data_dir.as_str()], flags].concat())
}

fn compare(uru: &Uru, recorded: &[Value]) {
    for case in recorded {
        let params = case["params"].as_object().unwrap();
        let query = params["query"].as_str().unwrap();
        if OTHERWISE.contains(&query) {
            continue;
        }
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in params {
            form.append_pair(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        let (_, body) = uru.get(&format!("/api/v1/{}?{}", case["path"].as_str().unwrap(), form.finish()));
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["status"], case["response"]["status"], "{query}: {body}");
        assert_same(&samples(&answer), &samples(&case["response"]), query);
    }
}

/// Samples of each series: times and values.
type Answer = BTreeMap<String, Vec<(f64, f64)>>;

fn samples(answer: &Value) -> Answer {
    let point = |point: &Value| (point[0].as_f64().unwrap(), point[1].as_str().unwrap().parse().unwrap());
    let result = answer["data"]["result"].as_array().unwrap();
    if !matches!(answer["data"]["resultType"].as_str(), Some("vector" | "matrix")) {
        return Answer::from([(String::new(), vec![point(&answer["data"]["result"])])]);
    }
    let series = result.iter().map(|series| {
        let one = series.get("value").into_iter();
        let many = series.get("values").and_then(Value::as_array).into_iter().flatten();
        (series["metric"].to_string(), one.chain(many).map(point).collect())
    });
    series.collect()
}

fn assert_same(ours: &Answer, theirs: &Answer, query: &str) {
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{query}");
    for (series, points) in ours {
        let expected = &theirs[series];
        assert_eq!(points.len(), expected.len(), "{query} {series}");
        for ((time, value), (expected_time, expected_value)) in points.iter().zip(expected) {
            let near = (value - expected_value).abs() <= 1e-9 * value.abs().max(expected_value.abs());
            let same = near || value == expected_value || (value.is_nan() && expected_value.is_nan());
            assert!(time == expected_time && same, "{query} {series} at {time}: {value}, Thanos {expected_value}");
        }
    }
}
