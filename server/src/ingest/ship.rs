//! Blocks of tenants on their way to the bucket, and off the disk.
//!
//! ```text
//! <tsdb.path>/<tenant>/<ULID>/           a block, whole
//! <tsdb.path>/<tenant>/thanos.shipper.json   {"version": 1, "uploaded": [ULID, …]}
//! ```
//! Chunks and index go first, meta.json last: a block is visible when it is whole. What failed or was
//! cut off by a crash is sent again; a block whose meta.json is in the bucket is there. Cutting and deleting
//! go on while a bucket takes its time, and so do uploads of other tenants.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::block::glance::glance;
use engine::bucket::Meta;
use engine::bucket::meta::{Thanos, source};
use engine::model::{BlockId, Error, ErrorKind};
use engine::shard::ingest::{LocalBlock, UnreadableBlock, tenant_folder};
use engine::shard::{Flush, Ingest};
use futures_util::{StreamExt, stream};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::unread::holds_samples_of_thanos;
use crate::objstore::Bucket;
use crate::sync::is_json;
use crate::telemetry::memory;
use crate::telemetry::metrics::{Counters, Gauges, MetricLabels};
use crate::upkeep::now_ms;
use crate::upkeep::transfer::{Origin, Transfer};

/// The file that says which blocks of a tenant are in the bucket.
const SHIPPER_FILE: &str = "thanos.shipper.json";

/// Time in which a bucket says whether a block is there. One that takes longer takes no block either: the
/// round ends, and the next one asks again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Tenants of which a block is uploaded at once: as long as fewer uploads hang, others go on. Each holds
/// three parts of a file in memory at most.
const TENANTS_AT_ONCE: usize = 4;

/// Pause between two rounds at the end of the process.
const END_PAUSE: Duration = Duration::from_secs(1);

/// The content of that file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Shipped {
    version: u32,
    #[serde(default)]
    uploaded: BTreeSet<BlockId>,
}

/// Local blocks are kept this long and up to this size.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// `--tsdb.retention`; zero: for ever.
    pub age: Duration,
    /// `--tsdb.max-retention-bytes` of each tenant; 0: no limit.
    pub bytes_max: u64,
}

/// Uploads of local blocks that this process has tried.
#[derive(Debug, Default)]
struct Uploads {
    /// Those under way, one of a tenant.
    current: BTreeSet<BlockId>,
    /// Those that failed, or waited in a round that the bucket's silence ended.
    failed: BTreeSet<BlockId>,
    /// Those that are in the bucket, also when the file that names them could not be written.
    done: BTreeSet<BlockId>,
    /// When those in the bucket were first known to be there.
    since: BTreeMap<BlockId, Instant>,
    /// Damaged blocks, which are not uploaded.
    damaged: BTreeSet<BlockId>,
}

impl Uploads {
    /// The blocks that anything is known of.
    fn all(&self) -> BTreeSet<BlockId> {
        let known = self.failed.iter().chain(&self.done).chain(self.since.keys()).chain(&self.damaged);
        known.copied().collect()
    }

    /// Forgets blocks that are gone.
    fn forget(&mut self, is_gone: impl Fn(&BlockId) -> bool) {
        self.failed.retain(|id| !is_gone(id));
        self.done.retain(|id| !is_gone(id));
        self.since.retain(|id, _| !is_gone(id));
        self.damaged.retain(|id| !is_gone(id));
    }
}

/// Whether a block that has been in the bucket since a time is answered for from there.
type IsAnswered = Box<dyn Fn(BlockId, Instant) -> bool + Send + Sync>;

/// What else is done when a tenant was removed.
type Forget = Box<dyn Fn(&str) + Send + Sync>;

/// Ships blocks, and deletes those that have been kept long enough.
pub struct Shipper {
    ingest: Arc<Ingest>,
    data_dir: PathBuf,
    bucket: Option<(Bucket, Transfer)>,
    /// Where this process answers for the bucket, too.
    is_answered: Option<IsAnswered>,
    forget: Option<Forget>,
    retention: Retention,
    metrics: ShipMetrics,
    /// Held while a tenant's folder or the file in it that names shipped blocks changes.
    changing: Mutex<()>,
    uploads: std::sync::Mutex<Uploads>,
}

/// Metrics of shipping; clones share them.
#[derive(Clone, Debug, Default)]
pub struct ShipMetrics {
    syncs: Counters,
    sync_failures: Counters,
    uploads: Counters,
    upload_failures: Counters,
    waiting: Gauges,
    local_bytes: Gauges,
    dropped: Counters,
    damaged: Counters,
    retained: RetentionMetrics,
}

/// `prometheus_tsdb_*` of retention.
#[derive(Clone, Debug, Default)]
struct RetentionMetrics {
    too_old: Counters,
    too_many_bytes: Counters,
    seconds: Gauges,
    bytes: Gauges,
}

impl RetentionMetrics {
    fn register(&self, registry: &mut Registry) {
        let name = |name: &str| format!("prometheus_tsdb_{name}");
        let help = "The number of times that blocks were deleted because the maximum time limit was exceeded";
        registry.register(name("time_retentions"), help, self.too_old.clone());
        let help = "The number of times that blocks were deleted because the maximum number of bytes was exceeded";
        registry.register(name("size_retentions"), help, self.too_many_bytes.clone());
        let help = "How long to retain samples in storage";
        registry.register(name("retention_limit_seconds"), help, self.seconds.clone());
        let help = "Max number of bytes to be retained in the tsdb blocks, configured 0 means disabled";
        registry.register(name("retention_limit_bytes"), help, self.bytes.clone());
    }

    /// A tenant's blocks were looked through, and some deleted for each reason.
    fn count(&self, labels: &MetricLabels, retention: &Retention, [too_old, too_many_bytes]: [usize; 2]) {
        self.too_old.get_or_create(labels).inc_by(u64::from(too_old > 0));
        self.too_many_bytes.get_or_create(labels).inc_by(u64::from(too_many_bytes > 0));
        self.seconds.get_or_create(labels).set(i64::try_from(retention.age.as_secs()).unwrap_or(i64::MAX));
        self.bytes.get_or_create(labels).set(i64::try_from(retention.bytes_max).unwrap_or(i64::MAX));
    }

    fn forget(&self, labels: &MetricLabels) {
        for counters in [&self.too_old, &self.too_many_bytes] {
            counters.remove(labels);
        }
        for gauges in [&self.seconds, &self.bytes] {
            gauges.remove(labels);
        }
    }
}

impl ShipMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for (name, help, counter) in [
            ("thanos_shipper_dir_syncs", "Total number of dir syncs", &metrics.syncs),
            ("thanos_shipper_dir_sync_failures", "Total number of failed dir syncs", &metrics.sync_failures),
            ("thanos_shipper_uploads", "Total number of uploaded blocks", &metrics.uploads),
            ("thanos_shipper_upload_failures", "Total number of block upload failures", &metrics.upload_failures),
            ("thanos_shipper_corrupted_blocks", "Total number of corrupted blocks", &metrics.damaged),
            (
                "uru_receive_blocks_dropped_unshipped",
                "Blocks that --tsdb.max-retention-bytes deleted before they could be uploaded",
                &metrics.dropped,
            ),
            (
                "uru_receive_blocks_damaged",
                "Local blocks that are not uploaded as a file of theirs is cut off, damaged or missing",
                &metrics.damaged,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "uru_receive_blocks_waiting",
            "Blocks of a tenant that wait to be uploaded",
            metrics.waiting.clone(),
        );
        let help = "The number of bytes that are currently used for local storage by all blocks";
        registry.register("prometheus_tsdb_storage_blocks_bytes", help, metrics.local_bytes.clone());
        registry.register("uru_receive_local_bytes", "Bytes of a tenant's local blocks", metrics.local_bytes.clone());
        metrics.retained.register(registry);
        metrics
    }

    /// A tenant's blocks are looked through. From the first time on everything is there, so that also
    /// the first failure is a rise.
    fn begin(&self, labels: &MetricLabels) {
        self.syncs.get_or_create(labels).inc();
        for counter in [&self.sync_failures, &self.uploads, &self.upload_failures, &self.damaged] {
            counter.get_or_create(labels).inc_by(0);
        }
    }

    /// A tenant is gone.
    fn forget(&self, labels: &MetricLabels) {
        let of_uploads = [&self.uploads, &self.upload_failures, &self.dropped, &self.damaged];
        for counter in [&self.syncs, &self.sync_failures].into_iter().chain(of_uploads) {
            counter.remove(labels);
        }
        self.waiting.remove(labels);
        self.local_bytes.remove(labels);
        self.retained.forget(labels);
    }
}

impl Shipper {
    /// Ships the blocks of `ingest`, which lie in `data_dir`, to a bucket if there is one.
    pub fn new(
        ingest: Arc<Ingest>,
        data_dir: &Path,
        bucket: Option<(Bucket, Transfer)>,
        (retention, metrics): (Retention, ShipMetrics),
    ) -> Self {
        let data_dir = data_dir.to_owned();
        let (changing, uploads) = (Mutex::default(), std::sync::Mutex::default());
        Self { ingest, data_dir, bucket, is_answered: None, forget: None, retention, metrics, changing, uploads }
    }

    /// The same where this process answers for the bucket, too: a block that has grown old goes once `is_answered` says
    /// of it and the time since when it has been in the bucket that it is answered for from there.
    pub fn beside(self, is_answered: impl Fn(BlockId, Instant) -> bool + Send + Sync + 'static) -> Self {
        Self { is_answered: Some(Box::new(is_answered)), ..self }
    }

    /// The same, which has others `forget` a tenant that it has removed.
    pub fn forgetting(self, forget: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { forget: Some(Box::new(forget)), ..self }
    }

    fn uploads(&self) -> MutexGuard<'_, Uploads> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts blocks that are due, deletes those that may go, prunes tenants, and ships, for ever: each at this
    /// interval, and none waits for the bucket but shipping.
    pub async fn work(&self, interval: Duration) {
        let keeping = async {
            loop {
                sleep(interval).await;
                self.report_writers();
                if let Err(error) = self.ingest.flush(None, Flush::Due).await {
                    tracing::error!(%error, "cutting blocks failed, trying again");
                }
                self.retain().await;
                self.prune().await;
            }
        };
        let shipping = async {
            loop {
                self.ship().await;
                sleep(interval).await;
            }
        };
        tokio::join!(keeping, shipping);
    }

    /// The end: where there is a bucket, everything is cut, as upstream does; the heads are snapshot for the
    /// next start; then blocks are shipped, in as many rounds as it takes, until `within` is over.
    pub async fn close(&self, within: Duration) {
        if self.bucket.is_some()
            && let Err(error) = self.ingest.flush(None, Flush::All).await
        {
            tracing::error!(%error, "cutting the last blocks failed; the WAL keeps their samples");
        }
        if let Err(error) = self.ingest.close().await {
            tracing::error!(%error, "closing the heads failed; the WAL keeps their samples");
        }
        let waiting = || -> usize { self.ingest.tenants().iter().map(|tenant| self.waiting(tenant).len()).sum() };
        let shipping = async {
            self.ship().await;
            while waiting() > 0 {
                sleep(END_PAUSE).await;
                self.ship().await;
            }
        };
        if timeout(within, shipping).await.is_err() {
            tracing::warn!(?within, "--shipper.end-timeout is over");
        }
        let blocks = waiting();
        if blocks > 0 {
            let folder = self.data_dir.display();
            tracing::warn!(blocks, %folder, "blocks stay on disk, to be uploaded after the next start");
        }
    }

    fn report_writers(&self) {
        let counters = self.ingest.counters();
        if let Some(error) = self.ingest.broken() {
            let partitions = counters.broken_partitions;
            tracing::error!(partitions, %error, "a WAL could not be written: its series are refused until a restart");
        }
        if counters.full_partitions > 0 {
            let partitions = counters.full_partitions;
            tracing::error!(partitions, "the disk of a WAL is full: its series are refused until there is room");
        }
        memory::tell_of_mappings();
    }

    /// Ships what is there. What fails is logged, counted and tried again by the next call.
    pub async fn ship(&self) {
        let tenants = self.ingest.tenants().into_iter();
        let round: Vec<(Arc<str>, Vec<BlockId>)> =
            tenants.map(|name| (Arc::clone(&name), self.waiting(&name))).collect();
        // It stays silent for the rest of the round.
        let silent = AtomicBool::new(false);
        let shipped = round.iter().map(|(tenant, blocks)| self.ship_unless((tenant, blocks), &silent));
        stream::iter(shipped).buffer_unordered(TENANTS_AT_ONCE).collect::<()>().await;
        if silent.into_inner() {
            self.uploads().failed.extend(round.iter().flat_map(|(_, blocks)| blocks));
        }
    }

    /// Ships the blocks of a tenant, unless the bucket was found to be silent, and notes when it is.
    async fn ship_unless(&self, (tenant, blocks): (&str, &[BlockId]), silent: &AtomicBool) {
        if silent.load(Ordering::Relaxed) || self.ingest.stats(tenant).is_none() {
            // Otherwise it was pruned meanwhile.
            return;
        }
        let labels = vec![("tenant", tenant.to_owned())];
        self.metrics.begin(&labels);
        let Some((bucket, transfer)) = &self.bucket else { return };
        if let Err(error) = self.ship_tenant((tenant, blocks), (bucket, transfer)).await {
            self.metrics.sync_failures.get_or_create(&labels).inc();
            tracing::warn!(%tenant, %error, "shipping blocks failed");
            silent.fetch_or(error.kind() == ErrorKind::Deadline, Ordering::Relaxed);
        }
    }

    async fn ship_tenant(
        &self,
        (tenant, blocks): (&str, &[BlockId]),
        (bucket, transfer): (&Bucket, &Transfer),
    ) -> Result<(), Error> {
        let labels = vec![("tenant", tenant.to_owned())];
        // What could not be noted in the last round.
        let mut failed = self.note(tenant).await.err();
        for id in blocks {
            // It may have been deleted meanwhile, which was told then.
            let Some(block) = self.ingest.local_blocks(tenant).into_iter().find(|block| block.meta.ulid == *id) else {
                continue;
            };
            if let Err(error) = glance(&block.path, &block.meta)
                && error.kind() == ErrorKind::Corrupt
            {
                // Unless it was just being deleted.
                if self.ingest.local_blocks(tenant).iter().any(|block| block.meta.ulid == *id) {
                    self.leave_damaged((tenant, &block), &error);
                    failed = Some(error);
                }
                continue;
            }
            // A changed ring may have given the tenant other labels since the block was cut.
            let mut meta = block.meta.clone();
            // One that a receiver of Thanos left says nothing of where it is from.
            let thanos = meta.thanos.get_or_insert_with(|| Thanos {
                version: Some(1),
                source: source::RECEIVE.to_owned(),
                ..Thanos::default()
            });
            thanos.labels = self.ingest.external_labels(tenant).to_map();
            self.uploads().current.insert(*id);
            let outcome = upload((bucket, transfer), &block.path, meta).await;
            self.uploads().current.remove(id);
            match outcome {
                Ok(()) => {
                    self.uploads().done.insert(*id);
                    self.metrics.uploads.get_or_create(&labels).inc();
                    tracing::info!(tenant, block = %id, "uploaded block");
                    // A full disk gets room by blocks that are shipped and may go.
                    failed = self.note(tenant).await.err().or(failed);
                }
                Err(error) => {
                    self.uploads().failed.insert(*id);
                    self.metrics.upload_failures.get_or_create(&labels).inc();
                    tracing::warn!(tenant, block = %id, %error, "uploading a block failed, it is tried again");
                    if error.kind() == ErrorKind::Deadline {
                        return Err(error);
                    }
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// A block of a tenant is not uploaded: whoever compacts it or reads from it would fail.
    fn leave_damaged(&self, (tenant, block): (&str, &LocalBlock), error: &Error) {
        let labels = vec![("tenant", tenant.to_owned())];
        let mut uploads = self.uploads();
        uploads.damaged.insert(block.meta.ulid);
        // Where there is no room it may go as one that could not be uploaded.
        uploads.failed.insert(block.meta.ulid);
        self.metrics.damaged.get_or_create(&labels).inc();
        self.metrics.upload_failures.get_or_create(&labels).inc();
        tracing::error!(
            tenant,
            folder = %block.path.display(),
            %error,
            "a local block is damaged and not uploaded: mend what the error names or move the block out of the data \
             folder, and start again"
        );
    }

    /// Blocks of a tenant that are to be uploaded to the bucket, where there is one, the oldest first.
    fn waiting(&self, tenant: &str) -> Vec<BlockId> {
        if self.bucket.is_none() {
            return Vec::new();
        }
        let mut left_out = self.shipped(tenant);
        left_out.extend(&self.uploads().damaged);
        let blocks = self.blocks(tenant).into_iter().map(|block| block.meta.ulid);
        blocks.filter(|id| !left_out.contains(id)).collect()
    }

    /// Local blocks of a tenant, the oldest first.
    fn blocks(&self, tenant: &str) -> Vec<LocalBlock> {
        let mut blocks = self.ingest.local_blocks(tenant);
        blocks.sort_by_key(|block| (block.meta.min_time, block.meta.ulid));
        blocks
    }

    /// Blocks of a tenant that are in the bucket: there may be many times as many of others.
    fn shipped(&self, tenant: &str) -> BTreeSet<BlockId> {
        let mut shipped = read_shipped(&tenant_folder(&self.data_dir, tenant)).uploaded;
        let local = self.ingest.local_blocks(tenant).into_iter().map(|block| block.meta.ulid);
        let uploads = self.uploads();
        shipped.extend(local.filter(|id| uploads.done.contains(id)));
        shipped
    }

    /// Notes which blocks are in the bucket, if that is news. What is gone locally need not be remembered, as
    /// upstream forgets it; what can't be read now may be readable once more.
    async fn note(&self, tenant: &str) -> Result<(), Error> {
        let _alone = self.changing.lock().await;
        let folder = tenant_folder(&self.data_dir, tenant);
        let mut known: BTreeSet<BlockId> =
            self.ingest.local_blocks(tenant).iter().map(|block| block.meta.ulid).collect();
        let unreadable = self.ingest.unreadable_blocks().iter().filter(|block| &*block.tenant == tenant);
        known.extend(unreadable.map(|block| block.id));
        let done: BTreeSet<BlockId> = self.uploads().done.intersection(&known).copied().collect();
        let mut shipped = read_shipped(&folder);
        if done.is_subset(&shipped.uploaded) {
            return Ok(());
        }
        shipped.uploaded.extend(done);
        shipped.uploaded.retain(|id| known.contains(id));
        write_shipped(&folder, &shipped)
    }

    /// Deletes blocks that may go, and tells what is left. After each tenant others have their turn: however many there
    /// are, the process hears that it is to end.
    pub async fn retain(&self) {
        // What is uploaded meanwhile may be of a tenant that was looked through before.
        let before = self.uploads().all();
        let mut left = BTreeSet::new();
        for tenant in self.ingest.tenants() {
            left.extend(self.retain_of(&tenant));
            tokio::task::yield_now().await;
        }
        self.uploads().forget(|id| before.contains(id) && !left.contains(id));
    }

    /// Deletes blocks of a tenant that may go, and gives those that are left.
    fn retain_of(&self, tenant: &str) -> Vec<BlockId> {
        let shipped = self.shipped(tenant);
        let size = |block: LocalBlock| (block.meta.ulid, block.meta.max_time, folder_bytes(&block.path));
        let mut sizes: Vec<(BlockId, i64, u64)> = self.blocks(tenant).into_iter().map(size).collect();
        match self.delete_old(tenant, &sizes, &shipped) {
            Ok(gone) => sizes.retain(|(id, ..)| !gone.contains(id)),
            Err(error) => tracing::warn!(%tenant, %error, "deleting local blocks failed, trying again"),
        }
        self.report(&vec![("tenant", tenant.to_owned())], &sizes, &shipped);
        sizes.into_iter().map(|(id, ..)| id).collect()
    }

    /// Tells how many of a tenant's blocks wait, and how large all of them are.
    fn report(&self, labels: &MetricLabels, blocks: &[(BlockId, i64, u64)], shipped: &BTreeSet<BlockId>) {
        let damaged = self.uploads().damaged.clone();
        let waits = |id: &BlockId| self.bucket.is_some() && !shipped.contains(id) && !damaged.contains(id);
        let waiting = blocks.iter().filter(|(id, ..)| waits(id)).count();
        self.metrics.waiting.get_or_create(labels).set(waiting as i64);
        let bytes: u64 = blocks.iter().map(|(.., bytes)| bytes).sum();
        self.metrics.local_bytes.get_or_create(labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Those of `shipped` that nobody misses here any more.
    fn answered(&self, shipped: &BTreeSet<BlockId>) -> BTreeSet<BlockId> {
        let Some(is_answered) = &self.is_answered else { return shipped.clone() };
        let (now, mut uploads) = (Instant::now(), self.uploads());
        let since = shipped.iter().map(|id| (*id, *uploads.since.entry(*id).or_insert(now)));
        let since: Vec<(BlockId, Instant)> = since.collect();
        drop(uploads);
        since.into_iter().filter(|(id, since)| is_answered(*id, *since)).map(|(id, _)| id).collect()
    }

    /// Deletes blocks that are old and in the bucket, and answered for from there; beyond the size the oldest of
    /// these, then the oldest in the bucket, and where these are not enough the oldest whose upload failed. What was
    /// not tried yet, or is just now, stays.
    fn delete_old(
        &self,
        tenant: &str,
        blocks: &[(BlockId, i64, u64)],
        shipped: &BTreeSet<BlockId>,
    ) -> Result<BTreeSet<BlockId>, Error> {
        let answered = self.answered(shipped);
        let is_missed = |id: &BlockId| self.bucket.is_some() && !answered.contains(id);
        let is_safe = |id: &BlockId| self.bucket.is_none() || shipped.contains(id);
        let mut gone = BTreeSet::new();
        let end = self.end_of_retention(tenant, blocks);
        for (id, max_time, _) in blocks {
            if is_past(*max_time, end, self.retention.age) && !is_missed(id) {
                gone.insert(*id);
            }
        }
        let too_old = gone.len();
        let mut bytes: u64 = blocks.iter().filter(|(id, ..)| !gone.contains(id)).map(|(.., bytes)| bytes).sum();
        let uploads = self.uploads();
        let has_failed = |id: &BlockId| uploads.failed.contains(id) && !uploads.current.contains(id);
        let spare = blocks.iter().filter(|(id, ..)| !is_missed(id));
        let missed = blocks.iter().filter(|(id, ..)| is_missed(id) && is_safe(id));
        let failed = blocks.iter().filter(|(id, ..)| !is_safe(id) && has_failed(id));
        for (id, _, size) in spare.chain(missed).chain(failed) {
            if self.retention.bytes_max == 0 || bytes <= self.retention.bytes_max {
                break;
            }
            if gone.insert(*id) {
                bytes -= size;
                if !is_safe(id) {
                    self.metrics.dropped.get_or_create(&vec![("tenant", tenant.to_owned())]).inc();
                    tracing::error!(
                        tenant,
                        block = %id,
                        "deleting a block that could not be uploaded: --tsdb.max-retention-bytes is reached"
                    );
                }
            }
        }
        let labels = vec![("tenant", tenant.to_owned())];
        self.metrics.retained.count(&labels, &self.retention, [too_old, gone.len() - too_old]);
        for id in &gone {
            self.ingest.delete_block(tenant, *id)?;
            tracing::info!(tenant, block = %id, "deleted local block");
        }
        Ok(gone)
    }

    /// From when the age of a tenant's blocks counts, in Unix milliseconds: from the end of its newest block, as
    /// in Prometheus' TSDB, so that what is sent of an old time is kept as long; from now when that is before it
    /// or nothing is sent any more.
    fn end_of_retention(&self, tenant: &str, blocks: &[(BlockId, i64, u64)]) -> i64 {
        let newest = blocks.iter().map(|(_, max_time, _)| *max_time).max();
        newest.filter(|_| !self.ingest.is_idle(tenant)).unwrap_or(i64::MAX).min(now_ms())
    }

    /// Removes tenants that have sent nothing for longer than blocks are kept and of whom nothing is
    /// left to ship.
    pub async fn prune(&self) {
        if self.retention.age.is_zero() {
            return;
        }
        for tenant in self.ingest.tenants() {
            let Some(stats) = self.ingest.stats(&tenant) else { continue };
            // Also what was kept before the last start counts: its times are in heads and blocks.
            let blocks = self.ingest.local_blocks(&tenant);
            let last = blocks.iter().map(|block| block.meta.max_time).fold(stats.max_time, i64::max);
            // Old samples may be coming just now: to cut them all would refuse those between them.
            if !is_past(last, now_ms(), self.retention.age) || !self.ingest.is_idle(&tenant) {
                continue;
            }
            if let Err(error) = self.ingest.flush(Some(&tenant), Flush::All).await {
                tracing::warn!(%tenant, %error, "flushing an idle tenant failed, trying again");
                continue;
            }
            // Its blocks go when they are in the bucket, those that can't be read and what Thanos did not cut yet when
            // somebody takes them away.
            let is_unread = |block: &UnreadableBlock| block.tenant == tenant && block.path.exists();
            let has_unread = self.ingest.unreadable_blocks().iter().any(is_unread);
            let has_unread = has_unread || holds_samples_of_thanos(&tenant_folder(&self.data_dir, &tenant));
            if !has_unread && self.ingest.local_blocks(&tenant).is_empty() {
                let _alone = self.changing.lock().await;
                match self.ingest.remove_tenant(&tenant).await {
                    Ok(()) => {
                        self.metrics.forget(&vec![("tenant", tenant.to_string())]);
                        if let Some(forget) = &self.forget {
                            forget(&tenant);
                        }
                        tracing::info!(%tenant, "pruned tenant");
                    }
                    Err(error) => tracing::warn!(%tenant, %error, "pruning a tenant failed, trying again"),
                }
            }
        }
    }
}

/// Whether a time is as long before `end` as `age` or longer, both in Unix milliseconds; never when that is zero.
fn is_past(time: i64, end: i64, age: Duration) -> bool {
    let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    !age.is_zero() && time <= end.saturating_sub(age_ms)
}

/// Uploads a block: its files, then its meta.json with the time of now. A bucket may have been away for hours:
/// by when a block came, and not by when it was cut, compactors tell whether all see it.
async fn upload((bucket, transfer): (&Bucket, &Transfer), folder: &Path, meta: Meta) -> Result<(), Error> {
    // After a crash between upload and note.
    let path = format!("{}/meta.json", meta.ulid);
    let found = timeout(ANSWER_TIMEOUT, bucket.get(&path)).await.map_err(|_| {
        let message = format!("bucket {}: nothing was answered about {path} in {ANSWER_TIMEOUT:?}", bucket.name());
        Error::new(ErrorKind::Deadline, message)
    })?;
    if found?.is_some_and(|bytes| is_json(&bytes)) {
        return Ok(());
    }
    transfer.upload(bucket, folder, meta, Origin::Labelled).await.map(drop)
}

fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => folder_bytes(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

/// Which blocks of a tenant are in the bucket. A file that can't be read is as none: the bucket knows.
fn read_shipped(folder: &Path) -> Shipped {
    let text = std::fs::read(folder.join(SHIPPER_FILE)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or(Shipped { version: 1, uploaded: BTreeSet::new() })
}

/// Replaces the file, as upstream writes it: indented by tabs.
fn write_shipped(folder: &Path, shipped: &Shipped) -> Result<(), Error> {
    let path = folder.join(SHIPPER_FILE);
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, indent);
    shipped.serialize(&mut writer).expect("ids are text");
    text.push(b'\n');
    let written = engine::io::replace::write_whole(&path, |file| std::io::Write::write_all(file, &text));
    written.map_err(|error| Error::file(&path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_shipped_blocks_is_upstreams() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_shipped(folder.path()).uploaded.len(), 0);
        let uploaded = BTreeSet::from([BlockId::from_parts(1, 2)]);
        let shipped = Shipped { version: 1, uploaded };
        write_shipped(folder.path(), &shipped).unwrap();
        assert_eq!(read_shipped(folder.path()), shipped);
        let text = std::fs::read_to_string(folder.path().join(SHIPPER_FILE)).unwrap();
        assert!(text.starts_with("{\n\t\"version\": 1,\n\t\"uploaded\": [\n\t\t\""), "{text}");
        std::fs::write(folder.path().join(SHIPPER_FILE), "{").unwrap();
        assert_eq!(read_shipped(folder.path()).uploaded.len(), 0);
    }

    #[test]
    fn nothing_is_past_when_blocks_are_kept_for_ever() {
        let second = Duration::from_secs(1);
        assert!(!is_past(0, i64::MAX, Duration::ZERO));
        assert!(is_past(0, 1000, second));
        assert!(!is_past(1, 1000, second));
        assert!(!is_past(i64::MAX, i64::MIN, second));
    }
}
