//! Logs that were acknowledged before they were durable: what says so in their folder, and what becomes of them when
//! the machine has failed.
//!
//! ```text
//! <wal>/relaxed             the number of the first segment that was written so; gone once all is durable
//! <wal>/00000008.damaged    what was set aside of segment 8
//! ```
//! The operating system writes pages in whatever order it likes, so that any of those since the last sync may be
//! missing. What is before the first damage is kept; what is behind it may hang on what is missing, and is set aside.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::folder::{cut, segment_path};
use super::frame::HEADER;
use super::pieces::Pieces;
use crate::io::{folder, replace};
use crate::model::Error;

/// The file that says that a log is not made durable write by write.
const MARK: &str = "relaxed";

/// What the name of a file ends in that was set aside.
const ASIDE_SUFFIX: &str = "damaged";

/// What is said of damage that only the files tell of.
const EARLIER: &str = "an earlier start found the log damaged";

/// What was set aside of a log, by whichever start, and lies there still.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetAside {
    /// What this start found to be damaged, and where; else that an earlier one did.
    pub why: String,
    /// The files that hold it now.
    pub files: Vec<PathBuf>,
    /// Their bytes.
    pub bytes: u64,
}

/// The number of the segment from which on the log in `folder` was not made durable write by write; `None` when all of
/// it was.
pub(super) fn first_segment(folder: &Path) -> Result<Option<u64>, Error> {
    let path = folder.join(MARK);
    match fs::read_to_string(&path) {
        // A number that can't be read may be any.
        Ok(text) => Ok(Some(text.trim().parse().unwrap_or(0))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(0)),
        Err(error) => Err(Error::file(&path, error)),
    }
}

/// Says in `folder`, durably, that the segments from `number` on are not made durable write by write, unless that is
/// said already.
pub(super) fn mark(folder: &Path, number: u64) -> io::Result<()> {
    let path = folder.join(MARK);
    if path.try_exists()? {
        return Ok(());
    }
    replace::write_whole(&path, |file| writeln!(file, "{number}"))
}

/// Makes all that is left of the `segments` of a log durable, and has its folder say so.
pub(super) fn settle(folder: &Path, segments: &[u64]) -> Result<(), Error> {
    for path in segments.iter().map(|number| segment_path(folder, *number)) {
        match File::open(&path).and_then(|file| file.sync_all()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::file(&path, error)),
            // It was set aside.
            _ => {}
        }
    }
    let path = folder.join(MARK);
    let removed = fs::remove_file(&path).and_then(|()| folder::sync(folder));
    removed.map_err(|error| Error::file(&path, error))
}

/// Sets aside what the log of `segments` holds from byte `at` of segment `number` on, where it is damaged.
pub(super) fn set_aside(folder: &Path, (number, at): (u64, u64), segments: &[u64]) -> Result<(), Error> {
    // The last one first: what is left is a log whenever this is cut off.
    for later in segments.iter().rev().take_while(|later| **later > number) {
        rename(folder, *later)?;
    }
    let path = segment_path(folder, number);
    let failed = |error: io::Error| Error::file(&path, error);
    if at < HEADER.len() as u64 {
        rename(folder, number)?;
    } else {
        let damaged = File::open(&path).map_err(failed)?;
        let end = Pieces::new(&damaged).and_then(|mut damaged| damaged.written_end(at));
        let end = end.map_err(|error| error.within(path.display()))?;
        if end > at {
            let to = free_path(folder, number);
            let copy = |file: &mut File| {
                (&damaged).seek(SeekFrom::Start(at))?;
                io::copy(&mut (&damaged).take(end - at), file).map(drop)
            };
            replace::write_whole(&to, copy).map_err(|error| Error::file(&to, error))?;
        }
        cut(&path, at).map_err(failed)?;
    }
    folder::sync(folder).map_err(|error| Error::file(folder, error))
}

/// What was set aside of the log in `folder` and nobody has removed yet: a start that found it may have ended before
/// it told so. `damage` is what this one found; `None` when there is nothing to tell.
pub(super) fn left_aside(folder: &Path, damage: Option<String>) -> Result<Option<SetAside>, Error> {
    let failed = |error: io::Error| Error::file(folder, error);
    let is_new = damage.is_some();
    let mut found = SetAside { why: damage.unwrap_or_else(|| EARLIER.to_owned()), ..SetAside::default() };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == ASIDE_SUFFIX) {
            found.bytes += entry.metadata().map_err(failed)?.len();
            found.files.push(path);
        }
    }
    found.files.sort_unstable();
    Ok((is_new || !found.files.is_empty()).then_some(found))
}

/// Gives segment `number` a name under which it is none.
fn rename(folder: &Path, number: u64) -> Result<(), Error> {
    let (from, to) = (segment_path(folder, number), free_path(folder, number));
    fs::rename(&from, &to).map_err(|error| Error::file(&from, error))
}

/// A path that nothing has yet, for what is set aside of segment `number`.
fn free_path(folder: &Path, number: u64) -> PathBuf {
    let mut path = folder.join(format!("{number:08}.{ASIDE_SUFFIX}"));
    let mut copies = 1u64;
    while path.exists() {
        path = folder.join(format!("{number:08}.{copies}.{ASIDE_SUFFIX}"));
        copies += 1;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::super::folder::tests::{Folder, floats};
    use super::super::frame::{FRAME_HEADER_LEN, Tail, scan};
    use super::super::segment::{Durability, Place};
    use super::super::writer::Writer;
    use super::*;
    use crate::io::{Mode, open};
    use crate::model::ErrorKind;

    /// The log of one start that ends with the machine: frames at the times `from` on, in segments of so many.
    fn write(folder: &Folder, (segment, from): (u64, i64), segments: usize, durability: Durability) {
        let place = Place { folder: folder.0.clone(), segment, durability };
        let writer = Writer::start(place, Box::new(|| open(Mode::Pread))).unwrap();
        for at in 0..segments as i64 {
            for time in 0..3 {
                let (done, is_done) = crossbeam_channel::bounded(1);
                writer.commit(floats(from + 3 * at + time), Box::new(move |outcome| drop(done.send(outcome))));
                is_done.recv().unwrap().unwrap();
            }
            if at + 1 < segments as i64 {
                let (done, is_done) = crossbeam_channel::bounded(1);
                writer.rotate(move |outcome| drop(done.send(outcome.map(drop))));
                is_done.recv().unwrap().unwrap();
            }
        }
    }

    /// Where the frames of segment `number` start.
    fn frames(folder: &Folder, number: u64) -> Vec<usize> {
        let (bytes, mut starts) = (fs::read(segment_path(&folder.0, number)).unwrap(), Vec::new());
        let mut visit = |at: u64, _: &[u8]| {
            starts.push(at as usize);
            Ok(())
        };
        scan(&bytes, Tail::MustBeWhole, &mut visit).unwrap();
        starts
    }

    fn names(folder: &Folder) -> Vec<String> {
        let entries = fs::read_dir(&folder.0).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_is_damaged_of_a_relaxed_log_is_set_aside_with_all_that_comes_later_and_told_until_it_is_removed() {
        for damaged in 0..2 {
            let folder = Folder::new("relaxed");
            write(&folder, (0, 0), 2, Durability::Relaxed);
            assert_eq!(names(&folder), ["00000000", "00000001", "relaxed"]);
            // A page that never came, with a whole frame behind it.
            let (path, starts) = (segment_path(&folder.0, damaged), frames(&folder, damaged));
            let mut bytes = fs::read(&path).unwrap();
            bytes[starts[1]..starts[2]].fill(0);
            fs::write(&path, &bytes).unwrap();
            let (times, replayed) = folder.read().unwrap();
            assert_eq!((times, replayed.next_segment), ((0..=3 * damaged as i64).collect(), damaged + 1));
            let aside = replayed.set_aside.unwrap();
            let files: Vec<PathBuf> =
                (damaged..2).map(|number| folder.0.join(format!("{number:08}.damaged"))).collect();
            assert_eq!(aside.files, files);
            assert!(aside.why.contains(&format!("{damaged:08}")) && aside.why.contains("WAL frame"), "{}", aside.why);
            let lens: Vec<u64> = files.iter().map(|path| fs::metadata(path).unwrap().len()).collect();
            assert_eq!(aside.bytes, lens.iter().sum::<u64>());
            // It is told again, and what comes later goes on, under a number that was used before.
            write(&folder, (replayed.next_segment, 100), 1, Durability::Relaxed);
            let (times, replayed) = folder.read().unwrap();
            let expected: Vec<i64> = (0..=3 * damaged as i64).chain(100..103).collect();
            let again = SetAside { why: EARLIER.to_owned(), ..aside };
            assert_eq!((&times, replayed.set_aside), (&expected, Some(again)));
            assert_eq!(files.iter().map(|path| fs::metadata(path).unwrap().len()).collect::<Vec<_>>(), lens);
            files.iter().for_each(|path| fs::remove_file(path).unwrap());
            let (times, replayed) = folder.read().unwrap();
            assert_eq!((times, replayed.set_aside), (expected, None));
        }
    }

    #[test]
    fn a_relaxed_log_that_is_cut_off_anywhere_starts_with_what_is_before_that() {
        let original = Folder::new("relaxed-cut");
        write(&original, (0, 0), 2, Durability::Relaxed);
        for damaged in 0..2 {
            let whole = fs::read(segment_path(&original.0, damaged)).unwrap();
            let starts = frames(&original, damaged);
            for cut in 0..whole.len() {
                let folder = Folder::new("relaxed-cut-off");
                for name in names(&original) {
                    fs::copy(original.0.join(&name), folder.0.join(&name)).unwrap();
                }
                fs::write(segment_path(&folder.0, damaged), &whole[..cut]).unwrap();
                let kept = starts.iter().skip(1).filter(|end| **end <= cut).count() as i64;
                // What ends with a frame looks whole: such a segment was synced before the next one began.
                let later = if damaged == 0 && starts.contains(&cut) { 3..6 } else { 0..0 };
                let expected: Vec<i64> = (0..3 * damaged as i64 + kept).chain(later.clone()).collect();
                let (times, replayed) = folder.read().unwrap();
                assert_eq!(times, expected, "{damaged} {cut}");
                let is_set_aside = damaged == 0 && later.is_empty();
                assert_eq!(replayed.set_aside.is_some(), is_set_aside, "{damaged} {cut}");
                let (times, replayed) = folder.read().unwrap();
                assert_eq!((times, replayed.torn_bytes), (expected, 0), "{damaged} {cut}");
                assert_eq!(replayed.set_aside.is_some(), is_set_aside, "{damaged} {cut}");
            }
        }
    }

    #[test]
    fn a_log_that_was_relaxed_and_is_whole_is_held_to_what_others_are_from_its_next_start_on() {
        let folder = Folder::new("relaxed-once");
        write(&folder, (0, 0), 2, Durability::Relaxed);
        let next = folder.read().unwrap().1.next_segment;
        assert!(!names(&folder).contains(&MARK.to_owned()));
        write(&folder, (next, 6), 1, Durability::Fsync);
        let (path, starts) = (segment_path(&folder.0, 0), frames(&folder, 0));
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[starts[1] + FRAME_HEADER_LEN] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(folder.read().unwrap_err().kind(), ErrorKind::Corrupt);
        fs::write(&path, &whole).unwrap();
        let next = folder.read().unwrap().1.next_segment;
        write(&folder, (next, 9), 1, Durability::Relaxed);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(folder.read().unwrap_err().kind(), ErrorKind::Corrupt, "only later segments are relaxed");
    }
}
