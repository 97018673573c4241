//! Markers: small objects beside meta.json that say what is not to be done with a block, or that it
//! is to be deleted.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::go_json;
use super::name::BlockObject;
use crate::model::{BlockId, Error, ErrorKind};

/// The only version of markers.
pub const VERSION: u32 = 1;

/// Why a block is left out of compaction or downsampling; what Thanos knows of, or other words.
pub mod reason {
    /// Somebody asked for it.
    pub const MANUAL: &str = "manual";
    /// The index of a merged block would grow over its limit of 64 GiB.
    pub const INDEX_SIZE_EXCEEDING: &str = "index-size-exceeding";
    /// The index holds chunks out of order.
    pub const OUT_OF_ORDER_CHUNKS: &str = "block-index-out-of-order-chunk";
    /// Downsampled blocks overlap, which can't be merged.
    pub const DOWNSAMPLE_VERTICAL_COMPACTION: &str = "downsample-vertical-compaction";
}

/// deletion-mark.json: the block is deleted some time after it was marked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionMark {
    /// The block.
    pub id: BlockId,
    /// [`VERSION`].
    pub version: u32,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// Unix seconds at which it was marked.
    #[serde(default)]
    pub deletion_time: i64,
}

/// no-compact-mark.json: compaction leaves the block as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoCompactMark {
    /// The block.
    pub id: BlockId,
    /// [`VERSION`].
    pub version: u32,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// Unix seconds at which it was marked.
    #[serde(default)]
    pub no_compact_time: i64,
    /// Why, see [`reason`].
    #[serde(default)]
    pub reason: String,
}

/// no-downsample-mark.json: downsampling leaves the block out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoDownsampleMark {
    /// The block.
    pub id: BlockId,
    /// [`VERSION`].
    pub version: u32,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// Unix seconds at which it was marked.
    #[serde(default)]
    pub no_downsample_time: i64,
    /// Why, see [`reason`].
    #[serde(default)]
    pub reason: String,
}

/// What the three markers have in common.
pub trait Marker: Serialize + DeserializeOwned {
    /// Which of a block's objects it is.
    const OBJECT: BlockObject;

    /// The version it carries.
    fn version(&self) -> u32;

    /// The marker in `bytes`.
    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |message: String| Error::new(ErrorKind::Corrupt, format!("{}: {message}", Self::OBJECT));
        let marker: Self = serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))?;
        if marker.version() != VERSION {
            return Err(corrupt(format!("version is {}, known is {VERSION}", marker.version())));
        }
        Ok(marker)
    }

    /// The marker's bytes, on one line as Thanos writes them.
    fn to_json(&self) -> Vec<u8> {
        go_json::to_line(self).into_bytes()
    }
}

impl Marker for DeletionMark {
    const OBJECT: BlockObject = BlockObject::DeletionMark;

    fn version(&self) -> u32 {
        self.version
    }
}

impl Marker for NoCompactMark {
    const OBJECT: BlockObject = BlockObject::NoCompactMark;

    fn version(&self) -> u32 {
        self.version
    }
}

impl Marker for NoDownsampleMark {
    const OBJECT: BlockObject = BlockObject::NoDownsampleMark;

    fn version(&self) -> u32 {
        self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_comes_back() {
        let id = "01M7YFY7H37F9ZH8ZQ1CX44W25".parse().unwrap();
        let mark = NoCompactMark {
            id,
            version: VERSION,
            details: String::new(),
            no_compact_time: 1_700_000_000,
            reason: reason::OUT_OF_ORDER_CHUNKS.to_owned(),
        };
        assert_eq!(NoCompactMark::parse(&mark.to_json()).unwrap(), mark);
        let expected = concat!(
            r#"{"id":"01M7YFY7H37F9ZH8ZQ1CX44W25","version":1,"no_compact_time":1700000000,"#,
            r#""reason":"block-index-out-of-order-chunk"}"#
        );
        assert_eq!(String::from_utf8(mark.to_json()).unwrap(), expected);
    }

    #[test]
    fn a_marker_of_another_version_or_a_broken_one_is_refused() {
        let error = DeletionMark::parse(br#"{"id":"01M7YFY7H37F9ZH8ZQ1CX44W25","version":2}"#).unwrap_err();
        assert_eq!(error.message(), "deletion-mark.json: version is 2, known is 1");
        assert!(DeletionMark::parse(b"{").is_err());
    }
}
