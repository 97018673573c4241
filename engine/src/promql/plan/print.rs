//! Operators and what lies below them, and in words for `explain`.

use super::{
    Binary, Call, Cardinality, Comparison, Extension, Grouping, MatchLabels, Matching, Node, Operator, Order,
    RangeArgument, Select, Subquery,
};

impl Node {
    /// The operators that this one reads from.
    pub fn inputs(&self) -> impl Iterator<Item = &Node> {
        self.operator.inputs()
    }

    /// The operator in a few words.
    pub fn describe(&self) -> String {
        match &self.operator {
            Operator::Number(value) => format!("number {value}"),
            Operator::Text(text) => format!("string {:?}", text.to_string_lossy()),
            Operator::Select(select) => format!("select {}{}", select.text, select.modifiers()),
            Operator::Samples(argument) => format!("range {}", argument.describe()),
            Operator::OverTime(call) => format!("{} over {}", call.function.name(), call.argument.describe()),
            Operator::Float(function, _) => function.name().to_owned(),
            Operator::Histogram(function, _) => function.name().to_owned(),
            Operator::Call(call, _) => call.name().to_owned(),
            Operator::Aggregate(aggregate) => {
                format!("{}{}", aggregate.operator.name(), aggregate.grouping.describe())
            }
            Operator::Binary(binary) => format!("binary {}", binary.describe()),
            Operator::Negate(_) => "negate".to_owned(),
            Operator::Plus(_) => "plus".to_owned(),
            Operator::StepInvariant(_) => "once for all steps".to_owned(),
        }
    }
}

impl Operator {
    /// The operators that it reads from.
    pub(super) fn inputs(&self) -> impl Iterator<Item = &Node> {
        let (first, more, last): (Option<&Node>, &[Node], Option<&Node>) = match self {
            Self::Number(_) | Self::Text(_) | Self::Select(_) => (None, &[], None),
            Self::Samples(argument) => (argument.input(), &[], None),
            Self::OverTime(call) => (call.argument.input(), call.params.as_slice(), None),
            Self::Float(_, args) | Self::Call(_, args) => (None, args.as_slice(), None),
            Self::Histogram(_, input) | Self::Negate(input) | Self::Plus(input) | Self::StepInvariant(input) => {
                (Some(input.as_ref()), &[], None)
            }
            Self::Aggregate(aggregate) => (Some(&aggregate.input), &[], aggregate.param.as_ref()),
            Self::Binary(binary) => (Some(&binary.left), &[], Some(&binary.right)),
        };
        first.into_iter().chain(more).chain(last)
    }
}

impl RangeArgument {
    fn input(&self) -> Option<&Node> {
        match self {
            Self::Select(..) => None,
            Self::Subquery(subquery) => Some(&subquery.input),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Select(select, range) => format!("{}[{range}ms]{}", select.text, select.modifiers()),
            Self::Subquery(Subquery { range, step, offset, at, .. }) => {
                format!("subquery [{range}ms:{step}ms]{}", times(*at, *offset))
            }
        }
    }
}

impl Select {
    /// What stands behind the selector, with a space before each.
    fn modifiers(&self) -> String {
        let extension = match self.extension {
            Extension::None => "",
            Extension::Anchored => " anchored",
            Extension::Smoothed => " smoothed",
        };
        format!("{extension}{}", times(self.at, self.offset))
    }
}

/// `@` and `offset` with a space before each, where there are any.
fn times(at: Option<i64>, offset: i64) -> String {
    let at = at.map(|at| format!(" @ {:.3}", at as f64 / 1000.0)).unwrap_or_default();
    if offset == 0 { at } else { format!("{at} offset {offset}ms") }
}

impl Binary {
    fn describe(&self) -> String {
        let word = if self.comparison == Comparison::Bool { " bool" } else { "" };
        let matching = self.matching.as_ref().map(Matching::describe).unwrap_or_default();
        format!("{}{word}{matching}", self.operator.symbol())
    }
}

impl Matching {
    /// What stands behind the operator, with a space before each.
    fn describe(&self) -> String {
        let side = match self.cardinality {
            Cardinality::ManyToOne => Some("left"),
            Cardinality::OneToMany => Some("right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        let labels = match &self.labels {
            MatchLabels::Ignoring(names) if names.is_empty() && side.is_none() => String::new(),
            MatchLabels::On(names) => format!(" on ({})", names.join(", ")),
            MatchLabels::Ignoring(names) => format!(" ignoring ({})", names.join(", ")),
        };
        let group = side.map(|side| format!(" group_{side} ({})", self.include.join(", "))).unwrap_or_default();
        let fill = |side: &str, value: Option<f64>| value.map(|value| format!(" fill_{side} ({value})"));
        let left = fill("left", self.fill_left).unwrap_or_default();
        let right = fill("right", self.fill_right).unwrap_or_default();
        format!("{labels}{group}{left}{right}")
    }
}

impl Grouping {
    fn describe(&self) -> String {
        match self {
            Self::By(names) if names.is_empty() => String::new(),
            Self::By(names) => format!(" by ({})", names.join(", ")),
            Self::Without(names) => format!(" without ({})", names.join(", ")),
        }
    }
}

impl Call {
    /// The name of the function.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Pi => "pi",
            Self::Vector => "vector",
            Self::Scalar => "scalar",
            Self::MaxOf => "max_of",
            Self::MinOf => "min_of",
            Self::Timestamp => "timestamp",
            Self::StartTimestamp => "start_timestamp",
            Self::Absent => "absent",
            Self::Sort(Order::Ascending) => "sort",
            Self::Sort(Order::Descending) => "sort_desc",
            Self::SortByLabel(Order::Ascending, _) => "sort_by_label",
            Self::SortByLabel(Order::Descending, _) => "sort_by_label_desc",
            Self::LabelReplace(_) => "label_replace",
            Self::LabelJoin(_) => "label_join",
            Self::HistogramQuantile => "histogram_quantile",
            Self::HistogramQuantiles(_) => "histogram_quantiles",
            Self::HistogramFraction => "histogram_fraction",
            Self::Info(..) => "info",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Build, build};
    use crate::promql::syntax;

    #[test]
    fn operators_are_told_apart_by_what_is_written_behind_them() {
        let named = |query: &str| {
            let expr = syntax::parse(query, syntax::Options::ALL).unwrap();
            let times = Build { start: 0, end: 60_000, step: 60_000, default_step: 60_000, lookback: 300_000 };
            build(&times, &expr).unwrap().root.describe()
        };
        for (query, name) in [
            ("up{job=\"a\"} offset 5m", "select up{job=\"a\"} offset 300000ms"),
            ("rate(up[5m] offset -1m)", "rate over up[300000ms] offset -60000ms"),
            ("max_over_time(up[5m:1m] offset 1h)", "max_over_time over subquery [300000ms:60000ms] offset 3600000ms"),
            ("rate(up[5m] smoothed)", "rate over up[300000ms] smoothed"),
            ("up / on (job, zone) group_left (name) build", "binary / on (job, zone) group_left (name)"),
            ("up > bool ignoring (job) down", "binary > bool ignoring (job)"),
            ("up * ignoring () group_right () down", "binary * ignoring () group_right ()"),
            ("up + fill_left (0) down", "binary + fill_left (0)"),
            ("up and on () down", "binary and on ()"),
            ("up > bool 1", "binary > bool"),
            ("up + down", "binary +"),
        ] {
            assert_eq!(named(query), name, "{query}");
        }
        let expr = syntax::parse("up @ 60 offset 1m", syntax::Options::ALL).unwrap();
        let times = Build { start: 0, end: 60_000, step: 60_000, default_step: 60_000, lookback: 300_000 };
        let root = build(&times, &expr).unwrap().root;
        assert_eq!(root.describe(), "once for all steps");
        let inputs: Vec<String> = root.inputs().map(|input| input.describe()).collect();
        assert_eq!(inputs, ["select up @ 60.000 offset 60000ms"]);
    }
}
