//! `tools bucket upload-blocks`: the blocks of a folder put into a bucket, with external labels; those
//! that were uploaded are remembered in `thanos.shipper.json`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::bucket::meta::{Thanos, source};
use engine::bucket::{BlockObject, Meta, ObjectName, name};
use engine::model::{BlockId, Error, Labels};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::objstore::Bucket;
use crate::sync::{Duplicates, FetchOptions, Fetcher, Filters, SyncMetrics};
use crate::upkeep::transfer::{Origin, Transfer};

/// The file that remembers what was uploaded.
pub const SHIPPER_FILE: &str = "thanos.shipper.json";

/// Metas of the bucket that are fetched at once.
const METAS_AT_ONCE: usize = 32;

/// Which blocks of a folder are uploaded, and how.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The folder.
    pub path: PathBuf,
    /// External labels that the blocks get.
    pub labels: Labels,
    /// Blocks above level 1.
    pub compacted: Compacted,
    /// How files are moved.
    pub transfer: Transfer,
}

/// What becomes of blocks above level 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// They are left out.
    LeftOut,
    /// They are uploaded.
    Uploaded,
}

#[derive(Serialize, Deserialize)]
struct Shipped {
    version: u32,
    uploaded: Option<Vec<BlockId>>,
}

impl Upload {
    /// Uploads, oldest first, what the bucket doesn't have; `each` is told of every block. Returns how
    /// many there were. A block above level 1 that overlaps with one of the bucket is an error: compaction of both
    /// would halt.
    pub async fn run(&self, bucket: &Bucket, mut each: impl FnMut(BlockId)) -> Result<usize, Error> {
        let file = self.path.join(SHIPPER_FILE);
        let known: BTreeSet<BlockId> = read_shipped(&file).into_iter().collect();
        let (mut shipped, mut uploaded) = (Vec::new(), 0);
        let present = OnceCell::<Vec<Arc<Meta>>>::new();
        for meta in self.metas()? {
            if known.contains(&meta.ulid) {
                shipped.push(meta.ulid);
                continue;
            }
            let is_left_out = meta.compaction.level > 1 && self.compacted == Compacted::LeftOut;
            if meta.stats.num_samples == 0 || is_left_out {
                continue;
            }
            let id = meta.ulid;
            if !bucket.exists(&ObjectName { block: id, object: BlockObject::Meta }.to_string()).await? {
                let meta = self.described(meta);
                if meta.compaction.level > 1 {
                    check_overlap(&meta, present.get_or_try_init(|| blocks_of(bucket)).await?)?;
                }
                tracing::info!(%id, "upload new block");
                let dir = self.path.join(id.to_string());
                let outcome = self.transfer.upload(bucket, &dir, meta, Origin::Any).await;
                outcome.map_err(|error| error.within(format_args!("upload {id}")))?;
                uploaded += 1;
                each(id);
            }
            shipped.push(id);
        }
        let text = serde_json::to_vec_pretty(&Shipped { version: 1, uploaded: Some(shipped) });
        let written = text.map_err(std::io::Error::other).and_then(|text| std::fs::write(&file, text));
        if let Err(error) = written {
            tracing::warn!(path = %file.display(), %error, "updating meta file failed");
        }
        Ok(uploaded)
    }

    /// How many blocks the folder holds.
    pub fn count(&self) -> Result<usize, Error> {
        self.metas().map(|metas| metas.len())
    }

    /// The blocks of the folder, oldest samples first.
    fn metas(&self) -> Result<Vec<Meta>, Error> {
        let mut metas = Vec::new();
        let entries = std::fs::read_dir(&self.path).map_err(|error| Error::file(&self.path, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| Error::file(&self.path, error))?;
            let path = entry.path();
            if entry.file_name().to_str().and_then(name::block_folder).is_none() || !path.is_dir() {
                continue;
            }
            let file = path.join(name::META);
            let bytes = std::fs::read(&file).map_err(|error| Error::file(&file, error))?;
            metas.push(Meta::parse(&bytes).map_err(|error| error.within(path.display()))?);
        }
        metas.sort_by_key(|meta| (meta.min_time, meta.ulid));
        Ok(metas)
    }

    fn described(&self, mut meta: Meta) -> Meta {
        let thanos = meta.thanos.get_or_insert_with(|| Thanos { version: Some(1), ..Thanos::default() });
        thanos.labels.extend(self.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        thanos.source = source::BUCKET_UPLOAD.to_owned();
        let chunks = self.path.join(meta.ulid.to_string()).join(name::CHUNKS);
        let entries = std::fs::read_dir(chunks).into_iter().flatten().flatten();
        thanos.segment_files = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        thanos.segment_files.sort();
        meta
    }
}

/// The blocks of a bucket, all of them: with one that is not seen another could overlap.
async fn blocks_of(bucket: &Bucket) -> Result<Vec<Arc<Meta>>, Error> {
    let options = FetchOptions { data_dir: None, concurrency: METAS_AT_ONCE };
    let fetcher = Fetcher::new(bucket.clone(), &options, SyncMetrics::register(&mut Registry::default()));
    let view = fetcher.fetch(&Filters { duplicates: Duplicates::Kept, ..Filters::all() }).await?;
    match view.incomplete.into_iter().chain(view.unknown.into_values()).chain(view.unreadable.into_values()).next() {
        Some(error) => Err(error.within("incomplete view")),
        None => Ok(view.blocks.into_values().map(|block| block.meta).collect()),
    }
}

/// Fails when a block of the same external labels covers times that `new` covers.
fn check_overlap(new: &Meta, present: &[Arc<Meta>]) -> Result<(), Error> {
    let labels = new.external_labels();
    let overlaps = |other: &Meta| new.min_time < other.max_time && other.min_time < new.max_time;
    let other = present.iter().find(|other| overlaps(other) && other.external_labels() == labels);
    let Some(other) = other else { return Ok(()) };
    let describe = |meta: &Meta| format!("<ulid: {}, mint: {}, maxt: {}>", meta.ulid, meta.min_time, meta.max_time);
    Err(Error::invalid(format!(
        "shipping compacted block {} is blocked; overlap spotted: {}, and in the bucket {}: remove one of them, or \
         give other labels",
        new.ulid,
        describe(new),
        describe(other)
    )))
}

/// What was uploaded before; a file that can't be read only costs looking into the bucket again.
fn read_shipped(file: &Path) -> Vec<BlockId> {
    let Ok(bytes) = std::fs::read(file) else { return Vec::new() };
    match serde_json::from_slice::<Shipped>(&bytes) {
        Ok(shipped) => shipped.uploaded.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(path = %file.display(), %error, "cannot read what was uploaded before");
            Vec::new()
        }
    }
}
