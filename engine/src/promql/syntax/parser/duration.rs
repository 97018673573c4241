//! Durations in brackets and after `offset`: numbers, or expressions of them.

use super::super::ast::{BinaryOp, DurationExpr, DurationKind, NumberLiteral, TextRange, UnaryOp};
use super::super::token::{Preprocessor, Token, TokenKind};
use super::{Parsed, Parser};

/// Seconds that still are nanoseconds of 64 bits.
const SECONDS_MAX: f64 = 9_223_372_036.854_776;

/// How tightly an operator binds, from 1; 0 for what is no arithmetic.
fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Add | BinaryOp::Sub => 1,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => 2,
        BinaryOp::Pow => POW,
        _ => 0,
    }
}

const POW: u8 = 3;

impl Parser<'_> {
    /// A duration greater than zero, or an expression.
    pub(super) fn positive_duration(&mut self) -> Parsed<DurationExpr> {
        let duration = self.duration(1)?;
        if let DurationKind::Number(literal) = &duration.kind
            && literal.value <= 0.0
        {
            return Err(self.error(literal.range, "duration must be greater than 0"));
        }
        Ok(duration)
    }

    /// What follows `offset`: it ends after a number, a call, and a sign before one of these or
    /// before parentheses, so that an operator after it belongs to the query.
    pub(super) fn offset_duration(&mut self) -> Parsed<DurationExpr> {
        match self.peek()?.kind {
            TokenKind::Number | TokenKind::Duration | TokenKind::Preprocessor(_) => return self.duration_term(),
            TokenKind::LeftParen => return self.duration(1),
            _ => {}
        }
        let Some((op, sign)) = self.accept_sign()? else { return Err(self.unexpected(self.context)) };
        match self.peek()?.kind {
            TokenKind::Number | TokenKind::Duration => {
                let literal = self.number_or_duration()?;
                self.signed_literal(op, sign, literal)
            }
            TokenKind::Preprocessor(_) => {
                let call = self.duration_call()?;
                let range = TextRange { start: sign.range.start, end: call.range.end };
                let kind = match op {
                    UnaryOp::Plus => DurationKind::Plus(Box::new(call)),
                    UnaryOp::Minus => DurationKind::Minus(Box::new(call)),
                };
                Ok(DurationExpr { kind, wrapped: false, range })
            }
            TokenKind::LeftParen => {
                self.next()?;
                let inner = self.duration(1)?;
                self.expect(TokenKind::RightParen)?;
                let range = inner.range;
                self.signed_duration(op, sign, wrapped(inner, range))
            }
            _ => {
                let inner = self.duration(POW)?;
                let lhs = self.signed_duration(op, sign, inner)?;
                self.duration_operators(lhs, 1)
            }
        }
    }

    /// A duration expression of operators of at least precedence `least`.
    fn duration(&mut self, least: u8) -> Parsed<DurationExpr> {
        self.deeper()?;
        let lhs = match self.accept_sign()? {
            Some((op, sign)) => {
                let operand = self.duration(POW)?;
                self.signed_duration(op, sign, operand)?
            }
            None => self.duration_term()?,
        };
        let duration = self.duration_operators(lhs, least)?;
        self.nesting -= 1;
        Ok(duration)
    }

    fn duration_operators(&mut self, mut lhs: DurationExpr, least: u8) -> Parsed<DurationExpr> {
        let mut chain = 0;
        while let TokenKind::Operator(op) = self.peek()?.kind
            && precedence(op) >= least
        {
            let token = self.next()?;
            self.deeper()?;
            chain += 1;
            let rhs = self.duration(if op == BinaryOp::Pow { POW } else { precedence(op) + 1 })?;
            if let (BinaryOp::Div | BinaryOp::Mod, DurationKind::Number(literal)) = (op, &rhs.kind)
                && literal.value == 0.0
            {
                let what = if op == BinaryOp::Div { "division" } else { "modulo" };
                return Err(self.error(token.range, format!("{what} by zero")));
            }
            let range = TextRange { start: lhs.range.start, end: rhs.range.end };
            let kind = DurationKind::Binary(op, Box::new(lhs), Box::new(rhs));
            lhs = DurationExpr { kind, wrapped: false, range };
        }
        self.nesting -= chain;
        Ok(lhs)
    }

    fn duration_term(&mut self) -> Parsed<DurationExpr> {
        let token = self.peek()?;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => {
                let literal = self.number_or_duration()?;
                if out_of_range(literal.value) {
                    return Err(self.error(literal.range, "duration out of range"));
                }
                Ok(number(literal))
            }
            TokenKind::Preprocessor(_) => self.duration_call(),
            TokenKind::LeftParen => {
                self.next()?;
                let inner = self.duration(1)?;
                let close = self.expect(TokenKind::RightParen)?;
                Ok(wrapped(inner, TextRange { start: token.range.start, end: close.range.end }))
            }
            _ => Err(self.unexpected(self.context)),
        }
    }

    /// `step()`, `range()`, `min_of(a, b)` or `max_of(a, b)`.
    fn duration_call(&mut self) -> Parsed<DurationExpr> {
        let token = self.peek()?;
        let TokenKind::Preprocessor(word) = token.kind else { return Err(self.unexpected(self.context)) };
        if matches!(word, Preprocessor::Start | Preprocessor::End) {
            return Err(self.unexpected(self.context));
        }
        self.next()?;
        self.expect(TokenKind::LeftParen)?;
        let start = token.range.start;
        if matches!(word, Preprocessor::Step | Preprocessor::Range) {
            let end = self.expect(TokenKind::RightParen)?.range.end;
            let kind = if word == Preprocessor::Step { DurationKind::Step } else { DurationKind::Range };
            return Ok(DurationExpr { kind, wrapped: false, range: TextRange { start, end } });
        }
        let first = Box::new(self.duration(1)?);
        self.expect(TokenKind::Comma)?;
        let second = Box::new(self.duration(1)?);
        self.expect(TokenKind::RightParen)?;
        let range = TextRange { start: first.range.start, end: second.range.end };
        let kind = match word {
            Preprocessor::MinOf => DurationKind::MinOf(first, second),
            _ => DurationKind::MaxOf(first, second),
        };
        Ok(DurationExpr { kind, wrapped: false, range })
    }

    fn signed_duration(&self, op: UnaryOp, sign: Token, operand: DurationExpr) -> Parsed<DurationExpr> {
        if let DurationKind::Number(literal) = operand.kind {
            return self.signed_literal(op, sign, literal);
        }
        if op == UnaryOp::Plus {
            return Ok(operand);
        }
        let range = TextRange { start: sign.range.start, end: operand.range.end };
        Ok(DurationExpr { kind: DurationKind::Minus(Box::new(operand)), wrapped: false, range })
    }

    fn signed_literal(&self, op: UnaryOp, sign: Token, mut literal: NumberLiteral) -> Parsed<DurationExpr> {
        if op == UnaryOp::Minus {
            literal.value = -literal.value;
        }
        if out_of_range(literal.value) {
            return Err(self.error(sign.range, "duration out of range"));
        }
        literal.range.start = sign.range.start;
        Ok(number(literal))
    }
}

fn out_of_range(seconds: f64) -> bool {
    seconds.abs() > SECONDS_MAX
}

fn number(literal: NumberLiteral) -> DurationExpr {
    let range = literal.range;
    DurationExpr { kind: DurationKind::Number(literal), wrapped: false, range }
}

/// `inner` in parentheses; a number becomes a plus before it, as it can't be wrapped itself.
fn wrapped(inner: DurationExpr, range: TextRange) -> DurationExpr {
    if !matches!(inner.kind, DurationKind::Number(_)) {
        return DurationExpr { wrapped: true, ..inner };
    }
    let range = TextRange { start: range.start, end: inner.range.end };
    DurationExpr { kind: DurationKind::Plus(Box::new(inner)), wrapped: true, range }
}
