//! Go's RE2 syntax to a tree, with Go's errors.

use super::super::error::Error;
use super::node::{Look, Node};

/// How deep groups may nest.
const NESTING_MAX: usize = 250;

/// How often something may be repeated, inner repetitions multiplied.
const REPEAT_MAX: u32 = 1000;

/// Most bytes of a pattern that is more than a list of literals: a longer one has no automaton that is small enough.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Most ranges of all classes of a pattern; with more, its automaton is too large, too.
const RANGES_MAX: usize = 1 << 20;

/// What is wrong with a pattern whose automaton would be too large, in Go's words.
pub(super) const TOO_LARGE: &str = "expression too large";

/// A parsed regexp.
#[derive(Debug)]
pub(super) struct Parsed {
    pub node: Node,
    /// Names of the groups from 1; empty for those without.
    pub names: Vec<String>,
    /// Ranges of all its classes: how long it took.
    pub ranges: usize,
}

/// Flags in force.
#[derive(Clone, Copy)]
pub(super) struct Flags {
    pub fold: bool,
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

pub(super) struct Parser<'a> {
    pub pattern: &'a str,
    pub at: usize,
    pub flags: Flags,
    frames: Vec<Frame>,
    names: Vec<String>,
    /// Ranges of all classes so far.
    ranges: usize,
}

pub(super) type Step<T = ()> = Result<T, Error>;

/// Parses `pattern` with `.` matching newlines, as Prometheus wants it.
pub(super) fn parse(pattern: &str) -> Result<Parsed, Error> {
    if pattern.len() > PATTERN_BYTES_MAX {
        let bytes = pattern.len();
        return Err(Error::invalid(format!(
            "error parsing regexp: {TOO_LARGE}: it has {bytes} bytes, the limit is {PATTERN_BYTES_MAX}"
        )));
    }
    let flags = Flags { fold: false, multi_line: false, dot_newline: true, swap_greed: false };
    let outer = Frame { capture: None, outer_flags: flags, branches: Vec::new(), branch: Vec::new() };
    let mut parser = Parser { pattern, at: 0, flags, frames: vec![outer], names: Vec::new(), ranges: 0 };
    parser.run()?;
    match (parser.frames.pop(), parser.frames.is_empty()) {
        (Some(whole), true) => Ok(Parsed { node: whole.finish(), names: parser.names, ranges: parser.ranges }),
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
    pub(super) fn rest(&self) -> &'a str {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }

    /// What was read since `start`.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.pattern.get(start..self.at).unwrap_or_default()
    }

    pub(super) fn push(&mut self, node: Node) {
        if let Some(frame) = self.frames.last_mut() {
            frame.branch.push(node);
        }
    }

    /// Counts `ranges` of a class; fails when the pattern has too many.
    pub(super) fn count_ranges(&mut self, ranges: usize) -> Step {
        self.ranges += ranges;
        if self.ranges > RANGES_MAX { Err(fail(TOO_LARGE, self.pattern)) } else { Ok(()) }
    }

    pub(super) fn push_literal(&mut self, char: char) {
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
            count <= most && repeats_at_most(node, most.checked_div(count).unwrap_or(most))
        }
        Node::Capture(_, node) => repeats_at_most(node, most),
        Node::Concat(nodes) | Node::Alternate(nodes) => nodes.iter().all(|node| repeats_at_most(node, most)),
        _ => true,
    }
}
