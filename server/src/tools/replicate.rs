//! `tools bucket replicate`: chosen blocks copied into another bucket, oldest first, meta.json last.

use std::collections::BTreeSet;

use engine::bucket::listing::missing;
use engine::bucket::{BlockObject, Meta, ObjectName};
use engine::model::{BlockId, Error, ErrorKind, Matcher};
use futures_util::StreamExt;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use crate::objstore::Bucket;
use crate::objstore::bucket::{PARTS_MAX, PIECE_PART_BYTES};
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
        let mut pieces = from.get_stream(&object.name).await?;
        let mut upload = to.begin_upload(&object.name, PIECE_PART_BYTES.max(object.len as usize / PARTS_MAX)).await?;
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => upload.write(piece).await?,
                Err(error) => {
                    upload.abort().await;
                    return Err(error);
                }
            }
        }
        upload.finish().await?;
        tracing::info!(object = object.name, "object replicated");
        metrics.objects.inc();
    }
    to.upload(&meta_name, meta).await?;
    metrics.blocks.inc();
    Ok(true)
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
