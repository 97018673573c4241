//! What of a receiver's refusals goes to its log: enough to be seen, not so much as senders repeat it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::Ceiling;
use http::StatusCode;

/// Least time between two lines.
const PAUSE: Duration = Duration::from_secs(10);

/// The same of those about memory, and time between two looks whether there is something to tell.
const MEMORY_PAUSE: Duration = Duration::from_secs(5 * 60);
const MEMORY_LOOK: Duration = Duration::from_secs(1);

/// Tells the log that series or samples were refused as the process has as much `memory` as it may, for ever.
pub async fn tell_of_memory(memory: &Ceiling) {
    let mut told = 0;
    loop {
        let refused = memory.limited();
        if refused == told {
            tokio::time::sleep(MEMORY_LOOK).await;
            continue;
        }
        tracing::warn!(
            requests = refused - told,
            limit_bytes = memory.limit(),
            "refusing new series, or all samples, with 503 until heads have been cut: the process is beyond \
             --tsdb.memory-limit; raise it where there is more memory, or send fewer series here"
        );
        told = refused;
        tokio::time::sleep(MEMORY_PAUSE).await;
    }
}

/// When a line was written last, and how many were left out since then.
#[derive(Debug, Default)]
pub struct Noted(Mutex<(Option<Instant>, u64)>);

impl Noted {
    /// Notes a request that was refused, or of which a part was.
    pub fn refused(&self, tenant: &str, status: StatusCode, error: &str) {
        let Some(left_out) = self.turn(Instant::now()) else { return };
        tracing::warn!(tenant, status = status.as_u16(), error, left_out, "refused what a sender has sent");
    }

    /// How many lines were left out, if one may be written `now`.
    fn turn(&self, now: Instant) -> Option<u64> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.0.is_some_and(|last| now < last + PAUSE) {
            noted.1 += 1;
            return None;
        }
        Some(std::mem::replace(&mut *noted, (Some(now), 0)).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_at_once_and_then_one_in_ten_seconds() {
        let (noted, start) = (Noted::default(), Instant::now());
        let at = |seconds| noted.turn(start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 9, 10, 11, 30].map(at), [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
