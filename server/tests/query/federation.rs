//! Rules, alerts, targets, metadata, exemplars and cardinalities of several endpoints: what they are
//! asked, how replicas become one, over HTTP and through another querier.

use std::collections::HashMap;

use proto::thanos::{
    ActiveTarget, Alert, AlertInstance, DroppedTarget, Exemplar, ExemplarData, ExemplarsResponse, HeadStatistics,
    Label, Meta, MetricMetadata, MetricMetadataEntry, MetricMetadataResponse, RecordingRule, Rule, RuleGroup,
    RulesResponse, Statistic, TargetDiscovery, TargetsResponse, TsdbStatistics, TsdbStatisticsEntry,
    TsdbStatisticsResponse, ZLabelSet, exemplars_response, metric_metadata_response, rule, rules_response,
    targets_response, tsdb_statistics_response,
};
use serde_json::{Value, json};

use crate::support::Uru;
use crate::support::endpoint::{Answers, Endpoint, label};

fn set(labels: &[(&str, &str)]) -> Option<ZLabelSet> {
    let labels: Vec<Label> = labels.iter().map(|(name, value)| label(name, value)).collect();
    Some(ZLabelSet { labels })
}

fn time(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 500_000_000 })
}

fn rules(replica: &str, (state, evaluated): (i32, i64)) -> RulesResponse {
    let alert = |name: &str, labels: &[(&str, &str)]| {
        rule::Result::Alert(Alert {
            state,
            name: name.into(),
            query: "up == 0".into(),
            duration_seconds: 60.0,
            labels: set(&[labels, &[("replica", replica)]].concat()),
            annotations: set(&[("summary", "{{ $value }}")]),
            alerts: vec![AlertInstance {
                labels: set(&[("alertname", name), ("replica", replica)]),
                state,
                active_at: time(1),
                value: "1e+00".into(),
                ..AlertInstance::default()
            }],
            health: "ok".into(),
            last_evaluation: time(evaluated),
            ..Alert::default()
        })
    };
    let recording = |name: &str| {
        rule::Result::Recording(RecordingRule {
            name: name.into(),
            query: "sum(up)".into(),
            labels: set(&[("replica", replica)]),
            health: "err".into(),
            last_error: "it is broken".into(),
            last_evaluation: time(evaluated),
            ..RecordingRule::default()
        })
    };
    let found = [
        recording("job:up"),
        alert("Templated", &[("team", "{{ $labels.team }}")]),
        alert("Down", &[("team", "a")]),
        recording("a:up"),
    ];
    let group = RuleGroup {
        name: "g".into(),
        file: "f.yaml".into(),
        rules: found.into_iter().map(|result| Rule { result: Some(result) }).collect(),
        interval: 30.0,
        last_evaluation: time(evaluated),
        ..RuleGroup::default()
    };
    RulesResponse { result: Some(rules_response::Result::Group(group)) }
}

fn targets(replica: &str, (health, scraped): (i32, i64)) -> TargetsResponse {
    let target = |url: &str| ActiveTarget {
        discovered_labels: set(&[("__address__", "x:1"), ("replica", replica)]),
        labels: set(&[("job", "x"), ("replica", replica)]),
        scrape_pool: "pool".into(),
        scrape_url: url.into(),
        last_scrape: time(scraped),
        last_scrape_duration: 2.0,
        health,
        ..ActiveTarget::default()
    };
    let dropped = DroppedTarget { discovered_labels: set(&[("__address__", "y:1"), ("replica", replica)]) };
    let found = TargetDiscovery {
        active_targets: vec![target("http://x:2/metrics"), target("http://x:1/metrics")],
        dropped_targets: vec![dropped],
    };
    TargetsResponse { result: Some(targets_response::Result::Targets(found)) }
}

fn metadata(names: &[(&str, &str)]) -> MetricMetadataResponse {
    let entry = |help: &str| MetricMetadataEntry {
        metas: vec![Meta { r#type: "gauge".into(), help: help.into(), unit: String::new() }],
    };
    let metadata: HashMap<_, _> = names.iter().map(|(name, help)| ((*name).to_owned(), entry(help))).collect();
    MetricMetadataResponse {
        result: Some(metric_metadata_response::Result::Metadata(MetricMetadata {
            metadata: metadata.into_iter().collect(),
        })),
    }
}

fn exemplars(replica: &str) -> ExemplarsResponse {
    let exemplar = |ts: i64, value: f64| Exemplar { labels: set(&[("trace", "t")]), value, ts };
    let data = ExemplarData {
        series_labels: set(&[("__name__", "up"), ("replica", replica)]),
        exemplars: vec![exemplar(2500, f64::INFINITY), exemplar(1000, 0.5)],
    };
    ExemplarsResponse { result: Some(exemplars_response::Result::Data(data)) }
}

fn statistics(series: u64) -> TsdbStatisticsResponse {
    let count = |name: &str, value: u64| Statistic { name: name.into(), value };
    let entry = TsdbStatisticsEntry {
        head_statistics: Some(HeadStatistics {
            num_series: series,
            min_time: 1000,
            max_time: 2000,
            ..Default::default()
        }),
        series_count_by_metric_name: vec![count("up", series), count("down", 1)],
        label_value_count_by_label_name: vec![count("job", series)],
        ..TsdbStatisticsEntry::default()
    };
    let statistics = [("team".to_owned(), entry)].into_iter().collect();
    TsdbStatisticsResponse { result: Some(tsdb_statistics_response::Result::Statistics(TsdbStatistics { statistics })) }
}

/// Two replicas: the second fires and was evaluated earlier, its targets are down.
fn replicas() -> [Endpoint; 2] {
    let one = |replica: &str, number: i64| {
        let state = (2 + number as i32, 100 - number);
        let answers = Answers {
            rules: vec![rules(replica, state)],
            targets: vec![targets(replica, (1 - number as i32, 100 - number))],
            metadata: vec![metadata(&[("up", "is up"), ("b", &format!("of {replica}"))])],
            exemplars: vec![exemplars(replica)],
            statistics: vec![statistics(3 + number as u64)],
            ..Answers::store(&[("cluster", "c"), ("replica", replica)], Vec::new())
        };
        Endpoint::start(answers.with_federation())
    };
    [one("r0", 0), one("r1", 1)]
}

fn data(uru: &Uru, path: &str) -> Value {
    let escaped = path.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
    let (status, body) = uru.get(&format!("/api/v1/{escaped}"));
    assert_eq!(status, 200, "{path}: {body}");
    let mut answer: Value = serde_json::from_str(&body).unwrap();
    assert!(answer["warnings"].is_null(), "{path}: {body}");
    answer["data"].take()
}

/// Queriers over the replicas: one directly, and one through another querier.
fn queriers(replicas: &[Endpoint; 2]) -> [Uru; 3] {
    let endpoints = replicas.each_ref().map(|one| format!("--endpoint={}", one.address));
    let label = "--query.replica-label=replica";
    let direct = Uru::start("query", &[&endpoints[0], &endpoints[1], label]);
    let plain = Uru::start("query", &[&endpoints[0], &endpoints[1]]);
    let second = Uru::start("query", &[&format!("--endpoint={}", plain.grpc), label]);
    [direct, second, plain]
}

fn names(groups: &Value) -> Vec<&str> {
    let rules = groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules.map(|rule| rule["name"].as_str().unwrap()).collect()
}

#[test]
fn rules_of_replicas_are_one_and_filters_hold_whatever_endpoints_do() {
    let replicas = replicas();
    let [direct, second, _plain] = queriers(&replicas);
    for uru in [&direct, &second] {
        let found = data(uru, "rules");
        assert_eq!(names(&found), ["Down", "Templated", "a:up", "job:up"], "{found}");
        let group = &found["groups"][0];
        assert_eq!((&group["file"], &group["interval"].to_string()), (&"f.yaml".into(), &"30".to_owned()));
        // The firing replica is shown, though the other was evaluated later.
        let down = &group["rules"][0];
        assert_eq!((&down["state"], &down["lastEvaluation"]), (&"firing".into(), &"1970-01-01T00:01:39.5Z".into()));
        assert_eq!(down["labels"], json!({ "team": "a" }), "{down}");
        assert_eq!((&down["alerts"][0]["value"], &down["duration"]), (&"1e+00".into(), &json!(60)));
        assert!(down.get("lastError").is_none() && group["rules"][2]["lastError"] == "it is broken", "{group}");
        let alerts = data(uru, "alerts");
        let states = alerts["alerts"].as_array().unwrap().iter().map(|alert| alert["state"].as_str().unwrap());
        assert_eq!(states.collect::<Vec<_>>(), ["firing", "firing"], "{alerts}");
        for (filter, left) in [
            ("rule_name[]=Down&rule_name[]=a:up", vec!["Down", "a:up"]),
            ("rule_group[]=g&file[]=f.yaml&rule_name[]=Down", vec!["Down"]),
            ("rule_group[]=other", vec![]),
            ("file[]=other", vec![]),
            ("match[]={team=\"a\"}", vec!["Down"]),
            // A label that is a template matches nothing but what may be absent.
            ("match[]={team=~\".%2B\"}", vec!["Down"]),
            ("match[]={team!=\"a\"}", vec!["Templated", "a:up", "job:up"]),
        ] {
            assert_eq!(names(&data(uru, &format!("rules?{filter}"))), left, "{filter}");
        }
    }
    let asked = replicas[0].asked().rules;
    let filtered = asked.iter().find(|asked| asked.rule_group == ["g"]).unwrap();
    assert_eq!((&filtered.file[..], &filtered.rule_name[..]), (&["f.yaml".to_owned()][..], &["Down".to_owned()][..]));
    assert!(asked.iter().any(|asked| asked.matcher_string == ["{team=\"a\"}"]));
    data(&direct, "rules?type=record");
    assert_eq!(replicas[0].asked().rules.last().unwrap().r#type, 2);
    assert_eq!(direct.get("/api/v1/rules?type=other").0, 400);
    assert_eq!(direct.get("/api/v1/rules?match[]=%7B").0, 400);
}

#[test]
fn targets_of_replicas_are_one_and_a_failing_one_is_shown() {
    let replicas = replicas();
    let [direct, second, plain] = queriers(&replicas);
    for uru in [&direct, &second] {
        let found = data(uru, "targets");
        let active = found["activeTargets"].as_array().unwrap();
        let urls: Vec<&str> = active.iter().map(|target| target["scrapeUrl"].as_str().unwrap()).collect();
        assert_eq!(urls, ["http://x:1/metrics", "http://x:2/metrics"], "{found}");
        assert_eq!((&active[0]["health"], &active[0]["lastScrapeDuration"]), (&"down".into(), &json!(2)), "{found}");
        assert_eq!(active[0]["labels"], json!({ "job": "x" }));
        assert_eq!(found["droppedTargets"].as_array().map(Vec::len), Some(1), "{found}");
    }
    assert_eq!(data(&plain, "targets?state=dropped")["activeTargets"].as_array().map(Vec::len), Some(4));
    assert_eq!(replicas[1].asked().targets.last().unwrap().state, 2);
    assert_eq!(direct.get("/api/v1/targets?state=other").0, 400);
}

#[test]
fn metadata_is_gathered_and_limited() {
    let replicas = replicas();
    let [direct, second, _plain] = queriers(&replicas);
    for uru in [&direct, &second] {
        let found = data(uru, "metadata");
        assert_eq!(found["up"], json!([{ "type": "gauge", "help": "is up", "unit": "" }]));
        assert_eq!(found["b"].as_array().map(Vec::len), Some(2), "{found}");
        assert_eq!(data(uru, "metadata?limit=1").as_object().map(serde_json::Map::len), Some(1));
        assert_eq!(data(uru, "metadata?limit=0"), json!({}));
    }
    data(&direct, "metadata?metric=up&limit=7");
    let asked = replicas[0].asked().metadata.pop().unwrap();
    assert_eq!((asked.metric.as_str(), asked.limit), ("up", 7));
    assert_eq!(direct.get("/api/v1/metadata?limit=x").0, 400);
}

#[test]
fn exemplars_are_asked_where_they_can_be_and_come_once() {
    let replicas = replicas();
    let [direct, second, plain] = queriers(&replicas);
    for uru in [&direct, &second] {
        let found = data(uru, "query_exemplars?query=rate(up[5m])&start=1970-01-01T00:00:01Z&end=3.5");
        let exemplars = json!([
            { "labels": { "trace": "t" }, "timestamp": 1, "value": "0.5" },
            { "labels": { "trace": "t" }, "timestamp": 2.5, "value": "+Inf" },
        ]);
        assert_eq!(found, json!([{ "seriesLabels": { "__name__": "up" }, "exemplars": exemplars }]));
    }
    let asked = replicas[0].asked().exemplars.pop().unwrap();
    assert_eq!((asked.query.as_str(), asked.start, asked.end), ("{__name__=\"up\"}", 1000, 3500));
    // Labels of endpoints are theirs to answer, and choose between them.
    let counts = || replicas.each_ref().map(|one| one.asked().exemplars.len());
    let before = counts();
    let found = data(&plain, "query_exemplars?query=up{replica=\"r1\"}%20%2B%20other{cluster=\"d\"}");
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(counts(), [before[0], before[1] + 1]);
    assert_eq!(replicas[1].asked().exemplars.pop().unwrap().query, "{__name__=\"up\"}");
    assert_eq!(direct.get("/api/v1/query_exemplars?query=up(").0, 400);
    assert_eq!(direct.get("/api/v1/query_exemplars?query=up&start=x").0, 400);
}

#[test]
fn cardinalities_are_those_of_all_heads_together() {
    let replicas = replicas();
    let [direct, second, _plain] = queriers(&replicas);
    for uru in [&direct, &second] {
        let found = data(uru, "status/tsdb");
        assert_eq!((&found["headStats"]["numSeries"], &found["headStats"]["maxTime"]), (&json!(7), &json!(2000)));
        let by_name = json!([{ "name": "up", "value": 7 }, { "name": "down", "value": 2 }]);
        assert_eq!(found["seriesCountByMetricName"], by_name);
        assert_eq!(found["labelValueCountByLabelName"], json!([{ "name": "job", "value": 4 }]));
        let limited = data(uru, "status/tsdb?limit=1");
        assert_eq!(limited["seriesCountByMetricName"].as_array().map(Vec::len), Some(1));
    }
    assert_eq!(replicas[0].asked().statistics.pop().unwrap().limit, 1);
    assert_eq!(direct.get("/api/v1/status/tsdb?limit=-1").0, 400);
}
