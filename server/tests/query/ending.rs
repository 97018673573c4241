//! A querier that is told to end: what is under way is answered, and then it ends.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::endpoint::{Answers, Endpoint, Step, series_frame};
use crate::support::way::{Closed, Way};
use crate::support::{Uru, get, wait};

/// The time of the only sample.
const NOW: i64 = 1_789_984_800;

#[test]
fn a_query_under_way_is_answered_before_the_process_ends() {
    let up = series_frame(&[("__name__", "up"), ("instance", "a")], &[(NOW * 1000, 1.0)]);
    let endpoint = Endpoint::start(Answers::store(&[("store", "a")], vec![Step::Send(up)]));
    let slow = Way::to(&endpoint.address, Closed::HoldsAnswers);
    let uru = Uru::start("query", &[&format!("--endpoint={}", slow.address)]);
    slow.close();
    let address = uru.http.clone();
    let asked = std::thread::spawn(move || get(&address, &format!("/api/v1/query?query=up&time={NOW}")));
    wait(|| !endpoint.requests().is_empty());
    uru.signal("TERM");
    // Nobody else is served any more: the end has begun.
    wait(|| get(&uru.http, "/-/ready").is_none_or(|(status, _)| status != 200));
    std::thread::sleep(Duration::from_secs(1));
    slow.open();
    let begin = Instant::now();
    let (status, body) = asked.join().unwrap().expect("the query is answered");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, answer["data"]["result"].as_array().map(Vec::len)), (200, Some(1)), "{body}");
    assert!(uru.terminate().success());
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}
