//! What selectors are told of the operators around them.

use crate::model::labels::METRIC_NAME;

use super::{Aggregate, AggregateOperator, Grouping, Names, Node, Operator, RangeArgument, Select};

/// Tells the selector that streams into `aggregate` which labels matter, and lets names stay where
/// the aggregation leaves them out anyway.
pub fn push_down(aggregate: &mut Aggregate) {
    let folds = !aggregate.operator.keeps_series() && aggregate.operator != AggregateOperator::CountValues;
    if !folds {
        return;
    }
    let wanted = match &aggregate.grouping {
        Grouping::By(names) => {
            let mut wanted = names.clone();
            wanted.extend([METRIC_NAME, "__type__", "__unit__"].map(str::to_owned));
            wanted.sort();
            wanted.dedup();
            Some(wanted)
        }
        Grouping::Without(_) => None,
    };
    mark_input(&mut aggregate.input, wanted);
}

fn mark_input(input: &mut Node, wanted: Option<Vec<String>>) {
    match &mut input.operator {
        // What lies between may have to tell series apart that differ in name only; here nothing does.
        Operator::Select(select) => select.hints.projection = wanted,
        Operator::Plus(input) => mark_input(input, wanted),
        _ => mark(input, wanted),
    }
}

fn mark(node: &mut Node, wanted: Option<Vec<String>>) {
    match &mut node.operator {
        Operator::Select(select) => project(select, wanted),
        Operator::OverTime(call) => {
            call.names = Names::Mark;
            if let RangeArgument::Select(select, _) = &mut call.argument {
                project(select, wanted);
            }
        }
        Operator::Float(_, args) if !args.is_empty() => mark(&mut args[0], wanted),
        Operator::Histogram(_, input) | Operator::Plus(input) => mark(input, wanted),
        // Above what makes one row of two kinds it looks for rows with the same labels, which series have that come
        // without the others.
        Operator::Negate(input) if !input.merges_kinds() => mark(input, wanted),
        _ => {}
    }
}

fn project(select: &mut Select, wanted: Option<Vec<String>>) {
    if select.has_one_name() {
        select.hints.projection = wanted;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Build, Plan, build};
    use super::*;
    use crate::promql::syntax;

    /// Whether the selector of `query` is told which labels matter.
    fn is_projected(query: &str) -> bool {
        let expr = syntax::parse(query, syntax::Options::default()).unwrap();
        let times = Build { start: 0, end: 60_000, step: 60_000, default_step: 60_000, lookback: 300_000 };
        let Plan { root, .. } = build(&times, &expr).unwrap();
        let mut nodes = vec![&root];
        while let Some(node) = nodes.pop() {
            match &node.operator {
                Operator::Select(select) => return select.hints.projection.is_some(),
                Operator::OverTime(call) => {
                    if let RangeArgument::Select(select, _) = &call.argument {
                        return select.hints.projection.is_some();
                    }
                }
                _ => {}
            }
            nodes.extend(node.inputs());
        }
        panic!("{query} has a selector")
    }

    #[test]
    fn labels_stay_below_an_operator_that_looks_for_rows_with_the_same_ones() {
        for query in ["sum(x)", "sum(-x)", "sum(abs(x))", "sum(-abs(-x))", "sum by (a) (-rate(x[1m]))"] {
            assert!(is_projected(query), "{query}");
        }
        for query in ["sum(+x)", "sum(+{x=\"1\"})", "sum(-+abs(+x))", "sum(+rate(x[1m]))"] {
            assert!(is_projected(query), "{query}");
        }
        for query in ["sum(-(-x))", "sum(abs(-(-x)))", "sum by (a) (-(-(-rate(x[1m]))))", "x", "topk(1, x)"] {
            assert!(!is_projected(query), "{query}");
        }
        for query in ["sum(-+-x)", "sum(abs({x=\"1\"}))", "+x"] {
            assert!(!is_projected(query), "{query}");
        }
    }
}
