//! What a column index answers.

use std::ops::ControlFlow;

use super::frames::FRAME;
use super::reader::{LabelIds, Reader};
use crate::codec::StringList;
use crate::index::select::{self, Effect, Lookup, Step, Values, Visit};
use crate::index::{BlockIndex, ChunkColumns, SeriesLabels};
use crate::model::matcher::MatchKind;
use crate::model::{Error, ErrorKind, IsWanted, Matcher, TimeRange};
use crate::postings::{Ordinals, Union};

/// Up to this many series, whether one of them has a label is looked up series by series.
const LOOKED_UP_MAX: usize = 4096;

impl BlockIndex for Reader {
    fn all(&self) -> Result<Ordinals, Error> {
        Ok(Ordinals::all(self.series_count()))
    }

    fn series_max(&self) -> u64 {
        u64::from(self.series_count())
    }

    fn may_match(&self, matchers: &[Matcher]) -> bool {
        matchers.iter().filter(|matcher| matcher.kind() == MatchKind::Eq && !matcher.value().is_empty()).all(
            |matcher| {
                let Some(value) = matcher.value().as_str() else { return false };
                let Some(label) = self.label(matcher.name()) else { return false };
                // A damaged filter is told when the block is asked.
                self.filter(label).map_or(true, |filter| filter.is_none_or(|filter| filter.may_contain(value)))
            },
        )
    }

    fn select(&self, matchers: &[Matcher], wanted: IsWanted<'_>) -> Result<Ordinals, Error> {
        select::select(self, matchers, wanted)
    }

    fn label_names(&self, series: Option<&Ordinals>) -> Result<Vec<String>, Error> {
        let mut names = Vec::with_capacity(self.label_count());
        for label in 0..self.label_count() as u32 {
            let there = match series {
                None => true,
                Some(series) if series.len() <= LOOKED_UP_MAX => {
                    let ids = self.ids(label)?;
                    series.clone().into_list().into_iter().any(|ordinal| ids.get(ordinal) != 0)
                }
                Some(series) => !self.postings(label)?.list(0)?.intersect(series).is_empty(),
            };
            if there {
                names.push(self.label_name(label).to_owned());
            }
        }
        Ok(names)
    }

    fn label_values(&self, name: &str, series: Option<&Ordinals>, limit: usize) -> Result<StringList, Error> {
        let mut values = StringList::default();
        let Some(label) = self.label(name).filter(|_| limit > 0) else { return Ok(values) };
        let Some(series) = series else {
            self.dictionary(label)?.append_first(limit, &mut values);
            return Ok(values);
        };
        let count = self.value_count(label);
        let mut wanted = IdSet::new(count);
        for_each_id(self.ids(label)?, series, |_, id| wanted.insert(id));
        self.dictionary(label)?.visit(1..count + 1, |id, value| {
            if wanted.contains(id) {
                values.push(value);
            }
            if values.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        Ok(values)
    }

    fn labels(&self, ordinal: u32, labels: &mut SeriesLabels) -> Result<(), Error> {
        self.expect(&[ordinal])?;
        self.gather(ordinal, labels)
    }

    fn chunks(&self, ordinals: &[u32], range: TimeRange, chunks: &mut ChunkColumns) -> Result<(), Error> {
        self.expect(ordinals)?;
        let columns = self.chunk_columns()?;
        chunks.reserve(ordinals.len());
        ordinals.iter().for_each(|ordinal| columns.append(*ordinal as usize, range, chunks));
        Ok(())
    }

    fn value_ids(&self, name: &str, ordinals: &[u32], ids: &mut Vec<u32>) -> Result<(), Error> {
        match self.label(name) {
            None => ids.extend(ordinals.iter().map(|_| 0)),
            Some(label) => {
                let column = self.ids(label)?;
                ids.extend(ordinals.iter().map(|ordinal| column.get(*ordinal)));
            }
        }
        Ok(())
    }

    fn append_value(&self, name: &str, id: u32, value: &mut String) -> Result<(), Error> {
        if let Some(label) = self.label(name) {
            self.dictionary(label)?.append(id, value);
        }
        Ok(())
    }

    fn least_extension(&self, _series: &[u32]) -> Result<Option<String>, Error> {
        Ok(self.extension().map(|label| self.label_name(label).to_owned()))
    }

    fn heap_bytes(&self) -> usize {
        self.heap()
    }
}

impl Reader {
    /// An error when one of `ordinals` is no series.
    fn expect(&self, ordinals: &[u32]) -> Result<(), Error> {
        match ordinals.iter().max() {
            Some(&greatest) if greatest >= self.series_count() => {
                let message = format!("series {greatest} is asked for in a block of {} series", self.series_count());
                Err(Error::new(ErrorKind::Bug, message))
            }
            _ => Ok(()),
        }
    }

    fn label_of(&self, name: &str) -> Result<u32, Error> {
        let missing = || Error::new(ErrorKind::Bug, format!("label {name:?} is asked for where it isn't"));
        self.label(name).ok_or_else(missing)
    }
}

impl Lookup for Reader {
    type Value = u32;

    fn all(&self) -> Result<Ordinals, Error> {
        BlockIndex::all(self)
    }

    fn has_label(&self, name: &str) -> bool {
        self.label(name).is_some()
    }

    fn find(&self, name: &str, value: &str) -> Result<Option<u32>, Error> {
        let label = self.label_of(name)?;
        if self.filter(label)?.is_some_and(|filter| !filter.may_contain(value)) {
            return Ok(None);
        }
        Ok(self.dictionary(label)?.find(value))
    }

    fn visit(&self, name: &str, prefix: &str, visit: Visit<'_, u32>) -> Result<(), Error> {
        let dictionary = self.dictionary(self.label_of(name)?)?;
        dictionary.visit(dictionary.with_prefix(prefix), |id, value| visit(value, id));
        Ok(())
    }

    fn estimate(&self, name: &str, values: &Values<u32>) -> Result<usize, Error> {
        let postings = self.postings(self.label_of(name)?)?;
        Ok(match values {
            Values::All => postings.count(0),
            Values::Some(ids) => ids.iter().map(|id| postings.count(*id)).sum(),
        })
    }

    fn postings(&self, name: &str, values: &Values<u32>) -> Result<Ordinals, Error> {
        let postings = Reader::postings(self, self.label_of(name)?)?;
        match values {
            Values::All => postings.list(0),
            Values::Some(ids) if ids.len() == 1 => postings.list(ids[0]),
            Values::Some(ids) => {
                let mut union = Union::new(self.series_count());
                for id in ids {
                    union.add(&postings.list(*id)?);
                }
                Ok(union.finish())
            }
        }
    }

    fn sift(&self, step: &Step<'_, u32>, candidates: &Ordinals) -> Result<Option<Ordinals>, Error> {
        let label = self.label_of(step.name)?;
        let column = self.ids(label)?;
        let keep = step.effect == Effect::Keep;
        Ok(Some(match &step.values {
            Values::All => sift(column, candidates, |id| (id != 0) == keep),
            Values::Some(ids) if ids.len() == 1 => sift(column, candidates, |id| (id == ids[0]) == keep),
            Values::Some(ids) => {
                let mut wanted = IdSet::new(self.value_count(label));
                ids.iter().for_each(|id| wanted.insert(*id));
                sift(column, candidates, |id| wanted.contains(id) == keep)
            }
        }))
    }
}

/// Those of `candidates` whose id `stays`.
fn sift(column: LabelIds<'_>, candidates: &Ordinals, stays: impl Fn(u32) -> bool) -> Ordinals {
    let mut sifted = Vec::new();
    for_each_id(column, candidates, |ordinal, id| {
        if stays(id) {
            sifted.push(ordinal);
        }
    });
    Ordinals::from(sifted)
}

/// Calls `visit` with each of `series` and its id in `column`.
fn for_each_id(column: LabelIds<'_>, series: &Ordinals, mut visit: impl FnMut(u32, u32)) {
    let bitmap;
    let list = match series {
        Ordinals::Range(range) => {
            let mut ids = [0; FRAME];
            let mut at = range.start;
            while at < range.end {
                let end = ((at / FRAME as u32 + 1) * FRAME as u32).min(range.end);
                column.unpack(at as usize / FRAME, &mut ids);
                (at..end).for_each(|ordinal| visit(ordinal, ids[ordinal as usize % FRAME]));
                at = end;
            }
            return;
        }
        Ordinals::List(list) => list,
        Ordinals::Bitmap(_) => {
            bitmap = series.clone().into_list();
            &bitmap
        }
    };
    list.iter().for_each(|ordinal| visit(*ordinal, column.get(*ordinal)));
}

/// A set of value ids.
struct IdSet {
    words: Vec<u64>,
}

impl IdSet {
    /// Nothing yet, of ids up to `count`.
    fn new(count: u32) -> Self {
        Self { words: vec![0; count as usize / 64 + 1] }
    }

    fn insert(&mut self, id: u32) {
        if let Some(word) = self.words.get_mut(id as usize / 64) {
            *word |= 1 << (id % 64);
        }
    }

    fn contains(&self, id: u32) -> bool {
        self.words.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }
}
