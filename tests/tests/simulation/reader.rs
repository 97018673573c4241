//! What a reader finds: through a store gateway that also sees the receiver's heads, as all-in-one does;
//! and block by block.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use engine::batch::SampleBatch;
use engine::bucket::Meta;
use engine::bucket::name;
use engine::chunk::aggr::{self, Aggregate};
use engine::chunk::{segment, xor};
use engine::index::tsdb::{FileSource, Reader, Series};
use engine::model::{BlockId, Error, FloatColumns, Matcher, TimeRange};
use engine::promql::blocks::{BlockSource, Scope};
use engine::promql::source::{Files, Hints, Part, SelectRequest, Source};
use engine::select::RemoteRange;
use engine::shard::{Fetcher as _, block_on};
use prometheus_client::registry::Registry;
use server::gateway::blocks::Syncer;
use server::gateway::fetch::BucketFetcher;
use server::gateway::load::Loader;
use server::gateway::{Blocks, StoreMetrics};
use server::objstore::Bucket;
use server::objstore::cache::Ranges;
use server::sync::{FetchOptions, Fetcher, Filters, SyncMetrics};

use crate::faulty::{objects, visible_samples, whole_blocks};
use crate::model::{Found, labels};
use crate::world::World;

/// Everything that a query for the metric finds in the bucket and, where there is one, in the receiver.
pub fn read(world: &World) -> Found {
    let mut registry = Registry::default();
    let bucket = Bucket::over(Arc::clone(&world.store) as _, "memory", &mut registry);
    let ranges = Ranges::direct(bucket.clone());
    let metrics = StoreMetrics::register(&mut registry, 0);
    let fetch = FetchOptions { data_dir: None, concurrency: 1 };
    let syncer = Syncer {
        fetcher: Fetcher::new(bucket.clone(), &fetch, SyncMetrics::register(&mut registry)),
        filters: Filters::all(),
        loader: Loader::new((bucket, ranges.clone()), world.reading_folder("store"), metrics.clone()),
        metrics,
    };
    let blocks = Blocks::default();
    world.runtime.block_on(syncer.sync_first(&blocks)).unwrap();
    let set = Arc::clone(&blocks.current().set);
    let fetcher = BucketFetcher::new(ranges, Arc::clone(&set));
    let fetch = move |ranges: &[RemoteRange]| block_on(fetcher.fetch(ranges.to_vec()));
    let scope = Scope { fetch: Some(Arc::new(fetch)), ..Scope::default() };
    let source: Box<dyn Source> = match &world.ingest {
        Some(ingest) => Box::new(ingest.source(None, scope).beside(set)),
        None => Box::new(BlockSource::new(set, scope)),
    };
    let (matchers, range) = ([Matcher::equal("__name__", "metric")], TimeRange::new(0, i64::MAX));
    let (hints, files) = (Hints::default(), Files::default());
    let request = SelectRequest { matchers: &matchers, range, extent: range, hints: &hints, part: Part::WHOLE, files };
    let mut found = BTreeMap::new();
    let mut sink = |batch: &mut SampleBatch| -> Result<(), Error> {
        for series in batch.iter() {
            assert_eq!(series.labels.get("receive"), Some("0"));
            let number = series.labels.get("series").unwrap().parse().unwrap();
            let samples = series.timestamps.iter().copied().zip(series.values.iter().copied()).collect();
            assert!(found.insert(number, samples).is_none(), "series {number} comes twice");
        }
        Ok(())
    };
    let selected = source.select(&request, &mut sink).unwrap();
    assert_eq!(selected.warnings, Vec::<String>::new());
    found
}

/// Holds the bucket's blocks to what was sent, each read by itself: no raw sample is in two blocks, and
/// what was downsampled counts every sample of the block that it was made of.
pub fn hold_blocks(world: &World) {
    let mut objects = world.runtime.block_on(objects(&world.store));
    let scratch = world.reading_folder("blocks");
    let metas = whole_blocks(&objects, &scratch);
    let (raw, downsampled): (Vec<&Meta>, Vec<&Meta>) = metas.values().partition(|meta| meta.resolution().0 == 0);
    for block in &downsampled {
        let own = raw.iter().find(|meta| meta.compaction.sources == block.compaction.sources);
        let Some(own) = own else { panic!("{} was made of no block that is there", block.ulid) };
        let (counted, samples) = (count(&scratch.join(block.ulid.to_string())), own.stats.num_samples);
        assert_eq!(counted, samples, "{} of {}", block.ulid, own.ulid);
    }
    assert!(!downsampled.is_empty(), "nothing was downsampled");
    let ids: Vec<BlockId> = downsampled.iter().map(|meta| meta.ulid).collect();
    objects.retain(|name, _| !ids.iter().any(|id| name.starts_with(&id.to_string())));
    let names: BTreeMap<String, u32> = (0..100).map(|series| (labels(series).to_string(), series)).collect();
    let mut found = Found::new();
    for (labels, time, bits) in visible_samples(&objects, &scratch) {
        found.entry(names[&labels]).or_default().push((time, f64::from_bits(bits)));
    }
    world.sender.hold(&found, "in the blocks, one by one");
}

/// How many raw samples a downsampled block says that it stands for.
fn count(dir: &Path) -> u64 {
    let index = Reader::open(FileSource::open(&dir.join(name::INDEX)).unwrap()).unwrap();
    let (mut scan, mut series, mut counted) = (index.series(), Series::default(), 0.0);
    while scan.next(&mut series).unwrap() {
        for chunk in &series.chunks {
            let path = dir.join(name::CHUNKS).join(name::segment_name(chunk.chunk_ref.segment()));
            let bytes = fs::read(path).unwrap();
            let chunk = segment::read_at(&bytes, 0, u64::from(chunk.chunk_ref.offset())).unwrap();
            let counts = aggr::split(chunk.data).unwrap().get(Aggregate::Count).unwrap();
            let mut columns = FloatColumns::default();
            xor::decode(counts.data, &mut columns).unwrap();
            counted += columns.values.iter().sum::<f64>();
        }
    }
    counted as u64
}
