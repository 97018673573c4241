//! The metrics that Thanos' dashboards, alerts and own tests ask for are described by the component that they ask,
//! before there is anything to count.

use std::collections::BTreeSet;

use crate::support;
use crate::support::{Uru, shared};

/// Words of the list that are labels, not metrics.
const LABELS: [&str; 4] = ["grpc_code", "grpc_method", "grpc_type", "thanos_tenant_id"];

/// Starts of metrics of what no process here is: Go's runtime, Prometheus, components that are not there yet
/// and memcached; and names of what Prometheus' recording rules make of other metrics.
const ELSEWHERE: [&str; 20] = [
    "go_",
    "prometheus_rule_",
    "thanos_alert_",
    "thanos_rule_",
    "thanos_sidecar_",
    "thanos_query_frontend_",
    "cortex_",
    "prometheus_build_info",
    "prometheus_remote_",
    "thanos_cache_memcached_",
    "thanos_frontend_",
    "grpc_client_failures_per_",
    "http_failure_per_request",
    "thanos_objstore_bucket_failures_per_operation",
    "thanos_query_store_apis_dns_failures_per_lookup",
    "thanos_query_store_grpc_server_failures_per_",
    "thanos_query_receive_grpc_server_failures_per_",
    "thanos_receive_forward_failure_per_requests",
    "thanos_receive_hashring_file_failure_per_refresh",
    "thanos_receive_replication_failure_per_requests",
];

/// Which component is asked for metrics with these starts; all others are asked of every component that
/// serves gRPC.
const COMPONENTS: [(&str, &[&str]); 15] = [
    ("blocks_meta_", &["replicate"]),
    ("grpc_client_", &["query", "receive"]),
    ("http_", &["query", "receive"]),
    ("prometheus_tsdb_", &["receive"]),
    ("thanos_blocks_meta_", &["store", "compact"]),
    ("thanos_bucket_store_", &["store"]),
    ("thanos_compact_", &["compact"]),
    ("thanos_objstore_", &["store", "compact", "receive"]),
    ("thanos_query_", &["query"]),
    ("thanos_receive_", &["receive"]),
    ("thanos_replicate_", &["replicate"]),
    ("thanos_shipper_", &["receive"]),
    ("thanos_store_api_", &["query"]),
    ("thanos_store_index_cache_", &["store"]),
    ("thanos_store_nodes_", &["query"]),
];

/// The families that `/metrics` of a process describes, each with help and a type, once.
fn families(uru: &Uru) -> BTreeSet<String> {
    let (status, text) = uru.get("/metrics");
    assert_eq!(status, 200);
    let described = |start: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(start));
        lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    let (helped, typed) = (described("# HELP "), described("# TYPE "));
    assert_eq!(helped, typed);
    let families: BTreeSet<String> = typed.iter().cloned().collect();
    assert_eq!(families.len(), typed.len(), "a family is described twice");
    families
}

/// Whether a metric is of one of the families: histograms add to their names.
fn is_described(metric: &str, families: &BTreeSet<String>) -> bool {
    let family = |suffix| metric.strip_suffix(suffix).is_some_and(|family| families.contains(family));
    families.contains(metric) || ["_bucket", "_sum", "_count"].into_iter().any(family)
}

#[test]
fn every_metric_of_the_list_is_described_by_the_component_that_is_asked_for_it() {
    let Some(list) = shared("contract/metrics.txt") else { return };
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    support::write_block(&bucket, 1, (5, 1_700_000_000_000));
    let other = folder.path().join("other");
    std::fs::create_dir_all(&other).unwrap();
    let config = |flag: &str, path: &std::path::Path| {
        format!("--{flag}.config={{type: FILESYSTEM, config: {{directory: {}}}}}", path.display())
    };
    let objstore = config("objstore", &bucket);
    let data = |name: &str| format!("--data-dir={}", folder.path().join(name).display());
    let tsdb = format!("--tsdb.path={}", folder.path().join("receive").display());
    let write = "--remote-write.address=127.0.0.1:0";
    let replicate = ["tools", "bucket", "replicate", &objstore, &config("objstore-to", &other)];
    let processes = [
        ("store", Uru::start("store", &[&objstore, &data("store")])),
        ("compact", Uru::start_http(&["compact", "--wait", &objstore, &data("compact")])),
        ("receive", Uru::start("receive", &["--label=receive=\"a\"", &objstore, &tsdb, write])),
        ("query", Uru::start("query", &[])),
        ("replicate", Uru::start_http(&replicate)),
    ];
    let exported = processes.map(|(name, uru)| (name, families(&uru)));
    // The dashboard of replication asks for a name without a prefix, which the list leaves out.
    let list = std::fs::read_to_string(list).unwrap() + "blocks_meta_synced\n";
    // The part before is what Thanos' own tests ask for.
    let mut missing = BTreeSet::new();
    for metric in list.lines().filter(|line| !line.starts_with('#') && !LABELS.contains(line)) {
        if ELSEWHERE.iter().any(|start| metric.starts_with(start)) {
            continue;
        }
        let asked = COMPONENTS.iter().find(|(start, _)| metric.starts_with(start));
        let asked = asked.map_or(&["store", "receive", "query"][..], |(_, components)| components);
        for component in asked {
            let (_, families) = exported.iter().find(|(name, _)| name == component).unwrap();
            if !is_described(metric, families) {
                missing.insert(format!("{component}: {metric}"));
            }
        }
    }
    assert!(missing.is_empty(), "not described: {missing:#?}");
}
