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
    match &mut aggregate.input.operator {
        // What lies between may have to tell series apart that differ in name only; here nothing does.
        Operator::Select(select) => select.hints.projection = wanted,
        _ => mark(&mut aggregate.input, wanted),
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
        Operator::Histogram(_, input) | Operator::Negate(input) => mark(input, wanted),
        _ => {}
    }
}

fn project(select: &mut Select, wanted: Option<Vec<String>>) {
    if select.has_one_name() {
        select.hints.projection = wanted;
    }
}
