//! What a head knows of one series: the line that appends touch, and the rest.

use std::sync::Arc;

use super::native::OpenNative;
use super::out_of_order::OutOfOrder;
use crate::chunk::Encoding;
use crate::chunk::xor::Tail;

/// The last sample of the series is a float.
pub(super) const FLOAT: u8 = 0;
/// The last sample of the series is a histogram.
pub(super) const NATIVE: u8 = 1;

/// What an append touches of a series: one cache line, and the end of the data.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
pub(super) struct Line {
    /// The open chunk of floats and the last sample of whatever kind.
    pub tail: Tail,
    /// The open chunk's data; empty without one.
    pub data: Vec<u8>,
    /// When the open chunk is to end, in Unix milliseconds.
    pub next_at: i64,
}

const _: () = assert!(size_of::<Line>() == 64, "a line is one cache line");

/// What else is known of a series.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    pub hash: u64,
    /// Where its symbols start.
    pub labels_at: u32,
    /// How the WAL refers to it.
    pub wal_ref: u32,
    /// Number of its labels.
    pub labels: u16,
    /// Ended chunks in the order of time.
    pub closed: Vec<Closed>,
    /// The open chunk of histograms.
    pub native: Option<Box<OpenNative>>,
    /// Samples that came late.
    pub out_of_order: Option<Box<OutOfOrder>>,
}

/// A chunk that has ended.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Unix milliseconds of the first sample.
    pub min_time: i64,
    /// Unix milliseconds of the last sample.
    pub max_time: i64,
    /// How `data` is encoded.
    pub encoding: Encoding,
    /// The chunk's data.
    pub data: Arc<[u8]>,
}

impl Line {
    /// The open chunk of floats; `None` without one.
    pub(super) fn open_chunk(&self) -> Option<Closed> {
        if self.tail.count() == 0 {
            return None;
        }
        let mut data: Arc<[u8]> = Arc::from(self.data.as_slice());
        if let Some(data) = Arc::get_mut(&mut data) {
            self.tail.write_count(data);
        }
        Some(Closed {
            min_time: Tail::first_time(&self.data),
            max_time: self.tail.last_time(),
            encoding: Encoding::Xor,
            data,
        })
    }
}

impl Meta {
    pub(super) fn heap_bytes(&self) -> usize {
        let closed: usize = self.closed.iter().map(|chunk| chunk.data.len() + 16).sum();
        closed
            + self.closed.capacity() * size_of::<Closed>()
            + self.native.as_ref().map_or(0, |native| native.heap_bytes())
            + self.out_of_order.as_ref().map_or(0, |late| late.heap_bytes())
    }
}
