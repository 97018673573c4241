//! Which data of endpoints a querier answers from (`--selector.relabel-config`): endpoints say which
//! label sets they hold; those that relabelling drops are not asked for.

use std::collections::BTreeMap;
use std::fmt;

use engine::model::matcher::{MatchKind, Matcher};
use engine::model::relabel::{self, Rule};
use engine::model::{Error, Labels};

/// Keeps label sets by relabelling; without rules it keeps all.
#[derive(Default)]
pub struct Selector {
    rules: Vec<Rule>,
}

/// What of an endpoint is answered from.
#[derive(Clone, Debug)]
pub enum Share {
    /// All.
    Whole,
    /// The series that these match too.
    Part(Vec<Matcher>),
    /// Nothing.
    Nothing,
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({} rules)", self.rules.len())
    }
}

impl Selector {
    /// Keeps what `rules` keep.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// What is answered from of an endpoint that holds these label sets.
    pub fn share(&self, sets: &[Labels]) -> Result<Share, Error> {
        if self.rules.is_empty() {
            return Ok(Share::Whole);
        }
        let kept: Vec<&Labels> =
            sets.iter().filter(|set| relabel::relabel(&self.rules, set).is_some_and(|left| !left.is_empty())).collect();
        match kept.len() {
            0 => Ok(Share::Nothing),
            count if count == sets.len() => Ok(Share::Whole),
            _ => matchers(&kept).map(Share::Part),
        }
    }
}

/// Matchers that series of these label sets match: for each name the values that there are, among
/// them none where a set is without it.
fn matchers(sets: &[&Labels]) -> Result<Vec<Matcher>, Error> {
    let mut values: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in sets.iter().flat_map(|set| set.iter()) {
        let known = values.entry(name).or_default();
        let quoted = quoted(value);
        if !known.contains(&quoted) {
            known.push(quoted);
        }
    }
    let mut found = Vec::new();
    for (name, mut known) in values {
        if sets.iter().any(|set| set.get(name).is_none()) {
            known.push(String::new());
        }
        known.sort();
        found.push(Matcher::new(MatchKind::Re, name, known.join("|").as_str())?);
    }
    Ok(found)
}

/// `text` as a regexp that matches it alone.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if r"\.+*?()|[]{}^$".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeping(value: &str) -> Selector {
        let text = format!("[{{\"source_labels\": [\"cluster\"], \"regex\": \"{value}\", \"action\": \"keep\"}}]");
        let rules: Vec<relabel::Config> = serde_json::from_str(&text).unwrap();
        Selector::new(rules.into_iter().map(|rule| Rule::new(rule).unwrap()).collect())
    }

    #[test]
    fn an_endpoint_is_asked_for_what_is_kept_of_it() {
        let set = |cluster: &str| Labels::from_pairs([("cluster", cluster)]);
        let sets = [set("a.b"), set("c"), set("d")];
        assert!(matches!(Selector::default().share(&sets), Ok(Share::Whole)));
        assert!(matches!(keeping(".*").share(&sets), Ok(Share::Whole)));
        assert!(matches!(keeping("x").share(&sets), Ok(Share::Nothing)));
        let Share::Part(matchers) = keeping("a.b|c").share(&sets).unwrap() else { panic!("a part is kept") };
        assert_eq!(matchers.len(), 1);
        assert!(matchers[0].matches("a.b") && matchers[0].matches("c"));
        assert!(!matchers[0].matches("axb") && !matchers[0].matches("d") && !matchers[0].matches(""));
    }
}
