//! What stands after an operand: ranges, subqueries, `offset`, `@`, `anchored` and `smoothed`.

use crate::model::DurationNs;

use super::super::ast::{At, DurationExpr, DurationKind, Expr, Extension, MatrixSelector, Subquery, TextRange};
use super::super::functions::ValueType;
use super::super::token::{Keyword, Preprocessor, TokenKind};
use super::super::typed::Typed;
use super::{Context, Parsed, Parser};

const OFFSET: Context = Context::new("offset", "number, duration, step(), or range()");
const AT: Context = Context::new("@", "timestamp");
const RANGE: Context = Context::new("subquery or range selector", "number, duration, step(), or range()");
const RANGE_END: Context = Context::new("subquery or range", "\":\" or \"]\"");
const STEP: Context = Context::new("subquery selector", "number, duration, step(), range(), or \"]\"");
const STEP_END: Context = Context::new("subquery selector", "\"]\"");

/// The parts of a selector or subquery that `offset` and `@` set.
struct Shifted<'a> {
    offset: &'a mut DurationNs,
    offset_expr: &'a mut Option<Box<DurationExpr>>,
    at: &'a mut Option<At>,
    end: &'a mut usize,
}

impl Parser<'_> {
    /// An operand with all that stands after it.
    pub(super) fn postfixed(&mut self) -> Parsed<Typed> {
        let mut typed = self.operand()?;
        loop {
            let token = self.peek()?;
            typed = match token.kind {
                TokenKind::LeftBracket => self.bracketed(typed)?,
                TokenKind::At => self.at(typed)?,
                TokenKind::Keyword(Keyword::Offset) => self.offset(typed)?,
                TokenKind::Keyword(Keyword::Anchored) => self.extended(typed, Extension::Anchored)?,
                TokenKind::Keyword(Keyword::Smoothed) => self.extended(typed, Extension::Smoothed)?,
                _ => return Ok(typed),
            };
        }
    }

    fn bracketed(&mut self, typed: Typed) -> Parsed<Typed> {
        let open = self.next()?;
        let window = self.within(RANGE, Self::positive_duration)?;
        if let Some(close) = self.accept(TokenKind::RightBracket)? {
            return self.matrix(typed, window, TextRange { start: open.range.start, end: close.range.end });
        }
        self.within(RANGE_END, |parser| parser.expect(TokenKind::Colon))?;
        let (step, end) = match self.accept(TokenKind::RightBracket)? {
            Some(close) => (None, close.range.end),
            None => {
                let step = self.within(STEP, Self::positive_duration)?;
                let close = self.within(STEP_END, |parser| parser.expect(TokenKind::RightBracket))?;
                (Some(step), close.range.end)
            }
        };
        let (window, window_expr) = resolved(window);
        let (step, step_expr) = step.map_or((DurationNs::ZERO, None), resolved);
        let range = TextRange { start: typed.expr.start(), end };
        Ok(self.checker().subquery(typed, |expr| {
            let (offset, offset_expr, at) = (DurationNs::ZERO, None, None);
            Expr::Subquery(Box::new(Subquery {
                expr,
                window,
                window_expr,
                step,
                step_expr,
                offset,
                offset_expr,
                at,
                range,
            }))
        }))
    }

    fn matrix(&mut self, mut typed: Typed, window: DurationExpr, brackets: TextRange) -> Parsed<Typed> {
        let error = typed.error.take();
        let Expr::Vector(selector) = typed.into_expr() else {
            return Err(self.error(brackets, "ranges only allowed for vector selectors"));
        };
        let selector = *selector;
        if selector.offset != DurationNs::ZERO || selector.offset_expr.is_some() {
            return Err(self.error(brackets, "no offset modifiers allowed before range"));
        }
        if selector.at.is_some() {
            return Err(self.error(brackets, "no @ modifiers allowed before range"));
        }
        let (window, window_expr) = resolved(window);
        let range = TextRange { start: selector.range.start, end: brackets.end };
        let matrix = MatrixSelector { selector, window, window_expr, range };
        Ok(Typed { expr: Expr::Matrix(Box::new(matrix)), kind: ValueType::Matrix, height: 1, error })
    }

    fn offset(&mut self, mut typed: Typed) -> Parsed<Typed> {
        self.next()?;
        let duration = self.within(OFFSET, Self::offset_duration)?;
        let end = self.taken_end;
        let range = typed.expr.range();
        let Some(shifted) = shifted(&mut typed.expr) else {
            return Err(self.error(range, must_follow_selector("offset")));
        };
        if *shifted.offset != DurationNs::ZERO || shifted.offset_expr.is_some() {
            return Err(self.error(range, "offset may not be set multiple times"));
        }
        (*shifted.offset, *shifted.offset_expr) = resolved(duration);
        *shifted.end = end;
        Ok(typed)
    }

    fn at(&mut self, mut typed: Typed) -> Parsed<Typed> {
        self.next()?;
        let range = typed.expr.range();
        let at = self.within(AT, |parser| parser.timestamp(range))?;
        let end = self.taken_end;
        let Some(shifted) = shifted(&mut typed.expr) else {
            return Err(self.error(range, must_follow_selector("@")));
        };
        if shifted.at.is_some() {
            return Err(self.error(range, "@ <timestamp> may not be set multiple times"));
        }
        *shifted.at = Some(at);
        *shifted.end = end;
        Ok(typed)
    }

    /// What follows `@`.
    fn timestamp(&mut self, selector: TextRange) -> Parsed<At> {
        let token = self.peek()?;
        let edge = match token.kind {
            TokenKind::Preprocessor(Preprocessor::Start) => Some(At::Start),
            TokenKind::Preprocessor(Preprocessor::End) => Some(At::End),
            _ => None,
        };
        if let Some(edge) = edge {
            self.next()?;
            self.expect(TokenKind::LeftParen)?;
            self.expect(TokenKind::RightParen)?;
            return Ok(edge);
        }
        let seconds = self.signed_number()?;
        let bound = i64::MAX as f64;
        if !(seconds < bound && seconds > -bound) {
            let seconds = fixed(seconds);
            return Err(self.error(selector, format!("timestamp out of bounds for @ modifier: {seconds}")));
        }
        Ok(At::Time((seconds * 1000.0).round() as i64))
    }

    fn extended(&mut self, mut typed: Typed, extension: Extension) -> Parsed<Typed> {
        self.next()?;
        let word = match extension {
            Extension::Anchored => "anchored",
            Extension::Smoothed => "smoothed",
        };
        let range = typed.expr.range();
        if !self.options.extended_range_selectors {
            return Err(self.error(range, format!("{word} modifier is experimental and not enabled")));
        }
        let selector = match &mut typed.expr {
            Expr::Vector(selector) => &mut **selector,
            Expr::Matrix(matrix) => &mut matrix.selector,
            Expr::Subquery(_) => {
                return Err(self.error(range, format!("{word} modifier is not supported for subqueries")));
            }
            _ => return Err(self.error(range, format!("{word} modifier not implemented"))),
        };
        if selector.extension.is_some_and(|known| known != extension) {
            return Err(self.error(range, "anchored and smoothed modifiers cannot be used together"));
        }
        selector.extension = Some(extension);
        Ok(typed)
    }
}

fn must_follow_selector(modifier: &str) -> String {
    let operands = "an instant vector selector or range vector selector or a subquery";
    format!("{modifier} modifier must be preceded by {operands}")
}

fn shifted(expr: &mut Expr) -> Option<Shifted<'_>> {
    Some(match expr {
        Expr::Vector(node) => Shifted {
            offset: &mut node.offset,
            offset_expr: &mut node.offset_expr,
            at: &mut node.at,
            end: &mut node.range.end,
        },
        Expr::Matrix(node) => Shifted {
            offset: &mut node.selector.offset,
            offset_expr: &mut node.selector.offset_expr,
            at: &mut node.selector.at,
            end: &mut node.range.end,
        },
        Expr::Subquery(node) => Shifted {
            offset: &mut node.offset,
            offset_expr: &mut node.offset_expr,
            at: &mut node.at,
            end: &mut node.range.end,
        },
        _ => return None,
    })
}

/// A plain duration as such, anything else as an expression.
fn resolved(duration: DurationExpr) -> (DurationNs, Option<Box<DurationExpr>>) {
    match duration.kind {
        DurationKind::Number(literal) => (DurationNs::from_seconds(literal.value), None),
        _ => (DurationNs::ZERO, Some(Box::new(duration))),
    }
}

/// As Go's `%f`.
fn fixed(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ if value.is_nan() => "NaN".to_owned(),
        _ => format!("{value:.6}"),
    }
}
