//! Where an answer's series go: an encoder of wire frames, or whatever else takes them.

use std::cmp::Ordering;

use crate::block::LabelView;
use crate::chunk::Encoding;
use crate::model::{Error, ErrorKind};

use super::request::Aggregate;
use super::series::{RangeSeries, SeriesName};

/// A chunk's data, borrowed: what lies between the encoding byte and the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkData<'a> {
    /// XOR, histogram or float histogram; other encodings have been re-encoded.
    pub encoding: Encoding,
    /// The data.
    pub data: &'a [u8],
}

/// The chunks of one range of time: raw, or aggregates of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSet<'a> {
    /// Unix milliseconds of the first sample.
    pub min_time: i64,
    /// Unix milliseconds of the last sample.
    pub max_time: i64,
    /// Raw, count, sum, min, max, counter.
    pub parts: [Option<ChunkData<'a>>; 6],
}

/// Takes the series of an answer, range by range, in order.
pub trait SeriesSink {
    /// Takes the series of one range.
    fn range(&mut self, series: &mut RangeSeries<'_>) -> Result<(), Error>;
}

/// Takes the series of an answer, in order, and makes frames of them.
pub trait FrameSink {
    /// Takes one series: labels ascending by name, chunks ascending by time.
    fn series(&mut self, labels: LabelView<'_>, chunks: &[ChunkSet<'_>]) -> Result<(), Error>;

    /// Bytes taken so far.
    fn len(&self) -> usize;

    /// Whether nothing was taken so far.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whole frames of all that was taken.
    fn take(&mut self) -> Vec<u8>;
}

/// Makes a sink for each range of an answer.
pub trait SinkFactory: Send + Sync {
    /// A sink for a range; `bytes` is about how much it will take.
    fn sink(&self, bytes: usize) -> Box<dyn FrameSink>;
}

impl<F: FrameSink + ?Sized> SeriesSink for F {
    fn range(&mut self, series: &mut RangeSeries<'_>) -> Result<(), Error> {
        let mut sets = Vec::new();
        while let Some(name) = series.next(&mut sets) {
            match name {
                SeriesName::Labels(labels) => self.series(labels, &sets)?,
                SeriesName::Place(place) => {
                    let message = format!("series {place} comes without labels to a sink that needs them");
                    return Err(Error::new(ErrorKind::Bug, message));
                }
            }
        }
        Ok(())
    }
}

impl<'a> ChunkSet<'a> {
    /// A set of samples as they were scraped.
    pub fn raw(min_time: i64, max_time: i64, chunk: ChunkData<'a>) -> Self {
        Self { min_time, max_time, parts: [Some(chunk), None, None, None, None, None] }
    }

    /// A set without a chunk yet.
    pub fn empty(min_time: i64, max_time: i64) -> Self {
        Self { min_time, max_time, parts: [None; 6] }
    }

    /// Samples as they were scraped.
    pub fn raw_part(&self) -> Option<ChunkData<'a>> {
        self.parts[0]
    }

    /// The part that holds `aggregate`.
    pub fn part(&self, aggregate: Aggregate) -> Option<ChunkData<'a>> {
        self.parts[aggregate as usize]
    }

    /// Sets the part that holds `aggregate`.
    pub fn set_part(&mut self, aggregate: Aggregate, chunk: ChunkData<'a>) {
        self.parts[aggregate as usize] = Some(chunk);
    }

    /// The order of the sets of a series, which is Thanos': by time, and of sets of the same times those
    /// with more in their first differing part come first. Which replica a querier follows where all
    /// begin at once depends on it.
    pub fn order(&self, other: &Self) -> Ordering {
        let part = |own: Option<ChunkData<'_>>, other: Option<ChunkData<'_>>| match (own, other) {
            (Some(own), Some(other)) => {
                own.encoding.byte().cmp(&other.encoding.byte()).then_with(|| other.data.cmp(own.data))
            }
            (own, other) => other.is_some().cmp(&own.is_some()),
        };
        let times = (self.min_time, self.max_time).cmp(&(other.min_time, other.max_time));
        let mut parts = self.parts.iter().zip(&other.parts).map(|(own, other)| part(*own, *other));
        times.then_with(|| parts.find(|order| order.is_ne()).unwrap_or(Ordering::Equal))
    }

    /// Whether no chunk is there.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(Option::is_none)
    }
}
