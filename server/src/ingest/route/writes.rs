//! Writes of several tenants here, under way side by side: all wait for the same syncs of the logs, and not each for
//! its own.

use engine::model::Budget;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::ingest::refusal::Refusal;

/// Writes that are under way at once: shards take so many jobs of all requests together, and refuse more.
const UNDER_WAY_MAX: usize = 256;

/// Writes that are under way, and why others were refused.
pub struct Writes<'m, F> {
    memory: &'m Budget,
    under_way: FuturesUnordered<F>,
    refusals: Vec<Refusal>,
}

impl<'m, F: Future<Output = Result<(), Refusal>>> Writes<'m, F> {
    /// None yet, of requests that share `memory`.
    pub fn new(memory: &'m Budget) -> Self {
        Self { memory, under_way: FuturesUnordered::new(), refusals: Vec::new() }
    }

    /// Waits for those under way as long as they are [`UNDER_WAY_MAX`] or more than half of the memory is in use: a
    /// request of many tenants would find no room for the last of them beside the others, however often it is sent.
    pub async fn room(&mut self) {
        while (self.under_way.len() >= UNDER_WAY_MAX || self.memory.usage().used > self.memory.limit() / 2)
            && let Some(outcome) = self.under_way.next().await
        {
            self.refusals.extend(outcome.err());
        }
    }

    /// Adds one, unless it was refused before it began.
    pub fn add(&mut self, begun: Result<F, Refusal>) {
        match begun {
            Ok(write) => self.under_way.push(write),
            Err(refusal) => self.refusals.push(refusal),
        }
    }

    /// Why not all was written, once all of them have ended; `None` when it was.
    pub async fn end(mut self) -> Option<Refusal> {
        while let Some(outcome) = self.under_way.next().await {
            self.refusals.extend(outcome.err());
        }
        Refusal::merge(self.refusals)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// They once came one after the other.
    #[test]
    fn all_are_under_way_at_once_where_there_is_memory_and_else_one_after_the_other() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (held, count, most) in [(0, 20, 19), (0, 2 * UNDER_WAY_MAX, UNDER_WAY_MAX), (501, 20, 1)] {
            let memory = Budget::new("--store.memory-limit", 1000);
            let held = memory.reserve(held).unwrap();
            let (under_way, peak) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
            let write = move |at: usize| async move {
                peak.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                under_way.fetch_sub(1, Ordering::Relaxed);
                if at == 7 { Err(Refusal::unavailable("seven")) } else { Ok(()) }
            };
            let refusal = runtime.block_on(async {
                let mut writes = Writes::new(&memory);
                for at in 0..count {
                    writes.room().await;
                    writes.add(if at == 3 { Err(Refusal::invalid("three")) } else { Ok(write(at)) });
                }
                writes.end().await
            });
            assert_eq!(refusal.unwrap().message, "2 errors: seven; three");
            assert_eq!(peak.load(Ordering::Relaxed), most, "{held:?}");
        }
    }
}
