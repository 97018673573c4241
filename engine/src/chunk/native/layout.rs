//! What all histograms of a chunk share, written once in front of them.
//!
//! ```text
//! zero threshold │ schema int │ positive spans │ negative spans │ bounds, of schema -53 alone
//!
//! zero threshold   0 for 0 │ 1 to 254 for 2^(n-244) │ 255 and f64 BE for all others      (u8)
//! spans            count uint │ length uint │ offset int │ length │ offset │ …
//! bounds           count uint │ bound │ bound │ …
//! bound            1000 * bound + 1 uint where that is whole and at most 33,554,431
//!                  0 and f64 BE for all others
//! ```
//! `int` and `uint` are those of [`super::varbit`].

use std::sync::Arc;

use crate::codec::Corrupt;
use crate::codec::bits::{BitReader, BitWriter};
use crate::model::Span;
use crate::model::histogram::CUSTOM_BUCKETS_SCHEMA;

use super::varbit;

/// Schemas that a chunk may have: -9 to 52, of which -4 to 8 are in use, and custom bounds.
const SCHEMAS: std::ops::RangeInclusive<i64> = -9..=52;
/// Spans that a layout may have beyond twice its buckets. Every histogram of a chunk has a copy of them, so
/// that a small chunk of many histograms and many empty spans would fill the memory.
const SPARE_SPANS: usize = 64;
/// Largest thousandfold of a bound that is stored as an integer.
const BOUND_INTEGER_MAX: f64 = 33_554_430.0;

/// What all histograms of a chunk share.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Layout {
    /// Resolution, or -53 for custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Where the positive buckets lie.
    pub positive_spans: Vec<Span>,
    /// Where the negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// Bounds of custom buckets.
    pub custom_values: Arc<[f64]>,
}

/// Number of buckets of `spans`.
pub fn bucket_count(spans: &[Span]) -> usize {
    spans.iter().map(|span| span.length as usize).sum()
}

impl Layout {
    /// Reads a layout whose histograms take at least `bucket_bits` for each bucket; where most of its spans
    /// are empty, without these.
    pub fn read(reader: &mut BitReader<'_>, bucket_bits: usize) -> Result<Self, Corrupt> {
        let zero_threshold = read_zero_threshold(reader);
        let schema = varbit::read_int(reader);
        if schema != i64::from(CUSTOM_BUCKETS_SCHEMA) && !SCHEMAS.contains(&schema) {
            return Err(reader.corrupt(format!("schema {schema} is not known")));
        }
        let mut positive_spans = read_spans(reader)?;
        let mut negative_spans = read_spans(reader)?;
        let custom_values =
            if schema == i64::from(CUSTOM_BUCKETS_SCHEMA) { read_bounds(reader)? } else { Arc::default() };
        let buckets = bucket_count(&positive_spans).saturating_add(bucket_count(&negative_spans));
        if buckets > reader.remaining() / bucket_bits {
            let bits = reader.remaining();
            return Err(reader.corrupt(format!("{buckets} buckets announced, {bits} bits left")));
        }
        if positive_spans.len() + negative_spans.len() > 2 * buckets + SPARE_SPANS {
            drop_empty(&mut positive_spans);
            drop_empty(&mut negative_spans);
        }
        Ok(Self { schema: schema as i32, zero_threshold, positive_spans, negative_spans, custom_values })
    }

    /// Appends the layout.
    pub fn put(&self, writer: &mut BitWriter<'_>) {
        put_zero_threshold(self.zero_threshold, writer);
        varbit::put_int(i64::from(self.schema), writer);
        for spans in [&self.positive_spans, &self.negative_spans] {
            varbit::put_uint(spans.len() as u64, writer);
            for span in spans {
                varbit::put_uint(u64::from(span.length), writer);
                varbit::put_int(i64::from(span.offset), writer);
            }
        }
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            varbit::put_uint(self.custom_values.len() as u64, writer);
            self.custom_values.iter().for_each(|bound| put_bound(*bound, writer));
        }
    }
}

fn read_zero_threshold(reader: &mut BitReader<'_>) -> f64 {
    match reader.bits(8) {
        0 => 0.0,
        255 => f64::from_bits(reader.bits(64)),
        power => f64::from_bits((power + 1023 - 244) << 52),
    }
}

fn put_zero_threshold(threshold: f64, writer: &mut BitWriter<'_>) {
    let bits = threshold.to_bits();
    let power = (bits >> 52) as i64 - 1023 + 244;
    if threshold == 0.0 {
        writer.put(0, 8);
    } else if bits << 12 == 0 && (1..=254).contains(&power) {
        writer.put(power as u64, 8);
    } else {
        writer.put(255, 8);
        writer.put_wide(bits, 64);
    }
}

fn read_spans(reader: &mut BitReader<'_>) -> Result<Vec<Span>, Corrupt> {
    let count = read_count(reader, 2)?;
    let mut spans = Vec::with_capacity(count);
    for _ in 0..count {
        let length = varbit::read_uint(reader) as u32;
        spans.push(Span { length, offset: varbit::read_int(reader) as i32 });
    }
    reader.check()?;
    Ok(spans)
}

/// Takes the empty ones out of `spans`; every bucket stays where it is.
fn drop_empty(spans: &mut Vec<Span>) {
    let mut skipped = 0i32;
    spans.retain_mut(|span| {
        span.offset = span.offset.wrapping_add(skipped);
        skipped = if span.length == 0 { span.offset } else { 0 };
        span.length > 0
    });
    spans.shrink_to_fit();
}

fn read_bounds(reader: &mut BitReader<'_>) -> Result<Arc<[f64]>, Corrupt> {
    let count = read_count(reader, 5)?;
    let bounds = (0..count).map(|_| match varbit::read_uint(reader) {
        0 => f64::from_bits(reader.bits(64)),
        thousandfold => (thousandfold - 1) as f64 / 1000.0,
    });
    let bounds = bounds.collect();
    reader.check()?;
    Ok(bounds)
}

/// A number of things of at least `bits` each.
fn read_count(reader: &mut BitReader<'_>, bits: usize) -> Result<usize, Corrupt> {
    let count = varbit::read_uint(reader);
    let most = reader.remaining() / bits;
    if count > most as u64 {
        return Err(reader.corrupt(format!("{count} entries announced, room for {most}")));
    }
    Ok(count as usize)
}

fn put_bound(bound: f64, writer: &mut BitWriter<'_>) {
    let thousandfold = bound * 1000.0;
    let whole = thousandfold.round();
    if (0.0..=BOUND_INTEGER_MAX).contains(&thousandfold) && whole / 1000.0 == bound {
        varbit::put_uint(whole as u64 + 1, writer);
    } else {
        writer.put(0, 1);
        writer.put_wide(bound.to_bits(), 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_and_bounds_come_back_in_as_many_bytes_as_prometheus_takes() {
        let put = |put: fn(f64, &mut BitWriter<'_>), value: f64| {
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            put(value, &mut writer);
            writer.finish();
            bytes
        };
        let power = |exponent| 2f64.powi(exponent);
        let thresholds =
            [(0.0, 1), (power(-128), 1), (power(-243), 1), (power(10), 1), (power(-244), 9), (power(11), 9), (0.3, 9)];
        for (threshold, len) in thresholds {
            let bytes = put(put_zero_threshold, threshold);
            assert_eq!(bytes.len(), len, "{threshold}");
            assert_eq!(read_zero_threshold(&mut BitReader::new("test", &bytes, 0)), threshold);
        }
        assert_eq!(put(put_zero_threshold, power(-128)), [116]);
        for (bound, len) in [(0.0, 1), (0.005, 1), (1.0, 3), (33_554.43, 4), (33_554.431, 9), (-1.0, 9), (0.0001, 9)] {
            assert_eq!(put(put_bound, bound).len(), len, "{bound}");
        }
    }
}
