//! Samples that came late: sorted while they are few, then chunks of their own, which may overlap
//! those in order and each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::native;
use super::series::Closed;
use crate::chunk::samples::{ChunkSink, Encoder, SAMPLES_PER_CHUNK, Samples, Value};
use crate::chunk::{Encoding, xor};
use crate::model::{FloatColumns, HistogramValue};

/// Bytes that a place among the ended chunks takes.
const PLACE_BYTES: usize = 24;

/// What became of a late sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inserted {
    /// It is new.
    New,
    /// It is there already.
    Same,
    /// There is another at its time.
    Conflict,
}

/// Late samples of one series.
#[derive(Clone, Debug, Default)]
pub(super) struct OutOfOrder {
    floats: FloatColumns,
    natives: Vec<(i64, HistogramValue)>,
    closed: Vec<Closed>,
    /// The first of `closed` that go into a block that is being cut.
    cutting: usize,
    /// Times of the first and the last sample of the others of `closed`.
    ended: Option<(i64, i64)>,
    /// Which of these others holds each time, by its place among them: a sample that was sent before is found
    /// however many chunks overlap. Made when first a sample lies between theirs, so that samples that come late
    /// but in order have none.
    places: Option<BTreeMap<i64, u32>>,
}

impl OutOfOrder {
    /// Keeps a float, unless there is a sample at its time; `pending_max` samples become a chunk.
    pub(super) fn insert_float(&mut self, time: i64, value: f64, pending_max: usize) -> Inserted {
        if self.natives.iter().any(|(known, _)| *known == time) {
            return Inserted::Conflict;
        }
        match self.closed_sample(time) {
            Some(Value::Float(known)) if known.to_bits() == value.to_bits() => return Inserted::Same,
            Some(_) => return Inserted::Conflict,
            None => {}
        }
        let at = self.floats.timestamps.partition_point(|known| *known < time);
        if self.floats.timestamps.get(at) == Some(&time) {
            let same = self.floats.values[at].to_bits() == value.to_bits();
            return if same { Inserted::Same } else { Inserted::Conflict };
        }
        self.floats.timestamps.insert(at, time);
        self.floats.values.insert(at, value);
        if self.floats.len() >= pending_max {
            self.close();
        }
        Inserted::New
    }

    /// Keeps a histogram, as [`OutOfOrder::insert_float`] does a float.
    pub(super) fn insert_native(&mut self, time: i64, value: &HistogramValue, pending_max: usize) -> Inserted {
        if self.floats.timestamps.binary_search(&time).is_ok() {
            return Inserted::Conflict;
        }
        if let Some(known) = self.closed_sample(time) {
            return if is_same_native(known, value) { Inserted::Same } else { Inserted::Conflict };
        }
        match self.natives.binary_search_by_key(&time, |(known, _)| *known) {
            Ok(at) if self.natives[at].1.same_data(value) => Inserted::Same,
            Ok(_) => Inserted::Conflict,
            Err(at) => {
                self.natives.insert(at, (time, value.clone()));
                if self.natives.len() >= pending_max {
                    self.close();
                }
                Inserted::New
            }
        }
    }

    /// Chunks of all late samples, in the order of their start; they may overlap.
    pub(super) fn chunks(&self) -> Vec<Closed> {
        let mut chunks = self.closed.clone();
        self.encode_pending(&mut chunks);
        chunks.sort_by_key(|chunk| (chunk.min_time, chunk.max_time));
        chunks
    }

    /// Takes note that all samples so far go into a block; gives them.
    pub(super) fn freeze(&mut self) -> Vec<Closed> {
        self.places = None;
        self.close();
        self.cutting = self.closed.len();
        self.ended = None;
        self.closed.clone()
    }

    /// Forgets the samples that were frozen; they are in a block.
    pub(super) fn drop_frozen(&mut self) {
        self.closed.drain(..self.cutting);
        self.cutting = 0;
    }

    /// Keeps all samples: no block came of them.
    pub(super) fn thaw(&mut self) {
        self.cutting = 0;
        (self.ended, self.places) = (None, None);
        self.note_ended(0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.natives.is_empty() && self.closed.is_empty()
    }

    pub(super) fn push_closed(&mut self, chunk: Closed) {
        self.closed.push(chunk);
        self.note_ended(self.closed.len() - 1);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let closed: usize = self.closed.iter().map(|chunk| chunk.data.len() + size_of::<Closed>()).sum();
        let places = self.places.as_ref().map_or(0, |places| PLACE_BYTES * places.len());
        size_of::<Self>() + 16 * self.floats.timestamps.capacity() + 400 * self.natives.len() + closed + places
    }

    /// The sample at `time` in a chunk that has ended and is not being cut; a sender that was not
    /// answered sends again, and a log is replayed over a snapshot.
    fn closed_sample(&mut self, time: i64) -> Option<Value> {
        self.ended.filter(|(min_time, max_time)| (*min_time..=*max_time).contains(&time))?;
        let others = self.closed.get(self.cutting..)?;
        let places = self.places.get_or_insert_with(|| {
            let mut places = BTreeMap::new();
            others.iter().enumerate().for_each(|(at, chunk)| note_places(chunk, at, &mut places));
            places
        });
        let mut samples = samples_of(others.get(*places.get(&time)? as usize)?);
        let at = samples.times.iter().position(|known| *known == time)?;
        Some(samples.values.swap_remove(at))
    }

    /// Takes note of the chunks from number `from` on, which have ended.
    fn note_ended(&mut self, from: usize) {
        for (at, chunk) in self.closed.iter().enumerate().skip(from) {
            let (min_time, max_time) = self.ended.unwrap_or((chunk.min_time, chunk.max_time));
            self.ended = Some((min_time.min(chunk.min_time), max_time.max(chunk.max_time)));
            if let Some(places) = &mut self.places {
                note_places(chunk, at - self.cutting, places);
            }
        }
    }

    fn close(&mut self) {
        let mut chunks = std::mem::take(&mut self.closed);
        let known = chunks.len();
        self.encode_pending(&mut chunks);
        self.closed = chunks;
        self.note_ended(known);
        self.floats.clear();
        self.natives.clear();
    }

    fn encode_pending(&self, chunks: &mut Vec<Closed>) {
        let FloatColumns { timestamps, values } = &self.floats;
        if let (Some(min_time), Some(max_time)) = (timestamps.first(), timestamps.last()) {
            let mut data = Vec::new();
            xor::encode(timestamps, values, &mut data);
            chunks.chunk((*min_time, *max_time), (Encoding::Xor, &data), timestamps.len() as u16);
        }
        native::encode(self.natives.iter().map(|(time, value)| (*time, value)), chunks);
    }
}

/// Whether `known` is the histogram `value`.
fn is_same_native(known: Value, value: &HistogramValue) -> bool {
    let known = match known {
        Value::Float(_) => return false,
        Value::Histogram(known) => HistogramValue::Integer(known),
        Value::FloatHistogram(known) => HistogramValue::Float(known),
    };
    known.same_data(value)
}

/// Notes that chunk number `at` holds the times of `chunk`; of chunks that hold one time the first stays.
fn note_places(chunk: &Closed, at: usize, places: &mut BTreeMap<i64, u32>) {
    for time in samples_of(chunk).times {
        places.entry(time).or_insert(at as u32);
    }
}

/// Adds the samples of `chunk`; one that is there at its time stays.
fn decode(chunk: &Closed, samples: &mut BTreeMap<i64, Value>) {
    let own = samples_of(chunk);
    for (time, value) in own.times.into_iter().zip(own.values) {
        samples.entry(time).or_insert(value);
    }
}

/// The samples of `chunks` from `min_time` to before `max_time` as chunks that follow each other; of
/// samples at one time the first stays.
pub(super) fn merge(chunks: &[Closed], (min_time, max_time): (i64, i64)) -> Vec<Closed> {
    let mut samples = BTreeMap::new();
    for chunk in chunks.iter().filter(|chunk| chunk.min_time < max_time && chunk.max_time >= min_time) {
        decode(chunk, &mut samples);
    }
    encode(samples.into_iter().filter(|(time, _)| (min_time..max_time).contains(time)))
}

/// The samples of `chunk` from before `time`, and all others, each as chunks that follow each other.
pub(super) fn split(chunk: &Closed, time: i64) -> (Vec<Closed>, Vec<Closed>) {
    let mut before = BTreeMap::new();
    decode(chunk, &mut before);
    let behind = before.split_off(&time);
    (encode(before), encode(behind))
}

/// Ascending samples as chunks.
fn encode(samples: impl IntoIterator<Item = (i64, Value)>) -> Vec<Closed> {
    let mut chunks = Vec::new();
    let mut encoder = Encoder::new(SAMPLES_PER_CHUNK);
    samples.into_iter().for_each(|(time, value)| encoder.push((0, time), &value, &mut chunks));
    encoder.finish(&mut chunks);
    chunks
}

impl ChunkSink for Vec<Closed> {
    fn chunk(&mut self, (min_time, max_time): (i64, i64), (encoding, data): (Encoding, &[u8]), _samples: u16) {
        self.push(Closed { min_time, max_time, encoding, data: Arc::from(data) });
    }
}

/// The samples of `chunk`.
fn samples_of(chunk: &Closed) -> Samples {
    #[cfg(test)]
    tests::DECODED.set(tests::DECODED.get() + 1);
    let mut samples = Samples::default();
    // A head's own chunk can be decoded.
    let _ = samples.decode(chunk.encoding, &chunk.data);
    samples
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Chunks that this thread has decoded.
        pub(super) static DECODED: Cell<usize> = const { Cell::new(0) };
    }

    /// The times below `count` in an order of no pattern.
    fn scattered(count: i64) -> impl Iterator<Item = i64> {
        (0..count).map(move |at| at * 7_919 % count)
    }

    /// Each sample once decoded all chunks that hold its time between theirs: 40,000 took a minute.
    #[test]
    fn chunks_are_decoded_as_often_as_there_are_chunks_and_samples_that_come_again() {
        for count in [1_000, 10_000, 50_000] {
            let mut late = OutOfOrder::default();
            DECODED.set(0);
            assert!(scattered(count).all(|time| late.insert_float(time, time as f64, 32) == Inserted::New));
            let chunks = count as usize / 32;
            assert!((chunks - 1..=chunks + 1).contains(&DECODED.get()), "{} for {count}", DECODED.get());
            assert!(scattered(count).all(|time| late.insert_float(time, time as f64, 32) == Inserted::Same));
            assert!(DECODED.get() <= chunks + 1 + count as usize, "{} for {count}", DECODED.get());
            DECODED.set(0);
            assert_eq!(merge(&late.freeze(), (0, count)).len(), (count as usize).div_ceil(SAMPLES_PER_CHUNK));
            assert!(DECODED.get() <= chunks + 1);
        }
    }

    #[test]
    fn samples_that_come_late_but_in_order_need_no_places() {
        let mut late = OutOfOrder::default();
        DECODED.set(0);
        assert!((0..10_000).all(|time| late.insert_float(time, 1.0, 32) == Inserted::New));
        assert_eq!((DECODED.get(), late.places.is_none()), (0, true));
    }

    #[test]
    fn samples_that_no_block_came_of_are_known_again() {
        let mut late = OutOfOrder::default();
        assert!(scattered(100).all(|time| late.insert_float(time, 1.0, 8) == Inserted::New));
        late.freeze();
        assert_eq!(late.insert_float(200, 1.0, 8), Inserted::New);
        late.thaw();
        assert!(scattered(100).chain([200]).all(|time| late.insert_float(time, 1.0, 8) == Inserted::Same));
        late.freeze();
        assert!(scattered(50).all(|time| late.insert_float(time, 2.0, 8) == Inserted::New));
        late.drop_frozen();
        assert!(scattered(50).all(|time| late.insert_float(time, 2.0, 8) == Inserted::Same));
        assert!((0..50).all(|time| late.insert_float(time, 3.0, 8) == Inserted::Conflict));
        assert!((50..100).all(|time| late.insert_float(time, 3.0, 8) == Inserted::New));
    }

    #[test]
    fn late_samples_are_sorted_and_told_apart() {
        let mut late = OutOfOrder::default();
        for at in (0..100).rev() {
            assert_eq!(late.insert_float(at, at as f64, 32), Inserted::New);
        }
        for at in 0..100 {
            assert_eq!(late.insert_float(at, at as f64, 32), Inserted::Same, "{at}");
            assert_eq!(late.insert_float(at, 1000.0, 32), Inserted::Conflict, "{at}");
        }
        assert_eq!(late.chunks().len(), 4);
        let merged = merge(&late.freeze(), (10, 50));
        assert_eq!(merged.iter().map(|chunk| (chunk.min_time, chunk.max_time)).collect::<Vec<_>>(), [(10, 49)]);
        assert_eq!(late.insert_float(1, 2.0, 32), Inserted::New);
        late.drop_frozen();
        assert_eq!(late.chunks().len(), 1);
    }

    #[test]
    fn chunks_have_as_many_samples_as_may_be_pending() {
        for (pending_max, chunks) in [(1, 200), (10, 20), (200, 1)] {
            let mut late = OutOfOrder::default();
            (0..200).for_each(|at| assert_eq!(late.insert_float(at, 0.0, pending_max), Inserted::New));
            assert_eq!(late.chunks().len(), chunks, "{pending_max}");
        }
    }
}
