//! Blocks whose index-headers are here and whose indexes are far away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::synthetic::{Model, all_series, large, opened, values_of_n, written};
use super::*;
use crate::block::{ChunkSource, Detail, OpenedBlock};
use crate::index::pages::PagesRead;
use crate::index::{HeaderIndex, header, tsdb};
use crate::model::matcher::MatchKind;
use crate::model::{ErrorKind, Patience};
use crate::promql::blocks::{BlockSource, Scope};
use crate::promql::source::{Files, Hints, Part, SelectRequest, Selected, Source as _};
use crate::select::{Failure, Found, LabelBuffers, LabelRequest, Meter, Plan, Prepared, Source};

/// Longest wait for what must come.
const SOON: Duration = Duration::from_secs(60);

/// An index that is read from afar.
struct Afar {
    bytes: Vec<u8>,
    reads: Arc<AtomicUsize>,
    /// Called at each read.
    gate: Option<Gate>,
}

/// What is done at each read.
type Gate = Arc<dyn Fn() + Send + Sync>;

/// Tells `begun` of each read, which then waits for its turn; it goes on when nobody is left to give turns.
fn taking_turns(begun: Sender<()>, turns: Receiver<()>) -> Gate {
    Arc::new(move || {
        let _ = begun.send(());
        let _ = turns.recv();
    })
}

/// Takes the caller of what `patience` ends away at each read.
fn leaving(patience: &Patience) -> Gate {
    let canceled = Arc::clone(&patience.canceled);
    Arc::new(move || canceled.store(true, Ordering::Relaxed))
}

impl tsdb::Source for Afar {
    fn len(&self) -> u64 {
        self.bytes.as_slice().len() as u64
    }

    fn in_memory(&self) -> Option<&[u8]> {
        None
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if let Some(gate) = &self.gate {
            gate();
        }
        let len = <[u8]>::len(out);
        out.copy_from_slice(&self.bytes[offset as usize..][..len]);
        PagesRead::add(len as u64, 1, Duration::ZERO);
        Ok(())
    }
}

/// The blocks of `models` whose indexes are read through `gate`, and how often they were.
fn blocks(models: &[Model], gate: Option<Gate>) -> (BlockSet, Arc<AtomicUsize>) {
    let reads = Arc::<AtomicUsize>::default();
    let block = |(number, model): (usize, &Model)| -> Arc<OpenedBlock> {
        let (bytes, segment) = written(model);
        let mut head = Vec::new();
        header::write(&bytes, &mut head).unwrap();
        let afar = Afar { bytes, reads: Arc::clone(&reads), gate: gate.clone() };
        let index = HeaderIndex::new(header::Reader::open(head).unwrap(), afar);
        opened(number as u128 + 1, model, (Arc::new(index), &segment))
    };
    (BlockSet::new(models.iter().enumerate().map(block)), reads)
}

/// The block of `model` with its chunks in memory and an index that does not tell how long the last chunks are.
fn in_memory(model: &Model) -> BlockSet {
    let (bytes, segment) = written(model);
    let mut head = Vec::new();
    header::write(&bytes, &mut head).unwrap();
    let index = HeaderIndex::new(header::Reader::open(head).unwrap(), bytes);
    let block = Arc::into_inner(opened(1, model, (Arc::new(index), &segment))).unwrap();
    BlockSet::new([Arc::new(block.with_chunks(ChunkSource::Memory(vec![segment.into()])))])
}

fn labels_of(matcher: Matcher) -> Request {
    Request { detail: Detail::Labels, ..Request::new(TimeRange::ALL, vec![Matcher::equal("a", "x"), matcher]) }
}

/// The values of `n` of all series.
fn values() -> LabelRequest {
    values_of_n(vec![Matcher::equal("a", "x")])
}

fn setting() -> Setting {
    Setting { limits: Limits::default(), sinks: Arc::new(Keeping(Arc::default())), fetcher: None }
}

/// Number of series, and blocks that failed.
fn ask(selector: &Selector, blocks: &BlockSet, request: Request) -> (u64, Vec<Failure>) {
    block_on(async {
        let mut stream = selector.select(blocks, request, setting()).await.unwrap();
        let (mut series, mut failures) = (0, stream.failures().to_vec());
        while let Some(part) = stream.next().await {
            let part = part.unwrap();
            series += part.series;
            failures.extend(part.failures);
        }
        (series, failures)
    })
}

#[test]
fn a_damaged_entry_fails_those_who_ask_for_it_alone() {
    let model = large(400);
    let (mut bytes, segment) = written(&model);
    let mut head = Vec::new();
    header::write(&bytes, &mut head).unwrap();
    let entry = {
        let reader = tsdb::Reader::open(bytes.as_slice()).unwrap();
        let (mut scan, mut series) = (reader.series(), tsdb::Series::default());
        for _ in 0..=300 {
            assert!(scan.next(&mut series).unwrap());
        }
        // It ends here.
        scan.offset() as usize
    };
    bytes[entry - 1] ^= 1;
    let index = HeaderIndex::new(header::Reader::open(head).unwrap(), bytes);
    let blocks = BlockSet::new(vec![opened(1, &model, (Arc::new(index), &segment))]);
    let selector = selector(2, io::Mode::Pread);
    let hundred = |digit: u32| labels_of(Matcher::new(MatchKind::Re, "n", format!("000{digit}..")).unwrap());
    for digit in [0, 1, 2] {
        assert_eq!(ask(&selector, &blocks, hundred(digit)), (100, Vec::new()));
    }
    let (series, failures) = ask(&selector, &blocks, hundred(3));
    assert_eq!((series, failures.len()), (0, 1));
    assert_eq!(failures[0].error.kind(), ErrorKind::Corrupt);
}

#[test]
fn series_of_one_block_are_looked_up_without_reading_what_lies_elsewhere() {
    let (set, reads) = blocks(&[large(100_000)], None);
    let selector = selector(2, io::Mode::Pread);
    let wanted = Matcher::new(MatchKind::Re, "n", "00000.").unwrap();
    assert_eq!(ask(&selector, &set, labels_of(wanted)), (10, Vec::new()));
    let few = reads.load(Ordering::Relaxed);
    assert_eq!(ask(&selector, &set, labels_of(Matcher::equal("a", "x"))), (100_000, Vec::new()));
    let all = reads.load(Ordering::Relaxed) - few;
    assert!(few * 2 < all, "{few} reads for ten series, {all} for all");
}

#[test]
fn what_is_read_of_an_index_counts_as_downloaded() {
    let (set, _) = blocks(&[large(50)], None);
    let selector = selector(1, io::Mode::Pread);
    let limits = Limits { bytes_max: 100, ..Limits::default() };
    let request = labels_of(Matcher::equal("a", "x"));
    let of_series = block_on(selector.select(&set, request, Setting { limits, ..setting() })).err().unwrap();
    // What was read is kept.
    let (set, _) = blocks(&[large(50)], None);
    let of_values = block_on(selector.labels(&set, values(), limits)).unwrap_err();
    for error in [of_series, of_values] {
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.message().starts_with("--store.grpc.downloaded-bytes-limit"), "{error}");
    }
}

#[test]
fn whoever_waits_for_an_index_keeps_no_shard_waiting() {
    let (begun, has_begun) = bounded(64);
    let (turns, turn) = bounded::<()>(0);
    let (set, _) = blocks(&[large(50)], Some(taking_turns(begun, turn)));
    let selector = selector(1, io::Mode::Pread);
    std::thread::scope(|scope| {
        let series = scope.spawn(|| ask(&selector, &set, labels_of(Matcher::equal("a", "x"))));
        has_begun.recv_timeout(SOON).unwrap();
        let strings = scope.spawn(|| block_on(selector.labels(&set, values(), Limits::default())).unwrap().strings);
        has_begun.recv_timeout(SOON).unwrap();
        let (sender, answers) = bounded(1);
        selector.pool.send(0, move |_| sender.send(()).unwrap()).unwrap();
        answers.recv_timeout(SOON).unwrap();
        drop(turns);
        assert_eq!(series.join().unwrap(), (50, Vec::new()));
        assert_eq!(strings.join().unwrap().len(), 50);
    });
}

#[test]
fn a_request_that_is_given_up_reads_no_further_index() {
    let (begun, has_begun) = bounded(64);
    let (turns, turn) = bounded::<()>(0);
    let models: Vec<Model> = (0..5).map(|_| large(50)).collect();
    let (set, reads) = blocks(&models, Some(taking_turns(begun, turn)));
    let selector = selector(1, io::Mode::Pread);
    let mut asking = Box::pin(selector.select(&set, labels_of(Matcher::equal("a", "x")), setting()));
    assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    has_begun.recv_timeout(SOON).unwrap();
    drop(asking);
    drop(turns);
    while selector.budget.usage().used > 0 {
        std::thread::yield_now();
    }
    // An index of this size is one page.
    assert_eq!(reads.load(Ordering::Relaxed), 1);
}

/// What the blocks of `set` find.
fn find(set: &BlockSet, request: &Request, meter: &Meter) -> Vec<Found> {
    let chosen = set.choose(&request.matchers, request.range, request.max_resolution, &[]);
    chosen.into_iter().map(|chosen| Source::find(chosen, request, meter).unwrap()).collect()
}

#[test]
fn what_is_read_to_cut_an_answer_and_to_tell_classes_apart_counts_as_downloaded() {
    // Each has more than the pages that are kept, so that series are read anew.
    let models = [large(50_000), large(50_000)];
    let (budget, request) = (Budget::new("--store.memory-limit", 1 << 30), labels_of(Matcher::equal("a", "x")));
    // Bytes read to find series, and what the answer's plan then gave. Two blocks are cut at the same labels.
    let plan = |blocks_count: usize, bytes_max: u64| {
        let (set, _) = blocks(&models[..blocks_count], None);
        let meter = Arc::new(Meter::new(Limits { bytes_max, ..Limits::default() }, &budget));
        let before = PagesRead::here();
        let found = find(&set, &request, &meter);
        (PagesRead::here().since(before).bytes, Plan::new(request.clone(), meter, found, 1))
    };
    let classes =
        |plan: &Plan| plan.classes(0..plan.range_count(), &["n".to_owned()]).map(|classes| classes.labels().len());
    let (of_two, cut) = plan(2, 0);
    assert!(cut.unwrap().range_count() > 1);
    let (of_one, cut) = plan(1, 0);
    assert_eq!(classes(&cut.unwrap()).unwrap(), 50_000);
    for error in [plan(2, of_two).1.unwrap_err(), classes(&plan(1, of_one).1.unwrap()).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.message().starts_with("--store.grpc.downloaded-bytes-limit"), "{error}");
    }
}

/// What a query whose end `patience` is reads of all series.
fn query(blocks: BlockSet, patience: Patience) -> Result<Selected, Error> {
    let source = BlockSource::new(Arc::new(blocks), Scope { patience, ..Scope::default() });
    let (matchers, range) = ([Matcher::equal("a", "x")], TimeRange::new(0, 10_000));
    let (hints, files) = (Hints::default(), Files::default());
    let request = SelectRequest { matchers: &matchers, range, extent: range, hints: &hints, part: Part::WHOLE, files };
    source.select(&request, &mut |_| Ok(()))
}

#[test]
fn classes_of_series_are_accounted_for_while_a_query_reads_them() {
    let budget = Budget::new("--query.memory-limit", 1 << 30);
    let scope = Scope { budget: Arc::clone(&budget), ..Scope::default() };
    let source = BlockSource::new(Arc::new(in_memory(&large(4000))), scope);
    let (matchers, range) = ([Matcher::equal("a", "x")], TimeRange::new(0, 10_000));
    let (hints, files) = (Hints { projection: Some(vec!["n".to_owned()]), ..Hints::default() }, Files::default());
    let request = SelectRequest { matchers: &matchers, range, extent: range, hints: &hints, part: Part::WHOLE, files };
    source.select(&request, &mut |_| Ok(())).unwrap();
    let labels = Labels::from_pairs([("n", "000000")]);
    let bytes = 2 * 4000 * (size_of::<Labels>() + labels.heap_bytes());
    assert!(budget.usage().peak >= bytes as u64, "{:?}", budget.usage());
    drop(source);
    assert_eq!(budget.usage().used, 0);
}

#[test]
fn a_query_whose_caller_has_gone_or_whose_time_is_over_reads_no_further_index() {
    let models: Vec<Model> = (0..5).map(|_| large(50)).collect();
    let patience = Patience::default();
    let (set, reads) = blocks(&models, Some(leaving(&patience)));
    assert_eq!(query(set, patience).unwrap_err().kind(), ErrorKind::Canceled);
    assert_eq!(reads.load(Ordering::Relaxed), 1);
    let patience = Patience { deadline: Some(Instant::now()), ..Patience::default() };
    let (set, reads) = blocks(&models, None);
    assert_eq!(query(set, patience).unwrap_err().kind(), ErrorKind::Deadline);
    assert_eq!(reads.load(Ordering::Relaxed), 0);
}

#[test]
fn a_label_request_that_is_given_up_looks_no_further_into_a_block() {
    let model = [large(100_000)];
    let budget = Budget::new("--store.memory-limit", 1 << 30);
    let ask = |request: &LabelRequest, gate: Option<Gate>, patience: &Patience| {
        let (set, reads) = blocks(&model, gate);
        let chosen = set.overlapping(&request.matchers, request.range, &[]);
        let meter = Meter::new(Limits::default(), &budget).with_patience(patience.clone());
        (request.ask_all(chosen, &meter).map(|(said, _)| request.answer(said).strings.len()), reads)
    };
    // The block has times beyond those of the first, so that the chunks of its series are looked at.
    let cases = [
        (LabelRequest { range: TimeRange::new(0, 1000), ..values() }, 100_000),
        (values(), 100_000),
        (LabelRequest { name: None, ..values() }, 3),
    ];
    for (request, count) in cases {
        let (all, reads) = ask(&request, None, &Patience::default());
        assert_eq!(all.unwrap(), count);
        let of_all = reads.load(Ordering::Relaxed);
        let patience = Patience::default();
        let (given_up, reads) = ask(&request, Some(leaving(&patience)), &patience);
        assert_eq!(given_up.unwrap_err().kind(), ErrorKind::Canceled, "{request:?}");
        let few = reads.load(Ordering::Relaxed);
        assert!(few * 2 < of_all, "{few} reads, {of_all} of the whole request");
    }
}

#[test]
fn a_range_that_is_given_up_is_no_failure_of_its_block() {
    let (patience, armed) = (Patience::default(), Arc::new(AtomicBool::new(false)));
    let gate = {
        let (leave, armed) = (leaving(&patience), Arc::clone(&armed));
        move || {
            if armed.load(Ordering::Relaxed) {
                leave();
            }
        }
    };
    // More than the pages that are kept, so that series are read anew.
    let (set, _) = blocks(&[large(100_000)], Some(Arc::new(gate)));
    let budget = Budget::new("--store.memory-limit", 1 << 30);
    let meter = Arc::new(Meter::new(Limits::default(), &budget).with_patience(patience));
    let request = Request::new(TimeRange::ALL, vec![Matcher::equal("a", "x")]);
    let found = find(&set, &request, &meter);
    let plan = Plan::new(request, meter, found, 1).unwrap();
    armed.store(true, Ordering::Relaxed);
    let prepared = Prepared::new(&plan, plan.range(0), u64::MAX, &mut LabelBuffers::default());
    assert_eq!(prepared.unwrap_err().kind(), ErrorKind::Canceled);
}

#[test]
fn what_is_left_of_ranges_is_worked_on_beside_later_ranges() {
    let (blocks, selector) = (in_memory(&large(4000)), selector(2, io::Mode::Pread));
    let (series, steps) = block_on(async {
        let mut stream = selector.select(&blocks, all_series(), setting()).await.unwrap();
        let (mut series, mut steps) = (0, Vec::new());
        while let Some(part) = stream.next().await {
            series += part.unwrap().series;
            steps.push(stream.in_turn());
        }
        (series, steps)
    });
    assert_eq!(series, 4000);
    // At first nobody knows that ranges end early; of four parts in work two are whole ranges then.
    let known = steps.iter().position(|(left, ranges)| *left > 0 && *ranges <= 2).unwrap();
    assert!(steps[known..].iter().all(|(_, ranges)| *ranges <= 2), "{steps:?}");
    assert!(steps[known..].iter().any(|(left, ranges)| *left > 0 && *ranges == 2), "{steps:?}");
    // Enough of them came while parts of a range were at work.
    assert_eq!(ask(&selector, &blocks, Request { limit: 1000, ..all_series() }), (1000, Vec::new()));
}
