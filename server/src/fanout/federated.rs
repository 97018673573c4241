//! What endpoints know beside series: rules, targets, metadata, exemplars and cardinalities, as they
//! say it.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::model::matcher::Matcher;
use engine::model::{Error, Labels, Reservation, TimeRange};
use futures_util::future::join_all;
use prost::Message;
use proto::thanos::{
    ExemplarData, ExemplarsRequest, ExemplarsResponse, MetricMetadata, MetricMetadataRequest, MetricMetadataResponse,
    Rule, RuleGroup, RulesRequest, RulesResponse, TargetDiscovery, TargetsRequest, TargetsResponse, TsdbStatistics,
    TsdbStatisticsRequest, TsdbStatisticsResponse, exemplars_response, metric_metadata_response, rule, rules_response,
    targets_response, tsdb_statistics_response,
};
use tonic::{Request, Status, Streaming};

use super::endpoints::{Api, Peer, labels};
use super::proxy::{Proxy, may_match, strategy, with_tenant};
use super::stream::failure;
use super::weighed::{EXEMPLARS, METADATA, RULES, STATISTICS, TARGETS, Weighing};
use crate::api::http::query::backend::{Found, OnFailure, Scope};

/// Asks `$peers` by `$method` at `$path`, of answers of `$shapes`; warnings are parted from what is answered.
macro_rules! ask {
    (
        $self:ident, $scope:ident, $peers:expr, $method:ident($path:literal, $shapes:ident), $answer:ident,
        $response:ident { $part:ident, $warning:ident }
    ) => {{
        let bytes_max = $self.frame_bytes_max();
        let calls = $peers.into_iter().map(|(peer, mut request)| {
            request.partial_response_strategy = strategy($scope.on_failure).into();
            let request = with_tenant(request, &$scope.tenant);
            let weighing = Weighing::<_, $answer>::new($shapes, &$self.memory);
            let answer = call(Arc::clone(&peer), ($path, bytes_max), request, weighing);
            (peer, answer)
        });
        let what = format!("receive {}", stringify!($method).replace('_', " "));
        gather($self, $scope, (&what, calls), |message: $answer| match message.result {
            Some($response::Result::$part(part)) => Some(Ok(part)),
            Some($response::Result::$warning(text)) => Some(Err(text)),
            None => None,
        })
        .await
    }};
}

/// Calls `peer` at a path for messages of at most so many bytes.
async fn call<Q, M>(
    peer: Arc<Peer>,
    (path, bytes_max): (&'static str, usize),
    request: Request<Q>,
    weighing: Weighing<Q, M>,
) -> Result<Streaming<(M, Reservation)>, Status>
where
    Q: Message + 'static,
    M: Message + Default + 'static,
{
    let mut client = tonic::client::Grpc::new(peer.channel.clone()).max_decoding_message_size(bytes_max);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static(path);
    client.server_streaming(request, path, weighing).await.map(tonic::Response::into_inner)
}

impl Proxy {
    /// Rule groups of every endpoint that has some.
    pub async fn rules(&self, scope: &Scope, request: &RulesRequest) -> Result<Found<Vec<RuleGroup>>, Error> {
        let peers = self.each(Api::Rules, request);
        ask!(self, scope, peers, rules("/thanos.Rules/Rules", RULES), RulesResponse, rules_response { Group, Warning })
    }

    /// Scrape targets of every endpoint that has some.
    pub async fn targets(&self, scope: &Scope, request: &TargetsRequest) -> Result<Found<Vec<TargetDiscovery>>, Error> {
        let peers = self.each(Api::Targets, request);
        ask!(
            self,
            scope,
            peers,
            targets("/thanos.Targets/Targets", TARGETS),
            TargetsResponse,
            targets_response { Targets, Warning }
        )
    }

    /// Metadata of metrics of every endpoint that has some.
    pub async fn metadata(
        &self,
        scope: &Scope,
        request: &MetricMetadataRequest,
    ) -> Result<Found<Vec<MetricMetadata>>, Error> {
        let peers = self.each(Api::Metadata, request);
        ask!(
            self,
            scope,
            peers,
            metric_metadata("/thanos.Metadata/MetricMetadata", METADATA),
            MetricMetadataResponse,
            metric_metadata_response { Metadata, Warning }
        )
    }

    /// Cardinalities of the heads of every endpoint that has some.
    pub async fn statistics(
        &self,
        scope: &Scope,
        request: &TsdbStatisticsRequest,
    ) -> Result<Found<Vec<TsdbStatistics>>, Error> {
        let peers = self.each(Api::Status, request);
        ask!(
            self,
            scope,
            peers,
            tsdb_statistics("/thanos.Status/TSDBStatistics", STATISTICS),
            TsdbStatisticsResponse,
            tsdb_statistics_response { Statistics, Warning }
        )
    }

    /// Exemplars of series that match one of `selectors`, of every endpoint that can have some.
    pub async fn exemplars(
        &self,
        scope: &Scope,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Found<Vec<ExemplarData>>, Error> {
        let mut own = selectors.iter().filter(|matchers| self.is_own(matchers)).map(|matchers| self.foreign(matchers));
        let selectors: Vec<Vec<Matcher>> = own.by_ref().filter(|matchers| !matchers.is_empty()).collect();
        let mut external = BTreeSet::new();
        let mut peers = Vec::new();
        for peer in self.endpoints.serving(Api::Exemplars) {
            let sets = peer.label_sets();
            external.extend(sets.iter().flat_map(Labels::iter).map(|(name, _)| name.to_owned()));
            let knows = peer.info().is_some_and(|info| matches!(&*info.component_type, "query" | "receive"));
            let (start, end) = (range.min_time, range.max_time);
            if let Some(query) = exemplars_query(&selectors, &sets, knows.into()) {
                peers.push((peer, ExemplarsRequest { query, start, end, ..ExemplarsRequest::default() }));
            }
        }
        let found: Result<Found<Vec<ExemplarData>>, Error> = ask!(
            self,
            scope,
            peers,
            exemplars("/thanos.Exemplars/Exemplars", EXEMPLARS),
            ExemplarsResponse,
            exemplars_response { Data, Warning }
        );
        let mut found = found?;
        // An endpoint below several label sets that was asked without them answers for all of them.
        found.data.retain(|data| is_wanted(data, &selectors, &external));
        Ok(found)
    }

    fn each<Q: Clone>(&self, api: Api, request: &Q) -> Vec<(Arc<Peer>, Q)> {
        self.endpoints.serving(api).into_iter().map(|peer| (peer, request.clone())).collect()
    }
}

/// Whether the labels called `external` of a series with exemplars match one of `selectors`.
fn is_wanted(data: &ExemplarData, selectors: &[Vec<Matcher>], external: &BTreeSet<String>) -> bool {
    let series = data.series_labels.as_ref().map(labels).unwrap_or_default();
    let matches = |matcher: &Matcher| matcher.matches(series.get(matcher.name()).unwrap_or(""));
    let is_met = |matcher: &Matcher| !external.contains(matcher.name()) || matches(matcher);
    selectors.iter().any(|matchers| matchers.iter().all(is_met))
}

/// Whether an endpoint matches external labels in queries for exemplars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExternalLabels {
    /// It does: it is a querier or a receiver.
    Known,
    /// Its Prometheus does not know them.
    Unknown,
}

impl From<bool> for ExternalLabels {
    fn from(is_known: bool) -> Self {
        if is_known { Self::Known } else { Self::Unknown }
    }
}

/// The query for exemplars that an endpoint below these label sets is asked; `None` when no selector
/// can match there.
fn exemplars_query(selectors: &[Vec<Matcher>], sets: &[Labels], external: ExternalLabels) -> Option<String> {
    let matching =
        selectors.iter().filter(|matchers| sets.is_empty() || sets.iter().any(|set| may_match(set, matchers)));
    let parts: Vec<String> = matching
        .map(|matchers| {
            let is_external = |matcher: &&Matcher| sets.iter().any(|set| set.get(matcher.name()).is_some());
            let kept = matchers.iter().filter(|matcher| external == ExternalLabels::Known || !is_external(matcher));
            let kept: Vec<String> = kept.map(Matcher::to_string).collect();
            // A selector of external labels alone is all that is below them; one without matchers is none.
            if kept.is_empty() { "{__name__!=\"\"}".to_owned() } else { format!("{{{}}}", kept.join(", ")) }
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join(" + "))
}

/// A message whose parts become objects of JSON.
trait Listed: Message {
    /// How many.
    fn objects(&self) -> usize;
}

impl Listed for RuleGroup {
    fn objects(&self) -> usize {
        let of = |rule: &Rule| match &rule.result {
            // An alert has objects of labels and of annotations.
            Some(rule::Result::Alert(alert)) => 3 + 3 * alert.alerts.len(),
            _ => 3,
        };
        1 + self.rules.iter().map(of).sum::<usize>()
    }
}

impl Listed for TargetDiscovery {
    fn objects(&self) -> usize {
        self.active_targets.len() + self.dropped_targets.len()
    }
}

impl Listed for MetricMetadata {
    fn objects(&self) -> usize {
        self.metadata.values().map(|entry| 1 + entry.metas.len()).sum()
    }
}

impl Listed for ExemplarData {
    fn objects(&self) -> usize {
        1 + 2 * self.exemplars.len()
    }
}

impl Listed for TsdbStatistics {
    fn objects(&self) -> usize {
        // What is a table of a few rows is all in its bytes.
        0
    }
}

/// Bytes that an object takes from its message until it is answered, as measured with empty ones: a tree of
/// maps, and its text.
const OBJECT_BYTES: usize = 1024;

/// How often a byte of a text is held meanwhile: as it came, in a tree, and as it goes.
const TEXT_COPIES: usize = 3;

/// How often a part is in a list meanwhile: where it lies, and with room for as many again in the one that is made
/// of it.
const PART_PLACES: usize = 3;

/// Bytes that what an endpoint said takes until it is answered.
fn answered_bytes<P: Listed>(part: &Result<P, String>) -> u64 {
    let bytes = match part {
        Ok(part) => TEXT_COPIES * part.encoded_len() + OBJECT_BYTES * part.objects(),
        Err(warning) => TEXT_COPIES * warning.len() + size_of::<String>(),
    };
    (bytes + PART_PLACES * size_of::<Result<P, String>>()) as u64
}

/// That there is no memory, as an endpoint would say it.
fn exhausted(error: Error) -> Status {
    Status::resource_exhausted(error.message())
}

/// What every called endpoint streams, in the order of the calls; `split` tells warnings from parts, `what`
/// is done with an endpoint that fails.
async fn gather<M, P, A>(
    proxy: &Proxy,
    scope: &Scope,
    (what, calls): (&str, impl Iterator<Item = (Arc<Peer>, A)>),
    split: impl Fn(M) -> Option<Result<P, String>> + Copy,
) -> Result<Found<Vec<P>>, Error>
where
    P: Listed,
    A: Future<Output = Result<Streaming<(M, Reservation)>, Status>>,
{
    let calls = calls.map(|(peer, answer)| async move {
        let read = async {
            let mut stream = answer.await?;
            let (mut parts, mut held) = (Vec::new(), proxy.memory.reserve(0).map_err(exhausted)?);
            while let Some((message, weighed)) = stream.message().await? {
                // From now on it counts as what is made of it.
                drop(weighed);
                if let Some(part) = split(message) {
                    held.grow(answered_bytes(&part)).map_err(exhausted)?;
                    parts.push(part);
                }
            }
            Ok((parts, held))
        };
        let answer = match proxy.frame_timeout {
            None => read.await,
            Some(timeout) => tokio::time::timeout(timeout, read)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer within {timeout:?}")))),
        };
        answer.map_err(|status| failure(what, &peer.address, &status, &proxy.memory))
    });
    let mut found = Found { data: Vec::new(), warnings: Vec::new(), held: proxy.memory.reserve(0)? };
    for answer in join_all(calls).await {
        match (answer, scope.on_failure) {
            (Ok((parts, held)), _) => {
                found.held.join(held);
                for part in parts {
                    match part {
                        Ok(part) => found.data.push(part),
                        Err(warning) => found.warnings.push(warning),
                    }
                }
            }
            (Err(error), OnFailure::Warn) => found.warnings.push(error.to_string()),
            (Err(error), OnFailure::Abort) => return Err(error),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_say_nothing_are_accounted_for_in_the_lists_that_they_are_in() {
        let nothing = answered_bytes(&Ok(TargetDiscovery::default()));
        assert!(nothing >= 2 * size_of::<TargetDiscovery>() as u64, "{nothing}");
        assert!(answered_bytes::<TargetDiscovery>(&Err(String::new())) > nothing);
    }

    #[test]
    fn endpoints_are_asked_for_exemplars_without_their_external_labels() {
        let selectors = [
            vec![Matcher::equal("__name__", "up"), Matcher::equal("cluster", "a")],
            vec![Matcher::equal("__name__", "down"), Matcher::equal("cluster", "b")],
        ];
        let set = |cluster: &str| Labels::from_pairs([("cluster", cluster)]);
        let query = |sets: &[Labels], external| exemplars_query(&selectors, sets, external);
        assert_eq!(query(&[set("a")], ExternalLabels::Unknown).as_deref(), Some("{__name__=\"up\"}"));
        let both = query(&[set("a"), set("b")], ExternalLabels::Known).unwrap();
        assert_eq!(both, "{__name__=\"up\", cluster=\"a\"} + {__name__=\"down\", cluster=\"b\"}");
        assert_eq!(query(&[set("c")], ExternalLabels::Unknown), None);
        let alone = [vec![Matcher::equal("cluster", "a")]];
        let query_alone = exemplars_query(&alone, &[set("a")], ExternalLabels::Unknown).unwrap();
        assert_eq!(query_alone, "{__name__!=\"\"}");
        assert_eq!(query(&[], ExternalLabels::Unknown).unwrap(), both);
    }
}
