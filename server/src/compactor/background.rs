//! Threads of the compactor. Where queries run in the same process these threads have a priority below
//! all others, and decoding and encoding is done by the cores of the queries in their background lane, so
//! that queries keep their latency.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

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

/// Threads that move files and look at metas.
const FILE_THREADS: usize = 4;

/// Threads that work on jobs. The one that ended last begins next: what jobs leave in memory stays with
/// their thread for a while, and serves the next job only there.
#[derive(Debug, Default)]
pub(super) struct Threads {
    idle: Arc<Mutex<Vec<Sender<Task>>>>,
}

/// Work and where its thread takes the next from.
struct Task {
    /// Gives what tells of the result.
    work: Box<dyn FnOnce() -> Tell + Send>,
    inbox: Sender<Self>,
}

type Tell = Box<dyn FnOnce()>;

impl Threads {
    /// Does `work` on a thread of its own, of the caller's priority, and waits for it without keeping the
    /// caller's thread busy. Work that panics is an error.
    pub(super) async fn apart<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        let work = Box::new(move || -> Tell {
            let result = catch_unwind(AssertUnwindSafe(work));
            // Who asked may have gone.
            Box::new(move || drop(sender.send(result)))
        });
        let idle = self.lock().pop();
        let inbox = idle.map_or_else(|| self.start(), Ok)?;
        let ended = |()| Error::new(ErrorKind::Bug, format!("{name} ended without a result"));
        inbox.clone().send(Task { work, inbox }).map_err(|_| ended(()))?;
        let result = receiver.await.map_err(|_| ended(()))?;
        result.map_err(|panic| panicked(name, &*panic))
    }

    /// Starts a thread, which ends when nobody can send it work any more.
    fn start(&self) -> Result<Sender<Task>, Error> {
        let (inbox, tasks) = channel::<Task>();
        let idle = Arc::downgrade(&self.idle);
        let body = move || {
            for Task { work, inbox } in tasks {
                let tell = work();
                // Before the result is told, for this thread is to do what follows from it.
                if let Some(idle) = idle.upgrade() {
                    idle.lock().unwrap_or_else(PoisonError::into_inner).push(inbox);
                }
                tell();
            }
        };
        let thread = std::thread::Builder::new().name("compact".to_owned()).spawn(body);
        thread.map_err(|error| Error::new(ErrorKind::Unavailable, format!("cannot start a thread: {error}")))?;
        Ok(inbox)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Sender<Task>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let error = runtime.block_on(Threads::default().apart("merge", || panic!("no {}", 5))).unwrap_err();
        assert_eq!(error.message(), "merge panicked: no 5");
        assert_eq!(runtime.block_on(run_compactor(Priority::Background, || async { 7 })).unwrap(), 7);
    }

    #[test]
    fn jobs_one_after_the_other_have_one_thread_and_those_at_once_have_as_many() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let threads = Threads::default();
        let id = || threads.apart("job", || std::thread::current().id());
        runtime.block_on(async {
            let first = id().await.unwrap();
            for _ in 0..100 {
                assert_eq!(id().await.unwrap(), first);
            }
            let (sender, receiver) = channel();
            let waiting = threads.apart("waits", move || receiver.recv().map(|()| std::thread::current().id()));
            let telling = async {
                let other = id().await.unwrap();
                sender.send(()).unwrap();
                other
            };
            let (waited, other) = tokio::join!(waiting, telling);
            assert_ne!(waited.unwrap().unwrap(), other);
        });
        assert_eq!(threads.lock().len(), 2);
    }
}
