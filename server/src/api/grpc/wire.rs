//! Labels and matchers between the engine and the wire.

use engine::model::matcher::{MatchKind, Matcher};
use engine::model::{Error, Labels};
use proto::thanos::{self, Label, LabelMatcher, ZLabelSet};

/// A label set on the wire.
pub fn label_set(labels: &Labels) -> ZLabelSet {
    ZLabelSet { labels: wire_labels(labels) }
}

/// Labels on the wire.
pub fn wire_labels(labels: &Labels) -> Vec<Label> {
    labels.iter().map(|(name, value)| Label { name: name.to_owned(), value: value.to_owned() }).collect()
}

/// The engine's matcher. Invalid when its type is unknown or its regexp does not compile.
pub fn parse_matcher(matcher: &LabelMatcher) -> Result<Matcher, Error> {
    let kind = match thanos::label_matcher::Type::try_from(matcher.r#type) {
        Ok(thanos::label_matcher::Type::Eq) => MatchKind::Eq,
        Ok(thanos::label_matcher::Type::Neq) => MatchKind::NotEq,
        Ok(thanos::label_matcher::Type::Re) => MatchKind::Re,
        Ok(thanos::label_matcher::Type::Nre) => MatchKind::NotRe,
        Err(_) => return Err(Error::invalid(format!("unrecognized label matcher type {}", matcher.r#type))),
    };
    Matcher::new(kind, matcher.name.as_str(), matcher.value.as_str())
}
