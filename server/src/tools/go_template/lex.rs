//! Characters to tokens. The tokens end with the end of the text or with an error.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What is outside of actions.
    Text,
    /// `{{`.
    Left,
    /// `}}`.
    Right,
    /// A run of blanks.
    Space,
    /// `=`.
    Assign,
    /// `:=`.
    Declare,
    /// `|`.
    Pipe,
    /// `(`.
    LeftParen,
    /// `)`.
    RightParen,
    /// A text in quotes or backquotes.
    String,
    /// A character in quotes.
    Char,
    /// A number, complex ones among them.
    Number,
    /// `true` or `false`.
    Bool,
    /// `.`.
    Dot,
    /// `nil`.
    Nil,
    /// `.name`.
    Field,
    /// `$name`.
    Variable,
    /// A function's name.
    Identifier,
    /// A word that begins or ends a part, such as `if`.
    Keyword,
    /// Another printable character.
    Other,
    /// The end.
    End,
    /// What could not be read; the text says why.
    Error,
}

/// A token, its text, and the line it starts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) line: usize,
}

const KEYWORDS: [&str; 10] = ["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"];

/// The tokens of `text`.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { text, at: 0, start: 0, line: 1, depth: 0, tokens: Vec::new() };
    let end = lexer.run();
    let (kind, text) = end.map_or_else(|why| (Kind::Error, why), |()| (Kind::End, String::new()));
    lexer.tokens.push(Token { kind, text, line: lexer.line });
    lexer.tokens
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    start: usize,
    /// The line of `start`.
    line: usize,
    /// Parentheses that are open.
    depth: usize,
    tokens: Vec<Token>,
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphabetic() || c.is_numeric()
}

/// A character as Go names it.
fn named(c: char) -> String {
    format!("U+{:04X} '{c}'", u32::from(c))
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Takes the next character, if it is one of these.
    fn accept(&mut self, set: &str) -> bool {
        self.peek().is_some_and(|c| set.contains(c)) && self.next().is_some()
    }

    fn accept_all(&mut self, fits: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&fits) {
            self.next();
        }
    }

    fn taken(&self) -> &'t str {
        self.text.get(self.start..self.at).unwrap_or("")
    }

    fn skip(&mut self) {
        self.line += self.taken().matches('\n').count();
        self.start = self.at;
    }

    fn emit(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, text: self.taken().to_owned(), line: self.line });
        self.skip();
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(len) = self.rest().find("{{") {
            self.at += len;
            if len > 0 {
                self.emit(Kind::Text);
            }
            self.action()?;
        }
        self.at = self.text.len();
        if self.start < self.at {
            self.emit(Kind::Text);
        }
        Ok(())
    }

    /// One action or comment.
    fn action(&mut self) -> Result<(), String> {
        self.at += 2;
        let mut after = self.rest().chars();
        let trim = if after.next() == Some('-') && after.next().is_some_and(is_space) { 2 } else { 0 };
        if self.rest().get(trim..).is_some_and(|rest| rest.starts_with("/*")) {
            self.at += trim;
            self.skip();
            return self.comment();
        }
        self.emit(Kind::Left);
        self.at += trim;
        self.skip();
        self.depth = 0;
        while !self.inside()? {}
        Ok(())
    }

    fn comment(&mut self) -> Result<(), String> {
        let end = self.rest().find("*/").ok_or("unclosed comment")?;
        self.at += end + 2;
        let closing = self.closing().ok_or("comment ends before closing delimiter")?;
        self.at += closing;
        self.skip();
        Ok(())
    }

    /// Bytes of the closing delimiter that comes next, its trim marker with it.
    fn closing(&self) -> Option<usize> {
        let rest = self.rest();
        let trimmed = rest.chars().next().is_some_and(is_space) && rest.get(1..).is_some_and(|r| r.starts_with("-}}"));
        if trimmed {
            return Some(4);
        }
        rest.starts_with("}}").then_some(2)
    }

    /// One token of an action; whether it was the last one.
    fn inside(&mut self) -> Result<bool, String> {
        if let Some(closing) = self.closing() {
            if self.depth > 0 {
                return Err("unclosed left paren".into());
            }
            self.at += closing;
            self.emit(Kind::Right);
            return Ok(true);
        }
        let first = self.next().ok_or("unclosed action")?;
        match first {
            c if is_space(c) => {
                while self.peek().is_some_and(is_space) && self.closing().is_none() {
                    self.next();
                }
                self.emit(Kind::Space);
            }
            '=' => self.emit(Kind::Assign),
            ':' if self.accept("=") => self.emit(Kind::Declare),
            ':' => return Err("expected :=".into()),
            '|' => self.emit(Kind::Pipe),
            '"' => self.quoted('"', Kind::String, "unterminated quoted string")?,
            '\'' => self.quoted('\'', Kind::Char, "unterminated character constant")?,
            '`' => {
                let len = self.rest().find('`').ok_or("unterminated raw quoted string")?;
                self.at += len + 1;
                self.emit(Kind::String);
            }
            '$' => self.named(Kind::Variable, Kind::Variable)?,
            '.' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => self.named(Kind::Field, Kind::Dot)?,
            '.' | '+' | '-' | '0'..='9' => {
                self.at = self.start;
                self.number()?;
            }
            c if is_word(c) => self.word()?,
            '(' => {
                self.depth += 1;
                self.emit(Kind::LeftParen);
            }
            ')' => {
                self.depth = self.depth.checked_sub(1).ok_or("unexpected right paren")?;
                self.emit(Kind::RightParen);
            }
            c if c.is_ascii_graphic() => self.emit(Kind::Other),
            c => return Err(format!("unrecognized character in action: {}", named(c))),
        }
        Ok(false)
    }

    fn quoted(&mut self, end: char, kind: Kind, unterminated: &str) -> Result<(), String> {
        loop {
            match self.next() {
                None | Some('\n') => return Err(unterminated.into()),
                Some('\\') if self.peek().is_some_and(|c| c != '\n') => drop(self.next()),
                Some('\\') => return Err(unterminated.into()),
                Some(c) if c == end => break,
                Some(_) => {}
            }
        }
        self.emit(kind);
        Ok(())
    }

    /// A field or a variable; `bare` where no name follows.
    fn named(&mut self, kind: Kind, bare: Kind) -> Result<(), String> {
        let start = self.at;
        self.accept_all(is_word);
        self.check_end()?;
        self.emit(if self.at == start { bare } else { kind });
        Ok(())
    }

    fn word(&mut self) -> Result<(), String> {
        self.accept_all(is_word);
        self.check_end()?;
        self.emit(match self.taken() {
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Nil,
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => Kind::Identifier,
        });
        Ok(())
    }

    /// A name must end where it can.
    fn check_end(&self) -> Result<(), String> {
        match self.peek() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => Ok(()),
            Some(c) if is_space(c) || self.rest().starts_with("}}") => Ok(()),
            Some(c) => Err(format!("bad character {}", named(c))),
        }
    }

    fn number(&mut self) -> Result<(), String> {
        let bad = |lexer: &Self| format!("bad number syntax: {:?}", lexer.taken());
        if !self.scan_number() {
            return Err(bad(self));
        }
        if self.peek().is_some_and(|c| c == '+' || c == '-') && !(self.scan_number() && self.taken().ends_with('i')) {
            return Err(bad(self));
        }
        self.emit(Kind::Number);
        Ok(())
    }

    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let mut digits = "0123456789_";
        if self.accept("0") {
            if self.accept("xX") {
                digits = "0123456789abcdefABCDEF_";
            } else if self.accept("oO") {
                digits = "01234567_";
            } else if self.accept("bB") {
                digits = "01_";
            }
        }
        self.accept_all(|c| digits.contains(c));
        if self.accept(".") {
            self.accept_all(|c| digits.contains(c));
        }
        let exponent = if digits.len() == 11 { "eE" } else { "pP" };
        if (digits.len() == 11 || digits.len() == 23) && self.accept(exponent) {
            self.accept("+-");
            self.accept_all(|c| "0123456789_".contains(c));
        }
        self.accept("i");
        if self.peek().is_some_and(is_word) {
            self.next();
            return false;
        }
        true
    }
}
