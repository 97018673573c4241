//! Local blocks: those cut from the heads, until they are deleted.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use super::folders::tenant_folders;
use super::{Ingest, OWN_FOLDER, Tenant};
use crate::block::writer;
use crate::block::{BlockInfo, ChunkSource, OpenedBlock, Segments};
use crate::bucket::Meta;
use crate::bucket::name::{self, BlockObject};
use crate::head::cut::OUT_OF_ORDER_HINT;
use crate::index::column::{self, Check};
use crate::index::tsdb::{FileSource, Reader};
use crate::model::{BlockId, Error, ErrorKind, Labels};

/// A block on local disk.
#[derive(Clone, Debug)]
pub struct LocalBlock {
    /// Its description.
    pub meta: Meta,
    /// Its folder.
    pub path: PathBuf,
    opened: Arc<OpenedBlock>,
}

/// A block on local disk that could not be opened; it stays where it is.
#[derive(Clone, Debug)]
pub struct UnreadableBlock {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Which it is.
    pub id: BlockId,
    /// Its folder.
    pub path: PathBuf,
    /// Why.
    pub error: Error,
}

/// The folder of a block that was never whole, or whose removal was cut off; it was removed at the start.
#[derive(Clone, Debug)]
pub struct RemovedFolder {
    /// Whose it was.
    pub tenant: Arc<str>,
    /// Where it was.
    pub path: PathBuf,
    /// The files in it.
    pub content: String,
}

/// What the folders of tenants hold besides blocks that can be asked.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) unreadable: Vec<UnreadableBlock>,
    pub(super) removed: Vec<RemovedFolder>,
}

/// Local blocks of one tenant.
#[derive(Debug, Default)]
pub(super) struct LocalBlocks(pub(super) RwLock<BTreeMap<BlockId, LocalBlock>>);

impl LocalBlocks {
    pub(super) fn all(&self) -> Vec<LocalBlock> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn insert(&self, block: LocalBlock) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(block.meta.ulid, block);
    }

    /// Puts a block in the place of itself; one that was deleted meanwhile stays away.
    pub(super) fn replace(&self, block: LocalBlock) {
        let mut blocks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        blocks.entry(block.meta.ulid).and_modify(|known| *known = block);
    }

    fn has(&self, id: BlockId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    fn remove(&self, id: BlockId) -> Option<LocalBlock> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }
}

impl LocalBlock {
    /// The block, to be asked.
    pub fn opened(&self) -> &Arc<OpenedBlock> {
        &self.opened
    }

    /// Opens the block in the folder `path`; its column index lies at `index`, built when it isn't there
    /// or is damaged, in memory where it can't be kept: a full disk hides no block.
    pub(super) fn open(path: PathBuf, index: &Path, labels: &Labels) -> Result<Self, Error> {
        let meta_path = path.join(name::META);
        let failed = |error| Error::file(&meta_path, error);
        let meta = Meta::parse(&std::fs::read(&meta_path).map_err(failed)?)?;
        let columns = match column::Reader::open(index, Check::Everything) {
            Ok(columns) => columns,
            Err(_) => {
                let reader = Reader::open(FileSource::open(&path.join(name::INDEX))?)?;
                let built = column::build(&reader, index).and_then(|_| column::Reader::open(index, Check::Everything));
                built.or_else(|_| column::Reader::from_bytes(column::build_in_memory(&reader)?, Check::Everything))?
            }
        };
        let segments = (0..).map(|segment| path.join(BlockObject::Segment(segment).to_string()));
        let segments = Segments::new(segments.take_while(|segment| segment.exists()));
        let info = BlockInfo { external_labels: labels.clone(), ..BlockInfo::from_meta(&meta) };
        let opened = OpenedBlock::new(info, Arc::new(columns), ChunkSource::Local(segments)).in_tsdb();
        Ok(Self { meta, path, opened: Arc::new(opened) })
    }
}

impl Ingest {
    /// Local blocks of `tenant`, by id.
    pub fn local_blocks(&self, tenant: &str) -> Vec<LocalBlock> {
        self.known(tenant).map_or_else(Vec::new, |tenant| tenant.blocks.all())
    }

    /// Deletes a local block: nobody begins to read it, then its folder goes, meta.json first; whoever reads it already
    /// goes on.
    pub fn delete_block(&self, tenant: &str, id: BlockId) -> Result<(), Error> {
        let Some(block) = self.known(tenant).and_then(|tenant| tenant.blocks.remove(id)) else { return Ok(()) };
        block.opened.hold_files();
        writer::remove(&block.path).map_err(|error| Error::file(&block.path, error))?;
        // A column index that stays behind is removed at the next start.
        let _ = std::fs::remove_file(self.index_path(id));
        Ok(())
    }

    /// Makes a block that was cut readable, under the labels that its tenant has by then: who changes them goes
    /// through the blocks that are readable already.
    pub(super) fn insert_block(&self, tenant: &Tenant, (id, path): (BlockId, &Path)) -> Result<(), Error> {
        let mut labels = tenant.labels();
        tenant.blocks.insert(LocalBlock::open(path.to_owned(), &self.index_path(id), &labels)?);
        while *tenant.labels() != *labels {
            labels = tenant.labels();
            self.reopen_block(tenant, (id, path), &labels)?;
        }
        Ok(())
    }

    /// Gives a readable block of `tenant` other labels; that it was shipped and deleted meanwhile is no failure.
    fn reopen_block(&self, tenant: &Tenant, (id, path): (BlockId, &Path), labels: &Labels) -> Result<(), Error> {
        match LocalBlock::open(path.to_owned(), &self.index_path(id), labels) {
            Ok(block) => tenant.blocks.replace(block),
            Err(_) if !tenant.blocks.has(id) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Gives the blocks of `tenant` that have other labels than it has now these labels; gives what failed, each of
    /// which stays as it was until this is called again.
    pub(super) fn relabel_blocks(&self, tenant: &Tenant) -> Vec<Error> {
        let (labels, mut failures) = (tenant.labels(), Vec::new());
        for block in tenant.blocks.all() {
            if block.opened.info().external_labels == *labels {
                continue;
            }
            let id = block.meta.ulid;
            if let Err(error) = self.reopen_block(tenant, (id, &block.path), &labels) {
                failures.push(error.within(format_args!("tenant {}: block {id}", tenant.name)));
            }
        }
        failures
    }

    pub(super) fn index_path(&self, id: BlockId) -> PathBuf {
        self.options.data_dir.join(OWN_FOLDER).join("index").join(id.to_string())
    }

    /// Blocks that could not be opened at the start.
    pub fn unreadable_blocks(&self) -> &[UnreadableBlock] {
        &self.unreadable
    }

    /// Folders that were removed at the start.
    pub fn removed_folders(&self) -> &[RemovedFolder] {
        &self.removed
    }

    /// Opens all blocks in the folders of tenants, but those that can't be read, and removes what was not finished; it
    /// gives both.
    pub(super) fn load_blocks(&self) -> Result<Beside, Error> {
        let data = &self.options.data_dir;
        let failed = |error: std::io::Error| Error::file(data, error);
        std::fs::create_dir_all(data.join(OWN_FOLDER).join("index")).map_err(failed)?;
        let mut beside = Beside::default();
        for (tenant, folder) in tenant_folders(data).map_err(failed)? {
            let loaded = self.load_tenant(&Arc::from(tenant.as_str()), &folder, &mut beside);
            loaded.map_err(|error| error.within(&tenant))?;
        }
        self.remove_indexes(&beside.unreadable);
        Ok(beside)
    }

    /// Removes the column indexes of blocks that are not there; one that can't be removed takes room and no more.
    fn remove_indexes(&self, unreadable: &[UnreadableBlock]) {
        let local = self.tenants().into_iter().flat_map(|tenant| self.local_blocks(&tenant));
        let ids = local.map(|block| block.meta.ulid).chain(unreadable.iter().map(|block| block.id));
        let kept: HashSet<OsString> = ids.map(|id| id.to_string().into()).collect();
        let entries = std::fs::read_dir(self.options.data_dir.join(OWN_FOLDER).join("index"));
        for entry in entries.into_iter().flatten().filter_map(Result::ok) {
            if !kept.contains(&entry.file_name()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn load_tenant(&self, tenant: &Arc<str>, folder: &Path, beside: &mut Beside) -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::file(folder, error);
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let (entry, tenant) = (entry.map_err(failed)?, Arc::clone(tenant));
            let (name, path) = (entry.file_name(), entry.path());
            let Some(name) = name.to_str().filter(|_| path.is_dir()) else { continue };
            if writer::is_unfinished(name) {
                let content = content_of(&path);
                std::fs::remove_dir_all(&path).map_err(failed)?;
                beside.removed.push(RemovedFolder { tenant, path, content });
                continue;
            }
            let Ok(id) = name.parse::<BlockId>() else { continue };
            let known = self.tenant(&tenant)?;
            let opened = match path.join(self::name::META).try_exists().map_err(failed)? {
                true => LocalBlock::open(path.clone(), &self.index_path(id), &known.labels()),
                false => Err(without_meta(&path)),
            };
            match opened {
                Ok(block) => {
                    if !block.meta.compaction.hints.iter().any(|hint| hint == OUT_OF_ORDER_HINT) {
                        known.valid_from.fetch_max(block.meta.max_time, Ordering::AcqRel);
                    }
                    known.blocks.insert(block);
                }
                Err(error) => beside.unreadable.push(UnreadableBlock { tenant, id, path, error }),
            }
        }
        Ok(())
    }
}

/// What is wrong with a folder that is called like a block: none that we cut or remove is ever without the file.
fn without_meta(path: &Path) -> Error {
    let message = format!("{} is missing beside {}", path.join(name::META).display(), content_of(path));
    Error::new(ErrorKind::Corrupt, message)
}

/// The files below `folder`, as text: as far as they can be looked at.
fn content_of(folder: &Path) -> String {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().filter_map(Result::ok) {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) => {
                    let path = entry.path();
                    let name = path.strip_prefix(folder).unwrap_or(&path);
                    files.push(format!("{} ({} bytes)", name.display(), found.len()));
                }
                Err(_) => {}
            }
        }
    }
    files.sort_unstable();
    if files.is_empty() { "no file".to_owned() } else { files.join(", ") }
}
