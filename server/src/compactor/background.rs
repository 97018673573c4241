//! Threads of the compactor. Where queries run in the same process these threads have a priority below
//! all others, and decoding and encoding is done by the cores of the queries in their background lane, so
//! that queries keep their latency.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::compact::run_in_background;
use engine::model::{Error, ErrorKind, panic_message};
use tokio::sync::oneshot;

/// What the threads of the compactor stand behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Nothing: the process has no other work.
    Normal,
    /// All other threads.
    Background,
}

/// Threads that move files and look at metas.
const FILE_THREADS: usize = 4;

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
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().thread_name("files").max_blocking_threads(FILE_THREADS).build();
            runtime.expect("a thread can wait for sockets and timers").block_on(make())
        };
        // The caller may have gone: then nobody asks for the result.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(run)));
    };
    let thread = std::thread::Builder::new().name("compactor".to_owned()).spawn(body);
    thread.map_err(|error| Error::new(ErrorKind::Unavailable, format!("cannot start a thread: {error}")))?;
    match receiver.await {
        Ok(result) => result.map_err(|panic| {
            Error::new(
                ErrorKind::Bug,
                format!("the compactor panicked: {}", panic_message(&*panic).unwrap_or_default()),
            )
        }),
        Err(_) => Err(Error::new(ErrorKind::Bug, "the compactor ended without a result")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_future_gives_comes_from_its_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(run_compactor(Priority::Background, || async { 7 })).unwrap(), 7);
    }
}
