//! Whole requests over whole blocks, on shards.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use super::*;
use crate::block::{BlockSet, LabelView};
use crate::io;
use crate::model::{Budget, Error, Labels, Matcher, Resolution, TimeRange};
use crate::select::{ChunkSet, FrameSink, Limits, Request, SinkFactory};

/// Blocks whose indexes are read from afar.
mod afar;
/// Local blocks on disks that fail.
mod faults;
/// Recorded answers of Thanos.
mod golden;
/// Random blocks against a naive merge; faults, limits, cancellation.
mod synthetic;

/// A chunk set of an answer: times, and for each part its place, encoding and data.
pub(super) type Set = (i64, i64, Vec<(usize, u8, Vec<u8>)>);

/// Series of an answer, in the order in which they came.
pub(super) type Series = Vec<(Labels, Vec<Set>)>;

/// Keeps the series of a range; its "frames" are a ticket for them.
#[derive(Default)]
struct Kept {
    ranges: Mutex<Vec<Series>>,
}

struct KeepingSink {
    all: Arc<Kept>,
    own: Series,
}

impl FrameSink for KeepingSink {
    fn series(&mut self, labels: LabelView<'_>, chunks: &[ChunkSet<'_>]) -> Result<(), Error> {
        let sets = chunks.iter().map(|set| {
            let parts = set
                .parts
                .iter()
                .enumerate()
                .filter_map(|(at, part)| part.map(|chunk| (at, chunk.encoding.byte(), chunk.data.to_vec())));
            (set.min_time, set.max_time, parts.collect())
        });
        self.own.push((labels.to_labels(), sets.collect()));
        Ok(())
    }

    fn len(&self) -> usize {
        self.own.len()
    }

    fn take(&mut self) -> Vec<u8> {
        let mut ranges = self.all.ranges.lock().unwrap();
        ranges.push(std::mem::take(&mut self.own));
        (ranges.len() - 1).to_le_bytes().to_vec()
    }
}

struct Keeping(Arc<Kept>);

impl SinkFactory for Keeping {
    fn sink(&self, _bytes: usize) -> Box<dyn FrameSink> {
        Box::new(KeepingSink { all: Arc::clone(&self.0), own: Vec::new() })
    }
}

pub(super) fn selector(shards: usize, mode: io::Mode) -> Selector {
    let options = Options { shards: NonZeroUsize::new(shards), io: mode, ..Options::default() };
    Selector { pool: Pool::start(&options).unwrap(), budget: Budget::new("--store.memory-limit", 1 << 30) }
}

/// Runs a request to its end.
pub(super) fn run(selector: &Selector, blocks: &BlockSet, request: Request) -> Result<Series, Error> {
    run_with(selector, blocks, request, None)
}

fn run_with(
    selector: &Selector,
    blocks: &BlockSet,
    request: Request,
    fetcher: Option<Arc<dyn Fetcher>>,
) -> Result<Series, Error> {
    let kept = Arc::<Kept>::default();
    let setting = Setting { limits: Limits::default(), sinks: Arc::new(Keeping(Arc::clone(&kept))), fetcher };
    block_on(async {
        let mut stream = selector.select(blocks, request, setting).await?;
        let mut series = Series::new();
        while let Some(part) = stream.next().await {
            let part = part?;
            if let Some(failure) = part.failures.first() {
                return Err(failure.error.clone());
            }
            let ticket = usize::from_le_bytes(part.frames.try_into().unwrap());
            series.append(&mut kept.ranges.lock().unwrap()[ticket]);
        }
        Ok(series)
    })
}
