//! Exponential histograms as native ones: the same bounds, with buckets numbered one higher, empty
//! ones left out and at most 2^8 buckets for each power of two.

use proto::otlp::{Buckets as Dense, ExponentialPoint};
use proto::write::{Buckets, Count, Histogram};

use super::{NO_RECORDED_VALUE, STALE, milliseconds};

/// Width of the zero bucket: OTLP has no word for it that exporters would use.
const ZERO_THRESHOLD: f64 = 1e-128;

/// The finest resolution that a native histogram has.
const SCHEMA_MAX: i32 = 8;

/// The coarsest.
const SCHEMA_MIN: i32 = -4;

/// Gaps of empty buckets up to this length are written out.
const GAP_MAX: i64 = 2;

/// The native histogram of a point.
pub(super) fn to_native(point: &ExponentialPoint) -> Result<Histogram, String> {
    if point.scale < SCHEMA_MIN {
        return Err(format!(
            "cannot convert exponential to native histogram. Scale must be >= {SCHEMA_MIN}, was {}",
            point.scale
        ));
    }
    let down = u32::try_from(point.scale.saturating_sub(SCHEMA_MAX)).unwrap_or(0).min(31);
    let is_stale = point.flags & NO_RECORDED_VALUE != 0;
    let (count, sum) = if is_stale { (STALE.to_bits(), STALE) } else { (point.count, point.sum.unwrap_or_default()) };
    Ok(Histogram {
        time: milliseconds(point.time_unix_nano),
        start: milliseconds(point.start_time_unix_nano),
        count: Count::Integer(count),
        sum,
        schema: point.scale.min(SCHEMA_MAX),
        zero_threshold: ZERO_THRESHOLD,
        zero_count: Count::Integer(point.zero_count),
        negative: sparse(point.negative.as_ref(), down),
        positive: sparse(point.positive.as_ref(), down),
        ..Histogram::default()
    })
}

/// Dense buckets, `2^down` of them merged to one, as spans of buckets with counts.
fn sparse(dense: Option<&Dense>, down: u32) -> Buckets {
    let mut found = Buckets::default();
    let Some(dense) = dense else { return found };
    // Merged counts, in ascending order of index.
    let mut merged: Vec<(i64, i64)> = Vec::new();
    for (at, count) in dense.bucket_counts.iter().enumerate() {
        let index = ((i64::from(dense.offset) + at as i64) >> down) + 1;
        let count = *count as i64;
        match merged.last_mut() {
            Some((last, sum)) if *last == index => *sum = sum.wrapping_add(count),
            _ => merged.push((index, count)),
        }
    }
    let (mut next, mut before) = (0i64, 0i64);
    for (index, count) in merged.into_iter().filter(|(_, count)| *count != 0) {
        let gap = index - next;
        if found.spans.is_empty() || gap > GAP_MAX {
            found.spans.push((gap as i32, 0));
        } else {
            for _ in 0..gap {
                push(&mut found, 0, &mut before);
            }
        }
        push(&mut found, count, &mut before);
        next = index + 1;
    }
    found
}

fn push(buckets: &mut Buckets, count: i64, before: &mut i64) {
    if let Some((_, length)) = buckets.spans.last_mut() {
        *length += 1;
    }
    buckets.deltas.push(count.wrapping_sub(*before));
    *before = count;
}
