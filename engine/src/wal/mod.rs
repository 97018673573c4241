//! The write-ahead log of one partition: everything that was acknowledged and is in no block yet.
//!
//! ```text
//! <wal>/00000007.snapshot   what the heads held when segment 7 began, or a little more
//! <wal>/00000007            segment: frames
//! <wal>/00000008            the segment that is written
//! ```
//! A commit is one frame: the records of all requests that waited together, compressed, with one
//! checksum, written with one write. It goes past the page cache and is durable when it is done; where the
//! file system has no such writes, one sync follows. Replay reads the newest snapshot, then the segments
//! from its number on. Records may be replayed onto a state that has them already; whoever applies them
//! skips what is there.
//!
//! Architecture invariant: a frame is only written after the frame before it is durable (unless
//! that was given up by name). So a damaged frame with a whole one behind it was damaged later, which
//! is an error; one with nothing behind it is the end of a write that nobody was told of, unless all of its sectors
//! came to the disk, so that it may have been acknowledged. A log that is relaxed says so in its folder, see
//! `relaxed.rs`: of such a one any frame may be damaged since the last sync, and it starts without what is behind.

mod pieces;
/// Files of frames, written and read.
pub mod frame;
/// What lies in the folder of a log.
pub mod folder;
mod histogram;
/// What a frame holds.
pub mod record;
mod relaxed;
mod segment;
mod spare;
/// The thread that writes.
pub mod writer;

pub use record::{Cut, CutKind, CutPhase, Order, Record, Recorder, records};
pub use relaxed::SetAside;
pub use segment::{Durability, Place};
pub use writer::{WalCounters, Writer};
