//! Prometheus' PromQL corpora: every case of every file, through every way of execution.

use std::fs;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use engine::batch::{Cell, SampleBatch};
use engine::block::BlockSet;
use engine::promql::blocks::{BlockSource, Scope};
use engine::promql::exec::{NameRemoval, StartTimestamps};
use engine::promql::source::{Cores, MemorySource, Source, Threads};
use engine::promql::value::QueryValue;
use engine::promql::{self, Context, Engine, Options, Parsed, RangeSteps, syntax};
use engine::shard::{self, Pool};
use engine::simd::{self, Isa};
use tests::promqltest::{Answer, Evaluator, Sample, Series, Value, When, run};
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
        let options = Options {
            samples_max: 10_000,
            name_removal: NameRemoval::Delayed,
            starts: StartTimestamps::Used,
            ..Options::default()
        };
        Self { engine: Engine::new(options), place }
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
        let expr = syntax::parse(query, syntax::Options::ALL).map_err(|error| error.to_string())?;
        let when = match when {
            When::Instant(time) => promql::When::Instant(time),
            When::Range { start, end, step } => promql::When::Range(RangeSteps { start, end, step }),
        };
        let query = Parsed { text: query, expr: &expr };
        let source: Arc<dyn Source> = match &self.place {
            Place::Memory(_, source) => source.clone(),
            Place::Block(cores, written) => {
                let blocks = Arc::new(BlockSet::new([Arc::clone(&written.block)]));
                Arc::new(BlockSource::new(blocks, Scope { cores: cores.clone(), ..Scope::default() }))
            }
        };
        let result = self.engine.evaluate(query, when, source, &Context::default());
        let result = result.map_err(|error| error.error.message().to_owned())?;
        Ok(Answer { value: value_of(result.value), warnings: result.warnings, infos: result.infos })
    }
}

fn value_of(value: QueryValue) -> Value {
    match value {
        QueryValue::Scalar(_, values) => Value::Scalar(values[0]),
        QueryValue::Text(_, text) => Value::Text(text),
        QueryValue::Vector(_, rows) => {
            let sample = |row: usize| match rows.cell(row, 0) {
                Cell::Float(value) => Some(Sample::Float(value)),
                Cell::Histogram(histogram) => Some(Sample::Histogram(histogram)),
                Cell::Empty => None,
            };
            Value::Vector(
                (0..rows.len()).filter_map(|at| Some((Arc::clone(&rows.rows[at].labels), sample(at)?))).collect(),
            )
        }
        QueryValue::Matrix(steps, rows) => {
            let series = |row: usize| Series {
                labels: Arc::clone(&rows.rows[row].labels),
                floats: rows.floats(row).map(|(step, value)| (steps.time(step), value)).collect(),
                histograms: (rows.histograms(row).iter())
                    .map(|(step, histogram)| (steps.time(*step as usize), Arc::clone(histogram)))
                    .collect(),
            };
            Value::Matrix((0..rows.len()).map(series).collect())
        }
        QueryValue::Samples(samples) => {
            let series = samples.iter().map(|series| Series {
                labels: Arc::clone(series.labels),
                floats: series.timestamps.iter().copied().zip(series.values.iter().copied()).collect(),
                histograms: (series.histogram_timestamps.iter().copied())
                    .zip(series.histograms.iter().map(Arc::clone))
                    .collect(),
            });
            Value::Matrix(series.collect())
        }
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
    let text = fs::read_to_string(path).unwrap();
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
            hold_way_to((file, &text), &format!("{way}, {isa:?}"), place);
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

macro_rules! corpus {
    ($($test:ident: $file:literal,)*) => {
        $(
            #[test]
            fn $test() {
                hold_to($file);
            }
        )*
    };
}

corpus! {
    aggregators: "aggregators",
    at_modifier: "at_modifier",
    collision: "collision",
    duration_expression: "duration_expression",
    extended_vectors: "extended_vectors",
    fill_modifier: "fill-modifier",
    functions: "functions",
    histograms: "histograms",
    info: "info",
    limit: "limit",
    literals: "literals",
    name_label_dropping: "name_label_dropping",
    native_histograms: "native_histograms",
    operators: "operators",
    range_queries: "range_queries",
    selectors: "selectors",
    staleness: "staleness",
    start_timestamps: "start_timestamps",
    subquery: "subquery",
    trig_functions: "trig_functions",
    type_and_unit: "type_and_unit",
}

#[test]
fn the_corpora_are_all_named_here() {
    let Some(path) = shared("promqltest") else { return };
    let files = fs::read_dir(path)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "test"));
    assert_eq!(files.count(), 21);
}
