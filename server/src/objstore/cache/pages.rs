//! Pages of objects, in memory and on disk.
//!
//! ```text
//! <data dir>/cache/…      the disk part: every entry carries a checksum, so that a damaged one is
//!                         as if it were not there
//!
//! key   block <u128> │ length of the object <u48> │ edition <u16> │ object <u32> │ length of a page <u32> │ page <u32>
//! ```
//! A page that came damaged has a new edition, under which nothing is found that this process has fetched
//! before: not in memory, not on its way from the bucket, nor on its way to the disk and from it. Editions are
//! numbered from a random number on, so that what an earlier process left on the disk is hardly found either.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::bucket::BlockObject;
use engine::model::{BlockId, Budget, Error, ErrorKind, Reservation};
use foyer::{
    BlockEngineConfig, Code, DefaultHasher, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCacheBuilderPhaseStorage, HybridCachePolicy, PsyncIoEngineConfig, RecoverMode, Spawner,
};
use futures_util::future::join_all;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;

use super::config::CacheConfig;
use super::metrics::{CacheMetrics, Held, HeldPage};

/// Name of the disk part's folder within the data folder.
const FOLDER: &str = "cache";

/// What the names of its files begin with; their numbers follow.
const FILE_PREFIX: &str = "foyer-storage-direct-fs-";

/// Bytes on their way to the disk; what comes faster than the disk takes it is kept in memory alone.
const WRITE_BUFFER_BYTES_MAX: u64 = 8 << 20;

/// With less room for them there is no disk part.
const WRITE_BUFFER_BYTES_MIN: u64 = 1 << 20;

/// Of the memory part, this part is added for bytes on their way to the disk.
const WRITE_BUFFER_SHARE: u64 = 4;

/// What the disk part evicts at once, at most.
const EXTENT_BYTES_MAX: u64 = 16 << 20;

/// Extents that the disk part has at least.
const EXTENTS_MIN: u64 = 16;

/// Threads that wait for the disk.
const DISK_THREADS: usize = 4;

/// Parts of the memory part, each with a lock of its own.
const LOCKS_MAX: u64 = 8;

/// Pages whose editions are known at once; with more, all begin with the first again.
const EDITIONS_MAX: usize = 1 << 16;

/// New editions of one page within [`RENEWALS_PERIOD`]: a page that is damaged after so many is hardly damaged on its
/// way, and is fetched no longer for every request that asks for it.
const RENEWALS_MAX: u32 = 8;

/// Time after which a page has new editions again.
const RENEWALS_PERIOD: Duration = Duration::from_secs(5 * 60);

/// Time between further new editions within the period: the bucket, or what lies before it, may be well again.
const RENEWALS_PAUSE: Duration = Duration::from_secs(5);

/// Which page of which object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageKey {
    /// The block.
    pub block: BlockId,
    /// Which of its objects.
    pub object: BlockObject,
    /// Length of the object in bytes, less than 2^48.
    pub object_len: u64,
    /// How often it came damaged.
    pub edition: u16,
    /// Length of a page in bytes.
    pub page_bytes: u32,
    /// Number of the page.
    pub page: u32,
}

/// Bytes of an encoded key.
pub(super) const KEY_BYTES: usize = 16 + 6 + 2 + 4 + 4 + 4;

impl PageKey {
    /// Bytes that the page has.
    pub fn page_len(&self) -> u64 {
        let start = u64::from(self.page) * u64::from(self.page_bytes);
        self.object_len.saturating_sub(start).min(u64::from(self.page_bytes))
    }

    fn to_bytes(self) -> [u8; KEY_BYTES] {
        let object = match self.object {
            BlockObject::Segment(at) => at.saturating_add(1),
            // Of a block's other objects only the index is cached.
            _ => 0,
        };
        let mut bytes = [0; KEY_BYTES];
        bytes[..16].copy_from_slice(&self.block.0.to_le_bytes());
        bytes[16..22].copy_from_slice(&self.object_len.to_le_bytes()[..6]);
        bytes[22..24].copy_from_slice(&self.edition.to_le_bytes());
        bytes[24..28].copy_from_slice(&object.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.page_bytes.to_le_bytes());
        bytes[32..].copy_from_slice(&self.page.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        Self {
            block: BlockId(u128::from(long(0)) | u128::from(long(8)) << 64),
            object_len: long(16) & ((1 << 48) - 1),
            edition: u16::from_le_bytes([bytes[22], bytes[23]]),
            object: match word(24) {
                0 => BlockObject::Index,
                number => BlockObject::Segment(number - 1),
            },
            page_bytes: word(28),
            page: word(32),
        }
    }
}

impl Code for PageKey {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        writer.write_all(&self.to_bytes()).map_err(foyer::Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut bytes = [0; KEY_BYTES];
        reader.read_exact(&mut bytes).map_err(foyer::Error::io_error)?;
        Ok(Self::from_bytes(&bytes))
    }

    fn estimated_size(&self) -> usize {
        KEY_BYTES
    }
}

/// A page that is kept.
pub struct Page {
    bytes: Bytes,
    /// What counts it; set by whoever comes by first, as one that is read from the disk comes without.
    held: OnceLock<Option<HeldPage>>,
}

impl From<Bytes> for Page {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, held: OnceLock::new() }
    }
}

impl Code for Page {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        self.bytes.encode(writer)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        Bytes::decode(reader).map(Self::from)
    }

    fn estimated_size(&self) -> usize {
        self.bytes.estimated_size()
    }
}

/// Which editions of pages will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The last, whichever it is.
    Last,
    /// Those that began after a [`PageCache::moment`]: what was there before is damaged.
    After(u64),
}

/// The last edition of a page.
#[derive(Clone, Copy, Debug, Default)]
struct Edition {
    number: u16,
    /// How many editions of any page there were with it.
    moment: u64,
    /// When the first of its latest renewals was.
    renewed: Option<Instant>,
    /// How many there were since.
    renewals: u32,
    /// When the last of them was.
    latest: Option<Instant>,
}

impl Edition {
    /// Whether the page may have a new edition at `now`, which is counted.
    fn renew(&mut self, now: Instant) -> bool {
        if self.renewed.is_none_or(|renewed| now.duration_since(renewed) >= RENEWALS_PERIOD) {
            (self.renewed, self.renewals) = (Some(now), 0);
        }
        let has_paused = self.latest.is_none_or(|latest| now.duration_since(latest) >= RENEWALS_PAUSE);
        let may_renew = self.renewals < RENEWALS_MAX || has_paused;
        if may_renew {
            (self.renewals, self.latest) = (self.renewals.saturating_add(1), Some(now));
        }
        may_renew
    }
}

/// Pages in memory and, where there is room for it, on disk.
pub struct PageCache {
    pages: HybridCache<PageKey, Page>,
    /// By the first edition's key, of those pages that came damaged.
    editions: RwLock<HashMap<PageKey, Edition>>,
    /// How many editions there ever were: mostly there is none, and nobody takes the lock.
    editions_ever: AtomicU64,
    /// Where the numbers of editions begin.
    editions_start: u16,
    handle: Handle,
    /// What it counts.
    pub metrics: CacheMetrics,
    page_bytes: u32,
    item_bytes_max: u64,
    _memory: Reservation,
}

impl std::fmt::Debug for PageCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageCache").field("page_bytes", &self.page_bytes).finish_non_exhaustive()
    }
}

impl PageCache {
    /// Opens the cache; its disk part lies under `data_dir`. All of its memory is taken from `budget`
    /// at once. Not to be called where futures are run. `None` where it has no room.
    pub fn open(
        config: &CacheConfig,
        data_dir: &Path,
        budget: &Arc<Budget>,
        registry: &mut Registry,
    ) -> Result<Option<Arc<Self>>, Error> {
        let metrics = CacheMetrics::register(registry, config);
        if config.memory_bytes < config.page_bytes {
            remove_files(data_dir, 0);
            tracing::info!("there is no cache of bucket bytes");
            return Ok(None);
        }
        let buffer = (config.memory_bytes / WRITE_BUFFER_SHARE).min(WRITE_BUFFER_BYTES_MAX);
        let has_disk = buffer >= WRITE_BUFFER_BYTES_MIN && config.disk_bytes >= EXTENTS_MIN * 2 * config.page_bytes;
        if !has_disk {
            remove_files(data_dir, 0);
        }
        // One buffer is filled while the other is written.
        let memory = budget.reserve_for_good(config.memory_bytes + if has_disk { 2 * buffer } else { 0 })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(DISK_THREADS)
            .thread_name("cache")
            .enable_all()
            .build()
            .map_err(|error| failed(data_dir, &error))?;
        let (handle, spawner) = (runtime.handle().clone(), Spawner::from(runtime));
        let opening = Opening { config, data_dir, spawner, metrics: &metrics, buffer: buffer as usize };
        let pages = handle.block_on(async {
            if has_disk {
                match opening.with_disk().await {
                    Ok(pages) => return Ok(pages),
                    Err(error) => tracing::warn!(%error, "opening the disk part of the cache failed, going on without"),
                }
            }
            opening.memory().build().await.map_err(|error| failed(data_dir, &error))
        })?;
        tracing::info!(
            memory = config.memory_bytes,
            disk = if pages.is_hybrid() { config.disk_bytes } else { 0 },
            page = config.page_bytes,
            "opened the cache of bucket bytes"
        );
        registry.register_collector(Box::new(Held(pages.clone())));
        Ok(Some(Arc::new(Self {
            pages,
            editions: RwLock::default(),
            editions_ever: AtomicU64::new(0),
            editions_start: RandomState::new().build_hasher().finish() as u16,
            handle,
            metrics,
            page_bytes: config.page_bytes as u32,
            item_bytes_max: config.item_bytes_max,
            _memory: memory,
        })))
    }

    /// Length of a page in bytes.
    pub fn page_bytes(&self) -> u32 {
        self.page_bytes
    }

    /// The pages that are there, in the order of `keys`. What can't be read is not there.
    pub async fn get(&self, keys: &[PageKey]) -> Vec<Option<Bytes>> {
        let each = keys.iter().map(|key| async move {
            if !self.pages.contains(key) {
                return None;
            }
            let found = self.pages.get(key).await.inspect_err(|error| {
                tracing::warn!(block = %key.block, %error, "cannot read a cached page, reading it from the bucket");
            });
            let entry = found.ok().flatten()?;
            self.metrics.found(entry.source());
            self.hold(key, entry.value());
            let page = entry.value().bytes.clone();
            (page.len() as u64 == key.page_len()).then_some(page)
        });
        join_all(each).await
    }

    /// A page that is in memory.
    pub fn in_memory(&self, key: &PageKey) -> Option<Bytes> {
        let page = self.pages.memory().get(key)?.value().bytes.clone();
        (page.len() as u64 == key.page_len()).then_some(page)
    }

    /// Now, in a count that goes on with every new edition of a page.
    pub fn moment(&self) -> u64 {
        self.editions_ever.load(Ordering::Acquire)
    }

    /// A page's key in the edition that is kept; `first` is that of its first one.
    pub fn edition(&self, first: PageKey) -> PageKey {
        if self.moment() == 0 {
            return first;
        }
        let editions = self.editions.read().unwrap_or_else(PoisonError::into_inner);
        PageKey { edition: editions.get(&first).copied().unwrap_or_default().number, ..first }
    }

    /// Lets go of a page that turned out to be damaged to one who began at `moment`; gives the key of its
    /// next edition. When somebody else has let go of it since, theirs is the next; when it had
    /// many of late, the last one stays for a while: it is damaged in the bucket.
    pub fn edition_after(&self, moment: u64, first: PageKey) -> PageKey {
        let mut editions = self.editions.write().unwrap_or_else(PoisonError::into_inner);
        if editions.len() >= EDITIONS_MAX {
            editions.clear();
        }
        let edition = editions.entry(first).or_default();
        if edition.moment <= moment && edition.renew(Instant::now()) {
            self.pages.remove(&PageKey { edition: edition.number, ..first });
            let moment = self.editions_ever.fetch_add(1, Ordering::AcqRel) + 1;
            // Zero is the first one's.
            let number = self.editions_start.wrapping_add(moment as u16).max(1);
            *edition = Edition { number, moment, ..*edition };
        }
        PageKey { edition: edition.number, ..first }
    }

    /// Keeps a copy of `page`.
    pub fn insert(&self, key: PageKey, page: &[u8]) {
        if page.len() as u64 > self.item_bytes_max {
            self.metrics.overflowed(&key);
            return;
        }
        self.metrics.added(&key, page.len());
        let page = Page::from(Bytes::copy_from_slice(page));
        self.hold(&key, &page);
        drop(self.pages.insert(key, page));
    }

    /// Counts a page as long as it is in memory.
    fn hold(&self, key: &PageKey, page: &Page) {
        page.held.get_or_init(|| self.metrics.held(key, page.bytes.len()));
    }

    /// Waits until what is on its way is on disk. Not to be called where futures are run.
    pub fn close(&self) {
        if let Err(error) = self.handle.block_on(self.pages.close()) {
            tracing::warn!(%error, "closing the cache of bucket bytes failed");
        }
    }
}

/// A cache that is being opened.
struct Opening<'a> {
    config: &'a CacheConfig,
    data_dir: &'a Path,
    spawner: Spawner,
    metrics: &'a CacheMetrics,
    /// Bytes on their way to the disk.
    buffer: usize,
}

impl Opening<'_> {
    /// The memory part.
    fn memory(&self) -> HybridCacheBuilderPhaseStorage<PageKey, Page, DefaultHasher> {
        let bytes = self.config.memory_bytes;
        HybridCacheBuilder::new()
            .with_name("bucket")
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            .with_event_listener(Arc::new(self.metrics.clone()))
            .memory(bytes as usize)
            .with_shards((bytes / (16 * self.config.page_bytes)).clamp(1, LOCKS_MAX) as usize)
            .with_weighter(|_: &PageKey, page: &Page| KEY_BYTES + page.bytes.len())
            .storage()
            .with_spawner(self.spawner.clone())
    }

    /// Both parts.
    async fn with_disk(&self) -> Result<HybridCache<PageKey, Page>, Error> {
        let bytes = self.config.disk_bytes;
        let folder = self.data_dir.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(|error| failed(self.data_dir, &error))?;
        let device = FsDeviceBuilder::new(folder).with_capacity(bytes as usize).build();
        let device = device.map_err(|error| failed(self.data_dir, &error))?;
        let engine = BlockEngineConfig::new(Arc::clone(&device))
            .with_block_size((bytes / EXTENTS_MIN).min(EXTENT_BYTES_MAX) as usize)
            .with_buffer_pool_size(self.buffer)
            .with_submit_queue_size_threshold(self.buffer);
        let both = self.memory().with_io_engine_config(PsyncIoEngineConfig::new()).with_engine_config(engine);
        let opened = both.with_recover_mode(RecoverMode::Quiet).build().await;
        let opened = opened.map_err(|error| failed(self.data_dir, &error))?;
        remove_files(self.data_dir, device.partitions());
        Ok(opened)
    }
}

/// Removes the files of the disk part from number `from` on, which an earlier process with a larger one has left;
/// and its folder where none stays.
fn remove_files(data_dir: &Path, from: usize) {
    let folder = data_dir.join(FOLDER);
    let number = |name: &OsStr| name.to_str()?.strip_prefix(FILE_PREFIX)?.parse::<usize>().ok();
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        if number(&entry.file_name()).is_some_and(|number| number >= from)
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "cannot remove a file that the cache does not use");
        }
    }
    if from == 0 {
        // Where something else lies in it, or it is not there, it stays so.
        let _ = std::fs::remove_dir(folder);
    }
}

fn failed(data_dir: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cache of bucket bytes in {}: {error}", data_dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_indexes_count_as_long_as_they_are_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let (page_bytes, pages) = (1000, 4000);
        let config = CacheConfig {
            memory_bytes: 4 << 20,
            disk_bytes: 64 << 20,
            page_bytes,
            item_bytes_max: page_bytes,
            requests_max: 0,
        };
        let budget = Budget::new("--store.memory-limit", 64 << 20);
        let cache = PageCache::open(&config, folder.path(), &budget, &mut Registry::default()).unwrap().unwrap();
        let key = |object, page| {
            let object_len = page_bytes * u64::from(pages);
            PageKey { block: BlockId(7), object, object_len, edition: 0, page_bytes: page_bytes as u32, page }
        };
        let (index, segment) = (|page| key(BlockObject::Index, page), |page| key(BlockObject::Segment(0), page));
        // Half of them have room in memory; they come and go by what several threads insert and find at once.
        std::thread::scope(|threads| {
            for thread in 0..4 {
                let cache = &cache;
                threads.spawn(move || {
                    for round in 0..3 * pages {
                        let page = (round * 7 + thread * 1001) % pages;
                        cache.insert(if round % 10 == 0 { segment(page) } else { index(page) }, &[1; 1000]);
                        let back = [index((page + 2000) % pages), index(page)];
                        drop(cache.handle.block_on(cache.get(&back)));
                    }
                });
            }
        });
        cache.close();
        // One that was read from the disk counts from when it is found.
        let in_memory: Vec<PageKey> = (0..pages).map(index).filter(|key| cache.pages.memory().contains(key)).collect();
        assert!(cache.metrics.index_pages().0 > 0 && in_memory.len() < pages as usize);
        for key in &in_memory {
            drop(cache.handle.block_on(cache.get(&[*key])));
        }
        let count = in_memory.len() as u64;
        assert_eq!(cache.metrics.index_pages(), (count, count * page_bytes));
    }

    #[test]
    fn a_page_that_stays_damaged_has_new_editions_now_and_then() {
        let (mut edition, now) = (Edition::default(), Instant::now());
        assert!((0..RENEWALS_MAX).all(|_| edition.renew(now)));
        assert!(!edition.renew(now) && !edition.renew(now + RENEWALS_PAUSE / 2));
        // It once stayed damaged until the period was over, also when the bucket was well again.
        let later = now + RENEWALS_PAUSE;
        assert!(edition.renew(later) && !edition.renew(later) && edition.renew(later + RENEWALS_PAUSE));
        assert!((0..RENEWALS_MAX).all(|_| edition.renew(now + RENEWALS_PERIOD)));
        assert!(!edition.renew(now + RENEWALS_PERIOD));
    }

    #[test]
    fn files_of_a_disk_part_that_became_smaller_go_and_its_folder_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let files = |memory_bytes: u64, disk_bytes: u64| {
            let (page_bytes, item_bytes_max) = (64 << 10, 1 << 20);
            let config = CacheConfig { memory_bytes, disk_bytes, page_bytes, item_bytes_max, requests_max: 0 };
            let budget = Budget::new("--store.memory-limit", 64 << 20);
            let cache = PageCache::open(&config, folder.path(), &budget, &mut Registry::default()).unwrap();
            if let Some(cache) = cache {
                cache.close();
            }
            std::fs::read_dir(folder.path().join(FOLDER)).map_or(0, Iterator::count)
        };
        let memory = 4 << 20;
        assert_eq!(files(memory, 40 * EXTENT_BYTES_MAX), 40);
        assert_eq!(files(memory, 20 * EXTENT_BYTES_MAX), 20);
        assert_eq!(files(memory, 0), 0);
        assert!(!folder.path().join(FOLDER).exists());
        assert_eq!(files(memory, 20 * EXTENT_BYTES_MAX), 20);
        assert_eq!(files(0, 20 * EXTENT_BYTES_MAX), 0);
        assert!(!folder.path().join(FOLDER).exists());
    }

    #[test]
    fn keys_come_back_and_know_the_lengths_of_their_pages() {
        for object in [BlockObject::Index, BlockObject::Segment(0), BlockObject::Segment(70)] {
            let key = PageKey {
                block: BlockId(u128::MAX / 3),
                object,
                object_len: 250,
                edition: 7,
                page_bytes: 100,
                page: 2,
            };
            assert_eq!(PageKey::from_bytes(&key.to_bytes()), key);
            assert_eq!(key.page_len(), 50);
            assert_eq!(PageKey { page: 1, ..key }.page_len(), 100);
            assert_eq!(PageKey { page: 3, ..key }.page_len(), 0);
        }
    }
}
