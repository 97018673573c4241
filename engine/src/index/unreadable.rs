//! The index of a block that can't be read: whatever it is asked, it says why.

use super::{BlockIndex, ChunkColumns, SeriesLabels};
use crate::codec::StringList;
use crate::model::{Error, IsWanted, Matcher, TimeRange};
use crate::postings::Ordinals;

/// Why there is no index.
#[derive(Clone, Debug)]
pub struct Unreadable(pub Error);

impl Unreadable {
    fn fail<T>(&self) -> Result<T, Error> {
        Err(self.0.clone())
    }
}

impl BlockIndex for Unreadable {
    fn is_readable(&self) -> bool {
        false
    }

    fn all(&self) -> Result<Ordinals, Error> {
        self.fail()
    }

    fn series_max(&self) -> u64 {
        0
    }

    fn may_match(&self, _matchers: &[Matcher]) -> bool {
        true
    }

    fn select(&self, _matchers: &[Matcher], _wanted: IsWanted<'_>) -> Result<Ordinals, Error> {
        self.fail()
    }

    fn label_names(&self, _series: Option<&Ordinals>) -> Result<Vec<String>, Error> {
        self.fail()
    }

    fn label_values(&self, _name: &str, _series: Option<&Ordinals>, _limit: usize) -> Result<StringList, Error> {
        self.fail()
    }

    fn labels(&self, _ordinal: u32, _labels: &mut SeriesLabels) -> Result<(), Error> {
        self.fail()
    }

    fn chunks(&self, _ordinals: &[u32], _range: TimeRange, _chunks: &mut ChunkColumns) -> Result<(), Error> {
        self.fail()
    }

    fn value_ids(&self, _name: &str, _ordinals: &[u32], _ids: &mut Vec<u32>) -> Result<(), Error> {
        self.fail()
    }

    fn append_value(&self, _name: &str, _id: u32, _value: &mut String) -> Result<(), Error> {
        self.fail()
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}
