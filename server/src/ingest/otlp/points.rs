//! The points of each kind of metric as samples.

use proto::otlp::any_value::Value;
use proto::otlp::metric::Data;
use proto::otlp::{
    AnyValue, ExponentialPoint, HistogramPoint, KeyValue, Metric, NumberPoint, SummaryPoint, number_point,
};
use proto::write::Sample;

use super::series::{LabelMap, SeriesSet, exemplar_value};
use super::{Context, NO_RECORDED_VALUE, STALE, attributes, exponential, milliseconds};

const NAME: &str = "__name__";

/// Bytes that a bucket of an exponential histogram takes while a native histogram is made of it.
const NATIVE_BYTES: usize = 48;

/// Bytes of a label beside its text in a map.
const MAP_BYTES: usize = 96;

/// How often labels are there while they are made: in a map, in a copy of that and packed.
const COPIES: usize = 3;

/// Bytes that a byte of a value may become within a list, which is written as JSON.
const JSON_BYTES_PER_BYTE: usize = 6;

/// A part, by [`JSON_BYTES_PER_BYTE`], of the longest number there.
const VALUE_BYTES: usize = 5;

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

/// Bytes that labels take while they are made of `attributes`.
pub(super) fn label_room(attributes: &[KeyValue]) -> usize {
    let room = |attribute: &KeyValue| MAP_BYTES + attribute.key.len() + text_bytes(attribute.value.as_ref());
    COPIES * attributes.iter().map(room).sum::<usize>()
}

/// Most bytes of a value as text; numbers and the like are counted with the map.
fn text_bytes(value: Option<&AnyValue>) -> usize {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.len(),
        Some(Value::BytesValue(bytes)) => 2 * bytes.len(),
        Some(Value::ArrayValue(_) | Value::KvlistValue(_)) => JSON_BYTES_PER_BYTE * bytes_within(value),
        None | Some(Value::BoolValue(_) | Value::IntValue(_) | Value::DoubleValue(_)) => 0,
    }
}

/// Bytes of all texts within a value, and a few for each value.
fn bytes_within(value: Option<&AnyValue>) -> usize {
    let texts: usize = match value.and_then(|value| value.value.as_ref()) {
        Some(Value::ArrayValue(list)) => list.values.iter().map(|value| bytes_within(Some(value))).sum(),
        Some(Value::KvlistValue(map)) => {
            map.values.iter().map(|entry| entry.key.len() + bytes_within(entry.value.as_ref())).sum()
        }
        _ => text_bytes(value),
    };
    VALUE_BYTES + texts
}

fn value_of(point: &NumberPoint) -> f64 {
    match point.value {
        Some(number_point::Value::AsDouble(value)) => value,
        Some(number_point::Value::AsInt(value)) => value as f64,
        None => 0.0,
    }
}

fn number(point: &NumberPoint, context: &Context<'_>, set: &mut SeriesSet) -> Result<(), String> {
    let labels = labels(&point.attributes, context, &[(NAME, &context.name)], set)?;
    let moment = Moment::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
    set.sample(&labels, moment.plain(value_of(point)))
}

fn counter(point: &NumberPoint, context: &Context<'_>, set: &mut SeriesSet) -> Result<(), String> {
    let labels = labels(&point.attributes, context, &[(NAME, &context.name)], set)?;
    let moment = Moment::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
    for exemplar in &point.exemplars {
        set.exemplar(&labels, exemplar)?;
    }
    set.sample(&labels, moment.counted(value_of(point)))
}

/// The labels of a point, for which `set` has room until it is translated.
fn labels(
    attributes: &[KeyValue],
    context: &Context<'_>,
    extras: &[(&str, &str)],
    set: &mut SeriesSet,
) -> Result<LabelMap, String> {
    set.widen(context.resource_room + label_room(attributes))?;
    attributes::labels(context, attributes, extras)
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
    let base = labels(&point.attributes, context, &[], set)?;
    let moment = Moment::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
    let name = &context.name;
    if let Some(sum) = point.sum {
        set.sample(&named(&base, format!("{name}_sum"), None), moment.counted(sum))?;
    }
    set.sample(&named(&base, format!("{name}_count"), None), moment.counted(point.count as f64))?;
    let mut cumulative = 0u64;
    let bucket = |bound: f64| named(&base, format!("{name}_bucket"), Some(("le", plain_number(bound))));
    for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
        cumulative = cumulative.wrapping_add(*count);
        set.sample(&bucket(*bound), moment.counted(cumulative as f64))?;
    }
    set.sample(&bucket(f64::INFINITY), moment.counted(point.count as f64))?;
    if point.exemplars.is_empty() {
        return Ok(());
    }
    let counted = point.explicit_bounds.len().min(point.bucket_counts.len());
    let mut bounds: Vec<f64> = point.explicit_bounds.iter().copied().take(counted).chain([f64::INFINITY]).collect();
    bounds.sort_by(f64::total_cmp);
    for exemplar in &point.exemplars {
        let value = exemplar_value(exemplar);
        if let Some(bound) = bounds.iter().find(|bound| value <= **bound) {
            set.exemplar(&bucket(*bound), exemplar)?;
        }
    }
    Ok(())
}

/// A histogram of exponential bounds becomes a native histogram.
fn native(point: &ExponentialPoint, context: &Context<'_>, set: &mut SeriesSet) -> Result<(), String> {
    let dense = [&point.positive, &point.negative].into_iter().flatten();
    let bytes = NATIVE_BYTES * dense.map(|buckets| buckets.bucket_counts.len()).sum::<usize>();
    set.widen(bytes)?;
    let histogram = exponential::to_native(point)?;
    let labels = labels(&point.attributes, context, &[(NAME, &context.name)], set)?;
    for exemplar in &point.exemplars {
        set.exemplar(&labels, exemplar)?;
    }
    set.histogram(&labels, histogram)
}

/// A summary: `_sum`, `_count` and a series for each quantile.
fn summary(point: &SummaryPoint, context: &Context<'_>, set: &mut SeriesSet) -> Result<(), String> {
    let base = labels(&point.attributes, context, &[], set)?;
    let moment = Moment::new(point.time_unix_nano, point.start_time_unix_nano, point.flags);
    let name = &context.name;
    set.sample(&named(&base, format!("{name}_sum"), None), moment.counted(point.sum))?;
    set.sample(&named(&base, format!("{name}_count"), None), moment.counted(point.count as f64))?;
    for found in &point.quantile_values {
        let labels = named(&base, name.clone(), Some(("quantile", plain_number(found.quantile))));
        set.sample(&labels, moment.plain(found.value))?;
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
