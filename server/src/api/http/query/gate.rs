//! How many queries run at once (`--query.max-concurrent`); the others wait for their turn.

use std::time::Instant;

use engine::model::{Error, ErrorKind};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::telemetry::metrics::duration_histogram;

/// Lets queries in.
#[derive(Debug)]
pub struct Gate {
    turns: Semaphore,
    in_flight: Gauge,
    max: Gauge,
    waits: Histogram,
}

/// A query's turn; over when dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    gate: &'a Gate,
    _permit: SemaphorePermit<'a>,
}

impl Gate {
    /// A gate that `max` queries at a time pass.
    pub fn new(max: usize) -> Self {
        let gate = Self {
            turns: Semaphore::new(max),
            in_flight: Gauge::default(),
            max: Gauge::default(),
            waits: duration_histogram(),
        };
        gate.max.set(max as i64);
        gate
    }

    /// Publishes how it is used.
    pub fn register(&self, registry: &mut Registry) {
        let name = |rest: &str| format!("thanos_query_concurrent_gate_{rest}");
        registry.register(name("queries_in_flight"), "Queries that run now", self.in_flight.clone());
        registry.register(name("queries_max"), "Queries that may run at once", self.max.clone());
        registry.register(name("duration_seconds"), "Seconds that queries waited for their turn", self.waits.clone());
    }

    /// Waits for a turn until `deadline`.
    pub async fn enter(&self, deadline: Instant) -> Result<Turn<'_>, Error> {
        let begin = Instant::now();
        let turn = tokio::time::timeout_at(deadline.into(), self.turns.acquire()).await;
        self.waits.observe(begin.elapsed().as_secs_f64());
        let permit = turn
            .map_err(|_| Error::new(ErrorKind::Deadline, "query timed out in query queue"))?
            .map_err(|_| Error::new(ErrorKind::Unavailable, "the server is stopping"))?;
        self.in_flight.inc();
        Ok(Turn { gate: self, _permit: permit })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.gate.in_flight.dec();
    }
}
