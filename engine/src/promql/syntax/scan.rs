//! The tokens of numbers, durations and strings.

use crate::model::text::{Quoted, is_printable};

use super::error::ParseError;
use super::lexer::{END, Lexed, Lexer, is_alphanumeric};
use super::token::TokenKind;

const DIGITS: &str = "0123456789";
const HEX_DIGITS: &str = "0123456789abcdefABCDEF";

impl Lexer<'_> {
    /// Whether `first`, just read, begins a number.
    pub(super) fn starts_number(&self, first: char) -> bool {
        first.is_ascii_digit() || (first == '.' && self.peek().is_some_and(|char| char.is_ascii_digit()))
    }

    pub(super) fn number_or_duration(&mut self) -> Lexed {
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

    pub(super) fn string(&mut self, quote: char) -> Lexed {
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

    pub(super) fn raw_string(&mut self) -> Lexed {
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

/// As Go's `%#U`.
fn named(char: char) -> String {
    let code = u32::from(char);
    if is_printable(char) { format!("U+{code:04X} '{char}'") } else { format!("U+{code:04X}") }
}
