//! Matchers to series: each matcher becomes a set of values of its label, found on the sorted
//! dictionary; then the sets are applied to the series, the smallest first.
//!
//! A matcher that an absent label doesn't satisfy *keeps* the series with the values it matches. A
//! matcher that an absent label satisfies *drops* the series with the values it doesn't match, so
//! that series without the label are never enumerated.

use std::ops::ControlFlow;

use crate::model::matcher::MatchKind;
use crate::model::{Error, IsWanted, Matcher};
use crate::postings::Ordinals;

/// A candidate costs this much against one posting when it is looked up in a column.
const LOOKUP_COST: usize = 2;

/// A value costs this many postings beyond its own.
const VALUE_COST: usize = 30;

/// Values that a regexp is tried on before it is asked again whether that is wanted: some take 30 us each.
const VALUES_AT_ONCE: usize = 256;

/// Gets a value of a label and what finds its postings.
pub(crate) type Visit<'v, V> = &'v mut dyn FnMut(&str, V) -> ControlFlow<()>;

/// What the evaluation of matchers asks of an index.
pub(crate) trait Lookup {
    /// What finds the postings of one value of a label.
    type Value: Clone;

    /// All series.
    fn all(&self) -> Result<Ordinals, Error>;

    /// Whether a series has the label called `name`.
    fn has_label(&self, name: &str) -> bool;

    /// The value `value` of `name`; `None` when no series has it.
    fn find(&self, name: &str, value: &str) -> Result<Option<Self::Value>, Error>;

    /// Calls `visit` with all values of `name` that start with `prefix`, until it breaks.
    fn visit(&self, name: &str, prefix: &str, visit: Visit<'_, Self::Value>) -> Result<(), Error>;

    /// About how many series have one of `values` of `name`.
    fn estimate(&self, name: &str, values: &Values<Self::Value>) -> Result<usize, Error>;

    /// The series that have one of `values` of `name`.
    fn postings(&self, name: &str, values: &Values<Self::Value>) -> Result<Ordinals, Error>;

    /// Those of `candidates` that have (or, to drop, don't have) one of `values` of `name`, each
    /// looked up; `None` where the index has no column to look it up in.
    fn sift(&self, step: &Step<'_, Self::Value>, candidates: &Ordinals) -> Result<Option<Ordinals>, Error>;
}

/// Values of a label.
pub(crate) enum Values<V> {
    /// All there are.
    All,
    /// These.
    Some(Vec<V>),
}

/// What a step does with the series that have one of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Only they stay.
    Keep,
    /// They go.
    Drop,
}

/// A matcher on the values of its label.
pub(crate) struct Step<'m, V> {
    /// The label.
    pub name: &'m str,
    /// Values.
    pub values: Values<V>,
    /// What becomes of series that have one.
    pub effect: Effect,
}

/// The series that all `matchers` match, as long as that is `wanted`.
pub(crate) fn select<L: Lookup>(index: &L, matchers: &[Matcher], wanted: IsWanted<'_>) -> Result<Ordinals, Error> {
    let mut steps = Vec::with_capacity(matchers.len());
    for matcher in matchers {
        match plan(index, matcher, wanted)? {
            Plan::Nothing => return Ok(Ordinals::empty()),
            Plan::Everything => {}
            Plan::Step(step) => {
                let cost = index.estimate(step.name, &step.values)?;
                steps.push((step, cost));
            }
        }
    }
    // What keeps comes before what drops, and the smallest first.
    steps.sort_by_key(|(step, cost)| (step.effect == Effect::Drop, *cost));
    let mut found: Option<Ordinals> = None;
    for (step, cost) in &steps {
        wanted()?;
        found = Some(match found {
            None if step.effect == Effect::Keep => index.postings(step.name, &step.values)?,
            None => index.all()?.subtract(&index.postings(step.name, &step.values)?),
            Some(found) => apply(index, step, *cost, found)?,
        });
        if found.as_ref().is_some_and(Ordinals::is_empty) {
            return Ok(Ordinals::empty());
        }
    }
    found.map_or_else(|| index.all(), Ok)
}

fn apply<L: Lookup>(index: &L, step: &Step<'_, L::Value>, cost: usize, found: Ordinals) -> Result<Ordinals, Error> {
    let values = if let Values::Some(values) = &step.values { values.len() } else { 1 };
    if found.len() * LOOKUP_COST < cost + values * VALUE_COST
        && let Some(sifted) = index.sift(step, &found)?
    {
        return Ok(sifted);
    }
    let postings = index.postings(step.name, &step.values)?;
    Ok(if step.effect == Effect::Keep { found.intersect(&postings) } else { found.subtract(&postings) })
}

enum Plan<'m, V> {
    Nothing,
    Everything,
    Step(Step<'m, V>),
}

fn plan<'m, L: Lookup>(index: &L, matcher: &'m Matcher, wanted: IsWanted<'_>) -> Result<Plan<'m, L::Value>, Error> {
    let name = matcher.name();
    let effect = if matcher.matches_empty() { Effect::Drop } else { Effect::Keep };
    let values = if !index.has_label(name) {
        Values::Some(Vec::new())
    } else {
        match matcher.kind() {
            MatchKind::Eq | MatchKind::NotEq => equal(index, matcher)?,
            MatchKind::Re | MatchKind::NotRe => regexp(index, (matcher, effect), wanted)?,
        }
    };
    Ok(match (values, effect) {
        (Values::Some(values), Effect::Keep) if values.is_empty() => Plan::Nothing,
        (Values::Some(values), Effect::Drop) if values.is_empty() => Plan::Everything,
        (values, effect) => Plan::Step(Step { name, values, effect }),
    })
}

/// The values that `=` keeps or `!=` drops; with an empty value it is the other way round, and they
/// are all others.
fn equal<L: Lookup>(index: &L, matcher: &Matcher) -> Result<Values<L::Value>, Error> {
    if matcher.value().is_empty() {
        return filled(index, matcher.name());
    }
    // A value that isn't UTF-8 is no series' value.
    let Some(value) = matcher.value().as_str() else { return Ok(Values::Some(Vec::new())) };
    Ok(Values::Some(index.find(matcher.name(), value)?.into_iter().collect()))
}

/// All values of a label but the empty one, which hardly an index has: it counts as an absent label.
fn filled<L: Lookup>(index: &L, name: &str) -> Result<Values<L::Value>, Error> {
    if index.find(name, "")?.is_none() {
        return Ok(Values::All);
    }
    let mut values = Vec::new();
    index.visit(name, "", &mut |text, value| {
        if !text.is_empty() {
            values.push(value);
        }
        ControlFlow::Continue(())
    })?;
    Ok(Values::Some(values))
}

/// The values that a regexp keeps or drops: those that it matches when it keeps, those that it
/// doesn't match when it drops.
fn regexp<L: Lookup>(
    index: &L,
    (matcher, effect): (&Matcher, Effect),
    wanted: IsWanted<'_>,
) -> Result<Values<L::Value>, Error> {
    let name = matcher.name();
    let matching = effect == Effect::Keep;
    // Whether the values looked for are those that the regexp itself describes.
    let described = matching != matcher.kind().is_negative();
    match (&**matcher.value(), described) {
        (b".*", false) => return Ok(Values::Some(Vec::new())),
        (b".+", true) => return filled(index, name),
        _ => {}
    }
    if described && let Some(set) = matcher.set_matches() {
        let mut values = Vec::with_capacity(set.len());
        for value in set.iter().filter(|value| !value.is_empty()) {
            values.extend(index.find(name, value)?);
        }
        return Ok(Values::Some(values));
    }
    let prefix = if described { matcher.prefix() } else { "" };
    let (mut values, mut seen, mut outcome) = (Vec::new(), 0, Ok(()));
    index.visit(name, prefix, &mut |text, value| {
        if seen % VALUES_AT_ONCE == 0 {
            outcome = wanted();
        }
        if outcome.is_err() {
            return ControlFlow::Break(());
        }
        seen += 1;
        if matcher.matches(text) == matching {
            values.push(value);
        }
        ControlFlow::Continue(())
    })?;
    outcome?;
    Ok(if prefix.is_empty() && values.len() == seen && seen > 0 { Values::All } else { Values::Some(values) })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::model::ErrorKind;

    /// An index of one label, which each series has another value of; and how many values were visited.
    struct OneLabel(Vec<String>, Cell<usize>);

    impl Lookup for OneLabel {
        type Value = u32;

        fn all(&self) -> Result<Ordinals, Error> {
            Ok(Ordinals::all(self.0.len() as u32))
        }

        fn has_label(&self, _name: &str) -> bool {
            true
        }

        fn find(&self, _name: &str, value: &str) -> Result<Option<u32>, Error> {
            Ok(self.0.iter().position(|own| own == value).map(|at| at as u32))
        }

        fn visit(&self, _name: &str, prefix: &str, visit: Visit<'_, u32>) -> Result<(), Error> {
            for (at, text) in self.0.iter().enumerate().filter(|(_, text)| text.starts_with(prefix)) {
                self.1.set(self.1.get() + 1);
                if visit(text, at as u32).is_break() {
                    break;
                }
            }
            Ok(())
        }

        fn estimate(&self, _name: &str, _values: &Values<u32>) -> Result<usize, Error> {
            Ok(1)
        }

        fn postings(&self, _name: &str, values: &Values<u32>) -> Result<Ordinals, Error> {
            Ok(match values {
                Values::All => self.all()?,
                Values::Some(at) => Ordinals::List(at.clone()),
            })
        }

        fn sift(&self, _step: &Step<'_, u32>, _candidates: &Ordinals) -> Result<Option<Ordinals>, Error> {
            Ok(None)
        }
    }

    #[test]
    fn a_regexp_is_not_tried_on_more_values_once_nobody_wants_it() {
        let values = (0..10 * VALUES_AT_ONCE).map(|at| at.to_string()).collect();
        let index = OneLabel(values, Cell::default());
        let matchers = [Matcher::new(MatchKind::Re, "a", ".*7.*").unwrap()];
        let expected: Vec<u32> = (0..index.0.len() as u32).filter(|at| at.to_string().contains('7')).collect();
        assert_eq!(select(&index, &matchers, &|| Ok(())).unwrap().into_list(), expected);
        index.1.set(0);
        let asked = Cell::new(0);
        let wanted = || {
            asked.set(asked.get() + 1);
            if asked.get() <= 3 { Ok(()) } else { Err(Error::new(ErrorKind::Canceled, "gone")) }
        };
        assert_eq!(select(&index, &matchers, &wanted).unwrap_err().kind(), ErrorKind::Canceled);
        assert_eq!((asked.get(), index.1.get()), (4, 3 * VALUES_AT_ONCE + 1));
    }
}
