//! The inverted index: from labels to the series that have them. A label is known by its *place* among
//! all labels, which is also how series name their labels.
//!
//! ```text
//! names    symbol │ places of its values
//! values   name │ symbol │ list of series
//! table    open addressing by the hash of a label: half of it u32 │ place plus 1 u32, 0 where it is free
//! ```

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

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

pub(super) type SymbolMap<V> = HashMap<u32, V, BuildHasherDefault<Mixed>>;

/// All postings of a head.
#[derive(Clone, Debug, Default)]
pub(super) struct Postings {
    values: Vec<Value>,
    names: Vec<Name>,
    by_name: SymbolMap<u32>,
    table: Vec<(u32, u32)>,
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
                self.add_at(place, id);
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

    /// Adds series `id`, at least as great as all before, under the label at `place`.
    #[inline]
    pub(super) fn add_at(&mut self, place: u32, id: u32) {
        let value = &mut self.values[place as usize];
        self.names[value.name as usize].series += 1;
        value.list.push(id);
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
        &self.values[place as usize].list
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let lists: usize = self.values.iter().map(|value| value.list.heap_bytes()).sum();
        let names: usize = self.names.iter().map(|name| name.values.capacity() * size_of::<u32>()).sum();
        let table = self.table.capacity() * size_of::<(u32, u32)>();
        lists + names + self.values.capacity() * size_of::<Value>() + table
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
