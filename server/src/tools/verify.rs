//! `tools bucket verify`: what is wrong with blocks, and mending it: blocks that are replaced go into
//! another bucket first.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use engine::block::health::IndexHealth;
use engine::bucket::meta::source;
use engine::bucket::{Meta, name};
use engine::compact::group::group_key;
use engine::compact::{Merged, Repair, SourceBlock, Target, Unwatched, Workers, repair, settle_written};
use engine::index::tsdb::{FileSource, Reader};
use engine::model::{BlockId, Error, ErrorKind};

use crate::objstore::Bucket;
use crate::sync::View;
use crate::upkeep::delete::delete;
use crate::upkeep::transfer::{HashFunc, Origin, Transfer, fetched};
use crate::upkeep::{index_len, mark, new_block_id};

/// Something that may be wrong with blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issue {
    /// Faults in an index.
    IndexKnownIssues,
    /// Blocks of a group that overlap.
    OverlappedBlocks,
    /// Blocks that are the same compaction again.
    DuplicatedCompaction,
}

impl Issue {
    const ALL: [(&'static str, Self); 3] = [
        ("index_known_issues", Self::IndexKnownIssues),
        ("overlapped_blocks", Self::OverlappedBlocks),
        ("duplicated_compaction", Self::DuplicatedCompaction),
    ];

    /// The issue called `name`.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, issue)| *issue).ok_or_else(|| format!("--issues: no such issue ID {name}"))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, issue)| *issue == self).expect("all issues have names").0
    }

    /// Whether it can be mended.
    pub fn is_repairable(self) -> bool {
        self != Self::OverlappedBlocks
    }
}

/// Verifies the blocks of one view.
pub struct Verifier<'a> {
    /// The bucket.
    pub bucket: &'a Bucket,
    /// Where blocks go that are replaced; none: nothing is replaced.
    pub backup: Option<&'a Bucket>,
    /// Zero: replaced blocks are deleted; otherwise they are marked.
    pub delete_delay: Duration,
    /// Folder for blocks that are looked at.
    pub work: &'a Path,
    /// These blocks alone, when there are any.
    pub ids: &'a [BlockId],
}

const TRANSFER: Transfer = Transfer { hash: HashFunc::None, concurrency: 4 };

impl Verifier<'_> {
    /// Looks for an issue, and mends it when there is a bucket for what is replaced; `each` is told of
    /// every block that was looked at. Returns how many blocks have it.
    pub async fn run(&self, issue: Issue, view: &View, mut each: impl FnMut()) -> Result<usize, Error> {
        tracing::info!(verifier = issue.name(), with_repair = self.backup.is_some(), "started verifying issue");
        match issue {
            Issue::IndexKnownIssues => {
                let mut found = 0;
                let chosen =
                    view.blocks.values().filter(|block| self.ids.is_empty() || self.ids.contains(&block.meta.ulid));
                for block in chosen {
                    found += usize::from(self.verify_index(&block.meta).await?);
                    each();
                }
                Ok(found)
            }
            _ if !self.ids.is_empty() => Err(Error::invalid("id matching is not supported: leave out --id")),
            Issue::OverlappedBlocks => {
                let overlaps = overlaps(view);
                for (group, blocks) in &overlaps {
                    tracing::warn!(group, overlap = described(blocks), "found overlapped blocks");
                }
                Ok(overlaps.len())
            }
            Issue::DuplicatedCompaction => self.remove_duplicates(view).await,
        }
    }

    /// Whether a block's index has faults; they are mended when that is asked for and loses no sample.
    async fn verify_index(&self, meta: &Meta) -> Result<bool, Error> {
        let id = meta.ulid;
        let (found, is_mendable) = match self.index_health(meta).await {
            Ok(health) => (faults(&health), reaching_out(&health) == 0),
            Err(error) if error.kind() == ErrorKind::Corrupt => (Some(error.to_string()), true),
            Err(error) => return Err(error),
        };
        let Some(faults) = found else {
            tracing::debug!(block = %id, "no issue");
            return Ok(false);
        };
        tracing::warn!(block = %id, err = faults, "detected issue");
        if let Some(backup) = self.backup {
            if !is_mendable {
                let why = "chunks reach over the block's times: samples would be lost";
                tracing::error!(block = %id, why, "could not repair index");
                return Ok(true);
            }
            match self.repair(meta, backup).await {
                Ok(new) => tracing::info!(block = %id, %new, "all good, continuing"),
                Err(error) => tracing::error!(block = %id, err = %error, "could not repair index"),
            }
        }
        Ok(true)
    }

    async fn index_health(&self, meta: &Meta) -> Result<IndexHealth, Error> {
        let id = meta.ulid;
        index_len(self.bucket, id).await?;
        let object = format!("{id}/{}", name::INDEX);
        let path = match self.bucket.folder() {
            Some(folder) => folder.join(&object),
            None => {
                let path = self.work.join(format!("{id}-index"));
                self.bucket.download_file(&object, &path).await?;
                path
            }
        };
        let read = || IndexHealth::gather(&Reader::open(FileSource::open(&path)?)?, meta.min_time, meta.max_time);
        let health = read().map_err(|error| error.within(format_args!("block {id}: {}", name::INDEX)));
        if self.bucket.folder().is_none() {
            drop(std::fs::remove_file(&path));
        }
        health
    }

    /// Replaces a block by one without its faults; returns that one.
    async fn repair(&self, meta: &Meta, backup: &Bucket) -> Result<BlockId, Error> {
        if meta.resolution().0 > 0 {
            return Err(Error::invalid("cannot repair downsampled blocks"));
        }
        let from = fetched(&TRANSFER, self.bucket, meta, &self.work.join(meta.ulid.to_string())).await?;
        let thanos = meta.thanos.clone().unwrap_or_default();
        let target = Target {
            parent: self.work.to_owned(),
            id: new_block_id(),
            labels: thanos.labels,
            extensions: thanos.extensions,
            source: source::BUCKET_REPAIR,
        };
        let written = match repair(SourceBlock::open(&from)?, &target, Repair::All, &Unwatched)? {
            Merged::Block(written) => written,
            Merged::Empty => return Err(Error::invalid("nothing would be left of the block")),
        };
        let dir = self.work.join(target.id.to_string());
        settle_written(&dir, &Workers::threads(0))?;
        TRANSFER.upload_new(self.bucket, &dir, written.meta, Origin::Labelled).await?;
        tracing::info!(block = %meta.ulid, new = %target.id, "safe deleting broken block");
        self.back_up_and_delete(meta, backup).await?;
        Ok(target.id)
    }

    /// Copies a block into the other bucket, then deletes or marks it.
    async fn back_up_and_delete(&self, meta: &Meta, backup: &Bucket) -> Result<(), Error> {
        let id = meta.ulid;
        let mut is_there = false;
        backup.list(&id.to_string(), |_| is_there = true).await?;
        if is_there {
            let message = format!("{id} seems to be in the backup bucket already: remove it there if that is safe");
            return Err(Error::invalid(message));
        }
        let dir = fetched(&TRANSFER, self.bucket, meta, &self.work.join(id.to_string())).await?;
        tracing::info!(block = %id, "Uploading block to backup bucket");
        TRANSFER.upload(backup, &dir, meta.clone(), Origin::Labelled).await?;
        if self.delete_delay.is_zero() {
            tracing::info!(block = %id, "Deleting block");
            return delete(self.bucket, id).await;
        }
        mark::for_deletion(self.bucket, id, "manual verify-repair").await.map(drop)
    }

    /// Removes all but one of each set of blocks with equal range, sources and counts.
    async fn remove_duplicates(&self, view: &View) -> Result<usize, Error> {
        let mut unneeded: BTreeMap<BlockId, &Meta> = BTreeMap::new();
        for (group, blocks) in overlaps(view) {
            let mut seen: Vec<&Meta> = Vec::new();
            for meta in blocks {
                if seen.iter().any(|known| is_same(known, meta)) {
                    tracing::warn!(group, block = %meta.ulid, "found duplicated blocks");
                    unneeded.insert(meta.ulid, meta);
                } else {
                    seen.push(meta);
                }
            }
        }
        tracing::warn!(num = unneeded.len(), "Found duplicated blocks that are ok to be removed");
        if let Some(backup) = self.backup {
            for (id, meta) in &unneeded {
                self.back_up_and_delete(meta, backup).await?;
                tracing::info!(block = %id, "Removed duplicated block");
            }
        }
        Ok(unneeded.len())
    }
}

fn is_same(left: &Meta, right: &Meta) -> bool {
    (left.min_time, left.max_time, &left.stats) == (right.min_time, right.max_time, &right.stats)
        && (left.compaction.level, &left.compaction.sources) == (right.compaction.level, &right.compaction.sources)
}

/// The blocks of each group that overlap the ones before them, and those.
fn overlaps(view: &View) -> Vec<(String, Vec<&Meta>)> {
    let mut groups: BTreeMap<String, Vec<&Meta>> = BTreeMap::new();
    for block in view.blocks.values() {
        let key = group_key(&block.meta.external_labels(), block.meta.resolution());
        groups.entry(key).or_default().push(&block.meta);
    }
    let mut found = Vec::new();
    for (key, mut blocks) in groups {
        blocks.sort_by_key(|meta| (meta.min_time, meta.ulid));
        let mut run: Vec<&Meta> = Vec::new();
        let mut end = i64::MIN;
        for meta in blocks {
            if meta.min_time >= end {
                if run.len() > 1 {
                    found.push((key.clone(), std::mem::take(&mut run)));
                }
                run.clear();
            }
            end = end.max(meta.max_time);
            run.push(meta);
        }
        if run.len() > 1 {
            found.push((key, run));
        }
    }
    found
}

fn described(blocks: &[&Meta]) -> String {
    let one = |meta: &&Meta| format!("<ulid: {}, mint: {}, maxt: {}>", meta.ulid, meta.min_time, meta.max_time);
    blocks.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Chunks of which one part lies in the block's times and another does not.
fn reaching_out(health: &IndexHealth) -> u64 {
    health.chunks_outside - health.chunks_wholly_outside - health.chunks_at_end
}

/// What is wrong with an index; `None` when nothing is.
fn faults(health: &IndexHealth) -> Option<String> {
    let counts = [
        (health.series_out_of_order, "series out of order"),
        (health.series_without_labels, "series without labels"),
        (health.series_without_chunks, "series without chunks"),
        (health.series_with_labels_out_of_order, "series with labels out of order"),
        (health.chunks_out_of_order, "chunks out of order"),
        (health.chunks_duplicated, "chunks duplicated"),
        (health.chunks_outside, "chunks outside the block's times"),
        (health.chunks_wholly_outside, "of them wholly"),
    ];
    let found: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if found.is_empty() { None } else { Some(format!("{} of {} series", found.join(", "), health.series)) }
}
