//! `uru tools …`: what each tool does with its flags. Those that end by themselves run on the calling
//! thread; `web`, `replicate` and `downsample` serve HTTP beside their work.

/// `downsample`.
pub mod downsample;
/// `verify` and `rewrite`.
pub mod mend;
/// `replicate`.
pub mod replicate;
/// `web`.
pub mod web;

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use engine::bucket::marker::reason;
use engine::bucket::{BlockObject, Meta};
use engine::compact::retention::Retention;
use engine::io::freed;
use engine::model::{BlockId, Error};
use prometheus_client::registry::Registry;

use crate::cli::{Subcommand, TimeOrDuration, Values, compact, flags, tools as tool_flags};
use crate::config::{ConfigError, selector};
use crate::edge::Runtime;
use crate::objstore::{Bucket, BucketConfig};
use crate::sync::{Duplicates, FetchOptions, Fetcher, Filters, SyncMetrics, View};
use crate::tools::table::Layout;
use crate::tools::{inspect, ls, rules, upload};
use crate::upkeep::clean::{self, CleanMetrics};
use crate::upkeep::transfer::{HashFunc, Transfer};
use crate::upkeep::{mark, now_ms};

/// Metas that are fetched at once where no flag says it.
pub(super) const META_CONCURRENCY: usize = 32;

const BUCKET: &str = "the bucket";

/// `tools bucket ls`.
pub const LS: Subcommand = Subcommand {
    name: "tools bucket ls",
    about: "List all blocks of the bucket",
    flags: &[tool_flags::LS, flags::SELECTOR],
};

/// `tools bucket inspect`.
pub const INSPECT: Subcommand = Subcommand {
    name: "tools bucket inspect",
    about: "Show all blocks of the bucket as a table",
    flags: &[tool_flags::INSPECT],
};

/// `tools bucket cleanup`.
pub const CLEANUP: Subcommand = Subcommand {
    name: "tools bucket cleanup",
    about: "Delete blocks marked for deletion and uploads that were broken off",
    flags: &[tool_flags::CLEANUP, flags::RELABEL],
};

/// `tools bucket mark`.
pub const MARK: Subcommand = Subcommand {
    name: "tools bucket mark",
    about: "Put a marker beside blocks, or take it away",
    flags: &[tool_flags::MARK],
};

/// `tools bucket retention`.
pub const RETENTION: Subcommand = Subcommand {
    name: "tools bucket retention",
    about: "Mark blocks for deletion that are past their retention; no compactor may be running",
    flags: &[tool_flags::RETENTION, compact::RETENTION, flags::RELABEL],
};

/// `tools bucket upload-blocks`.
pub const UPLOAD: Subcommand = Subcommand {
    name: "tools bucket upload-blocks",
    about: "Upload the blocks of a folder with external labels",
    flags: &[tool_flags::UPLOAD],
};

/// `tools rules-check`.
pub const RULES_CHECK: Subcommand = Subcommand {
    name: "tools rules-check",
    about: "Check whether files of rules are valid",
    flags: &[tool_flags::RULES_CHECK],
};

/// Runs a tool that ends by itself; `None` when `name` is none.
pub fn run(name: &str, values: &Values) -> Option<Result<(), String>> {
    freed::give_back_freed_memory();
    Some(match name {
        "tools bucket ls" => run_ls(values),
        "tools bucket inspect" => run_inspect(values),
        "tools bucket cleanup" => run_cleanup(values),
        "tools bucket mark" => run_mark(values),
        "tools bucket retention" => run_retention(values),
        "tools bucket upload-blocks" => run_upload(values),
        "downsample" | "tools bucket downsample" => downsample::run(values),
        "tools bucket verify" => mend::run_verify(values),
        "tools bucket rewrite" => mend::run_rewrite(values),
        "tools bucket replicate" => replicate::run(values),
        "tools bucket web" => web::run(values),
        "tools rules-check" => run_rules_check(values),
        _ => return None,
    })
}

/// The bucket that the flags name, and the registry of its metrics.
fn open(values: &Values) -> Result<(Bucket, Registry), String> {
    let config = BucketConfig::given(values, "objstore.config").map_err(|error| error.given_by(values).to_string())?;
    let mut registry = Registry::default();
    let bucket = Bucket::open(&config, &mut registry).map_err(|error| error.to_string())?;
    Ok((bucket, registry))
}

/// Sees which blocks of `bucket` the filters let through; a view that is not whole is an error.
async fn look(bucket: &Bucket, filters: &Filters, concurrency: usize) -> Result<View, String> {
    let options = FetchOptions { data_dir: None, concurrency };
    let fetcher = Fetcher::new(bucket.clone(), &options, SyncMetrics::register(&mut Registry::default()));
    whole_view(&fetcher, filters).await
}

/// What `fetcher` sees that the filters let through; a view that is not whole is an error.
async fn whole_view(fetcher: &Fetcher, filters: &Filters) -> Result<View, String> {
    let view = fetcher.fetch(filters).await.map_err(|error| error.to_string())?;
    match &view.incomplete {
        Some(error) => Err(format!("incomplete view: {error}")),
        None => Ok(view),
    }
}

/// `view`, unless a block or, where `filters` heed them, a deletion mark is not understood: what is told of the others
/// would look like all there is.
fn understood(view: View, filters: &Filters) -> Result<View, String> {
    let heeds_marks = filters.ignore_deletion_marks_delay < Duration::MAX;
    let fault = view.unknown.iter().find(|(id, _)| heeds_marks || !view.blocks.contains_key(*id));
    let fault = fault.map(|(id, error)| {
        format!("incomplete view: block {id}: {error}; move it away or run a version that knows it")
    });
    fault.map_or(Ok(view), Err)
}

/// What [`look`] sees within the time of `--timeout`.
async fn look_in_time(values: &Values, bucket: &Bucket, filters: &Filters) -> Result<View, String> {
    in_time(values, look(bucket, filters, META_CONCURRENCY)).await
}

/// What a `look` sees within the time of `--timeout`.
async fn in_time(values: &Values, look: impl Future<Output = Result<View, String>>) -> Result<View, String> {
    let time = values.duration("timeout");
    if time < Duration::from_secs(60) {
        tracing::warn!("Timeout less than 1m could lead to frequent failures");
    }
    let looked = tokio::time::timeout(time, look).await;
    looked.unwrap_or_else(|_| Err(format!("{BUCKET} was not seen within {time:?}: give a longer --timeout")))
}

/// The filters of time and labels that the flags ask for.
fn filters(values: &Values) -> Result<Filters, ConfigError> {
    let time = |flag: &str, default: i64| {
        if values.has(flag) { values.time(flag) } else { TimeOrDuration::At(default) }
    };
    Ok(Filters {
        min_time: time("min-time", i64::MIN),
        max_time: time("max-time", i64::MAX),
        keeps: selector::keeps(values)?,
        duplicates: Duplicates::Kept,
        ..Filters::all()
    })
}

fn ids(values: &Values) -> Result<Vec<BlockId>, String> {
    let read = |text: &String| text.parse().map_err(|error: Error| format!("--id: {error}"));
    values.list("id").iter().filter(|text| !text.is_empty()).map(read).collect()
}

/// Writes to standard output; a reader that has gone away is no error.
fn print(text: &str) -> Result<(), String> {
    let mut output = std::io::stdout().lock();
    // What is left for the end of the process to write fails unseen.
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        _ => Ok(()),
    }
}

/// How far a piece of work has come, on one line of a terminal; nothing in a pipe.
pub(super) struct ProgressLine {
    what: &'static str,
    done: usize,
    total: usize,
    is_seen: bool,
}

impl ProgressLine {
    const BAR_LEN: usize = 30;

    /// Nothing of `total` is done.
    pub(super) fn new(what: &'static str, total: usize) -> Self {
        let line = Self { what, done: 0, total, is_seen: std::io::stderr().is_terminal() };
        line.draw();
        line
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        self.draw();
    }

    fn draw(&self) {
        if self.is_seen {
            // A terminal that can't be written to shows nothing else either.
            let _ = write!(std::io::stderr(), "\r{}", self.text());
        }
    }

    fn text(&self) -> String {
        let part = (Self::BAR_LEN * self.done.min(self.total)).checked_div(self.total);
        let filled = part.unwrap_or(Self::BAR_LEN);
        let (bar, rest) = ("#".repeat(filled), "-".repeat(Self::BAR_LEN - filled));
        format!("{} [{bar}{rest}] {}/{}", self.what, self.done, self.total)
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.is_seen {
            let _ = writeln!(std::io::stderr());
        }
    }
}

fn run_ls(values: &Values) -> Result<(), String> {
    let style = ls::Style::parse(values.text("output").unwrap_or_default())?;
    let mut filters = filters(values).map_err(|error| error.to_string())?;
    if values.is_on("exclude-delete") {
        filters.ignore_deletion_marks_delay = Duration::ZERO;
    }
    let (bucket, _) = open(values)?;
    Runtime::Tokio.run(async {
        let view = understood(look_in_time(values, &bucket, &filters).await?, &filters)?;
        let texts = view.blocks.values().map(|block| style.write(&block.meta));
        print(&texts.collect::<Result<String, String>>()?)?;
        tracing::info!(objects = view.blocks.len(), "ls done");
        Ok(())
    })
}

fn run_inspect(values: &Values) -> Result<(), String> {
    let selector = inspect::parse_labels("selector", values.list("selector"))?;
    let mut columns = values.list("sort-by").to_vec();
    if columns.is_empty() {
        columns = vec!["FROM".into(), "UNTIL".into()];
    }
    let layout = Layout::parse(values.text("output").unwrap_or_default());
    let filters = Filters { duplicates: Duplicates::Kept, ..Filters::all() };
    let (bucket, _) = open(values)?;
    Runtime::Tokio.run(async {
        let view = understood(look_in_time(values, &bucket, &filters).await?, &filters)?;
        let metas: Vec<&Meta> = view.blocks.values().map(|block| &*block.meta).collect();
        let mut table = inspect::table(metas, &selector);
        table.sort(&columns);
        print(&table.to_text(layout))
    })
}

fn run_cleanup(values: &Values) -> Result<(), String> {
    let delay = values.duration("delete-delay");
    let filters = Filters {
        consistency_delay: values.duration("consistency-delay"),
        ignore_deletion_marks_delay: delay / 2,
        duplicates: Duplicates::LeftOut,
        ..filters(values).map_err(|error| error.to_string())?
    };
    let (bucket, _) = open(values)?;
    Runtime::Tokio.run(async {
        let view = look(&bucket, &filters, values.integer("block-sync-concurrency") as usize).await?;
        let view = understood(view, &filters)?;
        let metrics = CleanMetrics::default();
        clean::partial_uploads(&bucket, &view, &metrics).await;
        let deleted = clean::marked(&bucket, &view, delay, &metrics).await;
        let deleted = deleted.map_err(|error| format!("error cleaning blocks: {error}"))?;
        tracing::info!(deleted = deleted.len(), "cleanup done");
        Ok(())
    })
}

fn run_retention(values: &Values) -> Result<(), String> {
    let retention = retention(values);
    let filters = Filters {
        consistency_delay: values.duration("consistency-delay"),
        ignore_deletion_marks_delay: values.duration("delete-delay") / 2,
        duplicates: Duplicates::LeftOut,
        ..filters(values).map_err(|error| error.to_string())?
    };
    let (bucket, _) = open(values)?;
    Runtime::Tokio.run(async {
        let view = look(&bucket, &filters, values.integer("block-sync-concurrency") as usize).await?;
        let view = understood(view, &filters)?;
        tracing::warn!("GLOBAL COMPACTOR SHOULD __NOT__ BE RUNNING ON THE SAME BUCKET");
        let now = now_ms();
        let expired = view.blocks.values().filter(|block| block.deletion_mark.is_none());
        let expired = expired.filter_map(|block| Some((block.meta.ulid, retention.expired(&block.meta, now)?)));
        let expired: Vec<(BlockId, String)> = expired.collect();
        let mut line = ProgressLine::new("marking", expired.len());
        for (id, details) in expired {
            let marked = mark::for_deletion(&bucket, id, &details).await;
            marked.map_err(|error| format!("retention failed: delete block: {error}"))?;
            line.step();
        }
        drop(line);
        tracing::info!("optional retention apply done");
        Ok(())
    })
}

/// How long the flags want blocks kept.
pub fn retention(values: &Values) -> Retention {
    Retention {
        raw: values.duration("retention.resolution-raw"),
        five_minutes: values.duration("retention.resolution-5m"),
        one_hour: values.duration("retention.resolution-1h"),
    }
}

fn run_mark(values: &Values) -> Result<(), String> {
    let ids = ids(values)?;
    let marker = values.text("marker").unwrap_or_default();
    let details = values.text("details").unwrap_or_default();
    let object = BlockObject::parse(marker).ok_or_else(|| format!("--marker: {marker:?} is no marker"))?;
    let removes = values.is_on("remove");
    if !removes && details.is_empty() {
        return Err("required flag --details or --remove".into());
    }
    let (bucket, _) = open(values)?;
    Runtime::Tokio.run(async {
        let mut line = ProgressLine::new("marking", ids.len());
        for id in &ids {
            let manual = (reason::MANUAL, details);
            let outcome = match object {
                _ if removes => mark::remove(&bucket, *id, object).await.map(drop),
                BlockObject::NoCompactMark => mark::for_no_compaction(&bucket, *id, manual).await.map(drop),
                BlockObject::NoDownsampleMark => mark::for_no_downsampling(&bucket, *id, manual).await.map(drop),
                _ => mark::for_deletion(&bucket, *id, details).await.map(drop),
            };
            outcome.map_err(|error| format!("mark {id} for {marker}: {error}"))?;
            line.step();
        }
        drop(line);
        tracing::info!(marker, ids = ids.iter().map(BlockId::to_string).collect::<Vec<_>>().join(","), "marking done");
        Ok(())
    })
}

fn run_upload(values: &Values) -> Result<(), String> {
    let labels = inspect::parse_labels("label", values.list("label"))?;
    if labels.is_empty() {
        return Err("no external labels configured, uniquely identifying external labels must be configured: \
                    give --label=name=\"value\""
            .into());
    }
    let concurrency = values.integer("shipper.upload-concurrency") as usize;
    let upload = upload::Upload {
        path: PathBuf::from(values.text("path").unwrap_or("./data")),
        labels,
        compacted: match values.is_on("shipper.upload-compacted") {
            true => upload::Compacted::Uploaded,
            false => upload::Compacted::LeftOut,
        },
        transfer: Transfer { hash: HashFunc::None, concurrency },
    };
    let total = upload.count().map_err(|error| ConfigError::new("path", error.message()).to_string())?;
    let (bucket, _) = open(values)?;
    Runtime::Tokio.run(async {
        let mut line = ProgressLine::new("uploading", total);
        let uploaded = upload.run(&bucket, |_| line.step()).await;
        drop(line);
        let uploaded = uploaded.map_err(|error| format!("unable to sync blocks: {error}"))?;
        tracing::info!(uploaded, "synced blocks");
        Ok(())
    })
}

fn run_rules_check(values: &Values) -> Result<(), String> {
    let patterns = values.list("rules");
    let mut failed = Vec::new();
    let mut fail = |why: String| {
        tracing::error!(result = "FAILED", error = why, "rules are not valid");
        failed.push(why);
    };
    for pattern in patterns {
        tracing::info!(pattern, "checking");
        let files = rules::matching(pattern);
        if files.is_empty() {
            fail(format!("{pattern}: matching file not found"));
        }
        for path in files {
            tracing::info!(filename = %path.display(), "checking");
            match std::fs::read_to_string(&path)
                .map_err(|error| vec![error.to_string()])
                .and_then(|text| rules::check(&text))
            {
                Ok(count) => tracing::info!(result = "SUCCESS", "rules found" = count),
                Err(wrong) => wrong.into_iter().for_each(|why| fail(format!("{}: {why}", path.display()))),
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("{} errors: {}", failed.len(), failed.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_a_bar_and_numbers() {
        let mut line = ProgressLine { what: "copying", done: 0, total: 2, is_seen: false };
        line.step();
        assert_eq!(line.text(), "copying [###############---------------] 1/2");
        line.step();
        assert_eq!(line.text(), "copying [##############################] 2/2");
    }
}
