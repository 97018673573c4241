//! The disk below a receiver: what is written to it fails as a seed says, and a crash at any call leaves
//! behind what may have arrived until then.
//!
//! ```text
//! <folder>/.uru/wal/<partition>/…  ─ linked at every look ─>  <kept>/<partition>-<name>
//!        └────────────── a crash copies all, then takes back what came after the last look ──> <image>
//! ```
//! A *look* follows every write that was made durable. What changed between two looks happened in an
//! order that the disk may have been stopped in: blocks get their names one after the other, a snapshot
//! gets its name before the files go that it makes needless, and a block loses its name before its files go.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::block::writer::{REMOVED_SUFFIX, TMP_SUFFIX};
use engine::bucket::Meta;
use engine::io::{self, Batch, BlockIo, Failure, File, IoCounters, Mode, Read, Write};
use engine::model::BlockId;
use engine::wal::writer::OpenIo;
use tests::random::Random;

/// What a disk does to those who write to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// One write in so many fails; 0 for none.
    pub one_in: u64,
    /// The partition and the number of its write at which everything stops.
    pub crash: Option<(usize, u64)>,
}

impl Faults {
    /// Whether anything fails.
    pub fn is_any(self) -> bool {
        self.one_in > 0 || self.crash.is_some()
    }
}

/// A disk; clones are the same one.
#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
    faults: Faults,
    random: Random,
}

struct State {
    folder: PathBuf,
    image: PathBuf,
    kept: PathBuf,
    random: Random,
    seen: Seen,
    is_dead: bool,
}

/// What there was at a look; paths from the folder on.
#[derive(Clone, Debug, Default)]
struct Seen {
    blocks: BTreeSet<PathBuf>,
    logs: BTreeSet<PathBuf>,
}

impl Disk {
    /// The disk that holds `folder`; a crash leaves `image`. `kept` is a folder of its own use on the same
    /// file system.
    pub fn new(folder: &Path, image: &Path, kept: &Path, faults: Faults, mut random: Random) -> Self {
        fs::create_dir_all(kept).unwrap();
        let state = State {
            folder: folder.to_owned(),
            image: image.to_owned(),
            kept: kept.to_owned(),
            random: random.branch(1),
            seen: Seen::default(),
            is_dead: false,
        };
        let disk = Self { state: Arc::new(Mutex::new(state)), faults, random };
        disk.look();
        disk
    }

    /// How the log of `partition` is written.
    pub fn open(&self, partition: usize) -> OpenIo {
        let crash_at = self.faults.crash.filter(|(crashing, _)| *crashing == partition).map(|(_, at)| at);
        let (state, one_in) = (Arc::clone(&self.state), self.faults.one_in);
        let random = self.random.clone().branch(100 + partition as u64);
        Box::new(move || {
            let inner = io::open(Mode::Pread)?;
            Ok(Box::new(Written { inner, state, random, one_in, crash_at, writes: 0 }))
        })
    }

    /// Everything that was done is durable.
    pub fn look(&self) {
        self.lock().look();
    }

    /// Everything stops now, unless it has before.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// Whether everything has stopped.
    pub fn is_dead(&self) -> bool {
        self.lock().is_dead
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way of one partition's log to the disk.
struct Written {
    inner: Box<dyn BlockIo>,
    state: Arc<Mutex<State>>,
    random: Random,
    one_in: u64,
    crash_at: Option<u64>,
    writes: u64,
}

fn stopped() -> Failure {
    Failure { index: 0, offset: 0, source: std::io::Error::from_raw_os_error(5) }
}

impl Written {
    /// Writes, makes durable, and looks; or fails.
    fn put(&mut self, writes: &[Write<'_>]) -> Result<(), Failure> {
        let state = Arc::clone(&self.state);
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_dead {
            return Err(stopped());
        }
        self.writes += 1;
        let is_crash = self.crash_at == Some(self.writes);
        if !is_crash && !self.random.is_one_in(self.one_in) {
            self.inner.write_and_sync(writes)?;
            state.look();
            return Ok(());
        }
        let arrives = self.random.below(5);
        if arrives > 0 {
            // Blocks and snapshots made themselves durable before this write began.
            state.look();
        }
        match arrives {
            // Nothing has arrived: the write failed, or the sync did and the pages were dropped.
            0 => {}
            // Everything has, and only the sync failed.
            1 => self.inner.write(writes)?,
            _ => self.write_part(writes)?,
        }
        if is_crash {
            state.crash();
        }
        Err(stopped())
    }

    /// Writes a part; where the file got its new length without its new pages, there are zeros.
    fn write_part(&mut self, writes: &[Write<'_>]) -> Result<(), Failure> {
        for write in writes {
            let whole = write.bytes.len() + write.zeros;
            let arrived = self.random.below(whole as u64 + 1) as usize;
            let bytes = &write.bytes[..arrived.min(write.bytes.len())];
            self.inner.write(&[Write { bytes, zeros: arrived - bytes.len(), ..*write }])?;
            let len = fs::metadata(write.file.path()).unwrap().len();
            let end = write.offset + whole as u64;
            if end > len && self.random.is_one_in(3) {
                let zeros = (end - len) as usize;
                self.inner.write(&[Write { file: write.file, offset: len, bytes: &[], zeros }])?;
            }
        }
        Ok(())
    }
}

impl BlockIo for Written {
    fn read(&mut self, reads: &[Read<'_>]) -> Batch<'_> {
        self.inner.read(reads)
    }

    fn create_durable(&mut self, path: PathBuf) -> std::io::Result<File> {
        File::create(path)
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Result<(), Failure> {
        self.put(writes)
    }

    fn write_and_sync(&mut self, writes: &[Write<'_>]) -> Result<(), Failure> {
        self.put(writes)
    }

    fn name(&self) -> &'static str {
        "simulated"
    }

    fn counters(&self) -> IoCounters {
        self.inner.counters()
    }
}

impl State {
    fn look(&mut self) {
        self.seen = Seen::of(&self.folder);
        for log in &self.seen.logs {
            let (path, link) = (self.folder.join(log), self.link(log));
            let number = |path: &Path| fs::metadata(path).ok().map(|found| found.ino());
            // A start may have made a file of the same name anew.
            if number(&link) != number(&path) {
                drop(fs::remove_file(&link));
                fs::hard_link(path, link).unwrap();
            }
        }
    }

    /// Where the file at `log` is kept when it is removed.
    fn link(&self, log: &Path) -> PathBuf {
        let parts: Vec<_> = log.iter().map(|part| part.to_string_lossy()).collect();
        self.kept.join(parts.join("-"))
    }

    fn crash(&mut self) {
        if std::mem::replace(&mut self.is_dead, true) {
            return;
        }
        copy_tree(&self.folder, &self.image);
        let now = Seen::of(&self.folder);
        self.take_blocks_back(&now);
        self.take_snapshots_back(&now);
    }

    /// Of the blocks that are new, the last ones have no names yet; of those that are gone, the last one
    /// is there under the name of one that is being removed.
    fn take_blocks_back(&mut self, now: &Seen) {
        let mut new: Vec<_> = now.blocks.difference(&self.seen.blocks).cloned().collect();
        new.sort_by_key(|block| {
            Meta::parse(&fs::read(self.folder.join(block).join("meta.json")).unwrap()).unwrap().min_time
        });
        let named = self.random.below(new.len() as u64 + 1) as usize;
        for (at, block) in new.into_iter().enumerate().skip(named) {
            let path = self.image.join(block);
            if at > named {
                fs::remove_dir_all(&path).unwrap();
                continue;
            }
            let mut unfinished = path.clone().into_os_string();
            unfinished.push(TMP_SUFFIX);
            fs::rename(&path, &unfinished).unwrap();
            let file =
                Path::new(&unfinished).join(["index", "chunks/000001", "meta.json"][self.random.below(3) as usize]);
            self.shorten(&file);
        }
        if let Some(gone) = self.seen.blocks.difference(&now.blocks).last().cloned()
            && self.random.is_one_in(2)
        {
            let mut renamed = self.image.join(gone).into_os_string();
            renamed.push(REMOVED_SUFFIX);
            fs::create_dir_all(&renamed).unwrap();
            fs::write(Path::new(&renamed).join("index"), b"").unwrap();
        }
    }

    /// Files that a snapshot makes needless are there yet, all or the last ones; then the snapshot may
    /// have no name.
    fn take_snapshots_back(&mut self, now: &Seen) {
        let mut removed: Vec<_> = self.seen.logs.difference(&now.logs).cloned().collect();
        removed.sort_by_key(|log| (log.extension().is_none(), log.clone()));
        let new = now.logs.difference(&self.seen.logs).find(|log| log.extension().is_some());
        let mut gone = self.random.below(removed.len() as u64 + 1) as usize;
        if let Some(snapshot) = new.filter(|_| self.random.is_one_in(2)) {
            let path = self.image.join(snapshot);
            let mut unfinished = path.clone().into_os_string();
            unfinished.push(".tmp");
            fs::rename(&path, &unfinished).unwrap();
            self.shorten(Path::new(&unfinished));
            gone = 0;
        }
        for log in removed.iter().skip(gone) {
            fs::copy(self.link(log), self.image.join(log)).unwrap();
        }
    }

    /// Leaves the first bytes of a file.
    fn shorten(&mut self, path: &Path) {
        let bytes = fs::read(path).unwrap();
        let len = self.random.below(bytes.len() as u64 + 1) as usize;
        fs::write(path, &bytes[..len]).unwrap();
    }
}

impl Seen {
    fn of(folder: &Path) -> Self {
        let mut seen = Self::default();
        for tenant in names(folder).into_iter().filter(|name| !name.starts_with('.')) {
            let blocks = names(&folder.join(&tenant)).into_iter().filter(|name| name.parse::<BlockId>().is_ok());
            let blocks = blocks.map(|name| Path::new(&tenant).join(name));
            seen.blocks.extend(blocks.filter(|block| folder.join(block).join("meta.json").exists()));
        }
        let wal = Path::new(".uru/wal");
        for partition in names(&folder.join(wal)) {
            let logs = names(&folder.join(wal).join(&partition)).into_iter().filter(|name| !name.ends_with(".tmp"));
            seen.logs.extend(logs.map(|name| wal.join(&partition).join(name)));
        }
        seen
    }
}

/// Names of what is in a folder; none where there is no such folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Copies `from` with all that is in it to `to`.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy_tree(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}
