//! From the chunks of a series, its replicas' among them, to its samples.
//!
//! ```text
//! chunks ─ set apart ─> replicas ─ decode ─> timelines ─ dedup ─> one timeline ─> batch
//! ```
//! What of a downsampled chunk is read follows from the function around the selector, as in
//! Thanos' querier; how replicas are merged is in [`crate::dedup`].

use std::sync::Arc;

use crate::batch::{CountKind, SampleBatch};
use crate::chunk::{Encoding, float_histogram, histogram, xor};
use crate::dedup::penalty::{Adjust, Replica};
use crate::dedup::{Pick, chain, overlap, penalty};
use crate::model::{
    CounterReset, Error, ErrorKind, FloatColumns, FloatHistogram, FloatHistogramColumns, HistogramColumns, Labels,
    TimeRange,
};
use crate::select::{Aggregate, Aggregates, ChunkData, ChunkSet};

use super::floats::follow_each_other;

/// What is read of a downsampled chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// One aggregate.
    One(Aggregate),
    /// Sum divided by count.
    Average,
}

/// How replicas become one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merging {
    /// Chunks are read one after the other; what lies before the end of an earlier one is skipped.
    Nothing,
    /// `--deduplication.func=penalty`
    Penalty,
    /// `--deduplication.func=chain`
    Chain,
}

/// What becomes of the resets of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resets {
    Kept,
    Removed,
}

/// Makes samples of chunks; its columns are used again for each series.
#[derive(Debug)]
pub struct Assembler {
    range: TimeRange,
    extent: TimeRange,
    reading: Reading,
    merging: Merging,
    timelines: Vec<Timeline>,
    decoded: Timeline,
    integers: HistogramColumns,
    floats: FloatHistogramColumns,
    counts: FloatColumns,
}

/// Samples of one replica: floats and histograms on one column of times.
#[derive(Clone, Debug, Default)]
struct Timeline {
    timestamps: Vec<i64>,
    /// NaN where the sample is a histogram.
    values: Vec<f64>,
    /// The histograms and the samples that they are, ascending.
    histograms: Vec<(u32, Arc<FloatHistogram>)>,
    /// What the counts of each of these were.
    kinds: Vec<CountKind>,
}

impl Reading {
    /// What Thanos reads for a selector below `function`.
    pub fn of_function(function: &str) -> Self {
        match function {
            "min" => Self::One(Aggregate::Min),
            "max" => Self::One(Aggregate::Max),
            "count" => Self::One(Aggregate::Count),
            "increase" | "rate" | "irate" | "resets" | "xincrease" | "xrate" => Self::One(Aggregate::Counter),
            _ if function.starts_with("min_") => Self::One(Aggregate::Min),
            _ if function.starts_with("max_") => Self::One(Aggregate::Max),
            _ if function.starts_with("count_") => Self::One(Aggregate::Count),
            _ if function.starts_with("sum_") => Self::One(Aggregate::Sum),
            _ => Self::Average,
        }
    }

    /// The aggregates to ask for.
    pub fn aggregates(self) -> Aggregates {
        match self {
            Self::One(aggregate) => Aggregates::default().with(aggregate),
            Self::Average => Aggregates::default().with(Aggregate::Count).with(Aggregate::Sum),
        }
    }
}

impl Assembler {
    /// Samples within `range`, read as `function` needs them.
    pub fn new(range: TimeRange, function: &str, merging: Merging) -> Self {
        Self {
            range,
            extent: range,
            reading: Reading::of_function(function),
            merging,
            timelines: Vec::new(),
            decoded: Timeline::default(),
            integers: HistogramColumns::default(),
            floats: FloatHistogramColumns::default(),
            counts: FloatColumns::default(),
        }
    }

    /// The same, with replicas merged from the start of `extent` on: which one is followed depends on
    /// where the merge begins.
    pub fn merging_over(self, extent: TimeRange) -> Self {
        Self { extent, ..self }
    }

    /// Appends the series of `labels` with the samples of `chunks`, which ascend by their first
    /// sample. Corrupt when a chunk is.
    pub fn append(
        &mut self,
        labels: Arc<Labels>,
        chunks: &[ChunkSet<'_>],
        batch: &mut SampleBatch,
    ) -> Result<(), Error> {
        if are_plain(chunks) {
            for chunk in chunks.iter().filter_map(ChunkSet::raw_part) {
                xor::decode(chunk.data, &mut batch.floats)?;
            }
            batch.finish_series(labels);
            return Ok(());
        }
        let replicas = self.set_apart(chunks);
        let count = replicas.iter().max().map_or(1, |last| *last as usize + 1);
        self.timelines.iter_mut().for_each(Timeline::clear);
        self.timelines.resize_with(count.max(self.timelines.len()), Timeline::default);
        let is_counter = self.reading == Reading::One(Aggregate::Counter);
        let is_downsampled = chunks.iter().any(|set| set.raw_part().is_none());
        let resets = if is_downsampled && is_counter { Resets::Removed } else { Resets::Kept };
        for replica in 0..count {
            let own = chunks.iter().zip(&replicas).filter(|(_, of)| **of as usize == replica).map(|(set, _)| set);
            self.read(own, replica, resets)?;
        }
        let adjust = self.adjust(&labels, count);
        let kept = if count == 1 { self.range } else { self.extent };
        for timeline in &mut self.timelines[..count] {
            if (adjust, resets) == (Adjust::Counters, Resets::Kept) {
                Counter::default().remove_resets(timeline);
            }
            timeline.keep(kept);
        }
        if count == 1 {
            self.timelines[0].append_to(batch);
        } else {
            self.merge(count, adjust, batch);
        }
        batch.finish_series(labels);
        Ok(())
    }

    /// Decodes what is read of one chunk, and no more; Corrupt where that fails.
    pub fn check(&mut self, chunk: &ChunkSet<'_>) -> Result<(), Error> {
        self.decoded.clear();
        self.decode(chunk)
    }

    /// The replica of each chunk.
    fn set_apart(&self, chunks: &[ChunkSet<'_>]) -> Vec<u32> {
        if self.merging == Merging::Nothing {
            return vec![0; chunks.len()];
        }
        let ranges: Vec<TimeRange> = chunks.iter().map(|set| TimeRange::new(set.min_time, set.max_time)).collect();
        overlap::split(&ranges)
    }

    /// Whether a switch of replicas is to keep a counter from falling. Lifted gauges give rates that no
    /// replica has, so only what is named like a counter, or rises like one, is lifted.
    fn adjust(&self, labels: &Labels, replicas: usize) -> Adjust {
        let lifts = self.merging == Merging::Penalty && self.reading == Reading::One(Aggregate::Counter);
        if !lifts || replicas == 1 {
            return Adjust::Nothing;
        }
        let is_named_so = ["_total", "_sum", "_count", "_bucket"].iter().any(|end| labels.metric_name().ends_with(end));
        let is_counter = is_named_so || self.timelines[..replicas].iter().all(Timeline::rises);
        if is_counter { Adjust::Counters } else { Adjust::Nothing }
    }

    /// Reads the chunks of one replica to its timeline.
    fn read<'c>(
        &mut self,
        chunks: impl Iterator<Item = &'c ChunkSet<'c>>,
        replica: usize,
        resets: Resets,
    ) -> Result<(), Error> {
        let mut counter = Counter::default();
        for set in chunks {
            self.decoded.clear();
            self.decode(set)?;
            let timeline = &mut self.timelines[replica];
            if resets == Resets::Removed {
                counter.remove_resets(&mut self.decoded);
            }
            timeline.extend_after_last(&self.decoded);
        }
        Ok(())
    }

    fn decode(&mut self, set: &ChunkSet<'_>) -> Result<(), Error> {
        let missing = || Error::new(ErrorKind::Corrupt, "no valid chunk found");
        match (set.raw_part(), self.reading) {
            (Some(raw), _) => self.decode_part(raw),
            (None, Reading::One(aggregate)) => self.decode_part(set.part(aggregate).ok_or_else(missing)?),
            (None, Reading::Average) => {
                self.decode_part(set.part(Aggregate::Sum).ok_or_else(missing)?)?;
                self.counts.clear();
                xor::decode(set.part(Aggregate::Count).ok_or_else(missing)?.data, &mut self.counts)?;
                self.decoded.divide(&self.counts);
                Ok(())
            }
        }
    }

    /// Appends the samples of one chunk to `decoded`.
    fn decode_part(&mut self, chunk: ChunkData<'_>) -> Result<(), Error> {
        match chunk.encoding {
            Encoding::Xor => {
                let mut columns = FloatColumns {
                    timestamps: std::mem::take(&mut self.decoded.timestamps),
                    values: std::mem::take(&mut self.decoded.values),
                };
                let result = xor::decode(chunk.data, &mut columns);
                self.decoded.timestamps = columns.timestamps;
                self.decoded.values = columns.values;
                result?;
            }
            Encoding::Histogram => {
                self.integers.timestamps.clear();
                self.integers.values.clear();
                histogram::decode(chunk.data, &mut self.integers)?;
                let histograms = self.integers.values.iter().map(crate::model::Histogram::to_float);
                self.decoded.push_histograms(&self.integers.timestamps, histograms, CountKind::Integers);
            }
            Encoding::FloatHistogram => {
                self.floats.timestamps.clear();
                self.floats.values.clear();
                float_histogram::decode(chunk.data, &mut self.floats)?;
                self.decoded.push_histograms(&self.floats.timestamps, self.floats.values.drain(..), CountKind::Floats);
            }
            other => {
                return Err(Error::new(ErrorKind::Corrupt, format!("a chunk of encoding {other:?} cannot be read")));
            }
        }
        Ok(())
    }

    fn merge(&mut self, count: usize, adjust: Adjust, batch: &mut SampleBatch) {
        let (mut picks, mut values): (Vec<Pick>, Vec<f64>) = (Vec::new(), Vec::new());
        let timelines = &self.timelines[..count];
        if self.merging == Merging::Chain {
            let columns: Vec<&[i64]> = timelines.iter().map(|timeline| timeline.timestamps.as_slice()).collect();
            chain::merge(&columns, &mut picks);
            values.extend(picks.iter().map(|pick| timelines[pick.replica as usize].values[pick.sample as usize]));
        } else {
            let replicas: Vec<Replica<'_>> = timelines
                .iter()
                .map(|timeline| Replica { timestamps: &timeline.timestamps, values: &timeline.values })
                .collect();
            penalty::merge(&replicas, adjust, &mut picks, &mut values);
        }
        let mut before: Option<Pick> = None;
        for (pick, value) in picks.iter().zip(values) {
            let timeline = &timelines[pick.replica as usize];
            let follows = before.is_some_and(|last| (last.replica, last.sample + 1) == (pick.replica, pick.sample));
            before = Some(*pick);
            if !self.range.contains(timeline.timestamps[pick.sample as usize]) {
                continue;
            }
            let known = batch.histograms.values.len();
            timeline.push_sample(pick.sample, value, batch);
            if !follows {
                batch.histograms.values[known..].iter_mut().for_each(forget_reset);
            }
        }
    }
}

/// Makes it unknown whether `histogram` follows a reset: the one that stood before it does so no longer.
fn forget_reset(histogram: &mut Arc<FloatHistogram>) {
    if !matches!(histogram.counter_reset, CounterReset::Gauge | CounterReset::Unknown) {
        Arc::make_mut(histogram).counter_reset = CounterReset::Unknown;
    }
}

/// Whether the chunks are floats that need no more than to be decoded.
pub(super) fn are_plain(chunks: &[ChunkSet<'_>]) -> bool {
    follow_each_other(chunks.iter().map(|set| (set.min_time, set.max_time, set.raw_part().map(|raw| raw.encoding))))
}

impl Timeline {
    fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
        self.histograms.clear();
        self.kinds.clear();
    }

    fn push_histograms(
        &mut self,
        timestamps: &[i64],
        histograms: impl Iterator<Item = FloatHistogram>,
        kind: CountKind,
    ) {
        for (timestamp, histogram) in timestamps.iter().zip(histograms) {
            self.histograms.push((self.timestamps.len() as u32, Arc::new(histogram)));
            self.kinds.push(kind);
            self.timestamps.push(*timestamp);
            self.values.push(f64::NAN);
        }
    }

    /// Divides sums by counts of the same times. Those without the other are left out: Thanos writes windows of
    /// histograms with a count and no sum.
    fn divide(&mut self, counts: &FloatColumns) {
        if self.timestamps == counts.timestamps {
            self.values.iter_mut().zip(&counts.values).for_each(|(value, count)| *value /= count);
            let divide = |(at, histogram): &mut (u32, Arc<FloatHistogram>)| {
                Arc::make_mut(histogram).div(counts.values[*at as usize]);
            };
            self.histograms.iter_mut().for_each(divide);
            self.kinds.fill(CountKind::Floats);
            return;
        }
        let sums = std::mem::take(self);
        let mut counts = counts.timestamps.iter().zip(&counts.values).peekable();
        let mut histograms = sums.histograms.into_iter().peekable();
        for (at, (timestamp, sum)) in sums.timestamps.iter().zip(&sums.values).enumerate() {
            let histogram = histograms.next_if(|(of, _)| *of as usize == at);
            while counts.next_if(|(of, _)| *of < timestamp).is_some() {}
            let Some((_, count)) = counts.next_if(|(of, _)| *of == timestamp) else { continue };
            if let Some((_, mut histogram)) = histogram {
                Arc::make_mut(&mut histogram).div(*count);
                self.histograms.push((self.timestamps.len() as u32, histogram));
                self.kinds.push(CountKind::Floats);
            }
            self.timestamps.push(*timestamp);
            self.values.push(sum / count);
        }
    }

    /// Whether the values rise at least ten times for each time that they fall, as a counter's do.
    fn rises(&self) -> bool {
        let count = |is: fn(f64, f64) -> bool| self.values.windows(2).filter(|pair| is(pair[0], pair[1])).count();
        count(|before, after| after > before) >= 10 * count(|before, after| after < before)
    }

    /// Appends the samples of `other` that come after the last one here.
    fn extend_after_last(&mut self, other: &Self) {
        let last = self.timestamps.last().copied();
        let skip = last.map_or(0, |last| other.timestamps.partition_point(|time| *time <= last));
        let base = self.timestamps.len();
        self.timestamps.extend_from_slice(&other.timestamps[skip..]);
        self.values.extend_from_slice(&other.values[skip..]);
        let known = self.histograms.len();
        let skipped = other.histograms.partition_point(|(at, _)| (*at as usize) < skip);
        let kept = other.histograms[skipped..].iter();
        self.histograms.extend(kept.map(|(at, found)| ((*at as usize - skip + base) as u32, Arc::clone(found))));
        self.kinds.extend_from_slice(&other.kinds[skipped..]);
        if skip > 0
            && let Some((at, histogram)) = self.histograms.get_mut(known)
            && *at as usize == base
        {
            forget_reset(histogram);
        }
    }

    /// Drops what lies outside of `range`.
    fn keep(&mut self, range: TimeRange) {
        let start = self.timestamps.partition_point(|time| *time < range.min_time);
        let end = self.timestamps.partition_point(|time| *time <= range.max_time).max(start);
        self.timestamps.truncate(end);
        self.values.truncate(end);
        self.timestamps.drain(..start);
        self.values.drain(..start);
        let place = |sample: usize| self.histograms.partition_point(|(at, _)| (*at as usize) < sample);
        let within = place(start)..place(end);
        self.histograms.truncate(within.end);
        self.histograms.drain(..within.start);
        self.histograms.iter_mut().for_each(|(at, _)| *at -= start as u32);
        self.kinds.truncate(within.end);
        self.kinds.drain(..within.start);
    }

    fn append_to(&self, batch: &mut SampleBatch) {
        if self.histograms.is_empty() {
            batch.floats.timestamps.extend_from_slice(&self.timestamps);
            batch.floats.values.extend_from_slice(&self.values);
            return;
        }
        for (sample, value) in self.values.iter().enumerate() {
            self.push_sample(sample as u32, *value, batch);
        }
    }

    /// Appends one sample: the histogram that stands there, else `value`.
    fn push_sample(&self, sample: u32, value: f64, batch: &mut SampleBatch) {
        let timestamp = self.timestamps[sample as usize];
        match self.histograms.binary_search_by_key(&sample, |(at, _)| *at) {
            Ok(found) => {
                batch.histograms.timestamps.push(timestamp);
                batch.histograms.values.push(Arc::clone(&self.histograms[found].1));
                batch.histogram_kinds.push(self.kinds[found]);
            }
            Err(_) => batch.floats.push(timestamp, value),
        }
    }
}

/// A counter that is made to never fall, over the chunks of a series. The last sample of a
/// downsampled counter chunk repeats the time before it and carries the value before resets were
/// removed.
#[derive(Debug, Default)]
struct Counter {
    total: f64,
    last: Option<(i64, f64)>,
}

impl Counter {
    /// Takes the resets out of the floats of `samples`, and NaNs and samples that do not advance.
    fn remove_resets(&mut self, samples: &mut Timeline) {
        let mut kept = Timeline::default();
        let mut histograms = samples.histograms.iter().zip(&samples.kinds).peekable();
        for (at, (timestamp, value)) in samples.timestamps.iter().zip(&samples.values).enumerate() {
            if let Some(((_, histogram), kind)) = histograms.next_if(|((of, _), _)| *of as usize == at) {
                kept.push_histograms(&[*timestamp], std::iter::once(histogram.as_ref().clone()), *kind);
                continue;
            }
            match self.last {
                _ if value.is_nan() => continue,
                None => self.total = *value,
                Some((time, _)) if *timestamp == time => {
                    self.last = Some((time, *value));
                    continue;
                }
                Some((time, _)) if *timestamp < time => continue,
                Some((_, before)) => self.total += if *value >= before { value - before } else { *value },
            }
            self.last = Some((*timestamp, *value));
            kept.timestamps.push(*timestamp);
            kept.values.push(self.total);
        }
        *samples = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(samples: &[(i64, f64)]) -> Vec<u8> {
        let (timestamps, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
        let mut data = Vec::new();
        xor::encode(&timestamps, &values, &mut data);
        data
    }

    fn chunk(data: &[u8]) -> ChunkData<'_> {
        ChunkData { encoding: Encoding::Xor, data }
    }

    fn assembled(assembler: &mut Assembler, name: &str, chunks: &[ChunkSet<'_>]) -> Vec<(i64, f64)> {
        let mut batch = SampleBatch::default();
        let labels = Arc::new(Labels::from_pairs([("__name__", name)]));
        assembler.append(labels, chunks, &mut batch).unwrap();
        let series = batch.series(0);
        series.timestamps.iter().copied().zip(series.values.iter().copied()).collect()
    }

    #[test]
    fn overlapping_chunks_of_one_series_never_go_back_in_time() {
        let (first, second) = (encoded(&[(10, 1.0), (20, 2.0)]), encoded(&[(15, 9.0), (20, 9.0), (30, 3.0)]));
        let chunks = [ChunkSet::raw(10, 20, chunk(&first)), ChunkSet::raw(15, 30, chunk(&second))];
        let mut assembler = Assembler::new(TimeRange::new(11, 30), "", Merging::Nothing);
        assert_eq!(assembled(&mut assembler, "a", &chunks), [(20, 2.0), (30, 3.0)]);
    }

    #[test]
    fn averages_are_sums_divided_by_counts() {
        let (sum, count) = (encoded(&[(10, 6.0), (20, 9.0)]), encoded(&[(10, 3.0), (20, 2.0)]));
        let mut set = ChunkSet::empty(10, 20);
        set.set_part(Aggregate::Sum, chunk(&sum));
        set.set_part(Aggregate::Count, chunk(&count));
        let mut assembler = Assembler::new(TimeRange::ALL, "avg_over_time", Merging::Nothing);
        assert_eq!(assembled(&mut assembler, "a", &[set]), [(10, 2.0), (20, 4.5)]);
        let mut assembler = Assembler::new(TimeRange::ALL, "sum_over_time", Merging::Nothing);
        assert_eq!(assembled(&mut assembler, "a", &[set]), [(10, 6.0), (20, 9.0)]);
    }

    #[test]
    fn a_chunk_is_checked_as_far_as_it_is_read() {
        let counts = encoded(&[(10, 3.0)]);
        let mut set = ChunkSet::empty(10, 10);
        set.set_part(Aggregate::Count, chunk(&counts));
        let check = |function: &str, set| Assembler::new(TimeRange::ALL, function, Merging::Nothing).check(&set);
        assert!(check("count_over_time", set).is_ok());
        assert_eq!(check("", set).unwrap_err().message(), "no valid chunk found");
        assert!(check("", ChunkSet::raw(10, 10, chunk(&counts))).is_ok());
        assert!(check("", ChunkSet::raw(10, 10, chunk(&[0, 9, 1]))).is_err());
    }

    #[test]
    fn downsampled_counters_know_a_reset_between_chunks() {
        let (first, second) =
            (encoded(&[(10, 5.0), (20, 9.0), (20, 4.0)]), encoded(&[(30, 2.0), (40, 3.0), (40, 3.0)]));
        let set = |data, min, max| {
            let mut set = ChunkSet::empty(min, max);
            set.set_part(Aggregate::Counter, data);
            set
        };
        let chunks = [set(chunk(&first), 10, 20), set(chunk(&second), 30, 40)];
        let mut assembler = Assembler::new(TimeRange::ALL, "rate", Merging::Nothing);
        assert_eq!(assembled(&mut assembler, "a", &chunks), [(10, 5.0), (20, 9.0), (30, 11.0), (40, 12.0)]);
    }

    #[test]
    fn a_lagging_replica_of_a_counter_is_lifted_and_that_of_a_gauge_is_not() {
        let ahead = encoded(&[(10_000, 31.0), (20_000, 20.0), (30_000, 30.0)]);
        let behind = encoded(&[(10_100, 5.0), (20_100, 15.0), (50_100, 25.0)]);
        let chunks = [ChunkSet::raw(10_000, 30_000, chunk(&ahead)), ChunkSet::raw(10_100, 50_100, chunk(&behind))];
        let mut assembler = Assembler::new(TimeRange::ALL, "rate", Merging::Penalty);
        assert_eq!(assembled(&mut assembler, "a_total", &chunks)[3], (50_100, 61.0));
        assert_eq!(assembled(&mut assembler, "a", &chunks)[3], (50_100, 25.0));
        let rising = encoded(&[(10_000, 10.0), (20_000, 20.0), (30_000, 30.0)]);
        let chunks = [ChunkSet::raw(10_000, 30_000, chunk(&rising)), chunks[1]];
        assert_eq!(assembled(&mut assembler, "a", &chunks)[3], (50_100, 30.0));
    }

    #[test]
    fn a_sum_or_a_count_without_the_other_is_no_average() {
        let sums = encoded(&[(10, 6.0), (30, 9.0), (40, 8.0)]);
        let counts = encoded(&[(10, 3.0), (20, 2.0), (30, 3.0), (50, 1.0)]);
        let mut set = ChunkSet::empty(10, 50);
        set.set_part(Aggregate::Sum, chunk(&sums));
        set.set_part(Aggregate::Count, chunk(&counts));
        let mut assembler = Assembler::new(TimeRange::ALL, "", Merging::Nothing);
        assert_eq!(assembled(&mut assembler, "a", &[set]), [(10, 2.0), (30, 3.0)]);
    }

    #[test]
    fn what_counts_of_histograms_were_is_known_of_each_that_is_kept() {
        let integer = |count: u64| crate::model::Histogram { count, zero_count: count, ..Default::default() };
        let float = |count: f64| FloatHistogram { count, zero_count: count, ..FloatHistogram::default() };
        let (mut integers, mut floats) = (Vec::new(), Vec::new());
        let values = [1, 2, 3].map(integer);
        crate::chunk::native::encode(&[10, 20, 30], &values, CounterReset::Unknown, &mut integers);
        let values = [1.5, 2.5, 3.5].map(float);
        crate::chunk::native::encode(&[25, 40, 50], &values, CounterReset::Unknown, &mut floats);
        let chunks = [
            ChunkSet::raw(10, 30, ChunkData { encoding: Encoding::Histogram, data: &integers }),
            ChunkSet::raw(25, 50, ChunkData { encoding: Encoding::FloatHistogram, data: &floats }),
        ];
        for merging in [Merging::Nothing, Merging::Chain, Merging::Penalty] {
            let mut batch = SampleBatch::default();
            let range = TimeRange::new(15, 45);
            Assembler::new(range, "rate", merging).append(Arc::default(), &chunks, &mut batch).unwrap();
            let series = batch.series(0);
            assert!(!series.histograms.is_empty() && series.histogram_kinds.len() == series.histograms.len());
            for (histogram, kind) in series.histograms.iter().zip(series.histogram_kinds) {
                let whole = histogram.count.fract() == 0.0;
                assert_eq!(*kind == CountKind::Integers, whole, "{merging:?}: {histogram:?}");
            }
        }
    }

    #[test]
    fn a_histogram_behind_one_of_another_replica_does_not_say_that_there_was_no_reset() {
        let counter = |count: u64| crate::model::Histogram {
            count,
            zero_count: count,
            zero_threshold: 1.0,
            ..crate::model::Histogram::default()
        };
        let encode = |samples: &[(i64, u64)], gauge: CounterReset| {
            let times: Vec<i64> = samples.iter().map(|(time, _)| *time).collect();
            let values: Vec<_> = samples.iter().map(|(_, count)| counter(*count)).collect();
            let mut data = Vec::new();
            crate::chunk::native::encode(&times, &values, gauge, &mut data);
            data
        };
        for merging in [Merging::Chain, Merging::Penalty, Merging::Nothing] {
            let ahead = encode(&[(10_000, 100), (20_000, 110), (30_000, 120)], CounterReset::Unknown);
            let behind: Vec<(i64, u64)> = (0..20).map(|at| (25_000 + 10_000 * at, 1 + at as u64)).collect();
            let behind = encode(&behind, CounterReset::Unknown);
            let data = |data| ChunkData { encoding: Encoding::Histogram, data };
            let chunks = [ChunkSet::raw(10_000, 30_000, data(&ahead)), ChunkSet::raw(25_000, 215_000, data(&behind))];
            let mut batch = SampleBatch::default();
            Assembler::new(TimeRange::ALL, "", merging).append(Arc::default(), &chunks, &mut batch).unwrap();
            for pair in batch.histograms.values.windows(2).filter(|pair| pair[1].count < pair[0].count) {
                assert_eq!(pair[1].counter_reset, CounterReset::Unknown, "{merging:?}: {:?}", batch.histograms);
            }
            assert!(batch.histograms.values.windows(2).any(|pair| pair[1].count < pair[0].count), "{merging:?}");
            assert_eq!(batch.histograms.values.last().unwrap().counter_reset, CounterReset::No, "{merging:?}");
        }
    }
}
