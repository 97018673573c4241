//! Opening blocks of which all that is needed lies on the local disk: many by each of a few threads,
//! as handing a block to a thread costs more than opening a small one.

use std::path::PathBuf;
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
use super::load::{FOREGROUND_INDEX_BYTES_MAX, blocking};
use super::metrics::StoreMetrics;
use crate::objstore::Bucket;
use crate::sync::SyncedBlock;

/// Name of a block's column index within its folder.
pub(super) const COLUMN_INDEX: &str = "column-index";

/// Blocks that a thread opens before it takes more.
const BATCH: usize = 64;

/// Where the files of blocks are.
#[derive(Clone, Debug)]
pub struct Disk {
    data_dir: PathBuf,
    bucket: Option<PathBuf>,
}

/// A block that was opened, or that is to be opened otherwise.
type Tried = Result<Arc<OpenedBlock>, SyncedBlock>;

impl Disk {
    /// Local files under `data_dir` of the blocks of `bucket`.
    pub fn new(data_dir: PathBuf, bucket: &Bucket) -> Self {
        Self { data_dir, bucket: bucket.folder().map(ToOwned::to_owned) }
    }

    /// The folder of all blocks.
    pub fn data_dir(&self) -> &std::path::Path {
        &self.data_dir
    }

    /// The folder of a block's local files.
    pub fn folder(&self, id: BlockId) -> PathBuf {
        self.data_dir.join(id.to_string())
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
    /// `threads` threads; gives back the others.
    pub async fn open_all(
        &self,
        blocks: Vec<&SyncedBlock>,
        threads: usize,
        metrics: &StoreMetrics,
    ) -> (Vec<Arc<OpenedBlock>>, Vec<SyncedBlock>) {
        let batches = blocks.chunks(BATCH).map(|batch| {
            let (disk, metrics) = (self.clone(), metrics.clone());
            let batch: Vec<SyncedBlock> = batch.iter().map(|block| (*block).clone()).collect();
            let kept = batch.clone();
            async move {
                let tried = blocking(move || Ok(batch.into_iter().map(|block| disk.open(block, &metrics)).collect()));
                let all_again = |error: Error| -> Vec<Tried> {
                    tracing::error!(%error, "opening blocks together failed, opening them one by one");
                    kept.into_iter().map(Err).collect()
                };
                tried.await.unwrap_or_else(all_again)
            }
        });
        let mut tried = std::pin::pin!(stream::iter(batches).buffer_unordered(threads.max(1)));
        let (mut opened, mut others) = (Vec::new(), Vec::new());
        while let Some(batch) = tried.next().await {
            for outcome in batch {
                match outcome {
                    Ok(block) => opened.push(block),
                    Err(block) => others.push(block),
                }
            }
        }
        (opened, others)
    }

    fn open(&self, block: SyncedBlock, metrics: &StoreMetrics) -> Tried {
        let started = Instant::now();
        let Some(index) = self.index(&block, metrics) else { return Err(block) };
        let opened = self.opened(&block, Arc::new(index));
        metrics.block_loads.inc();
        metrics.block_loaded(started.elapsed());
        Ok(Arc::new(opened))
    }

    /// The column index; `None` where it must be downloaded, takes long to build, or is damaged, which
    /// is told where blocks are opened one by one.
    fn index(&self, block: &SyncedBlock, metrics: &StoreMetrics) -> Option<column::Reader> {
        let folder = self.folder(block.meta.ulid);
        let path = folder.join(COLUMN_INDEX);
        match column::Reader::open(&path, Check::Everything) {
            Ok(index) => return Some(index).filter(|index| belongs::check(block, index).is_ok()),
            Err(_) if path.exists() => return None,
            Err(_) => {}
        }
        let bucket = self.bucket.as_ref()?;
        block.files.len_of(BlockObject::Index).filter(|len| *len <= FOREGROUND_INDEX_BYTES_MAX)?;
        let object = ObjectName { block: block.meta.ulid, object: BlockObject::Index };
        let reader = tsdb::Reader::open(FileSource::open(&bucket.join(object.to_string())).ok()?).ok()?;
        std::fs::create_dir_all(&folder).ok()?;
        column::build(&reader, &path).ok()?;
        metrics.index_builds.inc();
        column::Reader::open(&path, Check::Everything).ok().filter(|index| belongs::check(block, index).is_ok())
    }
}
