//! Chunks that Prometheus and Thanos made: read, and written again to the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::model::{FloatColumns, FloatHistogram, FloatHistogramColumns, Histogram, HistogramColumns};

/// The segment files below `folder` of the golden data; none, said loudly, where that is absent.
fn segments(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden")).join(folder);
    if !root.exists() {
        assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "{} is absent", root.display());
        eprintln!("SKIPPED: {} is absent", root.display());
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if folder.ends_with("chunks") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no segment below {folder}");
    found
}

/// Calls `visit` with each chunk of all segments below `folder`; gives how many there were.
fn each_chunk(folder: &str, mut visit: impl FnMut(segment::Chunk<'_>)) -> usize {
    let mut count = 0;
    for path in segments(folder) {
        let bytes = fs::read(&path).unwrap();
        for chunk in segment::chunks(&bytes) {
            visit(chunk.unwrap_or_else(|error| panic!("{}: {error}", path.display())).1);
            count += 1;
        }
    }
    count
}

/// Decodes a chunk and encodes what came out.
fn again(encoding: Encoding, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match encoding {
        Encoding::Xor => {
            let mut columns = FloatColumns::default();
            xor::decode(data, &mut columns).unwrap();
            xor::encode(&columns.timestamps, &columns.values, &mut out);
        }
        Encoding::Histogram => {
            let mut columns = HistogramColumns::default();
            histogram::decode(data, &mut columns).unwrap();
            histogram::encode(&columns, histogram::header(data).unwrap().1, &mut out);
        }
        Encoding::FloatHistogram => {
            let mut columns = FloatHistogramColumns::default();
            float_histogram::decode(data, &mut columns).unwrap();
            float_histogram::encode(&columns, float_histogram::header(data).unwrap().1, &mut out);
        }
        Encoding::Aggr => {
            let chunk = aggr::split(data).unwrap();
            let parts = aggr::Aggregate::ALL.map(|aggregate| chunk.get(aggregate));
            let datas = parts.map(|part| part.map(|part| (part.encoding, again(part.encoding, part.data))));
            let mut whole = aggr::AggrChunk::default();
            for (aggregate, part) in aggr::Aggregate::ALL.into_iter().zip(&datas) {
                if let Some((encoding, data)) = part {
                    whole.set(aggregate, aggr::Part { encoding: *encoding, data });
                }
            }
            aggr::encode(&whole, &mut out);
        }
        other => panic!("{other} is not in the golden data"),
    }
    out
}

#[test]
fn histogram_and_aggregates_chunks_are_written_again_to_the_same_bytes() {
    let mut kinds = std::collections::BTreeMap::new();
    for folder in ["blocks/native", "blocks/long", "thanos"] {
        each_chunk(folder, |chunk| {
            *kinds.entry(chunk.encoding.byte()).or_insert(0) += 1;
            if chunk.encoding != Encoding::Xor {
                assert_eq!(again(chunk.encoding, chunk.data), chunk.data, "{}", chunk.encoding);
            }
        });
    }
    assert!(kinds.is_empty() || kinds.len() > 2, "{kinds:?}");
}

#[test]
fn xor_chunks_of_prometheus_are_written_again_to_the_same_bytes() {
    for folder in ["blocks", "thanos"] {
        each_chunk(folder, |chunk| {
            if chunk.encoding != Encoding::Xor {
                return;
            }
            let mut columns = FloatColumns::default();
            xor::decode(chunk.data, &mut columns).unwrap();
            let mut data = Vec::new();
            xor::encode(&columns.timestamps, &columns.values, &mut data);
            assert_eq!(data, chunk.data);
        });
    }
}

#[test]
fn segments_of_prometheus_are_written_again_to_the_same_bytes() {
    for path in segments("blocks") {
        let bytes = fs::read(&path).unwrap();
        let folder = std::env::temp_dir().join(format!("uru-segment-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let mut writer = segment::Writer::new(folder.clone(), segment::SEGMENT_BYTES_MAX);
        for chunk in segment::chunks(&bytes) {
            let (offset, chunk) = chunk.unwrap();
            let written = writer.append(chunk.encoding, chunk.data).unwrap();
            assert_eq!(written.pack(), offset);
        }
        assert_eq!(writer.finish().unwrap(), [bytes.len() as u64]);
        let written = fs::read(folder.join(segment::file_name(0))).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(written == bytes, "{} differs", path.display());
    }
}

#[test]
fn a_full_segment_is_followed_by_another() {
    let folder = std::env::temp_dir().join(format!("uru-segments-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let mut writer = segment::Writer::new(folder.clone(), 100);
    let refs: Vec<_> = (0..4).map(|_| writer.append(Encoding::Xor, &[7; 30]).unwrap()).collect();
    let lens = writer.finish().unwrap();
    let name = |at| folder.join(segment::file_name(at));
    let found: Vec<_> = (0..2).map(|at| segment::chunks(&fs::read(name(at)).unwrap()).count()).collect();
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(refs.iter().map(|at| (at.segment, at.offset)).collect::<Vec<_>>(), [(0, 8), (0, 44), (1, 8), (1, 44)]);
    assert_eq!(lens, [80, 80]);
    assert_eq!(found, [2, 2]);
}

#[test]
fn a_damaged_chunk_is_refused_with_its_offset_and_the_reason() {
    let mut bytes = segment::MAGIC.to_vec();
    bytes.extend([segment::VERSION, 0, 0, 0]);
    segment::encode(Encoding::Xor, &[1, 2, 3], &mut bytes);
    let error = |bytes: &[u8]| segment::chunks(bytes).find_map(Result::err).unwrap().to_string();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            if !(5..8).contains(&at) {
                assert!(segment::chunks(&damaged).any(|chunk| chunk.is_err()), "byte {at} bit {bit}");
            }
        }
    }
    let mut damaged = bytes.clone();
    damaged[8] = 200;
    damaged[9] = 1;
    assert_eq!(error(&damaged), "chunk segment at byte 8: chunk of 200 bytes announced, room for 2");
    damaged = bytes.clone();
    damaged[10] ^= 1;
    assert!(error(&damaged).starts_with("chunk segment at byte 8: chunk's stored checksum "));
    assert!(segment::read_at(&bytes[9..], 9, 8).is_err());
    assert!(segment::read_at(&bytes, 0, 3).is_err());
    assert!(segment::read_at(&bytes, 0, u64::MAX).is_err());
}

/// A line of the fixture: encoding, start timestamps, data, data without start timestamps.
type StartChunk = (Encoding, Vec<i64>, Vec<u8>, Vec<u8>);

fn start_timestamp_chunks() -> Vec<StartChunk> {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let lines = include_str!("testdata/start_timestamps.txt").lines().filter(|line| !line.starts_with('#'));
    let chunks = lines.map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let starts = fields[1].split(',').map(|start| start.parse().unwrap()).collect();
        (Encoding::parse(fields[0].parse().unwrap(), 0).unwrap(), starts, hex(fields[2]), hex(fields[3]))
    });
    chunks.collect()
}

fn decode_starts(encoding: Encoding, data: &[u8]) -> Result<Vec<i64>, crate::codec::Corrupt> {
    let mut starts = Vec::new();
    match encoding {
        Encoding::Xor2 => xor2::decode(data, &mut FloatColumns::default(), &mut starts)?,
        Encoding::HistogramSt => {
            histogram::decode_with_starts(data, &mut HistogramColumns::default(), &mut starts)?;
        }
        _ => {
            float_histogram::decode_with_starts(data, &mut FloatHistogramColumns::default(), &mut starts)?;
        }
    }
    Ok(starts)
}

/// The chunk of `encoding` that has the samples of `without`.
fn with_starts(encoding: Encoding, without: &[u8], starts: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    match encoding {
        Encoding::Xor2 => {
            let mut columns = FloatColumns::default();
            xor::decode(without, &mut columns).unwrap();
            xor2::encode(&columns.timestamps, &columns.values, starts, &mut out);
        }
        Encoding::HistogramSt => native::add_starts::<Histogram>(without, starts, &mut out),
        _ => native::add_starts::<FloatHistogram>(without, starts, &mut out),
    }
    out
}

#[test]
fn chunks_with_start_timestamps_and_without_become_each_other_as_prometheus_makes_them() {
    for (encoding, starts, data, without) in start_timestamp_chunks() {
        assert_eq!(decode_starts(encoding, &data).unwrap(), starts, "{encoding}");
        assert_eq!(with_starts(encoding, &without, &starts), data, "{encoding} of {} samples", starts.len());
        let mut out = Vec::new();
        let (plain, found) = reencode_for_storeapi(encoding, &data, &mut out).unwrap();
        assert_eq!(found, without, "{encoding} of {} samples", starts.len());
        let mut nothing = Vec::new();
        assert_eq!(reencode_for_storeapi(plain, &without, &mut nothing).unwrap(), (plain, &without[..]));
    }
}

#[test]
fn damaged_chunks_of_every_encoding_give_samples_or_an_error() {
    for (encoding, _, data, without) in start_timestamp_chunks() {
        let plain = reencode_for_storeapi(encoding, &data, &mut Vec::new()).unwrap().0;
        for (encoding, data) in [(encoding, data), (plain, without)] {
            for bit in 0..data.len() * 8 {
                let mut damaged = data.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let _ = decode_any(encoding, &damaged);
                let _ = decode_any(encoding, &damaged[..bit / 8]);
            }
        }
    }
}

/// Decodes a chunk of any encoding.
fn decode_any(encoding: Encoding, data: &[u8]) -> Result<(), crate::codec::Corrupt> {
    match encoding {
        Encoding::Xor => xor::decode(data, &mut FloatColumns::default()),
        Encoding::Histogram => histogram::decode(data, &mut HistogramColumns::default()),
        Encoding::FloatHistogram => float_histogram::decode(data, &mut FloatHistogramColumns::default()),
        Encoding::Aggr => aggr::split(data).map(|_| ()),
        Encoding::Xor2 | Encoding::HistogramSt | Encoding::FloatHistogramSt => {
            decode_starts(encoding, data).map(|_| ())
        }
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_in_any_encoding_give_samples_or_an_error(
        data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        encoding in 1..=6u8,
    ) {
        let encoding = Encoding::parse(encoding, 0).unwrap();
        let _ = decode_any(encoding, &data);
        let _ = reencode_for_storeapi(encoding, &data, &mut Vec::new());
    }
}
