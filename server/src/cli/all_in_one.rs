//! Flags of everything in one process, besides those of its parts.

use super::flag::{Flag, Kind};

const VIEWER: &str = "the viewer shows what the store has";

/// What the process does with itself, and flags of its parts with other defaults.
pub const ALL_IN_ONE: &[Flag] = &[
    Flag::new(
        "data-dir",
        Kind::Text,
        "./data",
        "Folder of everything, not to be lost: in bucket the bucket, unless --objstore.config names another, and in \
         receive what is received, with its WAL; what lies in store and compact may be lost.",
    ),
    Flag::new(
        "enable-feature",
        Kind::List,
        "",
        "Feature that is off by default: promql-experimental-functions, promql-extended-range-selectors, which are \
         anchored and smoothed, promql-binop-fill-modifiers, promql-delayed-name-removal, or \
         created-timestamp-zero-ingestion, which puts a sample of zero where a counter began; may come again, or \
         with commas between.",
    ),
    Flag::new("self-scrape", Kind::Switch, "true", "Scrape the process' own metrics."),
    Flag::new(
        "remote-write.address",
        Kind::Text,
        "",
        "Address to listen on for remote write requests, which --http-address takes too; empty: none.",
    ),
    Flag::new(
        "label",
        Kind::List,
        "receive=\"all-in-one\"",
        "External labels of everything that is received, as name=\"value\".",
    ),
    Flag::new(
        "tsdb.path",
        Kind::Text,
        "",
        "Folder of the tenants' blocks and of the WAL; empty: receive in that of --data-dir.",
    ),
    Flag::new("tsdb.retention", Kind::Duration, "1d", "How long local blocks are kept; 0d: for ever."),
    Flag::new("wait-interval", Kind::Duration, "5m", "Time between two runs of the compactor."),
    Flag::without_effect("wait", Kind::Switch, "true", "the compactor waits for new work when all is done").short('w'),
    Flag::without_effect("shipper.end-timeout", Kind::Duration, "0s", "heads are kept for the next start"),
    Flag::without_effect("web.disable", Kind::Switch, "false", "the pages are those of queries"),
    Flag::without_effect("block-viewer.global.sync-block-interval", Kind::Duration, "1m", VIEWER),
    Flag::without_effect("block-viewer.global.sync-block-timeout", Kind::Duration, "5m", VIEWER),
];
