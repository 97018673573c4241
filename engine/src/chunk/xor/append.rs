//! A chunk that grows sample by sample, readable after each.

use crate::codec::Corrupt;
use crate::codec::bits::{BitEnd, BitWriter};
use crate::model::FloatColumns;

use super::encode::{self, State};
use super::{HEADER_LEN, SAMPLES_MAX, decode};

/// A chunk that grows sample by sample; its data is whole after each.
#[derive(Clone, Debug)]
pub struct Appender {
    data: Vec<u8>,
    end: BitEnd,
    count: u16,
    state: State,
}

impl Default for Appender {
    fn default() -> Self {
        Self { data: vec![0; HEADER_LEN], end: BitEnd::default(), count: 0, state: State::START }
    }
}

impl Appender {
    /// An appender that goes on where the chunk `data` ends.
    pub fn resume(data: &[u8]) -> Result<Self, Corrupt> {
        let mut columns = FloatColumns::default();
        decode(data, &mut columns)?;
        let mut appender = Self::default();
        for (time, value) in columns.timestamps.iter().zip(&columns.values) {
            appender.append(*time, *value);
        }
        Ok(appender)
    }

    /// Appends a sample at `time` (Unix milliseconds).
    ///
    /// # Panics
    /// When the chunk already holds [`SAMPLES_MAX`] samples.
    pub fn append(&mut self, time: i64, value: f64) {
        assert!(self.len() < SAMPLES_MAX, "a chunk holds at most {SAMPLES_MAX} samples");
        let value = value.to_bits();
        match self.count {
            0 => encode::first(time, value, &mut self.state, &mut self.data),
            1 => {
                encode::second_time(time, &mut self.state, &mut self.data);
                let mut writer = BitWriter::new(&mut self.data);
                let (place, bytes) = writer.reserve(encode::SAMPLE_ROOM);
                (*place, self.state) = encode::put_value(value, self.state, (*place, bytes));
                self.end = writer.finish();
            }
            _ => {
                let mut writer = BitWriter::resume(&mut self.data, self.end);
                let (place, bytes) = writer.reserve(encode::SAMPLE_ROOM);
                (*place, self.state) = encode::put_sample(time, value, self.state, (*place, bytes));
                self.end = writer.finish();
            }
        }
        self.count += 1;
        if let Some(header) = self.data.first_chunk_mut::<HEADER_LEN>() {
            *header = self.count.to_be_bytes();
        }
    }

    /// The chunk's data.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The chunk's data, with the appender given up.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Timestamp of the last sample, in Unix milliseconds; 0 without one.
    pub fn last_time(&self) -> i64 {
        self.state.time
    }

    /// Value of the last sample; 0 without one.
    pub fn last_value(&self) -> f64 {
        f64::from_bits(self.state.value)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.data.capacity()
    }
}
