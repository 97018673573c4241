//! The engine over any source, as scripts ask it.

use std::sync::Arc;

use engine::batch::Cell;
use engine::promql::exec::{NameRemoval, StartTimestamps};
use engine::promql::source::Source;
use engine::promql::value::QueryValue;
use engine::promql::{self, Context, Engine, Options, Parsed, RangeSteps, syntax};

use super::{Answer, Sample, Series, Value, When};

/// The engine with everything that is experimental, which the corpora use.
pub fn engine() -> Engine {
    Engine::new(Options {
        samples_max: 10_000,
        name_removal: NameRemoval::Delayed,
        starts: StartTimestamps::Used,
        ..Options::default()
    })
}

/// What `engine` answers to `query` over the series of `source`; the message of the error where it
/// fails.
pub fn evaluate(engine: &Engine, source: Arc<dyn Source>, query: &str, when: When) -> Result<Answer, String> {
    let expr = syntax::parse(query, syntax::Options::ALL).map_err(|error| error.to_string())?;
    let when = match when {
        When::Instant(time) => promql::When::Instant(time),
        When::Range { start, end, step } => promql::When::Range(RangeSteps { start, end, step }),
    };
    let query = Parsed { text: query, expr: &expr };
    let result = engine.evaluate(query, when, source, &Context::default());
    let result = result.map_err(|error| error.error.message().to_owned())?;
    Ok(Answer { value: value_of(result.value), warnings: result.warnings, infos: result.infos })
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
