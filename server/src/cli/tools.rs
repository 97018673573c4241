//! Flags of the tools, with Thanos' names and defaults.

use super::flag::{Branch, Flag, Kind};
use super::flags;
use crate::tools::inspect::COLUMNS;

const SYNC: Flag = Flag::new("block-sync-concurrency", Kind::Integer, "20", "Metas that are fetched at once.");
const DELAY: Flag =
    Flag::new("delete-delay", Kind::Duration, "48h", "Time from a block's deletion mark to its deletion.");
const FRESH: Flag = Flag::new("consistency-delay", Kind::Duration, "30m", "Least age of blocks that are worked on.");
const TIMEOUT: Flag = Flag::new("timeout", Kind::Duration, "5m", "Longest time to fetch metas.");
const ID: Flag = Flag::new("id", Kind::List, "", "Block, by its ULID; may repeat.");
const CONCURRENCY: &str = "Files of a block that are moved at once.";

/// Commands that only have commands below them.
pub const BRANCHES: &[Branch] = &[
    Branch { name: "tools", about: "Tools for buckets and rules", flags: &[] },
    Branch { name: "tools bucket", about: "Tools for the blocks of a bucket", flags: &[flags::OBJSTORE] },
];

/// `tools bucket verify`.
pub const VERIFY: &[Flag] = &[
    Flag::new("objstore-backup.config-file", Kind::Text, "", "Path to the YAML of the bucket for replaced blocks."),
    Flag::new("objstore-backup.config", Kind::Text, "", "The YAML of the bucket for replaced blocks."),
    Flag::new("repair", Kind::Switch, "false", "Repair what can be repaired.").short('r'),
    Flag::new(
        "issues",
        Kind::List,
        "",
        "What to look for: index_known_issues and overlapped_blocks unless given; and duplicated_compaction.",
    )
    .short('i'),
    ID,
    Flag::new("delete-delay", Kind::Duration, "0s", "0s: replaced blocks are deleted at once, otherwise marked."),
];

/// `tools bucket ls`.
pub const LS: &[Flag] = &[
    Flag::new("output", Kind::Text, "", "json, wide, or a template such as {{.ULID}}; empty: ids.").short('o'),
    Flag::new("exclude-delete", Kind::Switch, "false", "Leave out blocks that are marked for deletion."),
    TIMEOUT,
];

/// `tools bucket inspect`.
pub const INSPECT: &[Flag] = &[
    Flag::new("selector", Kind::List, "", "External label, name=\"value\", that blocks have; may repeat.").short('l'),
    Flag::new("sort-by", Kind::Words(&COLUMNS), "", "Column by which rows are sorted: FROM, then UNTIL unless given."),
    TIMEOUT,
    Flag::new("output", Kind::Word(&["table", "csv", "tsv"]), "table", "How rows are written."),
];

/// `tools bucket web`.
pub const WEB: &[Flag] = &[
    Flag::new("refresh", Kind::Duration, "30m", "Time between two looks at the bucket."),
    TIMEOUT,
    Flag::new("label", Kind::Text, "", "External label by which blocks are grouped."),
];

/// `tools bucket replicate`.
pub const REPLICATE: &[Flag] = &[
    Flag::new("objstore-to.config-file", Kind::Text, "", "Path to the YAML of the bucket that is written."),
    Flag::new("objstore-to.config", Kind::Text, "", "The YAML of the bucket that is written."),
    Flag::new("resolution", Kind::List, "", "Resolution that is copied: 0s, 5m and 1h unless given; may repeat."),
    Flag::new("compaction-min", Kind::Integer, "1", "Least level that is copied."),
    Flag::new("compaction-max", Kind::Integer, "4", "Greatest level that is copied."),
    Flag::new("compaction", Kind::List, "", "Level that is copied, instead of least and greatest; may repeat."),
    Flag::new("matcher", Kind::Text, "", "Matchers of external labels, such as a=\"b\",c=~\"d.*\"."),
    Flag::new("single-run", Kind::Switch, "false", "Copy once and end."),
    ID,
    Flag::new("ignore-marked-for-deletion", Kind::Switch, "false", "Leave out blocks that are marked for deletion."),
];

/// `tools bucket downsample`.
pub const DOWNSAMPLE: &[Flag] = &[
    Flag::new("wait-interval", Kind::Duration, "5m", "Time between two runs."),
    Flag::new("downsample.concurrency", Kind::Integer, "1", "Blocks that are downsampled at once."),
    Flag::new("block-files-concurrency", Kind::Integer, "1", CONCURRENCY),
    Flag::new("data-dir", Kind::Text, "./data", "Folder for blocks in the making; it may be lost."),
];

/// `tools bucket cleanup`.
pub const CLEANUP: &[Flag] = &[DELAY, FRESH, SYNC];

/// `tools bucket mark`.
pub const MARK: &[Flag] = &[
    ID.required(),
    Flag::new(
        "marker",
        Kind::Word(&["deletion-mark.json", "no-compact-mark.json", "no-downsample-mark.json"]),
        "",
        "The marker.",
    )
    .required(),
    Flag::new("details", Kind::Text, "", "Why, for people."),
    Flag::new("remove", Kind::Switch, "false", "Remove the marker."),
];

/// `tools bucket rewrite`.
pub const REWRITE: &[Flag] = &[
    ID.required(),
    Flag::new("tmp.dir", Kind::Text, "/tmp/thanos-rewrite", "Folder for blocks in the making; it is emptied."),
    Flag::new("dry-run", Kind::Switch, "true", "Say what would change and change nothing."),
    Flag::new("prom-blocks", Kind::Switch, "false", "The blocks are Prometheus' and need no external labels."),
    Flag::new("delete-blocks", Kind::Switch, "false", "Mark the blocks for deletion that were rewritten."),
    Flag::new("rewrite.to-delete-config-file", Kind::Text, "", "Path to the YAML that says what to delete."),
    Flag::new("rewrite.to-delete-config", Kind::Text, "", "The YAML that says what to delete."),
    Flag::new("rewrite.to-relabel-config-file", Kind::Text, "", "Path to the YAML of relabelling rules for series."),
    Flag::new("rewrite.to-relabel-config", Kind::Text, "", "The YAML of relabelling rules for series."),
    Flag::new("rewrite.add-change-log", Kind::Switch, "true", "Write each change into change.log beside the block."),
];

/// `tools bucket retention`.
pub const RETENTION: &[Flag] = &[DELAY, FRESH, SYNC];

/// `tools bucket upload-blocks`.
pub const UPLOAD: &[Flag] = &[
    Flag::new("path", Kind::Text, "./data", "Folder of blocks."),
    Flag::new("label", Kind::List, "", "External label of the blocks, name=\"value\"; may repeat."),
    Flag::new("shipper.upload-compacted", Kind::Switch, "false", "Upload compacted blocks too."),
    Flag::new("shipper.upload-concurrency", Kind::Integer, "5", CONCURRENCY),
];

/// `tools rules-check`.
pub const RULES_CHECK: &[Flag] =
    &[Flag::new("rules", Kind::List, "", "Rule files, as a pattern; may repeat.").required()];
