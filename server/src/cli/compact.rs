//! Flags of the compactor, with Thanos' names and defaults.

use super::flag::{Flag, Kind};

const HASHES: &[&str] = &["", "SHA256"];

/// Work on the blocks of a bucket.
pub const COMPACT: &[Flag] = &[
    Flag::new("data-dir", Kind::Text, "./data", "Folder for blocks in the making; it may be lost."),
    Flag::new("wait", Kind::Switch, "false", "Wait for new work when all is done, rather than end.").short('w'),
    Flag::new("wait-interval", Kind::Duration, "5m", "Time between two runs; only with --wait."),
];

/// How blocks are compacted, downsampled and let go.
pub const COMPACTION: &[Flag] = &[
    Flag::new("downsampling.disable", Kind::Switch, "false", "Leave out downsampling."),
    Flag::new("block-files-concurrency", Kind::Integer, "1", "Files of a block that are moved at once."),
    Flag::new("compact.cleanup-interval", Kind::Duration, "5m", "Time between two cleanups with --wait; 0s: none."),
    Flag::new("compact.progress-interval", Kind::Duration, "5m", "Time between two counts of what is left; 0s: none."),
    Flag::new("compact.concurrency", Kind::Integer, "1", "Groups that are compacted at once."),
    Flag::new("compact.blocks-fetch-concurrency", Kind::Integer, "1", "Blocks of a compaction fetched at once."),
    Flag::new("downsample.concurrency", Kind::Integer, "1", "Blocks that are downsampled at once."),
    Flag::new("delete-delay", Kind::Duration, "48h", "Time from a block's deletion mark to its deletion."),
    Flag::new("deduplication.replica-label", Kind::List, "", "External label that tells replicas apart; may repeat."),
    Flag::new("compact.enable-vertical-compaction", Kind::Switch, "false", "Merge blocks that overlap.").hidden(),
    Flag::new("compact.block-max-index-size", Kind::Bytes, "64GB", "Greatest index of a compacted block.").hidden(),
    Flag::new(
        "compact.skip-block-with-out-of-order-chunks",
        Kind::Switch,
        "false",
        "Mark a block with chunks out of order for no compaction rather than halt.",
    )
    .hidden(),
    Flag::new("debug.halt-on-error", Kind::Switch, "true", "Halt on a critical error rather than end.").hidden(),
    Flag::new("debug.accept-malformed-index", Kind::Switch, "false", "Accept label names out of order.").hidden(),
    Flag::new("debug.max-compaction-level", Kind::Integer, "4", "0=1h, 1=2h, 2=8h, 3=48h, 4=336h.").hidden(),
];

/// What a process that also answers queries has flags of its own for: replicas, which blocks are seen,
/// and where they are shown.
pub const SCOPE: &[Flag] = &[
    Flag::new("deduplication.func", Kind::Word(&["", "penalty"]), "", "How replicas become one; empty: equal samples."),
    Flag::new("consistency-delay", Kind::Duration, "30m", "Least age of blocks that are worked on."),
    Flag::new("block-meta-fetch-concurrency", Kind::Integer, "32", "Metas that are fetched at once."),
    Flag::new("block-viewer.global.sync-block-interval", Kind::Duration, "1m", "Time between two looks of the viewer."),
    Flag::new("block-viewer.global.sync-block-timeout", Kind::Duration, "5m", "Longest time of a look of the viewer."),
    Flag::without_effect(
        "block-discovery-strategy",
        Kind::Word(&["concurrent", "recursive"]),
        "concurrent",
        "one recursive listing shows all that is needed",
    ),
    Flag::new("bucket-web-label", Kind::Text, "", "External label by which the block viewer groups."),
];

/// Hashes of files that are written.
pub const HASH: &[Flag] =
    &[Flag::new("hash-func", Kind::Word(HASHES), "", "Hash of each file that is told in meta.json: SHA256 or none.")];

/// How long blocks are kept.
pub const RETENTION: &[Flag] = &[
    Flag::new("retention.resolution-raw", Kind::Duration, "0d", "How long raw samples are kept; 0d: for ever."),
    Flag::new("retention.resolution-5m", Kind::Duration, "0d", "How long samples of 5 m are kept; 0d: for ever."),
    Flag::new("retention.resolution-1h", Kind::Duration, "0d", "How long samples of 1 h are kept; 0d: for ever."),
];

/// The block viewer.
pub const VIEWER: &[Flag] = &[
    Flag::new("web.route-prefix", Kind::Text, "", "Path below which HTTP is served; empty: the external prefix."),
    Flag::new("web.external-prefix", Kind::Text, "", "Path below which a browser sees the process."),
    Flag::new("web.prefix-header", Kind::Text, "", "Header that says below which path a browser sees the process."),
    Flag::new("web.disable-cors", Kind::Switch, "false", "Leave out the headers that let other sites ask."),
    Flag::new("disable-admin-operations", Kind::Switch, "false", "Refuse to mark blocks over HTTP."),
];

/// Whether there is a block viewer.
pub const VIEWER_SWITCH: &[Flag] = &[Flag::new("web.disable", Kind::Switch, "false", "Leave out the block viewer.")];
