//! Opening a block: its column index from the local disk, built there when it is new or damaged,
//! and its chunks where they are.
//!
//! ```text
//! <data dir>/<ULID>/column-index      built from the block's index
//! <data dir>/<ULID>/index-header      Thanos' index-header, until the column index is built or for good
//! <data dir>/<ULID>/index.part        an index on its way here from an object store
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::block::{BlockInfo, OpenedBlock};
use engine::bucket::{BlockObject, ObjectName};
use engine::index::BlockIndex;
use engine::index::column::{self, Check};
use engine::index::tsdb::{self, FileSource};
use engine::model::{BlockId, Error, ErrorKind};
use futures_util::{StreamExt, stream};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, Semaphore};

use super::belongs;
use super::header::Headers;
use super::local::{COLUMN_INDEX, Disk};
use super::metrics::StoreMetrics;
use crate::objstore::Bucket;
use crate::objstore::cache::Ranges;
use crate::sync::SyncedBlock;

/// Name of an index that is not whole yet.
const PART: &str = "index.part";

/// Indexes up to this many bytes are built when their block is opened: that takes no longer than
/// opening it twice.
pub(super) const FOREGROUND_INDEX_BYTES_MAX: u64 = 512 << 10;

/// Threads that open local blocks, for each core: they wait for the disk where it is cold.
const THREADS_PER_CORE: usize = 4;

/// Syncs between two tries to build a column index, as a power of two at most.
const RETRY_SYNCS_LOG2_MAX: u32 = 5;

/// Time between two replacements of blocks whose column indexes were built.
const SWAP_INTERVAL: Duration = Duration::from_millis(250);

/// The local form of blocks' indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexForm {
    /// Column indexes; until that of a new block is built, its index-header answers.
    #[default]
    Column,
    /// Index-headers.
    Header,
}

/// A block whose column index is yet to be built.
struct Build {
    block: SyncedBlock,
    /// How often building it has failed.
    failures: u32,
    /// Syncs that go by before it is tried.
    syncs_left: u32,
}

/// Opens blocks, several at once.
pub struct Loader {
    bucket: Bucket,
    disk: Disk,
    concurrency: usize,
    form: IndexForm,
    /// Column indexes that are built at once.
    builds: Semaphore,
    /// Threads that open blocks whose files are local.
    threads: usize,
    headers: Headers,
    pending: Mutex<Vec<Build>>,
    has_pending: Notify,
    metrics: StoreMetrics,
}

impl Loader {
    /// A loader that keeps its files under `data_dir`; indexes that are not read whole are read
    /// through `ranges`.
    pub fn new((bucket, ranges): (Bucket, Ranges), data_dir: PathBuf, metrics: StoreMetrics) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            headers: Headers::new((bucket.clone(), ranges), metrics.clone()),
            disk: Disk::new(data_dir, &bucket),
            bucket,
            concurrency: 1,
            form: IndexForm::default(),
            builds: Semaphore::new(cores),
            threads: THREADS_PER_CORE * cores,
            pending: Mutex::default(),
            has_pending: Notify::new(),
            metrics,
        }
    }

    /// The same loader, opening so many blocks at once.
    pub fn concurrency(self, concurrency: usize) -> Self {
        Self { concurrency: concurrency.max(1), ..self }
    }

    /// The same loader, with another form of indexes.
    pub fn form(self, form: IndexForm) -> Self {
        Self { form, ..self }
    }

    /// Opens `blocks`; those that can't be opened say why to whoever asks for them.
    pub async fn open_all(&self, blocks: Vec<&SyncedBlock>) -> Vec<Arc<OpenedBlock>> {
        let (mut opened, others) = match self.form {
            IndexForm::Column => self.disk.open_all(blocks, self.concurrency.min(self.threads), &self.metrics).await,
            IndexForm::Header => (Vec::new(), blocks.into_iter().cloned().collect()),
        };
        let opening = others.iter().map(|block| async move {
            let started = Instant::now();
            self.metrics.block_loads.inc();
            match self.open(block).await {
                Ok(opened) => {
                    self.metrics.block_loaded(started.elapsed());
                    tracing::debug!(block = %block.meta.ulid, elapsed = ?started.elapsed(), "loaded new block");
                    Arc::new(opened)
                }
                Err(error) => {
                    self.metrics.block_load_failures.inc();
                    tracing::warn!(block = %block.meta.ulid, %error, "loading block failed");
                    Arc::new(OpenedBlock::unreadable(BlockInfo::from_meta(&block.meta), error))
                }
            }
        });
        let mut opening = std::pin::pin!(stream::iter(opening).buffer_unordered(self.concurrency));
        while let Some(block) = opening.next().await {
            opened.push(block);
        }
        opened
    }

    /// Removes a block's local files.
    pub fn remove(&self, id: BlockId) {
        let folder = self.disk.folder(id);
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            self.metrics.block_drop_failures.inc();
            tracing::warn!(block = %id, %error, "cannot remove the local files of a dropped block");
        }
    }

    /// Removes the local files of all blocks but those that `keep` names.
    pub fn remove_others(&self, keep: impl Fn(BlockId) -> bool) {
        for entry in std::fs::read_dir(self.disk.data_dir()).into_iter().flatten().flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse::<BlockId>().ok());
            if let Some(id) = id.filter(|id| !keep(*id)) {
                self.remove(id);
            }
        }
    }

    /// Waits for blocks whose column index is yet to be built, builds it for all of them, and gives
    /// those that were built to `swap`.
    pub async fn build_pending(&self, mut swap: impl FnMut(Vec<Arc<OpenedBlock>>)) {
        self.has_pending.notified().await;
        let due: Vec<Build> = self.pending().extract_if(.., |build| build.syncs_left == 0).collect();
        let building = due.into_iter().map(|build| self.build_one(build));
        let mut building = std::pin::pin!(stream::iter(building).buffer_unordered(self.concurrency));
        let (mut built, mut swapped) = (Vec::new(), Instant::now());
        while let Some(block) = building.next().await {
            built.extend(block);
            if swapped.elapsed() >= SWAP_INTERVAL {
                swap(std::mem::take(&mut built));
                swapped = Instant::now();
            }
        }
        swap(built);
    }

    /// The block with its column index; where that fails, it is tried again on a later sync.
    async fn build_one(&self, build: Build) -> Option<Arc<OpenedBlock>> {
        let Build { block, failures, .. } = build;
        match self.columns(block.meta.ulid, &block).await {
            Ok(index) => {
                self.metrics.indexes_pending.dec();
                Some(Arc::new(self.disk.opened(&block, index)))
            }
            Err(error) => {
                let syncs_left = 1 << failures.min(RETRY_SYNCS_LOG2_MAX);
                tracing::warn!(block = %block.meta.ulid, %error, syncs_left, "building a column index failed, its index-header goes on answering until it is tried again");
                self.pending().push(Build { block, failures: failures + 1, syncs_left });
                None
            }
        }
    }

    /// Says that a sync has gone by, after which the blocks of `is_open` are there: indexes of those that are
    /// new are built, and those that failed before again when their time has come.
    pub fn synced(&self, is_open: impl Fn(BlockId) -> bool) {
        let mut pending = self.pending();
        pending.retain(|build| {
            let stays = is_open(build.block.meta.ulid);
            if !stays {
                self.metrics.indexes_pending.dec();
            }
            stays
        });
        for build in pending.iter_mut().filter(|build| build.syncs_left > 0) {
            build.syncs_left -= 1;
            if build.syncs_left == 0 {
                self.has_pending.notify_one();
            }
        }
    }

    fn pending(&self) -> MutexGuard<'_, Vec<Build>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self, block: &SyncedBlock) -> Result<OpenedBlock, Error> {
        Ok(self.disk.opened(block, self.index(block.meta.ulid, block).await?))
    }

    /// The block's index in the form that it has now: column indexes of large new blocks are built
    /// later.
    async fn index(&self, id: BlockId, block: &SyncedBlock) -> Result<Arc<dyn BlockIndex>, Error> {
        let index_len = block.files.len_of(BlockObject::Index);
        let is_built = || self.disk.folder(id).join(COLUMN_INDEX).exists();
        let is_large = index_len.is_some_and(|len| len > FOREGROUND_INDEX_BYTES_MAX);
        if self.form == IndexForm::Column && (is_built() || !is_large) {
            return self.columns(id, block).await;
        }
        let len = index_len.ok_or_else(|| Error::new(ErrorKind::Corrupt, "there is no index"))?;
        let header = self.headers.open(id, len, self.disk.folder(id)).await;
        match (header, self.form) {
            (Ok(header), IndexForm::Column) => {
                // The block is open when the sync that opens it ends: an index that was built before would
                // have no block to go to.
                self.pending().push(Build { block: block.clone(), failures: 0, syncs_left: 1 });
                self.metrics.indexes_pending.inc();
                Ok(header)
            }
            // Building the column index says what is wrong, or gets by without what is damaged.
            (Err(_), IndexForm::Column) => self.columns(id, block).await,
            (header, IndexForm::Header) => header,
        }
    }

    async fn columns(&self, id: BlockId, block: &SyncedBlock) -> Result<Arc<dyn BlockIndex>, Error> {
        let path = self.disk.folder(id).join(COLUMN_INDEX);
        if path.exists() {
            match open_index(path.clone(), block.clone()).await {
                Ok(index) => return Ok(Arc::new(index)),
                Err(error) => {
                    self.metrics.index_rebuilds.inc();
                    tracing::warn!(block = %id, %error, "column index is damaged, building it anew");
                }
            }
        }
        if block.files.len_of(BlockObject::Index).is_none() {
            return Err(Error::new(ErrorKind::Corrupt, "there is no index"));
        }
        std::fs::create_dir_all(self.disk.folder(id)).map_err(|error| Error::file(&path, error))?;
        let object = ObjectName { block: id, object: BlockObject::Index }.to_string();
        match self.bucket.folder() {
            Some(folder) => self.build(folder.join(object), &path).await?,
            None => {
                let part = self.disk.folder(id).join(PART);
                let built = match self.download(&object, &part).await {
                    Ok(()) => self.build(part.clone(), &path).await,
                    Err(error) => Err(error),
                };
                // What is left of a failed download is of no use.
                let _ = std::fs::remove_file(&part);
                built?;
            }
        }
        self.metrics.index_builds.inc();
        Ok(Arc::new(open_index(path, block.clone()).await?))
    }

    /// Builds the column index at `to` from the index file at `from`, off the edge's threads.
    async fn build(&self, from: PathBuf, to: &Path) -> Result<(), Error> {
        let _slot = self.builds.acquire().await.expect("the semaphore is never closed");
        let to = to.to_owned();
        blocking(move || {
            let reader = tsdb::Reader::open(FileSource::open(&from)?)
                .map_err(|error| error.within(format_args!("index {}", from.display())))?;
            column::build(&reader, &to)
                .map(drop)
                .map_err(|error| error.within(format_args!("index {}", from.display())))
        })
        .await
    }

    async fn download(&self, object: &str, to: &Path) -> Result<(), Error> {
        let mut stream = std::pin::pin!(self.bucket.get_stream(object).await?);
        let mut file = tokio::fs::File::create(to).await.map_err(|error| Error::file(to, error))?;
        while let Some(bytes) = stream.next().await {
            file.write_all(&bytes?).await.map_err(|error| Error::file(to, error))?;
        }
        file.flush().await.map_err(|error| Error::file(to, error))
    }
}

/// Checks every section, so that a damaged file is built anew here and not told to a request; and that it
/// is the index of `block`.
async fn open_index(path: PathBuf, block: SyncedBlock) -> Result<column::Reader, Error> {
    let open = move || {
        let index = column::Reader::open(&path, Check::Everything)?;
        belongs::check(&block, &index).map(|()| index)
    };
    blocking(open).await
}

/// Runs what takes CPU or waits for the disk on a thread where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let finished = tokio::task::spawn_blocking(work).await;
    finished.unwrap_or_else(|error| Err(Error::new(ErrorKind::Bug, format!("opening a block panicked: {error}"))))
}
