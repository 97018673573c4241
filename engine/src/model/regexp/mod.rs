//! Regexps in Go's RE2 syntax, matched against whole strings.
//!
//! The syntax is parsed here, as the `regex` crate's differs from Go's in many small things, and the
//! tree runs on that crate's automata. Regexps are anchored and `.` matches newlines: Prometheus
//! compiles `^(?s:…)$`. Character classes are those of Unicode 15.0, as in Go 1.26.

mod allowance;
mod class;
mod compile;
mod escape;
mod expand;
mod node;
mod parse;
mod shape;
#[cfg(test)]
mod tests;

use regex_automata::{Anchored, Input, meta};

use super::budget::Reservation;
use super::error::Error;
use super::text::ByteString;

pub use allowance::Allowance;
use shape::{SET_MAX, Shape};

/// What a pattern of so many bytes is parsed into is not worth a look at the process' memory.
const SHORT_BYTES: usize = 4 << 10;

/// Bytes of the alternatives of a pattern without other special characters, for each of its own.
const ALTERNATIVE_BYTES: usize = 64;

/// Bytes of what any other pattern is parsed into on the way to its automaton, for each of its own.
const TREE_BYTES: usize = 256;

/// A compiled regexp that matches whole strings, as Prometheus' matchers do.
#[derive(Debug)]
pub struct Regexp {
    shape: Shape,
    automaton: Option<meta::Regex>,
    /// Names of the groups from 1; empty for those without.
    names: Vec<String>,
    /// The process' memory that it takes, where that counts.
    _held: Option<Reservation>,
}

impl Regexp {
    /// Compiles `^(?s:pattern)$`; fails in Go's words.
    pub fn new_anchored(pattern: &ByteString) -> Result<Self, Error> {
        Self::new_within(pattern, &mut Allowance::default())
    }

    /// The same of a regexp that takes its bytes of `allowance`. Limit when they are more than it has, or than the
    /// process.
    pub fn new_within(pattern: &ByteString, allowance: &mut Allowance) -> Result<Self, Error> {
        let is_plain = !pattern.iter().any(|byte| br"\.+*?()[]{}^$".contains(byte));
        let mut parsing = None;
        if pattern.len() > SHORT_BYTES {
            let each = if is_plain { ALTERNATIVE_BYTES } else { TREE_BYTES };
            parsing = allowance.hold((pattern.len() * each) as u64)?;
        }
        if is_plain {
            let shape = Shape::Set(literal_alternatives(pattern));
            allowance.take(&mut parsing, shape.bytes() as u64)?;
            return Ok(Self { shape, automaton: None, names: Vec::new(), _held: parsing });
        }
        let text = std::str::from_utf8(pattern).map_err(|error| {
            let rest = pattern.get(error.valid_up_to()..).unwrap_or_default();
            parse::fail("invalid UTF-8", &String::from_utf8_lossy(rest))
        })?;
        let parsed = parse::parse(text)?;
        allowance.take_ranges(parsed.ranges)?;
        let shape = shape::shape(&parsed.node);
        let needs_automaton = !parsed.names.is_empty() || matches!(shape, Shape::Other { .. });
        let (automaton, held) = if needs_automaton {
            let too_large = || parse::fail(parse::TOO_LARGE, text);
            let (automaton, held) = compile::compile(&parsed.node, allowance)?.ok_or_else(too_large)?;
            (Some(automaton), held)
        } else {
            allowance.take(&mut parsing, shape.bytes() as u64)?;
            (None, parsing)
        };
        Ok(Self { shape, automaton, names: parsed.names, _held: held })
    }

    /// Bytes that the automaton takes; none where there is no need of one.
    pub fn automaton_bytes(&self) -> usize {
        self.automaton.as_ref().map_or(0, meta::Regex::memory_usage)
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        match (self.shape.matches(text), &self.automaton) {
            (Some(matches), _) => matches,
            (None, Some(automaton)) => automaton.is_match(Input::new(text).anchored(Anchored::Yes)),
            (None, None) => false,
        }
    }

    /// The only strings that match, ascending, when they are at most 256.
    pub fn set_matches(&self) -> Option<&[String]> {
        match &self.shape {
            Shape::Set(set) if set.len() <= SET_MAX => Some(set),
            _ => None,
        }
    }

    /// What every string that matches starts with.
    pub fn prefix(&self) -> &str {
        match &self.shape {
            Shape::Around { before: None, literal, .. } => literal,
            Shape::Other { prefix, .. } => prefix,
            _ => "",
        }
    }

    /// What every string that matches ends with.
    pub fn suffix(&self) -> &str {
        match &self.shape {
            Shape::Around { after: None, literal, .. } => literal,
            Shape::Other { suffix, .. } => suffix,
            _ => "",
        }
    }

    /// `template` with `$1`, `$name` and `${name}` replaced by the groups of `text`, as Go's `Expand`
    /// does; `None` when the whole of `text` does not match.
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        let Some(automaton) = &self.automaton else {
            return self.is_match(text).then(|| expand::expand(template, &self.names, |at| (at == 0).then_some(text)));
        };
        let mut groups = automaton.create_captures();
        automaton.captures(Input::new(text).anchored(Anchored::Yes), &mut groups);
        if !groups.is_match() {
            return None;
        }
        let group = |at| groups.get_group(at).and_then(|span| text.get(span.start..span.end));
        Some(expand::expand(template, &self.names, group))
    }
}

/// The alternatives of a pattern that has no special character but `|`, ascending. Those that are
/// not UTF-8 equal no string and are left out.
fn literal_alternatives(pattern: &[u8]) -> Vec<String> {
    let alternatives = pattern.split(|byte| *byte == b'|');
    let mut set: Vec<String> = alternatives.filter_map(|literal| String::from_utf8(literal.to_vec()).ok()).collect();
    set.sort_unstable();
    set.dedup();
    set
}
