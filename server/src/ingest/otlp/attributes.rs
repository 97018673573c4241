//! Attributes as labels; a resource as `target_info`.

use std::collections::BTreeMap;

use engine::bucket::go_json;
use engine::head::MetricKind;
use engine::model::float_text::format_float;
use proto::otlp::any_value::Value;
use proto::otlp::{AnyValue, KeyValue, Resource};
use proto::write::Sample;

use super::series::{LabelMap, SeriesSet};
use super::{Context, milliseconds, names};

const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE: &str = "service.instance.id";

/// The labels of a point: its attributes, attributes of the resource that are promoted, `job` and
/// `instance`, and `extras`, which win.
pub(super) fn labels(
    context: &Context<'_>,
    attributes: &[KeyValue],
    extras: &[(&str, &str)],
) -> Result<LabelMap, String> {
    let mut labels = merged(attributes.iter())?;
    for name in &context.translation.promoted {
        if let Some(value) = find(context.resource, name) {
            let label = names::label_name(name)?;
            labels.entry(label).or_insert_with(|| text(Some(value)));
        }
    }
    identify(context.resource, &mut labels);
    labels.extend(extras.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Ok(labels)
}

/// A resource with more than what identifies it becomes a sample of `target_info` at `newest`, in
/// Unix nanoseconds, so that its attributes can be joined.
pub(super) fn target_info(resource: &Resource, newest: u64, set: &mut SeriesSet) -> Result<(), String> {
    let identifying = [SERVICE_NAMESPACE, SERVICE_NAME, SERVICE_INSTANCE];
    let others = resource.attributes.iter().filter(|attribute| !identifying.contains(&&*attribute.key));
    // As upstream counts: one that identifies it and is there twice is more too.
    let has = |name: &&&str| resource.attributes.iter().any(|attribute| attribute.key == **name);
    if newest == 0 || resource.attributes.len() == identifying.iter().filter(has).count() {
        return Ok(());
    }
    let Ok(mut labels) = merged(others) else { return Ok(()) };
    identify(resource, &mut labels);
    if labels.contains_key("job") || labels.contains_key("instance") {
        labels.insert("__name__".into(), "target_info".into());
        set.sample(&labels, Sample { time: milliseconds(newest), value: 1.0, start: 0 })?;
        set.family("target_info", (MetricKind::Gauge, "Target metadata", ""));
    }
    Ok(())
}

/// Attributes as labels; where several have one name in Prometheus, their values are joined in the
/// order of their own names.
fn merged<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> Result<LabelMap, String> {
    let mut sorted: Vec<&KeyValue> = attributes.collect();
    sorted.sort_by(|left, right| left.key.cmp(&right.key));
    let mut labels = LabelMap::new();
    for attribute in sorted {
        let name = names::label_name(&attribute.key)
            .map_err(|error| format!("invalid label name {:?}: {error}", attribute.key))?;
        let value = text(attribute.value.as_ref());
        labels
            .entry(name)
            .and_modify(|known| {
                known.push(';');
                known.push_str(&value);
            })
            .or_insert(value);
    }
    Ok(labels)
}

/// `job` is the service's namespace and name, `instance` its instance.
fn identify(resource: &Resource, labels: &mut LabelMap) {
    if let Some(name) = find(resource, SERVICE_NAME) {
        let name = text(Some(name));
        let job = match find(resource, SERVICE_NAMESPACE) {
            Some(namespace) => format!("{}/{name}", text(Some(namespace))),
            None => name,
        };
        labels.insert("job".into(), job);
    }
    if let Some(instance) = find(resource, SERVICE_INSTANCE) {
        labels.insert("instance".into(), text(Some(instance)));
    }
}

fn find<'a>(resource: &'a Resource, name: &str) -> Option<&'a AnyValue> {
    resource.attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()
}

/// A value as text: numbers and booleans as JSON has them, bytes in base64, lists and maps as JSON.
pub(super) fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        None => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => number(*value),
        Some(Value::BytesValue(bytes)) => base64(bytes),
        // What JSON has no word for makes all of it empty.
        Some(Value::ArrayValue(_) | Value::KvlistValue(_)) => json(value).unwrap_or_default(),
    }
}

/// A value as JSON the way Go writes it; `None` when it holds a number that JSON doesn't have.
fn json(value: Option<&AnyValue>) -> Option<String> {
    Some(match value.and_then(|value| value.value.as_ref()) {
        None => "null".into(),
        Some(Value::StringValue(text)) => go_json::to_line(text),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) if value.is_finite() => number(*value),
        Some(Value::DoubleValue(_)) => return None,
        Some(Value::BytesValue(bytes)) if bytes.is_empty() => "null".into(),
        Some(Value::BytesValue(bytes)) => go_json::to_line(&base64(bytes)),
        Some(Value::ArrayValue(list)) => {
            let values: Option<Vec<String>> = list.values.iter().map(|value| json(Some(value))).collect();
            format!("[{}]", values?.join(","))
        }
        Some(Value::KvlistValue(map)) => {
            // Of entries with one name the last stays.
            let entries: BTreeMap<&str, Option<&AnyValue>> =
                map.values.iter().map(|entry| (entry.key.as_str(), entry.value.as_ref())).collect();
            let entries: Option<Vec<String>> = entries
                .into_iter()
                .map(|(key, value)| Some(format!("{}:{}", go_json::to_line(&key), json(value)?)))
                .collect();
            format!("{{{}}}", entries?.join(","))
        }
    })
}

/// As Go's JSON writes a number: plain, or with an exponent of as few digits as it has when it is very small
/// or large.
fn number(value: f64) -> String {
    let text = format_float(value);
    if value.is_finite() { text.replace("e-0", "e-") } else { format!("json: unsupported value: {text}") }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The bytes of a text in base64, with or without `=` at its end.
pub(super) fn bytes_of_base64(text: &str) -> Result<Vec<u8>, String> {
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len() / 4 * 3), 0u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let Some(value) = DIGITS.iter().position(|known| *known == digit) else {
            return Err(format!("{text:?} is not base64"));
        };
        bits = bits << 6 | value as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Ok(bytes)
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for digit in 0..4 {
            let found = DIGITS[(bits >> (18 - 6 * digit) & 63) as usize];
            text.push(if digit <= group.len() { char::from(found) } else { '=' });
        }
    }
    text
}
