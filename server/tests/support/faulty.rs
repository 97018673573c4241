//! An object store whose calls fail as a plan says, and what a bucket's blocks hold.

use std::cmp::Ordering as Order;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::{pending, ready};
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
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
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

/// All ways to fail at one call.
pub const FAULTS: [Fault; 4] = [Fault::Refused, Fault::AnswerLost, Fault::Died, Fault::DiedAfter];

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meets {
    /// It is done and answered.
    Nothing,
    /// The same, after others have had so many turns.
    Delay(u32),
    /// It fails and does nothing.
    Refused,
    /// It is done, and its answer is lost.
    AnswerLost,
    /// What it answers breaks off in the middle.
    Short,
    /// It is never done, and nobody waits for it any more: the process has died before it.
    Hangs,
    /// It is done, and nobody waits for it any more: the process has died after it.
    HangsAfter,
}

/// What is asked of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Whether it is listed.
    Listing,
    /// All its bytes.
    Bytes,
}

/// What is told of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The truth.
    Truth,
    /// That it is not there.
    Nothing,
    /// No more than its first bytes, as if it had no others.
    First(usize),
    /// Its bytes, one of which is another.
    Damaged,
}

/// What is told of the object of this name.
pub type Lies = dyn Fn(Asked, &str) -> Told + Send + Sync;

/// What becomes of the call of this number.
pub type Plan = dyn Fn(u64) -> Meets + Send + Sync;

/// A store in memory whose calls are counted from 0, and fail as planned; clones share the count.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<InMemory>,
    calls: Arc<AtomicU64>,
    plan: Arc<Plan>,
    lies: Option<Arc<Lies>>,
}

impl Faulty {
    /// A view of `inner` in which the call number `at` meets `fault`.
    pub fn new(inner: &Arc<InMemory>, at: u64, fault: Fault) -> Self {
        Self::planned(inner, move |call| match (call.cmp(&at), fault) {
            (Order::Less, _) | (Order::Greater, Fault::Refused | Fault::AnswerLost) => Meets::Nothing,
            (Order::Equal, Fault::AnswerLost | Fault::DiedAfter) => Meets::AnswerLost,
            _ => Meets::Refused,
        })
    }

    /// A view of `inner` in which each call meets what `plan` says.
    pub fn planned(inner: &Arc<InMemory>, plan: impl Fn(u64) -> Meets + Send + Sync + 'static) -> Self {
        Self { inner: Arc::clone(inner), calls: Arc::default(), plan: Arc::new(plan), lies: None }
    }

    /// A view of `inner` in which every call is answered, of each object with what `lies` says. All objects are listed
    /// as of 1970.
    pub fn lying(inner: &Arc<InMemory>, lies: impl Fn(Asked, &str) -> Told + Send + Sync + 'static) -> Self {
        Self { lies: Some(Arc::new(lies)), ..Self::planned(inner, |_| Meets::Nothing) }
    }

    /// How many calls there were.
    pub fn calls(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.calls)
    }

    fn next(&self) -> Meets {
        (self.plan)(self.calls.fetch_add(1, Ordering::Relaxed))
    }

    fn listed(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let found = self.inner.list(prefix);
        let Some(lies) = self.lies.clone() else { return found };
        let tell = move |object: ObjectMeta| {
            let is_told = lies(Asked::Listing, object.location.as_ref()) != Told::Nothing;
            let object = ObjectMeta { last_modified: Default::default(), ..object };
            ready(Ok(is_told.then_some(object)))
        };
        found.try_filter_map(tell).boxed()
    }

    async fn given(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let told = match &self.lies {
            Some(lies) if !options.head => lies(Asked::Bytes, location.as_ref()),
            _ => Told::Truth,
        };
        if told == Told::Nothing {
            return Err(object_store::Error::NotFound { path: location.to_string(), source: "a lie".into() });
        }
        let mut found = self.inner.get_opts(location, options).await?;
        if let GetResultPayload::Stream(bytes) = found.payload {
            found.payload = GetResultPayload::Stream(bytes.map_ok(move |bytes| changed(bytes, told)).boxed());
        }
        Ok(found)
    }
}

/// Makes `call`, or not, as `meets` says.
async fn meet<T>(meets: Meets, call: impl Future<Output = Result<T>>) -> Result<T> {
    match meets {
        Meets::Nothing => call.await,
        Meets::Delay(turns) => {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            call.await
        }
        Meets::Refused | Meets::Short => lost(),
        Meets::AnswerLost => {
            call.await?;
            lost()
        }
        Meets::Hangs => pending().await,
        Meets::HangsAfter => {
            drop(call.await);
            pending().await
        }
    }
}

fn lost<T>() -> Result<T> {
    Err(object_store::Error::Generic { store: "faulty", source: "injected fault".into() })
}

/// `found` up to somewhere in it, then an error.
fn short<T: Send + 'static>(found: BoxStream<'static, Result<T>>) -> BoxStream<'static, Result<T>> {
    found.take(1).chain(stream::iter([lost()])).boxed()
}

/// The first half of the object, then an error.
fn half(mut found: GetResult) -> GetResult {
    if let GetResultPayload::Stream(bytes) = found.payload {
        let bytes = bytes.map_ok(|bytes: Bytes| bytes.slice(..bytes.len() / 2)).boxed();
        found.payload = GetResultPayload::Stream(short(bytes));
    }
    found
}

/// The bytes of a whole object as they are told.
fn changed(bytes: Bytes, told: Told) -> Bytes {
    match told {
        Told::Truth | Told::Nothing => bytes,
        Told::First(len) => bytes.slice(..len),
        Told::Damaged => {
            let (mut bytes, middle) = (bytes.to_vec(), bytes.len() / 2);
            bytes[middle] ^= 0x10;
            bytes.into()
        }
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        meet(self.next(), self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = meet(self.next(), self.inner.put_multipart_opts(location, opts)).await?;
        Ok(Box::new(FaultyUpload { inner, calls: self.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.next() {
            Meets::Short if !options.head => self.inner.get_opts(location, options).await.map(half),
            meets => meet(meets, self.given(location, options)).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        meet(self.next(), self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.next() {
            Meets::Nothing | Meets::Delay(_) => self.inner.delete_stream(locations),
            Meets::Refused | Meets::Short => stream::iter([lost()]).boxed(),
            Meets::AnswerLost => self.inner.delete_stream(locations).map(|_| lost()).boxed(),
            Meets::Hangs => stream::pending().boxed(),
            Meets::HangsAfter => {
                let deleted = self.inner.delete_stream(locations).collect::<Vec<_>>();
                deleted.then(|_| pending()).into_stream().boxed()
            }
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.next() {
            Meets::Nothing | Meets::Delay(_) => self.listed(prefix),
            Meets::Short => short(self.inner.list(prefix)),
            Meets::Refused | Meets::AnswerLost => stream::iter([lost()]).boxed(),
            Meets::Hangs | Meets::HangsAfter => stream::pending().boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        meet(self.next(), self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        meet(self.next(), self.inner.copy_opts(from, to, options)).await
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
        Box::pin(meet(self.calls.next(), self.inner.put_part(data)))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        meet(self.calls.next(), self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

/// A sample: labels, time, bits of the value.
pub type Sample = (String, i64, u64);

/// Puts the blocks of a folder into a store.
pub async fn fill(store: &InMemory, folder: &FilePath) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let block = entry.unwrap().path();
        if !block.join("meta.json").is_file() {
            continue;
        }
        let id = block.file_name().unwrap().to_str().unwrap().to_owned();
        // A block that holds nothing has no chunks.
        for path in
            ["index", "tombstones", "chunks/000001", "meta.json"].into_iter().filter(|path| block.join(path).is_file())
        {
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
            own.is_subset(&others) && (own != others || other.ulid > meta.ulid)
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
