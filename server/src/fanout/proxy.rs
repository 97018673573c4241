//! Requests to endpoints: who is asked, and how the answers become one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::model::matcher::{MatchKind, Matcher};
use engine::model::{Budget, Error, ErrorKind, Labels, Reservation, TimeRange};
use futures_util::future::join_all;
use proto::thanos::{LabelMatcher, LabelNamesRequest, LabelValuesRequest, PartialResponseStrategy, SeriesRequest};
use tonic::{Request, Status};

use super::ahead::{self, Together};
use super::endpoints::{Api, EndpointSet, Peer};
use super::merge::{CallLimits, Failing, Feed, Merge, collect};
use super::metrics::FanoutMetrics;
use super::selector::{Selector, Share};
use super::stream::{SeriesStream, StreamLimits, failure};
use super::texts::{self, Texts};
use crate::api::grpc::requested::Requested;
use crate::api::grpc::wire::parse_shard;
use crate::api::http::query::backend::{Found, OnFailure, Scope, Wanted};
use crate::api::parsing::Parsing;

/// Messages up to this many bytes are taken however little memory is left: what is held is accounted for
/// when they have come.
const SMALL_MESSAGE_BYTES: usize = 4 << 20;

/// How often a byte of a request for names or values is held until it is answered: as a message, as it is sent, and
/// where the connection keeps it.
const REQUEST_COPIES: usize = 3;

/// Asks endpoints.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// The endpoints.
    pub endpoints: Arc<EndpointSet>,
    /// Longest time between two frames of an endpoint (`--store.response-timeout`); none for any.
    pub frame_timeout: Option<Duration>,
    /// The process' memory (`--query.memory-limit`), which all requests share.
    pub memory: Arc<Budget>,
    /// The part of it for what endpoints send before it is asked for: half, so that there is always some for what is.
    pub ahead: Arc<Budget>,
    /// Parses requests over gRPC.
    pub parsing: Parsing,
    /// Labels of the proxy itself (`--selector-label`).
    pub own_labels: Labels,
    /// Which data of endpoints is answered from (`--selector.relabel-config`).
    pub selector: Arc<Selector>,
    /// Most that one Series call to the proxy, or one selection of a query, gives.
    pub limits: CallLimits,
    /// What is counted.
    pub metrics: FanoutMetrics,
    /// What Series calls to the proxy were answered with.
    pub requested: Requested,
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
    /// Asks `endpoints` with all the time in the world, for all that they have and `memory` holds.
    pub fn new(endpoints: Arc<EndpointSet>, memory: Arc<Budget>) -> Self {
        Self {
            endpoints,
            frame_timeout: None,
            parsing: Parsing::new(&memory),
            ahead: Budget::new("reading ahead", memory.room() / 2),
            memory,
            own_labels: Labels::default(),
            selector: Arc::default(),
            limits: CallLimits::default(),
            metrics: FanoutMetrics::default(),
            requested: Requested::default(),
        }
    }

    /// Series of all endpoints that can have some, merged.
    pub async fn series(&self, scope: &Scope, asked: SeriesAsked) -> Result<Merge, Error> {
        let matchers = self.foreign(&asked.matchers);
        if matchers.is_empty() {
            return Err(Error::invalid("no matchers specified (excluding selector labels)"));
        }
        let (on_failure, memory) = (scope.on_failure, Arc::clone(&self.memory));
        let failing = Failing { limits: self.limits, on_failure, memory };
        let peers = self.chosen(scope, &asked.matchers, asked.range);
        if peers.is_empty() {
            if scope.on_failure == OnFailure::Abort && self.endpoints.serving(Api::Store).is_empty() {
                return Err(Error::new(ErrorKind::Unavailable, "No StoreAPIs available"));
            }
            return Ok(Merge::new(Vec::new(), failing, Vec::new()));
        }
        let request = SeriesRequest {
            min_time: asked.range.min_time,
            max_time: asked.range.max_time,
            matchers: matchers.iter().map(wire_matcher).collect(),
            partial_response_strategy: strategy(scope.on_failure).into(),
            partial_response_disabled: scope.on_failure == OnFailure::Abort,
            without_replica_labels: scope.replica_labels.clone(),
            ..asked.request
        };
        let together = Together::new(peers.len());
        let opened = ahead::all(peers.iter().enumerate().map(async |(number, (peer, narrowing))| {
            let mut request = request.clone();
            request.matchers.extend(narrowing.iter().map(wire_matcher));
            let mut opened = self.open((number, peer.as_ref()), scope, request).await;
            if let (Err(error), OnFailure::Abort) = (&opened, scope.on_failure) {
                return Err(error.clone());
            }
            let reading = async {
                match &mut opened {
                    Ok((feed, _)) => feed.read_ahead().await,
                    Err(_) => std::future::pending().await,
                }
            };
            together.arrive(reading).await.map(|()| opened)
        }));
        let opened = opened.await?;
        let (mut feeds, mut warnings) = (Vec::new(), Vec::new());
        for feed in opened {
            match feed {
                Ok((feed, own)) => {
                    feeds.push(feed);
                    warnings.extend(own);
                }
                Err(error) => warnings.push(error.to_string()),
            }
        }
        let addresses = peers.iter().map(|(peer, _)| peer.address.clone());
        let merge = Merge::new(feeds, failing, warnings).of_endpoints(addresses);
        Ok(merge.counting_dropped(&self.metrics.selects_dropped))
    }

    async fn open(
        &self,
        (number, peer): (usize, &Peer),
        scope: &Scope,
        request: SeriesRequest,
    ) -> Result<(Feed, Vec<String>), Error> {
        let resort = !scope.replica_labels.is_empty() && !peer.drops_replica_labels();
        let dropped = if resort { scope.replica_labels.clone() } else { Vec::new() };
        let shard = request.shard_info.as_ref().filter(|_| !peer.takes_shares()).and_then(parse_shard);
        let request = with_tenant(request, &scope.tenant);
        let limits = StreamLimits {
            frame_timeout: self.frame_timeout,
            frame_bytes_max: self.frame_bytes_max(),
            memory: Arc::clone(&self.memory),
            ahead: Arc::clone(&self.ahead),
        };
        let stream = SeriesStream::open(peer, request, limits, dropped).await?;
        let stream = stream.numbered(number).narrowed_to(shard).counting_empty(&self.metrics.empty_streams);
        if !resort {
            return Ok((Feed::Live(Box::new(stream)), Vec::new()));
        }
        let mut warnings = Vec::new();
        let (series, held) = collect(stream, (&self.memory, scope.on_failure), &mut warnings).await?;
        Ok((Feed::Sorted(series.into_iter(), Some(held)), warnings))
    }

    /// Most bytes of one message: what gRPC in Go allows, or a quarter of the limit where that is less, as what
    /// a message says is held beside it, and several endpoints send at once. Room for a message is made before
    /// it comes, on its sender's word alone. What else is held says nothing: it changes until the message comes.
    pub fn frame_bytes_max(&self) -> usize {
        usize::try_from(self.memory.limit() / 4).unwrap_or(usize::MAX).clamp(SMALL_MESSAGE_BYTES, i32::MAX as usize)
    }

    /// Names of labels over all endpoints, sorted, the first of them where they are limited.
    pub async fn label_names(&self, scope: &Scope, wanted: &Wanted) -> Result<Found<Vec<String>>, Error> {
        let method = ("fetch label names", "/thanos.Store/LabelNames");
        self.labels(scope, wanted, method, |matchers| LabelNamesRequest {
            partial_response_disabled: scope.on_failure == OnFailure::Abort,
            partial_response_strategy: strategy(scope.on_failure).into(),
            start: wanted.range.min_time,
            end: wanted.range.max_time,
            matchers,
            without_replica_labels: scope.replica_labels.clone(),
            limit: wanted.limit as i64,
            ..LabelNamesRequest::default()
        })
        .await
    }

    /// Values of a label over all endpoints, sorted, the first of them where they are limited.
    pub async fn label_values(&self, scope: &Scope, name: &str, wanted: &Wanted) -> Result<Found<Vec<String>>, Error> {
        let method = ("fetch label values", "/thanos.Store/LabelValues");
        self.labels(scope, wanted, method, |matchers| LabelValuesRequest {
            label: name.to_owned(),
            partial_response_disabled: scope.on_failure == OnFailure::Abort,
            partial_response_strategy: strategy(scope.on_failure).into(),
            start: wanted.range.min_time,
            end: wanted.range.max_time,
            matchers,
            without_replica_labels: scope.replica_labels.clone(),
            limit: wanted.limit as i64,
            ..LabelValuesRequest::default()
        })
        .await
    }

    /// Asks each list of matchers of each endpoint that it concerns, and merges the answers; `method` is what is done
    /// with an endpoint, and its path. One list is asked after the other: endpoints have other requests too.
    async fn labels<M: prost::Message>(
        &self,
        scope: &Scope,
        wanted: &Wanted,
        method: (&str, &'static str),
        request: impl Fn(Vec<LabelMatcher>) -> M,
    ) -> Result<Found<Vec<String>>, Error> {
        let everything = [Vec::new()];
        let sets = if wanted.matchers.is_empty() { &everything[..] } else { &wanted.matchers[..] };
        // A warning that several lists are answered with is one.
        let (mut all, mut warnings, mut held) = (Vec::new(), BTreeSet::new(), self.memory.reserve(0)?);
        // Who did not answer in time is not waited for again.
        let mut late = BTreeSet::new();
        for set in sets {
            let (mut calls, mut asked, begin) = (Vec::new(), Vec::new(), Instant::now());
            for (peer, narrowing) in self.chosen(scope, set, wanted.range) {
                if late.contains(&peer.address) {
                    continue;
                }
                asked.push(peer.address.clone());
                let matchers = self.foreign(set).iter().chain(&narrowing).map(wire_matcher).collect();
                let request = request(matchers);
                let asking = self.memory.reserve((REQUEST_COPIES * request.encoded_len()) as u64)?;
                calls.push(self.texts(peer, method, with_tenant(request, &scope.tenant), asking));
            }
            for (answer, address) in join_all(calls).await.into_iter().zip(asked) {
                if answer.is_err() && self.frame_timeout.is_some_and(|timeout| begin.elapsed() >= timeout) {
                    late.insert(address);
                }
                match (answer, scope.on_failure) {
                    (Ok(answer), _) => {
                        all.extend(answer.found);
                        warnings.extend(answer.warnings);
                        held.join(answer.held);
                    }
                    (Err(error), OnFailure::Warn) => {
                        warnings.insert(error.to_string());
                    }
                    (Err(error), OnFailure::Abort) => return Err(error),
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        if wanted.limit > 0 {
            all.truncate(wanted.limit);
        }
        Ok(Found { data: all, warnings: warnings.into_iter().collect(), held })
    }

    /// What `peer` answers to a request, which is accounted for until then.
    async fn texts(
        &self,
        peer: Arc<Peer>,
        method: (&str, &'static str),
        request: Request<impl prost::Message>,
        _asking: Reservation,
    ) -> Result<Texts, Error> {
        let call = texts::ask(&peer, method, request, (self.frame_bytes_max(), &self.memory));
        match self.frame_timeout {
            None => call.await,
            Some(timeout) => tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| {
                let late = Status::deadline_exceeded(format!("no answer within {timeout:?}"));
                Err(failure(method.0, &peer.address, &late, &self.memory))
            }),
        }
    }

    /// Endpoints that can have series of `matchers` in `range`, each with what its series have to match
    /// besides.
    pub fn chosen(&self, scope: &Scope, matchers: &[Matcher], range: TimeRange) -> Vec<(Arc<Peer>, Vec<Matcher>)> {
        let own = self.is_own(matchers);
        let mut peers = self.endpoints.serving(Api::Store);
        peers.retain(|peer| {
            let may_hold = |sets: &[Labels]| sets.is_empty() || sets.iter().any(|set| may_match(set, matchers));
            let asked_for =
                scope.store_matchers.is_empty() || scope.store_matchers.iter().any(|set| is_named(peer, set));
            own && asked_for && peer.range().overlaps(range) && may_hold(&peer.label_sets())
        });
        let chosen = peers.into_iter().filter_map(|peer| match self.selector.share(&peer.label_sets()) {
            Ok(Share::Whole) => Some((peer, Vec::new())),
            Ok(Share::Part(matchers)) => Some((peer, matchers)),
            Ok(Share::Nothing) => None,
            Err(error) => {
                tracing::warn!(endpoint = peer.address, %error, "selecting its data failed");
                None
            }
        });
        chosen.collect()
    }

    /// Whether series of the proxy, which all have its own labels, can match.
    pub(super) fn is_own(&self, matchers: &[Matcher]) -> bool {
        may_match(&self.own_labels, matchers)
    }

    /// Matchers that are not answered by the proxy's own labels.
    pub(super) fn foreign(&self, matchers: &[Matcher]) -> Vec<Matcher> {
        matchers.iter().filter(|matcher| self.own_labels.get(matcher.name()).is_none()).cloned().collect()
    }
}

/// Whether series below `external` labels can match.
pub(super) fn may_match(external: &Labels, matchers: &[Matcher]) -> bool {
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
    LabelMatcher { r#type: kind, name: matcher.name().to_owned(), value: matcher.value().to_vec() }
}

/// How endpoints are told what to do when something of theirs fails.
pub(super) fn strategy(on_failure: OnFailure) -> PartialResponseStrategy {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::dial::Dialing;
    use crate::fanout::discovery::Discovery;

    #[test]
    fn how_large_a_message_may_be_does_not_depend_on_what_else_is_held() {
        let memory = Budget::new("query.memory-limit", 64 << 20);
        let proxy = Proxy::new(Arc::new(EndpointSet::new(Discovery::default(), Dialing::default())), memory);
        assert_eq!(proxy.frame_bytes_max(), 16 << 20);
        let _held = proxy.memory.reserve(60 << 20).unwrap();
        assert_eq!(proxy.frame_bytes_max(), 16 << 20);
    }
}
