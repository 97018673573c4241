//! A receiver as its senders and readers see it: what is written is read back, what is bad is refused
//! with Thanos' status, what was acknowledged survives the process.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use prost::Message;
use proto::prometheus_copy::{Histogram, histogram};
use proto::thanos::query_client::QueryClient;
use proto::thanos::{
    LabelMatcher, LabelValuesRequest, LabelValuesResponse, QueryRequest, SeriesRequest, TimeSeriesTenantTuple,
    WriteResponse, query_response,
};
use proto::write_v2;

use crate::support::write::{
    EXTERNAL, NOW, Samples, WriteRequest, body, float_series, labels_text, post, recorded, samples, start, stored,
    write,
};
use crate::support::{Uru, get, refused, request, run, series, shared, unary, wait};

/// A recorded request of version 2 as one of version 1.
fn to_v1(request: &write_v2::Request) -> WriteRequest {
    let symbol = |at: u32| request.symbols[at as usize].clone();
    let series = request.timeseries.iter().map(|series| {
        let labels: Vec<(String, String)> =
            series.labels_refs.chunks(2).map(|pair| (symbol(pair[0]), symbol(pair[1]))).collect();
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        let samples: Vec<(i64, f64)> = series.samples.iter().map(|sample| (sample.timestamp, sample.value)).collect();
        float_series(&labels, &samples)
    });
    WriteRequest { timeseries: series.collect(), ..WriteRequest::default() }
}

fn read_back_whole(version: u8) {
    let Some(folder) = shared("golden/remote-write") else { return };
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &["--tsdb.max-exemplars=1000"]);
    let (mut expected, mut histograms) = (Samples::new(), 0);
    for number in 1..=6 {
        let name = format!("v{version}-{number:02}");
        let bytes = std::fs::read(folder.join(format!("{name}.bin"))).unwrap();
        let text = std::fs::read(folder.join(format!("{name}.headers.json"))).unwrap();
        let headers: BTreeMap<String, String> = serde_json::from_slice(&text).unwrap();
        let sent: Vec<(&str, &str)> = headers
            .iter()
            .filter(|(name, _)| name.starts_with("Content-") && *name != "Content-Length" || name.starts_with("X-"))
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let answer = post(&uru.write_address(), "/api/v1/receive", &sent, &bytes).unwrap();
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        let plain = snap::raw::Decoder::new().decompress_vec(&bytes).unwrap();
        if version == 1 {
            let request = WriteRequest::decode(&*plain).unwrap();
            histograms += request.timeseries.iter().map(|series| series.histograms.len()).sum::<usize>();
            recorded(&request, &mut expected);
        } else {
            let request = write_v2::Request::decode(&*plain).unwrap();
            let count = |of: fn(&write_v2::TimeSeries) -> usize| request.timeseries.iter().map(of).sum::<usize>();
            let written = |kind: &str| answer.headers[&format!("x-prometheus-remote-write-{kind}-written")].clone();
            assert_eq!(written("samples"), count(|series| series.samples.len()).to_string());
            assert_eq!(written("histograms"), count(|series| series.histograms.len()).to_string());
            histograms += count(|series| series.histograms.len());
            recorded(&to_v1(&request), &mut expected);
        }
    }
    expected.retain(|_, samples| !samples.is_empty());
    let found = stored(&uru, ".+");
    let of_histograms = |kind: i32| kind == 1 || kind == 2;
    let chunks = found.iter().flat_map(|series| &series.chunks).filter_map(|chunk| chunk.raw.as_ref());
    let stored_histograms: usize = chunks
        .filter(|raw| of_histograms(raw.r#type))
        .map(|raw| usize::from(u16::from_be_bytes([raw.data[0], raw.data[1]])))
        .sum();
    assert_eq!(stored_histograms, histograms);
    assert!(histograms > 0);
    let mut found = samples(&found, &EXTERNAL);
    found.retain(|_, samples| !samples.is_empty());
    assert_eq!(found.len(), expected.len());
    for (labels, samples) in &expected {
        assert_eq!(found.get(labels), Some(samples), "{labels}");
    }
}

#[test]
fn requests_of_a_real_prometheus_are_read_back_whole_version_1() {
    read_back_whole(1);
}

#[test]
fn requests_of_a_real_prometheus_are_read_back_whole_version_2() {
    read_back_whole(2);
}

#[test]
fn what_is_bad_is_refused_with_the_status_that_thanos_gives() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &["--tsdb.too-far-in-future.time-window=1h"]);
    let up = |samples: &[(i64, f64)]| float_series(&[("__name__", "up"), ("job", "a")], samples);
    assert_eq!(write(&uru, "", &[up(&[(NOW, 1.0)])]).status, 200);
    let conflict = |series, words: &str| {
        let answer = write(&uru, "", &[series]);
        assert_eq!(answer.status, 409, "{}", answer.body);
        assert!(answer.body.contains(words), "{}", answer.body);
    };
    conflict(up(&[(NOW, 2.0)]), "add 1 samples: duplicate sample for timestamp");
    conflict(up(&[(NOW - 1, 1.0)]), "out of order sample");
    conflict(up(&[(NOW - 86_400_000, 1.0)]), "out of bounds");
    conflict(up(&[(4_000_000_000_000, 1.0)]), "out of bounds");
    conflict(float_series(&[("b", "1"), ("a", "1")], &[(NOW, 1.0)]), "add 1 series: out of order labels");
    conflict(float_series(&[("a", "1"), ("a", "2")], &[(NOW, 1.0)]), "same name");
    conflict(float_series(&[("a", "")], &[(NOW, 1.0)]), "empty name or value");
    // The same sample again is no conflict, and good series of a bad request are kept.
    assert_eq!(write(&uru, "", &[up(&[(NOW, 1.0)])]).status, 200);
    let good = float_series(&[("__name__", "good")], &[(NOW, 5.0)]);
    assert_eq!(write(&uru, "", &[up(&[(NOW, 9.0)]), good]).status, 409);
    assert_eq!(stored(&uru, "good").len(), 1);
    let raw = |headers: &[(&str, &str)], bytes: &[u8]| {
        post(&uru.write_address(), "/api/v1/receive", headers, bytes).unwrap().status
    };
    let snappy = [("Content-Encoding", "snappy")];
    assert_eq!(raw(&snappy, b"\x80\x80\x80\x80\x04"), 413);
    assert_eq!(raw(&snappy, b"no snappy"), 400);
    let cut = body(&[up(&[(NOW, 1.0)])]);
    assert_eq!(raw(&snappy, &cut[..cut.len() - 3]), 400);
    let lying = snap::raw::Encoder::new().compress_vec(&[0x0a, 0x7f, 1]).unwrap();
    assert_eq!(raw(&snappy, &lying), 400);
    assert_eq!(raw(&[("THANOS-TENANT", "../up")], &cut), 400);
    assert_eq!(raw(&[("THANOS-REPLICA", "x")], &cut), 400);
    assert_eq!(raw(&[("Content-Encoding", "br")], &cut), 200);
    assert_eq!(raw(&[("Content-Encoding", "br")], b"no snappy"), 415);
    assert_eq!(raw(&snappy, &body(&[])), 200);
}

#[test]
fn a_tenant_over_its_limit_is_refused_and_others_are_not() {
    let data = tempfile::tempdir().unwrap();
    let limits = "--receive.limits-config={write: {default: {request: {series_limit: 2, samples_limit: 3}}, \
                  tenants: {small: {head_series_limit: 1}, tiny: {request: {size_bytes_limit: 10}}}}}";
    let uru = start(data.path(), &[limits]);
    let series = |name: &str, count: i64| {
        let samples: Vec<(i64, f64)> = (0..count).map(|at| (NOW + at, 1.0)).collect();
        float_series(&[("__name__", name)], &samples)
    };
    let many = [series("a", 1), series("b", 1), series("c", 1)];
    assert_eq!(write(&uru, "big", &many).status, 413);
    assert_eq!(write(&uru, "big", &[series("a", 4)]).status, 413);
    assert_eq!(write(&uru, "tiny", &[series("a", 1)]).status, 413);
    assert_eq!(write(&uru, "small", &[series("a", 1)]).status, 200);
    let limited = write(&uru, "small", &[series("b", 1)]);
    assert_eq!(limited.status, 429, "{}", limited.body);
    assert!(limited.headers.contains_key("retry-after"));
    // The series that it has go on.
    assert_eq!(write(&uru, "small", &[series("a", 2)]).status, 200);
    assert_eq!(write(&uru, "big", &[series("a", 3)]).status, 200);
    assert_eq!(uru.metric("thanos_receive_head_series_limited_requests_total{tenant=\"small\"}"), Some(1.0));
    let tenants: Vec<String> = stored(&uru, "a")
        .iter()
        .filter_map(|series| series.labels.iter().find(|label| label.name == "tenant_id"))
        .map(|label| label.value.clone())
        .collect();
    assert_eq!(tenants, ["big", "small"]);
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill_and_none_twice() {
    let data = tempfile::tempdir().unwrap();
    let rounds: usize = std::env::var("URU_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut expected = Samples::new();
    let mut time = NOW;
    for round in 0..rounds {
        let uru = start(data.path(), &[]);
        for at in 0..20 + 7 * (round % 5) {
            time += 1000;
            let names: Vec<String> = (0..50).map(|series| format!("s{series:02}")).collect();
            let series: Vec<_> = names
                .iter()
                .map(|name| float_series(&[("__name__", "crash"), ("name", name)], &[(time, at as f64)]))
                .collect();
            assert_eq!(write(&uru, "", &series).status, 200);
            recorded(&WriteRequest { timeseries: series, ..WriteRequest::default() }, &mut expected);
        }
        uru.kill();
    }
    let uru = start(data.path(), &[]);
    assert_eq!(samples(&stored(&uru, "crash"), &EXTERNAL), expected);
}

#[test]
fn of_a_log_that_was_cut_off_it_is_told_whether_a_sender_may_miss_something() {
    let told = "which nobody was told of unless they were written with --tsdb.wal-durability=relaxed";
    for durability in ["fsync", "relaxed"] {
        let data = tempfile::tempdir().unwrap();
        let flag = format!("--tsdb.wal-durability={durability}");
        let uru = start(data.path(), &[&flag]);
        assert_eq!(write(&uru, "", &[float_series(&[("__name__", "cut")], &[(NOW, 1.5)])]).status, 200);
        uru.kill();
        // The write's last bytes never came; room is zeros.
        let logs = std::fs::read_dir(data.path().join(".uru/wal")).unwrap().flatten().filter(|log| log.path().is_dir());
        let segments = logs.flat_map(|log| std::fs::read_dir(log.path()).unwrap().flatten());
        let written = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let segments = segments.map(|segment| (segment.path(), std::fs::read(segment.path()).unwrap()));
        let (path, mut bytes) = segments.max_by_key(|(_, bytes)| written(bytes)).unwrap();
        let end = written(&bytes);
        bytes[end - 4..].fill(0);
        std::fs::write(path, bytes).unwrap();
        let uru = start(data.path(), &[&flag]);
        let cut_off = "logs ended in a write that was cut off";
        wait(|| uru.log().contains(cut_off));
        let log = uru.log();
        let line = log.lines().find(|line| line.contains(cut_off));
        assert!(line.is_some_and(|line| line.contains("logs=1") && line.contains(told)), "{durability}: {log}");
    }
}

#[test]
fn series_are_placed_on_a_ring_and_one_receiver_of_three_may_be_away() {
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut receivers: Vec<Uru> = folders.iter().map(|folder| start(folder.path(), &[])).collect();
    let addresses: Vec<String> = receivers.iter().map(|uru| format!("\"{}\"", uru.grpc)).collect();
    let rings = format!("--receive.hashrings=[{{\"endpoints\": [{}]}}]", addresses.join(","));
    let data = tempfile::tempdir().unwrap();
    let flags = [&*rings, "--receive.hashrings-algorithm=ketama", "--receive.replication-factor=3"];
    let router = start(data.path(), &flags);
    let series = |time: i64| -> Vec<_> {
        let names: Vec<String> = (0..20).map(|number| format!("r{number:02}")).collect();
        names.iter().map(|name| float_series(&[("__name__", "ring"), ("name", name)], &[(time, 1.0)])).collect()
    };
    let answer = write(&router, "team", &series(NOW));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut expected = Samples::new();
    recorded(&WriteRequest { timeseries: series(NOW), ..WriteRequest::default() }, &mut expected);
    receivers.remove(0).kill();
    assert_eq!(write(&router, "team", &series(NOW + 1000)).status, 200);
    recorded(&WriteRequest { timeseries: series(NOW + 1000), ..WriteRequest::default() }, &mut expected);
    // Two of three are a quorum, so that what is acknowledged is on both that are left.
    for uru in &receivers {
        assert_eq!(samples(&stored(uru, "ring"), &EXTERNAL), expected);
    }
    receivers.remove(0).kill();
    let answer = write(&router, "team", &series(NOW + 2000));
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(router.metric("thanos_receive_forward_requests_total{result=\"error\"}").unwrap() >= 1.0);
}

#[test]
fn a_tenant_that_no_ring_takes_may_be_sent_again_as_to_thanos() {
    let data = tempfile::tempdir().unwrap();
    let rings = r#"--receive.hashrings=[{"tenants": ["a"], "endpoints": ["127.0.0.1:1"]}]"#;
    let router = start(data.path(), &[rings]);
    let answer = write(&router, "b", &[float_series(&[("__name__", "x")], &[(NOW, 1.0)])]);
    assert_eq!(answer.status, 500, "{}", answer.body);
    assert!(answer.body.contains("no matching hashring to handle tenant \"b\""), "{}", answer.body);
}

#[test]
fn what_is_kept_and_refused_is_told_under_the_names_of_thanos_and_prometheus() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &["--shipper.sync-interval=50ms"]);
    let up = |time: i64| float_series(&[("__name__", "up")], &[(time, 1.0)]);
    let codes: Vec<u16> = [0, -1, -86_400_000].iter().map(|time| write(&uru, "", &[up(NOW + time)]).status).collect();
    assert_eq!(codes, [200, 409, 409]);
    // Thanos answers this one where requests are written.
    for address in [uru.write_address(), uru.http.clone()] {
        let (status, body) = get(&address, "/api/v1/status/tsdb").unwrap();
        assert!(status == 200 && body.contains("\"numSeries\":1"), "{status} {body}");
    }
    wait(|| uru.metric("thanos_shipper_dir_syncs_total{").is_some());
    let tenant = "{tenant=\"default-tenant\"}";
    for (counter, floats) in [
        ("head_samples_appended", 1.0),
        ("head_out_of_order_samples_appended", 0.0),
        ("out_of_order_samples", 1.0),
        ("out_of_bound_samples", 1.0),
        ("too_old_samples", 0.0),
    ] {
        for (kind, value) in [("float", floats), ("histogram", 0.0)] {
            let name = format!("prometheus_tsdb_{counter}_total");
            let labels = format!("{{tenant=\"default-tenant\",type=\"{kind}\"}}");
            assert_eq!(uru.metric(&format!("{name}{labels}")), Some(value), "{name}{labels}");
        }
    }
    for (name, value) in [
        ("prometheus_tsdb_blocks_loaded", 0.0),
        ("prometheus_tsdb_lowest_timestamp", NOW as f64),
        ("prometheus_tsdb_head_series_removed_total", 0.0),
        ("thanos_shipper_uploads_total", 0.0),
        ("thanos_shipper_upload_failures_total", 0.0),
        ("thanos_shipper_dir_sync_failures_total", 0.0),
    ] {
        assert_eq!(uru.metric(&format!("{name}{tenant}")), Some(value), "{name}");
    }
    assert_eq!(uru.metric("thanos_status{check=\"ready\",component=\"receive\"}"), Some(1.0));
}

#[test]
fn late_samples_are_told_by_their_type_whatever_partition_their_series_are_in() {
    const SERIES: usize = 16;
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &["--tsdb.out-of-order.time-window=1h"]);
    let empty = |timestamp: i64| {
        let (count, zero) = (histogram::Count::CountInt(0), histogram::ZeroCount::ZeroCountInt(0));
        Histogram { count: Some(count), zero_count: Some(zero), timestamp, ..Histogram::default() }
    };
    let numbers: Vec<String> = (0..SERIES).map(|number| number.to_string()).collect();
    let at = |time: i64| -> Vec<_> {
        let both = numbers.iter().flat_map(|number| {
            let float = float_series(&[("__name__", "f"), ("number", number)], &[(time, 1.0)]);
            let mut native = float_series(&[("__name__", "h"), ("number", number)], &[]);
            native.histograms.push(empty(time));
            [float, native]
        });
        both.collect()
    };
    let codes = [0, -60_000, -7_200_000].map(|time| write(&uru, "", &at(NOW + time)).status);
    assert_eq!(codes, [200, 200, 409]);
    let every = Some(SERIES as f64);
    for kind in ["float", "histogram"] {
        let labels = format!("{{tenant=\"default-tenant\",type=\"{kind}\"}}");
        let told = |counter: &str| uru.metric(&format!("prometheus_tsdb_{counter}_total{labels}"));
        assert_eq!(told("head_samples_appended"), Some(2.0 * SERIES as f64), "{kind}");
        assert_eq!((told("head_out_of_order_samples_appended"), told("too_old_samples")), (every, every), "{kind}");
        assert_eq!((told("out_of_order_samples"), told("out_of_bound_samples")), (Some(0.0), Some(0.0)), "{kind}");
    }
}

#[test]
fn a_folder_takes_one_receiver_which_a_hangup_does_not_end() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &[]);
    let tsdb = format!("--tsdb.path={}", data.path().display());
    let own = ["--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0", "--remote-write.address=127.0.0.1:0"];
    let text = refused(&[&["receive", &tsdb, "--label=receive=\"a\""][..], &own].concat());
    assert!(text.contains("another process has this folder open"), "{text}");
    uru.signal("HUP");
    wait(|| uru.log().contains("caught SIGHUP"));
    assert_eq!(write(&uru, "", &[float_series(&[("__name__", "up")], &[(NOW, 1.0)])]).status, 200);
    assert!(uru.terminate().success());
}

#[test]
fn series_are_relabelled_and_split_by_the_label_that_names_their_tenant() {
    let data = tempfile::tempdir().unwrap();
    let rules = "--receive.relabel-config=[{source_labels: [drop], regex: 'yes', action: drop}, \
                 {regex: 'pod', action: labeldrop}]";
    let uru = start(data.path(), &[rules, "--receive.split-tenant-label-name=team"]);
    let series = [
        float_series(&[("__name__", "x"), ("pod", "p"), ("team", "red")], &[(NOW, 1.0)]),
        float_series(&[("__name__", "x"), ("drop", "yes")], &[(NOW, 2.0)]),
        float_series(&[("__name__", "x"), ("job", "a")], &[(NOW, 3.0)]),
    ];
    assert_eq!(write(&uru, "", &series).status, 200);
    let found: Vec<String> = stored(&uru, "x").iter().map(|series| labels_text(&series.labels, &["receive"])).collect();
    assert_eq!(found, ["__name__=\"x\",job=\"a\",tenant_id=\"default-tenant\"", "__name__=\"x\",tenant_id=\"red\""]);
    for tenant in ["default-tenant", "red"] {
        for metric in ["write_timeseries", "write_samples"] {
            let name = format!("thanos_receive_{metric}_sum{{code=\"200\",tenant=\"{tenant}\"}}");
            assert_eq!(uru.metric(&name), Some(1.0), "{name}");
        }
    }
}

#[test]
fn a_label_without_a_value_goes_with_the_one_that_names_the_tenant() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &["--receive.split-tenant-label-name=team"]);
    let named = float_series(&[("__name__", "x"), ("team", "red"), ("z", "")], &[(NOW, 1.0)]);
    assert_eq!(write(&uru, "", &[named]).status, 200);
    let unnamed = float_series(&[("__name__", "x"), ("z", "")], &[(NOW, 1.0)]);
    assert_eq!(write(&uru, "", &[unnamed]).status, 409);
    let found: Vec<String> = stored(&uru, "x").iter().map(|series| labels_text(&series.labels, &["receive"])).collect();
    assert_eq!(found, ["__name__=\"x\",tenant_id=\"red\""]);
}

#[test]
fn labels_that_are_no_set_are_refused_also_where_they_are_relabelled() {
    let data = tempfile::tempdir().unwrap();
    let rules = "--receive.relabel-config=[{source_labels: [drop], regex: 'yes', action: drop}]";
    let uru = start(data.path(), &[rules]);
    for bad in [&[("z", "1"), ("__name__", "x")], &[("__name__", "x"), ("__name__", "y")]] {
        let series =
            [float_series(bad, &[(NOW, 1.0)]), float_series(&[("__name__", "x"), ("good", "1")], &[(NOW, 1.0)])];
        assert_eq!(write(&uru, "", &series).status, 409, "{bad:?}");
    }
    let dropped = float_series(&[("drop", "yes"), ("__name__", "x")], &[(NOW, 1.0)]);
    let emptied = float_series(&[("__name__", "x"), ("empty", "")], &[(NOW, 1.0)]);
    assert_eq!(write(&uru, "", &[dropped, emptied]).status, 200);
    let found: Vec<String> =
        stored(&uru, "x").iter().map(|series| labels_text(&series.labels, &["receive", "tenant_id"])).collect();
    assert_eq!(found, ["__name__=\"x\",good=\"1\"", "__name__=\"x\""]);
    assert!(stored(&uru, "y").is_empty());
}

#[test]
fn readers_that_select_nothing_in_particular_are_refused_as_by_thanos() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &[]);
    assert_eq!(write(&uru, "", &[float_series(&[("__name__", "up")], &[(NOW, 1.0)])]).status, 200);
    let request = |matchers: &[(&str, &str)], strategy| SeriesRequest {
        max_time: i64::MAX,
        matchers: matchers
            .iter()
            .map(|(name, value)| LabelMatcher { r#type: 0, name: (*name).into(), value: (*value).into() })
            .collect(),
        partial_response_strategy: strategy,
        ..SeriesRequest::default()
    };
    let (warn, abort) = (0, 1);
    run(async {
        let channel = uru.connect().await;
        let refused = series(&channel, request(&[], warn)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert_eq!(refused.message(), "no matchers specified (excluding selector labels)");
        for only in [&[("receive", "a")][..], &[("tenant_id", "default-tenant"), ("receive", "a")]] {
            let (found, warnings) = series(&channel, request(only, warn)).await.unwrap();
            assert_eq!(
                (found.len(), &*warnings),
                (0, &["no matchers specified (excluding external labels)".to_owned()][..])
            );
            assert_eq!(series(&channel, request(only, abort)).await.unwrap_err().code(), tonic::Code::Aborted);
        }
        // Of another tenant there is nothing, and with a matcher of its own a request is answered.
        assert_eq!(series(&channel, request(&[("receive", "b")], abort)).await.unwrap(), (vec![], vec![]));
        let named = request(&[("receive", "a"), ("__name__", "up")], abort);
        assert_eq!(series(&channel, named).await.unwrap().0.len(), 1);
        // A query over what it answers nothing to says so too.
        let asked = |enable_partial_response| QueryRequest {
            query: "absent({receive=\"a\"})".into(),
            time_seconds: NOW / 1000,
            enable_partial_response,
            ..QueryRequest::default()
        };
        let mut queries = QueryClient::new(channel.clone());
        let first = queries.query(asked(true)).await.unwrap().into_inner().message().await.unwrap().unwrap().result;
        let warning = query_response::Result::Warnings("no matchers specified (excluding external labels)".into());
        assert_eq!(first, Some(warning));
        assert_eq!(queries.query(asked(false)).await.unwrap_err().code(), tonic::Code::Aborted);
        let values = |label: &str| LabelValuesRequest { label: label.into(), end: i64::MAX, ..Default::default() };
        let path = "/thanos.Store/LabelValues";
        let refused = unary::<_, LabelValuesResponse>(&channel, path, values("")).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        let found: LabelValuesResponse = unary(&channel, path, values("receive")).await.unwrap();
        assert_eq!(found.values, ["a"]);
    });
}

#[test]
fn a_bad_histogram_is_no_reason_to_send_again_neither_to_senders_nor_to_thanos_routers() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &[]);
    let mut bad = float_series(&[("__name__", "bad")], &[]);
    // An observation that no bucket has.
    let count = Some(histogram::Count::CountInt(1));
    bad.histograms.push(Histogram { count, timestamp: NOW, ..Histogram::default() });
    let good = float_series(&[("__name__", "good")], &[(NOW, 1.0)]);
    assert_eq!(write(&uru, "a", &[bad.clone(), good.clone()]).status, 400);
    let tuple = TimeSeriesTenantTuple { timeseries: vec![bad, good], tenant: "b".into() };
    let request = proto::thanos::WriteRequest { timeseries_tenant_data: vec![tuple], ..Default::default() };
    let path = "/thanos.WriteableStore/RemoteWrite";
    let refused = run(async { unary::<_, WriteResponse>(&uru.connect().await, path, request).await }).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::AlreadyExists, "{refused}");
    assert!(refused.message().contains("invalid native histogram"), "{refused}");
    assert_eq!(stored(&uru, ".+").len(), 2);
}

#[test]
fn a_bad_tenant_is_no_reason_to_send_again_for_thanos_routers_and_others_are_written() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &[]);
    let tuple = |tenant: &str| TimeSeriesTenantTuple {
        timeseries: vec![float_series(&[("__name__", "up")], &[(NOW, 1.0)])],
        tenant: tenant.into(),
    };
    let timeseries_tenant_data = vec![tuple("a/b"), tuple("c")];
    let request = proto::thanos::WriteRequest { timeseries_tenant_data, ..Default::default() };
    let path = "/thanos.WriteableStore/RemoteWrite";
    let refused = run(async { unary::<_, WriteResponse>(&uru.connect().await, path, request).await }).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::AlreadyExists, "{refused}");
    assert_eq!(stored(&uru, "up").len(), 1);
}

/// Each once waited for a write of its own.
#[test]
fn tenants_of_one_forwarded_request_share_what_is_written_to_the_log() {
    const TENANTS: usize = 500;
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &[]);
    let forward = |time: i64| {
        let tuple = |at: usize| TimeSeriesTenantTuple {
            timeseries: vec![float_series(&[("__name__", "many")], &[(time, 1.0)])],
            tenant: format!("t{at}"),
        };
        let timeseries_tenant_data = (0..TENANTS).map(tuple).collect();
        let request = proto::thanos::WriteRequest { timeseries_tenant_data, ..Default::default() };
        let path = "/thanos.WriteableStore/RemoteWrite";
        run(async { unary::<_, WriteResponse>(&uru.connect().await, path, request).await }).unwrap();
    };
    let writes = || uru.metric("uru_receive_wal_writes_total").unwrap();
    forward(NOW);
    let before = writes();
    forward(NOW + 1000);
    // All series are in one partition.
    let written = writes() - before;
    assert!(written > 0.0 && written < TENANTS as f64, "{written}");
    assert_eq!(stored(&uru, "many").len(), TENANTS);
}

#[test]
fn what_is_empty_in_a_question_about_the_heads_is_as_if_it_were_not_there() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &[]);
    assert_eq!(write(&uru, "", &[float_series(&[("__name__", "up")], &[(NOW, 1.0)])]).status, 200);
    for query in ["limit=", "tenant=", "limit=&all_tenants=true"] {
        let path = format!("/api/v1/status/tsdb?{query}");
        let (status, _, body) = request(&uru.write_address(), ("GET", &path), &["THANOS-TENANT:"], &[]);
        let body = String::from_utf8(body).unwrap();
        assert!(status == 200 && body.contains("\"numSeries\":1"), "{query}: {status} {body}");
    }
}

/// Whoever asked for such a tenant was shown the default one's.
#[test]
fn the_tenant_of_a_question_about_the_heads_may_have_any_letters() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &[]);
    let up = |name: &str| float_series(&[("__name__", name)], &[(NOW, 1.0)]);
    assert_eq!(write(&uru, "", &[up("a")]).status, 200);
    assert_eq!(write(&uru, "grün", &[up("a"), up("b")]).status, 200);
    let asked = ("GET", "/api/v1/status/tsdb");
    let (status, _, body) = request(&uru.write_address(), asked, &["THANOS-TENANT: grün"], &[]);
    let body = String::from_utf8(body).unwrap();
    assert!(status == 200 && body.contains("\"tenant\":\"grün\"") && body.contains("\"numSeries\":2"), "{body}");
    let mut stream = TcpStream::connect(uru.write_address()).unwrap();
    let head = b"GET /api/v1/status/tsdb HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTHANOS-TENANT: \xff\r\n\r\n";
    stream.write_all(head).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

/// Tenants with a local block that is read.
fn blocks_loaded(uru: &Uru) -> usize {
    let (_, text) = uru.get("/metrics");
    let is_loaded = |line: &&str| line.starts_with("prometheus_tsdb_blocks_loaded{") && line.ends_with(" 1");
    text.lines().filter(is_loaded).count()
}

#[test]
fn any_tenant_whose_name_a_folder_could_have_is_kept_below_the_data_folder() {
    let above = tempfile::tempdir().unwrap();
    let data = above.path().join("data");
    let uru = start(&data, &[]);
    let long = "x".repeat(255);
    let tenants = ["..", ".", ".uru", ".hidden", "a\\b", "lost+found", long.as_str()];
    for (at, tenant) in tenants.into_iter().enumerate() {
        let series = float_series(&[("__name__", "odd"), ("at", &at.to_string())], &[(NOW, at as f64)]);
        assert_eq!(write(&uru, tenant, &[series]).status, 200, "{tenant}");
    }
    for tenant in ["a/b", &"x".repeat(256)] {
        let series = float_series(&[("__name__", "odd")], &[(NOW, 1.0)]);
        assert_eq!(write(&uru, tenant, &[series]).status, 400, "{tenant}");
    }
    assert_eq!(stored(&uru, "odd").len(), tenants.len());
    uru.kill();
    let uru = start(&data, &["--shipper.sync-interval=20ms", "--tsdb.min-block-duration=5m"]);
    assert_eq!(stored(&uru, "odd").len(), tenants.len());
    // A later sample cuts a block of the first.
    for (at, tenant) in tenants.into_iter().enumerate() {
        let series = float_series(&[("__name__", "odd"), ("at", &at.to_string())], &[(NOW + 600_000, 0.0)]);
        assert_eq!(write(&uru, tenant, &[series]).status, 200, "{tenant}");
    }
    wait(|| blocks_loaded(&uru) == tenants.len());
    uru.kill();
    // Blocks of another length: what is behind the cut begins in the middle of one.
    let uru = start(&data, &[]);
    assert_eq!(samples(&stored(&uru, "odd"), &[]).values().map(BTreeMap::len).sum::<usize>(), 2 * tenants.len());
    assert_eq!(blocks_loaded(&uru), tenants.len());
    let beside: Vec<_> = std::fs::read_dir(above.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["data"]);
}
