//! Downsampling of chunks that no recorded block holds.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use engine::block::writer::BlockWriter;
use engine::bucket::Meta;
use engine::bucket::meta::Thanos;
use engine::chunk::{Encoding, native};
use engine::compact::source::Malformed;
use engine::compact::{DownsampleOptions, SourceBlock, Unwatched, downsample};
use engine::index::tsdb::Symbols;
use engine::model::histogram::CUSTOM_BUCKETS_SCHEMA;
use engine::model::value::stale_nan;
use engine::model::{BlockId, Error, Histogram, Labels, Resolution, Span};
use tests::scratch::Scratch;
use tests::written::{Chunk, chunk_data, target};

const STEP_MS: i64 = 30_000;

/// A chunk of `make`'s histograms, from number `from` on.
fn chunk(from: i64, len: i64, make: impl Fn(i64) -> Histogram) -> Chunk {
    let mut appender = native::Appender::default();
    for at in from..from + len {
        assert!(appender.append(at * STEP_MS, &make(at)).is_none());
    }
    let (min_time, max_time) = (from * STEP_MS, (from + len - 1) * STEP_MS);
    Chunk { min_time, max_time, encoding: Encoding::Histogram, data: appender.into_data() }
}

fn custom(at: i64) -> Histogram {
    Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 3 * at as u64,
        sum: at as f64,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![at, at],
        custom_values: Arc::from([1.0, 5.0]),
        ..Histogram::default()
    }
}

/// The segment of a block of one series with these chunks, downsampled to five minutes.
fn downsampled(chunks: &[Chunk]) -> Vec<u8> {
    let scratch = Scratch::new("downsampling");
    let block = written(&scratch.0, chunks, 1);
    to_five_minutes(&scratch.0, block, Malformed::Refuse).unwrap()
}

/// A block of one series with these chunks, which ends `room` milliseconds behind the last sample.
fn written(parent: &Path, chunks: &[Chunk], room: i64) -> SourceBlock {
    let id = BlockId::from_parts(1_700_000_000_000, 1);
    let mut writer = BlockWriter::create(parent, id, Symbols::from_sorted(["a", "b"])).unwrap();
    writer.add_labels(&Labels::from_pairs([("a", "b")]), &chunk_data(chunks)).unwrap();
    let range = writer.time_range().unwrap();
    let meta = Meta { thanos: Some(Thanos::default()), ..Meta::new(id, range.min_time, range.max_time + room) };
    writer.finish(meta).unwrap();
    SourceBlock::open(&parent.join(id.to_string())).unwrap()
}

fn to_five_minutes(parent: &Path, block: SourceBlock, malformed: Malformed) -> Result<Vec<u8>, Error> {
    let (target, options) = (target(parent), DownsampleOptions { malformed, ..DownsampleOptions::default() });
    downsample(block, Resolution::FIVE_MINUTES, &target, &options, &Unwatched)?;
    Ok(fs::read(parent.join(target.id.to_string()).join("chunks/000001")).unwrap())
}

#[test]
fn a_block_whose_index_is_not_sound_is_refused_unless_it_is_accepted_by_name() {
    let scratch = Scratch::new("downsampling-unsound");
    let chunks = [chunk(0, 90, custom)];
    let block = written(&scratch.0, &chunks, -STEP_MS);
    let error = to_five_minutes(&scratch.0, block, Malformed::Refuse).unwrap_err();
    let wanted = "1 chunks are partly outside the block time range";
    assert!(error.message().starts_with("input block index not valid: block 01"), "{error}");
    assert!(error.message().ends_with(wanted), "{error}");
    let names = || fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(names().len(), 1, "nothing is left of what was made: {:?}", names());
    let block = written(&scratch.0.join("accepted"), &chunks, -STEP_MS);
    to_five_minutes(&scratch.0, block, Malformed::Accept).unwrap();
}

#[test]
fn a_chunk_of_stale_markers_does_not_part_the_histograms_around_it() {
    let (len, pause) = (90, 2);
    let stale = |_| Histogram { sum: stale_nan(), ..Histogram::default() };
    let parts = || (chunk(0, len, custom), chunk(len + pause, len, custom));
    let (before, behind) = parts();
    let alone = downsampled(&[before, behind]);
    for (kind, marked) in [("between", 1), ("first", 0), ("last", 2)] {
        let (before, behind) = parts();
        let mut chunks = vec![before, behind];
        let from = [-pause, len, 2 * len + pause][marked];
        chunks.insert(marked, chunk(from, pause, stale));
        assert!(downsampled(&chunks) == alone, "stale markers {kind}");
    }
}
