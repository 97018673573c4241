//! A CPU profile over HTTP: what `go tool pprof` reads, one at a time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use prost::Message;
use server::api::http::profile::Profile;

use crate::support::{IO_MODES, Uru, everything, get, run, series, wait, write_block};

const START: i64 = 1_700_000_000_000;

/// Asks for a profile; returns status and body.
fn take(address: &str, seconds: u64) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request =
        format!("GET /debug/pprof/profile?seconds={seconds} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let status = String::from_utf8_lossy(&answer[..head]).split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_off(head + 4))
}

/// Everything that the profile refers to is there; returns the names of functions.
fn check(profile: &Profile) -> Vec<&str> {
    let text = |at: i64| profile.string_table[at as usize].as_str();
    let types: Vec<(&str, &str)> =
        profile.sample_type.iter().map(|kind| (text(kind.r#type), text(kind.unit))).collect();
    assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    assert_eq!((text(0), profile.period), ("", 10_000_000));
    assert!(profile.duration_nanos >= 1_000_000_000 && profile.time_nanos > 0);
    for sample in &profile.sample {
        assert!(sample.value[0] > 0 && sample.value[1] == sample.value[0] * profile.period);
        for id in &sample.location_id {
            assert_eq!(profile.location[*id as usize - 1].id, *id);
        }
        assert_eq!(text(sample.label[0].key), "thread");
    }
    for location in &profile.location {
        assert_eq!(location.mapping_id, profile.mapping[0].id);
        for line in &location.line {
            assert_eq!(profile.function[line.function_id as usize - 1].id, line.function_id);
        }
    }
    profile.function.iter().map(|function| text(function.name)).collect()
}

#[test]
fn a_profile_names_what_the_threads_do_and_only_one_is_taken_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    write_block(&folder.path().join("bucket"), 1, (2000, START));
    let config = format!(
        "--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}",
        folder.path().join("bucket").display()
    );
    for mode in IO_MODES {
        let data_dir = format!("--data-dir={}", folder.path().join(mode).display());
        let uru = Uru::start("store", &[&config, &data_dir, &format!("--io.mode={mode}")]);
        let is_over = AtomicBool::new(false);
        let (taken, refused) = std::thread::scope(|scope| {
            scope.spawn(|| {
                run(async {
                    let channel = uru.connect().await;
                    while !is_over.load(Ordering::Relaxed) {
                        // Requests go on undisturbed while threads are interrupted.
                        assert_eq!(series(&channel, everything()).await.unwrap().0.len(), 2000);
                    }
                });
            });
            let first = scope.spawn(|| take(&uru.http, 2));
            let second = std::cell::RefCell::new((0, Vec::new()));
            wait(|| {
                *second.borrow_mut() = take(&uru.http, 1);
                second.borrow().0 == 500 || first.is_finished()
            });
            let (first, second) = (first.join().unwrap(), second.into_inner());
            // Whichever came second was refused.
            let (mut taken, refused) = if first.0 == 500 { (second, first) } else { (first, second) };
            if taken.0 == 500 {
                taken = take(&uru.http, 2);
            }
            is_over.store(true, Ordering::Relaxed);
            (taken, refused)
        });
        assert!(String::from_utf8_lossy(&refused.1).contains("already in use"), "{}", refused.0);
        assert_eq!(taken.0, 200, "{}", String::from_utf8_lossy(&taken.1));
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&*taken.1).read_to_end(&mut bytes).unwrap();
        let profile = Profile::decode(&*bytes).unwrap();
        let names = check(&profile);
        assert!(!profile.sample.is_empty(), "no thread was met");
        assert!(names.iter().any(|name| name.contains("engine::") || name.contains("server::")), "{names:?}");
        let (status, index) = get(&uru.http, "/debug/pprof/").unwrap();
        assert!(status == 200 && index.contains("profile?seconds"), "{index}");
        assert_eq!(take(&uru.http, 0).0, 400);
    }
}
