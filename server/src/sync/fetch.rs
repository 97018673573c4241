//! One recursive listing shows every block, its objects and its markers; metas are read from
//! memory, then from disk, and only then from the bucket, several at once.
//!
//! ```text
//! <data dir>/meta-syncer/<ULID>/meta.json     a copy of each meta of the bucket
//! <data dir>/meta-syncer/<ULID>/meta.sum      of which change it is, in Unix milliseconds, and its checksum
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use engine::bucket::marker::Marker;
use engine::bucket::meta::File as MetaFile;
use engine::bucket::name;
use engine::bucket::{BlockObject, DeletionMark, Meta, ObjectName};
use engine::model::{BlockId, Error, ErrorKind};
use futures_util::{StreamExt, stream};
use xxhash_rust::xxh3::xxh3_64;

use super::filter::Filters;
use super::metrics::{State, SyncMetrics, Tally};
use crate::objstore::{Bucket, ObjectInfo};

/// Metas that a thread reads before it takes more.
const READ_BATCH: usize = 64;

/// Threads that read metas of a bucket that is a folder.
const READING_THREADS_MAX: usize = 8;

/// What the file beside the copy of a meta is called, instead of `json`.
const SUM: &str = "sum";

/// Most segments of a block that are missing in a row: whatever a file is called, room is made for all that
/// may lie before it.
const MISSING_SEGMENTS_MAX: usize = 1000;

/// A block's objects as a listing shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockFiles {
    /// Length in bytes of each object.
    pub objects: BTreeMap<BlockObject, u64>,
    /// Unix milliseconds of the last change of the index and of each segment, where they are files: whoever has one
    /// open goes on reading it when another takes its place.
    pub data_modified: BTreeMap<BlockObject, i64>,
    /// Unix milliseconds of meta.json's last change.
    pub meta_modified: i64,
    /// Unix milliseconds of the last change of any object, those that are no block's among them.
    pub modified: i64,
}

impl BlockFiles {
    /// Lengths of the segment files, in their order; a file that is missing is 0 bytes long. Files behind a
    /// longer row of missing ones than [`MISSING_SEGMENTS_MAX`] are none of the block.
    pub fn segments(&self) -> Vec<u64> {
        let mut lengths = Vec::new();
        for (object, len) in &self.objects {
            if let BlockObject::Segment(at) = object {
                let at = *at as usize;
                if at > lengths.len() + MISSING_SEGMENTS_MAX {
                    break;
                }
                lengths.resize(at, 0);
                lengths.push(*len);
            }
        }
        lengths
    }

    /// Whether the index and the segments are those of `other`, as far as their lengths and, of files, times tell.
    pub fn holds_data_of(&self, other: &Self) -> bool {
        self.data().eq(other.data()) && self.data_modified == other.data_modified
    }

    /// Whether the index or a segment came since `before`, has another length or is another file, while none is gone:
    /// what is gone belongs to a block that is being deleted.
    pub fn has_more_data_than(&self, before: &Self) -> bool {
        !self.holds_data_of(before) && before.data().all(|(object, _)| self.objects.contains_key(object))
    }

    fn data(&self) -> impl Iterator<Item = (&BlockObject, &u64)> {
        self.objects.iter().filter(|(object, _)| object.is_index_or_segment())
    }

    /// Whether the data of the block that `meta` describes is there, as far as a listing tells: an index and a segment,
    /// and all those that meta.json tells of, with their lengths.
    pub fn holds_all_of(&self, meta: &Meta) -> bool {
        let has = |is_index: bool| self.data().any(|(object, _)| (*object == BlockObject::Index) == is_index);
        let is_there = |file: &MetaFile| {
            let data = BlockObject::parse(&file.rel_path).filter(|object| object.is_index_or_segment());
            data.is_none_or(|object| self.len_of(object).is_some_and(|len| file.may_have(len)))
        };
        has(true) && has(false) && meta.files().iter().all(is_there)
    }

    /// Length of an object; `None` when there is none.
    pub fn len_of(&self, object: BlockObject) -> Option<u64> {
        self.objects.get(&object).copied()
    }
}

/// A block that is whole.
#[derive(Clone, Debug)]
pub struct SyncedBlock {
    /// Its meta.json.
    pub meta: Arc<Meta>,
    /// Its objects.
    pub files: BlockFiles,
    /// Its deletion mark.
    pub deletion_mark: Option<DeletionMark>,
}

impl SyncedBlock {
    /// The markers that lie beside the block, by what they are for.
    pub fn marks(&self) -> Vec<&'static str> {
        let marks = [
            (BlockObject::DeletionMark, "deletion"),
            (BlockObject::NoCompactMark, "no-compact"),
            (BlockObject::NoDownsampleMark, "no-downsample"),
        ];
        let found = marks.iter().filter(|(object, _)| self.files.len_of(*object).is_some());
        found.map(|(_, name)| *name).collect()
    }
}

/// A block that is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialBlock {
    /// What is wrong.
    pub why: String,
    /// Unix milliseconds of the last change of its objects.
    pub modified: i64,
}

/// What a sync has seen.
#[derive(Debug, Default)]
pub struct View {
    /// Blocks that count.
    pub blocks: BTreeMap<BlockId, SyncedBlock>,
    /// Blocks without a meta.json, or with one that was cut off.
    pub partial: BTreeMap<BlockId, PartialBlock>,
    /// Blocks whose meta.json or deletion mark is whole and not understood, such as one of a version to come, or whose
    /// meta.json does not come as it is listed, with the reason. They are somebody's: not to be deleted, and not to be
    /// merged around.
    pub unknown: BTreeMap<BlockId, Error>,
    /// Blocks whose meta.json is there and says nothing, cut off or not understood, with the reason; but for
    /// those that are to be deleted.
    pub unreadable: BTreeMap<BlockId, Error>,
    /// Blocks whose meta.json is there and could not be fetched, with the reason; but for those that are to be
    /// deleted.
    pub unfetched: BTreeMap<BlockId, Error>,
    /// Blocks that filters have left out, whichever: those that are too fresh among them.
    pub left_out: BTreeSet<BlockId>,
    /// Blocks with a meta.json and a deletion mark, whether they count or not. What is left of one whose deletion was
    /// killed is among the partial ones.
    pub marked: BTreeMap<BlockId, DeletionMark>,
    /// Blocks that were left out because others hold the same.
    pub duplicates: Vec<BlockId>,
    /// Why blocks are missing from this view, when some metas could not be read. Nothing must be
    /// dropped for being absent from such a view.
    pub incomplete: Option<Error>,
    /// What became of all blocks.
    pub tally: Tally,
}

/// How metas are fetched.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// Where copies of metas are kept; none: nowhere.
    pub data_dir: Option<PathBuf>,
    /// Metas that are read from the bucket at once.
    pub concurrency: usize,
}

/// Sees which blocks a bucket holds.
pub struct Fetcher {
    bucket: Bucket,
    cache_dir: Option<PathBuf>,
    concurrency: usize,
    metrics: SyncMetrics,
    seen: Mutex<HashMap<BlockId, Seen>>,
}

#[derive(Clone)]
struct Seen {
    modified: i64,
    meta: Arc<Meta>,
}

/// What reading a meta came to.
enum Read {
    Meta(Arc<Meta>),
    Gone,
    Corrupted(Error),
    Unknown(Error),
    Failed(Error),
}

/// Why a deletion mark is not told.
enum MarkFault {
    Unknown(Error),
    Failed(Error),
}

impl Fetcher {
    /// A fetcher that has seen nothing yet.
    pub fn new(bucket: Bucket, options: &FetchOptions, metrics: SyncMetrics) -> Self {
        Self {
            bucket,
            cache_dir: options.data_dir.as_ref().map(|dir| dir.join("meta-syncer")),
            concurrency: options.concurrency.max(1),
            metrics,
            seen: Mutex::default(),
        }
    }

    /// What the bucket holds now, as far as `filters` let it through. Fails only when the bucket
    /// can't be listed.
    pub async fn fetch(&self, filters: &Filters) -> Result<View, Error> {
        let mut timed = self.metrics.begin();
        let view = self.fetch_all(filters).await?;
        timed.tally = Some(view.tally);
        tracing::info!(
            duration_ms = timed.started.elapsed().as_millis() as u64,
            returned = view.blocks.len(),
            partial = view.partial.len(),
            failed = view.tally.of(State::Failed),
            "synchronized block metadata"
        );
        Ok(view)
    }

    async fn fetch_all(&self, filters: &Filters) -> Result<View, Error> {
        let mut listed: BTreeMap<BlockId, BlockFiles> = BTreeMap::new();
        self.bucket.list("", |object| note(&mut listed, &object)).await?;
        if self.bucket.folder().is_none() {
            listed.values_mut().for_each(|files| files.data_modified.clear());
        }
        let mut view = View::default();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_changed = |(id, files): &(&BlockId, &BlockFiles)| {
            let seen = seen.get(id).filter(|_| files.len_of(BlockObject::Meta).is_some());
            seen.is_some_and(|seen| seen.modified != files.meta_modified)
        };
        self.metrics.note_changed(listed.iter().filter(is_changed).count());
        let mut local = self.read_files(&listed, &seen).await;
        let reads = listed.into_iter().map(|(id, files)| {
            let (seen, local) = (seen.get(&id).cloned(), local.remove(&id));
            async move {
                let read = match local {
                    Some(read) => read,
                    None => self.read(id, &files, seen).await,
                };
                let mark = self.deletion_mark(id, &files).await;
                (id, files, read, mark)
            }
        });
        let mut reads = stream::iter(reads).buffer_unordered(self.concurrency);
        while let Some((id, files, read, mark)) = reads.next().await {
            view.take(id, files, (read, mark));
        }
        if view.incomplete.is_none() {
            self.remember(&view);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        view.left_out = view.blocks.keys().copied().collect();
        let seen = filters.apply(&mut view.blocks, i64::try_from(now).unwrap_or(i64::MAX), &mut view.tally);
        (view.marked, view.duplicates) = (seen.marked, seen.duplicates);
        view.left_out.retain(|id| !view.blocks.contains_key(id));
        self.metrics.set_modified(i64::try_from(seen.labels_removed).unwrap_or(i64::MAX));
        let is_kept = |block: &&SyncedBlock| block.files.len_of(BlockObject::NoCompactMark).is_some();
        view.tally.add_many(State::MarkedForNoCompaction, view.blocks.values().filter(is_kept).count());
        view.tally.add_many(State::Loaded, view.blocks.len());
        Ok(view)
    }

    async fn read(&self, id: BlockId, files: &BlockFiles, seen: Option<Seen>) -> Read {
        let Some(len) = files.len_of(BlockObject::Meta) else { return Read::Gone };
        match seen {
            Some(seen) if seen.modified == files.meta_modified => return Read::Meta(seen.meta),
            // The copy is of what it was before.
            Some(_) => {}
            None => {
                if let Some(meta) = self.read_copy(id, (len, files.meta_modified)) {
                    return Read::Meta(meta);
                }
            }
        }
        let bytes = match self.get_meta(id, len).await {
            Ok(bytes) => bytes,
            Err(read) => return read,
        };
        let read = understand(id, &bytes);
        if let Read::Meta(_) = &read {
            self.write_copy(id, &bytes, files.meta_modified);
        }
        read
    }

    /// The meta.json that a listing shows with `len` bytes, or what reading it came to: one that does not come as it is
    /// listed is not known.
    async fn get_meta(&self, id: BlockId, len: u64) -> Result<Bytes, Read> {
        let name = ObjectName { block: id, object: BlockObject::Meta }.to_string();
        let bytes = self.bucket.get(&name).await.map_err(Read::Failed)?;
        let came = bytes.as_ref().map(|bytes| bytes.len() as u64);
        if came != Some(len) {
            // It may have been deleted or written anew since.
            let mut listed = None;
            let note = |object: ObjectInfo| listed = listed.or((object.name == name).then_some(object.len));
            self.bucket.list(&id.to_string(), note).await.map_err(Read::Failed)?;
            as_listed(listed, came).map_err(Read::Unknown)?;
        }
        bytes.ok_or(Read::Gone)
    }

    /// Metas of a bucket that is a folder, but those seen before: a few threads read many each, as
    /// handing one to a thread costs more than reading it.
    async fn read_files(&self, listed: &BTreeMap<BlockId, BlockFiles>, seen: &HashMap<BlockId, Seen>) -> Metas {
        let Some(folder) = self.bucket.folder() else { return Metas::new() };
        let is_new = |(id, files): &(&BlockId, &BlockFiles)| {
            files.len_of(BlockObject::Meta).is_some()
                && seen.get(id).is_none_or(|seen| seen.modified != files.meta_modified)
        };
        let wanted: Vec<BlockId> = listed.iter().filter(is_new).map(|(id, _)| *id).collect();
        let threads = self.concurrency.min(READING_THREADS_MAX);
        let batches = wanted.chunks(READ_BATCH).map(|batch| {
            let (bucket, folder, batch) = (self.bucket.clone(), folder.to_owned(), batch.to_vec());
            async move {
                let read = move || -> Vec<(BlockId, Read)> {
                    batch.into_iter().map(|id| (id, read_file(&bucket, &folder, id))).collect()
                };
                // What a batch did not bring is read by itself.
                tokio::task::spawn_blocking(read).await.unwrap_or_default()
            }
        });
        let read: Vec<Vec<(BlockId, Read)>> = stream::iter(batches).buffer_unordered(threads).collect().await;
        read.into_iter().flatten().collect()
    }

    /// The copy on disk; `None` when there is none of this length and of this change, or it is damaged.
    fn read_copy(&self, id: BlockId, (len, modified): (u64, i64)) -> Option<Arc<Meta>> {
        let path = self.copy_path(id)?;
        let bytes = std::fs::read(&path).ok()?;
        let sum = std::fs::read_to_string(path.with_extension(SUM)).ok()?;
        if bytes.len() as u64 != len || sum != sum_of(&bytes, modified) {
            return None;
        }
        match understand(id, &bytes) {
            Read::Meta(meta) => Some(meta),
            _ => None,
        }
    }

    fn write_copy(&self, id: BlockId, bytes: &[u8], modified: i64) {
        let Some(path) = self.copy_path(id) else { return };
        // One without the other is fetched again.
        let written = write_whole(&path, bytes)
            .and_then(|()| write_whole(&path.with_extension(SUM), sum_of(bytes, modified).as_bytes()));
        if let Err(error) = written {
            tracing::warn!(block = %id, %error, "cannot keep a copy of meta.json");
        }
    }

    /// Where the copy of a block's meta is; none for a bucket that is a folder itself.
    fn copy_path(&self, id: BlockId) -> Option<PathBuf> {
        if self.bucket.folder().is_some() {
            return None;
        }
        Some(self.cache_dir.as_ref()?.join(id.to_string()).join("meta.json"))
    }

    /// The deletion mark; one that was cut off is none, with a warning: the block stays rather than goes.
    async fn deletion_mark(&self, id: BlockId, files: &BlockFiles) -> Result<Option<DeletionMark>, MarkFault> {
        if files.len_of(BlockObject::DeletionMark).is_none() {
            return Ok(None);
        }
        let name = ObjectName { block: id, object: BlockObject::DeletionMark }.to_string();
        let Some(bytes) = self.bucket.get(&name).await.map_err(MarkFault::Failed)? else { return Ok(None) };
        match DeletionMark::parse(&bytes) {
            Ok(mark) => Ok(Some(mark)),
            Err(error) if is_json(&bytes) => Err(MarkFault::Unknown(error)),
            Err(error) => {
                tracing::warn!(block = %id, %error, "cannot read deletion-mark.json");
                Ok(None)
            }
        }
    }

    /// Keeps what a complete view has seen, and forgets copies of blocks that are gone.
    fn remember(&self, view: &View) {
        let seen = view
            .blocks
            .iter()
            .map(|(id, block)| (*id, Seen { modified: block.files.meta_modified, meta: Arc::clone(&block.meta) }));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen.collect();
        let Some(dir) = &self.cache_dir else { return };
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse::<BlockId>().ok());
            if id.is_some_and(|id| !view.blocks.contains_key(&id))
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "cannot remove a copy that is not needed");
            }
        }
    }
}

/// Metas that were read.
type Metas = HashMap<BlockId, Read>;

fn read_file(bucket: &Bucket, folder: &Path, id: BlockId) -> Read {
    let name = ObjectName { block: id, object: BlockObject::Meta }.to_string();
    match bucket.read_file(folder, &name) {
        Ok(Some(bytes)) => understand(id, &bytes),
        Ok(None) => Read::Gone,
        Err(error) => Read::Failed(error),
    }
}

impl View {
    fn take(&mut self, id: BlockId, files: BlockFiles, (read, mark): (Read, Result<Option<DeletionMark>, MarkFault>)) {
        let deletion_mark = mark.unwrap_or_else(|fault| {
            match fault {
                MarkFault::Unknown(error) => {
                    tracing::warn!(block = %id, %error, "deletion-mark.json is not understood");
                    self.unknown.insert(id, error);
                }
                MarkFault::Failed(error) => {
                    tracing::warn!(block = %id, %error, "cannot read deletion-mark.json");
                    self.incomplete.get_or_insert(error);
                }
            }
            None
        });
        if let (Read::Corrupted(error) | Read::Unknown(error), None) = (&read, &deletion_mark) {
            self.unreadable.insert(id, error.clone());
        }
        if let (Read::Failed(error), None) = (&read, &deletion_mark) {
            self.unfetched.insert(id, error.clone());
        }
        match read {
            Read::Meta(meta) => drop(self.blocks.insert(id, SyncedBlock { meta, files, deletion_mark })),
            Read::Gone => {
                self.tally.add(State::NoMeta);
                let why = "there is no meta.json".to_owned();
                self.partial.insert(id, PartialBlock { why, modified: files.modified });
            }
            Read::Corrupted(error) => {
                tracing::warn!(block = %id, %error, "block left out");
                self.tally.add(State::Corrupted);
                self.partial.insert(id, PartialBlock { why: error.to_string(), modified: files.modified });
            }
            Read::Unknown(error) => {
                tracing::warn!(block = %id, %error, "block left out: what its meta.json says is not known");
                self.tally.add(State::Failed);
                self.unknown.insert(id, error);
            }
            Read::Failed(error) => {
                tracing::warn!(block = %id, %error, "cannot read meta.json");
                self.tally.add(State::Failed);
                self.incomplete.get_or_insert(error);
            }
        }
    }
}

/// Takes an object into account. One that is none of a block's own still shows that its folder is there.
fn note(listed: &mut BTreeMap<BlockId, BlockFiles>, object: &ObjectInfo) {
    let Some((folder, path)) = object.name.split_once('/') else { return };
    let Some(block) = name::block_folder(folder) else { return };
    let files = listed.entry(block).or_default();
    files.modified = files.modified.max(object.modified);
    let Some(kind) = BlockObject::parse(path) else { return };
    files.objects.insert(kind, object.len);
    match kind {
        BlockObject::Meta => files.meta_modified = object.modified,
        BlockObject::Index | BlockObject::Segment(_) => {
            files.data_modified.insert(kind, object.modified);
        }
        _ => {}
    }
}

/// What a meta.json says. One that was cut off is what a broken-off upload leaves; one that is whole is not,
/// whatever it holds.
fn understand(id: BlockId, bytes: &[u8]) -> Read {
    match Meta::parse(bytes) {
        Ok(meta) if meta.ulid != id => {
            let message = format!("meta.json is that of block {}", meta.ulid);
            Read::Unknown(Error::new(ErrorKind::Corrupt, message))
        }
        Ok(mut meta) => {
            if meta.compaction.sources.is_empty() {
                // Without a source of its own all others would be taken to hold it.
                meta.compaction.sources.push(id);
            }
            Read::Meta(Arc::new(meta))
        }
        Err(error) if is_json(bytes) => Read::Unknown(error),
        Err(error) => Read::Corrupted(error),
    }
}

/// Whether as many bytes of a meta.json came as are listed; `None` is no object. A bucket that contradicts itself does
/// not tell what is there.
pub fn as_listed(listed: Option<u64>, came: Option<u64>) -> Result<(), Error> {
    if listed == came {
        return Ok(());
    }
    let told = |len: Option<u64>| len.map_or_else(|| "no such object".to_owned(), |len| format!("{len} bytes"));
    let message = format!(
        "meta.json: the bucket lists {} and gives {}: see to it, or to what lies before it",
        told(listed),
        told(came)
    );
    Err(Error::new(ErrorKind::Unavailable, message))
}

/// What stands beside a copy of a meta.json that was changed at `modified`.
fn sum_of(bytes: &[u8], modified: i64) -> String {
    format!("{modified} {:016x}\n", xxh3_64(bytes))
}

/// Whether `bytes` are a whole value of JSON, understood or not.
pub fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// Writes a file beside its place and moves it there.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("tmp");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_segment_far_behind_all_others_is_none_of_the_block() {
        let mut files = BlockFiles::default();
        for (segment, len) in [(0, 10), (2, 30), (u32::MAX - 1, 50)] {
            files.objects.insert(BlockObject::Segment(segment), len);
        }
        assert_eq!(files.segments(), [10, 0, 30]);
    }

    #[test]
    fn data_that_came_or_has_another_length_is_more_and_markers_or_what_is_gone_are_not() {
        let files = |objects: &[(BlockObject, u64)]| BlockFiles {
            objects: objects.iter().copied().collect(),
            ..BlockFiles::default()
        };
        let (index, first, second) = (BlockObject::Index, BlockObject::Segment(0), BlockObject::Segment(1));
        let before = files(&[(index, 5), (first, 10)]);
        for (objects, is_more) in [
            (&[(index, 5), (first, 10)][..], false),
            (&[(index, 5), (first, 10), (BlockObject::DeletionMark, 1)], false),
            (&[(index, 5), (first, 20)], true),
            (&[(index, 5), (first, 10), (second, 1)], true),
            (&[(index, 4), (first, 10)], true),
            (&[(first, 10), (second, 1)], false),
            (&[(index, 5)], false),
        ] {
            assert_eq!(files(objects).has_more_data_than(&before), is_more, "{objects:?}");
        }
    }

    #[test]
    fn a_file_in_the_place_of_one_as_long_is_more_data() {
        let files = |modified: i64| BlockFiles {
            objects: BTreeMap::from([(BlockObject::Segment(0), 10)]),
            data_modified: BTreeMap::from([(BlockObject::Segment(0), modified)]),
            ..BlockFiles::default()
        };
        assert!(files(1).holds_data_of(&files(1)) && !files(1).has_more_data_than(&files(1)));
        assert!(!files(2).holds_data_of(&files(1)) && files(2).has_more_data_than(&files(1)));
    }

    #[tokio::test]
    async fn a_meta_that_changed_is_read_again_and_counted_though_its_copy_is_as_long() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::over(Arc::new(InMemory::new()), "memory", &mut Registry::default());
        let options = FetchOptions { data_dir: Some(folder.path().to_owned()), concurrency: 1 };
        let mut registry = Registry::default();
        let fetcher = Fetcher::new(bucket.clone(), &options, SyncMetrics::register(&mut registry));
        let id = BlockId::from_parts(1_700_000_000_000, 1);
        for (label, changes) in [("a", 0), ("b", 1), ("c", 2)] {
            let meta = format!(
                r#"{{"ulid":"{id}","minTime":1,"maxTime":2,"version":1,"compaction":{{"level":1,"sources":["{id}"]}},
                "thanos":{{"labels":{{"x":"{label}"}},"downsample":{{"resolution":0}},"source":"sidecar"}}}}"#
            );
            let name = ObjectName { block: id, object: BlockObject::Meta }.to_string();
            bucket.upload(&name, meta.into()).await.unwrap();
            for _ in 0..2 {
                let view = fetcher.fetch(&Filters::all()).await.unwrap();
                assert_eq!(view.blocks[&id].meta.thanos.as_ref().unwrap().labels["x"], label);
            }
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            assert!(text.contains(&format!("thanos_blocks_meta_base_cache_busts_total {changes}\n")), "{text}");
            // Times of changes are told in milliseconds.
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn a_copy_of_another_change_or_a_damaged_one_is_fetched_again_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::over(Arc::new(InMemory::new()), "memory", &mut Registry::default());
        let id = BlockId::from_parts(1_700_000_000_000, 1);
        let copy = folder.path().join("meta-syncer").join(id.to_string()).join("meta.json");
        let meta = |label: &str| {
            format!(
                r#"{{"ulid":"{id}","minTime":1,"maxTime":2,"version":1,"compaction":{{"level":1,"sources":["{id}"]}},
                "thanos":{{"labels":{{"x":"{label}"}},"downsample":{{"resolution":0}},"source":"sidecar"}}}}"#
            )
        };
        let name = ObjectName { block: id, object: BlockObject::Meta }.to_string();
        for label in ["a", "b"] {
            bucket.upload(&name, meta(label).into()).await.unwrap();
            for damage in [None, Some("z")] {
                if let Some(label) = damage {
                    std::fs::write(&copy, meta(label)).unwrap();
                }
                let options = FetchOptions { data_dir: Some(folder.path().to_owned()), concurrency: 1 };
                let metrics = SyncMetrics::register(&mut Registry::default());
                let view = Fetcher::new(bucket.clone(), &options, metrics).fetch(&Filters::all()).await.unwrap();
                assert_eq!(view.blocks[&id].meta.thanos.as_ref().unwrap().labels["x"], label);
                assert_eq!(std::fs::read_to_string(&copy).unwrap(), meta(label));
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}
