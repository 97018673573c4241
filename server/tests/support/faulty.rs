//! An object store that fails at a chosen call, and what a bucket's blocks hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use engine::bucket::{Meta, name};
use engine::chunk::{Encoding, segment, xor};
use engine::index::tsdb::{FileSource, Reader, Series};
use engine::model::{BlockId, FloatColumns};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and does nothing.
    Refused,
    /// It is done, and its answer is lost.
    AnswerLost,
    /// It and all calls after it fail: the process has died before it.
    Died,
    /// It is done, and all calls after it fail: the process has died after it.
    DiedAfter,
}

/// All ways to fail.
pub const FAULTS: [Fault; 4] = [Fault::Refused, Fault::AnswerLost, Fault::Died, Fault::DiedAfter];

/// A store in memory whose calls are counted from 0, and of which one fails.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<InMemory>,
    calls: Arc<AtomicU64>,
    at: u64,
    fault: Fault,
}

impl Faulty {
    /// A view of `inner` in which the call number `at` meets `fault`.
    pub fn new(inner: &Arc<InMemory>, at: u64, fault: Fault) -> Self {
        Self { inner: Arc::clone(inner), calls: Arc::default(), at, fault }
    }

    /// How many calls there were; clones share the count.
    pub fn calls(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.calls)
    }

    /// Whether this call is done, and whether its answer comes.
    fn next(&self) -> (bool, bool) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match (call.cmp(&self.at), self.fault) {
            (std::cmp::Ordering::Less, _) | (std::cmp::Ordering::Greater, Fault::Refused | Fault::AnswerLost) => {
                (true, true)
            }
            (std::cmp::Ordering::Equal, Fault::AnswerLost | Fault::DiedAfter) => (true, false),
            _ => (false, false),
        }
    }
}

fn lost<T>() -> Result<T> {
    Err(object_store::Error::Generic { store: "faulty", source: "injected fault".into() })
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let (is_done, is_answered) = self.next();
        if !is_done {
            return lost();
        }
        let answer = self.inner.put_opts(location, payload, opts).await?;
        if is_answered { Ok(answer) } else { lost() }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let (is_done, is_answered) = self.next();
        if !is_done {
            return lost();
        }
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        if !is_answered {
            return lost();
        }
        let calls = Self { inner: Arc::clone(&self.inner), calls: self.calls(), ..*self };
        Ok(Box::new(FaultyUpload { inner, calls }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.next() {
            (true, true) => self.inner.get_opts(location, options).await,
            _ => lost(),
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match self.next() {
            (true, true) => self.inner.get_ranges(location, ranges).await,
            _ => lost(),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (is_done, is_answered) = self.next();
        if !is_done {
            return futures_util::stream::iter([lost()]).boxed();
        }
        let deleted = self.inner.delete_stream(locations);
        if is_answered { deleted } else { deleted.map(|_| lost()).boxed() }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.next() {
            (true, true) => self.inner.list(prefix),
            _ => futures_util::stream::iter([lost()]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.next() {
            (true, true) => self.inner.list_with_delimiter(prefix).await,
            _ => lost(),
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        match self.next() {
            (true, true) => self.inner.copy_opts(from, to, options).await,
            _ => lost(),
        }
    }
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    calls: Faulty,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.calls.next() {
            (true, true) => self.inner.put_part(data),
            _ => Box::pin(async { lost() }),
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (is_done, is_answered) = self.calls.next();
        if !is_done {
            return lost();
        }
        let answer = self.inner.complete().await?;
        if is_answered { Ok(answer) } else { lost() }
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

/// A sample: labels, time, bits of the value.
pub type Sample = (String, i64, u64);

/// Puts the blocks of a folder into a store.
pub async fn fill(store: &InMemory, folder: &FilePath) {
    for block in super::blocks_in(folder) {
        let id = block.file_name().unwrap().to_str().unwrap().to_owned();
        for path in ["index", "chunks/000001", "meta.json"] {
            let bytes = std::fs::read(block.join(path)).unwrap();
            store.put(&Path::from(format!("{id}/{path}")), bytes.into()).await.unwrap();
        }
    }
}

/// Every object of a store.
pub async fn objects(store: &InMemory) -> BTreeMap<String, Bytes> {
    let listed: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    let mut found = BTreeMap::new();
    for object in listed {
        let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        found.insert(object.location.to_string(), bytes);
    }
    found
}

/// The blocks with a meta.json, each written to a folder below `scratch` and found sound.
pub fn whole_blocks(objects: &BTreeMap<String, Bytes>, scratch: &FilePath) -> BTreeMap<BlockId, Meta> {
    let mut found = BTreeMap::new();
    for (object, bytes) in objects {
        let Some(id) = object.strip_suffix("/meta.json") else { continue };
        let meta = Meta::parse(bytes).unwrap();
        assert_eq!(meta.ulid.to_string(), id);
        let dir = scratch.join(id);
        if !dir.exists() {
            std::fs::create_dir_all(dir.join(name::CHUNKS)).unwrap();
            for (other, bytes) in objects {
                if let Some(path) = other.strip_prefix(&format!("{id}/")) {
                    std::fs::write(dir.join(path), bytes).unwrap();
                }
            }
            let report = engine::block::verify::verify(&dir).unwrap();
            assert!(report.is_sound(), "{id}: {report:?}");
        }
        found.insert(meta.ulid, meta);
    }
    found
}

/// The samples of one block of raw floats.
pub fn samples_of(dir: &FilePath) -> Vec<Sample> {
    let index = Reader::open(FileSource::open(&dir.join(name::INDEX)).unwrap()).unwrap();
    let (mut scan, mut series, mut samples) = (index.series(), Series::default(), Vec::new());
    while scan.next(&mut series).unwrap() {
        let labels = series.labels(index.symbols()).to_string();
        for chunk in &series.chunks {
            let path = dir.join(name::CHUNKS).join(name::segment_name(chunk.chunk_ref.segment()));
            let bytes = std::fs::read(path).unwrap();
            let chunk = segment::read_at(&bytes, 0, u64::from(chunk.chunk_ref.offset())).unwrap();
            assert_eq!(chunk.encoding, Encoding::Xor);
            let mut columns = FloatColumns::default();
            xor::decode(chunk.data, &mut columns).unwrap();
            let values = columns.timestamps.iter().zip(&columns.values);
            samples.extend(values.map(|(time, value)| (labels.clone(), *time, value.to_bits())));
        }
    }
    samples
}

/// The samples that a reader sees: those of whole blocks whose sources are not all in another one. No
/// sample may be there twice.
pub fn visible_samples(objects: &BTreeMap<String, Bytes>, scratch: &FilePath) -> BTreeSet<Sample> {
    let blocks = whole_blocks(objects, scratch);
    let sources = |meta: &Meta| meta.compaction.sources.iter().copied().collect::<BTreeSet<_>>();
    let is_hidden = |meta: &Meta| {
        blocks.values().filter(|other| other.ulid != meta.ulid).any(|other| {
            let (own, others) = (sources(meta), sources(other));
            own.is_subset(&others) && (own != others || other.ulid < meta.ulid)
        })
    };
    let mut samples = BTreeSet::new();
    for meta in blocks.values().filter(|meta| !is_hidden(meta)) {
        for sample in samples_of(&scratch.join(meta.ulid.to_string())) {
            assert!(samples.insert(sample.clone()), "{sample:?} is in two blocks that readers see");
        }
    }
    samples
}
