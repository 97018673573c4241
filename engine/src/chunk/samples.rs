//! Samples of any kind, decoded and encoded again as Prometheus does when it merges.

use super::native::{Appender, Native, add_starts};
use super::{Encoding, float_histogram, histogram, xor, xor2};
use crate::codec::Corrupt;
use crate::model::{CounterReset, FloatColumns, FloatHistogram, FloatHistogramColumns, Histogram, HistogramColumns};

/// Samples of a chunk that is made of others.
pub const SAMPLES_PER_CHUNK: usize = 120;

/// A value of any kind.
#[derive(Clone, Debug)]
pub enum Value {
    /// A float.
    Float(f64),
    /// An integer native histogram.
    Histogram(Box<Histogram>),
    /// A float native histogram.
    FloatHistogram(Box<FloatHistogram>),
}

impl Value {
    /// The encoding of chunks of such values.
    pub fn encoding(&self) -> Encoding {
        match self {
            Self::Float(_) => Encoding::Xor,
            Self::Histogram(_) => Encoding::Histogram,
            Self::FloatHistogram(_) => Encoding::FloatHistogram,
        }
    }
}

/// Samples of any kinds: columns of one length.
#[derive(Debug, Default)]
pub struct Samples {
    /// Unix milliseconds.
    pub times: Vec<i64>,
    /// Values.
    pub values: Vec<Value>,
    /// Start timestamps in Unix milliseconds, 0 where they are not known; none behind the last that is.
    pub starts: Vec<i64>,
}

impl Samples {
    /// The samples of `columns`.
    pub fn of_floats(columns: FloatColumns) -> Self {
        let mut samples = Self::default();
        samples.extend(columns.timestamps, columns.values, Value::Float);
        samples
    }

    /// The values, which are all floats.
    pub fn into_floats(self) -> impl Iterator<Item = f64> {
        self.values.into_iter().map(|value| match value {
            Value::Float(value) => value,
            Value::Histogram(_) | Value::FloatHistogram(_) => f64::NAN,
        })
    }

    /// The start timestamp and the time of sample number `at`.
    pub fn times_of(&self, at: usize) -> (i64, i64) {
        (self.starts.get(at).copied().unwrap_or(0), self.times[at])
    }

    /// Appends the samples of a chunk.
    pub fn decode(&mut self, encoding: Encoding, data: &[u8]) -> Result<(), Corrupt> {
        match encoding {
            Encoding::Xor => {
                let mut columns = FloatColumns::default();
                xor::decode(data, &mut columns)?;
                self.extend(columns.timestamps, columns.values, Value::Float);
            }
            Encoding::Xor2 => {
                let mut columns = FloatColumns::default();
                self.starts.resize(self.times.len(), 0);
                xor2::decode(data, &mut columns, &mut self.starts)?;
                self.extend(columns.timestamps, columns.values, Value::Float);
            }
            Encoding::Histogram | Encoding::HistogramSt => {
                let mut columns = HistogramColumns::default();
                if encoding == Encoding::Histogram {
                    histogram::decode(data, &mut columns)?;
                } else {
                    self.starts.resize(self.times.len(), 0);
                    histogram::decode_with_starts(data, &mut columns, &mut self.starts)?;
                }
                self.extend(columns.timestamps, columns.values, |value| Value::Histogram(Box::new(value)));
            }
            Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
                let mut columns = FloatHistogramColumns::default();
                if encoding == Encoding::FloatHistogram {
                    float_histogram::decode(data, &mut columns)?;
                } else {
                    self.starts.resize(self.times.len(), 0);
                    float_histogram::decode_with_starts(data, &mut columns, &mut self.starts)?;
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
pub trait ChunkSink {
    /// Takes a chunk of `samples` samples, its first and last time first.
    fn chunk(&mut self, times: (i64, i64), chunk: (Encoding, &[u8]), samples: u16);
}

/// The chunk that is open.
enum Open {
    None,
    Floats(FloatColumns),
    Histograms(Appender<Histogram>),
    FloatHistograms(Appender<FloatHistogram>),
}

/// Samples to chunks of at most [`SAMPLES_PER_CHUNK`], a new one where the kind of sample changes, where
/// start timestamps begin, and where a histogram cannot follow the one before it. Where start timestamps end a chunk
/// goes on, as that of floats does in Prometheus; it cuts those of histograms, sample by sample where replicas with
/// and without them alternate.
pub struct Encoder {
    open: Open,
    min_time: i64,
    max_time: i64,
    /// Samples of the chunk.
    count: usize,
    samples_max: usize,
    /// Whether the chunk is of an encoding with start timestamps, and those of its samples.
    has_starts: bool,
    starts: Vec<i64>,
    /// What the first chunk of histograms says of a reset before it.
    first_reset: CounterReset,
    data: Vec<u8>,
}

impl Encoder {
    /// An encoder whose chunks have at most `samples_max` samples.
    pub fn new(samples_max: usize) -> Self {
        Self {
            open: Open::None,
            min_time: 0,
            max_time: 0,
            count: 0,
            samples_max,
            has_starts: false,
            starts: Vec::new(),
            first_reset: CounterReset::Unknown,
            data: Vec::new(),
        }
    }

    /// The same encoder, whose chunks of histograms say that there is no reset before them.
    pub fn without_reset(self) -> Self {
        Self { first_reset: CounterReset::No, ..self }
    }

    /// Appends a sample, later than all before it, of this start timestamp, 0 for none, and time.
    pub fn push(&mut self, (start, time): (i64, i64), value: &Value, sink: &mut impl ChunkSink) {
        let has_start = start != 0;
        let fits = matches!(
            (&self.open, value),
            (Open::Floats(_), Value::Float(_))
                | (Open::Histograms(_), Value::Histogram(_))
                | (Open::FloatHistograms(_), Value::FloatHistogram(_))
        );
        if !fits || self.count >= self.samples_max || has_start && !self.has_starts {
            self.finish(sink);
            self.open = match value {
                Value::Float(_) => Open::Floats(FloatColumns::default()),
                Value::Histogram(_) => Open::Histograms(Appender::with_reset(self.first_reset)),
                Value::FloatHistogram(_) => Open::FloatHistograms(Appender::with_reset(self.first_reset)),
            };
            (self.min_time, self.has_starts) = (time, has_start);
        }
        match (&mut self.open, value) {
            (Open::Floats(columns), Value::Float(value)) => columns.push(time, *value),
            (Open::Histograms(appender), Value::Histogram(value)) => {
                if let Some(finished) = appender.append(time, value) {
                    self.give_histograms::<Histogram>(&finished, sink);
                    self.min_time = time;
                }
            }
            (Open::FloatHistograms(appender), Value::FloatHistogram(value)) => {
                if let Some(finished) = appender.append(time, value) {
                    self.give_histograms::<FloatHistogram>(&finished, sink);
                    self.min_time = time;
                }
            }
            _ => unreachable!("the open chunk was chosen by the value"),
        }
        if self.has_starts {
            self.starts.push(start);
        }
        self.max_time = time;
        self.count += 1;
    }

    /// Ends the open chunk.
    pub fn finish(&mut self, sink: &mut impl ChunkSink) {
        match std::mem::replace(&mut self.open, Open::None) {
            Open::None => {}
            Open::Floats(FloatColumns { timestamps, values }) => {
                let mut data = std::mem::take(&mut self.data);
                data.clear();
                let encoding = if self.has_starts {
                    xor2::encode(&timestamps, &values, &self.starts, &mut data);
                    Encoding::Xor2
                } else {
                    xor::encode(&timestamps, &values, &mut data);
                    Encoding::Xor
                };
                self.give((encoding, &data), sink);
                self.data = data;
            }
            Open::Histograms(appender) => self.give_histograms::<Histogram>(appender.data(), sink),
            Open::FloatHistograms(appender) => self.give_histograms::<FloatHistogram>(appender.data(), sink),
        }
    }

    /// Gives `sink` a chunk of histograms, with its start timestamps where it has them.
    fn give_histograms<N: Encoded>(&mut self, data: &[u8], sink: &mut impl ChunkSink) {
        if !self.has_starts {
            return self.give((N::ENCODING, data), sink);
        }
        let mut with_starts = Vec::new();
        add_starts::<N>(data, &self.starts, &mut with_starts);
        self.give((N::ENCODING_WITH_STARTS, &with_starts), sink);
    }

    fn give(&mut self, chunk: (Encoding, &[u8]), sink: &mut impl ChunkSink) {
        sink.chunk((self.min_time, self.max_time), chunk, self.count as u16);
        self.count = 0;
        self.starts.clear();
    }
}

/// A kind of histograms and its encodings.
trait Encoded: Native {
    const ENCODING: Encoding;
    const ENCODING_WITH_STARTS: Encoding;
}

impl Encoded for Histogram {
    const ENCODING: Encoding = Encoding::Histogram;
    const ENCODING_WITH_STARTS: Encoding = Encoding::HistogramSt;
}

impl Encoded for FloatHistogram {
    const ENCODING: Encoding = Encoding::FloatHistogram;
    const ENCODING_WITH_STARTS: Encoding = Encoding::FloatHistogramSt;
}
