//! Samples of any kind, decoded and encoded again as Prometheus does when it merges.

use super::output::Made;
use crate::chunk::native::{Appender, Native};
use crate::chunk::{Encoding, float_histogram, histogram, xor, xor2};
use crate::codec::Corrupt;
use crate::model::{CounterReset, FloatColumns, FloatHistogram, FloatHistogramColumns, Histogram, HistogramColumns};

/// Samples of a chunk that is made of others.
pub(super) const SAMPLES_PER_CHUNK: usize = 120;

/// A value of any kind.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A float.
    Float(f64),
    /// An integer native histogram.
    Histogram(Box<Histogram>),
    /// A float native histogram.
    FloatHistogram(Box<FloatHistogram>),
}

impl Value {
    /// The encoding of chunks of such values.
    pub(super) fn encoding(&self) -> Encoding {
        match self {
            Self::Float(_) => Encoding::Xor,
            Self::Histogram(_) => Encoding::Histogram,
            Self::FloatHistogram(_) => Encoding::FloatHistogram,
        }
    }
}

/// Samples of any kinds: two columns of one length.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// Unix milliseconds.
    pub(super) times: Vec<i64>,
    /// Values.
    pub(super) values: Vec<Value>,
}

impl Samples {
    /// The samples of `columns`.
    pub(super) fn of_floats(columns: FloatColumns) -> Self {
        let mut samples = Self::default();
        samples.extend(columns.timestamps, columns.values, Value::Float);
        samples
    }

    /// The values, which are all floats.
    pub(super) fn into_floats(self) -> impl Iterator<Item = f64> {
        self.values.into_iter().map(|value| match value {
            Value::Float(value) => value,
            Value::Histogram(_) | Value::FloatHistogram(_) => f64::NAN,
        })
    }

    /// Appends the samples of a chunk; start timestamps are dropped.
    pub(super) fn decode(&mut self, encoding: Encoding, data: &[u8]) -> Result<(), Corrupt> {
        match encoding {
            Encoding::Xor => {
                let mut columns = FloatColumns::default();
                xor::decode(data, &mut columns)?;
                self.extend(columns.timestamps, columns.values, Value::Float);
            }
            Encoding::Xor2 => {
                let (mut columns, mut starts) = (FloatColumns::default(), Vec::new());
                xor2::decode(data, &mut columns, &mut starts)?;
                self.extend(columns.timestamps, columns.values, Value::Float);
            }
            Encoding::Histogram | Encoding::HistogramSt => {
                let (mut columns, mut starts) = (HistogramColumns::default(), Vec::new());
                match encoding {
                    Encoding::Histogram => histogram::decode(data, &mut columns)?,
                    _ => drop(histogram::decode_with_starts(data, &mut columns, &mut starts)?),
                }
                self.extend(columns.timestamps, columns.values, |value| Value::Histogram(Box::new(value)));
            }
            Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
                let (mut columns, mut starts) = (FloatHistogramColumns::default(), Vec::new());
                match encoding {
                    Encoding::FloatHistogram => float_histogram::decode(data, &mut columns)?,
                    _ => drop(float_histogram::decode_with_starts(data, &mut columns, &mut starts)?),
                }
                self.extend(columns.timestamps, columns.values, |value| Value::FloatHistogram(Box::new(value)));
            }
            Encoding::Aggr => {
                return Err(Corrupt::new("chunk", 0, "downsampled data among samples"));
            }
        }
        Ok(())
    }

    fn extend<T>(&mut self, times: Vec<i64>, values: Vec<T>, wrap: impl Fn(T) -> Value) {
        self.times.extend(times);
        self.values.extend(values.into_iter().map(wrap));
    }
}

/// Where finished chunks go.
pub(super) trait ChunkSink {
    /// Takes a chunk of `samples` samples, its first and last time first.
    fn chunk(&mut self, times: (i64, i64), chunk: (Encoding, &[u8]), samples: u16);
}

impl ChunkSink for Made {
    fn chunk(&mut self, times: (i64, i64), chunk: (Encoding, &[u8]), samples: u16) {
        self.encode(times, chunk, samples);
    }
}

/// The chunk that is open.
enum Open {
    None,
    Floats(FloatColumns),
    Histograms(Appender<Histogram>),
    FloatHistograms(Appender<FloatHistogram>),
}

/// Samples to chunks of at most [`SAMPLES_PER_CHUNK`], a new one where the kind of sample changes and
/// where a histogram cannot follow the one before it.
pub(super) struct Encoder {
    open: Open,
    min_time: i64,
    max_time: i64,
    /// Samples since the chunk was begun by count or kind.
    count: usize,
    samples_max: usize,
    /// What the first chunk of histograms says of a reset before it.
    first_reset: CounterReset,
    data: Vec<u8>,
}

impl Encoder {
    /// An encoder whose chunks have at most `samples_max` samples.
    pub(super) fn new(samples_max: usize) -> Self {
        let (open, first_reset) = (Open::None, CounterReset::Unknown);
        Self { open, min_time: 0, max_time: 0, count: 0, samples_max, first_reset, data: Vec::new() }
    }

    /// The same encoder, whose chunks of histograms say that there is no reset before them.
    pub(super) fn without_reset(self) -> Self {
        Self { first_reset: CounterReset::No, ..self }
    }

    /// Appends a sample, later than all before it.
    pub(super) fn push(&mut self, time: i64, value: &Value, sink: &mut impl ChunkSink) {
        let fits = matches!(
            (&self.open, value),
            (Open::Floats(_), Value::Float(_))
                | (Open::Histograms(_), Value::Histogram(_))
                | (Open::FloatHistograms(_), Value::FloatHistogram(_))
        );
        if !fits || self.count >= self.samples_max {
            self.finish(sink);
            self.open = match value {
                Value::Float(_) => Open::Floats(FloatColumns::default()),
                Value::Histogram(_) => Open::Histograms(Appender::with_reset(self.first_reset)),
                Value::FloatHistogram(_) => Open::FloatHistograms(Appender::with_reset(self.first_reset)),
            };
            self.min_time = time;
        }
        let times = (self.min_time, self.max_time);
        let cut = match (&mut self.open, value) {
            (Open::Floats(columns), Value::Float(value)) => {
                columns.push(time, *value);
                false
            }
            (Open::Histograms(appender), Value::Histogram(value)) => {
                append(appender, (time, value), (times, Encoding::Histogram), sink)
            }
            (Open::FloatHistograms(appender), Value::FloatHistogram(value)) => {
                append(appender, (time, value), (times, Encoding::FloatHistogram), sink)
            }
            _ => unreachable!("the open chunk was chosen by the value"),
        };
        if cut {
            (self.min_time, self.count) = (time, 0);
        }
        self.max_time = time;
        self.count += 1;
    }

    /// Ends the open chunk.
    pub(super) fn finish(&mut self, sink: &mut impl ChunkSink) {
        let times = (self.min_time, self.max_time);
        match std::mem::replace(&mut self.open, Open::None) {
            Open::None => {}
            Open::Floats(columns) => {
                self.data.clear();
                xor::encode(&columns.timestamps, &columns.values, &mut self.data);
                sink.chunk(times, (Encoding::Xor, &self.data), columns.len() as u16);
            }
            Open::Histograms(appender) => {
                sink.chunk(times, (Encoding::Histogram, appender.data()), appender.len() as u16);
            }
            Open::FloatHistograms(appender) => {
                sink.chunk(times, (Encoding::FloatHistogram, appender.data()), appender.len() as u16);
            }
        }
        self.count = 0;
    }
}

/// Appends a histogram; whether the chunk before it had to end, which then went to `sink`.
fn append<N: Native>(
    appender: &mut Appender<N>,
    (time, value): (i64, &N),
    (times, encoding): ((i64, i64), Encoding),
    sink: &mut impl ChunkSink,
) -> bool {
    let samples = appender.len() as u16;
    match appender.append(time, value) {
        Some(finished) => {
            sink.chunk(times, (encoding, &finished), samples);
            true
        }
        None => false,
    }
}
