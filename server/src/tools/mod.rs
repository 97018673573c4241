//! Tools that look at a bucket and mend it by hand; what they print is what Thanos' tools print.

/// Templates as Go reads them.
pub mod go_template;
/// Values as Go prints them.
pub mod go_text;
/// `inspect`: a table of blocks.
pub mod inspect;
/// Templates over a block's meta.json.
pub mod line_template;
/// `ls`: a line for each block.
pub mod ls;
/// Matchers as Alertmanager writes them.
pub mod matchers;
/// `replicate`: blocks copied into another bucket.
pub mod replicate;
/// `rewrite`: blocks written anew with series deleted or relabelled.
pub mod rewrite;
/// `rules-check`: whether files of rules are valid.
pub mod rules;
/// Rows as a table, as comma-separated and as tab-separated values.
pub mod table;
/// `upload-blocks`: local blocks put into a bucket.
pub mod upload;
/// `verify`: what is wrong with blocks, and mending it.
pub mod verify;
