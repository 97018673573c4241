//! Go's RE2 syntax to a tree, with Go's errors.

use regex_syntax::hir::ClassUnicode;

use super::super::error::Error;
use super::class;
use super::node::{Look, Node};

/// How deep groups may nest.
const NESTING_MAX: usize = 250;

/// How often something may be repeated, inner repetitions multiplied.
const REPEAT_MAX: u32 = 1000;

/// A parsed regexp.
#[derive(Debug)]
pub(super) struct Parsed {
    pub node: Node,
    /// Names of the groups from 1; empty for those without.
    pub names: Vec<String>,
}

/// Flags in force.
#[derive(Clone, Copy)]
struct Flags {
    fold: bool,
    multi_line: bool,
    dot_newline: bool,
    swap_greed: bool,
}

/// A group, or the whole, that is being read.
struct Frame {
    capture: Option<u32>,
    outer_flags: Flags,
    branches: Vec<Node>,
    branch: Vec<Node>,
}

struct Parser<'a> {
    pattern: &'a str,
    at: usize,
    flags: Flags,
    frames: Vec<Frame>,
    names: Vec<String>,
}

type Step<T = ()> = Result<T, Error>;

/// Parses `pattern` with `.` matching newlines, as Prometheus wants it.
pub(super) fn parse(pattern: &str) -> Result<Parsed, Error> {
    let flags = Flags { fold: false, multi_line: false, dot_newline: true, swap_greed: false };
    let outer = Frame { capture: None, outer_flags: flags, branches: Vec::new(), branch: Vec::new() };
    let mut parser = Parser { pattern, at: 0, flags, frames: vec![outer], names: Vec::new() };
    parser.run()?;
    match (parser.frames.pop(), parser.frames.is_empty()) {
        (Some(whole), true) => Ok(Parsed { node: whole.finish(), names: parser.names }),
        _ => Err(fail("missing closing )", pattern)),
    }
}

/// The error with Go's words.
pub(super) fn fail(what: &str, text: &str) -> Error {
    Error::invalid(format!("error parsing regexp: {what}: `{text}`"))
}

impl Frame {
    fn finish_branch(&mut self) {
        let mut branch = std::mem::take(&mut self.branch);
        self.branches.push(match branch.len() {
            0 => Node::Empty,
            1 => branch.remove(0),
            _ => Node::Concat(branch),
        });
    }

    fn finish(mut self) -> Node {
        self.finish_branch();
        let node = match self.branches.len() {
            1 => self.branches.remove(0),
            _ => Node::Alternate(self.branches),
        };
        match self.capture {
            Some(number) => Node::Capture(number, Box::new(node)),
            None => node,
        }
    }
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }

    /// What was read since `start`.
    fn since(&self, start: usize) -> &'a str {
        self.pattern.get(start..self.at).unwrap_or_default()
    }

    fn push(&mut self, node: Node) {
        if let Some(frame) = self.frames.last_mut() {
            frame.branch.push(node);
        }
    }

    fn push_literal(&mut self, char: char) {
        let fold = self.flags.fold;
        self.push(Node::Literal { char, fold });
    }

    fn run(&mut self) -> Step {
        let mut last_repeat = None;
        while let Some(char) = self.peek() {
            let start = self.at;
            let mut repeat = None;
            match char {
                '(' => self.open()?,
                '|' => {
                    self.next();
                    if let Some(frame) = self.frames.last_mut() {
                        frame.finish_branch();
                    }
                }
                ')' => self.close()?,
                '[' => {
                    let class = self.bracketed()?;
                    self.push(Node::Class(class));
                }
                '*' | '+' | '?' => {
                    self.next();
                    let (min, max) = match char {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(start, last_repeat, (min, max))?;
                    repeat = Some(start);
                }
                '{' => match self.counts() {
                    Some(counts) => {
                        let bounds =
                            valid_counts(counts).ok_or_else(|| fail("invalid repeat count", self.since(start)))?;
                        self.repeat(start, last_repeat, bounds)?;
                        repeat = Some(start);
                    }
                    None => {
                        self.next();
                        self.push_literal('{');
                    }
                },
                '\\' => self.backslash()?,
                '^' | '$' | '.' => self.special(char),
                _ => {
                    self.next();
                    self.push_literal(char);
                }
            }
            last_repeat = repeat;
        }
        Ok(())
    }

    fn special(&mut self, char: char) {
        self.next();
        let multi_line = self.flags.multi_line;
        self.push(match char {
            '^' if multi_line => Node::Look(Look::LineStart),
            '^' => Node::Look(Look::TextStart),
            '$' if multi_line => Node::Look(Look::LineEnd),
            '$' => Node::Look(Look::TextEnd),
            _ if self.flags.dot_newline => Node::AnyChar,
            _ => Node::AnyCharButNewline,
        });
    }

    fn open(&mut self) -> Step {
        if self.frames.len() > NESTING_MAX {
            return Err(fail("expression nests too deeply", self.pattern));
        }
        if self.rest().starts_with("(?") {
            return self.open_with_flags();
        }
        self.next();
        self.open_capture(String::new());
        Ok(())
    }

    fn open_capture(&mut self, name: String) {
        self.names.push(name);
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.open_group(Some(number), self.flags);
    }

    fn open_group(&mut self, capture: Option<u32>, flags: Flags) {
        let outer_flags = self.flags;
        self.frames.push(Frame { capture, outer_flags, branches: Vec::new(), branch: Vec::new() });
        self.flags = flags;
    }

    fn close(&mut self) -> Step {
        if self.frames.len() < 2 {
            return Err(fail("unexpected )", self.pattern));
        }
        self.next();
        if let Some(frame) = self.frames.pop() {
            self.flags = frame.outer_flags;
            let node = frame.finish();
            self.push(node);
        }
        Ok(())
    }

    /// `(?P<name>`, `(?<name>`, `(?flags:` or `(?flags)`.
    fn open_with_flags(&mut self) -> Step {
        let start = self.at;
        let rest = self.rest();
        let name_at = match rest.get(2..) {
            Some(tail) if tail.starts_with("P<") && rest.len() > 4 => Some(4),
            Some(tail) if tail.starts_with('<') && rest.len() > 3 => Some(3),
            _ => None,
        };
        if let Some(name_at) = name_at {
            let Some(end) = rest.find('>') else { return Err(fail("invalid named capture", rest)) };
            let name = rest.get(name_at..end).unwrap_or_default();
            self.at += end + 1;
            if name.is_empty() || !name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
                return Err(fail("invalid named capture", self.since(start)));
            }
            self.open_capture(name.to_owned());
            return Ok(());
        }
        self.at += 2;
        let mut flags = self.flags;
        let (mut on, mut seen) = (true, false);
        while let Some(char) = self.next() {
            match char {
                'i' => flags.fold = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_newline = on,
                'U' => flags.swap_greed = on,
                '-' if on => {
                    (on, seen) = (false, false);
                    continue;
                }
                ':' if on || seen => {
                    self.open_group(None, flags);
                    return Ok(());
                }
                ')' if on || seen => {
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            seen = true;
        }
        Err(fail("invalid or unsupported Perl syntax", self.since(start)))
    }

    /// Repeats what was read last; the operator starts at `start` and has been read.
    fn repeat(&mut self, start: usize, last_repeat: Option<usize>, (min, max): (u32, Option<u32>)) -> Step {
        let mut greedy = !self.flags.swap_greed;
        if self.peek() == Some('?') {
            self.next();
            greedy = !greedy;
        }
        if let Some(last) = last_repeat {
            return Err(fail("invalid nested repetition operator", self.since(last)));
        }
        let operator = self.since(start);
        let repeated = self.frames.last_mut().and_then(|frame| frame.branch.pop());
        let Some(node) = repeated else { return Err(fail("missing argument to repetition operator", operator)) };
        let node = Node::Repeat { min, max, greedy, node: Box::new(node) };
        let is_counted = operator.starts_with('{') && (min >= 2 || max.is_some_and(|max| max >= 2));
        if is_counted && !repeats_at_most(&node, REPEAT_MAX) {
            return Err(fail("invalid repeat count", operator));
        }
        self.push(node);
        Ok(())
    }

    /// `{2}`, `{2,}` or `{2,3}`; nothing is read when it is none of these.
    fn counts(&mut self) -> Option<(u64, Option<u64>)> {
        let inner = self.rest().strip_prefix('{')?;
        let end = inner.find('}')?;
        let (min, max) = match inner.get(..end)?.split_once(',') {
            None => {
                let count = count(inner.get(..end)?)?;
                (count, Some(count))
            }
            Some((min, "")) => (count(min)?, None),
            Some((min, max)) => (count(min)?, Some(count(max)?)),
        };
        self.at += end + 2;
        Some((min, max))
    }

    fn backslash(&mut self) -> Step {
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
            return Ok(Some(self.adjusted(class, negate)));
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
        let class = class::unicode(name).ok_or_else(|| fail("invalid character class range", self.since(start)))?;
        Ok(Some(self.adjusted(class, negated != (letter == 'P'))))
    }

    /// `class` with its other cases when case is ignored, then negated when `negate`.
    fn adjusted(&self, mut class: ClassUnicode, negate: bool) -> ClassUnicode {
        if self.flags.fold {
            class.case_fold_simple();
        }
        if negate {
            class.negate();
        }
        class
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
    fn bracketed(&mut self) -> Step<ClassUnicode> {
        let start = self.at;
        self.next();
        let negate = self.peek() == Some('^');
        if negate {
            self.next();
        }
        let mut class = ClassUnicode::empty();
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
            class.union(&item);
        }
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
        Ok(Some(self.adjusted(class, negate)))
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
        Ok(self.adjusted(class::range(low, high), false))
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

/// A number of repetitions; leading zeros are none, too large a number is `u64::MAX`.
fn count(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

fn valid_counts((min, max): (u64, Option<u64>)) -> Option<(u32, Option<u32>)> {
    let narrow = |count| u32::try_from(count).ok().filter(|count| *count <= REPEAT_MAX);
    let min = narrow(min)?;
    match max {
        None => Some((min, None)),
        Some(max) => narrow(max).filter(|max| min <= *max).map(|max| (min, Some(max))),
    }
}

/// Whether no innermost thing comes more than `most` times, as Go counts it.
fn repeats_at_most(node: &Node, most: u32) -> bool {
    match node {
        Node::Repeat { max: Some(0), .. } => true,
        Node::Repeat { min, max, node, .. } => {
            let is_counted = !matches!((min, max), (0 | 1, None) | (0, Some(1)));
            let count = if is_counted { max.unwrap_or(*min) } else { 0 };
            count <= most && repeats_at_most(node, if count > 0 { most / count } else { most })
        }
        Node::Capture(_, node) => repeats_at_most(node, most),
        Node::Concat(nodes) | Node::Alternate(nodes) => nodes.iter().all(|node| repeats_at_most(node, most)),
        _ => true,
    }
}
