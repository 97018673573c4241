//! The time at which `info` looks at its info series: that of the selectors in its first argument,
//! when they agree.

use super::{Call, Node, Operator, RangeArgument, ValueKind};

/// When info series are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InfoTime {
    /// The time that takes the step's place (Unix milliseconds).
    pub at: Option<i64>,
    /// Milliseconds by which they lie earlier than that.
    pub offset: i64,
}

/// What the selectors of an expression say.
#[derive(Debug, Default)]
struct Survey {
    first: Option<InfoTime>,
    differs: bool,
    selector_free: bool,
}

impl InfoTime {
    /// The time of the selectors under `node`, and whether they agree; the step's time when they
    /// do not.
    pub fn of(node: &Node) -> (Self, bool) {
        let mut survey = Survey::default();
        survey.visit(node, &[]);
        match survey.first {
            Some(first) if !survey.differs && !survey.selector_free => (first, true),
            _ => (Self::default(), false),
        }
    }

    /// Shifts a time that no `@` has fixed by the subqueries around it, innermost first.
    fn within(mut self, subqueries: &[Self]) -> Self {
        for outer in subqueries.iter().rev() {
            if self.at.is_some() {
                break;
            }
            self.offset += outer.offset;
            self.at = outer.at;
        }
        self
    }

    fn agrees_with(self, other: Self) -> bool {
        match (self.at, other.at) {
            (Some(one), Some(two)) => one - self.offset == two - other.offset,
            (None, None) => self.offset == other.offset,
            _ => false,
        }
    }
}

impl Survey {
    /// Whether there is a selector under `node`.
    fn visit(&mut self, node: &Node, subqueries: &[InfoTime]) -> bool {
        if !matches!(node.kind(), ValueKind::Vector | ValueKind::Matrix) {
            return false;
        }
        let found = match &node.operator {
            Operator::Select(select) => self.take(InfoTime { at: select.at, offset: select.offset }, subqueries),
            Operator::OverTime(call) => self.visit_range(&call.argument, subqueries),
            Operator::Samples(argument) => self.visit_range(argument, subqueries),
            Operator::Call(Call::Info(..), args) => self.visit(&args[0], subqueries),
            _ => {
                let mut found = false;
                for input in node.inputs() {
                    found |= self.visit(input, subqueries);
                }
                found
            }
        };
        if !found {
            self.selector_free = true;
        }
        found
    }

    fn visit_range(&mut self, argument: &RangeArgument, subqueries: &[InfoTime]) -> bool {
        match argument {
            RangeArgument::Select(select, _) => {
                self.take(InfoTime { at: select.at, offset: select.offset }, subqueries)
            }
            RangeArgument::Subquery(subquery) => {
                let mut path = subqueries.to_vec();
                path.push(InfoTime { at: subquery.at, offset: subquery.offset });
                self.visit(&subquery.input, &path)
            }
        }
    }

    fn take(&mut self, time: InfoTime, subqueries: &[InfoTime]) -> bool {
        let time = time.within(subqueries);
        match self.first {
            None => self.first = Some(time),
            Some(first) => self.differs |= !first.agrees_with(time),
        }
        true
    }
}
