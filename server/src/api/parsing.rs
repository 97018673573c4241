//! Parsing of what requests say: a little of it where it comes in, on threads that wait for sockets, and all else on
//! threads that may compute, a few at a time. What their regexps compile to counts in memory of its own.

use std::borrow::Borrow;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use engine::model::{Allowance, Budget, Error, ErrorKind, Matcher, Reservation};
use engine::promql::syntax;
use proto::thanos::{self, LabelMatcher, StoreMatchers};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::http::query::selectors_of;
use crate::threads::Threads;

/// A text of more bytes is parsed on a thread that may compute.
const LITTLE_BYTES: usize = 4 << 10;

/// A text with regexps of more bytes is, too: an automaton may be a thousand times as large.
const LITTLE_REGEXP_BYTES: usize = 1 << 10;

/// So are matchers of more bytes that need only be copied.
const LITTLE_COPIED_BYTES: usize = 1 << 20;

/// Bytes of what is parsed, beside regexps, for each that was said.
const PARSED_BYTES: u64 = 64;

/// What is told to those whose regexps find no memory.
const REGEXPS: &str = "regexps of all requests, an eighth of the memory limit";

/// The regexps of all requests take so large a share of the process' memory at most.
const REGEXPS_SHARE: u64 = 8;

/// Bytes that they may take wherever memory is little.
const REGEXPS_BYTES_MIN: u64 = 16 << 20;

/// How long a request waits for its turn.
const TURN_TIME_MAX: Duration = Duration::from_secs(30);

/// Where requests are parsed; clones share the threads.
#[derive(Clone, Debug)]
pub struct Parsing {
    memory: Arc<Budget>,
    /// What regexps take: memory of its own, as those who have theirs wait for the other.
    regexps: Arc<Budget>,
    threads: Threads,
    turns: Arc<Semaphore>,
}

/// What requests say, as it is parsed.
pub trait Said: Sync {
    /// How many bytes it has.
    fn size(&self) -> usize;

    /// Whether it is parsed in no time.
    fn is_little(&self) -> bool;
}

impl Parsing {
    /// Parsing of what counts in `memory`, on half of the cores, so that the others have time for what is parsed.
    pub fn new(memory: &Arc<Budget>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let turns = Arc::new(Semaphore::new((cores / 2).max(1)));
        let regexps = Budget::new(REGEXPS, (memory.room() / REGEXPS_SHARE).max(REGEXPS_BYTES_MIN));
        Self { memory: Arc::clone(memory), regexps, threads: Threads::named("parse"), turns }
    }

    /// What the regexps of a request may take.
    pub fn allowance(&self) -> Allowance {
        Allowance::of_request(&self.regexps)
    }

    /// Memory for what `said` becomes, beside regexps; none for a little.
    pub fn hold<S: Said + ?Sized>(&self, said: &S) -> Result<Reservation, Error> {
        let bytes = if said.is_little() { 0 } else { said.size() as u64 * PARSED_BYTES };
        self.memory.reserve(bytes)
    }

    /// What `parse` makes of `said`, here and now when that is a little.
    pub async fn parse<S, T, E>(
        &self,
        said: &S,
        allowance: &mut Allowance,
        parse: impl FnOnce(&S, &mut Allowance) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        S: Said + ToOwned<Owned: Send + 'static> + ?Sized,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        if said.is_little() {
            return parse(said, allowance);
        }
        let turn = self.turn().await?;
        let held = self.hold(said)?;
        let (owned, mut taken) = (said.to_owned(), std::mem::take(allowance));
        let work = move || {
            let _held = held;
            let parsed = parse(owned.borrow(), &mut taken);
            (parsed, taken)
        };
        let (parsed, taken) = self.spend(turn, work).await?;
        *allowance = taken;
        parsed
    }

    /// What `work` gives, which parses much, when it is its turn.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = self.turn().await?;
        self.spend(turn, work).await?
    }

    /// Does `work` on a thread that may compute. The turn is over when that has ended, whether anybody waits for it or
    /// not.
    async fn spend<T: Send + 'static>(
        &self,
        turn: OwnedSemaphorePermit,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let running = self.threads.run(move || {
            let _turn = turn;
            work()
        });
        running.await.map_err(|error| error.within("parsing the request failed"))
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Error> {
        let turn = tokio::time::timeout(TURN_TIME_MAX, Arc::clone(&self.turns).acquire_owned()).await;
        let late = || Error::new(ErrorKind::Deadline, format!("no turn to parse the request within {TURN_TIME_MAX:?}"));
        turn.map_err(|_| late())?.map_err(|_| Error::new(ErrorKind::Unavailable, "the server is stopping"))
    }

    /// The matchers of every selector of `query`, in whatever syntax it is.
    pub async fn selectors(&self, query: &str) -> Result<Vec<Vec<Matcher>>, Error> {
        let parse = |query: &str, allowance: &mut Allowance| -> Result<Vec<Vec<Matcher>>, Error> {
            let expr = syntax::parse_within(query, syntax::Options::ALL, allowance)?;
            Ok(selectors_of(&expr))
        };
        self.parse(query, &mut self.allowance(), parse).await
    }
}

impl Said for str {
    fn size(&self) -> usize {
        self.len()
    }

    fn is_little(&self) -> bool {
        are_little([self])
    }
}

impl Said for [String] {
    fn size(&self) -> usize {
        self.iter().map(|text| text.len() + size_of::<String>()).sum()
    }

    fn is_little(&self) -> bool {
        are_little(self.iter().map(String::as_str))
    }
}

impl Said for [LabelMatcher] {
    fn size(&self) -> usize {
        self.iter().map(|matcher| matcher_bytes(&matcher.name, &matcher.value)).sum()
    }

    fn is_little(&self) -> bool {
        are_matchers_little(self.size(), self.iter().map(|matcher| (matcher.r#type, matcher.value.as_slice())))
    }
}

impl Said for [StoreMatchers] {
    fn size(&self) -> usize {
        self.iter().map(|set| set.label_matchers.as_slice().size() + size_of::<StoreMatchers>()).sum()
    }

    fn is_little(&self) -> bool {
        let matchers = self.iter().flat_map(|set| &set.label_matchers);
        are_matchers_little(self.size(), matchers.map(|matcher| (matcher.r#type, matcher.value.as_slice())))
    }
}

fn matcher_bytes(name: &str, value: &[u8]) -> usize {
    name.len() + value.len() + size_of::<LabelMatcher>()
}

/// Whether matchers of `bytes` on the wire are parsed in no time, by their types, which all packages number alike, and
/// values. Those that are no regexps are compared as they are.
fn are_matchers_little<'a>(bytes: usize, matchers: impl IntoIterator<Item = (i32, &'a [u8])>) -> bool {
    use thanos::label_matcher::Type;
    let mut left = LITTLE_REGEXP_BYTES;
    let mut regexps = matchers.into_iter().filter(|(kind, _)| *kind != Type::Eq as i32 && *kind != Type::Neq as i32);
    bytes <= LITTLE_COPIED_BYTES
        && regexps.all(|(_, value)| {
            left = left.saturating_sub(value.len() + 1);
            left > 0 && !may_grow(value)
        })
}

/// Whether queries or selectors are parsed in no time.
fn are_little<'a>(texts: impl IntoIterator<Item = &'a str>) -> bool {
    let (mut bytes, mut bytes_max) = (0, LITTLE_BYTES);
    texts.into_iter().all(|text| {
        bytes += text.len() + 1;
        let has_regexps = bytes <= bytes_max && (text.contains("=~") || text.contains("!~"));
        if has_regexps {
            bytes_max = LITTLE_REGEXP_BYTES;
        }
        bytes <= bytes_max && !(has_regexps && may_grow(text.as_bytes()))
    })
}

/// Whether a regexp, or a text with one, may compile to much more than its length says: for counted repetitions,
/// classes of Unicode, escapes that may stand for both, and characters beyond ASCII, of which ranges are long.
fn may_grow(text: &[u8]) -> bool {
    let grows =
        |pair: &[u8]| matches!(pair, [b'{', b'0'..=b'9'] | [b'\\', b'p' | b'P' | b'x' | b'u' | b'U' | b'0'..=b'9']);
    !text.is_ascii() || text.windows(2).any(grows)
}

#[cfg(test)]
mod tests {
    use engine::model::matcher::MatchKind;

    use super::*;

    #[test]
    fn usual_queries_are_little_and_what_may_grow_is_not() {
        let chain = ["up"; 600].join(" + ");
        for query in [
            "sum by (job) (rate(http_requests_total{job=~\"api-.+|web\", code!~\"5..\"}[5m:1m]))",
            "label_replace(up, \"a\", \"$1\", \"b\", \"(.*)\\\\.x\")",
            "up{host=\"ä\"}",
            chain.as_str(),
        ] {
            assert!(query.is_little(), "{query}");
        }
        let longer = ["up"; 1200].join(" + ");
        let long = format!("up{{a=~\"{}\"}}", "a|b.*|".repeat(200));
        for query in [
            "up{a=~\"[\\\\pL]\"}",
            "up{a=~'x{1000}'}",
            "up{a=~\"x\\x7b1000}\"}",
            "up{a!~\"\\134pL\"}",
            "up{a=~\"ä\"}",
            long.as_str(),
            longer.as_str(),
        ] {
            assert!(!query.is_little(), "{query}");
        }
        let some = |texts: usize| vec!["up{a=~\"b.*\"}".to_owned(); texts];
        assert!(some(50).is_little() && !some(100).is_little());
    }

    #[test]
    fn matchers_that_are_no_regexps_are_little_however_many_they_are() {
        let of = |kind, value: &str| LabelMatcher { r#type: kind, name: "a".into(), value: value.into() };
        let mut matchers = vec![of(0, "x{1000}"); 10_000];
        matchers.extend([of(1, "\\pL"), of(2, "b.*|c"), of(3, ".+")]);
        assert!(matchers.is_little());
        for more in [of(2, "x{1000}"), of(3, "\\pL"), of(2, &"a.*|".repeat(300)), of(0, &"x".repeat(1 << 20))] {
            let all = [matchers.as_slice(), &[more]].concat();
            assert!(!all.is_little());
        }
        let sets = ["b.*", "\\pL"].map(|value| StoreMatchers { label_matchers: vec![of(2, value)] });
        assert!(sets[..1].is_little() && !sets[..].is_little());
    }

    #[tokio::test]
    async fn what_is_little_is_parsed_in_place_and_all_else_on_a_thread_that_may_compute() {
        let parsing = Parsing::new(&Budget::new("--query.memory-limit", 1 << 20));
        let mut allowance = parsing.allowance();
        let parse = |_: &str, _: &mut Allowance| Ok::<_, Error>(std::thread::current().id());
        let here = std::thread::current().id();
        assert_eq!(parsing.parse("up{a=~\"b.*\"}", &mut allowance, parse).await.unwrap(), here);
        assert_ne!(parsing.parse("up{a=~\"b{20}\"}", &mut allowance, parse).await.unwrap(), here);
    }

    #[tokio::test]
    async fn an_allowance_comes_back_from_the_thread_and_a_turn_ends_with_its_work() {
        let memory = Budget::new("--query.memory-limit", 64 << 20);
        let parsing = Parsing { turns: Arc::new(Semaphore::new(1)), ..Parsing::new(&memory) };
        let mut allowance = parsing.allowance();
        let mut kept = Vec::new();
        for _ in 0..2 {
            let parse =
                |text: &str, allowance: &mut Allowance| syntax::parse_match(text, allowance).map_err(Error::from);
            kept.push(parsing.parse("up{a=~\"x{3}[0-9]+y.*\"}", &mut allowance, parse).await.unwrap());
        }
        let memory = &parsing.regexps;
        assert!(memory.usage().used > 0);
        let again = Matcher::new_within(MatchKind::Re, ("a", "x[0-9]+y.*"), &mut allowance).unwrap();
        let all = memory.usage().used;
        drop(again);
        assert!(memory.usage().used < all, "the allowance is still that of the request");
        drop(kept);
        assert_eq!(memory.usage().used, 0);
    }
}
