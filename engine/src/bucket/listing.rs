//! Which blocks a listing of a bucket shows.

use std::collections::{BTreeMap, BTreeSet};

use super::meta::Meta;
use super::name::{self, BlockObject, ObjectName};
use crate::model::BlockId;

/// The objects of one block.
pub type BlockObjects = BTreeSet<BlockObject>;

/// All blocks of a bucket, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockListing {
    blocks: BTreeMap<BlockId, BlockObjects>,
}

/// What a listing shows of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// There is a meta.json, which is uploaded last.
    Complete,
    /// There is none: an upload or a deletion is under way or was broken off.
    Partial,
}

impl BlockListing {
    /// The blocks that objects called `names` make up. Names that belong to no block are passed over;
    /// a folder's name (with or without a slash at its end) stands for a block of which nothing more
    /// is known.
    pub fn from_names<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        let mut listing = Self::default();
        for name in names {
            let name = name.as_ref();
            if let Some(ObjectName { block, object }) = ObjectName::parse(name) {
                listing.blocks.entry(block).or_default().insert(object);
            } else if let Some(block) = name.split('/').next().and_then(name::block_folder) {
                listing.blocks.entry(block).or_default();
            }
        }
        listing
    }

    /// Every block and its objects, oldest first.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = (BlockId, &BlockObjects)> {
        self.blocks.iter().map(|(block, objects)| (*block, objects))
    }

    /// The objects of `block`; `None` when the listing does not show it.
    pub fn objects(&self, block: BlockId) -> Option<&BlockObjects> {
        self.blocks.get(&block)
    }

    /// The blocks in `state`, oldest first.
    pub fn in_state(&self, state: BlockState) -> impl Iterator<Item = BlockId> {
        self.blocks().filter(move |(_, objects)| block_state(objects) == state).map(|(block, _)| block)
    }

    /// The blocks that have `mark`, oldest first.
    pub fn marked(&self, mark: BlockObject) -> impl Iterator<Item = BlockId> {
        self.blocks().filter(move |(_, objects)| objects.contains(&mark)).map(|(block, _)| block)
    }
}

/// Whether a block with these objects is complete.
pub fn block_state(objects: &BlockObjects) -> BlockState {
    if objects.contains(&BlockObject::Meta) { BlockState::Complete } else { BlockState::Partial }
}

/// The objects that `meta` says the block has and that are not among `objects`: its index and its
/// segment files.
pub fn missing(meta: &Meta, objects: &BlockObjects) -> Vec<BlockObject> {
    let mut wanted = BTreeSet::from([BlockObject::Index]);
    if let Some(thanos) = &meta.thanos {
        wanted.extend(thanos.files.iter().filter_map(|file| BlockObject::parse(&file.rel_path)));
        let segments = thanos.segment_files.iter().map(|segment| format!("{}/{segment}", name::CHUNKS));
        wanted.extend(segments.filter_map(|path| BlockObject::parse(&path)));
    }
    wanted.difference(objects).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: &str = "01M7YFY7H37F9ZH8ZQ1CX44W25";
    const PARTIAL: &str = "01M7YFZP7XEVXZPFAJ3G00DZX3";
    const MARKED: &str = "01M7YFZP92YHE8FHFXR3MBA6GA";
    const FOLDER: &str = "01M7YFZPA408NR1P9ZV9RYRKMN";

    #[test]
    fn a_listing_tells_complete_partial_and_marked_blocks() {
        let mut names = vec!["debug/x".to_owned(), "thanos.shipper.json".to_owned(), format!("{FOLDER}/")];
        for path in ["meta.json", "index", "chunks/000001"] {
            names.push(format!("{COMPLETE}/{path}"));
            names.push(format!("{MARKED}/{path}"));
        }
        names.push(format!("{MARKED}/deletion-mark.json"));
        names.push(format!("{PARTIAL}/index"));
        let listing = BlockListing::from_names(&names);
        let text = |blocks: Vec<BlockId>| blocks.iter().map(BlockId::to_string).collect::<Vec<_>>();
        assert_eq!(text(listing.in_state(BlockState::Complete).collect()), [COMPLETE, MARKED]);
        assert_eq!(text(listing.in_state(BlockState::Partial).collect()), [PARTIAL, FOLDER]);
        assert_eq!(text(listing.marked(BlockObject::DeletionMark).collect()), [MARKED]);
        assert_eq!(listing.objects(COMPLETE.parse().unwrap()).unwrap().len(), 3);
    }
}
