//! Selectors and series: a metric name and what stands in braces after it.

use crate::model::labels::METRIC_NAME;
use crate::model::{ByteString, DurationNs, Labels, MatchKind, Matcher};

use super::super::ast::{BinaryOp, TextRange, VectorSelector};
use super::super::token::{Token, TokenKind};
use super::{Context, Parsed, Parser};

const LABEL_MATCHING: &str = "label matching";
const LABEL_SET: &str = "label set";

impl Parser<'_> {
    /// A selector after its name, if it has one; without name it must have braces.
    pub(super) fn selector_in_braces(&mut self, name: Option<Token>) -> Parsed<VectorSelector> {
        let mut matchers = Vec::new();
        let mut range = name.map_or(TextRange::default(), |name| name.range);
        if let Some(open) = self.accept(TokenKind::LeftBrace)? {
            if name.is_none() {
                range.start = open.range.start;
            }
            range.end = self.label_matchers(&mut matchers)?;
        }
        let name = name.map_or_else(String::new, |name| self.text(name).to_owned());
        if !name.is_empty() {
            matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
        }
        Ok(VectorSelector {
            name,
            matchers,
            offset: DurationNs::ZERO,
            offset_expr: None,
            at: None,
            extension: None,
            range,
        })
    }

    /// A selector alone.
    pub(super) fn bare_selector(&mut self) -> Parsed<VectorSelector> {
        let token = self.peek()?;
        match token.kind {
            TokenKind::LeftBrace => self.selector_in_braces(None),
            kind if kind.is_metric_name() => {
                self.next()?;
                self.selector_in_braces(Some(token))
            }
            _ => Err(self.unexpected(Context::NONE)),
        }
    }

    /// Matchers after the opening brace; gives the byte after the closing one.
    fn label_matchers(&mut self, matchers: &mut Vec<Matcher>) -> Parsed<usize> {
        loop {
            if let Some(close) = self.accept(TokenKind::RightBrace)? {
                return Ok(close.range.end);
            }
            matchers.push(self.label_matcher()?);
            if let Some(close) = self.accept(TokenKind::RightBrace)? {
                return Ok(close.range.end);
            }
            if self.accept(TokenKind::Comma)?.is_none() {
                return Err(self.unexpected(Context::new(LABEL_MATCHING, "\",\" or \"}\"")));
            }
        }
    }

    fn label_matcher(&mut self) -> Parsed<Matcher> {
        let token = self.peek()?;
        let name = match token.kind {
            TokenKind::Identifier => {
                self.next()?;
                self.text(token).to_owned()
            }
            TokenKind::String => {
                self.next()?;
                let name = self.unquoted(token)?;
                if match_kind(self.peek()?.kind).is_none() {
                    return Ok(Matcher::equal(METRIC_NAME, name));
                }
                name.to_string_lossy()
            }
            _ => return Err(self.unexpected(Context::new(LABEL_MATCHING, "identifier or \"}\""))),
        };
        let Some(kind) = match_kind(self.peek()?.kind) else {
            return Err(self.unexpected(Context::new(LABEL_MATCHING, "label matching operator")));
        };
        self.next()?;
        let value = self.string_in(LABEL_MATCHING)?;
        let matcher = Matcher::new_within(kind, (name, value), self.allowance);
        matcher.map_err(|error| self.error(token.range, error.message()).of_kind(error.kind()))
    }

    /// The string that comes next, as braces of kind `place` want it.
    fn string_in(&mut self, place: &'static str) -> Parsed<ByteString> {
        match self.accept(TokenKind::String)? {
            Some(token) => self.unquoted(token),
            None => Err(self.unexpected(Context::new(place, "string"))),
        }
    }

    /// A series' name and labels.
    pub(super) fn metric(&mut self) -> Parsed<Labels> {
        let mut pairs = Vec::new();
        let token = self.peek()?;
        let name = token.kind.is_metric_name().then(|| self.text(token).to_owned());
        if name.is_some() {
            self.next()?;
        }
        if self.accept(TokenKind::LeftBrace)?.is_some() {
            self.label_set(&mut pairs)?;
        }
        pairs.extend(name.map(|name| (METRIC_NAME.to_owned(), name)));
        Ok(Labels::from_pairs(pairs))
    }

    fn label_set(&mut self, pairs: &mut Vec<(String, String)>) -> Parsed<()> {
        loop {
            if self.accept(TokenKind::RightBrace)?.is_some() {
                return Ok(());
            }
            pairs.push(self.label()?);
            if self.accept(TokenKind::RightBrace)?.is_some() {
                return Ok(());
            }
            if self.accept(TokenKind::Comma)?.is_none() {
                return Err(self.unexpected(Context::new(LABEL_SET, "\",\" or \"}\"")));
            }
        }
    }

    fn label(&mut self) -> Parsed<(String, String)> {
        let token = self.peek()?;
        let name = match token.kind {
            TokenKind::Identifier => {
                self.next()?;
                self.text(token).to_owned()
            }
            TokenKind::String => {
                self.next()?;
                let name = self.unquoted(token)?.to_string_lossy();
                if self.peek()?.kind != TokenKind::Assign {
                    return Ok((METRIC_NAME.to_owned(), name));
                }
                name
            }
            _ => return Err(self.unexpected(Context::new(LABEL_SET, "identifier or \"}\""))),
        };
        if self.accept(TokenKind::Assign)?.is_none() {
            return Err(self.unexpected(Context::new(LABEL_SET, "\"=\"")));
        }
        Ok((name, self.string_in(LABEL_SET)?.to_string_lossy()))
    }
}

fn match_kind(kind: TokenKind) -> Option<MatchKind> {
    match kind {
        TokenKind::Assign => Some(MatchKind::Eq),
        TokenKind::Operator(BinaryOp::NotEq) => Some(MatchKind::NotEq),
        TokenKind::AssignRegexp => Some(MatchKind::Re),
        TokenKind::NotRegexp => Some(MatchKind::NotRe),
        _ => None,
    }
}
