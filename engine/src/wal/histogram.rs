//! Native histograms in records, drawn in [`super::record`].

use std::sync::Arc;

use crate::codec::{Corrupt, Cursor, varint};
use crate::model::{CounterReset, FloatHistogram, Histogram, HistogramValue, Span};

const INTEGER: u8 = 0;
const FLOAT: u8 = 1;

pub(super) fn encode(value: &HistogramValue, out: &mut Vec<u8>) {
    match value {
        HistogramValue::Integer(value) => {
            out.extend_from_slice(&[INTEGER, value.counter_reset as u8]);
            varint::encode_i64(i64::from(value.schema), out);
            put_float(value.zero_threshold, out);
            varint::encode_u64(value.zero_count, out);
            varint::encode_u64(value.count, out);
            put_float(value.sum, out);
            put_spans(&value.positive_spans, out);
            put_spans(&value.negative_spans, out);
            for buckets in [&value.positive_buckets, &value.negative_buckets] {
                varint::encode_u64(buckets.len() as u64, out);
                buckets.iter().for_each(|bucket| varint::encode_i64(*bucket, out));
            }
            put_floats(&value.custom_values, out);
        }
        HistogramValue::Float(value) => {
            out.extend_from_slice(&[FLOAT, value.counter_reset as u8]);
            varint::encode_i64(i64::from(value.schema), out);
            [value.zero_threshold, value.zero_count, value.count, value.sum].iter().for_each(|v| put_float(*v, out));
            put_spans(&value.positive_spans, out);
            put_spans(&value.negative_spans, out);
            put_floats(&value.positive_buckets, out);
            put_floats(&value.negative_buckets, out);
            put_floats(&value.custom_values, out);
        }
    }
}

pub(super) fn decode(body: &mut Cursor<'_>) -> Result<HistogramValue, Corrupt> {
    let kind = body.u8()?;
    let counter_reset = match body.u8()? {
        0 => CounterReset::Unknown,
        1 => CounterReset::Yes,
        2 => CounterReset::No,
        3 => CounterReset::Gauge,
        other => return Err(body.corrupt(format!("counter reset {other} is not known"))),
    };
    let schema = i32::try_from(body.varint()?).map_err(|_| body.corrupt("no such schema"))?;
    let zero_threshold = take_float(body)?;
    Ok(match kind {
        INTEGER => HistogramValue::Integer(Box::new(Histogram {
            counter_reset,
            schema,
            zero_threshold,
            zero_count: body.uvarint()?,
            count: body.uvarint()?,
            sum: take_float(body)?,
            positive_spans: take_spans(body)?,
            negative_spans: take_spans(body)?,
            positive_buckets: take_deltas(body)?,
            negative_buckets: take_deltas(body)?,
            custom_values: Arc::from(take_floats(body)?),
        })),
        FLOAT => HistogramValue::Float(Box::new(FloatHistogram {
            counter_reset,
            schema,
            zero_threshold,
            zero_count: take_float(body)?,
            count: take_float(body)?,
            sum: take_float(body)?,
            positive_spans: take_spans(body)?,
            negative_spans: take_spans(body)?,
            positive_buckets: take_floats(body)?,
            negative_buckets: take_floats(body)?,
            custom_values: Arc::from(take_floats(body)?),
        })),
        other => return Err(body.corrupt(format!("histogram of kind {other} is not known"))),
    })
}

fn put_float(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_floats(values: &[f64], out: &mut Vec<u8>) {
    varint::encode_u64(values.len() as u64, out);
    values.iter().for_each(|value| put_float(*value, out));
}

fn put_spans(spans: &[Span], out: &mut Vec<u8>) {
    varint::encode_u64(spans.len() as u64, out);
    for span in spans {
        varint::encode_i64(i64::from(span.offset), out);
        varint::encode_u64(u64::from(span.length), out);
    }
}

fn take_float(body: &mut Cursor<'_>) -> Result<f64, Corrupt> {
    Ok(f64::from_bits(body.u64_le()?))
}

fn take_floats(body: &mut Cursor<'_>) -> Result<Vec<f64>, Corrupt> {
    (0..body.count()?).map(|_| take_float(body)).collect()
}

fn take_deltas(body: &mut Cursor<'_>) -> Result<Vec<i64>, Corrupt> {
    (0..body.count()?).map(|_| body.varint()).collect()
}

fn take_spans(body: &mut Cursor<'_>) -> Result<Vec<Span>, Corrupt> {
    let number = |body: &mut Cursor<'_>| {
        let (offset, length) = (body.varint()?, body.uvarint()?);
        match (i32::try_from(offset), u32::try_from(length)) {
            (Ok(offset), Ok(length)) => Ok(Span { offset, length }),
            _ => Err(body.corrupt("a span that reaches too far")),
        }
    };
    (0..body.count()?).map(|_| number(body)).collect()
}

/// Histograms of all shapes.
#[cfg(test)]
pub(super) fn examples() -> Vec<HistogramValue> {
    let spans = vec![Span { offset: -3, length: 2 }, Span { offset: 4, length: 1 }];
    let integer = Histogram {
        counter_reset: CounterReset::Gauge,
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 5,
        count: 12,
        sum: -1.5,
        positive_spans: spans.clone(),
        negative_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![1, 2, -1],
        negative_buckets: vec![1],
        ..Histogram::default()
    };
    let custom = FloatHistogram {
        schema: -53,
        count: 3.5,
        sum: 9.0,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        positive_buckets: vec![1.0, 2.0, 0.5],
        custom_values: Arc::from([0.5, 1.0]),
        ..FloatHistogram::default()
    };
    let float = integer.to_float();
    let stale = Histogram { sum: crate::model::value::stale_nan(), ..Histogram::default() };
    let mut examples = vec![HistogramValue::Integer(Box::new(integer)), HistogramValue::Float(Box::new(float))];
    examples.push(HistogramValue::Float(Box::new(custom)));
    // A stale marker is a NaN and would not equal itself.
    examples.push(HistogramValue::Integer(Box::new(Histogram { sum: 0.0, ..stale })));
    examples
}
