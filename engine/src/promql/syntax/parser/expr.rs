//! Expressions: operators by precedence, operands, calls and aggregations.

use crate::model::text::Quoted;

use super::super::ast::{AggregateOp, BinaryOp, Call, Expr, NumberLiteral, Paren, StringLiteral, TextRange, UnaryOp};
use super::super::functions::{Function, function};
use super::super::token::{Keyword, Token, TokenKind};
use super::super::typed::{Grouped, Typed};
use super::{Context, Parsed, Parser};

/// How tightly an operator binds, from 1.
fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Eq
        | BinaryOp::NotEq
        | BinaryOp::Less
        | BinaryOp::LessEq
        | BinaryOp::Greater
        | BinaryOp::GreaterEq
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
        BinaryOp::Pow => POW,
    }
}

/// The precedence of `^`, the only operator that binds more tightly than a sign.
const POW: u8 = 6;

/// `by (…)` or `without (…)`.
#[derive(Default)]
struct AggregationModifier {
    without: bool,
    grouping: Vec<String>,
    /// The byte after it.
    closing: usize,
}

impl Parser<'_> {
    /// An expression up to where it can't go on.
    pub(super) fn expr(&mut self) -> Parsed<Typed> {
        self.nested(|parser| parser.operators(1))
    }

    /// Operands joined by operators of at least precedence `least`.
    fn operators(&mut self, least: u8) -> Parsed<Typed> {
        let mut lhs = self.signed()?;
        while let TokenKind::Operator(op) = self.peek()?.kind
            && precedence(op) >= least
        {
            self.next()?;
            let node = self.bin_modifiers(op)?;
            let binds = if op == BinaryOp::Pow { POW } else { precedence(op) + 1 };
            let rhs = self.nested(|parser| parser.operators(binds))?;
            let fills = node.matching.fill_left.is_some() || node.matching.fill_right.is_some();
            if fills && !self.options.fill_modifiers {
                let range = TextRange { start: lhs.expr.start(), end: rhs.expr.end() };
                return Err(self.error(range, "binop fill modifiers are experimental and not enabled"));
            }
            lhs = self.checker().binary(node, lhs, rhs);
            self.check_height(&mut lhs)?;
        }
        Ok(lhs)
    }

    fn signed(&mut self) -> Parsed<Typed> {
        let Some((op, sign)) = self.accept_sign()? else { return self.postfixed() };
        let mut operand = self.nested(|parser| parser.operators(POW))?;
        let start = sign.range.start;
        if let Expr::Number(literal) = &mut operand.expr {
            if op == UnaryOp::Minus {
                literal.value = -literal.value;
            }
            literal.range.start = start;
            return Ok(operand);
        }
        Ok(self.checker().unary(start, op, operand))
    }

    /// Takes a plus or minus.
    pub(super) fn accept_sign(&mut self) -> Parsed<Option<(UnaryOp, Token)>> {
        let op = match self.peek()?.kind {
            TokenKind::Operator(BinaryOp::Add) => UnaryOp::Plus,
            TokenKind::Operator(BinaryOp::Sub) => UnaryOp::Minus,
            _ => return Ok(None),
        };
        Ok(Some((op, self.next()?)))
    }

    pub(super) fn operand(&mut self) -> Parsed<Typed> {
        let token = self.peek()?;
        match token.kind {
            TokenKind::Number | TokenKind::Duration => Ok(Typed::leaf(Expr::Number(self.number_or_duration()?))),
            TokenKind::String => {
                self.next()?;
                let value = self.unquoted(token)?;
                Ok(Typed::leaf(Expr::String(StringLiteral { value, range: token.range })))
            }
            TokenKind::LeftParen => self.paren(),
            TokenKind::LeftBrace => {
                let selector = self.selector_in_braces(None)?;
                Ok(self.checker().vector(selector))
            }
            kind if kind.is_metric_name() => self.named(),
            _ => Err(self.unexpected(self.context)),
        }
    }

    fn paren(&mut self) -> Parsed<Typed> {
        let open = self.next()?;
        let inner = self.expr()?;
        let close = self.expect(TokenKind::RightParen)?;
        let range = TextRange { start: open.range.start, end: close.range.end };
        let kind = inner.kind;
        Ok(inner.wrapped(kind, |expr| Expr::Paren(Box::new(Paren { expr, range }))))
    }

    /// What begins with a word: an aggregation, a call or a selector.
    fn named(&mut self) -> Parsed<Typed> {
        let name = self.next()?;
        let follower = self.peek()?.kind;
        match (name.kind, follower) {
            (TokenKind::Aggregator(op), TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without)) => {
                self.within(Context::AGGREGATION, |parser| parser.aggregation(op, name))
            }
            (TokenKind::Identifier | TokenKind::Preprocessor(_), TokenKind::LeftParen) => self.call(name),
            _ => {
                let selector = self.selector_in_braces(Some(name))?;
                Ok(self.checker().vector(selector))
            }
        }
    }

    fn aggregation(&mut self, op: AggregateOp, name: Token) -> Parsed<Typed> {
        let modifier = self.aggregation_modifier()?;
        let (args, end) = self.call_args()?;
        let AggregationModifier { without, grouping, closing } = match modifier {
            Some(modifier) => modifier,
            None => self.aggregation_modifier()?.unwrap_or_default(),
        };
        let range = TextRange { start: name.range.start, end: end.max(closing) };
        let mut args = args.into_iter();
        if args.len() == 0 {
            return Err(self.error(range, "no arguments for aggregate expression provided"));
        }
        if op.is_experimental() && !self.options.experimental_functions {
            let flag = "must be enabled with --enable-feature=promql-experimental-functions";
            return Err(self.error(range, format!("{}() is experimental and {flag}", op.as_str())));
        }
        let (wanted, got) = (1 + usize::from(op.has_param()), args.len());
        if wanted != got {
            let message = "wrong number of arguments for aggregate expression provided";
            return Err(self.error(range, format!("{message}, expected {wanted}, got {got}")));
        }
        let param = if op.has_param() { args.next() } else { None };
        let Some(expr) = args.next() else {
            return Err(self.error(range, "no arguments for aggregate expression provided"));
        };
        Ok(self.checker().aggregate(Grouped { op, grouping, without, range }, param, expr))
    }

    fn aggregation_modifier(&mut self) -> Parsed<Option<AggregationModifier>> {
        let without = match self.peek()?.kind {
            TokenKind::Keyword(Keyword::By) => false,
            TokenKind::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.next()?;
        let (grouping, closing) = self.grouping_labels()?;
        Ok(Some(AggregationModifier { without, grouping, closing }))
    }

    fn call(&mut self, name: Token) -> Parsed<Typed> {
        let (args, end) = self.call_args()?;
        let function = self.enabled_function(name)?;
        let range = TextRange { start: name.range.start, end };
        Ok(self.checker().call(Call { function, args: Vec::with_capacity(args.len()), range }, args))
    }

    fn enabled_function(&self, name: Token) -> Parsed<&'static Function> {
        let quoted = Quoted(self.text(name).as_bytes());
        let function = function(self.text(name))
            .ok_or_else(|| self.error(name.range, format!("unknown function with name {quoted}")))?;
        if function.experimental && !self.options.experimental_functions {
            return Err(self.error(name.range, format!("function {quoted} is not enabled")));
        }
        Ok(function)
    }

    /// Arguments in parentheses and the byte after them.
    fn call_args(&mut self) -> Parsed<(Vec<Typed>, usize)> {
        self.expect(TokenKind::LeftParen)?;
        let mut args = Vec::new();
        if let Some(close) = self.accept(TokenKind::RightParen)? {
            return Ok((args, close.range.end));
        }
        loop {
            args.push(self.expr()?);
            if let Some(close) = self.accept(TokenKind::RightParen)? {
                return Ok((args, close.range.end));
            }
            let comma = self.expect(TokenKind::Comma)?;
            if !starts_expr(self.peek()?.kind) {
                return Err(self.error(comma.range, "trailing commas not allowed in function call args"));
            }
        }
    }

    /// The number or duration that comes next.
    pub(super) fn number_or_duration(&mut self) -> Parsed<NumberLiteral> {
        let token = self.peek()?;
        let is_duration = match token.kind {
            TokenKind::Number => false,
            TokenKind::Duration => true,
            _ => return Err(self.unexpected(self.context)),
        };
        self.next()?;
        Ok(NumberLiteral { value: self.literal_value(token)?, is_duration, range: token.range })
    }
}

fn starts_expr(kind: TokenKind) -> bool {
    match kind {
        TokenKind::Number
        | TokenKind::Duration
        | TokenKind::String
        | TokenKind::LeftParen
        | TokenKind::LeftBrace
        | TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub) => true,
        _ => kind.is_metric_name(),
    }
}
