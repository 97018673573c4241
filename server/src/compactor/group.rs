//! One group of blocks: plan, fetch, merge, verify, upload, mark.
//!
//! ```text
//! <data dir>/compact/<group>/<ULID>/    a source that was fetched, or the result before its upload
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::bucket::Meta;
use engine::bucket::marker::reason;
use engine::bucket::meta::source;
use engine::compact::group::Group;
use engine::compact::plan::{NewMark, Plan, Planned, Vertical};
use engine::compact::source::SourceFault;
use engine::compact::{MergeOptions, Merged, Repair, SourceBlock, Target, Written, merge, repair, settle_written};
use engine::model::{BlockId, Error};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::trouble::Trouble;
use super::{Compactor, OutOfOrder};
use crate::upkeep::transfer::{Origin, data_listed, fetched};
use crate::upkeep::{index_len, mark, new_block_id};

/// Whether a group may have more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has nothing left.
    Done,
    /// It may have.
    Again,
}

/// Sources that may be merged, or what is to be done about one that may not.
enum Opened {
    Sources(Vec<SourceBlock>),
    Faulty(Arc<Meta>, SourceFault),
}

impl Compactor {
    /// Merges what is to be merged next in a group, of which the blocks of `marked` are left as they are.
    pub(super) async fn merge_group(&self, group: &Group, marked: &BTreeSet<BlockId>) -> Result<Outcome, Trouble> {
        let metrics = self.metrics.group(group.resolution);
        metrics.started.inc();
        let dir = self.group_dir(group);
        let outcome = self.fetched_anew_once(&dir, || self.merge_in(group, marked, &dir)).await;
        match &outcome {
            Ok(_) => {
                metrics.completed.inc();
                remove(&dir);
            }
            Err(trouble) => {
                metrics.failures.inc();
                if let Trouble::Halt(_) = trouble {
                    // What was fetched would only fill the disk until somebody has looked.
                    remove(&dir);
                }
            }
        }
        outcome
    }

    async fn merge_in(&self, group: &Group, marked: &BTreeSet<BlockId>, dir: &Path) -> Result<Outcome, Trouble> {
        let is_vertical = self.settings.planner.vertical == Vertical::Enabled;
        let overlaps = group.overlaps();
        if let Some(error) = overlaps.clone().filter(|_| !is_vertical) {
            return Err(Trouble::Halt(error));
        }
        let plan = self.plan(group, marked).await.map_err(Trouble::of)?;
        for new in &plan.marks {
            self.mark_for_no_compaction(new).await.map_err(Trouble::Retry)?;
        }
        let plan = plan.compact;
        if plan.is_empty() {
            return Ok(Outcome::Done);
        }
        let names = plan.iter().map(|meta| meta.ulid.to_string()).collect::<Vec<_>>().join(" ");
        tracing::info!(group = group.key, plan = names, "compaction available and planned");
        if let Some(error) = Group::shared_sources(&plan) {
            if !is_vertical {
                return Err(Trouble::Halt(error));
            }
            tracing::warn!(%error, "overlapping sources detected for plan");
        }
        let sources = match self.open(&plan, dir).await? {
            Opened::Sources(sources) => sources,
            Opened::Faulty(meta, fault) => return self.mend(group, &meta, fault, dir).await,
        };
        let target = self.target(group, dir);
        let plan_overlaps = plan.windows(2).any(|pair| pair[1].min_time < pair[0].max_time);
        let under_way = self.metrics.merges.begin();
        let merged = self.merge(sources, target.clone()).await;
        under_way.count(plan_overlaps);
        let written = match merged? {
            Some(written) => written,
            None => return self.mark_empty(&plan).await,
        };
        let metrics = self.metrics.group(group.resolution);
        metrics.merged.inc();
        if overlaps.is_some() {
            metrics.vertical.inc();
        }
        let ids: Vec<BlockId> = plan.iter().map(|meta| meta.ulid).collect();
        if let Some(error) = group.overlaps_with(&written.meta, &ids).filter(|_| !is_vertical) {
            return Err(Trouble::Halt(error));
        }
        self.publish(written, dir).await?;
        for id in ids {
            let marked = mark::for_deletion(&self.bucket, id, "source of compacted block").await;
            self.metrics.count_deletion_mark(marked.map_err(|error| Trouble::Retry(error.within("mark old block")))?);
            self.metrics.garbage_blocks.inc();
        }
        tracing::info!(group = group.key, result = %target.id, sources = names, "finished compacting blocks");
        Ok(Outcome::Again)
    }

    /// Removes what earlier runs have left in the folder of work, but for sources that are still there:
    /// these need not be fetched again.
    pub(super) fn clear_work(&self, groups: &[Group]) {
        let root = self.settings.data_dir.join("compact");
        for key in names_in(&root) {
            let Some(group) = groups.iter().find(|group| group.key == key) else {
                remove(&root.join(&key));
                continue;
            };
            let dir = root.join(&key);
            for name in names_in(&dir) {
                if !group.metas.iter().any(|meta| meta.ulid.to_string() == name) {
                    remove(&dir.join(name));
                }
            }
        }
    }

    /// The plan of a group; sizes of indexes that meta.json doesn't tell are looked up.
    async fn plan(&self, group: &Group, marked: &BTreeSet<BlockId>) -> Result<Plan, Error> {
        let mut sizes = BTreeMap::new();
        loop {
            match self.settings.planner.plan(&group.metas, marked, &sizes) {
                Planned::Ready(plan) => return Ok(plan),
                Planned::NeedsIndexSize(id) => {
                    sizes.insert(id, index_len(&self.bucket, id).await?);
                }
            }
        }
    }

    async fn mark_for_no_compaction(&self, new: &NewMark) -> Result<(), Error> {
        let marked = mark::for_no_compaction(&self.bucket, new.id, (new.reason, &new.details)).await?;
        self.metrics.count_no_compact_mark(new.reason, marked);
        Ok(())
    }

    /// Fetches the blocks of a plan and looks at their indexes.
    async fn open(&self, plan: &[Arc<Meta>], dir: &Path) -> Result<Opened, Trouble> {
        let failed = |error: Error| Trouble::Retry(error.within("download block"));
        if self.bucket.folder().is_none() {
            // Of a plan of which a file is missing nothing is fetched, as that would be again and again.
            for meta in plan {
                data_listed(&self.bucket, meta, &dir.join(meta.ulid.to_string())).await.map_err(failed)?;
            }
        }
        let fetches = plan.iter().map(|meta| async {
            let to = dir.join(meta.ulid.to_string());
            fetched(&self.settings.transfer, &self.bucket, meta, &to).await
        });
        // In their order, so that the same fault is told each time.
        let dirs = stream::iter(fetches).buffered(self.settings.fetches.max(1)).try_collect::<Vec<PathBuf>>();
        let dirs = dirs.await.map_err(failed)?;
        let opens = dirs.into_iter().map(|dir| {
            self.apart("compact-open", move || {
                let source = SourceBlock::open(&dir)?;
                let health = source.health()?;
                Ok((source, health))
            })
        });
        let opened = stream::iter(opens).buffered(self.settings.workers.readers()).collect::<Vec<_>>().await;
        let mut sources = Vec::new();
        for (opened, meta) in opened.into_iter().zip(plan) {
            let (source, health) = opened.and_then(|opened| opened).map_err(Trouble::of)?;
            if let Err(fault) = source.judge(&health, self.settings.malformed) {
                return Ok(Opened::Faulty(Arc::clone(meta), fault));
            }
            sources.push(source);
        }
        Ok(Opened::Sources(sources))
    }

    /// Does about a faulty source what can be done.
    async fn mend(&self, group: &Group, meta: &Meta, fault: SourceFault, dir: &Path) -> Result<Outcome, Trouble> {
        let id = meta.ulid;
        match fault {
            SourceFault::OutOfOrderChunks(error) if self.settings.out_of_order == OutOfOrder::Mark => {
                tracing::warn!(%error, "block is left out of compaction from now on");
                let details = "OutofOrderChunk: marking block with out-of-order series/chunks to as no compact to \
                               unblock compaction";
                let new = NewMark { id, reason: reason::OUT_OF_ORDER_CHUNKS, details: details.into() };
                self.mark_for_no_compaction(&new).await.map_err(Trouble::Retry)?;
                Ok(Outcome::Again)
            }
            SourceFault::OutsideChunks(error) => {
                tracing::info!(%error, "repairing block broken by https://github.com/prometheus/tsdb/issues/347");
                let from = fetched(&self.settings.transfer, &self.bucket, meta, &dir.join(id.to_string())).await;
                let from = from.map_err(Trouble::Retry)?;
                let labels = meta.thanos.as_ref().map(|thanos| thanos.labels.clone()).unwrap_or_default();
                let target = Target { labels, source: source::COMPACTOR_REPAIR, ..self.target(group, dir) };
                let stop = self.stop();
                let repaired = self.apart("compact-repair", move || {
                    repair(SourceBlock::open(&from)?, &target, Repair::DropOutside, &stop)
                });
                match repaired.await.map_err(Trouble::of)?.map_err(Trouble::of)? {
                    Merged::Block(written) => self.publish(*written, dir).await?,
                    Merged::Empty => return Err(Trouble::Halt(error.within("repairing it leaves nothing"))),
                }
                let marked = mark::for_deletion(&self.bucket, id, "source of repaired block").await;
                self.metrics.count_deletion_mark(marked.map_err(Trouble::Retry)?);
                Ok(Outcome::Again)
            }
            other => Err(Trouble::Halt(other.error().clone().within("block with not healthy index found"))),
        }
    }

    /// Merges sources; `None` when no sample is left.
    async fn merge(&self, sources: Vec<SourceBlock>, target: Target) -> Result<Option<Written>, Trouble> {
        let options = MergeOptions {
            replicas: self.settings.replicas,
            workers: self.settings.workers.clone(),
            ..MergeOptions::default()
        };
        let stop = self.stop();
        let merged = self.apart("compact-merge", move || merge(sources, &target, &options, &stop));
        match merged.await.map_err(Trouble::of)?.map_err(Trouble::of)? {
            Merged::Block(written) => {
                let stats = &written.stats;
                tracing::info!(
                    result = %written.meta.ulid,
                    series = stats.series,
                    chunks_copied = stats.chunks_copied,
                    chunks_encoded = stats.chunks_encoded,
                    bytes_read = stats.bytes_read,
                    bytes_written = stats.bytes_written,
                    "compacted blocks"
                );
                Ok(Some(*written))
            }
            Merged::Empty => Ok(None),
        }
    }

    /// Reads a block back from the folder that it was written to, then uploads it.
    pub(super) async fn publish(&self, written: Written, dir: &Path) -> Result<(), Trouble> {
        let id = written.meta.ulid;
        let path = dir.join(id.to_string());
        let (verified, workers) = (path.clone(), self.settings.workers.clone());
        let checked = self.apart("compact-verify", move || settle_written(&verified, &workers)).await;
        checked.map_err(Trouble::of)?.map_err(Trouble::of)?;
        let uploaded = self.settings.transfer.upload_new(&self.bucket, &path, written.meta, Origin::Labelled).await;
        uploaded.map_err(|error| Trouble::of(error.within(format_args!("upload of {id} failed"))))?;
        tracing::info!(block = %id, "uploaded block");
        remove(&path);
        Ok(())
    }

    /// Marks the blocks of a plan that hold nothing.
    async fn mark_empty(&self, plan: &[Arc<Meta>]) -> Result<Outcome, Trouble> {
        tracing::info!("no compacted blocks, deleting source blocks that hold nothing");
        let mut outcome = Outcome::Done;
        for meta in plan.iter().filter(|meta| meta.stats.num_samples == 0) {
            let marked = mark::for_deletion(&self.bucket, meta.ulid, "source of compacted block").await;
            self.metrics.count_deletion_mark(marked.map_err(Trouble::Retry)?);
            outcome = Outcome::Again;
        }
        Ok(outcome)
    }

    fn target(&self, group: &Group, dir: &Path) -> Target {
        Target {
            parent: dir.to_owned(),
            id: new_block_id(),
            labels: group.labels.to_map(),
            extensions: group.extensions.clone(),
            source: source::COMPACTOR,
        }
    }

    fn group_dir(&self, group: &Group) -> PathBuf {
        self.settings.data_dir.join("compact").join(&group.key)
    }
}

/// Names of what is in a folder.
pub(super) fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Removes a folder of work; what stays behind is removed at the next start.
pub(super) fn remove(dir: &Path) {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(dir = %dir.display(), %error, "cannot remove a folder of work");
        }
        _ => {}
    }
}
