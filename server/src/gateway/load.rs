//! Opening a block: its column index from the local disk, built there when it is new or damaged,
//! and its chunks where they are.
//!
//! ```text
//! <data dir>/<ULID>/column-index      built from the block's index
//! <data dir>/<ULID>/index-header      Thanos' index-header, until the column index is built, or in its place
//! <data dir>/<ULID>/index-header.new  one that is not known yet to be of its block
//! <data dir>/<ULID>/index.part        an index on its way here from an object store
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::block::{BlockInfo, OpenedBlock};
use engine::bucket::{BlockObject, ObjectName};
use engine::index::BlockIndex;
use engine::index::column::{self, Check};
use engine::index::tsdb::{self, FileSource};
use engine::model::{BlockId, Budget, Error, ErrorKind, Reservation};
use futures_util::{StreamExt, stream};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, Semaphore};

use super::belongs;
use super::header::Headers;
use super::local::{COLUMN_INDEX, Disk, Tried};
use super::metrics::StoreMetrics;
use super::room::BuildRoom;
use crate::objstore::Bucket;
use crate::objstore::cache::Ranges;
use crate::sync::{BlockFiles, SyncedBlock};
use crate::telemetry::memory;
use crate::threads::Threads;

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

/// The part of the memory limit that pages of indexes have where index-headers are the form of all.
const PAGES_SHARE: u64 = 16;

/// Bytes of column indexes that are checked in a second, so that requests have most of the disk.
const CHECKED_BYTES_PER_SECOND: u64 = 128 << 20;

/// A block, and what was opened to take its place.
pub type Reopened = (SyncedBlock, Arc<OpenedBlock>);

/// How a block stands that was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is open.
    Open,
    /// It is open, and its segments or its meta.json are others by now.
    Changed,
    /// It is open, and its index is another one by now.
    Replaced,
    /// It is closed.
    Closed,
}

/// A block whose column index is yet to be built or checked.
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
    /// What builds and opens indexes. Threads of the runtime would keep the process from its end until they are done.
    workers: Threads,
    concurrency: usize,
    form: IndexForm,
    /// Column indexes that are built at once while their blocks are opened: a sync waits for them.
    builds: Semaphore,
    /// The same of those that are built later, however long these take.
    later_builds: Semaphore,
    /// Memory that builds wait for.
    room: Option<BuildRoom>,
    /// Threads that open blocks whose files are local.
    threads: usize,
    headers: Headers,
    /// Memory that pages of indexes are accounted for with.
    _pages: Option<Reservation>,
    pending: Queue,
    /// Blocks whose column index is checked when it is used, and in the background.
    unchecked: Queue,
    /// Blocks whose index is that of another block, as was seen when they had these files.
    foreign: Mutex<Foreign>,
    metrics: StoreMetrics,
}

/// Files of blocks, and what was wrong with them.
type Foreign = BTreeMap<BlockId, (BlockFiles, Error)>;

/// Blocks with which something is to be done after the sync that opens them.
#[derive(Default)]
struct Queue {
    builds: Mutex<Vec<Build>>,
    has_due: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Vec<Build>> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the time of some has come, and takes these.
    async fn due(&self) -> Vec<Build> {
        self.has_due.notified().await;
        self.lock().extract_if(.., |build| build.syncs_left == 0).collect()
    }

    /// Counts a sync, and forgets those that are not open after it; says how many.
    fn synced(&self, is_open: impl Fn(&SyncedBlock) -> bool) -> usize {
        let mut builds = self.lock();
        let before = builds.len();
        builds.retain(|build| is_open(&build.block));
        for build in builds.iter_mut().filter(|build| build.syncs_left > 0) {
            build.syncs_left -= 1;
            if build.syncs_left == 0 {
                self.has_due.notify_one();
            }
        }
        before - builds.len()
    }
}

impl Loader {
    /// A loader that keeps its files under `data_dir`; indexes that are not read whole are read
    /// through `ranges`.
    pub fn new((bucket, ranges): (Bucket, Ranges), data_dir: PathBuf, metrics: StoreMetrics) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = Threads::named("load");
        Self {
            headers: Headers::new((bucket.clone(), ranges), workers.clone(), metrics.clone()),
            _pages: None,
            disk: Disk::new(data_dir, &bucket, workers.clone()),
            workers,
            bucket,
            concurrency: 1,
            form: IndexForm::default(),
            builds: Semaphore::new(cores),
            later_builds: Semaphore::new(cores),
            room: None,
            threads: THREADS_PER_CORE * cores,
            pending: Queue::default(),
            unchecked: Queue::default(),
            foreign: Mutex::default(),
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

    /// The same loader, whose indexes keep pages for good in a part of `memory`, where index-headers are the form that
    /// they have. Limit when it is not there.
    pub fn keeping_pages(self, memory: &Arc<Budget>) -> Result<Self, Error> {
        if self.form != IndexForm::Header {
            return Ok(self);
        }
        let bytes = memory.limit() / PAGES_SHARE;
        let held = memory.reserve_for_good(bytes)?;
        Ok(Self { headers: self.headers.keeping(bytes), _pages: Some(held), ..self })
    }

    /// The same loader, whose builds of large indexes are counted in `memory`, of which all that is held for good is
    /// taken by now.
    pub fn building_within(self, memory: &Arc<Budget>) -> Self {
        Self { room: Some(BuildRoom::new(memory)), ..self }
    }

    /// Opens `blocks`; those that can't be opened say why to whoever asks for them.
    pub async fn open_all(&self, blocks: Vec<&SyncedBlock>) -> Vec<Arc<OpenedBlock>> {
        let Tried { mut opened, unchecked, others } = match self.form {
            IndexForm::Column => self.disk.open_all(blocks, self.concurrency.min(self.threads), &self.metrics).await,
            IndexForm::Header => Tried { others: blocks.into_iter().cloned().collect(), ..Tried::default() },
        };
        let later = unchecked.into_iter().map(|block| Build { block, failures: 0, syncs_left: 1 });
        self.unchecked.lock().extend(later);
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
        memory::tell_of_mappings();
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

    /// Removes a block's column index: it is that of an index which is another one by now.
    pub fn remove_columns(&self, id: BlockId) {
        self.disk.remove_columns(id);
    }

    /// Waits for blocks whose column index is yet to be built, builds it for those that are `Open`, and gives
    /// these to `swap`.
    pub async fn build_pending(&self, standing: impl Fn(&SyncedBlock) -> Standing, mut swap: impl FnMut(&[Reopened])) {
        let building = self.pending.due().await.into_iter().map(|build| self.build_one(build, &standing));
        let mut building = std::pin::pin!(stream::iter(building).buffer_unordered(self.concurrency));
        let (mut built, mut swapped) = (Vec::new(), Instant::now());
        while let Some(block) = building.next().await {
            built.extend(block);
            if swapped.elapsed() >= SWAP_INTERVAL {
                self.place(&standing, &mut swap, std::mem::take(&mut built));
                swapped = Instant::now();
            }
        }
        self.place(&standing, &mut swap, built);
    }

    /// The block with its column index; where that fails, it is tried again on a later sync.
    async fn build_one(&self, build: Build, standing: &impl Fn(&SyncedBlock) -> Standing) -> Option<Reopened> {
        let Build { block, failures, .. } = build;
        // With other files it was opened anew, and waits for its column index once more.
        if standing(&block) != Standing::Open {
            self.metrics.indexes_pending.dec();
            return None;
        }
        match self.columns_within(&self.later_builds, block.meta.ulid, &block).await {
            Ok(index) => {
                self.metrics.indexes_pending.dec();
                let opened = Arc::new(self.disk.opened(&block, index));
                Some((block, opened))
            }
            Err(_) if standing(&block) == Standing::Closed => {
                self.metrics.indexes_pending.dec();
                self.remove(block.meta.ulid);
                None
            }
            Err(error) if belongs::is_foreign(&error) => {
                self.metrics.indexes_pending.dec();
                self.foreign().insert(block.meta.ulid, (block.files.clone(), error.clone()));
                Some(self.unreadable(block, error))
            }
            // There never is so much memory.
            Err(error) if error.kind() == ErrorKind::Limit => {
                self.metrics.indexes_pending.dec();
                tracing::warn!(block = %block.meta.ulid, %error, "a column index is not built, its index-header goes on answering");
                None
            }
            Err(error) => {
                let syncs_left = 1 << failures.min(RETRY_SYNCS_LOG2_MAX);
                tracing::warn!(block = %block.meta.ulid, %error, syncs_left, "building a column index failed, its index-header goes on answering until it is tried again");
                self.pending().push(Build { block, failures: failures + 1, syncs_left });
                None
            }
        }
    }

    /// Waits for blocks whose column index is yet to be checked, checks it for those that are `Open`, and builds it
    /// anew where it is damaged; gives them to `swap`. A block whose column index is damaged and can't be built is
    /// from then on unreadable, until a sync opens it again.
    pub async fn check_pending(&self, standing: impl Fn(&SyncedBlock) -> Standing, mut swap: impl FnMut(&[Reopened])) {
        let (mut checked, mut swapped) = (Vec::new(), Instant::now());
        for Build { block, failures, .. } in self.unchecked.due().await {
            if standing(&block) != Standing::Open {
                continue;
            }
            let (id, started) = (block.meta.ulid, Instant::now());
            let bytes = self.disk.column_bytes(id);
            match self.columns_within(&self.later_builds, id, &block).await {
                Ok(index) => {
                    let opened = Arc::new(self.disk.opened(&block, index));
                    checked.push((block, opened));
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => checked.push(self.unreadable(block, error)),
                Err(error) => {
                    let syncs_left = 1 << failures.min(RETRY_SYNCS_LOG2_MAX);
                    tracing::warn!(block = %id, %error, syncs_left, "building a damaged column index anew failed, what is sound of it goes on answering until it is tried again");
                    self.unchecked.lock().push(Build { block, failures: failures + 1, syncs_left });
                }
            }
            if swapped.elapsed() >= SWAP_INTERVAL {
                self.place(&standing, &mut swap, std::mem::take(&mut checked));
                swapped = Instant::now();
            }
            let time = Duration::from_secs_f64(bytes as f64 / CHECKED_BYTES_PER_SECOND as f64);
            tokio::time::sleep(time.saturating_sub(started.elapsed())).await;
        }
        self.place(&standing, &mut swap, checked);
    }

    /// What takes the place of a block whose index turned out to be of no use.
    fn unreadable(&self, block: SyncedBlock, error: Error) -> Reopened {
        self.metrics.block_load_failures.inc();
        self.metrics.blocks_loaded.dec();
        tracing::warn!(block = %block.meta.ulid, %error, "an index that was open can't be used");
        let opened = OpenedBlock::unreadable(BlockInfo::from_meta(&block.meta), error);
        (block, Arc::new(opened))
    }

    fn foreign(&self) -> MutexGuard<'_, Foreign> {
        self.foreign.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives blocks with their column index to `swap`, and removes what is then of no use.
    fn place(
        &self,
        standing: &impl Fn(&SyncedBlock) -> Standing,
        swap: &mut impl FnMut(&[Reopened]),
        built: Vec<Reopened>,
    ) {
        swap(&built);
        for (block, _) in &built {
            match standing(block) {
                Standing::Open => self.disk.remove_header(block.meta.ulid),
                Standing::Changed => {}
                Standing::Replaced => self.disk.remove_columns(block.meta.ulid),
                Standing::Closed => self.remove(block.meta.ulid),
            }
        }
    }

    /// Says that a sync has gone by, after which the blocks of `is_open` are there: column indexes of those that are
    /// new are built or checked, and those that failed before are built when their time has come.
    pub fn synced(&self, is_open: impl Fn(&SyncedBlock) -> bool) {
        let dropped = self.pending.synced(&is_open);
        self.metrics.indexes_pending.dec_by(dropped as i64);
        self.unchecked.synced(&is_open);
    }

    fn pending(&self) -> MutexGuard<'_, Vec<Build>> {
        self.pending.lock()
    }

    async fn open(&self, block: &SyncedBlock) -> Result<OpenedBlock, Error> {
        let index = self.index(block.meta.ulid, block).await?;
        if self.form == IndexForm::Header {
            // An earlier process may have had the other form.
            self.disk.remove_columns(block.meta.ulid);
        }
        Ok(self.disk.opened(block, index))
    }

    /// The block's index in the form that it has now: column indexes of large new blocks are built
    /// later.
    async fn index(&self, id: BlockId, block: &SyncedBlock) -> Result<Arc<dyn BlockIndex>, Error> {
        let index_len = block.files.len_of(BlockObject::Index);
        let is_built = || self.disk.folder(id).join(COLUMN_INDEX).exists();
        let is_large = index_len.is_some_and(|len| len > FOREGROUND_INDEX_BYTES_MAX);
        if self.form == IndexForm::Column && (is_built() || !is_large) {
            match self.columns(id, block).await {
                // Where a part of the index is damaged, its index-header answers those who don't ask for that part.
                Err(error)
                    if (error.kind() == ErrorKind::Corrupt && !is_built() || error.kind() == ErrorKind::Limit)
                        && index_len.is_some()
                        && !belongs::is_foreign(&error) =>
                {
                    tracing::warn!(block = %id, %error, "a column index can't be built, trying the index-header");
                }
                done => return done,
            }
        }
        if let Some((_, error)) = self.foreign().get(&id).filter(|(known, _)| *known == block.files) {
            return Err(error.clone());
        }
        let header = self.headers.open(block, self.disk.folder(id)).await;
        match (header, self.form) {
            // No form of it is to be used.
            (Err(error), _) if belongs::is_foreign(&error) => {
                self.foreign().insert(id, (block.files.clone(), error.clone()));
                Err(error)
            }
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

    /// The block's column index, for a sync that waits for it.
    async fn columns(&self, id: BlockId, block: &SyncedBlock) -> Result<Arc<dyn BlockIndex>, Error> {
        self.columns_within(&self.builds, id, block).await
    }

    /// The block's column index, checked; built in one of `slots` where it is not there or damaged.
    async fn columns_within(
        &self,
        slots: &Semaphore,
        id: BlockId,
        block: &SyncedBlock,
    ) -> Result<Arc<dyn BlockIndex>, Error> {
        let path = self.disk.folder(id).join(COLUMN_INDEX);
        let mut is_foreign = false;
        if path.exists() {
            match open_index(&self.workers, path.clone(), block.clone()).await {
                Ok(index) => return Ok(Arc::new(index)),
                Err(error) => {
                    self.metrics.index_rebuilds.inc();
                    tracing::warn!(block = %id, %error, "column index is damaged, building it anew");
                    if belongs::is_foreign(&error) {
                        self.disk.remove_columns(id);
                        is_foreign = true;
                    }
                }
            }
        }
        self.built_columns((slots, path), id, block).await.map_err(|error| match is_foreign {
            // Whatever ends the building: that of another block is not to answer meanwhile.
            true => Error::new(
                ErrorKind::Corrupt,
                format!("the local column index is that of another block and can't be built anew: {error}"),
            ),
            false => error,
        })
    }

    /// The block's column index, which is not there yet; built in one of `slots`.
    async fn built_columns(
        &self,
        (slots, path): (&Semaphore, PathBuf),
        id: BlockId,
        block: &SyncedBlock,
    ) -> Result<Arc<dyn BlockIndex>, Error> {
        let Some(len) = block.files.len_of(BlockObject::Index) else {
            return Err(Error::new(ErrorKind::Corrupt, "there is no index"));
        };
        std::fs::create_dir_all(self.disk.folder(id)).map_err(|error| Error::file(&path, error))?;
        let object = ObjectName { block: id, object: BlockObject::Index }.to_string();
        let bytes = match &self.room {
            Some(room) => room.needed(&self.bucket, (&object, len)).await?,
            None => 0,
        };
        match self.bucket.folder() {
            Some(folder) => self.build((slots, bytes), folder.join(object), &path).await?,
            None => {
                let part = self.disk.folder(id).join(PART);
                let built = match self.download(&object, &part).await {
                    Ok(()) => self.build((slots, bytes), part.clone(), &path).await,
                    Err(error) => Err(error),
                };
                // What is left of a failed download is of no use.
                let _ = std::fs::remove_file(&part);
                built?;
            }
        }
        self.metrics.index_builds.inc();
        // What is not the block's is not to be taken for it later, when less of it is checked.
        let opened = open_index(&self.workers, path, block.clone()).await;
        let opened = opened.inspect_err(|_| self.disk.remove_columns(id));
        Ok(Arc::new(opened?))
    }

    /// Builds the column index at `to` from the index file at `from`, in one of `slots` once there are `bytes` of
    /// memory for it.
    async fn build(&self, (slots, bytes): (&Semaphore, u64), from: PathBuf, to: &Path) -> Result<(), Error> {
        let _held = match &self.room {
            Some(room) => room.take(bytes).await?,
            None => None,
        };
        build((slots, &self.workers), from, to).await
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

/// Builds the column index at `to` from the index file at `from`, in one of `slots`, off the edge's threads.
async fn build((slots, workers): (&Semaphore, &Threads), from: PathBuf, to: &Path) -> Result<(), Error> {
    let _slot = slots.acquire().await.expect("the semaphore is never closed");
    let to = to.to_owned();
    blocking(workers, move || {
        let reader = tsdb::Reader::open(FileSource::open(&from)?)
            .map_err(|error| error.within(format_args!("index {}", from.display())))?;
        column::build(&reader, &to).map(drop).map_err(|error| error.within(format_args!("index {}", from.display())))
    })
    .await
}

/// Checks every section, so that a damaged file is built anew here and not told to a request; and that it
/// is the index of `block`.
async fn open_index(workers: &Threads, path: PathBuf, block: SyncedBlock) -> Result<column::Reader, Error> {
    let open = move || {
        let index = column::Reader::open(&path, Check::Everything)?;
        belongs::check(&block, &index).map(|()| index)
    };
    blocking(workers, open).await
}

/// Runs what takes CPU or waits for the disk on a thread where it may. It ends with the process, wherever it is.
pub(super) async fn blocking<T: Send + 'static>(
    workers: &Threads,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    workers.run(work).await.map_err(|error| error.within("opening a block")).flatten()
}

#[cfg(test)]
mod tests {
    use engine::bucket::Meta;
    use engine::model::Labels;
    use object_store::memory::InMemory;
    use prometheus_client::registry::Registry;

    use super::*;

    /// A store that was told to end once did so when the column index of a large block was built.
    #[test]
    fn what_is_being_built_keeps_no_process_from_its_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (workers, (end, ended)) = (Threads::named("load"), std::sync::mpsc::channel::<()>());
        let (begin, begun) = std::sync::mpsc::channel();
        runtime.block_on(async {
            let build = blocking(&workers, move || {
                begin.send(()).unwrap();
                // Nobody ever says so.
                ended.recv().ok();
                Ok(())
            });
            assert!(tokio::time::timeout(Duration::from_millis(1), build).await.is_err());
        });
        begun.recv().unwrap();
        drop(runtime);
        drop(end);
    }

    /// A block whose index, of one series without chunks, has symbols of about so many bytes, and its loader.
    fn loading(symbols_bytes: usize, folder: &Path) -> (SyncedBlock, Loader) {
        let registry = &mut Registry::default();
        let id = BlockId::from_parts(1, 1);
        let text = serde_json::json!({
            "ulid": id.to_string(), "minTime": 0, "maxTime": 1, "version": 1, "compaction": {"level": 1},
        });
        let unused = (0..symbols_bytes / 1000).map(|at| format!("y{at:06}{}", "v".repeat(993)));
        let symbols = ["a", "x"].map(str::to_owned).into_iter().chain(unused);
        let mut writer = tsdb::Writer::create(Vec::new(), tsdb::Symbols::from_sorted(symbols)).unwrap();
        writer.add_labels(&Labels::from_pairs([("a", "x")]), &[]).unwrap();
        let index = writer.finish().unwrap().1;
        let objects = BTreeMap::from([(BlockObject::Index, index.len() as u64)]);
        let files = BlockFiles { objects, ..BlockFiles::default() };
        let meta = Arc::new(Meta::parse(text.to_string().as_bytes()).unwrap());
        let memory = InMemory::new();
        let object = ObjectName { block: id, object: BlockObject::Index }.to_string();
        let bucket = Bucket::over(Arc::new(memory), "memory", registry);
        runtime().block_on(bucket.upload(&object, index.into())).unwrap();
        let parts = (bucket.clone(), Ranges::direct(bucket));
        let loader = Loader::new(parts, folder.to_owned(), StoreMetrics::register(registry, 0));
        (SyncedBlock { meta, files, deletion_mark: None }, loader)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_small_new_block_is_opened_while_builds_of_the_background_take_all_their_slots() {
        let folder = tempfile::tempdir().unwrap();
        let (block, loader) = loading(0, folder.path());
        let _taken = loader.later_builds.try_acquire_many(loader.later_builds.available_permits() as u32).unwrap();
        let opened = runtime().block_on(async {
            tokio::time::timeout(Duration::from_secs(60), loader.open_all(vec![&block])).await.unwrap()
        });
        assert!(opened.len() == 1 && opened[0].index().is_readable());
    }

    #[test]
    fn a_column_index_whose_build_takes_more_memory_than_there_is_leaves_its_block_to_the_index_header() {
        // Symbols of 6 MB take 15 MB, of which there is half.
        for (memory, built) in [(28 << 20, 0), (32 << 20, 1)] {
            let folder = tempfile::tempdir().unwrap();
            let (block, loader) = loading(6_000_000, folder.path());
            let memory = Budget::new("--store.memory-limit", memory);
            let loader = loader.building_within(&memory);
            let mut swapped = 0;
            runtime().block_on(async {
                let opened = loader.open_all(vec![&block]).await;
                assert!(opened[0].index().is_readable());
                loader.synced(|_| true);
                loader.build_pending(|_| Standing::Open, |blocks| swapped += blocks.len()).await;
            });
            assert_eq!((swapped, loader.metrics.index_builds.get()), (built, built as u64));
            assert_eq!((loader.metrics.indexes_pending.get(), loader.pending().len()), (0, 0));
            assert_eq!((memory.usage().used, memory.usage().refused), (0, 1 - built as u64));
            assert_eq!(memory.usage().peak > 0, built == 1);
        }
    }
}
