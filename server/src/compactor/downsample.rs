//! Downsampling: each block that is long enough and has not been downsampled yet.
//!
//! ```text
//! <data dir>/downsample/<ULID>/          a source that was fetched
//! <data dir>/downsample/<ULID>/<ULID>/   the result before its upload
//! ```

use std::path::Path;
use std::time::Instant;

use engine::bucket::meta::source;
use engine::bucket::{BlockObject, Meta};
use engine::compact::downsample::plan::{DownsamplePlan, downsamples};
use engine::compact::downsample::{DownsampleOptions, downsample};
use engine::compact::{SourceBlock, Target};
use engine::model::Error;
use futures_util::{StreamExt, stream};

use super::group::{names_in, remove};
use super::syncer;
use super::trouble::{Trouble, Troubles};
use super::{Compactor, Halted};
use crate::upkeep::new_block_id;
use crate::upkeep::transfer::fetched;

/// What the keys of blocks begin with that could not be downsampled.
pub(super) const HALTED_PREFIX: &str = "downsample ";

impl Compactor {
    /// Downsamples every block that is to be; one that can't be is left behind.
    pub(super) async fn downsample_all(&self) -> Result<(), Troubles> {
        let view = self.syncer.sync().await.map_err(Troubles::retry)?;
        let unwanted = syncer::marked(&view, BlockObject::NoDownsampleMark);
        let mut metas = syncer::metas(&view);
        metas.retain(|meta| !unwanted.contains(&meta.ulid));
        for meta in &metas {
            self.metrics.know_downsampling(meta.resolution());
        }
        let mut plans = downsamples(&metas).map_err(Troubles::retry)?;
        plans.retain(|plan| !self.is_halted(&key(&plan.meta)));
        let root = self.settings.data_dir.join("downsample");
        let left = names_in(&root).into_iter();
        for name in left.filter(|name| !plans.iter().any(|plan| plan.meta.ulid.to_string() == *name)) {
            remove(&root.join(name));
        }
        let runs = plans.iter().map(|plan| async move { (plan, self.downsample_block(plan).await) });
        let mut runs = stream::iter(runs).buffer_unordered(self.settings.downsamples.max(1));
        let mut troubles = Troubles::default();
        while let Some((plan, outcome)) = runs.next().await {
            self.metrics.count_downsampling(plan.meta.resolution());
            if let Err(trouble) = outcome {
                self.metrics.count_downsampling_failure(plan.meta.resolution());
                let key = key(&plan.meta);
                self.leave_behind(&key, Halted::of_block(plan.meta.ulid), &trouble);
                troubles.push(trouble.within(key));
            }
        }
        troubles.into_result()
    }

    async fn downsample_block(&self, plan: &DownsamplePlan) -> Result<(), Trouble> {
        let dir = self.settings.data_dir.join("downsample").join(plan.meta.ulid.to_string());
        self.fetched_anew_once(&dir, || self.downsample_in(plan, &dir)).await
    }

    async fn downsample_in(&self, plan: &DownsamplePlan, dir: &Path) -> Result<(), Trouble> {
        let (meta, resolution) = (&plan.meta, plan.resolution);
        let from = fetched(&self.settings.transfer, &self.bucket, meta, dir).await.map_err(Trouble::of)?;
        let thanos = meta.thanos.clone().unwrap_or_default();
        let target = Target {
            parent: dir.to_owned(),
            id: new_block_id(),
            labels: thanos.labels,
            extensions: thanos.extensions,
            source: source::COMPACTOR,
        };
        let begin = Instant::now();
        let made = std::fs::create_dir_all(dir);
        made.map_err(|error| Trouble::Retry(Error::file(dir, error)))?;
        let (malformed, workers, stop) = (self.settings.malformed, self.settings.workers.clone(), self.stop());
        let written = self.apart("downsample", move || {
            let options = DownsampleOptions { workers, malformed, ..DownsampleOptions::default() };
            downsample(SourceBlock::open(&from)?, resolution, &target, &options, &stop)
        });
        let written = written.await.map_err(Trouble::of)?.map_err(Trouble::of)?;
        let took = begin.elapsed();
        self.metrics.observe_downsampling(meta.resolution(), took);
        tracing::info!(from = %meta.ulid, to = %written.meta.ulid, duration_ms = took.as_millis() as u64, "downsampled block");
        let published = self.publish(written, dir).await;
        if !matches!(published, Err(Trouble::Retry(_))) {
            remove(dir);
        }
        published
    }
}

/// What a block that could not be downsampled is known by.
pub(super) fn key(meta: &Meta) -> String {
    format!("{HALTED_PREFIX}{}", meta.ulid)
}
