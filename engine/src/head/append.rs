//! Samples into series: which series they belong to, whether they are taken, and the records of what
//! was.
//!
//! Series of a batch are looked for [`AHEAD`] at a time; while they are appended to, the memory of those
//! that come later is asked for, [`BURST`] at once, so that misses overlap with work and with each other: first
//! their lines, [`AHEAD`] series before, then the ends of their chunks, [`DATA_AHEAD`] series before. Of series that
//! are new there are slots only, which are asked for a part before they are looked at.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::batch::HistogramRow;
use super::create::Located;
use super::exemplars::{Kept, Latest};
use super::out_of_order::{Inserted, OutOfOrder};
use super::recent::Recent;
use super::series::{Key, Line, Meta, NATIVE};
use super::{Head, Metadata, SeriesHash, StartTimes, WriteBatch};
use crate::codec::{EncodedLabels, LabelFault};
use crate::model::value::is_stale_nan;
use crate::model::{Ceiling, Error, HistogramValue, TimeRange};
use crate::simd::prefetch;
use crate::wal::record::{ExemplarRecord, FloatRows, MetadataRecord};
use crate::wal::{Order, Recorder};

/// Series that are looked for at once.
const AHEAD: usize = 64;

/// How many series before its turn the end of a series' chunk is asked for: about as many as a core can wait for.
const DATA_AHEAD: usize = 16;

/// Series whose memory is asked for at once: half of what a core can wait for, as lines and data are asked for
/// together.
const BURST: usize = 8;

const _: () = assert!(AHEAD.is_multiple_of(BURST) && DATA_AHEAD <= AHEAD, "what is ahead is found already");

/// No series has this number.
const NONE: u32 = u32::MAX;

/// Labels that a series has at most; the names of more don't fit where their number is noted.
pub const LABELS_MAX: usize = u16::MAX as usize;

/// What ends an append besides what the head itself knows.
#[derive(Clone, Debug)]
pub struct AppendLimits {
    /// Samples after this time (Unix milliseconds) are too far in the future.
    pub time_max: i64,
    /// Series that may still be created, by all heads of the tenant; none: any number.
    pub series_left: Option<SeriesLeft>,
    /// Unix milliseconds of the latest sample that all heads of the tenant had before this batch: how far
    /// samples may be behind does not depend on which head their series is in.
    pub latest_time: i64,
    /// What the process may become by new series; none: of any size.
    pub memory: Option<Arc<Ceiling>>,
}

/// Series that a tenant may still get, by all its batches that are under way together.
#[derive(Clone, Debug)]
pub struct SeriesLeft {
    /// Series that were created under a limit since the tenant is known, by all its heads.
    pub taken: Arc<AtomicU64>,
    /// How many they may come to.
    pub taken_max: u64,
}

impl AppendLimits {
    /// Takes one of the series that may still be created; whether there was one.
    pub(super) fn take_series(&self) -> bool {
        let Some(left) = &self.series_left else { return true };
        let more = |taken: u64| (taken < left.taken_max).then_some(taken + 1);
        left.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// Why a sample or exemplar was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Earlier than the latest sample of its series.
    OutOfOrder,
    /// Earlier than what the head still takes.
    OutOfBounds,
    /// Out of order and behind the out-of-order window.
    TooOld,
    /// There is a sample of another value at its time.
    DuplicateTimestamp,
    /// After the time that samples may have.
    TooFarInFuture,
    /// After all times that can be asked for. With it nothing else could be taken, and times of blocks overflow.
    BeyondAllTime,
    /// Its series is new and there may be no more.
    SeriesLimit,
    /// Its series is new and the process has as much memory as it may.
    NoMemory,
    /// The histogram is not consistent.
    InvalidHistogram,
    /// The exemplar is earlier than the latest that its series had before the batch.
    ExemplarOutOfOrder,
    /// The exemplar is earlier than another of its series and batch.
    ExemplarOvertaken,
    /// The labels of the exemplar are too long.
    ExemplarTooLong,
    /// The exemplar's series has no samples.
    ExemplarWithoutSeries,
}

/// What a sample or exemplar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectedKind {
    /// A sample of a float.
    Float,
    /// A sample of a native histogram.
    Histogram,
    /// An exemplar.
    Exemplar,
}

/// A sample or exemplar that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// What it is.
    pub kind: RejectedKind,
    /// Number of its series within the batch.
    pub series: u32,
    /// Unix milliseconds.
    pub time: i64,
    /// Why.
    pub reason: Reason,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteReport {
    /// Floats taken.
    pub samples: u64,
    /// Histograms taken.
    pub histograms: u64,
    /// Exemplars taken; all that are sound, where none are kept.
    pub exemplars: u64,
    /// Of all these, those that were there already.
    pub duplicates: u64,
    /// Series that are new.
    pub series_created: u64,
    /// Floats and histograms that were not taken.
    pub rejected: Vec<Rejected>,
    /// Exemplars that were not taken.
    pub rejected_exemplars: Vec<Rejected>,
    /// Series that were left out.
    pub bad_labels: BadLabels,
    /// Series of which nothing was taken, as bytes that were to be their labels are not in canonical form.
    pub unread: Vec<Unread>,
    /// What memory there is, where samples were not taken for [`Reason::NoMemory`].
    pub no_memory: Option<Error>,
}

/// A series that is to be read in another way.
#[derive(Clone, Debug, PartialEq)]
pub struct Unread {
    /// What was to be its labels.
    pub labels: Vec<u8>,
    /// Its samples: Unix milliseconds and value.
    pub samples: Vec<(i64, f64)>,
}

/// Series that were left out, by what is wrong with their labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BadLabels {
    /// [`LabelFault::OutOfOrder`].
    pub out_of_order: u64,
    /// [`LabelFault::Duplicate`].
    pub duplicate: u64,
    /// [`LabelFault::Empty`].
    pub empty: u64,
    /// [`LabelFault::NotUtf8`].
    pub not_utf8: u64,
    /// More labels than a series may have.
    pub too_many: u64,
    /// References that name no symbol, of series and of exemplars.
    pub unresolved: u64,
}

impl BadLabels {
    /// Counts a series.
    pub fn count(&mut self, fault: LabelFault) {
        *match fault {
            LabelFault::OutOfOrder => &mut self.out_of_order,
            LabelFault::Duplicate => &mut self.duplicate,
            LabelFault::Empty => &mut self.empty,
            LabelFault::NotUtf8 => &mut self.not_utf8,
        } += 1;
    }

    /// Adds other series.
    pub fn add(&mut self, other: Self) {
        self.out_of_order += other.out_of_order;
        self.duplicate += other.duplicate;
        self.empty += other.empty;
        self.not_utf8 += other.not_utf8;
        self.too_many += other.too_many;
        self.unresolved += other.unresolved;
    }
}

impl WriteReport {
    /// Adds what became of another part of the batch.
    pub fn add(&mut self, other: Self) {
        self.samples += other.samples;
        self.histograms += other.histograms;
        self.exemplars += other.exemplars;
        self.duplicates += other.duplicates;
        self.series_created += other.series_created;
        self.rejected.extend(other.rejected);
        self.rejected_exemplars.extend(other.rejected_exemplars);
        self.bad_labels.add(other.bad_labels);
        self.unread.extend(other.unread);
        self.no_memory = self.no_memory.take().or(other.no_memory);
    }
}

/// What is to be done with a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    InOrder,
    Late,
    /// It is there.
    Duplicate,
    Refused(Reason),
}

/// Buffers that are used again.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    kept: FloatRows,
    late: FloatRows,
    pub(super) created: Vec<(u32, u32)>,
}

/// What one batch appends, until it is recorded.
pub(super) struct Pass<'a> {
    pub(super) batch: &'a WriteBatch,
    pub(super) limits: AppendLimits,
    /// No sample before this is taken in order.
    floor: i64,
    /// No sample before this is taken out of order: as far behind the latest sample before this batch as
    /// the window is long, so that samples of one batch do not make each other too old.
    late_from: i64,
    pub(super) report: WriteReport,
    pub(super) tenant: u32,
    pub(super) recorder: &'a mut Recorder,
    pub(super) scratch: Scratch,
    /// Labels of the series that was created last.
    pub(super) located: Located<'a>,
    /// Series that were created after others were looked for.
    pub(super) recent: Recent,
    natives: Vec<(u32, i64, &'a HistogramValue)>,
    late_natives: Vec<(u32, i64, &'a HistogramValue)>,
    exemplars: Vec<ExemplarRecord<'a>>,
    /// What series had as their latest exemplar before the batch, where it has some of them.
    latest_exemplars: HashMap<u32, Option<Latest>>,
    metadata: Vec<MetadataRecord<'a>>,
}

impl<'a> Pass<'a> {
    /// Records what was taken since the last time.
    pub(super) fn record(&mut self) {
        let batch = self.batch;
        let labels = |(row, number): &(u32, u32)| (*number, batch.labels(*row));
        self.recorder.series(self.tenant, self.scratch.created.iter().map(labels));
        self.recorder.floats(self.tenant, Order::Kept, &self.scratch.kept);
        self.recorder.floats(self.tenant, Order::Broken, &self.scratch.late);
        self.recorder.histograms(self.tenant, Order::Kept, self.natives.drain(..));
        self.recorder.histograms(self.tenant, Order::Broken, self.late_natives.drain(..));
        self.scratch.created.clear();
        self.scratch.kept.clear();
        self.scratch.late.clear();
    }

    /// Notes a float that was taken in order. Replay takes floats and histograms in the order in which
    /// they are recorded, so that neither overtakes the other.
    #[inline]
    pub(super) fn keep_float(&mut self, number: u32, time: i64, value: f64) {
        if !self.natives.is_empty() {
            self.record();
        }
        self.scratch.kept.push(number, time, value);
    }

    /// Notes a sample that was not taken.
    pub(super) fn refuse(&mut self, (series, time, kind): (u32, i64, RejectedKind), reason: Reason) {
        self.report.rejected.push(Rejected { kind, series, time, reason });
    }

    fn keep_native(&mut self, number: u32, time: i64, value: &'a HistogramValue) {
        if !self.scratch.kept.refs.is_empty() {
            self.record();
        }
        self.natives.push((number, time, value));
        self.report.histograms += 1;
    }
}

impl Head {
    /// Appends the series numbered `rows` of `batch`; what was taken goes to `recorder` as the tenant
    /// numbered `tenant`.
    pub fn append(
        &mut self,
        (batch, rows): (&WriteBatch, &[u32]),
        limits: AppendLimits,
        (tenant, recorder): (u32, &mut Recorder),
    ) -> WriteReport {
        let (floor, late_from) = (self.floor(limits.latest_time), self.late_from(limits.latest_time));
        let mut pass = Pass {
            batch,
            limits,
            floor,
            late_from,
            report: WriteReport::default(),
            tenant,
            recorder,
            scratch: std::mem::take(&mut self.scratch),
            located: Located::default(),
            recent: Recent::default(),
            natives: Vec::new(),
            late_natives: Vec::new(),
            exemplars: Vec::new(),
            latest_exemplars: HashMap::new(),
            metadata: Vec::new(),
        };
        let begin = Instant::now();
        let mut parts = rows.chunks(AHEAD);
        let mut part = parts.next().unwrap_or_default();
        // Of the part at hand and of the next.
        let mut found = [self.find_part(batch, part), [NONE; AHEAD]];
        found[0].chunks(BURST).for_each(|ids| self.fetch_lines(ids));
        self.fetch_data(&found[0][..DATA_AHEAD]);
        self.stats.lookup_ns += begin.elapsed().as_nanos() as u64;
        while !part.is_empty() {
            let lookup = Instant::now();
            let next = parts.next().unwrap_or_default();
            found[1] = self.find_part(batch, next);
            self.stats.lookup_ns += lookup.elapsed().as_nanos() as u64;
            pass.recent.begin_part();
            // New series mostly follow each other, and of none is it foretold where it is.
            let behind = parts.clone().next().filter(|_| found[1][AHEAD - 1] == NONE);
            let mut behind = behind.unwrap_or_default().iter();
            for (burst, at) in part.chunks(BURST).zip((0..).step_by(BURST)) {
                let ids = &found.as_flattened()[at..];
                self.fetch_data(&ids[DATA_AHEAD..][..BURST]);
                self.fetch_lines(&ids[AHEAD..][..BURST]);
                for (row, id) in burst.iter().zip(ids) {
                    if let Some(row) = behind.next() {
                        self.table.prefetch(batch.check(*row));
                    }
                    self.append_series(*row, *id, &mut pass);
                }
            }
            (part, found[0]) = (next, found[1]);
        }
        self.postings.settle(0);
        pass.record();
        pass.recorder.exemplars(tenant, &pass.exemplars);
        pass.recorder.metadata(tenant, &pass.metadata);
        pass.report.rejected.iter().for_each(|rejected| self.stats.refuse(rejected));
        self.stats.append_ns += begin.elapsed().as_nanos() as u64;
        self.scratch = pass.scratch;
        pass.report
    }

    /// The time before which samples are not taken in order now: what is in blocks, what is more than half
    /// a block behind the latest sample, here or at `latest` in another head of the tenant, and what can't be
    /// asked for.
    fn floor(&self, latest: i64) -> i64 {
        let behind = self.max_time.max(latest).saturating_sub(self.options.block_range_ms / 2);
        self.min_valid_time.max(behind).max(TimeRange::ASKED.min_time)
    }

    /// The time before which samples are not taken out of order now.
    fn late_from(&self, latest: i64) -> i64 {
        match self.options.out_of_order_window_ms {
            0 => i64::MAX,
            window => self.max_time.max(latest).saturating_sub(window).max(TimeRange::ASKED.min_time),
        }
    }

    /// Finds the series numbered `part`.
    fn find_part(&mut self, batch: &WriteBatch, part: &[u32]) -> [u32; AHEAD] {
        let mut found = [NONE; AHEAD];
        // Series mostly come in the order in which they came first, which the table need not be asked for.
        let keys = self.keys.iter_from(self.next_id as usize);
        let is_next = |(row, key): &(&u32, &Key)| **key == (batch.hash(**row), batch.check(**row));
        let in_order = part.iter().zip(keys).take_while(is_next).count();
        found[..in_order].iter_mut().zip(self.next_id..).for_each(|(found, id)| *found = id);
        self.next_id += in_order as u32;
        let (others, others_found) = (&part[in_order..], &mut found[in_order..]);
        others.iter().for_each(|row| self.table.prefetch(batch.check(*row)));
        for (row, found) in others.iter().zip(others_found) {
            if let Some(id) = self.table.find(batch.hash(*row), batch.check(*row)) {
                *found = id;
                self.next_id = id + 1;
            }
        }
        found
    }

    /// Asks for the lines of those of the series `ids` that there are, and for their numbers.
    #[inline]
    fn fetch_lines(&self, ids: &[u32]) {
        // What was created one after the other lies side by side. Where only the ends look so, lines of other series
        // are asked for, which does no harm.
        if let [first, .., last] = *ids
            && last.wrapping_sub(first) as usize == ids.len() - 1
            && let Some(lines) = self.lines.run(first as usize, ids.len())
        {
            lines.iter().for_each(prefetch);
            if let Some(number) = self.numbers.get(first as usize) {
                prefetch(number);
            }
            return;
        }
        for id in ids {
            if let (Some(line), Some(number)) = (self.lines.get(*id as usize), self.numbers.get(*id as usize)) {
                prefetch(line);
                prefetch(number);
            }
        }
    }

    /// Asks for the ends of the data of those of the series `ids` that there are, whose lines have come meanwhile.
    #[inline]
    fn fetch_data(&self, ids: &[u32]) {
        let lines = ids.iter().filter_map(|id| self.lines.get(*id as usize));
        lines.filter_map(|line| line.data.last()).for_each(prefetch);
    }

    /// Appends the series numbered `row`, which is series `found` unless it is new, or was when it was
    /// looked for.
    fn append_series(&mut self, row: u32, found: u32, pass: &mut Pass<'_>) {
        let batch = pass.batch;
        let known = match found {
            NONE if pass.recent.may_have(batch.hash(row)) => self.table.find(batch.hash(row), batch.check(row)),
            NONE => None,
            id => Some(id),
        };
        let Some(id) = known.or_else(|| self.create_wanted(row, pass)) else { return };
        let number = self.numbers[id as usize];
        let (samples, mut histograms) = (batch.samples(row), batch.histograms(row));
        let zeros = self.options.start_times == StartTimes::ZeroSamples;
        for (at, (time, value)) in samples.times.iter().zip(samples.values).enumerate() {
            if !histograms.is_empty() {
                // A float would make histograms before it come out of order.
                let before = histograms.iter().take_while(|histogram| histogram.time < *time).count();
                let (earlier, others) = histograms.split_at(before);
                self.append_natives(id, (row, number), earlier, pass);
                histograms = others;
            }
            if let Some(start) = samples.starts.get(at).filter(|_| zeros) {
                self.append_zero(id, number, (*start, *time), pass);
            }
            self.append_float(id, (row, number), (*time, *value), pass);
        }
        if batch.has_floats_only() {
            return;
        }
        self.append_natives(id, (row, number), histograms, pass);
        self.append_exemplars(id, (row, number), pass);
        for metadata in batch.metadata(row) {
            let name = batch.labels(row).pairs().find(|(name, _)| *name == crate::model::labels::METRIC_NAME);
            let Some((_, name)) = name else { continue };
            if self.take_metadata(name, metadata) {
                let Metadata { kind, help, unit } = metadata;
                pass.metadata.push(MetadataRecord { kind: kind as u8, name, help, unit });
            }
        }
    }

    fn append_exemplars(&mut self, id: u32, (row, number): (u32, u32), pass: &mut Pass<'_>) {
        let batch = pass.batch;
        for exemplar in batch.exemplars(row) {
            let value = (exemplar.time, exemplar.value);
            // A batch may have several rows of one series.
            let before = *pass.latest_exemplars.entry(id).or_insert_with(|| self.exemplars.latest(id));
            let reason = match self.exemplars.push_behind(before, id, value, exemplar.labels) {
                Kept::New => {
                    self.stats.exemplars += 1;
                    pass.report.exemplars += 1;
                    pass.exemplars.push((number, exemplar.time, exemplar.value, exemplar.labels));
                    continue;
                }
                Kept::Same => {
                    pass.report.exemplars += 1;
                    pass.report.duplicates += 1;
                    continue;
                }
                // As Prometheus counts them, so that their sender does not take them for lost.
                Kept::Disabled => {
                    pass.report.exemplars += 1;
                    continue;
                }
                Kept::OutOfOrder => Reason::ExemplarOutOfOrder,
                Kept::Overtaken => {
                    self.stats.exemplars_out_of_order += 1;
                    Reason::ExemplarOvertaken
                }
                Kept::TooLong => Reason::ExemplarTooLong,
            };
            let kind = RejectedKind::Exemplar;
            pass.report.rejected_exemplars.push(Rejected { kind, series: row, time: exemplar.time, reason });
        }
    }

    /// The series of these labels.
    #[inline]
    pub(super) fn find_series(&self, labels: EncodedLabels<'_>) -> Option<u32> {
        let (hash, check) = SeriesHash::with_check(labels);
        self.table.find(hash, check)
    }

    /// Why a sample at `time` is refused whatever its series; `None` when it isn't.
    pub(super) fn bounds(&self, time: i64, pass: &Pass<'_>) -> Option<Reason> {
        if time > pass.limits.time_max {
            let is_time = time <= TimeRange::ASKED.max_time;
            return Some(if is_time { Reason::TooFarInFuture } else { Reason::BeyondAllTime });
        }
        if time >= pass.floor || time >= pass.late_from {
            return None;
        }
        Some(if self.options.out_of_order_window_ms > 0 { Reason::TooOld } else { Reason::OutOfBounds })
    }

    /// Where a sample at `time` of series `id` goes; `same` says whether one at the time of the last is
    /// that one.
    #[inline]
    pub(super) fn place(&self, id: u32, time: i64, pass: &Pass<'_>, same: impl FnOnce(&Line, &Meta) -> bool) -> Place {
        let line = &self.lines[id as usize];
        if time > line.tail.last_time() && time >= pass.floor && time <= pass.limits.time_max {
            return Place::InOrder;
        }
        if let Some(reason) = self.bounds(time, pass) {
            return Place::Refused(reason);
        }
        if time == line.tail.last_time() && time >= pass.floor {
            let same = same(line, &self.metas[id as usize]);
            return if same { Place::Duplicate } else { Place::Refused(Reason::DuplicateTimestamp) };
        }
        if self.options.out_of_order_window_ms == 0 {
            return Place::Refused(Reason::OutOfOrder);
        }
        if time >= pass.late_from { Place::Late } else { Place::Refused(Reason::TooOld) }
    }

    #[inline]
    fn append_float(&mut self, id: u32, (row, number): (u32, u32), (time, value): (i64, f64), pass: &mut Pass<'_>) {
        let was_native = self.lines[id as usize].tail.mark == NATIVE;
        if was_native && is_stale_nan(value) {
            // A series of histograms ends as such.
            return self.append_stale_native(id, (row, number), time, pass);
        }
        let same = |line: &Line, meta: &Meta| !was_native && meta.ends_with_float(line, value);
        match self.place(id, time, pass, same) {
            Place::InOrder => {
                self.push_float(id, time, value);
                self.stats.samples.floats += 1;
                self.note_time(time);
                pass.keep_float(number, time, value);
                pass.report.samples += 1;
            }
            Place::Late => {
                let late = self.metas[id as usize].out_of_order.get_or_insert_default();
                let inserted = late.insert_float(time, value, self.options.out_of_order_cap_max);
                if inserted == Inserted::New {
                    pass.scratch.late.push(number, time, value);
                }
                self.note_late((row, time, RejectedKind::Float), inserted, pass);
                pass.report.samples += u64::from(inserted != Inserted::Conflict);
            }
            Place::Duplicate => {
                pass.report.samples += 1;
                pass.report.duplicates += 1;
            }
            Place::Refused(reason) => pass.refuse((row, time, RejectedKind::Float), reason),
        }
    }

    /// A float that ends a series of histograms, as one of the kind that the series had last.
    #[cold]
    fn append_stale_native(&mut self, id: u32, numbers: (u32, u32), time: i64, pass: &mut Pass<'_>) {
        let stale = self.metas[id as usize].stale_native(&self.lines[id as usize]);
        let before = pass.report.histograms;
        self.append_native(id, numbers, (time, stale), pass);
        // It was sent as a float and counts as one.
        let taken = std::mem::replace(&mut pass.report.histograms, before) - before;
        pass.report.samples += taken;
    }

    fn append_natives<'a>(&mut self, id: u32, numbers: (u32, u32), rows: &'a [HistogramRow], pass: &mut Pass<'a>) {
        for row in rows {
            if self.options.start_times == StartTimes::ZeroSamples {
                self.append_zero_native(id, numbers.1, row, pass);
            }
            self.append_native(id, numbers, (row.time, &row.value), pass);
        }
    }

    fn append_native<'a>(
        &mut self,
        id: u32,
        (row, number): (u32, u32),
        (time, value): (i64, &'a HistogramValue),
        pass: &mut Pass<'a>,
    ) {
        if value.validate().is_err() {
            return pass.refuse((row, time, RejectedKind::Histogram), Reason::InvalidHistogram);
        }
        let same = |line: &Line, meta: &Meta| meta.ends_with_native(line, |last| last.same_data(value));
        match self.place(id, time, pass, same) {
            Place::InOrder => {
                self.push_native(id, time, value);
                self.stats.samples.histograms += 1;
                self.note_time(time);
                pass.keep_native(number, time, value);
            }
            Place::Late => {
                let late = self.metas[id as usize].out_of_order.get_or_insert_default();
                let inserted = late.insert_native(time, value, self.options.out_of_order_cap_max);
                if inserted == Inserted::New {
                    pass.late_natives.push((number, time, value));
                }
                self.note_late((row, time, RejectedKind::Histogram), inserted, pass);
                pass.report.histograms += u64::from(inserted != Inserted::Conflict);
            }
            Place::Duplicate => {
                pass.report.histograms += 1;
                pass.report.duplicates += 1;
            }
            Place::Refused(reason) => pass.refuse((row, time, RejectedKind::Histogram), reason),
        }
    }

    fn note_late(&mut self, sample: (u32, i64, RejectedKind), inserted: Inserted, pass: &mut Pass<'_>) {
        match inserted {
            Inserted::New => {
                self.stats.samples.count(sample.2);
                self.stats.samples_out_of_order.count(sample.2);
                self.note_late_time(sample.1);
            }
            Inserted::Same => pass.report.duplicates += 1,
            Inserted::Conflict => pass.refuse(sample, Reason::DuplicateTimestamp),
        }
    }

    #[inline]
    pub(super) fn note_time(&mut self, time: i64) {
        self.max_time = self.max_time.max(time);
        self.min_time = self.min_time.min(time);
    }

    /// Appends a late sample again that was recorded as such.
    pub(super) fn replay_late(&mut self, id: u32, time: i64, value: &LateValue<'_>) {
        let late: &mut OutOfOrder = self.metas[id as usize].out_of_order.get_or_insert_default();
        let cap_max = self.options.out_of_order_cap_max;
        let inserted = match value {
            LateValue::Float(value) => late.insert_float(time, *value, cap_max),
            LateValue::Native(value) => late.insert_native(time, value, cap_max),
        };
        if inserted == Inserted::New {
            self.note_late_time(time);
        }
    }

    /// A late sample may come before all others of its head, and behind them: it is late for another head's.
    fn note_late_time(&mut self, time: i64) {
        self.min_time = self.min_time.min(time);
        self.max_time = self.max_time.max(time);
    }
}

/// A late sample of either kind.
pub(super) enum LateValue<'a> {
    Float(f64),
    Native(&'a HistogramValue),
}
