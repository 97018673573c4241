//! Configuration files, certificates and answers that the process parses, and OTLP that it translates.

use std::path::Path;

use engine::model::relabel::{Config, Rule};
use engine::model::{Budget, Reservation};
use server::cli::parse;
use server::cluster::hashring;
use server::config::web;
use server::edge::x509::Fields;
use server::fanout::discovery;
use server::ingest::body::{self, Room};
use server::ingest::limits::{self, LimitsConfig};
use server::ingest::otlp;
use server::objstore::BucketConfig;
use server::objstore::cache::CacheConfig;
use server::objstore::credentials;
use server::telemetry::requests::RequestLog;
use server::tools::rewrite::Changes;
use server::tools::rules;

/// Bytes that a body may unpack to.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Nothing of the memory for what is translated.
fn memory() -> Reservation {
    Budget::new("fuzz", 1 << 30).reserve(0).expect("nothing is always there")
}

/// What meta-monitoring answers.
pub fn active_series(data: &[u8]) {
    let _ = limits::parse_series(data);
}

/// The file of AWS profiles.
pub fn aws_profiles(data: &[u8]) {
    let _ = credentials::profile(&String::from_utf8_lossy(data), "default");
}

/// The description of a cache, for the index, for the bucket and for both.
pub fn cache_yaml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for given in [(Some(&*text), None), (None, Some(&*text)), (Some(&*text), Some(&*text))] {
        let _ = CacheConfig::parse((250 << 20, 2 << 30), given, 8 << 30);
    }
}

/// A certificate that the other side of a connection shows.
pub fn certificate(data: &[u8]) {
    let Some(fields) = Fields::parse(data) else { return };
    let _ = (fields.validity(), fields.key_parts(), fields.alternative_names());
}

/// A file of endpoints.
pub fn endpoints_yaml(data: &[u8]) {
    let _ = discovery::parse_config(&String::from_utf8_lossy(data), &discovery::ClientConfig::default());
}

/// The value of a flag: a duration, a size or a time.
pub fn flag_value(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (_, _, time) = (parse::parse_duration(&text), parse::parse_bytes(&text), parse::parse_time(&text));
    let _ = time.map(|time| time.resolve(0));
}

/// A hashrings file.
pub fn hashrings_json(data: &[u8]) {
    let _ = hashring::parse(data);
}

/// The file of `--http.config`.
pub fn http_yaml(data: &[u8]) {
    let _ = web::parse("http.config", &String::from_utf8_lossy(data), Path::new("/etc/uru"));
}

/// The limits of a receiver.
pub fn limits_yaml(data: &[u8]) {
    let _ = LimitsConfig::parse(&String::from_utf8_lossy(data));
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
    let _ = otlp::translate((otlp::Encoding::Json, data), &otlp::Translation::default(), memory());
}

/// OTLP in protobuf, as far as a write request.
pub fn otlp_translated(data: &[u8]) {
    let _ = otlp::translate((otlp::Encoding::Protobuf, data), &otlp::Translation::default(), memory());
}

/// What says which requests are logged.
pub fn request_log_yaml(data: &[u8]) {
    let _ = RequestLog::parse(&String::from_utf8_lossy(data));
}

/// What `tools bucket rewrite` is to delete, and how it is to relabel.
pub fn rewrite_yaml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = Changes::parse(Some(&text), None);
    let _ = Changes::parse(None, Some(&text));
}

/// A file of rules, the templates in it too.
pub fn rules_yaml(data: &[u8]) {
    let _ = rules::check(&String::from_utf8_lossy(data));
}

/// The body of a remote write request, as it is compressed unless it says otherwise.
pub fn snappy_body(data: &[u8]) {
    let memory = Budget::new("--store.memory-limit", 8 * BODY_BYTES_MAX as u64);
    let Ok(mut held) = memory.reserve(0) else { return };
    let mut room = Room::new(BODY_BYTES_MAX, &mut held, &memory);
    let Ok(bytes) = body::decompress("", data, &mut room) else { return };
    assert!(bytes.len() <= BODY_BYTES_MAX, "{} bytes were unpacked", bytes.len());
}
