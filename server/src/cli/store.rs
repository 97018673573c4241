//! Flags of the store gateway, with Thanos' names and defaults.

use super::flag::{Flag, Kind};

const HEADER: &str =
    "the column index takes the place of the index-header; with --store.index=header it is always kept and mapped";

/// What a process that does more has a flag of its own for.
pub const ALONE: &[Flag] =
    &[Flag::new("data-dir", Kind::Text, "./data", "Folder for column indexes and copies of metas; it may be lost.")];

/// The gateway itself.
pub const STORE: &[Flag] = &[
    Flag::new(
        "store.memory-limit",
        Kind::Text,
        "",
        "Memory that requests share, such as 2GB; empty: half of what there is.",
    ),
    Flag::new(
        "store.index",
        Kind::Word(&["column", "header"]),
        "column",
        "Local form of indexes: column, built from the whole index, or header, Thanos' index-header, which takes less \
         disk and reads the rest from the bucket.",
    ),
    Flag::new(
        "io.mode",
        Kind::Word(&["auto", "io_uring", "pread"]),
        "auto",
        "How files are read and sockets waited for.",
    ),
    Flag::new("store.grpc.series-max-concurrency", Kind::Integer, "20", "Series calls that run at once; 0: no limit."),
    Flag::new(
        "store.grpc.series-sample-limit",
        Kind::Integer,
        "0",
        "Most samples read for one Series call; 0: no limit.",
    ),
    Flag::new(
        "store.grpc.touched-series-limit",
        Kind::Integer,
        "0",
        "Most series found for one Series call; 0: no limit.",
    ),
    Flag::new(
        "store.grpc.downloaded-bytes-limit",
        Kind::Bytes,
        "0",
        "Most bytes read for one Series call; 0: no limit.",
    ),
    Flag::new("sync-block-duration", Kind::Duration, "15m", "Time between two syncs with the bucket."),
    Flag::new("block-sync-concurrency", Kind::Integer, "20", "Blocks that are opened at once."),
    Flag::new("block-meta-fetch-concurrency", Kind::Integer, "32", "Metas that are fetched at once."),
    Flag::new("consistency-delay", Kind::Duration, "0s", "Least age of blocks that are served."),
    Flag::new(
        "ignore-deletion-marks-delay",
        Kind::Duration,
        "24h",
        "Time for which a block marked for deletion is served.",
    ),
    Flag::new("bucket-web-label", Kind::Text, "", "External label by which the block viewer groups."),
    Flag::new(
        "chunk-pool-size",
        Kind::Bytes,
        "2GB",
        "Chunks that are kept under --data-dir when the bucket is not a folder: the disk part of the cache; 0: none.",
    ),
    Flag::without_effect("cache-index-header", Kind::Switch, "true", HEADER),
    Flag::new(
        "index-cache-size",
        Kind::Bytes,
        "250MB",
        "Memory part of the cache of bucket bytes, counted within --store.memory-limit, of which it takes a quarter \
         at most.",
    ),
    Flag::new("index-cache.config-file", Kind::Text, "", "File with the content of --index-cache.config."),
    Flag::new(
        "index-cache.config",
        Kind::Text,
        "",
        "YAML of an IN-MEMORY cache, whose max_size takes the place of --index-cache-size.",
    ),
    Flag::new("store.caching-bucket.config-file", Kind::Text, "", "File with the content of the flag below.").hidden(),
    Flag::new(
        "store.caching-bucket.config",
        Kind::Text,
        "",
        "YAML of an IN-MEMORY cache, whose max_size is added to the memory part of the cache of bucket bytes.",
    )
    .hidden(),
    Flag::without_effect("matcher-cache-size", Kind::Integer, "0", "compiling a matcher costs less than a lookup"),
    Flag::without_effect(
        "block-discovery-strategy",
        Kind::Word(&["concurrent", "recursive"]),
        "concurrent",
        "one recursive listing shows all that is needed",
    ),
    Flag::without_effect(
        "objstore-parquet.config-file",
        Kind::Text,
        "",
        "there is no parquet gateway to hand blocks to",
    ),
    Flag::without_effect("objstore-parquet.config", Kind::Text, "", "there is no parquet gateway to hand blocks to"),
    Flag::without_effect("store.enable-index-header-lazy-reader", Kind::Switch, "false", HEADER),
    Flag::without_effect("store.index-header-lazy-download-strategy", Kind::Word(&["eager", "lazy"]), "eager", HEADER),
    Flag::without_effect("store.index-header-lazy-reader-idle-timeout", Kind::Duration, "5m", HEADER).hidden(),
    Flag::without_effect("store.index-header-posting-offsets-in-mem-sampling", Kind::Integer, "32", HEADER).hidden(),
    Flag::without_effect("store.enable-lazy-expanded-postings", Kind::Switch, "false", HEADER),
    Flag::without_effect("store.posting-group-max-key-series-ratio", Kind::Float, "100", HEADER),
    Flag::without_effect("debug.series-batch-size", Kind::Integer, "10000", "batches are sized by bytes").hidden(),
    Flag::without_effect("debug.estimated-max-series-size", Kind::Bytes, "64KiB", HEADER).hidden(),
    Flag::without_effect("debug.estimated-max-chunk-size", Kind::Bytes, "16000", HEADER).hidden(),
    Flag::new("disable-admin-operations", Kind::Switch, "false", "Refuse to mark blocks over HTTP."),
];
