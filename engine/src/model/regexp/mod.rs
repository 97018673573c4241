//! Regexps in Go's RE2 syntax, matched against whole strings.

mod expand;

use std::str;

use regex_automata::meta;

use super::error::Error;
use super::text::ByteString;

/// A compiled regexp that matches whole strings, as Prometheus' matchers do.
#[derive(Debug)]
pub struct Regexp {
    regex: meta::Regex,
    set: Option<Vec<String>>,
    prefix: String,
}

impl Regexp {
    /// Compiles `^(?s:pattern)$`; fails in Go's words.
    pub fn new_anchored(pattern: &ByteString) -> Result<Self, Error> {
        let bad = |words: &str| Error::invalid(format!("error parsing regexp: {words}"));
        let text = str::from_utf8(pattern).map_err(|_| bad("invalid UTF-8"))?;
        if let Some(operator) = text.chars().next().filter(|first| "*+?".contains(*first)) {
            return Err(bad(&format!("missing argument to repetition operator: `{operator}`")));
        }
        let regex = meta::Regex::new(&format!("^(?s:{text})$")).map_err(|error| bad(&error.to_string()))?;
        let literals: Vec<&str> = text.split('|').collect();
        let set = literals.iter().all(|literal| is_literal(literal)).then(|| {
            let mut set: Vec<String> = literals.iter().map(|literal| (*literal).to_owned()).collect();
            set.sort();
            set.dedup();
            set
        });
        Ok(Self { regex, set, prefix: String::new() })
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        match &self.set {
            Some(set) => set.binary_search_by(|known| known.as_str().cmp(text)).is_ok(),
            None => self.regex.is_match(text),
        }
    }

    /// The only strings that match, ascending, when they are at most 256.
    pub fn set_matches(&self) -> Option<&[String]> {
        self.set.as_deref().filter(|set| set.len() <= 256)
    }

    /// What every string that matches starts with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// Whether no character of `text` has a meaning in a regexp.
fn is_literal(text: &str) -> bool {
    !text.bytes().any(|byte| br"\.+*?()|[]{}^$".contains(&byte))
}
