//! `uru compact`: merges, downsamples, lets go and cleans the blocks of a bucket, once or for ever.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::compact::group::levels;
use engine::compact::plan::{Planner, Vertical};
use engine::compact::retention::Downsampling;
use engine::compact::source::Malformed;
use engine::compact::{Replicas, Workers};
use engine::io::freed;
use engine::model::{Error, Resolution};

use super::process::{self, Interrupts, Ports};
use super::tools::{META_CONCURRENCY, retention};
use super::viewer;
use crate::api::http::blocks::{Admin, BlockViewer, View};
use crate::api::http::health::Health;
use crate::cli::{Subcommand, Values, compact, flags};
use crate::compactor::metrics::{CompactMetrics, register_first_compactions};
use crate::compactor::syncer::Syncer;
use crate::compactor::{Compactor, OutOfOrder, Priority, Settings, Stop, run_compactor};
use crate::config::{ConfigError, selector};
use crate::objstore::{Bucket, BucketConfig};
use crate::sync::{Duplicates, FetchOptions, Fetcher, Filters, SyncMetrics};
use crate::telemetry::metrics;
use crate::upkeep::transfer::{HashFunc, Transfer};

/// The component as the command line knows it.
pub const SUBCOMMAND: Subcommand = Subcommand {
    name: "compact",
    about: "Compactor: merges, downsamples and lets go the blocks of a bucket",
    flags: &[
        compact::COMPACT,
        compact::COMPACTION,
        compact::SCOPE,
        compact::HASH,
        compact::RETENTION,
        compact::VIEWER,
        compact::VIEWER_SWITCH,
        flags::HTTP_SERVER,
        flags::OBJSTORE,
        flags::SELECTOR,
    ],
};

/// Folders below `--data-dir` whose content is a compactor's own: blocks in the making, and copies of metas.
const WORK_FOLDERS: [&str; 3] = ["compact", "downsample", "meta-syncer"];

/// When a compactor does what.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Pause between two runs; none for a single run.
    pub interval: Option<Duration>,
    /// Time between two cleanups; zero for none.
    pub cleanup: Duration,
    /// Time between two counts of what is left; zero for none.
    pub progress: Duration,
    /// What a critical error does.
    pub halting: Halting,
}

/// What a critical error does to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halting {
    /// The group is left alone; the process goes on.
    Halt,
    /// `--no-debug.halt-on-error`: the process ends.
    End,
}

/// Runs the component until it is told to end, or once.
pub fn run(values: &Values) -> Result<(), String> {
    freed::give_back_freed_memory();
    process::use_small_pages();
    let config = BucketConfig::given(values, "objstore.config").map_err(|error| error.given_by(values).to_string())?;
    let data_dir = PathBuf::from(values.text("data-dir").unwrap_or("./data"));
    if values.text("deduplication.func").is_some() && replica_labels(values).is_empty() {
        return Err("--deduplication.func: penalty based deduplication needs at least one replica label: give \
                    --deduplication.replica-label"
            .into());
    }
    process::own_folder("data-dir", &data_dir).map_err(|error| error.message().to_owned())?;
    let settings = settings(values, data_dir.clone()).map_err(|error| error.to_string())?;
    let schedule = schedule(values);
    let filters = filters(values).map_err(|error| error.to_string())?;
    let ports = Ports::bind(values).map_err(|error| error.to_string())?;
    let mut registry = metrics::registry();
    let health = Health::register(&mut registry, "compact");
    let bucket = Bucket::open(&config, &mut registry).map_err(|error| error.to_string())?;
    check_outside(&bucket, &data_dir).map_err(|error| error.message().to_owned())?;
    let admin = if values.is_on("disable-admin-operations") { Admin::Disabled } else { Admin::Allowed };
    let viewer = BlockViewer::new(bucket.clone(), values.text("bucket-web-label").unwrap_or_default(), admin);
    let compact_metrics = CompactMetrics::register(&mut registry);
    register_first_compactions(&mut registry);
    compact_metrics.consistency_delay.set(filters.consistency_delay.as_secs_f64());
    let fetch = FetchOptions {
        data_dir: Some(data_dir.clone()),
        concurrency: values.integer("block-meta-fetch-concurrency") as usize,
    };
    let fetcher = Fetcher::new(bucket.clone(), &fetch, SyncMetrics::register(&mut registry));
    let syncer = Syncer::new(fetcher, filters, schedule.interval, Some(viewer.clone()));
    let compactor = Arc::new(Compactor::new(bucket.clone(), syncer, settings, compact_metrics));
    let look = Look {
        viewer: viewer.clone(),
        bucket: bucket.clone(),
        metrics: SyncMetrics::register_as("thanos_bucket_uiblocks_meta", &mut registry),
        interval: values.duration("block-viewer.global.sync-block-interval"),
        time_max: values.duration("block-viewer.global.sync-block-timeout"),
    };
    let runtime = ports.runtime();
    tracing::info!(http = %ports.http_address(), bucket = bucket.name(), "starting compact node");
    let has_pages = schedule.interval.is_some() && !values.is_on("web.disable");
    let routes = if has_pages { viewer::routes(&viewer, values, "compact") } else { axum::Router::new() };
    let running = ports.start_http(routes, health, registry)?;
    let stop = compactor.stop();
    let outcome = runtime.run(async {
        let interrupts = running.set_ready();
        work_until_interrupted((interrupts, &stop), move || async move {
            let looking = async { if has_pages { look.forever().await } else { pending().await } };
            tokio::select! {
                outcome = keep_compacting(&compactor, &schedule) => outcome,
                () = looking => Ok(()),
            }
        })
        .await
    });
    running.end();
    outcome
}

/// An error when the bucket is a folder that lies in one of those below `data_dir` from which a compactor removes what
/// it does not know.
pub(super) fn check_outside(bucket: &Bucket, data_dir: &Path) -> Result<(), Error> {
    WORK_FOLDERS.iter().try_for_each(|name| {
        bucket.check_outside("data-dir", &data_dir.join(name), |own, folder| folder.starts_with(own))
    })
}

/// Runs the future that `make` makes on a background thread until it ends, or until the process is told
/// to end, which `stop` tells its work.
pub(super) async fn work_until_interrupted<F>(
    (mut interrupts, stop): (Interrupts, &Stop),
    make: impl FnOnce() -> F + Send + 'static,
) -> Result<(), String>
where
    F: Future<Output = Result<(), String>>,
{
    tokio::select! {
        outcome = run_compactor(Priority::Normal, make) => outcome.map_err(|error| error.to_string()).flatten(),
        () = interrupts.wait() => {
            stop.set();
            Ok(())
        }
    }
}

/// Runs the compactor by its schedule: once, or for ever.
pub async fn keep_compacting(compactor: &Compactor, schedule: &Schedule) -> Result<(), String> {
    let Some(interval) = schedule.interval else {
        return compactor.run_once().await.map_err(|troubles| troubles.to_string());
    };
    let metrics = compactor.metrics();
    let runs = async {
        loop {
            match compactor.run_once().await {
                Ok(()) => drop(metrics.iterations.inc()),
                Err(troubles) if troubles.need_attention() && schedule.halting == Halting::End => {
                    return Err(troubles.to_string());
                }
                Err(troubles) => {
                    tracing::error!(error = %troubles, "run left something behind");
                    if troubles.may_pass() {
                        metrics.retries.inc();
                    }
                }
            }
            tokio::time::sleep(interval).await;
        }
    };
    let cleanups = async {
        loop {
            pause(schedule.cleanup).await;
            if let Err(error) = compactor.clean_partial().await {
                tracing::error!(%error, "retriable error");
                metrics.retries.inc();
            }
        }
    };
    let counts = async {
        loop {
            if schedule.progress.is_zero() {
                return pending().await;
            }
            if let Err(error) = compactor.count_backlog().await {
                tracing::error!(%error, "retriable error");
                metrics.retries.inc();
            }
            tokio::time::sleep(schedule.progress).await;
        }
    };
    tokio::select! {
        outcome = runs => outcome,
        () = cleanups => Ok(()),
        () = counts => Ok(()),
    }
}

/// Sleeps; for ever when there is no time to.
async fn pause(time: Duration) {
    if time.is_zero() {
        return pending().await;
    }
    tokio::time::sleep(time).await;
}

/// Looks at the whole bucket again and again, for the viewer.
struct Look {
    viewer: BlockViewer,
    bucket: Bucket,
    metrics: SyncMetrics,
    interval: Duration,
    time_max: Duration,
}

impl Look {
    async fn forever(&self) {
        let fetch = FetchOptions { data_dir: None, concurrency: META_CONCURRENCY };
        let fetcher = Fetcher::new(self.bucket.clone(), &fetch, self.metrics.clone());
        let filters = Filters { duplicates: Duplicates::Kept, ..Filters::all() };
        loop {
            match tokio::time::timeout(self.time_max, fetcher.fetch(&filters)).await {
                Ok(Ok(view)) => self.viewer.show(View::Global, &view.blocks),
                Ok(Err(error)) => self.viewer.show_error(View::Global, &error.to_string()),
                Err(_) => self.viewer.show_error(View::Global, "the bucket was not seen in time"),
            }
            tokio::time::sleep(self.interval).await;
        }
    }
}

/// When the flags want what done.
pub fn schedule(values: &Values) -> Schedule {
    let waits = values.has("wait") && values.is_on("wait");
    Schedule {
        interval: waits.then(|| values.duration("wait-interval")),
        cleanup: values.duration("compact.cleanup-interval"),
        progress: values.duration("compact.progress-interval"),
        halting: if values.is_on("debug.halt-on-error") { Halting::Halt } else { Halting::End },
    }
}

/// How the flags want blocks worked on; `data_dir` is for blocks in the making.
pub fn settings(values: &Values, data_dir: PathBuf) -> Result<Settings, ConfigError> {
    let replica_labels = replica_labels(values);
    // A process that also answers queries has this flag for them, with a default that is not for blocks: penalty leaves
    // samples out for good.
    let has_penalty = values.is_given("deduplication.func") && values.text("deduplication.func") == Some("penalty");
    let replicas = if has_penalty && !replica_labels.is_empty() { Replicas::Penalty } else { Replicas::OneToOne };
    // One that receives has blocks of late samples of its own, which overlap with others.
    let window = "tsdb.out-of-order.time-window";
    let has_late = values.has(window) && !values.duration(window).is_zero();
    let is_vertical = values.is_on("compact.enable-vertical-compaction") || !replica_labels.is_empty() || has_late;
    let ranges = levels(values.integer("debug.max-compaction-level") as usize);
    let ranges = ranges.map_err(|error| ConfigError::new("debug.max-compaction-level", error.message()))?;
    let downsampling =
        if values.is_on("downsampling.disable") { Downsampling::Disabled } else { Downsampling::Enabled };
    let retention = retention(values);
    retention.check(downsampling).map_err(|(resolution, error)| {
        let flag = if resolution == Resolution::RAW { "retention.resolution-raw" } else { "retention.resolution-5m" };
        ConfigError::new(flag, error.message())
    })?;
    let integer = |flag: &str| values.integer(flag) as usize;
    if integer("compact.concurrency") == 0 {
        let message = "invalid concurrency level 0: it must be 1 at least";
        return Err(ConfigError::new("compact.concurrency", message));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Settings {
        data_dir,
        planner: Planner {
            ranges: ranges.to_vec(),
            index_bytes_max: values.bytes("compact.block-max-index-size"),
            vertical: if is_vertical { Vertical::Enabled } else { Vertical::Disabled },
        },
        replicas,
        downsampling,
        retention,
        delete_delay: values.duration("delete-delay"),
        transfer: Transfer {
            hash: HashFunc::parse(values.text("hash-func").unwrap_or_default()),
            concurrency: integer("block-files-concurrency").max(1),
        },
        fetches: integer("compact.blocks-fetch-concurrency"),
        merges: integer("compact.concurrency"),
        downsamples: integer("downsample.concurrency").max(1),
        workers: Workers::threads(cores.saturating_sub(1)),
        out_of_order: match values.is_on("compact.skip-block-with-out-of-order-chunks") {
            true => OutOfOrder::Mark,
            false => OutOfOrder::Halt,
        },
        malformed: if values.is_on("debug.accept-malformed-index") { Malformed::Accept } else { Malformed::Refuse },
    })
}

/// The labels that tell replicas apart; each flag may name several, with commas between them.
pub fn replica_labels(values: &Values) -> Vec<String> {
    let names = values.words("deduplication.replica-label");
    names.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// Which blocks are worked on.
pub fn filters(values: &Values) -> Result<Filters, ConfigError> {
    Ok(Filters {
        min_time: values.time("min-time"),
        max_time: values.time("max-time"),
        keeps: selector::keeps(values)?,
        consistency_delay: values.duration("consistency-delay"),
        // A marked block is seen while its replacement may not be there yet.
        ignore_deletion_marks_delay: values.duration("delete-delay") / 2,
        replica_labels: replica_labels(values),
        duplicates: Duplicates::LeftOut,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Task};
    use crate::component::COMPONENTS;

    fn settings_of(words: &[&str]) -> Settings {
        let words = ["uru"].iter().chain(words).map(|word| (*word).into());
        let Ok(Task::Run(invocation)) = cli::parse(COMPONENTS, words) else { panic!("it is to run") };
        settings(&invocation.values, PathBuf::from("work")).unwrap()
    }

    #[test]
    fn replicas_are_merged_by_penalty_where_that_is_asked_for_and_late_blocks_always() {
        let (label, penalty) = ("--deduplication.replica-label=r", "--deduplication.func=penalty");
        let late = "--tsdb.out-of-order.time-window=1h";
        for (words, is_penalty, is_vertical) in [
            (&["all-in-one"][..], false, false),
            (&["all-in-one", label], false, true),
            (&["all-in-one", label, penalty], true, true),
            (&["all-in-one", late], false, true),
            (&["compact", label], false, true),
            (&["compact", label, penalty], true, true),
            (&["compact", penalty], false, false),
        ] {
            let settings = settings_of(words);
            assert_eq!(matches!(settings.replicas, Replicas::Penalty), is_penalty, "{words:?}");
            assert_eq!(matches!(settings.planner.vertical, Vertical::Enabled), is_vertical, "{words:?}");
        }
    }
}
