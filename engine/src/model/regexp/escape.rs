//! Escapes and classes of characters.

use regex_syntax::hir::ClassUnicode;

use super::class;
use super::node::{Look, Node};
use super::parse::{Parser, Step, fail};

/// Characters whose other cases are found in the time that a range of a class takes.
const LOOKED_UP: usize = 32;

/// Ranges of a class that are made in the time in which one is found by its name.
const NAMED: usize = 256;

impl Parser<'_> {
    pub(super) fn backslash(&mut self) -> Step {
        let rest = self.rest();
        let second = rest.chars().nth(1);
        let look = match second {
            Some('A') => Some(Look::TextStart),
            Some('z') => Some(Look::TextEnd),
            Some('b') => Some(Look::WordBoundary),
            Some('B') => Some(Look::NotWordBoundary),
            _ => None,
        };
        if let Some(look) = look {
            self.at += 2;
            self.push(Node::Look(look));
            return Ok(());
        }
        match second {
            Some('C') => return Err(fail("invalid escape sequence", "\\C")),
            Some('Q') => {
                let quoted = rest.get(2..).unwrap_or_default();
                let (literal, skipped) = match quoted.split_once("\\E") {
                    Some((literal, _)) => (literal, literal.len() + 4),
                    None => (quoted, quoted.len() + 2),
                };
                self.at += skipped;
                literal.chars().for_each(|char| self.push_literal(char));
                return Ok(());
            }
            _ => {}
        }
        if let Some(class) = self.escaped_class()? {
            self.count_ranges(class.ranges().len())?;
            self.push(Node::Class(class));
            return Ok(());
        }
        let code = self.escape()?;
        match char::from_u32(code) {
            Some(char) => self.push_literal(char),
            None => self.push(Node::Class(ClassUnicode::empty())),
        }
        Ok(())
    }

    /// `\pL`, `\p{Greek}`, `\d` and their like; nothing is read when it is none of these.
    fn escaped_class(&mut self) -> Step<Option<ClassUnicode>> {
        let start = self.at;
        let Some(letter) = self.rest().strip_prefix('\\').and_then(|tail| tail.chars().next()) else {
            return Ok(None);
        };
        if let Some((class, negate)) = class::perl(letter) {
            self.at += 2;
            return self.adjusted(class, negate).map(Some);
        }
        if !matches!(letter, 'p' | 'P') {
            return Ok(None);
        }
        self.at += 2;
        let rest = self.rest();
        let name = match self.next() {
            Some('{') => {
                let whole = self.pattern.get(start..).unwrap_or_default();
                let end = rest.find('}').ok_or_else(|| fail("invalid character class range", whole))?;
                self.at += end;
                rest.get(1..end).unwrap_or_default()
            }
            Some(char) => rest.get(..char.len_utf8()).unwrap_or_default(),
            None => "",
        };
        let (name, negated) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        self.count_ranges(NAMED)?;
        let class = class::unicode(name).ok_or_else(|| fail("invalid character class range", self.since(start)))?;
        self.adjusted(class, negated != (letter == 'P')).map(Some)
    }

    /// `class` with its other cases when case is ignored, then negated when `negate`.
    fn adjusted(&mut self, mut class: ClassUnicode, negate: bool) -> Step<ClassUnicode> {
        if self.flags.fold {
            // Each character is looked up.
            let lens = class.ranges().iter().map(|range| u32::from(range.end()) - u32::from(range.start()));
            self.count_ranges(lens.sum::<u32>() as usize / LOOKED_UP)?;
            class.case_fold_simple();
        }
        if negate {
            class.negate();
        }
        Ok(class)
    }

    /// The code of an escaped character.
    fn escape(&mut self) -> Step<u32> {
        let start = self.at;
        self.next();
        let Some(char) = self.next() else { return Err(fail("trailing backslash at end of expression", "")) };
        let code = match char {
            '0'..='7' => self.octal(char),
            'x' => self.hexadecimal(),
            'a' => Some(7),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'v' => Some(11),
            _ if char.is_ascii() && !char.is_ascii_alphanumeric() => Some(u32::from(char)),
            _ => None,
        };
        code.ok_or_else(|| fail("invalid escape sequence", self.since(start)))
    }

    fn octal(&mut self, first: char) -> Option<u32> {
        let is_octal = |char: &char| matches!(char, '0'..='7');
        if first != '0' && !self.peek().is_some_and(|char| is_octal(&char)) {
            return None;
        }
        let mut code = first.to_digit(8)?;
        for _ in 0..2 {
            let Some(digit) = self.peek().filter(is_octal) else { break };
            self.next();
            code = code * 8 + digit.to_digit(8)?;
        }
        Some(code)
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let first = self.next()?;
        if first != '{' {
            let second = self.next();
            return Some(first.to_digit(16)? * 16 + second?.to_digit(16)?);
        }
        let (mut code, mut digits) = (0u32, 0);
        loop {
            let char = self.next()?;
            if char == '}' {
                return (digits > 0).then_some(code);
            }
            code = code * 16 + char.to_digit(16)?;
            if code > u32::from(char::MAX) {
                return None;
            }
            digits += 1;
        }
    }

    /// A class in brackets.
    pub(super) fn bracketed(&mut self) -> Step<ClassUnicode> {
        let start = self.at;
        self.next();
        let negate = self.peek() == Some('^');
        if negate {
            self.next();
        }
        // One class is made of all at once, as each union sorts what there is.
        let mut ranges = Vec::new();
        let mut is_first = true;
        while is_first || self.peek() != Some(']') {
            is_first = false;
            let item = match self.named_class()? {
                Some(item) => item,
                None => match self.escaped_class()? {
                    Some(item) => item,
                    None => self.class_range(start)?,
                },
            };
            self.count_ranges(item.ranges().len())?;
            ranges.extend_from_slice(item.ranges());
        }
        let mut class = ClassUnicode::new(ranges);
        self.next();
        if negate {
            class.negate();
        }
        Ok(class)
    }

    /// `[:alpha:]`; nothing is read when it is none.
    fn named_class(&mut self) -> Step<Option<ClassUnicode>> {
        let rest = self.rest();
        let Some(end) = rest.strip_prefix("[:").and_then(|tail| tail.find(":]")) else { return Ok(None) };
        let name = rest.get(2..end + 2).unwrap_or_default();
        let whole = rest.get(..end + 4).unwrap_or_default();
        let (name, negate) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        let class = class::posix(name).ok_or_else(|| fail("invalid character class range", whole))?;
        self.at += end + 4;
        self.adjusted(class, negate).map(Some)
    }

    /// A character or a range of them; `class` is where the class starts.
    fn class_range(&mut self, class: usize) -> Step<ClassUnicode> {
        let start = self.at;
        let low = self.class_char(class)?;
        let mut high = low;
        let rest = self.rest();
        if rest.starts_with('-') && rest.len() >= 2 && !rest.starts_with("-]") {
            self.next();
            high = self.class_char(class)?;
            if high < low {
                return Err(fail("invalid character class range", self.since(start)));
            }
        }
        self.adjusted(class::range(low, high), false)
    }

    fn class_char(&mut self, class: usize) -> Step<u32> {
        match self.peek() {
            None => Err(fail("missing closing ]", self.pattern.get(class..).unwrap_or_default())),
            Some('\\') => self.escape(),
            Some(char) => {
                self.next();
                Ok(u32::from(char))
            }
        }
    }
}
