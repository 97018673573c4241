//! Configuration files that the process parses, and OTLP that it translates.

use engine::model::relabel::{Config, Rule};
use server::cluster::hashring;
use server::fanout::discovery;
use server::ingest::otlp;
use server::objstore::BucketConfig;

/// A file of endpoints.
pub fn endpoints_yaml(data: &[u8]) {
    let _ = discovery::parse_config(&String::from_utf8_lossy(data));
}

/// A hashrings file.
pub fn hashrings_json(data: &[u8]) {
    let _ = hashring::parse(data);
}

/// The description of a bucket.
pub fn objstore_yaml(data: &[u8]) {
    let _ = BucketConfig::parse("objstore.config", &String::from_utf8_lossy(data));
}

/// Relabel rules as `--selector.relabel-config` gives them, applied.
pub fn relabel_yaml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(configs) = server::config::from_yaml::<Vec<Config>>("selector.relabel-config", &text) else { return };
    if let Ok(rules) = configs.into_iter().map(Rule::new).collect::<Result<Vec<_>, _>>() {
        super::apply(rules);
    }
}

/// OTLP in JSON, as far as a write request.
pub fn otlp_json(data: &[u8]) {
    let _ = otlp::translate((otlp::Encoding::Json, data), &otlp::Translation::default());
}

/// OTLP in protobuf, as far as a write request.
pub fn otlp_translated(data: &[u8]) {
    let _ = otlp::translate((otlp::Encoding::Protobuf, data), &otlp::Translation::default());
}
