//! One receiver, one shipper, one compactor and one store gateway over one disk and one bucket, all of
//! which fail as a seed says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use engine::compact::group::LEVELS_MS;
use engine::compact::plan::{Planner, Vertical};
use engine::compact::retention::{Downsampling, Retention};
use engine::compact::source::Malformed;
use engine::compact::{Replicas, Workers};
use engine::head::Reason;
use engine::io::Mode;
use engine::model::{Error, ErrorKind, Labels};
use engine::shard::ingest::WriteLimits;
use engine::shard::{Flush, Ingest, IngestOptions, Pool, block_on};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use prometheus_client::registry::Registry;
use server::compactor::metrics::CompactMetrics;
use server::compactor::syncer::Syncer;
use server::compactor::trouble::Troubles;
use server::compactor::{Compactor, OutOfOrder, Settings};
use server::ingest::ship::{self, ShipMetrics, Shipper};
use server::objstore::Bucket;
use server::sync::{FetchOptions, Fetcher, Filters, SyncMetrics};
use server::upkeep::transfer::{HashFunc, Transfer};
use tests::random::Random;
use tokio::runtime::Runtime;

use crate::disk::{Disk, Faults, copy_tree};
use crate::faulty::{Faulty, Meets};
use crate::model::Sender;

/// Rounds of a run: each brings twenty minutes of samples, so that blocks of two days come about.
const ROUNDS: u32 = 170;

/// Tries to start with a disk that fails, before it works again.
const STARTS_MAX: u32 = 3;

/// Whose samples they are.
const TENANT: &str = "team-a";

/// Everything that there is.
pub struct World {
    random: Random,
    root: tempfile::TempDir,
    /// The bucket, which never forgets.
    pub store: Arc<InMemory>,
    pool: Arc<Pool>,
    /// What waits for the bucket.
    pub runtime: Runtime,
    /// What was sent.
    pub sender: Sender,
    generation: u32,
    disk: Disk,
    /// The receiver, while there is one.
    pub ingest: Option<Arc<Ingest>>,
    /// What was done so far, for whoever looks at a failure.
    steps: Vec<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.steps.len().saturating_sub(40);
            eprintln!("the last steps were:\n  {}", self.steps[from..].join("\n  "));
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let root = tempfile::tempdir().unwrap();
        let shards = std::num::NonZeroUsize::new(1 + random.below(2) as usize);
        let options = engine::shard::Options { shards, io: Mode::Pread, ..engine::shard::Options::default() };
        let folder = root.path().join("0/receive");
        std::fs::create_dir_all(&folder).unwrap();
        let (image, kept) = (root.path().join("1/receive"), root.path().join("0/kept"));
        let disk = Disk::new(&folder, &image, &kept, Faults::default(), random.branch(0));
        let mut world = Self {
            random,
            root,
            store: Arc::new(InMemory::new()),
            pool: Pool::start(&options).unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            sender: Sender::default(),
            generation: 0,
            disk,
            ingest: None,
            steps: Vec::new(),
        };
        world.ingest = Some(world.open().unwrap());
        world
    }

    /// Runs the world of `seed` to its end.
    pub fn run(seed: u64) {
        let mut world = Self::new(seed);
        for _ in 0..ROUNDS {
            world.round();
        }
        world.finish();
    }

    fn round(&mut self) {
        self.sender.advance(&mut self.random);
        self.send();
        match self.random.below(100) {
            0..=17 => self.flush(Flush::Due),
            18..=19 => self.flush(Flush::All),
            20..=34 => self.ship(Weather::Stormy),
            35..=44 => self.compact(Weather::Stormy),
            45..=49 => self.snapshot(),
            50..=53 => {
                self.disk.crash();
                self.come_back("idle");
            }
            54..=56 => self.restart(),
            57..=64 => self.check("meanwhile"),
            _ => {}
        }
    }

    /// Everything that is left is sent, shipped and compacted while nothing fails; then the bucket alone
    /// must hold all of it.
    fn finish(&mut self) {
        self.start_anew(&self.folder(), Faults::default());
        self.send();
        self.flush(Flush::All);
        self.check("before the last shipping");
        self.ship(Weather::Fair);
        self.check("before the last compaction");
        for _ in 0..4 {
            self.compact(Weather::Fair);
        }
        self.check("in the end");
        self.ingest = None;
        self.check("in the bucket alone");
        crate::reader::hold_blocks(self);
        assert!(self.sender.acknowledged() > 3000, "{} samples are no test", self.sender.acknowledged());
    }

    /// Sends what waits. What is not acknowledged is sent again.
    fn send(&mut self) {
        let (batch, samples) = self.sender.batch();
        let outcome = block_on(self.receiver().append(&Arc::from(TENANT), batch, WriteLimits::default()));
        self.step("append", &outcome);
        let Ok(report) = self.healthy(outcome) else { return };
        for rejected in &report.rejected {
            let is_late = matches!(rejected.reason, Reason::OutOfOrder | Reason::OutOfBounds | Reason::TooOld);
            assert!(is_late, "{rejected:?}");
        }
        let rejected: BTreeSet<_> = report.rejected.iter().map(|sample| (sample.series, sample.time)).collect();
        self.sender.acknowledge(&samples, &rejected);
    }

    fn flush(&mut self, what: Flush) {
        let outcome = block_on(self.receiver().flush(None, what));
        self.step("flush", &outcome.as_ref().map(Vec::len));
        drop(self.healthy(outcome));
    }

    fn snapshot(&mut self) {
        let outcome = block_on(self.receiver().snapshot());
        self.step("snapshot", &outcome);
        drop(self.healthy(outcome));
    }

    /// Ships blocks; now and then those that were shipped go from the disk.
    fn ship(&mut self, weather: Weather) {
        let age =
            if weather == Weather::Fair || self.random.is_one_in(3) { Duration::from_secs(1) } else { Duration::ZERO };
        let (store, crashed) = self.bucket(weather);
        let bucket = Bucket::over(store, "memory", &mut Registry::default());
        let more = (ship::Retention { age, bytes_max: 0 }, ShipMetrics::default());
        let shipper =
            Shipper::new(Arc::clone(self.receiver()), &self.folder(), Some((bucket, Transfer::default())), more);
        let round = async {
            shipper.ship().await;
            shipper.retain().await;
        };
        let done = self.runtime.block_on(until_crash(round, &crashed));
        drop(shipper);
        self.step("ship", &done);
        self.bucket_done(done.is_some());
    }

    fn compact(&mut self, weather: Weather) {
        let (store, crashed) = self.bucket(weather);
        let mut registry = Registry::default();
        let bucket = Bucket::over(store, "memory", &mut registry);
        let fetch = FetchOptions { data_dir: None, concurrency: 1 };
        let fetcher = Fetcher::new(bucket.clone(), &fetch, SyncMetrics::register(&mut registry));
        let filters = Filters { ignore_deletion_marks_delay: Duration::ZERO, ..Filters::all() };
        let syncer = Syncer::new(fetcher, filters, None, None);
        let settings = settings(&self.folder().with_file_name("compact"));
        let compactor = Compactor::new(bucket, syncer, settings, CompactMetrics::register(&mut registry));
        let done = self.runtime.block_on(until_crash(compactor.run_once(), &crashed));
        self.step("compact", &done.as_ref().map(|outcome| outcome.as_ref().map_err(Troubles::to_string)));
        if let Some(Err(troubles)) = &done {
            assert!(!troubles.need_attention(), "a bucket that fails now and then asks for nobody: {troubles}");
            assert!(weather == Weather::Stormy, "{troubles}");
        }
        self.bucket_done(done.is_some());
    }

    /// The bucket as it is now, or with calls that fail; and whether the process has died in one of them.
    fn bucket(&mut self, weather: Weather) -> (Arc<dyn ObjectStore>, Arc<AtomicBool>) {
        let crashed = Arc::new(AtomicBool::new(false));
        if weather == Weather::Fair {
            return (Arc::clone(&self.store) as _, crashed);
        }
        let random = Mutex::new(self.random.branch(2));
        let one_in = [0, 8, 40][self.random.below(3) as usize];
        let crash_at = self.random.is_one_in(2).then(|| self.random.below(60));
        let has_crashed = Arc::clone(&crashed);
        let store = Faulty::planned(&self.store, move |call| {
            let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
            if crash_at == Some(call) {
                has_crashed.store(true, Ordering::Release);
                return [Meets::Hangs, Meets::HangsAfter][random.below(2) as usize];
            }
            if !random.is_one_in(one_in) {
                return Meets::Nothing;
            }
            match random.below(4) {
                0 => Meets::Delay(1 + random.below(4) as u32),
                1 => Meets::Refused,
                2 => Meets::AnswerLost,
                _ => Meets::Short,
            }
        });
        (Arc::new(store), crashed)
    }

    /// What waits on the bucket has come to its end, or the process has died before.
    fn bucket_done(&mut self, is_whole: bool) {
        if is_whole {
            return self.disk.look();
        }
        self.disk.crash();
        self.come_back("in a call to the bucket");
    }

    /// What an operation on the log came to, after whatever must be done about it.
    fn healthy<T>(&mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        match &outcome {
            Ok(_) => self.disk.look(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                if self.disk.is_dead() {
                    self.come_back("in a call to the disk");
                } else if self.random.is_one_in(2) {
                    self.restart();
                }
            }
        }
        outcome
    }

    /// The process ends, mostly in order, and starts again on the same disk.
    fn restart(&mut self) {
        if !self.random.is_one_in(3) {
            let outcome = block_on(self.receiver().close());
            self.step("close", &outcome);
        }
        if self.disk.is_dead() {
            return self.come_back("while it was closed");
        }
        let faults = self.faults();
        self.start_anew(&self.folder(), faults);
    }

    /// The process has died; it starts again on what the disk holds.
    fn come_back(&mut self, place: &str) {
        self.steps.push(format!("died {place}"));
        let image = self.root.path().join((self.generation + 1).to_string());
        let work = self.folder().with_file_name("compact");
        if work.exists() {
            copy_tree(&work, &image.join("compact"));
        }
        let faults = self.faults();
        self.start_anew(&image.join("receive"), faults);
    }

    /// Starts on `folder` with a disk of other faults; after some failures, with none.
    fn start_anew(&mut self, folder: &Path, mut faults: Faults) {
        self.ingest = None;
        let mut folder = folder.to_owned();
        for attempt in 0.. {
            if folder != self.folder() {
                self.generation += 1;
            }
            let image = self.root.path().join((self.generation + 1).to_string());
            let kept = self.folder().with_file_name(format!("kept-{}", self.steps.len()));
            self.disk = Disk::new(&folder, &image.join("receive"), &kept, faults, self.random.branch(3));
            let outcome = self.open();
            self.step("open", &outcome.as_ref().map(drop));
            match outcome {
                Ok(ingest) => {
                    self.ingest = Some(ingest);
                    return;
                }
                Err(error) => {
                    assert!(error.kind() == ErrorKind::Unavailable && faults.is_any(), "cannot start: {error}")
                }
            }
            if self.disk.is_dead() {
                folder = image.join("receive");
            }
            faults = if attempt < STARTS_MAX { self.faults() } else { Faults::default() };
        }
    }

    fn open(&self) -> Result<Arc<Ingest>, Error> {
        let options = IngestOptions {
            data_dir: self.folder(),
            external_labels: Labels::from_pairs([("receive", "0")]),
            tenant_label: "tenant_id".to_owned(),
            out_of_order_window_ms: 40 * 60_000,
            io: Mode::Pread,
            ..IngestOptions::default()
        };
        Ingest::open_with(&self.pool, options, |partition| self.disk.open(partition))
    }

    fn faults(&mut self) -> Faults {
        let one_in = [0, 0, 30, 150][self.random.below(4) as usize];
        let crash = self.random.is_one_in(2).then(|| (self.random.below(2) as usize, 1 + self.random.below(40)));
        Faults { one_in, crash }
    }

    fn check(&mut self, place: &str) {
        let found = crate::reader::read(self);
        self.step("read", &found.values().map(Vec::len).sum::<usize>());
        self.sender.hold(&found, place);
    }

    /// The receiver, which there is until the end.
    fn receiver(&self) -> &Arc<Ingest> {
        self.ingest.as_ref().expect("there is a receiver until the end")
    }

    /// Where the receiver's data lies.
    pub fn folder(&self) -> PathBuf {
        self.root.path().join(self.generation.to_string()).join("receive")
    }

    /// A folder for local files of readers.
    pub fn reading_folder(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn step(&mut self, what: &str, outcome: &impl std::fmt::Debug) {
        let mut text = format!("{what}: {outcome:?}");
        text.truncate(300);
        self.steps.push(text);
    }
}

/// Whether calls to the bucket fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Fair,
    Stormy,
}

/// What the future comes to; `None` when the process has died in it, from where on it is left alone.
async fn until_crash<T>(future: impl Future<Output = T>, crashed: &AtomicBool) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        _ if crashed.load(Ordering::Acquire) => Poll::Ready(None),
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Pending,
    })
    .await
}

fn settings(data_dir: &Path) -> Settings {
    Settings {
        data_dir: data_dir.to_owned(),
        planner: Planner { ranges: LEVELS_MS.to_vec(), index_bytes_max: 64 << 30, vertical: Vertical::Enabled },
        replicas: Replicas::OneToOne,
        downsampling: Downsampling::Enabled,
        retention: Retention::default(),
        delete_delay: Duration::ZERO,
        transfer: Transfer { hash: HashFunc::Sha256, concurrency: 1 },
        fetches: 1,
        merges: 1,
        downsamples: 1,
        workers: Workers::threads(0),
        out_of_order: OutOfOrder::Halt,
        malformed: Malformed::Refuse,
    }
}
