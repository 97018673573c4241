//! `thanos_blocks_meta_*`: how syncs went and what became of each block.

use std::time::Duration;

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
    syncs: Counter,
    failures: Counter,
    duration: Histogram,
    synced: Gauges,
    modified: Gauges,
}

impl SyncMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            base_syncs: Counter::default(),
            syncs: Counter::default(),
            failures: Counter::default(),
            duration: Histogram::new([0.01, 1.0, 10.0, 100.0, 300.0, 600.0, 1000.0]),
            synced: Gauges::default(),
            modified: Gauges::default(),
        };
        let mut counter = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        let base = "Total blocks metadata synchronization attempts by base Fetcher";
        counter("thanos_blocks_meta_base_syncs", base, &metrics.base_syncs);
        counter("thanos_blocks_meta_syncs", "Total blocks metadata synchronization attempts", &metrics.syncs);
        counter(
            "thanos_blocks_meta_sync_failures",
            "Total blocks metadata synchronization failures",
            &metrics.failures,
        );
        let help = "Duration of the blocks metadata synchronization in seconds";
        registry.register("thanos_blocks_meta_sync_duration_seconds", help, metrics.duration.clone());
        registry.register("thanos_blocks_meta_synced", "Number of block metadata synced", metrics.synced.clone());
        let help = "Number of blocks whose metadata changed";
        registry.register("thanos_blocks_meta_modified", help, metrics.modified.clone());
        metrics.publish(&Tally::default());
        metrics.set_modified(0);
        metrics
    }

    /// A sync begins.
    pub fn begin(&self) {
        self.base_syncs.inc();
        self.syncs.inc();
    }

    /// A sync ended in `time`, well when nothing is missing from its view.
    pub fn end(&self, time: Duration, tally: Option<&Tally>) {
        self.duration.observe(time.as_secs_f64());
        match tally {
            Some(tally) => {
                self.publish(tally);
                if tally.of(State::Failed) > 0 {
                    self.failures.inc();
                }
            }
            None => drop(self.failures.inc()),
        }
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
