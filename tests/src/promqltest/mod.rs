//! The language of Prometheus' PromQL tests.
//!
//! ```text
//! load 1m                               series and their samples, one a minute from time 0
//!   metric{label="a"} 1 2+1x3 _ stale {{schema:0 count:1 sum:1 buckets:[1]}}
//!
//! eval instant at 5m sum(metric)        a query, and what it must give
//!   expect no_warn
//!   {} 5
//!
//! eval range from 0 to 5m step 1m metric
//!   metric{label="a"} 1 2 3 4 5
//!
//! clear                                 forget all series
//! ```
//!
//! [`run`] holds an [`Evaluator`] to every case of a script. As upstream does, an instant query is
//! also asked with its time pinned by `@` from other times, and as the middle step of a range query.

mod compare;
/// The engine over any source.
pub mod local;
mod pinned;
mod run;
/// From text to commands.
pub mod script;
mod series;
mod store;

pub use run::{Failure, Report, run};
pub use series::{Point, Sequence};

use std::sync::Arc;

use engine::batch::SampleBatch;
use engine::model::{FloatHistogram, Labels};

/// Something that answers queries over the series that scripts load.
pub trait Evaluator {
    /// Replaces all series by those of `series`.
    fn load(&mut self, series: &SampleBatch);

    /// Answers `query`, or says why not.
    fn evaluate(&self, query: &str, when: When) -> Result<Answer, String>;
}

/// The time or times of a query, in Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// An instant query.
    Instant(i64),
    /// A range query.
    Range {
        /// First step.
        start: i64,
        /// Last step at most.
        end: i64,
        /// Milliseconds between steps.
        step: i64,
    },
}

/// What a query gives.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The value.
    pub value: Value,
    /// Warnings with their position, as the HTTP API shows them.
    pub warnings: Vec<String>,
    /// Infos with their position, as the HTTP API shows them.
    pub infos: Vec<String>,
}

/// The value of a query.
#[derive(Clone, Debug)]
pub enum Value {
    /// A number.
    Scalar(f64),
    /// A string.
    Text(String),
    /// A sample for each series, in the order of the answer.
    Vector(Vec<(Arc<Labels>, Sample)>),
    /// Samples of series over time, in the order of the answer.
    Matrix(Vec<Series>),
}

/// A float or a histogram.
#[derive(Clone, Debug)]
pub enum Sample {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<FloatHistogram>),
}

/// A series of an answer; times in Unix milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Its floats.
    pub floats: Vec<(i64, f64)>,
    /// Its histograms.
    pub histograms: Vec<(i64, Arc<FloatHistogram>)>,
}

/// A test for each file of the corpora: `$hold_to` is called with its name.
#[macro_export]
macro_rules! every_corpus {
    ($hold_to:path) => {
        $crate::every_corpus! { $hold_to:
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
    };
    ($hold_to:path: $($test:ident: $file:literal,)*) => {
        $(
            #[test]
            fn $test() {
                $hold_to($file);
            }
        )*

        #[test]
        fn the_corpora_are_all_named_here() {
            let Some(path) = $crate::shared("promqltest") else { return };
            let mut named = vec![$(concat!($file, ".test")),*];
            let mut found: Vec<String> = std::fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.ends_with(".test"))
                .collect();
            named.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, named);
        }
    };
}
