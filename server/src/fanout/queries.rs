//! thanos.Query: queries over gRPC, answered row by row as the asker takes them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::model::{Allowance, Error, ErrorKind};
use engine::promql::remarks::without_place;
use engine::promql::value::QueryValue;
use engine::promql::{QueryResult, RangeSteps, When, syntax};
use futures_util::{Stream, stream};
use proto::prometheus_copy::{self, Sample, TimeSeries};
use proto::thanos::query_server::{Query, QueryServer};
use proto::thanos::{
    QueryRangeRequest, QueryRangeResponse, QueryRequest, QueryResponse, QueryStats, ShardInfo, StoreMatchers,
    TimeSeriesBatch, query_range_response, query_response,
};
use tonic::{Request, Response, Status};

use crate::api::error;
use crate::api::grpc::call;
use crate::api::grpc::wire::{parse_matchers, parse_shard, wire_labels};
use crate::api::http::query::Api;
use crate::api::http::query::backend::{OnFailure, Scope};
use crate::api::http::query::evaluate::{Asked, evaluate};
use crate::upkeep::now_ms;

type Frames<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// thanos.Query over what answers the HTTP API; queries may be written in `syntax`.
pub fn query(api: Arc<Api>, syntax: syntax::Options) -> QueryServer<QueryService> {
    QueryServer::new(QueryService { api, syntax })
        .max_decoding_message_size(call::QUESTION_BYTES_MAX)
        .max_encoding_message_size(usize::MAX)
}

/// thanos.Query.
#[derive(Clone)]
pub struct QueryService {
    api: Arc<Api>,
    syntax: syntax::Options,
}

/// Engines that Thanos knows; both are this one.
const ENGINES: std::ops::RangeInclusive<i32> = 0..=2;

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
            (asked.replica_labels, asked.store_matchers, asked.shard_info.as_ref()),
            (asked.max_resolution_seconds, tenant),
        )
        .await?;
        check_engine(asked.engine)?;
        let when = When::Instant(if asked.time_seconds == 0 { now_ms() } else { ms(asked.time_seconds)? });
        let limits = (asked.timeout_seconds, ms(asked.lookback_delta_seconds)?);
        let result = self.evaluate(asked.query, when, scope, limits).await?;
        let frames = Answer::new(result, asked.response_batch_size).map(|frame| {
            let result = match frame {
                Frame::Warning(text) => query_response::Result::Warnings(text),
                Frame::Series(series) => query_response::Result::Timeseries(series),
                Frame::Batch(series) => query_response::Result::TimeseriesBatch(TimeSeriesBatch { series }),
                Frame::Stats(stats) => query_response::Result::Stats(stats),
            };
            Ok(QueryResponse { result: Some(result) })
        });
        Ok(Response::new(Box::pin(stream::iter(frames))))
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
            (asked.replica_labels, asked.store_matchers, asked.shard_info.as_ref()),
            (asked.max_resolution_seconds, tenant),
        )
        .await?;
        check_engine(asked.engine)?;
        if asked.interval_seconds <= 0 {
            return Err(Status::invalid_argument("interval_seconds must be above 0"));
        }
        let (start, end) = (ms(asked.start_time_seconds)?, ms(asked.end_time_seconds)?);
        let when = When::Range(RangeSteps { start, end, step: ms(asked.interval_seconds)? });
        let limits = (asked.timeout_seconds, ms(asked.lookback_delta_seconds)?);
        let result = self.evaluate(asked.query, when, scope, limits).await?;
        let frames = Answer::new(result, asked.response_batch_size).map(|frame| {
            let result = match frame {
                Frame::Warning(text) => query_range_response::Result::Warnings(text),
                Frame::Series(series) => query_range_response::Result::Timeseries(series),
                Frame::Batch(series) => query_range_response::Result::TimeseriesBatch(TimeSeriesBatch { series }),
                Frame::Stats(stats) => query_range_response::Result::Stats(stats),
            };
            Ok(QueryRangeResponse { result: Some(result) })
        });
        Ok(Response::new(Box::pin(stream::iter(frames))))
    }
}

fn tenant<T>(request: &Request<T>, api: &Api) -> String {
    let named = request.metadata().get("thanos-tenant").and_then(|value| value.to_str().ok());
    named.unwrap_or(&api.settings.tenancy.default).to_owned()
}

async fn query_scope(
    api: &Api,
    (dedup, partial): (bool, bool),
    (replica_labels, store_matchers, shard): (Vec<String>, Vec<StoreMatchers>, Option<&ShardInfo>),
    (max_resolution_seconds, tenant): (i64, String),
) -> Result<Scope, Status> {
    let by_default = api.settings.instant_resolution_ms;
    let labels = if replica_labels.is_empty() { api.settings.replica_labels.clone() } else { replica_labels };
    let parse = |sets: &[StoreMatchers], allowance: &mut Allowance| {
        let sets = sets.iter().map(|set| parse_matchers(&set.label_matchers, allowance));
        sets.collect::<Result<Vec<_>, Error>>()
    };
    let sets = api.parsing.parse(store_matchers.as_slice(), &mut api.parsing.allowance(), parse).await;
    Ok(Scope {
        replica_labels: if dedup { labels } else { Vec::new() },
        on_failure: if partial { OnFailure::Warn } else { OnFailure::Abort },
        max_resolution_ms: if max_resolution_seconds == 0 { by_default } else { ms(max_resolution_seconds)? },
        store_matchers: sets.map_err(|error| error::status(&error))?,
        shard: shard.and_then(parse_shard),
        tenant,
    })
}

/// Milliseconds of seconds as they are on the wire.
fn ms(seconds: i64) -> Result<i64, Status> {
    let late = || Status::invalid_argument(format!("{seconds} seconds are more than can be counted in milliseconds"));
    seconds.checked_mul(1000).ok_or_else(late)
}

fn check_engine(engine: i32) -> Result<(), Status> {
    if ENGINES.contains(&engine) { Ok(()) } else { Err(Status::invalid_argument("invalid engine parameter")) }
}

impl QueryService {
    async fn evaluate(
        &self,
        text: String,
        when: When,
        scope: Scope,
        (timeout_seconds, lookback_ms): (i64, i64),
    ) -> Result<QueryResult, Status> {
        let (parsing, options) = (&self.api.parsing, self.syntax);
        let parse = move |text: &str, allowance: &mut Allowance| {
            syntax::parse_within(text, options, allowance).map_err(Error::from)
        };
        let refused = |error: Error| match error.kind() {
            ErrorKind::Invalid => Status::unknown(error.message()),
            _ => error::status(&error),
        };
        let expr = parsing.parse(text.as_str(), &mut parsing.allowance(), parse).await.map_err(refused)?;
        let held = parsing.hold(text.as_str()).map_err(refused)?;
        let timeout = match u64::try_from(timeout_seconds) {
            Ok(0) | Err(_) => self.api.settings.timeout,
            Ok(seconds) => Duration::from_secs(seconds).min(self.api.settings.timeout),
        };
        let asked = Asked { text, expr, tenant: None, when, scope, held };
        let limits = (Instant::now() + timeout, lookback_ms);
        let evaluated = evaluate(&self.api, asked, limits, |evaluated, _| Ok(evaluated.result)).await;
        evaluated.map_err(|failure| failure.status())
    }
}

/// A part of the answer to a query.
enum Frame {
    Warning(String),
    Series(TimeSeries),
    Batch(Vec<TimeSeries>),
    Stats(QueryStats),
}

/// The frames of an answer, each made when it is taken: of what is sent only one frame is held twice.
/// The memory of the result counts until the last frame is taken or nobody takes them any more.
struct Answer {
    result: QueryResult,
    warnings: std::vec::IntoIter<String>,
    rows: std::ops::Range<usize>,
    batch: usize,
    ended: bool,
}

impl Answer {
    /// The frames of `result`, `batch` series in each where that is above 1.
    fn new(mut result: QueryResult, batch: i64) -> Self {
        // A frame knows only warnings. The place is one of the expression that was sent: who asked has made that of
        // another.
        let (warnings, infos) = (std::mem::take(&mut result.warnings), std::mem::take(&mut result.infos));
        let notes = warnings.iter().chain(&infos);
        let mut warnings: Vec<String> = notes.map(|note| without_place(note).to_owned()).collect();
        warnings.dedup();
        let warnings = warnings.into_iter();
        let rows = match &result.value {
            QueryValue::Scalar(..) => 1,
            QueryValue::Text(..) => 0,
            QueryValue::Vector(_, rows) | QueryValue::Matrix(_, rows) => rows.len(),
            QueryValue::Samples(batch) => batch.len(),
        };
        Self { result, warnings, rows: 0..rows, batch: usize::try_from(batch).unwrap_or(0), ended: false }
    }
}

impl Iterator for Answer {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        if let Some(warning) = self.warnings.next() {
            return Some(Frame::Warning(warning));
        }
        if self.batch > 1 && !self.rows.is_empty() {
            let rows = self.rows.by_ref().take(self.batch);
            return Some(Frame::Batch(rows.map(|row| series(&self.result.value, row)).collect()));
        }
        if let Some(row) = self.rows.next() {
            return Some(Frame::Series(series(&self.result.value, row)));
        }
        let stats = self.result.stats;
        let (samples_total, peak_samples) = (stats.samples_queried as i64, stats.peak_samples as i64);
        (!std::mem::replace(&mut self.ended, true)).then_some(Frame::Stats(QueryStats { samples_total, peak_samples }))
    }
}

/// Series `row` of a value.
fn series(value: &QueryValue, row: usize) -> TimeSeries {
    match value {
        QueryValue::Scalar(steps, values) => {
            let samples = values.iter().enumerate();
            let samples = samples.map(|(at, value)| Sample { value: *value, timestamp: steps.time(at) }).collect();
            TimeSeries { samples, ..TimeSeries::default() }
        }
        QueryValue::Text(..) => TimeSeries::default(),
        QueryValue::Vector(steps, rows) | QueryValue::Matrix(steps, rows) => TimeSeries {
            labels: wire_labels(&rows.rows[row].labels),
            samples: rows.floats(row).map(|(step, value)| Sample { value, timestamp: steps.time(step) }).collect(),
            histograms: rows
                .histograms(row)
                .iter()
                .map(|(step, histogram)| wire_histogram(histogram, steps.time(*step as usize)))
                .collect(),
            ..TimeSeries::default()
        },
        QueryValue::Samples(batch) => {
            let series = batch.series(row);
            let samples = series.timestamps.iter().zip(series.values);
            let histograms = series.histogram_timestamps.iter().zip(series.histograms);
            TimeSeries {
                labels: wire_labels(series.labels),
                samples: samples.map(|(time, value)| Sample { value: *value, timestamp: *time }).collect(),
                histograms: histograms.map(|(time, histogram)| wire_histogram(histogram, *time)).collect(),
                ..TimeSeries::default()
            }
        }
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
