//! Flags of the querier, with Thanos' names and defaults.

use super::flag::{Flag, Kind};

const PARTIAL: &str = "The same for what is no query.";
const ENGINE: &str = "one engine evaluates every query";
const X_FUNCTIONS: &str = "use the modifier anchored instead, with --enable-feature=promql-extended-range-selectors";
const TELEMETRY: &str = "Bounds of the histogram of selections; empty: Thanos' defaults.";

/// What a query may take.
pub const LIMITS: &[Flag] = &[
    Flag::new("query.timeout", Kind::Duration, "2m", "Longest time of a query."),
    Flag::new("query.max-concurrent", Kind::Limit, "20", "Queries that run at once; 0 and below: any number."),
    Flag::new("query.max-samples", Kind::Integer, "50000000", "Most samples that a query may hold in memory."),
    Flag::new(
        "query.memory-limit",
        Kind::Bytes,
        "0",
        "Most bytes that a query may hold in memory, and of a querier all queries together; 0: in a querier half of \
         the memory there is, elsewhere all of --store.memory-limit.",
    ),
];

/// How queries are evaluated and answered.
pub const EVALUATION: &[Flag] = &[
    Flag::new("query.lookback-delta", Kind::Duration, "5m", "How far back an instant selector looks for a sample."),
    Flag::new(
        "query.dynamic-lookback-delta",
        Kind::Switch,
        "true",
        "Look back at least as far as samples are apart in the downsampled data that may be read.",
    )
    .hidden(),
    Flag::new(
        "query.instant.default.max_source_resolution",
        Kind::Duration,
        "0s",
        "Coarsest data that instant queries read where downsampling is automatic.",
    )
    .hidden(),
    Flag::new("query.default-evaluation-interval", Kind::Duration, "1m", "Step of subqueries that say none."),
    Flag::new("query.default-step", Kind::Duration, "1s", "Least step of range queries that say none."),
    Flag::new("query.metadata.default-time-range", Kind::Duration, "0s", "How far back labels are looked up; 0: all."),
    Flag::new("query.replica-label", Kind::List, "", "Label that tells replicas apart; may come again."),
    Flag::new("deduplication.func", Kind::Word(&["penalty", "chain"]), "penalty", "How replicas become one series."),
    Flag::new("query.auto-downsampling", Kind::Switch, "false", "Read downsampled data where the step allows it."),
    Flag::new("query.partial-response", Kind::Switch, "true", "Answer, with a warning, while an endpoint fails."),
    Flag::new("rule.partial-response", Kind::Switch, "true", PARTIAL).hidden(),
    Flag::new("target.partial-response", Kind::Switch, "true", PARTIAL).hidden(),
    Flag::new("metric-metadata.partial-response", Kind::Switch, "true", PARTIAL).hidden(),
    Flag::new("exemplar.partial-response", Kind::Switch, "true", PARTIAL).hidden(),
    Flag::new("status.partial-response", Kind::Switch, "true", PARTIAL).hidden(),
    Flag::new("query.tenant-header", Kind::Text, "THANOS-TENANT", "Header that names the tenant."),
    Flag::new("query.default-tenant-id", Kind::Text, "default-tenant", "Tenant of requests without that header."),
    Flag::new(
        "query.tenant-certificate-field",
        Kind::Word(&["", "organization", "organizationalUnit", "commonName"]),
        "",
        "Field of the client's certificate that names the tenant, instead of the header.",
    ),
    Flag::new("query.enforce-tenancy", Kind::Switch, "false", "Narrow every selector to the tenant."),
    Flag::new("query.tenant-label-name", Kind::Text, "tenant_id", "Label that holds the tenant."),
    Flag::new(
        "web.route-prefix",
        Kind::Text,
        "",
        "Path below which HTTP is served; empty: that of the external prefix.",
    ),
];

/// What a querier alone does where it is asked to.
pub const FEATURES: &[Flag] = &[Flag::new(
    "enable-feature",
    Kind::List,
    "",
    "Feature that is off by default: promql-experimental-functions, promql-extended-range-selectors, which are \
     anchored and smoothed, promql-binop-fill-modifiers, or promql-delayed-name-removal; may come again, or with \
     commas between.",
)];

/// Where a browser sees the pages, and which sites may ask.
pub const PAGES: &[Flag] = &[
    Flag::new("web.external-prefix", Kind::Text, "", "Path below which a browser sees HTTP."),
    Flag::new("web.prefix-header", Kind::Text, "", "Header that says below which path a browser sees HTTP."),
    Flag::new("web.disable-cors", Kind::Switch, "false", "Leave out the headers that let other sites ask."),
];

/// What one engine, whose queries wait for nothing but data, has no need of.
pub const ACCEPTED: &[Flag] = &[
    Flag::without_effect("query.promql-engine", Kind::Word(&["prometheus", "thanos"]), "prometheus", ENGINE),
    Flag::without_effect("query.enable-x-functions", Kind::Switch, "false", X_FUNCTIONS),
    Flag::without_effect("query.max-concurrent-select", Kind::Integer, "4", "selectors of a query are read in turn"),
    Flag::without_effect("query.disable-fallback", Kind::Switch, "false", ENGINE).hidden(),
    Flag::without_effect("alert.query-url", Kind::Text, "", "the querier writes no links to itself"),
];

/// What is asked.
pub const ENDPOINTS: &[Flag] = &[
    Flag::new("endpoint", Kind::Addresses, "", "Endpoint, host:port, or dns+, dnssrv+ and a name; may come again."),
    Flag::new("endpoint-strict", Kind::Addresses, "", "Endpoint that is asked even while it does not answer."),
    Flag::new("endpoint-group", Kind::Addresses, "", "Endpoints of one name that hold the same; one of them is asked."),
    Flag::new(
        "endpoint-group-strict",
        Kind::Addresses,
        "",
        "Group of endpoints that is asked even while none answers.",
    ),
    Flag::new("inject-test-addresses", Kind::List, "", "Members of every group, instead of what DNS says.").hidden(),
    Flag::new("endpoint.sd-config-file", Kind::Text, "", "File of endpoints, read again when endpoints are."),
    Flag::new("endpoint.sd-config", Kind::Text, "", "The endpoints themselves, instead of the file."),
    Flag::new("endpoint.info-timeout", Kind::Duration, "5s", "Longest time of an Info call, and time between two."),
    Flag::new(
        "store.sd-files",
        Kind::List,
        "",
        "File of addresses, as Prometheus' file_sd; * in its name matches any.",
    ),
    Flag::new(
        "store.response-timeout",
        Kind::Duration,
        "0ms",
        "Longest time between two frames of an endpoint; 0: any.",
    ),
    Flag::new(
        "selector-label",
        Kind::List,
        "",
        "Label that this querier adds to what it says of itself: name=\"value\".",
    ),
    Flag::new("io.mode", Kind::Word(&["auto", "io_uring", "pread"]), "auto", "How sockets are waited for."),
    Flag::new(
        "query.mode",
        Kind::Word(&["local", "distributed"]),
        "local",
        "Who evaluates: the querier, or endpoints their share.",
    ),
    Flag::new(
        "query.conn-metric.label",
        Kind::Words(&["external_labels", "store_type", "ip_port"]),
        "external_labels,store_type",
        "Labels that connections are counted by.",
    ),
    Flag::without_effect(
        "query.partition-label",
        Kind::List,
        "",
        "all labels but those of replicas tell endpoints apart",
    ),
    Flag::without_effect(
        "query.distributed-with-overlapping-interval",
        Kind::Switch,
        "false",
        "endpoints that may hold the same series are never asked to aggregate them",
    )
    .hidden(),
    Flag::without_effect(
        "grpc.proxy-strategy",
        Kind::Word(&["eager", "lazy"]),
        "eager",
        "frames are merged as they come",
    )
    .hidden(),
    Flag::without_effect(
        "query.lazy-retrieval-max-buffered-responses",
        Kind::Integer,
        "20",
        "frames are merged as they come",
    )
    .hidden(),
    Flag::without_effect(
        "store.sd-dns-resolver",
        Kind::Word(&["golang", "miekgdns"]),
        "miekgdns",
        "names are resolved by one resolver",
    )
    .hidden(),
    Flag::new(
        "query.active-query-path",
        Kind::Text,
        "",
        "Folder of the file queries.active, which holds the queries that run; those that a crash ended are logged at the next start.",
    ),
    Flag::new("query.telemetry.request-duration-seconds-quantiles", Kind::Numbers, "", TELEMETRY),
    Flag::new("query.telemetry.request-samples-quantiles", Kind::Numbers, "", TELEMETRY),
    Flag::new("query.telemetry.request-series-seconds-quantiles", Kind::Numbers, "", TELEMETRY),
    Flag::without_effect("store.sd-interval", Kind::Duration, "5m", "files are read before every Info round"),
    Flag::without_effect("store.sd-dns-interval", Kind::Duration, "30s", "names are resolved before every Info round"),
    Flag::without_effect("endpoint.sd-config-reload-interval", Kind::Duration, "5m", "read before every Info round"),
    Flag::new("store.unhealthy-timeout", Kind::Duration, "5m", "Time that an endpoint which is down stays listed."),
    Flag::without_effect("grpc-compression", Kind::Word(&["none", "snappy"]), "none", "frames are not compressed"),
    Flag::new("selector.relabel-config-file", Kind::Text, "", "File of relabelling that selects endpoints' data."),
    Flag::new("selector.relabel-config", Kind::Text, "", "Relabelling that selects endpoints' data by labels."),
];

/// How endpoints are connected to.
pub const GRPC_CLIENT: &[Flag] = &[
    Flag::new("grpc-client-tls-secure", Kind::Switch, "false", "Connect to endpoints with TLS."),
    Flag::new("grpc-client-tls-cert", Kind::Text, "", "Certificate to show to endpoints, a file."),
    Flag::new("grpc-client-tls-key", Kind::Text, "", "Key of that certificate, a file."),
    Flag::new("grpc-client-tls-ca", Kind::Text, "", "CA to verify endpoints against, a file; empty: the system's."),
    Flag::new("grpc-client-server-name", Kind::Text, "", "Name that endpoints' certificates must have."),
    Flag::new("grpc-client-tls-skip-verify", Kind::Switch, "false", "Believe any certificate of endpoints."),
    Flag::new("grpc-client-tls-min-version", Kind::Word(&["1.0", "1.1", "1.2", "1.3"]), "1.3", "Least TLS version."),
];
