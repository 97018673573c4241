//! Frames of an answer as a bench takes them: the bytes of labels and chunks one after the other.

use engine::block::LabelView;
use engine::model::Error;
use engine::select::{ChunkSet, FrameSink, SinkFactory};

/// Makes sinks that copy.
pub struct Copying;

struct Copied(Vec<u8>);

impl SinkFactory for Copying {
    fn sink(&self, bytes: usize) -> Box<dyn FrameSink> {
        Box::new(Copied(Vec::with_capacity(bytes)))
    }
}

impl FrameSink for Copied {
    fn series(&mut self, labels: LabelView<'_>, chunks: &[ChunkSet<'_>]) -> Result<(), Error> {
        for (name, value) in labels.iter() {
            self.0.extend_from_slice(name.as_bytes());
            self.0.extend_from_slice(value.as_bytes());
        }
        for chunk in chunks.iter().flat_map(|set| set.parts.iter().flatten()) {
            self.0.extend_from_slice(chunk.data);
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}
