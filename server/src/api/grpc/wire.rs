//! Labels and matchers between the engine and the wire.

use engine::model::matcher::{MatchKind, Matcher};
use engine::model::{Allowance, Error, Labels};
use engine::select::{Hashed, ShardInfo};
use proto::thanos::{self, Label, LabelMatcher, ZLabelSet};

/// A label set on the wire.
pub fn label_set(labels: &Labels) -> ZLabelSet {
    ZLabelSet { labels: wire_labels(labels) }
}

/// Labels on the wire.
pub fn wire_labels(labels: &Labels) -> Vec<Label> {
    labels.iter().map(|(name, value)| Label { name: name.to_owned(), value: value.to_owned() }).collect()
}

/// The engine's matchers, whose regexps take their bytes of `allowance`. Invalid when the type of one is unknown or its
/// regexp does not compile.
pub fn parse_matchers(matchers: &[LabelMatcher], allowance: &mut Allowance) -> Result<Vec<Matcher>, Error> {
    matchers.iter().map(|matcher| parse_matcher(matcher, allowance)).collect()
}

fn parse_matcher(matcher: &LabelMatcher, allowance: &mut Allowance) -> Result<Matcher, Error> {
    let kind = match thanos::label_matcher::Type::try_from(matcher.r#type) {
        Ok(thanos::label_matcher::Type::Eq) => MatchKind::Eq,
        Ok(thanos::label_matcher::Type::Neq) => MatchKind::NotEq,
        Ok(thanos::label_matcher::Type::Re) => MatchKind::Re,
        Ok(thanos::label_matcher::Type::Nre) => MatchKind::NotRe,
        Err(_) => return Err(Error::invalid(format!("unrecognized label matcher type {}", matcher.r#type))),
    };
    Matcher::new_within(kind, (matcher.name.as_str(), matcher.value.clone()), allowance)
}

/// The share of all series; `None` for all of them.
pub fn parse_shard(shard: &thanos::ShardInfo) -> Option<ShardInfo> {
    let total = u64::try_from(shard.total_shards).ok().filter(|total| *total > 0)?;
    if total == 1 && shard.shard_index == 0 {
        return None;
    }
    let labels = shard.labels.clone();
    Some(ShardInfo {
        index: u64::try_from(shard.shard_index).unwrap_or(u64::MAX),
        total,
        hashed: if shard.by { Hashed::By(labels) } else { Hashed::Without(labels) },
    })
}

/// A share of the series as the wire numbers it.
pub fn wire_shard(shard: &ShardInfo) -> thanos::ShardInfo {
    let (by, labels) = match &shard.hashed {
        Hashed::By(labels) => (true, labels.clone()),
        Hashed::Without(labels) => (false, labels.clone()),
    };
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    thanos::ShardInfo { shard_index: number(shard.index), total_shards: number(shard.total), by, labels }
}
