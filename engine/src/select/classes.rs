//! Series told apart by a few of their labels only: each a number, its class, so that nobody reads,
//! copies or compares the others.
//!
//! ```text
//! series   0   1   2   3   4          value ids of "namespace"   3 3 7 3 7
//! class    0   1   2   0   2          value ids of "le"          1 2 1 1 1
//! labels   {3, 1}  {3, 2}  {7, 1}     one for each class, in the order in which they appear
//! ```

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::ops::Range;

use crate::index::pages::PagesRead;
use crate::model::{Error, Labels, Mixed};

use super::plan::Plan;

/// Series that are looked at between two looks at whether somebody waits for them.
const LOOKUP_SERIES: usize = 4096;

/// Series and their classes.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    /// Place of the first series in the order of the answer.
    first: u32,
    /// The class of each series.
    numbers: Vec<u32>,
    /// The labels of each class.
    labels: Vec<Labels>,
}

impl Classes {
    /// Labels of all classes.
    pub fn labels(&self) -> &[Labels] {
        &self.labels
    }

    /// Bytes that they occupy on the heap.
    pub fn heap_bytes(&self) -> usize {
        let labels: usize = self.labels.iter().map(|labels| size_of::<Labels>() + labels.heap_bytes()).sum();
        self.numbers.capacity() * size_of::<u32>() + labels
    }

    /// The class of the series at `place` in the order of the answer.
    #[inline]
    pub fn of(&self, place: u32) -> usize {
        self.numbers[(place - self.first) as usize] as usize
    }
}

impl Plan {
    /// The classes that the labels called `names` (ascending) make of the series of `ranges`, of a
    /// plan whose labels are left out. Limit when more than may be downloaded is read of an index meanwhile; Canceled
    /// or Deadline when nobody waits for them any more.
    pub fn classes(&self, ranges: Range<usize>, names: &[String]) -> Result<Classes, Error> {
        let before = PagesRead::here();
        let found = self.find_classes(ranges, names);
        self.meter.read_bytes(PagesRead::here().since(before).bytes)?;
        found
    }

    fn find_classes(&self, ranges: Range<usize>, names: &[String]) -> Result<Classes, Error> {
        let (Some(source), false) = (self.sources.first(), ranges.is_empty()) else { return Ok(Classes::default()) };
        let (first, end) = (self.range(ranges.start).0.0[0], self.range(ranges.end - 1).1.0[0]);
        let ordinals = &source.ordinals[first as usize..end as usize];
        let index = source.block.index();
        let place = |error| source.block.place(error);
        let external = source.shape.external();
        let mut numbers = vec![0u32; ordinals.len()];
        // Of each class, the value ids that make it.
        let mut members: Vec<Vec<u32>> = vec![Vec::new()];
        let is_stored = |name: &str| external.get(name).is_none() && !source.shape.drops(name);
        let mut ids = Vec::with_capacity(ordinals.len());
        for name in names.iter().filter(|name| is_stored(name)) {
            ids.clear();
            for part in ordinals.chunks(LOOKUP_SERIES) {
                self.meter.check_wanted()?;
                index.value_ids(name, part, &mut ids).map_err(place)?;
            }
            members = split(&mut numbers, &ids, &members);
        }
        let mut labels = Vec::with_capacity(members.len());
        let (mut text, mut ends) = (String::new(), Vec::new());
        for ids in &members {
            text.clear();
            ends.clear();
            let mut ids = ids.iter();
            for name in names {
                match external.get(name) {
                    Some(value) => text.push_str(value),
                    None if source.shape.drops(name) => {}
                    None => match ids.next() {
                        None | Some(0) => {}
                        Some(id) => index.append_value(name, *id, &mut text).map_err(place)?,
                    },
                }
                ends.push(text.len());
            }
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let values = starts.zip(&ends).map(|(start, end)| &text[start..*end]);
            let pairs = names.iter().map(String::as_str).zip(values);
            labels.push(Labels::from_sorted(pairs.filter(|(_, value)| !value.is_empty())));
        }
        Ok(Classes { first, numbers, labels })
    }
}

/// Splits the classes `numbers` by `ids`: gives what makes the new ones, of which `members` say it of
/// the old ones.
fn split(numbers: &mut [u32], ids: &[u32], members: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let mut known: HashMap<u64, u32, BuildHasherDefault<Mixed>> = HashMap::default();
    let mut made: Vec<Vec<u32>> = Vec::new();
    let mut last = (u64::MAX, 0);
    for (number, id) in numbers.iter_mut().zip(ids) {
        let key = u64::from(*number) << 32 | u64::from(*id);
        if key != last.0 {
            let class = *known.entry(key).or_insert_with(|| {
                let before = &members[*number as usize];
                let mut own = Vec::with_capacity(before.len() + 1);
                own.extend_from_slice(before);
                own.push(*id);
                made.push(own);
                made.len() as u32 - 1
            });
            last = (key, class);
        }
        *number = last.1;
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_numbered_as_they_appear_and_split_by_every_label() {
        let mut numbers = vec![0; 5];
        let members = split(&mut numbers, &[3, 3, 7, 3, 7], &[Vec::new()]);
        assert_eq!((numbers.as_slice(), members.len()), (&[0, 0, 1, 0, 1][..], 2));
        let members = split(&mut numbers, &[1, 2, 1, 1, 1], &members);
        assert_eq!((numbers, members), (vec![0, 1, 2, 0, 2], vec![vec![3, 1], vec![3, 2], vec![7, 1]]));
    }
}
