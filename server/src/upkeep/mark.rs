//! Markers of blocks: put once, never overwritten, taken away on request.

use bytes::Bytes;
use engine::bucket::marker::{self, Marker};
use engine::bucket::{BlockObject, DeletionMark, NoCompactMark, NoDownsampleMark, ObjectName};
use engine::model::{BlockId, Error};

use super::now_ms;
use crate::objstore::Bucket;

/// What asking for a marker came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// It was put.
    Now,
    /// It was there already and stays as it is.
    Before,
}

/// Marks a block for deletion; `details` says why.
pub async fn for_deletion(bucket: &Bucket, id: BlockId, details: &str) -> Result<Marked, Error> {
    let mark =
        DeletionMark { id, version: marker::VERSION, details: details.to_owned(), deletion_time: now_ms() / 1000 };
    put(bucket, id, &mark).await
}

/// Marks a block for no compaction, for a reason of [`marker::reason`].
pub async fn for_no_compaction(bucket: &Bucket, id: BlockId, why: (&str, &str)) -> Result<Marked, Error> {
    let (reason, details) = (why.0.to_owned(), why.1.to_owned());
    let mark = NoCompactMark { id, version: marker::VERSION, details, no_compact_time: now_ms() / 1000, reason };
    put(bucket, id, &mark).await
}

/// Marks a block for no downsampling, for a reason of [`marker::reason`].
pub async fn for_no_downsampling(bucket: &Bucket, id: BlockId, why: (&str, &str)) -> Result<Marked, Error> {
    let (reason, details) = (why.0.to_owned(), why.1.to_owned());
    let mark = NoDownsampleMark { id, version: marker::VERSION, details, no_downsample_time: now_ms() / 1000, reason };
    put(bucket, id, &mark).await
}

/// Takes a marker away; whether there was one.
pub async fn remove(bucket: &Bucket, id: BlockId, object: BlockObject) -> Result<bool, Error> {
    let name = ObjectName { block: id, object }.to_string();
    if !bucket.exists(&name).await? {
        tracing::warn!(block = %id, file = name, "requested to remove a mark, but the file does not exist");
        return Ok(false);
    }
    bucket.delete(&name).await?;
    tracing::info!(block = %id, file = name, "mark has been removed from the block");
    Ok(true)
}

async fn put<M: Marker>(bucket: &Bucket, id: BlockId, mark: &M) -> Result<Marked, Error> {
    let name = ObjectName { block: id, object: M::OBJECT }.to_string();
    if bucket.exists(&name).await? {
        tracing::warn!(block = %id, file = name, "requested to mark a block, but the file already exists");
        return Ok(Marked::Before);
    }
    bucket.upload(&name, Bytes::from(mark.to_json())).await?;
    tracing::info!(block = %id, file = name, "block has been marked");
    Ok(Marked::Now)
}
