//! Tokens to what may stand where. Nothing is kept of a template but what its check needs: variables
//! that are known, and how deep in loops it is.

use super::TemplateError;
use super::lex::{Kind, Token};

/// Functions that every template has.
const FUNCTIONS: [&str; 19] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print", "printf",
    "println", "slice", "urlquery",
];

/// Deepest nesting of parts and parentheses.
const DEPTH_MAX: usize = 200;

/// What ends a list of texts and actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    End,
    Else,
}

/// What a term is, as far as it matters to what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    /// A constant, dot or nil, in these words: it is nothing to call, and has no fields.
    Constant(String),
    /// Dot, which may have been written with fields.
    Callable,
}

pub(super) struct Parser<'f> {
    tokens: Vec<Token>,
    /// The token that comes next.
    at: usize,
    /// The furthest token that was looked at: errors tell its line.
    seen: usize,
    functions: &'f [&'f str],
    variables: Vec<String>,
    loops: usize,
    depth: usize,
    action_line: usize,
}

type Checked<T = ()> = Result<T, TemplateError>;

impl Ending {
    fn words(self) -> &'static str {
        match self {
            Self::End => "{{end}}",
            Self::Else => "{{else}}",
        }
    }
}

/// A token as Go tells it.
fn told(token: &Token) -> String {
    match token.kind {
        Kind::End => "EOF".into(),
        Kind::Error => token.text.clone(),
        Kind::Keyword | Kind::Dot | Kind::Nil => format!("<{}>", token.text),
        _ if token.text.chars().count() > 10 => format!("{:?}...", token.text.chars().take(10).collect::<String>()),
        _ => format!("{:?}", token.text),
    }
}

impl<'f> Parser<'f> {
    pub(super) fn new(tokens: Vec<Token>, functions: &'f [&'f str]) -> Self {
        Self { tokens, at: 0, seen: 0, functions, variables: vec!["$".into()], loops: 0, depth: 0, action_line: 0 }
    }

    /// Checks all of it.
    pub(super) fn check(mut self) -> Checked {
        while self.peek().kind != Kind::End {
            if self.is_definition() {
                self.definition()?;
                continue;
            }
            if let Some(ending) = self.text_or_action()? {
                return self.fail(format!("unexpected {}", ending.words()));
            }
        }
        Ok(())
    }

    fn fail<T>(&self, message: impl Into<String>) -> Checked<T> {
        let line = self.tokens.get(self.seen).map_or(1, |token| token.line);
        Err(TemplateError { line, message: message.into() })
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Checked<T> {
        if token.kind != Kind::Error {
            return self.fail(format!("unexpected {} in {context}", told(token)));
        }
        let mut more = String::new();
        if self.action_line != 0 && self.action_line != token.line {
            let word = if token.text.ends_with(" action") { "" } else { " in action" };
            more = format!("{word} started at line {}", self.action_line);
        }
        self.fail(format!("{}{more}", token.text))
    }

    /// The token that comes next; the last one again and again.
    fn peek(&mut self) -> &Token {
        let at = self.at.min(self.tokens.len() - 1);
        self.seen = self.seen.max(at);
        &self.tokens[at]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
    }

    fn next_word(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn is_keyword(&mut self, word: &str) -> bool {
        let token = self.peek();
        token.kind == Kind::Keyword && token.text == word
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Checked {
        let token = self.next_word();
        if token.kind == kind { Ok(()) } else { self.unexpected(&token, context) }
    }

    fn is_definition(&mut self) -> bool {
        let begin = self.at;
        let found = self.next().kind == Kind::Left && {
            self.skip_space();
            self.is_keyword("define")
        };
        self.at = begin;
        found
    }

    fn definition(&mut self) -> Checked {
        const CONTEXT: &str = "define clause";
        self.next();
        self.next_word();
        self.template_name(CONTEXT)?;
        self.expect(Kind::Right, CONTEXT)?;
        self.own_list(CONTEXT)
    }

    /// A list with variables of its own, up to its end.
    fn own_list(&mut self, context: &str) -> Checked {
        let outer = (std::mem::replace(&mut self.variables, vec!["$".into()]), std::mem::take(&mut self.loops));
        let ending = self.list()?;
        (self.variables, self.loops) = outer;
        match ending {
            Ending::End => Ok(()),
            Ending::Else => self.fail(format!("unexpected {} in {context}", ending.words())),
        }
    }

    fn template_name(&mut self, context: &str) -> Checked {
        let token = self.next_word();
        if token.kind != Kind::String {
            return self.unexpected(&token, context);
        }
        if is_quoted(&token.text) { Ok(()) } else { self.fail("invalid syntax") }
    }

    fn list(&mut self) -> Checked<Ending> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        loop {
            self.skip_space();
            if self.peek().kind == Kind::End {
                return self.fail("unexpected EOF");
            }
            if let Some(ending) = self.text_or_action()? {
                self.depth -= 1;
                return Ok(ending);
            }
        }
    }

    fn text_or_action(&mut self) -> Checked<Option<Ending>> {
        let token = self.next_word();
        match token.kind {
            Kind::Text => Ok(None),
            Kind::Left => {
                self.action_line = token.line;
                let ending = self.action()?;
                self.action_line = 0;
                Ok(ending)
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Checked<Option<Ending>> {
        self.skip_space();
        if self.peek().kind != Kind::Keyword {
            self.pipeline("command", Kind::Right)?;
            return Ok(None);
        }
        let keyword = self.next();
        match keyword.text.as_str() {
            "if" => self.control("if")?,
            "with" => self.control("with")?,
            "range" => self.control("range")?,
            "end" => {
                self.expect(Kind::Right, "end")?;
                return Ok(Some(Ending::End));
            }
            "else" => {
                self.skip_space();
                // What follows is read as an action of its own.
                if !self.is_keyword("if") && !self.is_keyword("with") {
                    self.expect(Kind::Right, "else")?;
                }
                return Ok(Some(Ending::Else));
            }
            "break" | "continue" => {
                let words = format!("{{{{{}}}}}", keyword.text);
                self.expect(Kind::Right, &words)?;
                if self.loops == 0 {
                    return self.fail(format!("{words} outside {{{{range}}}}"));
                }
            }
            "template" => {
                self.template_name("template clause")?;
                self.skip_space();
                if self.peek().kind == Kind::Right {
                    self.next();
                } else {
                    self.pipeline("template clause", Kind::Right)?;
                }
            }
            "block" => {
                self.template_name("block clause")?;
                self.pipeline("block clause", Kind::Right)?;
                self.own_list("block clause")?;
            }
            _ => return self.unexpected(&keyword, "command"),
        }
        Ok(None)
    }

    /// What follows `if`, `with` or `range`, up to its end.
    fn control(&mut self, context: &'static str) -> Checked {
        let known = self.variables.len();
        self.pipeline(context, Kind::Right)?;
        self.loops += usize::from(context == "range");
        let ending = self.list()?;
        self.loops -= usize::from(context == "range");
        if ending == Ending::Else {
            if context != "range" && self.is_keyword(context) {
                self.next();
                self.control(context)?;
            } else {
                let ending = self.list()?;
                if ending != Ending::End {
                    return self.fail(format!("expected end; found {}", ending.words()));
                }
            }
        }
        self.variables.truncate(known);
        Ok(())
    }

    /// Declarations of variables, then commands, up to `end`.
    fn pipeline(&mut self, context: &str, end: Kind) -> Checked {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        self.declarations(context)?;
        let mut commands = Vec::new();
        loop {
            self.skip_space();
            let kind = self.peek().kind;
            match kind {
                kind if kind == end => {
                    self.next();
                    break;
                }
                Kind::Bool
                | Kind::Char
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => commands.push(self.command()?),
                _ => {
                    let token = self.next();
                    return self.unexpected(&token, context);
                }
            }
        }
        if commands.is_empty() {
            return self.fail(format!("missing value for {context}"));
        }
        if let Some(stage) = commands.iter().skip(1).position(|first| matches!(first, Term::Constant(_))) {
            return self.fail(format!("non executable command in pipeline stage {}", stage + 2));
        }
        self.depth -= 1;
        Ok(())
    }

    fn declarations(&mut self, context: &str) -> Checked {
        for count in 1.. {
            self.skip_space();
            if self.peek().kind != Kind::Variable {
                break;
            }
            let begin = self.at;
            let name = self.next().text;
            self.skip_space();
            let token = self.peek().clone();
            match token.kind {
                Kind::Assign | Kind::Declare => {
                    self.next();
                    self.variables.push(name);
                    break;
                }
                Kind::Other if token.text == "," => {
                    self.next();
                    self.variables.push(name);
                    if context != "range" || count > 1 {
                        return self.fail(format!("too many declarations in {context}"));
                    }
                    self.skip_space();
                    if !matches!(self.peek().kind, Kind::Variable | Kind::Right | Kind::RightParen) {
                        return self.fail("range can only initialize variables");
                    }
                }
                _ => {
                    self.at = begin;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Operands up to a pipe or an end; what the first one is.
    fn command(&mut self) -> Checked<Term> {
        let mut first = None;
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                first.get_or_insert(operand);
            }
            let kind = self.peek().kind;
            match kind {
                Kind::Space => continue,
                Kind::Right | Kind::RightParen => break,
                Kind::Pipe => {
                    self.next();
                    break;
                }
                _ => {
                    let token = self.next();
                    return self.unexpected(&token, "operand");
                }
            }
        }
        match first {
            Some(first) => Ok(first),
            None => self.fail("empty command"),
        }
    }

    fn operand(&mut self) -> Checked<Option<Term>> {
        let Some(term) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(term));
        }
        while self.peek().kind == Kind::Field {
            self.next();
        }
        match term {
            Term::Constant(words) => self.fail(format!("unexpected . after term {words:?}")),
            Term::Callable => Ok(Some(term)),
        }
    }

    fn term(&mut self) -> Checked<Option<Term>> {
        let token = self.peek().clone();
        let text = token.text.as_str();
        match token.kind {
            Kind::Identifier => {
                if !FUNCTIONS.contains(&text) && !self.functions.contains(&text) {
                    return self.fail(format!("function {text:?} not defined"));
                }
            }
            Kind::Variable => {
                if !self.variables.iter().any(|known| known == text) {
                    return self.fail(format!("undefined variable {text:?}"));
                }
            }
            Kind::Char if !is_character(text) => {
                return self.fail(format!("malformed character constant: {text}"));
            }
            Kind::Number if !is_number(text) => return self.fail(format!("illegal number syntax: {text:?}")),
            Kind::String if !is_quoted(text) => return self.fail("invalid syntax"),
            Kind::LeftParen => {
                self.next();
                self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                return Ok(Some(Term::Callable));
            }
            Kind::Dot | Kind::Nil | Kind::Field | Kind::Bool | Kind::Char | Kind::Number | Kind::String => {}
            _ => return Ok(None),
        }
        self.next();
        Ok(Some(match token.kind {
            Kind::Identifier | Kind::Variable | Kind::Field => Term::Callable,
            _ => Term::Constant(token.text),
        }))
    }
}

/// Bytes of the escape sequence that `text` begins with, behind its backslash, between quotes `quote`.
fn escape_len(text: &str, quote: char) -> Option<usize> {
    let hex = |len: usize| {
        let digits = text.get(1..=len)?;
        let number = u32::from_str_radix(digits, 16).ok()?;
        (len == 2 || char::from_u32(number).is_some()).then_some(1 + len)
    };
    match text.chars().next()? {
        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => Some(1),
        c if c == quote => Some(1),
        'x' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        '0'..='7' => u8::from_str_radix(text.get(..3)?, 8).ok().map(|_| 3),
        _ => None,
    }
}

/// How many characters there are between the quotes of `text`; `None` where an escape is none.
fn quoted_len(text: &str, quote: char) -> Option<usize> {
    let mut rest = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut count = 0;
    while let Some(c) = rest.chars().next() {
        let len = if c == '\\' { 1 + escape_len(rest.get(1..)?, quote)? } else { c.len_utf8() };
        rest = rest.get(len..)?;
        count += 1;
    }
    Some(count)
}

fn is_quoted(text: &str) -> bool {
    text.starts_with('`') || quoted_len(text, '"').is_some()
}

fn is_character(text: &str) -> bool {
    quoted_len(text, '\'') == Some(1)
}

/// Whether Go takes `text` for a number: digits of its base, underscores between them, an exponent.
fn is_number(text: &str) -> bool {
    let text = text.strip_suffix('i').unwrap_or(text);
    let mut parts = text.match_indices(['+', '-']).map(|(at, _)| at);
    // A complex number is two; a sign behind an exponent parts nothing.
    let hex = text.trim_start_matches(['+', '-']).to_ascii_lowercase().starts_with("0x");
    let is_exponent = |at: usize| at > 0 && text[..at].ends_with(if hex { ['p', 'P'] } else { ['e', 'E'] });
    let cut = parts.rfind(|at| *at > 0 && !is_exponent(*at)).unwrap_or(0);
    let (real, imaginary) = text.split_at(cut);
    (real.is_empty() || is_real(real)) && is_real(imaginary)
}

fn is_real(text: &str) -> bool {
    let text = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
    let (digits, radix): (&str, u32) = match text.as_bytes() {
        [b'0', b'x', ..] => (&text[2..], 16),
        [b'0', b'o', ..] => (&text[2..], 8),
        [b'0', b'b', ..] => (&text[2..], 2),
        _ => (&text, 10),
    };
    let (mantissa, exponent) = match digits.split_once(if radix == 16 { 'p' } else { 'e' }) {
        Some((mantissa, exponent)) if radix == 10 || radix == 16 => (mantissa, Some(exponent)),
        _ => (digits, None),
    };
    let has_digits = mantissa.chars().any(|c| c.is_digit(radix));
    let only_digits = mantissa.chars().filter(|c| *c != '_' && *c != '.').all(|c| c.is_digit(radix));
    let underscores = !mantissa.starts_with('_') || radix != 10;
    let parted = underscores && !mantissa.ends_with('_') && !mantissa.contains("__");
    let needs_exponent = radix == 16 && mantissa.contains('.');
    let exponent_fits = match exponent {
        Some(exponent) => {
            let digits = exponent.trim_start_matches(['+', '-']);
            !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || c == '_')
        }
        None => !needs_exponent,
    };
    has_digits && only_digits && parted && exponent_fits
}
