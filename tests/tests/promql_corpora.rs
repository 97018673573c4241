//! Prometheus' PromQL corpora: every case of every file, through every way of execution.

use std::fs;
use std::sync::Arc;

use engine::batch::{Cell, SampleBatch};
use engine::promql::exec::{NameRemoval, StartTimestamps};
use engine::promql::source::MemorySource;
use engine::promql::value::QueryValue;
use engine::promql::{self, Context, Engine, Options, Parsed, RangeSteps, syntax};
use tests::promqltest::{Answer, Evaluator, Sample, Series, Value, When, run};
use tests::shared;

/// The engine over series in memory, cut into so many parts.
struct Local {
    engine: Engine,
    source: MemorySource,
    parts: usize,
}

impl Local {
    fn new(parts: usize) -> Self {
        let options = Options {
            samples_max: 10_000,
            name_removal: NameRemoval::Delayed,
            starts: StartTimestamps::Used,
            ..Options::default()
        };
        Self { engine: Engine::new(options), source: MemorySource::default(), parts }
    }
}

impl Evaluator for Local {
    fn load(&mut self, series: &SampleBatch) {
        self.source = MemorySource::new(series).with_parts(self.parts);
    }

    fn evaluate(&self, query: &str, when: When) -> Result<Answer, String> {
        let expr = syntax::parse(query, syntax::Options::ALL).map_err(|error| error.to_string())?;
        let when = match when {
            When::Instant(time) => promql::When::Instant(time),
            When::Range { start, end, step } => promql::When::Range(RangeSteps { start, end, step }),
        };
        let query = Parsed { text: query, expr: &expr };
        let result = self.engine.evaluate(query, when, &self.source, &Context::default());
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

/// Runs one file and panics with every case that fails.
fn hold_to(file: &str) {
    let Some(path) = shared(&format!("promqltest/{file}.test")) else { return };
    let text = fs::read_to_string(path).unwrap();
    for parts in [1, 3] {
        let report = run(&text, &mut Local::new(parts)).unwrap_or_else(|error| panic!("{file}.test: {error}"));
        assert!(report.cases > 0, "{file}.test has cases");
        for failure in &report.failures {
            eprintln!("{file}.test:{}: {}: {}", failure.line, failure.query, failure.reason);
        }
        let (failed, cases) = (report.failures.len(), report.cases);
        assert!(failed == 0, "{file}.test: {failed} of {cases} cases failed with {parts} parts");
    }
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
