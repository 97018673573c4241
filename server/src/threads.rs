//! Threads for work that computes. The one that ended its work last takes the next: its stack is still in the caches,
//! and what it has freed serves the next work only there.
//!
//! ```text
//! work ─> the thread that became idle last ─> result
//!    └─> a new one, when none is idle          idle for a minute ─> ends
//! ```

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use engine::io::freed;
use engine::model::{Error, ErrorKind, panic_message};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Most threads; with more work than that the rest waits for one of them.
const THREADS_MAX: usize = 512;

/// How long a thread waits for work before it ends.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// Gives what tells of the result.
type Work = Box<dyn FnOnce() -> Tell + Send>;

type Tell = Box<dyn FnOnce()>;

/// The threads; clones share them.
#[derive(Clone, Debug)]
pub struct Threads {
    name: &'static str,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Ways to threads that wait for work, by their numbers; the one that has waited shortest is last.
    idle: Vec<(u64, mpsc::Sender<Work>)>,
    /// Work that waits for a thread.
    waiting: VecDeque<Work>,
    threads: usize,
    started: u64,
}

/// Work under way. It goes on when this is dropped.
#[derive(Debug)]
pub struct Running<T>(oneshot::Receiver<std::thread::Result<T>>);

impl Threads {
    /// Threads of this name, of the priority of who asks for one.
    pub fn named(name: &'static str) -> Self {
        Self { name, state: Arc::default() }
    }

    /// Does `work` on one of them, within the runtime that asks.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Running<T> {
        let (sender, receiver) = oneshot::channel();
        let runtime = Handle::current();
        self.begin(Box::new(move || -> Tell {
            let _entered = runtime.enter();
            let result = catch_unwind(AssertUnwindSafe(work));
            // Whoever asked may have gone away.
            Box::new(move || drop(catch_unwind(AssertUnwindSafe(|| drop(sender.send(result))))))
        }));
        Running(receiver)
    }

    fn begin(&self, work: Work) {
        let mut state = self.lock();
        let work = match state.idle.pop() {
            None => work,
            Some((_, thread)) => match thread.send(work) {
                Ok(()) => return,
                Err(mpsc::SendError(work)) => work,
            },
        };
        state.waiting.push_back(work);
        if state.threads == THREADS_MAX {
            return;
        }
        (state.threads, state.started) = (state.threads + 1, state.started + 1);
        let (number, threads) = (state.started, self.clone());
        let spawned =
            std::thread::Builder::new().name(self.name.to_owned()).spawn(move || threads.keep_working(number));
        if let Err(error) = spawned {
            state.threads -= 1;
            // Other threads take it when they have time; without any, whoever asked is told.
            if state.threads == 0 {
                state.waiting.clear();
            }
            tracing::error!(%error, name = self.name, "cannot start a thread");
        }
    }

    /// What thread `number` does until it is of no use any more.
    fn keep_working(self, number: u64) {
        let (sender, assigned) = mpsc::channel();
        let mut tell: Option<Tell> = None;
        loop {
            let mut state = self.lock();
            let waiting = state.waiting.pop_front();
            if waiting.is_none() {
                state.idle.push((number, sender.clone()));
            }
            drop(state);
            // It is idle before the result is told: it is to do what follows from it.
            if let Some(tell) = tell.take() {
                tell();
            }
            if waiting.is_none() {
                freed::give_back_when_short();
            }
            let Some(work) = waiting.or_else(|| self.next(number, &assigned)) else { return };
            tell = Some(work());
        }
    }

    /// What thread `number` is given, if anything.
    fn next(&self, number: u64, assigned: &mpsc::Receiver<Work>) -> Option<Work> {
        if let Ok(work) = assigned.recv_timeout(IDLE_TIME_MAX) {
            return Some(work);
        }
        let mut state = self.lock();
        let before = state.idle.len();
        state.idle.retain(|(other, _)| *other != number);
        if state.idle.len() < before {
            state.threads -= 1;
            return None;
        }
        drop(state);
        // It was given work meanwhile.
        assigned.recv().ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("threads", &self.threads).field("idle", &self.idle.len()).finish_non_exhaustive()
    }
}

impl<T> Future for Running<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll(context)) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(panic)) => {
                Err(Error::new(ErrorKind::Bug, format!("panicked: {}", panic_message(&*panic).unwrap_or_default())))
            }
            Err(_) => Err(Error::new(ErrorKind::Unavailable, "the system has no thread for it")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_says_so_and_its_thread_goes_on() {
        let threads = Threads::named("work");
        let error = threads.run(|| -> () { panic!("on purpose {}", 1) }).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Bug, "panicked: on purpose 1"));
        threads.run(|| ()).await.unwrap();
        assert_eq!(threads.lock().threads, 1);
    }

    #[tokio::test]
    async fn work_one_after_the_other_has_one_thread_and_that_at_once_has_as_many() {
        let threads = Threads::named("work");
        let id = || threads.run(|| std::thread::current().id());
        let first = id().await.unwrap();
        for _ in 0..100 {
            assert_eq!(id().await.unwrap(), first);
        }
        let (sender, receiver) = mpsc::channel::<()>();
        let waiting = threads.run(move || (receiver.recv(), std::thread::current().id()).1);
        let other = id().await.unwrap();
        drop(sender);
        assert_eq!(waiting.await.unwrap(), first);
        assert_ne!(first, other);
        // The one that ended last.
        assert_eq!(id().await.unwrap(), first);
        let state = threads.lock();
        assert_eq!((state.threads, state.idle.len()), (2, 2));
    }

    #[tokio::test]
    async fn more_work_than_threads_is_all_done() {
        let threads = Threads::named("work");
        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        let all: Vec<_> = (0..THREADS_MAX + 40)
            .map(|number| {
                let ended = Arc::clone(&ended);
                threads.run(move || (ended.lock().unwrap().recv(), number).1)
            })
            .collect();
        assert_eq!(threads.lock().threads, THREADS_MAX);
        drop(end);
        for (number, running) in all.into_iter().enumerate() {
            assert_eq!(running.await.unwrap(), number);
        }
    }
}
