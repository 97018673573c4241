//! Which blocks are open: an immutable set that a sync replaces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use engine::block::{BlockInfo, BlockSet, OpenedBlock};
use engine::bucket::BlockObject;
use engine::model::{BlockId, Error};

use super::load::{Loader, Reopened, Standing};
use super::metrics::StoreMetrics;
use crate::sync::{Fetcher, Filters, SyncedBlock, View};
use crate::upkeep::now_ms;

/// How long a block is looked for that was shipped and is never seen in the bucket: as long as half an upload is left
/// alone there.
const LOOKED_FOR_MAX: Duration = Duration::from_secs(48 * 3600);

/// Time after which a block that was open and is gone from the bucket is taken to be gone for good: a listing may
/// miss objects for a while.
const GONE_TIME_MIN: Duration = Duration::from_secs(60 * 60);

/// Blocks that are gone of which that is remembered, the newest.
const GONE_MAX: usize = 100_000;

/// The blocks that are open.
#[derive(Debug, Default)]
pub struct Blocks {
    current: RwLock<Arc<Current>>,
    /// Held by whoever makes the next state of this one, so that none is lost between two of them.
    changing: Mutex<()>,
}

/// One state of the blocks.
#[derive(Debug, Default)]
pub struct Current {
    /// The blocks, those that can't be read among them.
    pub set: Arc<BlockSet>,
    /// What the bucket holds of each that can be read.
    pub synced: BTreeMap<BlockId, SyncedBlock>,
    /// When it was seen in the bucket, in Unix milliseconds; 0: not yet.
    pub refreshed: i64,
    /// When the latest look at the bucket began that saw all of it.
    pub seen: Option<Instant>,
    /// Blocks that were seen then and are not to be answered for, or others are in their place.
    pub left_out: Arc<BTreeSet<BlockId>>,
    /// Blocks that were open or left out and are gone from the bucket, with when that was first seen.
    pub gone: Arc<BTreeMap<BlockId, Instant>>,
    /// Why some blocks could not be seen, if so.
    pub error: Option<String>,
}

/// Keeps the open blocks those of a bucket.
pub struct Syncer {
    /// Sees which blocks there are.
    pub fetcher: Fetcher,
    /// Says which of them count.
    pub filters: Filters,
    /// Opens them.
    pub loader: Loader,
    /// Counts them.
    pub metrics: StoreMetrics,
}

impl Blocks {
    /// The blocks that are open now.
    pub fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts blocks in the place of those with the same ids; what is not open any more stays closed, and what was
    /// opened anew since, with other files, stays as it is.
    fn swap(&self, built: &[Reopened]) {
        if built.is_empty() {
            return;
        }
        self.change(|old| {
            let placed = built.iter().filter(|(block, _)| old.standing(block) == Standing::Open);
            let placed: BTreeMap<BlockId, &Arc<OpenedBlock>> =
                placed.map(|(block, opened)| (block.meta.ulid, opened)).collect();
            let swapped = old.set.blocks().map(|block| placed.get(&block.id()).copied().unwrap_or(block)).cloned();
            let (mut synced, error) = (old.synced.clone(), old.error.clone());
            synced.retain(|id, _| placed.get(id).is_none_or(|block| block.index().is_readable()));
            Current { set: Arc::new(BlockSet::new(swapped)), synced, error, ..old.unchanged() }
        });
    }

    /// Puts what `next` makes of the state in its place; gives both.
    fn change(&self, next: impl FnOnce(&Current) -> Current) -> (Arc<Current>, Arc<Current>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current();
        let new = Arc::new(next(&old));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        (old, new)
    }
}

impl Current {
    /// Whether a block that has been in the bucket since `since` is answered for as well as it will be: it is open, or
    /// one that is was made of it; or all of the bucket was looked at when the block was no longer too fresh, after
    /// `delay`, and it was there and left out, as one that others have replaced or that is not to be answered for; or
    /// it was there once and is gone for good. One that can't be read is not settled: that may pass, and what is kept
    /// here may be the only copy that can be. Nor is one that was never seen there, whatever the bucket said of its
    /// upload, until it has been looked for for days: what an earlier process saw there may be deleted by now.
    pub fn is_settled(&self, id: BlockId, since: Instant, delay: Duration) -> bool {
        if self.synced.contains_key(&id) {
            return true;
        }
        if self.set.get(id).is_some_and(|block| !block.index().is_readable()) {
            return false;
        }
        let was_seen = |since: Instant, after: Duration| {
            self.seen.zip(since.checked_add(after)).is_some_and(|(seen, old_enough)| seen >= old_enough)
        };
        (self.left_out.contains(&id) && was_seen(since, delay))
            || was_seen(since, LOOKED_FOR_MAX)
            || self.gone.get(&id).is_some_and(|since| was_seen(*since, GONE_TIME_MIN))
            || self.synced.values().any(|block| block.meta.compaction.sources.contains(&id))
    }

    /// The same state, for one that has its own `synced` and `error`.
    fn unchanged(&self) -> Self {
        Self {
            set: Arc::clone(&self.set),
            synced: BTreeMap::new(),
            refreshed: self.refreshed,
            seen: self.seen,
            left_out: Arc::clone(&self.left_out),
            gone: Arc::clone(&self.gone),
            error: None,
        }
    }

    /// The blocks that are gone once the bucket was seen whole in a look that began at `begin`.
    fn gone_after(&self, view: &View, begin: Instant) -> BTreeMap<BlockId, Instant> {
        let is_there = |id: &BlockId| view.blocks.contains_key(id) || view.left_out.contains(id);
        let before = self.synced.keys().chain(self.left_out.iter()).map(|id| (*id, begin));
        let known = self.gone.iter().map(|(id, since)| (*id, *since));
        let mut gone: BTreeMap<BlockId, Instant> = before.chain(known).filter(|(id, _)| !is_there(id)).collect();
        while gone.len() > GONE_MAX {
            gone.pop_first();
        }
        gone
    }

    /// How `block` stands that was open with the files that it has.
    fn standing(&self, block: &SyncedBlock) -> Standing {
        match self.synced.get(&block.meta.ulid) {
            Some(now) if index_of(now) != index_of(block) => Standing::Replaced,
            Some(now) if now.files.holds_data_of(&block.files) && has_meta_of(now, block) => Standing::Open,
            Some(_) => Standing::Changed,
            None => Standing::Closed,
        }
    }

    /// Whether a block is to be opened: one that is not open, can't be read, whose files came or grew since, as while
    /// it was copied into the bucket, or whose meta.json says something else than before.
    fn is_to_open(&self, block: &SyncedBlock) -> bool {
        let id = block.meta.ulid;
        let has_changed =
            |before: &SyncedBlock| block.files.has_more_data_than(&before.files) || !has_meta_of(block, before);
        self.set.get(id).is_none_or(|open| !open.index().is_readable()) || self.synced.get(&id).is_some_and(has_changed)
    }
}

impl Syncer {
    /// Opens blocks that are new or have changed and closes those that are gone. Fails when the bucket can't be seen
    /// whole; new blocks are opened even then.
    pub async fn sync(&self, blocks: &Blocks) -> Result<(), Error> {
        let begin = Instant::now();
        let view = match self.fetcher.fetch(&self.filters).await {
            Ok(view) => view,
            Err(error) => {
                blocks.change(|old| {
                    let (synced, error) = (old.synced.clone(), Some(error.to_string()));
                    Current { synced, error, ..old.unchanged() }
                });
                return Err(error);
            }
        };
        let old = blocks.current();
        let new: Vec<&SyncedBlock> = view.blocks.values().filter(|block| old.is_to_open(block)).collect();
        self.forget_changed(&old, &new);
        let mut opened = self.loader.open_all(new).await;
        let unknown =
            |(id, error): (&BlockId, &Error)| Arc::new(OpenedBlock::unreadable(BlockInfo::unknown(*id), error.clone()));
        let unfetched = view.unfetched.iter().filter(|(id, _)| old.set.get(**id).is_none_or(|open| is_unknown(open)));
        opened.extend(view.unreadable.iter().chain(unfetched).map(unknown));
        let stays = |id: BlockId| view.blocks.contains_key(&id) || view.incomplete.is_some();
        let tried: BTreeSet<BlockId> = opened.iter().map(|block| block.id()).collect();
        // Column indexes may have been built while blocks were opened.
        let (old, new) = blocks.change(|old| {
            let is_kept = |block: &OpenedBlock| stays(block.id()) && !tried.contains(&block.id()) && !is_unknown(block);
            let kept = old.set.blocks().filter(|block| is_kept(block)).cloned();
            let set = BlockSet::new(kept.chain(opened));
            let mut synced = old.synced.clone();
            synced.extend(view.blocks.iter().map(|(id, block)| (*id, block.clone())));
            synced.retain(|id, _| set.get(*id).is_some_and(|block| block.index().is_readable()));
            let error = view.incomplete.as_ref().map(ToString::to_string);
            let next = Current { set: Arc::new(set), synced, refreshed: now_ms(), error, ..old.unchanged() };
            if view.incomplete.is_some() {
                return next;
            }
            let (left_out, gone) = (Arc::new(view.left_out.clone()), Arc::new(old.gone_after(&view, begin)));
            Current { seen: Some(begin), left_out, gone, ..next }
        });
        self.metrics.blocks_loaded.set(i64::try_from(new.synced.len()).unwrap_or(i64::MAX));
        self.loader.synced(|block| new.standing(block) == Standing::Open);
        for id in old.synced.keys().copied().filter(|id| !stays(*id)) {
            self.loader.remove(id);
            self.metrics.block_drops.inc();
            tracing::info!(block = %id, "dropped outdated block");
        }
        view.incomplete.map_or(Ok(()), |error| Err(error.within("incomplete view of the bucket")))
    }

    /// Tells which of the blocks that are about to be opened were open before, with other files, and removes what
    /// was made of another index than they have now.
    fn forget_changed(&self, old: &Current, new: &[&SyncedBlock]) {
        for block in new {
            let Some(before) = old.synced.get(&block.meta.ulid) else { continue };
            tracing::info!(block = %block.meta.ulid, "files of a block have changed, opening it anew");
            if index_of(before) != index_of(block) {
                self.loader.remove_columns(block.meta.ulid);
            }
        }
    }

    /// Builds column indexes of blocks that were opened through their index-header, and checks those that were opened
    /// without that, as such blocks come, for ever.
    pub async fn keep_building(&self, blocks: &Blocks) {
        let standing = |block: &SyncedBlock| blocks.current().standing(block);
        let swap = |built: &[Reopened]| blocks.swap(built);
        let building = async {
            loop {
                self.loader.build_pending(standing, swap).await;
            }
        };
        let checking = async {
            loop {
                self.loader.check_pending(standing, swap).await;
            }
        };
        tokio::join!(building, checking);
    }

    /// The first sync: afterwards local files of blocks that are not open are removed.
    pub async fn sync_first(&self, blocks: &Blocks) -> Result<(), Error> {
        self.sync(blocks).await?;
        let current = blocks.current();
        self.loader.remove_others(|id| current.synced.contains_key(&id));
        Ok(())
    }
}

/// Whether the meta.json of both says the same.
fn has_meta_of(block: &SyncedBlock, other: &SyncedBlock) -> bool {
    Arc::ptr_eq(&block.meta, &other.meta) || block.meta == other.meta
}

/// Whether it stands for a block of which nothing is known, as its meta.json can't be read.
fn is_unknown(block: &OpenedBlock) -> bool {
    !block.info().is_known() && !block.index().is_readable()
}

/// What tells a block's index from another one in its place: its length and, of a file, when it was changed last.
fn index_of(block: &SyncedBlock) -> (Option<u64>, Option<i64>) {
    (block.files.len_of(BlockObject::Index), block.files.data_modified.get(&BlockObject::Index).copied())
}

#[cfg(test)]
mod tests {
    use engine::bucket::Meta;
    use engine::model::ErrorKind;

    use super::*;
    use crate::sync::BlockFiles;

    #[test]
    fn a_block_is_settled_once_it_is_open_or_was_left_out_when_it_was_old_enough() {
        let (id, since, second) = (BlockId::from_parts(1, 1), Instant::now(), Duration::from_secs(1));
        let is_settled = |seen: Option<Instant>, delay: Duration| {
            let left_out = Arc::new(BTreeSet::from([id]));
            Current { seen, left_out, ..Current::default() }.is_settled(id, since, delay)
        };
        assert!(!is_settled(None, Duration::ZERO), "nobody has looked");
        assert!(!is_settled(since.checked_sub(second), Duration::ZERO), "it may have come since");
        assert!(is_settled(Some(since), Duration::ZERO));
        assert!(!is_settled(Some(since), second), "it was too fresh then");
        assert!(is_settled(Some(since + second), second));
        assert!(!is_settled(Some(since), Duration::MAX));
        let error = Error::new(ErrorKind::Unavailable, "its index could not be fetched");
        let failed = OpenedBlock::unreadable(BlockInfo::from_meta(&Meta::new(id, 0, 1)), error);
        let set = Arc::new(BlockSet::new([Arc::new(failed)]));
        let left_out = Arc::new(BTreeSet::from([id]));
        let unreadable = Current { set, seen: Some(since + second), left_out, ..Current::default() };
        assert!(!unreadable.is_settled(id, since, Duration::ZERO), "it may be opened later");
        let open = Current { synced: BTreeMap::from([(id, synced(Meta::new(id, 0, 1)))]), ..Current::default() };
        assert!(open.is_settled(id, since, Duration::MAX));
    }

    /// A block whose meta.json a bucket took and did not keep once went from the disk, too.
    #[test]
    fn a_block_that_was_never_seen_is_settled_only_where_an_open_one_was_made_of_it() {
        let (id, since, hours) = (BlockId::from_parts(1, 1), Instant::now(), 10 * GONE_TIME_MIN);
        let looked = Current { seen: Some(since + hours), ..Current::default() };
        assert!(!looked.is_settled(id, since, Duration::ZERO));
        // An earlier process may have seen it there.
        let long = Current { seen: Some(since + LOOKED_FOR_MAX), ..Current::default() };
        assert!(long.is_settled(id, since, Duration::ZERO));
        let mut made = Meta::new(BlockId::from_parts(2, 2), 0, 1);
        made.compaction.sources = vec![id];
        let with_made = Current { synced: BTreeMap::from([(made.ulid, synced(made))]), ..looked };
        assert!(with_made.is_settled(id, since, Duration::ZERO));
    }

    #[test]
    fn a_block_that_was_there_is_settled_once_it_has_been_gone_for_long() {
        let (open, left_out) = (BlockId::from_parts(1, 1), BlockId::from_parts(2, 2));
        let before = Current {
            synced: BTreeMap::from([(open, synced(Meta::new(open, 0, 1)))]),
            left_out: Arc::new(BTreeSet::from([left_out])),
            ..Current::default()
        };
        let begin = Instant::now();
        let next = |old: &Current, view: &View, seen: Instant| {
            let gone = Arc::new(old.gone_after(view, seen));
            Current { seen: Some(seen), gone, ..Current::default() }
        };
        let gone = next(&before, &View::default(), begin);
        let later = next(&gone, &View::default(), begin + GONE_TIME_MIN);
        for id in [open, left_out] {
            assert!(!gone.is_settled(id, begin, Duration::ZERO), "a listing may have missed it");
            assert!(later.is_settled(id, begin, Duration::ZERO));
        }
        let back = View { left_out: BTreeSet::from([open, left_out]), ..View::default() };
        assert!(next(&gone, &back, begin + GONE_TIME_MIN).gone.is_empty());
    }

    fn synced(meta: Meta) -> SyncedBlock {
        SyncedBlock { meta: Arc::new(meta), files: BlockFiles::default(), deletion_mark: None }
    }

    #[test]
    fn a_block_whose_meta_says_something_else_has_changed() {
        let id = BlockId::from_parts(1, 1);
        let block = |max_time| {
            let meta = Arc::new(Meta::new(id, 0, max_time));
            SyncedBlock { meta, files: BlockFiles::default(), deletion_mark: None }
        };
        let current = Current { synced: BTreeMap::from([(id, block(1))]), ..Current::default() };
        assert_eq!(current.standing(&block(1)), Standing::Open);
        assert_eq!(current.standing(&block(2)), Standing::Changed);
    }
}
