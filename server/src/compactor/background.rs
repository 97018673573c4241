//! Threads of the compactor. Where queries run in the same process these threads have a priority below
//! all others, and decoding and encoding is done by the cores of the queries in their background lane, so
//! that queries keep their latency.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::compact::run_in_background;
use engine::model::{Error, ErrorKind};
use tokio::sync::oneshot;

/// What the threads of the compactor stand behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Nothing: the process has no other work.
    Normal,
    /// All other threads.
    Background,
}

/// Does `work` on a thread of its own, of the caller's priority, and waits for it without keeping the
/// caller's thread busy. Work that panics is an error. The thread serves the next work too: what it leaves
/// in memory is used again.
pub(super) async fn apart<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| match error.try_into_panic() {
        Ok(panic) => panicked(name, &*panic),
        Err(_) => Error::new(ErrorKind::Bug, format!("{name} ended without a result")),
    })
}

fn panicked(name: &str, panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    Error::new(ErrorKind::Bug, format!("{name} panicked: {text}"))
}

/// Runs the future that `make` makes on a thread of `priority` that waits for sockets and files, until it
/// ends; waits for it. All threads that it starts have the same priority.
pub async fn run_compactor<T, F>(priority: Priority, make: impl FnOnce() -> F + Send + 'static) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let (sender, receiver) = oneshot::channel();
    let body = move || {
        if priority == Priority::Background {
            run_in_background();
        }
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().thread_name("compact").build();
            runtime.expect("a thread can wait for sockets and timers").block_on(make())
        };
        // The caller may have gone: then nobody asks for the result.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(run)));
    };
    let thread = std::thread::Builder::new().name("compactor".to_owned()).spawn(body);
    thread.map_err(|error| Error::new(ErrorKind::Unavailable, format!("cannot start a thread: {error}")))?;
    match receiver.await {
        Ok(result) => result.map_err(|panic| panicked("the compactor", &*panic)),
        Err(_) => Err(Error::new(ErrorKind::Bug, "the compactor ended without a result")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_its_own_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(apart("merge", || panic!("no {}", 5))).unwrap_err();
        assert_eq!(error.message(), "merge panicked: no 5");
        assert_eq!(runtime.block_on(run_compactor(Priority::Background, || async { 7 })).unwrap(), 7);
    }
}
