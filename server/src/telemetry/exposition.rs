//! The text of metrics. The library writes OpenMetrics, which is told a line at a time as who asks reads it: the text
//! is there once, however many tenants it is of.

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::sync::Arc;

use engine::model::{Budget, Error, Reservation};

/// Bytes of a text that are not counted: metrics are told wherever memory is short, and one text is made at a time.
const SMALL_BYTES: usize = 1 << 20;

/// Bytes that a text has room for at first.
const FIRST_BYTES: usize = 64 << 10;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As the library writes it, but for what it has no word for.
    OpenMetrics,
    /// Prometheus' older one.
    Prometheus,
}

/// Memory for a text: of what there is for all, or of what lies aside where that has not as much.
#[derive(Debug)]
pub struct Room {
    memory: Arc<Budget>,
    held: Reservation,
}

/// Takes OpenMetrics, and keeps the text that is told.
#[derive(Debug)]
pub struct Exposition {
    form: Form,
    room: Room,
    text: String,
    /// What came of a line that has not ended.
    line: String,
    /// What a family begins with is told when its kind is known, which the next line tells.
    help: Option<String>,
    /// Counters that were told.
    counters: HashSet<String>,
    /// Whether the family is.
    is_told: bool,
    refused: Option<Error>,
}

impl Room {
    /// Of `memory`, or what lies aside there.
    pub fn of(memory: &Arc<Budget>) -> Result<Self, Error> {
        Ok(Self { memory: Arc::clone(memory), held: memory.reserve(0)? })
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Error> {
        if bytes <= SMALL_BYTES || self.held.try_grow((bytes as u64).saturating_sub(self.held.bytes())) {
            return Ok(());
        }
        let aside = self.memory.aside();
        if Arc::ptr_eq(self.held.budget(), aside) {
            return self.held.resize(bytes as u64);
        }
        self.held = aside.reserve(bytes as u64)?;
        Ok(())
    }
}

impl Exposition {
    /// Nothing yet, in `room`, where about `bytes` bytes are expected.
    pub fn new(form: Form, mut room: Room, bytes: usize) -> Self {
        // What is not there is asked for again when it is needed.
        let expected = if room.hold(bytes).is_ok() { bytes } else { 0 };
        Self {
            form,
            room,
            text: String::with_capacity(expected),
            line: String::new(),
            help: None,
            counters: HashSet::new(),
            is_told: true,
            refused: None,
        }
    }

    /// The text, and the memory that it takes; or why there is none.
    pub fn finish(self) -> Result<(String, Reservation), Error> {
        match self.refused {
            Some(error) => Err(error.within("writing metrics")),
            None => Ok((self.text, self.room.held)),
        }
    }

    fn tell(&mut self, line: &str) -> fmt::Result {
        // The library has no word for summaries, and nothing else is of a kind that is unknown.
        let summary = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" unknown"));
        let summary = summary.map(|name| format!("# TYPE {name} summary"));
        let line = summary.as_deref().unwrap_or(line);
        match self.form {
            Form::OpenMetrics => self.tell_as_openmetrics(line),
            Form::Prometheus => self.tell_as_prometheus(line),
        }
    }

    /// Thanos has a gauge whose name is that of a counter without `_total`: to OpenMetrics these are one family, of
    /// which the counter is told.
    fn tell_as_openmetrics(&mut self, line: &str) -> fmt::Result {
        if line.starts_with("# HELP ") {
            self.help = Some(line.to_owned());
            return Ok(());
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            self.is_told = kind != "gauge" || !self.counters.contains(name);
            if kind == "counter" {
                self.counters.insert(name.to_owned());
            }
        }
        let help = self.help.take().filter(|_| self.is_told);
        if let Some(help) = help {
            self.push(&[help.as_str()])?;
        }
        if self.is_told || line == "# EOF" { self.push(&[line]) } else { Ok(()) }
    }

    /// OpenMetrics names a counter without `_total` in its comments and ends with a comment of its own;
    /// Prometheus' older format doesn't.
    fn tell_as_prometheus(&mut self, line: &str) -> fmt::Result {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            self.help = Some(rest.to_owned());
            return Ok(());
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let help = self.help.take();
            let help = help.as_deref().and_then(|help| help.split_once(' ')).filter(|(helped, _)| *helped == name);
            if let Some((_, words)) = help {
                self.push(&["# HELP ", name, suffix, " ", words])?;
            }
            return self.push(&["# TYPE ", name, suffix, " ", kind]);
        }
        self.push(&[line.split_once(" # ").map_or(line, |(sample, _exemplar)| sample)])
    }

    /// Tells a line of these parts.
    fn push(&mut self, parts: &[&str]) -> fmt::Result {
        let wanted = self.text.len() + parts.iter().map(|part| part.len()).sum::<usize>() + 1;
        if wanted > self.text.capacity() {
            self.widen(wanted)?;
        }
        parts.iter().for_each(|part| self.text.push_str(part));
        self.text.push('\n');
        Ok(())
    }

    /// Makes room for `wanted` bytes, and for some more where there is memory for these.
    fn widen(&mut self, wanted: usize) -> fmt::Result {
        let roomy = wanted.max(self.text.capacity() + self.text.capacity() / 4).max(FIRST_BYTES);
        self.room.hold(roomy).map_err(|error| {
            self.refused = Some(error);
            fmt::Error
        })?;
        self.text.reserve_exact(roomy - self.text.len());
        Ok(())
    }
}

impl Write for Exposition {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        for piece in part.split_inclusive('\n') {
            let Some(end) = piece.strip_suffix('\n') else {
                self.line.push_str(piece);
                continue;
            };
            let mut line = std::mem::take(&mut self.line);
            line.push_str(end);
            self.tell(&line)?;
            line.clear();
            self.line = line;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_held_once_of_what_lies_aside_where_there_is_no_other_memory() {
        let memory = Budget::new("--store.memory-limit", 128 << 20);
        let line = format!("x{{tenant=\"{}\"}} 1\n", "t".repeat(999));
        let written = |lines: usize| {
            let mut exposition = Exposition::new(Form::Prometheus, Room::of(&memory).unwrap(), 0);
            let is_written = (0..lines).all(|_| exposition.write_str(&line).is_ok());
            assert_eq!(is_written, exposition.refused.is_none());
            exposition.finish()
        };
        let (text, held) = written(3000).unwrap();
        assert_eq!(text.len(), 3000 * line.len());
        let bytes = text.capacity() as u64;
        assert_eq!((held.bytes(), memory.usage().used, memory.usage().peak), (bytes, bytes, bytes));
        drop(held);
        let _others = memory.reserve(128 << 20).unwrap();
        assert_eq!(written(500).unwrap().1.bytes(), 0, "what is small is not counted");
        let (text, held) = written(3000).unwrap();
        assert_eq!((held.bytes(), memory.aside().usage().used), (text.capacity() as u64, text.capacity() as u64));
        drop(held);
        let refused = written(5000).unwrap_err();
        assert!(refused.message().starts_with("writing metrics: --store.memory-limit: "), "{refused}");
        assert_eq!(memory.aside().usage().used, 0);
    }
}
