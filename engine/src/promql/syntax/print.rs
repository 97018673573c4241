//! Trees to text: the form that Prometheus calls canonical, which parses back to the same tree.

use std::fmt::{self, Display, Formatter};

use crate::model::DurationNs;
use crate::model::MatchKind;
use crate::model::float_text::{Notation, format_float_as};
use crate::model::labels::METRIC_NAME;
use crate::model::matcher::is_plain_name;
use crate::model::text::Quoted;

use super::ast::{
    Aggregate, At, Binary, Cardinality, DurationExpr, DurationKind, Expr, Extension, MatrixSelector, NumberLiteral,
    Subquery, VectorMatching, VectorSelector,
};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aggregate(node) => node.fmt(f),
            Self::Binary(node) => write!(f, "{} {} {}", node.lhs, Operator(node), node.rhs),
            Self::Call(node) => {
                write!(f, "{}(", node.function.name)?;
                separated(f, &node.args, ", ")?;
                f.write_str(")")
            }
            Self::Matrix(node) => node.fmt(f),
            Self::Subquery(node) => write!(f, "{}{}", node.expr, SubqueryTimes(node)),
            Self::Number(node) => node.fmt(f),
            Self::Paren(node) => write!(f, "({})", node.expr),
            Self::String(node) => Quoted(&node.value).fmt(f),
            Self::Unary(node) => write!(f, "{}{}", node.op.as_str(), node.expr),
            Self::Vector(node) => node.fmt(f),
        }
    }
}

fn separated<T: Display>(f: &mut Formatter<'_>, items: &[T], separator: &str) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(separator)?;
        }
        item.fmt(f)?;
    }
    Ok(())
}

/// Displays label names separated by commas, quoted where they must be.
struct Names<'a>(&'a [String]);

impl Display for Names<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            if is_plain_name(name) {
                f.write_str(name)?;
            } else {
                Quoted(name.as_bytes()).fmt(f)?;
            }
        }
        Ok(())
    }
}

/// Displays an aggregation without its arguments.
pub(super) struct Grouping<'a>(pub &'a Aggregate);

impl Display for Grouping<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let node = self.0;
        f.write_str(node.op.as_str())?;
        if node.without {
            write!(f, " without ({}) ", Names(&node.grouping))
        } else if !node.grouping.is_empty() {
            write!(f, " by ({}) ", Names(&node.grouping))
        } else {
            Ok(())
        }
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", Grouping(self))?;
        if let Some(param) = &self.param {
            write!(f, "{param}, ")?;
        }
        write!(f, "{})", self.expr)
    }
}

/// Displays a binary operator with its modifiers.
pub(super) struct Operator<'a>(pub &'a Binary);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        self.0.matching.as_ref().map_or(Ok(()), |matching| matching.fmt(f))
    }
}

/// With a space before each modifier.
impl Display for VectorMatching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let group = match self.cardinality {
            Cardinality::ManyToOne => Some("left"),
            Cardinality::OneToMany => Some("right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if !self.labels.is_empty() || self.on || group.is_some() {
            let word = if self.on { "on" } else { "ignoring" };
            write!(f, " {word} ({})", Names(&self.labels))?;
        }
        if let Some(side) = group {
            write!(f, " group_{side} ({})", Names(&self.include))?;
        }
        let text = |value| format_float_as(value, Notation::General);
        match (self.fill_left, self.fill_right) {
            (Some(left), Some(right)) if left == right => write!(f, " fill ({})", text(left)),
            (left, right) => {
                left.map_or(Ok(()), |left| write!(f, " fill_left ({})", text(left)))?;
                right.map_or(Ok(()), |right| write!(f, " fill_right ({})", text(right)))
            }
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.wrapped {
            f.write_str("(")?;
        }
        match &self.kind {
            DurationKind::Number(literal) => literal.fmt(f)?,
            DurationKind::Step => f.write_str("step()")?,
            DurationKind::Range => f.write_str("range()")?,
            DurationKind::Plus(inner) => inner.fmt(f)?,
            DurationKind::Minus(inner) => write!(f, "-{inner}")?,
            DurationKind::Binary(op, lhs, rhs) => write!(f, "{lhs} {} {rhs}", op.as_str())?,
            DurationKind::MinOf(lhs, rhs) => write!(f, "min_of({lhs}, {rhs})")?,
            DurationKind::MaxOf(lhs, rhs) => write!(f, "max_of({lhs}, {rhs})")?,
        }
        if self.wrapped { f.write_str(")") } else { Ok(()) }
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_duration {
            return DurationNs((self.value * 1e9) as i64).fmt(f);
        }
        f.write_str(&format_float_as(self.value, Notation::Fixed))
    }
}

/// Displays a window, step or offset, of which `expr` takes precedence.
struct Either<'a>(DurationNs, &'a Option<Box<DurationExpr>>);

impl Display for Either<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(expr) => expr.fmt(f),
            None => self.0.fmt(f),
        }
    }
}

/// Displays `offset` with a space before it; nothing for none.
struct Offset<'a>(DurationNs, &'a Option<Box<DurationExpr>>);

impl Display for Offset<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0 == DurationNs::ZERO && self.1.is_none() {
            return Ok(());
        }
        // A negative offset that rounds to no milliseconds keeps its sign.
        let sign = if self.1.is_none() && self.0.0 < 0 && self.0.as_millis() == 0 { "-" } else { "" };
        write!(f, " offset {sign}{}", Either(self.0, self.1))
    }
}

/// With a space before it.
impl Display for At {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Time(ms) => write!(f, " @ {:.3}", ms as f64 / 1000.0),
            Self::Start => f.write_str(" @ start()"),
            Self::End => f.write_str(" @ end()"),
        }
    }
}

/// With a space before it.
impl Display for Extension {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anchored => " anchored",
            Self::Smoothed => " smoothed",
        })
    }
}

fn optional(f: &mut Formatter<'_>, part: Option<&impl Display>) -> fmt::Result {
    part.map_or(Ok(()), |part| part.fmt(f))
}

/// Displays what stands in and after the brackets of a subquery.
pub(super) struct SubqueryTimes<'a>(pub &'a Subquery);

impl Display for SubqueryTimes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let node = self.0;
        write!(f, "[{}:", Either(node.window, &node.window_expr))?;
        if node.step != DurationNs::ZERO || node.step_expr.is_some() {
            Either(node.step, &node.step_expr).fmt(f)?;
        }
        f.write_str("]")?;
        optional(f, node.at.as_ref())?;
        Offset(node.offset, &node.offset_expr).fmt(f)
    }
}

/// Displays a selector's name and matchers.
struct Series<'a>(&'a VectorSelector);

impl Display for Series<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let node = self.0;
        f.write_str(&node.name)?;
        let mut shown: Vec<String> = node
            .matchers
            .iter()
            .filter(|matcher| {
                let is_name = matcher.name() == METRIC_NAME && matcher.kind() == MatchKind::Eq;
                node.name.is_empty() || !is_name || *matcher.value() != *node.name
            })
            .map(ToString::to_string)
            .collect();
        if shown.is_empty() {
            return Ok(());
        }
        shown.sort_unstable();
        write!(f, "{{{}}}", shown.join(","))
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Series(self).fmt(f)?;
        optional(f, self.at.as_ref())?;
        optional(f, self.extension.as_ref())?;
        Offset(self.offset, &self.offset_expr).fmt(f)
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let node = &self.selector;
        write!(f, "{}[{}]", Series(node), Either(self.window, &self.window_expr))?;
        optional(f, node.extension.as_ref())?;
        optional(f, node.at.as_ref())?;
        Offset(node.offset, &node.offset_expr).fmt(f)
    }
}
