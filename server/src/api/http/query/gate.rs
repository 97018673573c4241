//! How many queries run at once (`--query.max-concurrent`); the others wait for their turn. Which ranges
//! they are about is counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::model::{Error, ErrorKind};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::active::ActiveQueries;
use super::timings::{EngineMetrics, Slice};
use crate::telemetry::metrics::{UnderWay, duration_histogram};
use crate::threads::{Running, Threads};

/// The least upper bound of queries' ranges: 15 minutes.
const RANGE_FIRST_SECONDS: f64 = 15.0 * 60.0;

/// Lets queries in.
#[derive(Debug)]
pub struct Gate {
    turns: Arc<Semaphore>,
    in_flight: Gauge,
    max: Gauge,
    waits: Histogram,
    entered: Counter,
    ranges: Histogram,
    /// What queries take.
    pub engine: EngineMetrics,
    active: Option<ActiveQueries>,
    threads: Threads,
}

/// A query's turn; over when dropped. Whoever works on the query holds it, so that a query whose caller
/// has gone counts until its work has ended.
#[derive(Debug)]
pub struct Turn {
    /// How long it waited for it.
    waited: Duration,
    _in_flight: UnderWay,
    /// Where the query is noted while it is worked on, and its text.
    noted: Option<(ActiveQueries, String)>,
    threads: Threads,
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    /// A gate that `max` queries at a time pass; 0 for any number.
    pub fn new(max: usize) -> Self {
        let turns = if max == 0 { Semaphore::MAX_PERMITS } else { max.min(Semaphore::MAX_PERMITS) };
        let gate = Self {
            turns: Arc::new(Semaphore::new(turns)),
            in_flight: Gauge::default(),
            max: Gauge::default(),
            waits: duration_histogram(),
            entered: Counter::default(),
            ranges: Histogram::new(exponential_buckets(RANGE_FIRST_SECONDS, 2.0, 12)),
            engine: EngineMetrics::default(),
            active: None,
            threads: Threads::named("query"),
        };
        gate.max.set(i64::try_from(max).unwrap_or(i64::MAX));
        gate
    }

    /// Queries that run at once, at most; 0 for any number.
    pub fn max(&self) -> usize {
        usize::try_from(self.max.get()).unwrap_or(usize::MAX)
    }

    /// The same, with the queries that are worked on in a file.
    pub fn noted_in(self, active: ActiveQueries) -> Self {
        Self { active: Some(active), ..self }
    }

    /// Publishes how it is used; `mode` is that of `--query.mode`.
    pub fn register(&self, registry: &mut Registry, mode: &str) {
        let name = |rest: &str| format!("thanos_query_concurrent_gate_{rest}");
        registry.register(name("queries_in_flight"), "Queries that run now", self.in_flight.clone());
        registry.register(name("queries_max"), "Queries that may run at once", self.max.clone());
        let help = "Seconds that queries waited for their turn";
        registry.register(name("queries_duration_seconds"), help, self.waits.clone());
        registry.register(name("queries"), "Queries that got their turn", self.entered.clone());
        let name = "thanos_query_range_requested_timespan_duration_seconds";
        registry.register(name, "A histogram of the query range window in seconds", self.ranges.clone());
        self.engine.register(registry, mode, (&self.in_flight, &self.max), &self.entered);
    }

    /// A query over a range of so many milliseconds is asked.
    pub fn range_asked(&self, milliseconds: i64) {
        self.ranges.observe(milliseconds as f64 / 1000.0);
    }

    /// Waits for the turn of a query until `deadline`.
    pub async fn enter(&self, query: &str, deadline: Instant) -> Result<Turn, Error> {
        let begin = Instant::now();
        let turn = tokio::time::timeout_at(deadline.into(), Arc::clone(&self.turns).acquire_owned()).await;
        let waited = begin.elapsed();
        self.waits.observe(waited.as_secs_f64());
        self.engine.took(Slice::QueueTime, waited);
        let permit = turn
            .map_err(|_| Error::new(ErrorKind::Deadline, "query timed out in query queue"))?
            .map_err(|_| Error::new(ErrorKind::Unavailable, "the server is stopping"))?;
        self.entered.inc();
        let noted = self.active.clone().map(|active| (active, query.to_owned()));
        Ok(Turn {
            waited,
            _in_flight: UnderWay::begin(&self.in_flight),
            noted,
            threads: self.threads.clone(),
            _permit: permit,
        })
    }
}

impl Turn {
    /// Does `work` on a thread that may compute, with the time that was waited for the turn, which is over
    /// when the work has ended, whether anybody waits for that or not.
    pub fn spend<T: Send + 'static>(self, work: impl FnOnce(Duration) -> T + Send + 'static) -> Running<T> {
        self.threads.clone().run(move || {
            // All of it: a closure takes only those fields that it names.
            let turn = self;
            // Written here, where it may wait for the disk; taken out before the next query's turn begins.
            let _running = turn.noted.as_ref().and_then(|(active, query)| active.begin(query));
            work(turn.waited)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gate_without_a_limit_lets_everybody_in() {
        let gate = Gate::new(0);
        let mut turns = Vec::new();
        for _ in 0..50 {
            turns.push(gate.enter("up", Instant::now() + Duration::from_secs(60)).await.unwrap());
        }
        assert_eq!((gate.in_flight.get(), gate.max()), (50, 0));
        assert_eq!(Gate::new(usize::MAX).max(), i64::MAX as usize);
    }

    #[tokio::test]
    async fn work_that_outlives_its_caller_keeps_its_turn_until_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let gate = Arc::new(Gate::new(1).noted_in(ActiveQueries::open(folder.path(), 1).unwrap()));
        let noted = || std::fs::read(folder.path().join("queries.active")).unwrap()[1] != 0;
        let later = |time| Instant::now() + Duration::from_millis(time);
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (begun, is_begun) = tokio::sync::oneshot::channel();
        let entered = Arc::clone(&gate);
        let caller = tokio::spawn(async move {
            let turn = entered.enter("up", later(60_000)).await.unwrap();
            let work = move |_| {
                begun.send(()).unwrap();
                released.recv().unwrap();
            };
            turn.spend(work).await.unwrap();
        });
        is_begun.await.unwrap();
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        assert!(gate.in_flight.get() == 1 && noted());
        assert_eq!(gate.enter("b", later(20)).await.unwrap_err().kind(), ErrorKind::Deadline);
        release.send(()).unwrap();
        drop(gate.enter("c", later(60_000)).await.unwrap());
        assert!(gate.in_flight.get() == 0 && !noted());
    }
}
