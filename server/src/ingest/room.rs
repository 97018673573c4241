//! Room for what a request becomes as it is read: a few bytes may be a series, a histogram or an exemplar, each of
//! which takes many times as many.

use std::ops::Range;

use engine::model::{Error, Reservation};
use proto::write::{self, Buckets, Exemplar, Histogram, LabelPairs, LabelRun, Metadata, Sample, Sink, Unresolved};

use super::intake::LABELS_MAX;

const _: () = assert!(write::LABELS_MAX >= LABELS_MAX, "of a series with too many labels so many are told");

/// Bytes that are accounted for at a time.
const STEP_BYTES: usize = 64 << 10;

/// Bytes of a series, a sample, an exemplar and what is said of a metric beside text, in lists that have grown to twice
/// of what they hold.
const SERIES_BYTES: usize = 96;
const SAMPLE_BYTES: usize = 48;
const EXEMPLAR_BYTES: usize = 64;
const METADATA_BYTES: usize = 96;

/// Bytes of a label beside its text, where labels are copied.
const LABEL_BYTES: usize = 8;

/// Bytes of a histogram beside its spans and buckets.
const HISTOGRAM_BYTES: usize = 384;

/// Bytes of a tenant in a forwarded request beside its series: its place in lists, its name, a write under way, or why
/// there is none.
const TENANT_BYTES: usize = 2 << 10;

/// That there is no room.
#[derive(Clone, Debug)]
pub struct NoRoom {
    /// Bytes that would have been held.
    pub bytes: u64,
    /// Whose limit it is.
    pub error: Error,
}

/// Lets `held` grow by what `tenants` take that a forwarded request names.
pub fn hold_tenants(held: &mut Reservation, tenants: usize) -> Result<(), NoRoom> {
    let more = (TENANT_BYTES * tenants) as u64;
    let bytes = held.bytes() + more;
    held.grow(more).map_err(|error| NoRoom { bytes, error })
}

/// Memory of a request that grows in steps as the request is read.
#[derive(Debug)]
pub struct Growing {
    held: Reservation,
    /// Bytes that are taken and not accounted for yet.
    pending: usize,
    refusal: Option<NoRoom>,
}

impl Growing {
    /// `held`, to which more is added.
    pub fn new(held: Reservation) -> Self {
        Self { held, pending: 0, refusal: None }
    }

    /// Adds `bytes`.
    #[inline]
    pub fn add(&mut self, bytes: usize) {
        self.pending += bytes;
        if self.pending >= STEP_BYTES {
            self.settle();
        }
    }

    /// Takes `bytes` that were added away again.
    pub fn remove(&mut self, bytes: usize) {
        let pending = bytes.min(self.pending);
        self.pending -= pending;
        if bytes > pending && self.refusal.is_none() {
            self.held.shrink((bytes - pending) as u64);
        }
    }

    /// Whether there was room for all so far.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.refusal.is_none()
    }

    /// All that is held, if there was room for all; nothing is left.
    pub fn take(&mut self) -> Result<Reservation, NoRoom> {
        self.settle();
        let held = self.held.split(u64::MAX);
        self.refusal.take().map_or(Ok(held), Err)
    }

    #[cold]
    fn settle(&mut self) {
        let more = std::mem::take(&mut self.pending) as u64;
        match &mut self.refusal {
            // How much it would be in all tells whether there ever is room.
            Some(refusal) => refusal.bytes += more,
            None if more == 0 => {}
            None => {
                let bytes = self.held.bytes() + more;
                self.refusal = self.held.grow(more).err().map(|error| NoRoom { bytes, error });
            }
        }
    }
}

/// What a sink keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// All that it is told.
    All,
    /// Where series lie.
    Places,
}

/// A sink that takes nothing any more when there is no room for what it takes.
pub struct Roomed<S> {
    sink: S,
    keeps: Keeps,
    room: Growing,
}

impl<S> Roomed<S> {
    /// `sink`, whose memory is added to `held`.
    pub fn new((sink, keeps): (S, Keeps), held: Reservation) -> Self {
        Self { sink, keeps, room: Growing::new(held) }
    }

    /// The sink to be changed.
    pub fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    /// The sink with what it holds, if there was room for all.
    pub fn finish(mut self) -> Result<(S, Reservation), NoRoom> {
        self.room.take().map(|held| (self.sink, held))
    }

    /// `bytes` of what a series holds, which a sink may pass over.
    #[inline]
    fn of_content(&self, bytes: usize) -> usize {
        if self.keeps == Keeps::All { bytes } else { 0 }
    }
}

impl<'a, S: Sink<'a>> Sink<'a> for Roomed<S> {
    fn take_room(&mut self, bytes: usize) -> bool {
        self.room.add(bytes);
        self.room.has_room()
    }

    fn give_room(&mut self, bytes: usize) {
        self.room.remove(bytes);
    }

    #[inline]
    fn series_field(&mut self, field: Range<usize>) {
        self.sink.series_field(field);
    }

    #[inline]
    fn presumed_labels(&mut self, run: LabelRun<'a>) -> bool {
        let is_taken = !self.room.has_room() || self.sink.presumed_labels(run);
        self.room.add(if is_taken { SERIES_BYTES } else { 0 });
        is_taken
    }

    #[inline]
    fn label_run(&mut self, run: LabelRun<'a>) -> bool {
        let is_taken = !self.room.has_room() || self.sink.label_run(run);
        self.room.add(if is_taken { SERIES_BYTES } else { 0 });
        is_taken
    }

    fn series(&mut self, labels: &LabelPairs<'a>) {
        self.room.add(SERIES_BYTES + self.of_content(labels_bytes(labels)));
        if self.room.has_room() {
            self.sink.series(labels);
        }
    }

    fn unresolved(&mut self, what: Unresolved) {
        self.sink.unresolved(what);
    }

    #[inline]
    fn sample(&mut self, sample: Sample) {
        self.room.add(self.of_content(SAMPLE_BYTES));
        if self.room.has_room() {
            self.sink.sample(sample);
        }
    }

    fn histogram(&mut self, histogram: Histogram) {
        self.room.add(self.of_content(histogram_bytes(&histogram)));
        if self.room.has_room() {
            self.sink.histogram(histogram);
        }
    }

    fn exemplar(&mut self, labels: &LabelPairs<'a>, exemplar: Exemplar) {
        self.room.add(self.of_content(EXEMPLAR_BYTES + labels_bytes(labels)));
        if self.room.has_room() {
            self.sink.exemplar(labels, exemplar);
        }
    }

    fn metadata(&mut self, metadata: Metadata<'a>) {
        let texts = [metadata.family, metadata.help, metadata.unit].map(<[u8]>::len);
        self.room.add(self.of_content(METADATA_BYTES + texts.iter().sum::<usize>()));
        if self.room.has_room() {
            self.sink.metadata(metadata);
        }
    }
}

/// What a histogram takes.
pub fn histogram_bytes(histogram: &Histogram) -> usize {
    let sides = [&histogram.positive, &histogram.negative];
    let room_of = |side: &Buckets| side.spans.capacity() + side.deltas.capacity() + side.counts.capacity();
    let numbers: usize = sides.map(room_of).iter().sum();
    HISTOGRAM_BYTES + size_of::<f64>() * (numbers + histogram.custom_values.capacity())
}

/// What labels take that are copied.
fn labels_bytes(labels: &LabelPairs<'_>) -> usize {
    labels.iter().map(|(name, value)| LABEL_BYTES + name.len() + value.len()).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::model::Budget;
    use proto::write::{put_label, put_message, put_sample};

    use super::*;
    use crate::ingest::intake::{Protocol, Taken, Untaken, take};

    const LIMIT: u64 = 1 << 20;

    fn taken(protocol: Protocol, request: Vec<u8>) -> (Result<Taken, Untaken>, Arc<Budget>) {
        let memory = Budget::new("--store.memory-limit", LIMIT);
        let held = memory.reserve(request.len() as u64).unwrap();
        (take(protocol, request, held), memory)
    }

    /// Bytes that a request would have taken for which there is no room.
    fn wanted((taken, memory): (Result<Taken, Untaken>, Arc<Budget>)) -> u64 {
        assert_eq!(memory.usage().used, 0);
        match taken {
            Err(Untaken::NoRoom(NoRoom { bytes, error })) => {
                assert!(error.message().contains("--store.memory-limit"), "{error}");
                bytes
            }
            other => panic!("{other:?}"),
        }
    }

    /// A request of version 2 with so many symbols, and a series of the first ones.
    fn symbols(count: usize) -> Vec<u8> {
        let (mut series, mut request) = (vec![0x0a, 2, 1, 2], Vec::new());
        put_sample(&mut series, Sample { time: 5, value: 1.0, start: 0 });
        for symbol in ["", "__name__", "up"] {
            put_message(&mut request, 4, symbol.as_bytes());
        }
        request.extend_from_slice(&[0x22_u8, 0].repeat(count - 3));
        put_message(&mut request, 5, &series);
        request
    }

    /// They were listed whether there was room or not.
    #[test]
    fn symbols_are_counted_before_they_are_listed_and_no_more_once_the_request_is_read() {
        assert!(wanted(taken(Protocol::V2, symbols(100_000))) > 1_600_000);
        let (taken, memory) = taken(Protocol::V2, symbols(20_000));
        let taken = taken.unwrap();
        assert_eq!((taken.batch.series_len(), taken.batch.samples_len()), (1, 1));
        let usage = memory.usage();
        assert!(usage.peak > 320_000 && usage.used < 1000, "{usage:?}");
    }

    #[test]
    fn numbers_of_a_large_histogram_are_counted_before_it_is_read() {
        let request = |deltas: usize| {
            let (mut message, mut series, mut request) = (Vec::new(), Vec::new(), Vec::new());
            put_message(&mut message, 12, &vec![0; deltas]);
            put_label(&mut series, b"__name__", b"up");
            put_message(&mut series, 4, &message);
            put_message(&mut request, 1, &series);
            request
        };
        assert!(wanted(taken(Protocol::V1, request(200_000))) > 1_600_000);
        let (taken, memory) = taken(Protocol::V1, request(50_000));
        assert_eq!(taken.unwrap().batch.histograms_len(), 1);
        assert!((450_000..600_000).contains(&memory.usage().peak), "{:?}", memory.usage());
    }

    #[test]
    fn copied_labels_are_counted_with_their_keys_and_lengths() {
        // Values before their names, as no sender writes them.
        let label = |at: usize| [&[0x0a, 9, 0x12, 1, b'v', 0x0a, 4][..], format!("{at:04}").as_bytes()].concat();
        let labels: Vec<u8> = (0..9000).flat_map(label).collect();
        let mut request = Vec::new();
        for _ in 0..8 {
            put_message(&mut request, 1, &labels);
        }
        let body = request.len() as u64;
        assert!(wanted(taken(Protocol::V1, request)) - body > 8 * 9000 * 12, "of which five are text");
    }

    #[test]
    fn tenants_of_a_forwarded_request_are_counted_before_they_are_listed() {
        let memory = Budget::new("--store.memory-limit", LIMIT);
        let mut held = memory.reserve(100).unwrap();
        hold_tenants(&mut held, 100).unwrap();
        assert_eq!(held.bytes(), 100 + 100 * TENANT_BYTES as u64);
        let refused = hold_tenants(&mut held, 200_000).unwrap_err();
        assert!(refused.bytes > LIMIT, "it never fits");
    }
}
