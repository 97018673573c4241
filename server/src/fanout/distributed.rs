//! Queries in which endpoints do their share of aggregations: over `thanos.Query`, at the query's own
//! steps.

use std::sync::Arc;

use engine::batch::SampleBatch;
use engine::model::value::stale_nan;
use engine::model::{CounterReset, Error, ErrorKind, FloatHistogram, Labels, Reservation, Span, TimeRange};
use engine::promql::When;
use engine::promql::source::{BatchSink, SelectRequest, Selected, Source};
use engine::promql::syntax::Expr;
use futures_util::future::join_all;
use prost::Message;
use proto::prometheus_copy::{self, TimeSeries, histogram};
use proto::thanos::query_client::QueryClient;
use proto::thanos::{QueryRangeRequest, QueryRequest, query_range_response, query_response};
use tonic::{Code, Status};

use super::endpoints::{Api, Peer};
use super::federated::exhausted;
use super::proxy::with_tenant;
use super::push::{self, ENDPOINT, PUSHED, Pushed};
use super::source::RemoteSource;
use super::stream::failure;
use crate::api::http::query::backend::OnFailure;

/// Series of a batch that is handed on.
const BATCH_SERIES: usize = 128;

/// A source that knows what endpoints were asked to do.
pub struct DistributedSource {
    inner: RemoteSource,
    pushed: Vec<Pushed>,
    steps: Steps,
    lookback_ms: i64,
}

/// The steps of a query in whole seconds, which is how endpoints are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Steps {
    start: i64,
    end: i64,
    /// 0 for an instant query.
    step: i64,
}

impl Steps {
    /// The steps in seconds; `None` when they are not whole, or when an endpoint would take the time of an
    /// instant query for none.
    fn of(when: When) -> Option<Self> {
        let (start, end, step) = match when {
            When::Instant(0) => return None,
            When::Instant(time) => (time, time, 0),
            When::Range(steps) => (steps.start, steps.end, steps.step),
        };
        let is_whole = [start, end, step].iter().all(|ms| ms % 1000 == 0);
        is_whole.then_some(Self { start: start / 1000, end: end / 1000, step: step / 1000 })
    }

    /// Unix milliseconds of each step.
    fn times(self) -> impl Iterator<Item = i64> {
        let count = if self.step == 0 { 1 } else { (self.end - self.start) / self.step + 1 };
        (0..count).map(move |at| (self.start + at * self.step) * 1000)
    }
}

/// What endpoints do of `expr`, and the query that is left; `None` when they do nothing.
pub fn distribute(
    inner: RemoteSource,
    (expr, when, lookback_ms): (&Expr, When, i64),
) -> Result<(Expr, DistributedSource), Box<RemoteSource>> {
    let Some(steps) = Steps::of(when).filter(|_| lookback_ms % 1000 == 0 && inner.scope.store_matchers.is_empty())
    else {
        return Err(Box::new(inner));
    };
    let mut left = expr.clone();
    let pushed = push::push(&mut left, &|selectors| {
        let mut found: Vec<Arc<Peer>> = Vec::new();
        for matchers in selectors {
            for (peer, narrowing) in inner.proxy.chosen(&inner.scope, matchers, TimeRange::ALL) {
                if !peer.serves(Api::Query) || !narrowing.is_empty() {
                    return None;
                }
                if !found.iter().any(|known| known.address == peer.address) {
                    found.push(peer);
                }
            }
        }
        let replicas = &inner.scope.replica_labels;
        let apart =
            |one: &Arc<Peer>, other: &Arc<Peer>| push::are_apart(&one.label_sets(), &other.label_sets(), replicas);
        let mut pairs =
            found.iter().enumerate().flat_map(|(at, one)| found[at + 1..].iter().map(move |other| (one, other)));
        pairs.all(|(one, other)| apart(one, other)).then(|| found.clone())
    });
    if pushed.is_empty() {
        return Err(Box::new(inner));
    }
    Ok((left, DistributedSource { inner, pushed, steps, lookback_ms }))
}

impl Source for DistributedSource {
    fn select(&self, request: &SelectRequest<'_>, sink: &mut BatchSink<'_>) -> Result<Selected, Error> {
        let number = request.matchers.iter().find(|matcher| matcher.name() == PUSHED);
        let pushed = number.and_then(|number| {
            let number: usize = number.value().to_string_lossy().parse().ok()?;
            self.pushed.get(number)
        });
        let Some(pushed) = pushed else { return self.inner.select(request, sink) };
        let asked = self.inner.ending.race(self.ask(pushed));
        let (mut found, warnings, _held) = self.inner.runtime.block_on(asked)?;
        found.sort_by(|left, right| left.0.cmp(&right.0));
        let mut batch = SampleBatch::default();
        for (labels, series) in found {
            self.append(&series, &mut batch);
            batch.finish_series(Arc::new(labels));
            if batch.len() == BATCH_SERIES {
                sink(&mut batch)?;
                batch.clear();
            }
        }
        if !batch.is_empty() {
            sink(&mut batch)?;
        }
        Ok(Selected { warnings })
    }
}

/// Series of several endpoints, told apart by a label, warnings, and the memory that they take.
type Answered = (Vec<(Labels, TimeSeries)>, Vec<String>, Reservation);

/// How much larger series are than their messages, at most, where samples and labels are none that are empty.
const DECODED_BYTES: u64 = 4;

impl DistributedSource {
    /// Asks all endpoints of an aggregation at once.
    async fn ask(&self, pushed: &Pushed) -> Result<Answered, Error> {
        let on_failure = self.inner.scope.on_failure;
        let answers = join_all(pushed.peers.iter().map(async |peer| {
            let answer = self.ask_one(peer, &pushed.text).await;
            answer.map_err(|status| match status.code() {
                // The query can't be evaluated, here as little as there; what an endpoint of its own lacks, it
                // warns of. Thanos calls that aborted.
                Code::FailedPrecondition | Code::Aborted => Error::invalid(status.message()),
                _ => failure("receive series", &peer.address, &status, &self.inner.proxy.memory),
            })
        }));
        let (mut all, mut warnings, mut held) = (Vec::new(), Vec::new(), self.inner.proxy.memory.reserve(0)?);
        for (number, answer) in answers.await.into_iter().enumerate() {
            match (answer, on_failure) {
                (Ok((series, warned, more)), _) => {
                    held.join(more);
                    let number = number.to_string();
                    all.extend(series.into_iter().map(|series| {
                        let pairs = series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
                        (Labels::from_pairs(pairs.chain([(ENDPOINT, number.as_str())])), series)
                    }));
                    warnings.extend(warned);
                }
                (Err(error), OnFailure::Warn) if error.kind() != ErrorKind::Invalid => warnings.push(error.to_string()),
                (Err(error), _) => return Err(error),
            }
        }
        Ok((all, warnings, held))
    }

    async fn ask_one(&self, peer: &Peer, text: &str) -> Result<(Vec<TimeSeries>, Vec<String>, Reservation), Status> {
        let scope = &self.inner.scope;
        let mut client =
            QueryClient::new(peer.channel.clone()).max_decoding_message_size(self.inner.proxy.frame_bytes_max());
        let memory = self.inner.proxy.memory.reserve(0).map_err(exhausted)?;
        let (mut series, mut warnings, mut held) = (Vec::new(), Vec::new(), memory);
        let range = QueryRangeRequest {
            query: text.to_owned(),
            start_time_seconds: self.steps.start,
            end_time_seconds: self.steps.end,
            interval_seconds: self.steps.step,
            max_resolution_seconds: scope.max_resolution_ms / 1000,
            replica_labels: scope.replica_labels.clone(),
            enable_dedup: !scope.replica_labels.is_empty(),
            enable_partial_response: scope.on_failure == OnFailure::Warn,
            lookback_delta_seconds: self.lookback_ms / 1000,
            ..QueryRangeRequest::default()
        };
        if self.steps.step > 0 {
            let mut stream = client.query_range(with_tenant(range, &scope.tenant)).await?.into_inner();
            while let Some(message) = stream.message().await? {
                held.grow(DECODED_BYTES * message.encoded_len() as u64).map_err(exhausted)?;
                match message.result {
                    Some(query_range_response::Result::Timeseries(one)) => series.push(one),
                    Some(query_range_response::Result::TimeseriesBatch(batch)) => series.extend(batch.series),
                    Some(query_range_response::Result::Warnings(text)) => warnings.push(text),
                    Some(query_range_response::Result::Stats(_)) | None => {}
                }
            }
            return Ok((series, warnings, held));
        }
        let instant = QueryRequest {
            query: range.query,
            time_seconds: range.start_time_seconds,
            max_resolution_seconds: range.max_resolution_seconds,
            replica_labels: range.replica_labels,
            enable_dedup: range.enable_dedup,
            enable_partial_response: range.enable_partial_response,
            lookback_delta_seconds: range.lookback_delta_seconds,
            ..QueryRequest::default()
        };
        let mut stream = client.query(with_tenant(instant, &scope.tenant)).await?.into_inner();
        while let Some(message) = stream.message().await? {
            held.grow(DECODED_BYTES * message.encoded_len() as u64).map_err(exhausted)?;
            match message.result {
                Some(query_response::Result::Timeseries(one)) => series.push(one),
                Some(query_response::Result::TimeseriesBatch(batch)) => series.extend(batch.series),
                Some(query_response::Result::Warnings(text)) => warnings.push(text),
                Some(query_response::Result::Stats(_)) | None => {}
            }
        }
        Ok((series, warnings, held))
    }

    /// Appends a result as samples at the steps. A step without a result ends the series there, as
    /// looking back would else find the step before it.
    fn append(&self, series: &TimeSeries, batch: &mut SampleBatch) {
        let mut floats = series.samples.iter().peekable();
        let mut histograms = series.histograms.iter().peekable();
        for time in self.steps.times() {
            while floats.next_if(|sample| sample.timestamp < time).is_some() {}
            while histograms.next_if(|histogram| histogram.timestamp < time).is_some() {}
            if let Some(sample) = floats.next_if(|sample| sample.timestamp == time) {
                batch.floats.push(time, sample.value);
            } else if let Some(histogram) = histograms.next_if(|histogram| histogram.timestamp == time) {
                batch.histograms.timestamps.push(time);
                batch.histograms.values.push(Arc::new(float_histogram(histogram)));
            } else {
                batch.floats.push(time, stale_nan());
            }
        }
    }
}

/// A histogram of the wire; integers become floats.
fn float_histogram(wire: &prometheus_copy::Histogram) -> FloatHistogram {
    let spans = |spans: &[prometheus_copy::BucketSpan]| {
        spans.iter().map(|span| Span { offset: span.offset, length: span.length }).collect()
    };
    let buckets = |counts: &[f64], deltas: &[i64]| {
        if !counts.is_empty() {
            return counts.to_vec();
        }
        let sums = deltas.iter().scan(0, |sum, delta| {
            *sum += delta;
            Some(*sum as f64)
        });
        sums.collect()
    };
    FloatHistogram {
        counter_reset: match wire.reset_hint {
            1 => CounterReset::Yes,
            2 => CounterReset::No,
            3 => CounterReset::Gauge,
            _ => CounterReset::Unknown,
        },
        schema: wire.schema,
        zero_threshold: wire.zero_threshold,
        zero_count: match wire.zero_count {
            Some(histogram::ZeroCount::ZeroCountFloat(count)) => count,
            Some(histogram::ZeroCount::ZeroCountInt(count)) => count as f64,
            None => 0.0,
        },
        count: match wire.count {
            Some(histogram::Count::CountFloat(count)) => count,
            Some(histogram::Count::CountInt(count)) => count as f64,
            None => 0.0,
        },
        sum: wire.sum,
        positive_spans: spans(&wire.positive_spans),
        negative_spans: spans(&wire.negative_spans),
        positive_buckets: buckets(&wire.positive_counts, &wire.positive_deltas),
        negative_buckets: buckets(&wire.negative_counts, &wire.negative_deltas),
        custom_values: wire.custom_values.as_slice().into(),
    }
}

#[cfg(test)]
mod tests {
    use engine::promql::RangeSteps;

    use super::*;
    use crate::fanout::queries::wire_histogram;

    #[test]
    fn only_whole_seconds_are_asked_for() {
        assert_eq!(Steps::of(When::Instant(5000)), Some(Steps { start: 5, end: 5, step: 0 }));
        assert_eq!(Steps::of(When::Instant(5001)), None);
        assert_eq!(Steps::of(When::Instant(0)), None, "for an endpoint that is now");
        let steps = Steps::of(When::Range(RangeSteps { start: 0, end: 61_000, step: 30_000 })).unwrap();
        assert_eq!(steps.times().collect::<Vec<_>>(), [0, 30_000, 60_000]);
    }

    #[test]
    fn histograms_come_back_as_they_were_sent() {
        let sent = FloatHistogram {
            schema: 1,
            zero_threshold: 0.5,
            zero_count: 2.0,
            count: 9.5,
            sum: 3.25,
            positive_spans: vec![Span { offset: -1, length: 2 }],
            positive_buckets: vec![3.0, 4.5],
            counter_reset: CounterReset::Gauge,
            ..FloatHistogram::default()
        };
        assert_eq!(float_histogram(&wire_histogram(&sent, 1)), sent);
    }
}
