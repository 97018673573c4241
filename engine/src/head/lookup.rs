//! Matchers to series of a head, through the same evaluation as those of blocks.

use std::collections::BTreeSet;

use super::{Head, SeriesExemplars};
use crate::index::select::{self, Lookup, Step, Values, Visit};
use crate::model::{Error, IsWanted, Labels, Matcher, TimeRange};
use crate::postings::{Ordinals, Union};

impl Head {
    /// Numbers of the series that all `matchers` match, ascending.
    pub(super) fn select(&self, matchers: &[Matcher], wanted: IsWanted<'_>) -> Result<Vec<u32>, Error> {
        Ok(select::select(self, matchers, wanted)?.into_list())
    }

    /// Exemplars in `range` of the series that all of some of `selectors` match.
    pub fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        wanted: IsWanted<'_>,
    ) -> Result<Vec<SeriesExemplars>, Error> {
        let mut ids = BTreeSet::new();
        for matchers in selectors {
            ids.extend(self.select(matchers, wanted)?);
        }
        let found = ids.into_iter().map(|id| SeriesExemplars {
            series: Labels::from_sorted(self.labels_of(id)),
            exemplars: self.exemplars.of(id, range),
        });
        Ok(found.filter(|series| !series.exemplars.is_empty()).collect())
    }

    /// Names of the labels that the series matching `matchers` have; of all series without matchers.
    pub fn label_names(&self, matchers: &[Matcher], wanted: IsWanted<'_>) -> Result<BTreeSet<String>, Error> {
        let mut symbols = BTreeSet::new();
        if matchers.is_empty() {
            symbols.extend(self.postings.names().map(|(name, _)| name));
        } else {
            for id in self.select(matchers, wanted)? {
                symbols.extend(self.pairs_of(id).map(|(name, _)| name));
            }
        }
        Ok(symbols.into_iter().map(|symbol| self.symbols.text(symbol).to_owned()).collect())
    }

    /// Values of the label `name` that the series matching `matchers` have; of all series without
    /// matchers.
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        wanted: IsWanted<'_>,
    ) -> Result<BTreeSet<String>, Error> {
        let Some(name) = self.symbols.find(name.as_bytes()) else { return Ok(BTreeSet::new()) };
        let mut symbols = BTreeSet::new();
        if matchers.is_empty() {
            symbols.extend(self.postings.values_of(name).iter().map(|place| self.postings.symbol(*place)));
        } else {
            for id in self.select(matchers, wanted)? {
                symbols.extend(self.pairs_of(id).filter(|(own, _)| *own == name).map(|(_, value)| value));
            }
        }
        Ok(symbols.into_iter().map(|symbol| self.symbols.text(symbol).to_owned()).collect())
    }
}

impl Lookup for Head {
    type Value = u32;

    fn all(&self) -> Result<Ordinals, Error> {
        Ok(Ordinals::all(self.metas.len() as u32))
    }

    fn has_label(&self, name: &str) -> bool {
        self.symbols.find(name.as_bytes()).is_some_and(|name| !self.postings.values_of(name).is_empty())
    }

    fn find(&self, name: &str, value: &str) -> Result<Option<u32>, Error> {
        Ok(self.postings.find((name.as_bytes(), value.as_bytes()), &self.symbols))
    }

    fn visit(&self, name: &str, prefix: &str, visit: Visit<'_, u32>) -> Result<(), Error> {
        let Some(name) = self.symbols.find(name.as_bytes()) else { return Ok(()) };
        for place in self.postings.values_of(name) {
            let text = self.symbols.text(self.postings.symbol(*place));
            if text.starts_with(prefix) && visit(text, *place).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn estimate(&self, name: &str, values: &Values<u32>) -> Result<usize, Error> {
        let lens = |places: &[u32]| places.iter().map(|place| self.postings.list(*place).len()).sum();
        Ok(match (values, self.symbols.find(name.as_bytes())) {
            (Values::Some(places), _) => lens(places),
            (Values::All, Some(name)) => lens(self.postings.values_of(name)),
            (Values::All, None) => 0,
        })
    }

    fn postings(&self, name: &str, values: &Values<u32>) -> Result<Ordinals, Error> {
        let places = match (values, self.symbols.find(name.as_bytes())) {
            (Values::Some(places), _) => places.as_slice(),
            (Values::All, Some(name)) => self.postings.values_of(name),
            (Values::All, None) => &[],
        };
        let mut list = Vec::new();
        if let [place] = places {
            self.postings.list(*place).read(&mut list);
            return Ok(Ordinals::from(list));
        }
        let mut union = Union::new(self.metas.len() as u32);
        for place in places {
            list.clear();
            self.postings.list(*place).read(&mut list);
            union.add_list(&list);
        }
        Ok(union.finish())
    }

    fn sift(&self, _step: &Step<'_, u32>, _candidates: &Ordinals) -> Result<Option<Ordinals>, Error> {
        Ok(None)
    }
}
