//! Indexes that are answered through Thanos' index-header: symbols and the places of postings from a
//! small local file, postings and series by range from the index, wherever that is.
//!
//! A shard that needs bytes of an index in an object store waits for them; column indexes are there
//! so that it need not.

use std::future::Future;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use engine::bucket::{BlockObject, ObjectName};
use engine::index::pages::PagesRead;
use engine::index::tsdb::{FileSource, Source};
use engine::index::{BlockIndex, HeaderIndex, header};
use engine::io::replace;
use engine::model::{BlockId, Error, ErrorKind};
use tokio::sync::mpsc;

use super::load::blocking;
use super::metrics::StoreMetrics;
use crate::objstore::Bucket;
use crate::objstore::cache::{Ranges, Wanted};

/// Name of an index-header within its block's folder, as Thanos names it.
const INDEX_HEADER: &str = "index-header";

/// Requests for bytes that wait for the mover.
const QUEUE_MAX: usize = 1024;

/// Opens index-headers.
pub struct Headers {
    bucket: Bucket,
    ranges: Ranges,
    mover: OnceLock<Mover>,
    metrics: StoreMetrics,
}

impl Headers {
    /// Index-headers of the blocks of `bucket`, whose indexes are read through `ranges`.
    pub fn new((bucket, ranges): (Bucket, Ranges), metrics: StoreMetrics) -> Self {
        Self { bucket, ranges, mover: OnceLock::new(), metrics }
    }

    /// The index of block `id`, of `len` bytes in the bucket, through its header in `folder`; that is
    /// written when it is not there, damaged or of another index.
    pub async fn open(&self, id: BlockId, len: u64, folder: PathBuf) -> Result<Arc<dyn BlockIndex>, Error> {
        let name = ObjectName { block: id, object: BlockObject::Index };
        let index = match self.bucket.folder() {
            Some(bucket) => IndexSource::File(FileSource::open(&bucket.join(name.to_string()))?),
            None => {
                let mover = self.mover.get_or_init(Mover::start).clone();
                let renewed = Mutex::new(Wanted::Last);
                IndexSource::Object(Box::new(IndexObject { ranges: self.ranges.clone(), name, len, mover, renewed }))
            }
        };
        let metrics = self.metrics.clone();
        blocking(move || {
            let started = Instant::now();
            let path = folder.join(INDEX_HEADER);
            let header = match kept(&index, (id, &path)) {
                Some(header) => header,
                None => {
                    index.renewing(|| write(&index, &folder, &path))?;
                    metrics.header_downloads.observe(started.elapsed().as_secs_f64());
                    header::Reader::open(FileSource::open(&path)?)?
                }
            };
            metrics.header_loads.observe(started.elapsed().as_secs_f64());
            Ok(Arc::new(HeaderIndex::new(header, index)) as Arc<dyn BlockIndex>)
        })
        .await
    }
}

/// The header at `path` when it is that of `index`, the one of block `id`, or when that can't be told now.
fn kept(index: &IndexSource, (id, path): (BlockId, &Path)) -> Option<header::Reader<FileSource>> {
    if !path.exists() {
        return None;
    }
    let why = match FileSource::open(path).and_then(header::Reader::open) {
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

/// Writes the header of `index` at `path`.
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
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(Error::file(path, error)),
        (Ok(()), None) => Ok(()),
    }
}

/// Where the bytes of an index are.
enum IndexSource {
    /// In a file.
    File(FileSource),
    /// In an object store.
    Object(Box<IndexObject>),
}

/// An index in an object store.
struct IndexObject {
    ranges: Ranges,
    name: ObjectName,
    len: u64,
    mover: Mover,
    /// Which pages are read: any, or those that came since some were damaged.
    renewed: Mutex<Wanted>,
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
                let wanted = *index.renewed.lock().unwrap_or_else(PoisonError::into_inner);
                let read = index.mover.wait_for(async move { ranges.read(name, len, (range, wanted)).await })??;
                PagesRead::add(read.downloaded_bytes, read.downloads, begin.elapsed());
                out.copy_from_slice(&read.bytes);
                Ok(())
            }
        }
    }

    fn renew(&self) -> bool {
        let Self::Object(index) = self else { return false };
        *index.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Wanted::After(index.ranges.moment());
        true
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

    /// Runs `future` and waits for its result; not to be called where futures are run.
    fn wait_for<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Result<T, Error> {
        let (sender, receiver) = sync_channel(1);
        let next: Move = Box::pin(async move {
            // The receiver waits until it has the result.
            let _ = sender.send(future.await);
        });
        let gone = || Error::new(ErrorKind::Bug, "the thread that reads indexes from the bucket has ended");
        self.queue.blocking_send(next).map_err(|_| gone())?;
        receiver.recv().map_err(|_| gone())
    }
}
