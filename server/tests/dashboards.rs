//! The metrics that Thanos' dashboards and alerts ask for are there.

mod support;

use std::collections::BTreeSet;

use support::{Uru, shared};

/// Words of the list that are labels, not metrics.
const LABELS: &[&str] = &["grpc_code", "grpc_method", "grpc_type"];

/// Starts of metrics of what this process is not: Go's runtime, components that are not there yet,
/// a memcached client, recording rules that Prometheus makes of other metrics, and two names that
/// Thanos itself no longer has.
const ELSEWHERE: &[&str] = &[
    "go_",
    "prometheus_rule_",
    "thanos_alert_",
    "thanos_rule_",
    "thanos_sidecar_",
    "thanos_query_frontend_",
    "cortex_cache_",
    "grpc_client_failures_per_",
    "http_failure_per_request",
    "thanos_objstore_bucket_failures_per_operation",
    "thanos_query_store_apis_dns_failures_per_lookup",
    "thanos_query_store_grpc_server_failures_per_",
    "thanos_query_receive_grpc_server_failures_per_",
    "thanos_receive_forward_failure_per_requests",
    "thanos_receive_hashring_file_failure_per_refresh",
    "thanos_receive_replication_failure_per_requests",
    "thanos_compact_downsample_failed_total",
    "thanos_compact_blocks_marked_for_deletion_total",
];

/// The families that `/metrics` of a process describes.
fn families(uru: &Uru) -> BTreeSet<String> {
    let (status, text) = uru.get("/metrics");
    assert_eq!(status, 200);
    let described = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    described.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// The family of a metric: without what histograms and counters add to it.
fn is_known(metric: &str, families: &BTreeSet<String>) -> bool {
    let family = |suffix| metric.strip_suffix(suffix).is_some_and(|family| families.contains(family));
    families.contains(metric) || ["_bucket", "_sum", "_count", "_total"].into_iter().any(family)
}

#[test]
fn every_metric_of_the_dashboards_is_exported_by_some_component() {
    let Some(list) = shared("contract/metrics.txt") else { return };
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    support::write_block(&bucket, 1, (5, 1_700_000_000_000));
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    let data = |name: &str| format!("--data-dir={}", folder.path().join(name).display());
    let tsdb = format!("--tsdb.path={}", folder.path().join("receive").display());
    let store = Uru::start("store", &[&objstore, &data("store")]);
    let compact = Uru::start("compact", &["--wait", &objstore, &data("compact")]);
    let receive = Uru::start("receive", &["--label=replica=\"a\"", &objstore, &tsdb]);
    let query = Uru::start("query", &[&format!("--endpoint={}", store.grpc)]);
    // What is counted by label appears with the first request.
    assert_eq!(query.get("/api/v1/query?query=up").0, 200);
    let exported: BTreeSet<String> = [&store, &compact, &receive, &query].into_iter().flat_map(families).collect();
    let list = std::fs::read_to_string(list).unwrap();
    let wanted = list.lines().filter(|line| !line.starts_with('#') && !LABELS.contains(line));
    let missing: BTreeSet<&str> = wanted
        .filter(|metric| !ELSEWHERE.iter().any(|start| metric.starts_with(start)))
        .filter(|metric| !is_known(metric, &exported))
        .collect();
    assert!(missing.is_empty(), "not exported: {missing:#?}");
}
