//! Flags of the receiver, with Thanos' names and defaults.

use super::flag::{Flag, Kind};

const VERSIONS: &[&str] = &["1.0", "1.1", "1.2", "1.3"];
const POSTINGS: &str = "postings of heads are in memory, and those of blocks in column indexes";

/// What a process that does more has other defaults of, or from elsewhere.
pub const ALONE: &[Flag] = &[
    Flag::new("remote-write.address", Kind::Text, "0.0.0.0:19291", "Address to listen on for remote write requests."),
    Flag::new("label", Kind::List, "", "External labels of everything that is received, as name=\"value\"."),
    Flag::new(
        "enable-feature",
        Kind::List,
        "",
        "Feature that is off by default: created-timestamp-zero-ingestion puts a sample of zero where a counter began.",
    ),
    Flag::new("tsdb.path", Kind::Text, "./data", "Folder of the tenants' blocks and of the WAL."),
    Flag::new("tsdb.retention", Kind::Duration, "15d", "How long local blocks are kept; 0d: for ever."),
    Flag::new(
        "shipper.end-timeout",
        Kind::Duration,
        "2m",
        "Time to upload blocks when the process ends; those that are left stay on disk and go after the next start.",
    ),
    Flag::new("hash-func", Kind::Word(&["", "SHA256"]), "", "Hash of each file that is told in meta.json."),
    Flag::without_effect("matcher-cache-size", Kind::Integer, "0", "compiling a matcher costs less than a lookup"),
];

/// How the address where samples are written to is secured, and others'.
pub const REMOTE_WRITE: &[Flag] = &[
    Flag::new(
        "remote-write.server-tls-cert",
        Kind::Text,
        "",
        "TLS certificate for remote write, a file; empty: no TLS.",
    ),
    Flag::new("remote-write.server-tls-key", Kind::Text, "", "TLS key for remote write, a file; empty: no TLS."),
    Flag::new("remote-write.server-tls-client-ca", Kind::Text, "", "CA to verify senders against; empty: no mTLS."),
    Flag::new("remote-write.server-tls-min-version", Kind::Word(VERSIONS), "1.3", "Least TLS version."),
    Flag::new("remote-write.server-tls-ciphers", Kind::List, "", "TLS 1.2 cipher suites; empty: all safe ones."),
    Flag::new("remote-write.server-tls-curves", Kind::List, "", "Key exchange groups that are offered; empty: all."),
    Flag::new("remote-write.client-tls-secure", Kind::Switch, "false", "Forward to other receivers with TLS."),
    Flag::new("remote-write.client-tls-cert", Kind::Text, "", "Certificate to show to other receivers, a file."),
    Flag::new("remote-write.client-tls-key", Kind::Text, "", "Key of that certificate, a file."),
    Flag::new("remote-write.client-tls-ca", Kind::Text, "", "CA to verify other receivers against, a file."),
    Flag::new("remote-write.client-server-name", Kind::Text, "", "Name to verify in other receivers' certificates."),
    Flag::new(
        "remote-write.client-tls-skip-verify",
        Kind::Switch,
        "false",
        "Believe any certificate of other receivers.",
    ),
    Flag::new("remote-write.client-tls-min-version", Kind::Word(VERSIONS), "1.3", "Least TLS version."),
];

/// Who sends, where series go, and what is taken.
pub const RECEIVE: &[Flag] = &[
    Flag::new("receive.hashrings-file", Kind::Text, "", "Path to the file that lists the receivers of each ring."),
    Flag::new("receive.hashrings", Kind::Text, "", "The rings themselves; instead of the file."),
    Flag::new(
        "receive.hashrings-algorithm",
        Kind::Word(&["hashmod", "ketama"]),
        "hashmod",
        "How series are placed in rings that don't say.",
    ),
    Flag::new(
        "receive.hashrings-file-refresh-interval",
        Kind::Duration,
        "5m",
        "Time after which the file is read again even if nothing seems to have changed.",
    ),
    Flag::new("receive.local-endpoint", Kind::Text, "", "This receiver's own gRPC address in the rings."),
    Flag::new("receive.tenant-header", Kind::Text, "THANOS-TENANT", "Header that names the tenant of a request."),
    Flag::new(
        "receive.tenant-certificate-field",
        Kind::Word(&["", "organization", "organizationalUnit", "commonName"]),
        "",
        "Field of the sender's certificate that names the tenant, instead of the header.",
    ),
    Flag::new("receive.default-tenant-id", Kind::Text, "default-tenant", "Tenant of requests that name none."),
    Flag::new("receive.split-tenant-label-name", Kind::Text, "", "Label that names the tenant of each series."),
    Flag::new("receive.tenant-label-name", Kind::Text, "tenant_id", "External label that says the tenant."),
    Flag::new("receive.replica-header", Kind::Text, "THANOS-REPLICA", "Header that says which replica a request is."),
    Flag::new("receive.forward.async-workers", Kind::Integer, "5", "Requests to one receiver that run at once."),
    Flag::new("receive.grpc-compression", Kind::Word(&["none", "snappy"]), "snappy", "How forwarded requests go."),
    Flag::new("receive.replication-factor", Kind::Integer, "1", "Receivers that each series goes to."),
    Flag::new("receive.relabel-config-file", Kind::Text, "", "Path to relabel configuration for received series."),
    Flag::new("receive.relabel-config", Kind::Text, "", "Relabel configuration for received series."),
    Flag::new("receive.limits-config-file", Kind::Text, "", "Path to the limits of tenants; read again.").hidden(),
    Flag::new("receive.limits-config", Kind::Text, "", "The limits of tenants; instead of the file.").hidden(),
    Flag::new("receive.limits-config-reload-timer", Kind::Duration, "1s", "Time between two looks at it.").hidden(),
    Flag::new("receive.request-bytes-max", Kind::Bytes, "128MB", "Most bytes of a request once it is decompressed."),
    Flag::new("receive-forward-timeout", Kind::Duration, "5s", "How long other receivers may take.").hidden(),
    Flag::new("receive-forward-max-backoff", Kind::Duration, "5s", "Longest pause for a receiver that is away.")
        .hidden(),
    Flag::new("receive.otlp-enable-target-info", Kind::Switch, "true", "Write target_info for OTLP resources."),
    Flag::new(
        "receive.otlp-promote-resource-attributes",
        Kind::List,
        "",
        "Attributes of OTLP resources that become labels.",
    ),
    Flag::without_effect(
        "receive.replication-protocol",
        Kind::Word(&["protobuf", "capnproto"]),
        "protobuf",
        "receivers talk protobuf, which every Thanos receiver takes; Thanos routers with capnproto can't forward here",
    ),
    Flag::without_effect(
        "receive.capnproto-address",
        Kind::Text,
        "0.0.0.0:19391",
        "nothing listens there: receivers talk protobuf",
    ),
    Flag::without_effect("receive.grpc-service-config", Kind::Text, "", "it tunes Go's gRPC client"),
    Flag::without_effect(
        "receive.artificial-max-delay",
        Kind::Duration,
        "0s",
        "no other receiver is delayed on purpose",
    )
    .hidden(),
    Flag::without_effect(
        "receive.lazy-retrieval-max-buffered-responses",
        Kind::Integer,
        "20",
        "answers are bounded by bytes",
    ),
];

/// What is kept besides samples.
pub const EXEMPLARS: &[Flag] =
    &[Flag::new("tsdb.max-exemplars", Kind::Integer, "0", "Exemplars of each tenant; 0: none are kept.")];

/// Where samples are kept.
pub const TSDB: &[Flag] = &[
    Flag::new(
        "tsdb.max-retention-bytes",
        Kind::Bytes,
        "0",
        "Most bytes of a tenant's local blocks: the oldest in the bucket go, then those whose upload failed; 0: no limit.",
    ),
    Flag::new("tsdb.too-far-in-future.time-window", Kind::Duration, "0s", "How far ahead samples may be; 0s: any."),
    Flag::new(
        "tsdb.out-of-order.time-window",
        Kind::Duration,
        "0s",
        "How far behind samples may come; 0s: not at all.",
    ),
    Flag::new(
        "tsdb.out-of-order.cap-max",
        Kind::Integer,
        "0",
        "Most samples of an out-of-order chunk, up to 255; 0: 32.",
    ),
    Flag::new(
        "tsdb.wal-durability",
        Kind::Word(&["fsync", "relaxed"]),
        "fsync",
        "When a request is acknowledged; relaxed: before its samples are on disk, which a crash of the machine loses.",
    ),
    Flag::new(
        "tsdb.memory-limit",
        Kind::Text,
        "",
        "Memory of the process beyond which new series are refused with 503 until heads have been cut, and from a \
         quarter more on all samples; empty: 60 % of what there is; 0: none.",
    ),
    Flag::new("tsdb.min-block-duration", Kind::Duration, "2h", "Time that a local block covers.").hidden(),
    Flag::new("shipper.sync-interval", Kind::Duration, "30s", "Time between two looks for blocks to cut and ship.")
        .hidden(),
    Flag::new(
        "shipper.upload-concurrency",
        Kind::Integer,
        "0",
        "Segments of a block that are uploaded at once; 0: one.",
    ),
    Flag::without_effect("tsdb.max-block-duration", Kind::Duration, "2h", "local blocks are not compacted").hidden(),
    Flag::without_effect("tsdb.allow-overlapping-blocks", Kind::Switch, "false", "out-of-order blocks may overlap"),
    Flag::without_effect("tsdb.wal-compression", Kind::Switch, "true", "the WAL is always compressed"),
    Flag::without_effect(
        "tsdb.no-lockfile",
        Kind::Switch,
        "false",
        "the system forgets the lock of a process that ended",
    ),
    Flag::without_effect("tsdb.head.expanded-postings-cache-size", Kind::Bytes, "0", POSTINGS),
    Flag::without_effect("tsdb.block.expanded-postings-cache-size", Kind::Bytes, "0", POSTINGS),
    Flag::without_effect("tsdb.enable-native-histograms", Kind::Switch, "true", "they are always taken"),
    Flag::without_effect("tsdb.write-queue-size", Kind::Integer, "0", "chunks are not queued").hidden(),
    Flag::without_effect(
        "tsdb.memory-snapshot-on-shutdown",
        Kind::Switch,
        "false",
        "a snapshot is always written at the end",
    )
    .hidden(),
    Flag::without_effect("shipper.allow-out-of-order-uploads", Kind::Switch, "false", "blocks are retried").hidden(),
    Flag::without_effect("shipper.skip-corrupted-blocks", Kind::Switch, "false", "blocks are retried").hidden(),
];

/// Reading and memory, as of a store.
pub const READING: &[Flag] = &[
    Flag::new("store.memory-limit", Kind::Text, "", "Memory that requests share; empty: half of what there is."),
    Flag::new(
        "io.mode",
        Kind::Word(&["auto", "io_uring", "pread"]),
        "auto",
        "How files are read and sockets waited for.",
    ),
];
