//! A glance at a block on local disk before it goes elsewhere: what a crash or a disk takes from a file mostly shows at
//! its ends.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::bucket::Meta;
use crate::bucket::name::{self, BlockObject};
use crate::chunk::segment;
use crate::index::tsdb::HEADER_LEN;
use crate::index::tsdb::reader::decode_header;
use crate::index::tsdb::toc::{TOC_LEN, Toc};
use crate::model::{Error, ErrorKind};

/// Looks at the block in the folder `dir`, which `meta` describes: at the sizes of its files as far as meta.json tells
/// them, at the first bytes of its segments, and at header and table of contents of its index. What is wrong is an
/// error of kind Corrupt that names the file.
pub fn glance(dir: &Path, meta: &Meta) -> Result<(), Error> {
    for file in meta.files().iter().filter(|file| file.size_bytes > 0) {
        let path = dir.join(&file.rel_path);
        let (_, len) = open(&path)?;
        if len != file.size_bytes {
            return Err(corrupt(&path, format!("{len} bytes, {} says {}", name::META, file.size_bytes)));
        }
    }
    check_index(&dir.join(name::INDEX))?;
    let last = last_segment(&dir.join(name::CHUNKS))?;
    for number in 1..=last.unwrap_or(u32::from(meta.stats.num_samples > 0)) {
        // The first that is missing ends this, however far away the last is.
        check_segment(&dir.join(BlockObject::Segment(number - 1).to_string()))?;
    }
    Ok(())
}

/// The greatest number of a segment in the folder `chunks`, from 1.
fn last_segment(chunks: &Path) -> Result<Option<u32>, Error> {
    let entries = match fs::read_dir(chunks) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(|error| Error::file(chunks, error))?,
    };
    let mut last = None;
    for entry in entries {
        let name = entry.map_err(|error| Error::file(chunks, error))?.file_name();
        last = last.max(name.to_str().and_then(|name| name.parse().ok()));
    }
    Ok(last)
}

fn check_segment(path: &Path) -> Result<(), Error> {
    let (file, len) = open(path)?;
    let mut header = [0; segment::HEADER_LEN];
    if len < header.len() as u64 {
        return Err(corrupt(path, format!("{len} bytes, too few for a header")));
    }
    file.read_exact_at(&mut header, 0).map_err(|error| Error::file(path, error))?;
    segment::check_header(&header).map_err(|error| Error::from(error).within(path.display()))
}

fn check_index(path: &Path) -> Result<(), Error> {
    let (file, len) = open(path)?;
    let (mut header, mut toc) = ([0; HEADER_LEN], [0; TOC_LEN]);
    if len < (header.len() + toc.len()) as u64 {
        return Err(corrupt(path, format!("{len} bytes, too few for an index")));
    }
    let end = len - toc.len() as u64;
    let read = file.read_exact_at(&mut header, 0).and_then(|()| file.read_exact_at(&mut toc, end));
    read.map_err(|error| Error::file(path, error))?;
    let decoded = decode_header(&header).and_then(|_| Toc::decode(&toc, end));
    let found = decoded.map_err(|error| Error::from(error).within(path.display()))?;
    let parts = [found.symbols, found.series, found.label_indices, found.postings, found.postings_offset_table];
    match parts.into_iter().max() {
        Some(last) if last > end => {
            Err(corrupt(path, format!("a part starts at byte {last}, the table of contents at byte {end}")))
        }
        _ => Ok(()),
    }
}

/// The file at `path` and its length.
fn open(path: &Path) -> Result<(File, u64), Error> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    match opened {
        Ok((len, file)) => Ok((file, len)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(corrupt(path, "the file is missing")),
        Err(error) => Err(Error::file(path, error)),
    }
}

fn corrupt(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::block::writer::{BlockWriter, ChunkData};
    use crate::bucket::meta::Thanos;
    use crate::chunk::Encoding;
    use crate::index::tsdb::Symbols;
    use crate::model::{BlockId, Labels};

    /// A block of one series in the folder `parent`.
    fn write_block(parent: &Path) -> (PathBuf, Meta) {
        let id = BlockId::from_parts(1_700_000_000_000, 5);
        let mut writer = BlockWriter::create(parent, id, Symbols::from_sorted(["0", "a"])).unwrap();
        let data = [0, 3, 1, 2, 3, 4, 5];
        let chunk = ChunkData { min_time: 0, max_time: 9, encoding: Encoding::Xor, data: &data };
        writer.add_labels(&Labels::from_pairs([("a", "0")]), &[chunk]).unwrap();
        let meta = writer.finish(Meta { thanos: Some(Thanos::default()), ..Meta::new(id, 0, 10) }).unwrap();
        (parent.join(id.to_string()), meta)
    }

    #[test]
    fn what_is_missing_cut_off_or_changed_at_the_ends_of_files_is_named() {
        let parent = std::env::temp_dir().join(format!("uru-glance-{}", std::process::id()));
        drop(fs::remove_dir_all(&parent));
        fs::create_dir_all(&parent).unwrap();
        let (dir, meta) = write_block(&parent);
        glance(&dir, &meta).unwrap();
        // As a receiver of Thanos leaves it.
        let untold = Meta { thanos: None, ..meta.clone() };
        for (file, told_alone) in [("index", false), ("chunks/000001", true)] {
            let path = dir.join(file);
            let whole = fs::read(&path).unwrap();
            let mut changed = whole.clone();
            changed[2] ^= 1;
            let mut zeroed = whole.clone();
            zeroed[whole.len() - 4..].fill(0);
            for (bytes, is_seen) in [
                (Vec::new(), true),
                (whole[..6].to_vec(), true),
                (whole[..whole.len() - 1].to_vec(), !told_alone),
                ([whole.as_slice(), b"0"].concat(), !told_alone),
                (changed, true),
            ] {
                fs::write(&path, &bytes).unwrap();
                let error = glance(&dir, &meta).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                assert!(error.message().contains(&*path.to_string_lossy()), "{error}");
                assert_eq!(glance(&dir, &untold).is_err(), is_seen, "{file} of {} bytes", bytes.len());
            }
            fs::write(&path, &zeroed).unwrap();
            assert_eq!(glance(&dir, &meta).is_err(), !told_alone, "{file}");
            fs::remove_file(&path).unwrap();
            assert!(glance(&dir, &untold).unwrap_err().message().contains(file), "{file}");
            fs::write(&path, whole).unwrap();
        }
        glance(&dir, &meta).unwrap();
        fs::write(dir.join("chunks/000003"), fs::read(dir.join("chunks/000001")).unwrap()).unwrap();
        assert!(glance(&dir, &meta).unwrap_err().message().contains("chunks/000002: the file is missing"));
        fs::remove_dir_all(&parent).unwrap();
    }
}
