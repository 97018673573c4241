//! From the text of a script to its commands.

use engine::model::duration::parse_duration;
use regex_automata::meta::Regex;

use super::When;
use super::series::{self, Point, Sequence, parse_number, unquote_prefix};

/// A command with the line (from 1) that it begins at.
#[derive(Debug)]
pub struct Command {
    /// Line of its first word.
    pub line: usize,
    /// What it does.
    pub action: Action,
}

/// What a command does.
#[derive(Debug)]
pub enum Action {
    /// Forgets all series.
    Clear,
    /// Adds series.
    Load(Load),
    /// Asks a query.
    Eval(Box<Case>),
}

/// Series to be added.
#[derive(Debug)]
pub struct Load {
    /// Milliseconds between points.
    pub step: i64,
    /// Whether classic histograms are added as native ones with custom buckets too.
    pub with_custom_buckets: bool,
    /// The series, each with the offsets of its start timestamps in milliseconds.
    pub series: Vec<(Sequence, Vec<Option<i64>>)>,
}

/// A query and what it must give.
#[derive(Debug)]
pub struct Case {
    /// Line of the script, from 1.
    pub line: usize,
    /// The query.
    pub query: String,
    /// When it is asked.
    pub when: When,
    /// What is expected beside values.
    pub expectations: Expectations,
    /// The values.
    pub values: Expected,
    /// Times of the samples of a range vector, where that is expected: first and step.
    pub samples_at: Option<(i64, i64)>,
}

/// Expected values.
#[derive(Debug)]
pub enum Expected {
    /// A number.
    Scalar(f64),
    /// A string.
    Text(String),
    /// Series, in the order they are written.
    Series(Vec<Sequence>),
}

/// What is expected of errors, annotations and order.
#[derive(Debug, Default)]
pub struct Expectations {
    /// The query fails, in these words.
    pub fail: Option<Pattern>,
    /// Each warning is one of these, and each of these is there.
    pub warn: Vec<Pattern>,
    /// The same of infos.
    pub info: Vec<Pattern>,
    /// There is no warning.
    pub no_warn: Option<()>,
    /// There is no info.
    pub no_info: Option<()>,
    /// Series come in the order they are written.
    pub ordered: Option<()>,
}

/// A text that is expected.
#[derive(Debug)]
pub enum Pattern {
    /// Any.
    Any,
    /// This one.
    Exact(String),
    /// One that matches somewhere.
    Matching(Box<Regex>),
}

impl Pattern {
    /// Whether `text` is expected.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(known) => known == text,
            Self::Matching(regex) => regex.is_match(text),
        }
    }

    fn matching(pattern: &str) -> Result<Self, String> {
        Regex::new(pattern).map(|regex| Self::Matching(Box::new(regex))).map_err(|error| error.to_string())
    }
}

/// Parses a script; errors name their line.
pub fn parse(text: &str) -> Result<Vec<Command>, String> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = at + 1;
        let head = lines[at];
        at += 1;
        if head.is_empty() {
            continue;
        }
        let more = lines[at..].iter().position(|line| line.is_empty()).unwrap_or(lines.len() - at);
        let with_line = |error: String| format!("line {line}: {error}");
        let word = head.split_whitespace().next().unwrap_or("").to_ascii_lowercase();
        let action = if word == "clear" {
            Action::Clear
        } else if word.starts_with("load") {
            let body = &lines[at..at + more];
            at += more;
            Action::Load(load(head, body).map_err(with_line)?)
        } else if word.starts_with("eval") {
            let mut case = case_of(head, line).map_err(with_line)?;
            at += case.expect(&lines[at..at + more]).map_err(with_line)?;
            Action::Eval(Box::new(case))
        } else {
            return Err(with_line(format!("invalid command {head:?}")));
        };
        commands.push(Command { line, action });
    }
    Ok(commands)
}

fn duration(text: &str) -> Result<i64, String> {
    parse_duration(text).map(|duration| duration.as_millis()).map_err(|error| error.to_string())
}

fn load(head: &str, body: &[&str]) -> Result<Load, String> {
    let (word, step) = head.split_once(char::is_whitespace).ok_or("load needs a step")?;
    let mut load =
        Load { step: duration(step.trim())?, with_custom_buckets: word.ends_with("_with_nhcb"), series: Vec::new() };
    let mut starts: Option<series::Starts> = None;
    for line in body {
        if let Some(parsed) = series::parse_starts(line) {
            starts = Some(parsed?);
            continue;
        }
        let sequence = series::parse(line)?;
        let offsets = match starts.take() {
            None => Vec::new(),
            Some((labels, offsets)) if labels == sequence.labels && offsets.len() == sequence.points.len() => offsets,
            Some(_) => return Err(format!("start timestamps do not fit the series {line:?}")),
        };
        load.series.push((sequence, offsets));
    }
    Ok(load)
}

/// The head of a case: `eval[_fail|_warn|_info|_ordered] instant [at T] Q` or
/// `eval… range from A to B step S Q`.
fn case_of(head: &str, line: usize) -> Result<Case, String> {
    let mut words = Words { rest: head };
    let word = words.next();
    let mut expectations = Expectations::default();
    match word.split_once('_').map(|(_, modifier)| modifier) {
        None => {}
        Some("fail") => expectations.fail = Some(Pattern::Any),
        Some("warn") => expectations.warn.push(Pattern::Any),
        Some("info") => expectations.info.push(Pattern::Any),
        Some("ordered") => expectations.ordered = Some(()),
        Some(unknown) => return Err(format!("eval_{unknown} is unknown")),
    }
    let when = match words.next() {
        "instant" => When::Instant(if words.eat("at") { duration(words.next())? } else { 0 }),
        "range" => {
            let [mut start, mut end, mut step] = [0; 3];
            for (name, value) in [("from", &mut start), ("to", &mut end), ("step", &mut step)] {
                if !words.eat(name) {
                    return Err(format!("expected {name:?} before {:?}", words.rest));
                }
                *value = duration(words.next())?;
            }
            When::Range { start, end, step }
        }
        unknown => return Err(format!("expected \"instant\" or \"range\", not {unknown:?}")),
    };
    let query = words.rest.trim().to_owned();
    Ok(Case { line, query, when, expectations, values: Expected::Series(Vec::new()), samples_at: None })
}

struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> &'a str {
        let text = self.rest.trim_start();
        let (word, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
        self.rest = rest.trim_start();
        word
    }

    fn eat(&mut self, word: &str) -> bool {
        let before = self.rest;
        if self.next() == word {
            return true;
        }
        self.rest = before;
        false
    }
}

impl Case {
    /// Takes the lines of expectations; gives how many belong to the case.
    fn expect(&mut self, lines: &[&str]) -> Result<usize, String> {
        for (at, line) in lines.iter().enumerate() {
            if self.expectations.fail.is_some() {
                if let Some(message) = line.strip_prefix("expected_fail_message") {
                    self.expectations.fail = Some(Pattern::Exact(message.trim().to_owned()));
                    return Ok(at + 1);
                }
                if let Some(pattern) = line.strip_prefix("expected_fail_regexp") {
                    self.expectations.fail = Some(Pattern::matching(pattern.trim())?);
                    return Ok(at + 1);
                }
            }
            if let Some(times) = line.strip_prefix("expect range vector from ") {
                self.samples_at = Some(range_vector(times)?);
            } else if let Some(text) = line.strip_prefix("expect string") {
                let (value, _) = unquote_prefix(text.trim()).ok_or_else(|| format!("no string in {line:?}"))?;
                self.values = Expected::Text(value);
            } else if let Some(("expect", rest)) = line.split_once(' ') {
                self.expectations.add(rest.trim())?;
            } else if let Some(number) = parse_number(line) {
                self.values = Expected::Scalar(number);
                return Ok(at + 1);
            } else {
                self.expect_series(series::parse(line)?)?;
            }
        }
        Ok(lines.len())
    }

    fn expect_series(&mut self, sequence: Sequence) -> Result<(), String> {
        let is_instant = matches!(self.when, When::Instant(_));
        if is_instant && self.samples_at.is_none() && sequence.points.len() > 1 {
            return Err(format!("an instant query gives one value, not those of {:?}", sequence.labels));
        }
        match &mut self.values {
            Expected::Series(all) => match all.iter_mut().find(|known| known.labels == sequence.labels) {
                Some(known) => *known = sequence,
                None => all.push(sequence),
            },
            other => *other = Expected::Series(vec![sequence]),
        }
        Ok(())
    }
}

/// `A to B step S`
fn range_vector(text: &str) -> Result<(i64, i64), String> {
    let mut words = Words { rest: text };
    let start = duration(words.next())?;
    if !words.eat("to") {
        return Err(format!("expected \"to\" in {text:?}"));
    }
    let _ = duration(words.next())?;
    if !words.eat("step") {
        return Err(format!("expected \"step\" in {text:?}"));
    }
    Ok((start, duration(words.next())?))
}

impl Expectations {
    /// Takes what stands behind `expect`.
    fn add(&mut self, text: &str) -> Result<(), String> {
        let (kind, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let pattern = if let Some(message) = rest.strip_prefix("msg:") {
            Pattern::Exact(message.trim().to_owned())
        } else if let Some(pattern) = rest.strip_prefix("regex:") {
            Pattern::matching(pattern.trim())?
        } else if rest.is_empty() {
            Pattern::Any
        } else {
            return Err(format!("invalid expectation {text:?}"));
        };
        match kind {
            "fail" => self.fail = Some(pattern),
            "warn" => self.warn.push(pattern),
            "info" => self.info.push(pattern),
            "no_warn" => self.no_warn = Some(()),
            "no_info" => self.no_info = Some(()),
            "ordered" => self.ordered = Some(()),
            _ => return Err(format!("invalid expectation {text:?}")),
        }
        Ok(())
    }
}

/// Whether a point is expected to be there.
pub fn is_sample(point: &Point) -> bool {
    !matches!(point, Point::Omitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_becomes_commands_with_lines() {
        let text = "# start\nload_with_nhcb 5m\n  m 1 2\n\nclear\neval range from 0 to 10m step 5m sum(m)\n\
                    expect no_warn\nexpect info regex: a (b|c)\n{} 1 2\n\neval_fail instant at 1m m{\n\
                    expected_fail_message no\neval instant at 0 1\n 1\n";
        let commands = parse(text).unwrap();
        assert_eq!(commands.iter().map(|command| command.line).collect::<Vec<_>>(), [2, 5, 6, 11, 13]);
        let Action::Eval(case) = &commands[2].action else { panic!("a case") };
        assert_eq!(case.when, When::Range { start: 0, end: 600_000, step: 300_000 });
        assert!(case.expectations.no_warn.is_some() && case.expectations.info[0].matches("xx a c"));
        let Action::Eval(case) = &commands[3].action else { panic!("a case") };
        assert!(matches!(&case.expectations.fail, Some(Pattern::Exact(text)) if text == "no"));
        assert!(matches!(&commands[4].action, Action::Eval(case) if matches!(case.values, Expected::Scalar(1.0))));
        assert!(parse("nonsense").is_err());
    }
}
