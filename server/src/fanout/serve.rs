//! The querier as an endpoint itself: StoreAPI over all that it asks, and Info.

use std::pin::Pin;

use engine::model::{Error, Labels, Matcher, Reservation, TimeRange};
use futures_util::Stream;
use futures_util::stream::unfold;
use proto::series::ChunkKind;
use proto::thanos::info::{
    ExemplarsInfo, InfoResponse, MetricMetadataInfo, QueryApiInfo, RulesInfo, StatusInfo, StoreInfo, TargetsInfo,
    TsdbInfo,
};
use proto::thanos::store_server::{Store, StoreServer};
use proto::thanos::{
    AggrChunk, Chunk, LabelMatcher, LabelNamesRequest, LabelNamesResponse, LabelValuesRequest, LabelValuesResponse,
    Series, SeriesRequest, SeriesResponse, ZLabelSet, series_response,
};
use tonic::{Request, Response, Status};

use super::endpoints::{Api as EndpointApi, Peer};
use super::merge::Merge;
use super::proxy::{Proxy, SeriesAsked};
use super::stream::{RemoteChunk, RemoteSeries};
use crate::api::error;
use crate::api::grpc::call;
use crate::api::grpc::info::Describe;
use crate::api::grpc::requested::Pending;
use crate::api::grpc::wire::{label_set, parse_matchers, wire_labels};
use crate::api::http::query::backend::{OnFailure, Scope, Wanted};

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Bytes of a message and what it is made of from which on these are accounted for.
const LARGE_BYTES: u64 = 1 << 20;

/// How often a byte of a message is there while it is written, as what it is written to grows.
const MESSAGE_COPIES: usize = 3;

/// Bytes that a chunk takes of a message besides its data, at most.
const CHUNK_MESSAGE_BYTES: usize = 128;

/// thanos.Store over endpoints.
pub fn store(proxy: Proxy) -> StoreServer<ProxyStore> {
    StoreServer::new(ProxyStore { proxy })
        .max_decoding_message_size(call::QUESTION_BYTES_MAX)
        .max_encoding_message_size(usize::MAX)
}

/// thanos.Store over endpoints.
#[derive(Clone, Debug)]
pub struct ProxyStore {
    proxy: Proxy,
}

/// What the querier says of itself.
#[derive(Clone, Debug)]
pub struct ProxyInfo {
    /// Its endpoints.
    pub proxy: Proxy,
}

impl Describe for ProxyInfo {
    fn describe(&self) -> Result<InfoResponse, Status> {
        let peers = self.proxy.endpoints.serving(EndpointApi::Store);
        let mut range = TimeRange::new(i64::MAX, i64::MIN);
        let (mut label_sets, mut tsdb_infos): (Vec<ZLabelSet>, Vec<TsdbInfo>) = (Vec::new(), Vec::new());
        for peer in &peers {
            range = range.hull(peer.range());
            label_sets.extend(peer.label_sets().iter().map(|set| self.with_own(set)));
            tsdb_infos.extend(infos(peer));
        }
        if label_sets.is_empty() && !self.proxy.own_labels.is_empty() {
            label_sets.push(label_set(&self.proxy.own_labels));
        }
        label_sets.sort_by_cached_key(|set| format!("{set:?}"));
        label_sets.dedup();
        Ok(InfoResponse {
            label_sets,
            component_type: "query".into(),
            store: Some(StoreInfo {
                min_time: range.min_time,
                max_time: range.max_time,
                // Shares are made before the labels of the querier are added.
                supports_sharding: self.proxy.own_labels.is_empty(),
                supports_without_replica_labels: true,
                tsdb_infos,
                supports_projections: false,
            }),
            query: Some(QueryApiInfo {}),
            rules: Some(RulesInfo {}),
            targets: Some(TargetsInfo {}),
            metric_metadata: Some(MetricMetadataInfo {}),
            exemplars: Some(ExemplarsInfo { min_time: TimeRange::ASKED.min_time, max_time: TimeRange::ASKED.max_time }),
            status: Some(StatusInfo {}),
        })
    }
}

impl ProxyInfo {
    fn with_own(&self, set: &Labels) -> ZLabelSet {
        label_set(&Labels::from_pairs(set.iter().chain(self.proxy.own_labels.iter())))
    }
}

fn infos(peer: &Peer) -> Vec<TsdbInfo> {
    let info = peer.info();
    info.and_then(|info| info.store.as_ref().map(|store| store.tsdb_infos.clone())).unwrap_or_default()
}

/// How a request over gRPC wants what it asks for.
pub(super) fn scope<T>(request: &Request<T>, strategy: i32, replica_labels: &[String]) -> Scope {
    let tenant = request.metadata().get("thanos-tenant").and_then(|value| value.to_str().ok());
    Scope {
        replica_labels: replica_labels.to_vec(),
        on_failure: if strategy == 1 { OnFailure::Abort } else { OnFailure::Warn },
        max_resolution_ms: 0,
        store_matchers: Vec::new(),
        shard: None,
        tenant: tenant.unwrap_or("default-tenant").to_owned(),
    }
}

/// The same of the StoreAPI, whose requests say in either of two fields that nothing may be missing.
fn store_scope<T>(request: &Request<T>, (strategy, is_disabled): (i32, bool), replica_labels: &[String]) -> Scope {
    let scope = scope(request, strategy, replica_labels);
    let on_failure = if is_disabled { OnFailure::Abort } else { scope.on_failure };
    Scope { on_failure, ..scope }
}

fn status(error: &Error) -> Status {
    error::status(error)
}

#[tonic::async_trait]
impl Store for ProxyStore {
    type SeriesStream = Frames<SeriesResponse>;

    async fn series(&self, request: Request<SeriesRequest>) -> Result<Response<Self::SeriesStream>, Status> {
        let pending = self.proxy.requested.begin();
        let asked = request.get_ref();
        let partial = (asked.partial_response_strategy, asked.partial_response_disabled);
        let scope = store_scope(&request, partial, &asked.without_replica_labels);
        let matchers = self.matchers(&asked.matchers).await?;
        let range = TimeRange::new(asked.min_time, asked.max_time);
        let left = u64::try_from(asked.limit).ok().filter(|limit| *limit > 0);
        let asked = SeriesAsked { matchers, range, request: request.into_inner() };
        let merge = self.proxy.series(&scope, asked).await.map_err(|error| status(&error))?;
        let (own, warnings) = (self.proxy.own_labels.clone(), Vec::new().into_iter());
        let held = self.proxy.memory.reserve(0).map_err(|error| status(&error))?;
        let sending = Sending { merge, warnings, own, pending, left, held };
        Ok(Response::new(Box::pin(unfold(Some(sending), next_frame))))
    }

    async fn label_names(&self, request: Request<LabelNamesRequest>) -> Result<Response<LabelNamesResponse>, Status> {
        let asked = request.get_ref();
        let partial = (asked.partial_response_strategy, asked.partial_response_disabled);
        let scope = store_scope(&request, partial, &asked.without_replica_labels);
        let wanted = self.wanted(&asked.matchers, (asked.start, asked.end), asked.limit).await?;
        let found = self.proxy.label_names(&scope, &wanted).await.map_err(|error| status(&error))?;
        Ok(Response::new(LabelNamesResponse { names: found.data, warnings: found.warnings, hints: None }))
    }

    async fn label_values(
        &self,
        request: Request<LabelValuesRequest>,
    ) -> Result<Response<LabelValuesResponse>, Status> {
        let asked = request.get_ref();
        if asked.label.is_empty() {
            return Err(Status::invalid_argument("label name parameter cannot be empty"));
        }
        let partial = (asked.partial_response_strategy, asked.partial_response_disabled);
        let scope = store_scope(&request, partial, &asked.without_replica_labels);
        let wanted = self.wanted(&asked.matchers, (asked.start, asked.end), asked.limit).await?;
        let found = self.proxy.label_values(&scope, &asked.label, &wanted).await.map_err(|error| status(&error))?;
        Ok(Response::new(LabelValuesResponse { values: found.data, warnings: found.warnings, hints: None }))
    }
}

impl ProxyStore {
    async fn matchers(&self, matchers: &[LabelMatcher]) -> Result<Vec<Matcher>, Status> {
        let parsing = &self.proxy.parsing;
        let parsed = parsing.parse(matchers, &mut parsing.allowance(), parse_matchers).await;
        parsed.map_err(|error| status(&error))
    }

    async fn wanted(&self, matchers: &[LabelMatcher], (start, end): (i64, i64), limit: i64) -> Result<Wanted, Status> {
        let limit = usize::try_from(limit).unwrap_or(0);
        let matchers = vec![self.matchers(matchers).await?];
        Ok(Wanted { matchers, range: TimeRange::new(start, end), limit })
    }
}

/// An answer to Series on its way.
struct Sending {
    merge: Merge,
    /// What went wrong so far and was not told yet.
    warnings: std::vec::IntoIter<String>,
    own: Labels,
    pending: Pending,
    /// Series that may still come (`limit`); none for any number.
    left: Option<u64>,
    /// Memory that the message takes which was made last.
    held: Reservation,
}

impl Sending {
    /// Accounts for the message of `series` in place of the one before, which is on its way by now.
    fn hold(&mut self, series: &RemoteSeries) -> Result<(), Error> {
        let count = series.chunks.len();
        let data: u64 = series.chunks.iter().map(RemoteChunk::data_bytes).sum();
        let message = series.labels.heap_bytes() + count * CHUNK_MESSAGE_BYTES + data as usize;
        let bytes = (count * size_of::<AggrChunk>() + MESSAGE_COPIES * message) as u64;
        let bytes = if bytes < LARGE_BYTES { 0 } else { bytes };
        if bytes == self.held.bytes() {
            return Ok(());
        }
        self.held.resize(bytes).map_err(|error| error.within(format!("the message of series {}", series.labels)))
    }
}

impl Sending {
    /// A warning that came up and was not told yet.
    fn warning(&mut self) -> Option<String> {
        if self.warnings.as_slice().is_empty() {
            self.warnings = self.merge.take_warnings().into_iter();
        }
        self.warnings.next()
    }
}

/// The next frame of an answer: a warning that came up, else a series.
async fn next_frame(state: Option<Sending>) -> Option<(Result<SeriesResponse, Status>, Option<Sending>)> {
    let mut sending = state?;
    let frame = |result| SeriesResponse { result: Some(result) };
    if let Some(warning) = sending.warning() {
        return Some((Ok(frame(series_response::Result::Warning(warning))), Some(sending)));
    }
    if sending.left == Some(0) {
        return None;
    }
    match sending.merge.next().await {
        Ok(Some(series)) => {
            if let Err(error) = sending.hold(&series) {
                return Some((Err(status(&error)), None));
            }
            sending.left = sending.left.map(|left| left - 1);
            sending.pending.series += 1;
            sending.pending.chunks += series.chunks.len() as u64;
            let series = to_wire(series, &sending.own);
            Some((Ok(frame(series_response::Result::Series(series))), Some(sending)))
        }
        Ok(None) => {
            let warning = sending.warning()?;
            Some((Ok(frame(series_response::Result::Warning(warning))), Some(sending)))
        }
        Err(error) => Some((Err(status(&error)), None)),
    }
}

fn to_wire(series: RemoteSeries, own: &Labels) -> Series {
    let labels = if own.is_empty() {
        wire_labels(&series.labels)
    } else {
        wire_labels(&Labels::from_pairs(series.labels.iter().chain(own.iter())))
    };
    Series { labels, chunks: series.chunks.into_iter().map(to_aggr).collect() }
}

fn to_aggr(chunk: RemoteChunk) -> AggrChunk {
    let part = |part: Option<(ChunkKind, bytes::Bytes)>| {
        part.map(|(kind, data)| {
            let hash = xxhash_rust::xxh64::xxh64(&data, 0);
            let kind = match kind {
                ChunkKind::Xor => 0,
                ChunkKind::Histogram => 1,
                ChunkKind::FloatHistogram => 2,
            };
            Chunk { r#type: kind, data, hash }
        })
    };
    let [raw, count, sum, min, max, counter] = chunk.parts.map(part);
    AggrChunk { min_time: chunk.min_time, max_time: chunk.max_time, raw, count, sum, min, max, counter }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::model::Budget;

    use super::*;
    use crate::api::grpc::requested::Requested;
    use crate::fanout::merge::{CallLimits, Failing, Feed};

    /// An answer of one series with so many chunks.
    fn sending(memory: &Arc<Budget>, chunks: i64) -> Sending {
        let chunk = |time| RemoteChunk { min_time: time, max_time: time, parts: Default::default(), endpoint: 0 };
        let series = RemoteSeries { labels: Arc::default(), chunks: (0..chunks).map(chunk).collect() };
        let failing =
            Failing { limits: CallLimits::default(), on_failure: OnFailure::Warn, memory: Arc::clone(memory) };
        let merge = Merge::new(vec![Feed::Sorted(vec![series].into_iter(), None)], failing, Vec::new());
        let (pending, held) = (Requested::default().begin(), memory.reserve(0).unwrap());
        Sending { merge, warnings: Vec::new().into_iter(), own: Labels::default(), pending, left: None, held }
    }

    #[tokio::test]
    async fn the_message_of_a_large_series_is_accounted_for_until_the_next_one() {
        let memory = Budget::new("--query.memory-limit", 64 << 20);
        let (message, rest) = next_frame(Some(sending(&memory, 50_000))).await.unwrap();
        assert!(message.is_ok());
        assert!(memory.usage().used >= 50_000 * size_of::<AggrChunk>() as u64);
        assert!(next_frame(rest).await.is_none());
        assert_eq!(memory.usage().used, 0);
        let (refused, _) = next_frame(Some(sending(&memory, 500_000))).await.unwrap();
        assert_eq!(refused.unwrap_err().code(), tonic::Code::ResourceExhausted);
        let (_, small) = next_frame(Some(sending(&memory, 100))).await.unwrap();
        assert_eq!((small.is_some(), memory.usage().used), (true, 0));
    }
}
