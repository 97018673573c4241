//! Reading ahead: what endpoints send is taken although nobody asks for it yet, while another one is waited for.
//!
//! Stores let so many calls in at once, and a call keeps its turn until all of its answer is sent. A merge that
//! leaves an answer unread while it waits for a turn elsewhere keeps others from theirs, who may do the same the
//! other way round: all would wait for ever. What nobody asks of a merge, as its own caller is slow, is not read.
//!
//! ```text
//! store a   ####----########   read as the merge goes on, or ahead
//! store b   ..........######   waited for
//!               |500 ms|
//! ```

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use engine::model::Error;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt, poll};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a merge waits for endpoints before it reads ahead what the others send, and how long it then waits
/// for memory before it looks for some again.
pub const LAZY: Duration = Duration::from_millis(500);

/// How long it goes on with one wait at least when there is no memory to read ahead.
pub const WITHOUT_MEMORY: Duration = Duration::from_secs(10);

/// The time for which a merge still waits without reading ahead, over all of its waiting.
#[derive(Debug)]
pub struct Laziness(Duration);

impl Default for Laziness {
    fn default() -> Self {
        Self(LAZY)
    }
}

impl Laziness {
    /// What `wait` gives; when that takes long, it goes on `reading` the others meanwhile, the first of which that
    /// comes back ends it.
    pub async fn wait<T>(
        &mut self,
        wait: impl Future<Output = Result<T, Error>>,
        reading: impl Iterator<Item = impl Future<Output = Error>>,
    ) -> Result<T, Error> {
        let mut wait = pin!(wait);
        // Often: a frame that has come lies ready.
        if let Poll::Ready(done) = poll!(wait.as_mut()) {
            return done;
        }
        let begin = Instant::now();
        let done = tokio::time::timeout(self.0, wait.as_mut()).await;
        self.0 = self.0.saturating_sub(begin.elapsed());
        if let Ok(done) = done {
            return done;
        }
        let mut reading: FuturesUnordered<_> = reading.collect();
        tokio::select! {
            biased;
            done = wait => done,
            Some(refusal) = reading.next() => Err(refusal),
        }
    }
}

/// Feeds that are waited for at once.
#[derive(Debug)]
pub struct Together {
    left: AtomicUsize,
    all: watch::Sender<bool>,
    begin: Instant,
}

impl Together {
    /// So many, from now on.
    pub fn new(count: usize) -> Self {
        Self { left: AtomicUsize::new(count), all: watch::Sender::new(count == 0), begin: Instant::now() }
    }

    /// Says that one of them is there; it goes on `reading` as long as others are not, when that takes long. An error
    /// when that comes back.
    pub async fn arrive(&self, reading: impl Future<Output = Error>) -> Result<(), Error> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.all.send_replace(true);
        }
        let mut all = self.all.subscribe();
        let reading = async {
            tokio::time::sleep_until(self.begin + LAZY).await;
            reading.await
        };
        tokio::select! {
            biased;
            _ = all.wait_for(|all| *all) => Ok(()),
            refusal = reading => Err(refusal),
        }
    }
}

/// What all of `parts` give, in their order; the first error, whichever it is of, ends the others.
pub async fn all<T>(parts: impl Iterator<Item = impl Future<Output = Result<T, Error>>>) -> Result<Vec<T>, Error> {
    let numbered = parts.enumerate().map(async |(at, part)| part.await.map(|done| (at, done)));
    let mut done: Vec<(usize, T)> = numbered.collect::<FuturesUnordered<_>>().try_collect().await?;
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, done)| done).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_error_ends_however_many_others_and_what_is_done_is_in_order() {
        let part = async |at: usize| match at {
            5 => Err(Error::invalid("five")),
            _ => std::future::pending::<Result<usize, Error>>().await,
        };
        assert_eq!(all((0..40).map(part)).await.unwrap_err().message(), "five");
        let part = async |at: usize| {
            tokio::time::sleep(Duration::from_millis(40 - at as u64)).await;
            Ok(at)
        };
        assert!(all((0..40).map(part)).await.unwrap().into_iter().eq(0..40));
    }
}
