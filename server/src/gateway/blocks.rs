//! Which blocks are open: an immutable set that a sync replaces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use engine::block::{BlockInfo, BlockSet, OpenedBlock};
use engine::bucket::BlockObject;
use engine::model::{BlockId, Error};

use super::load::{Loader, Reopened, Standing};
use super::metrics::StoreMetrics;
use crate::sync::{Fetcher, Filters, SyncedBlock};
use crate::upkeep::now_ms;

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
            Current { set: Arc::new(BlockSet::new(swapped)), synced, refreshed: old.refreshed, error }
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
    /// How `block` stands that was open with the files that it has.
    fn standing(&self, block: &SyncedBlock) -> Standing {
        match self.synced.get(&block.meta.ulid) {
            Some(now) if index_len(now) != index_len(block) => Standing::Replaced,
            Some(now) if now.files.holds_data_of(&block.files) => Standing::Open,
            Some(_) => Standing::Changed,
            None => Standing::Closed,
        }
    }

    /// Whether a block is to be opened: one that is not open, can't be read, or whose files came or grew since, as
    /// while it was copied into the bucket.
    fn is_to_open(&self, block: &SyncedBlock) -> bool {
        let id = block.meta.ulid;
        let has_grown = |before: &SyncedBlock| block.files.has_more_data_than(&before.files);
        self.set.get(id).is_none_or(|open| !open.index().is_readable()) || self.synced.get(&id).is_some_and(has_grown)
    }
}

impl Syncer {
    /// Opens blocks that are new or have changed and closes those that are gone. Fails when the bucket can't be seen
    /// whole; new blocks are opened even then.
    pub async fn sync(&self, blocks: &Blocks) -> Result<(), Error> {
        let view = match self.fetcher.fetch(&self.filters).await {
            Ok(view) => view,
            Err(error) => {
                blocks.change(|old| {
                    let (set, synced) = (Arc::clone(&old.set), old.synced.clone());
                    Current { set, synced, refreshed: old.refreshed, error: Some(error.to_string()) }
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
        opened.extend(view.unreadable.iter().map(unknown));
        let stays = |id: BlockId| view.blocks.contains_key(&id) || view.incomplete.is_some();
        let tried: BTreeSet<BlockId> = opened.iter().map(|block| block.id()).collect();
        // Column indexes may have been built while blocks were opened.
        let (old, new) = blocks.change(|old| {
            let kept = old.set.blocks().filter(|block| stays(block.id()) && !tried.contains(&block.id())).cloned();
            let set = BlockSet::new(kept.chain(opened));
            let mut synced = old.synced.clone();
            synced.extend(view.blocks.iter().map(|(id, block)| (*id, block.clone())));
            synced.retain(|id, _| set.get(*id).is_some_and(|block| block.index().is_readable()));
            let error = view.incomplete.as_ref().map(ToString::to_string);
            Current { set: Arc::new(set), synced, refreshed: now_ms(), error }
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
            if index_len(before) != index_len(block) {
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

fn index_len(block: &SyncedBlock) -> Option<u64> {
    block.files.len_of(BlockObject::Index)
}
