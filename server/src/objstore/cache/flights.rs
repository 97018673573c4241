//! Pages on their way from the bucket: whoever needs one that is being fetched already waits for it.
//!
//! ```text
//! first reader    pages 0..6 ─ one request, a task of its own ─┬─▶ its pages
//! second reader   pages 3..6 ──────────────── wait ────────────┘
//!                 pages 6..9 ─ another request ──────────────────▶ the rest
//! ```
//! A request belongs to all who wait for it: it goes on when its first reader goes away, or is slow, and
//! ends when nobody is left. When it fails, its first reader fails, and the others ask for themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use engine::model::{Error, ErrorKind};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::pages::PageKey;

/// The pages of a bucket that are on their way.
#[derive(Debug, Default)]
pub struct Flights(Mutex<HashMap<PageKey, Weak<Flight>>>);

/// A look at the pages that are on their way, during which none is added by anybody else.
pub struct Board<'f> {
    flights: &'f Arc<Flights>,
    flying: MutexGuard<'f, HashMap<PageKey, Weak<Flight>>>,
}

/// A run of pages on its way.
#[derive(Debug)]
pub struct Flight {
    flights: Arc<Flights>,
    /// Pages that follow each other.
    keys: Vec<PageKey>,
    arrived: watch::Receiver<Option<Result<Bytes, Error>>>,
    task: AbortHandle,
}

impl Flights {
    /// What is on its way now.
    pub fn board(self: &Arc<Self>) -> Board<'_> {
        Board { flights: self, flying: self.lock() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PageKey, Weak<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board<'_> {
    /// The flight that brings a page. It must not be dropped before the board is.
    pub fn find(&self, key: &PageKey) -> Option<Arc<Flight>> {
        self.flying.get(key).and_then(Weak::upgrade)
    }

    /// Fetches pages that follow each other, at least one; `fetch` gives their bytes, on a task of its own.
    pub fn begin(
        &mut self,
        keys: &[PageKey],
        fetch: impl Future<Output = Result<Bytes, Error>> + Send + 'static,
    ) -> Arc<Flight> {
        let (sender, arrived) = watch::channel(None);
        let task = tokio::spawn(async move {
            sender.send_replace(Some(fetch.await));
        });
        let flights = Arc::clone(self.flights);
        let flight = Arc::new(Flight { flights, keys: keys.to_vec(), arrived, task: task.abort_handle() });
        self.flying.extend(keys.iter().map(|key| (*key, Arc::downgrade(&flight))));
        flight
    }
}

impl Flight {
    /// Waits for the bytes of all pages.
    pub async fn arrived(&self) -> Result<Bytes, Error> {
        let mut arrived = self.arrived.clone();
        let lost = || Error::new(ErrorKind::Bug, "fetching pages of the bucket panicked");
        let found = arrived.wait_for(Option::is_some).await.map_err(|_| lost())?;
        found.clone().unwrap_or_else(|| Err(lost()))
    }

    /// The page `key` among `bytes`, which have arrived.
    pub fn page(&self, bytes: &Bytes, key: &PageKey) -> Option<Bytes> {
        let before = key.page.checked_sub(self.keys.first()?.page)?;
        let start = (u64::from(before) * u64::from(key.page_bytes)) as usize;
        let end = start + key.page_len() as usize;
        (end <= bytes.len()).then(|| bytes.slice(start..end))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
        let mut flying = self.flights.lock();
        for key in &self.keys {
            // Somebody may have begun to fetch it again.
            if flying.get(key).is_some_and(|flight| flight.strong_count() == 0) {
                flying.remove(key);
            }
        }
    }
}
