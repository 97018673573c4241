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
use super::spare::Spare;
use crate::io::BlockIo;
use crate::model::{Error, ErrorKind};

/// Bytes of a segment after which the next one is begun.
pub const SEGMENT_BYTES_MAX: u64 = 128 << 20;

/// Bytes of records that one frame takes before others have to wait.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// Most bytes of records of one commit: a frame that others wait for no longer takes one more.
pub const COMMIT_BYTES_MAX: usize = frame::RAW_BYTES_MAX - GROUP_BYTES_MAX;

/// How often a relaxed log is made durable.
const RELAXED_SYNC: Duration = Duration::from_secs(1);

/// How often a full disk is tried again; tests meet many.
const ROOM_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 500 });

/// Bytes that a segment takes before the next one is tried again, when that could not be begun.
const OVERTIME_BYTES: u64 = 1 << 20;

/// Ends the process when a panic passes: what a head or log is then, nobody knows; replay does.
pub struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

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
    /// Bytes of records written.
    pub raw_bytes: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Bytes by which frames were shorter than their records; those that were not count nothing.
    pub saved_bytes: u64,
    /// Microseconds spent in writing and syncing.
    pub write_us: u64,
    /// Writes that are durable when they are done, and syncs of a relaxed log.
    pub syncs: u64,
    /// Microseconds that these took.
    pub sync_us: u64,
    /// Frames that could not be written when they came.
    pub failed: u64,
    /// Commits that failed.
    pub failed_commits: u64,
}

#[derive(Debug, Default)]
struct Shared {
    segment: AtomicU64,
    /// Why nothing is written any more.
    broken: OnceLock<Error>,
    is_full: AtomicBool,
    commits: AtomicU64,
    frames: AtomicU64,
    raw_bytes: AtomicU64,
    bytes: AtomicU64,
    saved_bytes: AtomicU64,
    write_us: AtomicU64,
    syncs: AtomicU64,
    sync_us: AtomicU64,
    failed: AtomicU64,
    failed_commits: AtomicU64,
    spare: Spare,
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
        shared.segment.store(place.segment, Ordering::Relaxed);
        let own = Arc::clone(&shared);
        let body = move || {
            let _guard = EndOnPanic;
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

    /// Appends `records`, which may be none and are at most [`COMMIT_BYTES_MAX`]; `done` is called after all that
    /// was committed before is durable and this is too.
    pub fn commit(&self, records: Vec<u8>, done: Done) {
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        self.send(Message::Commit(records, done));
    }

    /// Memory for records, of some that were written if there is any.
    pub fn room(&self) -> Vec<u8> {
        self.shared.spare.take()
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

    /// Number of the segment that is written.
    pub fn segment(&self) -> u64 {
        self.shared.segment.load(Ordering::Relaxed)
    }

    /// What it has done.
    pub fn counters(&self) -> WalCounters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WalCounters {
            commits: load(&self.shared.commits),
            frames: load(&self.shared.frames),
            raw_bytes: load(&self.shared.raw_bytes),
            bytes: load(&self.shared.bytes),
            saved_bytes: load(&self.shared.saved_bytes),
            write_us: load(&self.shared.write_us),
            syncs: load(&self.shared.syncs),
            sync_us: load(&self.shared.sync_us),
            failed: load(&self.shared.failed),
            failed_commits: load(&self.shared.failed_commits),
        }
    }

    fn send(&self, message: Message) {
        let messages = self.messages.as_ref().expect("the channel is open as long as the writer lives");
        if let Err(unsent) = messages.send(message) {
            // The thread has ended: its disk failed before there was room for the first segment.
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
    /// Something was written since `started`, or only given to the operating system.
    fn took(&self, started: Instant, is_synced: bool) {
        let us = started.elapsed().as_micros() as u64;
        self.write_us.fetch_add(us, Ordering::Relaxed);
        if is_synced {
            self.syncs.fetch_add(1, Ordering::Relaxed);
            self.sync_us.fetch_add(us, Ordering::Relaxed);
        }
    }

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
                    shared.failed.fetch_add(1, Ordering::Relaxed);
                }
                shared.failed_commits.fetch_add(1, Ordering::Relaxed);
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
                    self.commit(group.records, group.waiting);
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

    fn commit(&mut self, records: Vec<Vec<u8>>, waiting: Vec<Done>) {
        let outcome = self.refusal().and_then(|()| self.write(&records));
        self.shared.spare.keep(records);
        if outcome.is_err() {
            self.shared.failed_commits.fetch_add(waiting.len() as u64, Ordering::Relaxed);
        }
        waiting.into_iter().for_each(|done| done(outcome.clone()));
    }

    fn write(&mut self, records: &[Vec<u8>]) -> Result<(), Error> {
        if records.iter().all(Vec::is_empty) {
            return self.write_held();
        }
        if self.segment.end() > self.rotate_at && self.held.is_empty() {
            // Where there is no room for another, this one goes on.
            let begun = self.rotate();
            self.refusal()?;
            self.rotate_at = begun.map_or(self.segment.end() + OVERTIME_BYTES, |_| SEGMENT_BYTES_MAX);
        }
        // In one frame, so that what a write that was cut off leaves is never a whole frame behind another.
        let mut encoder = std::mem::take(&mut self.encoder);
        let frame = encoder.frame(records);
        // Behind what is held, or held with it.
        let written = self.write_held().and_then(|()| self.write_frame(frame));
        if written.is_err() {
            self.shared.failed.fetch_add(1, Ordering::Relaxed);
            if self.shared.broken.get().is_none() {
                self.held.push_back(frame.to_vec());
            }
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
        let (raw_len, len) = (frame::raw_len(frame) as u64, frame.len() as u64);
        self.shared.frames.fetch_add(1, Ordering::Relaxed);
        self.shared.raw_bytes.fetch_add(raw_len, Ordering::Relaxed);
        self.shared.bytes.fetch_add(len, Ordering::Relaxed);
        self.shared.saved_bytes.fetch_add(raw_len.saturating_sub(len), Ordering::Relaxed);
        self.shared.took(started, self.place.durability == Durability::Fsync);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        self.dirty_since = None;
        self.segment.sync(&mut *self.io)?;
        self.shared.took(started, true);
        Ok(())
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
        self.shared.segment.store(self.place.segment, Ordering::Relaxed);
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

    /// Commits `records`; gives what became of it.
    fn commit(writer: &Writer, records: Vec<u8>) -> Result<(), Error> {
        let (done, is_done) = crossbeam_channel::bounded(1);
        writer.commit(records, Box::new(move |outcome| drop(done.send(outcome))));
        is_done.recv().unwrap()
    }

    /// Commits and rotates; gives the times that were acknowledged.
    fn write(writer: &Writer, from: i64) -> Vec<i64> {
        let mut acknowledged = Vec::new();
        for time in from..from + 40 {
            if time % 3 == 0 {
                let (done, is_done) = crossbeam_channel::bounded(1);
                writer.rotate(move |outcome| drop(done.send(outcome.map(drop))));
                drop(is_done.recv().unwrap());
                continue;
            }
            acknowledged.extend(commit(writer, floats(time)).is_ok().then_some(time));
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
                refused += usize::from(commit(&writer, floats(time)).is_err());
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
    fn counters_say_what_frames_saved_and_what_was_synced() {
        for durability in [Durability::Fsync, Durability::Relaxed] {
            let folder = Folder::new("counters");
            let place = Place { folder: folder.0.clone(), segment: 0, durability };
            let writer = Writer::start(place, Box::new(|| io::open(Mode::Pread))).unwrap();
            commit(&writer, vec![0; 10_000]).unwrap();
            let saved = writer.counters().saved_bytes;
            assert_eq!(saved, 10_000 - writer.counters().bytes);
            // A frame of few bytes is longer than they are.
            (0..9).for_each(|time| commit(&writer, floats(time)).unwrap());
            let counters = writer.counters();
            assert_eq!((counters.frames, counters.saved_bytes), (10, saved));
            if durability == Durability::Fsync {
                assert_eq!((counters.syncs, counters.sync_us), (10, counters.write_us));
                continue;
            }
            assert!(counters.syncs < 10, "{counters:?}");
            let deadline = Instant::now() + Duration::from_secs(60);
            while writer.counters().syncs == 0 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            let counters = writer.counters();
            assert!(counters.syncs > 0 && counters.sync_us <= counters.write_us, "{counters:?}");
        }
    }

    #[test]
    fn memory_of_records_that_were_written_is_there_for_others() {
        let folder = Folder::new("room");
        let place = Place { folder: folder.0.clone(), segment: 0, durability: Durability::Fsync };
        let writer = Writer::start(place, Box::new(|| io::open(Mode::Pread))).unwrap();
        assert_eq!(writer.room().capacity(), 0);
        commit(&writer, Vec::new()).unwrap();
        assert_eq!(writer.room().capacity(), 0);
        let records = floats(1);
        let capacity = records.capacity();
        commit(&writer, records).unwrap();
        let mut room = writer.room();
        assert_eq!((room.len(), room.capacity(), writer.room().capacity()), (0, capacity, 0));
        room.extend_from_slice(&floats(2));
        commit(&writer, room).unwrap();
        drop(writer);
        assert_eq!(folder.read().unwrap().0, [1, 2]);
    }

    /// A log whose disk has no room, and its folder.
    fn on_a_full_disk(name: &str) -> (Folder, Writer) {
        let folder = Folder::new(name);
        let place = Place { folder: folder.0.clone(), segment: 0, durability: Durability::Fsync };
        let open: OpenIo = Box::new(|| Ok(Box::new(Faulty::new(io::open(Mode::Pread)?, Fault::Full, 1, 1))));
        (folder, Writer::start(place, open).unwrap())
    }

    #[test]
    fn frames_that_fail_are_counted_and_the_commits_in_them_apart() {
        let (_folder, writer) = on_a_full_disk("failed");
        for records in [floats(1), Vec::new(), floats(2)] {
            assert!(commit(&writer, records).is_err());
        }
        let counters = writer.counters();
        assert_eq!((counters.failed, counters.failed_commits), (2, 3));
    }

    #[test]
    fn a_log_that_fails_while_it_waits_for_room_says_why_and_is_not_full_any_more() {
        let (folder, writer) = on_a_full_disk("fails");
        assert!(writer.is_full() && !writer.is_broken());
        std::fs::remove_dir_all(&folder.0).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !writer.is_broken() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!writer.is_full());
        let why = writer.refusal().unwrap();
        assert!(
            why.message().contains(&*folder.0.to_string_lossy()) && why.message().contains("No such file"),
            "{why}"
        );
        assert_eq!(commit(&writer, floats(1)), Err(why));
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
