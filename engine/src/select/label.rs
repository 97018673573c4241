//! Label names and label values over many blocks: answered by the indexes alone.

use std::collections::BTreeSet;

use crate::block::{Chosen, OpenedBlock};
use crate::codec::StringList;
use crate::index::ChunkColumns;
use crate::model::{Error, Matcher, Reservation, TimeRange};
use crate::postings::Ordinals;

use super::plan::{FIND_BYTES_PER_SERIES, Failure};
use super::request::Meter;

/// Series whose chunks are looked at in one go.
const LOOKUP_SERIES: usize = 4096;

/// A request for label names, or for the values of one label.
#[derive(Clone, Debug)]
pub struct LabelRequest {
    /// The label whose values are wanted; `None` for the names.
    pub name: Option<String>,
    /// Only blocks that overlap this range; where there are matchers, only series with a chunk in it.
    pub range: TimeRange,
    /// What series must match, external labels among them.
    pub matchers: Vec<Matcher>,
    /// Labels that are dropped.
    pub without_labels: Vec<String>,
    /// Strings wanted at most; 0 for all.
    pub limit: usize,
    /// What the external labels and `__block_id` of blocks must match.
    pub block_matchers: Vec<Matcher>,
}

/// Names or values, ascending, each once.
#[derive(Debug, Default)]
pub struct LabelAnswer {
    /// Names or values.
    pub strings: StringList,
    /// Blocks that could not answer.
    pub failures: Vec<Failure>,
    /// Memory that the strings are accounted for with, and their copies on the wire.
    pub held: Vec<Reservation>,
}

/// What one block has to say, and the memory that it is accounted for with.
pub type OfBlock = (StringList, Reservation);

impl LabelRequest {
    /// What one block has to say. Limit when there is no memory for it.
    pub fn ask(&self, chosen: &Chosen, meter: &Meter) -> Result<OfBlock, Error> {
        let block = &*chosen.block;
        let strings = match (self.series(chosen, meter)?, &self.name) {
            (Some(series), _) if series.is_empty() => StringList::default(),
            (series, None) => self.names(block, series.as_ref())?,
            (series, Some(name)) => self.values(block, name, series.as_ref())?,
        };
        let held = meter.hold(held_bytes(&strings))?;
        Ok((strings, held))
    }

    /// The series that the answer is taken from; `None` for all, where there is no matcher.
    fn series(&self, chosen: &Chosen, meter: &Meter) -> Result<Option<Ordinals>, Error> {
        if chosen.matchers.is_empty() {
            return Ok(None);
        }
        let index = chosen.block.index();
        if !index.may_match(&chosen.matchers) {
            return Ok(Some(Ordinals::empty()));
        }
        let _held = meter.hold(chosen.block.series_max().saturating_mul(FIND_BYTES_PER_SERIES))?;
        let found = index.select(&chosen.matchers)?;
        meter.touch_series(found.len() as u64)?;
        if chosen.block.is_within(self.range) {
            return Ok(Some(found));
        }
        let mut within = Vec::new();
        let mut chunks = ChunkColumns::default();
        for part in found.into_list().chunks(LOOKUP_SERIES) {
            chunks.clear();
            index.chunks(part, self.range, &mut chunks)?;
            let mut start = 0;
            for (ordinal, end) in part.iter().zip(&chunks.ends) {
                if *end > start {
                    within.push(*ordinal);
                }
                start = *end;
            }
        }
        Ok(Some(Ordinals::List(within)))
    }

    fn names(&self, block: &OpenedBlock, series: Option<&Ordinals>) -> Result<StringList, Error> {
        let mut names: BTreeSet<String> = block.index().label_names(series)?.into_iter().collect();
        names.extend(block.info().external_labels.iter().map(|(name, _)| name.to_owned()));
        for without in &self.without_labels {
            names.remove(without);
        }
        Ok(names.iter().map(String::as_str).collect())
    }

    fn values(&self, block: &OpenedBlock, name: &str, series: Option<&Ordinals>) -> Result<StringList, Error> {
        if self.without_labels.iter().any(|without| without == name) {
            return Ok(StringList::default());
        }
        if let Some(value) = block.info().external_labels.get(name) {
            return Ok(std::iter::once(value).collect());
        }
        let limit = if self.limit == 0 { usize::MAX } else { self.limit };
        block.index().label_values(name, series, limit)
    }

    /// The answers of several blocks as one.
    pub fn merge(&self, answers: impl IntoIterator<Item = Result<OfBlock, Failure>>) -> LabelAnswer {
        let (mut lists, mut failures, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for answer in answers {
            match answer {
                Ok((found, own)) => {
                    held.push(own);
                    lists.push(found);
                }
                Err(failure) => failures.push(failure),
            }
        }
        let mut strings = StringList::merge(lists);
        if self.limit > 0 {
            strings.truncate(self.limit);
        }
        LabelAnswer { strings, failures, held }
    }
}

/// Bytes of strings, and of the list that they are merged into.
pub fn held_bytes(strings: &StringList) -> u64 {
    2 * strings.heap_bytes() as u64
}
