//! Text to tokens. What a character means depends on the brackets around it, as in Prometheus:
//! keywords are none inside braces, and square brackets know only durations and arithmetic.

use crate::model::text::QuotedChar;

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
    pub(super) at: usize,
    /// Where the token being read starts.
    pub(super) start: usize,
    /// Bytes of the character read last; 0 at the end.
    width: usize,
    mode: Mode,
    paren_depth: i64,
    bracket_open: bool,
    seen_colon: bool,
    seen_duration: bool,
}

pub(super) type Lexed = Result<Token, ParseError>;

/// What stands for the end in errors, as in Go.
pub(super) const END: char = char::REPLACEMENT_CHARACTER;

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

    pub(super) fn peek(&self) -> Option<char> {
        self.query.get(self.at..)?.chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let char = self.peek();
        self.width = char.map_or(0, char::len_utf8);
        self.at += self.width;
        char
    }

    /// Undoes the last `next`; once only.
    pub(super) fn backup(&mut self) {
        self.at -= self.width;
        self.width = 0;
    }

    pub(super) fn accept(&mut self, allowed: &str) -> bool {
        let accepted = self.peek().is_some_and(|char| allowed.contains(char));
        if accepted {
            self.next();
        }
        accepted
    }

    pub(super) fn is(&self, allowed: &str) -> bool {
        self.peek().is_some_and(|char| allowed.contains(char))
    }

    pub(super) fn emit(&mut self, kind: TokenKind) -> Lexed {
        let token = Token { kind, range: TextRange { start: self.start, end: self.at } };
        self.start = self.at;
        Ok(token)
    }

    fn emit_operator(&mut self, op: BinaryOp) -> Lexed {
        self.emit(TokenKind::Operator(op))
    }

    pub(super) fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::new(self.query, TextRange { start: self.start, end: self.query.len() }, message)
    }

    pub(super) fn text(&self) -> &'a str {
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
}

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

fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(char: char) -> bool {
    char == '_' || char.is_ascii_alphabetic()
}

pub(super) fn is_alphanumeric(char: char) -> bool {
    char == '_' || char.is_ascii_alphanumeric()
}

fn starts_duration_keyword(char: char) -> bool {
    matches!(char, 's' | 'S' | 'r' | 'R' | 'm' | 'M')
}
