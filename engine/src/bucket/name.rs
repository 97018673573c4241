//! Names of a block's objects.

use std::fmt;

use crate::model::BlockId;

/// The block's description.
pub const META: &str = "meta.json";
/// The TSDB's index.
pub const INDEX: &str = "index";
/// The folder of segment files.
pub const CHUNKS: &str = "chunks";
/// Deleted ranges; blocks in a bucket have none.
pub const TOMBSTONES: &str = "tombstones";
/// To be deleted after a delay.
pub const DELETION_MARK: &str = "deletion-mark.json";
/// Left out of compaction.
pub const NO_COMPACT_MARK: &str = "no-compact-mark.json";
/// Left out of downsampling.
pub const NO_DOWNSAMPLE_MARK: &str = "no-downsample-mark.json";

/// One of a block's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockObject {
    /// meta.json
    Meta,
    /// index
    Index,
    /// A segment file, counted from 0 as in chunk references; its name counts from 1.
    Segment(u32),
    /// tombstones
    Tombstones,
    /// deletion-mark.json
    DeletionMark,
    /// no-compact-mark.json
    NoCompactMark,
    /// no-downsample-mark.json
    NoDownsampleMark,
}

impl BlockObject {
    /// Whether it is the index or a segment.
    pub fn is_index_or_segment(self) -> bool {
        matches!(self, Self::Index | Self::Segment(_))
    }

    /// The object at `path` within a block's folder; `None` when it is none that a block has.
    pub fn parse(path: &str) -> Option<Self> {
        Some(match path {
            META => Self::Meta,
            INDEX => Self::Index,
            TOMBSTONES => Self::Tombstones,
            DELETION_MARK => Self::DeletionMark,
            NO_COMPACT_MARK => Self::NoCompactMark,
            NO_DOWNSAMPLE_MARK => Self::NoDownsampleMark,
            _ => {
                let digits = path.strip_prefix(CHUNKS)?.strip_prefix('/')?;
                if digits.len() < 6 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                Self::Segment(digits.parse::<u32>().ok()?.checked_sub(1)?)
            }
        })
    }
}

/// The path within the block's folder.
impl fmt::Display for BlockObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta => f.write_str(META),
            Self::Index => f.write_str(INDEX),
            Self::Segment(segment) => write!(f, "{CHUNKS}/{}", segment_name(*segment)),
            Self::Tombstones => f.write_str(TOMBSTONES),
            Self::DeletionMark => f.write_str(DELETION_MARK),
            Self::NoCompactMark => f.write_str(NO_COMPACT_MARK),
            Self::NoDownsampleMark => f.write_str(NO_DOWNSAMPLE_MARK),
        }
    }
}

/// The name of a segment file, without its folder; `segment` counts from 0.
pub fn segment_name(segment: u32) -> String {
    format!("{:06}", u64::from(segment) + 1)
}

/// An object of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The block.
    pub block: BlockId,
    /// Which of its objects.
    pub object: BlockObject,
}

impl ObjectName {
    /// The object called `name` within a bucket; `None` when it belongs to no block.
    pub fn parse(name: &str) -> Option<Self> {
        let (block, path) = name.split_once('/')?;
        Some(Self { block: block_folder(block)?, object: BlockObject::parse(path)? })
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.block, self.object)
    }
}

/// The block whose folder is called `name`; a ULID in upper case, as folders are written.
pub fn block_folder(name: &str) -> Option<BlockId> {
    let id: BlockId = name.parse().ok()?;
    (!name.bytes().any(|byte| byte.is_ascii_lowercase())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let block: BlockId = "01M7YFY7H37F9ZH8ZQ1CX44W25".parse().unwrap();
        for path in ["meta.json", "index", "chunks/000001", "chunks/1000000", "deletion-mark.json", "tombstones"] {
            let name = format!("{block}/{path}");
            let parsed = ObjectName::parse(&name).unwrap();
            assert_eq!(parsed.block, block);
            assert_eq!(parsed.to_string(), name);
        }
        assert_eq!(BlockObject::parse("chunks/000001"), Some(BlockObject::Segment(0)));
    }

    #[test]
    fn what_belongs_to_no_block_is_no_name() {
        for name in [
            "debug/metas/x.json",
            "01M7YFY7H37F9ZH8ZQ1CX44W25",
            "01M7YFY7H37F9ZH8ZQ1CX44W25/",
            "01M7YFY7H37F9ZH8ZQ1CX44W25/chunks/000000",
            "01M7YFY7H37F9ZH8ZQ1CX44W25/chunks/1",
            "01m7yfy7h37f9zh8zq1cx44w25/index",
        ] {
            assert_eq!(ObjectName::parse(name), None, "{name}");
        }
    }
}
