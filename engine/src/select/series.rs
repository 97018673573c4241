//! The series of one range, one after the other, with their chunks where these were read.

use std::collections::BTreeMap;

use crate::block::{Detail, LabelView};
use crate::index::SeriesLabels;
use crate::model::{Error, Labels, TimeRange};

use super::chunks::settle;
use super::join::{self, Joined};
use super::merge::Entry;
use super::plan::{Naming, Plan};
use super::range::{Output, Prepared, RecordResult};
use super::sink::ChunkSet;

/// What a sink gets to know of a series.
#[derive(Clone, Copy, Debug)]
pub enum SeriesName<'a> {
    /// Its labels, ascending by name.
    Labels(LabelView<'a>),
    /// Its place in the order of the answer, of a plan that leaves labels out.
    Place(u32),
}

/// The series of one range, in order. Their chunks lie where they are until the sink has taken all.
pub struct RangeSeries<'b> {
    reader: Reader<'b>,
    joined: &'b JoinedSeries<'b>,
    owners: Vec<Entry>,
    output: &'b mut Output,
}

/// Series whose chunks overlapped, by their number in the range: chunks that don't.
pub(super) type JoinedSeries<'b> = BTreeMap<usize, Joined<'b>>;

/// Reads one series of a range after the other.
struct Reader<'b> {
    prepared: &'b Prepared,
    plan: &'b Plan,
    records: &'b [RecordResult<'b>],
    /// Series that were read.
    series: usize,
    /// Their wanted chunks.
    chunks: usize,
}

impl<'b> RangeSeries<'b> {
    /// The series of `prepared`, of which all chunks came as `records`, and [`join`] gave `joined`.
    pub(super) fn new(
        prepared: &'b Prepared,
        plan: &'b Plan,
        (records, joined): (&'b [RecordResult<'b>], &'b JoinedSeries<'b>),
        output: &'b mut Output,
    ) -> Self {
        Self { reader: Reader::new(prepared, plan, records), joined, owners: Vec::new(), output }
    }

    /// The next series, and its chunks, ascending by time, in the place of what `sets` held; `None` behind
    /// the last.
    #[inline]
    pub fn next(&mut self, sets: &mut Vec<ChunkSet<'b>>) -> Option<SeriesName<'b>> {
        loop {
            let number = self.reader.series;
            let first = self.reader.next((&mut *sets, &mut self.owners), self.output)?;
            if let Some(joined) = self.joined.get(&number) {
                joined.sets(self.reader.plan.request.range, sets);
            }
            settle(sets);
            if sets.is_empty() && self.reader.plan.request.detail == Detail::Chunks {
                continue;
            }
            self.output.series += 1;
            self.output.stats.merged_series += 1;
            self.output.stats.merged_chunks += sets.len() as u64;
            return Some(self.reader.name(first));
        }
    }
}

/// Of the series that come from several blocks of a TSDB, those with chunks that overlap: made into chunks
/// that don't. Limit when there is no memory for their samples.
pub(super) fn join<'b>(
    prepared: &'b Prepared,
    plan: &'b Plan,
    records: &'b [RecordResult<'b>],
    output: &mut Output,
) -> Result<JoinedSeries<'b>, Error> {
    let mut all = JoinedSeries::new();
    if !plan.joins() || plan.request.detail != Detail::Chunks {
        return Ok(all);
    }
    let mut reader = Reader::new(prepared, plan, records);
    let (mut sets, mut owners) = (Vec::new(), Vec::new());
    // What is touched counts when the series are taken.
    let mut seen = output.clone();
    while reader.series < prepared.series {
        let entries = prepared.merged.group(reader.series);
        let chunks = entries.iter().flat_map(|Entry { run, at }| {
            let tsdb = plan.sources[*run as usize].tsdb;
            let places = prepared.runs[*run as usize].chunks(*at as usize);
            places.iter().map(move |place| (tsdb, *run, TimeRange::new(place.min_time, place.max_time)))
        });
        if !join::may_overlap(chunks.clone()) {
            reader.series += 1;
            reader.chunks += chunks.count();
            continue;
        }
        reader.next((&mut sets, &mut owners), &mut seen);
        all.insert(reader.series - 1, join_series(prepared, plan, (&sets, &owners), &mut seen)?);
    }
    output.failures = seen.failures;
    Ok(all)
}

/// The chunks `sets` of one series of the answer, each of one of `owners`, with those made into one that are of
/// the same series of a TSDB and overlap.
fn join_series<'b>(
    prepared: &Prepared,
    plan: &Plan,
    (sets, owners): (&[ChunkSet<'b>], &[Entry]),
    output: &mut Output,
) -> Result<Joined<'b>, Error> {
    // Series that dropped labels told apart stay apart.
    let mut series: BTreeMap<(u32, Labels), Vec<usize>> = BTreeMap::new();
    let mut joined = Joined::default();
    let mut labels = SeriesLabels::default();
    for (at, owner) in owners.iter().enumerate() {
        let source = &plan.sources[owner.run as usize];
        let Some(tsdb) = source.tsdb else {
            joined.pass(sets[at]);
            continue;
        };
        let place = prepared.places[owner.run as usize][owner.at as usize];
        source.block.index().labels(source.ordinals[place as usize], &mut labels)?;
        series.entry((tsdb, Labels::from_sorted(labels.iter()))).or_default().push(at);
    }
    for members in series.into_values() {
        let mut own: Vec<ChunkSet<'_>> = members.iter().map(|at| sets[*at]).collect();
        settle(&mut own);
        if let Some((chunk, corrupt)) = joined.add(&own, &plan.meter)?
            && let Some(at) = members.iter().find(|at| sets[**at] == chunk)
        {
            output.fail(&plan.sources[owners[*at].run as usize].block, corrupt.into());
        }
    }
    joined.hold_passed(&plan.meter)?;
    Ok(joined)
}

impl<'b> Reader<'b> {
    fn new(prepared: &'b Prepared, plan: &'b Plan, records: &'b [RecordResult<'b>]) -> Self {
        Self { prepared, plan, records, series: 0, chunks: 0 }
    }

    /// The first entry of the next series, if there is one; its chunks, and which entry each is of, take the
    /// place of what `sets` and `owners` held.
    #[inline]
    fn next(
        &mut self,
        (sets, owners): (&mut Vec<ChunkSet<'b>>, &mut Vec<Entry>),
        output: &mut Output,
    ) -> Option<Entry> {
        let Self { prepared, plan, records, series, chunks } = self;
        sets.clear();
        owners.clear();
        if *series == prepared.series {
            return None;
        }
        let entries = prepared.merged.group(*series);
        *series += 1;
        for entry in entries.iter().filter(|_| plan.request.detail == Detail::Chunks) {
            let block = &plan.sources[entry.run as usize].block;
            for chunk in prepared.runs[entry.run as usize].chunks(entry.at as usize) {
                output.stats.chunks_touched += 1;
                output.stats.chunks_touched_bytes += prepared.wanted[*chunks].len;
                let times = (chunk.min_time, chunk.max_time);
                // An aggregate that is wanted and not there fails the block, not those beside it.
                let pushed = match &records[*chunks] {
                    Ok(record) => record.push_set(times, plan.request.aggregates, sets),
                    Err(error) => Err(error.clone()),
                };
                *chunks += 1;
                match pushed {
                    Ok(()) => owners.push(*entry),
                    Err(error) => output.fail(block, error),
                }
            }
        }
        Some(entries[0])
    }

    fn name(&self, Entry { run, at }: Entry) -> SeriesName<'b> {
        let (run, at) = (run as usize, at as usize);
        match self.plan.naming() {
            Naming::Labels => SeriesName::Labels(self.prepared.runs[run].labels(at)),
            Naming::Places => SeriesName::Place(self.prepared.places[run][at]),
        }
    }
}
