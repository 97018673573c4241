//! Downsampled data to a coarser resolution: sums of counts and sums, least minimum, largest maximum, and
//! a counter that knows resets within chunks and between them.

use std::collections::HashSet;

use super::histograms::Histograms;
use super::window::{Extent, for_each};
use crate::chunk::Encoding;
use crate::chunk::aggr::{self, AggrChunk, Aggregate, Part};
use crate::chunk::samples::Samples;
use crate::chunk::xor;
use crate::codec::Corrupt;
use crate::compact::aggregates::{Timeline, Timelines, encode};
use crate::compact::output::Made;
use crate::model::FloatColumns;
use crate::model::value::is_stale_nan;

/// Windows of one chunk at most: batches are cut before.
const WINDOWS_MAX: usize = u16::MAX as usize;

/// A downsampled chunk and the times that the index gives it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    /// Unix milliseconds of the first and last sample.
    pub(super) times: (i64, i64),
    /// Its place among those of the series.
    pub(super) place: usize,
    /// Its aggregates.
    pub(super) parts: AggrChunk<'a>,
}

impl Chunk<'_> {
    fn is_histogram(&self) -> bool {
        let counter = self.parts.get(Aggregate::Counter).map(|part| part.encoding);
        matches!(counter, Some(Encoding::Histogram | Encoding::FloatHistogram))
    }

    fn windows(&self) -> usize {
        self.parts.get(Aggregate::Count).and_then(|part| xor::count(part.data).ok()).unwrap_or(0)
    }
}

/// An error and the place of the chunk that it was found in.
pub(super) type Misplaced = (usize, Corrupt);

/// Makes a chunk of the chunks from number `start` on, of all of one series, which are of `from`
/// milliseconds; its windows have `to` milliseconds. Gives the chunk behind those that went into it, and
/// nothing when there is none left.
pub(super) fn batch(
    chunks: &[Chunk<'_>],
    start: usize,
    (from, to): (i64, i64),
    made: &mut Made,
) -> Result<Option<usize>, Misplaced> {
    let mut run_start = 0;
    for run in chunks.chunk_by(|a, b| a.is_histogram() == b.is_histogram()) {
        let run_end = run_start + run.len();
        if start < run_end {
            let extent = Extent {
                min_time: run[0].times.0,
                max_time: run[run.len() - 1].times.1,
                samples: run.iter().map(Chunk::windows).sum(),
            };
            // Chunks stay whole: their first and last counters are the raw ones, which the next needs.
            let batch = (run.len() / extent.chunks(from, to)).max(1);
            let end = run_end.min(start + batch);
            let part = &chunks[start..end];
            if run[0].is_histogram() {
                histograms(part, to, made)?
            } else {
                floats(part, to, made)?
            }
            return Ok(Some(end));
        }
        run_start = run_end;
    }
    Ok(None)
}

/// The samples of one aggregate of all chunks, without stale markers and what goes back in time.
fn expand(chunks: &[Chunk<'_>], aggregate: Aggregate) -> Result<FloatColumns, Misplaced> {
    let (mut expanded, mut decoded) = (FloatColumns::default(), FloatColumns::default());
    for chunk in chunks {
        let Some(part) = chunk.parts.get(aggregate) else { continue };
        decoded.clear();
        decode(part, &mut decoded).map_err(|corrupt| (chunk.place, corrupt))?;
        let mut last = i64::MIN;
        for (time, value) in decoded.timestamps.iter().zip(&decoded.values) {
            if !is_stale_nan(*value) && *time >= last {
                last = *time;
                expanded.push(*time, *value);
            }
        }
    }
    Ok(expanded)
}

fn decode(part: Part<'_>, columns: &mut FloatColumns) -> Result<(), Corrupt> {
    if part.encoding != Encoding::Xor {
        let reason = format!("an aggregate of floats is encoded as {}", part.encoding);
        return Err(Corrupt::new("aggregates chunk", 0, reason));
    }
    xor::decode(part.data, columns)
}

/// One value for each window, folded from `start` by `fold`.
fn reduce(columns: &FloatColumns, to: i64, start: f64, fold: impl Fn(f64, f64) -> f64) -> FloatColumns {
    let mut reduced = FloatColumns::default();
    for_each(&columns.timestamps, to, |end, range| {
        reduced.push(end, columns.values[range].iter().fold(start, |folded, value| fold(folded, *value)));
    });
    reduced
}

fn floats(chunks: &[Chunk<'_>], to: i64, made: &mut Made) -> Result<(), Misplaced> {
    let sum = |sum: f64, value: f64| sum + value;
    let min = |min: f64, value: f64| if value < min { value } else { min };
    let max = |max: f64, value: f64| if value > max { value } else { max };
    let columns = [
        reduce(&expand(chunks, Aggregate::Count)?, to, 0.0, sum),
        reduce(&expand(chunks, Aggregate::Sum)?, to, 0.0, sum),
        reduce(&expand(chunks, Aggregate::Min)?, to, f64::MAX, min),
        reduce(&expand(chunks, Aggregate::Max)?, to, -f64::MAX, max),
        counters(chunks, to)?,
    ];
    let times =
        columns[..4].iter().filter_map(|column| Some((*column.timestamps.first()?, *column.timestamps.last()?)));
    let Some(times) = times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { return Ok(()) };
    let mut parts: [Vec<u8>; 5] = Default::default();
    let mut chunk = AggrChunk::default();
    for (column, part) in columns.iter().zip(&mut parts) {
        xor::encode(&column.timestamps, &column.values, part);
    }
    for (aggregate, part) in Aggregate::ALL.into_iter().zip(&parts) {
        if !columns[aggregate as usize].is_empty() {
            chunk.set(aggregate, Part { encoding: Encoding::Xor, data: part });
        }
    }
    let mut data = Vec::new();
    aggr::encode(&chunk, &mut data);
    made.encode(times, (Encoding::Aggr, &data), columns[0].len() as u16);
    Ok(())
}

/// The counters of all chunks as one that never falls, at the end of each window; the first raw value
/// before it and the last raw value behind it.
fn counters(chunks: &[Chunk<'_>], to: i64) -> Result<FloatColumns, Misplaced> {
    let (mut rising, mut decoded) = (FloatColumns::default(), FloatColumns::default());
    let mut last: Option<(i64, f64)> = None;
    let mut total = 0.0;
    for chunk in chunks {
        let Some(part) = chunk.parts.get(Aggregate::Counter) else { continue };
        decoded.clear();
        decode(part, &mut decoded).map_err(|corrupt| (chunk.place, corrupt))?;
        for (time, value) in decoded.timestamps.iter().zip(&decoded.values).filter(|(_, value)| !value.is_nan()) {
            match &mut last {
                None => total = *value,
                Some((last_time, _)) if *time < *last_time => continue,
                // The raw last value of a chunk stands at the time of the sample before it.
                Some((last_time, last_value)) if *time == *last_time => {
                    *last_value = *value;
                    continue;
                }
                Some((_, last_value)) => total += if *value >= *last_value { *value - *last_value } else { *value },
            }
            last = Some((*time, *value));
            rising.push(*time, total);
        }
    }
    let mut counters = FloatColumns::default();
    let (Some(first), Some((_, last))) = (rising.timestamps.first().zip(rising.values.first()), last) else {
        return Ok(counters);
    };
    counters.push(*first.0, *first.1);
    let (mut before, mut counter) = (*first.1, *first.1);
    for_each(&rising.timestamps, to, |end, range| {
        for at in range {
            let value = rising.values[at];
            if at > 0 {
                counter += if value < before { value } else { value - before };
            }
            before = value;
        }
        counters.push(end, counter);
    });
    if let Some(end) = counters.timestamps.last().copied() {
        counters.push(end, last);
    }
    Ok(counters)
}

/// The counts and sums of windows that have both: Thanos writes some with a count and no sum, which would make
/// averages too low.
fn of_both(counts: FloatColumns, sums: Histograms) -> (FloatColumns, Histograms) {
    if counts.timestamps == sums.times {
        return (counts, sums);
    }
    let with_count: HashSet<i64> = counts.timestamps.iter().copied().collect();
    let with_sum: HashSet<i64> = sums.times.iter().copied().collect();
    let (mut own, mut both) = (FloatColumns::default(), Histograms::default());
    for (time, value) in counts.timestamps.iter().zip(&counts.values).filter(|(time, _)| with_sum.contains(time)) {
        own.push(*time, *value);
    }
    for (time, value) in sums.times.into_iter().zip(sums.values).filter(|(time, _)| with_count.contains(time)) {
        both.times.push(time);
        both.values.push(value);
    }
    (own, both)
}

fn histograms(chunks: &[Chunk<'_>], to: i64, made: &mut Made) -> Result<(), Misplaced> {
    let expand_histograms = |aggregate| {
        let mut histograms = Histograms::default();
        for chunk in chunks {
            let Some(part) = chunk.parts.get(aggregate) else { continue };
            let mut samples = Samples::default();
            samples.decode(part.encoding, part.data).map_err(|corrupt| (chunk.place, corrupt))?;
            histograms.extend(samples);
        }
        Ok(histograms)
    };
    let (counts, sums) = of_both(expand(chunks, Aggregate::Count)?, expand_histograms(Aggregate::Sum)?);
    let counts = reduce(&counts, to, 0.0, |sum, value| sum + value);
    let mut timelines = Timelines::default();
    timelines[Aggregate::Count as usize] = Some(Timeline::new(Samples::of_floats(counts)));
    timelines[Aggregate::Sum as usize] = Some(Timeline::new(sums.sums(to)));
    timelines[Aggregate::Counter as usize] = Some(Timeline::new(expand_histograms(Aggregate::Counter)?.counters(to)));
    encode(&timelines, WINDOWS_MAX, made);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FloatHistogram;

    #[test]
    fn a_window_without_a_count_or_a_sum_is_no_part_of_an_average() {
        let counts = FloatColumns { timestamps: vec![1, 2, 3], values: vec![10.0, 20.0, 30.0] };
        let histogram = |count: f64| FloatHistogram { count, ..FloatHistogram::default() };
        let sums = Histograms { times: vec![1, 3, 4], values: [1.0, 3.0, 4.0].map(histogram).to_vec() };
        let (counts, sums) = of_both(counts, sums);
        assert_eq!((counts.timestamps, counts.values), (vec![1, 3], vec![10.0, 30.0]));
        assert_eq!((sums.times, sums.values), (vec![1, 3], [1.0, 3.0].map(histogram).to_vec()));
    }
}
