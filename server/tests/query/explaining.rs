//! Plans of queries, and what their operators tell of what they did.

use serde_json::Value;

use crate::support::write::NOW;
use crate::support::{Uru, write_block};

/// Everything in one process, over a block of three series called `up`.
fn all_in_one() -> (Uru, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    write_block(&folder.path().join("bucket"), 1, (3, NOW));
    let uru = Uru::start("all-in-one", &["--no-self-scrape", &format!("--data-dir={}", folder.path().display())]);
    (uru, folder)
}

fn ask(uru: &Uru, path: &str) -> (u16, Value) {
    let (status, body) = uru.get(&format!("/api/v1/{path}"));
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn an_analysis_tells_at_its_root_how_many_samples_the_query_took_from_series() {
    let (uru, _folder) = all_in_one();
    let time = NOW / 1000 + 3000;
    let (status, answer) = ask(&uru, &format!("query?query=sum(rate(up[10m]))&time={time}&analyze=true&stats=all"));
    let root = &answer["data"]["analysis"];
    assert_eq!(status, 200, "{answer}");
    assert_eq!(root["totalSamples"], answer["data"]["stats"]["samples"]["totalQueryableSamples"], "{answer}");
    assert_eq!((&root["samples"], &root["series"]), (&1.into(), &1.into()), "{root}");
    let rate = &root["children"][0];
    assert_eq!((&rate["samples"], &rate["series"]), (&3.into(), &3.into()), "{root}");
    assert!(rate["totalSamples"] == root["totalSamples"] && rate["totalSamples"].as_u64() > Some(3), "{root}");
    assert!(root["peakSamples"].as_u64() > Some(0) && root["peakSamples"].as_u64() <= root["totalSamples"].as_u64());
}

#[test]
fn plans_are_refused_for_what_the_queries_are_refused_for() {
    let (uru, _folder) = all_in_one();
    let range = "start=0&end=60&step=60";
    for path in ["query?query=up", "query_explain?query=up", &format!("query_range_explain?query=up&{range}")] {
        let (status, answer) = ask(&uru, &format!("{path}&engine=foo"));
        assert_eq!((status, answer["error"].as_str()), (400, Some("'foo' bad engine")), "{path}");
        assert_eq!(ask(&uru, &format!("{path}&engine=thanos")).0, 200, "{path}");
    }
    for path in ["query_range", "query_range_explain"] {
        let (status, answer) = ask(&uru, &format!("{path}?query=up[5m]&{range}"));
        let said = answer["error"].as_str().unwrap();
        assert!(status == 400 && said.contains("must be Scalar or instant Vector"), "{path}: {said}");
    }
    // A plan for one time, whatever steps are named.
    let (status, answer) = ask(&uru, "query_explain?query=up[5m]&step=15");
    assert_eq!((status, answer["data"]["name"].as_str()), (200, Some("range up[300000ms]")), "{answer}");
}
