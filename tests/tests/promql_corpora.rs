//! Prometheus' PromQL corpora: every case of every file, through every way of execution.

use std::fs;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use engine::batch::SampleBatch;
use engine::block::BlockSet;
use engine::model::Labels;
use engine::promql::blocks::{BlockSource, Scope};
use engine::promql::source::{Cores, MemorySource, Source, Threads};
use engine::promql::{Context, Engine, Options};
use engine::shard::{self, Pool};
use engine::simd::{self, Isa};
use tests::promqltest::{Answer, Evaluator, When, local, run};
use tests::shared;
use tests::written::WrittenBlock;

/// Where the series of a script are.
enum Place {
    /// In memory, cut into so many parts.
    Memory(usize, Arc<MemorySource>),
    /// In a block, read by whoever asks or by cores.
    Block(Option<Arc<dyn Cores>>, WrittenBlock),
}

/// The engine over the series of a script.
struct Local {
    engine: Engine,
    place: Place,
}

impl Local {
    fn new(place: Place) -> Self {
        Self { engine: local::engine(), place }
    }
}

impl Evaluator for Local {
    fn load(&mut self, series: &SampleBatch) {
        match &mut self.place {
            Place::Memory(parts, source) => *source = Arc::new(MemorySource::new(series).with_parts(*parts)),
            Place::Block(_, block) => *block = WrittenBlock::new(series),
        }
    }

    fn evaluate(&self, query: &str, when: When) -> Result<Answer, String> {
        let source: Arc<dyn Source> = match &self.place {
            Place::Memory(_, source) => source.clone(),
            Place::Block(cores, written) => {
                let blocks = Arc::new(BlockSet::new([Arc::clone(&written.block)]));
                Arc::new(BlockSource::new(blocks, Scope { cores: cores.clone(), ..Scope::default() }))
            }
        };
        local::evaluate(&self.engine, source, query, when)
    }
}

/// The instruction set is the whole process': one file at a time is held to its cases.
static INSTRUCTIONS: Mutex<()> = Mutex::new(());

/// So many shards, as the process has them.
fn shards(count: usize) -> Arc<dyn Cores> {
    let options = shard::Options { shards: NonZeroUsize::new(count), ..shard::Options::default() };
    Pool::start(&options).unwrap()
}

/// Runs one file through every way of execution and panics with every case that fails.
fn hold_to(file: &str) {
    let Some(path) = shared(&format!("promqltest/{file}.test")) else { return };
    hold_to_text(file, &fs::read_to_string(path).unwrap());
}

/// Runs the cases of `text`, which is called `file`.
fn hold_to_text(file: &str, text: &str) {
    let _alone = INSTRUCTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    for isa in simd::isas() {
        simd::limit_to(isa);
        let block = |cores| Place::Block(cores, WrittenBlock::new(&SampleBatch::default()));
        let mut ways = vec![
            ("in memory", Place::Memory(1, Arc::default())),
            ("in memory, in three parts", Place::Memory(3, Arc::default())),
        ];
        // Blocks are written without start timestamps.
        if !text.contains("@st") {
            ways.push(("from a block", block(None)));
            ways.push(("from a block, by one shard", block(Some(shards(1)))));
            ways.push(("from a block, by three shards", block(Some(shards(3)))));
            ways.push(("from a block, by threads", block(Some(Arc::new(Threads(2))))));
        }
        for (way, place) in ways {
            hold_way_to((file, text), &format!("{way}, {isa:?}"), place);
        }
    }
    simd::limit_to(Isa::Avx512);
}

fn hold_way_to((file, text): (&str, &str), way: &str, place: Place) {
    let report = run(text, &mut Local::new(place)).unwrap_or_else(|error| panic!("{file}.test: {error}"));
    assert!(report.cases > 0, "{file}.test has cases");
    for failure in &report.failures {
        eprintln!("{file}.test:{}: {way}: {}: {}", failure.line, failure.query, failure.reason);
    }
    let (failed, cases) = (report.failures.len(), report.cases);
    assert!(failed == 0, "{file}.test: {failed} of {cases} cases failed {way}");
}

tests::every_corpus!(hold_to);

#[test]
fn series_of_a_block_that_differ_in_type_alone_are_one_without_it() {
    let ask = |query: &str, series: &[(&str, &str)], cores: Option<Arc<dyn Cores>>| {
        let mut batch = SampleBatch::default();
        for (kind, instance) in series {
            (0..10).for_each(|at| batch.floats.push(at * 15_000, at as f64));
            let labels = [("__name__", "m"), ("__type__", *kind), ("instance", *instance)];
            batch.finish_series(Arc::new(Labels::from_pairs(labels)));
        }
        let written = WrittenBlock::new(&batch);
        let blocks = Arc::new(BlockSet::new([Arc::clone(&written.block)]));
        let source = Arc::new(BlockSource::new(blocks, Scope { cores, ..Scope::default() }));
        let engine = Engine::new(Options::default());
        engine.instant(query, 135_000, source, &Context::default()).map(drop).map_err(|failed| failed.error)
    };
    let same = "vector cannot contain metrics with the same labelset";
    for cores in [None, Some(shards(1)), Some(shards(3))] {
        for query in ["sum(rate(m[2m]))", "sum by (a) (abs(m))", "max(-m)"] {
            let twins = [("counter", "1"), ("counter", "2"), ("gauge", "2")];
            let refused = ask(query, &twins, cores.clone()).unwrap_err();
            assert_eq!(refused.message(), same, "{query}");
            let others = [("counter", "1"), ("counter", "2"), ("gauge", "3")];
            assert_eq!(ask(query, &others, cores.clone()), Ok(()), "{query}");
        }
    }
}

#[test]
fn what_once_differed_is_as_prometheus_has_it() {
    hold_to_text("differences", include_str!("../fixtures/promql/differences.test"));
}
