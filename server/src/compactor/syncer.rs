//! Which blocks there are to work on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::bucket::{BlockObject, Meta};
use engine::model::{BlockId, Error, ErrorKind};

use crate::api::http::blocks::{BlockViewer, View as Viewed};
use crate::sync::{Fetcher, Filters, SyncedBlock, View};

/// Sees the blocks that a compactor works on.
pub struct Syncer {
    fetcher: Fetcher,
    filters: Filters,
    /// Longest time of a sync; none for no limit.
    time_max: Option<Duration>,
    viewer: Option<BlockViewer>,
    latest: Mutex<Arc<View>>,
    one: tokio::sync::Mutex<()>,
}

impl Syncer {
    /// A syncer that has seen nothing; `viewer` shows what it sees.
    pub fn new(fetcher: Fetcher, filters: Filters, time_max: Option<Duration>, viewer: Option<BlockViewer>) -> Self {
        Self { fetcher, filters, time_max, viewer, latest: Mutex::default(), one: Default::default() }
    }

    /// What the bucket holds now. A view from which blocks are missing is an error: what is not there
    /// could be taken for what is gone; a block that is gone suddenly is looked for once more. A sync that
    /// began earlier is not shared: it may not have seen what the caller has just written.
    pub async fn sync(&self) -> Result<Arc<View>, Error> {
        let _one = self.one.lock().await;
        let mut fetched = self.fetch().await;
        if let Ok(view) = &fetched
            && let Some(id) = self.missing_in(view)
        {
            // A listing may have missed it: what is merged around it would overlap it for good.
            tracing::warn!(block = %id, "a block is gone that was not marked for deletion; looking again");
            fetched = self.fetch().await;
        }
        if let (Err(error), Some(viewer)) = (&fetched, &self.viewer) {
            viewer.show_error(Viewed::Loaded, &error.to_string());
        }
        let view = Arc::new(fetched?);
        if let Some(viewer) = &self.viewer {
            viewer.show(Viewed::Loaded, &view.blocks);
        }
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&view);
        Ok(view)
    }

    /// What was seen last.
    pub fn latest(&self) -> Arc<View> {
        Arc::clone(&self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A block of the last view that was not to be deleted, and is not in `view`.
    fn missing_in(&self, view: &View) -> Option<BlockId> {
        let latest = self.latest();
        let mut kept = latest.blocks.iter().filter(|(_, block)| block.deletion_mark.is_none()).map(|(id, _)| *id);
        kept.find(|id| !view.blocks.contains_key(id) && !view.marked.contains_key(id) && !view.duplicates.contains(id))
    }

    async fn fetch(&self) -> Result<View, Error> {
        let fetch = self.fetcher.fetch(&self.filters);
        let view = match self.time_max {
            None => fetch.await?,
            Some(time) => tokio::time::timeout(time, fetch).await.unwrap_or_else(|_| {
                let message = format!("the bucket was not seen within {time:?}, the time of --wait-interval");
                Err(Error::new(ErrorKind::Deadline, message))
            })?,
        };
        if let Some(error) = view.incomplete {
            return Err(error.within("incomplete view"));
        }
        match view.unknown.first_key_value() {
            // Its time and labels are not known: what lies around it may not be merged, or it would overlap.
            Some((id, error)) => {
                let message = format!(
                    "incomplete view: {error}; nothing is compacted until block {id} is moved away or a version runs \
                     that knows it"
                );
                Err(Error::new(error.kind(), message))
            }
            None => Ok(view),
        }
    }
}

/// What the blocks of a view say of themselves. Those without external labels are left out: nobody knows
/// whose they are, so what is made of them would not be accepted by any reader. So are those that hold nothing
/// and are marked for deletion: what is made of them is nothing again.
pub fn metas(view: &View) -> Vec<Arc<Meta>> {
    let has_labels = |meta: &Meta| meta.thanos.as_ref().is_some_and(|thanos| !thanos.labels.is_empty());
    let is_done = |block: &SyncedBlock| block.meta.stats.num_samples == 0 && block.deletion_mark.is_some();
    let blocks = view.blocks.values().filter(|block| has_labels(&block.meta) && !is_done(block));
    blocks.map(|block| Arc::clone(&block.meta)).collect()
}

/// The blocks of a view that have a marker.
pub fn marked(view: &View, object: BlockObject) -> BTreeSet<BlockId> {
    let has = view.blocks.iter().filter(|(_, block)| block.files.len_of(object).is_some());
    has.map(|(id, _)| *id).collect()
}
