//! `uru tools bucket downsample` and `uru downsample`: the blocks of a bucket downsampled again and
//! again, without merging or letting go any.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::compact::group::LEVELS_MS;
use engine::compact::plan::{INDEX_BYTES_MAX, Planner, Vertical};
use engine::compact::retention::{Downsampling, Retention};
use engine::compact::source::Malformed;
use engine::compact::{Replicas, Workers};

use super::META_CONCURRENCY;
use crate::api::http::health::Health;
use crate::cli::{Subcommand, Values, compact, flags, tools};
use crate::compactor::metrics::CompactMetrics;
use crate::compactor::syncer::Syncer;
use crate::compactor::{Compactor, OutOfOrder, Settings};
use crate::component::compact::{check_outside, work_until_interrupted};
use crate::component::process::{self, Ports};
use crate::objstore::{Bucket, BucketConfig};
use crate::sync::{FetchOptions, Fetcher, Filters, SyncMetrics};
use crate::telemetry::metrics;
use crate::upkeep::transfer::{HashFunc, Transfer};

/// The tool as the command line knows it.
pub const SUBCOMMAND: Subcommand = Subcommand {
    name: "tools bucket downsample",
    about: "Downsample the blocks of the bucket continuously",
    flags: &[tools::DOWNSAMPLE, compact::HASH, flags::HTTP_SERVER],
};

/// The same as a component of its own.
pub const COMPONENT: Subcommand = Subcommand {
    name: "downsample",
    about: "Downsample the blocks of a bucket continuously",
    flags: &[tools::DOWNSAMPLE, compact::HASH, flags::HTTP_SERVER, flags::OBJSTORE],
};

/// Runs until it is told to end.
pub fn run(values: &Values) -> Result<(), String> {
    process::use_small_pages();
    let config = BucketConfig::given(values, "objstore.config").map_err(|error| error.given_by(values).to_string())?;
    let ports = Ports::bind(values).map_err(|error| error.to_string())?;
    let mut registry = metrics::registry();
    let health = Health::register(&mut registry, "downsample");
    let bucket = Bucket::open(&config, &mut registry).map_err(|error| error.to_string())?;
    let settings = settings(values);
    check_outside(&bucket, &settings.data_dir).map_err(|error| error.message().to_owned())?;
    let fetch = FetchOptions { data_dir: None, concurrency: META_CONCURRENCY };
    let fetcher = Fetcher::new(bucket.clone(), &fetch, SyncMetrics::register(&mut registry));
    let syncer = Syncer::new(fetcher, Filters::all(), None, None);
    let compactor = Arc::new(Compactor::new(bucket.clone(), syncer, settings, CompactMetrics::register(&mut registry)));
    let interval = values.duration("wait-interval");
    let runtime = ports.runtime();
    tracing::info!(http = %ports.http_address(), bucket = bucket.name(), "starting downsample node");
    let running = ports.start_http(axum::Router::new(), health, registry)?;
    let stop = compactor.stop();
    let outcome = runtime.run(async {
        let interrupts = running.set_ready();
        work_until_interrupted((interrupts, &stop), move || async move {
            loop {
                if let Err(troubles) = compactor.downsample_twice().await {
                    return Err(format!("downsampling failed: {troubles}"));
                }
                tokio::time::sleep(interval).await;
            }
        })
        .await
    });
    running.end();
    outcome
}

fn settings(values: &Values) -> Settings {
    let integer = |flag: &str| values.integer(flag).max(1) as usize;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Settings {
        data_dir: PathBuf::from(values.text("data-dir").unwrap_or("./data")),
        planner: Planner { ranges: LEVELS_MS.to_vec(), index_bytes_max: INDEX_BYTES_MAX, vertical: Vertical::Disabled },
        replicas: Replicas::OneToOne,
        downsampling: Downsampling::Enabled,
        retention: Retention::default(),
        delete_delay: Duration::MAX,
        transfer: Transfer {
            hash: HashFunc::parse(values.text("hash-func").unwrap_or_default()),
            concurrency: integer("block-files-concurrency"),
        },
        fetches: 1,
        merges: 1,
        downsamples: integer("downsample.concurrency"),
        workers: Workers::threads(cores.saturating_sub(1)),
        out_of_order: OutOfOrder::Halt,
        malformed: Malformed::Refuse,
    }
}
