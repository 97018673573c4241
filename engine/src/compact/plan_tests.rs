//! Plans against those that Thanos makes.

use serde::Deserialize;

use super::*;
use crate::bucket::meta::{Downsample, File, Thanos};
use crate::compact::group::LEVELS_MS;

const HOUR_MS: i64 = 60 * 60 * 1000;

/// A group and what Thanos' planner, run on it, decided. The groups are random: gaps, blocks of all
/// levels, overlaps, failed compactions, tombstones, marks, limits of index sizes.
#[derive(Deserialize)]
struct Recorded {
    vertical: bool,
    index_bytes_max: u64,
    blocks: Vec<Block>,
    plan: Vec<u128>,
    marks: Vec<Mark>,
}

/// Id, first and last hour, resolution, bytes of the index, 1 if a compaction failed, tombstones, 1
/// if marked.
#[derive(Deserialize)]
struct Block(u128, i64, i64, i64, u64, u8, u64, u8);

#[derive(Deserialize)]
struct Mark {
    id: u128,
    reason: String,
}

impl Block {
    fn meta(&self) -> Arc<Meta> {
        let mut meta = Meta::new(BlockId(self.0), self.1 * HOUR_MS, self.2 * HOUR_MS);
        meta.stats.num_series = 100;
        meta.stats.num_tombstones = self.6;
        meta.compaction.failed = self.5 == 1;
        meta.thanos = Some(Thanos {
            downsample: Downsample { resolution: self.3 },
            files: vec![File { rel_path: name::INDEX.to_owned(), size_bytes: self.4, hash: None }],
            ..Thanos::default()
        });
        Arc::new(meta)
    }
}

fn planner(vertical: bool, index_bytes_max: u64) -> Planner {
    let vertical = if vertical { Vertical::Enabled } else { Vertical::Disabled };
    Planner { ranges: LEVELS_MS.to_vec(), index_bytes_max, vertical }
}

#[test]
fn four_hundred_groups_are_planned_as_thanos_plans_them() {
    for (number, line) in include_str!("testdata/planned.jsonl").lines().enumerate() {
        let recorded: Recorded = serde_json::from_str(line).unwrap();
        let metas: Vec<_> = recorded.blocks.iter().map(Block::meta).collect();
        let marked = recorded.blocks.iter().filter(|block| block.7 == 1).map(|block| BlockId(block.0)).collect();
        let planner = planner(recorded.vertical, recorded.index_bytes_max);
        let Planned::Ready(plan) = planner.plan(&metas, &marked, &BTreeMap::new()) else { panic!("line {number}") };
        let planned: Vec<u128> = plan.compact.iter().map(|meta| meta.ulid.0).collect();
        assert_eq!(planned, recorded.plan, "line {number}");
        let order = |id: u128| metas.iter().position(|meta| meta.ulid.0 == id);
        let mut marks: Vec<_> = plan.marks.iter().map(|mark| (mark.id.0, mark.reason.to_owned())).collect();
        marks.sort_by_key(|(id, _)| order(*id));
        let expected: Vec<_> = recorded.marks.into_iter().map(|mark| (mark.id, mark.reason)).collect();
        assert_eq!(marks, expected, "line {number}");
    }
}

#[test]
fn an_index_whose_size_is_not_known_is_asked_for() {
    let mut metas: Vec<_> = (0..6).map(|at| Block(at as u128, 2 * at, 2 * at + 2, 0, 100, 0, 0, 0).meta()).collect();
    Arc::make_mut(&mut metas[1]).thanos.as_mut().unwrap().files.clear();
    let planner = planner(false, 1000);
    let planned = planner.plan(&metas, &BTreeSet::new(), &BTreeMap::new());
    assert_eq!(planned, Planned::NeedsIndexSize(BlockId(1)));
    let sizes = BTreeMap::from([(BlockId(1), 900)]);
    let Planned::Ready(plan) = planner.plan(&metas, &BTreeSet::new(), &sizes) else { panic!("{planned:?}") };
    assert_eq!(plan.marks.iter().map(|mark| mark.id.0).collect::<Vec<_>>(), [1]);
    assert_eq!(plan.compact.iter().map(|meta| meta.ulid.0).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn nothing_is_planned_for_no_block_and_for_one() {
    for metas in [vec![], vec![Block(1, 0, 2, 0, 1, 0, 90, 0).meta()]] {
        let planned = planner(true, 1000).plan(&metas, &BTreeSet::new(), &BTreeMap::new());
        assert_eq!(planned, Planned::Ready(Plan::default()));
    }
}
