//! A raw io_uring ring for one thread: single issuer, deferred task work where the kernel has it,
//! one registered buffer, many reads in flight.
//!
//! Long ranges are cut into pieces of [`PIECE_BYTES`], so that the disk sees depth also where the
//! read plan has coalesced everything into one range.
//!
//! Architecture invariant: no function here returns while the kernel may still write into memory
//! that safe code can reach. A ring that can't be waited for is given up together with its memory.

use std::collections::VecDeque;
use std::io;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::blocks::{Blocks, zeros};
use super::{Batch, BlockIo, Failure, IoCounters, Place, Read, Room, Write, batch_bytes, pread::Pread};

/// Operations in flight at most.
pub const DEPTH: usize = 64;

/// Longest single read, in bytes.
pub const PIECE_BYTES: usize = 128 << 10;

/// Reads and writes through a ring.
pub struct Uring {
    /// `None` once the ring has failed; then `fallback` does the work.
    ring: Option<IoUring>,
    /// Whether the window is registered, which `RLIMIT_MEMLOCK` may forbid.
    registered: bool,
    room: Room,
    /// What is being written: memory of its own, so that giving the ring up never frees it early.
    written: Blocks,
    failures: Vec<Failure>,
    counters: IoCounters,
    fallback: Pread,
}

/// Part of a batch that is one operation: bytes `at..at + len` of the batch's memory, or that many zeros.
#[derive(Clone, Copy, Debug)]
struct Piece {
    index: u32,
    fd: i32,
    offset: u64,
    at: Option<usize>,
    len: u32,
}

/// Which operation a batch consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Read,
    ReadRegistered,
    Write,
    Sync,
}

/// Sets up a small ring and takes it down again.
pub(super) fn try_ring() -> io::Result<()> {
    let ring = IoUring::new(4)?;
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [opcode::Read::CODE, opcode::ReadFixed::CODE, opcode::Write::CODE, opcode::Fsync::CODE];
    if needed.iter().all(|code| probe.is_supported(*code)) {
        return Ok(());
    }
    Err(io::Error::other("the kernel's io_uring has no read, write or fsync"))
}

impl Uring {
    /// A ring for the calling thread, the only one that may use it.
    pub fn open() -> io::Result<Self> {
        let entries = DEPTH as u32;
        let deferred = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(entries);
        let ring = deferred.or_else(|_| IoUring::new(entries))?;
        Ok(Self {
            ring: Some(ring),
            registered: false,
            room: Room::growing(),
            written: Blocks::default(),
            failures: Vec::new(),
            counters: IoCounters::default(),
            fallback: Pread::new(),
        })
    }

    /// Makes and registers the window before the first read: a ring that only writes has none.
    fn open_window(&mut self) {
        if let Some(ring) = self.ring.as_ref().filter(|_| self.room.window.is_empty()) {
            self.room.open();
            let window =
                libc::iovec { iov_base: self.room.window.as_mut_ptr().cast(), iov_len: self.room.window.len() };
            // SAFETY: the window is a boxed slice that `Room` never replaces once it is made, and that is
            // dropped after the ring (or leaked with it), so the registered memory outlives the registration.
            self.registered = unsafe { ring.submitter().register_buffers(&[window]) }.is_ok();
        }
    }

    /// Gives the ring and all memory up that it may still write into.
    fn abandon(&mut self) {
        if let Some(ring) = self.ring.take() {
            std::mem::forget(ring);
            std::mem::forget(std::mem::replace(&mut self.room, Room::growing()));
            std::mem::forget(std::mem::take(&mut self.written));
        }
    }
}

impl BlockIo for Uring {
    fn read(&mut self, reads: &[Read<'_>]) -> Batch<'_> {
        self.open_window();
        let Some(ring) = self.ring.as_mut() else { return self.fallback.read(reads) };
        self.failures.clear();
        let total = batch_bytes(reads);
        let (memory, place) = self.room.prepare(total);
        let fixed = self.registered && place == Place::Window;
        let direction = if fixed { Direction::ReadRegistered } else { Direction::Read };
        let mut flight = Flight {
            ring,
            memory: memory.as_mut_ptr(),
            direction,
            in_flight: 0,
            failures: &mut self.failures,
            retries: &mut self.counters.retries,
        };
        if flight.run(pieces_of_reads(reads)).is_err() {
            self.abandon();
            return self.fallback.read(reads);
        }
        self.failures.sort_by_key(|failure| failure.index);
        self.failures.dedup_by_key(|failure| failure.index);
        self.counters.batches += 1;
        self.counters.reads += reads.len() as u64;
        self.counters.bytes_read += total as u64;
        self.counters.oversize += u64::from(place == Place::Heap);
        self.counters.failures += self.failures.len() as u64;
        Batch { bytes: self.room.filled(total), failures: &self.failures }
    }

    fn write_and_sync(&mut self, writes: &[Write<'_>]) -> Result<(), Failure> {
        let Some(ring) = self.ring.as_mut() else { return self.fallback.write_and_sync(writes) };
        let parts: Vec<&[u8]> = writes.iter().map(|write| write.bytes).collect();
        let total = parts.iter().map(|part| part.len()).sum();
        self.written.fill(&parts, total);
        let mut failures = Vec::new();
        let mut flight = Flight {
            ring,
            memory: self.written.bytes_mut().as_mut_ptr(),
            direction: Direction::Write,
            in_flight: 0,
            failures: &mut failures,
            retries: &mut self.counters.retries,
        };
        let mut outcome = flight.run(pieces_of_writes(writes));
        if outcome.is_ok() && flight.failures.is_empty() {
            flight.direction = Direction::Sync;
            let syncs = syncs_of_writes(writes);
            self.counters.syncs += syncs.len() as u64;
            outcome = flight.run(syncs);
        }
        if let Err(source) = outcome {
            self.abandon();
            return Err(Failure { index: 0, offset: 0, source });
        }
        self.counters.bytes_written += writes.iter().map(|write| write.len() as u64).sum::<u64>();
        failures.into_iter().min_by_key(|failure| failure.index).map_or(Ok(()), Err)
    }

    /// The page cache takes it at once; a ring would only add a way.
    fn write(&mut self, writes: &[Write<'_>]) -> Result<(), Failure> {
        self.fallback.write(writes)
    }

    fn name(&self) -> &'static str {
        if self.ring.is_some() { "io_uring" } else { self.fallback.name() }
    }

    fn counters(&self) -> IoCounters {
        let (own, other) = (self.counters, self.fallback.counters());
        IoCounters {
            batches: own.batches + other.batches,
            reads: own.reads + other.reads,
            bytes_read: own.bytes_read + other.bytes_read,
            retries: own.retries + other.retries,
            oversize: own.oversize + other.oversize,
            failures: own.failures + other.failures,
            bytes_written: own.bytes_written + other.bytes_written,
            syncs: own.syncs + other.syncs,
        }
    }
}

/// A batch on its way through the ring.
struct Flight<'a> {
    ring: &'a mut IoUring,
    memory: *mut u8,
    direction: Direction,
    in_flight: usize,
    failures: &'a mut Vec<Failure>,
    retries: &'a mut u64,
}

impl Flight<'_> {
    /// Runs all pieces to their end. An error means that the ring can't be waited for any more while
    /// operations may be in flight.
    fn run(&mut self, mut waiting: VecDeque<Piece>) -> io::Result<()> {
        let mut slots = [None; DEPTH];
        while !waiting.is_empty() || self.in_flight > 0 {
            for (slot, held) in slots.iter_mut().enumerate().filter(|(_, held)| held.is_none()) {
                let Some(piece) = waiting.pop_front() else { break };
                let entry = self.entry(&piece).user_data(slot as u64);
                // SAFETY: the piece's memory lies within the batch's memory, which outlives this call
                // to `run`, as `run` returns Ok only when nothing is in flight, and on an error
                // the caller leaks it, or is zeros, which are static and only read from; the
                // descriptor is of a file borrowed for as long.
                let pushed = unsafe { self.ring.submission().push(&entry) };
                assert!(pushed.is_ok(), "the submission queue has an entry for each slot");
                *held = Some(piece);
                self.in_flight += 1;
            }
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {
                    *self.retries += 1;
                }
                Err(error) => return Err(error),
            }
            let done: Vec<(u64, i32)> =
                self.ring.completion().map(|entry: cqueue::Entry| (entry.user_data(), entry.result())).collect();
            for (slot, result) in done {
                let Some(piece) = slots.get_mut(slot as usize).and_then(Option::take) else {
                    return Err(io::Error::other("io_uring completed an operation that was not submitted"));
                };
                self.in_flight -= 1;
                self.finish(piece, result, &mut waiting);
            }
        }
        Ok(())
    }

    /// Notes what became of a piece: done, to be taken up again, or failed.
    fn finish(&mut self, piece: Piece, result: i32, waiting: &mut VecDeque<Piece>) {
        let again = |piece, waiting: &mut VecDeque<Piece>, retries: &mut u64| {
            *retries += 1;
            waiting.push_front(piece);
        };
        let failed = |source| Failure { index: piece.index as usize, offset: piece.offset, source };
        match result {
            code if code == -libc::EINTR || code == -libc::EAGAIN => again(piece, waiting, self.retries),
            code if code < 0 => self.failures.push(failed(io::Error::from_raw_os_error(-code))),
            _ if self.direction == Direction::Sync => {}
            0 if piece.len > 0 => {
                let kind = match self.direction {
                    Direction::Write => io::ErrorKind::WriteZero,
                    _ => io::ErrorKind::UnexpectedEof,
                };
                self.failures.push(failed(kind.into()));
            }
            len if (len as u32) < piece.len => {
                let len = len as u32;
                let rest = Piece {
                    offset: piece.offset + u64::from(len),
                    at: piece.at.map(|at| at + len as usize),
                    len: piece.len - len,
                    ..piece
                };
                again(rest, waiting, self.retries);
            }
            _ => {}
        }
    }

    fn entry(&self, piece: &Piece) -> squeue::Entry {
        let fd = types::Fd(piece.fd);
        let at = self.memory.wrapping_add(piece.at.unwrap_or_default());
        match self.direction {
            Direction::Read => opcode::Read::new(fd, at, piece.len).offset(piece.offset).build(),
            Direction::ReadRegistered => opcode::ReadFixed::new(fd, at, piece.len, 0).offset(piece.offset).build(),
            Direction::Write => {
                let from = if piece.at.is_some() { at.cast_const() } else { zeros(piece.len as usize).as_ptr() };
                opcode::Write::new(fd, from, piece.len).offset(piece.offset).build()
            }
            Direction::Sync => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
        }
    }
}

fn pieces_of_reads(reads: &[Read<'_>]) -> VecDeque<Piece> {
    let ranges = reads.iter().map(|read| (read.file.fd(), read.offset, read.len));
    pieces(ranges)
}

fn pieces_of_writes(writes: &[Write<'_>]) -> VecDeque<Piece> {
    let ranges = writes.iter().map(|write| (write.file.fd(), write.offset, write.bytes.len()));
    let mut pieces = pieces(ranges);
    for (index, write) in writes.iter().enumerate() {
        let (index, fd, mut done) = (index as u32, write.file.fd(), write.bytes.len());
        while done < write.len() {
            let len = zeros(write.len() - done).len();
            pieces.push_back(Piece { index, fd, offset: write.offset + done as u64, at: None, len: len as u32 });
            done += len;
        }
    }
    pieces
}

fn pieces(ranges: impl Iterator<Item = (i32, u64, usize)>) -> VecDeque<Piece> {
    let mut pieces = VecDeque::new();
    let mut base = 0;
    for (index, (fd, offset, len)) in ranges.enumerate() {
        for done in (0..len).step_by(PIECE_BYTES) {
            let piece = Piece {
                index: index as u32,
                fd,
                offset: offset + done as u64,
                at: Some(base + done),
                len: PIECE_BYTES.min(len - done) as u32,
            };
            pieces.push_back(piece);
        }
        base += len;
    }
    pieces
}

fn syncs_of_writes(writes: &[Write<'_>]) -> VecDeque<Piece> {
    let mut syncs: VecDeque<Piece> = VecDeque::new();
    for (index, write) in writes.iter().enumerate() {
        let fd = write.file.fd();
        if !write.file.is_durable() && syncs.iter().all(|known| known.fd != fd) {
            syncs.push_back(Piece { index: index as u32, fd, offset: write.offset, at: None, len: 0 });
        }
    }
    syncs
}
