//! Heads to records and back, for a fast start: chunks as they are, not sample by sample.
//!
//! A snapshot is taken part by part while the head goes on growing. What is appended meanwhile may be
//! in it or not; it is in the log behind the snapshot in any case, and replay skips what is there.

use std::sync::Arc;

use super::Head;
use super::native::OpenNative;
use super::replay::Replay;
use super::series::{Closed, FLOAT, NATIVE};
use crate::chunk::xor::Tail;
use crate::chunk::{Encoding, xor};
use crate::codec::{Corrupt, EncodedLabels};
use crate::model::FloatColumns;
use crate::wal::Recorder;
use crate::wal::record::{ChunkKind, ChunkRecord, ExemplarRecord, HeadState, MetadataRecord};

/// Series of one part, at most.
const PART_SERIES: u32 = 512;

/// Metrics of one part of which something is said, at most.
const PART_METRICS: usize = 4096;

/// Bytes of labels and chunks after which a part ends, and most bytes of chunks, exemplars or metadata of one record.
const PART_BYTES: usize = 16 << 20;

/// Where a snapshot of a head goes on: what is said of metrics comes first, then series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// With the metric whose name has this symbol, or the next one.
    Metric(u32),
    /// With the series of this number.
    Series(u32),
}

impl Position {
    /// Where a snapshot begins.
    pub const START: Self = Self::Metric(0);
}

impl Head {
    /// Records a part of what there is from `from` on, as the tenant numbered `tenant`. Gives where to go on; `None`
    /// at the end.
    pub fn snapshot_part(&self, tenant: u32, from: Position, recorder: &mut Recorder) -> Option<Position> {
        if from == Position::START {
            let (min_valid_time, max_time, next_ref) = (self.min_valid_time, self.max_time, self.next_ref);
            recorder.state(tenant, &HeadState { min_valid_time, max_time, next_ref });
        }
        let from = match from {
            Position::Metric(symbol) => match self.snapshot_metadata(tenant, symbol, recorder) {
                Some(next) => return Some(Position::Metric(next)),
                None => 0,
            },
            Position::Series(number) => number,
        };
        let len = self.metas.len() as u32;
        let end = self.snapshot_series(tenant, from..len.min(from + PART_SERIES), recorder);
        if end < len {
            return Some(Position::Series(end));
        }
        // All series are named by now.
        let number = |series: u32| self.numbers[series as usize];
        let rows: Vec<_> =
            self.exemplars.iter().map(|(series, time, value, labels)| (number(series), time, value, labels)).collect();
        let bytes = |row: &ExemplarRecord<'_>| size_of::<ExemplarRecord<'_>>() + row.3.0.len();
        parts(&rows, bytes).for_each(|rows| recorder.exemplars(tenant, rows));
        None
    }

    /// Records what is said of metrics from the one on whose name has the symbol `from`, of as many as a part has room
    /// for. Gives the symbol to go on from; `None` at the end. Those that come meanwhile have later ones.
    fn snapshot_metadata(&self, tenant: u32, from: u32, recorder: &mut Recorder) -> Option<u32> {
        let (mut rows, mut bytes, mut next) = (Vec::new(), 0, None);
        for (symbol, said) in self.metadata.range(from..) {
            let name = self.symbols.text(*symbol);
            bytes += name.len() + said.help.len() + said.unit.len();
            if rows.len() == PART_METRICS || (bytes > PART_BYTES && !rows.is_empty()) {
                next = Some(*symbol);
                break;
            }
            rows.push(MetadataRecord { kind: said.kind as u8, name, help: &said.help, unit: &said.unit });
        }
        recorder.metadata(tenant, &rows);
        next
    }

    /// Records the series numbered `ids`, as many as a part has room for. Gives the number to go on from.
    fn snapshot_series(&self, tenant: u32, ids: std::ops::Range<u32>, recorder: &mut Recorder) -> u32 {
        let (mut text, mut ends) = (Vec::new(), Vec::with_capacity(ids.len()));
        let mut chunks: Vec<(u32, ChunkKind, i64, Closed)> = Vec::new();
        let mut chunk_bytes = 0;
        for id in ids.clone() {
            if text.len() + chunk_bytes > PART_BYTES {
                break;
            }
            let first = chunks.len();
            for (name, value) in self.pairs_of(id) {
                EncodedLabels::push(self.symbols.get(name), self.symbols.get(value), &mut text);
            }
            ends.push(text.len());
            let (meta, line) = (&self.metas[id as usize], &self.lines[id as usize]);
            let number = self.numbers[id as usize];
            let mut put = |kind, chunk| chunks.push((number, kind, line.next_at, chunk));
            meta.closed.iter().for_each(|chunk| put(ChunkKind::Closed, chunk.clone()));
            meta.native.iter().for_each(|open| put(ChunkKind::Open, open.to_chunk()));
            line.open_chunk().into_iter().for_each(|chunk| put(ChunkKind::Growing(line.tail.to_state()), chunk));
            let late = meta.out_of_order.iter().flat_map(|late| late.chunks());
            late.for_each(|chunk| put(ChunkKind::Late, chunk));
            chunk_bytes += chunks[first..].iter().map(|(.., chunk)| chunk.data.len()).sum::<usize>();
        }
        let series = ends.iter().enumerate().map(|(at, end)| {
            let start = at.checked_sub(1).map_or(0, |before| ends[before]);
            (self.numbers[ids.start as usize + at], EncodedLabels(&text[start..*end]))
        });
        recorder.series(tenant, series);
        // One series may have more than a record.
        let rows = parts(&chunks, |(.., chunk)| chunk.data.len());
        rows.for_each(|rows| recorder.chunks(tenant, rows.iter().map(record)));
        ids.start + ends.len() as u32
    }
}

/// The record of a chunk of the series with this number.
fn record((series, kind, next_at, chunk): &(u32, ChunkKind, i64, Closed)) -> ChunkRecord<'_> {
    let (series, kind, next_at) = (*series, *kind, *next_at);
    let Closed { min_time, max_time, encoding, ref data } = *chunk;
    ChunkRecord { series, kind, encoding, min_time, max_time, next_at, data }
}

/// `rows` in parts of at most [`PART_BYTES`] each, unless one row is longer.
fn parts<T>(mut rows: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut left = PART_BYTES;
        let fitting = rows.iter().take_while(|row| {
            let room = left.checked_sub(bytes(row));
            left = room.unwrap_or(0);
            room.is_some()
        });
        let len = fitting.count().max(1).min(rows.len());
        let (part, rest) = rows.split_at(len);
        rows = rest;
        (!part.is_empty()).then_some(part)
    })
}

impl Replay {
    /// The head that a snapshot goes on to describe.
    pub fn state(&mut self, state: &HeadState) {
        let head = self.head_mut();
        head.min_valid_time = head.min_valid_time.max(state.min_valid_time);
        head.max_time = head.max_time.max(state.max_time);
        head.next_ref = state.next_ref;
    }

    /// Chunks of a snapshot. One that can't be decoded is an error.
    pub fn chunks(&mut self, chunks: &[ChunkRecord<'_>]) -> Result<(), Corrupt> {
        for record in chunks {
            let Some(id) = self.id(record.series) else {
                self.unknown += 1;
                continue;
            };
            self.head_mut().restore(id, record)?;
        }
        Ok(())
    }
}

/// The chunk of a record, of its own.
fn closed(record: &ChunkRecord<'_>) -> Closed {
    let (min_time, max_time, encoding) = (record.min_time, record.max_time, record.encoding);
    Closed { min_time, max_time, encoding, data: Arc::from(record.data) }
}

impl Head {
    fn restore(&mut self, id: u32, record: &ChunkRecord<'_>) -> Result<(), Corrupt> {
        self.min_time = self.min_time.min(record.min_time);
        self.max_time = self.max_time.max(record.max_time);
        self.stats.chunks += u64::from(record.kind != ChunkKind::Late);
        let meta = &mut self.metas[id as usize];
        let line = &mut self.lines[id as usize];
        match (record.kind, record.encoding) {
            (ChunkKind::Late, _) => meta.out_of_order.get_or_insert_default().push_closed(closed(record)),
            (ChunkKind::Closed, encoding) => {
                line.tail.set_last(record.max_time, 0);
                line.tail.mark = if encoding == Encoding::Xor { FLOAT } else { NATIVE };
                self.stats.chunk_bytes += record.data.len() as u64;
                meta.closed.push(closed(record));
            }
            (ChunkKind::Growing(state), Encoding::Xor) => {
                let Some(tail) = Tail::restore(record.max_time, state, record.data) else {
                    return Err(Corrupt::new("WAL snapshot", 0, "the end of an open chunk is not one"));
                };
                line.tail = tail;
                line.data.clear();
                line.data.extend_from_slice(record.data);
                line.next_at = record.next_at;
            }
            (ChunkKind::Open, Encoding::Xor) => {
                let mut columns = FloatColumns::default();
                xor::decode(record.data, &mut columns)?;
                line.tail = Tail::resume(&columns.timestamps, &columns.values, &mut line.data);
                line.next_at = record.next_at;
            }
            (ChunkKind::Open | ChunkKind::Growing(_), _) => {
                let Some(native) = OpenNative::resume(&closed(record)) else {
                    return Err(Corrupt::new("WAL snapshot", 0, "an open chunk of histograms can't be decoded"));
                };
                line.tail.mark = NATIVE;
                line.tail.set_last(record.max_time, 0);
                line.next_at = record.next_at;
                meta.native = Some(Box::new(native));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::metadata::TEXT_BYTES_MAX;
    use super::super::{AppendLimits, HeadStats, Metadata, MetricKind, Options, StartTimes, WriteBatch};
    use super::*;
    use crate::wal::{Record, records};

    const OPTIONS: Options = Options {
        block_range_ms: 7_200_000,
        out_of_order_window_ms: 0,
        out_of_order_cap_max: 32,
        exemplars_max: 0,
        start_times: StartTimes::Dropped,
    };
    const LIMITS: AppendLimits =
        AppendLimits { time_max: i64::MAX, series_left: None, latest_time: i64::MIN, memory: None };

    #[test]
    fn chunks_of_one_series_are_in_as_many_records_as_they_need() {
        let (mut head, mut log) = (Head::new(OPTIONS, i64::MIN), Recorder::default());
        let mut batch = WriteBatch::new();
        batch.push_series([("__name__", "long")]);
        batch.push_sample(1000, 1.0);
        head.append((&batch, &[0]), LIMITS, (1, &mut log));
        let data: Arc<[u8]> = vec![7; 1 << 20].into();
        let closed = |time| Closed { min_time: time, max_time: time, encoding: Encoding::Xor, data: Arc::clone(&data) };
        (0..40).for_each(|time| head.metas[0].closed.push(closed(time)));
        let (mut replay, mut lens) = (Replay::new(Head::new(OPTIONS, i64::MIN)), Vec::new());
        let mut recorder = Recorder::default();
        assert_eq!(head.snapshot_part(1, Position::START, &mut recorder), None);
        for record in records(recorder.bytes(), 0) {
            match record.unwrap() {
                Record::Series(_, rows) => replay.series(&rows),
                Record::Chunks(_, rows) => {
                    lens.push(rows.iter().map(|row| row.data.len()).sum::<usize>());
                    replay.chunks(&rows).unwrap();
                }
                _ => {}
            }
        }
        assert!(lens.len() == 3 && lens.iter().all(|len| *len <= PART_BYTES), "{lens:?}");
        let restored = replay.finish();
        let times: Vec<i64> = restored.metas[0].closed.iter().map(|chunk| chunk.min_time).collect();
        assert_eq!((times, restored.lines[0].tail.last_time()), ((0..40).collect(), 1000));
    }

    #[test]
    fn parts_are_bounded_by_bytes_and_tell_everything() {
        let (mut head, mut log) = (Head::new(OPTIONS, i64::MIN), Recorder::default());
        // One long value that all series have, as nobody has to send it more than once at a time.
        let long = "v".repeat(1 << 20);
        for series in 0..50u32 {
            let mut batch = WriteBatch::new();
            let name = format!("m{series}");
            batch.push_series([("__name__", name.as_str()), ("long", long.as_str())]);
            batch.push_sample(1000, 1.0);
            batch.push_metadata(Metadata { kind: MetricKind::Gauge, help: &long[..TEXT_BYTES_MAX], unit: "" });
            head.append((&batch, &[0]), LIMITS, (1, &mut log));
            log.take();
        }
        let (mut from, mut series, mut families, mut record_bytes_max) = (Some(Position::START), 0, 0, 0usize);
        let (mut replay, mut parts) = (Replay::new(Head::new(OPTIONS, i64::MIN)), 0);
        while let Some(start) = from {
            let mut recorder = Recorder::default();
            from = head.snapshot_part(1, start, &mut recorder);
            parts += 1;
            for record in records(recorder.bytes(), 0) {
                match record.unwrap() {
                    Record::Series(_, rows) => {
                        series += rows.len();
                        record_bytes_max = record_bytes_max.max(rows.iter().map(|row| row.1.0.len()).sum());
                        replay.series(&rows);
                    }
                    Record::Metadata(_, rows) => {
                        families += rows.len();
                        record_bytes_max = record_bytes_max.max(rows.iter().map(|row| row.help.len()).sum());
                    }
                    Record::Chunks(_, rows) => replay.chunks(&rows).unwrap(),
                    _ => {}
                }
            }
        }
        assert_eq!((series, families, parts), (50, 50, 4));
        assert!(record_bytes_max <= PART_BYTES + (2 << 20), "{record_bytes_max}");
        let HeadStats { series, chunks, .. } = *replay.finish().stats();
        assert_eq!((series, chunks), (50, 50));
    }

    /// All of it was one part, however much there was.
    #[test]
    fn what_is_said_of_metrics_is_in_parts_that_tell_all_that_was_said_before_the_snapshot() {
        let (mut head, mut log) = (Head::new(OPTIONS, i64::MIN), Recorder::default());
        let long = "h".repeat(TEXT_BYTES_MAX);
        let mut say = |head: &mut Head, name: String, help: &str| {
            let mut batch = WriteBatch::new();
            batch.push_family(&name, Metadata { kind: MetricKind::Gauge, help, unit: "" });
            head.note_families(&batch, (1, &mut log));
            log.take();
        };
        (0..600).for_each(|number| say(&mut head, format!("long{number}"), &long));
        (0..10_000).for_each(|number| say(&mut head, format!("short{number}"), ""));
        let (mut from, mut parts) = (Some(Position::START), 0);
        let mut replay = Replay::new(Head::new(OPTIONS, i64::MIN));
        while let Some(start) = from {
            let mut recorder = Recorder::default();
            from = head.snapshot_part(1, start, &mut recorder);
            parts += 1;
            assert!(recorder.bytes().len() <= PART_BYTES + (1 << 20), "{}", recorder.bytes().len());
            records(recorder.bytes(), 0).for_each(|record| replay.record(&record.unwrap()).unwrap());
            // What comes meanwhile is in the log.
            say(&mut head, format!("new{parts}"), "");
            say(&mut head, format!("long{parts}"), "another");
        }
        let restored = replay.finish();
        let names = restored.metadata().filter(|(name, _)| !name.starts_with("new")).count();
        assert!(names == 10_600 && parts >= 5, "{names} in {parts} parts");
    }
}
