//! Cleaning a bucket: blocks whose deletion mark has come of age, and uploads that were broken off.

use std::collections::BTreeSet;
use std::time::Duration;

use engine::model::{BlockId, Error};
use futures_util::{StreamExt, stream};
use prometheus_client::metrics::counter::Counter;

use super::{delete::delete, now_ms};
use crate::objstore::Bucket;
use crate::sync::View;
use crate::sync::filter::is_older;

/// Age from which a block without meta.json is taken for an upload that was broken off.
pub const PARTIAL_UPLOAD_AGE: Duration = Duration::from_secs(48 * 3600);

/// Blocks that are deleted at once.
const DELETIONS_MAX: usize = 32;

/// What cleaning counts.
#[derive(Clone, Debug, Default)]
pub struct CleanMetrics {
    /// Blocks that were deleted.
    pub cleaned: Counter,
    /// Blocks that could not be deleted.
    pub failures: Counter,
    /// Broken-off uploads whose deletion was begun.
    pub attempts: Counter,
}

/// Deletes the blocks of `view` that were marked for deletion more than `delay` ago; returns them.
/// All are tried; the error is that of the first that could not be deleted.
pub async fn marked(
    bucket: &Bucket,
    view: &View,
    delay: Duration,
    metrics: &CleanMetrics,
) -> Result<BTreeSet<BlockId>, Error> {
    let now = now_ms();
    let due = view.marked.iter().filter(|(_, mark)| is_older(mark, delay, now)).map(|(id, _)| *id);
    let deletions = due.map(|id| async move { (id, delete(bucket, id).await) });
    let mut deletions = stream::iter(deletions).buffer_unordered(DELETIONS_MAX);
    let (mut deleted, mut failed) = (BTreeSet::new(), None);
    while let Some((id, outcome)) = deletions.next().await {
        match outcome {
            Ok(()) => {
                metrics.cleaned.inc();
                tracing::info!(block = %id, "deleted block marked for deletion");
                deleted.insert(id);
            }
            Err(error) => {
                metrics.failures.inc();
                tracing::warn!(block = %id, %error, "cannot delete a block marked for deletion");
                failed.get_or_insert(error.within(format_args!("delete block {id}")));
            }
        }
    }
    failed.map_or(Ok(deleted), Err)
}

/// Deletes what broken-off uploads have left, once nothing of it has changed for
/// [`PARTIAL_UPLOAD_AGE`]. What can't be deleted is tried again the next time.
pub async fn partial_uploads(bucket: &Bucket, view: &View, metrics: &CleanMetrics) {
    let now = now_ms();
    let age_max = i64::try_from(PARTIAL_UPLOAD_AGE.as_millis()).unwrap_or(i64::MAX);
    for (id, block) in &view.partial {
        let is_marked = view.marked.contains_key(id);
        if is_marked || now.saturating_sub(block.modified) <= age_max {
            continue;
        }
        metrics.attempts.inc();
        tracing::info!(block = %id, why = block.why, "found partially uploaded block; deleting");
        match delete(bucket, *id).await {
            Ok(()) => {
                metrics.cleaned.inc();
                tracing::info!(block = %id, "deleted aborted partial upload");
            }
            Err(error) => {
                metrics.failures.inc();
                tracing::warn!(block = %id, %error, "cannot delete an aborted partial upload; it is tried again");
            }
        }
    }
}
