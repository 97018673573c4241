//! `tools bucket replicate`: chosen blocks copied into another bucket, oldest first, meta.json last.

use std::collections::BTreeSet;

use bytes::Bytes;
use engine::bucket::listing::missing;
use engine::bucket::{BlockObject, Meta, ObjectName};
use engine::model::{BlockId, Error, ErrorKind, Matcher};
use futures_util::{Stream, StreamExt};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use crate::objstore::bucket::Upload;
use crate::objstore::{Bucket, ObjectInfo};
use crate::sync::View;

/// Which blocks are copied.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// These and no others, when there are any.
    pub ids: BTreeSet<BlockId>,
    /// Those whose external labels match.
    pub matchers: Vec<Matcher>,
    /// Those of these resolutions, in milliseconds.
    pub resolutions: BTreeSet<i64>,
    /// Those of these levels.
    pub levels: BTreeSet<u32>,
}

/// `thanos_replicate_*`.
#[derive(Clone, Debug, Default)]
pub struct ReplicateMetrics {
    already: Counter,
    blocks: Counter,
    objects: Counter,
}

impl ReplicateMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let mut counter = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        let help = "Total number of blocks skipped due to already being replicated";
        counter("thanos_replicate_blocks_already_replicated", help, &metrics.already);
        counter("thanos_replicate_blocks_replicated", "Total number of blocks replicated", &metrics.blocks);
        counter("thanos_replicate_objects_replicated", "Total number of objects replicated", &metrics.objects);
        metrics
    }
}

impl Choice {
    /// Whether a block is copied. One without external labels never is.
    pub fn takes(&self, meta: &Meta) -> bool {
        let Some(thanos) = meta.thanos.as_ref().filter(|thanos| !thanos.labels.is_empty()) else {
            tracing::error!(block = %meta.ulid, reason = "labels should not be empty", "filtering block");
            return false;
        };
        if !self.ids.is_empty() {
            return self.ids.contains(&meta.ulid);
        }
        let matches = |matcher: &Matcher| matcher.matches(thanos.labels.get(matcher.name()).map_or("", String::as_str));
        self.matchers.iter().all(matches)
            && self.resolutions.contains(&thanos.downsample.resolution)
            && self.levels.contains(&meta.compaction.level)
    }
}

/// Copies the blocks of `view` that `choice` takes; `each` is told of every block that was copied. One that can't be
/// is left out, and the others are copied; the error is that of the first.
pub async fn replicate(
    buckets: (&Bucket, &Bucket),
    view: &View,
    choice: &Choice,
    metrics: &ReplicateMetrics,
    mut each: impl FnMut(BlockId),
) -> Result<(), Error> {
    for id in view.partial.keys() {
        tracing::info!(block = %id, "block meta not uploaded yet. Skipping.");
    }
    let mut chosen: Vec<&Meta> =
        view.blocks.values().map(|block| &*block.meta).filter(|meta| choice.takes(meta)).collect();
    // A compactor at work on the target must not see a gap that is filled later.
    chosen.sort_by_key(|meta| (meta.min_time, meta.ulid));
    let mut failed = None;
    for meta in chosen {
        let id = meta.ulid;
        match copy(buckets, id, metrics).await {
            Ok(true) => each(id),
            Ok(false) => {}
            Err(error) => {
                let error = error.within(format_args!("ensure block {id} is replicated"));
                tracing::error!(%error, "a block is not replicated");
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Copies a block; whether there was anything to copy.
async fn copy((from, to): (&Bucket, &Bucket), id: BlockId, metrics: &ReplicateMetrics) -> Result<bool, Error> {
    let meta_name = ObjectName { block: id, object: BlockObject::Meta }.to_string();
    let Some(meta) = from.get(&meta_name).await? else {
        return Err(Error::new(ErrorKind::Unavailable, format!("{meta_name} is gone from the origin bucket")));
    };
    if to.get(&meta_name).await?.is_some_and(|known| known == meta) {
        metrics.already.inc();
        return Ok(false);
    }
    let mut objects = Vec::new();
    from.list(&id.to_string(), |object| objects.push(object)).await?;
    let kinds = objects.iter().filter_map(|object| Some(ObjectName::parse(&object.name)?.object)).collect();
    if let Some(missing) = Meta::parse(&meta).ok().and_then(|meta| missing(&meta, &kinds).into_iter().next()) {
        return Err(Error::new(ErrorKind::Unavailable, format!("{id}/{missing} is gone from the origin bucket")));
    }
    for object in objects {
        let kind = ObjectName::parse(&object.name).map(|name| name.object);
        if !matches!(kind, Some(BlockObject::Segment(_) | BlockObject::Index)) {
            continue;
        }
        // An object of another length is what a copy that was broken off has left.
        if to.len_of(&object.name).await? == Some(object.len) {
            continue;
        }
        copy_object((from, to), &object).await?;
        tracing::info!(object = object.name, "object replicated");
        metrics.objects.inc();
    }
    to.upload(&meta_name, meta).await?;
    metrics.blocks.inc();
    Ok(true)
}

/// Copies an object, of which all must come.
async fn copy_object((from, to): (&Bucket, &Bucket), object: &ObjectInfo) -> Result<(), Error> {
    if !to.takes_parts() {
        let bytes = from.get(&object.name).await?.unwrap_or_default();
        check_len(object, bytes.len() as u64)?;
        return to.upload(&object.name, bytes).await;
    }
    let mut pieces = from.get_stream(&object.name).await?;
    let mut upload = to.begin_upload(&object.name, object.len).await?;
    match send(&mut pieces, &mut upload).await.and_then(|came| check_len(object, came)) {
        Ok(()) => upload.finish().await,
        Err(error) => {
            upload.abort().await;
            Err(error)
        }
    }
}

/// Sends what comes; returns how many bytes came.
async fn send(
    pieces: &mut (impl Stream<Item = Result<Bytes, Error>> + Unpin),
    upload: &mut Upload,
) -> Result<u64, Error> {
    let mut came = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        came += piece.len() as u64;
        upload.write(piece).await?;
    }
    Ok(came)
}

fn check_len(object: &ObjectInfo, came: u64) -> Result<(), Error> {
    if came == object.len {
        return Ok(());
    }
    let message = format!("{}: {came} bytes came from the origin bucket, it has {}", object.name, object.len);
    Err(Error::new(ErrorKind::Unavailable, message))
}

/// Milliseconds of a resolution that `--resolution` names; of one that blocks can't have none are copied.
pub fn resolution(text: &str) -> Result<i64, String> {
    let found = crate::cli::parse::parse_duration(text).map_err(|why| format!("--resolution: {why}"))?;
    let ms = i64::try_from(found.as_millis()).unwrap_or(i64::MAX);
    if ![0, 300_000, 3_600_000].contains(&ms) {
        tracing::warn!(resolution = text, "no block has this resolution: blocks have 0s, 5m or 1h");
    }
    Ok(ms)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use futures_util::stream::BoxStream;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{
        CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
        PutOptions, PutPayload, PutResult, Result as StoreResult, UploadPart,
    };

    use super::*;
    use crate::objstore::BucketConfig;

    /// Takes whole objects, and no part of one.
    #[derive(Debug, Default)]
    struct NoParts {
        inner: InMemory,
        has_begun: Arc<AtomicBool>,
        is_aborted: Arc<AtomicBool>,
    }

    impl std::fmt::Display for NoParts {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("no parts")
        }
    }

    #[async_trait]
    impl ObjectStore for NoParts {
        async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
            self.inner.put_opts(to, payload, options).await
        }

        async fn put_multipart_opts(
            &self,
            _to: &Path,
            _options: PutMultipartOptions,
        ) -> StoreResult<Box<dyn MultipartUpload>> {
            self.has_begun.store(true, Ordering::Relaxed);
            Ok(Box::new(Refused(Arc::clone(&self.is_aborted))))
        }

        async fn get_opts(&self, from: &Path, options: GetOptions) -> StoreResult<GetResult> {
            self.inner.get_opts(from, options).await
        }

        fn delete_stream(&self, paths: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
            self.inner.delete_stream(paths)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
            self.inner.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
            self.inner.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }

    #[derive(Debug)]
    struct Refused(Arc<AtomicBool>);

    #[async_trait]
    impl MultipartUpload for Refused {
        fn put_part(&mut self, _part: PutPayload) -> UploadPart {
            Box::pin(async { Err(refusal()) })
        }

        async fn complete(&mut self) -> StoreResult<PutResult> {
            Err(refusal())
        }

        async fn abort(&mut self) -> StoreResult<()> {
            self.0.store(true, Ordering::Relaxed);
            Ok(())
        }
    }

    fn refusal() -> object_store::Error {
        object_store::Error::NotImplemented { operation: "a part".into(), implementer: "no parts".into() }
    }

    #[tokio::test]
    async fn a_copy_that_fails_leaves_nothing_open_and_one_that_is_cut_off_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let len = 30 << 20;
        std::fs::write(folder.path().join("index"), vec![1u8; len as usize]).unwrap();
        let from = Bucket::open(&BucketConfig::filesystem(folder.path()), &mut Registry::default()).unwrap();
        let object = |len| ObjectInfo { name: "index".to_owned(), len, modified: 0 };

        let store = NoParts::default();
        let (has_begun, is_aborted) = (Arc::clone(&store.has_begun), Arc::clone(&store.is_aborted));
        let to = Bucket::over(Arc::new(store), "no parts", &mut Registry::default());
        copy_object((&from, &to), &object(len)).await.unwrap_err();
        assert!(has_begun.swap(false, Ordering::Relaxed) && is_aborted.load(Ordering::Relaxed));
        let to = to.without_parts();
        copy_object((&from, &to), &object(len)).await.unwrap();
        assert!(!has_begun.load(Ordering::Relaxed), "no parts where none are wanted");
        assert_eq!(to.len_of("index").await.unwrap(), Some(len));

        let memory = Bucket::over(Arc::new(InMemory::new()), "memory", &mut Registry::default());
        for to in [memory.clone(), memory.without_parts()] {
            let error = copy_object((&from, &to), &object(len + 1)).await.unwrap_err();
            assert!(error.message().contains("bytes came from the origin bucket"), "{error}");
            assert_eq!(to.len_of("index").await.unwrap(), None);
            copy_object((&from, &to), &object(len)).await.unwrap();
            to.delete("index").await.unwrap();
        }
    }
}
