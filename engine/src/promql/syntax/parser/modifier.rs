//! What stands between an operator and its operands: labels to group and match by, `bool`, fill
//! values; and literals.

use crate::model::ByteString;
use crate::model::duration::parse_duration;
use crate::model::text::Quoted;

use super::super::ast::{BinaryOp, Cardinality, UnaryOp, VectorMatching};
use super::super::literal::{parse_number, unquote};
use super::super::token::{Keyword, Token, TokenKind};
use super::super::typed::Modified;
use super::{Context, Parsed, Parser};

impl Parser<'_> {
    /// Labels in parentheses and the byte after them.
    pub(super) fn grouping_labels(&mut self) -> Parsed<(Vec<String>, usize)> {
        self.within(Context::new("grouping opts", "\"(\""), |parser| parser.expect(TokenKind::LeftParen))?;
        let mut labels = Vec::new();
        loop {
            if let Some(close) = self.accept(TokenKind::RightParen)? {
                return Ok((labels, close.range.end));
            }
            labels.push(self.grouping_label()?);
            if let Some(close) = self.accept(TokenKind::RightParen)? {
                return Ok((labels, close.range.end));
            }
            if self.accept(TokenKind::Comma)?.is_none() {
                return Err(self.unexpected(Context::new("grouping opts", "\",\" or \")\"")));
            }
        }
    }

    fn grouping_label(&mut self) -> Parsed<String> {
        let token = self.peek()?;
        let label = match token.kind {
            TokenKind::String => {
                self.next()?;
                self.unquoted(token)?
            }
            kind if kind.is_grouping_label() => {
                self.next()?;
                self.text(token).into()
            }
            _ => return Err(self.unexpected(Context::new("grouping opts", "label"))),
        };
        match label.as_str() {
            Some(label) if !label.is_empty() => Ok(label.to_owned()),
            _ => Err(self.error(token.range, format!("invalid label name for grouping: {}", Quoted(&label)))),
        }
    }

    /// Everything that may follow an operator: `bool`, `on` or `ignoring`, `group_left` or
    /// `group_right`, fill values.
    pub(super) fn bin_modifiers(&mut self, op: BinaryOp) -> Parsed<Modified> {
        let mut node = Modified { op, return_bool: false, matching: VectorMatching::default() };
        node.return_bool = self.accept(TokenKind::Keyword(Keyword::Bool))?.is_some();
        let on = match self.peek()?.kind {
            TokenKind::Keyword(Keyword::On) => Some(true),
            TokenKind::Keyword(Keyword::Ignoring) => Some(false),
            _ => None,
        };
        if let Some(on) = on {
            self.next()?;
            node.matching.on = on;
            node.matching.labels = self.grouping_labels()?.0;
            self.group_modifier(&mut node.matching)?;
        }
        self.fill_modifiers(&mut node.matching)?;
        Ok(node)
    }

    fn group_modifier(&mut self, matching: &mut VectorMatching) -> Parsed<()> {
        matching.cardinality = match self.peek()?.kind {
            TokenKind::Keyword(Keyword::GroupLeft) => Cardinality::ManyToOne,
            TokenKind::Keyword(Keyword::GroupRight) => Cardinality::OneToMany,
            _ => return Ok(()),
        };
        self.next()?;
        match self.peek()?.kind {
            TokenKind::LeftParen => matching.include = self.grouping_labels()?.0,
            TokenKind::Number
            | TokenKind::Duration
            | TokenKind::String
            | TokenKind::LeftBrace
            | TokenKind::Operator(BinaryOp::Add | BinaryOp::Sub) => {}
            kind if kind.is_metric_name() => {}
            _ => return Err(self.unexpected(Context::new("grouping opts", "\"(\""))),
        }
        Ok(())
    }

    fn fill_modifiers(&mut self, matching: &mut VectorMatching) -> Parsed<()> {
        const LEFT: TokenKind = TokenKind::Keyword(Keyword::FillLeft);
        const RIGHT: TokenKind = TokenKind::Keyword(Keyword::FillRight);
        if self.accept(TokenKind::Keyword(Keyword::Fill))?.is_some() {
            let value = self.fill_value()?;
            (matching.fill_left, matching.fill_right) = (Some(value), Some(value));
        } else if self.accept(LEFT)?.is_some() {
            matching.fill_left = Some(self.fill_value()?);
            if self.accept(RIGHT)?.is_some() {
                matching.fill_right = Some(self.fill_value()?);
            }
        } else if self.accept(RIGHT)?.is_some() {
            matching.fill_right = Some(self.fill_value()?);
            if self.accept(LEFT)?.is_some() {
                matching.fill_left = Some(self.fill_value()?);
            }
        }
        Ok(())
    }

    fn fill_value(&mut self) -> Parsed<f64> {
        self.expect(TokenKind::LeftParen)?;
        let value = self.signed_number()?;
        self.expect(TokenKind::RightParen)?;
        Ok(value)
    }

    /// A number or duration, in seconds, with an optional sign.
    pub(super) fn signed_number(&mut self) -> Parsed<f64> {
        let sign = self.accept_sign()?;
        let value = self.number_or_duration()?.value;
        Ok(if matches!(sign, Some((UnaryOp::Minus, _))) { -value } else { value })
    }

    /// The value of a number or, in seconds, of a duration.
    pub(super) fn literal_value(&self, token: Token) -> Parsed<f64> {
        let text = self.text(token);
        if token.kind == TokenKind::Duration {
            let duration = parse_duration(text).map_err(|error| self.error(token.range, error.message()))?;
            return Ok(duration.as_seconds());
        }
        parse_number(text).map_err(|why| self.error(token.range, format!("error parsing number: {why}")))
    }

    /// The string that a token stands for.
    pub(super) fn unquoted(&self, token: Token) -> Parsed<ByteString> {
        let text = self.text(token);
        unquote(text).map_err(|why| {
            let text = Quoted(text.as_bytes());
            self.error(token.range, format!("error unquoting string {text}: {why}"))
        })
    }
}
