//! Ingestion: heads of all tenants over the shards, each shard's part with a log of its own.
//!
//! ```text
//! <data>/.uru/lock               locked while a process has the folder open
//! <data>/.uru/wal/partitions      how many partitions there are
//! <data>/.uru/wal/<partition>/    log of one partition, see [`crate::wal`]
//! <data>/.uru/index/<ULID>        column indexes of local blocks
//! <data>/<tenant>/<ULID>/         blocks, as Thanos receive lays them out; see [`tenant_folder`]
//! ```
//! A *partition* is a log and the heads of all tenants for the series whose hash falls on it. It is
//! owned by one shard; there are as many as there were shards when the folder was made, whichever logs are moved away.
//!
//! ```text
//! batch ─ rows by hash ─> shards: append to heads, record ─> log: group commit ─> report
//! ```
//! Architecture invariants: nothing is reported before it is durable; a panic while a head changes ends
//! the process, which replays.

mod blocks;
mod cuts;
mod flush;
mod folders;
mod open;
mod partition;
mod read;
mod source;

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub use blocks::{LocalBlock, RemovedFolder, UnreadableBlock};
pub use cuts::CutCounters;
pub use flush::{CutBlock, Flush};
pub use folders::{TENANT_BYTES_MAX, check_tenant, tenant_folder};
pub use partition::Partition;
pub use read::ViewRequest;
pub use source::HeadSource;

use self::partition::FAMILIES;
use super::pool::{PartitionKey, Pool, ShardContext};
use crate::head::{
    self, AppendLimits, ExemplarClock, Reason, SampleCounts, SeriesLeft, StartTimes, WriteBatch, WriteReport,
};
use crate::io;
use crate::model::{Ceiling, Error, ErrorKind, Labels, LabelsBuilder, Reservation, TimeRange};
use crate::wal::folder::Replayed;
use crate::wal::writer::OpenIo;
use crate::wal::{Durability, SetAside, WalCounters, Writer};
use blocks::LocalBlocks;

/// The folder within the data folder that is no tenant's.
pub const OWN_FOLDER: &str = ".uru";

/// How ingestion is set up.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// Where everything lies.
    pub data_dir: PathBuf,
    /// External labels of all tenants.
    pub external_labels: Labels,
    /// The external label that names the tenant; empty for none.
    pub tenant_label: String,
    /// Milliseconds of a block.
    pub block_range_ms: i64,
    /// How far behind the latest sample others may come, in milliseconds; 0 when they may not.
    pub out_of_order_window_ms: i64,
    /// Late samples of a series that become a chunk.
    pub out_of_order_cap_max: usize,
    /// How far after now samples may be, in milliseconds; 0 for any time.
    pub too_far_in_future_ms: i64,
    /// Exemplars kept of each tenant; 0 for none.
    pub exemplars_max: usize,
    /// What becomes of start timestamps.
    pub start_times: StartTimes,
    /// Series of each tenant; 0 for any number.
    pub series_max: u64,
    /// What the process may become by what heads keep; none: of any size.
    pub memory: Option<Arc<Ceiling>>,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// How logs are written.
    pub io: io::Mode,
}

/// What one request is limited to besides the options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteLimits {
    /// Series of the tenant; 0 for any number.
    pub series_max: u64,
}

/// Counts of a tenant's heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantStats {
    /// Series.
    pub series: u64,
    /// Series ever created.
    pub series_created: u64,
    /// Series removed.
    pub series_removed: u64,
    /// Chunks.
    pub chunks: u64,
    /// Chunks ever created.
    pub chunks_created: u64,
    /// Chunks removed.
    pub chunks_removed: u64,
    /// Bytes of closed chunks.
    pub chunk_bytes: u64,
    /// Samples appended since the start.
    pub samples: SampleCounts,
    /// Of these, out of order.
    pub samples_out_of_order: SampleCounts,
    /// Samples refused since the start as [`head::Reason::OutOfOrder`].
    pub refused_out_of_order: SampleCounts,
    /// Samples refused since the start as [`head::Reason::OutOfBounds`].
    pub refused_out_of_bounds: SampleCounts,
    /// Samples refused since the start as [`head::Reason::TooOld`].
    pub refused_too_old: SampleCounts,
    /// Exemplars appended since the start.
    pub exemplars: u64,
    /// Exemplars left out since the start as [`head::Reason::ExemplarOvertaken`].
    pub exemplars_out_of_order: u64,
    /// Bytes of what is said of metrics.
    pub metadata_bytes: u64,
    /// Times since the start that something was said of a metric and not kept, as it was more than a head keeps.
    pub metadata_left_out: u64,
    /// Exemplars that are kept.
    pub exemplars_kept: u64,
    /// Series that have some.
    pub exemplar_series: u64,
    /// Unix milliseconds of the first that came of those that are kept; the latest time there is without.
    pub exemplar_min_time: i64,
    /// Nanoseconds that the shards took to append batches.
    pub append_ns: u64,
    /// Of these, what finding their series took.
    pub lookup_ns: u64,
    /// Batches that are being appended.
    pub appending: u64,
    /// Unix milliseconds of the first sample; the latest time there is without samples.
    pub min_time: i64,
    /// Unix milliseconds of the last sample; the earliest time there is without samples.
    pub max_time: i64,
}

/// What ingestion has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestCounters {
    /// What the logs have done, over all partitions.
    pub wal: WalCounters,
    /// Partitions that take nothing any more as their log could not be written.
    pub broken_partitions: u64,
    /// Partitions that take nothing until there is room on the disk.
    pub full_partitions: u64,
    /// What was replayed when it was opened, over all partitions.
    pub replayed_frames: u64,
    /// Bytes of records replayed.
    pub replayed_bytes: u64,
    /// Samples and chunks of series that the logs never named, and histograms that no head takes: left out.
    pub replayed_unknown: u64,
    /// Bytes of writes that had been cut off, removed.
    pub torn_bytes: u64,
    /// Logs with such a write.
    pub torn_logs: u64,
    /// Relaxed logs that were damaged, at this start or at an earlier one whose loss nobody has removed.
    pub damaged_logs: u64,
    /// Bytes that were set aside of them.
    pub set_aside_bytes: u64,
    /// Snapshots after which logs were cut off, of all partitions at once.
    pub snapshots: u64,
    /// Snapshots that failed.
    pub snapshots_failed: u64,
    /// Microseconds that snapshots of either kind took.
    pub snapshot_us: u64,
    /// Removals of what snapshots had made needless, of each log.
    pub removals: u64,
    /// Of these, those that failed.
    pub removals_failed: u64,
    /// Number of the latest segment of all logs.
    pub segment: u64,
    /// Bytes of what is said of metrics, in all heads.
    pub metadata_bytes: u64,
    /// Times that something was said of a metric and not kept, by the heads that there are now.
    pub metadata_left_out: u64,
    /// Milliseconds that opening took.
    pub open_ms: u64,
    /// Nanoseconds that the shards took to append batches to the heads that there are now.
    pub append_ns: u64,
    /// Of these, what finding their series took.
    pub lookup_ns: u64,
    /// Batches that were refused, or whose new series were, as the process had as much memory as it may.
    pub memory_limited: u64,
    /// Bytes of the process beyond which new series are; 0: it may have any size.
    pub memory_limit: u64,
}

/// What is known of a tenant without asking a shard.
#[derive(Debug)]
pub(super) struct Tenant {
    name: Arc<str>,
    labels: RwLock<Arc<Labels>>,
    parts: Vec<PartStats>,
    blocks: LocalBlocks,
    /// Unix milliseconds before which no sample is taken in order, as it may be in a block: also by heads that begin
    /// when the others have been cut.
    valid_from: AtomicI64,
    /// Number of its next exemplar.
    exemplar_clock: ExemplarClock,
    /// It is being removed: nothing is appended any more.
    is_leaving: AtomicBool,
    arrivals: flush::Arrivals,
    late_cuts: flush::LateCuts,
    /// Batches that are being appended.
    appending: AtomicU64,
    /// Series that its heads have created under a limit.
    series_taken: Arc<AtomicU64>,
    /// Of these, those that are in what the heads have published.
    series_published: AtomicU64,
    /// What cutting its heads came to since the start.
    cuts: Mutex<CutCounters>,
    unfinished: Mutex<Option<flush::Unfinished>>,
}

/// Counts of one head, as its shard last published them.
#[derive(Debug)]
pub(super) struct PartStats {
    counts: [AtomicU64; 15],
    samples: [[AtomicU64; 2]; 5],
    min_time: AtomicI64,
    max_time: AtomicI64,
    exemplar_min_time: AtomicI64,
}

/// Heads, logs and local blocks of all tenants.
pub struct Ingest {
    pool: Arc<Pool>,
    options: IngestOptions,
    /// Tells partitions of several of these on one pool apart.
    number: u64,
    writers: Vec<Arc<Writer>>,
    tenants: RwLock<HashMap<Arc<str>, Arc<Tenant>>>,
    /// Labels that some tenants have besides those of all.
    added_labels: RwLock<HashMap<String, Labels>>,
    maintenance: Mutex<()>,
    is_closed: AtomicBool,
    replayed: Vec<Replayed>,
    replayed_unknown: u64,
    unreadable: Vec<UnreadableBlock>,
    removed: Vec<RemovedFolder>,
    open_ms: u64,
    /// When the last snapshot has failed, if it has.
    snapshot_failed_at: Mutex<Option<Instant>>,
    snapshots: AtomicU64,
    snapshots_failed: AtomicU64,
    snapshot_us: AtomicU64,
    removals: AtomicU64,
    removals_failed: AtomicU64,
    /// Keeps other processes from the folder.
    _lock: File,
}

/// What the partitions of a batch report, sent when the last of them has: who waits is woken once.
struct Gathered {
    /// The memory of the batch, of which records may wait for a disk when nobody waits for a report any more.
    held: Option<Reservation>,
    report: Mutex<Result<WriteReport, Error>>,
    sender: flume::Sender<Result<WriteReport, Error>>,
}

/// A batch that is being appended, counted for as long as this lives: who asked may go away.
struct Appending(Arc<Tenant>);

impl Appending {
    fn begin(tenant: &Arc<Tenant>) -> Self {
        tenant.appending.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(tenant))
    }
}

impl Drop for Appending {
    fn drop(&mut self) {
        self.0.appending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The duty of one partition to report, which one whose job panics fails in.
struct Part(Option<Arc<Gathered>>);

impl Drop for Gathered {
    fn drop(&mut self) {
        // Who is told of the end may send the next request at once.
        drop(self.held.take());
        let report = self.report.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Whoever asked may have gone away.
        drop(self.sender.send(std::mem::replace(report, Ok(WriteReport::default()))));
    }
}

impl Part {
    fn of(gathered: &Arc<Gathered>) -> Self {
        Self(Some(Arc::clone(gathered)))
    }

    fn reply(mut self, outcome: Result<WriteReport, Error>) {
        self.0.take().inspect(|gathered| gathered.add(outcome));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(gathered) = self.0.take() {
            gathered.add(Err(super::gather::panicked()));
        }
    }
}

impl Gathered {
    /// Adds what one partition reports; the first error there is stays.
    fn add(&self, outcome: Result<WriteReport, Error>) {
        let mut all = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut *all, outcome) {
            (Ok(report), Ok(more)) => report.add(more),
            (Ok(_), Err(error)) => *all = Err(error),
            (Err(_), _) => {}
        }
    }
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            external_labels: Labels::default(),
            tenant_label: String::new(),
            block_range_ms: 2 * 3600 * 1000,
            out_of_order_window_ms: 0,
            out_of_order_cap_max: head::OUT_OF_ORDER_CAP_MAX,
            too_far_in_future_ms: 0,
            exemplars_max: 0,
            start_times: StartTimes::Dropped,
            series_max: 0,
            memory: None,
            durability: Durability::Fsync,
            io: io::Mode::Auto,
        }
    }
}

impl IngestOptions {
    /// Options of each of a tenant's heads.
    fn head(&self) -> head::Options {
        head::Options {
            block_range_ms: self.block_range_ms,
            out_of_order_window_ms: self.out_of_order_window_ms,
            out_of_order_cap_max: self.out_of_order_cap_max,
            exemplars_max: self.exemplars_max,
            start_times: self.start_times,
        }
    }

    fn labels_of(&self, tenant: &str) -> Labels {
        let mut labels = LabelsBuilder::from_labels(&self.external_labels);
        if !self.tenant_label.is_empty() {
            labels.set(&self.tenant_label, tenant);
        }
        labels.build()
    }

    fn open_io(&self) -> OpenIo {
        let mode = self.io;
        Box::new(move || io::open(mode))
    }
}

impl Default for PartStats {
    fn default() -> Self {
        let (counts, samples) = Default::default();
        let (min_time, max_time) = (AtomicI64::new(i64::MAX), AtomicI64::new(i64::MIN));
        Self { counts, samples, min_time, max_time, exemplar_min_time: AtomicI64::new(i64::MAX) }
    }
}

impl PartStats {
    /// Publishes the counts of `head`.
    pub(super) fn publish(&self, head: &head::Head) {
        let stats = head.stats();
        let (exemplars_kept, exemplar_series, first) = head.exemplars_kept();
        self.exemplar_min_time.store(first.unwrap_or(i64::MAX), Ordering::Relaxed);
        let counts = [
            stats.series,
            stats.series_created,
            stats.series_removed,
            stats.chunks,
            stats.chunk_bytes,
            stats.exemplars,
            stats.append_ns,
            stats.lookup_ns,
            stats.exemplars_out_of_order,
            exemplars_kept as u64,
            exemplar_series as u64,
            stats.chunks + stats.chunks_removed,
            stats.chunks_removed,
            stats.metadata_bytes,
            stats.metadata_left_out,
        ];
        self.counts.iter().zip(counts).for_each(|(own, count)| own.store(count, Ordering::Relaxed));
        let samples = [
            stats.samples,
            stats.samples_out_of_order,
            stats.refused_out_of_order,
            stats.refused_out_of_bounds,
            stats.refused_too_old,
        ];
        for ([floats, histograms], counts) in self.samples.iter().zip(samples) {
            floats.store(counts.floats, Ordering::Relaxed);
            histograms.store(counts.histograms, Ordering::Relaxed);
        }
        let (min_time, max_time) = head.time_range().unwrap_or((i64::MAX, i64::MIN));
        self.min_time.store(min_time, Ordering::Relaxed);
        self.max_time.store(max_time, Ordering::Relaxed);
    }

    /// Whether the head may have samples in `range`: all that were acknowledged were published first.
    pub(super) fn overlaps(&self, range: TimeRange) -> bool {
        let (min_time, max_time) = (self.min_time.load(Ordering::Relaxed), self.max_time.load(Ordering::Relaxed));
        min_time <= range.max_time && range.min_time <= max_time
    }
}

impl Tenant {
    /// External labels of its series now.
    pub(super) fn labels(&self) -> Arc<Labels> {
        Arc::clone(&self.labels.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Partitions whose heads may have samples in `range`.
    pub(super) fn partitions_in(&self, range: TimeRange) -> impl Iterator<Item = usize> + '_ {
        let in_range = move |(partition, part): (usize, &PartStats)| part.overlaps(range).then_some(partition);
        self.parts.iter().enumerate().filter_map(in_range)
    }

    /// What cutting its heads came to.
    fn cuts(&self) -> MutexGuard<'_, CutCounters> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cut whose blocks are on disk while heads or logs do not know it yet.
    fn unfinished(&self) -> MutexGuard<'_, Option<flush::Unfinished>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats(&self) -> TenantStats {
        let sum = |at: usize| self.parts.iter().map(|part| part.counts[at].load(Ordering::Relaxed)).sum();
        let first = |time: fn(&PartStats) -> &AtomicI64| {
            self.parts.iter().map(|part| time(part).load(Ordering::Relaxed)).min().unwrap_or(i64::MAX)
        };
        let samples = |at: usize| {
            let of_type =
                |kind: usize| self.parts.iter().map(move |part| part.samples[at][kind].load(Ordering::Relaxed));
            SampleCounts { floats: of_type(0).sum(), histograms: of_type(1).sum() }
        };
        TenantStats {
            series: sum(0),
            series_created: sum(1),
            series_removed: sum(2),
            chunks: sum(3),
            chunk_bytes: sum(4),
            samples: samples(0),
            samples_out_of_order: samples(1),
            refused_out_of_order: samples(2),
            refused_out_of_bounds: samples(3),
            refused_too_old: samples(4),
            exemplars: sum(5),
            append_ns: sum(6),
            lookup_ns: sum(7),
            exemplars_out_of_order: sum(8),
            exemplars_kept: sum(9),
            exemplar_series: sum(10),
            chunks_created: sum(11),
            chunks_removed: sum(12),
            metadata_bytes: sum(13),
            metadata_left_out: sum(14),
            exemplar_min_time: first(|part| &part.exemplar_min_time),
            appending: self.appending.load(Ordering::Relaxed),
            min_time: first(|part| &part.min_time),
            max_time: self.parts.iter().map(|part| part.max_time.load(Ordering::Relaxed)).max().unwrap_or(i64::MIN),
        }
    }
}

impl Ingest {
    /// Appends `batch` to the heads of `tenant`; reports when what was taken is durable. After an error
    /// nothing is acknowledged, and the whole batch may be sent again.
    pub async fn append(
        &self,
        tenant: &Arc<str>,
        mut batch: WriteBatch,
        limits: WriteLimits,
    ) -> Result<WriteReport, Error> {
        partition::check_size(&batch)?;
        self.options.memory.as_deref().map_or(Ok(()), Ceiling::check)?;
        let tenant = self.tenant(tenant)?;
        let _counted = Appending::begin(&tenant);
        let limits = self.append_limits((&tenant, &batch), limits);
        let (held, batch) = (batch.take_held(), Arc::new(batch));
        let (sender, receiver) = flume::bounded(1);
        let gathered = Arc::new(Gathered { held, report: Mutex::new(Ok(WriteReport::default())), sender });
        let has_part = |(partition, rows): &(usize, Vec<u32>)| {
            !rows.is_empty() || (*partition == FAMILIES && batch.families().len() > 0)
        };
        for (partition, rows) in self.rows_by_partition(&batch).into_iter().enumerate().filter(has_part) {
            let (tenant, batch, number) = (Arc::clone(&tenant), Arc::clone(&batch), self.number);
            let limits = limits.clone();
            let part = Part::of(&gathered);
            self.pool.send(partition, move |context| {
                let reply = move |outcome| part.reply(outcome);
                match context.partition((number, partition)) {
                    Ok(own) => own.append(&tenant, (&batch, &rows), limits, reply),
                    Err(error) => reply(Err(error)),
                }
            })?;
        }
        drop(gathered);
        let mut report = super::gather::answer(receiver.recv_async().await)??;
        if let Some(memory) = &self.options.memory
            && report.rejected.iter().any(|rejected| rejected.reason == Reason::NoMemory)
        {
            report.no_memory = Some(memory.refuse_new());
        }
        Ok(report)
    }

    /// Names of all tenants with heads or local blocks.
    pub fn tenants(&self) -> Vec<Arc<str>> {
        let tenants = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = tenants.keys().map(Arc::clone).collect();
        names.sort_unstable();
        names
    }

    /// Counts of the heads of `tenant`; `None` when there is no such tenant.
    pub fn stats(&self, tenant: &str) -> Option<TenantStats> {
        Some(self.known(tenant)?.stats())
    }

    /// What cutting the heads of `tenant` came to since the start; `None` when there is no such tenant.
    pub fn cuts(&self, tenant: &str) -> Option<CutCounters> {
        Some(*self.known(tenant)?.cuts())
    }

    /// Exemplars that are kept of each tenant at most.
    pub fn exemplars_max(&self) -> usize {
        self.options.exemplars_max
    }

    /// Bytes of all logs on disk, as far as they can be looked at.
    pub fn wal_bytes(&self) -> u64 {
        let files = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        let logs = files(self.options.data_dir.join(OWN_FOLDER).join("wal"));
        logs.flat_map(|log| files(log.path())).filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }

    /// External labels of the series of `tenant`.
    pub fn external_labels(&self, tenant: &str) -> Labels {
        let own = self.options.labels_of(tenant);
        let added = self.added_labels.read().unwrap_or_else(PoisonError::into_inner);
        let Some(added) = added.get(tenant) else { return own };
        let mut labels = LabelsBuilder::from_labels(added);
        for (name, value) in own.iter() {
            labels.set(name, value);
        }
        labels.build()
    }

    /// Gives the tenants that `added` names these labels besides those that all have, which win, and takes
    /// from others what they were given before. Heads and local blocks are read under the new labels; a block
    /// that can't be opened keeps nobody else from them, and is tried again when labels are set the next time.
    pub fn set_added_labels(&self, added: HashMap<String, Labels>) -> Result<(), Error> {
        *self.added_labels.write().unwrap_or_else(PoisonError::into_inner) = added;
        let mut failures = Vec::new();
        for name in self.tenants() {
            let Some(tenant) = self.known(&name) else { continue };
            let labels = self.external_labels(&name);
            if *tenant.labels() != labels {
                *tenant.labels.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(labels);
            }
            failures.extend(self.relabel_blocks(&tenant));
        }
        flush::all_of(&failures).map_or(Ok(()), Err)
    }

    /// What was done.
    pub fn counters(&self) -> IngestCounters {
        let mut counters = IngestCounters {
            open_ms: self.open_ms,
            replayed_unknown: self.replayed_unknown,
            snapshots: self.snapshots.load(Ordering::Relaxed),
            snapshots_failed: self.snapshots_failed.load(Ordering::Relaxed),
            snapshot_us: self.snapshot_us.load(Ordering::Relaxed),
            removals: self.removals.load(Ordering::Relaxed),
            removals_failed: self.removals_failed.load(Ordering::Relaxed),
            segment: self.writers.iter().map(|writer| writer.segment()).max().unwrap_or(0),
            memory_limited: self.options.memory.as_deref().map_or(0, Ceiling::limited),
            memory_limit: self.options.memory.as_deref().map_or(0, Ceiling::limit),
            ..IngestCounters::default()
        };
        for writer in &self.writers {
            let own = writer.counters();
            counters.broken_partitions += u64::from(writer.is_broken());
            counters.full_partitions += u64::from(writer.is_full());
            counters.wal.commits += own.commits;
            counters.wal.frames += own.frames;
            counters.wal.raw_bytes += own.raw_bytes;
            counters.wal.bytes += own.bytes;
            counters.wal.saved_bytes += own.saved_bytes;
            counters.wal.write_us += own.write_us;
            counters.wal.syncs += own.syncs;
            counters.wal.sync_us += own.sync_us;
            counters.wal.failed += own.failed;
            counters.wal.failed_commits += own.failed_commits;
        }
        for replayed in &self.replayed {
            counters.replayed_frames += replayed.frames;
            counters.replayed_bytes += replayed.bytes;
            counters.torn_bytes += replayed.torn_bytes;
            counters.torn_logs += u64::from(replayed.torn_bytes > 0);
            counters.damaged_logs += u64::from(replayed.set_aside.is_some());
            counters.set_aside_bytes += replayed.set_aside.as_ref().map_or(0, |aside| aside.bytes);
        }
        for tenant in self.tenants.read().unwrap_or_else(PoisonError::into_inner).values() {
            let stats = tenant.stats();
            counters.append_ns += stats.append_ns;
            counters.lookup_ns += stats.lookup_ns;
            counters.metadata_bytes += stats.metadata_bytes;
            counters.metadata_left_out += stats.metadata_left_out;
        }
        counters
    }

    /// What was set aside of relaxed logs that were damaged, at this start or an earlier one.
    pub fn set_aside(&self) -> impl Iterator<Item = &SetAside> {
        self.replayed.iter().filter_map(|replayed| replayed.set_aside.as_ref())
    }

    /// Why a partition takes nothing until a restart; of several, one.
    pub fn broken(&self) -> Option<Error> {
        self.writers.iter().find_map(|writer| writer.broken())
    }

    /// Number of partitions.
    pub fn partitions(&self) -> usize {
        self.writers.len()
    }

    fn append_limits(&self, (tenant, batch): (&Tenant, &WriteBatch), limits: WriteLimits) -> AppendLimits {
        // Before the counts are read: a series that is published in between counts twice, and none is left out.
        let published = tenant.series_published.load(Ordering::Acquire);
        let stats = tenant.stats();
        let max = [self.options.series_max, limits.series_max].into_iter().filter(|max| *max > 0).min();
        let series_left = max.map(|max| SeriesLeft {
            taken: Arc::clone(&tenant.series_taken),
            taken_max: max.saturating_sub(stats.series).saturating_add(published),
        });
        let future = self.options.too_far_in_future_ms;
        let all = TimeRange::ASKED.max_time;
        let time_max = if future > 0 { now_ms().saturating_add(future).min(all) } else { all };
        // Heads begin where the first sample of all is, as upstream's one head does.
        let latest_time = match stats.max_time {
            i64::MIN => batch.first_time(time_max).unwrap_or(i64::MIN),
            latest => latest,
        };
        AppendLimits { time_max, series_left, latest_time, memory: self.options.memory.clone() }
    }

    fn rows_by_partition(&self, batch: &WriteBatch) -> Vec<Vec<u32>> {
        let partitions = self.partitions();
        let room = batch.series_len() / partitions + 16;
        let mut rows: Vec<Vec<u32>> = (0..partitions).map(|_| Vec::with_capacity(room)).collect();
        for row in 0..batch.series_len() as u32 {
            rows[batch.hash(row).partition(partitions)].push(row);
        }
        rows
    }

    /// The tenant of this name, made when it is new.
    fn tenant(&self, name: &Arc<str>) -> Result<Arc<Tenant>, Error> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Unavailable, "ingestion is closed: send again after the restart"));
        }
        if let Some(known) = self.known(name) {
            return Ok(known);
        }
        check_tenant(name)?;
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let made = tenants.entry(Arc::clone(name)).or_insert_with(|| {
            let parts = (0..self.partitions()).map(|_| PartStats::default()).collect();
            let labels = RwLock::new(Arc::new(self.external_labels(name)));
            let (name, blocks, is_leaving) = (Arc::clone(name), LocalBlocks::default(), AtomicBool::new(false));
            let (exemplar_clock, arrivals, late_cuts) = Default::default();
            let (cuts, unfinished, appending) = Default::default();
            let (series_taken, series_published) = Default::default();
            let valid_from = AtomicI64::new(i64::MIN);
            Arc::new(Tenant {
                name,
                labels,
                parts,
                blocks,
                valid_from,
                exemplar_clock,
                is_leaving,
                arrivals,
                late_cuts,
                appending,
                series_taken,
                series_published,
                cuts,
                unfinished,
            })
        });
        Ok(Arc::clone(made))
    }

    fn known(&self, tenant: &str) -> Option<Arc<Tenant>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    fn tenant_dir(&self, tenant: &str) -> PathBuf {
        tenant_folder(&self.options.data_dir, tenant)
    }

    /// Runs `job` on partition number `partition`; its result comes through the channel.
    fn ask<T: Send + 'static>(
        &self,
        partition: usize,
        job: impl FnOnce(&mut Partition) -> T + Send + 'static,
    ) -> Result<flume::Receiver<Result<T, Error>>, Error> {
        let (job, receiver) = job_of((self.number, partition), job);
        self.pool.send(partition, job)?;
        Ok(receiver)
    }

    /// The same for upkeep, which waits for a place in a mailbox that is full: refused by some partitions, it would
    /// leave a tenant half changed.
    fn ask_waiting<T: Send + 'static>(
        &self,
        partition: usize,
        job: impl FnOnce(&mut Partition) -> T + Send + 'static,
    ) -> Result<flume::Receiver<Result<T, Error>>, Error> {
        let (job, receiver) = job_of((self.number, partition), job);
        self.pool.send_waiting(partition, job)?;
        Ok(receiver)
    }
}

/// `job` on the partition `key` as its shard runs it, and where its result comes from.
fn job_of<T: Send + 'static>(
    key: PartitionKey,
    job: impl FnOnce(&mut Partition) -> T + Send + 'static,
) -> (impl FnOnce(&mut ShardContext) + Send + 'static, flume::Receiver<Result<T, Error>>) {
    let (sender, receiver) = flume::bounded(1);
    let job = move |context: &mut ShardContext| {
        let outcome = context.partition(key).map(job);
        // Whoever asked may have gone away.
        drop(sender.send(outcome));
    };
    (job, receiver)
}

/// Unix milliseconds now.
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests;
