//! The column index on disk: a file of each version that was ever written is kept, so that its format
//! does not change under the same version.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use engine::block::writer::{BlockWriter, ChunkData};
use engine::bucket::Meta;
use engine::chunk::{Encoding, xor};
use engine::index::column::layout::VERSION;
use engine::index::column::{self, Check};
use engine::index::tsdb::{FileSource, Reader, Symbols};
use engine::index::{BlockIndex, ChunkColumns, SeriesLabels};
use engine::model::{BlockId, Labels, Matcher, TimeRange};

const START: i64 = 1_700_000_000_000;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/column-index-v{VERSION}"))
}

/// Series enough for several frames, values enough for filters, a label that few series have, and one
/// series that goes on where another ends.
fn series() -> Vec<Labels> {
    let mut all: BTreeSet<Labels> = BTreeSet::new();
    for number in 0..200 {
        let pod = format!("pod-{number:03}");
        for code in ["200", "500"] {
            let pairs = [("__name__", "http_requests_total"), ("code", code), ("pod", pod.as_str())];
            all.insert(Labels::from_pairs(pairs));
        }
        all.insert(Labels::from_pairs([("__name__", "up"), ("pod", pod.as_str())]));
    }
    all.insert(Labels::from_pairs([("__name__", "up"), ("pod", "pod-007"), ("zone", "é\n")]));
    all.into_iter().collect()
}

/// A column index of `series`, each with two chunks.
fn built(folder: &Path) -> Vec<u8> {
    let all = series();
    let words: BTreeSet<&str> = all.iter().flat_map(Labels::iter).flat_map(|(name, value)| [name, value]).collect();
    let id = BlockId::from_parts(START as u64, 1);
    let symbols = Symbols::from_sorted(std::iter::once("").chain(words));
    let mut writer = BlockWriter::create(folder, id, symbols).unwrap();
    let (early, late): (Vec<i64>, Vec<i64>) =
        ((0..30).map(|at| START + at * 15_000).collect(), (30..61).map(|at| START + at * 15_000).collect());
    for (number, labels) in all.iter().enumerate() {
        let mut data = [Vec::new(), Vec::new()];
        for (times, data) in [&early, &late].into_iter().zip(&mut data) {
            let values: Vec<f64> = times.iter().map(|time| (time / 15_000 * number as i64) as f64).collect();
            xor::encode(times, &values, data);
        }
        let chunk = |times: &[i64], data| ChunkData {
            min_time: times[0],
            max_time: times[times.len() - 1],
            encoding: Encoding::Xor,
            data,
        };
        writer.add_labels(labels, &[chunk(&early, &data[0]), chunk(&late, &data[1])]).unwrap();
    }
    let text = format!(
        "{{\"ulid\": \"{id}\", \"minTime\": {START}, \"maxTime\": {}, \"version\": 1, \
         \"compaction\": {{\"level\": 1, \"sources\": [\"{id}\"]}}}}",
        late[30] + 1
    );
    writer.finish(Meta::parse(text.as_bytes()).unwrap()).unwrap();
    let index = Reader::open(FileSource::open(&folder.join(id.to_string()).join("index")).unwrap()).unwrap();
    column::build_in_memory(&index).unwrap()
}

#[test]
fn the_format_is_that_of_the_fixture_of_its_version() {
    let folder = std::env::temp_dir().join(format!("uru-column-index-{}", std::process::id()));
    let bytes = built(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
    if std::env::var_os("URU_WRITE_FIXTURES").is_some() {
        std::fs::write(fixture(), &bytes).unwrap();
    }
    let expected = std::fs::read(fixture()).unwrap_or_default();
    assert!(
        bytes == expected,
        "what is written as version {VERSION} differs from {}: raise layout::VERSION, so that files of the old \
         format are built anew, and write the new fixture with URU_WRITE_FIXTURES=1",
        fixture().display()
    );
}

#[test]
fn the_fixture_answers() {
    let index = column::Reader::open(&fixture(), Check::Everything).unwrap();
    let all = series();
    assert_eq!(index.series_count() as usize, all.len());
    let mut labels = SeriesLabels::default();
    for (ordinal, expected) in all.iter().enumerate() {
        index.labels(ordinal as u32, &mut labels).unwrap();
        assert_eq!(Labels::from_sorted(labels.iter()), *expected);
    }
    assert_eq!(index.label_names(None).unwrap(), ["__name__", "code", "pod", "zone"]);
    assert_eq!(index.least_extension(&[]).unwrap().as_deref(), Some("zone"));
    let found = index.select(&[Matcher::equal("pod", "pod-007")], &|| Ok(())).unwrap();
    assert!(index.label_values("code", Some(&found), 9).unwrap().iter().eq(["200", "500"]));
    let mut chunks = ChunkColumns::default();
    index.chunks(&found.into_list(), TimeRange::new(START, START + 1), &mut chunks).unwrap();
    assert_eq!((chunks.ends.as_slice(), chunks.metas[0].max_time), (&[1, 2, 3, 4][..], START + 29 * 15_000));
    assert!(!index.may_match(&[Matcher::equal("pod", "pod-999")]));
}
