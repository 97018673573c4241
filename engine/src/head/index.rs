//! The inverted index: from label name and value to the series that have them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Series of one label value, ascending.
#[derive(Clone, Debug)]
enum List {
    One(u32),
    Many(Vec<u32>),
}

/// A label value and its series.
#[derive(Clone, Debug)]
struct Value {
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

/// Symbols are small numbers; a multiplication spreads them.
#[derive(Default)]
pub(super) struct SymbolHasher(u64);

impl Hasher for SymbolHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

pub(super) type SymbolMap<V> = HashMap<u32, V, BuildHasherDefault<SymbolHasher>>;

/// All postings of a head. A value is known by its place among all values of all names.
#[derive(Clone, Debug, Default)]
pub(super) struct Postings {
    values: Vec<Value>,
    names: Vec<Name>,
    by_name: SymbolMap<u32>,
    by_label: HashMap<u64, u32, BuildHasherDefault<SymbolHasher>>,
}

impl Postings {
    /// Adds series `id`, greater than all before, under the label of the symbols `name` and `value`.
    pub(super) fn add(&mut self, name: u32, value: u32, id: u32) {
        let label = key(name, value);
        let names = &mut self.names;
        let own = *self.by_name.entry(name).or_insert_with(|| {
            names.push(Name { symbol: name, values: Vec::new(), series: 0 });
            names.len() as u32 - 1
        });
        self.names[own as usize].series += 1;
        match self.by_label.get(&label) {
            Some(known) => match &mut self.values[*known as usize].list {
                List::Many(list) => list.push(id),
                one @ List::One(_) => {
                    let List::One(first) = *one else { return };
                    *one = List::Many(vec![first, id]);
                }
            },
            None => {
                let place = self.values.len() as u32;
                self.values.push(Value { symbol: value, list: List::One(id) });
                self.names[own as usize].values.push(place);
                self.by_label.insert(label, place);
            }
        }
    }

    /// The place of the value.
    pub(super) fn find(&self, name: u32, value: u32) -> Option<u32> {
        self.by_label.get(&key(name, value)).copied()
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

    /// The series that have the value at `place`, ascending.
    pub(super) fn list(&self, place: u32) -> &[u32] {
        match &self.values[place as usize].list {
            List::One(id) => std::slice::from_ref(id),
            List::Many(list) => list,
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let lists = self.values.iter().map(|value| match &value.list {
            List::One(_) => 0,
            List::Many(list) => list.capacity() * size_of::<u32>(),
        });
        let names: usize = self.names.iter().map(|name| name.values.capacity() * size_of::<u32>()).sum();
        // A map of std holds a byte beside each entry and is at most 7/8 full.
        lists.sum::<usize>() + names + self.values.capacity() * size_of::<Value>() + self.by_label.capacity() * 20
    }
}

fn key(name: u32, value: u32) -> u64 {
    u64::from(name) << 32 | u64::from(value)
}
