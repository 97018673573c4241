//! Faults on purpose, from a seed: for tests of what a request answers when a disk fails.

use std::io;
use std::path::PathBuf;

use super::{Batch, BlockIo, Failure, File, IoCounters, Read, Write};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk answers EIO.
    Error,
    /// The file ends early.
    Truncated,
    /// One bit of the bytes is flipped.
    BitFlip,
    /// A part of what is written arrives, then the disk answers EIO.
    Torn,
    /// What is written arrives, then the sync answers EIO.
    Unsynced,
    /// A part of what is written arrives, then the disk answers ENOSPC.
    Full,
}

impl Fault {
    /// What a disk answers that does not write.
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(if self == Self::Full { libc::ENOSPC } else { libc::EIO })
    }
}

/// Reads through another implementation and breaks some of them.
pub struct Faulty {
    inner: Box<dyn BlockIo>,
    fault: Fault,
    one_in: u64,
    state: u64,
    bytes: Vec<u8>,
    failures: Vec<Failure>,
}

impl Faulty {
    /// Breaks one read in `one_in`, drawn from `seed`.
    pub fn new(inner: Box<dyn BlockIo>, fault: Fault, one_in: u64, seed: u64) -> Self {
        assert!(one_in > 0, "one read in none cannot be broken");
        Self { inner, fault, one_in, state: seed | 1, bytes: Vec::new(), failures: Vec::new() }
    }

    /// Breaks the write, if it is one of those.
    fn break_write(&mut self, writes: &[Write<'_>]) -> Result<(), Failure> {
        let drawn = self.draw();
        if !drawn.is_multiple_of(self.one_in) {
            return Ok(());
        }
        let part = |write: &Write<'_>| (drawn >> 8) as usize % (write.bytes.len() + 1);
        match self.fault {
            Fault::Error => {}
            Fault::Torn | Fault::Full => {
                for write in writes {
                    self.inner.write(&[Write { bytes: &write.bytes[..part(write)], zeros: 0, ..*write }])?;
                }
            }
            Fault::Unsynced => self.inner.write(writes)?,
            Fault::Truncated | Fault::BitFlip => return Ok(()),
        }
        Err(Failure { index: 0, offset: 0, source: self.fault.error() })
    }

    /// The next number of a xorshift generator.
    fn draw(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}

impl BlockIo for Faulty {
    fn read(&mut self, reads: &[Read<'_>]) -> Batch<'_> {
        let drawn: Vec<u64> = reads.iter().map(|_| self.draw()).collect();
        let batch = self.inner.read(reads);
        self.bytes.clear();
        self.bytes.extend_from_slice(batch.bytes);
        self.failures.clear();
        self.failures.extend(batch.failures.iter().map(|failure| Failure {
            index: failure.index,
            offset: failure.offset,
            source: failure.source.kind().into(),
        }));
        let mut start = 0;
        for (index, (read, drawn)) in reads.iter().zip(drawn).enumerate() {
            if drawn.is_multiple_of(self.one_in) && read.len > 0 {
                let offset = read.offset;
                match self.fault {
                    Fault::Error => {
                        self.failures.push(Failure { index, offset, source: io::Error::from_raw_os_error(5) });
                    }
                    Fault::Truncated => {
                        self.failures.push(Failure { index, offset, source: io::ErrorKind::UnexpectedEof.into() });
                    }
                    Fault::Torn | Fault::Unsynced | Fault::Full => {}
                    Fault::BitFlip => self.bytes[start + (drawn >> 8) as usize % read.len] ^= 1 << (drawn >> 60 & 7),
                }
            }
            start += read.len;
        }
        self.failures.sort_by_key(|failure| failure.index);
        Batch { bytes: &self.bytes, failures: &self.failures }
    }

    /// A part of a write is no whole block: the file is an ordinary one. A disk that fails or is full makes none.
    fn create_durable(&mut self, path: PathBuf) -> io::Result<File> {
        let is_broken = matches!(self.fault, Fault::Error | Fault::Full) && self.draw().is_multiple_of(self.one_in);
        if is_broken { Err(self.fault.error()) } else { File::create(path) }
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Result<(), Failure> {
        self.break_write(writes)?;
        self.inner.write(writes)
    }

    fn write_and_sync(&mut self, writes: &[Write<'_>]) -> Result<(), Failure> {
        self.break_write(writes)?;
        self.inner.write_and_sync(writes)
    }

    fn name(&self) -> &'static str {
        "faulty"
    }

    fn counters(&self) -> IoCounters {
        self.inner.counters()
    }
}
