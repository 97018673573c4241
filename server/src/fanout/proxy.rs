//! Requests to endpoints: who is asked, and how the answers become one.

use std::sync::Arc;
use std::time::Duration;

use engine::model::matcher::{MatchKind, Matcher};
use engine::model::{Error, Labels, TimeRange};
use futures_util::future::join_all;
use proto::thanos::store_client::StoreClient;
use proto::thanos::{LabelMatcher, LabelNamesRequest, LabelValuesRequest, PartialResponseStrategy, SeriesRequest};
use tonic::{Request, Status};

use super::endpoints::{Api, EndpointSet, Peer};
use super::merge::{Feed, Merge, collect};
use super::stream::{SeriesStream, failure};
use crate::api::http::query::backend::{Found, OnFailure, Scope, Wanted};

/// Asks endpoints.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// The endpoints.
    pub endpoints: Arc<EndpointSet>,
    /// Longest time between two frames of an endpoint (`--store.response-timeout`); none for any.
    pub frame_timeout: Option<Duration>,
    /// Labels of the proxy itself (`--selector-label`).
    pub own_labels: Labels,
}

/// What is asked of endpoints' StoreAPI.
#[derive(Clone, Debug)]
pub struct SeriesAsked {
    /// What series must match.
    pub matchers: Vec<Matcher>,
    /// Times.
    pub range: TimeRange,
    /// The rest of the request: aggregates, hints, limits; matchers and times are set from above.
    pub request: SeriesRequest,
}

impl Proxy {
    /// Series of all endpoints that can have some, merged.
    pub async fn series(&self, scope: &Scope, asked: SeriesAsked) -> Result<Merge, Error> {
        let peers = self.chosen(scope, &asked.matchers, asked.range);
        if peers.is_empty() {
            let warnings = vec!["No StoreAPIs matched for this query".to_owned()];
            return Ok(Merge::new(Vec::new(), scope.on_failure, warnings));
        }
        let matchers = self.foreign(&asked.matchers);
        let request = SeriesRequest {
            min_time: asked.range.min_time,
            max_time: asked.range.max_time,
            matchers: matchers.iter().map(wire_matcher).collect(),
            partial_response_strategy: strategy(scope.on_failure).into(),
            partial_response_disabled: scope.on_failure == OnFailure::Abort,
            without_replica_labels: scope.replica_labels.clone(),
            ..asked.request
        };
        let opened = join_all(peers.iter().map(|peer| self.open(peer, scope, request.clone()))).await;
        let (mut feeds, mut warnings) = (Vec::new(), Vec::new());
        for feed in opened {
            match (feed, scope.on_failure) {
                (Ok((feed, own)), _) => {
                    feeds.push(feed);
                    warnings.extend(own);
                }
                (Err(error), OnFailure::Warn) => warnings.push(error.to_string()),
                (Err(error), OnFailure::Abort) => return Err(error),
            }
        }
        Ok(Merge::new(feeds, scope.on_failure, warnings))
    }

    async fn open(&self, peer: &Peer, scope: &Scope, request: SeriesRequest) -> Result<(Feed, Vec<String>), Error> {
        let resort = !scope.replica_labels.is_empty() && !peer.drops_replica_labels();
        let dropped = if resort { scope.replica_labels.clone() } else { Vec::new() };
        let request = with_tenant(request, &scope.tenant);
        let stream = SeriesStream::open(peer, request, self.frame_timeout, dropped).await?;
        if !resort {
            return Ok((Feed::Live(Box::new(stream)), Vec::new()));
        }
        let mut warnings = Vec::new();
        let series = collect(stream, &mut warnings).await?;
        Ok((Feed::Sorted(series.into_iter()), warnings))
    }

    /// Names of labels over all endpoints, sorted.
    pub async fn label_names(&self, scope: &Scope, wanted: &Wanted) -> Result<Found<Vec<String>>, Error> {
        self.labels(scope, wanted, |peer, matchers| {
            let request = LabelNamesRequest {
                partial_response_disabled: scope.on_failure == OnFailure::Abort,
                partial_response_strategy: strategy(scope.on_failure).into(),
                start: wanted.range.min_time,
                end: wanted.range.max_time,
                matchers,
                without_replica_labels: scope.replica_labels.clone(),
                limit: wanted.limit as i64,
                ..LabelNamesRequest::default()
            };
            let client = StoreClient::new(peer.channel.clone()).max_decoding_message_size(usize::MAX);
            let request = with_tenant(request, &scope.tenant);
            async move {
                let mut client = client;
                client.label_names(request).await.map(|answer| {
                    let answer = answer.into_inner();
                    (answer.names, answer.warnings)
                })
            }
        })
        .await
    }

    /// Values of a label over all endpoints, sorted.
    pub async fn label_values(&self, scope: &Scope, name: &str, wanted: &Wanted) -> Result<Found<Vec<String>>, Error> {
        self.labels(scope, wanted, |peer, matchers| {
            let request = LabelValuesRequest {
                label: name.to_owned(),
                partial_response_disabled: scope.on_failure == OnFailure::Abort,
                partial_response_strategy: strategy(scope.on_failure).into(),
                start: wanted.range.min_time,
                end: wanted.range.max_time,
                matchers,
                without_replica_labels: scope.replica_labels.clone(),
                limit: wanted.limit as i64,
                ..LabelValuesRequest::default()
            };
            let client = StoreClient::new(peer.channel.clone()).max_decoding_message_size(usize::MAX);
            let request = with_tenant(request, &scope.tenant);
            async move {
                let mut client = client;
                client.label_values(request).await.map(|answer| {
                    let answer = answer.into_inner();
                    (answer.values, answer.warnings)
                })
            }
        })
        .await
    }

    /// Asks each list of matchers of each endpoint that it concerns, and merges the answers.
    async fn labels<F, A>(&self, scope: &Scope, wanted: &Wanted, ask: F) -> Result<Found<Vec<String>>, Error>
    where
        F: Fn(&Peer, Vec<LabelMatcher>) -> A,
        A: Future<Output = Result<(Vec<String>, Vec<String>), Status>>,
    {
        let sets = if wanted.matchers.is_empty() { vec![Vec::new()] } else { wanted.matchers.clone() };
        let mut calls = Vec::new();
        for set in &sets {
            for peer in self.chosen(scope, set, wanted.range) {
                let call = ask(&peer, self.foreign(set).iter().map(wire_matcher).collect());
                let timeout = self.frame_timeout;
                calls.push(async move {
                    let answer = match timeout {
                        None => call.await,
                        Some(timeout) => tokio::time::timeout(timeout, call)
                            .await
                            .map_err(|_| Status::deadline_exceeded(format!("no answer within {timeout:?}")))
                            .and_then(|answer| answer),
                    };
                    answer.map_err(|status| failure(&peer.address, &status))
                });
            }
        }
        let (mut all, mut warnings) = (Vec::new(), Vec::new());
        for answer in join_all(calls).await {
            match (answer, scope.on_failure) {
                (Ok((found, warned)), _) => {
                    all.extend(found);
                    warnings.extend(warned);
                }
                (Err(error), OnFailure::Warn) => warnings.push(error.to_string()),
                (Err(error), OnFailure::Abort) => return Err(error),
            }
        }
        all.sort_unstable();
        all.dedup();
        Ok(Found { data: all, warnings })
    }

    /// Endpoints that can have series of `matchers` in `range`.
    pub fn chosen(&self, scope: &Scope, matchers: &[Matcher], range: TimeRange) -> Vec<Arc<Peer>> {
        let own = matchers.iter().all(|matcher| match self.own_labels.get(matcher.name()) {
            Some(value) => matcher.matches(value),
            None => true,
        });
        let mut peers = self.endpoints.serving(Api::Store);
        peers.retain(|peer| {
            let may_hold = |sets: &[Labels]| sets.is_empty() || sets.iter().any(|set| may_match(set, matchers));
            let asked_for =
                scope.store_matchers.is_empty() || scope.store_matchers.iter().any(|set| is_named(peer, set));
            own && asked_for && peer.range().overlaps(range) && may_hold(&peer.label_sets())
        });
        peers
    }

    /// Matchers that are not answered by the proxy's own labels.
    fn foreign(&self, matchers: &[Matcher]) -> Vec<Matcher> {
        matchers.iter().filter(|matcher| self.own_labels.get(matcher.name()).is_none()).cloned().collect()
    }
}

/// Whether series below `external` labels can match.
fn may_match(external: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|matcher| external.get(matcher.name()).is_none_or(|value| matcher.matches(value)))
}

/// Whether `matchers` of `storeMatch[]` name the endpoint: by its address or its external labels.
fn is_named(peer: &Peer, matchers: &[Matcher]) -> bool {
    let (by_address, by_labels): (Vec<&Matcher>, Vec<&Matcher>) =
        matchers.iter().partition(|matcher| matcher.name() == "__address__");
    let sets = peer.label_sets();
    let set_matches =
        |set: &Labels| by_labels.iter().all(|matcher| matcher.matches(set.get(matcher.name()).unwrap_or("")));
    by_address.iter().all(|matcher| matcher.matches(&peer.address))
        && (by_labels.is_empty() || sets.iter().any(set_matches))
}

/// A matcher on the wire.
pub fn wire_matcher(matcher: &Matcher) -> LabelMatcher {
    let kind = match matcher.kind() {
        MatchKind::Eq => 0,
        MatchKind::NotEq => 1,
        MatchKind::Re => 2,
        MatchKind::NotRe => 3,
    };
    LabelMatcher { r#type: kind, name: matcher.name().to_owned(), value: matcher.value().to_string_lossy() }
}

fn strategy(on_failure: OnFailure) -> PartialResponseStrategy {
    match on_failure {
        OnFailure::Warn => PartialResponseStrategy::Warn,
        OnFailure::Abort => PartialResponseStrategy::Abort,
    }
}

/// `message` with the tenant in its metadata.
pub fn with_tenant<T>(message: T, tenant: &str) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(value) = tenant.parse() {
        request.metadata_mut().insert("thanos-tenant", value);
    }
    request
}
