//! Tokens to tree: a parser by precedence.
//!
//! Upstream's parser is generated from a grammar, and its errors show it: what is said of an
//! unexpected token depends on the innermost rule that expected an error, and whether the token
//! after a construct has been read when the construct is found wrong. Both are followed here: the
//! former by [`Context`], the latter by calling `peek` where the generated parser looks ahead.

mod duration;
mod expr;
mod modifier;
mod postfix;
mod selector;
#[cfg(test)]
mod tests;

use crate::model::{Allowance, Labels, Matcher};

use super::ast::{Expr, TextRange};
use super::error::ParseError;
use super::lexer::Lexer;
use super::options::Options;
use super::token::{Token, TokenKind};
use super::typed::{Checker, Typed};

/// How deep parentheses, calls and signs may nest in a query.
pub const NESTING_MAX: u32 = 400;

/// How high the tree of a query may be; a chain of `n` operators is `n` high.
pub const HEIGHT_MAX: u32 = 2_000;

/// What is being read, in the words of an error about an unexpected token.
#[derive(Clone, Copy)]
struct Context {
    place: &'static str,
    expected: &'static str,
}

impl Context {
    const NONE: Self = Self::new("", "");
    const AGGREGATION: Self = Self::new("aggregation", "");

    const fn new(place: &'static str, expected: &'static str) -> Self {
        Self { place, expected }
    }
}

type Parsed<T> = Result<T, ParseError>;

struct Parser<'a> {
    query: &'a str,
    options: Options,
    lexer: Lexer<'a>,
    peeked: Option<Token>,
    context: Context,
    nesting: u32,
    /// The byte after the last token that was taken.
    taken_end: usize,
    /// What regexps may take.
    allowance: &'a mut Allowance,
}

/// Parses a query; fails in Prometheus' words.
///
/// The query may hold any characters. It may nest [`NESTING_MAX`] deep and its tree may be
/// [`HEIGHT_MAX`] high.
pub fn parse(query: &str, options: Options) -> Result<Expr, ParseError> {
    parse_within(query, options, &mut Allowance::default())
}

/// The same of a query whose regexps take their bytes of `allowance`.
pub fn parse_within(query: &str, options: Options, allowance: &mut Allowance) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(query, options, allowance);
    if parser.peek()?.kind == TokenKind::EndOfInput {
        return Err(ParseError::new(query, TextRange::default(), "no expression found in input"));
    }
    let mut typed = parser.expr()?;
    parser.expect_end()?;
    if let Some(error) = typed.error.take() {
        return Err(*error);
    }
    parser.check_height(&mut typed)?;
    Ok(typed.into_expr())
}

/// Parses a selector such as `match[]` takes: `up{job="a"}`, which may match anything. Modifiers such as
/// `offset` may follow, as Thanos lets them; what series there are they don't change. Regexps take their bytes of
/// `allowance`.
pub fn parse_match(query: &str, allowance: &mut Allowance) -> Result<Vec<Matcher>, ParseError> {
    let mut parser = Parser::new(query, Options::default(), allowance);
    let typed = parser.expr().and_then(|typed| parser.expect_end().map(|()| typed));
    if let Ok(typed) = &typed
        && let Expr::Vector(selector) = &typed.expr
    {
        // What can be wrong with one that has no name before its braces is that it may match anything.
        return match &typed.error {
            Some(error) if !selector.name.is_empty() => Err(error.as_ref().clone()),
            _ => Ok(selector.matchers.clone()),
        };
    }
    let mut parser = Parser::new(query, Options::default(), allowance);
    parser.whole_selector()
}

/// Parses a selector without modifiers: `up{job="a"}`. It may match anything.
pub fn parse_selector(query: &str) -> Result<Vec<Matcher>, ParseError> {
    Parser::new(query, Options::default(), &mut Allowance::default()).whole_selector()
}

/// Parses a series' name and labels: `up{job="a"}`.
pub fn parse_metric(query: &str) -> Result<Labels, ParseError> {
    let mut allowance = Allowance::default();
    let mut parser = Parser::new(query, Options::default(), &mut allowance);
    let labels = parser.metric()?;
    parser.expect_end()?;
    Ok(labels)
}

impl<'a> Parser<'a> {
    fn new(query: &'a str, options: Options, allowance: &'a mut Allowance) -> Self {
        Self {
            query,
            options,
            lexer: Lexer::new(query),
            peeked: None,
            context: Context::NONE,
            nesting: 0,
            taken_end: 0,
            allowance,
        }
    }

    /// A selector that is all there is.
    fn whole_selector(&mut self) -> Parsed<Vec<Matcher>> {
        let selector = self.bare_selector()?;
        self.expect_end()?;
        Ok(selector.matchers)
    }

    /// Refuses an expression once it is too high, before more is read of it, and for what is wrong with it besides
    /// if there is something.
    fn check_height(&self, typed: &mut Typed) -> Parsed<()> {
        if typed.height <= HEIGHT_MAX {
            return Ok(());
        }
        if let Some(error) = typed.error.take() {
            return Err(*error);
        }
        let message = format!("expression is {} operators deep, the limit is {HEIGHT_MAX}", typed.height);
        Err(self.error(typed.expr.range(), message))
    }

    /// The next token, which stays the next.
    fn peek(&mut self) -> Parsed<Token> {
        match self.peeked {
            Some(token) => Ok(token),
            None => Ok(*self.peeked.insert(self.lexer.next_token()?)),
        }
    }

    /// The next token, taken.
    fn next(&mut self) -> Parsed<Token> {
        let token = self.peek()?;
        self.peeked = None;
        self.taken_end = token.range.end;
        Ok(token)
    }

    /// Takes the next token when it is of `kind`.
    fn accept(&mut self, kind: TokenKind) -> Parsed<Option<Token>> {
        let token = self.peek()?;
        if token.kind != kind {
            return Ok(None);
        }
        self.next().map(Some)
    }

    /// Takes the next token, which must be of `kind`.
    fn expect(&mut self, kind: TokenKind) -> Parsed<Token> {
        match self.accept(kind)? {
            Some(token) => Ok(token),
            None => Err(self.unexpected(self.context)),
        }
    }

    fn expect_end(&mut self) -> Parsed<()> {
        self.context = Context::NONE;
        self.expect(TokenKind::EndOfInput).map(drop)
    }

    /// The error about the next token, which has been peeked at.
    fn unexpected(&self, context: Context) -> ParseError {
        let Some(token) = self.peeked else {
            return self.error(TextRange::default(), "unexpected error");
        };
        let mut message = format!("unexpected {}", token.describe(self.query));
        if !context.place.is_empty() {
            message.push_str(" in ");
            message.push_str(context.place);
        }
        if !context.expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(context.expected);
        }
        self.error(token.range, message)
    }

    fn error(&self, range: TextRange, message: impl Into<String>) -> ParseError {
        ParseError::new(self.query, range, message)
    }

    fn text(&self, token: Token) -> &'a str {
        self.query.get(token.range.start..token.range.end).unwrap_or_default()
    }

    fn checker(&self) -> Checker<'a> {
        Checker { query: self.query }
    }

    /// Runs `parse` with `context` for the errors within it.
    fn within<T>(&mut self, context: Context, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let outer = std::mem::replace(&mut self.context, context);
        let parsed = parse(self);
        self.context = outer;
        parsed
    }

    /// Runs `parse` one level deeper.
    fn nested(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<Typed>) -> Parsed<Typed> {
        self.deeper()?;
        let parsed = parse(self);
        self.nesting -= 1;
        parsed
    }

    fn deeper(&mut self) -> Parsed<()> {
        if self.nesting >= NESTING_MAX {
            let range = self.peek()?.range;
            return Err(self.error(range, format!("expression nests deeper than the limit of {NESTING_MAX}")));
        }
        self.nesting += 1;
        Ok(())
    }
}
