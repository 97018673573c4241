//! Series written to a block of chunk files and an index, and opened again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use engine::batch::{SampleBatch, SeriesSamples};
use engine::block::writer::{BlockWriter, ChunkData};
use engine::block::{BlockInfo, ChunkSource, OpenedBlock, Segments};
use engine::bucket::Meta;
use engine::bucket::meta::source;
use engine::chunk::native::Appender;
use engine::chunk::{Encoding, segment, xor};
use engine::compact::Target;
use engine::index::{ChunkMeta, column, tsdb};
use engine::model::{BlockId, ChunkRef, FloatHistogram, Labels, Resolution};

/// Samples of a float chunk at most: Prometheus' figure.
const CHUNK_SAMPLES: usize = 120;

/// A block whose chunks lie in a file of their own, which goes with it.
#[derive(Debug)]
pub struct WrittenBlock {
    folder: PathBuf,
    /// The opened block.
    pub block: Arc<OpenedBlock>,
}

impl Drop for WrittenBlock {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A chunk with the times of its first and last sample.
pub struct Chunk {
    /// Unix milliseconds of the first sample.
    pub min_time: i64,
    /// Unix milliseconds of the last sample.
    pub max_time: i64,
    /// How `data` is encoded.
    pub encoding: Encoding,
    /// The chunk's data.
    pub data: Vec<u8>,
}

/// Chunks of one series as a block's writer takes them.
pub fn chunk_data(chunks: &[Chunk]) -> Vec<ChunkData<'_>> {
    let borrowed = chunks.iter().map(|chunk| ChunkData {
        min_time: chunk.min_time,
        max_time: chunk.max_time,
        encoding: chunk.encoding,
        data: &chunk.data,
    });
    borrowed.collect()
}

/// A block without external labels that is made in the folder `parent`, of the same identity each time.
pub fn target(parent: &Path) -> Target {
    let (labels, extensions) = (BTreeMap::new(), serde_json::Value::Null);
    let id = BlockId::from_parts(1_800_000_000_000, 1);
    Target { parent: parent.to_owned(), id, labels, extensions, source: source::COMPACTOR }
}

impl WrittenBlock {
    /// Writes the series of `batch` that have samples, and opens them. Start timestamps are lost.
    pub fn new(batch: &SampleBatch) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("uru-tests-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut series: Vec<_> = batch.iter().filter(|series| !chunks_of(series).is_empty()).collect();
        series.sort_by(|left, right| left.labels.cmp(right.labels));
        let mut bytes = segment::MAGIC.to_vec();
        bytes.extend_from_slice(&[segment::VERSION, 0, 0, 0]);
        let symbols: BTreeSet<&str> =
            series.iter().flat_map(|series| series.labels.iter().flat_map(|(name, value)| [name, value])).collect();
        let mut index = tsdb::Writer::create(Vec::new(), tsdb::Symbols::from_sorted(symbols)).unwrap();
        let (mut min_time, mut max_time) = (i64::MAX, i64::MIN);
        for series in &series {
            let mut metas = Vec::new();
            for chunk in chunks_of(series) {
                let chunk_ref = ChunkRef::new(0, bytes.len() as u32);
                segment::encode(chunk.encoding, &chunk.data, &mut bytes);
                metas.push(ChunkMeta { min_time: chunk.min_time, max_time: chunk.max_time, chunk_ref });
                min_time = min_time.min(chunk.min_time);
                max_time = max_time.max(chunk.max_time + 1);
            }
            index.add_labels(series.labels, &metas).unwrap();
        }
        let (written, index) = index.finish().unwrap();
        let path = folder.join("000001");
        fs::write(&path, &bytes).unwrap();
        let index = tsdb::Reader::open(index).unwrap();
        let columns = column::build_in_memory(&index).unwrap();
        let index = column::Reader::from_bytes(columns, column::Check::Everything).unwrap();
        let info = BlockInfo {
            id: BlockId::from_parts(1, u128::from(number)),
            min_time: min_time.min(max_time),
            max_time,
            resolution: Resolution::RAW,
            series: written.series,
            external_labels: Labels::default(),
        };
        let block = OpenedBlock::new(info, Arc::new(index), ChunkSource::Local(Segments::new([path])));
        Self { folder, block: Arc::new(block) }
    }
}

/// Writes the series of `batch` that have samples as the block `id` of `bucket`, without external
/// labels; whether there are any. Start timestamps are lost.
pub fn write_block(bucket: &Path, id: BlockId, batch: &SampleBatch) -> bool {
    let mut series: Vec<_> = batch.iter().map(|series| (series.labels, chunks_of(&series))).collect();
    series.retain(|(_, chunks)| !chunks.is_empty());
    series.sort_by(|left, right| left.0.cmp(right.0));
    let symbols: BTreeSet<&str> =
        series.iter().flat_map(|(labels, _)| labels.iter().flat_map(|(name, value)| [name, value])).collect();
    let mut writer = BlockWriter::create(bucket, id, tsdb::Symbols::from_sorted(symbols)).unwrap();
    for (labels, chunks) in &series {
        writer.add_labels(labels, &chunk_data(chunks)).unwrap();
    }
    let Some(range) = writer.time_range() else { return false };
    let meta = serde_json::json!({
        "ulid": id.to_string(), "minTime": range.min_time, "maxTime": range.max_time + 1, "version": 1,
        "compaction": {"level": 1, "sources": [id.to_string()]},
        "thanos": {"version": 1, "labels": {}, "downsample": {"resolution": 0}, "source": "sidecar"},
    });
    writer.finish(Meta::parse(meta.to_string().as_bytes()).unwrap()).unwrap();
    true
}

/// The samples of a series as chunks, each of one kind.
fn chunks_of(series: &SeriesSamples<'_>) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let (mut float, mut histogram) = (0, 0);
    let next = |times: &[i64], at: usize| times.get(at).copied().unwrap_or(i64::MAX);
    while float < series.timestamps.len() || histogram < series.histogram_timestamps.len() {
        let limit = next(series.histogram_timestamps, histogram);
        let floats = series.timestamps[float..].iter().take(CHUNK_SAMPLES).take_while(|time| **time < limit).count();
        if floats > 0 {
            chunks.push(float_chunk(series, float..float + floats));
            float += floats;
            continue;
        }
        let limit = next(series.timestamps, float);
        let rest = &series.histogram_timestamps[histogram..];
        let histograms = rest.iter().take_while(|time| **time < limit).count();
        histogram_chunks(series, histogram..histogram + histograms, &mut chunks);
        histogram += histograms;
    }
    chunks
}

fn float_chunk(series: &SeriesSamples<'_>, range: std::ops::Range<usize>) -> Chunk {
    let mut data = Vec::new();
    let times = &series.timestamps[range.clone()];
    xor::encode(times, &series.values[range], &mut data);
    Chunk { min_time: times[0], max_time: times[times.len() - 1], encoding: Encoding::Xor, data }
}

fn histogram_chunks(series: &SeriesSamples<'_>, range: std::ops::Range<usize>, chunks: &mut Vec<Chunk>) {
    let mut appender = Appender::<FloatHistogram>::default();
    let (mut min_time, mut max_time) = (0, 0);
    let encoding = Encoding::FloatHistogram;
    for at in range {
        let time = series.histogram_timestamps[at];
        if appender.is_empty() {
            min_time = time;
        }
        if let Some(data) = appender.append(time, &series.histograms[at]) {
            chunks.push(Chunk { min_time, max_time, encoding, data });
            min_time = time;
        }
        max_time = time;
    }
    chunks.push(Chunk { min_time, max_time, encoding, data: appender.into_data() });
}
