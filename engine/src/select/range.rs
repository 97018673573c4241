//! One range of an answer: prepared from the blocks' indexes, then encoded from its chunks' bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::block::{CHUNK_BYTES_GUESS, ChunkPlace, ChunkScratch, ChunkSource, Detail, OpenedBlock, SeriesBatch};
use crate::bucket::plan::{LOCAL_GAP_BYTES_MAX, Place, REMOTE_GAP_BYTES_MAX, Range, ReadPlan, Wanted, coalesce};
use crate::index::SeriesLabels;
use crate::index::pages::PagesRead;
use crate::io::{self, BlockIo, Read};
use crate::model::{BlockId, Error, ErrorKind, Reservation};

use super::chunks::{RECORD_BYTES_MAX, Record, record_len};
use super::merge::{Merged, merge};
use super::plan::{Failure, Naming, Plan, Position, Source};
use super::series::{self, RangeSeries};
use super::sink::{ChunkSet, SeriesSink};
use super::stats::Stats;

/// Chunk bytes after which a range is ended early and taken up again from there, where they are local.
const BYTES_MAX: u64 = io::WINDOW_BYTES as u64;

/// Bytes of labels and chunk places that a range is admitted with; what is more is accounted for as it is
/// looked up.
const LOOKED_UP_BYTES_ADMITTED: u64 = 1 << 20;

/// Bytes of labels and chunk places that are accounted for at once.
const LOOKED_UP_BYTES_STEP: u64 = 256 << 10;

/// Series that are looked up between two looks at whether somebody waits for them.
const SERIES_UNWATCHED: usize = 1024;

/// Bytes that a series takes of a frame besides its labels and chunks.
const SERIES_FRAME_BYTES: usize = 64;

/// Blocks of a plan whose labels stay decoded from range to range; more share their buffers.
const LABEL_BUFFERS: usize = 4;

/// Bytes of the places at which what is left of a range is cut, at most.
const POSITIONS_BYTES_MAX: usize = 1 << 20;

/// Bytes that an allocation takes besides its content, about.
const ALLOCATION_BYTES: usize = 16;

/// Bytes of lists of chunks that a range is admitted with.
const LISTS_BYTES_ADMITTED: u64 = 1 << 20;

/// Lists of the chunks of one series: those that were read and what a sink makes of them, each beside the one that it
/// grows out of.
const LISTS_PER_SERIES: usize = 4;

/// How many times the bytes of the chunks a read plan may have.
const WASTE_FACTOR_MAX: u64 = 4;

/// Bytes that whoever fetches reads at once, unless it is told otherwise: what lies closer together comes in one
/// request when it is asked for as one range.
const PAGE_BYTES: u64 = 65_000;

/// Longest record that is believed by what was kept of it: what claims more is fetched anew first.
const KEPT_RECORD_BYTES_MAX: u64 = 1 << 20;

/// Times that chunks of a range are fetched again, at most: anew where they came damaged, then in their own length, and
/// once more either way.
const ROUNDS_MAX: u32 = 4;

/// Bytes that are held for each byte that a chunk turns out longer: as it is fetched, and for its frame.
const HELD_PER_BYTE: u64 = 3;

/// A range whose series are known and whose chunks are not read yet.
#[derive(Debug)]
pub struct Prepared {
    pub(super) runs: Vec<SeriesBatch>,
    pub(super) merged: Merged,
    /// Of each run the places of its series; none unless they are needed again.
    pub(super) places: Vec<Vec<u32>>,
    /// Series of `merged` that belong to this range.
    pub(super) series: usize,
    /// Chunks of the one of these that has most.
    chunks_max: usize,
    files: Vec<FilePlace>,
    pub(super) wanted: Vec<Wanted>,
    read: ReadPlan,
    fetched: Vec<Fetched>,
    /// Wanted chunks that came damaged from where the caller fetched them and are fetched anew, once, each
    /// with the moment of its range; ascending.
    damaged: Vec<(usize, u64)>,
    /// Wanted chunks whose length can't be paid for, and why; ascending.
    unpaid: Vec<(usize, Error)>,
    /// How often chunks were fetched again.
    rounds: u32,
    output: Output,
    /// Memory that labels and chunk places are accounted for with.
    _held: Reservation,
}

/// A wanted chunk, or why it isn't there.
pub(super) type RecordResult<'a> = Result<Record<'a>, Error>;

/// The wanted chunks of a range, as far as they came.
enum Checked<'a> {
    /// All there is to come.
    Enough(Vec<RecordResult<'a>>),
    /// Some are to be fetched again.
    Again {
        /// Those for which the index guessed too short, by their place, and the lengths that they need.
        short: Vec<(usize, u64)>,
        /// Those that came damaged, by their place.
        damaged: Vec<usize>,
    },
}

/// Where the bytes of a segment come from.
enum Origin<'p> {
    /// A local file.
    File(Result<Arc<io::File>, Error>),
    /// A local file of which all that is wanted was copied, as not all files may be open at once.
    Copied,
    /// Memory.
    Memory(&'p [u8]),
    /// Whoever runs the plan.
    Fetched,
}

/// The bytes of a range of a file that was copied, or why they are not there.
type Copied = Result<Vec<u8>, Error>;

/// A segment of a source's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FilePlace {
    source: u32,
    segment: u32,
}

/// What a range has by now, and when that is enough.
struct Enough {
    bytes: u64,
    bytes_max: u64,
    /// Blocks whose chunks are in local files: each has a file at least.
    files: usize,
    files_max: usize,
    /// Of each source the number of the range that it was counted in last.
    counted: Vec<u32>,
    number: u32,
}

impl Enough {
    fn new(plan: &Plan) -> Self {
        let (bytes_max, files_max) = (plan.bytes_max(BYTES_MAX), plan.files_max);
        Self { bytes: 0, bytes_max, files: 0, files_max, counted: vec![0; plan.sources.len()], number: 1 }
    }

    /// Counts the files of a source, once in a range.
    #[inline]
    fn add_run(&mut self, plan: &Plan, run: u32) {
        let counted = &mut self.counted[run as usize];
        if *counted != self.number {
            *counted = self.number;
            let is_local = matches!(plan.sources[run as usize].block.chunks(), ChunkSource::Local(_));
            self.files += usize::from(is_local);
        }
    }

    fn is_reached(&self) -> bool {
        self.bytes >= self.bytes_max || self.files >= self.files_max
    }

    /// Another range begins.
    fn begin(&mut self) {
        (self.bytes, self.files, self.number) = (0, 0, self.number + 1);
    }
}

/// The files of a range, numbered as they come.
struct FileNumbers {
    files: Vec<FilePlace>,
    /// Of each source the number of the file that was asked for last; [`u32::MAX`] before the first.
    latest: Vec<u32>,
}

impl FileNumbers {
    /// The number of the file at `place`.
    fn of(&mut self, place: FilePlace) -> u32 {
        let latest = &mut self.latest[place.source as usize];
        let known = match self.files.get(*latest as usize) {
            Some(file) if *file == place => return *latest,
            // The source has other files.
            Some(_) => self.files.iter().rposition(|file| *file == place),
            None => None,
        };
        *latest = known.unwrap_or(self.files.len()) as u32;
        if known.is_none() {
            self.files.push(place);
        }
        *latest
    }
}

/// Bytes that the caller must fetch, as they aren't local.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteRange {
    /// The block.
    pub block: BlockId,
    /// Number of the segment, from 0.
    pub segment: u32,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
    /// Whether bytes that were kept will do.
    pub freshness: Freshness,
}

/// Where bytes that are fetched may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freshness {
    /// From wherever they are kept.
    Kept,
    /// From the bucket, or what was fetched of it since: what was kept at this [`Fetched::moment`], or came
    /// before, is damaged.
    After(u64),
}

/// A range that the caller fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its bytes, or why they aren't there.
    pub bytes: Result<Bytes, Error>,
    /// Bytes that came from the bucket: not those that were cached, but what was read around them.
    pub downloaded_bytes: u64,
    /// Requests that the bucket was sent; those of ranges that were read together are the first one's.
    pub downloads: u64,
    /// When that began, in a count of whoever fetches.
    pub moment: u64,
}

/// What became of a range besides its frames.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Series that went to the sink.
    pub series: u64,
    /// Parts of the answer that are missing.
    pub failures: Vec<Failure>,
    /// Where to go on, when the range was ended early: starts of the ranges that the rest is cut into, the last of
    /// which ends where it ends. None has more than a range may, unless there would be very many.
    pub next: Vec<Position>,
    /// What it has touched.
    pub stats: Stats,
}

/// What encoding gave.
pub enum Outcome {
    /// The range is done.
    Done(Box<Output>),
    /// Chunks are longer than the index guessed: fetch again and encode again.
    Fetch(Box<Prepared>),
}

impl Prepared {
    /// Looks up the series from `start` to `end`, of which at most `series_max` are wanted.
    pub fn new(
        plan: &Plan,
        (start, end): (&Position, &Position),
        series_max: u64,
        buffers: &mut LabelBuffers,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        let mut output = Output::default();
        let held = LookedUp { reservation: plan.meter.hold(0)?, bytes: 0 };
        let mut scratch = Scratch { labels: buffers, chunks: ChunkScratch::default(), hashed: Vec::new(), held };
        let mut runs = Vec::with_capacity(plan.sources.len());
        let mut places = Vec::with_capacity(plan.sources.len());
        for source in 0..plan.sources.len() {
            plan.meter.check_wanted()?;
            let (run, own) = scratch.run(plan, (source, start.0[source], end.0[source]), &mut output)?;
            runs.push(run);
            places.push(own);
        }
        output.stats.index_ns = started.elapsed().as_nanos() as u64;
        let merged = merge(&runs, plan.within());
        let mut prepared = Self {
            places: Vec::new(),
            series: 0,
            chunks_max: 0,
            runs,
            merged,
            files: Vec::new(),
            wanted: Vec::new(),
            read: ReadPlan::default(),
            fetched: Vec::new(),
            damaged: Vec::new(),
            unpaid: Vec::new(),
            rounds: 0,
            output,
            _held: scratch.held.reservation,
        };
        prepared.take_series(plan, series_max);
        prepared.output.next = prepared.next_positions(plan, end, &places);
        if plan.naming() == Naming::Places || plan.joins() {
            prepared.places = places;
        }
        plan.meter.answer(prepared.series as u64, prepared.wanted.len() as u64)?;
        prepared.plan_reads(plan);
        plan.meter.read_bytes(prepared.read.bytes)?;
        Ok(prepared)
    }

    /// What the caller must fetch before [`Prepared::encode`]; nothing when all chunks are local.
    pub fn remote_ranges(&self, plan: &Plan) -> Vec<RemoteRange> {
        let mut freshness = vec![Freshness::Kept; self.read.ranges.len()];
        for (at, moment) in &self.damaged {
            let range = &mut freshness[self.read.places[*at].range as usize];
            *range = (*range).max(Freshness::After(*moment));
        }
        let remote = self.read.ranges.iter().zip(freshness).filter(|(range, _)| !self.is_local(plan, range.file));
        remote
            .map(|(range, freshness)| {
                let file = self.files[range.file as usize];
                let block = plan.sources[file.source as usize].block.id();
                RemoteRange { block, segment: file.segment, offset: range.offset, len: range.len, freshness }
            })
            .collect()
    }

    /// Numbers of the ranges that the caller fetches.
    fn remote(&self, plan: &Plan) -> impl Iterator<Item = usize> {
        (0..self.read.ranges.len()).filter(|at| !self.is_local(plan, self.read.ranges[*at].file))
    }

    /// Takes what was fetched in `time`, in the order of [`Prepared::remote_ranges`]. Limit when more came than
    /// may be downloaded: what is read around ranges was not counted before.
    pub fn set_fetched(&mut self, plan: &Plan, fetched: Vec<Fetched>, time: Duration) -> Result<(), Error> {
        let mut downloaded = vec![false; self.read.ranges.len()];
        // Of ranges that came together the first alone tells requests.
        let is_downloaded = |part: &Fetched| part.downloads > 0 || part.downloaded_bytes > 0;
        self.remote(plan).zip(&fetched).for_each(|(at, part)| downloaded[at] = is_downloaded(part));
        self.fetched = fetched;
        let count = self.read.places.iter().filter(|place| downloaded[place.range as usize]).count();
        let planned: u64 = self.remote(plan).map(|at| self.read.ranges[at].len).sum();
        let bytes: u64 = self.fetched.iter().map(|part| part.downloaded_bytes).sum();
        let stats = &mut self.output.stats;
        stats.read_ns += time.as_nanos() as u64;
        stats.chunks_fetched += count as u64;
        stats.chunks_fetched_bytes += bytes;
        stats.chunks_fetches += self.fetched.iter().map(|part| part.downloads).sum::<u64>();
        plan.meter.read_bytes(bytes.saturating_sub(planned))
    }

    /// About how many bytes the range's frames will have.
    pub fn bytes_estimate(&self) -> usize {
        let chunks: u64 = self.wanted.iter().map(|chunk| chunk.len).sum();
        let looked_up: usize = self.runs.iter().map(SeriesBatch::len).sum();
        let labels: usize = self.runs.iter().map(SeriesBatch::text_bytes).sum();
        let labels = labels / looked_up.max(1) * self.series.min(looked_up);
        chunks as usize + labels + self.series * SERIES_FRAME_BYTES + self.wanted.len() * 24
    }

    /// Bytes of lists of chunks that [`Prepared::encode`] makes beyond those that every range is admitted with.
    pub fn lists_bytes(&self) -> u64 {
        let all = self.wanted.len() * (size_of::<Wanted>() + size_of::<Place>() + size_of::<RecordResult<'_>>());
        let of_one = LISTS_PER_SERIES * self.chunks_max * size_of::<ChunkSet<'_>>();
        ((all + of_one) as u64).saturating_sub(LISTS_BYTES_ADMITTED)
    }

    /// Reads what is local, checks all chunks and hands the series to `sink`.
    pub fn encode<S: SeriesSink + ?Sized>(
        mut self,
        plan: &Plan,
        io: &mut dyn BlockIo,
        sink: &mut S,
    ) -> Result<Outcome, Error> {
        let started = Instant::now();
        plan.meter.check_wanted()?;
        let (files, copies) = self.open_local(plan, io);
        let (reads, owners) = self.local_reads(&files);
        let batch = io.read(&reads);
        self.output.stats.read_ns += started.elapsed().as_nanos() as u64;
        let merging = Instant::now();
        let slices = self.slices(&files, (&batch, &owners, &copies));
        let (short, damaged) = match self.records(plan, &files, &slices) {
            Checked::Enough(records) => {
                let mut output = self.output.clone();
                let joined = series::join(&self, plan, &records, &mut output)?;
                sink.range(&mut RangeSeries::new(&self, plan, (&records, &joined), &mut output))?;
                output.stats.merge_ns += merging.elapsed().as_nanos() as u64;
                return Ok(Outcome::Done(Box::new(output)));
            }
            Checked::Again { short, damaged } => (short, damaged),
        };
        self.doubt(plan, &damaged);
        let is_longer = self.lengthen(plan, &short)?;
        self.fetched.clear();
        self.rounds += 1;
        if is_longer {
            self.plan_reads(plan);
        }
        if is_longer || !damaged.is_empty() {
            plan.meter.read_bytes(self.read.bytes)?;
        }
        Ok(Outcome::Fetch(Box::new(self)))
    }

    /// Notes wanted chunks that came damaged, by their place: they are fetched anew.
    fn doubt(&mut self, plan: &Plan, damaged: &[usize]) {
        let mut moments = vec![0; self.read.ranges.len()];
        self.remote(plan).zip(&self.fetched).for_each(|(at, part)| moments[at] = part.moment);
        let with_moment = |at: &usize| (*at, moments[self.read.places[*at].range as usize]);
        self.damaged.extend(damaged.iter().map(with_moment));
        self.damaged.sort_unstable();
    }

    /// Wants chunks in the lengths that they need, and says whether there are such; those that can't be paid for fail
    /// alone.
    fn lengthen(&mut self, plan: &Plan, short: &[(usize, u64)]) -> Result<bool, Error> {
        let (mut room, mut bytes) = (plan.meter.hold(0)?, self.read.bytes);
        let mut is_longer = false;
        for (at, len) in short {
            let chunk = &mut self.wanted[*at];
            let more = *len - chunk.len;
            match plan.meter.check_bytes(bytes + more).and_then(|()| room.grow(HELD_PER_BYTE * more)) {
                Ok(()) => {
                    chunk.len = *len;
                    bytes += more;
                    is_longer = true;
                }
                Err(error) => {
                    let segment = self.files[chunk.file as usize].segment + 1;
                    let place = format!("chunks/{segment:06}: chunk segment at byte {}", chunk.offset);
                    let message = format!("{place}: chunk of {len} bytes can't be read: {error}");
                    self.unpaid.push((*at, Error::new(ErrorKind::Unavailable, message)));
                }
            }
        }
        self.unpaid.sort_by_key(|(at, _)| *at);
        Ok(is_longer)
    }

    /// Takes series until there are enough of them, of their chunks' bytes, or of the files that these are in.
    fn take_series(&mut self, plan: &Plan, series_max: u64) {
        if plan.request.detail == Detail::Chunks {
            self.wanted.reserve(self.runs.iter().map(SeriesBatch::chunk_count).sum());
        }
        let mut enough = Enough::new(plan);
        let mut files = FileNumbers { files: Vec::new(), latest: vec![u32::MAX; self.runs.len()] };
        while self.series < self.merged.len() && (self.series as u64) < series_max && !enough.is_reached() {
            let before = self.wanted.len();
            for entry in self.merged.group(self.series) {
                if plan.request.detail == Detail::Labels {
                    break;
                }
                enough.add_run(plan, entry.run);
                for chunk in self.runs[entry.run as usize].chunks(entry.at as usize) {
                    let file = files.of(FilePlace { source: entry.run, segment: chunk.segment });
                    let len = u64::from(chunk.len);
                    self.wanted.push(Wanted { file, offset: u64::from(chunk.offset), len });
                    enough.bytes += len;
                }
            }
            self.series += 1;
            self.chunks_max = self.chunks_max.max(self.wanted.len() - before);
        }
        self.files = files.files;
    }

    /// Where the ranges must start that what was not taken is cut into: at the first series of each run from there on.
    /// Were it one range, everything in it would be looked up again for each part that is taken of it.
    fn next_positions(&self, plan: &Plan, end: &Position, places: &[Vec<u32>]) -> Vec<Position> {
        let starts = self.part_starts(plan);
        let bytes = size_of::<Position>() + ALLOCATION_BYTES + size_of_val(&*end.0);
        let step = starts.len().div_ceil((POSITIONS_BYTES_MAX / bytes).max(1)).max(1);
        let mut positions = Vec::with_capacity(starts.len().div_ceil(step));
        let (mut next, mut until) = (end.clone(), self.merged.len());
        let starts: Vec<usize> = starts.into_iter().step_by(step).collect();
        for start in starts.into_iter().rev() {
            for entry in self.merged.entries(start..until).iter().rev() {
                next.0[entry.run as usize] = places[entry.run as usize][entry.at as usize];
            }
            until = start;
            positions.push(next.clone());
        }
        positions.reverse();
        positions
    }

    /// Numbers of the series that begin a part of what was not taken: there is enough before each for a range.
    fn part_starts(&self, plan: &Plan) -> Vec<usize> {
        let mut starts = Vec::new();
        let mut enough = Enough::new(plan);
        for series in self.series..self.merged.len() {
            if starts.is_empty() || enough.is_reached() {
                starts.push(series);
                enough.begin();
            }
            for entry in self.merged.group(series) {
                enough.add_run(plan, entry.run);
                let chunks = self.runs[entry.run as usize].chunks(entry.at as usize);
                enough.bytes += chunks.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>();
            }
        }
        starts
    }

    fn plan_reads(&mut self, plan: &Plan) {
        self.read = read_plan(&self.wanted, |file| self.is_local(plan, file));
        // What is not local is counted when it was fetched.
        let files: Vec<&Range> = self.read.ranges.iter().filter(|range| self.is_file(plan, range.file)).collect();
        let (bytes, fetches) = (files.iter().map(|range| range.len).sum::<u64>(), files.len() as u64);
        let chunks = self.wanted.iter().filter(|chunk| self.is_file(plan, chunk.file)).count() as u64;
        let stats = &mut self.output.stats;
        stats.chunks_fetched += chunks;
        stats.chunks_fetched_bytes += bytes;
        stats.chunks_fetches += fetches;
    }

    fn block<'p>(&self, plan: &'p Plan, file: u32) -> &'p OpenedBlock {
        &plan.sources[self.files[file as usize].source as usize].block
    }

    fn is_local(&self, plan: &Plan, file: u32) -> bool {
        !matches!(self.block(plan, file).chunks(), ChunkSource::Remote(_))
    }

    fn is_file(&self, plan: &Plan, file: u32) -> bool {
        matches!(self.block(plan, file).chunks(), ChunkSource::Local(_))
    }

    /// Where the bytes of each of `files` come from. Of one series in more local files than may be open at once these
    /// are opened and read in groups: then what is wanted of each, in the order of the ranges, comes besides.
    fn open_local<'p>(&self, plan: &'p Plan, io: &mut dyn BlockIo) -> (Vec<Origin<'p>>, Vec<Copied>) {
        let count = self.files.len() as u32;
        if (0..count).filter(|file| self.is_file(plan, *file)).count() <= plan.files_max {
            return ((0..count).map(|file| self.open(plan, file)).collect(), Vec::new());
        }
        let (mut origins, mut copies) = (Vec::with_capacity(self.files.len()), Vec::new());
        // Something is wanted of every file, and ranges come file by file.
        let by_file: Vec<&[Range]> = self.read.ranges.chunk_by(|left, right| left.file == right.file).collect();
        for group in by_file.chunks(plan.files_max.max(1)) {
            let opened: Vec<Origin<'p>> = group.iter().map(|ranges| self.open(plan, ranges[0].file)).collect();
            let mut reads = Vec::new();
            for (origin, ranges) in opened.iter().zip(group) {
                if let Origin::File(Ok(file)) = origin {
                    let read = |range: &Range| Read { file, offset: range.offset, len: local_len(range, file) };
                    reads.extend(ranges.iter().map(read));
                }
            }
            copies.extend(copied(&reads, &io.read(&reads)));
            origins.extend(opened.into_iter().map(|origin| match origin {
                Origin::File(Ok(_)) => Origin::Copied,
                other => other,
            }));
        }
        (origins, copies)
    }

    /// Where the bytes of `file` come from.
    fn open<'p>(&self, plan: &'p Plan, file: u32) -> Origin<'p> {
        let segment = self.files[file as usize].segment;
        match self.block(plan, file).chunks() {
            ChunkSource::Local(segments) => Origin::File(segments.file(segment)),
            ChunkSource::Memory(segments) => {
                Origin::Memory(segments.get(segment as usize).map_or(&[], |segment| &segment[..]))
            }
            ChunkSource::Remote(_) => Origin::Fetched,
        }
    }

    /// Reads of the ranges that are local, cut at their files' ends, and which range each is of.
    fn local_reads<'f>(&self, files: &'f [Origin<'_>]) -> (Vec<Read<'f>>, Vec<usize>) {
        let mut reads = Vec::new();
        let mut owners = Vec::new();
        for (at, range) in self.read.ranges.iter().enumerate() {
            if let Origin::File(Ok(file)) = &files[range.file as usize] {
                reads.push(Read { file, offset: range.offset, len: local_len(range, file) });
                owners.push(at);
            }
        }
        (reads, owners)
    }

    /// The bytes of each range, or why they are not there.
    fn slices<'b>(
        &'b self,
        files: &[Origin<'b>],
        (batch, owners, copies): (&io::Batch<'b>, &[usize], &'b [Copied]),
    ) -> Vec<Result<&'b [u8], Error>> {
        let (mut fetched, mut copies) = (self.fetched.iter(), copies.iter());
        let mut local = owners.iter().enumerate().peekable();
        let mut failures = batch.failures.iter().peekable();
        let mut rest = batch.bytes;
        let mut slices = Vec::with_capacity(self.read.ranges.len());
        for (at, range) in self.read.ranges.iter().enumerate() {
            let slice = match &files[range.file as usize] {
                Origin::Fetched => match fetched.next() {
                    Some(Fetched { bytes: Ok(bytes), .. }) => Ok(&bytes[..]),
                    Some(Fetched { bytes: Err(error), .. }) => Err(error.clone()),
                    None => Err(Error::new(ErrorKind::Bug, "a read plan was not fetched whole")),
                },
                Origin::Memory(segment) => {
                    let start = segment.len().min(range.offset as usize);
                    Ok(&segment[start..segment.len().min(start + range.len as usize)])
                }
                Origin::Copied => match copies.next() {
                    Some(Ok(bytes)) => Ok(&bytes[..]),
                    Some(Err(error)) => Err(error.clone()),
                    None => Err(Error::new(ErrorKind::Bug, "a file was not copied whole")),
                },
                Origin::File(Err(error)) => Err(error.clone()),
                Origin::File(Ok(file)) => {
                    let index = local.next_if(|(_, owner)| **owner == at).map_or(0, |(index, _)| index);
                    let (own, behind) = rest.split_at(local_len(range, file));
                    rest = behind;
                    match failures.next_if(|failure| failure.index == index) {
                        Some(failure) => Err(failure.to_error(file)),
                        None => Ok(own),
                    }
                }
            };
            slices.push(slice);
        }
        slices
    }

    /// The checked record of each wanted chunk, or which of them must be fetched again.
    fn records<'b>(&self, plan: &Plan, files: &[Origin<'_>], slices: &[Result<&'b [u8], Error>]) -> Checked<'b> {
        let mut bad = Vec::new();
        let mut records = Vec::with_capacity(self.wanted.len());
        for (at, (wanted, place)) in self.wanted.iter().zip(&self.read.places).enumerate() {
            let record = slices[place.range as usize].clone().and_then(|slice| {
                let bytes = slice.get(place.start as usize..).unwrap_or(&[]);
                Record::decode(bytes, wanted.offset).map_err(|corrupt| {
                    bad.push((at, record_len(bytes).filter(|len| *len > bytes.len() as u64)));
                    let file = self.files[wanted.file as usize];
                    Error::from(corrupt).within(format_args!("chunks/{:06}", file.segment + 1))
                })
            });
            records.push(record);
        }
        let (short, damaged) = self.again(plan, files, &bad);
        if !short.is_empty() || !damaged.is_empty() {
            return Checked::Again { short, damaged };
        }
        for (at, error) in &self.unpaid {
            if records[*at].is_err() {
                records[*at] = Err(error.clone());
            }
        }
        Checked::Enough(records)
    }

    /// Which of the chunks that are `bad` are fetched again, each given with the length that it has by its own word
    /// where not all of that is there: those that are short, with this length, and those that came damaged.
    ///
    /// A length that is more than the index says, or than there is up to the next chunk or the segment's end, is
    /// damage.
    fn again(
        &self,
        plan: &Plan,
        files: &[Origin<'_>],
        bad: &[(usize, Option<u64>)],
    ) -> (Vec<(usize, u64)>, Vec<usize>) {
        let (mut short, mut damaged) = (Vec::new(), Vec::new());
        if bad.is_empty() || self.rounds == ROUNDS_MAX {
            return (short, damaged);
        }
        let mut starts: Vec<(u32, u64)> = self.wanted.iter().map(|chunk| (chunk.file, chunk.offset)).collect();
        starts.sort_unstable();
        for (at, needed) in bad {
            let chunk = self.wanted[*at];
            let origin = &files[chunk.file as usize];
            let is_kept = matches!(origin, Origin::Fetched)
                && self.damaged.binary_search_by_key(at, |(known, _)| *known).is_err();
            let is_guessed = chunk.len == u64::from(CHUNK_BYTES_GUESS)
                && self.unpaid.binary_search_by_key(at, |(known, _)| *known).is_err();
            let end = match starts.get(starts.partition_point(|start| *start <= (chunk.file, chunk.offset))) {
                Some((file, next)) if *file == chunk.file => *next,
                _ => self.segment_end(plan, origin, chunk.file),
            };
            let believed = if is_kept { KEPT_RECORD_BYTES_MAX } else { RECORD_BYTES_MAX };
            let len_max = end.saturating_sub(chunk.offset).min(believed);
            match needed.filter(|needed| is_guessed && *needed > chunk.len && *needed <= len_max) {
                Some(needed) => short.push((*at, needed)),
                None if is_kept => damaged.push(*at),
                None => {}
            }
        }
        (short, damaged)
    }

    /// Where the segment of `file`, which comes from `origin`, ends as far as that is known.
    fn segment_end(&self, plan: &Plan, origin: &Origin<'_>, file: u32) -> u64 {
        let segment = self.files[file as usize].segment as usize;
        match (origin, self.block(plan, file).chunks()) {
            (Origin::File(Ok(file)), _) => file.len(),
            (Origin::Memory(bytes), _) => bytes.len() as u64,
            (Origin::Fetched, ChunkSource::Remote(lengths)) => lengths.get(segment).copied().unwrap_or(u64::MAX),
            _ => u64::MAX,
        }
    }
}

impl Output {
    /// The ranges that are left of the one that ended at `end`, in their order: where each starts and ends.
    pub fn left(&mut self, end: Position) -> impl DoubleEndedIterator<Item = (Position, Position)> {
        let starts = std::mem::take(&mut self.next);
        let ends: Vec<Position> = starts.iter().skip(1).cloned().chain([end]).collect();
        starts.into_iter().zip(ends)
    }

    /// Notes that a block failed; once for each block.
    pub(super) fn fail(&mut self, block: &OpenedBlock, error: Error) {
        if self.failures.iter().all(|known| known.block != block.id()) {
            self.failures.push(Failure { block: block.id(), error: block.place(error) });
        }
    }
}

/// Labels that were decoded, kept from range to range: a buffer for each of the first blocks of a plan.
#[derive(Debug, Default)]
pub struct LabelBuffers([SeriesLabels; LABEL_BUFFERS]);

/// What is used for one source after the other.
struct Scratch<'b> {
    labels: &'b mut LabelBuffers,
    chunks: ChunkScratch,
    hashed: Vec<u8>,
    held: LookedUp,
}

/// What the labels and chunk places of a range hold of the process' memory.
struct LookedUp {
    reservation: Reservation,
    /// Bytes of the sources that are done.
    bytes: u64,
}

impl LookedUp {
    /// Accounts for a source of which `bytes` are looked up by now.
    #[inline]
    fn hold(&mut self, bytes: usize) -> Result<(), Error> {
        let wanted = (self.bytes + bytes as u64).saturating_sub(LOOKED_UP_BYTES_ADMITTED);
        match wanted.checked_sub(self.reservation.bytes()) {
            None | Some(0) => Ok(()),
            Some(more) => self.reservation.grow(more.next_multiple_of(LOOKED_UP_BYTES_STEP)),
        }
    }
}

impl Scratch<'_> {
    /// The series of places `start..end` of a source that have a chunk in the range and belong to
    /// the shard, in their final form; and the place of each. Limit when they are more than there is
    /// memory for; Canceled or Deadline when nobody waits for them any more.
    fn run(
        &mut self,
        plan: &Plan,
        (source, start, end): (usize, u32, u32),
        output: &mut Output,
    ) -> Result<(SeriesBatch, Vec<u32>), Error> {
        let (number, source) = (source, &plan.sources[source]);
        let ordinals = &source.ordinals[start as usize..end as usize];
        let (mut run, mut places) = (SeriesBatch::default(), Vec::new());
        if ordinals.is_empty() {
            return Ok((run, places));
        }
        run.reserve(ordinals.len());
        places.reserve(ordinals.len());
        let before = PagesRead::here();
        let looked_up = if plan.naming() == Naming::Places {
            source.block.visit_chunks(ordinals, plan.request.range, &mut self.chunks, |at, chunks| {
                run.push_chunks(chunks);
                run.finish_series();
                places.push(start + at as u32);
                Ok(())
            })
        } else {
            self.shape(plan, (number, start, ordinals), &mut run, &mut places)
        };
        plan.meter.read_bytes(PagesRead::here().since(before).bytes)?;
        match looked_up {
            Ok(()) => {}
            Err(error) if error.kind().ends_request() => return Err(error),
            Err(error) => {
                output.fail(&source.block, error);
                return Ok((SeriesBatch::default(), Vec::new()));
            }
        }
        self.held.bytes += run.heap_bytes() as u64;
        if plan.naming() == Naming::Labels {
            let touched = (ordinals.len() as u64, run.content_bytes() as u64);
            output.stats.add_series(touched, PagesRead::here().since(before));
        }
        Ok((run, places))
    }

    /// Appends the series `ordinals`, the first of which has the place `start`, to `run`.
    fn shape(
        &mut self,
        plan: &Plan,
        (source, start, ordinals): (usize, u32, &[u32]),
        run: &mut SeriesBatch,
        places: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let (request, hashed, held) = (&plan.request, &mut self.hashed, &mut self.held);
        let labels = &mut self.labels.0[source % LABEL_BUFFERS];
        let Source { block, shape, .. } = &plan.sources[source];
        let mut append = |at: usize, chunks: &[ChunkPlace]| {
            if at.is_multiple_of(SERIES_UNWATCHED) {
                plan.meter.check_wanted()?;
            }
            block.index().labels(ordinals[at], labels)?;
            if request.shard.as_ref().is_some_and(|shard| !shape.is_in(shard, labels, hashed)) {
                return Ok(());
            }
            shape.append(labels, chunks, run);
            held.hold(run.heap_bytes())?;
            places.push(start + at as u32);
            Ok(())
        };
        match request.detail {
            Detail::Labels if block.is_within(request.range) => (0..ordinals.len()).try_for_each(|at| append(at, &[])),
            Detail::Labels => block.visit_chunks(ordinals, request.range, &mut self.chunks, |at, _| append(at, &[])),
            Detail::Chunks => block.visit_chunks(ordinals, request.range, &mut self.chunks, append),
        }
    }
}

/// Ranges that cover `wanted`: the fewest that don't hold much more than what is wanted.
fn read_plan(wanted: &[Wanted], is_local: impl Fn(u32) -> bool) -> ReadPlan {
    let bytes: u64 = wanted.iter().map(|chunk| chunk.len).sum();
    let bytes_max = WASTE_FACTOR_MAX * bytes + BYTES_MAX;
    let with_gap = |gap: u64| coalesce(wanted, |file| if is_local(file) { LOCAL_GAP_BYTES_MAX } else { gap });
    let wide = [REMOTE_GAP_BYTES_MAX, PAGE_BYTES].into_iter().map(with_gap).find(|plan| plan.bytes <= bytes_max);
    wide.unwrap_or_else(|| with_gap(LOCAL_GAP_BYTES_MAX))
}

/// Copies of what came of `reads`.
fn copied(reads: &[Read<'_>], batch: &io::Batch<'_>) -> Vec<Copied> {
    let (mut failures, mut rest) = (batch.failures.iter().peekable(), batch.bytes);
    let copy = |(index, read): (usize, &Read<'_>)| {
        let (own, behind) = rest.split_at(read.len);
        rest = behind;
        match failures.next_if(|failure| failure.index == index) {
            Some(failure) => Err(failure.to_error(read.file)),
            None => Ok(own.to_vec()),
        }
    };
    reads.iter().enumerate().map(copy).collect()
}

/// Bytes of a range that its file has.
fn local_len(range: &Range, file: &io::File) -> usize {
    range.len.min(file.len().saturating_sub(range.offset)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_chunks_are_asked_for_page_by_page_rather_than_with_all_that_lies_between() {
        const GROUP: u64 = 500_000;
        // Groups of four chunks, 30,000 bytes apart.
        let group = |at: u64| (0..4).map(move |chunk| Wanted { file: 0, offset: at + chunk * 30_000, len: 130 });
        let wanted = |groups: u64| (0..groups).flat_map(|number| group(number * GROUP)).collect::<Vec<_>>();
        let far = |wanted: &[Wanted]| read_plan(wanted, |_| false).ranges.len();
        assert_eq!(far(&wanted(2)), 1);
        assert_eq!(far(&wanted(8)), 8);
        assert_eq!(far(&wanted(40)), 160);
        assert_eq!(read_plan(&wanted(2), |_| true).ranges.len(), 8);
    }
}
