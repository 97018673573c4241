//! Cleaning a bucket: blocks whose deletion mark has come of age, and uploads that were broken off.

use std::collections::BTreeSet;
use std::time::Duration;

use engine::bucket::{BlockObject, ObjectName};
use engine::model::{BlockId, Error};
use futures_util::{StreamExt, stream};
use prometheus_client::metrics::counter::Counter;

use super::{delete::delete, now_ms};
use crate::objstore::{Bucket, ObjectInfo};
use crate::sync::filter::is_older;
use crate::sync::{PartialBlock, View, as_listed, is_json};

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
    /// Its upload goes on.
    Uploading,
}

/// Deletes a block, unless it has become whole or somebody has gone on with its upload since it was looked at, which
/// may be long ago. A bucket that does not give the meta.json that it lists is no reason to delete it.
async fn delete_if_broken_off(bucket: &Bucket, (id, block): (BlockId, &PartialBlock)) -> Result<Cleaned, Error> {
    let name = ObjectName { block: id, object: BlockObject::Meta }.to_string();
    let (mut last, mut listed) = (i64::MIN, None);
    let note = |object: ObjectInfo| {
        last = last.max(object.modified);
        listed = listed.or((object.name == name).then_some(object.len));
    };
    bucket.list(&id.to_string(), note).await?;
    if !is_broken_off(last) {
        return Ok(Cleaned::Uploading);
    }
    let bytes = bucket.get(&name).await?;
    if listed.is_some() {
        as_listed(listed, bytes.as_ref().map(|bytes| bytes.len() as u64))?;
    }
    // Also one that is not understood is somebody's.
    if bytes.is_some_and(|bytes| is_json(&bytes)) {
        return Ok(Cleaned::Whole);
    }
    tracing::info!(block = %id, why = block.why, "found partially uploaded block; deleting");
    delete(bucket, id).await.map(|()| Cleaned::Deleted)
}

/// Whether an upload that changed something last at `modified`, in Unix milliseconds, is taken for broken off.
fn is_broken_off(modified: i64) -> bool {
    i128::from(now_ms().saturating_sub(modified)) > PARTIAL_UPLOAD_AGE.as_millis() as i128
}

/// Deletes what broken-off uploads have left, once nothing of it has changed for
/// [`PARTIAL_UPLOAD_AGE`]. What can't be deleted is tried again the next time.
pub async fn partial_uploads(bucket: &Bucket, view: &View, metrics: &CleanMetrics) {
    for (id, block) in &view.partial {
        let is_marked = view.marked.contains_key(id);
        if is_marked || !is_broken_off(block.modified) {
            continue;
        }
        metrics.attempts.inc();
        match delete_if_broken_off(bucket, (*id, block)).await {
            Ok(Cleaned::Deleted) => {
                metrics.cleaned.inc();
                tracing::info!(block = %id, "deleted aborted partial upload");
            }
            Ok(Cleaned::Whole) => {
                tracing::info!(block = %id, "a block that was partially uploaded is whole by now");
            }
            Ok(Cleaned::Uploading) => {
                tracing::info!(block = %id, "the upload of a block goes on that seemed to be broken off");
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
    use std::fs::File;
    use std::time::SystemTime;

    use bytes::Bytes;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::objstore::config::BucketConfig;

    #[tokio::test]
    async fn a_block_that_has_become_whole_or_goes_on_since_it_was_looked_at_stays() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::open(&BucketConfig::filesystem(folder.path()), &mut Registry::default()).unwrap();
        let mut view = View::default();
        let ids = [1, 2, 3, 4].map(|at| BlockId::from_parts(1, at));
        for (id, meta) in ids.into_iter().zip([None, Some("{\"version\": 7}"), Some("{\"version\": "), None]) {
            for (name, bytes) in [("chunks/000001", Some("chunks")), ("meta.json", meta)] {
                let Some(bytes) = bytes else { continue };
                bucket.upload(&format!("{id}/{name}"), Bytes::from_static(bytes.as_bytes())).await.unwrap();
                let file = File::open(folder.path().join(id.to_string()).join(name)).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }
            view.partial.insert(id, PartialBlock { why: "no meta.json".into(), modified: 0 });
        }
        // The receiver of the last one is back after two days and goes on.
        bucket.upload(&format!("{}/chunks/000002", ids[3]), Bytes::from_static(b"more")).await.unwrap();
        let metrics = CleanMetrics::default();
        partial_uploads(&bucket, &view, &metrics).await;
        let mut left = Vec::new();
        bucket.list("", |object| left.push(object.name)).await.unwrap();
        left.sort();
        let stays = [(1, "chunks/000001"), (1, "meta.json"), (3, "chunks/000001"), (3, "chunks/000002")];
        assert_eq!(left, stays.map(|(at, name)| format!("{}/{name}", ids[at])));
        assert_eq!((metrics.attempts.get(), metrics.cleaned.get(), metrics.failures.get()), (4, 2, 0));
    }
}
