//! Under which heading of `--help` a flag stands: a matter of its name and of its standing.

use super::flag::{Flag, Standing};

/// First words of flags' names, in the order in which they are tried.
const HEADINGS: &[(&str, &str)] = &[
    ("grpc-client-", "gRPC client"),
    ("grpc-", "gRPC server"),
    ("http", "HTTP server"),
    ("remote-write.", "HTTP server"),
    ("web.", "Web pages"),
    ("bucket-web-", "Web pages"),
    ("objstore", "Bucket"),
    ("hash-func", "Bucket"),
    ("selector.", "Selection of blocks"),
    ("min-time", "Selection of blocks"),
    ("max-time", "Selection of blocks"),
    ("consistency-delay", "Selection of blocks"),
    ("ignore-deletion-marks-delay", "Selection of blocks"),
    ("store.limits.", "Limits"),
    ("store.grpc.", "Limits"),
    ("store.memory-limit", "Limits"),
    ("query.max-", "Limits"),
    ("receive.", "Receiving and routing"),
    ("label", "Receiving and routing"),
    ("otlp", "Receiving and routing"),
    ("tsdb.", "Head, WAL and local blocks"),
    ("wal", "Head, WAL and local blocks"),
    ("retention.", "Compaction, downsampling and retention"),
    ("compact.", "Compaction, downsampling and retention"),
    ("downsampl", "Compaction, downsampling and retention"),
    ("deduplication.", "De-duplication"),
    ("query.replica-label", "De-duplication"),
    ("query.", "Queries"),
    ("endpoint", "Endpoints"),
    ("store", "Endpoints"),
    ("tracing.", "Logging and tracing"),
    ("log.", "Logging and tracing"),
    ("debug.", "Logging and tracing"),
    ("request.logging-", "Logging and tracing"),
];

/// The heading of a flag.
pub fn of(flag: &Flag) -> &'static str {
    if let Standing::NoEffect(_) = flag.standing {
        return "Accepted, without effect";
    }
    let known = HEADINGS.iter().find(|(start, _)| flag.name.starts_with(start));
    known.map_or("Options", |(_, heading)| heading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Kind;

    #[test]
    fn a_flag_stands_with_its_kin_and_one_without_effect_apart() {
        let heading = |name| of(&Flag::new(name, Kind::Text, "", ""));
        assert_eq!(heading("grpc-client-tls-secure"), "gRPC client");
        assert_eq!(heading("grpc-address"), "gRPC server");
        assert_eq!(heading("query.max-concurrent"), "Limits");
        assert_eq!(heading("query.timeout"), "Queries");
        assert_eq!(heading("data-dir"), "Options");
        assert_eq!(of(&Flag::without_effect("grpc-address", Kind::Text, "", "")), "Accepted, without effect");
    }
}
