//! Tokens of PromQL and how errors speak of them.

use crate::model::text::Quoted;

use super::ast::{AggregateOp, BinaryOp, TextRange};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Aggregator(AggregateOp),
    Operator(BinaryOp),
    /// `=` alone.
    Assign,
    AssignRegexp,
    NotRegexp,
    At,
    Colon,
    Comma,
    Duration,
    EndOfInput,
    Identifier,
    LeftBrace,
    LeftBracket,
    LeftParen,
    MetricIdentifier,
    Number,
    RightBrace,
    RightBracket,
    RightParen,
    String,
    Keyword(Keyword),
    Preprocessor(Preprocessor),
}

/// Words that modify an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Anchored,
    Bool,
    By,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    Offset,
    On,
    Smoothed,
    Without,
}

/// Words that stand for a value known once the query's times are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preprocessor {
    End,
    MaxOf,
    MinOf,
    Range,
    Start,
    Step,
}

/// A token and the bytes that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub range: TextRange,
}

/// What `word`, in lower case, is other than an identifier.
pub(super) fn keyword(word: &str) -> Option<TokenKind> {
    use TokenKind::{Aggregator, Operator, Preprocessor as Pre};
    Some(match word {
        "and" => Operator(BinaryOp::And),
        "or" => Operator(BinaryOp::Or),
        "unless" => Operator(BinaryOp::Unless),
        "atan2" => Operator(BinaryOp::Atan2),
        "sum" => Aggregator(AggregateOp::Sum),
        "avg" => Aggregator(AggregateOp::Avg),
        "count" => Aggregator(AggregateOp::Count),
        "min" => Aggregator(AggregateOp::Min),
        "max" => Aggregator(AggregateOp::Max),
        "group" => Aggregator(AggregateOp::Group),
        "stddev" => Aggregator(AggregateOp::Stddev),
        "stdvar" => Aggregator(AggregateOp::Stdvar),
        "topk" => Aggregator(AggregateOp::Topk),
        "bottomk" => Aggregator(AggregateOp::Bottomk),
        "count_values" => Aggregator(AggregateOp::CountValues),
        "quantile" => Aggregator(AggregateOp::Quantile),
        "limitk" => Aggregator(AggregateOp::Limitk),
        "limit_ratio" => Aggregator(AggregateOp::LimitRatio),
        "start" => Pre(Preprocessor::Start),
        "end" => Pre(Preprocessor::End),
        "inf" | "nan" => TokenKind::Number,
        _ => return duration_keyword(word).or_else(|| modifier(word).map(TokenKind::Keyword)),
    })
}

/// What `word`, in lower case, is within the brackets of a range.
pub(super) fn duration_keyword(word: &str) -> Option<TokenKind> {
    Some(TokenKind::Preprocessor(match word {
        "step" => Preprocessor::Step,
        "range" => Preprocessor::Range,
        "max_of" => Preprocessor::MaxOf,
        "min_of" => Preprocessor::MinOf,
        _ => return None,
    }))
}

fn modifier(word: &str) -> Option<Keyword> {
    Some(match word {
        "offset" => Keyword::Offset,
        "smoothed" => Keyword::Smoothed,
        "anchored" => Keyword::Anchored,
        "by" => Keyword::By,
        "without" => Keyword::Without,
        "on" => Keyword::On,
        "ignoring" => Keyword::Ignoring,
        "group_left" => Keyword::GroupLeft,
        "group_right" => Keyword::GroupRight,
        "fill" => Keyword::Fill,
        "fill_left" => Keyword::FillLeft,
        "fill_right" => Keyword::FillRight,
        "bool" => Keyword::Bool,
        _ => return None,
    })
}

impl TokenKind {
    /// Whether the word may be a metric's name.
    pub fn is_metric_name(self) -> bool {
        use Keyword::{Bool, GroupLeft, GroupRight, Ignoring, On};
        match self {
            Self::Identifier | Self::MetricIdentifier | Self::Aggregator(_) | Self::Preprocessor(_) => true,
            Self::Operator(op) => op.is_set(),
            Self::Keyword(word) => !matches!(word, Bool | GroupLeft | GroupRight | Ignoring | On),
            _ => false,
        }
    }

    /// Whether the word may be a label's name after `by`, `on` and their like.
    pub fn is_grouping_label(self) -> bool {
        match self {
            Self::Identifier | Self::MetricIdentifier | Self::Aggregator(_) | Self::Preprocessor(_) => true,
            Self::Operator(op) => op.is_set() || op == BinaryOp::Atan2,
            Self::Keyword(word) => word != Keyword::Without,
            _ => false,
        }
    }
}

impl Token {
    /// The token in the words of an error.
    pub fn describe(self, query: &str) -> String {
        let text = query.get(self.range.start..self.range.end).unwrap_or_default();
        match self.kind {
            TokenKind::EndOfInput => "end of input".to_owned(),
            TokenKind::Identifier => format!("identifier {}", Quoted(text.as_bytes())),
            TokenKind::MetricIdentifier => format!("metric identifier {}", Quoted(text.as_bytes())),
            TokenKind::String => format!("string {}", shortened(text)),
            TokenKind::Number => format!("number {}", shortened(text)),
            TokenKind::Duration => format!("duration {}", shortened(text)),
            TokenKind::Keyword(_) => format!("<{text}>"),
            TokenKind::Aggregator(_) => format!("<aggr:{text}>"),
            TokenKind::Operator(_) | TokenKind::At | TokenKind::AssignRegexp | TokenKind::NotRegexp => {
                format!("<op:{text}>")
            }
            _ => shortened(text),
        }
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= 10 {
        return Quoted(text.as_bytes()).to_string();
    }
    let end = text.char_indices().nth(10).map_or(text.len(), |(at, _)| at);
    format!("{}...", Quoted(text.get(..end).unwrap_or_default().as_bytes()))
}
