//! The series of an operator cut into parts, each read and evaluated on a core of its own.
//!
//! ```text
//! caller   cut ─ send ─────────────────────── gather, in the order of the parts
//! core 0         select ─ decode ─ window ─ fold ─┘│
//! core 1         select ─ decode ─ window ─ fold ──┘
//! ```
//! What crosses are rows over steps, or the state of an aggregation; samples stay where they were
//! decoded. A job never waits for another one, so that queries cannot lock each other out.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};

use crate::model::{Error, ErrorKind};

use super::super::account::{Account, Held};
use super::super::plan::{Node, Operator, OverTime, RangeArgument, ValueKind};
use super::super::source::{Cores, Files, Part, SelectRequest};
use super::super::value::Matrix;
use super::{Evaluator, range, selector};

/// The cores that work on an operator, and the number of parts that its series are cut into.
pub struct Cut {
    cores: Arc<dyn Cores>,
    parts: usize,
}

/// What is made of one part.
type Work<T> = fn(&Evaluator<'_>, &Node) -> Result<T, Error>;

/// How the series under an operator are read.
pub enum Reading {
    /// In parts.
    Parts(Cut),
    /// As a whole, and also under the operators from there down to the one of this number.
    Whole(usize),
}

/// How the series under `node` are read: as a whole where it does not stream, or a core reads them already.
pub fn cut(eval: &Evaluator<'_>, node: &Node) -> Result<Reading, Error> {
    #[cfg(test)]
    tests::ASKED.with(|asked| asked.set(asked.get() + 1));
    let is_cut = eval.files.0.is_none() && eval.count() > 0 && node.streams();
    let reading = if is_cut { cut_streamed(eval, node)? } else { None };
    Ok(reading.unwrap_or(Reading::Whole(node.id)))
}

/// How the series under `node`, which streams, are read; `None` where what it makes of them is made of all.
fn cut_streamed(eval: &Evaluator<'_>, node: &Node) -> Result<Option<Reading>, Error> {
    match &node.operator {
        Operator::Select(select) => {
            let Some(times) = selector::sample_range(eval, select) else { return Ok(None) };
            ask(eval, selector::request(eval, select, times))
        }
        Operator::OverTime(call) => cut_over_time(eval, call),
        Operator::Float(_, args) if args[1..].iter().all(Node::is_free_of_series) => cut_renamed(eval, &args[0]),
        Operator::Histogram(_, input) | Operator::Negate(input) => cut_renamed(eval, input),
        Operator::Plus(input) => cut(eval, input).map(Some),
        // What it says depends on the order of all.
        Operator::Binary(binary) if binary.trims_a_number() => Ok(None),
        Operator::Binary(binary) => {
            let left_is_vector = binary.left.kind() == ValueKind::Vector;
            let (vector, number) =
                if left_is_vector { (&binary.left, &binary.right) } else { (&binary.right, &binary.left) };
            if number.is_free_of_series() { cut_renamed(eval, vector) } else { Ok(None) }
        }
        _ => Ok(None),
    }
}

/// Rows lose their names: only where they stay distinct can parts do so on their own.
fn cut_renamed(eval: &Evaluator<'_>, input: &Node) -> Result<Option<Reading>, Error> {
    let are_distinct = input.distinct_without_name() || eval.query.delays_names();
    if are_distinct { cut(eval, input).map(Some) } else { Ok(None) }
}

fn cut_over_time(eval: &Evaluator<'_>, call: &OverTime) -> Result<Option<Reading>, Error> {
    let RangeArgument::Select(select, length) = &call.argument else { return Ok(None) };
    let is_distinct = select.has_one_name() || call.function.keeps_name() || eval.query.delays_names();
    if !is_distinct || !call.params.iter().all(Node::is_free_of_series) {
        return Ok(None);
    }
    let times = range::sample_range(eval, select, *length);
    ask(eval, selector::request(eval, select, times))
}

fn ask(eval: &Evaluator<'_>, request: SelectRequest<'_>) -> Result<Option<Reading>, Error> {
    let cores = eval.query.source.cores(&request)?;
    Ok(cores.map(|(cores, parts)| Reading::Parts(Cut { cores, parts: parts.max(1) })))
}

/// The rows of `node`: what is made of a part where nothing is aggregated.
pub fn rows(eval: &Evaluator<'_>, node: &Node) -> Result<Matrix, Error> {
    eval.eval(node)
}

impl Cut {
    /// What `work` makes of each part of the series under `node`, in the order of the parts.
    pub fn run<T: Send + 'static>(&self, eval: &Evaluator<'_>, node: &Node, work: Work<T>) -> Result<Vec<T>, Error> {
        let gathering = Arc::new(Gathering::new(self.parts));
        for index in 0..self.parts {
            let (query, share) = (Arc::clone(eval.query), Share(Arc::clone(&gathering)));
            let (steps, part, id) = (eval.steps, Part { index, count: self.parts }, node.id);
            let times_counted = eval.times_counted;
            self.cores.send(Box::new(move |files| {
                let account = Account::new(&query.budget);
                let files = Files(Some(files));
                let (query, account) = (&query, &account);
                let (operator, whole_to) = (id, None);
                let eval = Evaluator { query, account, steps, part, files, times_counted, operator, whole_to };
                let lost = || Error::new(ErrorKind::Bug, "an operator is not part of its own query");
                let node = eval.hold_steps().and_then(|()| query.root.find(id).ok_or_else(lost));
                let result = node.and_then(|node| work(&eval, node));
                share.done(index, result.map(|part| (part, account.held())));
            }))?;
        }
        let parts = gathering.wait()?;
        let lost = || Error::new(ErrorKind::Bug, "a core's part of the query panicked; the query fails alone");
        let take = |part: Option<(T, Held)>| {
            let (part, held) = part.ok_or_else(lost)?;
            eval.account.take_over(held);
            Ok(part)
        };
        parts.into_iter().map(take).collect()
    }
}

/// What the cores made of the parts. Whoever waits for it is woken once: by the last part, or the first
/// error.
struct Gathering<T> {
    parts: Mutex<Parts<T>>,
    /// Jobs that have not ended.
    left: AtomicUsize,
    waiting: Thread,
}

/// The parts that are done, and what each holds; or the first error.
type Parts<T> = Result<Vec<Option<(T, Held)>>, Error>;

/// A job's share of a gathering, which ends with the job, whether it panics or not.
struct Share<T>(Arc<Gathering<T>>);

impl<T> Gathering<T> {
    /// Of `count` parts, for which the calling thread waits.
    fn new(count: usize) -> Self {
        let mut parts = Vec::new();
        parts.resize_with(count, || None);
        Self { parts: Mutex::new(Ok(parts)), left: AtomicUsize::new(count), waiting: thread::current() }
    }

    /// Waits for all parts, or for the first error.
    fn wait(&self) -> Parts<T> {
        loop {
            // Looked at first: no part is done behind it.
            let is_over = self.left.load(Ordering::Acquire) == 0;
            let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            if is_over || parts.is_err() {
                return std::mem::replace(&mut *parts, Ok(Vec::new()));
            }
            drop(parts);
            thread::park();
        }
    }
}

impl<T> Share<T> {
    /// Part `index` is done. Whoever asked may have failed already; then nobody takes it.
    fn done(&self, index: usize, result: Result<(T, Held), Error>) {
        let mut parts = self.0.parts.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut *parts, result) {
            (Ok(parts), Ok(part)) => {
                if let Some(place) = parts.get_mut(index) {
                    *place = Some(part);
                }
            }
            (Ok(_), Err(error)) => {
                *parts = Err(error);
                drop(parts);
                self.0.waiting.unpark();
            }
            (Err(_), _) => {}
        }
    }
}

impl<T> Drop for Share<T> {
    fn drop(&mut self) {
        if self.0.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.waiting.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use crate::batch::SampleBatch;
    use crate::model::Labels;

    use super::super::super::source::{MemorySource, Source};
    use super::super::super::syntax::{height, with_room};
    use super::super::super::{Context, Engine, Options, Parsed, When};
    use super::*;

    thread_local! {
        /// How often this thread has asked how series are read.
        pub(super) static ASKED: Cell<usize> = const { Cell::new(0) };
    }

    /// How often it is asked how series are read while `query` is evaluated.
    fn asked(query: &str) -> usize {
        let mut batch = SampleBatch::default();
        batch.floats.push(0, 1.0);
        batch.finish_series(Arc::new(Labels::from_pairs([("__name__", "a")])));
        let source: Arc<dyn Source> = Arc::new(MemorySource::new(&batch));
        let engine = Engine::new(Options::default());
        let expr = engine.parse(query).unwrap();
        let work = || {
            let before = ASKED.get();
            let parsed = Parsed { text: query, expr: &expr };
            engine.evaluate(parsed, When::Instant(0), source, &Context::default()).unwrap();
            ASKED.get() - before
        };
        with_room(height(&expr), work).unwrap()
    }

    #[test]
    fn the_operators_of_a_chain_ask_once_each_how_its_series_are_read() {
        for (query, expected) in [
            (format!("a{}", " + 1".repeat(1_900)), 1_901),
            (format!("sum(a{})", " + 1".repeat(1_900)), 1_901),
            // What may lose its name only when all of it is there is asked anew.
            (format!("{{__name__=~\"a\"}}{}", " + 1".repeat(1_900)), 1_901),
            (format!("abs(a){}", " > 0".repeat(1_900)), 1_902),
            // So is what stands beside a number that is made of series.
            (format!("a{}", " + scalar(a)".repeat(900)), 1_801),
        ] {
            assert_eq!(asked(&query), expected, "{}", &query[..30]);
        }
    }

    #[test]
    fn parts_are_gathered_in_their_order_and_the_first_error_ends_the_wait() {
        let shares = |count| {
            let gathering = Arc::new(Gathering::new(count));
            let shares: Vec<_> = (0..count).map(|_| Share(Arc::clone(&gathering))).collect();
            (gathering, shares)
        };
        let (gathering, parts) = shares(3);
        let jobs: Vec<_> = (0..)
            .zip(parts)
            .map(|(at, share)| thread::spawn(move || share.done(at, Ok((at, Held::default())))))
            .collect();
        let found: Vec<_> = gathering.wait().unwrap().into_iter().map(|part| part.map(|(part, _)| part)).collect();
        assert_eq!(found, [Some(0), Some(1), Some(2)]);
        jobs.into_iter().for_each(|job| job.join().unwrap());

        let (gathering, mut parts) = shares(2);
        let failing = parts.remove(0);
        thread::spawn(move || failing.done(0, Err::<(usize, _), _>(Error::invalid("no")))).join().unwrap();
        assert_eq!(gathering.wait().unwrap_err(), Error::invalid("no"));

        let (gathering, parts) = shares(1);
        thread::spawn(move || drop(parts)).join().unwrap();
        assert!(gathering.wait().unwrap().iter().all(|part: &Option<(usize, Held)>| part.is_none()));
    }
}
