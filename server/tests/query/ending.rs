//! A querier that is told to end: what is under way is answered, and then it ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::endpoint::{Answers, Endpoint, Step, series_frame};
use crate::support::{Uru, get, wait};

/// The time of the only sample.
const NOW: i64 = 1_789_984_800;

/// The way to an endpoint, on which what it answers is held back when that is wanted.
struct Slow {
    address: String,
    is_held: Arc<AtomicBool>,
}

impl Slow {
    fn before(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let (is_held, address) = (Arc::new(AtomicBool::new(false)), address.to_owned());
        let held = Arc::clone(&is_held);
        // Its threads end with the connections, and it with the process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&address).unwrap());
                let asked = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || pass(asked, &AtomicBool::new(false)));
                let held = Arc::clone(&held);
                std::thread::spawn(move || pass((server, client), &held));
            }
        });
        Self { address: own, is_held }
    }
}

/// Hands on what comes, when it is not held back.
fn pass((mut from, mut to): (TcpStream, TcpStream), is_held: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        while is_held.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
}

#[test]
fn a_query_under_way_is_answered_before_the_process_ends() {
    let up = series_frame(&[("__name__", "up"), ("instance", "a")], &[(NOW * 1000, 1.0)]);
    let endpoint = Endpoint::start(Answers::store(&[("store", "a")], vec![Step::Send(up)]));
    let slow = Slow::before(&endpoint.address);
    let uru = Uru::start("query", &[&format!("--endpoint={}", slow.address)]);
    slow.is_held.store(true, Ordering::Relaxed);
    let address = uru.http.clone();
    let asked = std::thread::spawn(move || get(&address, &format!("/api/v1/query?query=up&time={NOW}")));
    wait(|| !endpoint.requests().is_empty());
    uru.signal("TERM");
    // Nobody else is served any more: the end has begun.
    wait(|| get(&uru.http, "/-/ready").is_none_or(|(status, _)| status != 200));
    std::thread::sleep(Duration::from_secs(1));
    slow.is_held.store(false, Ordering::Relaxed);
    let begin = Instant::now();
    let (status, body) = asked.join().unwrap().expect("the query is answered");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, answer["data"]["result"].as_array().map(Vec::len)), (200, Some(1)), "{body}");
    assert!(uru.terminate().success());
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}
