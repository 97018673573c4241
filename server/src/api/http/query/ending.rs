//! When a request ends, done or not: at its deadline, or when its caller has gone. What waits for
//! endpoints waits for this too, and what computes looks at it again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use engine::model::{Error, ErrorKind};
use engine::promql::budget::Patience;
use tokio::sync::watch;

/// The end of a request as those see it who work on it; clones see the same end.
#[derive(Clone, Debug)]
pub struct Ending {
    deadline: Instant,
    canceled: Arc<AtomicBool>,
    gone: watch::Receiver<bool>,
}

/// The caller of a request: when it is dropped, the request has nobody to answer and ends.
#[derive(Debug)]
pub struct Caller {
    canceled: Arc<AtomicBool>,
    gone: watch::Sender<bool>,
}

impl Ending {
    /// A request that ends at `deadline`, or when its caller is dropped.
    pub fn at(deadline: Instant) -> (Self, Caller) {
        let (sender, gone) = watch::channel(false);
        let canceled = Arc::new(AtomicBool::new(false));
        let ending = Self { deadline, canceled: Arc::clone(&canceled), gone };
        (ending, Caller { canceled, gone: sender })
    }

    /// The same for an evaluation, which looks at it between batches.
    pub fn patience(&self) -> Patience {
        Patience { deadline: Some(self.deadline), canceled: Arc::clone(&self.canceled) }
    }

    /// Waits for the end; the reason, in Prometheus' words.
    pub async fn over(&self) -> Error {
        let mut gone = self.gone.clone();
        tokio::select! {
            // A caller whose sender is gone without a word has gone too.
            _ = gone.wait_for(|gone| *gone) => Error::new(ErrorKind::Canceled, "query was canceled in query execution"),
            () = tokio::time::sleep_until(self.deadline.into()) => {
                Error::new(ErrorKind::Deadline, "query timed out in query execution")
            }
        }
    }

    /// What `work` gives, or the reason why it had to end before.
    pub async fn race<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            error = self.over() => Err(error),
            result = work => result,
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.canceled.store(true, Ordering::Relaxed);
        self.gone.send_replace(true);
    }
}

/// Whoever waits for what a thread computes.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What `work` makes on a thread that may compute. Its patience is over when nobody waits for it any more.
pub async fn compute<T: Send + 'static>(
    work: impl FnOnce(&Patience) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let patience = Patience::default();
    let _waiting = Waiting(Arc::clone(&patience.canceled));
    let running = tokio::task::spawn_blocking(move || work(&patience));
    running.await.map_err(|error| Error::new(ErrorKind::Bug, format!("writing the answer failed: {error}")))?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_that_never_ends_ends_at_the_deadline() {
        let (ending, _caller) = Ending::at(Instant::now());
        let error = ending.race(std::future::pending::<Result<(), Error>>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline);
    }

    #[tokio::test]
    async fn work_whose_caller_has_gone_ends() {
        let (ending, caller) = Ending::at(Instant::now() + Duration::from_secs(3600));
        let waiting = tokio::spawn(async move { ending.race(std::future::pending::<Result<(), Error>>()).await });
        drop(caller);
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Canceled);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_computed_to_its_end() {
        let (started, is_started) = tokio::sync::oneshot::channel();
        let (sender, ended) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(compute(move |patience| {
            started.send(()).unwrap();
            while patience.check().is_ok() {
                std::thread::yield_now();
            }
            sender.send(()).unwrap();
            Ok(())
        }));
        is_started.await.unwrap();
        waiting.abort();
        ended.await.unwrap();
    }
}
