//! The folder of a log: which files there are, replay of all of them, snapshots.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::frame::{self, End, HEADER, Tail};
use super::record::{Record, records};
use super::relaxed::{self, SetAside};
use crate::codec::Cursor;
use crate::io::replace::{self, TMP_SUFFIX};
use crate::model::{Error, ErrorKind};

/// What the name of a snapshot ends in.
const SNAPSHOT_SUFFIX: &str = ".snapshot";

/// Bytes of records of a snapshot that go into one frame, unless one record has more.
const SNAPSHOT_FRAME_BYTES: usize = 64 << 20;

/// The files of a log, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Segments, ascending.
    pub segments: Vec<u64>,
    /// Snapshots, ascending; one holds what was in the segments before its number.
    pub snapshots: Vec<u64>,
}

/// What a replay has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// The number of the segment to be written next.
    pub next_segment: u64,
    /// Segments read.
    pub segments: u64,
    /// Frames read.
    pub frames: u64,
    /// Bytes of records read.
    pub bytes: u64,
    /// Bytes of a write that was cut off, removed from the last segment.
    pub torn_bytes: u64,
    /// What was set aside of a relaxed log that was damaged, by this start or an earlier one.
    pub set_aside: Option<SetAside>,
}

/// The path of segment `number`.
pub fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}"))
}

/// The path of snapshot `number`.
pub fn snapshot_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}{SNAPSHOT_SUFFIX}"))
}

/// What lies in `folder`; files of other names are left alone.
pub fn list(folder: &Path) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(folder).map_err(|error| Error::file(folder, error))? {
        let name = entry.map_err(|error| Error::file(folder, error))?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Ok(number) = name.parse() {
            listing.segments.push(number);
        } else if let Some(number) = name.strip_suffix(SNAPSHOT_SUFFIX).and_then(|number| number.parse().ok()) {
            listing.snapshots.push(number);
        }
    }
    listing.segments.sort_unstable();
    listing.snapshots.sort_unstable();
    Ok(listing)
}

/// Calls `visit` with all records of the newest snapshot and of the segments from its number on.
/// The end of a write that was cut off is removed from the last segment, and with it the segment where that is
/// not even its header; a disk need have no room for that. Of a log that was relaxed what is behind other damage is set
/// aside, for which there must be room. Elsewhere that, and a segment that is missing, is an error that names the file.
pub fn replay(folder: &Path, mut visit: impl FnMut(Record<'_>) -> Result<(), Error>) -> Result<Replayed, Error> {
    remove_unfinished(folder)?;
    let listing = list(folder)?;
    let mut replayed = Replayed::default();
    let first = listing.snapshots.last().copied();
    if let (None, Some(segment @ 1..)) = (first, listing.segments.first()) {
        let missing = snapshot_path(folder, *segment);
        return Err(Error::new(ErrorKind::Corrupt, format!("{}: the snapshot is missing", missing.display())));
    }
    if let Some(number) = first {
        let path = snapshot_path(folder, number);
        frame::scan_file(&path, Tail::MustBeWhole, |at, bytes| {
            replayed.frames += 1;
            replayed.bytes += bytes.len() as u64;
            records(bytes, at).try_for_each(|record| visit(record?))
        })?;
    }
    let segments = segments_from(folder, first, listing.segments)?;
    replayed.next_segment = segments.last().map_or(first.unwrap_or(0), |last| last + 1);
    let (relaxed_from, mut damage) = (relaxed::first_segment(folder)?, None);
    for number in &segments {
        let path = segment_path(folder, *number);
        let is_last = Some(number) == segments.last();
        let tail = if relaxed_from.is_some_and(|first| *number >= first) {
            Tail::MayBeDamaged
        } else if is_last {
            Tail::MayBeTorn
        } else {
            Tail::MustBeWhole
        };
        let end = frame::scan_file(&path, tail, |at, bytes| {
            replayed.frames += 1;
            replayed.bytes += bytes.len() as u64;
            records(bytes, at).try_for_each(|record| visit(record?)).map_err(|error| error.within(path.display()))
        })?;
        replayed.segments += 1;
        let (at, why) = match end {
            End::Whole => continue,
            End::Open { at, torn } if is_last => {
                replayed.torn_bytes = torn;
                let closed = if at > 0 { cut(&path, at) } else { fs::remove_file(&path) };
                closed.map_err(|error| Error::file(&path, error))?;
                replayed.next_segment = number + u64::from(at > 0);
                continue;
            }
            End::Open { at, .. } => (at, format!("ends at byte {at}, before later segments")),
            End::Damaged { at, why } => (at, why),
        };
        relaxed::set_aside(folder, (*number, at), &segments)?;
        damage = Some(format!("{}: {why}", path.display()));
        replayed.next_segment = number + u64::from(at > 0);
        break;
    }
    if relaxed_from.is_some() {
        relaxed::settle(folder, &segments)?;
    }
    replayed.set_aside = relaxed::left_aside(folder, damage)?;
    Ok(replayed)
}

/// The segments from number `first` on, where there is a snapshot of that number; all of them else. None is missing.
fn segments_from(folder: &Path, first: Option<u64>, all: Vec<u64>) -> Result<Vec<u64>, Error> {
    let segments: Vec<u64> = all.into_iter().filter(|number| Some(*number) >= first).collect();
    let gap = segments.windows(2).find(|pair| pair[1] != pair[0] + 1).map(|pair| pair[0] + 1);
    let begin = first.filter(|first| segments.first().is_some_and(|found| found != first));
    match gap.or(begin).map(|number| segment_path(folder, number)) {
        Some(missing) => Err(Error::new(ErrorKind::Corrupt, format!("{}: the segment is missing", missing.display()))),
        None => Ok(segments),
    }
}

/// Removes a snapshot that was never whole.
fn remove_unfinished(folder: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::file(folder, error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(&format!("{SNAPSHOT_SUFFIX}{TMP_SUFFIX}"))) {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Cuts the file at byte `at`, from where on nobody was told of what it holds.
pub(super) fn cut(path: &Path, at: u64) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.set_len(at)?;
    file.sync_all()
}

/// Writes the snapshot `number`, whose records come from `next` part by part until it gives none; it
/// is there when it is whole, and [`remove_before`] removes what it makes needless.
pub fn write_snapshot(
    folder: &Path,
    number: u64,
    mut next: impl FnMut() -> Result<Option<Vec<u8>>, Error>,
) -> Result<u64, Error> {
    let path = snapshot_path(folder, number);
    let (mut failure, mut written) = (None, HEADER.len() as u64);
    let outcome = replace::write_whole(&path, |file| {
        file.write_all(&HEADER)?;
        let mut encoder = frame::Encoder::default();
        loop {
            match next() {
                Ok(Some(records)) => {
                    for part in parts(&records, SNAPSHOT_FRAME_BYTES) {
                        let frame = encoder.frame(&[part]);
                        file.write_all(frame)?;
                        written += frame.len() as u64;
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    let message = error.message().to_owned();
                    failure = Some(error);
                    return Err(std::io::Error::other(message));
                }
            }
        }
    });
    match (outcome, failure) {
        (_, Some(error)) => return Err(error),
        (Err(error), None) => return Err(Error::file(&path, error)),
        (Ok(()), None) => {}
    }
    Ok(written)
}

/// `bytes`, which a recorder has made, in parts of whole records: each of at most `bytes_max`, unless it is one
/// record that is longer.
fn parts(mut bytes: &[u8], bytes_max: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let mut cursor = Cursor::new("WAL record", bytes, 0);
        let mut end = 0;
        while let Some(next) = skip(&mut cursor) {
            if end > 0 && next > bytes_max {
                break;
            }
            end = next;
        }
        let (part, rest) = bytes.split_at(end);
        bytes = rest;
        (!part.is_empty()).then_some(part)
    })
}

/// Where the next record ends.
fn skip(cursor: &mut Cursor<'_>) -> Option<usize> {
    cursor.u8().ok()?;
    let len = cursor.count().ok()?;
    cursor.bytes(len).ok()?;
    Some(cursor.offset() as usize)
}

/// Removes the segments and snapshots before `number`, oldest first.
pub fn remove_before(folder: &Path, number: u64) -> Result<(), Error> {
    let listing = list(folder)?;
    let segments = listing.segments.into_iter().filter(|old| *old < number).map(|old| segment_path(folder, old));
    let snapshots = listing.snapshots.into_iter().filter(|old| *old < number).map(|old| snapshot_path(folder, old));
    for path in snapshots.chain(segments) {
        fs::remove_file(&path).map_err(|error| Error::file(&path, error))?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::record::{FloatRows, Order, Recorder};
    use super::*;

    /// The folder of a log, removed at the end.
    pub(in crate::wal) struct Folder(pub(in crate::wal) PathBuf);

    impl Folder {
        pub(in crate::wal) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("uru-wal-{name}-{}", std::process::id()));
            drop(fs::remove_dir_all(&path));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, number: u64, times: std::ops::Range<i64>) {
            let mut bytes = HEADER.to_vec();
            for time in times {
                bytes.extend_from_slice(frame::Encoder::default().frame(&[floats(time)]));
            }
            fs::write(segment_path(&self.0, number), bytes).unwrap();
        }

        /// Times of the samples in the log.
        pub(in crate::wal) fn read(&self) -> Result<(Vec<i64>, Replayed), Error> {
            let mut times = Vec::new();
            let replayed = replay(&self.0, |record| {
                let Record::Floats(_, _, rows) = record else { return Ok(()) };
                times.extend(rows.times);
                Ok(())
            })?;
            Ok((times, replayed))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    /// Records of one sample.
    pub(in crate::wal) fn floats(time: i64) -> Vec<u8> {
        let (mut rows, mut recorder) = (FloatRows::default(), Recorder::default());
        rows.push(1, time, 1.0);
        recorder.floats(1, Order::Kept, &rows);
        recorder.take()
    }

    #[test]
    fn a_torn_tail_is_removed_once_and_what_comes_later_is_whole() {
        let folder = Folder::new("torn");
        folder.write(0, 0..3);
        folder.write(1, 3..6);
        let path = segment_path(&folder.0, 1);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let (times, replayed) = folder.read().unwrap();
        assert_eq!((times, replayed.next_segment), (vec![0, 1, 2, 3, 4], 2));
        assert!(replayed.torn_bytes > 0);
        folder.write(2, 6..7);
        let (times, replayed) = folder.read().unwrap();
        assert_eq!((times, replayed.torn_bytes), (vec![0, 1, 2, 3, 4, 6], 0));
    }

    #[test]
    fn a_last_segment_without_its_header_is_removed_and_its_number_is_used_again() {
        let folder = Folder::new("headless");
        for (before, bytes) in [(0, &b""[..]), (0, &HEADER[..5]), (2, b""), (2, &HEADER[..7]), (2, &[0; 4096])] {
            (0..before).for_each(|number| folder.write(number, 0..1));
            let path = segment_path(&folder.0, before);
            fs::write(&path, bytes).unwrap();
            for _ in 0..2 {
                let (times, replayed) = folder.read().unwrap();
                assert_eq!((times, replayed.next_segment), (vec![0; before as usize], before), "{bytes:?}");
                assert!(!path.exists(), "{bytes:?}");
            }
        }
        fs::write(segment_path(&folder.0, 1), b"").unwrap();
        folder.write(2, 0..1);
        assert!(folder.read().unwrap_err().message().contains("00000001"));
    }

    #[test]
    fn a_segment_that_is_damaged_missing_or_cut_in_the_middle_of_the_log_is_named() {
        let folder = Folder::new("damaged");
        for number in 0..3 {
            folder.write(number, 0..2);
        }
        let path = segment_path(&folder.0, 1);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let error = folder.read().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("00000001"), "{error}");
        fs::remove_file(&path).unwrap();
        assert!(folder.read().unwrap_err().message().contains("00000001: the segment is missing"));
    }

    #[test]
    fn a_snapshot_stands_for_what_came_before_it() {
        let folder = Folder::new("snapshot");
        folder.write(0, 0..3);
        folder.write(1, 3..5);
        let mut parts = vec![floats(100), Vec::new(), floats(101)].into_iter();
        write_snapshot(&folder.0, 1, || Ok(parts.next())).unwrap();
        assert_eq!(folder.read().unwrap().0, [100, 101, 3, 4]);
        remove_before(&folder.0, 1).unwrap();
        assert_eq!(folder.read().unwrap().0, [100, 101, 3, 4]);
        assert_eq!(list(&folder.0).unwrap(), Listing { segments: vec![1], snapshots: vec![1] });
        let failed = write_snapshot(&folder.0, 2, || Err(Error::new(ErrorKind::Unavailable, "no")));
        assert_eq!(failed.unwrap_err().message(), "no");
        assert_eq!(list(&folder.0).unwrap(), Listing { segments: vec![1], snapshots: vec![1] });
        let path = snapshot_path(&folder.0, 1);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(folder.read().unwrap_err().message().contains("00000001.snapshot"));
        fs::remove_file(&path).unwrap();
        assert!(folder.read().unwrap_err().message().contains("00000001.snapshot: the snapshot is missing"));
    }

    #[test]
    fn records_are_parted_where_one_ends() {
        let mut recorder = Recorder::default();
        let lens: Vec<usize> = [10, 20, 500, 3, 3]
            .map(|len| {
                let before = recorder.bytes().len();
                recorder.tenant(1, &"t".repeat(len));
                recorder.bytes().len() - before
            })
            .to_vec();
        let bytes = recorder.take();
        let found: Vec<usize> = parts(&bytes, 100).map(<[u8]>::len).collect();
        assert_eq!(found, [lens[0] + lens[1], lens[2], lens[3] + lens[4]]);
        assert_eq!(parts(&bytes, 1 << 20).collect::<Vec<_>>(), [&bytes[..]]);
        assert_eq!(parts(&[], 100).count(), 0);
    }
}
