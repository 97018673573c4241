//! One bucket: the operations that components need, counted, with errors that name the object.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use engine::io::folder;
use engine::io::mmap::Mmap;
use engine::model::{Error, ErrorKind};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, WriteMultipart,
};
use prometheus_client::registry::Registry;

use super::config::{BucketConfig, Provider};
use super::later::{self, Later};
use super::metrics::BucketMetrics;
use super::s3;
use super::walk::Walk;
use crate::telemetry::causes::with_causes;

/// Objects above this many bytes are uploaded in parts of it.
const PART_BYTES: usize = 64 << 20;

/// Objects above this many bytes that come piece by piece are uploaded in parts of it where the configuration names
/// no other length, or of more where their number would grow beyond [`PARTS_MAX`].
const PIECE_PART_BYTES: usize = 8 << 20;

/// Most parts of one object; S3 takes 10,000.
const PARTS_MAX: usize = 9000;

/// Shortest part but for the last, as S3 has it.
const PART_BYTES_MIN: u64 = 5 << 20;

/// Longest part of an object that comes piece by piece: a few are held in memory at once.
const PIECE_PART_BYTES_MAX: u64 = 256 << 20;

/// Parts of one object that are under way at once.
const PARTS_UNDER_WAY: usize = 2;

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name, without the bucket's prefix.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// Unix milliseconds of its last change.
    pub modified: i64,
}

/// A bucket; clones share one client.
#[derive(Clone, Debug)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    folder: Option<PathBuf>,
    name: String,
    attributes: Attributes,
    part_bytes: usize,
    piece_part_bytes: usize,
    metrics: BucketMetrics,
}

impl Bucket {
    /// Opens the bucket that `config` describes; a folder is created when it doesn't exist.
    pub fn open(config: &BucketConfig, registry: &mut Registry) -> Result<Self, Error> {
        Self::open_or(config, registry, Err)
    }

    /// The same; but a folder that can't be opened now is once it can be, and until then every call fails.
    pub fn open_or_wait(config: &BucketConfig, registry: &mut Registry) -> Result<Self, Error> {
        Self::open_or(config, registry, |error| {
            tracing::warn!(%error, "the bucket is not there, and is opened once it is");
            Ok(())
        })
    }

    /// Opens a bucket; of a folder that can't be opened `judge` says whether that is an error.
    fn open_or(
        config: &BucketConfig,
        registry: &mut Registry,
        judge: impl FnOnce(Error) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let mut attributes = Attributes::new();
        let (mut part_bytes, mut piece_part_bytes) = (PART_BYTES, PIECE_PART_BYTES);
        let (store, folder, name): (Arc<dyn ObjectStore>, _, _) = match &config.provider {
            Provider::Filesystem(directory) => {
                let (store, directory): (Arc<dyn ObjectStore>, _) = match later::open(directory) {
                    Ok((store, directory)) => (Arc::new(store), directory),
                    Err(error) => {
                        let why = format!("bucket folder {}: {}", directory.display(), with_causes(&error));
                        judge(Error::new(ErrorKind::Unavailable, why))?;
                        (Arc::new(Later::new(directory.clone())), later::resolved(directory))
                    }
                };
                let name = format!("fs: {}", directory.display());
                (store, Some(directory), name)
            }
            Provider::S3(s3) => {
                attributes = s3::upload_attributes(s3);
                if let Some(bytes) = s3.part_size.filter(|bytes| *bytes > 0) {
                    part_bytes = bytes.max(PART_BYTES_MIN) as usize;
                    piece_part_bytes = bytes.clamp(PART_BYTES_MIN, PIECE_PART_BYTES_MAX) as usize;
                }
                if s3.disable_multipart {
                    part_bytes = usize::MAX;
                }
                let store = s3::open(s3).map_err(|why| Error::invalid(format!("bucket {}: {why}", s3.bucket)))?;
                (Arc::new(store), None, s3.bucket.clone())
            }
        };
        let folder = folder.map(|folder| if config.prefix.is_empty() { folder } else { folder.join(&config.prefix) });
        let metrics = BucketMetrics::register(registry, &name);
        let prefix = config.prefix.clone();
        Ok(Self { store, prefix, folder, name, attributes, part_bytes, piece_part_bytes, metrics })
    }

    /// A bucket over a store that somebody else has opened.
    pub fn over(store: Arc<dyn ObjectStore>, name: &str, registry: &mut Registry) -> Self {
        Self {
            store,
            prefix: String::new(),
            folder: None,
            name: name.to_owned(),
            attributes: Attributes::new(),
            part_bytes: PART_BYTES,
            piece_part_bytes: PIECE_PART_BYTES,
            metrics: BucketMetrics::register(registry, name),
        }
    }

    /// The same, whose objects are not to be uploaded in parts.
    #[cfg(test)]
    pub fn without_parts(self) -> Self {
        Self { part_bytes: usize::MAX, ..self }
    }

    /// The bucket's name, for logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder that holds the objects as files, where the bucket is one.
    pub fn folder(&self) -> Option<&FilePath> {
        self.folder.as_deref()
    }

    /// An error when the bucket is a folder that `own`, the folder of the flag `flag`, `holds`: what lies there
    /// would be taken for the process' own, and deleted.
    pub fn check_outside(
        &self,
        flag: &str,
        own: &FilePath,
        holds: impl Fn(&FilePath, &FilePath) -> bool,
    ) -> Result<(), Error> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let own = match own.canonicalize() {
            Ok(own) => own,
            // What is not there yet holds nothing.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::file(own, error)),
        };
        if !holds(&own, folder) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "--{flag}: the folder {} holds the bucket {}, whose blocks would be taken for the process' own and be \
             deleted: give folders that lie apart",
            own.display(),
            folder.display()
        )))
    }

    /// Removes what uploads that were killed left of objects whose names start with the folder `within`, and that
    /// listings do not show: only a bucket that is a folder has such.
    pub fn remove_staged(&self, within: &str) {
        let Some(folder) = &self.folder else { return };
        let mut folders = vec![folder.join(within)];
        let mut at = 0;
        while at < folders.len() {
            for entry in std::fs::read_dir(&folders[at]).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                } else if is_staged(&path) {
                    // What stays is tried again when the next block is deleted that has this name.
                    let _ = std::fs::remove_file(path);
                }
            }
            at += 1;
        }
        // Deepest first; those that hold something stay.
        for folder in folders.iter().rev() {
            let _ = std::fs::remove_dir(folder);
        }
    }

    /// Every object whose name starts with the folder `within`, given to `each` as they come; all
    /// objects when it is empty.
    pub async fn list(&self, within: &str, mut each: impl FnMut(ObjectInfo)) -> Result<(), Error> {
        if let Some(folder) = &self.folder {
            return self.list_folder(Walk::new(folder, within), within, each).await;
        }
        let path = self.path(within);
        let prefix_len = if self.prefix.is_empty() { 0 } else { self.prefix.len() + 1 };
        let timer = self.metrics.begin("iter");
        let mut found = self.store.list(Some(&path).filter(|path| !path.as_ref().is_empty()));
        while let Some(object) = found.next().await {
            match object {
                Ok(object) => each(ObjectInfo {
                    name: object.location.as_ref().get(prefix_len..).unwrap_or_default().to_owned(),
                    len: object.size,
                    modified: object.last_modified.timestamp_millis(),
                }),
                // A folder that doesn't exist holds no objects.
                Err(object_store::Error::NotFound { .. }) => break,
                Err(error) => {
                    timer.failed();
                    return Err(self.error("cannot list", within, &error));
                }
            }
        }
        timer.done(0);
        Ok(())
    }

    /// The same of a bucket that is a folder, on threads that may wait for the disk.
    async fn list_folder(&self, mut walk: Walk, within: &str, mut each: impl FnMut(ObjectInfo)) -> Result<(), Error> {
        let timer = self.metrics.begin("iter");
        loop {
            let reading = tokio::task::spawn_blocking(move || {
                let batch = walk.next_batch();
                (walk, batch)
            });
            let (rest, batch) = match reading.await {
                Ok(read) => read,
                Err(error) => {
                    timer.failed();
                    return Err(Error::new(ErrorKind::Bug, format!("listing a folder panicked: {error}")));
                }
            };
            walk = rest;
            match batch {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => batch.into_iter().for_each(&mut each),
                Err(error) => {
                    timer.failed();
                    return Err(self.error("cannot list", within, &error));
                }
            }
        }
        timer.done(0);
        Ok(())
    }

    /// The whole object; `None` when there is none.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let timer = self.metrics.begin("get");
        let found = async { self.store.get(&self.path(name)).await?.bytes().await }.await;
        match found {
            Ok(bytes) => {
                timer.done(bytes.len() as u64);
                Ok(Some(bytes))
            }
            Err(object_store::Error::NotFound { .. }) => {
                timer.done(0);
                Ok(None)
            }
            Err(error) => {
                timer.failed();
                Err(self.error("cannot get", name, &error))
            }
        }
    }

    /// The whole object of a bucket that is a folder, on a thread that may wait for the disk; `None`
    /// when there is none.
    pub fn read_file(&self, folder: &FilePath, name: &str) -> Result<Option<Bytes>, Error> {
        let timer = self.metrics.begin("get");
        match std::fs::read(folder.join(name)) {
            Ok(bytes) => {
                timer.done(bytes.len() as u64);
                Ok(Some(bytes.into()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                timer.done(0);
                Ok(None)
            }
            Err(error) => {
                timer.failed();
                Err(self.error("cannot get", name, &error))
            }
        }
    }

    /// The bytes `range` of an object.
    pub async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        let timer = self.metrics.begin("get_range");
        let wanted = range.end.saturating_sub(range.start);
        let place = || format!("cannot get bytes {}..{} of", range.start, range.end);
        match self.store.get_range(&self.path(name), range.clone()).await {
            Ok(bytes) if bytes.len() as u64 == wanted => {
                timer.done(wanted);
                Ok(bytes)
            }
            Ok(bytes) => {
                timer.failed();
                let message = format!("bucket {}: {} {name}: {} bytes came", self.name, place(), bytes.len());
                Err(Error::new(ErrorKind::Unavailable, message))
            }
            Err(error) => {
                timer.failed();
                Err(self.error(&place(), name, &error))
            }
        }
    }

    /// The object as it comes, piece by piece.
    pub async fn get_stream(
        &self,
        name: &str,
    ) -> Result<impl futures_util::Stream<Item = Result<Bytes, Error>> + use<>, Error> {
        let timer = self.metrics.begin("get");
        match self.store.get(&self.path(name)).await {
            Ok(found) => {
                timer.done(found.meta.size);
                let (bucket, name) = (self.clone(), name.to_owned());
                Ok(found.into_stream().map_err(move |error| bucket.error("cannot get the rest of", &name, &error)))
            }
            Err(error) => {
                timer.failed();
                Err(self.error("cannot get", name, &error))
            }
        }
    }

    /// Writes an object, in parts when it is large; it is visible only when it is whole.
    pub async fn upload(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        let timer = self.metrics.begin("upload");
        let (path, len) = (self.path(name), bytes.len() as u64);
        let sent = if bytes.len() <= self.part_bytes {
            let options = PutOptions { attributes: self.attributes.clone(), ..PutOptions::default() };
            self.store.put_opts(&path, PutPayload::from(bytes), options).await.map(drop)
        } else {
            self.upload_parts(&path, bytes).await
        };
        match sent {
            Ok(()) => {
                timer.sent(len);
                Ok(())
            }
            Err(error) => {
                timer.failed();
                Err(self.error("cannot upload", name, &error))
            }
        }
    }

    /// The length of an object in bytes; `None` when there is none.
    pub async fn len_of(&self, name: &str) -> Result<Option<u64>, Error> {
        let timer = self.metrics.begin("attributes");
        match self.store.head(&self.path(name)).await {
            Ok(found) => {
                timer.done(0);
                Ok(Some(found.size))
            }
            Err(object_store::Error::NotFound { .. }) => {
                timer.done(0);
                Ok(None)
            }
            Err(error) => {
                timer.failed();
                Err(self.error("cannot look for", name, &error))
            }
        }
    }

    /// Whether there is such an object.
    pub async fn exists(&self, name: &str) -> Result<bool, Error> {
        Ok(self.len_of(name).await?.is_some())
    }

    /// Whether objects may be uploaded in parts.
    pub fn takes_parts(&self) -> bool {
        self.part_bytes != usize::MAX
    }

    /// Length in bytes of the parts of an object of `len` bytes that comes piece by piece.
    fn part_bytes_of(&self, len: u64) -> usize {
        self.piece_part_bytes.max(len as usize / PARTS_MAX)
    }

    /// Begins to upload an object of `len` bytes that come piece by piece, in parts.
    pub async fn begin_upload(&self, name: &str, len: u64) -> Result<Upload, Error> {
        let (timer, started) = (self.metrics.begin("upload"), Instant::now());
        let options = PutMultipartOptions { attributes: self.attributes.clone(), ..PutMultipartOptions::default() };
        match self.store.put_multipart_opts(&self.path(name), options).await {
            Ok(upload) => {
                let writer = WriteMultipart::new_with_chunk_size(upload, self.part_bytes_of(len));
                Ok(Upload { writer, bucket: self.clone(), name: name.to_owned(), started, len: 0 })
            }
            Err(error) => {
                timer.failed();
                Err(self.error("cannot upload", name, &error))
            }
        }
    }

    /// Writes the object into a new file at `path`; returns its length. There being no such object is
    /// an error.
    pub async fn download_file(&self, name: &str, path: &FilePath) -> Result<u64, Error> {
        let mut file = File::create(path).map_err(|error| Error::file(path, error))?;
        let mut pieces = self.get_stream(name).await?;
        let mut len = 0;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            file.write_all(&piece).map_err(|error| Error::file(path, error))?;
            len += piece.len() as u64;
        }
        Ok(len)
    }

    /// Uploads the file at `path`, which is not changed afterwards. In a bucket that is a folder on the
    /// same file system the object is a second name of the file; elsewhere it is sent in parts of
    /// bounded size. It is visible only when it is whole.
    pub async fn upload_file(&self, name: &str, path: &FilePath) -> Result<(), Error> {
        if self.link(name, path) {
            return Ok(());
        }
        let mut file = File::open(path).map_err(|error| Error::file(path, error))?;
        let len = file.metadata().map_err(|error| Error::file(path, error))?.len();
        let part_bytes = self.part_bytes_of(len);
        let is_long = len > part_bytes as u64;
        if is_long && !self.takes_parts() {
            // Pages that the system can drop, as the client wants all of it at once.
            let mapped = Mmap::open(path).map_err(|error| Error::file(path, error))?;
            return self.upload(name, Bytes::from_owner(mapped)).await;
        }
        if !is_long {
            let mut bytes = Vec::with_capacity(len as usize);
            file.read_to_end(&mut bytes).map_err(|error| Error::file(path, error))?;
            return self.upload(name, bytes.into()).await;
        }
        let mut upload = self.begin_upload(name, len).await?;
        loop {
            let mut part = Vec::with_capacity(part_bytes);
            let read = (&mut file).take(part_bytes as u64).read_to_end(&mut part);
            let written = match read.map_err(|error| Error::file(path, error)) {
                Ok(0) => return upload.finish().await,
                Ok(_) => upload.write(part.into()).await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                upload.abort().await;
                return Err(error);
            }
        }
    }

    /// Makes the file at `path` an object without copying it; whether that could be done.
    fn link(&self, name: &str, path: &FilePath) -> bool {
        let Some(folder) = &self.folder else { return false };
        let target = folder.join(name);
        let timer = self.metrics.begin("upload");
        let linked = link_durably(path, (folder, &target)).is_ok();
        // What can't be linked is copied, which is counted as an operation of its own.
        if linked {
            timer.sent(target.metadata().map_or(0, |found| found.len()));
        }
        linked
    }

    /// Deletes an object; one that doesn't exist is no error.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let timer = self.metrics.begin("delete");
        match self.store.delete(&self.path(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {
                timer.done(0);
                Ok(())
            }
            Err(error) => {
                timer.failed();
                Err(self.error("cannot delete", name, &error))
            }
        }
    }

    async fn upload_parts(&self, path: &Path, bytes: Bytes) -> object_store::Result<()> {
        let options = PutMultipartOptions { attributes: self.attributes.clone(), ..PutMultipartOptions::default() };
        let upload = self.store.put_multipart_opts(path, options).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, self.part_bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Err(error) = writer.wait_for_capacity(4).await {
                // What stays is the store's; the error is that of the part.
                let _ = writer.abort().await;
                return Err(error);
            }
            writer.put(rest.split_to(rest.len().min(self.part_bytes)));
        }
        writer.finish().await.map(drop)
    }

    fn path(&self, name: &str) -> Path {
        match (self.prefix.as_str(), name) {
            ("", name) => exactly(name),
            (prefix, "") => exactly(prefix),
            (prefix, name) => exactly(&format!("{prefix}/{name}")),
        }
    }

    /// An error that names the bucket and the object, if there is one.
    fn error(&self, what: &str, name: &str, error: &dyn std::error::Error) -> Error {
        let space = if name.is_empty() { "" } else { " " };
        let message = format!("bucket {}: {what}{space}{name}: {}", self.name, with_causes(error));
        Error::new(ErrorKind::Unavailable, message)
    }
}

/// The path of a name as it stands; what no path has is escaped.
fn exactly(name: &str) -> Path {
    Path::parse(name).unwrap_or_else(|_| Path::from(name))
}

/// An object that is being uploaded; it is visible only when it is finished.
pub struct Upload {
    writer: WriteMultipart,
    bucket: Bucket,
    name: String,
    started: Instant,
    /// Bytes so far.
    len: u64,
}

impl Upload {
    /// Appends bytes, once few enough are under way.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        let ready = self.writer.wait_for_capacity(PARTS_UNDER_WAY).await;
        ready.map_err(|error| self.bucket.error("cannot upload", &self.name, &error))?;
        self.len += bytes.len() as u64;
        self.writer.put(bytes);
        Ok(())
    }

    /// Ends it: the object is there.
    pub async fn finish(self) -> Result<(), Error> {
        let Self { writer, bucket, name, started, len } = self;
        let finished = writer.finish().await;
        let timer = bucket.metrics.resume("upload", started);
        match finished {
            Ok(_) => {
                timer.sent(len);
                Ok(())
            }
            Err(error) => {
                timer.failed();
                Err(bucket.error("cannot upload", &name, &error))
            }
        }
    }

    /// Gives it up; what was sent is of no use, and what can't be taken back is left to the store.
    pub async fn abort(self) {
        self.bucket.metrics.resume("upload", self.started).failed();
        let _ = self.writer.abort().await;
    }
}

/// Whether a file is an object in the making, as `object_store` names them: behind its name `#` and a number.
pub(super) fn is_staged(path: &FilePath) -> bool {
    let name = path.file_name().map_or_else(Default::default, |name| name.to_string_lossy());
    name.rsplit_once('#').is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Makes the file at `path` one at `target`, within `folder`, that a crash of the machine takes nothing of.
fn link_durably(path: &FilePath, (folder, target): (&FilePath, &FilePath)) -> std::io::Result<()> {
    let folders: Vec<&FilePath> = target.ancestors().skip(1).take_while(|parent| parent.starts_with(folder)).collect();
    folders.first().map_or(Ok(()), std::fs::create_dir_all)?;
    let file = File::open(path)?;
    // An object is as old as its upload, by which a broken-off one is known.
    file.set_modified(SystemTime::now())?;
    file.sync_all()?;
    std::fs::hard_link(path, target)?;
    folders.iter().try_for_each(|path| folder::sync(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_file_is_uploaded_in_parts_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let bytes: Vec<u8> = (0..PIECE_PART_BYTES + 12_345).map(|at| (at / 7) as u8).collect();
        std::fs::write(&from, &bytes).unwrap();
        let memory = Arc::new(object_store::memory::InMemory::new());
        let bucket = Bucket::over(memory, "memory", &mut Registry::default());
        run(async {
            for bucket in [bucket.clone(), bucket.without_parts()] {
                bucket.upload_file("a/index", &from).await.unwrap();
                assert_eq!(bucket.download_file("a/index", &to).await.unwrap(), bytes.len() as u64);
                assert!(std::fs::read(&to).unwrap() == bytes);
                bucket.delete("a/index").await.unwrap();
                assert!(bucket.download_file("a/index", &to).await.is_err());
            }
        });
    }

    /// Its time was once that of its beginning, whatever became of it.
    #[test]
    fn an_upload_in_parts_is_counted_when_it_ends() {
        let mut registry = Registry::default();
        let bucket = Bucket::over(Arc::new(object_store::memory::InMemory::new()), "memory", &mut registry);
        let metric = |start: &str| -> f64 {
            let text = crate::telemetry::metrics::render(&registry, "").1;
            let line = text.lines().find(|line| line.starts_with(start)).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let last = "thanos_objstore_bucket_last_successful_upload_time";
        let failures = "thanos_objstore_bucket_operation_failures_total{bucket=\"memory\",operation=\"upload\"}";
        let sum = "thanos_objstore_bucket_operation_transferred_bytes_sum{bucket=\"memory\",operation=\"upload\"}";
        run(async {
            let upload = bucket.begin_upload("a", 3).await.unwrap();
            assert_eq!((metric(last), metric(failures)), (0.0, 0.0));
            upload.abort().await;
            assert_eq!((metric(last), metric(failures)), (0.0, 1.0));
            let mut upload = bucket.begin_upload("a", 3).await.unwrap();
            upload.write("abc".into()).await.unwrap();
            upload.finish().await.unwrap();
            assert!(metric(last) > 0.0);
            assert_eq!((metric(failures), metric(sum)), (1.0, 3.0));
        });
    }

    /// They were once escaped in the name: a block with such a file was deleted but for that, and a bucket with such a
    /// prefix was another one than Thanos'.
    #[test]
    fn names_stand_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = BucketConfig::filesystem(folder.path());
        config.prefix = "team~a".into();
        let bucket = Bucket::open(&config, &mut Registry::default()).unwrap();
        run(async {
            for name in ["a~b", "a#b", "a%7Eb", "a b+c", "[a]{b}", "a*?|b"].map(|name| format!("x/{name}")) {
                assert_eq!(bucket.path(&name).as_ref(), format!("team~a/{name}"));
                bucket.upload(&name, "1".into()).await.unwrap();
                assert!(folder.path().join("team~a").join(&name).is_file(), "{name}");
                let mut names = Vec::new();
                bucket.list("", |object| names.push(object.name)).await.unwrap();
                assert_eq!(names, [&*name]);
                assert_eq!(bucket.get(&name).await.unwrap().unwrap(), "1");
                bucket.delete(&name).await.unwrap();
                assert!(!folder.path().join("team~a").join(&name).exists(), "{name}");
            }
        });
    }

    #[test]
    fn parts_are_as_long_as_is_configured_within_bounds() {
        for (key, expected) in [
            ("", PIECE_PART_BYTES),
            (", part_size: 0", PIECE_PART_BYTES),
            (", part_size: 1000", 5 << 20),
            (", part_size: 33554432", 32 << 20),
            (", part_size: 5368709120", 256 << 20),
        ] {
            drop(rustls::crypto::ring::default_provider().install_default());
            let text = format!(
                "{{type: S3, config: {{bucket: a, endpoint: b, insecure: true, access_key: c, secret_key: d{key}}}}}"
            );
            let config = BucketConfig::parse("objstore.config", &text).unwrap();
            let bucket = Bucket::open(&config, &mut Registry::default()).unwrap();
            assert_eq!(bucket.part_bytes_of(1), expected, "{text}");
        }
    }

    #[test]
    fn a_file_becomes_an_object_of_a_folder_once() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        let bucket =
            Bucket::open(&BucketConfig::filesystem(folder.path().join("b")), &mut Registry::default()).unwrap();
        run(async {
            for content in ["one", "two"] {
                // A new file each time: one that was uploaded is not changed.
                drop(std::fs::remove_file(&from));
                std::fs::write(&from, content).unwrap();
                File::open(&from).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
                bucket.upload_file("a/b/c", &from).await.unwrap();
                assert_eq!(bucket.get("a/b/c").await.unwrap().unwrap(), content);
                bucket.list("a", |object| assert!(object.modified > 0, "as old as its upload")).await.unwrap();
            }
        });
    }

    #[test]
    fn a_folder_that_is_not_there_is_waited_for_where_that_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        std::fs::write(&path, "a file in its place").unwrap();
        let config = BucketConfig::filesystem(&path);
        let error = Bucket::open(&config, &mut Registry::default()).unwrap_err();
        assert!(error.message().starts_with("bucket folder "), "{error}");
        let bucket = Bucket::open_or_wait(&config, &mut Registry::default()).unwrap();
        let (link, within) = (folder.path().join("link"), |own: &FilePath, folder: &FilePath| folder.starts_with(own));
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("data/later/b"), &link).unwrap();
        let linked = Bucket::open_or_wait(&BucketConfig::filesystem(&link), &mut Registry::default()).unwrap();
        linked.check_outside("tsdb.path", &folder.path().join("data"), within).unwrap_err();
        bucket.check_outside("tsdb.path", &folder.path().join("data"), within).unwrap();
        run(async {
            bucket.upload("x/y", "z".into()).await.unwrap_err();
            std::fs::remove_file(&path).unwrap();
            bucket.upload("x/y", "z".into()).await.unwrap();
            assert_eq!(bucket.get("x/y").await.unwrap().unwrap(), "z");
        });
    }

    #[test]
    fn what_killed_uploads_left_goes_and_objects_stay() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::open(&BucketConfig::filesystem(folder.path()), &mut Registry::default()).unwrap();
        for name in ["a/chunks/000001#1", "a/chunks/000002#12", "b/chunks/000001#3", "b/index", "b/x#", "c/index#1"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "half").unwrap();
        }
        bucket.remove_staged("a");
        bucket.remove_staged("b");
        bucket.remove_staged("d");
        let left = |name: &str| folder.path().join(name).exists();
        assert!(!left("a") && !left("b/chunks") && left("b/index") && left("b/x#") && left("c/index#1"));
    }

    #[test]
    fn a_folder_that_holds_the_bucket_is_refused_by_the_flag_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = BucketConfig::filesystem(folder.path().join("data/bucket"));
        let bucket = Bucket::open(&config, &mut Registry::default()).unwrap();
        let within = |own: &FilePath, folder: &FilePath| folder.starts_with(own);
        let error = bucket.check_outside("tsdb.path", &folder.path().join("data"), within).unwrap_err();
        assert!(error.message().contains("--tsdb.path: the folder "), "{error}");
        let same = |own: &FilePath, folder: &FilePath| folder == own;
        bucket.check_outside("data-dir", &folder.path().join("data"), same).unwrap();
        bucket.check_outside("data-dir", &folder.path().join("data/bucket"), same).unwrap_err();
        bucket.check_outside("tsdb.path", &folder.path().join("new"), within).unwrap();
    }

    #[test]
    fn links_to_blocks_are_followed_and_what_leads_around_or_cannot_be_read_ends_no_listing() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (folder.path().join("bucket"), folder.path().join("elsewhere"));
        let [block, linked] = ["01M7YFY7H37F9ZH8ZQ1CX44W25", "01M7YFY7H37F9ZH8ZQ1CX44W26"];
        for path in [root.join(block).join("chunks"), root.join("lost+found"), elsewhere.join("chunks")] {
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("000001"), "0123").unwrap();
        }
        std::fs::write(root.join(block).join("chunks/000002#7"), "half").unwrap();
        symlink(&elsewhere, root.join(linked)).unwrap();
        for (target, link) in [(".", "loop"), ("loop", "again"), ("self", "self"), ("nowhere", "broken")] {
            symlink(target, root.join(link)).unwrap();
        }
        symlink("..", root.join(block).join("up")).unwrap();
        std::fs::set_permissions(root.join("lost+found"), std::fs::Permissions::from_mode(0o000)).unwrap();
        let bucket = Bucket::open(&BucketConfig::filesystem(&root), &mut Registry::default()).unwrap();
        let list = |within: &str| {
            let mut names = Vec::new();
            run(bucket.list(within, |object| names.push((object.name, object.len)))).unwrap();
            // Who may read everything sees this one, too.
            names.retain(|(name, _)| !name.starts_with("lost+found/"));
            names.sort();
            names
        };
        let object = |block: &str| (format!("{block}/chunks/000001"), 4u64);
        assert_eq!(list(""), [object(block), object(linked)]);
        assert_eq!(list(linked), [object(linked)]);
        assert!(list("01M7YFY7H37F9ZH8ZQ1CX44W27").is_empty());
        std::fs::set_permissions(root.join("lost+found"), std::fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn objects_of_a_folder_are_written_listed_read_and_deleted_below_the_prefix() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = BucketConfig::filesystem(folder.path());
        config.prefix = "team/a".into();
        let mut registry = Registry::default();
        let bucket = Bucket::open(&config, &mut registry).unwrap();
        run(async {
            bucket.list("", |_| panic!("an empty bucket holds nothing")).await.unwrap();
            bucket.upload("x/meta.json", Bytes::from_static(b"0123456789")).await.unwrap();
            assert!(folder.path().join("team/a/x/meta.json").is_file());
            let mut names = Vec::new();
            bucket.list("", |object| names.push((object.name, object.len))).await.unwrap();
            assert_eq!(names, [("x/meta.json".to_owned(), 10)]);
            assert_eq!(bucket.get_range("x/meta.json", 2..5).await.unwrap(), "234");
            let error = bucket.get_range("x/meta.json", 8..20).await.unwrap_err();
            assert!(error.to_string().contains("x/meta.json"), "{error}");
            assert_eq!(bucket.get("y").await.unwrap(), None);
            assert_eq!(bucket.len_of("x/meta.json").await.unwrap(), Some(10));
            assert!(!bucket.exists("y").await.unwrap());
            bucket.delete("x/meta.json").await.unwrap();
            assert!(!folder.path().join("team/a/x").exists(), "no empty folder stays behind");
            bucket.delete("x/meta.json").await.unwrap();
            assert_eq!(bucket.get("x/meta.json").await.unwrap(), None);
        });
        let text = crate::telemetry::metrics::render(&registry, "").1;
        assert!(text.contains("operation=\"upload\"} 1"), "{text}");
        let count = |name: &str, operation: &str, rest: &str| {
            let metric = format!("thanos_objstore_bucket_operation_{name}{{bucket=\"{}\"", bucket.name());
            text.contains(&format!("{metric},operation=\"{operation}\"}} {rest}\n"))
        };
        assert!(count("transferred_bytes_sum", "upload", "10") || count("transferred_bytes_sum", "upload", "10.0"));
        assert!(count("duration_seconds_count", "exists", "0"), "dashboards find it before there is one: {text}");
    }
}
