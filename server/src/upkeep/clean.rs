//! Cleaning a bucket: blocks whose deletion mark has come of age, and uploads that were broken off.

use std::collections::BTreeSet;
use std::time::Duration;

use engine::bucket::{BlockObject, ObjectName};
use engine::model::{BlockId, Error};
use futures_util::{StreamExt, stream};
use prometheus_client::metrics::counter::Counter;

use super::{delete::delete, now_ms};
use crate::objstore::Bucket;
use crate::sync::filter::is_older;
use crate::sync::{PartialBlock, View, is_json};

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

/// What became of a block that was partially uploaded.
enum Cleaned {
    /// It is gone.
    Deleted,
    /// It has become whole.
    Whole,
}

/// Deletes a block, unless it has become whole since it was looked at, which may be long ago.
async fn delete_unless_whole(bucket: &Bucket, (id, block): (BlockId, &PartialBlock)) -> Result<Cleaned, Error> {
    let name = ObjectName { block: id, object: BlockObject::Meta }.to_string();
    // Also one that is not understood is somebody's.
    if bucket.get(&name).await?.is_some_and(|bytes| is_json(&bytes)) {
        return Ok(Cleaned::Whole);
    }
    tracing::info!(block = %id, why = block.why, "found partially uploaded block; deleting");
    delete(bucket, id).await.map(|()| Cleaned::Deleted)
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
        match delete_unless_whole(bucket, (*id, block)).await {
            Ok(Cleaned::Deleted) => {
                metrics.cleaned.inc();
                tracing::info!(block = %id, "deleted aborted partial upload");
            }
            Ok(Cleaned::Whole) => {
                tracing::info!(block = %id, "a block that was partially uploaded is whole by now");
            }
            Err(error) => {
                metrics.failures.inc();
                tracing::warn!(block = %id, %error, "cannot delete an aborted partial upload; it is tried again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use object_store::memory::InMemory;
    use prometheus_client::registry::Registry;

    use super::*;

    #[tokio::test]
    async fn a_block_that_has_become_whole_since_it_was_looked_at_stays() {
        let bucket = Bucket::over(Arc::new(InMemory::new()), "memory", &mut Registry::default());
        let mut view = View::default();
        let ids = [1, 2, 3].map(|at| BlockId::from_parts(1, at));
        for (id, meta) in ids.into_iter().zip([None, Some("{\"version\": 7}"), Some("{\"version\": ")]) {
            bucket.upload(&format!("{id}/chunks/000001"), Bytes::from_static(b"chunks")).await.unwrap();
            if let Some(meta) = meta {
                bucket.upload(&format!("{id}/meta.json"), meta.into()).await.unwrap();
            }
            view.partial.insert(id, PartialBlock { why: "no meta.json".into(), modified: 0 });
        }
        let metrics = CleanMetrics::default();
        partial_uploads(&bucket, &view, &metrics).await;
        let mut left = Vec::new();
        bucket.list("", |object| left.push(object.name)).await.unwrap();
        assert_eq!(left, ["chunks/000001", "meta.json"].map(|name| format!("{}/{name}", ids[1])));
        assert_eq!((metrics.attempts.get(), metrics.cleaned.get(), metrics.failures.get()), (3, 2, 0));
    }
}
