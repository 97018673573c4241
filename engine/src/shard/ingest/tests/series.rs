//! Limits of series, of requests that are under way at once.

use std::task::{Context, Waker};

use super::*;

/// Each of them once had the room that was left before any of them came.
#[test]
fn requests_that_are_under_way_at_once_make_no_more_series_than_their_tenant_may_have() {
    let (folder, pool, tenant) = (Folder::new(), pool(2), tenant());
    let ingest = Ingest::open(&pool, folder.options()).unwrap();
    append(&ingest, 5, STEP).unwrap();
    let limits = WriteLimits { series_max: 8 };
    let write = |first: u32, limits: WriteLimits| {
        let mut batch = WriteBatch::new();
        for at in first..first + 4 {
            let number = format!("{at:03}");
            batch.push_series([("__name__", "metric"), ("series", number.as_str())]);
            batch.push_sample(2 * STEP, 1.0);
        }
        Box::pin(ingest.append(&tenant, batch, limits))
    };
    // The shards take none of them until all have been asked for.
    let gates: Vec<flume::Sender<()>> = (0..2)
        .map(|shard| {
            let (gate, is_open) = flume::bounded(1);
            pool.send(shard, move |_| is_open.recv().unwrap_or_default()).unwrap();
            gate
        })
        .collect();
    let mut writes = [100, 200, 300].map(|first| write(first, limits));
    for write in &mut writes {
        assert!(write.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(gates);
    let reports = writes.map(|write| block_on(write).unwrap());
    let taken: u64 = reports.iter().map(|report| report.samples).sum();
    let refused: usize = reports.iter().map(|report| report.rejected.len()).sum();
    assert_eq!((taken, refused, ingest.stats(&tenant).unwrap().series), (3, 9, 8));
    // Those that are there go on, and what is settled counts once.
    let known = block_on(ingest.append(&tenant, batch(5, 2 * STEP), limits)).unwrap();
    assert_eq!((known.samples, known.rejected.len()), (5, 0));
    for (series_max, samples) in [(8, 0), (10, 2), (0, 4), (14, 0), (15, 1)] {
        let report = block_on(write(400 + 10 * series_max as u32, WriteLimits { series_max })).unwrap();
        assert_eq!(report.samples, samples, "{series_max}");
    }
}
