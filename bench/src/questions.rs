//! Requests for series that benches ask of blocks, through shards as a store does.

use std::sync::Arc;

use engine::block::BlockSet;
use engine::io::Mode;
use engine::model::{Budget, Matcher, TimeRange};
use engine::select::{Limits, Request};
use engine::shard::{Options, Pool, Selector, Setting, block_on};

use crate::frames::Copying;

/// Bytes that all requests share.
const BUDGET_BYTES: u64 = 1 << 30;

/// Shards that read files as `mode` says.
///
/// # Panics
/// When they don't start.
pub fn selector(mode: Mode) -> Selector {
    let pool = Pool::start(&Options { io: mode, ..Options::default() }).expect("the shards start");
    Selector { pool, budget: Budget::new("memory of the bench", BUDGET_BYTES) }
}

/// All chunks of the series that match.
pub fn chunks_of(matchers: Vec<Matcher>) -> Request {
    Request::new(TimeRange::ALL, matchers)
}

/// Asks, and gives the bytes of all frames.
///
/// # Panics
/// When anything fails.
pub fn ask(selector: &Selector, blocks: &BlockSet, request: Request) -> usize {
    let setting = Setting { limits: Limits::default(), sinks: Arc::new(Copying), fetcher: None };
    block_on(async {
        let mut stream = selector.select(blocks, request, setting).await.expect("a sound request");
        let mut bytes = 0;
        while let Some(part) = stream.next().await {
            let part = part.expect("a part of the answer");
            assert!(part.failures.is_empty(), "{:?}", part.failures);
            bytes += part.frames.len();
        }
        bytes
    })
}
