//! Indexes that are answered through Thanos' index-header: symbols and the places of postings from a
//! local file that is mapped, postings and series by range from the index, wherever that is.
//!
//! Threads of the engine that may wait ask for bytes of an index in an object store; with column indexes shards
//! answer, and nobody waits.

use std::future::Future;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use engine::bucket::{BlockObject, ObjectName};
use engine::index::pages::{PagePool, PagesRead};
use engine::index::tsdb::source::{self, Source, Take};
use engine::index::{BlockIndex, HeaderIndex, header};
use engine::io::mmap::Mmap;
use engine::io::{KeptOpen, replace};
use engine::model::{BlockId, Error, ErrorKind};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::belongs;
use super::index_file::IndexFile;
use super::load::blocking;
use super::metrics::StoreMetrics;
use crate::objstore::Bucket;
use crate::objstore::cache::{Ranges, Wanted};
use crate::sync::SyncedBlock;
use crate::threads::Threads;

/// Name of an index-header within its block's folder, as Thanos names it.
pub(super) const INDEX_HEADER: &str = "index-header";

/// Name of one that is not known yet to be of its block.
const NEW_HEADER: &str = "index-header.new";

/// Requests for bytes that wait for the mover.
const QUEUE_MAX: usize = 1024;

/// Parts of an index up to this many bytes are copied through the cache, where their pages lie already or will
/// be asked for.
const CACHED_BYTES_MAX: u64 = 256 << 10;

/// Larger ones are copied past it, in pieces of this many bytes.
const PIECE_BYTES: u64 = 1 << 20;

/// Pieces of one index that are on their way at once.
const PIECES_AT_ONCE: usize = 4;

/// Bytes of pages that all indexes keep together, unless it is said otherwise: enough where headers answer for a while
/// alone.
const PAGES_BYTES: u64 = 16 << 20;

/// Opens index-headers.
pub struct Headers {
    bucket: Bucket,
    ranges: Ranges,
    mover: OnceLock<Mover>,
    workers: Threads,
    pages: Arc<PagePool>,
    metrics: StoreMetrics,
}

impl Headers {
    /// Index-headers of the blocks of `bucket`, whose indexes are read through `ranges`; `workers` open and make them.
    pub fn new((bucket, ranges): (Bucket, Ranges), workers: Threads, metrics: StoreMetrics) -> Self {
        let pages = Arc::new(PagePool::new(PAGES_BYTES));
        Self { bucket, ranges, mover: OnceLock::new(), workers, pages, metrics }
    }

    /// The same, whose indexes keep pages of `bytes` together.
    pub fn keeping(self, bytes: u64) -> Self {
        Self { pages: Arc::new(PagePool::new(bytes)), ..self }
    }

    /// The index of `block` through its header in `folder`; that is written when it is not there, damaged or of
    /// another index. An index of another block is an error.
    pub async fn open(&self, block: &SyncedBlock, folder: PathBuf) -> Result<Arc<dyn BlockIndex>, Error> {
        let name = ObjectName { block: block.meta.ulid, object: BlockObject::Index };
        let missing = || Error::new(ErrorKind::Corrupt, "there is no index");
        let len = block.files.len_of(BlockObject::Index).ok_or_else(missing)?;
        let index = match self.bucket.folder() {
            Some(bucket) => IndexSource::File(IndexFile::open(bucket.join(name.to_string()), KeptOpen::take())?),
            None => {
                let mover = self.mover.get_or_init(Mover::start).clone();
                let (bucket, ranges, renewal) = (self.bucket.clone(), self.ranges.clone(), Mutex::default());
                IndexSource::Object(Box::new(IndexObject { bucket, ranges, name, len, mover, renewal }))
            }
        };
        let (block, pages, metrics) = (block.clone(), Arc::clone(&self.pages), self.metrics.clone());
        blocking(&self.workers, move || {
            let started = Instant::now();
            let header = match kept(&index, (block.meta.ulid, &folder.join(INDEX_HEADER))) {
                Some(header) => {
                    // From a bucket that would be a request more of each block whenever the process starts.
                    match &index {
                        IndexSource::File(_) => belongs::check_old_header(&block, &header, &index)?,
                        IndexSource::Object(_) => belongs::check_header(&block, &header, &index)?,
                    }
                    header
                }
                None => new_header(&index, (&block, &folder), &metrics)?,
            };
            // Of the pages that this has read none stays with the process.
            header.source().release();
            metrics.header_loads.observe(started.elapsed().as_secs_f64());
            Ok(Arc::new(HeaderIndex::new(header, index).sharing(pages)) as Arc<dyn BlockIndex>)
        })
        .await
    }
}

/// The header at `path` when it is that of `index`, the one of block `id`, or when that can't be told now.
fn kept(index: &IndexSource, (id, path): (BlockId, &Path)) -> Option<header::Reader<Mmap>> {
    if !path.exists() {
        return None;
    }
    let why = match opened(path) {
        Ok(header) => match header.is_of(index) {
            Ok(true) => return Some(header),
            Ok(false) => "it is that of another index".to_owned(),
            Err(error) => {
                tracing::warn!(block = %id, %error, "index can't be read, its index-header is used as it is");
                return Some(header);
            }
        },
        Err(error) => error.to_string(),
    };
    tracing::warn!(block = %id, error = why, "index-header can't be used, writing it anew");
    None
}

/// A new header of `index`. It gets its name in `folder` once it is found to be of `block`, so that one that has it
/// needn't be held against the block's chunks again.
fn new_header(
    index: &IndexSource,
    (block, folder): (&SyncedBlock, &Path),
    metrics: &StoreMetrics,
) -> Result<header::Reader<Mmap>, Error> {
    let (started, new, path) = (Instant::now(), folder.join(NEW_HEADER), folder.join(INDEX_HEADER));
    let written = index.renewing(|| {
        write(index, folder, &new)?;
        metrics.header_downloads.observe(started.elapsed().as_secs_f64());
        opened(&new)
    });
    let placed = written.and_then(|header| {
        belongs::check_new_header(block, &header, index)?;
        std::fs::rename(&new, &path).map_err(|error| Error::file(&path, error))?;
        Ok(header)
    });
    // Where it is not there, nothing was written.
    placed.inspect_err(|_| drop(std::fs::remove_file(&new)))
}

/// The header at `path`, checked.
fn opened(path: &Path) -> Result<header::Reader<Mmap>, Error> {
    let file = Mmap::open(path).map_err(|error| Error::file(path, error))?;
    header::Reader::open(file).map_err(|error| error.within(path.display()))
}

/// Writes the header of `index` at `path`. An error of what the index holds has its place there.
fn write(index: &IndexSource, folder: &Path, path: &Path) -> Result<(), Error> {
    let mut refused = None;
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        replace::write_whole(path, |file| {
            let mut out = BufWriter::new(file);
            header::write(index, &mut out).map_err(|error| {
                let text = error.to_string();
                refused = Some(error);
                std::io::Error::other(text)
            })?;
            out.flush()
        })
    });
    match (written, refused) {
        (_, Some(error)) if error.kind() == ErrorKind::Corrupt => Err(error.within("index")),
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(Error::file(path, error)),
        (Ok(()), None) => Ok(()),
    }
}

/// Where the bytes of an index are.
enum IndexSource {
    /// In a file.
    File(IndexFile),
    /// In an object store.
    Object(Box<IndexObject>),
}

/// An index in an object store.
struct IndexObject {
    bucket: Bucket,
    ranges: Ranges,
    name: ObjectName,
    len: u64,
    mover: Mover,
    renewal: Mutex<Renewal>,
}

/// What is read once more, as it was damaged.
#[derive(Default)]
struct Renewal {
    /// How many are at it.
    readers: usize,
    /// When the last of them began, by the cache's count.
    moment: u64,
}

impl IndexObject {
    fn renewal(&self) -> MutexGuard<'_, Renewal> {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which pages are read: any, or, while somebody reads once more what was damaged, those that came since. All
    /// others of the index stay what they are.
    fn wanted(&self) -> Wanted {
        let renewal = self.renewal();
        if renewal.readers > 0 { Wanted::After(renewal.moment) } else { Wanted::Last }
    }

    /// Gives the bytes of `range` to `take`, several pieces on their way at once, of which none is kept.
    fn copy(&self, Range { start, end }: Range<u64>, take: Take<'_>) -> Result<(), Error> {
        let (bucket, name) = (self.bucket.clone(), self.name.to_string());
        let piece = move |start: u64| {
            let (bucket, name, end) = (bucket.clone(), name.clone(), end.min(start + PIECE_BYTES));
            async move { bucket.get_range(&name, start..end).await }
        };
        let (sender, mut pieces) = mpsc::channel(1);
        self.mover.begin(async move {
            let starts = (start..end).step_by(PIECE_BYTES as usize);
            let mut coming = std::pin::pin!(stream::iter(starts.map(piece)).buffered(PIECES_AT_ONCE));
            while let Some(piece) = coming.next().await {
                // Who has met an error waits for no more.
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
        })?;
        let mut at = start;
        while let Some(piece) = pieces.blocking_recv() {
            let piece = piece?;
            take(&piece)?;
            at += piece.len() as u64;
        }
        if at < end { Err(ended()) } else { Ok(()) }
    }
}

impl Source for IndexSource {
    fn len(&self) -> u64 {
        match self {
            Self::File(file) => file.len(),
            Self::Object(index) => index.len,
        }
    }

    fn in_memory(&self) -> Option<&[u8]> {
        None
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let begin = Instant::now();
        match self {
            Self::File(file) => {
                file.read_at(offset, out)?;
                PagesRead::add(out.len(), 1, begin.elapsed());
                Ok(())
            }
            Self::Object(index) => {
                let (ranges, name, len) = (index.ranges.clone(), index.name, index.len);
                let range = offset..offset + out.len();
                let wanted = index.wanted();
                let read = index.mover.wait_for(async move { ranges.read(name, len, (range, wanted)).await })??;
                PagesRead::add(read.downloaded_bytes, read.downloads, begin.elapsed());
                out.copy_from_slice(&read.bytes);
                Ok(())
            }
        }
    }

    fn stream(&self, range: Range<u64>, take: Take<'_>) -> Result<(), Error> {
        match self {
            Self::Object(index) if range.end.saturating_sub(range.start) > CACHED_BYTES_MAX => index.copy(range, take),
            _ => source::stream(self, range, take),
        }
    }

    fn renew(&self) -> bool {
        let Self::Object(index) = self else { return false };
        let moment = index.ranges.moment();
        let mut renewal = index.renewal();
        (renewal.readers, renewal.moment) = (renewal.readers + 1, renewal.moment.max(moment));
        true
    }

    fn renewed(&self) {
        if let Self::Object(index) = self {
            let mut renewal = index.renewal();
            renewal.readers = renewal.readers.saturating_sub(1);
        }
    }
}

/// A future that tells its result to whoever waits for it.
type Move = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A thread that waits for an object store on behalf of threads that can't.
#[derive(Clone)]
struct Mover {
    queue: mpsc::Sender<Move>,
}

impl Mover {
    fn start() -> Self {
        let (queue, mut moves) = mpsc::channel::<Move>(QUEUE_MAX);
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a thread can wait for sockets and timers");
            runtime.block_on(async {
                while let Some(next) = moves.recv().await {
                    tokio::spawn(next);
                }
            });
        };
        // Without the thread the queue is closed, which those who wait are told.
        if let Err(error) = std::thread::Builder::new().name("mover".into()).spawn(body) {
            tracing::error!(%error, "cannot start the thread that reads indexes from the bucket");
        }
        Self { queue }
    }

    /// Runs `next`; not to be called where futures are run.
    fn begin(&self, next: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
        self.queue.blocking_send(Box::pin(next)).map_err(|_| ended())
    }

    /// Runs `future` and waits for its result; not to be called where futures are run.
    fn wait_for<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Result<T, Error> {
        let (sender, receiver) = sync_channel(1);
        self.begin(async move {
            // The receiver waits until it has the result.
            let _ = sender.send(future.await);
        })?;
        receiver.recv().map_err(|_| ended())
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Bug, "the thread that reads indexes from the bucket has ended")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use engine::bucket::Meta;
    use engine::index::SeriesLabels;
    use engine::index::tsdb::{Reader, Symbols, Writer};
    use engine::model::{Budget, Labels};
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::objstore::cache::{CacheConfig, PageCache};
    use crate::sync::BlockFiles;
    use crate::telemetry::metrics::render;

    const VALUES: usize = 25_000;

    const BLOCK: BlockId = BlockId(7);

    /// The block with an index of `len` bytes; its meta.json says that it has so many series.
    fn block(len: usize, series: u64) -> SyncedBlock {
        let mut meta = Meta::new(BLOCK, 0, 1);
        meta.stats.num_series = series;
        let objects = BTreeMap::from([(BlockObject::Index, len as u64)]);
        let files = BlockFiles { objects, ..BlockFiles::default() };
        SyncedBlock { meta: Arc::new(meta), files, deletion_mark: None }
    }

    /// An index of as many series as there are values of 100 bytes.
    fn index() -> Vec<u8> {
        let values: Vec<String> = (0..VALUES).map(|at| format!("{at:0100}")).collect();
        let symbols = Symbols::from_sorted(values.iter().map(String::as_str).chain(["pod"]));
        let mut writer = Writer::create(Vec::new(), symbols).unwrap();
        for value in &values {
            writer.add_labels(&Labels::from_pairs([("pod", value.as_str())]), &[]).unwrap();
        }
        writer.finish().unwrap().1
    }

    /// Where the series of an index start, in bytes divided by 16.
    fn ordinals(index: &[u8]) -> Vec<u32> {
        let (reader, mut refs) = (Reader::open(index).unwrap(), Vec::new());
        reader.postings(&reader.offset_table().unwrap(), ("", ""), &mut refs).unwrap();
        refs
    }

    /// A bucket in memory with one index, which is read through a cache.
    struct Fixture {
        folder: tempfile::TempDir,
        registry: Registry,
        headers: Headers,
        runtime: tokio::runtime::Runtime,
    }

    impl Fixture {
        fn new(index: Vec<u8>) -> Self {
            let (folder, mut registry) = (tempfile::tempdir().unwrap(), Registry::default());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let memory = Arc::new(object_store::memory::InMemory::new());
            let bucket = Bucket::over(memory, "memory", &mut registry);
            let name = ObjectName { block: BLOCK, object: BlockObject::Index }.to_string();
            runtime.block_on(bucket.upload(&name, index.into())).unwrap();
            let config = CacheConfig { memory_bytes: 32 << 20, item_bytes_max: 1 << 20, ..CacheConfig::NONE };
            let budget = Budget::new("--store.memory-limit", 64 << 20);
            let cache = PageCache::open(&config, folder.path(), &budget, &mut registry).unwrap();
            let ranges = Ranges::direct(bucket.clone()).through(cache, 0);
            let metrics = StoreMetrics::register(&mut registry, 0);
            let headers = Headers::new((bucket, ranges), Threads::named("load"), metrics);
            Self { folder, registry, headers, runtime }
        }

        fn open(&self, len: usize) -> Arc<dyn BlockIndex> {
            self.try_open(&block(len, VALUES as u64)).unwrap()
        }

        fn try_open(&self, block: &SyncedBlock) -> Result<Arc<dyn BlockIndex>, Error> {
            self.runtime.block_on(self.headers.open(block, self.folder.path().to_owned()))
        }

        /// Requests for ranges that the bucket has had.
        fn requests(&self) -> u64 {
            let text = render(&self.registry, "").1;
            let counted = |line: &str| {
                let is_it = line.starts_with("thanos_objstore_bucket_operations_total") && line.contains("get_range");
                line.rsplit(' ').next().filter(|_| is_it).map(|count| count.parse().unwrap())
            };
            text.lines().find_map(counted).unwrap()
        }
    }

    #[test]
    fn a_header_is_copied_from_a_bucket_in_few_requests() {
        let (index, mut expected) = (index(), Vec::new());
        header::write(&index, &mut expected).unwrap();
        let (len, fixture) = (index.len(), Fixture::new(index));
        let opened = fixture.open(len);
        assert!(std::fs::read(fixture.folder.path().join(INDEX_HEADER)).unwrap() == expected);
        // One of them is for the first series.
        assert!(expected.len() > 5_000_000 && fixture.requests() <= 9, "{} requests", fixture.requests());
        assert!(opened.heap_bytes() < 20_000, "{} bytes in memory", opened.heap_bytes());
        drop(opened);
        let before = fixture.requests();
        fixture.open(len);
        assert_eq!(fixture.requests(), before, "the header that is there is of this index");
        let error = fixture.try_open(&block(len, 80)).err().unwrap();
        assert_eq!(error.message(), "index: it is of another block: it has 25000 series, and meta.json says 80");
        assert!(fixture.requests() <= before + 1, "the list of all series is asked for their number");
    }

    #[test]
    fn damage_is_told_with_the_file_and_its_place_there() {
        let mut index = index();
        let table = Reader::open(index.as_slice()).unwrap().toc().postings_offset_table;
        index[table as usize + 40] ^= 1;
        let (len, fixture) = (index.len(), Fixture::new(index));
        let error = fixture.try_open(&block(len, 0)).err().unwrap();
        let expected = format!("index: postings offset table at byte {table}: stored checksum");
        assert!(error.message().starts_with(&expected), "{error}");
        assert_eq!(std::fs::read_dir(fixture.folder.path()).unwrap().flatten().filter(is_header).count(), 0);
        let path = fixture.folder.path().join(INDEX_HEADER);
        std::fs::write(&path, vec![0; 200]).unwrap();
        let error = opened(&path).unwrap_err();
        assert!(error.message().starts_with(&path.display().to_string()), "{error}");
    }

    fn is_header(file: &std::fs::DirEntry) -> bool {
        file.file_name().to_string_lossy().starts_with(INDEX_HEADER)
    }

    #[test]
    fn damage_in_the_bucket_lets_go_of_no_pages_but_its_own_and_not_for_each_request() {
        let mut index = index();
        let (ordinals, len) = (ordinals(&index), index.len());
        index[ordinals[3] as usize * 16 + 1] ^= 1;
        let fixture = Fixture::new(index);
        let (opened, mut labels) = (fixture.open(len), SeriesLabels::default());
        let mut ask = |at: usize| opened.labels(ordinals[at], &mut labels).map(|()| fixture.requests());
        let sound = [5_000, 10_000, 15_000, VALUES - 1];
        let before = sound.map(|at| ask(at).unwrap()).into_iter().max().unwrap();
        for _ in 0..30 {
            assert_eq!(ask(3).unwrap_err().kind(), ErrorKind::Corrupt);
            for at in sound {
                ask(at).unwrap();
            }
        }
        // Its own page at first, then again and again until it is known to stay as it is.
        let more = fixture.requests() - before;
        assert!((1..=10).contains(&more), "{more} requests");
    }
}
