//! Disks that fail, lie and lose the ends of files: requests over local blocks through faulty I/O.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::synthetic::{Model, all_series, counted, large, long_chunk, naive, open, opened, tinted, written};
use super::*;
use crate::block::{CHUNK_BYTES_GUESS, Chosen, ChunkSource, OpenedBlock, Segments};
use crate::chunk::segment;
use crate::index::{HeaderIndex, header};
use crate::io::faulty::{Fault, Faulty};
use crate::model::ErrorKind;
use crate::select::{Failure, Fetched, Freshness, LabelBuffers, Meter, Outcome, Plan, Prepared, RemoteRange, Source};

/// A block whose one segment is a real file, removed at the end.
struct LocalBlock {
    folder: PathBuf,
    block: Arc<OpenedBlock>,
}

impl LocalBlock {
    fn new(name: &str, number: u128, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self::of(name, (number, &large(400)), change)
    }

    fn of(name: &str, (number, model): (u128, &Model), change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let folder = std::env::temp_dir().join(format!("uru-faults-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("chunks")).unwrap();
        let (remote, mut segment) = open(number, model);
        change(&mut segment);
        let path = folder.join("chunks/000001");
        std::fs::write(&path, segment).unwrap();
        Self { folder, block: Arc::new(remote.with_chunks(ChunkSource::Local(Segments::new([path])))) }
    }
}

impl Drop for LocalBlock {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Reads, and notes how many files it was to read at once.
struct Counting {
    inner: Box<dyn io::BlockIo>,
    files: usize,
}

impl io::BlockIo for Counting {
    fn read(&mut self, reads: &[io::Read<'_>]) -> io::Batch<'_> {
        let files: BTreeSet<_> = reads.iter().map(|read| std::ptr::from_ref(read.file)).collect();
        self.files = self.files.max(files.len());
        self.inner.read(reads)
    }

    fn write_and_sync(&mut self, writes: &[io::Write<'_>]) -> Result<(), io::Failure> {
        self.inner.write_and_sync(writes)
    }

    fn write(&mut self, writes: &[io::Write<'_>]) -> Result<(), io::Failure> {
        self.inner.write(writes)
    }

    fn name(&self) -> &'static str {
        "counting"
    }

    fn counters(&self) -> io::IoCounters {
        self.inner.counters()
    }
}

/// All series of `blocks`.
fn plan_of<'b>(blocks: impl Iterator<Item = &'b Arc<OpenedBlock>>) -> Plan {
    let meter = Arc::new(Meter::new(Limits::default(), &Budget::new("--store.memory-limit", 1 << 30)));
    let request = all_series();
    let chosen = |block: &Arc<OpenedBlock>| {
        let chosen = Chosen { block: Arc::clone(block), matchers: request.matchers.clone().into() };
        Source::find(chosen, &request, &meter).unwrap()
    };
    let found = blocks.map(chosen).collect();
    Plan::new(request, meter, found, 2).unwrap()
}

/// Runs all ranges of a request on this thread.
fn run_on(io: &mut dyn io::BlockIo, block: &Arc<OpenedBlock>) -> (Series, Vec<Failure>) {
    run_plan(io, &plan_of([block].into_iter()))
}

fn run_plan(io: &mut dyn io::BlockIo, plan: &Plan) -> (Series, Vec<Failure>) {
    let kept = Arc::<Kept>::default();
    let mut failures = Vec::new();
    let mut starts: Vec<_> =
        (0..plan.range_count()).map(|at| plan.range(at)).map(|(a, b)| (a.clone(), b.clone())).collect();
    while let Some((start, end)) = starts.pop() {
        let mut prepared =
            Box::new(Prepared::new(plan, (&start, &end), u64::MAX, &mut LabelBuffers::default()).unwrap());
        let mut sink = Keeping(Arc::clone(&kept)).sink(0);
        loop {
            match prepared.encode(plan, io, &mut *sink).unwrap() {
                Outcome::Fetch(longer) => prepared = longer,
                Outcome::Done(mut output) => {
                    starts.extend(output.left(end));
                    failures.extend(output.failures);
                    break;
                }
            }
        }
        sink.take();
    }
    let mut series: Series = kept.ranges.lock().unwrap().drain(..).flatten().collect();
    series.sort();
    (series, failures)
}

fn pread() -> Box<dyn io::BlockIo> {
    io::open(io::Mode::Pread).unwrap()
}

#[test]
fn whatever_a_disk_does_what_is_answered_is_right_and_the_rest_is_named() {
    let local = LocalBlock::new("disk", 7, |_| {});
    let expected = naive(&[large(400)], &all_series());
    assert_eq!(run_on(&mut *pread(), &local.block).0, expected);
    for fault in [Fault::Error, Fault::Truncated, Fault::BitFlip] {
        for seed in 1..6 {
            let mut io = Faulty::new(pread(), fault, 2, seed * 7919);
            let (series, failures) = run_on(&mut io, &local.block);
            assert!(!failures.is_empty() || series == expected, "{fault:?} {seed}");
            for failure in &failures {
                let message = failure.error.to_string();
                assert!(message.starts_with(&format!("block {}: ", local.block.id())), "{message}");
                assert!(message.contains("000001") && message.contains("at byte "), "{message}");
            }
            for (labels, sets) in &series {
                let right = &expected.iter().find(|(known, _)| known == labels).unwrap().1;
                assert!(sets.iter().all(|set| right.contains(set)), "{fault:?} {seed}: {labels}");
            }
        }
    }
}

#[test]
fn a_segment_that_was_cut_gives_the_chunks_that_are_left() {
    let local = LocalBlock::new("cut", 8, |segment| segment.truncate(segment.len() / 2));
    let (series, failures) = run_on(&mut *pread(), &local.block);
    assert!(series.len() > 150 && series.len() < 250, "{}", series.len());
    assert!(failures.iter().all(|failure| failure.error.kind() == ErrorKind::Corrupt), "{failures:?}");
}

#[test]
fn a_chunk_that_lies_about_its_length_fails_alone() {
    for lie in [0x00, 0x7f, 0xff] {
        let local = LocalBlock::new(&format!("lie-{lie}"), 9, |segment| segment[8] = lie);
        let (series, failures) = run_on(&mut *pread(), &local.block);
        assert_eq!(series.len(), 400);
        assert_eq!(series.iter().map(|(_, sets)| sets.len()).sum::<usize>(), 3999);
        assert_eq!(failures.len(), 1);
        assert!(failures[0].error.message().contains("chunks/000001: chunk segment at byte 8:"), "{failures:?}");
    }
}

#[test]
fn a_segment_that_is_gone_fails_its_block_by_name() {
    let local = LocalBlock::new("gone", 10, |_| {});
    std::fs::remove_file(local.folder.join("chunks/000001")).unwrap();
    let (series, failures) = run_on(&mut *pread(), &local.block);
    assert!(series.is_empty());
    assert_eq!(failures[0].error.kind(), ErrorKind::Unavailable);
    assert!(failures[0].error.message().contains("cannot open"), "{failures:?}");
}

#[test]
fn one_series_in_more_files_than_may_be_open_is_read_from_a_few_at_a_time() {
    let mut models: Vec<Model> = (0..10).map(|tint| tinted(3, tint)).collect();
    let local =
        |(tint, model): (usize, &Model)| LocalBlock::of(&format!("many-{tint}"), (31 + tint as u128, model), |_| {});
    let locals: Vec<LocalBlock> = models.iter().enumerate().map(local).collect();
    std::fs::remove_file(locals[4].folder.join("chunks/000001")).unwrap();
    let mut io = Counting { inner: pread(), files: 0 };
    let plan = plan_of(locals.iter().map(|local| &local.block)).opening(3);
    let (mut series, failures) = run_plan(&mut io, &plan);
    series.iter_mut().for_each(|(_, sets)| sets.sort());
    models.remove(4);
    assert_eq!(series, naive(&models, &all_series()));
    let gone = locals[4].block.id();
    assert!(!failures.is_empty() && failures.iter().all(|failure| failure.block == gone), "{failures:?}");
    assert_eq!(io.files, 3);
}

#[test]
fn what_came_damaged_is_fetched_as_of_its_own_moment() {
    let meter = Arc::new(Meter::new(Limits::default(), &Budget::new("--store.memory-limit", 1 << 30)));
    let request = all_series();
    let (mut found, mut segments) = (Vec::new(), Vec::new());
    for number in [11, 12] {
        let (block, segment) = open(number, &large(4));
        segments.push((block.id(), segment));
        let chosen = Chosen { block, matchers: request.matchers.clone().into() };
        found.push(Source::find(chosen, &request, &meter).unwrap());
    }
    let plan = Plan::new(request, meter, found, 1).unwrap();
    let (start, end) = plan.range(0);
    let mut prepared = Prepared::new(&plan, (start, end), u64::MAX, &mut LabelBuffers::default()).unwrap();
    let lost = segments[0].0;
    let fetched = prepared.remote_ranges(&plan).into_iter().map(|range| {
        assert_eq!(range.freshness, Freshness::Kept);
        if range.block == lost {
            let bytes = Err(Error::new(ErrorKind::Unavailable, "503"));
            return Fetched { bytes, downloaded_bytes: 0, downloads: 1, moment: 0 };
        }
        let segment = &segments[1].1;
        let from = range.offset as usize;
        let mut bytes = segment[from..segment.len().min(from + range.len as usize)].to_vec();
        bytes[3] ^= 1;
        Fetched { bytes: Ok(bytes.into()), downloaded_bytes: range.len, downloads: 1, moment: 7 }
    });
    let fetched: Vec<_> = fetched.collect();
    prepared.set_fetched(&plan, fetched, Duration::ZERO).unwrap();
    let mut sink = Keeping(Arc::<Kept>::default()).sink(0);
    let Outcome::Fetch(again) = prepared.encode(&plan, &mut *pread(), &mut *sink).unwrap() else {
        panic!("what came damaged is not fetched anew")
    };
    let freshness: Vec<_> =
        again.remote_ranges(&plan).into_iter().map(|range| (range.block == lost, range.freshness)).collect();
    assert_eq!(freshness, [(true, Freshness::Kept), (false, Freshness::After(7))]);
    sink.take();
}

#[test]
fn the_places_at_which_an_answer_is_cut_are_accounted_for() {
    let budget = Budget::new("--store.memory-limit", 1 << 30);
    let (meter, request) = (Arc::new(Meter::new(Limits::default(), &budget)), all_series());
    let found = [25, 26].map(|number| {
        let chosen = Chosen { block: open(number, &large(5000)).0, matchers: request.matchers.clone().into() };
        Source::find(chosen, &request, &meter).unwrap()
    });
    let of_series = budget.usage().used;
    let plan = Plan::new(request, meter, found.into(), 2).unwrap();
    assert!(plan.heap_bytes() > 0);
    assert_eq!(budget.usage().used, of_series + plan.heap_bytes());
    drop(plan);
    assert_eq!(budget.usage().used, 0);
}

#[test]
fn what_is_far_away_is_asked_for_in_few_ranges_as_far_as_memory_allows() {
    let ranges = |memory: u64| {
        let meter = Arc::new(Meter::new(Limits::default(), &Budget::new("--store.memory-limit", memory)));
        let request = all_series();
        let found = [21, 22, 23, 24].map(|number| {
            let chosen = Chosen { block: open(number, &large(5000)).0, matchers: request.matchers.clone().into() };
            Source::find(chosen, &request, &meter).unwrap()
        });
        Plan::new(request, meter, found.into(), 2).unwrap().range_count()
    };
    let (roomy, tight) = (ranges(16 << 30), ranges(64 << 20));
    assert!(roomy * 2 < tight && roomy > 1, "{roomy} {tight}");
}

/// Has the chunk at byte `offset` claim to be as long as a record may be.
fn lie(segment: &mut [u8], offset: u64) {
    segment[offset as usize..][..4].copy_from_slice(&[0xf0, 0xff, 0xff, 0x0f]);
}

/// Where the chunks of `segment` are.
fn offsets(segment: &[u8]) -> Vec<u64> {
    segment::chunks(segment).map(|chunk| chunk.unwrap().0).collect()
}

/// Makes a block of a model and its segment.
type Open = fn(u128, &Model) -> (Arc<OpenedBlock>, Vec<u8>);

/// The block of `model` whose index tells no lengths of the last chunks of series, and its segment.
fn with_header(number: u128, model: &Model) -> (Arc<OpenedBlock>, Vec<u8>) {
    let ((bytes, segment), mut head) = (written(model), Vec::new());
    header::write(&bytes, &mut head).unwrap();
    let index = HeaderIndex::new(header::Reader::open(head).unwrap(), bytes);
    (opened(number, model, (Arc::new(index), &segment)), segment)
}

/// All of a block of one range, of whose segment `kept` lies in a cache and `stored` in the bucket, and what was
/// fetched for it.
fn run_kept(block: &Arc<OpenedBlock>, kept: &[u8], stored: &[u8]) -> (Series, Vec<Failure>, Vec<RemoteRange>) {
    let plan = plan_of([block].into_iter());
    assert_eq!(plan.range_count(), 1);
    let (start, end) = plan.range(0);
    let mut prepared = Box::new(Prepared::new(&plan, (start, end), u64::MAX, &mut LabelBuffers::default()).unwrap());
    let (all, mut asked) = (Arc::<Kept>::default(), Vec::new());
    let mut sink = Keeping(Arc::clone(&all)).sink(0);
    let output = loop {
        let ranges = prepared.remote_ranges(&plan);
        let fetch = |range: &RemoteRange| {
            let segment = if range.freshness == Freshness::Kept { kept } else { stored };
            let (from, to) = (range.offset as usize, (range.offset + range.len) as usize);
            let bytes = Ok(segment[from..segment.len().min(to)].to_vec().into());
            Fetched { bytes, downloaded_bytes: range.len, downloads: 1, moment: 7 }
        };
        prepared.set_fetched(&plan, ranges.iter().map(fetch).collect(), Duration::ZERO).unwrap();
        asked.extend(ranges);
        match prepared.encode(&plan, &mut *pread(), &mut *sink).unwrap() {
            Outcome::Fetch(again) => prepared = again,
            Outcome::Done(output) => break output,
        }
    };
    sink.take();
    let series = all.ranges.lock().unwrap().drain(..).flatten().collect();
    (series, output.failures, asked)
}

#[test]
fn a_length_that_what_was_kept_claims_is_believed_only_when_the_bucket_says_so_too() {
    let model = large(4);
    let expected = naive(std::slice::from_ref(&model), &all_series());
    // The index tells the length of the first, the other ones end at the next chunk and at the end of the segment.
    let cases: [(Open, usize); 4] = [(open, 0), (open, 39), (with_header, 9), (with_header, 39)];
    for (make, at) in cases {
        let (block, segment) = make(41, &model);
        let (mut damaged, offset) = (segment.clone(), offsets(&segment)[at]);
        lie(&mut damaged, offset);
        let (series, failures, asked) = run_kept(&block, &damaged, &segment);
        assert_eq!((series, failures.len()), (expected.clone(), 0));
        let (series, failures, asked_in_vain) = run_kept(&block, &damaged, &damaged);
        assert_eq!(series.iter().map(|(_, sets)| sets.len()).sum::<usize>(), 39);
        let message = failures[0].error.message();
        assert!(message.contains(&format!("chunks/000001: chunk segment at byte {offset}: ")), "{message}");
        for asked in [asked, asked_in_vain] {
            let freshness: Vec<Freshness> = asked.iter().map(|range| range.freshness).collect();
            assert_eq!(freshness, [Freshness::Kept, Freshness::After(7)]);
            assert_eq!(asked[0].len, asked[1].len);
        }
    }
}

#[test]
fn a_chunk_that_is_longer_than_was_guessed_is_read_in_its_own_length_out_of_what_is_kept() {
    let model = long_chunk(20_000);
    let (block, segment) = open(42, &model);
    assert!(segment.len() > CHUNK_BYTES_GUESS as usize + 2000);
    let (series, failures, asked) = run_kept(&block, &segment, &segment);
    assert_eq!((series, failures.len()), (naive(&[model], &all_series()), 0));
    assert!(asked.len() == 2 && asked.iter().all(|range| range.freshness == Freshness::Kept), "{asked:?}");
}

#[test]
fn a_chunk_that_is_longer_than_memory_allows_fails_alone() {
    let local = LocalBlock::new("unpaid", 43, |segment| {
        let last = offsets(segment).pop().unwrap();
        lie(segment, last);
        segment.resize(40 << 20, 0);
    });
    let mut selector = selector(1, io::Mode::Pread);
    selector.budget = Budget::new("--store.memory-limit", 32 << 20);
    let blocks = BlockSet::new([Arc::clone(&local.block)]);
    let setting =
        Setting { limits: Limits::default(), sinks: Arc::new(Keeping(Arc::<Kept>::default())), fetcher: None };
    let (series, failures) = counted(&selector, &blocks, setting);
    assert_eq!((series, failures.len()), (400, 1));
    let error = &failures[0].error;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("can't be read: --store.memory-limit: "), "{error}");
    assert!(error.message().starts_with(&format!("block {}: chunks/000001: ", local.block.id())), "{error}");
}
