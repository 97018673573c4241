//! The inverted index: from labels to the series that have them. A label is known by its *place* among
//! all labels, which is also how series name their labels.
//!
//! ```text
//! names    symbol │ places of its values
//! values   name │ symbol │ list of series
//! table    open addressing by the hash of a label: half of it u32 │ place plus 1 u32, 0 where it is free
//! waiting  for each label of the series that came last: its place │ the series that its list lacks yet
//! ```
//! Series that are new and follow each other share most labels, so that those that have a label wait until one comes
//! that has another in its stead, and are added together.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::list::List;
use super::symbols::Symbols;
use crate::codec::{EncodedLabel, EncodedLabels};
use crate::model::Mixed;

/// Slots of the smallest table.
const SLOTS_MIN: usize = 64;

/// A label value and its series.
#[derive(Clone, Debug)]
struct Value {
    /// Which of the names.
    name: u32,
    symbol: u32,
    list: List,
}

/// A label name and its values in the order of their appearance.
#[derive(Clone, Debug)]
struct Name {
    symbol: u32,
    values: Vec<u32>,
    /// Number of series that have the label.
    series: u32,
}

/// Series, one after the other, that have the label at `place`, which its list does not say yet.
#[derive(Clone, Debug)]
struct Waiting {
    place: u32,
    ids: Range<u32>,
}

pub(super) type SymbolMap<V> = HashMap<u32, V, BuildHasherDefault<Mixed>>;

/// All postings of a head.
#[derive(Clone, Debug, Default)]
pub(super) struct Postings {
    values: Vec<Value>,
    names: Vec<Name>,
    by_name: SymbolMap<u32>,
    table: Vec<(u32, u32)>,
    /// By the number of the label among those of its series. All end with the series that came last, so that no place
    /// is there twice.
    waiting: Vec<Waiting>,
}

impl Postings {
    /// Adds series `id`, at least as great as all before, under `label`, whether anything has it or not;
    /// gives the label's place.
    pub(super) fn add(&mut self, label: EncodedLabel<'_>, id: u32, symbols: &mut Symbols) -> u32 {
        if (self.values.len() + 1) * 4 > self.table.len() * 3 {
            self.grow();
        }
        let hash = hash_of(label.bytes);
        match self.probe(hash, (label.name, label.value), symbols) {
            Ok(place) => {
                self.add_all(&Waiting { place, ids: id..id + 1 });
                place
            }
            Err(slot) => {
                let place = self.values.len() as u32;
                let name = self.name(symbols.intern(label.name));
                let symbol = symbols.intern(label.value);
                self.names[name as usize].series += 1;
                self.names[name as usize].values.push(place);
                self.values.push(Value { name, symbol, list: List::One(id) });
                self.table[slot] = (hash, place + 1);
                place
            }
        }
    }

    /// Adds the series `ids`, one or none, greater than all before, under the label at `place`, which is label number
    /// `at` of it; the labels of a series come in order. They are there when [`Postings::settle`] has been called.
    #[inline]
    pub(super) fn add_later(&mut self, at: usize, place: u32, ids: Range<u32>) {
        match self.waiting.get_mut(at) {
            Some(waiting) if waiting.place == place && waiting.ids.end == ids.start => waiting.ids.end = ids.end,
            Some(waiting) => {
                let before = std::mem::replace(waiting, Waiting { place, ids });
                self.add_all(&before);
            }
            None => self.waiting.push(Waiting { place, ids }),
        }
    }

    /// Adds the series that wait under labels from number `at` on: those that the series that came last has not, or
    /// all of them before anything is read.
    pub(super) fn settle(&mut self, at: usize) {
        while self.waiting.len() > at {
            if let Some(waiting) = self.waiting.pop() {
                self.add_all(&waiting);
            }
        }
    }

    fn add_all(&mut self, waiting: &Waiting) {
        let value = &mut self.values[waiting.place as usize];
        self.names[value.name as usize].series += waiting.ids.len() as u32;
        value.list.push_all(waiting.ids.clone());
    }

    /// The place of an encoded label.
    #[inline]
    pub(super) fn place(&self, label: EncodedLabel<'_>, symbols: &Symbols) -> Option<u32> {
        self.probe(hash_of(label.bytes), (label.name, label.value), symbols).ok()
    }

    /// The place of a label.
    pub(super) fn find(&self, (name, value): (&[u8], &[u8]), symbols: &Symbols) -> Option<u32> {
        let mut bytes = Vec::with_capacity(name.len() + value.len() + 8);
        EncodedLabels::push_inner(name, value, &mut bytes);
        self.probe(hash_of(&bytes), (name, value), symbols).ok()
    }

    /// Symbols of all names, each with the number of series that have it.
    pub(super) fn names(&self) -> impl Iterator<Item = (u32, u32)> {
        debug_assert!(self.waiting.is_empty(), "series that wait are added before names are counted");
        self.names.iter().map(|name| (name.symbol, name.series))
    }

    /// Places of all values of the name, in the order of their appearance.
    pub(super) fn values_of(&self, name: u32) -> &[u32] {
        self.by_name.get(&name).map_or(&[], |own| &self.names[*own as usize].values)
    }

    /// The symbol of the value at `place`.
    pub(super) fn symbol(&self, place: u32) -> u32 {
        self.values[place as usize].symbol
    }

    /// The symbols of the name and the value at `place`.
    #[inline]
    pub(super) fn label(&self, place: u32) -> (u32, u32) {
        let value = &self.values[place as usize];
        (self.names[value.name as usize].symbol, value.symbol)
    }

    /// The series that have the value at `place`.
    pub(super) fn list(&self, place: u32) -> &List {
        debug_assert!(self.waiting.is_empty(), "series that wait are added before lists are read");
        &self.values[place as usize].list
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let lists: usize = self.values.iter().map(|value| value.list.heap_bytes()).sum();
        let names: usize = self.names.iter().map(|name| name.values.capacity() * size_of::<u32>()).sum();
        let table = self.table.capacity() * size_of::<(u32, u32)>();
        let waiting = self.waiting.capacity() * size_of::<Waiting>();
        lists + names + self.values.capacity() * size_of::<Value>() + table + waiting
    }

    /// Which of the names has this symbol; made when it is new.
    fn name(&mut self, symbol: u32) -> u32 {
        let names = &mut self.names;
        *self.by_name.entry(symbol).or_insert_with(|| {
            names.push(Name { symbol, values: Vec::new(), series: 0 });
            names.len() as u32 - 1
        })
    }

    /// The place of a label, or the slot where it belongs.
    #[inline]
    fn probe(&self, hash: u32, (name, value): (&[u8], &[u8]), symbols: &Symbols) -> Result<u32, usize> {
        let Some(mask) = self.table.len().checked_sub(1) else { return Err(0) };
        let mut slot = hash as usize & mask;
        loop {
            let (found, place) = self.table[slot];
            if place == 0 {
                return Err(slot);
            }
            if found == hash {
                let (known_name, known_value) = self.label(place - 1);
                if symbols.get(known_value) == value && symbols.get(known_name) == name {
                    return Ok(place - 1);
                }
            }
            slot = (slot + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let len = (self.table.len() * 2).max(SLOTS_MIN);
        for (hash, place) in std::mem::replace(&mut self.table, vec![(0, 0); len]) {
            if place != 0 {
                let mut slot = hash as usize & (len - 1);
                while self.table[slot].1 != 0 {
                    slot = (slot + 1) & (len - 1);
                }
                self.table[slot] = (hash, place);
            }
        }
    }
}

/// Half of the hash of a label's bytes: tables have far fewer slots than it tells apart.
#[inline]
fn hash_of(label: &[u8]) -> u32 {
    xxh3_64(label) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn encode(name: u8, value: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        EncodedLabels::push_inner(&[b'a' + name], &[b'0' + value], &mut bytes);
        bytes
    }

    proptest! {
        /// Names are few and any series may lack some, so that a label is now this and now that one of its series.
        #[test]
        fn series_that_wait_are_added_as_one_by_one(
            all in prop::collection::vec((prop::collection::btree_map(0..5u8, 0..3u8, 1..5), 0..8u32), 1..60),
        ) {
            let (mut index, mut symbols) = (Postings::default(), Symbols::default());
            let mut naive: BTreeMap<(u8, u8), Vec<u32>> = BTreeMap::new();
            for (id, (labels, settles)) in all.iter().enumerate() {
                let id = id as u32;
                for (at, (name, value)) in labels.iter().enumerate() {
                    let (name_text, value_text, bytes) = ([b'a' + name], [b'0' + value], encode(*name, *value));
                    let label = EncodedLabel { name: &name_text, value: &value_text, bytes: &bytes };
                    match index.place(label, &symbols) {
                        Some(place) => index.add_later(at, place, id..id + 1),
                        None => {
                            let place = index.add(label, id, &mut symbols);
                            index.add_later(at, place, id + 1..id + 1);
                        }
                    }
                    naive.entry((*name, *value)).or_default().push(id);
                }
                index.settle(labels.len());
                if *settles == 0 {
                    index.settle(0);
                }
            }
            index.settle(0);
            for ((name, value), expected) in &naive {
                let place = index.find((&[b'a' + name], &[b'0' + value]), &symbols).unwrap();
                let mut found = Vec::new();
                index.list(place).read(&mut found);
                prop_assert_eq!(&found, expected);
                prop_assert_eq!(index.list(place).len(), expected.len());
            }
            for (symbol, series) in index.names() {
                let own = naive.iter().filter(|((name, _), _)| [b'a' + name] == symbols.get(symbol));
                prop_assert_eq!(series as usize, own.map(|(_, ids)| ids.len()).sum::<usize>());
            }
        }
    }
}
