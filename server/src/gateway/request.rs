//! From wire messages to the engine's requests, with the words Thanos' store has for what is wrong.

use engine::block::Detail;
use engine::model::{Error, Matcher, Resolution, TimeRange};
use engine::select::{Aggregate, Aggregates, Hashed, Projection, Request};
use prost::{Message, Name};
use prost_types::Any;
use proto::thanos::{self, PartialResponseStrategy, SeriesRequest};

use crate::api::grpc::wire::parse_shard;

/// What becomes of a request of which a block fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    /// The rest is answered, with a warning.
    Warn,
    /// The request fails.
    Abort,
}

impl Partial {
    /// What the two fields of a request say.
    pub fn parse(strategy: i32, is_disabled: bool) -> Self {
        if is_disabled || strategy == PartialResponseStrategy::Abort as i32 { Self::Abort } else { Self::Warn }
    }
}

/// The engine's request for the series of a wire request, whose matchers and those for blocks are known; `limits` are
/// the times that are served.
pub fn parse_series(
    request: &SeriesRequest,
    limits: TimeRange,
    (matchers, block_matchers): (Vec<Matcher>, Vec<Matcher>),
) -> Request {
    let mut aggregates = Aggregates::default();
    for aggregate in Aggregate::ALL {
        if request.aggregates.contains(&(aggregate as i32)) {
            aggregates = aggregates.with(aggregate);
        }
    }
    Request {
        range: clamp(TimeRange::new(request.min_time, request.max_time), limits),
        matchers,
        detail: if request.skip_chunks { Detail::Labels } else { Detail::Chunks },
        max_resolution: Resolution(request.max_resolution_window),
        aggregates,
        shard: request.shard_info.as_ref().and_then(parse_shard),
        without_labels: request.without_replica_labels.clone(),
        limit: u64::try_from(request.limit).unwrap_or(0),
        batch_series_max: usize::try_from(request.response_batch_size).unwrap_or(0),
        block_matchers,
        projection: request.query_hints.as_ref().and_then(parse_projection),
    }
}

/// `range` within the times that are served.
pub fn clamp(range: TimeRange, limits: TimeRange) -> TimeRange {
    TimeRange::new(range.min_time.max(limits.min_time), range.max_time.min(limits.max_time))
}

/// The message of type `M` in hints; the default where there are none.
pub fn parse_hints<M: Message + Name + Default>(hints: Option<&Any>, of: &str) -> Result<Option<M>, Error> {
    let Some(any) = hints else { return Ok(None) };
    let failed = |why: String| Error::invalid(format!("unmarshal {of} request hints: {why}"));
    let found = any.type_url.rsplit('/').next().unwrap_or("");
    if found != M::full_name() {
        return Err(failed(format!("mismatched message type: got {found:?} want {:?}", M::full_name())));
    }
    M::decode(&*any.value).map(Some).map_err(|error| failed(error.to_string()))
}

/// The labels that a query looks at; `None` when that is all of them, or when the query gives no name for the
/// label that keeps series apart which differ in others.
fn parse_projection(hints: &thanos::QueryHints) -> Option<Projection> {
    if hints.series_hash_label_name.is_empty() {
        return None;
    }
    let labels = hints.projection_labels.clone();
    let kept = match (hints.projection_include, labels.is_empty()) {
        (false, true) => return None,
        (true, _) => Hashed::By(labels),
        (false, false) => Hashed::Without(labels),
    };
    Some(Projection { kept, hash_label: hints.series_hash_label_name.clone() })
}

#[cfg(test)]
mod tests {
    use engine::model::Allowance;
    use proto::hintspb::{LabelNamesRequestHints, SeriesRequestHints};
    use proto::thanos::LabelMatcher;

    use super::*;
    use crate::api::grpc::wire;

    fn parse_matchers(matchers: &[LabelMatcher]) -> Result<Vec<Matcher>, Error> {
        wire::parse_matchers(matchers, &mut Allowance::default())
    }

    #[test]
    fn a_bad_regexp_is_refused_in_the_words_of_go() {
        let matcher = LabelMatcher { r#type: 2, name: "a".into(), value: "(".into() };
        let error = parse_matchers(&[matcher]).unwrap_err().to_string();
        assert!(error.contains("error parsing regexp: missing closing )"), "{error}");
        let matcher = LabelMatcher { r#type: 9, name: "a".into(), value: "b".into() };
        assert_eq!(parse_matchers(&[matcher]).unwrap_err().message(), "unrecognized label matcher type 9");
    }

    #[test]
    fn values_that_are_not_utf_8_are_taken_as_their_bytes() {
        let sent = [0x08, 0, 0x12, 1, b'a', 0x1a, 1, 0xff];
        let matcher = LabelMatcher::decode(sent.as_slice()).unwrap();
        let found = parse_matchers(&[matcher]).unwrap();
        assert_eq!(found[0].value().as_bytes(), [0xff]);
        assert!(!found[0].matches("\u{fffd}") && found[0].inverse().matches("b"));
        assert_eq!(crate::fanout::proxy::wire_matcher(&found[0]).encode_to_vec(), sent[2..]);
    }

    #[test]
    fn hints_of_another_type_are_refused() {
        let hints = SeriesRequestHints { block_matchers: Vec::new(), enable_query_stats: true };
        let any = Any { type_url: SeriesRequestHints::type_url(), value: hints.encode_to_vec() };
        let found: SeriesRequestHints = parse_hints(Some(&any), "series").unwrap().unwrap();
        assert!(found.enable_query_stats);
        let error = parse_hints::<LabelNamesRequestHints>(Some(&any), "label names").unwrap_err().to_string();
        let mismatch = "got \"hintspb.SeriesRequestHints\" want \"hintspb.LabelNamesRequestHints\"";
        assert_eq!(error, format!("unmarshal label names request hints: mismatched message type: {mismatch}"));
    }

    #[test]
    fn a_projection_of_all_labels_is_none() {
        let mut hints = thanos::QueryHints { series_hash_label_name: "__h__".into(), ..Default::default() };
        assert_eq!(parse_projection(&hints), None);
        hints.projection_include = true;
        assert!(parse_projection(&hints).is_some());
    }

    #[test]
    fn without_a_label_that_keeps_series_apart_nothing_is_projected() {
        let labels = vec!["job".to_owned()];
        let hints = thanos::QueryHints { projection_include: true, projection_labels: labels, ..Default::default() };
        assert_eq!(parse_projection(&hints), None);
    }
}
