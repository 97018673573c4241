//! What is known of an operator and of all below it: found once, when the operator is built, of what is known of its
//! inputs. A walk for each operator of a chain would go down the rest of the chain each time.

use super::super::function::RangeFunction;
use super::super::value::is_metadata_label;
use super::{AggregateOperator, Call, Comparison, Grouping, Node, Operator, RangeArgument, ValueKind};

/// What is known of an operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    kind: ValueKind,
    merges_kinds: bool,
    distinct_without_name: bool,
    streams: bool,
    reads_series: bool,
    /// The least and the greatest number of it and of the operators below it.
    ids: (usize, usize),
}

impl Node {
    /// Operator number `id` of a query, whose expression begins at byte `position`.
    pub(super) fn new((id, position): (usize, usize), operator: Operator) -> Self {
        let wider = |(low, high): (usize, usize), input: &Self| {
            let (least, greatest) = input.facts.ids;
            (low.min(least), high.max(greatest))
        };
        let facts = Facts {
            kind: operator.kind(),
            merges_kinds: operator.merges_kinds(),
            distinct_without_name: operator.distinct_without_name(),
            streams: operator.streams(),
            reads_series: operator.reads_series(),
            ids: operator.inputs().fold((id, id), wider),
        };
        Self { id, position, operator, facts }
    }

    /// What the operator gives.
    pub fn kind(&self) -> ValueKind {
        self.facts.kind
    }

    /// Whether it makes one row of a series of floats and one of histograms also where both have a
    /// sample at the same step.
    pub fn merges_kinds(&self) -> bool {
        self.facts.merges_kinds
    }

    /// Whether rows are still distinct when their metric names are taken away.
    pub fn distinct_without_name(&self) -> bool {
        self.facts.distinct_without_name
    }

    /// Whether it gives its rows batch by batch.
    pub fn streams(&self) -> bool {
        self.facts.streams
    }

    /// Whether neither this operator nor one below it reads series.
    pub fn is_free_of_series(&self) -> bool {
        !self.facts.reads_series
    }

    /// The operator number `id`, when it is this one or below it.
    pub fn find(&self, id: usize) -> Option<&Self> {
        let (least, greatest) = self.facts.ids;
        if self.id == id {
            return Some(self);
        }
        if !(least..=greatest).contains(&id) {
            return None;
        }
        self.inputs().find_map(|input| input.find(id))
    }
}

impl Operator {
    fn kind(&self) -> ValueKind {
        match self {
            Self::Number(_) => ValueKind::Scalar,
            Self::Text(_) => ValueKind::Text,
            Self::Samples(_) => ValueKind::Matrix,
            Self::Call(Call::Time | Call::Pi | Call::Scalar | Call::MaxOf | Call::MinOf, _) => ValueKind::Scalar,
            Self::Negate(input) | Self::Plus(input) | Self::StepInvariant(input) => input.kind(),
            Self::Binary(binary) => match (binary.left.kind(), binary.right.kind()) {
                (ValueKind::Scalar, ValueKind::Scalar) => ValueKind::Scalar,
                _ => ValueKind::Vector,
            },
            _ => ValueKind::Vector,
        }
    }

    fn merges_kinds(&self) -> bool {
        match self {
            Self::Negate(_) | Self::Call(Call::LabelReplace(_) | Call::LabelJoin(_), _) => true,
            Self::Plus(input) => input.merges_kinds(),
            _ => false,
        }
    }

    fn distinct_without_name(&self) -> bool {
        match self {
            Self::Select(select) => select.has_one_name(),
            Self::OverTime(call) => match &call.argument {
                _ if !call.function.keeps_name() => true,
                RangeArgument::Select(select, _) => select.has_one_name(),
                RangeArgument::Subquery(subquery) => subquery.input.distinct_without_name(),
            },
            Self::Float(..) | Self::Negate(_) => true,
            Self::Aggregate(aggregate) => match &aggregate.grouping {
                _ if aggregate.operator.keeps_series() => aggregate.input.distinct_without_name(),
                _ if aggregate.sets_metadata() => false,
                Grouping::By(names) => !names.iter().any(|name| is_metadata_label(name)),
                Grouping::Without(_) => true,
            },
            Self::Binary(binary) => binary.operator.drops_name() || binary.comparison == Comparison::Bool,
            // A histogram's type and unit stay, and may be what tells rows apart.
            Self::Histogram(_, input) | Self::Plus(input) | Self::StepInvariant(input) => input.distinct_without_name(),
            _ => false,
        }
    }

    fn streams(&self) -> bool {
        match self {
            Self::Select(_) | Self::Histogram(..) => true,
            Self::OverTime(call) => call.function != RangeFunction::Absent,
            Self::Float(_, args) => !args.is_empty(),
            Self::Aggregate(aggregate) => aggregate.operator == AggregateOperator::CountValues,
            Self::Negate(input) => input.kind() == ValueKind::Vector,
            Self::Plus(input) => input.streams(),
            Self::Binary(binary) => {
                (binary.left.kind() == ValueKind::Scalar) != (binary.right.kind() == ValueKind::Scalar)
            }
            _ => false,
        }
    }

    fn reads_series(&self) -> bool {
        let reads = match self {
            Self::Select(_) => true,
            Self::Samples(argument) => matches!(**argument, RangeArgument::Select(..)),
            Self::OverTime(call) => matches!(call.argument, RangeArgument::Select(..)),
            Self::Call(Call::Info(..), _) => true,
            _ => false,
        };
        reads || self.inputs().any(|input| input.facts.reads_series)
    }
}
