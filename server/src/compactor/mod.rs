//! The compactor: runs over the blocks of a bucket again and again, each time merging what belongs
//! together, downsampling what is long enough, marking what is past its retention and cleaning up.
//!
//! Whatever breaks off a run leaves a bucket that the next run mends: a result is visible only when it
//! is whole, its sources are marked only then, and what is marked is deleted after a delay.

/// Threads for work that takes processor time, below the priority of all others.
mod background;
/// Raw data to five minutes to an hour.
mod downsample;
/// One group of blocks.
mod group;
/// `thanos_compact_*`.
pub mod metrics;
/// Which blocks there are to work on.
pub mod syncer;
/// What went wrong, by what to do about it.
pub mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::bucket::BlockObject;
use engine::compact::backlog::{Backlog, compactions_left, deletions_left, downsamples_left};
use engine::compact::group::{Group, groups};
use engine::compact::plan::Planner;
use engine::compact::retention::{Downsampling, Retention};
use engine::compact::source::Malformed;
use engine::compact::{Replicas, Watch, Workers};
use engine::model::{BlockId, Error, Resolution};
use futures_util::{StreamExt, stream};

use self::group::Outcome;
use self::metrics::CompactMetrics;
use self::syncer::Syncer;
use self::trouble::{Trouble, Troubles};
use crate::objstore::Bucket;
use crate::sync::View;
use crate::threads::Threads;
use crate::upkeep::transfer::Transfer;
use crate::upkeep::{clean, mark, now_ms};

pub use background::{Priority, run_compactor};

/// What becomes of blocks with chunks out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfOrder {
    /// Their group halts.
    Halt,
    /// They are marked for no compaction, and their group goes on.
    Mark,
}

/// How blocks are worked on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder for blocks in the making.
    pub data_dir: PathBuf,
    /// What is merged.
    pub planner: Planner,
    /// How replicas become one.
    pub replicas: Replicas,
    /// Whether blocks are downsampled.
    pub downsampling: Downsampling,
    /// How long blocks are kept.
    pub retention: Retention,
    /// Time from a block's deletion mark to its deletion.
    pub delete_delay: Duration,
    /// How files are moved.
    pub transfer: Transfer,
    /// Blocks of a merge that are fetched at once.
    pub fetches: usize,
    /// Groups that are merged at once.
    pub merges: usize,
    /// Blocks that are downsampled at once.
    pub downsamples: usize,
    /// Who works on merges and downsampling besides the thread that each has.
    pub workers: Workers,
    /// Blocks with chunks out of order.
    pub out_of_order: OutOfOrder,
    /// Indexes with labels out of order.
    pub malformed: Malformed,
}

/// What a group or block was when it halted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Halted {
    blocks: Vec<BlockId>,
    /// Those of them that have a no-compact mark.
    unmerged: Vec<BlockId>,
}

impl Halted {
    fn of_group(group: &Group, marked: &BTreeSet<BlockId>) -> Self {
        let blocks: Vec<BlockId> = group.metas.iter().map(|meta| meta.ulid).collect();
        let unmerged = blocks.iter().copied().filter(|id| marked.contains(id)).collect();
        Self { blocks, unmerged }
    }

    fn of_block(id: BlockId) -> Self {
        Self { blocks: vec![id], unmerged: Vec::new() }
    }
}

/// Works on the blocks of a bucket.
pub struct Compactor {
    bucket: Bucket,
    syncer: Syncer,
    settings: Settings,
    metrics: CompactMetrics,
    /// Groups and blocks that are left alone until their blocks or the marks of these change, and what they were.
    halted: Mutex<BTreeMap<String, Halted>>,
    /// Groups and blocks that could not be worked on in this run, and how often.
    failed: Mutex<BTreeMap<String, usize>>,
    cleaning: tokio::sync::Mutex<()>,
    threads: Threads,
    stop: Stop,
}

/// Tells work under way to end; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Work is to end.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Watch for Stop {
    fn is_canceled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Compactor {
    /// A compactor of the blocks of `bucket` that `syncer` sees.
    pub fn new(bucket: Bucket, syncer: Syncer, settings: Settings, metrics: CompactMetrics) -> Self {
        metrics.delete_delay.set(settings.delete_delay.as_secs_f64());
        Self {
            bucket,
            syncer,
            settings,
            metrics,
            halted: Mutex::default(),
            failed: Mutex::default(),
            cleaning: Default::default(),
            threads: Threads::named("compact"),
            stop: Stop::default(),
        }
    }

    /// What it counts.
    pub fn metrics(&self) -> &CompactMetrics {
        &self.metrics
    }

    /// Tells its work to end.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Does everything that there is to do. A group or block that can't be worked on is left behind, and
    /// everything else goes on; the error tells of all that was left.
    pub async fn run_once(&self) -> Result<(), Troubles> {
        let mut troubles = Troubles::default();
        self.lock_failed().clear();
        troubles.take(self.merge_all().await);
        if self.settings.downsampling == Downsampling::Enabled {
            troubles.take(self.downsample_twice().await);
        }
        let retained = self.retain(&troubles).await;
        troubles.take(retained.map_err(Troubles::retry));
        troubles.take(self.clean_partial().await.map_err(Troubles::retry));
        self.metrics.halted.set(i64::from(!self.lock_halted().is_empty()));
        troubles.into_result()
    }

    /// Downsamples everything that is to be: what the first pass makes of raw data, the second one makes
    /// coarser.
    pub async fn downsample_twice(&self) -> Result<(), Troubles> {
        let mut troubles = Troubles::default();
        for pass in ["first", "second"] {
            tracing::info!(pass, "start pass of downsampling");
            troubles.take(self.downsample_all().await);
        }
        tracing::info!("downsampling iterations done");
        troubles.into_result()
    }

    /// Deletes what broken-off uploads have left.
    pub async fn clean_partial(&self) -> Result<(), Error> {
        let _one = self.cleaning.lock().await;
        let view = self.syncer.latest();
        clean::partial_uploads(&self.bucket, &view, &self.metrics.clean).await;
        self.metrics.cleanups.inc();
        Ok(())
    }

    /// Counts what is left to do, and publishes it.
    pub async fn count_backlog(&self) -> Result<Backlog, Error> {
        let view = self.syncer.sync().await?;
        let metas = syncer::metas(&view);
        let groups = groups(metas.iter().cloned());
        let (compactions, compaction_blocks) =
            compactions_left(&groups, &self.settings.planner, &syncer::marked(&view, BlockObject::NoCompactMark));
        let downsample_blocks = match self.settings.downsampling {
            Downsampling::Enabled => downsamples_left(&groups)?,
            Downsampling::Disabled => 0,
        };
        let deletion_blocks = deletions_left(&metas, &self.settings.retention, now_ms());
        let backlog = Backlog { compactions, compaction_blocks, downsample_blocks, deletion_blocks };
        self.metrics.publish_backlog(&backlog);
        Ok(backlog)
    }

    /// Merges until no group has anything left.
    async fn merge_all(&self) -> Result<(), Troubles> {
        let mut troubles = Troubles::default();
        loop {
            tracing::info!("start sync of metas");
            let view = self.syncer.sync().await.map_err(Troubles::retry)?;
            let deleted = clean::marked(&self.bucket, &view, self.settings.delete_delay, &self.metrics.clean).await;
            let deleted = deleted.map_err(Troubles::retry)?;
            self.collect_garbage(&view, &deleted).await.map_err(Troubles::retry)?;
            let marked = syncer::marked(&view, BlockObject::NoCompactMark);
            let mut groups = groups(syncer::metas(&view));
            self.forget_changed(&groups, (&marked, &syncer::marked(&view, BlockObject::NoDownsampleMark)));
            self.clear_work(&groups);
            groups.retain(|group| group.metas.len() > 1 && !self.is_left_behind(&group.key));
            tracing::info!(groups = groups.len(), "start of compactions");
            let marked = &marked;
            let runs = groups.iter().map(|group| async move { (group, self.merge_group(group, marked).await) });
            let mut runs = stream::iter(runs).buffer_unordered(self.settings.merges.max(1));
            let mut again = false;
            while let Some((group, outcome)) = runs.next().await {
                match outcome {
                    Ok(outcome) => again |= outcome == Outcome::Again,
                    Err(trouble) => {
                        self.leave_behind(&group.key, Halted::of_group(group, marked), &trouble);
                        troubles.push(trouble.within(format_args!("group {}", group.key)));
                    }
                }
            }
            if !again || self.stop.is_canceled() {
                tracing::info!("compaction iterations done");
                return troubles.into_result();
            }
        }
    }

    /// Marks blocks for deletion whose data others hold.
    async fn collect_garbage(&self, view: &View, deleted: &BTreeSet<BlockId>) -> Result<(), Error> {
        let begin = Instant::now();
        for id in &view.duplicates {
            if view.marked.contains_key(id) || deleted.contains(id) {
                continue;
            }
            tracing::info!(block = %id, "marking outdated block for deletion");
            let marked = mark::for_deletion(&self.bucket, *id, "outdated block").await;
            let marked = marked.map_err(|error| {
                self.metrics.garbage_failures.inc();
                error.within(format_args!("mark block {id} for deletion"))
            })?;
            self.metrics.count_deletion_mark(marked);
            self.metrics.garbage_blocks.inc();
        }
        self.metrics.garbage_collections.inc();
        self.metrics.garbage_duration.observe(begin.elapsed().as_secs_f64());
        Ok(())
    }

    /// Marks blocks for deletion that are past their retention. Those that wait to be downsampled, as they or
    /// their group could not be worked on in a run with these troubles, stay: nothing else holds their data.
    async fn retain(&self, troubles: &Troubles) -> Result<(), Error> {
        if self.stop.is_canceled() {
            return Ok(());
        }
        let view = self.syncer.sync().await?;
        let (now, waiting) = (now_ms(), self.waiting(&view, troubles));
        for (id, block) in &view.blocks {
            let Some(details) = self.settings.retention.expired(&block.meta, now) else { continue };
            if block.deletion_mark.is_some() {
                continue;
            }
            if waiting.contains(id) {
                tracing::warn!(%id, details, "block stays: it waits for its group, or for being downsampled, which failed");
                continue;
            }
            tracing::info!(%id, details, "applying retention: marking block for deletion");
            self.metrics.count_deletion_mark(mark::for_deletion(&self.bucket, *id, &details).await?);
        }
        tracing::info!("optional retention apply done");
        Ok(())
    }

    /// Blocks of `view` that are to be downsampled, they or what their group is merged into, but failed; all of them
    /// where it was nothing of theirs that went wrong.
    fn waiting(&self, view: &View, troubles: &Troubles) -> BTreeSet<BlockId> {
        if self.settings.downsampling == Downsampling::Disabled {
            return BTreeSet::new();
        }
        let all_wait = troubles.len() > self.lock_failed().values().sum();
        let groups = groups(syncer::metas(view));
        let finer = groups.iter().filter(|group| group.resolution < Resolution::ONE_HOUR);
        let waiting = finer.flat_map(|group| {
            let is_left = all_wait || self.is_left_behind(&group.key);
            group.metas.iter().filter(move |meta| is_left || self.is_left_behind(&downsample::key(meta)))
        });
        waiting.map(|meta| meta.ulid).collect()
    }

    /// Does `work` apart from the threads that wait for the bucket; what panics is an error of the work called `name`.
    async fn apart<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.threads.run(work).await.map_err(|error| error.within(name))
    }

    /// What `work` comes to with the blocks that it fetches into the folder `dir`. A file may have been damaged on its
    /// way here: then they are fetched anew, once.
    async fn fetched_anew_once<T, F>(&self, dir: &Path, work: impl Fn() -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        match work().await {
            Err(trouble) if self.bucket.folder().is_none() && trouble.is_corruption() => {
                tracing::warn!(folder = %dir.display(), error = %trouble, "fetching what is in this folder anew, once");
                group::remove(dir);
                work().await
            }
            outcome => outcome,
        }
    }

    /// Leaves a group or block alone from now on, when its trouble asks for it.
    fn leave_behind(&self, key: &str, halted: Halted, trouble: &Trouble) {
        *self.lock_failed().entry(key.to_owned()).or_default() += 1;
        if let Trouble::Halt(error) = trouble {
            tracing::error!(group = key, %error, "critical error detected; halting this group, others go on");
            self.lock_halted().insert(key.to_owned(), halted);
            self.metrics.halted.set(1);
        } else {
            tracing::warn!(group = key, error = %trouble, "cannot be worked on now, tried again in the next run");
        }
    }

    fn is_halted(&self, key: &str) -> bool {
        self.lock_halted().contains_key(key)
    }

    /// Whether a group or block could not be worked on, in this run or until it changes.
    fn is_left_behind(&self, key: &str) -> bool {
        self.is_halted(key) || self.lock_failed().contains_key(key)
    }

    /// Tries groups again whose blocks and no-compact marks are no longer those with which they halted, and forgets
    /// blocks that are gone or have got a no-downsample mark.
    fn forget_changed(&self, groups: &[Group], (unmerged, unsampled): (&BTreeSet<BlockId>, &BTreeSet<BlockId>)) {
        self.lock_halted().retain(|key, halted| {
            if key.starts_with(downsample::HALTED_PREFIX) {
                let waits = |id: BlockId| halted.blocks.contains(&id) && !unsampled.contains(&id);
                return groups.iter().any(|group| group.metas.iter().any(|meta| waits(meta.ulid)));
            }
            let group = groups.iter().find(|group| group.key == *key);
            group.is_some_and(|group| Halted::of_group(group, unmerged) == *halted)
        });
    }

    fn lock_failed(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, usize>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_halted(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Halted>> {
        self.halted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
