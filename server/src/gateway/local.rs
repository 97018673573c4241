//! Opening blocks of which all that is needed lies on the local disk: many by each of a few threads,
//! as handing a block to a thread costs more than opening a small one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use engine::block::{BlockInfo, ChunkSource, OpenedBlock, Segments};
use engine::bucket::{BlockObject, ObjectName};
use engine::index::BlockIndex;
use engine::index::column::{self, Check};
use engine::index::tsdb::{self, FileSource};
use engine::model::{BlockId, Error};
use futures_util::{StreamExt, stream};

use super::belongs;
use super::header::INDEX_HEADER;
use super::load::{FOREGROUND_INDEX_BYTES_MAX, blocking};
use super::metrics::StoreMetrics;
use crate::objstore::Bucket;
use crate::sync::SyncedBlock;
use crate::threads::Threads;

/// Name of a block's column index within its folder.
pub(super) const COLUMN_INDEX: &str = "column-index";

/// Column indexes up to this many bytes are checked when they are opened; the sections of larger ones when they are
/// used first, and all of them in the background.
const CHECKED_BYTES_MAX: u64 = 32 << 10;

/// Blocks that a thread opens before it takes more.
const BATCH: usize = 64;

/// Where the files of blocks are.
#[derive(Clone, Debug)]
pub struct Disk {
    data_dir: PathBuf,
    bucket: Option<PathBuf>,
    workers: Threads,
}

/// What became of blocks that were to be opened.
#[derive(Debug, Default)]
pub struct Tried {
    /// They are open.
    pub opened: Vec<Arc<OpenedBlock>>,
    /// Those of them whose column index is yet to be checked.
    pub unchecked: Vec<SyncedBlock>,
    /// They are to be opened otherwise.
    pub others: Vec<SyncedBlock>,
}

impl Disk {
    /// Local files under `data_dir` of the blocks of `bucket`, which are opened by `workers`.
    pub fn new(data_dir: PathBuf, bucket: &Bucket, workers: Threads) -> Self {
        Self { data_dir, bucket: bucket.folder().map(ToOwned::to_owned), workers }
    }

    /// The folder of all blocks.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The folder of a block's local files.
    pub fn folder(&self, id: BlockId) -> PathBuf {
        self.data_dir.join(id.to_string())
    }

    /// Bytes of a block's column index; 0 where it can't be seen.
    pub fn column_bytes(&self, id: BlockId) -> u64 {
        std::fs::metadata(self.folder(id).join(COLUMN_INDEX)).map_or(0, |found| found.len())
    }

    /// Removes a block's index-header, which goes on answering where it is open.
    pub fn remove_header(&self, id: BlockId) {
        remove(&self.folder(id).join(INDEX_HEADER));
    }

    /// Removes a block's column index, which goes on answering where it is open.
    pub fn remove_columns(&self, id: BlockId) {
        remove(&self.folder(id).join(COLUMN_INDEX));
    }

    /// `block` with an index that was opened.
    pub fn opened(&self, block: &SyncedBlock, index: Arc<dyn BlockIndex>) -> OpenedBlock {
        let id = block.meta.ulid;
        let chunks = match &self.bucket {
            Some(folder) => {
                let count = block.files.segments().len() as u32;
                let object = |segment| ObjectName { block: id, object: BlockObject::Segment(segment) }.to_string();
                ChunkSource::Local(Segments::new((0..count).map(|segment| folder.join(object(segment)))))
            }
            None => ChunkSource::Remote(block.files.segments()),
        };
        OpenedBlock::new(BlockInfo::from_meta(&block.meta), index, chunks)
    }

    /// Opens those of `blocks` whose column index is there or quickly built from a local index, on
    /// `threads` threads.
    pub async fn open_all(&self, blocks: Vec<&SyncedBlock>, threads: usize, metrics: &StoreMetrics) -> Tried {
        let batches = blocks.chunks(BATCH).map(|batch| {
            let (disk, metrics) = (self.clone(), metrics.clone());
            let batch: Vec<SyncedBlock> = batch.iter().map(|block| (*block).clone()).collect();
            let kept = batch.clone();
            async move {
                let open = move || {
                    let mut tried = Tried::default();
                    batch.into_iter().for_each(|block| disk.open(block, &metrics, &mut tried));
                    Ok(tried)
                };
                let all_again = |error: Error| {
                    tracing::error!(%error, "opening blocks together failed, opening them one by one");
                    Tried { others: kept, ..Tried::default() }
                };
                blocking(&self.workers, open).await.unwrap_or_else(all_again)
            }
        });
        let mut batches = std::pin::pin!(stream::iter(batches).buffer_unordered(threads.max(1)));
        let mut tried = Tried::default();
        while let Some(batch) = batches.next().await {
            tried.opened.extend(batch.opened);
            tried.unchecked.extend(batch.unchecked);
            tried.others.extend(batch.others);
        }
        tried
    }

    fn open(&self, block: SyncedBlock, metrics: &StoreMetrics, tried: &mut Tried) {
        let started = Instant::now();
        let Some((index, check)) = self.index(&block, metrics) else {
            tried.others.push(block);
            return;
        };
        let opened = self.opened(&block, Arc::new(index));
        metrics.block_loads.inc();
        metrics.block_loaded(started.elapsed());
        tried.opened.push(Arc::new(opened));
        // Where an earlier process was ended before it did so.
        self.remove_header(block.meta.ulid);
        if check == Check::OnFirstUse {
            tried.unchecked.push(block);
        }
    }

    /// The column index, and what of it was checked; `None` where it must be downloaded, takes long to
    /// build, or is damaged, which is told where blocks are opened one by one.
    fn index(&self, block: &SyncedBlock, metrics: &StoreMetrics) -> Option<(column::Reader, Check)> {
        let folder = self.folder(block.meta.ulid);
        let path = folder.join(COLUMN_INDEX);
        if let Ok(found) = std::fs::metadata(&path) {
            return if found.len() > CHECKED_BYTES_MAX {
                let index = column::Reader::open(&path, Check::OnFirstUse).ok()?;
                belongs::check_briefly(block, &index).ok().map(|()| (index, Check::OnFirstUse))
            } else {
                checked(block, &path)
            };
        }
        let bucket = self.bucket.as_ref()?;
        block.files.len_of(BlockObject::Index).filter(|len| *len <= FOREGROUND_INDEX_BYTES_MAX)?;
        let object = ObjectName { block: block.meta.ulid, object: BlockObject::Index };
        let reader = tsdb::Reader::open(FileSource::open(&bucket.join(object.to_string())).ok()?).ok()?;
        std::fs::create_dir_all(&folder).ok()?;
        column::build(&reader, &path).ok()?;
        metrics.index_builds.inc();
        checked(block, &path)
    }
}

/// The column index at `path`, where all of it is sound and it is that of `block`.
fn checked(block: &SyncedBlock, path: &Path) -> Option<(column::Reader, Check)> {
    let index = column::Reader::open(path, Check::Everything).ok()?;
    belongs::check(block, &index).ok().map(|()| (index, Check::Everything))
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a local form of an index that is not needed");
    }
}
