//! One partition, as its shard owns it: the heads of all tenants and the way to their log.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Tenant;
use crate::head::excerpt::Excerpt;
use crate::head::snapshot::Position;
use crate::head::{AppendLimits, Head, Options, WriteBatch, WriteReport};
use crate::model::{Error, ErrorKind};
use crate::wal::writer::{COMMIT_BYTES_MAX, EndOnPanic};
use crate::wal::{Cut, CutKind, CutPhase, Recorder, Writer};

/// The partition that keeps what is said of metric families, which are of no one series.
pub(super) const FAMILIES: usize = 0;

/// Heads and log of one partition.
pub struct Partition {
    pub(super) index: usize,
    pub(super) options: Options,
    pub(super) heads: HashMap<Arc<str>, OwnedHead>,
    pub(super) next_number: u32,
    pub(super) writer: Arc<Writer>,
    pub(super) recorder: Recorder,
}

/// The head of one tenant and the number that its log knows it by.
pub(super) struct OwnedHead {
    pub(super) number: u32,
    pub(super) head: Head,
}

/// Refuses a batch whose records a log can't take, before anything of it is appended.
pub(super) fn check_size(batch: &WriteBatch) -> Result<(), Error> {
    let bytes = batch.record_bytes_max();
    if bytes <= COMMIT_BYTES_MAX {
        return Ok(());
    }
    let (series, samples) = (batch.series_len(), batch.samples_len() + batch.histograms_len());
    Err(Error::invalid(format!(
        "{series} series with {samples} samples may take {bytes} bytes of the WAL, of {COMMIT_BYTES_MAX} that a \
         request may take: send fewer at once"
    )))
}

impl Partition {
    /// Appends the series numbered `rows` of `batch`; `reply` is called when what was taken is durable.
    pub(super) fn append(
        &mut self,
        tenant: &Tenant,
        (batch, rows): (&WriteBatch, &[u32]),
        limits: AppendLimits,
        reply: impl FnOnce(Result<WriteReport, Error>) + Send + 'static,
    ) {
        let _guard = EndOnPanic;
        if let Some(refusal) = self.writer.refusal() {
            return reply(Err(refusal));
        }
        if tenant.is_leaving.load(Ordering::Acquire) {
            let message = format!("tenant {} is being removed as it was idle: send again", tenant.name);
            return reply(Err(Error::new(ErrorKind::Unavailable, message)));
        }
        let (mut recorder, index) = (std::mem::take(&mut self.recorder), self.index);
        recorder.reuse(|| self.writer.room());
        let own = self.head(tenant, &mut recorder);
        let is_limited = limits.series_left.is_some();
        let report = own.head.append((batch, rows), limits, (own.number, &mut recorder));
        if index == FAMILIES {
            own.head.note_families(batch, (own.number, &mut recorder));
        }
        tenant.parts[index].publish(&own.head);
        if is_limited && report.series_created > 0 {
            tenant.series_published.fetch_add(report.series_created, Ordering::Release);
        }
        self.recorder = recorder;
        // A sample that was there already may still be on its way to the disk, so that also a request
        // that changed nothing waits for those before it.
        let records = self.recorder.take();
        self.writer.commit(records, Box::new(move |durable| reply(durable.map(|()| report))));
    }

    /// Records that samples of `tenant` leave its head; `done` is called when that is durable.
    pub(super) fn record_cut(
        &mut self,
        tenant: &str,
        cut: &Cut,
        done: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) {
        let _guard = EndOnPanic;
        if let Some(refusal) = self.writer.refusal() {
            return done(Err(refusal));
        }
        if let Some(own) = self.heads.get(tenant) {
            self.recorder.cut(own.number, cut);
        }
        self.writer.commit(self.recorder.take(), Box::new(done));
    }

    /// Freezes the late samples of the head of `tenant`, and records behind which of them: what comes late from now on
    /// is in no block of this cut. `None` when it has no head.
    pub(super) fn freeze_late(&mut self, tenant: &Tenant) -> Result<Option<Excerpt>, Error> {
        let _guard = EndOnPanic;
        if let Some(refusal) = self.writer.refusal() {
            return Err(refusal);
        }
        let Some(own) = self.heads.get_mut(&tenant.name) else { return Ok(None) };
        let frozen = own.head.freeze_late();
        if !frozen.is_empty() {
            let (phase, kind) = (CutPhase::Intended, CutKind::OutOfOrder);
            // It goes to the log in front of whatever is recorded next.
            self.recorder.cut(own.number, &Cut { phase, kind, until: i64::MIN, blocks: Vec::new() });
        }
        Ok(Some(frozen))
    }

    /// Changes the head of `tenant`; `None` when it has none.
    pub(super) fn change<T>(&mut self, tenant: &Tenant, change: impl FnOnce(&mut Head) -> T) -> Option<T> {
        let _guard = EndOnPanic;
        let own = self.heads.get_mut(&tenant.name)?;
        let changed = change(&mut own.head);
        tenant.parts[self.index].publish(&own.head);
        Some(changed)
    }

    /// The head of `tenant`; `None` when it has none.
    pub(super) fn look(&self, tenant: &str) -> Option<&Head> {
        Some(&self.heads.get(tenant)?.head)
    }

    /// Forgets `tenant`, durably when `done` is called.
    pub(super) fn remove(&mut self, tenant: &str, done: impl FnOnce(Result<(), Error>) + Send + 'static) {
        let _guard = EndOnPanic;
        if let Some(refusal) = self.writer.refusal() {
            return done(Err(refusal));
        }
        if let Some(own) = self.heads.remove(tenant) {
            self.recorder.removed(own.number);
        }
        self.writer.commit(self.recorder.take(), Box::new(done));
    }

    /// The next part of a snapshot of all heads: those of the tenants `names`, from tenant and place `at` on. Gives
    /// the records and where to go on.
    pub(super) fn snapshot_part(
        &self,
        names: &[Arc<str>],
        at: (usize, Position),
    ) -> (Vec<u8>, Option<(usize, Position)>) {
        let (tenant, from) = at;
        let Some(name) = names.get(tenant) else { return (Vec::new(), None) };
        let mut recorder = Recorder::default();
        let next = self.heads.get(name).and_then(|own| {
            if from == Position::START {
                recorder.tenant(own.number, name);
            }
            own.head.snapshot_part(own.number, from, &mut recorder)
        });
        let next = match next {
            Some(from) => Some((tenant, from)),
            None => (tenant + 1 < names.len()).then_some((tenant + 1, Position::START)),
        };
        (recorder.take(), next)
    }

    fn head(&mut self, tenant: &Tenant, recorder: &mut Recorder) -> &mut OwnedHead {
        let (options, next_number) = (self.options, &mut self.next_number);
        self.heads.entry(Arc::clone(&tenant.name)).or_insert_with(|| {
            let number = *next_number;
            *next_number += 1;
            recorder.tenant(number, &tenant.name);
            let mut head = Head::new(options, tenant.valid_from.load(Ordering::Acquire));
            head.share_exemplars(Arc::clone(&tenant.exemplar_clock), &[]);
            OwnedHead { number, head }
        })
    }
}
