//! Samples of a block, counted in the files of its chunks, each of which begins with its number of samples.
//!
//! ```text
//! file    magic and version 8 bytes │ chunk │ …
//! chunk   length of data uvarint │ encoding u8 │ data, which begins with a count u16 BE │ CRC-32C u32 BE
//! ```

use std::path::Path;

/// Bytes before the first chunk of a file.
const HEADER_LEN: usize = 8;

/// Bytes behind the data of a chunk.
const CHECKSUM_LEN: usize = 4;

/// Samples of all chunks in a block's folder of them.
pub fn samples(folder: &Path) -> Result<u64, String> {
    let failed = |path: &Path, why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let mut samples = 0;
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let path = entry.map_err(|error| failed(folder, &error))?.path();
        let bytes = std::fs::read(&path).map_err(|error| failed(&path, &error))?;
        let counted = bytes.get(HEADER_LEN..).and_then(in_chunks);
        samples += counted.ok_or_else(|| failed(&path, &"its last chunk is not whole"))?;
    }
    Ok(samples)
}

/// Samples of chunks that lie one behind the other; `None` when one is cut off.
fn in_chunks(mut rest: &[u8]) -> Option<u64> {
    let mut samples = 0;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| byte & 0x80 == 0)?;
        let len = rest[..=end]
            .iter()
            .rev()
            .try_fold(0_usize, |len, byte| len.checked_mul(0x80).map(|len| len | usize::from(byte & 0x7f)))?;
        let chunk = rest.get(end + 1..)?;
        let count = chunk.get(1..3)?;
        samples += u64::from(u16::from_be_bytes([count[0], count[1]]));
        rest = chunk.get(len.checked_add(1 + CHECKSUM_LEN)?..)?;
    }
    Some(samples)
}

/// A file of chunks of so many samples, each of eight bytes.
#[cfg(test)]
pub fn segment(counts: &[u8]) -> Vec<u8> {
    let chunks = counts.iter().flat_map(|count| [2, 1, 0, *count, 0, 0, 0, 0]);
    [0; HEADER_LEN].into_iter().chain(chunks).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_those_of_whole_chunks() {
        assert_eq!(in_chunks(&segment(&[3, 250, 0])[HEADER_LEN..]), Some(253));
        assert_eq!(in_chunks(&segment(&[3, 4])[HEADER_LEN..][..15]), None);
        assert_eq!(in_chunks(&[0x80]), None);
        assert_eq!(in_chunks(&[0xff; 40]), None);
        // A chunk of 300 bytes, the length of which takes two.
        let long = [&[0xac, 0x02, 1, 1, 2][..], &[7; 298 + CHECKSUM_LEN]].concat();
        assert_eq!(in_chunks(&long), Some(258));
        assert_eq!(in_chunks(&[]), Some(0));
    }

    #[test]
    fn a_file_that_is_cut_off_is_named() {
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::write(folder.path().join("000001"), segment(&[3])).unwrap();
        std::fs::write(folder.path().join("000002"), segment(&[5])).unwrap();
        assert_eq!(samples(folder.path()), Ok(8));
        std::fs::write(folder.path().join("000002"), [0; 3]).unwrap();
        assert!(samples(folder.path()).unwrap_err().contains("000002: its last chunk is not whole"));
    }
}
