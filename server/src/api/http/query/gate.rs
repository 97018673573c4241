//! How many queries run at once (`--query.max-concurrent`); the others wait for their turn.

use std::sync::Arc;
use std::time::Instant;

use engine::model::{Error, ErrorKind};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::metrics::duration_histogram;

/// Lets queries in.
#[derive(Debug)]
pub struct Gate {
    turns: Arc<Semaphore>,
    in_flight: Gauge,
    max: Gauge,
    waits: Histogram,
    entered: Counter,
}

/// A query's turn; over when dropped. Whoever works on the query holds it, so that a query whose caller
/// has gone counts until its work has ended.
#[derive(Debug)]
pub struct Turn {
    in_flight: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    /// A gate that `max` queries at a time pass.
    pub fn new(max: usize) -> Self {
        let gate = Self {
            turns: Arc::new(Semaphore::new(max)),
            in_flight: Gauge::default(),
            max: Gauge::default(),
            waits: duration_histogram(),
            entered: Counter::default(),
        };
        gate.max.set(max as i64);
        gate
    }

    /// Publishes how it is used.
    pub fn register(&self, registry: &mut Registry) {
        let name = |rest: &str| format!("thanos_query_concurrent_gate_{rest}");
        registry.register(name("queries_in_flight"), "Queries that run now", self.in_flight.clone());
        registry.register(name("queries_max"), "Queries that may run at once", self.max.clone());
        let help = "Seconds that queries waited for their turn";
        registry.register(name("queries_duration_seconds"), help, self.waits.clone());
        registry.register(name("queries"), "Queries that got their turn", self.entered.clone());
    }

    /// Waits for a turn until `deadline`.
    pub async fn enter(&self, deadline: Instant) -> Result<Turn, Error> {
        let begin = Instant::now();
        let turn = tokio::time::timeout_at(deadline.into(), Arc::clone(&self.turns).acquire_owned()).await;
        self.waits.observe(begin.elapsed().as_secs_f64());
        let permit = turn
            .map_err(|_| Error::new(ErrorKind::Deadline, "query timed out in query queue"))?
            .map_err(|_| Error::new(ErrorKind::Unavailable, "the server is stopping"))?;
        self.in_flight.inc();
        self.entered.inc();
        Ok(Turn { in_flight: self.in_flight.clone(), _permit: permit })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}
