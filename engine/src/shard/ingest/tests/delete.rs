//! Blocks that are deleted while somebody reads them.

use super::*;
use crate::block::BlockSet;

/// It once was told that there is no such file, unless the file had been read before.
#[test]
fn a_block_that_is_deleted_is_read_by_those_who_have_seen_it() {
    let all_of_tenant: fn(&Arc<Ingest>) = |ingest| block_on(ingest.remove_tenant("team-a")).unwrap();
    let one_by_one: fn(&Arc<Ingest>) = |ingest| {
        let blocks = ingest.local_blocks("team-a");
        blocks.iter().for_each(|block| ingest.delete_block("team-a", block.meta.ulid).unwrap());
    };
    for delete in [one_by_one, all_of_tenant] {
        let folder = Folder::new();
        let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
        for at in 1..100 {
            append(&ingest, 10, at * STEP).unwrap();
        }
        let cut = block_on(ingest.flush(None, Flush::All)).unwrap();
        let matchers = vec![Matcher::equal("__name__", "metric")];
        let range = TimeRange::new(0, i64::MAX);
        let view = view_of(&matchers);
        let seen = block_on(ingest.view(&view)).unwrap();
        delete(&ingest);
        assert!(cut.iter().all(|block| !block.path.exists()));
        let request = crate::select::Request::new(range, matchers);
        let answer = shard_tests::run(&shard_tests::selector(2, io::Mode::Pread), &seen, request).unwrap();
        assert_eq!(answer.len(), 10);
        assert!(block_on(ingest.view(&view)).unwrap().is_empty());
    }
}

/// The bucket's blocks were once taken when the query began: what left for the bucket before it looked here was in
/// neither.
#[test]
fn a_block_that_moves_to_a_bucket_after_a_query_has_begun_is_read_from_there() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    append(&ingest, 10, STEP).unwrap();
    block_on(ingest.flush(None, Flush::All)).unwrap();
    let bucket = Arc::new(Mutex::new(Arc::new(BlockSet::default())));
    let current = Arc::clone(&bucket);
    let source = ingest.source(None, Scope::default());
    let source = source.beside_current(move || (Arc::clone(&current.lock().unwrap()), None));
    let block = ingest.local_blocks("team-a").remove(0);
    *bucket.lock().unwrap() = Arc::new(BlockSet::new([Arc::clone(block.opened())]));
    ingest.delete_block("team-a", block.meta.ulid).unwrap();
    expect(&all_of(&source, &tenant()), 10, &[STEP]);
}
