//! A bucket that is a folder which can't be opened yet: it is tried again with every call.

use std::path::{Path as FilePath, PathBuf};
use std::sync::OnceLock;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// The folder at a path, from the first call on that finds it or can make it.
#[derive(Debug)]
pub struct Later {
    directory: PathBuf,
    opened: OnceLock<LocalFileSystem>,
}

/// Opens the bucket in `directory`, which is made when it doesn't exist.
pub fn open(directory: &FilePath) -> Result<(LocalFileSystem, PathBuf)> {
    let failed =
        |error: std::io::Error| object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(error) };
    if !directory.is_dir() {
        std::fs::create_dir_all(directory).map_err(failed)?;
        tracing::warn!(directory = %directory.display(), "made the folder of the bucket, which was not there");
    }
    let directory = directory.canonicalize().map_err(failed)?;
    let store = LocalFileSystem::new_with_prefix(&directory)?;
    // A folder that stays behind empty looks to Thanos like a block that is half uploaded. Who uploads
    // deletes what it uploaded from.
    Ok((store.with_automatic_cleanup(true).with_fsync(true), directory))
}

/// Where `directory` will lie: links that lead nowhere yet are followed, and what there is of it is resolved.
pub fn resolved(directory: &FilePath) -> PathBuf {
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let target = match (std::fs::read_link(&absolute), absolute.parent()) {
        (Ok(target), Some(parent)) => parent.join(target),
        _ => absolute,
    };
    let present = target.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    present.map_or_else(
        || target.clone(),
        |(above, found)| match target.strip_prefix(above) {
            Ok(rest) if rest.as_os_str().is_empty() => found,
            Ok(rest) => found.join(rest),
            Err(_) => target.clone(),
        },
    )
}

impl Later {
    /// The folder `directory`, which may not be there.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, opened: OnceLock::new() }
    }

    /// The folder, opened where that may wait for a disk that hangs.
    async fn opened(&self) -> Result<&LocalFileSystem> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let directory = self.directory.clone();
        let opening = tokio::task::spawn_blocking(move || open(&directory));
        let (store, _) = opening.await.map_err(|error| object_store::Error::JoinError { source: error })??;
        tracing::info!(directory = %self.directory.display(), "the bucket's folder is there");
        Ok(self.opened.get_or_init(|| store))
    }

    /// The folder for calls that can't wait; an error where no other call has opened it.
    fn known(&self) -> Result<&LocalFileSystem> {
        self.opened.get().ok_or_else(|| object_store::Error::Generic {
            store: "LocalFileSystem",
            source: format!("the folder {} was not there yet", self.directory.display()).into(),
        })
    }
}

impl std::fmt::Display for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalFileSystem({})", self.directory.display())
    }
}

/// The one error of a stream that can't begin.
fn failed<T: Send + 'static>(error: object_store::Error) -> BoxStream<'static, Result<T>> {
    stream::once(async { Err(error) }).boxed()
}

#[async_trait]
impl ObjectStore for Later {
    async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.opened().await?.put_opts(to, payload, options).await
    }

    async fn put_multipart_opts(&self, to: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.opened().await?.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        self.opened().await?.get_opts(from, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.known().map_or_else(failed, |store| store.delete_stream(paths))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.known().map_or_else(failed, |store| store.list(prefix))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.opened().await?.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.opened().await?.copy_opts(from, to, options).await
    }
}
