//! The column index against naive answers, on random label sets and on golden blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::build::Builder;
use super::*;
use crate::codec::varint;
use crate::index::tsdb::{self, FileSource, SymbolRef, Symbols, Version};
use crate::index::{BlockIndex, ChunkColumns, ChunkMeta, HeaderIndex, SeriesLabels, header};
use crate::model::{ChunkRef, ErrorKind, Labels, MatchKind, Matcher, SeriesRef, TimeRange};
use crate::postings::Ordinals;

type Series = (Labels, Vec<ChunkMeta>);

fn symbols<'a>(texts: impl Iterator<Item = &'a str>) -> Symbols {
    let texts: BTreeSet<&str> = texts.collect();
    let mut content = (texts.len() as u32).to_be_bytes().to_vec();
    for text in texts {
        varint::encode_u64(text.len() as u64, &mut content);
        content.extend_from_slice(text.as_bytes());
    }
    Symbols::decode(&content, 0, Version::V2).unwrap()
}

fn index_bytes(series: &[Series]) -> Vec<u8> {
    let symbols = symbols(series.iter().flat_map(|(labels, _)| labels.iter().flat_map(|(name, value)| [name, value])));
    let place = |text| symbols.find(text).unwrap_or(SymbolRef(0));
    let mut builder = Builder::default();
    for (at, (labels, chunks)) in series.iter().enumerate() {
        let labels = labels.iter().map(|(name, value)| (place(name), place(value))).collect();
        let series_ref = SeriesRef(at as u64);
        builder.push(&tsdb::Series { series_ref, labels, chunks: chunks.clone(), entry_len: 0 }).unwrap();
    }
    let mut bytes = Vec::new();
    builder.finish(&symbols, &mut bytes).unwrap();
    bytes
}

fn labels_of(index: &dyn BlockIndex, ordinal: u32, buffer: &mut SeriesLabels) -> Labels {
    index.labels(ordinal, buffer).unwrap();
    Labels::from_sorted(buffer.iter())
}

fn naive_select(series: &[Series], matchers: &[Matcher]) -> Vec<u32> {
    let holds =
        |labels: &Labels| matchers.iter().all(|matcher| matcher.matches(labels.get(matcher.name()).unwrap_or("")));
    (0..series.len()).filter(|at| holds(&series[*at].0)).map(|at| at as u32).collect()
}

fn naive_chunks(chunks: &[ChunkMeta], range: TimeRange) -> Vec<ChunkMeta> {
    let overlaps = |chunk: &&ChunkMeta| range.overlaps(TimeRange::new(chunk.min_time, chunk.max_time));
    chunks.iter().filter(overlaps).copied().collect()
}

/// Everything that can be asked, compared with what the list of series says.
fn compare(index: &dyn BlockIndex, series: &[Series], matchers: &[Vec<Matcher>]) {
    let extension = |pair: &[Series]| {
        let (before, here) = (&pair[0].0, &pair[1].0);
        let goes_on = before.len() < here.len() && before.iter().eq(here.iter().take(before.len()));
        here.iter().nth(before.len()).filter(|_| goes_on).map(|(name, _)| name.to_owned())
    };
    let ordinals = index.all().unwrap().into_list();
    assert_eq!(index.least_extension(&ordinals).unwrap(), series.windows(2).filter_map(extension).min());
    assert_eq!(ordinals.len(), series.len());
    let mut buffer = SeriesLabels::default();
    for (ordinal, (labels, _)) in ordinals.iter().zip(series) {
        assert_eq!(&labels_of(index, *ordinal, &mut buffer), labels, "series {ordinal}");
    }
    for matchers in matchers {
        let expected: Vec<u32> = naive_select(series, matchers).into_iter().map(|at| ordinals[at as usize]).collect();
        let found = index.select(matchers, &|| Ok(())).unwrap();
        assert_eq!(found.clone().into_list(), expected, "{matchers:?}");
        assert!(expected.is_empty() || index.may_match(matchers), "{matchers:?}");
        let series = ordinals.iter().copied().zip(series.iter().map(|(labels, _)| labels)).collect();
        compare_labels(index, &series, &found);
    }
    let times = series.iter().flat_map(|(_, chunks)| chunks.iter().map(|chunk| chunk.min_time));
    let middle = times.clone().min().zip(times.max()).map_or(0, |(low, high)| low.midpoint(high));
    for range in [TimeRange::ALL, TimeRange::new(middle, middle + 1000), TimeRange::new(1, 0)] {
        let mut chunks = ChunkColumns::default();
        index.chunks(&ordinals, range, &mut chunks).unwrap();
        for (at, (_, expected)) in series.iter().enumerate() {
            assert_eq!(chunks.of(at).0, naive_chunks(expected, range), "series {at}");
        }
    }
}

fn compare_labels(index: &dyn BlockIndex, series: &BTreeMap<u32, &Labels>, within: &Ordinals) {
    let list = within.clone().into_list();
    let mut expected: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for ordinal in &list {
        for (name, value) in series[ordinal].iter() {
            expected.entry(name).or_default().insert(value);
        }
    }
    assert_eq!(index.label_names(Some(within)).unwrap(), expected.keys().copied().collect::<Vec<_>>());
    for (name, values) in expected {
        assert!(index.label_values(name, Some(within), usize::MAX).unwrap().iter().eq(values));
        let mut ids = Vec::new();
        index.value_ids(name, &list, &mut ids).unwrap();
        for (ordinal, id) in list.iter().zip(ids) {
            let mut value = String::new();
            index.append_value(name, id, &mut value).unwrap();
            assert_eq!(value, series[ordinal].get(name).unwrap_or(""));
        }
    }
}

fn series() -> impl Strategy<Value = Vec<Series>> {
    let labels = prop::collection::btree_map("[a-d]", "[xyz]{1,2}|[\\u{e9}x]", 0..5);
    let chunk = (0..1000i64, 0..5000i64, 1..3000u64);
    let one = (labels, prop::collection::vec(chunk, 0..5));
    prop::collection::vec(one, 0..300).prop_map(|all| {
        let mut place = 8;
        let sorted: BTreeMap<Labels, Vec<(i64, i64, u64)>> =
            all.into_iter().map(|(labels, chunks)| (Labels::from_pairs(labels), chunks)).collect();
        let chunks_of = |chunks: Vec<(i64, i64, u64)>| {
            let mut time = -1000;
            let next = |(gap, duration, len): (i64, i64, u64)| {
                let meta =
                    ChunkMeta { min_time: time + gap, max_time: time + gap + duration, chunk_ref: ChunkRef(place) };
                time = meta.max_time;
                place += len;
                meta
            };
            chunks.into_iter().map(next).collect()
        };
        let mut chunks_of = chunks_of;
        sorted.into_iter().map(|(labels, chunks)| (labels, chunks_of(chunks))).collect()
    })
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let plain = ("[a-e]", "[xyz]{0,2}", prop_oneof![Just(MatchKind::Eq), Just(MatchKind::NotEq)]);
    let pattern = prop_oneof![
        "[xyz]{1,2}",
        "[xyz]\\|[xyz]{0,2}",
        "[xyz]\\.\\*",
        "\\.\\*[xyz]",
        Just("".to_owned()),
        Just(".*".to_owned()),
        Just(".+".to_owned()),
        Just("x?".to_owned()),
        Just("[^x]+".to_owned()),
    ];
    let regexp = ("[a-e]", pattern, prop_oneof![Just(MatchKind::Re), Just(MatchKind::NotRe)]);
    let make = |(name, value, kind): (String, String, MatchKind)| Matcher::new(kind, name, value).unwrap();
    prop_oneof![plain.prop_map(make), regexp.prop_map(make)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_blocks_are_answered_as_the_list_of_series_says(
        series in series(),
        matchers in prop::collection::vec(prop::collection::vec(matcher(), 0..4), 1..20),
    ) {
        let index = Reader::from_bytes(index_bytes(&series), Check::Everything).unwrap();
        compare(&index, &series, &matchers);
    }

    #[test]
    fn a_damaged_file_is_an_error_or_answers_something(
        series in series(),
        matchers in prop::collection::vec(matcher(), 0..3),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = index_bytes(&series);
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Err(error) = Reader::from_bytes(bytes.clone(), Check::Everything) {
            prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        if let Ok(index) = Reader::from_bytes(bytes, Check::OnFirstUse) {
            ask_everything(&index, &matchers);
        }
    }

    #[test]
    fn a_wrong_byte_under_a_right_checksum_is_an_error_or_answers_something(
        series in series(),
        matchers in prop::collection::vec(matcher(), 0..3),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let bytes = index_bytes(&series);
        for (section, at, byte) in damage {
            if let Ok(index) = Reader::from_bytes(resigned(&bytes, section, (at, byte)), Check::OnFirstUse) {
                ask_everything(&index, &matchers);
            }
        }
    }
}

/// The file with one byte of one section changed, and checksums that are right again.
fn resigned(bytes: &[u8], at: prop::sample::Index, byte: (prop::sample::Index, u8)) -> Vec<u8> {
    let toc = layout::Toc::decode(bytes).unwrap();
    let mut writer = layout::Writer::new(Vec::new()).unwrap();
    let chosen = at.index(toc.sections.len());
    for (number, section) in toc.sections.iter().enumerate() {
        let mut content = bytes[section.range.clone()].to_vec();
        if number == chosen && !content.is_empty() {
            *byte.0.get_mut(&mut content) = byte.1;
        }
        writer.section(section.kind, section.label, &content).unwrap();
    }
    writer.finish(toc.series, toc.chunks).unwrap().0
}

/// Asks without looking at the answers.
fn ask_everything(index: &Reader, matchers: &[Matcher]) {
    let found = index.select(matchers, &|| Ok(())).unwrap_or(Ordinals::empty());
    let _ = index.label_names(Some(&found));
    let _ = index.label_values("a", Some(&found), 10);
    let mut buffer = SeriesLabels::default();
    for ordinal in 0..index.series_count().min(1000) {
        let _ = index.labels(ordinal, &mut buffer);
        let _ = index.chunks(&[ordinal], TimeRange::ALL, &mut ChunkColumns::default());
    }
    for name in ["a", "b", "c", "d"] {
        let _ = index.select(&[Matcher::new(MatchKind::Re, name, ".+").unwrap()], &|| Ok(()));
        let _ = index.select(&[Matcher::new(MatchKind::NotRe, name, "x.*").unwrap()], &|| Ok(()));
        let _ = index.label_values(name, None, usize::MAX);
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_and_its_section_named() {
    let labels = |at: usize| Labels::from_pairs([("__name__", format!("m{}", at / 100)), ("pod", format!("p{at:04}"))]);
    let chunk =
        |at: usize| ChunkMeta { min_time: at as i64, max_time: at as i64 + 9, chunk_ref: ChunkRef(8 + 50 * at as u64) };
    let series: Vec<Series> = (0..300).map(|at| (labels(at), vec![chunk(at)])).collect();
    let sound = index_bytes(&series);
    compare(&Reader::from_bytes(sound.clone(), Check::Everything).unwrap(), &series, &[Vec::new()]);
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        match Reader::from_bytes(bytes, Check::Everything) {
            // Bytes that mean nothing: reserved ones and those between sections.
            Ok(index) => compare(&index, &series, &[]),
            Err(error) => assert!(error.message().contains("column index, "), "{error}"),
        }
    }
}

#[test]
fn chunks_that_do_not_lie_in_the_order_of_the_index_have_their_lengths() {
    let chunk = |place| ChunkMeta { min_time: 0, max_time: 1, chunk_ref: ChunkRef(place) };
    let labels = |value: &str| Labels::from_pairs([("a", value)]);
    let last = (1 << 32) + 8;
    let series = [(labels("1"), vec![chunk(108)]), (labels("2"), vec![chunk(8), chunk(last)])];
    let index = Reader::from_bytes(index_bytes(&series), Check::Everything).unwrap();
    let mut chunks = ChunkColumns::default();
    index.chunks(&[0, 1], TimeRange::ALL, &mut chunks).unwrap();
    assert_eq!(chunks.lens, [0, 100, 0]);
    let ordered = [(labels("1"), vec![chunk(8), chunk(108)]), (labels("2"), vec![chunk(158), chunk(last)])];
    let index = Reader::from_bytes(index_bytes(&ordered), Check::Everything).unwrap();
    chunks.clear();
    index.chunks(&[0, 1], TimeRange::ALL, &mut chunks).unwrap();
    assert_eq!(chunks.lens, [100, 50, 0, 0]);
}

#[test]
fn an_empty_value_is_answered_and_counts_as_no_label() {
    let symbols = symbols(["", "a", "b", "x", "y"].into_iter());
    let place = |text: &str| symbols.find(text).unwrap();
    let mut builder = Builder::default();
    for (at, labels) in [[("a", ""), ("b", "x")], [("a", "y"), ("b", "x")]].into_iter().enumerate() {
        let labels = labels.into_iter().map(|(name, value)| (place(name), place(value))).collect();
        let series_ref = SeriesRef(at as u64);
        builder.push(&tsdb::Series { series_ref, labels, chunks: Vec::new(), entry_len: 0 }).unwrap();
    }
    let mut bytes = Vec::new();
    builder.finish(&symbols, &mut bytes).unwrap();
    let index = Reader::from_bytes(bytes, Check::Everything).unwrap();
    let mut labels = SeriesLabels::default();
    index.labels(0, &mut labels).unwrap();
    assert!(labels.iter().eq([("a", ""), ("b", "x")]));
    assert!(index.label_values("a", None, usize::MAX).unwrap().iter().eq(["", "y"]));
    let cases: [(MatchKind, &str, &[u32]); 6] = [
        (MatchKind::Eq, "", &[0]),
        (MatchKind::NotEq, "", &[1]),
        (MatchKind::Re, ".+", &[1]),
        (MatchKind::NotRe, ".+", &[0]),
        (MatchKind::Re, "y|", &[0, 1]),
        (MatchKind::NotEq, "y", &[0]),
    ];
    for (kind, value, expected) in cases {
        let found = index.select(&[Matcher::new(kind, "a", value).unwrap()], &|| Ok(())).unwrap();
        assert_eq!(found.into_list(), expected, "{kind:?} {value:?}");
    }
}

fn golden_indexes() -> Vec<PathBuf> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden"));
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == "index" {
                found.push(entry.path());
            }
        }
    }
    if found.is_empty() {
        assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "{} is not there", root.display());
        eprintln!("SKIPPED: {} is not there", root.display());
    }
    found
}

fn read_series<S: tsdb::Source>(index: &tsdb::Reader<S>) -> Vec<Series> {
    let (mut scan, mut series, mut all) = (index.series(), tsdb::Series::default(), Vec::new());
    while scan.next(&mut series).unwrap() {
        all.push((series.labels(index.symbols()), series.chunks.clone()));
    }
    all
}

fn golden_matchers(series: &[Series]) -> Vec<Vec<Matcher>> {
    let of = |kind, name: &str, value: &str| Matcher::new(kind, name, value).unwrap();
    let mut all = vec![Vec::new(), vec![of(MatchKind::NotEq, "le", "")], vec![of(MatchKind::Re, "pod", ".*")]];
    for (labels, _) in series.iter().step_by(series.len().div_ceil(5).max(1)) {
        let each = |kind| labels.iter().map(|(name, value)| of(kind, name, value)).collect::<Vec<_>>();
        all.push(each(MatchKind::Eq));
        all.extend(each(MatchKind::Eq).into_iter().map(|matcher| vec![matcher]));
        all.extend(each(MatchKind::NotEq).into_iter().map(|matcher| vec![matcher]));
        for (name, value) in labels.iter() {
            let half: String =
                value.chars().take(value.chars().count() / 2).filter(char::is_ascii_alphanumeric).collect();
            all.push(vec![of(MatchKind::Re, name, &format!("{half}.*")), of(MatchKind::NotRe, "le", "0.*|")]);
            all.push(vec![of(MatchKind::NotRe, name, &format!(".*{half}.*")), of(MatchKind::Eq, "code", "")]);
            all.push(vec![of(MatchKind::Re, name, &format!("{half}|{half}x|")), of(MatchKind::Re, "pod", "svc-0.+")]);
        }
    }
    all
}

#[test]
fn golden_blocks_are_answered_as_their_tsdb_index_says() {
    for path in golden_indexes() {
        let index = tsdb::Reader::open(FileSource::open(&path).unwrap()).unwrap();
        let series = read_series(&index);
        let bytes = build_in_memory(&index).unwrap();
        let column = Reader::from_bytes(bytes, Check::Everything).unwrap();
        compare(&column, &series, &golden_matchers(&series));
    }
}

#[test]
fn golden_blocks_are_answered_through_their_index_header_as_well() {
    for path in golden_indexes() {
        let file = FileSource::open(&path).unwrap();
        let mut header = Vec::new();
        header::write(&file, &mut header).unwrap();
        let series = read_series(&tsdb::Reader::open(FileSource::open(&path).unwrap()).unwrap());
        let index = HeaderIndex::new(header::Reader::open(header).unwrap(), file);
        let mut matchers = golden_matchers(&series);
        matchers.truncate(40);
        compare(&index, &series, &matchers);
    }
}

#[test]
fn a_built_file_is_opened_and_takes_less_than_half_of_the_tsdb_index() {
    for path in golden_indexes().iter().filter(|path| path.components().any(|part| part.as_os_str() == "k8s")) {
        let index = tsdb::Reader::open(FileSource::open(path).unwrap()).unwrap();
        let target = std::env::temp_dir().join(format!("uru-column-index-{}", std::process::id()));
        let built = build(&index, &target).unwrap();
        let column = Reader::open(&target, Check::OnFirstUse).unwrap();
        assert_eq!(column.series_count(), built.series);
        assert_eq!(column.chunk_count(), built.chunks);
        let (ours, theirs) = (std::fs::metadata(&target).unwrap().len(), std::fs::metadata(path).unwrap().len());
        assert_eq!(ours, built.file_bytes);
        assert!(2 * ours < theirs, "{ours} bytes for a TSDB index of {theirs}");
        std::fs::remove_file(target).unwrap();
    }
}

/// A mapping for each of many small files would use up what the kernel gives to a process.
#[test]
fn a_small_file_is_held_in_memory_and_a_large_one_mapped() {
    for (count, is_held) in [(1, true), (20_000, false)] {
        let labels = (0..count).map(|at| Labels::from_pairs([("a", format!("{at:08}"))]));
        let bytes = index_bytes(&labels.map(|labels| (labels, Vec::new())).collect::<Vec<Series>>());
        let path = std::env::temp_dir().join(format!("uru-column-index-{}-{count}", std::process::id()));
        std::fs::write(&path, &bytes).unwrap();
        let index = Reader::open(&path, Check::Everything).unwrap();
        assert_eq!(index.series_count(), count);
        assert_eq!(index.heap_bytes() >= bytes.len(), is_held, "{} of {} bytes", index.heap_bytes(), bytes.len());
        std::fs::remove_file(path).unwrap();
    }
}
