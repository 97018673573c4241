//! One tenant's part of a write request, owned and in columns, as it crosses to the shards.
//!
//! ```text
//! body        of the request, when the labels of series lie there in canonical form
//! text        else these labels; labels of exemplars, help and unit of metadata
//! series      hash, place of its labels, and where its samples end
//! samples     times │ values │ start timestamps
//! others      where histograms, exemplars and metadata of each series end, once there are some
//! ```
//! Series are told apart by a hash of their canonical form ([`EncodedLabels`]).

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::append::Unread;
use super::hash::{SeriesCheck, SeriesHash};
use crate::codec::EncodedLabels;
use crate::model::{HistogramValue, Reservation};

/// One tenant's part of one request.
#[derive(Debug, Default)]
pub struct WriteBatch {
    /// Where the labels of series lie; `None` for the text.
    body: Option<Body>,
    text: Vec<u8>,
    columns: Columns,
    starts: Vec<i64>,
    /// As many as series, or none.
    others: Vec<Ends>,
    histograms: Vec<HistogramRow>,
    exemplars: Vec<ExemplarRow>,
    metadata: Vec<MetadataRow>,
    /// Names of metric families and what is said of them.
    families: Vec<(Place, MetadataRow)>,
    /// The memory of all this.
    held: Option<Reservation>,
}

/// The body of a request. The memory of bodies is used again: a process that receives has some of them at
/// any time, all of about one length, and new memory would be filled with zeros each time.
#[derive(Clone, Debug)]
struct Body(Vec<u8>);

/// Series and samples of a batch, whose memory is used again too: edges take it and shards give it back, so
/// that an allocator with a heap for each thread would go through megabytes of fresh pages for them.
#[derive(Clone, Debug, Default)]
struct Columns {
    series: Vec<Row>,
    times: Vec<i64>,
    values: Vec<f64>,
}

/// What nobody needs any more.
struct Spare<T>(Mutex<Vec<T>>);

static SPARE_BODIES: Spare<Vec<u8>> = Spare::new();
static SPARE_COLUMNS: Spare<(Vec<Row>, Vec<i64>, Vec<f64>)> = Spare::new();

/// Most bodies, and most columns, that are kept.
const SPARE_MAX: usize = 8;

/// Most bytes of a body, or of the columns of series, that is kept.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// Most bytes that a series takes in records besides its labels, an exemplar or what is said of a metric besides
/// text, and a record that begins as floats and histograms alternate.
const ROW_BYTES_MAX: usize = 64;

/// Most bytes that a float takes in a record.
const FLOAT_BYTES_MAX: usize = 5 + 10 + 8;

/// Most bytes that a histogram takes in records besides spans and buckets, with a zero before it.
const HISTOGRAM_BYTES_MAX: usize = 256;

/// Most bytes that a span takes in a record, and a bucket or bound.
const SPAN_BYTES_MAX: usize = 20;
const BUCKET_BYTES_MAX: usize = 10;

/// Bytes of a body from which on the labels in it are told from what else it holds.
const BODY_BYTES_LARGE: usize = 32 << 20;

impl<T> Spare<T> {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, spare: T) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < SPARE_MAX {
            kept.push(spare);
        }
    }
}

/// Room for the body of a request: `len` bytes that mean nothing.
pub fn body_room(len: usize) -> Vec<u8> {
    let mut room = SPARE_BODIES.take().unwrap_or_default();
    room.resize(len, 0);
    room
}

impl Drop for Body {
    fn drop(&mut self) {
        if self.0.capacity() <= SPARE_BYTES_MAX {
            SPARE_BODIES.keep(std::mem::take(&mut self.0));
        }
    }
}

impl Drop for Columns {
    fn drop(&mut self) {
        let rooms = [
            self.series.capacity() * size_of::<Row>(),
            self.times.capacity() * size_of::<i64>(),
            self.values.capacity() * size_of::<f64>(),
        ];
        if rooms[0] == 0 || rooms.iter().any(|room| *room > SPARE_BYTES_MAX) {
            return;
        }
        let (mut series, mut times, mut values) =
            (std::mem::take(&mut self.series), std::mem::take(&mut self.times), std::mem::take(&mut self.values));
        series.clear();
        times.clear();
        values.clear();
        SPARE_COLUMNS.keep((series, times, values));
    }
}

#[derive(Clone, Copy, Debug)]
struct Row {
    hash: u64,
    check: u64,
    labels: Place,
    samples_end: u32,
}

const _: () = assert!(size_of::<Row>() == 32, "two rows are one cache line");

/// Where what most series don't have ends.
#[derive(Clone, Copy, Debug)]
struct Ends {
    histograms: u32,
    exemplars: u32,
    metadata: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at: u32,
    len: u32,
}

/// A histogram of a batch.
#[derive(Clone, Debug)]
pub struct HistogramRow {
    /// Unix milliseconds.
    pub time: i64,
    /// Start timestamp in Unix milliseconds; 0 when it is not known.
    pub start: i64,
    /// The histogram.
    pub value: HistogramValue,
}

#[derive(Clone, Copy, Debug)]
struct ExemplarRow {
    time: i64,
    value: f64,
    labels: Place,
}

#[derive(Clone, Copy, Debug)]
struct MetadataRow {
    kind: MetricKind,
    help: Place,
    unit: Place,
}

/// An exemplar of a batch, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Exemplar<'a> {
    /// Unix milliseconds.
    pub time: i64,
    /// Its value.
    pub value: f64,
    /// Its own labels; there may be none.
    pub labels: EncodedLabels<'a>,
}

/// What is said of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata<'a> {
    /// Its type.
    pub kind: MetricKind,
    /// What it means.
    pub help: &'a str,
    /// In what it is counted.
    pub unit: &'a str,
}

/// The type of a metric, numbered as remote write 1 and 2 number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum MetricKind {
    /// Not said.
    #[default]
    Unknown = 0,
    /// Only rises.
    Counter = 1,
    /// Rises and falls.
    Gauge = 2,
    /// Counts in buckets.
    Histogram = 3,
    /// Counts in buckets that fall too.
    GaugeHistogram = 4,
    /// Quantiles.
    Summary = 5,
    /// Labels of something that is.
    Info = 6,
    /// One of a set of states.
    StateSet = 7,
}

/// Samples of one series of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// Unix milliseconds.
    pub times: &'a [i64],
    /// Values.
    pub values: &'a [f64],
    /// Start timestamps, or empty when none is known.
    pub starts: &'a [i64],
}

impl MetricKind {
    /// The kind numbered `number`; unknown for numbers of the future.
    pub fn from_number(number: u64) -> Self {
        const ALL: [MetricKind; 8] = [
            MetricKind::Unknown,
            MetricKind::Counter,
            MetricKind::Gauge,
            MetricKind::Histogram,
            MetricKind::GaugeHistogram,
            MetricKind::Summary,
            MetricKind::Info,
            MetricKind::StateSet,
        ];
        usize::try_from(number).ok().and_then(|number| ALL.get(number).copied()).unwrap_or_default()
    }

    /// Its name in Prometheus' API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

impl WriteBatch {
    /// An empty batch, with room if some was left over.
    pub fn new() -> Self {
        let (series, times, values) = SPARE_COLUMNS.take().unwrap_or_default();
        Self { columns: Columns { series, times, values }, ..Self::default() }
    }

    /// Says in which bytes the labels of all series lie that [`WriteBatch::push_encoded_series`] has
    /// started.
    ///
    /// # Panics
    /// When they are longer than half of what 32 bits can point into.
    pub fn set_body(&mut self, body: Vec<u8>) {
        assert!(body.len() < i32::MAX as usize, "a request's body is bounded well below 2 GiB");
        self.body = Some(Body(body));
    }

    /// Starts a series of `labels`, which ascend strictly by name, none of them empty. Gives its
    /// number.
    pub fn push_series<'a>(&mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> u32 {
        let place = self.push_labels(labels);
        let labels = EncodedLabels(self.text(place));
        self.start_series(SeriesHash::with_check(labels), place)
    }

    /// Starts a series whose labels, presumably in canonical form but for the order of names and what their
    /// text is, lie at byte `at` of what will be the body. A batch has no other series besides such. Gives
    /// its number.
    ///
    /// Labels that a head knows are not looked into again; of others it says what is wrong with them, and
    /// what is not in that form it gives back.
    #[inline]
    pub fn push_encoded_series(&mut self, at: usize, labels: EncodedLabels<'_>) -> u32 {
        let place = Place { at: at as u32, len: labels.0.len() as u32 };
        self.start_series(SeriesHash::with_check(labels), place)
    }

    /// Appends a sample at `time` (Unix milliseconds) to the series that was started last.
    #[inline]
    pub fn push_sample(&mut self, time: i64, value: f64) {
        self.columns.times.push(time);
        self.columns.values.push(value);
        if !self.starts.is_empty() {
            self.starts.push(0);
        }
        let last = self.columns.series.last_mut().expect("a series is started before what belongs to it");
        last.samples_end += 1;
    }

    /// The start timestamp (Unix milliseconds) of the sample pushed last.
    pub fn push_start(&mut self, start: i64) {
        if start == 0 && self.starts.is_empty() {
            return;
        }
        self.starts.resize(self.columns.times.len(), 0);
        if let Some(last) = self.starts.last_mut() {
            *last = start;
        }
    }

    /// Appends a histogram at `time`, counting since `start` (0 when it is not known), to the series
    /// that was started last.
    pub fn push_histogram(&mut self, time: i64, start: i64, value: HistogramValue) {
        self.histograms.push(HistogramRow { time, start, value });
        self.last().histograms += 1;
    }

    /// Appends an exemplar to the series that was started last.
    pub fn push_exemplar<'a>(&mut self, time: i64, value: f64, labels: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let labels = self.push_labels(labels);
        self.exemplars.push(ExemplarRow { time, value, labels });
        self.last().exemplars += 1;
    }

    /// Says what the metric of the series that was started last is.
    pub fn push_metadata(&mut self, metadata: Metadata<'_>) {
        let help = self.push_text(metadata.help.as_bytes());
        let unit = self.push_text(metadata.unit.as_bytes());
        self.metadata.push(MetadataRow { kind: metadata.kind, help, unit });
        self.last().metadata += 1;
    }

    /// Says what the metric family called `name` is, whether the batch has series of it or not.
    pub fn push_family(&mut self, name: &str, metadata: Metadata<'_>) {
        let [name, help, unit] = [name, metadata.help, metadata.unit].map(|text| self.push_text(text.as_bytes()));
        self.families.push((name, MetadataRow { kind: metadata.kind, help, unit }));
    }

    /// Number of series.
    pub fn series_len(&self) -> usize {
        self.columns.series.len()
    }

    /// Number of float samples.
    pub fn samples_len(&self) -> usize {
        self.columns.times.len()
    }

    /// Unix milliseconds of the first sample or histogram, in the order of the request, that is not later
    /// than `time_max`.
    pub fn first_time(&self, time_max: i64) -> Option<i64> {
        (0..self.series_len() as u32).find_map(|series| {
            let floats = self.samples(series).times.iter().copied();
            floats.chain(self.histograms(series).iter().map(|row| row.time)).find(|time| *time <= time_max)
        })
    }

    /// Takes over what the batch holds of some memory: until all of it is durable, whoever waits for that.
    pub fn hold(&mut self, held: Reservation) {
        self.held = Some(held);
    }

    /// Hands on what it holds.
    pub fn take_held(&mut self) -> Option<Reservation> {
        self.held.take()
    }

    /// Number of histograms.
    pub fn histograms_len(&self) -> usize {
        self.histograms.len()
    }

    /// Whether series have nothing but floats.
    #[inline]
    pub(super) fn has_floats_only(&self) -> bool {
        self.others.is_empty()
    }

    /// Bytes that its records come to at most.
    pub fn record_bytes_max(&self) -> usize {
        let series = &self.columns.series;
        let labels = match &self.body {
            Some(Body(body)) if body.len() > BODY_BYTES_LARGE => {
                series.iter().map(|row| row.labels.len as usize).sum::<usize>()
            }
            Some(Body(body)) => body.len(),
            None => 0,
        };
        let rows = series.len() + self.exemplars.len() + self.metadata.len() + self.families.len();
        let zeros = if self.starts.is_empty() { 0 } else { self.samples_len() };
        let histograms = self.histograms.iter().map(|row| {
            let (spans, buckets) = row.value.lens();
            HISTOGRAM_BYTES_MAX + spans * SPAN_BYTES_MAX + buckets * BUCKET_BYTES_MAX
        });
        // The name of a metric of which something is said stands with that once more.
        let names = if self.metadata.is_empty() { 0 } else { labels + self.text.len() };
        labels
            + self.text.len()
            + names
            + rows * ROW_BYTES_MAX
            + (self.samples_len() + zeros) * FLOAT_BYTES_MAX
            + histograms.sum::<usize>()
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.columns.series.is_empty() && self.families.is_empty()
    }

    /// The labels of series number `series`.
    #[inline]
    pub fn labels(&self, series: u32) -> EncodedLabels<'_> {
        let place = self.columns.series[series as usize].labels;
        EncodedLabels(match &self.body {
            None => self.text(place),
            Some(Body(body)) => &body[place.at as usize..][..place.len as usize],
        })
    }

    /// Series number `series`, which was not taken as the heads can't read its labels.
    pub(super) fn unread(&self, series: u32) -> Unread {
        let samples = self.samples(series);
        let samples = samples.times.iter().copied().zip(samples.values.iter().copied()).collect();
        Unread { labels: self.labels(series).0.to_vec(), samples }
    }

    /// The hash of series number `series`.
    #[inline]
    pub fn hash(&self, series: u32) -> SeriesHash {
        SeriesHash(self.columns.series[series as usize].hash)
    }

    /// What tells series number `series` apart from others of its hash.
    #[inline]
    pub fn check(&self, series: u32) -> SeriesCheck {
        SeriesCheck(self.columns.series[series as usize].check)
    }

    /// The float samples of series number `series`.
    #[inline]
    pub fn samples(&self, series: u32) -> Samples<'_> {
        let end = |series: u32| self.columns.series[series as usize].samples_end as usize;
        let range = series.checked_sub(1).map_or(0, end)..end(series);
        Samples {
            times: &self.columns.times[range.clone()],
            values: &self.columns.values[range.clone()],
            starts: self.starts.get(range).unwrap_or(&[]),
        }
    }

    /// The histograms of series number `series`.
    #[inline]
    pub fn histograms(&self, series: u32) -> &[HistogramRow] {
        &self.histograms[self.range(series, |ends| ends.histograms)]
    }

    /// The exemplars of series number `series`.
    pub fn exemplars(&self, series: u32) -> impl Iterator<Item = Exemplar<'_>> {
        self.exemplars[self.range(series, |ends| ends.exemplars)].iter().map(|row| Exemplar {
            time: row.time,
            value: row.value,
            labels: EncodedLabels(self.text(row.labels)),
        })
    }

    /// What is said of the metric of series number `series`.
    pub fn metadata(&self, series: u32) -> impl Iterator<Item = Metadata<'_>> {
        let rows = &self.metadata[self.range(series, |ends| ends.metadata)];
        rows.iter().map(|row| self.said(*row))
    }

    /// Names of metric families and what is said of them.
    pub fn families(&self) -> impl ExactSizeIterator<Item = (&str, Metadata<'_>)> {
        self.families.iter().map(|(name, row)| (self.str(*name), self.said(*row)))
    }

    fn said(&self, row: MetadataRow) -> Metadata<'_> {
        Metadata { kind: row.kind, help: self.str(row.help), unit: self.str(row.unit) }
    }

    fn str(&self, place: Place) -> &str {
        std::str::from_utf8(self.text(place)).unwrap_or("")
    }

    #[inline]
    fn range(&self, series: u32, end: impl Fn(&Ends) -> u32) -> Range<usize> {
        if self.others.is_empty() {
            return 0..0;
        }
        let end = |series: u32| end(&self.others[series as usize]) as usize;
        series.checked_sub(1).map_or(0, end)..end(series)
    }

    /// Where what is pushed now ends.
    fn ends(&self) -> Ends {
        Ends {
            histograms: self.histograms.len() as u32,
            exemplars: self.exemplars.len() as u32,
            metadata: self.metadata.len() as u32,
        }
    }

    fn text(&self, place: Place) -> &[u8] {
        &self.text[place.at as usize..][..place.len as usize]
    }

    fn push_labels<'a>(&mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Place {
        let at = self.text.len();
        for (name, value) in labels {
            EncodedLabels::push(name.as_bytes(), value.as_bytes(), &mut self.text);
        }
        Place { at: at as u32, len: (self.text.len() - at) as u32 }
    }

    fn push_text(&mut self, text: &[u8]) -> Place {
        let at = self.text.len();
        self.text.extend_from_slice(text);
        Place { at: at as u32, len: text.len() as u32 }
    }

    #[inline]
    fn start_series(&mut self, (hash, check): (SeriesHash, SeriesCheck), labels: Place) -> u32 {
        self.columns.series.push(Row {
            hash: hash.0,
            check: check.0,
            labels,
            samples_end: self.columns.times.len() as u32,
        });
        if !self.others.is_empty() {
            self.others.push(self.ends());
        }
        self.columns.series.len() as u32 - 1
    }

    /// The ends of the series that was started last. Those before the first of which there are some have nothing.
    fn last(&mut self) -> &mut Ends {
        if self.others.is_empty() {
            self.others.resize(self.columns.series.len(), Ends { histograms: 0, exemplars: 0, metadata: 0 });
        }
        self.others.last_mut().expect("a series is started before what belongs to it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_comes_back_with_its_series() {
        let mut batch = WriteBatch::new();
        batch.push_series([("__name__", "up"), ("job", "a")]);
        batch.push_sample(1, 1.0);
        batch.push_sample(2, 2.0);
        batch.push_start(7);
        batch.push_exemplar(2, 0.5, [("trace_id", "x")]);
        batch.push_series([("__name__", "up"), ("job", "b")]);
        batch.push_sample(3, 3.0);
        batch.push_metadata(Metadata { kind: MetricKind::Gauge, help: "is up", unit: "" });
        let family = Metadata { kind: MetricKind::Counter, help: "", unit: "bytes" };
        batch.push_family("read", family);
        assert_eq!(batch.families().collect::<Vec<_>>(), [("read", family)]);
        assert_eq!((batch.samples(0).values, batch.samples(0).starts), (&[1.0, 2.0][..], &[0, 7][..]));
        assert_eq!((batch.samples(1).times, batch.samples(1).starts), (&[3][..], &[0][..]));
        assert_eq!(batch.exemplars(0).map(|exemplar| exemplar.time).collect::<Vec<_>>(), [2]);
        assert_eq!((batch.exemplars(1).count(), batch.metadata(0).count()), (0, 0));
        assert_eq!(batch.metadata(1).next().unwrap().help, "is up");
        assert_eq!(batch.labels(1).pairs().collect::<Vec<_>>(), [("__name__", "up"), ("job", "b")]);
        assert_ne!(batch.hash(0), batch.hash(1));
    }

    #[test]
    fn room_for_a_body_is_as_long_as_asked_whatever_was_in_it() {
        for len in [1000, 10, 5000, 0, 200] {
            let room = body_room(len);
            assert_eq!(room.len(), len);
            WriteBatch::new().set_body(room);
        }
        assert!(SPARE_BODIES.0.lock().unwrap().len() <= SPARE_MAX);
    }

    #[test]
    fn a_batch_of_used_columns_is_empty() {
        for _ in 0..2 {
            let batches = (0..2 * SPARE_MAX).map(|_| {
                let mut batch = WriteBatch::new();
                assert!(batch.is_empty() && batch.samples_len() == 0);
                batch.push_series([("__name__", "up")]);
                batch.push_sample(1, 2.0);
                assert_eq!((batch.samples(0).times, batch.samples(0).values), (&[1][..], &[2.0][..]));
                batch
            });
            // More at once than are kept.
            drop(batches.collect::<Vec<_>>());
            assert!(SPARE_COLUMNS.0.lock().unwrap().len() <= SPARE_MAX);
        }
    }

    #[test]
    fn labels_in_a_request_hash_as_labels_that_were_copied() {
        let mut copied = WriteBatch::new();
        copied.push_series([("__name__", "up"), ("job", "a")]);
        let mut text = b"xyz".to_vec();
        text.extend_from_slice(copied.labels(0).0);
        let end = text.len();
        let mut borrowed = WriteBatch::new();
        borrowed.push_encoded_series(3, EncodedLabels(&text[3..end]));
        borrowed.set_body(text);
        assert_eq!(borrowed.hash(0), copied.hash(0));
        assert_eq!(borrowed.labels(0), copied.labels(0));
        assert!((0..7).contains(&borrowed.hash(0).partition(7)));
    }
}
