//! The flags that components share, with Thanos' names and defaults.

use super::flag::{Flag, Kind};

const LEVELS: &[&str] = &["error", "warn", "info", "debug"];
const FORMATS: &[&str] = &["logfmt", "json", "journald"];
const GO_MEMORY: &str = "there is no garbage collector to tune; limits of memory are flags of the component";

/// Logging and tracing: every component has them, before or after its name.
pub const GLOBAL: &[Flag] = &[
    Flag::new("log.level", Kind::Word(LEVELS), "info", "Least severe level that is logged."),
    Flag::new("log.format", Kind::Word(FORMATS), "logfmt", "Format of log lines."),
    Flag::without_effect("tracing.config-file", Kind::Text, "", "traces are not exported"),
    Flag::without_effect("tracing.config", Kind::Text, "", "traces are not exported"),
    Flag::without_effect("enable-auto-gomemlimit", Kind::Switch, "false", GO_MEMORY),
    Flag::without_effect("auto-gomemlimit.ratio", Kind::Float, "0.9", GO_MEMORY),
    Flag::without_effect("debug.name", Kind::Text, "", "log lines carry no name, and traces are not exported").hidden(),
];

/// The HTTP server of a component.
pub const HTTP_SERVER: &[Flag] = &[
    Flag::new("http-address", Kind::Text, "0.0.0.0:10902", "Listen host:port for HTTP endpoints."),
    Flag::new("http-grace-period", Kind::Duration, "2m", "Time to wait after an interrupt for HTTP requests."),
    Flag::new("http.config", Kind::Text, "", "Path to a file that enables TLS or authentication for HTTP."),
];

/// The gRPC server of a component.
pub const GRPC_SERVER: &[Flag] = &[
    Flag::new("grpc-address", Kind::Text, "0.0.0.0:10901", "Listen ip:port for gRPC endpoints."),
    Flag::new("grpc-grace-period", Kind::Duration, "2m", "Time to wait after an interrupt for gRPC requests."),
    Flag::new("grpc-server-max-connection-age", Kind::Duration, "60m", "Greatest age of a connection; 0: no limit."),
    Flag::new("grpc-server-tls-cert", Kind::Text, "", "TLS certificate for the gRPC server, a file; empty: no TLS."),
    Flag::new("grpc-server-tls-key", Kind::Text, "", "TLS key for the gRPC server, a file; empty: no TLS."),
    Flag::new("grpc-server-tls-client-ca", Kind::Text, "", "CA to verify clients against, a file; empty: no mTLS."),
    Flag::new("grpc-server-tls-min-version", Kind::Word(&["1.0", "1.1", "1.2", "1.3"]), "1.3", "Least TLS version."),
    Flag::new(
        "grpc-server-tls-ciphers",
        Kind::List,
        "",
        "TLS 1.2 cipher suites that are offered; empty: all safe ones.",
    ),
    Flag::new("grpc-server-tls-curves", Kind::List, "", "Key exchange groups that are offered; empty: all."),
];

/// The bucket.
pub const OBJSTORE: &[Flag] = &[
    Flag::new("objstore.config-file", Kind::Text, "", "Path to the YAML file that describes the bucket."),
    Flag::new("objstore.config", Kind::Text, "", "The YAML that describes the bucket; instead of the file."),
];

/// Which times of the bucket are seen.
pub const TIME_RANGE: &[Flag] = &[
    Flag::new("min-time", Kind::Time, "0000-01-01T00:00:00Z", "Start of the time range that counts."),
    Flag::new("max-time", Kind::Time, "9999-12-31T23:59:59Z", "End of the time range that counts."),
];

/// Which labels of the bucket are seen.
pub const RELABEL: &[Flag] = &[
    Flag::new("selector.relabel-config-file", Kind::Text, "", "Path to relabel configuration that selects blocks."),
    Flag::new("selector.relabel-config", Kind::Text, "", "Relabel configuration that selects blocks."),
];

/// Which blocks of the bucket are seen.
pub const SELECTOR: &[Flag] = &[TIME_RANGE[0], TIME_RANGE[1], RELABEL[0], RELABEL[1]];

/// Limits on one StoreAPI request.
pub const STORE_LIMITS: &[Flag] = &[
    Flag::new("store.limits.request-series", Kind::Integer, "0", "Most series of one Series call; 0: no limit."),
    Flag::new("store.limits.request-samples", Kind::Integer, "0", "Most samples of one Series call; 0: no limit."),
];

/// Logging of requests.
pub const REQUEST_LOGGING: &[Flag] = &[
    Flag::new("request.logging-config-file", Kind::Text, "", "Path to the YAML file that says which requests to log."),
    Flag::new("request.logging-config", Kind::Text, "", "The YAML that says which requests to log."),
];
