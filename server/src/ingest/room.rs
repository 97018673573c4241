//! Room for what a request becomes as it is read: a few bytes may be a series, a histogram or an exemplar, each of
//! which takes many times as many.

use std::ops::Range;

use engine::model::{Error, Reservation};
use proto::write::{Exemplar, Histogram, LabelPairs, LabelRun, Metadata, Sample, Sink, Unresolved};

/// Bytes that are accounted for at a time.
const STEP_BYTES: usize = 64 << 10;

/// Bytes of a series, a sample, an exemplar and what is said of a metric beside text, in lists that have grown to twice
/// of what they hold.
const SERIES_BYTES: usize = 96;
const SAMPLE_BYTES: usize = 48;
const EXEMPLAR_BYTES: usize = 64;
const METADATA_BYTES: usize = 96;

/// Bytes of a histogram beside its spans and buckets.
const HISTOGRAM_BYTES: usize = 384;

/// That there is no room.
#[derive(Clone, Debug)]
pub struct NoRoom {
    /// Bytes that would have been held.
    pub bytes: u64,
    /// Whose limit it is.
    pub error: Error,
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
    held: Reservation,
    /// Bytes that are taken and not accounted for yet.
    pending: usize,
    refusal: Option<NoRoom>,
}

impl<S> Roomed<S> {
    /// `sink`, whose memory is added to `held`.
    pub fn new((sink, keeps): (S, Keeps), held: Reservation) -> Self {
        Self { sink, keeps, held, pending: 0, refusal: None }
    }

    /// The sink to be changed.
    pub fn sink(&mut self) -> &mut S {
        &mut self.sink
    }

    /// The sink with what it holds, if there was room for all.
    pub fn finish(mut self) -> Result<(S, Reservation), NoRoom> {
        self.settle();
        self.refusal.map_or(Ok((self.sink, self.held)), Err)
    }

    #[inline]
    fn add(&mut self, bytes: usize) {
        self.pending += bytes;
        if self.pending >= STEP_BYTES {
            self.settle();
        }
    }

    /// `bytes` of what a series holds, which a sink may pass over.
    #[inline]
    fn of_content(&self, bytes: usize) -> usize {
        if self.keeps == Keeps::All { bytes } else { 0 }
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

impl<'a, S: Sink<'a>> Sink<'a> for Roomed<S> {
    #[inline]
    fn series_field(&mut self, field: Range<usize>) {
        self.sink.series_field(field);
    }

    #[inline]
    fn presumed_labels(&mut self, run: LabelRun<'a>) -> bool {
        let is_taken = self.refusal.is_some() || self.sink.presumed_labels(run);
        self.add(if is_taken { SERIES_BYTES } else { 0 });
        is_taken
    }

    #[inline]
    fn label_run(&mut self, run: LabelRun<'a>) -> bool {
        let is_taken = self.refusal.is_some() || self.sink.label_run(run);
        self.add(if is_taken { SERIES_BYTES } else { 0 });
        is_taken
    }

    fn series(&mut self, labels: &LabelPairs<'a>) {
        self.add(SERIES_BYTES + self.of_content(text_bytes(labels)));
        if self.refusal.is_none() {
            self.sink.series(labels);
        }
    }

    fn unresolved(&mut self, what: Unresolved) {
        self.sink.unresolved(what);
    }

    #[inline]
    fn sample(&mut self, sample: Sample) {
        self.add(self.of_content(SAMPLE_BYTES));
        if self.refusal.is_none() {
            self.sink.sample(sample);
        }
    }

    fn histogram(&mut self, histogram: Histogram) {
        let sides = [&histogram.positive, &histogram.negative];
        let numbers: usize = sides.map(|side| side.spans.len() + side.deltas.len() + side.counts.len()).iter().sum();
        self.add(self.of_content(HISTOGRAM_BYTES + size_of::<f64>() * (numbers + histogram.custom_values.len())));
        if self.refusal.is_none() {
            self.sink.histogram(histogram);
        }
    }

    fn exemplar(&mut self, labels: &LabelPairs<'a>, exemplar: Exemplar) {
        self.add(self.of_content(EXEMPLAR_BYTES + text_bytes(labels)));
        if self.refusal.is_none() {
            self.sink.exemplar(labels, exemplar);
        }
    }

    fn metadata(&mut self, metadata: Metadata<'a>) {
        let texts = [metadata.family, metadata.help, metadata.unit].map(<[u8]>::len);
        self.add(self.of_content(METADATA_BYTES + texts.iter().sum::<usize>()));
        if self.refusal.is_none() {
            self.sink.metadata(metadata);
        }
    }
}

fn text_bytes(labels: &LabelPairs<'_>) -> usize {
    labels.iter().map(|(name, value)| name.len() + value.len()).sum()
}
