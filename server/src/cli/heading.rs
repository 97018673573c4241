//! Under which heading of `--help` a flag stands: a matter of its name, of its standing and of whose flag
//! it is.

use super::flag::{Flag, Standing};

const QUERIES: &str = "Queries";
const ENDPOINTS: &str = "Endpoints";
const RECEIVING: &str = "Receiving and routing";
const LOCAL: &str = "Head, WAL and local blocks";
const COMPACTION: &str = "Compaction, downsampling and retention";
const DEDUP: &str = "De-duplication";
const SELECTION: &str = "Selection of blocks";
const BUCKET: &str = "Bucket";
const CACHES: &str = "Indexes and caches";
const LIMITS: &str = "Limits";
const HTTP: &str = "HTTP server";
const PAGES: &str = "Web pages";
const GRPC_SERVER: &str = "gRPC server";
const GRPC_CLIENT: &str = "gRPC client";
const LOGGING: &str = "Logging and tracing";
const NO_EFFECT: &str = "Accepted, without effect";

/// All headings, in the order in which they stand.
const ORDER: [&str; 16] = [
    QUERIES,
    ENDPOINTS,
    RECEIVING,
    LOCAL,
    COMPACTION,
    DEDUP,
    SELECTION,
    BUCKET,
    CACHES,
    LIMITS,
    HTTP,
    PAGES,
    GRPC_SERVER,
    GRPC_CLIENT,
    LOGGING,
    NO_EFFECT,
];

/// First words of flags' names, in the order in which they are tried.
const HEADINGS: &[(&str, &str)] = &[
    ("grpc-client-", GRPC_CLIENT),
    ("grpc-", GRPC_SERVER),
    ("http", HTTP),
    ("remote-write.server-", HTTP),
    ("remote-write.address", HTTP),
    ("remote-write.", RECEIVING),
    ("web.", PAGES),
    ("bucket-web-", PAGES),
    ("block-viewer.", PAGES),
    ("disable-admin-operations", PAGES),
    ("objstore", BUCKET),
    ("hash-func", BUCKET),
    ("block-", BUCKET),
    ("sync-block-", BUCKET),
    ("index-cache", CACHES),
    ("chunk-pool-size", CACHES),
    ("store.index", CACHES),
    ("store.caching-bucket.", CACHES),
    ("selector.", SELECTION),
    ("min-time", SELECTION),
    ("max-time", SELECTION),
    ("consistency-delay", SELECTION),
    ("ignore-deletion-marks-delay", SELECTION),
    ("store.limits.", LIMITS),
    ("store.grpc.", LIMITS),
    ("store.memory-limit", LIMITS),
    ("query.max-", LIMITS),
    ("query.memory-limit", LIMITS),
    ("receive", RECEIVING),
    ("label", RECEIVING),
    ("otlp", RECEIVING),
    ("tsdb.", LOCAL),
    ("wal", LOCAL),
    ("shipper.", LOCAL),
    ("retention.", COMPACTION),
    ("compact.", COMPACTION),
    ("downsampl", COMPACTION),
    ("delete-delay", COMPACTION),
    ("wait", COMPACTION),
    ("debug.halt-on-error", COMPACTION),
    ("debug.accept-malformed-index", COMPACTION),
    ("debug.max-compaction-level", COMPACTION),
    ("deduplication.", DEDUP),
    ("query.replica-label", DEDUP),
    ("query.", QUERIES),
    ("enable-feature", QUERIES),
    ("endpoint", ENDPOINTS),
    ("store", ENDPOINTS),
    ("selector-label", ENDPOINTS),
    ("tracing.", LOGGING),
    ("log.", LOGGING),
    ("debug.", LOGGING),
    ("request.logging-", LOGGING),
];

/// The heading of a flag of `component`; none for what stands with the component's own options.
pub fn of(component: &str, flag: &Flag) -> Option<&'static str> {
    if let Standing::NoEffect(_) = flag.standing {
        return Some(NO_EFFECT);
    }
    let known = HEADINGS.iter().find(|(start, _)| flag.name.starts_with(start)).map(|(_, heading)| *heading);
    // What tools are told of their work has names that components give to something else.
    let is_own = component.starts_with("tools") && known.is_some_and(|heading| [RECEIVING, LOCAL].contains(&heading));
    known.filter(|_| !is_own)
}

/// The place of a flag among those of `component`: its own options first, those without effect last.
pub fn place(component: &str, flag: &Flag) -> usize {
    let heading = of(component, flag);
    ORDER.iter().position(|known| Some(*known) == heading).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Kind;

    #[test]
    fn a_flag_stands_with_its_kin_and_one_without_effect_apart() {
        let heading = |name| of("store", &Flag::new(name, Kind::Text, "", ""));
        assert_eq!(heading("grpc-client-tls-secure"), Some("gRPC client"));
        assert_eq!(heading("grpc-address"), Some("gRPC server"));
        assert_eq!(heading("query.max-concurrent"), Some("Limits"));
        assert_eq!(heading("query.timeout"), Some("Queries"));
        assert_eq!(heading("data-dir"), None);
        let accepted = Flag::without_effect("grpc-address", Kind::Text, "", "");
        assert_eq!(of("store", &accepted), Some(NO_EFFECT));
        assert!(place("store", &accepted) > place("store", &Flag::new("log.level", Kind::Text, "", "")));
        assert_eq!(of("tools bucket upload-blocks", &Flag::new("label", Kind::Text, "", "")), None);
    }
}
