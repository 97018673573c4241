//! Moving blocks between a bucket and folders: segments, then index, then meta.json, so that a block is
//! visible only when it is whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use engine::bucket::meta::{File as MetaFile, FileHash};
use engine::bucket::{BlockObject, GoTime, Meta, ObjectName, name};
use engine::model::{BlockId, Error, ErrorKind};
use futures_util::{StreamExt, TryStreamExt, stream};
use ring::digest::{Context, SHA256};

use super::delete::delete;
use crate::objstore::Bucket;

/// Bytes that are hashed at a time.
const HASH_BYTES: usize = 1 << 20;

/// Which hash of each file stands in meta.json.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashFunc {
    /// None.
    #[default]
    None,
    /// SHA-256.
    Sha256,
}

/// How blocks are moved: by default without hashes, one file after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transfer {
    /// The hash of uploaded files.
    pub hash: HashFunc,
    /// Files of a block that are moved at once.
    pub concurrency: usize,
}

/// Whether a block must say who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It must have external labels.
    Labelled,
    /// It may be Prometheus' own.
    Any,
}

impl HashFunc {
    /// The function that `--hash-func` names.
    pub fn parse(word: &str) -> Self {
        if word == "SHA256" { Self::Sha256 } else { Self::None }
    }
}

/// Index and segments of a block in a bucket, with their lengths. One that is not listed as `meta` tells of it is an
/// error, unless it is in the folder `dir` already.
pub async fn data_listed(bucket: &Bucket, meta: &Meta, dir: &Path) -> Result<BTreeMap<String, u64>, Error> {
    let id = meta.ulid;
    let mut listed = Vec::new();
    bucket.list(&id.to_string(), |object| listed.push(object)).await?;
    let data = listed.iter().filter_map(|object| {
        let kind = ObjectName::parse(&object.name)?.object;
        is_data(kind).then_some((kind.to_string(), object.len))
    });
    let data: BTreeMap<String, u64> = data.collect();
    for told in meta.files().iter().filter(|told| BlockObject::parse(&told.rel_path).is_some_and(is_data)) {
        let (path, told_len, listed) = (&told.rel_path, told.size_bytes, data.get(&told.rel_path));
        let is_listed = listed.is_some_and(|len| told.may_have(*len));
        if !is_listed && !is_there(&dir.join(path), told) {
            let listed = listed.map_or_else(|| "does not list it".to_owned(), |len| format!("lists {len} bytes"));
            let message = format!("block {id}: {path}: meta.json tells of {told_len} bytes, the bucket {listed}");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
    }
    Ok(data)
}

impl Transfer {
    /// Uploads the block in the folder `dir`, which `meta` describes; its list of files and its time of
    /// upload are filled in. Returns the meta.json that was uploaded.
    pub async fn upload(&self, bucket: &Bucket, dir: &Path, meta: Meta, origin: Origin) -> Result<Meta, Error> {
        let files = self.files_of(dir, &meta, origin)?;
        self.upload_data(bucket, dir, (meta.ulid, files.as_slice())).await?;
        upload_meta(bucket, meta, files).await
    }

    /// As [`Transfer::upload`], of a block that is made anew with another id when it fails: its index and segments are
    /// deleted then, as each try would leave others. Where only meta.json fails they stay, as Thanos has it: it may
    /// still appear.
    pub async fn upload_new(&self, bucket: &Bucket, dir: &Path, meta: Meta, origin: Origin) -> Result<Meta, Error> {
        let (id, files) = (meta.ulid, self.files_of(dir, &meta, origin)?);
        if let Err(error) = self.upload_data(bucket, dir, (id, files.as_slice())).await {
            if let Err(left) = delete(bucket, id).await {
                tracing::warn!(block = %id, error = %left, "what a failed upload has left stays, to be cleaned later");
            }
            return Err(error);
        }
        upload_meta(bucket, meta, files).await
    }

    /// The files of a block that may be uploaded.
    fn files_of(&self, dir: &Path, meta: &Meta, origin: Origin) -> Result<Vec<MetaFile>, Error> {
        let id = meta.ulid;
        if origin == Origin::Labelled && meta.thanos.as_ref().is_none_or(|thanos| thanos.labels.is_empty()) {
            return Err(Error::invalid(format!("block {id}: empty external labels are not allowed for Thanos block")));
        }
        self.files(dir)
    }

    /// Uploads segments, then the index.
    async fn upload_data(&self, bucket: &Bucket, dir: &Path, block: (BlockId, &[MetaFile])) -> Result<(), Error> {
        let (id, files) = block;
        let object = |path: &str| format!("{id}/{path}");
        let uploads = files
            .iter()
            .filter(|file| file.rel_path.starts_with(name::CHUNKS))
            .map(|file| async { bucket.upload_file(&object(&file.rel_path), &dir.join(&file.rel_path)).await });
        stream::iter(uploads).buffer_unordered(self.concurrency.max(1)).try_collect::<Vec<()>>().await?;
        bucket.upload_file(&object(name::INDEX), &dir.join(name::INDEX)).await
    }

    /// Puts the files of the block that `meta` describes into the folder `dir`, meta.json last. A file
    /// that is there with the hash that `meta` tells is not fetched again. One that the bucket does not list
    /// as `meta` tells of it is an error: what is left of the block would be taken for all of it.
    pub async fn download(&self, bucket: &Bucket, meta: &Meta, dir: &Path) -> Result<(), Error> {
        let id = meta.ulid;
        let local = |error: std::io::Error| Error::file(dir, error);
        std::fs::create_dir_all(dir.join(name::CHUNKS)).map_err(local)?;
        let wanted = data_listed(bucket, meta, dir).await?;
        let known = meta.files();
        let fetches = wanted.into_iter().map(|(path, len)| async move {
            let told = known.iter().find(|file| file.rel_path == path);
            let to = dir.join(&path);
            if told.is_some_and(|told| is_there(&to, told)) {
                return Ok(());
            }
            let len = told.map(|told| told.size_bytes).filter(|len| *len > 0).unwrap_or(len);
            let came = bucket.download_file(&format!("{id}/{path}"), &to).await?;
            if came == len {
                return Ok(());
            }
            let message = format!("block {id}: {path}: {came} bytes came, it has {len}");
            Err(Error::new(ErrorKind::Unavailable, message))
        });
        stream::iter(fetches).buffer_unordered(self.concurrency.max(1)).try_collect::<Vec<()>>().await?;
        std::fs::write(dir.join(name::META), meta.to_json()).map_err(local)
    }

    /// The files of the block in the folder `dir` as meta.json tells them.
    fn files(&self, dir: &Path) -> Result<Vec<MetaFile>, Error> {
        let chunks = dir.join(name::CHUNKS);
        let entries = std::fs::read_dir(&chunks).map_err(|error| Error::file(&chunks, error))?;
        let mut paths = entries
            .map(|entry| Ok(format!("{}/{}", name::CHUNKS, entry?.file_name().to_string_lossy())))
            .collect::<Result<Vec<_>, std::io::Error>>()
            .map_err(|error| Error::file(&chunks, error))?;
        paths.sort();
        paths.push(name::INDEX.to_owned());
        let mut files = Vec::new();
        for rel_path in paths {
            let path = dir.join(&rel_path);
            let found = std::fs::metadata(&path).map_err(|error| Error::file(&path, error))?;
            let hash = match self.hash {
                HashFunc::None => None,
                HashFunc::Sha256 => Some(sha256(&path).map_err(|error| Error::file(&path, error))?),
            };
            files.push(MetaFile { rel_path, size_bytes: found.len(), hash });
        }
        files.push(MetaFile { rel_path: name::META.to_owned(), ..MetaFile::default() });
        Ok(files)
    }
}

/// Makes a block visible whose `files` are there.
async fn upload_meta(bucket: &Bucket, mut meta: Meta, files: Vec<MetaFile>) -> Result<Meta, Error> {
    if let Some(thanos) = &mut meta.thanos {
        thanos.files = files;
        thanos.upload_time = GoTime::from_unix_nanos(i128::from(super::now_ms()) * 1_000_000);
    }
    bucket.upload(&format!("{}/{}", meta.ulid, name::META), Bytes::from(meta.to_json())).await?;
    Ok(meta)
}

/// The folder in which the block lies that `meta` describes: its own one where the bucket is a folder,
/// otherwise `dir`, into which it is fetched.
pub async fn fetched(transfer: &Transfer, bucket: &Bucket, meta: &Meta, dir: &Path) -> Result<PathBuf, Error> {
    if let Some(folder) = bucket.folder() {
        return Ok(folder.join(meta.ulid.to_string()));
    }
    transfer.download(bucket, meta, dir).await?;
    Ok(dir.to_owned())
}

fn is_data(object: BlockObject) -> bool {
    object.is_index_or_segment() || object == BlockObject::Tombstones
}

/// Whether the file at `path` is the one that meta.json tells, by its hash.
fn is_there(path: &Path, told: &MetaFile) -> bool {
    let Some(hash) = told.hash.as_ref().filter(|hash| hash.func == "SHA256") else { return false };
    sha256(path).is_ok_and(|found| found.value == hash.value)
}

fn sha256(path: &Path) -> std::io::Result<FileHash> {
    let (mut file, mut context) = (File::open(path)?, Context::new(&SHA256));
    let mut buffer = vec![0; HASH_BYTES];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        context.update(&buffer[..read]);
    }
    let value = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(FileHash { func: "SHA256".to_owned(), value })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::bucket::meta::Thanos;
    use prometheus_client::registry::Registry;

    use super::*;

    /// Every run of a compactor whose upload failed once left its segments in the bucket for two days.
    #[tokio::test]
    async fn what_a_failed_upload_has_left_is_deleted_where_its_id_is_not_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        std::fs::create_dir_all(dir.join("chunks")).unwrap();
        std::fs::write(dir.join("chunks/000001"), "segment").unwrap();
        // It can't be read.
        std::fs::create_dir(dir.join("index")).unwrap();
        let meta = Meta::new(BlockId::from_parts(1, 2), 0, 10);
        let memory = Arc::new(object_store::memory::InMemory::new());
        let bucket = Bucket::over(memory, "memory", &mut Registry::default());
        let transfer = Transfer::default();
        let left = async || {
            let mut left = 0;
            bucket.list("", |_| left += 1).await.unwrap();
            left
        };
        transfer.upload_new(&bucket, dir, meta.clone(), Origin::Any).await.unwrap_err();
        assert_eq!(left().await, 0);
        transfer.upload(&bucket, dir, meta, Origin::Any).await.unwrap_err();
        assert_eq!(left().await, 1, "a shipper goes on with it");
    }

    /// What was left of it once was taken for damaged, and its group halted.
    #[tokio::test]
    async fn a_block_is_not_fetched_while_a_file_of_it_is_not_listed_as_its_meta_tells() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir_all(from.join("chunks")).unwrap();
        for name in ["chunks/000001", "chunks/000002", "index"] {
            std::fs::write(from.join(name), name).unwrap();
        }
        let meta = Meta { thanos: Some(Thanos::default()), ..Meta::new(BlockId::from_parts(1, 2), 0, 10) };
        let memory = Arc::new(object_store::memory::InMemory::new());
        let bucket = Bucket::over(memory, "memory", &mut Registry::default());
        let transfer = Transfer::default();
        let uploaded = transfer.upload(&bucket, &from, meta, Origin::Any).await.unwrap();
        for name in ["chunks/000002", "index"] {
            let object = format!("{}/{name}", uploaded.ulid);
            for other in [None, Some("of another length")] {
                match other {
                    None => bucket.delete(&object).await.unwrap(),
                    Some(other) => bucket.upload(&object, Bytes::from_static(other.as_bytes())).await.unwrap(),
                }
                let error = transfer.download(&bucket, &uploaded, &to).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert!(error.message().contains(name), "{error}");
            }
            bucket.upload(&object, Bytes::from_static(name.as_bytes())).await.unwrap();
            transfer.download(&bucket, &uploaded, &to).await.unwrap();
        }
    }

    #[test]
    fn a_block_comes_back_with_hashes_and_only_what_changed_is_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir_all(from.join("chunks")).unwrap();
        std::fs::write(from.join("chunks/000001"), "segment").unwrap();
        std::fs::write(from.join("index"), "abc").unwrap();
        let labels = [("a".to_owned(), "b".to_owned())].into();
        let thanos = Some(Thanos { labels, ..Thanos::default() });
        let meta = Meta { thanos, ..Meta::new(BlockId::from_parts(1, 2), 0, 10) };
        let memory = Arc::new(object_store::memory::InMemory::new());
        let bucket = Bucket::over(memory, "memory", &mut Registry::default());
        let transfer = Transfer { hash: HashFunc::Sha256, concurrency: 2 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let uploaded = transfer.upload(&bucket, &from, meta.clone(), Origin::Labelled).await.unwrap();
            let index = &uploaded.thanos.as_ref().unwrap().files[1];
            let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
            assert_eq!(index.hash.as_ref().unwrap().value, expected);
            transfer.download(&bucket, &uploaded, &to).await.unwrap();
            assert_eq!(std::fs::read(to.join("chunks/000001")).unwrap(), b"segment");
            std::fs::write(to.join("index"), "abd").unwrap();
            bucket.delete(&format!("{}/chunks/000001", meta.ulid)).await.unwrap();
            transfer.download(&bucket, &uploaded, &to).await.unwrap();
            assert_eq!(std::fs::read(to.join("index")).unwrap(), b"abc");
            let unlabelled = Meta { thanos: None, ..meta.clone() };
            let error = transfer.upload(&bucket, &from, unlabelled, Origin::Labelled).await.unwrap_err();
            assert!(error.message().contains("external labels"), "{error}");
        });
    }
}
