//! Label names and label values over many blocks: answered by the indexes alone.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::block::{Chosen, OpenedBlock};
use crate::codec::StringList;
use crate::index::ChunkColumns;
use crate::index::pages::PagesRead;
use crate::model::{Error, Matcher, Reservation, TimeRange};
use crate::postings::Ordinals;

use super::plan::{FIND_BYTES_PER_SERIES, Failure};
use super::request::Meter;

/// Series that are looked at in one go.
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

/// What blocks have said so far.
#[derive(Debug, Default)]
pub struct Said {
    /// Strings, and the memory that they are accounted for with. Each list is less than half as large as the one
    /// before: what several blocks have is held once, and no string is merged often.
    lists: Vec<(StringList, Reservation)>,
    failures: Vec<Failure>,
}

impl Said {
    /// Adds what others have said.
    pub fn join(&mut self, other: Self) {
        self.failures.extend(other.failures);
        other.lists.into_iter().for_each(|list| self.add(list));
    }

    fn add(&mut self, list: (StringList, Reservation)) {
        push_merged(&mut self.lists, list, |(strings, _)| strings.heap_bytes(), merge_held);
    }
}

/// Appends `list` and merges it with those before it that are less than twice as large, so that each is less than half
/// as large as the one before.
fn push_merged<T>(lists: &mut Vec<T>, mut list: T, bytes: impl Fn(&T) -> usize, merge: impl Fn(T, T) -> T) {
    while let Some(before) = lists.pop_if(|before| 2 * bytes(&list) >= bytes(before)) {
        list = merge(before, list);
    }
    lists.push(list);
}

/// One list of two, and the memory that it takes.
fn merge_held(
    (before, of_before): (StringList, Reservation),
    (last, mut held): (StringList, Reservation),
) -> (StringList, Reservation) {
    held.join(of_before);
    let merged = StringList::merge(vec![before, last]);
    held.shrink(held.bytes().saturating_sub(held_bytes(&merged)));
    (merged, held)
}

impl LabelRequest {
    /// What the blocks of `chosen` have to say, and those that are left from the first on for which there was no
    /// memory beside the others. The error of a limit of the request ends it, and so does that nobody waits for it;
    /// others are their block's own.
    pub fn ask_all(&self, chosen: Vec<Chosen>, meter: &Meter) -> Result<(Said, Vec<Chosen>), Error> {
        let mut said = Said::default();
        let mut chosen = chosen.into_iter();
        while let Some(next) = chosen.next() {
            match self.ask(&next, meter)? {
                Ok((strings, touched)) => match meter.hold(held_bytes(&strings)) {
                    Ok(held) => said.add((strings, held)),
                    Err(_) => {
                        meter.forget_series(touched);
                        return Ok((said, std::iter::once(next).chain(chosen).collect()));
                    }
                },
                Err(failure) => said.failures.push(failure),
            }
        }
        Ok((said, Vec::new()))
    }

    /// What the blocks of `rest` have to say besides what was `said`, while nobody else asks for this request.
    /// Limit when there is no memory for it.
    pub fn ask_one_by_one(&self, mut said: Said, rest: &[Chosen], meter: &Meter) -> Result<Said, Error> {
        for chosen in rest {
            match self.ask(chosen, meter)? {
                Ok((strings, _)) => {
                    let held = meter.hold(held_bytes(&strings))?;
                    said.add((strings, held));
                }
                Err(failure) => said.failures.push(failure),
            }
        }
        Ok(said)
    }

    /// What one block has to say, and the number of its series that this was counted for.
    fn ask(&self, chosen: &Chosen, meter: &Meter) -> Result<Result<(StringList, u64), Failure>, Error> {
        meter.check_wanted()?;
        let before = PagesRead::here();
        let found = self.find(chosen, meter);
        meter.read_bytes(PagesRead::here().since(before).bytes)?;
        match found {
            Err(error) if error.kind().ends_request() => Err(error),
            found => {
                let failure = |error| Failure { block: chosen.block.id(), error: chosen.block.place(error) };
                Ok(found.map_err(failure))
            }
        }
    }

    fn find(&self, chosen: &Chosen, meter: &Meter) -> Result<(StringList, u64), Error> {
        let block = &*chosen.block;
        let (series, touched) = self.series(chosen, meter)?;
        let strings = match (series, &self.name) {
            (Some(series), _) if series.is_empty() => StringList::default(),
            (series, None) => self.names(block, series.as_ref(), meter)?,
            (series, Some(name)) => self.values((block, name), series.as_ref(), meter)?,
        };
        Ok((strings, touched))
    }

    /// The series that the answer is taken from, `None` for all, where there is no matcher; and how many were counted.
    fn series(&self, chosen: &Chosen, meter: &Meter) -> Result<(Option<Ordinals>, u64), Error> {
        if chosen.matchers.is_empty() {
            return Ok((None, 0));
        }
        let index = chosen.block.index();
        if !index.may_match(&chosen.matchers) {
            return Ok((Some(Ordinals::empty()), 0));
        }
        let _held = meter.hold(chosen.block.series_max().saturating_mul(FIND_BYTES_PER_SERIES))?;
        let found = index.select(&chosen.matchers, &|| meter.check_wanted())?;
        let touched = found.len() as u64;
        meter.touch_series(touched)?;
        if chosen.block.is_within(self.range) {
            return Ok((Some(found), touched));
        }
        let mut within = Vec::new();
        let mut chunks = ChunkColumns::default();
        for part in found.into_list().chunks(LOOKUP_SERIES) {
            meter.check_wanted()?;
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
        Ok((Some(Ordinals::List(within)), touched))
    }

    fn names(&self, block: &OpenedBlock, series: Option<&Ordinals>, meter: &Meter) -> Result<StringList, Error> {
        let mut names = BTreeSet::<String>::new();
        for part in parts(block, series) {
            meter.check_wanted()?;
            names.extend(block.index().label_names(part.as_deref())?);
        }
        names.extend(block.info().external_labels.iter().map(|(name, _)| name.to_owned()));
        for without in &self.without_labels {
            names.remove(without);
        }
        Ok(names.iter().map(String::as_str).collect())
    }

    fn values(
        &self,
        (block, name): (&OpenedBlock, &str),
        series: Option<&Ordinals>,
        meter: &Meter,
    ) -> Result<StringList, Error> {
        if self.without_labels.iter().any(|without| without == name) {
            return Ok(StringList::default());
        }
        // All series stand in the index behind a pair of empty strings, which Thanos' store takes for one of a label.
        if name.is_empty() {
            return Ok(if series.is_none() { std::iter::once("").collect() } else { StringList::default() });
        }
        if let Some(value) = block.info().external_labels.get(name) {
            return Ok(std::iter::once(value).collect());
        }
        let limit = if self.limit == 0 { usize::MAX } else { self.limit };
        let mut lists: Vec<StringList> = Vec::new();
        for part in parts(block, series) {
            meter.check_wanted()?;
            let list = block.index().label_values(name, part.as_deref(), limit)?;
            push_merged(&mut lists, list, StringList::heap_bytes, |before, last| StringList::merge(vec![before, last]));
        }
        let mut values = StringList::merge(lists);
        values.truncate(limit);
        Ok(values)
    }

    /// What all blocks have said as one answer.
    pub fn answer(&self, said: Said) -> LabelAnswer {
        let (mut strings, held) = match said.lists.into_iter().rev().reduce(|last, before| merge_held(before, last)) {
            Some((strings, held)) => (strings, vec![held]),
            None => (StringList::default(), Vec::new()),
        };
        if self.limit > 0 {
            strings.truncate(self.limit);
        }
        LabelAnswer { strings, failures: said.failures, held }
    }
}

/// The series that the block's index is asked about in one go: all of them, or a few after the others where it is
/// read from afar for each.
fn parts<'s>(block: &OpenedBlock, series: Option<&'s Ordinals>) -> Vec<Option<Cow<'s, Ordinals>>> {
    match series {
        Some(series) if block.index().reads_index_file() => {
            let list = series.clone().into_list();
            list.chunks(LOOKUP_SERIES).map(|part| Some(Cow::Owned(Ordinals::List(part.to_vec())))).collect()
        }
        series => vec![series.map(Cow::Borrowed)],
    }
}

/// Bytes of strings, and of the list that they are merged into.
pub fn held_bytes(strings: &StringList) -> u64 {
    2 * strings.heap_bytes() as u64
}
