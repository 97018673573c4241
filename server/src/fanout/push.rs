//! Which aggregations endpoints can do themselves (`--query.mode=distributed`), and the query that is
//! left when they have.
//!
//! ```text
//! sum by (a) (rate(b[5m])) / c
//!    │ each endpoint: sum by (a) (rate(b[5m]))
//! sum by (a) ({__uru_pushed__="0"}) / c
//! ```

use std::sync::Arc;

use engine::model::matcher::Matcher;
use engine::model::{ByteString, Labels};
use engine::promql::syntax::ValueType;
use engine::promql::syntax::ast::{Aggregate, AggregateOp, Binary, BinaryOp, Expr, UnaryOp, VectorSelector};
use engine::promql::value::is_metadata_label;

use super::endpoints::Peer;

/// The label of a selector that stands for an aggregation which endpoints do; its value is the
/// number of the aggregation.
pub const PUSHED: &str = "__uru_pushed__";

/// The label of a selector that stands for how many samples the results of an aggregation are of; its
/// value is the number of the aggregation.
pub const COUNTED: &str = "__uru_counted__";

/// The label that keeps what endpoints answered apart until it is put together.
pub const ENDPOINT: &str = "__uru_endpoint__";

/// An aggregation and who does it.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The query for the endpoints.
    pub text: String,
    /// The query that tells how many samples each of its results is of.
    pub count: String,
    /// When that is asked too.
    pub counting: Counting,
    /// The query that is asked where sums of a mean are no numbers.
    pub mean: String,
    /// Who is asked; each has series that no other one has.
    pub peers: Vec<Arc<Peer>>,
}

impl Pushed {
    /// The selectors that stand for it as aggregation `number`, as they are printed, each with what endpoints do.
    pub fn stand_ins(&self, number: usize) -> [(String, String); 2] {
        let addresses: Vec<&str> = self.peers.iter().map(|peer| peer.address.as_str()).collect();
        let addresses = addresses.join(", ");
        [(PUSHED, &self.text), (COUNTED, &self.count)].map(|(label, text)| {
            (format!("{{{}}}", standing_for(label, number)), format!("remote {text} on {addresses}"))
        })
    }
}

/// When endpoints are asked how many samples their results are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// Never.
    Never,
    /// Where samples have met that have no sum: a count tells which groups have samples and no result.
    OfMixed,
    /// Always: a mean is of sums and counts.
    Always,
}

/// Finds who can do an aggregation: all endpoints that may have series of these selectors, each list
/// of matchers one selector; `None` when one of them can't, when two may have the same series, or when there is none.
pub type Choose<'a> = dyn Fn(&[&[Matcher]]) -> Option<Vec<Arc<Peer>>> + 'a;

/// Takes out of `expr` what endpoints can do. One that names labels of what stands for that stays whole.
pub fn push(expr: &mut Expr, choose: &Choose<'_>) -> Vec<Pushed> {
    let mut pushed = Vec::new();
    let text = expr.to_string();
    if [PUSHED, COUNTED, ENDPOINT].iter().any(|label| text.contains(*label)) {
        return pushed;
    }
    visit(expr, choose, &mut pushed);
    pushed
}

fn visit(expr: &mut Expr, choose: &Choose<'_>, pushed: &mut Vec<Pushed>) {
    if let Expr::Aggregate(aggregate) = expr
        && let Some(left) = replace(aggregate, choose, pushed)
    {
        *expr = left;
        return;
    }
    match expr {
        Expr::Aggregate(node) => {
            visit(&mut node.expr, choose, pushed);
            node.param.iter_mut().for_each(|param| visit(param, choose, pushed));
        }
        Expr::Binary(node) => {
            visit(&mut node.lhs, choose, pushed);
            visit(&mut node.rhs, choose, pushed);
        }
        Expr::Call(node) => node.args.iter_mut().for_each(|argument| visit(argument, choose, pushed)),
        Expr::Paren(node) => visit(&mut node.expr, choose, pushed),
        Expr::Unary(node) => visit(&mut node.expr, choose, pushed),
        // The steps of a subquery are not those of the query, which endpoints are asked for.
        Expr::Subquery(_) | Expr::Matrix(_) | Expr::Vector(_) | Expr::Number(_) | Expr::String(_) => {}
    }
}

/// What is left of an aggregation when endpoints do their share; `None` when they can't.
fn replace(node: &Aggregate, choose: &Choose<'_>, pushed: &mut Vec<Pushed>) -> Option<Expr> {
    use AggregateOp::{Avg, Count, Group, Max, Min, Sum};
    if !matches!(node.op, Avg | Count | Group | Max | Min | Sum) {
        return None;
    }
    let mut selectors = Vec::new();
    if !is_of_single_series(&node.expr, &mut selectors) || selectors.is_empty() {
        return None;
    }
    if node.op == Avg && groups_by_metadata(node) {
        return None;
    }
    let peers = choose(&selectors)?;
    let (partial, counting) = match node.op {
        Avg => (Sum, Counting::Always),
        Sum => (Sum, Counting::OfMixed),
        op => (op, Counting::Never),
    };
    let text = |op| Expr::Aggregate(Box::new(Aggregate { op, ..node.clone() })).to_string();
    let number = pushed.len();
    pushed.push(Pushed { text: text(partial), count: text(Count), counting, mean: text(Avg), peers });
    let left = |op, stands_for| {
        let mut grouping = node.grouping.clone();
        if node.without {
            grouping.push(ENDPOINT.to_owned());
        }
        let expr = stand_in(stands_for, number, &node.expr);
        Expr::Aggregate(Box::new(Aggregate { op, expr, grouping, ..node.clone() }))
    };
    Some(match node.op {
        Avg => {
            let (lhs, rhs) = (left(Sum, PUSHED), left(Sum, COUNTED));
            let matching = Some(Default::default());
            Expr::Binary(Box::new(Binary { op: BinaryOp::Div, lhs, rhs, matching, return_bool: false }))
        }
        Count => left(Sum, PUSHED),
        op => left(op, PUSHED),
    })
}

/// The matcher of the selector that stands for aggregation `number`.
fn standing_for(label: &str, number: usize) -> Matcher {
    let value: ByteString = number.to_string().as_str().into();
    Matcher::equal(label, value)
}

/// The selector that stands for aggregation `number` of `expr`, where that stands.
fn stand_in(label: &str, number: usize, expr: &Expr) -> Expr {
    Expr::Vector(Box::new(VectorSelector {
        name: String::new(),
        matchers: vec![standing_for(label, number)],
        offset: Default::default(),
        offset_expr: None,
        at: None,
        extension: None,
        range: expr.without_parens().range(),
    }))
}

/// Whether groups may have a metric's name, type or unit: a quotient of sums and counts has none of them.
fn groups_by_metadata(node: &Aggregate) -> bool {
    if !node.without {
        return node.grouping.iter().any(|name| is_metadata_label(name));
    }
    // The name never makes a group of those without labels.
    let is_left_out = |name: &str| node.grouping.iter().any(|unwanted| unwanted == name);
    may_have_metadata(&node.expr) && !(is_left_out("__type__") && is_left_out("__unit__"))
}

/// Whether series of `expr` may still have the name, type and unit of those that they are made of.
fn may_have_metadata(expr: &Expr) -> bool {
    use BinaryOp::{Add, Atan2, Div, Mod, Mul, Pow, Sub};
    match expr {
        Expr::Call(call) => KEEPING_METADATA.contains(&call.function.name) && call.args.iter().any(may_have_metadata),
        Expr::Unary(unary) => unary.op == UnaryOp::Plus && may_have_metadata(&unary.expr),
        Expr::Binary(binary) => {
            let is_another_metric = matches!(binary.op, Add | Sub | Mul | Div | Mod | Pow | Atan2);
            let is_filter = !is_another_metric && !binary.return_bool;
            is_filter && (may_have_metadata(&binary.lhs) || may_have_metadata(&binary.rhs))
        }
        Expr::Paren(paren) => may_have_metadata(&paren.expr),
        Expr::Subquery(subquery) => may_have_metadata(&subquery.expr),
        Expr::Number(_) | Expr::String(_) => false,
        Expr::Vector(_) | Expr::Matrix(_) | Expr::Aggregate(_) => true,
    }
}

/// Functions whose results keep the type and unit of their series, and some of them the name.
const KEEPING_METADATA: [&str; 7] = [
    "first_over_time",
    "histogram_avg",
    "histogram_count",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "last_over_time",
];

/// Functions whose result for a series depends on other series, or is there without any.
const OVER_MANY: [&str; 10] = [
    "absent",
    "absent_over_time",
    "info",
    "label_join",
    "label_replace",
    "scalar",
    "sort",
    "sort_desc",
    "sort_by_label",
    "sort_by_label_desc",
];

/// Whether each series of `expr` comes of series of one endpoint; gathers its selectors.
fn is_of_single_series<'e>(expr: &'e Expr, selectors: &mut Vec<&'e [Matcher]>) -> bool {
    match expr {
        Expr::Vector(selector) => {
            selectors.push(&selector.matchers);
            selector.offset_expr.is_none() && selector.extension.is_none()
        }
        Expr::Matrix(matrix) => {
            selectors.push(&matrix.selector.matchers);
            let selector = &matrix.selector;
            matrix.window_expr.is_none() && selector.offset_expr.is_none() && selector.extension.is_none()
        }
        Expr::Subquery(subquery) => {
            let is_plain = subquery.window_expr.is_none() && subquery.offset_expr.is_none();
            // Without a step of its own it takes the default of whoever evaluates it.
            let has_step = subquery.step_expr.is_none() && subquery.step != Default::default();
            is_plain && has_step && is_of_single_series(&subquery.expr, selectors)
        }
        Expr::Paren(paren) => is_of_single_series(&paren.expr, selectors),
        Expr::Unary(unary) => is_of_single_series(&unary.expr, selectors),
        Expr::Call(call) => {
            let vectors = call.args.iter().filter(|argument| is_vector(argument)).count();
            let plain = call.args.iter().filter(|argument| !is_vector(argument));
            vectors == 1
                && !OVER_MANY.contains(&call.function.name)
                && plain.clone().all(is_constant)
                && call
                    .args
                    .iter()
                    .filter(|argument| is_vector(argument))
                    .all(|one| is_of_single_series(one, selectors))
        }
        Expr::Binary(binary) => match (is_vector(&binary.lhs), is_vector(&binary.rhs)) {
            (true, false) => is_constant(&binary.rhs) && is_of_single_series(&binary.lhs, selectors),
            (false, true) => is_constant(&binary.lhs) && is_of_single_series(&binary.rhs, selectors),
            _ => false,
        },
        Expr::Aggregate(_) | Expr::Number(_) | Expr::String(_) => false,
    }
}

fn is_vector(expr: &Expr) -> bool {
    matches!(expr.value_type(), ValueType::Vector | ValueType::Matrix)
}

/// Whether `expr` has no selector below it.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Vector(_) | Expr::Matrix(_) => false,
        other => other.children().into_iter().all(is_constant),
    }
}

/// Whether no series can be below both lists of external label sets: each pair of sets has a label,
/// no replica label, with two values.
pub fn are_apart(one: &[Labels], other: &[Labels], replica_labels: &[String]) -> bool {
    let differ = |one: &Labels, other: &Labels| {
        one.iter().any(|(name, value)| {
            !replica_labels.iter().any(|replica| replica == name) && other.get(name).is_some_and(|found| found != value)
        })
    };
    !one.is_empty() && !other.is_empty() && one.iter().all(|one| other.iter().all(|other| differ(one, other)))
}

#[cfg(test)]
mod tests {
    use engine::promql::syntax::{Options, parse};

    use super::*;

    /// What endpoints are asked, and what is left.
    fn pushed(query: &str) -> (Vec<String>, String) {
        let mut expr = parse(query, Options::ALL).unwrap();
        let found = push(&mut expr, &|_| Some(Vec::new()));
        (found.into_iter().map(|pushed| pushed.text).collect(), expr.to_string())
    }

    #[test]
    fn aggregations_of_single_series_are_pushed_down() {
        let (asked, left) = pushed("sum by (a) (rate(b[5m])) / on (a) group_left () c");
        assert_eq!(asked, ["sum by (a) (rate(b[5m]))"]);
        assert_eq!(left, "sum by (a) ({__uru_pushed__=\"0\"}) / on (a) group_left () c");
        let (asked, left) = pushed("count without (a) (b > 1)");
        assert_eq!((asked[0].as_str(), asked.len()), ("count without (a) (b > 1)", 1));
        assert_eq!(left, "sum without (a, __uru_endpoint__) ({__uru_pushed__=\"0\"})");
        let (asked, left) = pushed("avg(b) + max(max by (c) (d))");
        assert_eq!(asked, ["sum(b)", "max by (c) (d)"]);
        assert_eq!(
            left,
            "sum({__uru_pushed__=\"0\"}) / sum({__uru_counted__=\"0\"}) + max(max by (c) ({__uru_pushed__=\"1\"}))"
        );
    }

    #[test]
    fn queries_that_name_what_stands_for_shares_stay() {
        for query in [
            "sum(a) or {__uru_pushed__=\"0\"}",
            "sum(a) or {\"__uru_counted__\"=~\"0|1\"}",
            "sum by (__uru_endpoint__) (a)",
            "sum(label_replace(sum(a), \"__uru_endpoint__\", \"\", \"\", \"\"))",
        ] {
            let (asked, _) = pushed(query);
            assert!(asked.is_empty(), "{query}: {asked:?}");
        }
    }

    #[test]
    fn shares_are_told_by_the_selectors_that_stand_for_them() {
        let mut expr = parse("max(b) + avg by (a) (b)", Options::ALL).unwrap();
        let found = push(&mut expr, &|_| Some(Vec::new()));
        let [(sums, told), (counts, counted)] = found[1].stand_ins(1);
        let left = expr.to_string();
        assert!(left.contains(&format!("sum by (a) ({sums}) / sum by (a) ({counts})")), "{left}");
        assert_eq!((told.as_str(), counted.as_str()), ("remote sum by (a) (b) on ", "remote count by (a) (b) on "));
    }

    #[test]
    fn samples_are_counted_where_a_result_is_of_their_number() {
        let mut expr = parse("avg by (a) (b) + sum(b) + max(b)", Options::ALL).unwrap();
        let found = push(&mut expr, &|_| Some(Vec::new()));
        let counting: Vec<_> = found.iter().map(|pushed| (pushed.count.as_str(), pushed.counting)).collect();
        assert_eq!(
            counting,
            [("count by (a) (b)", Counting::Always), ("count(b)", Counting::OfMixed), ("count(b)", Counting::Never)]
        );
    }

    #[test]
    fn means_by_labels_that_a_quotient_loses_stay() {
        for query in [
            "avg by (__name__) (a)",
            "avg by (b, __type__) (rate(a[5m]))",
            "avg without (b) (a)",
            "avg without (b, __type__) (+(a > 1))",
            "avg without (b) (last_over_time(a[5m]))",
            "avg without (b) (histogram_sum(a))",
        ] {
            let (asked, _) = pushed(query);
            assert!(asked.is_empty(), "{query}: {asked:?}");
        }
        for query in [
            "avg by (b) (a)",
            "avg without (b) (rate(a[5m]))",
            "avg without (b) (-a)",
            "avg without (b) (a > bool 1)",
            "avg without (b) (2 * a)",
            "avg without (b, __unit__, __type__) (a)",
            "sum by (__name__) (a)",
            "count without (b) (a)",
        ] {
            assert_eq!(pushed(query).0.len(), 1, "{query}");
        }
    }

    #[test]
    fn what_needs_series_of_several_endpoints_stays() {
        for query in [
            "quantile(0.9, a)",
            "topk(3, a)",
            "a + b",
            "sum(a / b)",
            "sum(absent(a))",
            "sum(label_replace(a, \"b\", \"\", \"c\", \"\"))",
            "max_over_time(sum(a)[5m:1m])",
            "sum(max_over_time(a[5m:]))",
            "sum(a * scalar(b))",
            "sum(vector(1))",
        ] {
            let (asked, _) = pushed(query);
            assert!(asked.is_empty(), "{query}: {asked:?}");
        }
        assert_eq!(pushed("stddev(sum by (a) (b))").0, ["sum by (a) (b)"]);
    }

    #[test]
    fn endpoints_are_apart_when_a_label_that_is_no_replicas_differs() {
        let set = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        let replica = ["replica".to_owned()];
        let (a, b) = ([set(&[("cluster", "a"), ("replica", "1")])], [set(&[("cluster", "b"), ("replica", "1")])]);
        let again = [set(&[("cluster", "a"), ("replica", "2")])];
        assert!(are_apart(&a, &b, &replica));
        assert!(!are_apart(&a, &again, &replica));
        assert!(are_apart(&a, &again, &[]));
        assert!(!are_apart(&a, &[set(&[("other", "x")])], &[]));
        assert!(!are_apart(&a, &[], &[]));
    }
}
