//! The querier as an endpoint itself: StoreAPI over all that it asks, queries over gRPC, Info.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::model::{Error, Labels, TimeRange};
use engine::promql::budget::Patience;
use engine::promql::syntax;
use engine::promql::value::QueryValue;
use engine::promql::{QueryResult, RangeSteps, When};
use futures_util::Stream;
use futures_util::stream::unfold;
use proto::prometheus_copy::{self, Sample, TimeSeries};
use proto::series::ChunkKind;
use proto::thanos::info::{
    ExemplarsInfo, InfoResponse, MetricMetadataInfo, QueryApiInfo, RulesInfo, StatusInfo, StoreInfo, TargetsInfo,
    TsdbInfo,
};
use proto::thanos::query_server::{Query, QueryServer};
use proto::thanos::store_server::{Store, StoreServer};
use proto::thanos::{
    AggrChunk, Chunk, LabelNamesRequest, LabelNamesResponse, LabelValuesRequest, LabelValuesResponse,
    QueryRangeRequest, QueryRangeResponse, QueryRequest, QueryResponse, QueryStats, Series, SeriesRequest,
    SeriesResponse, ZLabelSet, query_range_response, query_response, series_response,
};
use tonic::{Request, Response, Status};

use super::endpoints::{Api as EndpointApi, Peer};
use super::merge::Merge;
use super::proxy::{CallLimits, Proxy, SeriesAsked};
use super::stream::{RemoteChunk, RemoteSeries};
use crate::api::error;
use crate::api::grpc::info::Describe;
use crate::api::grpc::wire::{label_set, parse_matcher, wire_labels};
use crate::api::http::query::Api;
use crate::api::http::query::backend::{OnFailure, Scope, Wanted};
use crate::api::http::query::evaluate::{Asked, evaluate};
use crate::api::http::query::{MAX_TIME, MIN_TIME};

/// Samples that a chunk counts for in a limit, as in Thanos.
const SAMPLES_PER_CHUNK: u64 = 120;

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// thanos.Store over endpoints.
pub fn store(proxy: Proxy) -> StoreServer<ProxyStore> {
    StoreServer::new(ProxyStore { proxy }).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX)
}

/// thanos.Query over what answers the HTTP API.
pub fn query(api: Arc<Api>) -> QueryServer<QueryService> {
    QueryServer::new(QueryService { api }).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX)
}

/// thanos.Store over endpoints.
#[derive(Clone, Debug)]
pub struct ProxyStore {
    proxy: Proxy,
}

/// thanos.Query.
#[derive(Clone)]
pub struct QueryService {
    api: Arc<Api>,
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
            range.min_time = range.min_time.min(peer.range().min_time);
            range.max_time = range.max_time.max(peer.range().max_time);
            label_sets.extend(peer.label_sets().iter().map(|set| self.with_own(set)));
            tsdb_infos.extend(infos(peer));
        }
        if label_sets.is_empty() && !self.proxy.own_labels.is_empty() {
            label_sets.push(label_set(&self.proxy.own_labels));
        }
        label_sets.sort_by_key(|set| format!("{set:?}"));
        label_sets.dedup();
        Ok(InfoResponse {
            label_sets,
            component_type: "query".into(),
            store: Some(StoreInfo {
                min_time: range.min_time,
                max_time: range.max_time,
                supports_sharding: false,
                supports_without_replica_labels: true,
                tsdb_infos,
                supports_projections: false,
            }),
            query: Some(QueryApiInfo {}),
            rules: Some(RulesInfo {}),
            targets: Some(TargetsInfo {}),
            metric_metadata: Some(MetricMetadataInfo {}),
            exemplars: Some(ExemplarsInfo { min_time: MIN_TIME, max_time: MAX_TIME }),
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
        tenant: tenant.unwrap_or("default-tenant").to_owned(),
    }
}

fn status(error: &Error) -> Status {
    error::status(error)
}

#[tonic::async_trait]
impl Store for ProxyStore {
    type SeriesStream = Frames<SeriesResponse>;

    async fn series(&self, request: Request<SeriesRequest>) -> Result<Response<Self::SeriesStream>, Status> {
        let asked = request.get_ref();
        let scope = scope(&request, asked.partial_response_strategy, &asked.without_replica_labels);
        let matchers: Vec<_> =
            asked.matchers.iter().map(parse_matcher).collect::<Result<_, _>>().map_err(|error| status(&error))?;
        let range = TimeRange::new(asked.min_time, asked.max_time);
        let asked = SeriesAsked { matchers, range, request: request.into_inner() };
        let merge = self.proxy.series(&scope, asked).await.map_err(|error| status(&error))?;
        let sending = Sending { merge, own: self.proxy.own_labels.clone(), limits: self.proxy.limits, sent: (0, 0) };
        Ok(Response::new(Box::pin(unfold(Some(sending), next_frame))))
    }

    async fn label_names(&self, request: Request<LabelNamesRequest>) -> Result<Response<LabelNamesResponse>, Status> {
        let asked = request.get_ref();
        let scope = scope(&request, asked.partial_response_strategy, &asked.without_replica_labels);
        let wanted = wanted(&asked.matchers, (asked.start, asked.end), asked.limit)?;
        let found = self.proxy.label_names(&scope, &wanted).await.map_err(|error| status(&error))?;
        Ok(Response::new(LabelNamesResponse { names: found.data, warnings: found.warnings, hints: None }))
    }

    async fn label_values(
        &self,
        request: Request<LabelValuesRequest>,
    ) -> Result<Response<LabelValuesResponse>, Status> {
        let asked = request.get_ref();
        let scope = scope(&request, asked.partial_response_strategy, &asked.without_replica_labels);
        let wanted = wanted(&asked.matchers, (asked.start, asked.end), asked.limit)?;
        let found = self.proxy.label_values(&scope, &asked.label, &wanted).await.map_err(|error| status(&error))?;
        Ok(Response::new(LabelValuesResponse { values: found.data, warnings: found.warnings, hints: None }))
    }
}

fn wanted(matchers: &[proto::thanos::LabelMatcher], (start, end): (i64, i64), limit: i64) -> Result<Wanted, Status> {
    let matchers: Vec<_> =
        matchers.iter().map(parse_matcher).collect::<Result<_, _>>().map_err(|error| status(&error))?;
    let limit = usize::try_from(limit).unwrap_or(0);
    Ok(Wanted { matchers: vec![matchers], range: TimeRange::new(start, end), limit })
}

/// An answer to Series on its way.
struct Sending {
    merge: Merge,
    own: Labels,
    limits: CallLimits,
    /// Series and samples so far.
    sent: (u64, u64),
}

impl Sending {
    /// Counts one more series. Limit when it is one too many.
    fn count(&mut self, series: &RemoteSeries) -> Result<(), Error> {
        let CallLimits { series: series_max, samples: samples_max } = self.limits;
        self.sent.0 += 1;
        self.sent.1 += series.chunks.len() as u64 * SAMPLES_PER_CHUNK;
        if series_max > 0 && self.sent.0 > series_max {
            let message = format!("limit {series_max} violated (got {})", self.sent.0);
            return Err(Error::limit("store.limits.request-series", message));
        }
        if samples_max > 0 && self.sent.1 > samples_max {
            let message = format!("limit {samples_max} violated (got {})", self.sent.1);
            return Err(Error::limit("store.limits.request-samples", message));
        }
        Ok(())
    }
}

/// The next frame of an answer: a warning that came up, else a series.
async fn next_frame(state: Option<Sending>) -> Option<(Result<SeriesResponse, Status>, Option<Sending>)> {
    let mut sending = state?;
    let frame = |result| SeriesResponse { result: Some(result) };
    if let Some(warning) = sending.merge.pop_warning() {
        return Some((Ok(frame(series_response::Result::Warning(warning))), Some(sending)));
    }
    let next = match sending.merge.next().await {
        Ok(Some(series)) => sending.count(&series).map(|()| Some(series)),
        other => other,
    };
    match next {
        Ok(Some(series)) => {
            let series = to_wire(series, &sending.own);
            Some((Ok(frame(series_response::Result::Series(series))), Some(sending)))
        }
        Ok(None) => {
            let warning = sending.merge.pop_warning()?;
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

#[tonic::async_trait]
impl Query for QueryService {
    type QueryStream = Frames<QueryResponse>;
    type QueryRangeStream = Frames<QueryRangeResponse>;

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        let tenant = tenant(&request, &self.api);
        let asked = request.into_inner();
        let scope = query_scope(
            &self.api,
            (asked.enable_dedup, asked.enable_partial_response),
            (asked.replica_labels, asked.store_matchers),
            (asked.max_resolution_seconds, tenant),
        )?;
        let when = When::Instant(asked.time_seconds * 1000);
        let limits = (asked.timeout_seconds, asked.lookback_delta_seconds);
        let frames = self.evaluate(asked.query, when, scope, limits).await?;
        let frames = frames.into_iter().map(|frame| {
            let result = match frame {
                Frame::Warning(text) => query_response::Result::Warnings(text),
                Frame::Series(series) => query_response::Result::Timeseries(series),
                Frame::Stats(stats) => query_response::Result::Stats(stats),
            };
            Ok(QueryResponse { result: Some(result) })
        });
        Ok(Response::new(Box::pin(futures_util::stream::iter(frames))))
    }

    async fn query_range(
        &self,
        request: Request<QueryRangeRequest>,
    ) -> Result<Response<Self::QueryRangeStream>, Status> {
        let tenant = tenant(&request, &self.api);
        let asked = request.into_inner();
        let scope = query_scope(
            &self.api,
            (asked.enable_dedup, asked.enable_partial_response),
            (asked.replica_labels, asked.store_matchers),
            (asked.max_resolution_seconds, tenant),
        )?;
        if asked.interval_seconds <= 0 {
            return Err(Status::invalid_argument("interval_seconds must be above 0"));
        }
        let when = When::Range(RangeSteps {
            start: asked.start_time_seconds * 1000,
            end: asked.end_time_seconds * 1000,
            step: asked.interval_seconds * 1000,
        });
        let limits = (asked.timeout_seconds, asked.lookback_delta_seconds);
        let frames = self.evaluate(asked.query, when, scope, limits).await?;
        let frames = frames.into_iter().map(|frame| {
            let result = match frame {
                Frame::Warning(text) => query_range_response::Result::Warnings(text),
                Frame::Series(series) => query_range_response::Result::Timeseries(series),
                Frame::Stats(stats) => query_range_response::Result::Stats(stats),
            };
            Ok(QueryRangeResponse { result: Some(result) })
        });
        Ok(Response::new(Box::pin(futures_util::stream::iter(frames))))
    }
}

fn tenant<T>(request: &Request<T>, api: &Api) -> String {
    let named = request.metadata().get("thanos-tenant").and_then(|value| value.to_str().ok());
    named.unwrap_or(&api.settings.tenancy.default).to_owned()
}

fn query_scope(
    api: &Api,
    (dedup, partial): (bool, bool),
    (replica_labels, store_matchers): (Vec<String>, Vec<proto::thanos::StoreMatchers>),
    (max_resolution_seconds, tenant): (i64, String),
) -> Result<Scope, Status> {
    let labels = if replica_labels.is_empty() { api.settings.replica_labels.clone() } else { replica_labels };
    let sets = store_matchers.iter().map(|set| set.label_matchers.iter().map(parse_matcher).collect());
    Ok(Scope {
        replica_labels: if dedup { labels } else { Vec::new() },
        on_failure: if partial { OnFailure::Warn } else { OnFailure::Abort },
        max_resolution_ms: max_resolution_seconds * 1000,
        store_matchers: sets.collect::<Result<_, Error>>().map_err(|error| status(&error))?,
        tenant,
    })
}

impl QueryService {
    async fn evaluate(
        &self,
        text: String,
        when: When,
        scope: Scope,
        (timeout_seconds, lookback_seconds): (i64, i64),
    ) -> Result<Vec<Frame>, Status> {
        let expr =
            syntax::parse(&text, self.api.syntax).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let timeout = match u64::try_from(timeout_seconds) {
            Ok(0) | Err(_) => self.api.settings.timeout,
            Ok(seconds) => Duration::from_secs(seconds).min(self.api.settings.timeout),
        };
        let asked = Asked { text, expr, when, scope };
        let limits = (Instant::now() + timeout, lookback_seconds * 1000);
        evaluate(&self.api, asked, limits, frames).await.map_err(|failure| failure.status())
    }
}

/// A part of the answer to a query.
enum Frame {
    Warning(String),
    Series(TimeSeries),
    Stats(QueryStats),
}

fn frames(result: QueryResult, patience: &Patience) -> Result<Vec<Frame>, Error> {
    let mut frames: Vec<Frame> = result.warnings.into_iter().map(Frame::Warning).collect();
    for series in series(&result.value) {
        patience.check()?;
        frames.push(Frame::Series(series));
    }
    frames.push(Frame::Stats(QueryStats {
        samples_total: result.stats.samples_queried as i64,
        peak_samples: result.stats.peak_samples as i64,
    }));
    Ok(frames)
}

/// The series of a value, each made when it is taken.
fn series(value: &QueryValue) -> Box<dyn Iterator<Item = TimeSeries> + '_> {
    match value {
        QueryValue::Scalar(steps, values) => {
            let samples = values.iter().enumerate();
            let samples = samples.map(|(at, value)| Sample { value: *value, timestamp: steps.time(at) }).collect();
            Box::new(std::iter::once(TimeSeries { samples, ..TimeSeries::default() }))
        }
        QueryValue::Text(..) => Box::new(std::iter::empty()),
        QueryValue::Vector(steps, rows) | QueryValue::Matrix(steps, rows) => {
            let row = move |row: usize| TimeSeries {
                labels: wire_labels(&rows.rows[row].labels),
                samples: rows.floats(row).map(|(step, value)| Sample { value, timestamp: steps.time(step) }).collect(),
                histograms: rows
                    .histograms(row)
                    .iter()
                    .map(|(step, histogram)| wire_histogram(histogram, steps.time(*step as usize)))
                    .collect(),
                ..TimeSeries::default()
            };
            Box::new((0..rows.len()).map(row))
        }
        QueryValue::Samples(batch) => Box::new(batch.iter().map(|series| {
            let samples = series.timestamps.iter().zip(series.values);
            let histograms = series.histogram_timestamps.iter().zip(series.histograms);
            TimeSeries {
                labels: wire_labels(series.labels),
                samples: samples.map(|(time, value)| Sample { value: *value, timestamp: *time }).collect(),
                histograms: histograms.map(|(time, histogram)| wire_histogram(histogram, *time)).collect(),
                ..TimeSeries::default()
            }
        })),
    }
}

/// A float histogram on the wire.
pub fn wire_histogram(histogram: &engine::model::FloatHistogram, timestamp: i64) -> prometheus_copy::Histogram {
    use prometheus_copy::histogram::{Count, ZeroCount};
    let spans = |spans: &[engine::model::Span]| {
        spans.iter().map(|span| prometheus_copy::BucketSpan { offset: span.offset, length: span.length }).collect()
    };
    prometheus_copy::Histogram {
        count: Some(Count::CountFloat(histogram.count)),
        sum: histogram.sum,
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold,
        zero_count: Some(ZeroCount::ZeroCountFloat(histogram.zero_count)),
        negative_spans: spans(&histogram.negative_spans),
        negative_deltas: Vec::new(),
        negative_counts: histogram.negative_buckets.clone(),
        positive_spans: spans(&histogram.positive_spans),
        positive_deltas: Vec::new(),
        positive_counts: histogram.positive_buckets.clone(),
        reset_hint: histogram.counter_reset as i32,
        timestamp,
        custom_values: histogram.custom_values.to_vec(),
    }
}
