//! Operators and what lies below them: found by their number, and in words for `explain`.

use super::{Call, Grouping, Node, Operator, Order, RangeArgument};

impl Node {
    /// The operators that this one reads from.
    pub fn inputs(&self) -> Vec<&Node> {
        match &self.operator {
            Operator::Number(_) | Operator::Text(_) | Operator::Select(_) => Vec::new(),
            Operator::Samples(argument) => argument.inputs(),
            Operator::OverTime(call) => call.argument.inputs().into_iter().chain(&call.params).collect(),
            Operator::Float(_, args) | Operator::Call(_, args) => args.iter().collect(),
            Operator::Histogram(_, input)
            | Operator::Negate(input)
            | Operator::Plus(input)
            | Operator::StepInvariant(input) => vec![input],
            Operator::Aggregate(aggregate) => {
                std::iter::once(&aggregate.input).chain(aggregate.param.as_ref()).collect()
            }
            Operator::Binary(binary) => vec![&binary.left, &binary.right],
        }
    }

    /// The operator number `id`, when it is this one or below it.
    pub fn find(&self, id: usize) -> Option<&Self> {
        if self.id == id { Some(self) } else { self.inputs().into_iter().find_map(|input| input.find(id)) }
    }

    /// Whether neither this operator nor one below it reads series.
    pub fn is_free_of_series(&self) -> bool {
        let reads = match &self.operator {
            Operator::Select(_) => true,
            Operator::Samples(argument) => matches!(**argument, RangeArgument::Select(..)),
            Operator::OverTime(call) => matches!(call.argument, RangeArgument::Select(..)),
            Operator::Call(Call::Info(..), _) => true,
            _ => false,
        };
        !reads && self.inputs().into_iter().all(Self::is_free_of_series)
    }

    /// The operator in a few words.
    pub fn describe(&self) -> String {
        match &self.operator {
            Operator::Number(value) => format!("number {value}"),
            Operator::Text(text) => format!("string {:?}", text.to_string_lossy()),
            Operator::Select(select) => format!("select {}", select.text),
            Operator::Samples(argument) => format!("range {}", argument.describe()),
            Operator::OverTime(call) => format!("{} over {}", call.function.name(), call.argument.describe()),
            Operator::Float(function, _) => function.name().to_owned(),
            Operator::Histogram(function, _) => function.name().to_owned(),
            Operator::Call(call, _) => call.name().to_owned(),
            Operator::Aggregate(aggregate) => {
                format!("{}{}", aggregate.operator.name(), aggregate.grouping.describe())
            }
            Operator::Binary(binary) => format!("binary {}", binary.operator.symbol()),
            Operator::Negate(_) => "negate".to_owned(),
            Operator::Plus(_) => "plus".to_owned(),
            Operator::StepInvariant(_) => "once for all steps".to_owned(),
        }
    }
}

impl RangeArgument {
    fn inputs(&self) -> Vec<&Node> {
        match self {
            Self::Select(..) => Vec::new(),
            Self::Subquery(subquery) => vec![&subquery.input],
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Select(select, range) => format!("{}[{range}ms]", select.text),
            Self::Subquery(subquery) => format!("subquery [{}ms:{}ms]", subquery.range, subquery.step),
        }
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
