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
use crate::wal::record::{ChunkKind, ChunkRecord, HeadState, MetadataRecord};

/// Series of one part.
const PART_SERIES: u32 = 512;

impl Head {
    /// Records the series from number `from` on, a part of them, as the tenant numbered `tenant`; with
    /// the first part what else there is. Gives the number to go on from; `None` at the end.
    pub fn snapshot_part(&self, tenant: u32, from: u32, recorder: &mut Recorder) -> Option<u32> {
        if from == 0 {
            let (min_valid_time, max_time, next_ref) = (self.min_valid_time, self.max_time, self.next_ref);
            recorder.state(tenant, &HeadState { min_valid_time, max_time, next_ref });
            let rows: Vec<MetadataRecord<'_>> = self
                .metadata()
                .map(|(name, said)| MetadataRecord { kind: said.kind as u8, name, help: &said.help, unit: &said.unit })
                .collect();
            recorder.metadata(tenant, &rows);
        }
        let len = self.metas.len() as u32;
        let end = len.min(from + PART_SERIES);
        self.snapshot_series(tenant, from..end, recorder);
        if end < len {
            return Some(end);
        }
        // All series are named by now.
        let number = |series: u32| self.numbers[series as usize];
        let rows: Vec<_> =
            self.exemplars.iter().map(|(series, time, value, labels)| (number(series), time, value, labels)).collect();
        recorder.exemplars(tenant, &rows);
        None
    }

    fn snapshot_series(&self, tenant: u32, ids: std::ops::Range<u32>, recorder: &mut Recorder) {
        let (mut text, mut ends) = (Vec::new(), Vec::with_capacity(ids.len()));
        let mut chunks: Vec<(u32, ChunkKind, i64, Closed)> = Vec::new();
        for id in ids.clone() {
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
        }
        let series = ids.zip(&ends).map(|(id, end)| {
            let at = id as usize;
            let start = if (at as u32).is_multiple_of(PART_SERIES) { 0 } else { ends[at % PART_SERIES as usize - 1] };
            (self.numbers[at], EncodedLabels(&text[start..*end]))
        });
        recorder.series(tenant, series);
        let chunks = chunks.iter().map(|(series, kind, next_at, chunk)| ChunkRecord {
            series: *series,
            kind: *kind,
            encoding: chunk.encoding,
            min_time: chunk.min_time,
            max_time: chunk.max_time,
            next_at: *next_at,
            data: &chunk.data,
        });
        recorder.chunks(tenant, chunks);
    }
}

impl Replay {
    /// The head that a snapshot goes on to describe.
    pub fn state(&mut self, state: &HeadState) {
        let head = self.head_mut();
        head.min_valid_time = head.min_valid_time.max(state.min_valid_time);
        head.max_time = head.max_time.max(state.max_time);
        head.next_ref = head.next_ref.max(state.next_ref);
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
