//! From a request's bytes to a batch of the engine: labels are checked, series with bad ones left
//! out and counted, and what is good goes to the shards without being copied series by series.

use engine::codec::{EncodedLabels, LabelFault};
use engine::head::{BadLabels, Metadata, MetricKind, Unread, WriteBatch};
use engine::model::histogram::{CounterReset, FloatHistogram, Histogram, Span};
use engine::model::value::is_stale_nan;
use engine::model::{HistogramValue, Reservation};
use proto::write::{self, Count, Exemplar, LabelPairs, LabelRun, Malformed, ResetHint, Sample, Sink, Unresolved};

use super::room::{Keeps, NoRoom, Roomed};

/// Most labels of a series: one with more is no series but an attack or a mistake, and is left out.
pub const LABELS_MAX: usize = 10_000;

/// Bytes of labels that can't be more than [`LABELS_MAX`], as each takes eight at least.
const RUN_BYTES_MAX: usize = 8 * LABELS_MAX;

/// Which of the protocols a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Protocol {
    /// Reads `request` into `sink`.
    pub fn scan<'a>(self, request: &'a [u8], sink: &mut impl Sink<'a>) -> Result<(), Malformed> {
        match self {
            Self::V1 => write::scan_v1(request, sink),
            Self::V2 => write::scan_v2(request, sink),
        }
    }
}

/// What a request holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Series, bad ones among them.
    pub series: u64,
    /// Float samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

impl Counts {
    /// Adds what `other` counts.
    pub fn add(&mut self, other: Self) {
        self.series += other.series;
        self.samples += other.samples;
        self.histograms += other.histograms;
        self.exemplars += other.exemplars;
    }
}

/// A request ready for the engine.
#[derive(Debug, Default)]
pub struct Taken {
    /// The good series.
    pub batch: WriteBatch,
    /// What the request held.
    pub counts: Counts,
    /// What was left out; the heads say more.
    pub bad: BadLabels,
}

impl Taken {
    /// The same; `held` is its memory.
    fn holding(mut self, held: Reservation) -> Self {
        self.batch.hold(held);
        self
    }
}

/// Why a request is not taken.
#[derive(Clone, Debug)]
pub enum Untaken {
    /// It can't be read.
    Malformed(Malformed),
    /// There is no memory for it.
    NoRoom(NoRoom),
}

impl From<Malformed> for Untaken {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl From<NoRoom> for Untaken {
    fn from(error: NoRoom) -> Self {
        Self::NoRoom(error)
    }
}

/// What an intake made, with its memory.
type Filled = Result<(Intake, Reservation), Untaken>;

/// What `scan` makes of an intake whose labels lie at `place`, and its memory, which is added to `held`.
fn fill(place: Place, held: Reservation, scan: impl FnOnce(&mut Roomed<Intake>) -> Result<(), Malformed>) -> Filled {
    let mut intake = Roomed::new((Intake::new(place), Keeps::All), held);
    scan(&mut intake)?;
    Ok(intake.finish()?)
}

/// Takes a whole request of one tenant, whose bytes `held` answers for; it goes with the batch, and grows by what that
/// takes.
pub fn take(protocol: Protocol, request: Vec<u8>, mut held: Reservation) -> Result<Taken, Untaken> {
    let bytes = held.bytes();
    if protocol == Protocol::V1 {
        // Labels lie in the request as the engine wants them: it becomes the batch's body.
        // The heads look into those that they don't know.
        let (Intake { mut taken, met_unplain, .. }, all) =
            fill(Place::InBody, held, |intake| protocol.scan(&request, intake))?;
        if !met_unplain {
            taken.batch.set_body(request);
            return Ok(taken.holding(all));
        }
        held = all;
        held.shrink(held.bytes() - bytes);
    }
    let (intake, mut held) = fill(Place::Copied, held, |intake| protocol.scan(&request, intake))?;
    held.shrink(bytes);
    Ok(intake.taken.holding(held))
}

/// Takes the series of one tenant out of a forwarded request, for a copy of whose bytes `held` answers as in [`take`].
pub fn take_forwarded(series: write::TenantSeries<'_>, held: Reservation) -> Result<Taken, Untaken> {
    let bytes = held.bytes();
    let (Intake { mut taken, met_unplain, .. }, mut held) =
        fill(Place::InBody, held, |intake| series.alone().read(intake))?;
    if !met_unplain {
        taken.batch.set_body(series.bytes().to_vec());
        return Ok(taken.holding(held));
    }
    held.shrink(held.bytes() - bytes);
    let (intake, mut held) = fill(Place::Copied, held, |intake| series.read(intake))?;
    held.shrink(bytes);
    Ok(intake.taken.holding(held))
}

/// Takes a whole request, for which there is room.
#[cfg(test)]
pub fn take_whole(protocol: Protocol, request: Vec<u8>) -> Taken {
    let memory = engine::model::Budget::new("--store.memory-limit", 1 << 30);
    take(protocol, request, memory.reserve(0).unwrap()).unwrap()
}

/// Takes series that the heads gave back as their labels are not in the form in which they may lie in a
/// request; `held` answers for them.
pub fn take_unread(unread: &[Unread], held: Reservation) -> Result<Taken, Malformed> {
    let mut request = Vec::new();
    for series in unread {
        let mut message = series.labels.clone();
        for (time, value) in &series.samples {
            write::put_sample(&mut message, Sample { time: *time, value: *value, start: 0 });
        }
        write::put_message(&mut request, 1, &message);
    }
    let mut intake = Intake::new(Place::Copied);
    write::scan_v1(&request, &mut intake)?;
    Ok(intake.taken.holding(held))
}

/// Where labels of the batch lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the request's own bytes, which become the batch's body.
    InBody,
    /// Copied, series by series.
    Copied,
}

/// Fills a batch.
struct Intake {
    taken: Taken,
    place: Place,
    /// A series came whose labels can't be used where they lie: what was taken is of no use.
    met_unplain: bool,
    /// Whether the current series is left out.
    is_bad: bool,
}

impl Intake {
    fn new(place: Place) -> Self {
        let taken = Taken { batch: WriteBatch::new(), ..Taken::default() };
        Self { taken, place, met_unplain: false, is_bad: false }
    }
}

impl<'a> Sink<'a> for Intake {
    /// The heads look into those that they don't know, and give back what are none.
    #[inline]
    fn presumed_labels(&mut self, run: LabelRun<'a>) -> bool {
        self.label_run(run)
    }

    #[inline]
    fn label_run(&mut self, run: LabelRun<'a>) -> bool {
        let is_taken = self.place == Place::InBody && run.bytes.len() <= RUN_BYTES_MAX;
        if is_taken {
            self.taken.counts.series += 1;
            self.taken.batch.push_encoded_series(run.offset, EncodedLabels(run.bytes));
        }
        is_taken
    }

    fn series(&mut self, labels: &LabelPairs<'a>) {
        self.taken.counts.series += 1;
        if self.place == Place::InBody {
            (self.met_unplain, self.is_bad) = (true, true);
            return;
        }
        self.is_bad = !check_labels(labels, &mut self.taken.bad);
        if !self.is_bad {
            self.taken.batch.push_series(texts(labels));
        }
    }

    fn unresolved(&mut self, what: Unresolved) {
        self.taken.bad.unresolved += 1;
        match what {
            Unresolved::Series => {
                self.taken.counts.series += 1;
                self.is_bad = true;
            }
            Unresolved::Exemplar => self.taken.counts.exemplars += 1,
            Unresolved::Metadata => {}
        }
    }

    #[inline(always)]
    fn sample(&mut self, sample: Sample) {
        self.taken.counts.samples += 1;
        if !self.is_bad {
            self.taken.batch.push_sample(sample.time, sample.value);
            self.taken.batch.push_start(sample.start);
        }
    }

    fn histogram(&mut self, histogram: write::Histogram) {
        self.taken.counts.histograms += 1;
        if !self.is_bad {
            let (time, start) = (histogram.time, histogram.start);
            self.taken.batch.push_histogram(time, start, to_engine(histogram));
        }
    }

    fn exemplar(&mut self, labels: &LabelPairs<'a>, exemplar: Exemplar) {
        self.taken.counts.exemplars += 1;
        let is_text = labels.iter().all(|(name, value)| is_utf8(name) && is_utf8(value));
        if !self.is_bad && is_text {
            // As in Prometheus, a label without a value is none; no log could be read that has one.
            let whole = texts(labels).filter(|(name, value)| !name.is_empty() && !value.is_empty());
            let mut labels: Vec<(&str, &str)> = whole.collect();
            labels.sort_unstable();
            labels.dedup_by(|left, right| left.0 == right.0);
            self.taken.batch.push_exemplar(exemplar.time, exemplar.value, labels);
        }
    }

    fn metadata(&mut self, metadata: write::Metadata<'a>) {
        let texts = [metadata.family, metadata.help, metadata.unit].map(std::str::from_utf8);
        let [Ok(family), Ok(help), Ok(unit)] = texts else { return };
        let kind = MetricKind::from_number(u64::from(metadata.kind));
        let said = Metadata { kind, help, unit };
        if kind == MetricKind::Unknown && help.is_empty() && unit.is_empty() {
            return;
        }
        if !family.is_empty() {
            self.taken.batch.push_family(family, said);
        } else if !self.is_bad && self.taken.batch.series_len() > 0 {
            self.taken.batch.push_metadata(said);
        }
    }
}

fn is_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

/// Labels that were seen to be UTF-8, as text.
fn texts<'a>(labels: &LabelPairs<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    labels.iter().filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?)))
}

/// Whether the labels are those of a series; what is wrong is counted.
fn check_labels(labels: &LabelPairs<'_>, bad: &mut BadLabels) -> bool {
    if labels.len() > LABELS_MAX {
        bad.too_many += 1;
        return false;
    }
    match LabelFault::of(labels.iter().copied()) {
        None => true,
        Some(fault) => {
            bad.count(fault);
            false
        }
    }
}

/// A stale histogram without what else it says: the engine keeps nothing of that, and looks into none of it.
fn stale(found: &write::Histogram) -> write::Histogram {
    let none = |count: Count| match count {
        Count::Float(_) => Count::Float(0.0),
        Count::Integer(_) => Count::Integer(0),
    };
    let (count, zero_count) = (none(found.count), none(found.zero_count));
    write::Histogram { count, zero_count, sum: found.sum, reset: found.reset, ..write::Histogram::default() }
}

/// The engine's form of a histogram. What is inconsistent in it the engine refuses.
fn to_engine(found: write::Histogram) -> HistogramValue {
    let found = if is_stale_nan(found.sum) { stale(&found) } else { found };
    let spans = |spans: Vec<(i32, u32)>| spans.into_iter().map(|(offset, length)| Span { offset, length }).collect();
    let counter_reset = match found.reset {
        ResetHint::Unknown => CounterReset::Unknown,
        ResetHint::Yes => CounterReset::Yes,
        ResetHint::No => CounterReset::No,
        ResetHint::Gauge => CounterReset::Gauge,
    };
    let float = |count: Count| match count {
        Count::Float(count) => count,
        Count::Integer(count) => count as f64,
    };
    let Count::Integer(count) = found.count else {
        return HistogramValue::Float(Box::new(FloatHistogram {
            counter_reset,
            schema: found.schema,
            zero_threshold: found.zero_threshold,
            zero_count: float(found.zero_count),
            count: float(found.count),
            sum: found.sum,
            positive_spans: spans(found.positive.spans),
            negative_spans: spans(found.negative.spans),
            positive_buckets: found.positive.counts,
            negative_buckets: found.negative.counts,
            custom_values: found.custom_values.into(),
        }));
    };
    HistogramValue::Integer(Box::new(Histogram {
        counter_reset,
        schema: found.schema,
        zero_threshold: found.zero_threshold,
        zero_count: match found.zero_count {
            Count::Integer(count) => count,
            Count::Float(count) => count as u64,
        },
        count,
        sum: found.sum,
        positive_spans: spans(found.positive.spans),
        negative_spans: spans(found.negative.spans),
        positive_buckets: found.positive.deltas,
        negative_buckets: found.negative.deltas,
        custom_values: found.custom_values.into(),
    }))
}

#[cfg(test)]
mod odd;

#[cfg(test)]
mod tests {
    use proto::write::{put_double, put_label, put_message, put_sample};

    use super::*;

    fn request(series: &[&[(&str, &str)]]) -> Vec<u8> {
        let mut request = Vec::new();
        for labels in series {
            let mut message = Vec::new();
            labels.iter().for_each(|(name, value)| put_label(&mut message, name.as_bytes(), value.as_bytes()));
            put_sample(&mut message, Sample { time: 5, value: 1.0, start: 0 });
            put_message(&mut request, 1, &message);
        }
        request
    }

    fn no_memory() -> Reservation {
        engine::model::Budget::new("--store.memory-limit", 0).reserve(0).unwrap()
    }

    fn take_copied(request: &[u8]) -> Taken {
        let mut intake = Intake::new(Place::Copied);
        write::scan_v1(request, &mut intake).unwrap();
        intake.taken
    }

    #[test]
    fn series_with_bad_labels_are_left_out_and_counted() {
        let bytes = request(&[
            &[("__name__", "up"), ("job", "a")],
            &[("job", "a"), ("__name__", "up")],
            &[("a", "1"), ("a", "2")],
            &[("a", "")],
            &[],
            &[("__name__", "é")],
        ]);
        let taken = take_copied(&bytes);
        assert_eq!(taken.bad, BadLabels { out_of_order: 1, duplicate: 1, empty: 2, ..BadLabels::default() });
        assert_eq!((taken.counts.series, taken.counts.samples), (6, 6));
        assert_eq!((taken.batch.series_len(), taken.batch.samples_len()), (2, 2));
        let taken = take_whole(Protocol::V1, bytes);
        assert_eq!((taken.batch.series_len(), taken.bad), (6, BadLabels::default()), "the heads will say");
        let mut damaged = request(&[&[("__name__", "up!")]]);
        let at = damaged.iter().position(|byte| *byte == b'!').unwrap();
        damaged[at] = 0xff;
        assert_eq!(take_copied(&damaged).bad.not_utf8, 1);
    }

    #[test]
    fn labels_hash_alike_copied_or_where_they_lie() {
        let long = "x".repeat(200);
        let bytes = request(&[&[("__name__", "up"), ("job", "a")], &[("__name__", &long)]]);
        let (copied, in_body) = (take_copied(&bytes), take_whole(Protocol::V1, bytes));
        assert_eq!((in_body.counts, in_body.batch.series_len()), (copied.counts, 2));
        for series in 0..2 {
            assert_eq!(in_body.batch.labels(series), copied.batch.labels(series));
            assert_eq!(in_body.batch.hash(series), copied.batch.hash(series));
            assert_eq!(in_body.batch.check(series), copied.batch.check(series));
        }
    }

    #[test]
    fn labels_in_an_odd_form_are_copied_wherever_they_come() {
        // A value before its name.
        let odd = [&[0x0a, 6, 0x12, 1, b'b', 0x0a, 1, b'a'][..], &[0x12, 2, 0x10, 5]].concat();
        let plain = request(&[&[("__name__", "up")]]);
        for at in [0, plain.len()] {
            let mut bytes = plain[..at].to_vec();
            put_message(&mut bytes, 1, &odd);
            bytes.extend_from_slice(&plain[at..]);
            let taken = take_whole(Protocol::V1, bytes);
            assert_eq!((taken.batch.series_len(), taken.batch.samples_len()), (2, 2));
            let odd = u32::from(at > 0);
            assert_eq!(taken.batch.labels(odd).pairs().collect::<Vec<_>>(), [("a", "b")]);
            assert_eq!((taken.batch.samples(odd).times, taken.batch.samples(1 - odd).times), (&[5][..], &[5][..]));
        }
    }

    /// What the heads would give back of a request.
    fn unread(request: &[u8]) -> Vec<Unread> {
        let taken = take_whole(Protocol::V1, request.to_vec());
        let one = |series| {
            let (labels, samples) = (taken.batch.labels(series), taken.batch.samples(series));
            let samples = samples.times.iter().copied().zip(samples.values.iter().copied()).collect();
            Unread { labels: labels.0.to_vec(), samples }
        };
        (0..taken.batch.series_len() as u32).map(one).collect()
    }

    #[test]
    fn what_heads_give_back_is_read_as_if_nothing_had_been_presumed() {
        let (mut labels, mut early, mut now) = (Vec::new(), Vec::new(), Vec::new());
        put_label(&mut labels, b"__name__", b"up");
        put_sample(&mut early, Sample { time: 5, value: 1.0, start: 0 });
        put_sample(&mut now, Sample { time: 1_790_000_000_000, value: 2.0, start: 0 });
        let odd_label = &[0x0a, 6, 0x12, 1, b'b', 0x0a, 1, b'a'][..];
        for (series, samples) in [(&[&labels[..], &early, &now][..], 2), (&[odd_label, &now], 1)] {
            let mut bytes = Vec::new();
            put_message(&mut bytes, 1, &series.concat());
            let unread = unread(&bytes);
            assert_ne!(unread[0].labels, take_copied(&bytes).batch.labels(0).0, "nothing was presumed");
            let (again, copied) = (take_unread(&unread, no_memory()).unwrap(), take_copied(&bytes));
            assert_eq!((again.counts, again.bad), (copied.counts, copied.bad));
            assert_eq!(again.counts.samples, samples);
            assert_eq!(again.batch.labels(0), copied.batch.labels(0));
            assert_eq!(again.batch.samples(0).times, copied.batch.samples(0).times);
        }
        let mut bytes = Vec::new();
        put_message(&mut bytes, 1, &[&labels[..], &early, &labels, &now].concat());
        assert!(take_unread(&unread(&bytes), no_memory()).is_err(), "labels behind a sample");
    }

    #[test]
    fn labels_of_an_exemplar_without_a_name_or_a_value_are_none() {
        let all: [&[(&str, &str)]; 4] =
            [&[("trace_id", "")], &[("", "x")], &[("b", "2"), ("a", ""), ("", ""), ("a", "1")], &[]];
        let mut series = Vec::new();
        put_label(&mut series, b"__name__", b"up");
        put_sample(&mut series, Sample { time: 5, value: 1.0, start: 0 });
        for labels in all {
            let mut exemplar = Vec::new();
            labels.iter().for_each(|(name, value)| put_label(&mut exemplar, name.as_bytes(), value.as_bytes()));
            put_double(&mut exemplar, 2, 0.5);
            put_message(&mut series, 3, &exemplar);
        }
        let mut bytes = Vec::new();
        put_message(&mut bytes, 1, &series);
        for taken in [take_copied(&bytes), take_whole(Protocol::V1, bytes.clone())] {
            let labels = taken.batch.exemplars(0).map(|exemplar| exemplar.labels.pairs().collect::<Vec<_>>());
            assert_eq!(labels.collect::<Vec<_>>(), [vec![], vec![], vec![("a", "1"), ("b", "2")], vec![]]);
            assert_eq!(taken.counts.exemplars, 4);
        }
    }

    #[test]
    fn a_million_labels_on_one_series_are_left_out() {
        let names: Vec<String> = (0..1_000_000).map(|at| format!("l{at:07}")).collect();
        let labels: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let taken = take_whole(Protocol::V1, request(&[&labels]));
        assert_eq!((taken.batch.series_len(), taken.bad.too_many), (0, 1));
    }
}
