//! The syntax tree of PromQL. Every node knows which bytes of the query it was read from.

use crate::model::{ByteString, DurationNs, Matcher};

use super::functions::{Function, ValueType};

pub use super::operator::{AggregateOp, BinaryOp, UnaryOp};

/// Bytes `start..end` of the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct TextRange {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `sum by (a) (b)`
    Aggregate(Box<Aggregate>),
    /// `a + on (b) c`
    Binary(Box<Binary>),
    /// `rate(a[5m])`
    Call(Call),
    /// `a[5m]`
    Matrix(Box<MatrixSelector>),
    /// `a[5m:1m]`
    Subquery(Box<Subquery>),
    /// `1`, `5m`
    Number(NumberLiteral),
    /// `(a)`
    Paren(Box<Paren>),
    /// `"a"`
    String(StringLiteral),
    /// `-a`
    Unary(Box<Unary>),
    /// `a{b="c"}`
    Vector(Box<VectorSelector>),
}

/// An aggregation over the series of a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// The vector.
    pub expr: Expr,
    /// What operators such as `topk` are told beside the vector; `None` for the others.
    pub param: Option<Expr>,
    /// Names after `by` or `without`.
    pub grouping: Vec<String>,
    /// Whether the names of `grouping` are those dropped rather than those kept.
    pub without: bool,
    /// Where it stands.
    pub range: TextRange,
}

/// An operator between two expressions.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// The left side.
    pub lhs: Expr,
    /// The right side.
    pub rhs: Expr,
    /// How series of both sides find each other; `None` unless both sides are vectors.
    pub matching: Option<VectorMatching>,
    /// Whether a comparison gives 0 or 1 rather than filter.
    pub return_bool: bool,
}

/// How the series of two vectors find each other.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct VectorMatching {
    /// How many may match on each side.
    pub cardinality: Cardinality,
    /// Names after `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Whether `labels` are those compared rather than those left out.
    pub on: bool,
    /// Names after `group_left` or `group_right`: labels taken from the "one" side.
    pub include: Vec<String>,
    /// Value of an absent series on the left, after `fill` or `fill_left`.
    pub fill_left: Option<f64>,
    /// Value of an absent series on the right, after `fill` or `fill_right`.
    pub fill_right: Option<f64>,
}

/// How many series of one side may match one of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Cardinality {
    /// No modifier.
    #[default]
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The function.
    pub function: &'static Function,
    /// Its arguments, of the types that it declares.
    pub args: Vec<Expr>,
    /// Where it stands.
    pub range: TextRange,
}

/// The samples of series within a window before each step.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    /// The series; offset, `@` and `anchored` or `smoothed` are written after the window and kept
    /// here.
    pub selector: VectorSelector,
    /// The window; zero when it is an expression.
    pub window: DurationNs,
    /// The window as an expression that needs the query's step and range.
    pub window_expr: Option<Box<DurationExpr>>,
    /// Where it stands.
    pub range: TextRange,
}

/// An expression evaluated at the steps of a window before each step.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    /// The expression, a vector.
    pub expr: Expr,
    /// The window; zero when it is an expression.
    pub window: DurationNs,
    /// The window as an expression that needs the query's step and range.
    pub window_expr: Option<Box<DurationExpr>>,
    /// The step; zero when none is given or it is an expression.
    pub step: DurationNs,
    /// The step as an expression that needs the query's step and range.
    pub step_expr: Option<Box<DurationExpr>>,
    /// How far back it is moved; zero when it is an expression.
    pub offset: DurationNs,
    /// The offset as an expression that needs the query's step and range.
    pub offset_expr: Option<Box<DurationExpr>>,
    /// The `@` modifier.
    pub at: Option<At>,
    /// Where it stands.
    pub range: TextRange,
}

/// The `@` modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// `@ 1.5`, in Unix milliseconds.
    Time(i64),
    /// `@ start()`
    Start,
    /// `@ end()`
    End,
}

/// A number.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberLiteral {
    /// The number; seconds when it was written as a duration.
    pub value: f64,
    /// Whether it was written as a duration.
    pub is_duration: bool,
    /// Where it stands.
    pub range: TextRange,
}

/// An expression in parentheses.
#[derive(Clone, Debug, PartialEq)]
pub struct Paren {
    /// What is inside.
    pub expr: Expr,
    /// Where it stands, parentheses included.
    pub range: TextRange,
}

/// A string.
#[derive(Clone, Debug, PartialEq)]
pub struct StringLiteral {
    /// The string without quotes and escapes.
    pub value: ByteString,
    /// Where it stands, quotes included.
    pub range: TextRange,
}

/// A sign before an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Unary {
    /// Plus or minus.
    pub op: UnaryOp,
    /// What it stands before.
    pub expr: Expr,
    /// Where the sign stands.
    pub start: usize,
}

/// The newest samples of series at each step.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric name written before the braces; empty when there is none. It is among the matchers
    /// too, as the last.
    pub name: String,
    /// Which series.
    pub matchers: Vec<Matcher>,
    /// How far back it is moved; zero when it is an expression.
    pub offset: DurationNs,
    /// The offset as an expression that needs the query's step and range.
    pub offset_expr: Option<Box<DurationExpr>>,
    /// The `@` modifier.
    pub at: Option<At>,
    /// `anchored` or `smoothed`.
    pub extension: Option<Extension>,
    /// Where it stands.
    pub range: TextRange,
}

/// How a range selector treats its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extension {
    /// `anchored`: the sample at or before each end counts as lying on it.
    Anchored,
    /// `smoothed`: values at the ends are interpolated.
    Smoothed,
}

/// A duration that is computed when the step and range of the query are known.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationExpr {
    /// What it computes.
    pub kind: DurationKind,
    /// Whether it was written in parentheses.
    pub wrapped: bool,
    /// Where it stands.
    pub range: TextRange,
}

/// What a duration expression computes, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationKind {
    /// A number or a duration; never `wrapped`.
    Number(NumberLiteral),
    /// `step()`: the query's step.
    Step,
    /// `range()`: from the query's start to its end.
    Range,
    /// `(5m)`: a number in parentheses is a plus before it, `wrapped`.
    Plus(Box<DurationExpr>),
    /// `-a`
    Minus(Box<DurationExpr>),
    /// `a + b` and its like; arithmetic operators only.
    Binary(BinaryOp, Box<DurationExpr>, Box<DurationExpr>),
    /// `min_of(a, b)`
    MinOf(Box<DurationExpr>, Box<DurationExpr>),
    /// `max_of(a, b)`
    MaxOf(Box<DurationExpr>, Box<DurationExpr>),
}

impl Expr {
    /// The type of what it evaluates to.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Aggregate(_) | Self::Vector(_) => ValueType::Vector,
            Self::Matrix(_) | Self::Subquery(_) => ValueType::Matrix,
            Self::Number(_) => ValueType::Scalar,
            Self::String(_) => ValueType::String,
            Self::Call(call) => call.function.return_type,
            Self::Paren(paren) => paren.expr.value_type(),
            Self::Unary(unary) => unary.expr.value_type(),
            Self::Binary(binary) => match (binary.lhs.value_type(), binary.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
        }
    }

    /// Where it stands in the query.
    pub fn range(&self) -> TextRange {
        match self {
            Self::Aggregate(node) => node.range,
            Self::Binary(node) => TextRange { start: node.lhs.start(), end: node.rhs.end() },
            Self::Call(node) => node.range,
            Self::Matrix(node) => node.range,
            Self::Subquery(node) => node.range,
            Self::Number(node) => node.range,
            Self::Paren(node) => node.range,
            Self::String(node) => node.range,
            Self::Unary(node) => TextRange { start: node.start, end: node.expr.end() },
            Self::Vector(node) => node.range,
        }
    }

    /// The byte at which it begins: of what is between its operators only the leftmost is looked at.
    pub fn start(&self) -> usize {
        let mut expr = self;
        while let Self::Binary(node) = expr {
            expr = &node.lhs;
        }
        if let Self::Unary(node) = expr { node.start } else { expr.range().start }
    }

    /// The byte behind it.
    pub fn end(&self) -> usize {
        let mut expr = self;
        loop {
            expr = match expr {
                Self::Binary(node) => &node.rhs,
                Self::Unary(node) => &node.expr,
                other => return other.range().end,
            };
        }
    }

    /// The expressions directly within it, in the order of evaluation.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Self::Aggregate(node) => std::iter::once(&node.expr).chain(&node.param).collect(),
            Self::Binary(node) => vec![&node.lhs, &node.rhs],
            Self::Call(node) => node.args.iter().collect(),
            Self::Subquery(node) => vec![&node.expr],
            Self::Paren(node) => vec![&node.expr],
            Self::Unary(node) => vec![&node.expr],
            Self::Matrix(_) | Self::Number(_) | Self::String(_) | Self::Vector(_) => Vec::new(),
        }
    }

    /// The expression inside all parentheses around it.
    pub fn without_parens(&self) -> &Expr {
        let mut expr = self;
        while let Self::Paren(paren) = expr {
            expr = &paren.expr;
        }
        expr
    }
}

impl Cardinality {
    /// Prometheus' name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        }
    }
}
