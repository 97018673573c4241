//! The questions that are asked of a block's index, whichever form it has.

use super::{ChunkMeta, SeriesLabels};
use crate::codec::StringList;
use crate::model::{Error, IsWanted, Matcher, TimeRange};
use crate::postings::Ordinals;

/// The index of one block. A series is known by an *ordinal*: a number that ascends in label order.
/// In the column index ordinals are 0..n without gaps; in the TSDB index they are the series
/// references, and there are gaps.
pub trait BlockIndex: Send + Sync {
    /// False when all that it answers is why it can't be read.
    fn is_readable(&self) -> bool {
        true
    }

    /// Whether what it is asked is read from the block's index file, wherever that lies.
    fn reads_index_file(&self) -> bool {
        false
    }

    /// All series.
    fn all(&self) -> Result<Ordinals, Error>;

    /// Number of series, or what it is at most.
    fn series_max(&self) -> u64;

    /// False when no series can match: some `=` matcher wants a value that the block doesn't have.
    /// Cheap: most blocks that don't have the value are told by a filter.
    fn may_match(&self, matchers: &[Matcher]) -> bool;

    /// The series that all `matchers` match; all series where there is none. An absent label is an
    /// empty one. Ends with the error of `wanted` when it has one.
    fn select(&self, matchers: &[Matcher], wanted: IsWanted<'_>) -> Result<Ordinals, Error>;

    /// Names of the labels that `series` have, ascending; of all series when `None`.
    fn label_names(&self, series: Option<&Ordinals>) -> Result<Vec<String>, Error>;

    /// The first `limit` values of the label called `name` that `series` have, ascending; of all
    /// series when `None`.
    fn label_values(&self, name: &str, series: Option<&Ordinals>, limit: usize) -> Result<StringList, Error>;

    /// Replaces `labels` by those of the series `ordinal`.
    fn labels(&self, ordinal: u32, labels: &mut SeriesLabels) -> Result<(), Error>;

    /// Appends to `chunks`, for each of `ordinals`, the chunks that share a millisecond with `range`,
    /// in the order of the index.
    fn chunks(&self, ordinals: &[u32], range: TimeRange, chunks: &mut ChunkColumns) -> Result<(), Error>;

    /// Appends, for each of `ordinals`, the id of its value of the label called `name`: 0 when it has
    /// none. Equal ids are equal values, within this index and label.
    fn value_ids(&self, name: &str, ordinals: &[u32], ids: &mut Vec<u32>) -> Result<(), Error>;

    /// Appends the value that has `id` among those of the label called `name`; nothing for 0.
    fn append_value(&self, name: &str, id: u32, value: &mut String) -> Result<(), Error>;

    /// The least label name by which one of `series` goes on where the one before it among them ends: of
    /// `{a}`, `{a, c}` it is `c`; `None` where there is no such pair. An index that has noted it says that of
    /// all its series, others look at `series`, which ascend.
    ///
    /// Series with one more label that all of them get stay in order when its name is not greater: `{a}`
    /// comes before `{a, b}`, but `{a, c}` after `{a, b, c}`.
    fn least_extension(&self, series: &[u32]) -> Result<Option<String>, Error> {
        let mut least: Option<String> = None;
        let (mut before, mut here) = (SeriesLabels::default(), SeriesLabels::default());
        for (at, ordinal) in series.iter().enumerate() {
            std::mem::swap(&mut before, &mut here);
            self.labels(*ordinal, &mut here)?;
            if at == 0 || before.len() >= here.len() || !before.iter().eq(here.iter().take(before.len())) {
                continue;
            }
            let name = here.iter().nth(before.len()).map_or("", |(name, _)| name);
            if least.as_deref().is_none_or(|known| name < known) {
                least = Some(name.to_owned());
            }
        }
        Ok(least)
    }

    /// Bytes on the heap.
    fn heap_bytes(&self) -> usize;
}

/// Chunks of many series, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkColumns {
    /// For each series, where its chunks end in the columns.
    pub ends: Vec<u32>,
    /// Times and places.
    pub metas: Vec<ChunkMeta>,
    /// Bytes from the start of the chunk to the start of the next in the same segment file; 0 when
    /// the index doesn't tell. Whoever reads the chunk checks its own length.
    pub lens: Vec<u32>,
}

impl ChunkColumns {
    /// Forgets all series and keeps the room.
    pub fn clear(&mut self) {
        self.ends.clear();
        self.metas.clear();
        self.lens.clear();
    }

    /// Makes room for so many series more, each with a chunk.
    pub fn reserve(&mut self, series: usize) {
        self.ends.reserve(series);
        self.metas.reserve(series);
        self.lens.reserve(series);
    }

    /// Times, places and lengths of the chunks of series number `at`.
    pub fn of(&self, at: usize) -> (&[ChunkMeta], &[u32]) {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        let range = start..self.ends[at] as usize;
        (&self.metas[range.clone()], &self.lens[range])
    }
}
