//! `tools bucket upload-blocks`: the blocks of a folder put into a bucket, with external labels; those
//! that were uploaded are remembered in `thanos.shipper.json`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use engine::bucket::meta::{Thanos, source};
use engine::bucket::{BlockObject, Meta, ObjectName, name};
use engine::model::{BlockId, Error, Labels};
use serde::{Deserialize, Serialize};

use crate::objstore::Bucket;
use crate::upkeep::transfer::{Origin, Transfer};

/// The file that remembers what was uploaded.
pub const SHIPPER_FILE: &str = "thanos.shipper.json";

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
    /// many there were.
    pub async fn run(&self, bucket: &Bucket, mut each: impl FnMut(BlockId)) -> Result<usize, Error> {
        let file = self.path.join(SHIPPER_FILE);
        let known: BTreeSet<BlockId> = read_shipped(&file).into_iter().collect();
        let (mut shipped, mut uploaded) = (Vec::new(), 0);
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
                tracing::info!(%id, "upload new block");
                let dir = self.path.join(id.to_string());
                let outcome = self.transfer.upload(bucket, &dir, self.described(meta), Origin::Any).await;
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
