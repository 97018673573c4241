//! Samples that came late: sorted while they are few, then chunks of their own, which may overlap
//! those in order and each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::native;
use super::series::Closed;
use crate::chunk::samples::{ChunkSink, Encoder, SAMPLES_PER_CHUNK, Samples, Value};
use crate::chunk::{Encoding, xor};
use crate::model::{FloatColumns, HistogramValue};

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
        self.close();
        self.cutting = self.closed.len();
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
    }

    pub(super) fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.natives.is_empty() && self.closed.is_empty()
    }

    pub(super) fn push_closed(&mut self, chunk: Closed) {
        self.closed.push(chunk);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let closed: usize = self.closed.iter().map(|chunk| chunk.data.len() + size_of::<Closed>()).sum();
        size_of::<Self>() + 16 * self.floats.timestamps.capacity() + 400 * self.natives.len() + closed
    }

    /// The sample at `time` in a chunk that has ended and is not being cut; a sender that was not
    /// answered sends again, and a log is replayed over a snapshot.
    fn closed_sample(&self, time: i64) -> Option<Value> {
        let chunks = self.closed.get(self.cutting..).unwrap_or(&[]).iter();
        let mut samples = BTreeMap::new();
        for chunk in chunks.filter(|chunk| (chunk.min_time..=chunk.max_time).contains(&time)) {
            decode(chunk, &mut samples);
        }
        samples.remove(&time)
    }

    fn close(&mut self) {
        let mut chunks = std::mem::take(&mut self.closed);
        self.encode_pending(&mut chunks);
        self.closed = chunks;
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

/// Adds the samples of `chunk`; one that is there at its time stays.
fn decode(chunk: &Closed, samples: &mut BTreeMap<i64, Value>) {
    let mut own = Samples::default();
    // A head's own chunk can be decoded.
    let _ = own.decode(chunk.encoding, &chunk.data);
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

#[cfg(test)]
mod tests {
    use super::*;

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
