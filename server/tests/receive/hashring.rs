//! Placements that Thanos receive recorded, and ours.

use serde::Deserialize;
use server::cluster::hashring::{Algorithm, Hashrings, parse, series_hash};

#[derive(Deserialize)]
struct Recorded {
    case: String,
    algorithm: Algorithm,
    replication_factor: usize,
    hashrings: serde_json::Value,
    tenant: String,
    labels: Vec<(String, String)>,
    hash: String,
    nodes: Vec<String>,
}

#[test]
fn every_recorded_series_goes_where_thanos_sends_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden/hashring.jsonl");
    let Ok(text) = std::fs::read_to_string(path) else {
        assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "{path} is missing");
        eprintln!("SKIPPED: {path} is missing");
        return;
    };
    let recorded: Vec<Recorded> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(recorded.len(), 420);
    for case in recorded.chunk_by(|left, right| left.case == right.case) {
        let first = &case[0];
        let configs = parse(first.hashrings.to_string().as_bytes()).unwrap();
        let rings = Hashrings::new(first.algorithm, first.replication_factor, configs).unwrap();
        for series in case {
            let labels = series.labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let hash = series_hash(&series.tenant, labels);
            assert_eq!(format!("{hash:016x}"), series.hash, "{}", series.case);
            let placement = rings.placement(&series.tenant).unwrap();
            let place =
                |n: usize| placement.endpoints()[placement.endpoint(placement.spot(hash), n).unwrap()].address.clone();
            let nodes: Vec<String> = (0..series.nodes.len()).map(place).collect();
            assert_eq!(nodes, series.nodes, "{} {} {:?}", series.case, series.tenant, series.labels);
        }
    }
}
