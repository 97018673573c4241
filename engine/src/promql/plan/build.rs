//! From the syntax tree to operators.

use crate::model::labels::METRIC_NAME;
use crate::model::{DurationNs, Error, ErrorKind, TimeRange};

use super::super::function::{FloatFunction, HistogramFunction, RangeFunction};
use super::super::source::Hints;
use super::super::syntax::ast::{self, At, Expr};
use super::duration::{Allowed, milliseconds};
use super::extent::{Extent, Reach};
use super::{
    Aggregate, Binary, Call, Comparison, Extension, InfoTime, LabelJoin, LabelReplace, Names, Node, Operator, Order,
    OverTime, RangeArgument, Select, Subquery, fold, hints,
};

/// What the plan of a query depends on beside its text. Times in Unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// First step.
    pub start: i64,
    /// Last step, as the request has it.
    pub end: i64,
    /// Milliseconds between steps; 0 for an instant query.
    pub step: i64,
    /// Milliseconds between the steps of a subquery that says none.
    pub default_step: i64,
    /// Milliseconds that an instant selector looks back.
    pub lookback: i64,
}

/// A query as operators.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The operator that gives the answer.
    pub root: Node,
    /// How many operators there are.
    pub operators: usize,
    /// Times of the samples that its selectors may look at (Unix milliseconds).
    pub extent: TimeRange,
}

/// The plan of `expr`.
pub fn build(build: &Build, expr: &Expr) -> Result<Plan, Error> {
    let mut builder = Builder { build, next: 0, around: Around::default(), extent: Extent::default() };
    let built = builder.node(expr)?;
    let root = if built.wrap { builder.once(built.node) } else { built.node };
    Ok(Plan { root, operators: builder.next, extent: builder.extent.range() })
}

/// Functions whose result depends on the step even when their arguments do not.
const STEP_FUNCTIONS: &[&str] = &[
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "time",
    "timestamp",
];

struct Builder<'a> {
    build: &'a Build,
    next: usize,
    around: Around,
    extent: Extent,
}

/// What stands around the expression that is being built.
#[derive(Clone, Debug, Default)]
struct Around {
    function: String,
    grouping: Vec<String>,
    by: bool,
    step: Option<i64>,
    buckets: Buckets,
    subqueries: Reach,
}

/// Whether buckets of native histograms are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Buckets {
    /// No function says that they are not.
    #[default]
    Unclear,
    /// Only count and sum are.
    Unused,
    /// A function further out needs them.
    Used,
}

impl Buckets {
    /// What is known within a call of `function`.
    fn within(self, function: &str) -> Self {
        match function {
            _ if self == Self::Used => self,
            "histogram_count" | "histogram_sum" | "histogram_avg" => Self::Unused,
            "histogram_quantile"
            | "histogram_quantiles"
            | "histogram_fraction"
            | "histogram_stddev"
            | "histogram_stdvar" => Self::Used,
            _ => self,
        }
    }
}

/// An operator, whether it depends on the step, and whether it is worth evaluating once if not.
struct Built {
    node: Node,
    invariant: bool,
    wrap: bool,
}

impl Builder<'_> {
    fn id(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    fn once(&mut self, node: Node) -> Node {
        let position = node.position;
        Node::new((self.id(), position), Operator::StepInvariant(Box::new(node)))
    }

    /// `built` as an input of an operator that depends on the step.
    fn input(&mut self, built: Built) -> Node {
        if built.wrap { self.once(built.node) } else { built.node }
    }

    fn node(&mut self, expr: &Expr) -> Result<Built, Error> {
        let id = self.id();
        let position = expr.start();
        let finish = |operator, invariant, wrap| Built { node: Node::new((id, position), operator), invariant, wrap };
        Ok(match expr {
            Expr::Number(number) => finish(Operator::Number(number.value), true, false),
            Expr::String(text) => finish(Operator::Text(text.value.clone()), true, false),
            Expr::Paren(paren) => return self.node(&paren.expr),
            Expr::Vector(vector) => {
                let select = self.select(vector, 0)?;
                let pinned = select.at.is_some();
                finish(Operator::Select(Box::new(select)), pinned, pinned)
            }
            Expr::Matrix(_) | Expr::Subquery(_) => {
                let (argument, pinned) = self.range(expr)?;
                finish(Operator::Samples(Box::new(argument)), pinned, false)
            }
            Expr::Unary(unary) => {
                let Built { node, invariant, wrap } = self.node(&unary.expr)?;
                let operator = match (unary.op, node.operator) {
                    (ast::UnaryOp::Plus, Operator::Number(value)) => Operator::Number(value),
                    (ast::UnaryOp::Minus, Operator::Number(value)) => Operator::Number(-value),
                    (ast::UnaryOp::Plus, operator) => Operator::Plus(Box::new(Node { operator, ..node })),
                    (ast::UnaryOp::Minus, operator) => Operator::Negate(Box::new(Node { operator, ..node })),
                };
                finish(operator, invariant, wrap)
            }
            Expr::Aggregate(node) => {
                let (aggregate, invariant, wrap) = self.aggregate(node)?;
                finish(Operator::Aggregate(Box::new(aggregate)), invariant, wrap)
            }
            Expr::Binary(node) => {
                let (binary, invariant) = self.binary(node)?;
                finish(Operator::Binary(Box::new(binary)), invariant, invariant)
            }
            Expr::Call(call) => {
                let (operator, invariant, wrap) = self.call(call)?;
                finish(operator, invariant, wrap)
            }
        })
    }

    fn select(&mut self, vector: &ast::VectorSelector, range: i64) -> Result<Select, Error> {
        let offset = match &vector.offset_expr {
            Some(expr) => milliseconds(self.build, expr, Allowed::Any)?,
            None => whole_milliseconds(vector.offset),
        };
        let at = self.pinned(vector.at);
        let extension = match vector.extension {
            None => Extension::None,
            Some(ast::Extension::Anchored) => Extension::Anchored,
            Some(ast::Extension::Smoothed) => Extension::Smoothed,
        };
        let lookback = self.build.lookback;
        let (before, ahead) = extension.around(lookback);
        let back = if range == 0 { lookback } else { range + before };
        let own = Reach { at, offset, back, ahead };
        let times = self.around.subqueries.within((self.build.start, self.build.end), own);
        self.extent.take(times);
        Ok(Select {
            matchers: vector.matchers.clone(),
            offset,
            at,
            times,
            extension,
            hints: Hints {
                function: self.around.function.clone(),
                range_ms: range,
                step_ms: self.around.step.unwrap_or(self.build.step),
                grouping: self.around.grouping.clone(),
                by: self.around.by,
                projection: None,
                histogram_stats: self.around.buckets == Buckets::Unused,
            },
            text: selector_text(vector),
            position: vector.range.start,
        })
    }

    fn pinned(&self, at: Option<At>) -> Option<i64> {
        at.map(|at| match at {
            At::Time(time) => time,
            At::Start => self.build.start,
            At::End => self.build.end,
        })
    }

    /// A range vector, and whether its time is fixed.
    fn range(&mut self, expr: &Expr) -> Result<(RangeArgument, bool), Error> {
        match expr {
            Expr::Matrix(matrix) => {
                let range = match &matrix.window_expr {
                    Some(expr) => milliseconds(self.build, expr, Allowed::Positive)?,
                    None => whole_milliseconds(matrix.window),
                };
                let select = self.select(&matrix.selector, range)?;
                let pinned = select.at.is_some();
                Ok((RangeArgument::Select(select, range), pinned))
            }
            Expr::Subquery(subquery) => {
                let subquery = self.subquery(subquery)?;
                let pinned = subquery.at.is_some();
                Ok((RangeArgument::Subquery(subquery), pinned))
            }
            _ => Err(Error::new(ErrorKind::Bug, "an argument is no range vector")),
        }
    }

    fn subquery(&mut self, node: &ast::Subquery) -> Result<Subquery, Error> {
        let of = |expr: &Option<Box<ast::DurationExpr>>, plain: DurationNs, allowed| match expr {
            Some(expr) => milliseconds(self.build, expr, allowed),
            None => Ok(whole_milliseconds(plain)),
        };
        // Of several that make no sense Prometheus tells the first in this order.
        let offset = of(&node.offset_expr, node.offset, Allowed::Any)?;
        let step = match of(&node.step_expr, node.step, Allowed::Positive)? {
            0 => self.build.default_step.max(1),
            step => step,
        };
        let range = of(&node.window_expr, node.window, Allowed::Positive)?;
        let at = self.pinned(node.at);
        let subqueries = self.around.subqueries.of_subquery(Reach { at, offset, back: range, ahead: 0 });
        let around = Around { step: Some(step), buckets: Buckets::Used, subqueries, ..self.around.clone() };
        let outside = std::mem::replace(&mut self.around, around);
        let inner = self.node(&node.expr)?;
        self.around = outside;
        let input = if inner.invariant { self.once(inner.node) } else { inner.node };
        Ok(Subquery { input, range, step, offset, at })
    }

    fn aggregate(&mut self, node: &ast::Aggregate) -> Result<(Aggregate, bool, bool), Error> {
        let around = Around {
            function: node.op.as_str().to_owned(),
            grouping: node.grouping.clone(),
            by: !node.without,
            step: self.around.step,
            buckets: self.around.buckets,
            subqueries: self.around.subqueries,
        };
        let outside = std::mem::replace(&mut self.around, around);
        let input = self.node(node.expr.without_parens())?;
        self.around = outside;
        let param = node.param.as_ref().map(|param| self.node(param.without_parens())).transpose()?;
        let mut aggregate = Aggregate {
            operator: fold::aggregate_operator(node.op),
            grouping: fold::grouping(node),
            param: param.map(|param| param.node),
            input: input.node,
            position: node.range.start,
        };
        hints::push_down(&mut aggregate);
        Ok((aggregate, input.invariant, input.wrap))
    }

    fn binary(&mut self, node: &ast::Binary) -> Result<(Binary, bool), Error> {
        let trims = matches!(node.op, ast::BinaryOp::TrimLower | ast::BinaryOp::TrimUpper);
        let buckets = if trims { Buckets::Used } else { self.around.buckets };
        let subqueries = self.around.subqueries;
        let plain = Around { step: self.around.step, buckets, subqueries, ..Around::default() };
        let outside = std::mem::replace(&mut self.around, plain);
        let left = self.node(&node.lhs)?;
        let right = self.node(&node.rhs)?;
        self.around = outside;
        let invariant = left.invariant && right.invariant;
        let (left, right) = if invariant { (left.node, right.node) } else { (self.input(left), self.input(right)) };
        let binary = Binary {
            operator: fold::binary_operator(node.op),
            left,
            right,
            matching: node.matching.as_ref().map(fold::matching),
            comparison: if node.return_bool { Comparison::Bool } else { Comparison::Filter },
            position: node.lhs.start(),
        };
        Ok((binary, invariant))
    }

    fn call(&mut self, call: &ast::Call) -> Result<(Operator, bool, bool), Error> {
        let name = call.function.name;
        if let Some(value) = self.query_constant(name) {
            return Ok((Operator::Number(value), true, false));
        }
        let around = Around {
            function: name.to_owned(),
            step: self.around.step,
            buckets: self.around.buckets.within(name),
            subqueries: self.around.subqueries,
            ..Around::default()
        };
        let outside = std::mem::replace(&mut self.around, around);
        let built = match RangeFunction::from_name(name) {
            Some(function) => self.over_time(function, call),
            None => self.plain_call(name, call),
        };
        self.around = outside;
        built
    }

    /// Functions that are numbers once the query is known.
    fn query_constant(&self, name: &str) -> Option<f64> {
        let Build { start, end, step, .. } = *self.build;
        Some(match name {
            "start" => start as f64 / 1000.0,
            "end" => end as f64 / 1000.0,
            "range" => end.saturating_sub(start) as f64 / 1000.0,
            "step" if start == end => 0.0,
            "step" => step as f64 / 1000.0,
            _ => return None,
        })
    }

    fn over_time(&mut self, function: RangeFunction, call: &ast::Call) -> Result<(Operator, bool, bool), Error> {
        let mut argument = None;
        let mut params = Vec::new();
        let mut invariant = !STEP_FUNCTIONS.contains(&call.function.name);
        for arg in &call.args {
            let arg = arg.without_parens();
            if arg.value_type() == super::super::syntax::ValueType::Matrix {
                let (range, pinned) = self.range(arg)?;
                invariant &= pinned;
                argument = Some(range);
            } else {
                let built = self.node(arg)?;
                invariant &= built.invariant;
                params.push(built);
            }
        }
        let params = params.into_iter().map(|built| if invariant { built.node } else { self.input(built) }).collect();
        let Some(argument) = argument else {
            return Err(Error::new(ErrorKind::Bug, "a function over time has no range vector"));
        };
        let first_position = call.args.first().map_or(0, |arg| annotated_at(arg.without_parens()));
        let over = OverTime { function, argument, first_position, params, names: Names::Drop };
        Ok((Operator::OverTime(Box::new(over)), invariant, invariant))
    }

    fn plain_call(&mut self, name: &str, call: &ast::Call) -> Result<(Operator, bool, bool), Error> {
        let evaluated = if name == "info" { &call.args[..1] } else { &call.args[..] };
        let mut built = Vec::new();
        for arg in evaluated {
            built.push(self.node(arg.without_parens())?);
        }
        let mut invariant = !STEP_FUNCTIONS.contains(&name) && built.iter().all(|arg| arg.invariant);
        if name == "timestamp" {
            let selector = matches!(built[0].node.operator, Operator::Select(_));
            invariant = selector && built[0].invariant;
        }
        if name == "info" {
            invariant &= InfoTime::of(&built[0].node).1;
        }
        let args: Vec<Node> =
            built.into_iter().map(|built| if invariant { built.node } else { self.input(built) }).collect();
        let operator = if let Some(function) = FloatFunction::from_name(name) {
            Operator::Float(function, args)
        } else if let Some(function) = HistogramFunction::from_name(name) {
            Operator::Histogram(function, Box::new(only(args)?))
        } else {
            special(name, args, call)?
        };
        Ok((operator, invariant, invariant))
    }
}

fn only(args: Vec<Node>) -> Result<Node, Error> {
    args.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Bug, "a function lacks its argument"))
}

/// Functions that are neither over time nor sample by sample.
fn special(name: &str, args: Vec<Node>, call: &ast::Call) -> Result<Operator, Error> {
    let bytes = |at: usize| match args.get(at).map(|arg| &arg.operator) {
        Some(Operator::Text(text)) => Ok(text.clone()),
        _ => Err(Error::new(ErrorKind::Bug, format!("argument {at} of {name} is no string"))),
    };
    let text = |at: usize| bytes(at).map(|bytes| bytes.to_string_lossy());
    let texts = |from: usize| (from..args.len()).map(&text).collect::<Result<Vec<_>, _>>();
    let special = match name {
        "time" => Call::Time,
        "pi" => Call::Pi,
        "vector" => Call::Vector,
        "scalar" => Call::Scalar,
        "max_of" => Call::MaxOf,
        "min_of" => Call::MinOf,
        "timestamp" => Call::Timestamp,
        "start_timestamp" => Call::StartTimestamp,
        "absent" => Call::Absent,
        "sort" => Call::Sort(Order::Ascending),
        "sort_desc" => Call::Sort(Order::Descending),
        "sort_by_label" => Call::SortByLabel(Order::Ascending, texts(1)?),
        "sort_by_label_desc" => Call::SortByLabel(Order::Descending, texts(1)?),
        "label_replace" => Call::LabelReplace(Box::new(LabelReplace {
            destination: bytes(1)?,
            replacement: text(2)?,
            source: text(3)?,
            pattern: bytes(4)?,
        })),
        "label_join" => Call::LabelJoin(Box::new(LabelJoin {
            destination: bytes(1)?,
            separator: text(2)?,
            sources: (3..args.len()).map(bytes).collect::<Result<_, _>>()?,
        })),
        "histogram_quantile" => Call::HistogramQuantile,
        "histogram_quantiles" => Call::HistogramQuantiles(text(1)?),
        "histogram_fraction" => Call::HistogramFraction,
        "info" => {
            let matchers = match call.args.get(1).map(Expr::without_parens) {
                Some(Expr::Vector(selector)) => Some(selector.matchers.clone()),
                _ => None,
            };
            Call::Info(matchers, InfoTime::of(&args[0]).0)
        }
        _ => return Err(Error::new(ErrorKind::Bug, format!("function {name} is not evaluated"))),
    };
    Ok(Operator::Call(special, args))
}

/// A selector as it is shown beside its operator.
fn selector_text(vector: &ast::VectorSelector) -> String {
    let matchers = vector.matchers.iter().filter(|matcher| vector.name.is_empty() || matcher.name() != METRIC_NAME);
    let matchers: Vec<String> = matchers.map(|matcher| matcher.to_string()).collect();
    if matchers.is_empty() { vector.name.clone() } else { format!("{}{{{}}}", vector.name, matchers.join(", ")) }
}

/// Where annotations of a function over time see its argument: a subquery is evaluated before, and its
/// result stands nowhere in the query.
fn annotated_at(arg: &Expr) -> usize {
    if matches!(arg, Expr::Subquery(_)) { 0 } else { arg.start() }
}

fn whole_milliseconds(duration: DurationNs) -> i64 {
    duration.0 / 1_000_000
}
