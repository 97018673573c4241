//! Opening a block: its column index from the local disk, built there when it is new or damaged,
//! and its chunks where they are.
//!
//! ```text
//! <data dir>/<ULID>/column-index      built from the block's index
//! <data dir>/<ULID>/index.part        an index on its way here from an object store
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use engine::block::{BlockInfo, ChunkSource, OpenedBlock, Segments};
use engine::bucket::{BlockObject, ObjectName};
use engine::index::column::{self, Check};
use engine::index::tsdb::{self, FileSource};
use engine::model::{BlockId, Error, ErrorKind};
use futures_util::{StreamExt, stream};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use super::metrics::StoreMetrics;
use crate::objstore::Bucket;
use crate::sync::SyncedBlock;

/// Name of a block's column index within its folder.
const COLUMN_INDEX: &str = "column-index";

/// Name of an index that is not whole yet.
const PART: &str = "index.part";

/// Opens blocks, several at once.
pub struct Loader {
    bucket: Bucket,
    data_dir: PathBuf,
    concurrency: usize,
    /// Column indexes that are built at once.
    builds: Semaphore,
    metrics: StoreMetrics,
}

impl Loader {
    /// A loader that keeps its files under `data_dir` and opens `concurrency` blocks at once.
    pub fn new(bucket: Bucket, data_dir: PathBuf, concurrency: usize, metrics: StoreMetrics) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { bucket, data_dir, concurrency: concurrency.max(1), builds: Semaphore::new(cores), metrics }
    }

    /// Opens `blocks`; those that can't be opened are left out, with a warning each.
    pub async fn open_all(&self, blocks: Vec<&SyncedBlock>) -> Vec<Arc<OpenedBlock>> {
        let opening = blocks.into_iter().map(|block| async move {
            let started = Instant::now();
            self.metrics.block_loads.inc();
            match self.open(block).await {
                Ok(opened) => {
                    self.metrics.block_loaded(started.elapsed());
                    tracing::debug!(block = %block.meta.ulid, elapsed = ?started.elapsed(), "loaded new block");
                    Some(Arc::new(opened))
                }
                Err(error) => {
                    self.metrics.block_load_failures.inc();
                    tracing::warn!(block = %block.meta.ulid, %error, "loading block failed");
                    None
                }
            }
        });
        stream::iter(opening).buffer_unordered(self.concurrency).filter_map(async |opened| opened).collect().await
    }

    /// Removes a block's local files.
    pub fn remove(&self, id: BlockId) {
        let folder = self.folder(id);
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            self.metrics.block_drop_failures.inc();
            tracing::warn!(block = %id, %error, "cannot remove the local files of a dropped block");
        }
    }

    /// Removes the local files of all blocks but those that `keep` names.
    pub fn remove_others(&self, keep: impl Fn(BlockId) -> bool) {
        for entry in std::fs::read_dir(&self.data_dir).into_iter().flatten().flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse::<BlockId>().ok());
            if let Some(id) = id.filter(|id| !keep(*id)) {
                self.remove(id);
            }
        }
    }

    async fn open(&self, block: &SyncedBlock) -> Result<OpenedBlock, Error> {
        let id = block.meta.ulid;
        let index = self.index(id, block).await.map_err(|error| error.within(format_args!("block {id}")))?;
        let chunks = match self.bucket.folder() {
            Some(folder) => {
                let count = block.files.segments().len() as u32;
                let object = |segment| ObjectName { block: id, object: BlockObject::Segment(segment) }.to_string();
                ChunkSource::Local(Segments::new((0..count).map(|segment| folder.join(object(segment)))))
            }
            None => ChunkSource::Remote(block.files.segments()),
        };
        Ok(OpenedBlock::new(BlockInfo::from_meta(&block.meta), Arc::new(index), chunks))
    }

    async fn index(&self, id: BlockId, block: &SyncedBlock) -> Result<column::Reader, Error> {
        let path = self.folder(id).join(COLUMN_INDEX);
        if path.exists() {
            match open_index(path.clone()).await {
                Ok(index) => return Ok(index),
                Err(error) => {
                    self.metrics.index_rebuilds.inc();
                    tracing::warn!(block = %id, %error, "column index is damaged, building it anew");
                }
            }
        }
        if block.files.len_of(BlockObject::Index).is_none() {
            return Err(Error::new(ErrorKind::Corrupt, "there is no index"));
        }
        std::fs::create_dir_all(self.folder(id)).map_err(|error| at(&path, &error))?;
        let object = ObjectName { block: id, object: BlockObject::Index }.to_string();
        match self.bucket.folder() {
            Some(folder) => self.build(folder.join(object), &path).await?,
            None => {
                let part = self.folder(id).join(PART);
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
        open_index(path).await
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
        let mut file = tokio::fs::File::create(to).await.map_err(|error| at(to, &error))?;
        while let Some(bytes) = stream.next().await {
            file.write_all(&bytes?).await.map_err(|error| at(to, &error))?;
        }
        file.flush().await.map_err(|error| at(to, &error))
    }

    fn folder(&self, id: BlockId) -> PathBuf {
        self.data_dir.join(id.to_string())
    }
}

/// Checks every section, so that a damaged file is built anew here and not told to a request.
async fn open_index(path: PathBuf) -> Result<column::Reader, Error> {
    blocking(move || column::Reader::open(&path, Check::Everything)).await
}

/// Runs what takes CPU or waits for the disk on a thread where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let finished = tokio::task::spawn_blocking(work).await;
    finished.unwrap_or_else(|error| Err(Error::new(ErrorKind::Bug, format!("opening a block panicked: {error}"))))
}

fn at(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{}: {error}", path.display()))
}
