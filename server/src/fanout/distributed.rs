//! Queries in which endpoints do their share of aggregations: over `thanos.Query`, at the query's own
//! steps.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use engine::batch::SampleBatch;
use engine::model::histogram::CUSTOM_BUCKETS_SCHEMA;
use engine::model::value::stale_nan;
use engine::model::{CounterReset, Error, FloatHistogram, Labels, Reservation, Span, TimeRange};
use engine::promql::When;
use engine::promql::annotations::Mix;
use engine::promql::assemble::Merging;
use engine::promql::source::{BatchSink, SelectRequest, Selected, Source};
use engine::promql::syntax::Expr;
use futures_util::future::{try_join, try_join_all};
use proto::prometheus_copy::{self, Histogram, Sample, TimeSeries, histogram};
use proto::thanos::{QueryRangeRequest, QueryRangeResponse, QueryRequest, QueryResponse};
use tonic::Status;

use super::asking::{self, Answer, Failed, Notes};
use super::endpoints::{Api, Peer};
use super::proxy::with_tenant;
use super::push::{self, COUNTED, Counting, ENDPOINT, PUSHED, Pushed};
use super::source::RemoteSource;
use super::stream::failure;
use crate::api::http::query::backend::{Left, OnFailure, Others};

/// Series of a batch that is handed on.
const BATCH_SERIES: usize = 128;

/// A source that knows what endpoints were asked to do.
pub struct DistributedSource {
    inner: RemoteSource,
    pushed: Vec<Pushed>,
    steps: Steps,
    lookback_ms: i64,
    /// What was answered to aggregations of which two selectors are left, by their numbers.
    kept: Mutex<HashMap<usize, Arc<Answered>>>,
    /// What endpoints tell while they do their share.
    others: Arc<Others>,
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
) -> Result<(Left, DistributedSource), Box<RemoteSource>> {
    // Endpoints merge replicas by penalty, and know nothing of `storeMatch[]`.
    let merges_alike = inner.merging != Merging::Chain || inner.scope.replica_labels.is_empty();
    let is_known = merges_alike && inner.scope.store_matchers.is_empty();
    let Some(steps) = Steps::of(when).filter(|_| lookback_ms % 1000 == 0 && is_known) else {
        return Err(Box::new(inner));
    };
    let mut left = expr.clone();
    let pushed = push::push(&mut left, &|selectors| {
        let mut found: Vec<Arc<Peer>> = Vec::new();
        for matchers in selectors {
            // The querier's own labels are no series' labels: endpoints would find nothing.
            if inner.proxy.foreign(matchers).len() < matchers.len() {
                return None;
            }
            for (peer, narrowing) in inner.proxy.chosen(&inner.scope, matchers, TimeRange::ALL) {
                if !peer.serves(Api::Query) || !narrowing.is_empty() {
                    return None;
                }
                if !found.iter().any(|known| known.address == peer.address) {
                    found.push(peer);
                }
            }
        }
        // That nobody has any may be an error.
        if found.is_empty() {
            return None;
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
    let stand_ins = pushed.iter().enumerate().flat_map(|(number, pushed)| pushed.stand_ins(number)).collect();
    let others = Arc::new(Others::default());
    let left = Left { expr: left, stand_ins, others: Arc::clone(&others) };
    Ok((left, DistributedSource { inner, pushed, steps, lookback_ms, kept: Mutex::default(), others }))
}

impl Source for DistributedSource {
    fn select(&self, request: &SelectRequest<'_>, sink: &mut BatchSink<'_>) -> Result<Selected, Error> {
        let number = |label: &str| {
            let number = request.matchers.iter().find(|matcher| matcher.name() == label)?;
            let number = number.value().to_string_lossy().parse::<usize>().ok()?;
            (number < self.pushed.len()).then_some(number)
        };
        let (results, counts) = (number(PUSHED), number(COUNTED));
        let Some(number) = results.or(counts) else { return self.inner.select(request, sink) };
        let answered = self.answered(number)?;
        let found = if results.is_some() { &answered.results } else { &answered.counts };
        let mut batch = SampleBatch::default();
        for (labels, series) in found {
            self.append(series, &mut batch);
            batch.finish_series(Arc::clone(labels));
            if batch.len() == BATCH_SERIES {
                sink(&mut batch)?;
                batch.clear();
            }
        }
        if !batch.is_empty() {
            sink(&mut batch)?;
        }
        Ok(Selected { warnings: answered.warnings.clone() })
    }
}

/// Series, each with its labels.
type Labelled = Vec<(Arc<Labels>, TimeSeries)>;

/// What endpoints answered: series of several, told apart by a label.
struct Answered {
    results: Labelled,
    /// How many samples the results are of, where that was asked.
    counts: Labelled,
    warnings: Vec<String>,
    /// The memory that they take.
    held: Reservation,
}

/// What one endpoint does of an aggregation.
struct Share {
    results: Vec<TimeSeries>,
    /// How many samples the results are of, where that was asked.
    counts: Vec<TimeSeries>,
    /// What the means are, where sums for them are no numbers.
    means: Vec<TimeSeries>,
    notes: Notes,
    held: Reservation,
}

/// What the sums of means that are too large to be added are multiplied by, and the counts that they are of: a power of
/// two, so that the quotients stay to the last bit, by which the greatest number may be there 2^64 times.
const SCALE: f64 = 1.0 / (1u128 << 64) as f64;

impl DistributedSource {
    /// What endpoints answer to aggregation `number`. Both selectors of a mean read one answer, so that sums and
    /// counts are of the same endpoints.
    fn answered(&self, number: usize) -> Result<Arc<Answered>, Error> {
        let pushed = &self.pushed[number];
        let ask = || self.inner.runtime.block_on(self.inner.ending.race(self.ask(pushed))).map(Arc::new);
        if pushed.counting != Counting::Always {
            return ask();
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answered) = kept.get(&number) {
            return Ok(Arc::clone(answered));
        }
        let answered = ask()?;
        kept.insert(number, Arc::clone(&answered));
        Ok(answered)
    }

    /// Asks all endpoints of an aggregation at once.
    async fn ask(&self, pushed: &Pushed) -> Result<Answered, Error> {
        let memory = &self.inner.proxy.memory;
        // What ends the query is not kept waiting by who is slower.
        let answers = try_join_all(pushed.peers.iter().map(async |peer| {
            let failed = |status: Status| failure("receive series", &peer.address, &status, memory);
            match self.share(peer, pushed).await {
                Ok(share) => Ok(Ok(share)),
                Err(Failed::Here(error)) => Err(error),
                Err(Failed::NotUnderstood(status)) => {
                    self.others.give_up();
                    Err(failed(status))
                }
                Err(Failed::There(status)) => match self.inner.scope.on_failure {
                    OnFailure::Warn => Ok(Err(failed(status).to_string())),
                    OnFailure::Abort => Err(failed(status)),
                },
            }
        }));
        let held = memory.reserve(0)?;
        let mut all = Answered { results: Vec::new(), counts: Vec::new(), warnings: Vec::new(), held };
        let mut shares = Vec::new();
        for (number, answer) in answers.await?.into_iter().enumerate() {
            match answer {
                Ok(share) => shares.push((number, share)),
                Err(warning) => all.warnings.push(warning),
            }
        }
        let is_scaled = pushed.counting == Counting::Always && !are_addable(&shares);
        for (number, mut share) in shares {
            if is_scaled {
                share.scale()?;
            }
            all.take((number, pushed.peers[number].address.as_str()), share)?;
        }
        all.results.sort_by(|left, right| left.0.cmp(&right.0));
        all.counts.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(all)
    }

    /// What one endpoint does of an aggregation: all that is asked of it, or nothing.
    async fn share(&self, peer: &Peer, pushed: &Pushed) -> Result<Share, Failed> {
        let (results, counts) = (self.ask_one(peer, &pushed.text), self.ask_one(peer, &pushed.count));
        let (results, counted) = match pushed.counting {
            Counting::Never => (results.await?, None),
            Counting::OfMixed => {
                let results = results.await?;
                let counted = if results.notes.mix().is_some() { Some(counts.await?) } else { None };
                (results, counted)
            }
            Counting::Always => {
                let (results, counted) = try_join(results, counts).await?;
                (results, Some(counted))
            }
        };
        let Answer { series, notes, held, .. } = results;
        let mut share = Share { results: series, counts: Vec::new(), means: Vec::new(), notes, held };
        let Some(counted) = counted else { return Ok(share) };
        share.counts = share.join(counted)?;
        if pushed.counting == Counting::Always && floats(&share.results).any(f64::is_infinite) {
            share.means = share.join(self.ask_one(peer, &pushed.mean).await?)?;
        }
        Ok(share)
    }

    async fn ask_one(&self, peer: &Peer, text: &str) -> Result<Answer, Failed> {
        let (proxy, scope) = (&self.inner.proxy, &self.inner.scope);
        let bytes_max = proxy.frame_bytes_max();
        let (held, share) = (proxy.memory.reserve(0)?, proxy.memory.limit() / 4);
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
        let answer = if self.steps.step > 0 {
            let path = ("/thanos.Query/QueryRange", bytes_max);
            let stream = asking::call(peer, path, with_tenant(range, &scope.tenant)).await?;
            Answer::read::<QueryRangeResponse>((held, share), stream, proxy.frame_timeout).await?
        } else {
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
            let path = ("/thanos.Query/Query", bytes_max);
            let stream = asking::call(peer, path, with_tenant(instant, &scope.tenant)).await?;
            Answer::read::<QueryResponse>((held, share), stream, proxy.frame_timeout).await?
        };
        self.others.count(answer.samples);
        Ok(answer)
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

impl Answered {
    /// Takes in what an endpoint does, by its number and address.
    fn take(&mut self, (number, address): (usize, &str), mut share: Share) -> Result<(), Error> {
        if let Some(met) = share.notes.mix() {
            for (labels, times) in share.without_result() {
                share.held.grow((times.len() * 2 * size_of::<Histogram>()) as u64)?;
                for (kind, series) in unlike(met, &times) {
                    let endpoint = format!("{number} {kind}");
                    let labels = labels.iter().chain([(ENDPOINT, endpoint.as_str())]);
                    self.results.push((Arc::new(Labels::from_pairs(labels)), series));
                }
            }
        }
        let number = number.to_string();
        let told_apart = |series: TimeSeries| {
            let labels = pairs(&series).chain([(ENDPOINT, number.as_str())]);
            (Arc::new(Labels::from_pairs(labels)), series)
        };
        self.results.extend(share.results.into_iter().map(told_apart));
        self.counts.extend(share.counts.into_iter().map(told_apart));
        self.warnings.extend(share.notes.into_warnings(address));
        self.held.join(share.held);
        Ok(())
    }
}

impl Share {
    /// Takes in what is said beside series of another query, and gives those. Fails where some are lacking that others
    /// are of, or the other way round: an endpoint that is a querier may have had series of an endpoint of its own for
    /// one of them alone.
    fn join(&mut self, other: Answer) -> Result<Vec<TimeSeries>, Failed> {
        if self.notes.lacks() != other.notes.lacks() {
            let (lacks, others) = (self.notes.lacks(), other.notes.lacks());
            let lacking: Vec<&str> = lacks.union(&others).copied().collect();
            let text = format!("sums and counts are of different series: {}", lacking.join(", "));
            return Err(Failed::There(Status::unavailable(text)));
        }
        self.notes.join(other.notes);
        self.held.join(other.held);
        Ok(other.series)
    }

    /// Multiplies the sums of means and the counts that they are of by [`SCALE`]. A sum that is no number becomes what
    /// the mean says; a mean that is none either, as of a sample that is infinite, leaves it so.
    fn scale(&mut self) -> Result<(), Error> {
        let samples: usize =
            [&self.results, &self.counts, &self.means].into_iter().flatten().map(|series| series.samples.len()).sum();
        self.held.grow((samples * 2 * size_of::<(i64, f64)>()) as u64)?;
        let (counts, means) = (by_labels(&self.counts), by_labels(&self.means));
        for series in &mut self.results {
            let labels = Labels::from_pairs(pairs(series));
            let (counts, means) = (counts.get(&labels), means.get(&labels));
            for sample in &mut series.samples {
                let time = sample.timestamp;
                let of = |found: Option<&HashMap<i64, f64>>| found.and_then(|found| found.get(&time)).copied();
                sample.value = match (of(means), of(counts)) {
                    (Some(mean), Some(count)) if sample.value.is_infinite() => mean * (count * SCALE),
                    _ => sample.value * SCALE,
                };
            }
        }
        let sums = by_labels(&self.results);
        for series in &mut self.counts {
            // Histograms are as they were, and so are the counts of them.
            let Some(sums) = sums.get(&Labels::from_pairs(pairs(series))) else { continue };
            let summed = series.samples.iter_mut().filter(|sample| sums.contains_key(&sample.timestamp));
            summed.for_each(|sample| sample.value *= SCALE);
        }
        Ok(())
    }

    /// Groups with the times (Unix milliseconds) at which they have samples and no result.
    fn without_result(&self) -> Vec<(Labels, Vec<i64>)> {
        let mut known: HashMap<Labels, HashSet<i64>> = HashMap::new();
        for series in &self.results {
            let floats = series.samples.iter().map(|sample| sample.timestamp);
            let histograms = series.histograms.iter().map(|histogram| histogram.timestamp);
            known.entry(Labels::from_pairs(pairs(series))).or_default().extend(floats.chain(histograms));
        }
        let mut found = Vec::new();
        for series in &self.counts {
            let labels = Labels::from_pairs(pairs(series));
            let times = series.samples.iter().map(|sample| sample.timestamp);
            let times: Vec<i64> = match known.get(&labels) {
                Some(known) => times.filter(|time| !known.contains(time)).collect(),
                None => times.collect(),
            };
            if !times.is_empty() {
                found.push((labels, times));
            }
        }
        found
    }
}

/// Names and values of a series' labels.
fn pairs(series: &TimeSeries) -> impl Iterator<Item = (&str, &str)> {
    series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str()))
}

/// The floats of series.
fn floats(series: &[TimeSeries]) -> impl Iterator<Item = f64> {
    series.iter().flat_map(|series| &series.samples).map(|sample| sample.value)
}

/// The floats of series by their labels and times (Unix milliseconds).
fn by_labels(series: &[TimeSeries]) -> HashMap<Labels, HashMap<i64, f64>> {
    let mut found: HashMap<Labels, HashMap<i64, f64>> = HashMap::new();
    for series in series {
        let samples = series.samples.iter().map(|sample| (sample.timestamp, sample.value));
        found.entry(Labels::from_pairs(pairs(series))).or_default().extend(samples);
    }
    found
}

/// Whether the sums of all shares are numbers, and what they come to together is one.
fn are_addable(shares: &[(usize, Share)]) -> bool {
    let values = shares.iter().flat_map(|(_, share)| floats(&share.results));
    (values.map(f64::abs).fold(0.0, f64::max) * shares.len() as f64).is_finite()
}

/// Two series that have no sum at `times`, in place of a share that has none: what other endpoints have of the group
/// has none then either. They are in the order of their names, in which they are added: two of custom buckets would
/// be made to fit first.
fn unlike(mix: Mix, times: &[i64]) -> [(&'static str, TimeSeries); 2] {
    let histograms = |schema| TimeSeries {
        histograms: times.iter().map(|time| Histogram { schema, timestamp: *time, ..Histogram::default() }).collect(),
        ..TimeSeries::default()
    };
    let floats = times.iter().map(|time| Sample { value: 0.0, timestamp: *time }).collect();
    let other = match mix {
        Mix::Kinds => TimeSeries { samples: floats, ..TimeSeries::default() },
        Mix::Buckets => histograms(CUSTOM_BUCKETS_SCHEMA),
    };
    [("exponential", histograms(0)), ("other", other)]
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
    use engine::model::Budget;
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

    fn series(group: &str, times: &[i64]) -> TimeSeries {
        TimeSeries {
            labels: vec![proto::thanos::Label { name: "group".into(), value: group.into() }],
            samples: times.iter().map(|time| Sample { value: 1.0, timestamp: *time }).collect(),
            ..TimeSeries::default()
        }
    }

    /// What is answered in place of the sum of two groups of which the first has samples at a time without a result,
    /// and the second has no result.
    fn in_place_of_sums(warning: &str) -> Vec<(String, usize, Vec<i32>)> {
        let memory = Budget::new("query.memory-limit", 1 << 20);
        let held = memory.reserve(0).unwrap();
        let mut all = Answered { results: Vec::new(), counts: Vec::new(), warnings: Vec::new(), held };
        let (results, counts) = (vec![series("a", &[1])], vec![series("a", &[1, 2]), series("b", &[1])]);
        let held = memory.reserve(0).unwrap();
        let mut notes = Notes::default();
        notes.add(warning);
        all.take((3, "a:1"), Share { results, counts, means: Vec::new(), notes, held }).unwrap();
        let shown = all.results.iter().map(|(labels, series)| {
            let schemas: Vec<i32> = series.histograms.iter().map(|histogram| histogram.schema).collect();
            (labels.to_string(), series.samples.len(), schemas)
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort();
        shown
    }

    #[test]
    fn a_share_that_has_no_sum_leaves_none_to_the_others() {
        let row = |group: &str, endpoint: &str, floats: usize, schemas: &[i32]| {
            let labels = [(ENDPOINT, endpoint), ("group", group)];
            (Labels::from_pairs(labels).to_string(), floats, schemas.to_vec())
        };
        let a = row("a", "3", 1, &[]);
        let mixed = in_place_of_sums("PromQL warning: encountered a mix of histograms and floats for aggregation");
        let other = |group| [row(group, "3 exponential", 0, &[0]), row(group, "3 other", 1, &[])];
        let mut expected: Vec<_> = [vec![a.clone()], other("a").into(), other("b").into()].concat();
        expected.sort();
        assert_eq!(mixed, expected);
        let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
        let mixed = in_place_of_sums(&format!("PromQL warning: {text} \"h\" (1:5)"));
        let other = |group| [row(group, "3 exponential", 0, &[0]), row(group, "3 other", 0, &[-53])];
        let mut expected: Vec<_> = [vec![a.clone()], other("a").into(), other("b").into()].concat();
        expected.sort();
        assert_eq!(mixed, expected);
        assert_eq!(in_place_of_sums("receive series from a: no"), [a]);
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
