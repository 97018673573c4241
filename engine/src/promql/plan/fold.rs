//! From the syntax tree's words to the plan's.

use super::super::syntax::ast;
use super::{AggregateOperator as A, BinaryOperator as B, Cardinality, Grouping, MatchLabels, Matching};

/// The operator of an aggregation.
pub fn aggregate_operator(op: ast::AggregateOp) -> A {
    use ast::AggregateOp as O;
    match op {
        O::Avg => A::Avg,
        O::Bottomk => A::Bottomk,
        O::Count => A::Count,
        O::CountValues => A::CountValues,
        O::Group => A::Group,
        O::Max => A::Max,
        O::Min => A::Min,
        O::Quantile => A::Quantile,
        O::Stddev => A::Stddev,
        O::Stdvar => A::Stdvar,
        O::Sum => A::Sum,
        O::Topk => A::Topk,
        O::Limitk => A::Limitk,
        O::LimitRatio => A::LimitRatio,
    }
}

/// The operator of a binary expression.
pub fn binary_operator(op: ast::BinaryOp) -> B {
    use ast::BinaryOp as O;
    match op {
        O::Add => B::Add,
        O::Sub => B::Sub,
        O::Mul => B::Mul,
        O::Div => B::Div,
        O::Mod => B::Mod,
        O::Pow => B::Pow,
        O::Atan2 => B::Atan2,
        O::Eq => B::Equal,
        O::NotEq => B::NotEqual,
        O::Less => B::Less,
        O::LessEq => B::LessEqual,
        O::Greater => B::Greater,
        O::GreaterEq => B::GreaterEqual,
        O::TrimUpper => B::TrimUpper,
        O::TrimLower => B::TrimLower,
        O::And => B::And,
        O::Or => B::Or,
        O::Unless => B::Unless,
    }
}

/// What makes a group.
pub fn grouping(node: &ast::Aggregate) -> Grouping {
    let names = sorted(&node.grouping);
    if node.without { Grouping::Without(names) } else { Grouping::By(names) }
}

/// How rows match.
pub fn matching(matching: &ast::VectorMatching) -> Matching {
    let names = sorted(&matching.labels);
    Matching {
        cardinality: match matching.cardinality {
            ast::Cardinality::OneToOne => Cardinality::OneToOne,
            ast::Cardinality::ManyToOne => Cardinality::ManyToOne,
            ast::Cardinality::OneToMany => Cardinality::OneToMany,
            ast::Cardinality::ManyToMany => Cardinality::ManyToMany,
        },
        labels: if matching.on { MatchLabels::On(names) } else { MatchLabels::Ignoring(names) },
        include: matching.include.clone(),
        fill_left: matching.fill_left,
        fill_right: matching.fill_right,
    }
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names.dedup();
    names
}
