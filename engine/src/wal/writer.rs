//! The thread that writes a log: takes all commits that wait, writes them as one frame, makes it
//! durable, then tells all of them.
//!
//! When the disk is full the frame is held and written again, at the same place, until there is room: its
//! commits fail, but what they changed in heads is in the log before anything that comes later. Others
//! are to be refused meanwhile, see [`Writer::refusal`]. Of a segment that can't be begun nothing is left, and the
//! one before goes on; where there is no room for the first one it is tried again until there is.
//!
//! After any other write or sync of a frame that failed nothing is written any more: what the file holds is not
//! known, and the pages that could not be written may be gone. Whoever asks is refused until a restart
//! has replayed what there is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, unbounded};

use super::frame;
use super::segment::{Durability, Place, Segment, Unbegun};
use crate::io::BlockIo;
use crate::model::{Error, ErrorKind};

/// Bytes of a segment after which the next one is begun.
pub const SEGMENT_BYTES_MAX: u64 = 128 << 20;

/// Bytes of records that one frame takes before others have to wait.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// How often a relaxed log is made durable.
const RELAXED_SYNC: Duration = Duration::from_secs(1);

/// How often a full disk is tried again; tests meet many.
const ROOM_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 500 });

/// Bytes that a segment takes before the next one is tried again, when that could not be begun.
const OVERTIME_BYTES: u64 = 1 << 20;

/// Called when a commit is durable, or will never be.
pub type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Opens what the writer's thread writes through.
pub type OpenIo = Box<dyn FnOnce() -> Result<Box<dyn BlockIo>, Error> + Send>;

enum Message {
    Commit(Vec<u8>, Done),
    Rotate(Rotated),
}

/// Called with the number of the segment that was begun.
type Rotated = Box<dyn FnOnce(Result<u64, Error>) + Send>;

/// Commits that are written together.
struct Group {
    records: Vec<Vec<u8>>,
    waiting: Vec<Done>,
    rotate: Option<Rotated>,
}

/// What a writer has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalCounters {
    /// Commits asked for.
    pub commits: u64,
    /// Frames written, each for all commits that waited.
    pub frames: u64,
    /// Bytes of records.
    pub raw_bytes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Microseconds spent in writing and syncing.
    pub write_us: u64,
    /// Commits that failed.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Shared {
    /// Why nothing is written any more.
    broken: OnceLock<Error>,
    is_full: AtomicBool,
    commits: AtomicU64,
    frames: AtomicU64,
    raw_bytes: AtomicU64,
    bytes: AtomicU64,
    write_us: AtomicU64,
    failed: AtomicU64,
}

/// A log that is written.
pub struct Writer {
    messages: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Writer {
    /// Begins a segment at `place`, written through what `open` gives to the writer's thread. On a full disk
    /// that is tried again and again, and [`Writer::is_full`] meanwhile.
    pub fn start(place: Place, open: OpenIo) -> Result<Self, Error> {
        let (messages, inbox) = unbounded();
        let (ready, is_ready) = crossbeam_channel::bounded(1);
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        let body = move || {
            let mut io = match open() {
                Ok(io) => io,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let (mut segment, mut held) = (None, VecDeque::new());
            match Segment::begin(&place, &mut *io) {
                Ok(begun) => segment = Some(begun),
                Err(Unbegun::Full(_)) => own.is_full.store(true, Ordering::Release),
                Err(Unbegun::Failed(error) | Unbegun::Left(error)) => return drop(ready.send(Err(error))),
            }
            let _ = ready.send(Ok(()));
            let begun = segment.or_else(|| begin_when_there_is_room((&place, &mut *io), (&inbox, &own), &mut held));
            let Some(segment) = begun else { return };
            let encoder = frame::Encoder::default();
            let (dirty_since, rotate_at) = (None, SEGMENT_BYTES_MAX);
            Loop { io, segment, encoder, place, inbox, shared: own, dirty_since, rotate_at, held }.run();
        };
        let failed = |why: String| Error::new(ErrorKind::Unavailable, format!("the WAL's thread did not start: {why}"));
        let thread = thread::Builder::new().name("wal".to_owned()).spawn(body);
        let thread = thread.map_err(|error| failed(error.to_string()))?;
        is_ready.recv().map_err(|_| failed("it ended".to_owned()))??;
        Ok(Self { messages: Some(messages), thread: Some(thread), shared })
    }

    /// Appends `records`, which may be none; `done` is called after all that was committed before is
    /// durable and this is too.
    pub fn commit(&self, records: Vec<u8>, done: Done) {
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.send(Message::Commit(records, done));
    }

    /// Begins another segment; `done` gets its number.
    pub fn rotate(&self, done: impl FnOnce(Result<u64, Error>) + Send + 'static) {
        self.send(Message::Rotate(Box::new(done)));
    }

    /// Whether a write has failed, so that nothing is written any more.
    pub fn is_broken(&self) -> bool {
        self.broken().is_some()
    }

    /// Why nothing is written any more, if a write has failed.
    pub fn broken(&self) -> Option<Error> {
        self.shared.broken.get().cloned()
    }

    /// Whether frames are held as the disk is full.
    pub fn is_full(&self) -> bool {
        self.shared.is_full.load(Ordering::Acquire)
    }

    /// Why nothing is taken now; `None` when it is. To be asked before a change that is to be recorded.
    pub fn refusal(&self) -> Option<Error> {
        self.broken().or_else(|| self.is_full().then(full))
    }

    /// What it has done.
    pub fn counters(&self) -> WalCounters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WalCounters {
            commits: load(&self.shared.commits),
            frames: load(&self.shared.frames),
            raw_bytes: load(&self.shared.raw_bytes),
            bytes: load(&self.shared.bytes),
            write_us: load(&self.shared.write_us),
            failed: load(&self.shared.failed),
        }
    }

    fn send(&self, message: Message) {
        let messages = self.messages.as_ref().expect("the channel is open as long as the writer lives");
        if let Err(unsent) = messages.send(message) {
            // The thread has ended, which it does by a panic alone; that ends the process elsewhere.
            unsent.0.refuse(broken("its thread has ended"));
        }
        self.wake();
    }

    /// Has the thread look for messages.
    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Message {
    fn refuse(self, why: Error) {
        match self {
            Self::Commit(_, done) => done(Err(why)),
            Self::Rotate(done) => done(Err(why)),
        }
    }
}

impl Shared {
    /// Lets nothing be written any more, because of `error`; gives what is told to all who ask.
    fn end(&self, error: &Error) -> Error {
        let why = self.broken.get_or_init(|| broken(error.message())).clone();
        self.is_full.store(false, Ordering::Release);
        why
    }
}

impl Drop for Writer {
    /// Writes what was committed, then ends the thread.
    fn drop(&mut self) {
        self.messages = None;
        self.wake();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn broken(why: &str) -> Error {
    let message = format!("the WAL could not be written ({why}): nothing is taken until a restart");
    Error::new(ErrorKind::Unavailable, message)
}

fn full() -> Error {
    let message = "the WAL could not be written (its disk is full): nothing is taken until there is room";
    Error::new(ErrorKind::Unavailable, message)
}

/// Begins the first segment once the disk has room for it. Until then nothing is taken; what is committed
/// all the same is held, and written first. Nothing when nobody writes any more, or the disk fails otherwise.
fn begin_when_there_is_room(
    (place, io): (&Place, &mut dyn BlockIo),
    (inbox, shared): (&Receiver<Message>, &Shared),
    held: &mut VecDeque<Vec<u8>>,
) -> Option<Segment> {
    let (mut encoder, mut tried) = (frame::Encoder::default(), Instant::now());
    loop {
        match inbox.recv_timeout(ROOM_INTERVAL.saturating_sub(tried.elapsed())) {
            Ok(Message::Rotate(done)) => done(Err(full())),
            Ok(Message::Commit(records, done)) => {
                if !records.is_empty() {
                    held.push_back(encoder.frame(&[records]).to_vec());
                }
                shared.failed.fetch_add(1, Ordering::Relaxed);
                done(Err(full()));
            }
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if tried.elapsed() < ROOM_INTERVAL {
            continue;
        }
        tried = Instant::now();
        match Segment::begin(place, io) {
            Ok(segment) => {
                shared.is_full.store(!held.is_empty(), Ordering::Release);
                return Some(segment);
            }
            Err(Unbegun::Full(_)) => {}
            Err(Unbegun::Failed(error) | Unbegun::Left(error)) => {
                let why = shared.end(&error);
                inbox.iter().for_each(|message| message.refuse(why.clone()));
                return None;
            }
        }
    }
}

/// The writer's thread.
struct Loop {
    io: Box<dyn BlockIo>,
    segment: Segment,
    encoder: frame::Encoder,
    place: Place,
    inbox: Receiver<Message>,
    shared: Arc<Shared>,
    /// Since when a relaxed log holds what is not durable.
    dirty_since: Option<Instant>,
    /// Length from which on the next segment is begun.
    rotate_at: u64,
    /// Frames that the disk had no room for, in order.
    held: VecDeque<Vec<u8>>,
}

impl Loop {
    fn run(mut self) {
        while let Some(message) = self.next() {
            // Where others can run on this core they commit too, to the same write; elsewhere this takes no time.
            thread::yield_now();
            match message {
                Message::Rotate(done) => done(self.rotate()),
                Message::Commit(records, done) => {
                    let group = self.gather(records, done);
                    self.commit(&group.records, group.waiting);
                    if let Some(done) = group.rotate {
                        done(self.rotate());
                    }
                }
            }
        }
        if self.shared.broken.get().is_none() {
            // Nobody waits for it; replay finds what there is.
            let _ = self.write_held();
            let _ = self.segment.close();
        }
    }

    /// The next message; `None` when there will be none. Keeps a relaxed log durable meanwhile, and writes
    /// what is held.
    fn next(&mut self) -> Option<Message> {
        loop {
            let rest = self.rest();
            match self.receive(rest) {
                Ok(message) if rest.is_none_or(|rest| !rest.is_zero()) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                other => {
                    self.catch_up();
                    if let Ok(message) = other {
                        return Some(message);
                    }
                }
            }
        }
    }

    /// Waits for a message, not longer than `time_max`: at once, where the channel's own way of waiting spins
    /// and yields first.
    fn receive(&self, time_max: Option<Duration>) -> Result<Message, RecvTimeoutError> {
        let begin = Instant::now();
        loop {
            match self.inbox.try_recv() {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            // What was sent since the channel was looked at ends this at once.
            let Some(time_max) = time_max else {
                thread::park();
                continue;
            };
            let left = time_max.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(RecvTimeoutError::Timeout);
            }
            thread::park_timeout(left);
        }
    }

    /// How long to wait for messages before there is other work; `None`: for ever.
    fn rest(&self) -> Option<Duration> {
        if self.shared.broken.get().is_some() {
            return None;
        }
        if !self.held.is_empty() {
            return Some(ROOM_INTERVAL);
        }
        self.dirty_since.map(|since| RELAXED_SYNC.saturating_sub(since.elapsed()))
    }

    /// Makes a relaxed log durable, and writes what is held.
    fn catch_up(&mut self) {
        if self.dirty_since.is_some()
            && let Err(error) = self.sync()
        {
            self.shared.end(&error);
            return;
        }
        // Whoever waited for it was told that it failed.
        let _ = self.write_held();
    }

    /// The records of all commits that wait, and a rotation that came behind them.
    fn gather(&self, records: Vec<u8>, done: Done) -> Group {
        let mut bytes = records.len();
        let mut group = Group { records: vec![records], waiting: vec![done], rotate: None };
        while bytes < GROUP_BYTES_MAX && group.rotate.is_none() {
            match self.inbox.try_recv() {
                Ok(Message::Commit(more, done)) => {
                    bytes += more.len();
                    group.records.push(more);
                    group.waiting.push(done);
                }
                Ok(Message::Rotate(done)) => group.rotate = Some(done),
                Err(_) => break,
            }
        }
        group
    }

    fn commit(&mut self, records: &[Vec<u8>], waiting: Vec<Done>) {
        let outcome = self.refusal().and_then(|()| self.write(records));
        if outcome.is_err() {
            self.shared.failed.fetch_add(waiting.len() as u64, Ordering::Relaxed);
        }
        waiting.into_iter().for_each(|done| done(outcome.clone()));
    }

    fn write(&mut self, records: &[Vec<u8>]) -> Result<(), Error> {
        let raw_bytes: usize = records.iter().map(Vec::len).sum();
        if raw_bytes == 0 {
            return self.write_held();
        }
        if self.segment.end() > self.rotate_at && self.held.is_empty() {
            // Where there is no room for another, this one goes on.
            let begun = self.rotate();
            self.refusal()?;
            self.rotate_at = begun.map_or(self.segment.end() + OVERTIME_BYTES, |_| SEGMENT_BYTES_MAX);
        }
        self.shared.raw_bytes.fetch_add(raw_bytes as u64, Ordering::Relaxed);
        // In one frame, so that what a write that was cut off leaves is never a whole frame behind another.
        let mut encoder = std::mem::take(&mut self.encoder);
        let frame = encoder.frame(records);
        // Behind what is held, or held with it.
        let written = self.write_held().and_then(|()| self.write_frame(frame));
        if written.is_err() && self.shared.broken.get().is_none() {
            self.held.push_back(frame.to_vec());
        }
        self.encoder = encoder;
        written
    }

    /// Writes the frames that the disk had no room for.
    fn write_held(&mut self) -> Result<(), Error> {
        while let Some(frame) = self.held.pop_front() {
            if let Err(error) = self.write_frame(&frame) {
                self.held.push_front(frame);
                return Err(error);
            }
        }
        self.shared.is_full.store(false, Ordering::Release);
        Ok(())
    }

    /// Writes a frame; a failure says what becomes of those that come later.
    fn write_frame(&mut self, frame: &[u8]) -> Result<(), Error> {
        let started = Instant::now();
        if self.place.durability == Durability::Relaxed {
            self.dirty_since.get_or_insert(started);
        }
        if let Err(failure) = self.segment.append(frame, &mut *self.io) {
            let error = failure.to_error(self.segment.file());
            if !failure.is_full() {
                return Err(self.shared.end(&error));
            }
            self.shared.is_full.store(true, Ordering::Release);
            return Err(error);
        }
        self.shared.frames.fetch_add(1, Ordering::Relaxed);
        self.shared.bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
        self.shared.write_us.fetch_add(started.elapsed().as_micros() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.dirty_since = None;
        self.segment.sync(&mut *self.io)
    }

    /// Begins the next segment. Where that fails the one before goes on; where it can't, as what is left of
    /// the new one says that it is whole, nothing is written any more.
    fn rotate(&mut self) -> Result<u64, Error> {
        self.refusal()?;
        self.write_held()?;
        self.dirty_since = None;
        self.segment.close().map_err(|error| self.shared.end(&error))?;
        let next = Place { segment: self.place.segment + 1, ..self.place.clone() };
        match Segment::begin(&next, &mut *self.io) {
            Ok(segment) => (self.segment, self.place) = (segment, next),
            Err(Unbegun::Full(error) | Unbegun::Failed(error)) => return Err(error),
            Err(Unbegun::Left(error)) => return Err(self.shared.end(&error)),
        }
        Ok(self.place.segment)
    }

    /// Why nothing is written any more.
    fn refusal(&self) -> Result<(), Error> {
        self.shared.broken.get().map_or(Ok(()), |why| Err(why.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::folder::tests::{Folder, floats};
    use super::*;
    use crate::io::faulty::{Fault, Faulty};
    use crate::io::{self, Mode};

    /// Commits and rotates; gives the times that were acknowledged.
    fn write(writer: &Writer, from: i64) -> Vec<i64> {
        let mut acknowledged = Vec::new();
        for time in from..from + 40 {
            let (done, is_done) = crossbeam_channel::bounded(1);
            if time % 3 == 0 {
                writer.rotate(move |outcome| drop(done.send(outcome.map(drop))));
                drop(is_done.recv().unwrap());
                continue;
            }
            writer.commit(floats(time), Box::new(move |outcome| drop(done.send(outcome))));
            acknowledged.extend(is_done.recv().unwrap().is_ok().then_some(time));
        }
        acknowledged
    }

    #[test]
    fn a_disk_that_is_full_for_a_while_ends_no_log_and_what_was_held_is_before_what_comes_later() {
        for seed in 0..16 {
            let folder = Folder::new("full");
            let place = Place { folder: folder.0.clone(), segment: 0, durability: Durability::Fsync };
            let open: OpenIo =
                Box::new(move || Ok(Box::new(Faulty::new(io::open(Mode::Pread)?, Fault::Full, 3, seed + 1))));
            // Also the first segment may have to wait.
            let writer = Writer::start(place, open).unwrap();
            let waits = writer.is_full();
            let (mut refused, mut not_begun) = (0, 0);
            for time in 0..40 {
                // Nothing is held: only the beginning can fail.
                let is_clear = !writer.is_full();
                let (begun, is_begun) = crossbeam_channel::bounded(1);
                writer.rotate(move |outcome| drop(begun.send(outcome)));
                not_begun += usize::from(is_begun.recv().unwrap().is_err() && is_clear);
                let (done, is_done) = crossbeam_channel::bounded(1);
                writer.commit(floats(time), Box::new(move |outcome| drop(done.send(outcome))));
                refused += usize::from(is_done.recv().unwrap().is_err());
            }
            assert!(refused > 0 && (not_begun > 0 || waits) && !writer.is_broken(), "{seed}");
            let deadline = Instant::now() + Duration::from_secs(60);
            while writer.is_full() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(writer.refusal(), None, "{seed}");
            drop(writer);
            assert_eq!(folder.read().unwrap().0, (0..40).collect::<Vec<_>>(), "{seed}");
        }
    }

    #[test]
    fn a_log_that_fails_while_it_waits_for_room_says_why_and_is_not_full_any_more() {
        let folder = Folder::new("fails");
        let place = Place { folder: folder.0.clone(), segment: 0, durability: Durability::Fsync };
        let open: OpenIo = Box::new(|| Ok(Box::new(Faulty::new(io::open(Mode::Pread)?, Fault::Full, 1, 1))));
        let writer = Writer::start(place, open).unwrap();
        assert!(writer.is_full() && !writer.is_broken());
        std::fs::remove_dir_all(&folder.0).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !writer.is_broken() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!writer.is_full());
        let why = writer.refusal().unwrap();
        assert!(why.message().contains(&*folder.0.to_string_lossy()) && why.message().contains("No such file"), "{why}");
        let (done, is_done) = crossbeam_channel::bounded(1);
        writer.commit(floats(1), Box::new(move |outcome| drop(done.send(outcome))));
        assert_eq!(is_done.recv().unwrap(), Err(why));
    }

    #[test]
    fn whatever_write_fails_a_restart_reads_all_that_was_acknowledged() {
        for (seed, fault) in
            (0..8).flat_map(|seed| [Fault::Error, Fault::Torn, Fault::Unsynced, Fault::Full].map(|fault| (seed, fault)))
        {
            let folder = Folder::new("writer");
            let mut acknowledged = Vec::new();
            for round in 0..4 {
                let (times, replayed) = folder.read().unwrap();
                let is_there = |time: &i64| times.contains(time);
                assert!(acknowledged.iter().all(is_there), "{fault:?} {seed}: {acknowledged:?}, but {times:?}");
                let (folder, segment) = (folder.0.clone(), replayed.next_segment);
                let place = Place { folder, segment, durability: Durability::Fsync };
                let open: OpenIo =
                    Box::new(move || Ok(Box::new(Faulty::new(io::open(Mode::Pread)?, fault, 8, 4 * seed + round))));
                if let Ok(writer) = Writer::start(place, open) {
                    acknowledged.extend(write(&writer, round as i64 * 100));
                }
            }
        }
    }
}
