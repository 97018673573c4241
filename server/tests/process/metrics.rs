//! What every component publishes at /metrics: each family once, each series once, in both formats.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use crate::support::write::{body, float_series, post};
use crate::support::{Uru, everything, get_accepting, request, run, series, wait, write_block};

const START: i64 = 1_700_000_000_000;

/// Endings that samples of a family add to its name.
const ENDINGS: [&str; 6] = ["", "_bucket", "_sum", "_count", "_total", "_info"];

/// What is wrong with an exposition; empty when nothing is.
fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let (mut helped, mut typed, mut seen) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut family = "";
    for line in text.lines().filter(|line| !line.is_empty() && *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split(' ').next().unwrap();
            if !helped.insert(name) {
                faults.push(format!("{name} has two lines of help"));
            }
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
            if !typed.insert(family) {
                faults.push(format!("{family} has two types"));
            }
        } else if !line.starts_with('#') {
            let sample = line.split(" # ").next().unwrap();
            let (series, value) = sample.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            if !ENDINGS.iter().any(|ending| name.strip_suffix(ending) == Some(family)) {
                faults.push(format!("{name} stands below the type of {family}"));
            }
            let mut labels: Vec<&str> = series[name.len()..].trim_matches(['{', '}']).split("\",").collect();
            labels.sort_unstable();
            if !seen.insert((name, labels)) {
                faults.push(format!("{series} is there twice"));
            }
            if value.parse::<f64>().is_err() {
                faults.push(format!("{series} has the value {value}"));
            }
        }
    }
    if typed.is_empty() {
        faults.push("there is no metric".into());
    }
    faults
}

/// Checks both formats of a process' metrics.
fn check(component: &str, uru: &Uru) {
    let (_, text) = uru.get("/metrics");
    assert_eq!(faults(&text), [""; 0], "{component}");
    let (_, open) = get_accepting(&uru.http, "/metrics", "application/openmetrics-text").unwrap();
    assert!(open.ends_with("# EOF\n"), "{component}");
    assert_eq!(faults(&open), [""; 0], "{component}");
}

fn flags(folder: &Path) -> [String; 2] {
    [
        format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", folder.join("bucket").display()),
        format!("--data-dir={}", folder.join("data").display()),
    ]
}

/// Writes one sample; the request is counted once, with its tenant.
fn write_and_count(uru: &Uru, address: &str) {
    let bytes = body(&[float_series(&[("__name__", "up")], &[(START, 1.0)])]);
    let headers = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf"), ("THANOS-TENANT", "a")];
    // The heads may be opened while others are served already; then it is 503.
    wait(|| post(address, "/api/v1/receive", &headers, &bytes).is_some_and(|answer| answer.status == 200));
    let (_, text) = uru.get("/metrics");
    let is_count =
        |line: &&str| line.starts_with("http_requests_total{code=\"200\"") && line.contains("handler=\"receive\"");
    let counted: Vec<&str> = text.lines().filter(is_count).collect();
    assert_eq!(counted, ["http_requests_total{code=\"200\",handler=\"receive\",method=\"post\",tenant=\"a\"} 1"]);
}

#[test]
fn a_store_publishes_each_family_once() {
    let folder = tempfile::tempdir().unwrap();
    write_block(&folder.path().join("bucket"), 1, (5, START));
    let [bucket, data] = flags(folder.path());
    let uru = Uru::start("store", &[&bucket, &data]);
    run(async { series(&uru.connect().await, everything()).await.unwrap() });
    uru.get("/api/v1/blocks");
    check("store", &uru);
    let received = "{grpc_method=\"Series\",grpc_service=\"thanos.Store\",grpc_type=\"server_stream\"}";
    for (metric, value) in [
        ("thanos_store_server_series_requested_sum", 5.0),
        ("thanos_store_server_chunks_requested_sum", 5.0),
        ("thanos_store_server_pending_series_requests", 0.0),
        (&format!("grpc_server_msg_received_total{received}"), 1.0),
        (&format!("grpc_server_handled_total{{grpc_code=\"Internal\",{}", &received[1..]), 0.0),
        ("grpc_req_panics_recovered_total", 0.0),
        ("thanos_bucket_store_series_gate_queries_total", 1.0),
        ("thanos_bucket_store_postings_size_bytes_count", 1.0),
        ("thanos_bucket_store_postings_fetch_duration_seconds_count{tenant=\"default-tenant\"}", 1.0),
        ("thanos_bucket_store_series_fetch_duration_sum_seconds_count{tenant=\"default-tenant\"}", 1.0),
        ("thanos_bucket_store_chunks_fetch_duration_seconds_count{tenant=\"default-tenant\"}", 1.0),
        ("thanos_bucket_store_empty_postings_total{tenant=\"default-tenant\"}", 0.0),
        ("thanos_bucket_store_indexheader_load_duration_seconds_count", 0.0),
    ] {
        assert_eq!(uru.metric(metric), Some(value), "{metric}");
    }
}

#[test]
fn a_querier_publishes_each_family_once() {
    let uru = Uru::start("query", &["--endpoint=127.0.0.1:1"]);
    uru.get("/api/v1/query?query=up");
    uru.get("/api/v1/query_range?query=up&start=1000&end=8200&step=60");
    request(&uru.http, ("GET", "/api/v1/query?query=up"), &["THANOS-TENANT: a"], b"");
    check("query", &uru);
    for series in [
        "http_requests_total{code=\"200\",handler=\"query\",method=\"get\",tenant=\"default-tenant\"}",
        "http_requests_total{code=\"200\",handler=\"query\",method=\"get\",tenant=\"a\"}",
        "thanos_status{check=\"ready\",component=\"query\"}",
        "thanos_query_concurrent_gate_queries_duration_seconds_count",
        "prometheus_engine_query_duration_histogram_seconds_count{engine=\"prometheus\",mode=\"local\",slice=\"inner_eval\"}",
        "prometheus_engine_query_duration_seconds_count{engine=\"prometheus\",mode=\"local\",slice=\"prepare_time\"}",
        "prometheus_engine_queries_concurrent_max{engine=\"prometheus\",mode=\"local\"}",
        "thanos_query_concurrent_selects_gate_selects_total",
        "thanos_query_concurrent_selects_gate_selects_max",
        "thanos_query_concurrent_selects_gate_selects_duration_seconds_count",
    ] {
        assert!(uru.metric(series).is_some_and(|value| value >= 1.0), "{series}");
    }
    let quantile = |slice: &str| {
        let labels = format!("{{engine=\"prometheus\",mode=\"local\",slice=\"{slice}\",quantile=\"0.99\"}}");
        uru.metric(&format!("prometheus_engine_query_duration_seconds{labels}")).unwrap()
    };
    // The answer of the one range query was sorted as it was computed.
    assert!((1e-9..60.0).contains(&quantile("inner_eval")) && (0.0..1e-6).contains(&quantile("result_sort")));
    assert!(uru.get("/metrics").1.contains("# TYPE prometheus_engine_query_duration_seconds summary\n"));
    assert_eq!(uru.metric("thanos_query_range_requested_timespan_duration_seconds_sum"), Some(7200.0));
    for name in [
        "thanos_query_endpoints_dns_lookups_total",
        "thanos_query_store_apis_dns_failures_total",
        "thanos_query_duplicated_endpoint_addresses_total",
        "prometheus_engine_query_log_enabled",
        "prometheus_engine_query_log_failures_total",
        "thanos_query_concurrent_selects_gate_selects_in_flight",
        "thanos_engine_queries_total",
        "thanos_engine_queries",
        "http_inflight_requests{handler=\"query\",method=\"GET\",tenant=\"a\"}",
    ] {
        assert_eq!(uru.metric(name), Some(0.0), "{name}");
    }
    assert_eq!(uru.metric("http_inflight_requests{handler=\"query\",method=\"GET\"}"), None);
    let distributed = Uru::start("query", &["--query.mode=distributed"]);
    let labels = "{engine=\"thanos\",mode=\"distributed\"}";
    assert!(distributed.metric(&format!("prometheus_engine_queries_concurrent_max{labels}")) >= Some(1.0));
    distributed.get("/api/v1/query?query=up");
    assert_eq!(distributed.metric(&format!("thanos_engine_queries_total{labels}")), Some(1.0));
}

#[test]
fn a_receiver_publishes_each_family_once_and_counts_each_write_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("--tsdb.path={}", folder.path().display());
    let more = ["--label=receive=\"a\"", "--remote-write.address=127.0.0.1:0", "--tsdb.retention=0d"];
    let uru = Uru::start("receive", &[&[path.as_str()], &more[..]].concat());
    write_and_count(&uru, &uru.write_address());
    check("receive", &uru);
}

/// The gauge had no tenant, by which Thanos' dashboard of receivers divides it.
#[test]
fn writes_under_way_are_counted_for_their_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("--tsdb.path={}", folder.path().display());
    let uru = Uru::start("receive", &[&path, "--label=receive=\"a\"", "--remote-write.address=127.0.0.1:0"]);
    let mut sender = std::net::TcpStream::connect(uru.write_address()).unwrap();
    let begun = "POST /api/v1/receive HTTP/1.1\r\nHost: a\r\nTHANOS-TENANT: a\r\nContent-Encoding: snappy\r\n\
                 Content-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\nbegun";
    sender.write_all(begun.as_bytes()).unwrap();
    let under_way = |labels: &str| uru.metric(&format!("http_inflight_requests{{handler=\"receive\"{labels}}}"));
    let of_tenant = ",method=\"POST\",tenant=\"a\"";
    wait(|| under_way(of_tenant) == Some(1.0));
    assert_eq!(under_way(",method=\"POST\""), None);
    drop(sender);
    wait(|| under_way(of_tenant) == Some(0.0));
}

#[test]
fn a_compactor_publishes_each_family_once() {
    let folder = tempfile::tempdir().unwrap();
    write_block(&folder.path().join("bucket"), 1, (5, START));
    let [bucket, data] = flags(folder.path());
    let uru = Uru::start_http(&["compact", "--wait", &bucket, &data]);
    check("compact", &uru);
}

/// There was no series of failed runs before the first, so that an alert on their rate missed it.
#[test]
fn a_replicator_publishes_each_family_once_and_both_results() {
    let folder = tempfile::tempdir().unwrap();
    write_block(&folder.path().join("bucket"), 1, (5, START));
    let [from, _] = flags(folder.path());
    let [to, _] = flags(&folder.path().join("other"));
    let to = to.replace("--objstore.", "--objstore-to.");
    std::fs::create_dir_all(folder.path().join("other/bucket")).unwrap();
    let uru = Uru::start_http(&["tools", "bucket", "replicate", &from, &to]);
    uru.wait_for("/metrics", "thanos_replicate_replication_runs_total{result=\"success\"} 1\n");
    check("replicate", &uru);
    for (metric, value) in [
        ("thanos_replicate_replication_runs_total{result=\"error\"}", 0.0),
        ("thanos_replicate_replication_run_duration_seconds_count{result=\"error\"}", 0.0),
        ("blocks_meta_synced{state=\"loaded\"}", 1.0),
        ("blocks_meta_base_syncs_total", 1.0),
    ] {
        assert_eq!(uru.metric(metric), Some(value), "{metric}");
    }
}

#[test]
fn all_in_one_publishes_each_family_once_and_counts_each_write_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = format!("--data-dir={}", folder.path().display());
    let uru = Uru::start("all-in-one", &["--no-self-scrape", &data]);
    uru.get("/api/v1/query?query=up");
    write_and_count(&uru, &uru.http);
    check("all-in-one", &uru);
}

#[test]
fn what_is_there_twice_is_found() {
    let good = "# HELP a A.\n# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 1\n";
    assert_eq!(faults(good), [""; 0]);
    assert_eq!(faults(&good.repeat(2)).len(), 4);
    assert_eq!(faults("# TYPE a gauge\nb 1\n").len(), 1);
}
