//! A block that can be asked. Immutable; shared by `Arc` between cores and requests.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::io::{File, KeptOpen};
use crate::model::{BlockId, Error, ErrorKind, Labels, Resolution, TimeRange};

use crate::bucket::Meta;
use crate::index::{BlockIndex, ChunkColumns, Unreadable};

use super::series::ChunkPlace;

/// Name under which block matchers see a block's id, as in Thanos' relabelling.
pub const BLOCK_ID_LABEL: &str = "__block_id";

/// What a chunk is guessed to have at most where the index doesn't say, in bytes: Thanos' figure.
pub const CHUNK_BYTES_GUESS: u32 = 16_000;

/// What a block is, as its meta.json says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Its id.
    pub id: BlockId,
    /// First millisecond that it covers.
    pub min_time: i64,
    /// First millisecond that it no longer covers.
    pub max_time: i64,
    /// Milliseconds between samples; 0 for raw data.
    pub resolution: Resolution,
    /// Number of its series.
    pub series: u64,
    /// Labels that all its series have besides their own.
    pub external_labels: Labels,
}

/// How much of a series is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Labels of the series that have a chunk in the time range.
    Labels,
    /// Labels, and all chunks that share a millisecond with the time range.
    Chunks,
}

/// Buffers for looking up chunks; of one thread.
#[derive(Debug, Default)]
pub struct ChunkScratch {
    chunks: ChunkColumns,
    places: Vec<ChunkPlace>,
}

/// Where a block's chunks are.
#[derive(Debug)]
pub enum ChunkSource {
    /// In local segment files, which shards read themselves.
    Local(Segments),
    /// Elsewhere: the caller fetches what read plans ask for. Lengths of the segments, in bytes.
    Remote(Vec<u64>),
    /// In memory: the bytes of the segments.
    Memory(Vec<Bytes>),
}

/// Local segment files, opened when they are first read. They stay open while the process has not too many
/// of them; the others are opened each time.
#[derive(Debug)]
pub struct Segments {
    files: Vec<(PathBuf, OnceLock<Kept>)>,
}

/// A file that stays open, with the right to that.
type Kept = (Arc<File>, KeptOpen);

/// What a block belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// A bucket: what overlaps in its blocks is answered as it is.
    Bucket,
    /// A tenant's TSDB, with all blocks there of the same external labels: what overlaps in them is answered as
    /// one.
    Tsdb,
}

/// An opened block.
pub struct OpenedBlock {
    info: BlockInfo,
    home: Home,
    index: Arc<dyn BlockIndex>,
    chunks: ChunkSource,
    chunk_bytes: u64,
}

impl BlockInfo {
    /// What a block's meta.json says.
    pub fn from_meta(meta: &Meta) -> Self {
        Self {
            id: meta.ulid,
            min_time: meta.min_time,
            max_time: meta.max_time,
            resolution: meta.resolution(),
            series: meta.stats.num_series,
            external_labels: meta.external_labels(),
        }
    }

    /// What is known of a block whose meta.json can't be read: it may hold anything.
    pub fn unknown(id: BlockId) -> Self {
        let (min_time, max_time, external_labels) = (i64::MIN, i64::MAX, Labels::default());
        Self { id, min_time, max_time, resolution: Resolution::RAW, series: 0, external_labels }
    }

    /// Whether its meta.json could be read.
    pub fn is_known(&self) -> bool {
        self.min_time > i64::MIN || self.max_time < i64::MAX
    }
}

impl Segments {
    /// The segment files `paths`, in their order.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: paths.into_iter().map(|path| (path, OnceLock::new())).collect() }
    }

    /// Segment number `at`, from 0.
    pub fn file(&self, at: u32) -> Result<Arc<File>, Error> {
        let Some((path, opened)) = self.files.get(at as usize) else {
            let message = format!("chunks/{:06}: the index points into a segment that isn't there", at + 1);
            return Err(Error::new(ErrorKind::Corrupt, message));
        };
        let kept = || opened.get().map(|(file, _)| Arc::clone(file));
        if let Some(file) = kept() {
            return Ok(file);
        }
        let file = match File::open(path) {
            Ok(file) => Arc::new(file),
            // It was deleted meanwhile, and opened before that for those who read it.
            Err(error) => return kept().ok_or(error),
        };
        if let Some(right) = KeptOpen::take() {
            // Another thread may have been the first.
            let _ = opened.set((Arc::clone(&file), right));
        }
        Ok(file)
    }

    /// Opens those that are not open yet, however many that are; they stay open.
    fn hold(&self) {
        for (path, opened) in &self.files {
            if opened.get().is_none()
                && let Ok(file) = File::open(path)
            {
                // Another thread may have been the first.
                let _ = opened.set((Arc::new(file), KeptOpen::take_beyond()));
            }
        }
    }

    /// Number of segments.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is no segment.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn bytes(&self) -> u64 {
        self.files.iter().filter_map(|(path, _)| Some(std::fs::metadata(path).ok()?.len())).sum()
    }
}

impl OpenedBlock {
    /// The block of a bucket that `info` describes, with its index and chunks.
    pub fn new(info: BlockInfo, index: Arc<dyn BlockIndex>, chunks: ChunkSource) -> Self {
        let chunk_bytes = match &chunks {
            ChunkSource::Local(segments) => segments.bytes(),
            ChunkSource::Remote(lengths) => lengths.iter().sum(),
            ChunkSource::Memory(segments) => segments.iter().map(|segment| segment.len() as u64).sum(),
        };
        Self { info, home: Home::Bucket, index, chunks, chunk_bytes }
    }

    /// The same block as one of a TSDB.
    pub fn in_tsdb(self) -> Self {
        Self { home: Home::Tsdb, ..self }
    }

    /// A block that can't be read because of `error`, which whoever asks for it is told.
    pub fn unreadable(info: BlockInfo, error: Error) -> Self {
        Self::new(info, Arc::new(Unreadable(error)), ChunkSource::Remote(Vec::new()))
    }

    /// The same block with its chunks elsewhere.
    pub fn with_chunks(&self, chunks: ChunkSource) -> Self {
        Self { home: self.home, ..Self::new(self.info.clone(), Arc::clone(&self.index), chunks) }
    }

    /// What the block is.
    pub fn info(&self) -> &BlockInfo {
        &self.info
    }

    /// Its id.
    pub fn id(&self) -> BlockId {
        self.info.id
    }

    /// What it belongs to.
    pub fn home(&self) -> Home {
        self.home
    }

    /// Its index.
    pub fn index(&self) -> &dyn BlockIndex {
        &*self.index
    }

    /// Number of its series, or what it is at most: meta.json's number, unless it says none or more
    /// than the index can hold.
    pub fn series_max(&self) -> u64 {
        match (self.info.series, self.index.series_max()) {
            (0, max) => max,
            (said, max) => said.min(max),
        }
    }

    /// Where its chunks are.
    pub fn chunks(&self) -> &ChunkSource {
        &self.chunks
    }

    /// Holds its local files open from now on, as they are to be deleted: whoever has the block goes on reading it. One
    /// that can't be opened is missed by those who read it.
    pub fn hold_files(&self) {
        if let ChunkSource::Local(segments) = &self.chunks {
            segments.hold();
        }
    }

    /// Whether who asks its index may have to wait for bytes that are not local: its index file lies where its
    /// segments do.
    pub fn index_waits(&self) -> bool {
        self.index.reads_index_file() && matches!(self.chunks, ChunkSource::Remote(_))
    }

    /// Bytes of all its segments.
    pub fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    /// Whether a sample of the block may lie in `range`.
    pub fn overlaps(&self, range: TimeRange) -> bool {
        self.info.min_time <= range.max_time && range.min_time < self.info.max_time
    }

    /// Whether `range` covers the block, so that every series has a chunk in it.
    pub fn is_within(&self, range: TimeRange) -> bool {
        range.min_time <= self.info.min_time && self.info.max_time.saturating_sub(1) <= range.max_time
    }

    /// Calls `each` with the place in `ordinals` and the chunks of every series that has a chunk in
    /// `range`, in order.
    pub fn visit_chunks(
        &self,
        ordinals: &[u32],
        range: TimeRange,
        scratch: &mut ChunkScratch,
        mut each: impl FnMut(usize, &[ChunkPlace]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let ChunkScratch { chunks, places } = scratch;
        chunks.clear();
        self.index.chunks(ordinals, range, chunks)?;
        for at in 0..ordinals.len() {
            chunk_places(chunks, at, places);
            if !places.is_empty() {
                each(at, places)?;
            }
        }
        Ok(())
    }

    /// An error in this block, with its id before it.
    pub fn place(&self, error: Error) -> Error {
        error.within(format_args!("block {}", self.info.id))
    }
}

impl std::fmt::Debug for OpenedBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenedBlock").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Where the index says that chunks are; guesses lengths that it doesn't know.
fn chunk_places(columns: &ChunkColumns, at: usize, places: &mut Vec<ChunkPlace>) {
    let (metas, lens) = columns.of(at);
    places.clear();
    places.extend(metas.iter().zip(lens).map(|(meta, len)| ChunkPlace {
        min_time: meta.min_time,
        max_time: meta.max_time,
        segment: meta.chunk_ref.segment(),
        offset: meta.chunk_ref.offset(),
        len: if *len == 0 { CHUNK_BYTES_GUESS } else { *len },
    }));
}
