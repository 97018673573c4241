//! Building the column index of a million series, its size and peak memory, and asking it.

use std::fs::{self, File};
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use bench::folder::Folder;
use bench::{fleet, sized};
use criterion::{Criterion, criterion_group};
use engine::index::column::{self, Check};
use engine::index::tsdb::{self, FileSource};
use engine::index::{BlockIndex, ChunkColumns, SeriesLabels};
use engine::model::{MatchKind, Matcher, TimeRange};
use engine::postings::Ordinals;

const SERIES: usize = 1_000_000;

/// Series whose labels, chunks and values are asked for.
const ASKED: usize = 100_000;

/// Names the variable that tells the process to write the TSDB index there, and nothing else.
const WRITE_TO: &str = "URU_BENCH_WRITE_INDEX_TO";

/// Names the variable that tells of how many series.
const SERIES_OF: &str = "URU_BENCH_INDEX_SERIES";

/// KiB that `/proc/self/status` gives for `key`; 0 where there is no such file.
fn status_kib(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Seconds that this thread has run.
fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_ascii_whitespace().next().and_then(|first| first.parse::<u64>().ok());
    nanoseconds.unwrap_or(0) as f64 / 1e9
}

fn build(criterion: &mut Criterion) {
    let folder = Folder::new("index");
    let (tsdb_path, column_path) = (folder.file("index"), folder.file("column-index"));
    // Another process writes it, so that the generator's memory isn't taken for the builder's.
    let own = std::env::current_exe().expect("the bench knows its own file");
    let wrote = Command::new(own).env(WRITE_TO, &tsdb_path).env(SERIES_OF, sized(SERIES).to_string()).status();
    assert!(wrote.is_ok_and(|status| status.success()), "the index file can be made");
    let cpu_before = cpu_seconds();
    let built = build_once(&tsdb_path, &column_path);
    let cpu = cpu_seconds() - cpu_before;
    let peak = status_kib("VmHWM");
    let tsdb_bytes = fs::metadata(&tsdb_path).expect("the index file is there").len();
    let series = sized(SERIES);
    println!(
        "{series} series: TSDB index {tsdb_bytes} bytes, column index {} bytes ({:.1} %), built in {cpu:.2} s of CPU, {} MiB of \
         memory at the peak of the whole process",
        built.file_bytes,
        built.file_bytes as f64 * 100.0 / tsdb_bytes as f64,
        peak / 1024
    );
    let index = column::Reader::open(&column_path, Check::Everything).expect("the file is sound");
    print_sizes(&index);
    let mut group = criterion.benchmark_group("column index");
    group.sample_size(10).throughput(criterion::Throughput::Elements(series as u64));
    group.bench_function("build", |bencher| bencher.iter(|| build_once(&tsdb_path, &column_path)));
    group.bench_function("check", |bencher| {
        bencher.iter(|| column::Reader::open(&column_path, Check::Everything));
    });
    group.finish();
    ask(&index, criterion);
}

fn write(criterion: &mut Criterion) {
    let labels = fleet::labels(sized(20_000));
    let mut group = criterion.benchmark_group("tsdb index");
    group.throughput(criterion::Throughput::Elements(labels.len() as u64)).sample_size(10);
    group.bench_function("write", |bencher| {
        bencher.iter(|| fleet::write_index(&labels, Vec::new()).expect("an index"));
    });
    group.finish();
}

fn build_once(tsdb_path: &Path, column_path: &Path) -> column::Built {
    let index = tsdb::Reader::open(FileSource::open(tsdb_path).expect("the index file is there"));
    column::build(&index.expect("the index is sound"), column_path).expect("the column index can be built")
}

fn print_sizes(index: &column::Reader) {
    let mut sizes: Vec<(column::layout::Kind, usize)> = Vec::new();
    for (kind, bytes) in index.sizes() {
        match sizes.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, sum)) => *sum += bytes,
            None => sizes.push((kind, bytes)),
        }
    }
    sizes.iter().for_each(|(kind, bytes)| println!("  {}: {bytes} bytes", kind.name()));
}

fn ask(index: &column::Reader, criterion: &mut Criterion) {
    let of = |kind, name: &str, value: &str| Matcher::new(kind, name, value).expect("the matcher is sound");
    let questions = [
        ("one name", vec![of(MatchKind::Eq, "__name__", "queue_ratio_04")]),
        (
            "name and namespace",
            vec![of(MatchKind::Eq, "__name__", "process_bytes_00"), of(MatchKind::Eq, "namespace", "team-07")],
        ),
        (
            "name and a regexp of pods",
            vec![of(MatchKind::Eq, "__name__", "process_bytes_00"), of(MatchKind::Re, "pod", "svc-1.*-.*a")],
        ),
        ("not one namespace", vec![of(MatchKind::NotEq, "namespace", "team-07")]),
        ("36 %: all buckets", vec![of(MatchKind::Re, "__name__", "http_.*_bucket")]),
    ];
    let mut group = criterion.benchmark_group("select");
    for (name, matchers) in &questions {
        group.bench_function(*name, |bencher| bencher.iter(|| index.select(black_box(matchers), &|| Ok(()))));
    }
    group.finish();
    let all = BlockIndex::all(index).expect("all series are known").into_list();
    let some = &all[4 * sized(ASKED)..5 * sized(ASKED)];
    let mut group = criterion.benchmark_group("a tenth of all series");
    group.throughput(criterion::Throughput::Elements(some.len() as u64)).sample_size(20);
    group.bench_function("labels", |bencher| {
        let mut labels = SeriesLabels::default();
        bencher.iter(|| some.iter().filter(|ordinal| index.labels(**ordinal, &mut labels).is_ok()).count());
    });
    group.bench_function("chunks", |bencher| {
        let mut chunks = ChunkColumns::default();
        bencher.iter(|| {
            chunks.clear();
            index.chunks(some, TimeRange::ALL, &mut chunks)
        });
    });
    group.bench_function("value ids", |bencher| {
        let mut ids = Vec::new();
        bencher.iter(|| {
            ids.clear();
            index.value_ids("pod", some, &mut ids)
        });
    });
    group.finish();
    criterion.bench_function("label values/pod", |bencher| {
        bencher.iter(|| index.label_values("pod", None, usize::MAX));
    });
    let mut group = criterion.benchmark_group("label values with a matcher");
    let matcher = [of(MatchKind::Re, "__name__", "http_.*_bucket")];
    group.bench_function("pod", |bencher| {
        bencher.iter(|| {
            let series = index.select(&matcher, &|| Ok(())).unwrap_or(Ordinals::empty());
            index.label_values("pod", Some(&series), usize::MAX)
        });
    });
    group.finish();
}

criterion_group!(benches, build, write);

fn main() {
    if let Some(path) = std::env::var_os(WRITE_TO) {
        let out = File::create(path).expect("the index file can be made");
        let series = std::env::var(SERIES_OF).ok().and_then(|series| series.parse().ok()).unwrap_or(SERIES);
        return fleet::write_index(&fleet::labels(series), out).expect("the fleet's series ascend");
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
