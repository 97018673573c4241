//! Deleting a block: meta.json first, so that no reader takes what is left for a whole block; the deletion mark last,
//! as Thanos has it, which tells whoever looks into the bucket what was going on. What a deletion that was killed has
//! left is a block without meta.json: it is cleaned as an upload that was broken off, when its time has come.

use engine::bucket::{BlockObject, ObjectName};
use engine::model::{BlockId, Error};

use crate::objstore::Bucket;

/// Deletes a block and everything else in its folder.
pub async fn delete(bucket: &Bucket, id: BlockId) -> Result<(), Error> {
    let name = |object| ObjectName { block: id, object }.to_string();
    let (meta, mark) = (name(BlockObject::Meta), name(BlockObject::DeletionMark));
    let mut others = Vec::new();
    bucket.list(&id.to_string(), |object| others.push(object.name)).await?;
    let is_marked = others.contains(&mark);
    others.retain(|object| *object != meta && *object != mark);
    // Also one that the listing misses: alone it would be taken for a block.
    bucket.delete(&meta).await?;
    for object in others {
        bucket.delete(&object).await?;
    }
    if is_marked {
        bucket.delete(&mark).await?;
    }
    bucket.remove_staged(&id.to_string());
    Ok(())
}
