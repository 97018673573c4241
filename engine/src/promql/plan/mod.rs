//! The operators of a query: what the syntax tree says, with times resolved, constants folded and
//! each selector knowing what is done with its samples.

mod build;
mod duration;
mod extent;
mod facts;
mod fold;
mod hints;
mod print;
mod times;

use crate::model::matcher::Matcher;
use crate::model::{ByteString, TimeRange};

use super::function::{FloatFunction, HistogramFunction, RangeFunction};
use super::source::Hints;

pub use build::{Build, Plan, build};
pub use times::InfoTime;

/// What an operator gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// A number for each step.
    Scalar,
    /// Rows of a sample for each step.
    Vector,
    /// Rows of samples with their own times.
    Matrix,
    /// A string.
    Text,
}

/// One operator with its inputs.
#[derive(Clone, Debug)]
pub struct Node {
    /// Number of the operator within its query, from 0, parents before children.
    pub id: usize,
    /// Byte of the query at which the expression begins.
    pub position: usize,
    /// What it does.
    pub operator: Operator,
    /// What is known of it.
    facts: facts::Facts,
}

/// What a node does.
#[derive(Clone, Debug)]
pub enum Operator {
    /// A number.
    Number(f64),
    /// A string.
    Text(ByteString),
    /// The newest samples of series.
    Select(Box<Select>),
    /// A range vector that no function is applied to.
    Samples(Box<RangeArgument>),
    /// A function over a range vector.
    OverTime(Box<OverTime>),
    /// A function of floats, sample by sample; scalar arguments after the vector.
    Float(FloatFunction, Vec<Node>),
    /// A float from each native histogram.
    Histogram(HistogramFunction, Box<Node>),
    /// Any other function.
    Call(Call, Vec<Node>),
    /// An aggregation over series.
    Aggregate(Box<Aggregate>),
    /// A binary operation.
    Binary(Box<Binary>),
    /// The negative of a number or vector.
    Negate(Box<Node>),
    /// A number or vector as it is, behind a plus: no selector any more, and elsewhere in the query.
    Plus(Box<Node>),
    /// What does not depend on the step: evaluated once.
    StepInvariant(Box<Node>),
}

/// How samples around a window's bounds count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Extension {
    /// Not at all.
    #[default]
    None,
    /// The last sample at or before each bound stands for it.
    Anchored,
    /// The bounds are interpolated.
    Smoothed,
}

impl Extension {
    /// Milliseconds before and behind a window whose samples count too.
    pub fn around(self, lookback: i64) -> (i64, i64) {
        match self {
            Self::None => (0, 0),
            Self::Anchored => (lookback, 0),
            Self::Smoothed => (lookback, lookback),
        }
    }
}

/// A selector of series.
#[derive(Clone, Debug)]
pub struct Select {
    /// All must match.
    pub matchers: Vec<Matcher>,
    /// Milliseconds by which the samples lie earlier than the step.
    pub offset: i64,
    /// The time that takes the step's place (Unix milliseconds).
    pub at: Option<i64>,
    /// Times of the samples that are looked at in the whole query, as Prometheus asks its storage for them
    /// (Unix milliseconds): those of a subquery begin where its range does, not at its first step.
    pub times: TimeRange,
    /// Whether samples around the bounds count.
    pub extension: Extension,
    /// What is done with the samples.
    pub hints: Hints,
    /// The selector as it is printed.
    pub text: String,
    /// Byte of the query at which the selector begins.
    pub position: usize,
}

/// What a function over time takes.
#[derive(Clone, Debug)]
pub enum RangeArgument {
    /// Stored samples.
    Select(Select, i64),
    /// Samples computed on steps of their own.
    Subquery(Subquery),
}

/// An expression that is evaluated on steps of its own.
#[derive(Clone, Debug)]
pub struct Subquery {
    /// The expression.
    pub input: Node,
    /// Length of the windows in milliseconds.
    pub range: i64,
    /// Milliseconds between its steps.
    pub step: i64,
    /// Milliseconds by which the windows lie earlier than the step.
    pub offset: i64,
    /// The time that takes the step's place (Unix milliseconds).
    pub at: Option<i64>,
}

/// A function over a range vector.
#[derive(Clone, Debug)]
pub struct OverTime {
    /// The function.
    pub function: RangeFunction,
    /// The range vector.
    pub argument: RangeArgument,
    /// Byte of the query at which the first argument begins; 0 where it is a subquery.
    pub first_position: usize,
    /// Scalar arguments.
    pub params: Vec<Node>,
    /// Whether names may stay although the function drops them, because nothing looks at them.
    pub names: Names,
}

/// When metric names are dropped from rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Names {
    /// At once.
    #[default]
    Drop,
    /// Marked only: the consumer leaves them out itself.
    Mark,
}

/// Functions that are neither over time nor sample by sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `time()`
    Time,
    /// `pi()`
    Pi,
    /// `vector(s)`
    Vector,
    /// `scalar(v)`
    Scalar,
    /// `max_of(a, b)`
    MaxOf,
    /// `min_of(a, b)`
    MinOf,
    /// `timestamp(v)`
    Timestamp,
    /// `start_timestamp(v)`
    StartTimestamp,
    /// `absent(v)`
    Absent,
    /// `sort(v)`
    Sort(Order),
    /// `sort_by_label(v, labels…)`
    SortByLabel(Order, Vec<String>),
    /// `label_replace(v, destination, replacement, source, pattern)`
    LabelReplace(Box<LabelReplace>),
    /// `label_join(v, destination, separator, sources…)`
    LabelJoin(Box<LabelJoin>),
    /// `histogram_quantile(q, v)`
    HistogramQuantile,
    /// `histogram_quantiles(v, label, q…)`
    HistogramQuantiles(String),
    /// `histogram_fraction(lower, upper, v)`
    HistogramFraction,
    /// `info(v, selector)`: matchers, `None` without a selector, and the time of the info series
    Info(Option<Vec<Matcher>>, InfoTime),
}

/// Direction of a sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Arguments of `label_replace`.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelReplace {
    /// Label that is set.
    pub destination: ByteString,
    /// What it is set to, with `$1` for groups.
    pub replacement: String,
    /// Label that is read.
    pub source: String,
    /// Pattern that must match all of it.
    pub pattern: ByteString,
}

/// Arguments of `label_join`.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelJoin {
    /// Label that is set.
    pub destination: ByteString,
    /// What stands between the values.
    pub separator: String,
    /// Labels that are read.
    pub sources: Vec<ByteString>,
}

/// Operators of aggregations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateOperator {
    /// `sum`
    Sum,
    /// `avg`
    Avg,
    /// `min`
    Min,
    /// `max`
    Max,
    /// `count`
    Count,
    /// `group`
    Group,
    /// `stddev`
    Stddev,
    /// `stdvar`
    Stdvar,
    /// `topk`
    Topk,
    /// `bottomk`
    Bottomk,
    /// `limitk`
    Limitk,
    /// `limit_ratio`
    LimitRatio,
    /// `quantile`
    Quantile,
    /// `count_values`
    CountValues,
}

/// Which labels make a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// These, sorted.
    By(Vec<String>),
    /// All but these (sorted) and the metric name.
    Without(Vec<String>),
}

/// An aggregation.
#[derive(Clone, Debug)]
pub struct Aggregate {
    /// What is computed of each group.
    pub operator: AggregateOperator,
    /// What makes a group.
    pub grouping: Grouping,
    /// `k`, quantile, ratio, or the label of `count_values`.
    pub param: Option<Node>,
    /// What is aggregated.
    pub input: Node,
    /// Byte of the query at which the aggregation begins.
    pub position: usize,
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOperator {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `atan2`
    Atan2,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `>=`
    GreaterEqual,
    /// `<=`
    LessEqual,
    /// `</`
    TrimUpper,
    /// `>/`
    TrimLower,
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
}

/// How rows of two vectors find each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Matching {
    /// How many of one side match one of the other.
    pub cardinality: Cardinality,
    /// `on` or `ignoring` (the default, of nothing).
    pub labels: MatchLabels,
    /// Labels that `group_left` and `group_right` take from the "one" side.
    pub include: Vec<String>,
    /// What a missing left side counts as.
    pub fill_left: Option<f64>,
    /// What a missing right side counts as.
    pub fill_right: Option<f64>,
}

/// Labels that must be equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatchLabels {
    /// These, sorted.
    On(Vec<String>),
    /// All but these (sorted) and the metric name.
    Ignoring(Vec<String>),
}

/// How many rows match one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// One matches one.
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// What a comparison gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The left sample where it holds.
    Filter,
    /// 1 or 0.
    Bool,
}

/// A binary operation.
#[derive(Clone, Debug)]
pub struct Binary {
    /// What is computed.
    pub operator: BinaryOperator,
    /// Left operand.
    pub left: Node,
    /// Right operand.
    pub right: Node,
    /// How rows match, when both are vectors.
    pub matching: Option<Matching>,
    /// What a comparison gives.
    pub comparison: Comparison,
    /// Byte of the query at which the operation begins.
    pub position: usize,
}

impl Select {
    /// Whether all series have the same metric name.
    pub fn has_one_name(&self) -> bool {
        self.matchers.iter().any(|matcher| {
            matcher.name() == crate::model::labels::METRIC_NAME
                && matcher.kind() == crate::model::matcher::MatchKind::Eq
                && !matcher.value().is_empty()
        })
    }
}

impl Aggregate {
    /// Whether the values that it counts become metric names, types or units.
    fn sets_metadata(&self) -> bool {
        let label = match self.param.as_ref().map(|param| &param.operator) {
            Some(Operator::Text(label)) => label.as_str(),
            _ => None,
        };
        self.operator == AggregateOperator::CountValues && label.is_some_and(super::value::is_metadata_label)
    }
}

impl Binary {
    /// Whether it would cut samples off a number by those of a vector, which gives nothing.
    pub fn trims_a_number(&self) -> bool {
        let trims = matches!(self.operator, BinaryOperator::TrimUpper | BinaryOperator::TrimLower);
        trims && self.left.kind() == ValueKind::Scalar && self.right.kind() == ValueKind::Vector
    }
}

impl AggregateOperator {
    /// Whether the result is a choice of the series that went in.
    pub fn keeps_series(self) -> bool {
        matches!(self, Self::Topk | Self::Bottomk | Self::Limitk | Self::LimitRatio)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
            Self::Quantile => "quantile",
            Self::CountValues => "count_values",
        }
    }
}

impl BinaryOperator {
    /// Whether the result is another metric than its operands.
    pub fn drops_name(self) -> bool {
        use BinaryOperator as B;
        matches!(self, B::Add | B::Sub | B::Mul | B::Div | B::Mod | B::Pow | B::Atan2)
    }

    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        use BinaryOperator as B;
        matches!(self, B::Equal | B::NotEqual | B::Greater | B::Less | B::GreaterEqual | B::LessEqual)
    }

    /// Whether it works on sets of series.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::GreaterEqual => ">=",
            Self::LessEqual => "<=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }
}
