//! Frames that shards write: the engine's series in StoreAPI's encoding.

use engine::block::LabelView;
use engine::chunk::Encoding;
use engine::model::{Error, ErrorKind};
use engine::select::{Aggregate, ChunkSet, FrameSink, SinkFactory};
use proto::series::{self, AggrPart, ChunkKind, ChunkRef, FrameWriter};

use super::sent::{Sending, SentSizes};

/// Makes writers of frames.
#[derive(Clone, Debug)]
pub struct Frames {
    /// Series of one frame at most; 0 or 1 for one each.
    pub batch_series_max: usize,
    /// Counts what is sent.
    pub sent: SentSizes,
}

impl SinkFactory for Frames {
    fn sink(&self, bytes: usize) -> Box<dyn FrameSink> {
        let mut writer = FrameWriter::new(self.batch_series_max);
        writer.reserve(bytes);
        Box::new(Writer { writer, sets: Vec::new(), sent: self.sent.begin() })
    }
}

struct Writer {
    writer: FrameWriter,
    /// Empty between series; kept for its room.
    sets: Vec<series::ChunkSet<'static>>,
    sent: Sending,
}

impl FrameSink for Writer {
    fn series(&mut self, labels: LabelView<'_>, chunks: &[ChunkSet<'_>]) -> Result<(), Error> {
        let mut sets = reuse(std::mem::take(&mut self.sets));
        let mut bytes = 0;
        for chunk in chunks {
            sets.push(to_wire(chunk)?);
            bytes += len(chunk);
        }
        self.sent.add(bytes as u64);
        match labels.encoded() {
            Some(labels) => self.writer.encoded_series(labels.0, &sets),
            None => self.writer.series(labels.iter(), &sets),
        }
        self.sets = reuse(sets);
        Ok(())
    }

    fn len(&self) -> usize {
        self.writer.len()
    }

    fn take(&mut self) -> Vec<u8> {
        self.writer.take()
    }
}

/// The room of `sets` for sets of another lifetime; collecting an emptied vector in place keeps it.
fn reuse<'b>(mut sets: Vec<series::ChunkSet<'_>>) -> Vec<series::ChunkSet<'b>> {
    sets.clear();
    sets.into_iter().map(|_| series::ChunkSet::new(0, 0)).collect()
}

/// Bytes of the data of a set's chunks.
fn len(set: &ChunkSet<'_>) -> usize {
    let aggregates = Aggregate::ALL.into_iter().filter_map(|aggregate| set.part(aggregate));
    set.raw_part().into_iter().chain(aggregates).map(|chunk| chunk.data.len()).sum()
}

fn to_wire<'a>(set: &ChunkSet<'a>) -> Result<series::ChunkSet<'a>, Error> {
    let mut wire = series::ChunkSet::new(set.min_time, set.max_time);
    if let Some(raw) = set.raw_part() {
        wire = wire.with(AggrPart::Raw, chunk(raw.encoding, raw.data)?);
    }
    for aggregate in Aggregate::ALL {
        if let Some(part) = set.part(aggregate) {
            wire = wire.with(part_of(aggregate), chunk(part.encoding, part.data)?);
        }
    }
    Ok(wire)
}

fn part_of(aggregate: Aggregate) -> AggrPart {
    match aggregate {
        Aggregate::Count => AggrPart::Count,
        Aggregate::Sum => AggrPart::Sum,
        Aggregate::Min => AggrPart::Min,
        Aggregate::Max => AggrPart::Max,
        Aggregate::Counter => AggrPart::Counter,
    }
}

fn chunk(encoding: Encoding, data: &[u8]) -> Result<ChunkRef<'_>, Error> {
    let kind = match encoding {
        Encoding::Xor => ChunkKind::Xor,
        Encoding::Histogram => ChunkKind::Histogram,
        Encoding::FloatHistogram => ChunkKind::FloatHistogram,
        other => {
            let message = format!("chunk encoding {other:?} has no place on the wire and was not re-encoded");
            return Err(Error::new(ErrorKind::Bug, message));
        }
    };
    Ok(ChunkRef { kind, data })
}
