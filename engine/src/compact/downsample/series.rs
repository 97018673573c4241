//! Series that are downsampled chunk by chunk: those that are too long for one go, hold more than floats,
//! or are downsampled already. Runs of chunks of one kind are collected, and then become chunks one after
//! the other; each goes on where it was.

use std::ops::Range;

use super::aggregated;
use super::floats;
use super::histograms::Histograms;
use super::{Act, DECODE_CHUNKS};
use crate::block::writer::sample_count;
use crate::chunk::samples::SAMPLES_PER_CHUNK;
use crate::chunk::{Encoding, aggr};
use crate::compact::output::Made;
use crate::compact::workers::{self, Budget};
use crate::model::{Error, ErrorKind, FloatColumns, Resolution};

/// How far a series is.
pub(super) enum Series {
    /// It is raw.
    Raw(Raw),
    /// It is downsampled.
    Aggregated(Aggregated),
}

impl Series {
    /// A series of a block of `resolution`.
    pub(super) fn of(resolution: Resolution) -> Self {
        match resolution {
            Resolution::RAW => Self::Raw(Raw::default()),
            _ => Self::Aggregated(Aggregated::default()),
        }
    }

    /// Goes on with the series, whose chunks lie at `range`, until `budget` is spent; whether there is more
    /// to do.
    pub(super) fn resume(
        &mut self,
        range: Range<usize>,
        act: &mut Act<'_>,
        made: &mut Made,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        match self {
            Self::Raw(raw) => raw.resume(range, act, made, budget),
            Self::Aggregated(aggregated) => aggregated.resume(range, act, made, budget),
        }
    }
}

/// What a chunk holds, as far as it cannot be aggregated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Floats,
    Exponential,
    Custom,
}

/// The samples of a run of chunks of one kind; either floats or histograms.
struct Run {
    kind: Kind,
    floats: FloatColumns,
    /// Where the samples of each chunk of floats end.
    ends: Vec<usize>,
    histograms: Histograms,
}

impl Run {
    fn of(kind: Kind) -> Self {
        Self { kind, floats: FloatColumns::default(), ends: Vec::new(), histograms: Histograms::default() }
    }

    /// Appends a run of the same kind.
    fn append(&mut self, mut other: Self) {
        let start = self.floats.len();
        self.floats.timestamps.append(&mut other.floats.timestamps);
        self.floats.values.append(&mut other.floats.values);
        self.ends.extend(other.ends.iter().map(|end| start + end));
        self.histograms.append(&mut other.histograms);
    }

    /// Whether it holds nothing: a chunk of stale markers alone is of no kind.
    fn is_empty(&self) -> bool {
        self.floats.timestamps.is_empty() && self.histograms.times.is_empty()
    }

    /// Leaves out what no window counts.
    fn clean(&mut self) {
        if !floats::is_clean(&self.floats.timestamps, &self.floats.values) {
            let mut clean = FloatColumns::default();
            let columns = (&self.floats.timestamps[..], &self.floats.values[..]);
            floats::clean(columns, self.ends.iter().copied(), &mut clean);
            self.floats = clean;
        }
    }
}

/// A raw series.
#[derive(Default)]
pub(super) struct Raw {
    /// Chunks that were decoded.
    decoded: usize,
    /// What was decoded and is not written yet.
    run: Option<Run>,
    /// A chunk that was decoded and cannot be aggregated with those before.
    ahead: Option<Run>,
    /// Samples of the run that were written, once the run is complete.
    written: Option<usize>,
}

impl Raw {
    fn resume(
        &mut self,
        range: Range<usize>,
        act: &mut Act<'_>,
        made: &mut Made,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        while !budget.is_spent() {
            if self.written.is_some() {
                self.write(act, made, budget);
            } else if self.decoded < range.len() {
                self.decode(range.start + self.decoded..range.end, act, made, budget)?;
            } else if self.run.is_some() {
                self.complete();
            } else {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Decodes the next chunks, which are the first at `range`: as many as are floats, or one.
    fn decode(
        &mut self,
        range: Range<usize>,
        act: &mut Act<'_>,
        made: &mut Made,
        budget: &mut Budget,
    ) -> Result<(), Error> {
        let (encoding, units) = (act.chunk(range.start).encoding, workers::units(Encoding::Xor));
        if encoding != Encoding::Xor {
            self.decoded += 1;
            let other = self.decode_other(range.start, act, made)?;
            budget.spend(workers::units(encoding));
            match &mut self.run {
                _ if other.is_empty() => {}
                Some(run) if run.kind == other.kind => run.append(other),
                Some(_) => {
                    self.ahead = Some(other);
                    self.complete();
                }
                none => *none = Some(other),
            }
            return Ok(());
        }
        let run = self.run.get_or_insert_with(|| Run::of(Kind::Floats));
        if run.kind != Kind::Floats {
            self.complete();
            return Ok(());
        }
        let len_max = DECODE_CHUNKS.min(budget.count_of(units));
        let len = range.clone().take(len_max).take_while(|at| act.chunk(*at).encoding == Encoding::Xor).count();
        act.decode(range.start..range.start + len, made)?;
        let start = run.floats.len();
        run.floats.timestamps.extend_from_slice(act.batch.timestamps());
        run.floats.values.extend_from_slice(act.batch.values());
        run.ends.extend((0..len).map(|chunk| start + act.batch.range(chunk).end));
        self.decoded += len;
        budget.spend(len * units);
        Ok(())
    }

    /// The samples of a chunk that is not encoded as floats most often are.
    fn decode_other(&self, at: usize, act: &Act<'_>, made: &mut Made) -> Result<Run, Error> {
        let encoding = act.chunk(at).encoding;
        if encoding == Encoding::Aggr {
            return Err(act.place(at, Error::new(ErrorKind::Corrupt, "downsampled data in a raw block")));
        }
        let samples = act.samples(at)?;
        made.stats.samples_decoded += samples.times.len() as u64;
        if encoding == Encoding::Xor2 {
            let mut run = Run::of(Kind::Floats);
            run.floats.timestamps.extend_from_slice(&samples.times);
            run.floats.values.extend(samples.into_floats());
            run.ends.push(run.floats.len());
            return Ok(run);
        }
        let mut run = Run::of(Kind::Exponential);
        run.histograms.extend(samples);
        if run.histograms.values.first().is_some_and(|first| first.uses_custom_buckets()) {
            run.kind = Kind::Custom;
        }
        Ok(run)
    }

    /// The run has all that belongs to it.
    fn complete(&mut self) {
        if let Some(run) = &mut self.run {
            run.clean();
            self.written = Some(0);
        }
    }

    /// Writes the next chunk of a complete run.
    fn write(&mut self, act: &mut Act<'_>, made: &mut Made, budget: &mut Budget) {
        let (Some(run), Some(written)) = (&self.run, self.written) else { return };
        let to = act.resolutions.1.0;
        let next = match run.kind {
            Kind::Floats => act.floats.batch((&run.floats.timestamps, &run.floats.values), written, to, made),
            Kind::Exponential | Kind::Custom => run.histograms.batch(written, to, made),
        };
        let Some(next) = next else {
            (self.run, self.written) = (self.ahead.take(), None);
            return;
        };
        let units = match run.kind {
            Kind::Floats => workers::sample_units(next - written) + workers::units(Encoding::Aggr),
            _ => (next - written) * workers::units(Encoding::FloatHistogram) / SAMPLES_PER_CHUNK,
        };
        budget.spend(units.max(1));
        self.written = Some(next);
    }
}

/// A downsampled series. Old blocks can hold raw chunks among it, which are downsampled to five minutes
/// first, and empty ones, which are left out.
#[derive(Default)]
pub(super) struct Aggregated {
    /// What raw chunks became, one series for each.
    mended: Option<Made>,
    /// Chunks that became others.
    written: usize,
}

impl Aggregated {
    fn resume(
        &mut self,
        range: Range<usize>,
        act: &mut Act<'_>,
        made: &mut Made,
        budget: &mut Budget,
    ) -> Result<bool, Error> {
        if self.mended.is_none() {
            self.mended = Some(mend(range.clone(), act)?);
            for at in range.clone() {
                let chunk = act.chunk(at);
                if chunk.encoding == Encoding::Aggr {
                    made.stats.samples_decoded += u64::from(sample_count(chunk.encoding, chunk.data)?);
                }
            }
        }
        let mut mended = self.mended.as_ref().into_iter().flat_map(Made::series);
        let mut chunks = Vec::new();
        for at in range {
            let chunk = act.chunk(at);
            if chunk.encoding == Encoding::Aggr {
                let parts = aggr::split(chunk.data).map_err(|corrupt| act.place(at, corrupt))?;
                let meta = act.slice.chunks[at].meta;
                chunks.push(aggregated::Chunk { times: (meta.min_time, meta.max_time), place: at, parts });
                continue;
            }
            for (times, data) in mended.next().into_iter().flatten() {
                let parts = aggr::split(data).map_err(|corrupt| act.place(at, corrupt))?;
                chunks.push(aggregated::Chunk { times, place: at, parts });
            }
        }
        let resolutions = (act.resolutions.0.0, act.resolutions.1.0);
        while !budget.is_spent() {
            let next = aggregated::batch(&chunks, self.written, resolutions, made);
            let Some(next) = next.map_err(|(at, corrupt)| act.place(at, corrupt))? else { return Ok(false) };
            budget.spend((next - self.written) * workers::units(Encoding::Aggr));
            self.written = next;
        }
        Ok(true)
    }
}

/// Downsamples the raw chunks at `range` to five minutes, each as a series.
fn mend(range: Range<usize>, act: &mut Act<'_>) -> Result<Made, Error> {
    let mut mended = Made::default();
    let resolutions = act.resolutions;
    act.resolutions.1 = Resolution::FIVE_MINUTES;
    for at in range {
        if act.chunk(at).encoding != Encoding::Aggr {
            Raw::default().resume(at..at + 1, act, &mut mended, &mut Budget::new(usize::MAX))?;
            mended.end_series();
        }
    }
    act.resolutions = resolutions;
    Ok(mended)
}
