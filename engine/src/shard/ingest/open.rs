//! Opening: all logs are replayed side by side, then the shards get their partitions.

use std::collections::{HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

use super::folders::tenant_folder;
use super::partition::{OwnedHead, Partition};
use super::{Ingest, IngestOptions, OWN_FOLDER};
use crate::block::writer;
use crate::bucket::name;
use crate::head::Head;
use crate::head::replay::Replay;
use crate::io::{folder, freed, is_full, replace};
use crate::model::{BlockId, Error, ErrorKind};
use crate::shard::gather::answer;
use crate::shard::pool::Pool;
use crate::wal::folder::{Replayed, replay};
use crate::wal::writer::OpenIo;
use crate::wal::{Cut, CutPhase, Place, Record, Recorder, Writer};

/// The file beside the folders of the partitions that says how many there are.
const PARTITIONS: &str = "partitions";

/// Partitions, at most: a file that says more is damaged.
const PARTITIONS_MAX: usize = 4096;

/// Heads that a log has made, by tenant, and the next number of a tenant.
struct Heads {
    heads: HashMap<Arc<str>, OwnedHead>,
    next_number: u32,
    replayed: Replayed,
    /// Samples and chunks of series that the log never named, and histograms that no head takes.
    unknown: u64,
    /// Cuts whose blocks are there while the log doesn't say so, with the numbers of their tenants.
    unrecorded: Vec<(u32, Cut)>,
    /// Cuts that were intended and not made, and the blocks of all that were.
    unmade: Vec<(Arc<str>, Cut)>,
    made: HashSet<BlockId>,
}

impl Ingest {
    /// Opens the folder of `options`, made when it isn't there; replays its logs. Blocks the calling
    /// thread, which must not be a shard.
    pub fn open(pool: &Arc<Pool>, options: IngestOptions) -> Result<Arc<Self>, Error> {
        let open = |_| options.open_io();
        let opened = Self::open_with(pool, options.clone(), open)?;
        // What the logs were read into is of no more use, and nothing else may be freed for long.
        freed::give_back_now();
        Ok(opened)
    }

    /// As [`Ingest::open`]; the log of each partition is written through what `open_io` gives for it.
    pub fn open_with(
        pool: &Arc<Pool>,
        options: IngestOptions,
        open_io: impl Fn(usize) -> OpenIo,
    ) -> Result<Arc<Self>, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let started = Instant::now();
        let own = options.data_dir.join(OWN_FOLDER);
        let lock = lock(&own)?;
        let wal = own.join("wal");
        let count = make_partitions(&wal, pool.len())?;
        sync_names([&options.data_dir, &own])?;
        let folders: Vec<_> = (0..count).map(|partition| wal.join(format!("{partition:03}"))).collect();
        let all: Vec<Result<Heads, Error>> = std::thread::scope(|scope| {
            let options = &options;
            let read = |folder: &'_ PathBuf| {
                let folder = folder.clone();
                scope.spawn(move || replay_heads(&folder, options).map_err(|error| with_way_out(error, &folder)))
            };
            let threads: Vec<_> = folders.iter().map(read).collect();
            let panicked = || Err(Error::new(ErrorKind::Bug, "a replay panicked"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
        });
        let mut all = all.into_iter().collect::<Result<Vec<_>, Error>>()?;
        remove_unmade(&all, &options)?;
        let mut writers = Vec::with_capacity(count);
        for (partition, (folder, heads)) in folders.into_iter().zip(&all).enumerate() {
            let place = Place { folder, segment: heads.replayed.next_segment, durability: options.durability };
            let writer = Writer::start(place, open_io(partition))?;
            record(&heads.unrecorded, &writer)?;
            writers.push(Arc::new(writer));
        }
        let ingest = Arc::new(Self {
            pool: Arc::clone(pool),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            writers,
            tenants: RwLock::default(),
            added_labels: RwLock::default(),
            maintenance: Mutex::default(),
            is_closed: AtomicBool::new(false),
            replayed: all.iter().map(|heads| heads.replayed.clone()).collect(),
            replayed_unknown: all.iter().map(|heads| heads.unknown).sum(),
            unreadable: Vec::new(),
            removed: Vec::new(),
            open_ms: 0,
            snapshot_failed_at: Mutex::default(),
            snapshots: AtomicU64::default(),
            snapshots_failed: AtomicU64::default(),
            snapshot_us: AtomicU64::default(),
            removals: AtomicU64::default(),
            removals_failed: AtomicU64::default(),
            options,
            _lock: lock,
        });
        ingest.number_exemplars(&mut all)?;
        let beside = ingest.load_blocks()?;
        for (name, own) in all.iter().flat_map(|heads| &heads.heads) {
            ingest.tenant(name)?.valid_from.fetch_max(own.head.min_valid_time(), Ordering::AcqRel);
        }
        for (index, heads) in all.into_iter().enumerate() {
            ingest.place_partition(index, heads)?;
        }
        let mut ingest = ingest;
        if let Some(own) = Arc::get_mut(&mut ingest) {
            (own.unreadable, own.removed) = (beside.unreadable, beside.removed);
            own.open_ms = started.elapsed().as_millis() as u64;
        }
        Ok(ingest)
    }

    /// Numbers what was replayed of each tenant's exemplars in the order of time: the logs of partitions
    /// don't tell which came first.
    fn number_exemplars(&self, all: &mut [Heads]) -> Result<(), Error> {
        let mut found: HashMap<Arc<str>, Vec<(i64, usize)>> = HashMap::new();
        for (partition, heads) in all.iter().enumerate() {
            for (name, own) in &heads.heads {
                let times = own.head.exemplar_times().map(|time| (time, partition));
                found.entry(Arc::clone(name)).or_default().extend(times);
            }
        }
        for (name, mut times) in found {
            times.sort_unstable();
            let tenant = self.tenant(&name)?;
            tenant.exemplar_clock.store(times.len() as u64, Ordering::Relaxed);
            for (partition, heads) in all.iter_mut().enumerate() {
                let own = times.iter().zip(0..).filter(|((_, of), _)| *of == partition);
                let numbers: Vec<u64> = own.map(|(_, number)| number).collect();
                if let Some(own) = heads.heads.get_mut(&name) {
                    own.head.share_exemplars(Arc::clone(&tenant.exemplar_clock), &numbers);
                }
            }
        }
        Ok(())
    }

    fn place_partition(&self, index: usize, mut heads: Heads) -> Result<(), Error> {
        for (name, own) in &mut heads.heads {
            let tenant = self.tenant(name)?;
            own.head.begin_at(tenant.valid_from.load(Ordering::Acquire));
            tenant.parts[index].publish(&own.head);
        }
        let partition = Partition {
            index,
            options: self.options.head(),
            heads: heads.heads,
            next_number: heads.next_number,
            writer: Arc::clone(&self.writers[index]),
            recorder: Recorder::default(),
        };
        let number = self.number;
        self.pool.send_waiting(index, move |context| context.place_partition((number, index), partition))
    }
}

impl Drop for Ingest {
    /// Takes the partitions from the shards and waits until their logs are written.
    fn drop(&mut self) {
        for index in 0..self.writers.len() {
            let (sender, receiver) = flume::bounded(1);
            let number = self.number;
            let taken = self.pool.send_waiting(index, move |context| {
                drop(context.take_partition((number, index)));
                let _ = sender.send(());
            });
            if taken.is_ok() {
                let _ = receiver.recv();
            }
        }
    }
}

/// Locks the folder `own`, made when it isn't there, for as long as the file is open: two processes that write one
/// log leave none that can be read.
fn lock(own: &Path) -> Result<File, Error> {
    let path = own.join("lock");
    let failed = |error: std::io::Error| Error::file(&path, error);
    folder::create(own).map_err(failed)?;
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let why = "another process has this folder open: end it, or give each process a folder of its own";
            Err(Error::new(ErrorKind::Unavailable, format!("{}: {why}", path.display())))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Makes the names in `folders` durable, which a process before may have ended without.
fn sync_names(folders: [&Path; 2]) -> Result<(), Error> {
    folders.into_iter().try_for_each(|path| folder::sync(path).map_err(|error| Error::file(path, error)))
}

/// The folders of the partitions below `wal`, made where they are missing. Gives their number, which is written down
/// as soon as it is known: whichever logs somebody moves away, series stay where they are.
fn make_partitions(wal: &Path, shards: usize) -> Result<usize, Error> {
    let failed = |error: std::io::Error| Error::file(wal, error);
    folder::create(wal).map_err(failed)?;
    let found = partitions_found(wal).map_err(failed)?;
    let path = wal.join(PARTITIONS);
    let count = match std::fs::read(&path) {
        Ok(text) => parse_count(&text, found).map_err(|error| error.within(path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let count = if found == 0 { shards } else { found };
            match replace::write_whole(&path, |file| writeln!(file, "{count}")) {
                // A full disk ends no start that needs no room: the next one writes it.
                Err(error) if found == 0 || !is_full(&error) => return Err(Error::file(&path, error)),
                _ => count,
            }
        }
        Err(error) => return Err(Error::file(&path, error)),
    };
    let missing = (0..count).map(|partition| wal.join(format!("{partition:03}"))).filter(|folder| !folder.is_dir());
    for folder in missing {
        std::fs::create_dir(folder).map_err(failed)?;
    }
    folder::sync(wal).map_err(failed)?;
    Ok(count)
}

/// The number of partitions as far as the folders below `wal` tell it: one more than the greatest of theirs.
fn partitions_found(wal: &Path) -> std::io::Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(wal)? {
        let name = entry?.file_name();
        let number = name.to_str().filter(|name| name.len() == 3).and_then(|name| name.parse::<usize>().ok());
        count = number.map_or(count, |number| count.max(number + 1));
    }
    Ok(count)
}

/// The number of partitions that `text` says, where there are folders of `found` at least.
fn parse_count(text: &[u8], found: usize) -> Result<usize, Error> {
    let count = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse::<usize>().ok());
    let count = count.filter(|count| (1..=PARTITIONS_MAX).contains(count));
    let why = match count {
        Some(count) if count >= found => return Ok(count),
        Some(count) => format!("it says that there are {count} partitions, beside the folder {:03}", found - 1),
        None => "it holds no number of partitions".to_owned(),
    };
    let way_out = "write into it how many there are, those whose folders were moved away among them";
    Err(Error::new(ErrorKind::Corrupt, format!("{why}: {way_out}")))
}

/// What to do about a log that can't be replayed.
fn with_way_out(error: Error, folder: &Path) -> Error {
    match error.kind() {
        ErrorKind::Corrupt => {
            let way_out = format!("to start without what this log holds, move the folder {} away", folder.display());
            Error::new(ErrorKind::Corrupt, format!("{}; {way_out}", error.message()))
        }
        _ => error,
    }
}

/// Replays the log in `folder`.
fn replay_heads(folder: &Path, options: &IngestOptions) -> Result<Heads, Error> {
    let mut names: HashMap<u32, Arc<str>> = HashMap::new();
    let mut heads: HashMap<u32, Replay> = HashMap::new();
    let (mut next_number, mut unrecorded) = (0, Vec::<(u32, Cut)>::new());
    let (mut unmade, mut made) = (Vec::<(u32, Cut)>::new(), HashSet::new());
    let unknown = |tenant: u32| {
        Error::new(ErrorKind::Corrupt, format!("{}: tenant number {tenant} was never named", folder.display()))
    };
    let replayed = replay(folder, |record| {
        let tenant = tenant_of(&record);
        if let Record::Tenant(number, name) = record {
            next_number = next_number.max(number + 1);
            if names.insert(number, Arc::from(name)).is_none() {
                heads.insert(number, Replay::new(Head::new(options.head(), i64::MIN)));
            }
            return Ok(());
        }
        if let Record::Removed(number) = record {
            names.remove(&number);
            heads.remove(&number);
            unrecorded.retain(|(of, _)| *of != number);
            return Ok(());
        }
        let name = names.get(&tenant).ok_or_else(|| unknown(tenant))?;
        let head = heads.get_mut(&tenant).ok_or_else(|| unknown(tenant))?;
        head.record(&record)?;
        let Record::Cut(_, cut) = record else { return Ok(()) };
        unrecorded.retain(|(of, other)| *of != tenant || other.kind != cut.kind || other.until != cut.until);
        if cut.phase == CutPhase::Done {
            made.extend(cut.blocks);
        } else if has_blocks(&tenant_folder(&options.data_dir, name), &cut.blocks) {
            let done = Cut { phase: CutPhase::Done, ..cut };
            head.cut(&done);
            made.extend(&done.blocks);
            unrecorded.push((tenant, done));
        } else {
            unmade.push((tenant, cut));
        }
        Ok(())
    })?;
    let unmade = unmade.into_iter().filter_map(|(number, cut)| Some((Arc::clone(names.get(&number)?), cut))).collect();
    let unknown = heads.values().map(|replay| replay.unknown).sum();
    let named = heads.into_iter().filter_map(|(number, replay)| {
        let mut head = replay.finish();
        head.thaw_late();
        Some((names.remove(&number)?, OwnedHead { number, head }))
    });
    Ok(Heads { heads: named.collect(), next_number, replayed, unknown, unrecorded, unmade, made })
}

/// Whether the blocks of a cut that was intended are there: the last one comes last. Where it isn't, those
/// before it may be all that is left of samples whose heads know that the cut was made, as a block that was shipped
/// may go at any time.
fn has_blocks(folder: &Path, blocks: &[BlockId]) -> bool {
    blocks.last().is_some_and(|last| folder.join(last.to_string()).join(name::META).exists())
}

/// Removes the first blocks of cuts that a crash ended before their last: no head has let go of a sample of theirs,
/// and the next cut makes blocks of them under other names.
fn remove_unmade(all: &[Heads], options: &IngestOptions) -> Result<(), Error> {
    let is_made = |cut: &Cut| all.iter().any(|heads| cut.blocks.iter().any(|id| heads.made.contains(id)));
    for (name, cut) in all.iter().flat_map(|heads| &heads.unmade).filter(|(_, cut)| !is_made(cut)) {
        let blocks = cut.blocks.iter().map(|id| tenant_folder(&options.data_dir, name).join(id.to_string()));
        for block in blocks.filter(|block| block.exists()) {
            writer::remove(&block).map_err(|error| Error::file(&block, error))?;
        }
    }
    Ok(())
}

/// Makes it durable that `cuts` were made: a later start may not find their blocks any more.
fn record(cuts: &[(u32, Cut)], writer: &Writer) -> Result<(), Error> {
    if cuts.is_empty() {
        return Ok(());
    }
    let mut recorder = Recorder::default();
    cuts.iter().for_each(|(tenant, cut)| recorder.cut(*tenant, cut));
    let (sender, receiver) = flume::bounded(1);
    writer.commit(recorder.take(), Box::new(move |done| drop(sender.send(done))));
    match answer(receiver.recv())? {
        // The disk is full, or was then: it is held, and in the log before anything else.
        Err(_) if !writer.is_broken() => Ok(()),
        outcome => outcome,
    }
}

fn tenant_of(record: &Record<'_>) -> u32 {
    match record {
        Record::Tenant(tenant, _)
        | Record::Series(tenant, _)
        | Record::Floats(tenant, ..)
        | Record::Histograms(tenant, ..)
        | Record::Exemplars(tenant, _)
        | Record::Metadata(tenant, _)
        | Record::Cut(tenant, _)
        | Record::Removed(tenant)
        | Record::Chunks(tenant, _)
        | Record::State(tenant, _) => *tenant,
    }
}
