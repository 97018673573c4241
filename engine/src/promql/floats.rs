//! Chunks of floats of many series, decoded side by side into the columns of a batch.

use std::sync::Arc;

use crate::batch::SampleBatch;
use crate::chunk::{Encoding, xor};
use crate::model::{Error, ErrorKind, Labels};

use super::source::BatchSink;

/// Decodes chunks of floats; its columns are used again for each batch.
#[derive(Debug, Default)]
pub struct FloatDecoder {
    decoded: xor::Batch,
}

impl FloatDecoder {
    /// Decodes `chunks` and hands `series` to `sink`: the labels of each, and the number of chunks up to its
    /// last. `batch` is empty, and so it is afterwards. Corrupt when a chunk is, which tells the series.
    pub fn hand_on(
        &mut self,
        chunks: &[&[u8]],
        series: impl IntoIterator<Item = (Arc<Labels>, usize)>,
        batch: &mut SampleBatch,
        sink: &mut BatchSink<'_>,
    ) -> Result<(), Error> {
        if let Err((at, corrupt)) = xor::decode_batch(chunks, &mut self.decoded) {
            let error = Error::new(ErrorKind::Corrupt, corrupt.to_string());
            let broken = series.into_iter().find(|(_, end)| at < *end);
            return Err(match broken {
                Some((labels, _)) => error.within(format_args!("series {labels}")),
                None => error,
            });
        }
        for (labels, chunks) in series {
            let end = chunks.checked_sub(1).map_or(0, |last| self.decoded.range(last).end);
            batch.finish_floats(labels, end);
        }
        self.decoded.swap_columns(&mut batch.floats.timestamps, &mut batch.floats.values);
        let result = sink(batch);
        self.decoded.swap_columns(&mut batch.floats.timestamps, &mut batch.floats.values);
        batch.clear();
        result
    }
}

/// Whether chunks of these first and last times and raw encodings are floats as they were scraped, none
/// of them beginning before the one before it has ended.
pub fn follow_each_other(chunks: impl IntoIterator<Item = (i64, i64, Option<Encoding>)>) -> bool {
    let mut end = None;
    chunks.into_iter().all(|(min_time, max_time, raw)| {
        let follows = end.is_none_or(|end| end < min_time);
        end = Some(max_time);
        follows && raw == Some(Encoding::Xor)
    })
}
