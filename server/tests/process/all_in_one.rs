//! Everything in one process: it keeps what it is sent, scrapes itself, and shows both at once.

use std::path::{Path, PathBuf};

use proto::prometheus_copy::TimeSeries;

use crate::support;
use crate::support::Uru;
use crate::support::write::{Family, WriteRequest, body, float_series, packed, post};

/// What an instant query at `time`, in seconds, answers; now without one.
fn query(uru: &Uru, expression: &str, time: Option<i64>) -> serde_json::Value {
    let time = time.map(|time| format!("&time={time}")).unwrap_or_default();
    let (status, text) = uru.get(&format!("/api/v1/query?query={expression}{time}"));
    assert_eq!(status, 200, "{text}");
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["data"]["result"].take()
}

fn start(data: &Path) -> Uru {
    Uru::start("all-in-one", &[&format!("--data-dir={}", data.display())])
}

#[test]
fn it_shows_itself_at_once_and_what_it_is_sent_also_after_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path());
    // No interval has to pass before the first scrape.
    uru.wait_for("/api/v1/query?query=up", "\"job\":\"uru\"");
    // What a scrape finds reaches the heads of both cores one after the other.
    uru.wait_for("/api/v1/query?query=thanos_build_info", "\"instance\"");
    let own = query(&uru, "thanos_build_info", None);
    assert_eq!(own[0]["metric"]["instance"], format!("127.0.0.1:{}", uru.http.rsplit(':').next().unwrap()));
    let (_, text) = uru.get("/api/v1/targets?state=active");
    let targets: serde_json::Value = serde_json::from_str(&text).unwrap();
    let target = &targets["data"]["activeTargets"][0];
    assert_eq!(target["labels"], serde_json::json!({"instance": own[0]["metric"]["instance"], "job": "uru"}), "{text}");
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{text}");
    assert!(uru.get("/api/v1/targets?state=dropped").1.contains("\"activeTargets\":[]"));
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let sent = float_series(&[("__name__", "sent"), ("job", "a")], &[(seconds * 1000, 4.5)]);
    let snappy = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    let answer = post(&uru.http, "/api/v1/receive", &snappy, &body(&[sent])).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(query(&uru, "sent*2", Some(seconds))[0]["value"][1], "9");
    let said = "{\"sent\":[{\"help\":\"What was \\\"sent\\\".\",\"type\":\"counter\",\"unit\":\"\"}]}";
    let family = Family { kind: 1, name: "sent".into(), help: "What was \"sent\".".into() };
    let request = WriteRequest { metadata: vec![family], ..WriteRequest::default() };
    assert_eq!(post(&uru.http, "/api/v1/receive", &snappy, &packed(&request)).unwrap().status, 200);
    uru.wait_for("/api/v1/metadata?metric=sent", said);
    uru.wait_for("/api/v1/metadata?metric=thanos_build_info", "\"type\":\"gauge\"");
    uru.kill();
    let uru = start(data.path());
    uru.wait_for("/api/v1/metadata?metric=sent", said);
    uru.wait_for("/api/v1/metadata?limit=1", "\"data\":{\"");
    uru.wait_for(&format!("/api/v1/query?query=sent&time={seconds}"), "\"4.5\"");
    uru.wait_for("/api/v1/query?query=count_over_time(up[1h])", "\"job\":\"uru\"");
}

#[test]
fn blocks_are_below_the_prefix_where_its_pages_ask_for_them() {
    let data = tempfile::tempdir().unwrap();
    let folder = format!("--data-dir={}", data.path().display());
    let uru = Uru::start("all-in-one", &[&folder, "--web.external-prefix=/p"]);
    for (path, status) in [("/p/blocks", 200), ("/p/api/v1/blocks", 200), ("/api/v1/blocks", 404)] {
        assert_eq!(uru.get(path).0, status, "{path}");
    }
    let log = uru.log();
    assert!(!log.contains("made the folder of the bucket"), "its own bucket is no surprise: {log}");
}

/// What the process scraped while its clock was ahead once kept out all that was sent for the default tenant, until
/// the clock was there again. Here the clock of whoever sends is behind.
#[test]
fn what_it_scrapes_itself_keeps_nothing_out_that_it_is_sent() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path());
    uru.wait_for("/api/v1/query?query=up", "\"tenant_id\":\"uru\"");
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let before = seconds - 3 * 3600;
    let snappy = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    let sent = float_series(&[("__name__", "sent")], &[(before * 1000, 4.5)]);
    let answer = post(&uru.http, "/api/v1/receive", &snappy, &body(&[sent])).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(query(&uru, "sent", Some(before))[0]["metric"]["tenant_id"], "default-tenant");
}

#[test]
fn it_reaches_itself_wherever_it_serves() {
    let data = tempfile::tempdir().unwrap();
    let folder = format!("--data-dir={}", data.path().display());
    let uru = Uru::start("all-in-one", &[&folder, "--http-address=127.0.0.2:0", "--grpc-address=127.0.0.3:0"]);
    uru.wait_for("/api/v1/query?query=up", &format!("\"instance\":\"{}\"", uru.http));
    uru.wait_for("/api/v1/series?match[]=up", "\"job\":\"uru\"");
    uru.wait_for("/api/v1/label/job/values", "\"uru\"");
}

#[test]
fn it_ends_with_the_reason_when_what_it_ingested_can_not_be_opened() {
    let data = tempfile::tempdir().unwrap();
    let kept = format!("--tsdb.path={}", data.path().join("kept").display());
    let _holder = Uru::start("receive", &[&kept, "--label=replica=\"a\"", "--remote-write.address=127.0.0.1:0"]);
    let folder = format!("--data-dir={}", data.path().display());
    let addresses = ["--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"];
    let words = [&["all-in-one", &kept, &folder][..], &addresses].concat();
    let text = support::refused(&words);
    assert!(text.contains("lock") && !text.contains("panicked"), "{text}");
}

/// Puts a block's meta.json among those of a receiver in `kept`, which is there to be read, and whose end comes when we
/// say so: until then what was kept is not open.
fn hold_opening(kept: &Path) -> PathBuf {
    let meta = kept.join("team/01M7YFY7H37F9ZH8ZQ1CX44W25/meta.json");
    std::fs::create_dir_all(meta.parent().unwrap()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&meta).status().unwrap().success());
    meta
}

/// It once said that it was ready, and answered without what it had not opened yet.
#[test]
fn it_is_ready_and_answers_once_what_the_last_process_left_is_open() {
    let data = tempfile::tempdir().unwrap();
    let meta = hold_opening(&data.path().join("receive"));
    let uru = Uru::spawn("all-in-one", &[&format!("--data-dir={}", data.path().display())]);
    support::wait(|| uru.log().contains("bucket store ready"));
    for _ in 0..20 {
        let (status, text) = uru.get("/api/v1/query?query=up");
        assert!(status == 503 && text.contains("\"errorType\":\"unavailable\""), "{status} {text}");
        assert_eq!(uru.get("/api/v1/series?match[]=up").0, 503);
        assert_eq!(uru.get("/-/ready").0, 503);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(uru.get("/api/v1/status/buildinfo").0, 200);
    std::fs::write(&meta, "no meta").unwrap();
    uru.wait_for("/-/ready", "OK");
    uru.wait_for("/api/v1/query?query=up", "\"job\":\"uru\"");
}

/// SIGTERM was nothing to the first process of a container until all was open, and SIGHUP ended any other.
#[test]
fn it_ends_in_order_when_told_so_while_it_opens_what_the_last_process_left() {
    let data = tempfile::tempdir().unwrap();
    let folder = format!("--data-dir={}", data.path().display());
    let uru = start(data.path());
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let sent = float_series(&[("__name__", "sent")], &[(seconds * 1000, 4.5)]);
    let snappy = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    assert_eq!(post(&uru.http, "/api/v1/receive", &snappy, &body(&[sent])).unwrap().status, 200);
    uru.kill();
    let meta = hold_opening(&data.path().join("receive"));
    end_while_opening(Uru::spawn("all-in-one", &[&folder]), "bucket store ready");
    std::fs::remove_dir_all(meta.parent().unwrap()).unwrap();
    start(data.path()).wait_for(&format!("/api/v1/query?query=sent&time={seconds}"), "\"4.5\"");
}

#[test]
fn a_receiver_ends_in_order_when_told_so_while_it_opens_what_the_last_process_left() {
    let data = tempfile::tempdir().unwrap();
    let kept = format!("--tsdb.path={}", data.path().display());
    hold_opening(data.path());
    let flags = [kept.as_str(), "--label=replica=\"a\"", "--remote-write.address=127.0.0.1:0"];
    end_while_opening(Uru::spawn("receive", &flags), "starting receiver");
}

/// Tells a process that can't become ready to end, once its log has `said`.
fn end_while_opening(uru: Uru, said: &str) {
    support::wait(|| uru.log().contains(said));
    assert_eq!(uru.get("/-/ready").0, 503);
    uru.signal("HUP");
    support::wait(|| uru.log().contains("caught SIGHUP"));
    assert_eq!(uru.get("/-/ready").0, 503);
    let status = uru.terminate();
    assert!(status.success(), "{status}");
}

#[test]
fn it_serves_also_where_nothing_can_be_printed() {
    let data = tempfile::tempdir().unwrap();
    let folder = format!("--data-dir={}", data.path().display());
    let uru = Uru::start_limited("exec >/dev/full", "all-in-one", &[&folder]);
    uru.wait_for("/api/v1/query?query=up", "\"job\":\"uru\"");
}

/// Labels and series were once those of the last look at what is held, seconds ago, and queries found more.
#[test]
fn what_it_is_sent_is_among_its_labels_and_series_at_once() {
    let data = tempfile::tempdir().unwrap();
    let folder = format!("--data-dir={}", data.path().display());
    let uru = Uru::start("all-in-one", &[&folder, "--no-self-scrape"]);
    uru.wait_for("/api/v1/stores", "\"lastError\":null");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let snappy = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    for (job, time) in [("first", now), ("before", now - 1_800_000)] {
        let sent = float_series(&[("__name__", job), ("job", job)], &[(time, 4.5)]);
        let answer = loop {
            // Nothing is taken before what the last process left is open.
            match post(&uru.http, "/api/v1/receive", &snappy, &body(std::slice::from_ref(&sent))).unwrap() {
                answer if answer.status == 503 => std::thread::yield_now(),
                answer => break answer,
            }
        };
        assert_eq!(answer.status, 200, "{}", answer.body);
        let range = format!("start={}&end={}", time / 1000 - 1, time / 1000 + 1);
        for path in [
            format!("label/job/values?{range}"),
            format!("labels?{range}"),
            format!("series?match[]={job}&{range}"),
            format!("query?query={job}&time={}&storeMatch[]=%7B__address__!=%22%22%7D", time / 1000 + 1),
        ] {
            let (status, text) = uru.get(&format!("/api/v1/{path}"));
            let is_there = text.contains(if path.starts_with("labels") { "\"job\"" } else { job });
            assert!(status == 200 && is_there, "{path}: {text}");
        }
    }
}

/// Samples once went from the disk when they were in the bucket, and were answered again after the store's next look
/// at it.
#[test]
fn samples_that_move_to_the_bucket_are_in_every_answer() {
    for (interval, stays) in [("1h", true), ("50ms", false)] {
        let data = tempfile::tempdir().unwrap();
        let folder = format!("--data-dir={}", data.path().display());
        let interval = format!("--sync-block-duration={interval}");
        let flags = [
            "--tsdb.out-of-order.time-window=7d",
            "--tsdb.min-block-duration=1s",
            "--tsdb.max-block-duration=1s",
            "--shipper.sync-interval=20ms",
            "--wait-interval=1h",
            "--no-self-scrape",
        ];
        let all: Vec<&str> = [folder.as_str(), &interval].into_iter().chain(flags).collect();
        let uru = Uru::start("all-in-one", &all);
        let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        let late = seconds - 3 * 86_400;
        let snappy = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
        for time in [seconds, late] {
            let sent = float_series(&[("__name__", "moved")], &[(time * 1000, 4.5)]);
            let answer = post(&uru.http, "/api/v1/receive", &snappy, &body(&[sent])).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
        let is_there = || query(&uru, "moved", Some(late))[0]["value"][1] == "4.5";
        let bucket = data.path().join("bucket");
        let is_late = |block: &std::path::PathBuf| {
            support::meta_of(block)["minTime"].as_i64().is_some_and(|start| start < (late + 60) * 1000)
        };
        support::wait(|| is_there() && support::blocks_in(&bucket).iter().any(is_late));
        let block = support::blocks_in(&bucket).into_iter().find(is_late).unwrap();
        let local = data.path().join("receive/default-tenant").join(block.file_name().unwrap());
        let begin = std::time::Instant::now();
        while local.exists() && begin.elapsed() < std::time::Duration::from_millis(if stays { 500 } else { 30_000 }) {
            assert!(is_there(), "{interval}");
        }
        assert!(is_there() && local.exists() == stays, "{interval}");
    }
}

#[test]
fn exemplars_and_the_starts_of_counters_are_kept_when_flags_say_so() {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let began = seconds - 60;
    let trace = "ab".repeat(16);
    let otlp = format!(
        r#"{{"resourceMetrics": [{{"scopeMetrics": [{{"metrics": [{{"name": "begun", "sum": {{
        "isMonotonic": true, "aggregationTemporality": 2, "dataPoints": [{{"asInt": "7",
        "startTimeUnixNano": "{began}000000000", "timeUnixNano": "{seconds}000000000",
        "exemplars": [{{"asDouble": 1.5, "timeUnixNano": "{seconds}000000000", "traceId": "{trace}"}}]}}]}}}}]}}]}}]}}"#
    );
    let flags = ["--tsdb.max-exemplars=10", "--enable-feature=created-timestamp-zero-ingestion"];
    for (flags, exemplars, increase) in [(&[][..], 0, "0"), (&flags[..], 1, "7")] {
        let data = tempfile::tempdir().unwrap();
        let folder = format!("--data-dir={}", data.path().display());
        let all: Vec<&str> = [folder.as_str(), "--no-self-scrape"].iter().chain(flags).copied().collect();
        let uru = Uru::start("all-in-one", &all);
        let answer = loop {
            // Nothing is taken before what the last process left is open.
            match post(&uru.http, "/api/v1/otlp", &[("Content-Type", "application/json")], otlp.as_bytes()).unwrap() {
                answer if answer.status == 503 => std::thread::yield_now(),
                answer => break answer,
            }
        };
        assert_eq!(answer.status, 200, "{}", answer.body);
        let changed = query(&uru, "sum(max_over_time(begun_total[2m])-min_over_time(begun_total[2m]))", Some(seconds));
        assert_eq!(changed[0]["value"][1], increase, "{flags:?}");
        let (status, text) = uru.get(&format!("/api/v1/query_exemplars?query=begun_total&start={began}&end={seconds}"));
        assert_eq!(status, 200, "{text}");
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        let found: usize =
            found["data"].as_array().unwrap().iter().map(|series| series["exemplars"].as_array().unwrap().len()).sum();
        assert_eq!(found, exemplars, "{flags:?}: {text}");
    }
}

#[test]
fn flags_of_its_parts_have_their_meaning() {
    let data = tempfile::tempdir().unwrap();
    let (folder, kept) = (format!("--data-dir={}", data.path().display()), data.path().join("kept"));
    let path = format!("--tsdb.path={}", kept.display());
    let flags = [
        "--remote-write.address=127.0.0.1:0",
        "--label=cluster=\"x\"",
        "--receive.tenant-header=X-Team",
        "--receive.default-tenant-id=nobody",
        "--receive.tenant-label-name=team",
        "--receive.limits-config={write: {default: {request: {series_limit: 1}}}}",
        "--receive.relabel-config=[{action: labeldrop, regex: secret}]",
        "--tsdb.out-of-order.time-window=1h",
        "--tsdb.retention=3d",
        "--shipper.sync-interval=50ms",
        "--web.external-prefix=/metrics-of-us",
        "--wait-interval=1h",
        "--no-self-scrape",
    ];
    let all: Vec<&str> = [folder.as_str(), &path].into_iter().chain(flags).collect();
    let uru = Uru::start("all-in-one", &all);
    let address = uru.write_address();
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let send = |team: &str, series: &[TimeSeries]| loop {
        let mut headers = vec![("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
        headers.extend((!team.is_empty()).then_some(("X-Team", team)));
        match post(&address, "/api/v1/receive", &headers, &body(series)).unwrap() {
            // Nothing is taken before what the last process left is open.
            answer if answer.status == 503 => std::thread::yield_now(),
            answer => break answer,
        }
    };
    let sent = |time: i64| float_series(&[("__name__", "sent"), ("secret", "s")], &[(time * 1000, 4.5)]);
    for (team, time) in [("a", seconds), ("a", seconds - 1800), ("", seconds)] {
        let answer = send(team, &[sent(time)]);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(send("a", &[sent(seconds), float_series(&[("__name__", "b")], &[(seconds, 1.0)])]).status, 413);
    let (status, text) = uru.get(&format!("/metrics-of-us/api/v1/query?query=sent&time={seconds}"));
    assert_eq!(status, 200, "{text}");
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let labels = |team: &str| serde_json::json!({"__name__": "sent", "cluster": "x", "team": team});
    let found: Vec<_> = answer["data"]["result"].as_array().unwrap().iter().map(|series| &series["metric"]).collect();
    assert_eq!(found, [&labels("a"), &labels("nobody")], "{text}");
    assert!(kept.join(".uru").is_dir() && !data.path().join("receive").exists());
    let limit = "prometheus_tsdb_retention_limit_seconds{tenant=\"a\"}";
    support::wait(|| uru.metric(limit) == Some(3.0 * 86_400.0));
    let log = uru.log();
    let idle: Vec<&str> = log.lines().filter(|line| line.contains("accepted, without effect")).collect();
    assert!(idle.is_empty(), "{idle:?}");
    drop(uru);
    let addresses = ["--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"];
    let text = support::refused(&[&["all-in-one", &folder, "--receive.hashrings=[{nonsense"][..], &addresses].concat());
    assert!(text.contains("hashring"), "{text}");
}

/// The README's tour is typed as it stands there, but for the port.
#[test]
fn the_question_of_the_readmes_tour_gets_the_answer_that_stands_there() {
    let Some(block) = support::shared("golden/blocks/k8s/01M7YFY7H37F9ZH8ZQ1CX44W25") else { return };
    let data = tempfile::tempdir().unwrap();
    let bucket = data.path().join("bucket");
    support::copy_folder(&block, &bucket.join(block.file_name().unwrap()));
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let mut lines = readme.lines().skip_while(|line| !line.starts_with("    $ curl ")).map(str::trim);
    let (question, told) = (lines.next().expect("the tour asks with curl"), lines.next().unwrap());
    let uru = start(data.path());
    let command = question.trim_start_matches("$ ").replace("127.0.0.1:10902", &uru.http);
    let Ok(output) = std::process::Command::new("curl").arg("--version").output() else {
        assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "curl is required");
        eprintln!("SKIPPED: curl cannot be started");
        return;
    };
    assert!(output.status.success());
    let output = std::process::Command::new("sh").args(["-c", &command.replace("curl ", "curl -s ")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), told, "{command}");
}
