//! Text to tokens. What a character means depends on the brackets around it, as in Prometheus:
//! keywords are none inside braces, and square brackets know only durations and arithmetic.

use crate::model::text::{Quoted, QuotedChar, is_printable};

use super::ast::{BinaryOp, TextRange};
use super::error::ParseError;
use super::token::{Keyword, Token, TokenKind, duration_keyword, keyword};

/// How the next characters are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Statement,
    Braces,
    Brackets,
}

/// Cuts a query into tokens.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    query: &'a str,
    /// Where the next character is read.
    at: usize,
    /// Where the token being read starts.
    start: usize,
    /// Bytes of the character read last; 0 at the end.
    width: usize,
    mode: Mode,
    paren_depth: i64,
    bracket_open: bool,
    seen_colon: bool,
    seen_duration: bool,
}

type Lexed = Result<Token, ParseError>;

const END: char = char::REPLACEMENT_CHARACTER;

impl<'a> Lexer<'a> {
    pub fn new(query: &'a str) -> Self {
        Self {
            query,
            at: 0,
            start: 0,
            width: 0,
            mode: Mode::Statement,
            paren_depth: 0,
            bracket_open: false,
            seen_colon: false,
            seen_duration: false,
        }
    }

    /// The next token; after the end, the end again.
    pub fn next_token(&mut self) -> Lexed {
        self.skip_blank();
        match self.mode {
            Mode::Statement => self.statement(),
            Mode::Braces => self.inside_braces(),
            Mode::Brackets => self.inside_brackets(),
        }
    }

    /// Skips spaces and, outside square brackets, comments.
    fn skip_blank(&mut self) {
        loop {
            while self.peek().is_some_and(is_space) {
                self.next();
            }
            if self.mode == Mode::Brackets || self.peek() != Some('#') {
                break;
            }
            while self.peek().is_some_and(|char| !matches!(char, '\n' | '\r')) {
                self.next();
            }
        }
        self.start = self.at;
    }

    fn peek(&self) -> Option<char> {
        self.query.get(self.at..)?.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek();
        self.width = char.map_or(0, char::len_utf8);
        self.at += self.width;
        char
    }

    /// Undoes the last `next`; once only.
    fn backup(&mut self) {
        self.at -= self.width;
        self.width = 0;
    }

    fn accept(&mut self, allowed: &str) -> bool {
        let accepted = self.peek().is_some_and(|char| allowed.contains(char));
        if accepted {
            self.next();
        }
        accepted
    }

    fn is(&self, allowed: &str) -> bool {
        self.peek().is_some_and(|char| allowed.contains(char))
    }

    fn emit(&mut self, kind: TokenKind) -> Lexed {
        let token = Token { kind, range: TextRange { start: self.start, end: self.at } };
        self.start = self.at;
        Ok(token)
    }

    fn emit_operator(&mut self, op: BinaryOp) -> Lexed {
        self.emit(TokenKind::Operator(op))
    }

    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::new(self.query, TextRange { start: self.start, end: self.query.len() }, message)
    }

    fn text(&self) -> &'a str {
        self.query.get(self.start..self.at).unwrap_or_default()
    }

    fn statement(&mut self) -> Lexed {
        let Some(char) = self.next() else { return self.end() };
        match char {
            ',' => self.emit(TokenKind::Comma),
            '*' | '/' | '%' | '+' | '-' | '^' => self.emit_operator(arithmetic(char)),
            '=' | '!' | '<' | '>' => self.comparison(char),
            '"' | '\'' => self.string(char),
            '`' => self.raw_string(),
            '(' | ')' => self.paren(char),
            '{' => {
                self.mode = Mode::Braces;
                self.emit(TokenKind::LeftBrace)
            }
            '[' | ']' => self.bracket(char),
            '@' => self.emit(TokenKind::At),
            _ if self.starts_number(char) => self.number_or_duration(),
            _ if is_alpha(char) || char == ':' => self.word(char),
            _ => Err(self.error(format!("unexpected character: {}", QuotedChar(char)))),
        }
    }

    fn end(&mut self) -> Lexed {
        if self.paren_depth != 0 {
            return Err(self.error("unclosed left parenthesis"));
        }
        if self.bracket_open {
            return Err(self.error("unclosed left bracket"));
        }
        self.emit(TokenKind::EndOfInput)
    }

    fn comparison(&mut self, first: char) -> Lexed {
        let second = self.peek();
        let op = match (first, second) {
            ('=', Some('=')) => BinaryOp::Eq,
            ('!', Some('=')) => BinaryOp::NotEq,
            ('<', Some('=')) => BinaryOp::LessEq,
            ('<', Some('/')) => BinaryOp::TrimUpper,
            ('>', Some('=')) => BinaryOp::GreaterEq,
            ('>', Some('/')) => BinaryOp::TrimLower,
            ('<', _) => return self.emit_operator(BinaryOp::Less),
            ('>', _) => return self.emit_operator(BinaryOp::Greater),
            ('=', Some('~')) => return Err(self.error("unexpected character after '=': '~'")),
            ('=', _) => return self.emit(TokenKind::Assign),
            _ => {
                let second = QuotedChar(second.unwrap_or(END));
                return Err(self.error(format!("unexpected character after '!': {second}")));
            }
        };
        self.next();
        self.emit_operator(op)
    }

    fn paren(&mut self, char: char) -> Lexed {
        if char == '(' {
            self.paren_depth += 1;
            return self.emit(TokenKind::LeftParen);
        }
        let token = self.emit(TokenKind::RightParen);
        self.paren_depth -= 1;
        if self.paren_depth < 0 {
            return Err(self.error("unexpected right parenthesis ')'"));
        }
        token
    }

    fn bracket(&mut self, char: char) -> Lexed {
        if char == '[' {
            if self.bracket_open {
                return Err(self.error("unexpected left bracket '['"));
            }
            self.seen_colon = false;
            self.bracket_open = true;
            self.mode = Mode::Brackets;
            return self.emit(TokenKind::LeftBracket);
        }
        if !self.bracket_open {
            return Err(self.error("unexpected right bracket ']'"));
        }
        self.bracket_open = false;
        self.emit(TokenKind::RightBracket)
    }

    /// A word or a colon; within brackets, after a number, only a colon or a duration's keyword.
    fn word(&mut self, first: char) -> Lexed {
        if !self.bracket_open {
            return self.keyword_or_identifier();
        }
        if first == ':' {
            if self.seen_colon {
                return Err(self.error("unexpected colon ':'"));
            }
            self.seen_colon = true;
            return self.emit(TokenKind::Colon);
        }
        if starts_duration_keyword(first)
            && let Some(kind) = self.duration_keyword()
        {
            return self.emit(kind);
        }
        Err(self.error(format!("unexpected character: {}, expected ':'", QuotedChar(first))))
    }

    fn duration_keyword(&mut self) -> Option<TokenKind> {
        while self.peek().is_some_and(is_alpha) {
            self.next();
        }
        duration_keyword(&self.text().to_lowercase())
    }

    fn keyword_or_identifier(&mut self) -> Lexed {
        while self.peek().is_some_and(|char| is_alphanumeric(char) || char == ':') {
            self.next();
        }
        let word = self.text();
        let kind = match keyword(&word.to_lowercase()) {
            Some(TokenKind::Keyword(Keyword::Fill | Keyword::FillLeft | Keyword::FillRight))
                if !self.is_before_paren() =>
            {
                TokenKind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => TokenKind::MetricIdentifier,
            None => TokenKind::Identifier,
        };
        self.emit(kind)
    }

    fn is_before_paren(&self) -> bool {
        self.query.get(self.at..).is_some_and(|rest| rest.trim_start_matches(is_space).starts_with('('))
    }

    fn inside_braces(&mut self) -> Lexed {
        let Some(char) = self.next() else { return Err(self.error("unexpected end of input inside braces")) };
        match char {
            ',' => self.emit(TokenKind::Comma),
            '"' | '\'' => self.string(char),
            '`' => self.raw_string(),
            '=' if self.accept("~") => self.emit(TokenKind::AssignRegexp),
            '=' => self.emit(TokenKind::Assign),
            '!' => match self.next() {
                Some('~') => self.emit(TokenKind::NotRegexp),
                Some('=') => self.emit_operator(BinaryOp::NotEq),
                other => {
                    let other = QuotedChar(other.unwrap_or(END));
                    Err(self.error(format!("unexpected character after '!' inside braces: {other}")))
                }
            },
            '{' => Err(self.error("unexpected left brace '{'")),
            '}' => {
                self.mode = Mode::Statement;
                self.emit(TokenKind::RightBrace)
            }
            _ if is_alpha(char) => {
                while self.peek().is_some_and(is_alphanumeric) {
                    self.next();
                }
                self.emit(TokenKind::Identifier)
            }
            _ => Err(self.error(format!("unexpected character inside braces: {}", QuotedChar(char)))),
        }
    }

    fn inside_brackets(&mut self) -> Lexed {
        let Some(char) = self.next() else {
            return Err(self.error("unexpected end of input in duration expression"));
        };
        match char {
            ']' => {
                self.mode = Mode::Statement;
                self.bracket_open = false;
                self.seen_colon = false;
                self.emit(TokenKind::RightBracket)
            }
            ':' => {
                let token = self.emit(TokenKind::Colon);
                if !self.seen_duration {
                    return Err(self.error("unexpected colon before duration in duration expression"));
                }
                if self.seen_colon {
                    return Err(self.error("unexpected repeated colon in duration expression"));
                }
                self.seen_colon = true;
                token
            }
            '(' | ')' => self.paren(char),
            '*' | '/' | '%' | '+' | '-' | '^' => self.emit_operator(arithmetic(char)),
            ',' => self.emit(TokenKind::Comma),
            _ if self.starts_number(char) => {
                self.seen_duration = true;
                self.mode = Mode::Statement;
                self.number_or_duration()
            }
            _ => {
                if starts_duration_keyword(char)
                    && let Some(kind) = self.duration_keyword()
                {
                    return self.emit(kind);
                }
                Err(self.error(format!("unexpected character in duration expression: {}", QuotedChar(char))))
            }
        }
    }

    /// Whether `first`, just read, begins a number.
    fn starts_number(&self, first: char) -> bool {
        first.is_ascii_digit() || (first == '.' && self.peek().is_some_and(|char| char.is_ascii_digit()))
    }

    fn number_or_duration(&mut self) -> Lexed {
        self.at = self.start;
        if self.number() {
            return self.emit(TokenKind::Number);
        }
        if self.duration_units() {
            self.backup();
            return self.emit(TokenKind::Duration);
        }
        Err(self.error(format!("bad number or duration syntax: {}", Quoted(self.text().as_bytes()))))
    }

    /// Reads units and further numbers after a first number; on success one character too many.
    fn duration_units(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        self.accept("s");
        while self.accept(DIGITS) {
            while self.accept(DIGITS) {}
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        !self.next().is_some_and(is_alphanumeric)
    }

    /// Reads what looks like a number; the parser finds out whether it is one.
    fn number(&mut self) -> bool {
        let mut digits = DIGITS;
        if self.accept("0") && self.accept("xX") {
            self.accept("_");
            digits = HEX_DIGITS;
        }
        self.accept(".");
        self.accept(digits);
        let (mut seen_dot, mut seen_exponent) = (false, false);
        while self.is(digits) || self.is("._eE") {
            if (self.is(".") && seen_dot) || (self.is("eE") && seen_exponent) {
                self.next();
                return false;
            }
            if self.accept(".") {
                seen_dot = true;
                if self.accept("_.") || digits == HEX_DIGITS {
                    return false;
                }
            } else if self.accept("eE") {
                seen_exponent = true;
                self.accept("+-");
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else if self.accept("_") {
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else {
                while self.accept(digits) {}
            }
        }
        self.at > self.start && !self.peek().is_some_and(is_alphanumeric)
    }

    fn string(&mut self, quote: char) -> Lexed {
        loop {
            match self.next() {
                Some('\\') => self.escape(quote)?,
                Some(END) => return Err(self.error("invalid UTF-8 rune")),
                None | Some('\n') => return Err(self.error("unterminated quoted string")),
                Some(char) if char == quote => return self.emit(TokenKind::String),
                Some(_) => {}
            }
        }
    }

    fn raw_string(&mut self) -> Lexed {
        loop {
            match self.next() {
                Some(END) => return Err(self.error("invalid UTF-8 rune")),
                None => return Err(self.error("unterminated raw string")),
                Some('`') => return self.emit(TokenKind::String),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, quote: char) -> Result<(), ParseError> {
        let not_terminated = "escape sequence not terminated";
        let (count, base, most) = match self.next() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(char) if char == quote => return Ok(()),
            Some('0'..='7') => {
                self.backup();
                (3, 8, 255)
            }
            Some('x') => (2, 16, 255),
            Some('u') => (4, 16, 0x10_ffff),
            Some('U') => (8, 16, 0x10_ffff),
            None => return Err(self.error(not_terminated)),
            Some(char) => return Err(self.error(format!("unknown escape sequence {}", named(char)))),
        };
        let mut code = 0u32;
        for _ in 0..count {
            let Some(char) = self.next() else { return Err(self.error(not_terminated)) };
            let digit = char.to_digit(base).ok_or_else(|| {
                let char = named(char);
                self.error(format!("illegal character {char} in escape sequence"))
            })?;
            code = code.wrapping_mul(base).wrapping_add(digit);
        }
        if code > most || (0xd800..0xe000).contains(&code) {
            return Err(self.error("escape sequence is an invalid Unicode code point"));
        }
        Ok(())
    }
}

const DIGITS: &str = "0123456789";
const HEX_DIGITS: &str = "0123456789abcdefABCDEF";

fn arithmetic(char: char) -> BinaryOp {
    match char {
        '*' => BinaryOp::Mul,
        '/' => BinaryOp::Div,
        '%' => BinaryOp::Mod,
        '+' => BinaryOp::Add,
        '-' => BinaryOp::Sub,
        _ => BinaryOp::Pow,
    }
}

/// As Go's `%#U`.
fn named(char: char) -> String {
    let code = u32::from(char);
    if is_printable(char) { format!("U+{code:04X} '{char}'") } else { format!("U+{code:04X}") }
}

fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(char: char) -> bool {
    char == '_' || char.is_ascii_alphabetic()
}

fn is_alphanumeric(char: char) -> bool {
    char == '_' || char.is_ascii_alphanumeric()
}

fn starts_duration_keyword(char: char) -> bool {
    matches!(char, 's' | 'S' | 'r' | 'R' | 'm' | 'M')
}
