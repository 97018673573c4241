//! Checking a block that was written, before anybody else sees it.

use std::path::Path;
use std::sync::Arc;

use super::pipeline::{self, Ends, Work};
use super::workers::Workers;
use crate::block::verify::{Part, Scan, Verified};
use crate::block::writer;
use crate::model::{Error, ErrorKind};

/// Makes the block in the folder `dir`, which a job has just written, durable, and reads all of it back meanwhile, as
/// [`verify_written`] does: the disk and the processor have one half of the work each.
pub fn settle_written(dir: &Path, workers: &Workers) -> Result<(), Error> {
    std::thread::scope(|threads| {
        let syncing =
            std::thread::Builder::new().name("compact-sync".into()).spawn_scoped(threads, || writer::sync(dir));
        let verified = verify_written(dir, workers);
        let synced = match syncing {
            Ok(thread) => thread.join().map_err(|_| Error::new(ErrorKind::Bug, "syncing a block panicked"))?,
            // Without a thread of its own it comes after.
            Err(_) => writer::sync(dir),
        };
        verified.and(synced)
    })
}

/// Reads all of the block in the folder `dir` back, on the caller's thread and by `workers`: every
/// checksum, every reference, the order of everything and the counts. An error of kind `Corrupt` says
/// the first thing that is wrong.
pub fn verify_written(dir: &Path, workers: &Workers) -> Result<(), Error> {
    let check = Arc::new(Check(Verified::open(dir)?));
    let mut ends = VerifyEnds(check.0.scan());
    // Checking reads files, for which the cores of a lane must not wait.
    let alone = Workers::threads(0);
    pipeline::run(if workers.may_wait() { workers } else { &alone }, &check, &mut ends)?;
    let report = ends.0.finish();
    if report.is_sound() {
        return Ok(());
    }
    let first = report.faults.first().cloned().unwrap_or_else(|| format!("{:?}", report.health));
    let message = format!("invalid result block {}: {} faults, the first: {first}", dir.display(), report.fault_count);
    Err(Error::new(ErrorKind::Corrupt, message))
}

struct VerifyEnds<'a>(Scan<'a>);

impl Ends<Part> for VerifyEnds<'_> {
    fn fill(&mut self, part: &mut Part) -> Result<bool, Error> {
        Ok(self.0.fill(part))
    }

    fn take(&mut self, part: &mut Part) -> Result<(), Error> {
        self.0.take(part);
        Ok(())
    }
}

struct Check(Verified);

impl Work for Check {
    type Job = Part;
    type Worker = ();

    fn step(&self, (): &mut (), part: &mut Part, _units: usize) -> Result<bool, Error> {
        self.0.check(part);
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::writer::{BlockWriter, ChunkData};
    use crate::bucket::Meta;
    use crate::chunk::{Encoding, xor};
    use crate::index::tsdb::Symbols;
    use crate::model::{BlockId, Labels};

    #[test]
    fn any_number_of_threads_finds_the_same_faults() {
        let parent = std::env::temp_dir().join(format!("uru-verify-threads-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&parent));
        std::fs::create_dir_all(&parent).unwrap();
        let values: Vec<String> = (0..3000).map(|at| format!("{at:05}")).collect();
        let symbols = Symbols::from_sorted(values.iter().map(String::as_str).chain(["a"]));
        let id = BlockId::from_parts(1, 9);
        let mut writer = BlockWriter::create(&parent, id, symbols).unwrap();
        for (at, value) in values.iter().enumerate() {
            let chunks: Vec<(i64, Vec<u8>)> = (0..4)
                .map(|chunk| {
                    let mut data = Vec::new();
                    xor::encode(&[chunk * 10, chunk * 10 + 9], &[at as f64, 0.5], &mut data);
                    (chunk * 10, data)
                })
                .collect();
            let chunk =
                |(min_time, data)| ChunkData { min_time, max_time: min_time + 9, encoding: Encoding::Xor, data };
            let chunks: Vec<_> = chunks.iter().map(|(time, data)| chunk((*time, data.as_slice()))).collect();
            writer.add_labels(&Labels::from_pairs([("a", value.as_str())]), &chunks).unwrap();
        }
        writer.finish(Meta::new(id, 0, 40)).unwrap();
        let dir = parent.join(id.to_string());
        for threads in [0, 1, 3] {
            verify_written(&dir, &Workers::threads(threads)).unwrap();
        }
        let segment = dir.join("chunks/000001");
        let mut bytes = std::fs::read(&segment).unwrap();
        for at in (100..bytes.len()).step_by(5000) {
            bytes[at] ^= 1;
        }
        std::fs::write(&segment, &bytes).unwrap();
        let told = [0, 1, 3].map(|threads| verify_written(&dir, &Workers::threads(threads)).unwrap_err());
        assert_eq!(told[0].kind(), ErrorKind::Corrupt);
        assert!(told[0].message().contains("faults, the first: chunks/000001 of {a=\"0000"), "{}", told[0]);
        assert!(told.iter().all(|error| error == &told[0]), "{told:?}");
        std::fs::remove_dir_all(&parent).unwrap();
    }

    #[test]
    fn a_block_is_settled_when_all_of_it_is_there_and_can_be_synced() {
        let parent = std::env::temp_dir().join(format!("uru-settle-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&parent));
        std::fs::create_dir_all(&parent).unwrap();
        let id = BlockId::from_parts(1, 9);
        let mut writer = BlockWriter::create(&parent, id, Symbols::from_sorted(["a", "b"])).unwrap();
        let mut data = Vec::new();
        xor::encode(&[0, 9], &[1.0, 0.5], &mut data);
        let chunk = ChunkData { min_time: 0, max_time: 9, encoding: Encoding::Xor, data: &data };
        writer.add_labels(&Labels::from_pairs([("a", "b")]), &[chunk]).unwrap();
        writer.finish_unsynced(Meta::new(id, 0, 10)).unwrap();
        let dir = parent.join(id.to_string());
        let settle = || settle_written(&dir, &Workers::threads(0));
        settle().unwrap();
        // What is only synced, and can't be.
        let link = dir.join("nothing");
        std::os::unix::fs::symlink(parent.join("gone"), &link).unwrap();
        let error = settle().unwrap_err();
        assert!(error.message().contains(&*link.to_string_lossy()), "{error}");
        std::fs::remove_file(&link).unwrap();
        for missing in ["chunks/000001", "index", "meta.json", "chunks"] {
            let (place, aside) = (dir.join(missing), parent.join("aside"));
            std::fs::rename(&place, &aside).unwrap();
            let error = settle().unwrap_err();
            assert!(error.message().contains(missing), "{missing}: {error}");
            std::fs::rename(&aside, &place).unwrap();
        }
        settle().unwrap();
        std::fs::remove_dir_all(&parent).unwrap();
    }
}
