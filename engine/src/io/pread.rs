//! `pread` and `pwrite`, one after the other: works everywhere, and for files in the page cache as
//! fast as io_uring.

use std::io;
use std::os::unix::fs::FileExt;

use super::blocks::zeros;
use super::{Batch, BlockIo, Failure, IoCounters, Place, Read, Room, Write, batch_bytes};

/// Reads with `pread`.
#[derive(Debug)]
pub struct Pread {
    room: Room,
    failures: Vec<Failure>,
    counters: IoCounters,
}

impl Pread {
    /// One for the calling thread.
    pub fn new() -> Self {
        Self { room: Room::growing(), failures: Vec::new(), counters: IoCounters::default() }
    }
}

impl Default for Pread {
    fn default() -> Self {
        Self::new()
    }
}

impl BlockIo for Pread {
    fn read(&mut self, reads: &[Read<'_>]) -> Batch<'_> {
        self.failures.clear();
        let total = batch_bytes(reads);
        self.room.widen(total);
        let (mut rest, place) = self.room.prepare(total);
        for (index, read) in reads.iter().enumerate() {
            let (own, behind) = rest.split_at_mut(read.len);
            rest = behind;
            if let Err(failure) = read_exact(read, own, &mut self.counters) {
                self.failures.push(Failure { index, ..failure });
            }
        }
        self.counters.batches += 1;
        self.counters.reads += reads.len() as u64;
        self.counters.bytes_read += total as u64;
        self.counters.oversize += u64::from(place == Place::Heap);
        self.counters.failures += self.failures.len() as u64;
        Batch { bytes: self.room.filled(total), failures: &self.failures }
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Result<(), Failure> {
        for (index, write) in writes.iter().enumerate() {
            let failed = |source| Failure { index, offset: write.offset, source };
            write.file.inner().write_all_at(write.bytes, write.offset).map_err(failed)?;
            let mut done = write.bytes.len();
            while done < write.len() {
                let zeros = zeros(write.len() - done);
                write.file.inner().write_all_at(zeros, write.offset + done as u64).map_err(failed)?;
                done += zeros.len();
            }
            self.counters.bytes_written += write.len() as u64;
        }
        Ok(())
    }

    fn write_and_sync(&mut self, writes: &[Write<'_>]) -> Result<(), Failure> {
        self.write(writes)?;
        for (index, write) in writes.iter().enumerate() {
            let is_known = |before: &Write<'_>| std::ptr::eq(before.file, write.file);
            if write.file.is_durable() || writes[..index].iter().any(is_known) {
                continue;
            }
            let failed = |source| Failure { index, offset: write.offset, source };
            write.file.inner().sync_data().map_err(failed)?;
            self.counters.syncs += 1;
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        "pread"
    }

    fn counters(&self) -> IoCounters {
        self.counters
    }
}

fn read_exact(read: &Read<'_>, into: &mut [u8], counters: &mut IoCounters) -> Result<(), Failure> {
    let mut done = 0;
    while done < into.len() {
        let offset = read.offset + done as u64;
        match read.file.inner().read_at(&mut into[done..], offset) {
            Ok(0) => return Err(Failure { index: 0, offset, source: io::ErrorKind::UnexpectedEof.into() }),
            Ok(len) => {
                done += len;
                counters.retries += u64::from(done < into.len());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => counters.retries += 1,
            Err(source) => return Err(Failure { index: 0, offset, source }),
        }
    }
    Ok(())
}
