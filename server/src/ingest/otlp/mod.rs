//! OTLP metrics as Prometheus sees them: every point becomes samples of series, written as a remote
//! write request of version 1, which then goes the way of all requests.

mod attributes;
mod exponential;
mod json;
mod names;
mod packed;
mod points;
mod repair;
mod series;
mod weight;

use engine::head::MetricKind;
use engine::model::Reservation;
use prost::Message;
use proto::otlp::metric::Data;
use proto::otlp::{Metric, MetricsRequest, Resource, Temporality};

use super::room::NoRoom;
use series::SeriesSet;
pub use weight::weight;

/// How metrics are translated, as `uru receive` is told by flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// Whether each resource becomes a sample of `target_info`.
    pub target_info: TargetInfo,
    /// Attributes of the resource that become labels of its series.
    pub promoted: Vec<String>,
}

/// How a request is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

/// Whether each resource becomes a sample of `target_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetInfo {
    /// It does.
    #[default]
    Written,
    /// It doesn't.
    LeftOut,
}

/// The flag of a point that has no value: its series ends.
const NO_RECORDED_VALUE: u32 = 1;

/// The stale marker of Prometheus.
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Why a request is not translated.
#[derive(Clone, Debug)]
pub enum Untranslated {
    /// A sentence for the sender, whose request will never succeed.
    Invalid(String),
    /// There is no memory for what it becomes.
    NoRoom(NoRoom),
}

impl From<NoRoom> for Untranslated {
    fn from(error: NoRoom) -> Self {
        Self::NoRoom(error)
    }
}

/// Translates an encoded `ExportMetricsServiceRequest` into a remote write request of version 1. `held` answers for
/// what it takes once it is decoded, and grows by what it becomes.
pub fn translate(
    (encoding, request): (Encoding, &[u8]),
    translation: &Translation,
    mut held: Reservation,
) -> Result<(Vec<u8>, Reservation), Untranslated> {
    let request = decode((encoding, request), &mut held)?;
    let (mut set, mut problems) = (SeriesSet::new(held), Problems::default());
    for resource_metrics in &request.resource_metrics {
        let nothing = Resource::default();
        let resource = resource_metrics.resource.as_ref().unwrap_or(&nothing);
        let (mut newest, resource_room) = (0, points::label_room(&resource.attributes));
        for metric in resource_metrics.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            newest = newest.max(points::newest(metric));
            let context = Context { resource, resource_room, translation, name: names::metric_name(metric) };
            let translated = check(metric).and_then(|()| points::translate(metric, &context, &mut set));
            let unit = names::unit_name(&metric.unit);
            set.family(&context.name, (kind(metric), &metric.description, &unit));
            match translated {
                // As would be all that comes behind it.
                Err(problem) if set.is_full => {
                    set.take_held()?;
                    return Err(Untranslated::Invalid(problem));
                }
                translated => problems.note(translated),
            }
        }
        if translation.target_info == TargetInfo::Written {
            let widened = set.widen(resource_room);
            problems.note(widened.and_then(|()| attributes::target_info(resource, newest, &mut set)));
        }
    }
    let held = set.take_held()?;
    match problems.told() {
        None => Ok((set.into_request(), held)),
        Some(problem) => Err(Untranslated::Invalid(problem)),
    }
}

/// Decodes a request. One with text that is not UTF-8 is repaired first, for which `held` grows.
fn decode((encoding, request): (Encoding, &[u8]), held: &mut Reservation) -> Result<MetricsRequest, Untranslated> {
    let decoded = |request: &[u8]| match encoding {
        Encoding::Protobuf => MetricsRequest::decode(request).map_err(|error| error.to_string()),
        Encoding::Json => json::parse(request),
    };
    let undecoded = |error: String| Untranslated::Invalid(format!("cannot decode the request: {error}"));
    let error = match decoded(request) {
        Ok(decoded) => return Ok(decoded),
        Err(error) => error,
    };
    let Some(more) = repair::room((encoding, request)) else { return Err(undecoded(error)) };
    let bytes = held.bytes() + more;
    held.grow(more).map_err(|error| NoRoom { bytes, error })?;
    match repair::repaired((encoding, request)) {
        Some(repaired) => decoded(&repaired).map_err(undecoded),
        None => Err(undecoded(error)),
    }
}

/// Problems that are told; of others it is said that they are there.
const PROBLEMS_MAX: usize = 100;

/// What is wrong with a request.
#[derive(Debug, Default)]
struct Problems {
    first: Vec<String>,
    count: usize,
}

impl Problems {
    fn note(&mut self, outcome: Result<(), String>) {
        let Err(problem) = outcome else { return };
        self.count += 1;
        if self.first.len() < PROBLEMS_MAX {
            self.first.push(problem);
        }
    }

    /// All of it in one sentence, if there is any.
    fn told(&self) -> Option<String> {
        let others = self.count - self.first.len();
        match self.first.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many if others == 0 => Some(format!("{} errors: {}", self.count, many.join("; "))),
            many => Some(format!("{} errors: {}; and {others} more", self.count, many.join("; "))),
        }
    }
}

/// What the points of a metric have in common.
struct Context<'a> {
    resource: &'a Resource,
    /// Bytes that labels of its attributes take while they are made.
    resource_room: usize,
    translation: &'a Translation,
    name: String,
}

/// Deltas can't be stored, and a metric without points is an exporter's mistake.
fn check(metric: &Metric) -> Result<(), String> {
    let cumulative = Temporality::Cumulative as i32;
    let (temporality, points) = match &metric.data {
        Some(Data::Gauge(gauge)) => (cumulative, gauge.data_points.len()),
        Some(Data::Sum(sum)) => (sum.aggregation_temporality, sum.data_points.len()),
        Some(Data::Histogram(found)) => (found.aggregation_temporality, found.data_points.len()),
        Some(Data::ExponentialHistogram(found)) => (found.aggregation_temporality, found.data_points.len()),
        Some(Data::Summary(summary)) => (cumulative, summary.data_points.len()),
        None => (Temporality::Unspecified as i32, 0),
    };
    if temporality != cumulative {
        return Err(format!("invalid temporality for metric {:?}: it must be cumulative", metric.name));
    }
    if points == 0 {
        return Err(format!("empty data points. {} is dropped", metric.name));
    }
    Ok(())
}

/// What Prometheus takes a metric for.
fn kind(metric: &Metric) -> MetricKind {
    match &metric.data {
        Some(Data::Sum(sum)) if sum.is_monotonic => MetricKind::Counter,
        Some(Data::Gauge(_) | Data::Sum(_)) => MetricKind::Gauge,
        Some(Data::Histogram(_) | Data::ExponentialHistogram(_)) => MetricKind::Histogram,
        Some(Data::Summary(_)) => MetricKind::Summary,
        None => MetricKind::Unknown,
    }
}

/// Unix milliseconds of Unix nanoseconds.
fn milliseconds(nanoseconds: u64) -> i64 {
    nanoseconds as i64 / 1_000_000
}

#[cfg(test)]
mod tests;
