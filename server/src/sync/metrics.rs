//! `thanos_blocks_meta_*`: how syncs went and what became of each block.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::telemetry::metrics::Gauges;

/// What became of a block in a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum State {
    /// meta.json can't be understood.
    Corrupted,
    /// There is no meta.json.
    NoMeta,
    /// It counts.
    Loaded,
    /// It was uploaded a moment ago.
    TooFresh,
    /// meta.json can't be read.
    Failed,
    /// Relabelling dropped it.
    LabelExcluded,
    /// It lies outside the time range.
    TimeExcluded,
    /// Another block was made of the same sources and more.
    Duplicate,
    /// It is marked for deletion, and has been for long enough.
    MarkedForDeletion,
    /// It counts, and is marked for no compaction.
    MarkedForNoCompaction,
}

impl State {
    const ALL: [(Self, &'static str); 10] = [
        (Self::Corrupted, "corrupted-meta-json"),
        (Self::NoMeta, "no-meta-json"),
        (Self::Loaded, "loaded"),
        (Self::TooFresh, "too-fresh"),
        (Self::Failed, "failed"),
        (Self::LabelExcluded, "label-excluded"),
        (Self::TimeExcluded, "time-excluded"),
        (Self::Duplicate, "duplicate"),
        (Self::MarkedForDeletion, "marked-for-deletion"),
        (Self::MarkedForNoCompaction, "marked-for-no-compact"),
    ];
}

/// How many blocks are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([u64; State::ALL.len()]);

impl Tally {
    /// One more block in `state`.
    pub fn add(&mut self, state: State) {
        self.add_many(state, 1);
    }

    /// `count` more blocks in `state`.
    pub fn add_many(&mut self, state: State, count: usize) {
        self.0[state as usize] += count as u64;
    }

    /// Blocks in `state`.
    pub fn of(&self, state: State) -> u64 {
        self.0[state as usize]
    }
}

/// The metrics of a process' syncs.
#[derive(Clone, Debug)]
pub struct SyncMetrics {
    base_syncs: Counter,
    base_cache_busts: Counter,
    syncs: Counter,
    failures: Counter,
    duration: Histogram,
    synced: Gauges,
    modified: Gauges,
}

impl SyncMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        Self::register_all("thanos_blocks_meta", registry)
    }

    /// Registers the metrics under names that start with `prefix`.
    pub fn register_all(prefix: &str, registry: &mut Registry) -> Self {
        let metrics = Self::register_as(prefix, registry);
        let base = "Total blocks metadata synchronization attempts by base Fetcher";
        registry.register(format!("{prefix}_base_syncs"), base, metrics.base_syncs.clone());
        let busts = "Total blocks metadata cache busts by base Fetcher";
        registry.register(format!("{prefix}_base_cache_busts"), busts, metrics.base_cache_busts.clone());
        metrics
    }

    /// Registers the metrics under names that start with `prefix`, but for those of all fetchers together.
    pub fn register_as(prefix: &str, registry: &mut Registry) -> Self {
        let metrics = Self {
            base_syncs: Counter::default(),
            base_cache_busts: Counter::default(),
            syncs: Counter::default(),
            failures: Counter::default(),
            duration: Histogram::new([0.01, 1.0, 10.0, 100.0, 300.0, 600.0, 1000.0]),
            synced: Gauges::default(),
            modified: Gauges::default(),
        };
        let name = |rest: &str| format!("{prefix}_{rest}");
        let help = "Total blocks metadata synchronization attempts";
        registry.register(name("syncs"), help, metrics.syncs.clone());
        let help = "Total blocks metadata synchronization failures";
        registry.register(name("sync_failures"), help, metrics.failures.clone());
        let help = "Duration of the blocks metadata synchronization in seconds";
        registry.register(name("sync_duration_seconds"), help, metrics.duration.clone());
        registry.register(name("synced"), "Number of block metadata synced", metrics.synced.clone());
        registry.register(name("modified"), "Number of blocks whose metadata changed", metrics.modified.clone());
        metrics.publish(&Tally::default());
        metrics.set_modified(0);
        metrics
    }

    /// A sync begins.
    pub fn begin(&self) -> Timed<'_> {
        self.base_syncs.inc();
        self.syncs.inc();
        Timed { metrics: self, started: Instant::now(), tally: None }
    }

    /// Metas that had been read and changed since.
    pub fn note_changed(&self, count: usize) {
        self.base_cache_busts.inc_by(count as u64);
    }

    /// How many blocks lost their replica label.
    pub fn set_modified(&self, count: i64) {
        self.modified.get_or_create(&vec![("modified", "replica-label-removed".to_owned())]).set(count);
    }

    fn publish(&self, tally: &Tally) {
        for (state, name) in State::ALL {
            let gauge = self.synced.get_or_create(&vec![("state", name.to_owned())]);
            gauge.set(i64::try_from(tally.of(state)).unwrap_or(i64::MAX));
        }
    }
}

/// A sync, which ends when this is dropped: well if it has a tally in which nothing failed, and as a failure
/// also when nobody waits for it any more.
#[derive(Debug)]
pub struct Timed<'a> {
    metrics: &'a SyncMetrics,
    /// When it began.
    pub started: Instant,
    /// What became of the blocks.
    pub tally: Option<Tally>,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let Self { metrics, started, tally } = self;
        metrics.duration.observe(started.elapsed().as_secs_f64());
        if let Some(tally) = tally {
            metrics.publish(tally);
        }
        if tally.is_none_or(|tally| tally.of(State::Failed) > 0) {
            metrics.failures.inc();
        }
    }
}
