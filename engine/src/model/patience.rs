//! When and by whom a request is ended, for those who work on it and look at it again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::error::{Error, ErrorKind};

/// Asked again and again by work that may take long: an error when nobody waits for it any more, or its time is over.
pub type IsWanted<'w> = &'w dyn Fn() -> Result<(), Error>;

/// Where Prometheus says that a query was ended.
const PLACE: &str = "query execution";

/// When and by whom a query is ended.
#[derive(Clone, Debug, Default)]
pub struct Patience {
    /// When the query must be done.
    pub deadline: Option<Instant>,
    /// Set when the caller went away.
    pub canceled: Arc<AtomicBool>,
}

/// Somebody who waits for work that others do: dropping this ends it.
#[derive(Debug, Default)]
pub struct Waiting {
    patience: Patience,
    gone: Arc<AtomicBool>,
}

impl Waiting {
    /// Somebody who has `patience`.
    pub fn new(patience: Patience) -> Self {
        Self { patience, gone: Arc::default() }
    }

    /// What the work asks, be it on other threads.
    pub fn wanted(&self) -> impl Fn() -> Result<(), Error> + Send + use<> {
        let (patience, gone) = (self.patience.clone(), Arc::clone(&self.gone));
        move || patience.check_unless(&gone)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

impl Patience {
    /// The same as [`Self::check`] for one whose caller may also be `gone`.
    pub fn check_unless(&self, gone: &AtomicBool) -> Result<(), Error> {
        match gone.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Canceled, "the caller went away")),
            false => self.check(),
        }
    }

    /// Fails when the caller has gone or the time is over.
    pub fn check(&self) -> Result<(), Error> {
        if self.canceled.load(Ordering::Relaxed) {
            let message = format!("query was canceled in {PLACE}");
            return Err(Error::new(ErrorKind::Canceled, message));
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let message = format!("query timed out in {PLACE}");
            return Err(Error::new(ErrorKind::Deadline, message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_wanted_as_long_as_somebody_waits_and_has_patience() {
        let patience = Patience::default();
        let waiting = Waiting::new(patience.clone());
        let (wanted, of_another) = (waiting.wanted(), Waiting::new(patience.clone()).wanted());
        assert!(wanted().is_ok());
        assert_eq!(of_another().unwrap_err().kind(), ErrorKind::Canceled);
        patience.canceled.store(true, Ordering::Relaxed);
        assert!(wanted().unwrap_err().message().contains("query was canceled"));
        drop(waiting);
        assert!(wanted().unwrap_err().message().contains("the caller went away"));
    }
}
