//! `uru tools bucket web`: the block viewer over a whole bucket.

use std::time::Duration;

use super::{META_CONCURRENCY, filters, in_time, whole_view};
use crate::api::http::blocks::{Admin, BlockViewer, View};
use crate::api::http::health::Health;
use crate::cli::{Subcommand, Values, compact, flags, tools};
use crate::component::process::Ports;
use crate::component::viewer;
use crate::objstore::{Bucket, BucketConfig};
use crate::sync::{Duplicates, FetchOptions, Fetcher, Filters, SyncMetrics};
use crate::telemetry::metrics;

/// The tool as the command line knows it.
pub const SUBCOMMAND: Subcommand = Subcommand {
    name: "tools bucket web",
    about: "Show the blocks of the bucket in a browser",
    flags: &[tools::WEB, compact::VIEWER, flags::HTTP_SERVER, flags::SELECTOR],
};

/// Pause after a look at the bucket that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// Serves until it is told to end.
pub fn run(values: &Values) -> Result<(), String> {
    let config = BucketConfig::given(values, "objstore.config").map_err(|error| error.given_by(values).to_string())?;
    let filters = filters(values).map_err(|error| error.to_string())?;
    let filters = Filters { duplicates: Duplicates::LeftOut, ..filters };
    let (refresh, timeout) = (values.duration("refresh"), values.duration("timeout"));
    if refresh < Duration::from_secs(5 * 60) {
        tracing::warn!("Refreshing more often than 5m could lead to large data transfers");
    }
    if refresh < timeout * 2 {
        tracing::warn!("Refresh interval should be at least 2 times the timeout");
    }
    let ports = Ports::bind(values).map_err(|error| error.to_string())?;
    let mut registry = metrics::registry();
    let health = Health::register(&mut registry, "bucket");
    health.requests().register(&mut registry);
    let bucket = Bucket::open(&config, &mut registry).map_err(|error| error.to_string())?;
    let fetch = FetchOptions { data_dir: None, concurrency: META_CONCURRENCY };
    let synced = SyncMetrics::register_all("thanos_bucket_blocks_meta", &mut registry);
    let fetcher = Fetcher::new(bucket.clone(), &fetch, synced);
    let admin = if values.is_on("disable-admin-operations") { Admin::Disabled } else { Admin::Allowed };
    let viewer = BlockViewer::new(bucket.clone(), values.text("label").unwrap_or_default(), admin);
    let runtime = ports.runtime();
    tracing::info!(http = %ports.http_address(), bucket = bucket.name(), "starting bucket web");
    let running = ports.start_http(viewer::routes(&viewer, values, "bucket"), health, registry)?;
    runtime.run(async {
        let mut interrupts = running.set_ready();
        let work = async {
            loop {
                let pause = match in_time(values, whole_view(&fetcher, &filters)).await {
                    Ok(view) => {
                        viewer.show(View::Global, &view.blocks);
                        refresh
                    }
                    Err(error) => {
                        tracing::error!(error, "cannot look at the bucket, trying again");
                        viewer.show_error(View::Global, &error);
                        RETRY_PAUSE.min(refresh)
                    }
                };
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = interrupts.wait() => {}
        }
    });
    running.end();
    Ok(())
}
