//! Properties of written indexes: what was written is read, and damage never goes unnoticed nor
//! panics.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::source::FileSource;
use super::{Reader, Series, Source, Symbols, Writer};
use crate::index::{ChunkMeta, header};
use crate::model::{ChunkRef, Error, Labels, SeriesRef};

/// Series by labels, each with the lengths of its chunks and of the gaps before them.
type Model = BTreeMap<Labels, Vec<(u16, u16)>>;

fn model() -> impl Strategy<Value = Model> {
    let labels = btree_map("[a-e]", "[a-dé]{1,3}", 1..4).prop_map(Labels::from_pairs::<String, String>);
    btree_map(labels, vec((any::<u16>(), 1u16..), 0..4), 0..80)
}

fn metas(chunks: &[(u16, u16)], next_ref: &mut u64) -> Vec<ChunkMeta> {
    let mut time = -70_000;
    let chunks = chunks.iter().map(|(len, gap)| {
        let min_time = time + i64::from(*gap);
        time = min_time + i64::from(*len);
        *next_ref += u64::from(*len);
        ChunkMeta { min_time, max_time: time, chunk_ref: ChunkRef(*next_ref) }
    });
    chunks.collect()
}

fn write(model: &Model) -> (Vec<u8>, Vec<(Labels, Vec<ChunkMeta>)>) {
    let symbols: BTreeSet<&str> = model.keys().flat_map(Labels::iter).flat_map(|(name, value)| [name, value]).collect();
    let mut writer = Writer::create(Vec::new(), Symbols::from_sorted(symbols)).unwrap();
    let (mut expected, mut next_ref) = (Vec::new(), 0);
    for (labels, chunks) in model {
        let metas = metas(chunks, &mut next_ref);
        writer.add_labels(labels, &metas).unwrap();
        expected.push((labels.clone(), metas));
    }
    (writer.finish().unwrap().1, expected)
}

fn read<S: Source>(source: S) -> Result<Vec<(Labels, Vec<ChunkMeta>)>, Error> {
    let reader = Reader::open(source)?;
    let (mut scan, mut series, mut found) = (reader.series(), Series::default(), Vec::new());
    while scan.next(&mut series)? {
        found.push((series.labels(reader.symbols()), series.chunks.clone()));
    }
    Ok(found)
}

/// The labels of the series in each postings list.
fn lists<S: Source>(source: S) -> Result<BTreeMap<(String, String), Vec<Labels>>, Error> {
    let reader = Reader::open(source)?;
    let table = reader.offset_table()?;
    let mut lists = BTreeMap::new();
    let names: Vec<String> = table.label_names().map(str::to_owned).collect();
    for name in names {
        for value in reader.label_values(&table, &name)? {
            let (mut refs, mut series, mut labels) = (Vec::new(), Series::default(), Vec::new());
            reader.postings(&table, (&name, &value), &mut refs)?;
            for series_ref in refs {
                reader.series_at(SeriesRef(u64::from(series_ref)), &mut series)?;
                labels.push(series.labels(reader.symbols()));
            }
            lists.insert((name.clone(), value), labels);
        }
    }
    Ok(lists)
}

proptest! {
    #[test]
    fn what_was_written_is_read(model in model()) {
        let (bytes, expected) = write(&model);
        prop_assert_eq!(read(bytes.as_slice()).unwrap(), expected);
        let mut by_label: BTreeMap<(String, String), Vec<Labels>> = BTreeMap::new();
        for labels in model.keys() {
            for (name, value) in labels.iter() {
                by_label.entry((name.to_owned(), value.to_owned())).or_default().push(labels.clone());
            }
        }
        prop_assert_eq!(lists(bytes.as_slice()).unwrap(), by_label);
    }

    #[test]
    fn damage_is_noticed_wherever_it_is_read(model in model(), at: prop::sample::Index, flip in 1u8..) {
        let (sound, expected) = write(&model);
        let mut bytes = sound.clone();
        bytes[at.index(sound.len())] ^= flip;
        if let Ok(found) = read(bytes.as_slice()) {
            prop_assert_eq!(found, expected);
        }
        if let Ok(found) = lists(bytes.as_slice()) {
            prop_assert_eq!(found, lists(sound.as_slice()).unwrap());
        }
    }

    #[test]
    fn bytes_that_are_no_index_never_panic(mut bytes in vec(any::<u8>(), 0..600), checksum: bool) {
        if checksum && bytes.len() > 60 {
            // A table of contents with offsets that point anywhere and a checksum that is right.
            bytes[..5].copy_from_slice(&[0xba, 0xaa, 0xd7, 0x00, 2]);
            let (toc, len) = (bytes.len() - 52, bytes.len());
            for part in 0..6 {
                bytes[toc + 8 * part..][..6].fill(0);
            }
            let stored = crate::codec::section::checksum(&bytes[toc..len - 4]);
            bytes[len - 4..].copy_from_slice(&stored.to_be_bytes());
        }
        let read = read(bytes.as_slice()).is_ok() && lists(bytes.as_slice()).is_ok();
        let header = header::Reader::open(bytes.as_slice()).is_ok();
        prop_assert!(bytes.len() > 60 || !(read || header));
    }

    #[test]
    fn a_file_is_read_as_memory_is(model in model()) {
        let (bytes, expected) = write(&model);
        let path = std::env::temp_dir().join(format!("uru-index-property-{}", std::process::id()));
        std::fs::write(&path, &bytes).unwrap();
        let found = read(FileSource::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        prop_assert_eq!(found.unwrap(), expected);
    }
}
