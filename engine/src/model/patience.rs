//! When and by whom a request is ended, for those who work on it and look at it again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::error::{Error, ErrorKind};

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

impl Patience {
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
