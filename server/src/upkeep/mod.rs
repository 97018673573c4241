//! The upkeep of a bucket: marking and deleting blocks, moving them, letting them go after their time.

/// Cleaning: marked blocks and broken-off uploads.
pub mod clean;
/// Deleting a block in an order that never leaves a broken one.
pub mod delete;
/// Markers of blocks.
pub mod mark;
/// Moving blocks between a bucket and folders.
pub mod transfer;

use std::time::{SystemTime, UNIX_EPOCH};

use engine::bucket::{BlockObject, ObjectName};
use engine::model::{BlockId, Error, ErrorKind};
use ring::rand::{SecureRandom, SystemRandom};

use crate::objstore::Bucket;

/// Unix milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A new ULID.
pub fn new_block_id() -> BlockId {
    let mut entropy = [0; 16];
    SystemRandom::new().fill(&mut entropy).expect("the system has random bytes");
    BlockId::from_parts(now_ms().unsigned_abs(), u128::from_le_bytes(entropy))
}

/// Bytes of a block's index. Corrupt when there is none.
pub async fn index_len(bucket: &Bucket, block: BlockId) -> Result<u64, Error> {
    let len = bucket.len_of(&ObjectName { block, object: BlockObject::Index }.to_string()).await?;
    len.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("block {block}: index: there is no such object")))
}
