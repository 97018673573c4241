//! Duration expressions, once the step and range of the query are known.

use crate::model::Error;

use super::super::syntax::ast::{BinaryOp, DurationExpr, DurationKind};
use super::build::Build;

/// Which durations make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Only those above zero: windows and steps.
    Positive,
    /// All: offsets.
    Any,
}

/// Milliseconds that `expr` stands for.
pub fn milliseconds(build: &Build, expr: &DurationExpr, allowed: Allowed) -> Result<i64, Error> {
    let seconds = seconds(build, expr)?;
    let bad = |what: &str| Err(Error::invalid(format!("{}:{}: {what}", expr.range.start, expr.range.end)));
    if !seconds.is_finite() {
        return bad("duration is NaN or infinite");
    }
    if seconds <= 0.0 && allowed == Allowed::Positive {
        return bad("duration must be greater than 0");
    }
    const SECONDS_MAX: f64 = (1u64 << 63) as f64 / 1e9;
    if seconds.abs() > SECONDS_MAX {
        return bad("duration is out of range");
    }
    Ok((seconds * 1000.0) as i64)
}

fn seconds(build: &Build, expr: &DurationExpr) -> Result<f64, Error> {
    Ok(match &expr.kind {
        DurationKind::Number(number) => number.value,
        DurationKind::Step => build.step as f64 / 1000.0,
        DurationKind::Range => (build.end - build.start) as f64 / 1000.0,
        DurationKind::Plus(inner) => seconds(build, inner)?,
        DurationKind::Minus(inner) => -seconds(build, inner)?,
        DurationKind::MinOf(left, right) => {
            super::super::exec::math::min(seconds(build, left)?, seconds(build, right)?)
        }
        DurationKind::MaxOf(left, right) => {
            super::super::exec::math::max(seconds(build, left)?, seconds(build, right)?)
        }
        DurationKind::Binary(operator, left, right) => {
            let (left, right) = (seconds(build, left)?, seconds(build, right)?);
            let at = || format!("{}:{}", expr.range.start, expr.range.end);
            match operator {
                BinaryOp::Add => left + right,
                BinaryOp::Sub => left - right,
                BinaryOp::Mul => left * right,
                BinaryOp::Div if right == 0.0 => return Err(Error::invalid(format!("{}: division by zero", at()))),
                BinaryOp::Mod if right == 0.0 => return Err(Error::invalid(format!("{}: modulo by zero", at()))),
                BinaryOp::Div => left / right,
                BinaryOp::Mod => left % right,
                BinaryOp::Pow => left.powf(right),
                other => {
                    let name = other.as_str();
                    return Err(Error::invalid(format!("unexpected duration expression operator {name:?}")));
                }
            }
        }
    })
}
