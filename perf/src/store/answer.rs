//! What an answer holds, so that answers of two sides can be held against each other.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::grpc;
use crate::wire::{Value, fields};

use super::questions::Call;

/// What an answer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Series, or values of labels.
    pub items: u64,
    /// Chunks.
    pub chunks: u64,
    /// Bytes of the chunks' data.
    pub chunk_bytes: u64,
    /// Hash of labels, times and data of all series in their order, or of all values.
    pub digest: u64,
    /// Warnings.
    pub warnings: Vec<String>,
}

impl Answer {
    /// Reads an answer, prefixes of messages included.
    pub fn read(call: Call, bytes: &[u8]) -> Self {
        let (mut answer, mut digest) = (Self::default(), DefaultHasher::new());
        for message in grpc::messages(bytes) {
            match call {
                Call::Series => answer.add_frame(message, &mut digest),
                Call::LabelValues | Call::LabelNames => {
                    for (field, value) in fields(message) {
                        match (field, value) {
                            (1, Value::Bytes(text)) => {
                                text.hash(&mut digest);
                                answer.items += 1;
                            }
                            (2, Value::Bytes(warning)) => answer.warn(warning),
                            _ => {}
                        }
                    }
                }
            }
        }
        answer.digest = digest.finish();
        answer
    }

    fn warn(&mut self, warning: &[u8]) {
        self.warnings.push(String::from_utf8_lossy(warning).into_owned());
    }

    fn add_frame(&mut self, message: &[u8], digest: &mut DefaultHasher) {
        for (field, value) in fields(message) {
            match (field, value) {
                (1, Value::Bytes(series)) => self.add_series(series, digest),
                (2, Value::Bytes(warning)) => self.warn(warning),
                (4, Value::Bytes(batch)) => {
                    for (_, series) in fields(batch) {
                        if let Value::Bytes(series) = series {
                            self.add_series(series, digest);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn add_series(&mut self, series: &[u8], digest: &mut DefaultHasher) {
        self.items += 1;
        for (field, value) in fields(series) {
            match (field, value) {
                (1, Value::Bytes(label)) => label.hash(digest),
                (2, Value::Bytes(chunk)) => self.add_chunk(chunk, digest),
                _ => {}
            }
        }
    }

    /// Hashes are left out, as not every side sends them; so are fields that hold 0 as if they were
    /// absent.
    fn add_chunk(&mut self, chunk: &[u8], digest: &mut DefaultHasher) {
        for (field, value) in fields(chunk) {
            match value {
                Value::Number(0) => {}
                Value::Number(number) => (field, number).hash(digest),
                Value::Bytes(part) => {
                    self.chunks += 1;
                    for (inner, value) in fields(part) {
                        match (inner, value) {
                            (1, Value::Number(encoding)) if encoding != 0 => (field, encoding).hash(digest),
                            (2, Value::Bytes(data)) => {
                                self.chunk_bytes += data.len() as u64;
                                data.hash(digest);
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
    }

    /// In words.
    pub fn describe(&self, bytes: usize) -> String {
        let mib = bytes as f64 / f64::from(1 << 20);
        match self.chunks {
            0 => format!("{} items, {mib:.2} MiB", self.items),
            chunks => format!("{} series, {chunks} chunks, {mib:.2} MiB", self.items),
        }
    }
}
