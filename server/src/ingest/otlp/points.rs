//! The points of each kind of metric as samples.

use proto::otlp::metric::Data;
use proto::otlp::{ExponentialPoint, HistogramPoint, Metric, NumberPoint, SummaryPoint, number_point};
use proto::write::Sample;

use super::series::{LabelMap, SeriesSet, exemplar_value};
use super::{Context, NO_RECORDED_VALUE, STALE, attributes, exponential, milliseconds};

const NAME: &str = "__name__";

/// Adds the points of `metric` to `set`.
pub(super) fn translate(metric: &Metric, context: &Context<'_>, set: &mut SeriesSet) -> Result<(), String> {
    match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.iter().try_for_each(|point| number(point, context, set)),
        Some(Data::Sum(sum)) => sum.data_points.iter().try_for_each(|point| counter(point, context, set)),
        Some(Data::Histogram(found)) => found.data_points.iter().try_for_each(|point| histogram(point, context, set)),
        Some(Data::ExponentialHistogram(found)) => {
            found.data_points.iter().try_for_each(|point| native(point, context, set))
        }
        Some(Data::Summary(found)) => found.data_points.iter().try_for_each(|point| summary(point, context, set)),
        None => Err("unsupported metric type".into()),
    }
}

/// Unix nanoseconds of the newest point of `metric`; 0 when there is none.
pub(super) fn newest(metric: &Metric) -> u64 {
    let newest = match &metric.data {
        Some(Data::Gauge(found)) => found.data_points.iter().map(|point| point.time_unix_nano).max(),
        Some(Data::Sum(found)) => found.data_points.iter().map(|point| point.time_unix_nano).max(),
        Some(Data::Histogram(found)) => found.data_points.iter().map(|point| point.time_unix_nano).max(),
        Some(Data::ExponentialHistogram(found)) => found.data_points.iter().map(|point| point.time_unix_nano).max(),
        Some(Data::Summary(found)) => found.data_points.iter().map(|point| point.time_unix_nano).max(),
        None => None,
    };
    newest.unwrap_or(0)
}

/// Where and when the samples of a point are, and whether it has a value.
#[derive(Clone, Copy)]
struct Moment {
    time: i64,
    start: i64,
    is_stale: bool,
}

impl Moment {
    fn new(time: u64, start: u64, flags: u32) -> Self {
        let is_stale = flags & NO_RECORDED_VALUE != 0;
        Self { time: milliseconds(time), start: milliseconds(start), is_stale }
    }

    /// A sample of a value that doesn't count from a start.
    fn plain(self, value: f64) -> Sample {
        Sample { time: self.time, value: if self.is_stale { STALE } else { value }, start: 0 }
    }

    /// A sample of a count.
    fn counted(self, value: f64) -> Sample {
        Sample { start: self.start, ..self.plain(value) }
    }
}

fn value_of(point: &NumberPoint) -> f64 {
    match point.value {
        Some(number_point::Value::AsDouble(value)) => value,
        Some(number_point::Value::AsInt(value)) => value as f64,
        None => 0.0,
    }
}

fn number(point: &NumberPoint, context: &Context<'_>, set: &mut SeriesSet) -> Result<(), String> {
    let labels = attributes::labels(context, &point.attributes, &[(NAME, &context.name)])?;
    let moment = Moment::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
    set.sample(labels, moment.plain(value_of(point)))
}

fn counter(point: &NumberPoint, context: &Context<'_>, set: &mut SeriesSet) -> Result<(), String> {
    let labels = attributes::labels(context, &point.attributes, &[(NAME, &context.name)])?;
    let moment = Moment::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
    for exemplar in &point.exemplars {
        set.exemplar(labels.clone(), exemplar)?;
    }
    set.sample(labels, moment.counted(value_of(point)))
}

/// `base` with the metric name and perhaps one label more.
fn named(base: &LabelMap, name: String, extra: Option<(&str, String)>) -> LabelMap {
    let mut labels = base.clone();
    if let Some((name, value)) = extra {
        labels.insert(name.into(), value);
    }
    labels.insert(NAME.into(), name);
    labels
}

/// A histogram of given bounds: `_sum`, `_count` and a cumulative `_bucket` for each bound.
fn histogram(point: &HistogramPoint, context: &Context<'_>, set: &mut SeriesSet) -> Result<(), String> {
    let base = attributes::labels(context, &point.attributes, &[])?;
    let moment = Moment::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
    let name = &context.name;
    if let Some(sum) = point.sum {
        set.sample(named(&base, format!("{name}_sum"), None), moment.counted(sum))?;
    }
    set.sample(named(&base, format!("{name}_count"), None), moment.counted(point.count as f64))?;
    let mut cumulative = 0u64;
    let mut buckets = Vec::new();
    for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
        cumulative = cumulative.wrapping_add(*count);
        let labels = named(&base, format!("{name}_bucket"), Some(("le", plain_number(*bound))));
        set.sample(labels.clone(), moment.counted(cumulative as f64))?;
        buckets.push((*bound, labels));
    }
    let labels = named(&base, format!("{name}_bucket"), Some(("le", "+Inf".into())));
    set.sample(labels.clone(), moment.counted(point.count as f64))?;
    buckets.push((f64::INFINITY, labels));
    buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
    for exemplar in &point.exemplars {
        let value = exemplar_value(exemplar);
        if let Some((_, labels)) = buckets.iter().find(|(bound, _)| value <= *bound) {
            set.exemplar(labels.clone(), exemplar)?;
        }
    }
    Ok(())
}

/// A histogram of exponential bounds becomes a native histogram.
fn native(point: &ExponentialPoint, context: &Context<'_>, set: &mut SeriesSet) -> Result<(), String> {
    let histogram = exponential::to_native(point)?;
    let labels = attributes::labels(context, &point.attributes, &[(NAME, &context.name)])?;
    for exemplar in &point.exemplars {
        set.exemplar(labels.clone(), exemplar)?;
    }
    set.histogram(labels, histogram)
}

/// A summary: `_sum`, `_count` and a series for each quantile.
fn summary(point: &SummaryPoint, context: &Context<'_>, set: &mut SeriesSet) -> Result<(), String> {
    let base = attributes::labels(context, &point.attributes, &[])?;
    let moment = Moment::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
    let name = &context.name;
    set.sample(named(&base, format!("{name}_sum"), None), moment.counted(point.sum))?;
    set.sample(named(&base, format!("{name}_count"), None), moment.counted(point.count as f64))?;
    for found in &point.quantile_values {
        let labels = named(&base, name.clone(), Some(("quantile", plain_number(found.quantile))));
        set.sample(labels, moment.plain(found.value))?;
    }
    Ok(())
}

/// As Go writes a number without an exponent.
fn plain_number(value: f64) -> String {
    match value {
        value if value == f64::INFINITY => "+Inf".into(),
        value if value == f64::NEG_INFINITY => "-Inf".into(),
        value => format!("{value}"),
    }
}
