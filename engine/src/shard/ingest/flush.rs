//! Heads to blocks, one at a time; then snapshots, so that the logs stay short.
//!
//! ```text
//! freeze ─> intent in all logs ─> block, verified, renamed ─> done in all logs ─> truncate ─> snapshot
//! ```
//! A crash before the rename leaves the samples in the heads; after it, replay finds the block and
//! drops them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Ingest, Tenant, now_ms};
use crate::bucket::Meta;
use crate::bucket::meta::{Thanos, source};
use crate::head::Head;
use crate::head::cut::{OUT_OF_ORDER_HINT, block_numbers, write_blocks};
use crate::head::excerpt::Excerpt;
use crate::head::shapes::ChunkShapes;
use crate::head::snapshot::Position;
use crate::model::{BlockId, Error, ErrorKind};
use crate::shard::gather::answer;
use crate::wal::folder::{remove_before, write_snapshot};
use crate::wal::{Cut, CutKind, CutPhase};

/// What is to become blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Times of blocks that are over, with half a block's time after them: that of samples, or, of a tenant
    /// that has sent nothing for the time of a block, that of the clock.
    Due,
    /// Everything, the last block as far as there are samples.
    All,
}

/// A block that was cut.
#[derive(Clone, Debug)]
pub struct CutBlock {
    /// Whose it is.
    pub tenant: Arc<str>,
    /// Its description.
    pub meta: Meta,
    /// Its folder.
    pub path: PathBuf,
}

/// A cut whose blocks are on disk, while heads or logs do not know it yet: a full disk may have no room for what
/// reads a block, or for a log. Its samples must not be written again.
#[derive(Debug)]
pub(super) struct Unfinished {
    cut: Cut,
    /// Those of its blocks that are not read yet.
    blocks: Vec<Meta>,
}

/// What a flush came to.
#[derive(Debug, Default)]
struct Flushed {
    blocks: Vec<CutBlock>,
    /// Whether heads have changed.
    has_cut: bool,
}

/// Failures that an error names; of the others it tells how many there are.
const FAILURES_NAMED_MAX: usize = 5;

/// One error that says what the first of `failures` do, of the first one's kind; `None` when there is none.
pub(super) fn all_of(failures: &[Error]) -> Option<Error> {
    let kind = failures.first()?.kind();
    let named = failures.iter().take(FAILURES_NAMED_MAX);
    let mut message = named.map(Error::message).collect::<Vec<_>>().join("; ");
    if let Some(more @ 1..) = failures.len().checked_sub(FAILURES_NAMED_MAX) {
        message.push_str(&format!("; and {more} more"));
    }
    Some(Error::new(kind, message))
}

/// Samples that a tenant had sent when it was last seen to have sent more, and when that was.
#[derive(Debug)]
pub(super) struct Arrivals(Mutex<(u64, Instant)>);

impl Default for Arrivals {
    fn default() -> Self {
        Self(Mutex::new((0, Instant::now())))
    }
}

impl Arrivals {
    /// How long nothing more than `samples` has come.
    fn idle_time(&self, samples: u64) -> Duration {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != samples {
            *last = (samples, Instant::now());
        }
        last.1.elapsed()
    }
}

/// When late samples of a tenant were last cut, or could be for the first time.
#[derive(Debug)]
pub(super) struct LateCuts(pub(super) Mutex<Instant>);

impl Default for LateCuts {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl LateCuts {
    /// Whether one and a half times the time of a block, `range_ms` milliseconds, has passed since: as long as a head
    /// waits for what is in order.
    fn are_due(&self, range_ms: i64) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.elapsed().as_millis() as i64 >= range_ms / 2 * 3
    }

    fn done(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Time after which a snapshot that has failed is tried again: each begins new segments.
const SNAPSHOT_RETRY_INTERVAL: Duration = Duration::from_secs(300);

impl Ingest {
    /// Cuts what is to become blocks, of one tenant or of all; gives the new blocks, which are read
    /// from then on. What fails of one tenant keeps nobody else from being cut, nor the snapshot; the error
    /// then names those that failed.
    pub async fn flush(self: &Arc<Self>, tenant: Option<&str>, what: Flush) -> Result<Vec<CutBlock>, Error> {
        let tenant = tenant.map(str::to_owned);
        self.on_thread("flush", move |ingest| {
            let _one_at_a_time = ingest.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
            let names = match &tenant {
                Some(tenant) => vec![Arc::from(tenant.as_str())],
                None => ingest.tenants(),
            };
            let (mut flushed, mut failures) = (Flushed::default(), Vec::new());
            for name in names {
                let Some(tenant) = ingest.known(&name) else { continue };
                tenant.cuts().looks += 1;
                if let Err(error) = ingest.flush_tenant(&tenant, what, &mut flushed) {
                    tenant.cuts().failed += 1;
                    failures.push(error.within(format_args!("tenant {name}")));
                }
            }
            if flushed.has_cut || ingest.is_snapshot_due() {
                failures.extend(ingest.snapshot_all().err());
            }
            all_of(&failures).map_or(Ok(flushed.blocks), Err)
        })
        .await
    }

    /// Whether `tenant` has sent nothing for the time of a block, whatever times its samples have; since the
    /// start at most.
    pub fn is_idle(&self, tenant: &str) -> bool {
        self.known(tenant).is_none_or(|tenant| self.sends_nothing(&tenant))
    }

    fn sends_nothing(&self, tenant: &Tenant) -> bool {
        let idle_time = tenant.arrivals.idle_time(tenant.stats().samples.total());
        idle_time.as_millis() as i64 >= self.options.block_range_ms
    }

    /// Takes a snapshot of all heads; appends after it are refused. To be called before the process ends.
    pub async fn close(self: &Arc<Self>) -> Result<(), Error> {
        self.is_closed.store(true, Ordering::Release);
        self.snapshot().await
    }

    /// Takes a snapshot of all heads, so that a start reads that instead of the logs so far.
    pub async fn snapshot(self: &Arc<Self>) -> Result<(), Error> {
        self.on_thread("snapshot", |ingest| {
            let _one_at_a_time = ingest.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
            ingest.snapshot_all()
        })
        .await
    }

    /// Forgets `tenant`, whose heads must be empty, and removes its folder with all of its blocks.
    pub async fn remove_tenant(self: &Arc<Self>, tenant: &str) -> Result<(), Error> {
        let name = tenant.to_owned();
        self.on_thread("remove", move |ingest| {
            let _one_at_a_time = ingest.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(tenant) = ingest.known(&name) else { return Ok(()) };
            tenant.is_leaving.store(true, Ordering::Release);
            if let Err(error) = ingest.remove_heads(&tenant) {
                tenant.is_leaving.store(false, Ordering::Release);
                return Err(error);
            }
            ingest.tenants.write().unwrap_or_else(PoisonError::into_inner).remove(&*name);
            tenant.blocks.all().iter().for_each(|block| block.opened().hold_files());
            let dir = ingest.tenant_dir(&name);
            match std::fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file(&dir, error)),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Removes the heads of a tenant that takes nothing any more, if they are empty: what was appended
    /// before is in them by the time the shards answer.
    fn remove_heads(&self, tenant: &Arc<Tenant>) -> Result<(), Error> {
        let series: u64 = self.change_all(tenant, |head| head.stats().series)?.into_iter().sum();
        if series > 0 {
            let name = &tenant.name;
            return Err(Error::invalid(format!("tenant {name} has series in its head: flush it first")));
        }
        for partition in 0..self.partitions() {
            let (sender, receiver) = flume::bounded(1);
            let name = Arc::clone(&tenant.name);
            self.ask_waiting(partition, move |partition| partition.remove(&name, move |done| drop(sender.send(done))))?;
            answer(receiver.recv())??;
        }
        Ok(())
    }

    /// Runs `work` on a thread of its own; waits for it without blocking.
    async fn on_thread<T: Send + 'static>(
        self: &Arc<Self>,
        name: &str,
        work: impl FnOnce(&Arc<Self>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = flume::bounded(1);
        let ingest = Arc::clone(self);
        let body = move || {
            let outcome = work(&ingest);
            drop(ingest);
            drop(sender.send(outcome));
        };
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        spawned.map_err(|error| Error::new(ErrorKind::Unavailable, format!("no thread for {name}: {error}")))?;
        let panicked = |_| Error::new(ErrorKind::Bug, "maintenance of heads panicked");
        receiver.recv_async().await.map_err(panicked)?
    }

    /// Cuts what is due of one tenant.
    fn flush_tenant(&self, tenant: &Arc<Tenant>, what: Flush, flushed: &mut Flushed) -> Result<(), Error> {
        let (range_ms, is_idle) = (self.options.block_range_ms, self.sends_nothing(tenant));
        let mut has_cut = self.finish_cut(tenant, &mut flushed.blocks)?;
        flushed.has_cut |= has_cut;
        loop {
            let ranges = self.change_all(tenant, |head| head.range_in_order())?;
            let start = ranges.iter().flatten().map(|range| range.0).min();
            let end = ranges.iter().flatten().map(|range| range.1).max();
            let (Some(start), Some(end)) = (start, end) else { break };
            let until = start.div_euclid(range_ms).saturating_add(1).saturating_mul(range_ms);
            let is_over = is_idle && now_ms().saturating_sub(until) > range_ms / 2;
            let is_due = is_over || end.saturating_sub(start) > range_ms / 2 * 3;
            // Where heads have the memory that they may, what no sample in order comes before goes as soon as it is
            // worth a block.
            let is_pressed = !is_due && end.saturating_sub(start) > range_ms / 4 * 3 && self.is_short_of_memory();
            let until = match what {
                Flush::Due if is_pressed => until.min(end.saturating_sub(range_ms / 2)),
                Flush::Due if !is_due => break,
                Flush::Due => until,
                Flush::All => until.min(end.saturating_add(1)),
            };
            if until <= start {
                // The times of a block end before one that there is: samples at the last of all times stay.
                break;
            }
            self.cut_in_order(tenant, (start, until), &mut flushed.blocks)?;
            has_cut = true;
            flushed.has_cut = true;
        }
        // Where little or nothing comes in order, late samples do not wait for that: heads and logs would only grow.
        if has_cut || what == Flush::All || tenant.late_cuts.are_due(range_ms) {
            flushed.has_cut |= self.cut_late(tenant, &mut flushed.blocks)?;
            tenant.late_cuts.done();
        }
        Ok(())
    }

    fn is_short_of_memory(&self) -> bool {
        self.options.memory.as_ref().is_some_and(|memory| memory.is_passed())
    }

    pub(super) fn cut_in_order(
        &self,
        tenant: &Arc<Tenant>,
        (start, until): (i64, i64),
        blocks: &mut Vec<CutBlock>,
    ) -> Result<(), Error> {
        let mut excerpts = Vec::new();
        tenant.valid_from.fetch_max(until, Ordering::AcqRel);
        self.change_parts(tenant, |from| move |head: &mut Head| head.freeze(until, from), |part| excerpts.push(part))?;
        // A sample from before the first may have come until the heads were frozen.
        let starts = excerpts.iter().filter_map(Excerpt::time_range).map(|range| range.min_time);
        let start = starts.min().map_or(start, |first| first.min(start));
        let meta = self.meta(tenant, (start, until), CutKind::InOrder);
        let cut = Cut { phase: CutPhase::Intended, kind: CutKind::InOrder, until, blocks: vec![meta.ulid] };
        self.record_cut(tenant, &cut)?;
        self.write_cut(tenant, excerpts, cut, [meta])?;
        self.finish_cut(tenant, blocks).map(drop)
    }

    /// Cuts late samples into blocks of their own, one for each block's time; whether there were any.
    fn cut_late(&self, tenant: &Arc<Tenant>, blocks: &mut Vec<CutBlock>) -> Result<bool, Error> {
        match self.write_late(tenant) {
            Ok(true) => self.finish_cut(tenant, blocks),
            Ok(false) => Ok(false),
            Err(error) => {
                // What comes late at the same times is a conflict as before.
                self.change_all(tenant, |head| head.thaw_late())?;
                Err(error)
            }
        }
    }

    /// Writes the blocks of late samples, which stay frozen; whether there were any.
    fn write_late(&self, tenant: &Arc<Tenant>) -> Result<bool, Error> {
        let range_ms = self.options.block_range_ms;
        let excerpts = self.freeze_late(tenant)?;
        let mut starts = BTreeMap::new();
        for number in excerpts.iter().flat_map(|excerpt| block_numbers(excerpt, range_ms)) {
            let start = number.saturating_mul(range_ms);
            let span = (start, (number + 1).saturating_mul(range_ms));
            starts.entry(start).or_insert_with(|| self.meta(tenant, span, CutKind::OutOfOrder));
        }
        let Some(until) = starts.keys().next_back().map(|start| start.saturating_add(range_ms)) else {
            return Ok(false);
        };
        // The block of the latest sample comes last: when it is there, so are all others.
        let ids = starts.values().map(|meta| meta.ulid).collect();
        let intent = Cut { phase: CutPhase::Intended, kind: CutKind::OutOfOrder, until, blocks: ids };
        self.record_cut(tenant, &intent)?;
        self.write_cut(tenant, excerpts, intent, starts.into_values())?;
        Ok(true)
    }

    fn freeze_late(&self, tenant: &Arc<Tenant>) -> Result<Vec<Excerpt>, Error> {
        let mut waiting = Vec::new();
        for partition in 0..self.partitions() {
            let tenant = Arc::clone(tenant);
            waiting.push(self.ask_waiting(partition, move |own| own.freeze_late(&tenant))?);
        }
        // All are waited for: one that comes after another's refusal would freeze what that had thawed.
        let frozen: Vec<Result<Option<Excerpt>, Error>> =
            waiting.into_iter().map(|receiver| answer(receiver.recv())??).collect();
        let mut excerpts = Vec::new();
        for one in frozen {
            excerpts.extend(one?);
        }
        Ok(excerpts)
    }

    /// Writes the blocks of a cut, which is unfinished from then on.
    fn write_cut(
        &self,
        tenant: &Tenant,
        excerpts: Vec<Excerpt>,
        intent: Cut,
        metas: impl IntoIterator<Item = Meta>,
    ) -> Result<(), Error> {
        let dir = self.tenant_dir(&tenant.name);
        let count = |chunks: &ChunkShapes, took| tenant.cuts().written(chunks, took);
        tenant.cuts().is_writing = true;
        let blocks = write_blocks(&dir, excerpts, (intent.kind, metas), count);
        tenant.cuts().is_writing = false;
        let blocks = blocks?;
        let ids = blocks.iter().map(|meta| meta.ulid).collect();
        let cut = Cut { phase: CutPhase::Done, blocks: ids, ..intent };
        *tenant.unfinished() = Some(Unfinished { cut, blocks });
        Ok(())
    }

    /// Makes the blocks of the cut that is unfinished readable, records that they are there, and lets their samples
    /// leave the heads; whether there was one. What fails is tried again by the next flush.
    fn finish_cut(&self, tenant: &Arc<Tenant>, blocks: &mut Vec<CutBlock>) -> Result<bool, Error> {
        let Some(mut unfinished) = tenant.unfinished().take() else { return Ok(false) };
        let finished = self.finish(tenant, &mut unfinished, blocks);
        tenant.cuts().truncations += 1;
        if finished.is_err() {
            tenant.cuts().truncations_failed += 1;
            *tenant.unfinished() = Some(unfinished);
        }
        finished?;
        self.sweep(tenant)?;
        Ok(true)
    }

    fn finish(
        &self,
        tenant: &Arc<Tenant>,
        Unfinished { cut, blocks: unread }: &mut Unfinished,
        blocks: &mut Vec<CutBlock>,
    ) -> Result<(), Error> {
        while let Some(meta) = unread.first() {
            let path = self.tenant_dir(&tenant.name).join(meta.ulid.to_string());
            self.insert_block(tenant, (meta.ulid, &path))?;
            blocks.push(CutBlock { tenant: Arc::clone(&tenant.name), meta: unread.remove(0), path });
        }
        self.record_cut(tenant, cut)?;
        let until = cut.until;
        match cut.kind {
            CutKind::InOrder => {
                self.change_parts(tenant, |from| move |head: &mut Head| ((), head.truncate(until, from)), |()| {})
            }
            CutKind::OutOfOrder => self.change_all(tenant, |head| head.truncate_late()).map(drop),
        }
    }

    /// Records `cut` in all logs, durably.
    fn record_cut(&self, tenant: &Arc<Tenant>, cut: &Cut) -> Result<(), Error> {
        let mut waiting = Vec::new();
        for partition in 0..self.partitions() {
            let (sender, receiver) = flume::bounded(1);
            let (name, cut) = (Arc::clone(&tenant.name), cut.clone());
            self.ask_waiting(partition, move |own| own.record_cut(&name, &cut, move |done| drop(sender.send(done))))?;
            waiting.push(receiver);
        }
        waiting.into_iter().try_for_each(|receiver| answer(receiver.recv())?)
    }

    /// Removes series that nothing is left of, step by step between other work.
    fn sweep(&self, tenant: &Arc<Tenant>) -> Result<(), Error> {
        let (begin, mut parts) = (Instant::now(), 0);
        // A head that is done would begin again: each is asked for as long as it has more to do itself.
        let step = |_| |head: &mut Head| ((), head.sweep().then_some(0));
        self.change_parts(tenant, step, |()| parts += 1)?;
        let mut cuts = tenant.cuts();
        cuts.sweeps += 1;
        cuts.sweep_parts += parts;
        cuts.sweep_ns += begin.elapsed().as_nanos() as u64;
        Ok(())
    }

    /// Changes the tenant's head of each partition part by part, with other work in between: `change`
    /// makes the change of the part that begins somewhere, which says where the next one does; `take` gets
    /// what it gives.
    fn change_parts<T: Send + 'static, C>(
        &self,
        tenant: &Arc<Tenant>,
        change: impl Fn(u32) -> C,
        mut take: impl FnMut(T),
    ) -> Result<(), Error>
    where
        C: FnOnce(&mut Head) -> (T, Option<u32>) + Send + 'static,
    {
        for partition in 0..self.partitions() {
            let mut from = Some(0);
            while let Some(start) = from {
                let (tenant, change) = (Arc::clone(tenant), change(start));
                let changed = self.ask_waiting(partition, move |own| own.change(&tenant, change))?;
                let Some((part, next)) = answer(changed.recv())?? else { break };
                take(part);
                from = next;
            }
        }
        Ok(())
    }

    /// What `change` gives of the tenant's head of each partition.
    fn change_all<T: Send + 'static>(
        &self,
        tenant: &Arc<Tenant>,
        change: impl Fn(&mut crate::head::Head) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, Error> {
        let mut waiting = Vec::new();
        for partition in 0..self.partitions() {
            let (tenant, change) = (Arc::clone(tenant), change.clone());
            waiting.push(self.ask_waiting(partition, move |own| own.change(&tenant, change))?);
        }
        let mut all = Vec::new();
        for receiver in waiting {
            all.extend(answer(receiver.recv())??);
        }
        Ok(all)
    }

    fn meta(&self, tenant: &Tenant, (min_time, max_time): (i64, i64), kind: CutKind) -> Meta {
        let random = || u128::from(std::collections::hash_map::RandomState::new().build_hasher().finish());
        let id = BlockId::from_parts(now_ms().max(0) as u64, random() << 64 | random());
        let mut meta = Meta::new(id, min_time, max_time);
        if kind == CutKind::OutOfOrder {
            meta.compaction.hints.push(OUT_OF_ORDER_HINT.to_owned());
        }
        let labels = tenant.labels().to_map();
        meta.thanos =
            Some(Thanos { version: Some(1), labels, source: source::RECEIVE.to_owned(), ..Thanos::default() });
        meta
    }

    /// Whether a snapshot has failed and is to be tried again: logs hold what has left the heads until then.
    fn is_snapshot_due(&self) -> bool {
        let failed = *self.snapshot_failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|failed| failed.elapsed() >= SNAPSHOT_RETRY_INTERVAL)
    }

    /// A snapshot, counted. One that is whole is no failure though what it makes needless stays, which is told.
    fn snapshot_all(&self) -> Result<(), Error> {
        let begin = Instant::now();
        let (counter, failed, outcome) = match self.write_snapshots() {
            Ok(removed) => (&self.snapshots, None, removed),
            Err(error) => (&self.snapshots_failed, Some(begin), Err(error)),
        };
        *self.snapshot_failed_at.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        self.snapshot_us.fetch_add(begin.elapsed().as_micros() as u64, Ordering::Relaxed);
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// A snapshot of each partition: a new segment first, then the heads part by part between other work. It would
    /// forget that a cut was intended whose blocks are there, so that their samples would be cut again. Gives what
    /// became of the removal of what it makes needless, without which it is whole.
    fn write_snapshots(&self) -> Result<Result<(), Error>, Error> {
        if let Some(name) =
            self.tenants().into_iter().find(|name| self.known(name).is_some_and(|of| of.unfinished().is_some()))
        {
            let why = format!("tenant {name}: a cut is unfinished, which a snapshot has to wait for");
            return Err(Error::new(ErrorKind::Unavailable, why));
        }
        let mut removed = Ok(());
        for partition in 0..self.partitions() {
            let (sender, receiver) = flume::bounded(1);
            self.writers[partition].rotate(move |number| drop(sender.send(number)));
            let number = answer(receiver.recv())??;
            let names = self.ask_waiting(partition, |own| own.heads.keys().map(Arc::clone).collect::<Vec<_>>())?;
            let names: Arc<[Arc<str>]> = answer(names.recv())??.into();
            let mut at = Some((0, Position::START));
            let folder = self.options.data_dir.join(super::OWN_FOLDER).join("wal").join(format!("{partition:03}"));
            write_snapshot(&folder, number, || {
                let Some(from) = at else { return Ok(None) };
                let names = Arc::clone(&names);
                let part = self.ask_waiting(partition, move |own| own.snapshot_part(&names, from))?;
                let (records, next) = answer(part.recv())??;
                at = next;
                Ok(Some(records))
            })?;
            self.removals.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = remove_before(&folder, number) {
                self.removals_failed.fetch_add(1, Ordering::Relaxed);
                removed = removed.and(Err(error));
            }
        }
        Ok(removed)
    }
}
