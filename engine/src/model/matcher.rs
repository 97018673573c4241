//! Label matchers with Prometheus' meaning: regexps are anchored, an absent label is an empty one.

use std::fmt;
use std::sync::Arc;

use super::error::{Error, ErrorKind};
use super::regexp::{Allowance, Regexp};
use super::text::{ByteString, Quoted};

/// Most characters that an error shows of a matcher.
const SHOWN_CHARS_MAX: usize = 100;

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchKind {
    /// `=`
    Eq,
    /// `!=`
    NotEq,
    /// `=~`
    Re,
    /// `!~`
    NotRe,
}

impl MatchKind {
    /// The operator in PromQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::NotEq => "!=",
            Self::Re => "=~",
            Self::NotRe => "!~",
        }
    }

    /// The kind that matches exactly what this one does not.
    pub fn inverse(self) -> Self {
        match self {
            Self::Eq => Self::NotEq,
            Self::NotEq => Self::Eq,
            Self::Re => Self::NotRe,
            Self::NotRe => Self::Re,
        }
    }

    /// Whether the kind says what must not be: `!=` and `!~`.
    pub fn is_negative(self) -> bool {
        matches!(self, Self::NotEq | Self::NotRe)
    }
}

/// A condition on the value of one label. Clones share the compiled regexp.
#[derive(Clone)]
pub struct Matcher {
    kind: MatchKind,
    name: String,
    value: ByteString,
    regexp: Option<Arc<Regexp>>,
}

impl Matcher {
    /// A matcher for the label called `name`; fails in Go's words when `value` is a regexp that does
    /// not parse.
    pub fn new(kind: MatchKind, name: impl Into<String>, value: impl Into<ByteString>) -> Result<Self, Error> {
        Self::new_within(kind, (name, value), &mut Allowance::default())
    }

    /// The same of a matcher of a request: a label's name and a value, which as a regexp takes its bytes of
    /// `allowance`. Limit, with the matcher, when there are not enough.
    pub fn new_within(
        kind: MatchKind,
        (name, value): (impl Into<String>, impl Into<ByteString>),
        allowance: &mut Allowance,
    ) -> Result<Self, Error> {
        let (name, value) = (name.into(), value.into());
        let mut matcher = Self { kind, name, value, regexp: None };
        if matches!(kind, MatchKind::Re | MatchKind::NotRe) {
            let regexp = Regexp::new_within(&matcher.value, allowance);
            matcher.regexp = Some(Arc::new(regexp.map_err(|error| matcher.named_in(error))?));
        }
        Ok(matcher)
    }

    /// An error about a limit, which may be that of many matchers, with this one as far as it is shown.
    fn named_in(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::Limit {
            return error;
        }
        let printed = self.to_string();
        let shown: String = printed.chars().take(SHOWN_CHARS_MAX).collect();
        error.within(format_args!("{shown}{}", if shown.len() < printed.len() { "…" } else { "" }))
    }

    /// The matcher `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<ByteString>) -> Self {
        Self { kind: MatchKind::Eq, name: name.into(), value: value.into(), regexp: None }
    }

    /// How it compares.
    pub fn kind(&self) -> MatchKind {
        self.kind
    }

    /// The label's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value or regexp as it was written.
    pub fn value(&self) -> &ByteString {
        &self.value
    }

    /// Whether a label with this value satisfies the matcher; an absent label has the value `""`.
    pub fn matches(&self, value: &str) -> bool {
        self.accepts(value) != self.kind.is_negative()
    }

    /// Whether series without the label satisfy the matcher.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The compiled regexp of `=~` and `!~`.
    pub fn regexp(&self) -> Option<&Regexp> {
        self.regexp.as_deref()
    }

    /// The only values that the regexp matches, ascending, when it is an alternation of at most 256
    /// literals; of `=~` these are the values matched, of `!~` those refused. `None` for `=`, `!=`
    /// and other regexps.
    pub fn set_matches(&self) -> Option<&[String]> {
        self.regexp.as_ref()?.set_matches()
    }

    /// What every value that the regexp matches starts with; empty when nothing is known.
    pub fn prefix(&self) -> &str {
        self.regexp.as_ref().map_or("", |regexp| regexp.prefix())
    }

    /// The matcher of the same label and value that matches exactly what this one does not.
    pub fn inverse(&self) -> Self {
        Self { kind: self.kind.inverse(), ..self.clone() }
    }

    /// Whether the value satisfies `=` or `=~`, of which `!=` and `!~` are the negation.
    fn accepts(&self, value: &str) -> bool {
        match &self.regexp {
            Some(regexp) => regexp.is_match(value),
            None => self.value == *value,
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.name == other.name && self.value == other.value
    }
}

impl Eq for Matcher {}

/// As Prometheus prints a matcher: `name=~"value"`, with the name quoted unless it is a plain one.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            write!(f, "{}", Quoted(self.name.as_bytes()))?;
        }
        write!(f, "{}{}", self.kind.as_str(), Quoted(&self.value))
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a label's name needs no quotes in PromQL: letters, digits and underscores, not a digit
/// first.
pub fn is_plain_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Budget;

    fn matcher(kind: MatchKind, value: &str) -> Matcher {
        Matcher::new(kind, "a", value).unwrap()
    }

    #[test]
    fn regexps_match_the_whole_value() {
        let of = |value| matcher(MatchKind::Re, value);
        assert!(of("b.+").matches("bar"));
        assert!(!of("b.").matches("bar"));
        assert!(!of("a|ba").matches("bar"));
        assert!(of(".*").matches("a\nb"));
        assert!(of("foo|").matches_empty());
        assert!(!matcher(MatchKind::NotRe, "foo|").matches_empty());
    }

    #[test]
    fn the_inverse_matches_the_rest() {
        for kind in [MatchKind::Eq, MatchKind::NotEq, MatchKind::Re, MatchKind::NotRe] {
            let matcher = matcher(kind, "x");
            for value in ["", "x", "y"] {
                assert_ne!(matcher.matches(value), matcher.inverse().matches(value), "{matcher} {value:?}");
            }
        }
    }

    #[test]
    fn matchers_print_as_in_promql() {
        assert_eq!(Matcher::equal("a", "b\"c").to_string(), r#"a="b\"c""#);
        assert_eq!(Matcher::new(MatchKind::NotRe, "a.b", "x.*").unwrap().to_string(), r#""a.b"!~"x.*""#);
        assert_eq!(Matcher::equal("a", vec![0xff]).to_string(), r#"a="\xff""#);
    }

    #[test]
    fn regexps_of_one_request_may_take_only_so_much_together() {
        let memory = Budget::new("--query.memory-limit", 1 << 30);
        let mut allowance = Allowance::of_request(&memory);
        let of = |number: usize, allowance: &mut Allowance| {
            Matcher::new_within(MatchKind::Re, ("a", format!("[\\pL]{{500}}{number}")), allowance)
        };
        let mut kept = Vec::new();
        let error = loop {
            match of(kept.len(), &mut allowance) {
                Ok(matcher) => kept.push(matcher),
                Err(error) => break error,
            }
        };
        let shown = format!("a=~\"[\\\\pL]{{500}}{}\": regexps of one request: ", kept.len());
        assert!(error.kind() == ErrorKind::Limit && error.message().starts_with(&shown), "{error}");
        let used = memory.usage().used;
        assert!(!kept.is_empty() && used > 8 << 20 && used <= 64 << 20, "{} regexps take {used}", kept.len());
        // So much time, too: this one compiles to nothing.
        let slow =
            |_: usize| Matcher::new_within(MatchKind::Re, ("a", "(?:\\p{Zl}{0}){0}".repeat(1000)), &mut allowance);
        let error = (0..100).map(slow).find_map(Result::err).unwrap();
        assert!(error.kind() == ErrorKind::Limit && error.message().contains("their classes have more"), "{error}");
        // Another request has an allowance of its own, and what is dropped is given back.
        let another = Matcher::new_within(MatchKind::Re, ("a", "x[0-9]+y.*z"), &mut Allowance::of_request(&memory));
        kept.push(another.unwrap());
        drop(kept);
        assert_eq!(memory.usage().used, 0);
    }

    #[test]
    fn a_bad_regexp_is_refused_in_the_words_of_go() {
        let error = Matcher::new(MatchKind::Re, "a", "*x").unwrap_err();
        assert_eq!(error.message(), "error parsing regexp: missing argument to repetition operator: `*`");
    }
}
