//! `uru tools bucket verify` and `rewrite`: tools that replace blocks.

use std::io::Write as _;
use std::path::PathBuf;

use engine::bucket::Meta;
use engine::model::BlockId;

use super::{META_CONCURRENCY, ProgressLine, filters, ids, look, open, understood};
use crate::cli::{Subcommand, Values, compact, tools};
use crate::config::content;
use crate::edge::Runtime;
use crate::objstore::{Bucket, BucketConfig};
use crate::sync::Filters;
use crate::tools::rewrite::{Changes, Rewritten, Run, rewrite};
use crate::tools::verify::{Issue, Verifier};
use crate::upkeep::mark;
use crate::upkeep::transfer::{HashFunc, Origin, Transfer, fetched};

/// `tools bucket verify`.
pub const VERIFY: Subcommand = Subcommand {
    name: "tools bucket verify",
    about: "Verify blocks, and repair them with --repair",
    flags: &[tools::VERIFY],
};

/// `tools bucket rewrite`.
pub const REWRITE: Subcommand = Subcommand {
    name: "tools bucket rewrite",
    about: "Write blocks anew with series deleted or relabelled",
    flags: &[tools::REWRITE, compact::HASH],
};

/// Files of a block that are moved at once.
const FILES_AT_ONCE: usize = 4;

pub(super) fn run_verify(values: &Values) -> Result<(), String> {
    let repairs = values.is_on("repair");
    let mut issues = values.list("issues").iter().map(|name| Issue::parse(name)).collect::<Result<Vec<_>, _>>()?;
    if issues.is_empty() {
        issues = vec![Issue::IndexKnownIssues, Issue::OverlappedBlocks];
        issues.retain(|issue| !repairs || issue.is_repairable());
    }
    if let Some(issue) = issues.iter().find(|issue| repairs && !issue.is_repairable()) {
        return Err(format!("--issues: {} cannot be repaired: leave it out or leave out --repair", issue.name()));
    }
    let ids = ids(values)?;
    let is_backup_given =
        values.text("objstore-backup.config").is_some() || values.text("objstore-backup.config-file").is_some();
    let backup = match is_backup_given {
        false if repairs => {
            return Err("repair is specified, so backup client is required: give --objstore-backup.config".into());
        }
        false => None,
        true => {
            let config = BucketConfig::given(values, "objstore-backup.config");
            let config = config.map_err(|error| error.given_by(values).to_string())?;
            // The metrics of two buckets would have the same names, so those of this one are not published.
            Some(Bucket::open(&config, &mut Default::default()).map_err(|error| error.to_string())?)
        }
    };
    let filters = Filters { ignore_deletion_marks_delay: std::time::Duration::ZERO, ..filters_of_all(values)? };
    let work = std::env::temp_dir().join(format!("uru-verify-{}", std::process::id()));
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let (bucket, _) = open(values)?;
    let outcome = Runtime::Tokio.run(async {
        if repairs {
            tracing::warn!("GLOBAL COMPACTOR SHOULD __NOT__ BE RUNNING ON THE SAME BUCKET");
        }
        let verifier = Verifier {
            bucket: &bucket,
            backup: backup.as_ref().filter(|_| repairs),
            delete_delay: values.duration("delete-delay"),
            work: &work,
            ids: &ids,
        };
        for issue in issues {
            let view = understood(look(&bucket, &filters, META_CONCURRENCY).await?, &filters)?;
            let mut line = ProgressLine::new("verifying", view.blocks.len());
            let found = verifier.run(issue, &view, || line.step()).await;
            drop(line);
            let found = found.map_err(|error| format!("verify {}: {error}", issue.name()))?;
            tracing::info!(verifier = issue.name(), found, "verified");
        }
        tracing::info!("verify task completed");
        Ok(())
    });
    drop(std::fs::remove_dir_all(&work));
    outcome
}

pub(super) fn run_rewrite(values: &Values) -> Result<(), String> {
    let ids = ids(values)?;
    let environment = |name: &str| std::env::var(name).ok();
    let read = |flag: &str| content::read(values, flag, &environment).map_err(|error| error.to_string());
    let (to_delete, to_relabel) = (read("rewrite.to-delete-config")?, read("rewrite.to-relabel-config")?);
    let changes = Changes::parse(to_delete.as_deref(), to_relabel.as_deref()).map_err(|error| error.to_string())?;
    let (bucket, _) = open(values)?;
    let work = PathBuf::from(values.text("tmp.dir").unwrap_or_default());
    let outside = bucket.check_outside("tmp.dir", &work, |own, folder| folder.starts_with(own));
    outside.map_err(|error| error.message().to_owned())?;
    drop(std::fs::remove_dir_all(&work));
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    Runtime::Tokio.run(async {
        let mut line = ProgressLine::new("rewriting", ids.len());
        for id in ids {
            rewrite_one(values, &bucket, (id, &work), &changes).await?;
            line.step();
        }
        Ok(())
    })
}

async fn rewrite_one(
    values: &Values,
    bucket: &Bucket,
    (id, work): (BlockId, &PathBuf),
    changes: &Changes,
) -> Result<(), String> {
    let transfer =
        Transfer { hash: HashFunc::parse(values.text("hash-func").unwrap_or_default()), concurrency: FILES_AT_ONCE };
    let fail = |what: &str, error: &dyn std::fmt::Display| format!("{what} {id}: {error}");
    let bytes = bucket.get(&format!("{id}/meta.json")).await.map_err(|error| fail("download", &error))?;
    let meta = bytes
        .ok_or_else(|| fail("download", &"there is no such block"))
        .and_then(|bytes| Meta::parse(&bytes).map_err(|error| fail("read meta of", &error)))?;
    let from = fetched(&transfer, bucket, &meta, &work.join(id.to_string()))
        .await
        .map_err(|error| fail("download", &error))?;
    let run = if values.is_on("dry-run") { Run::Dry } else { Run::Real };
    let Rewritten { dir, meta, log } = rewrite(&from, work, changes, run).map_err(|error| fail("rewrite", &error))?;
    let new = meta.ulid;
    if values.is_on("rewrite.add-change-log") {
        let folder = work.join(new.to_string());
        let path = folder.join("change.log");
        let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &log));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
        tracing::info!(file = %path.display(), "changelog is available");
    }
    if run == Run::Dry {
        let written = std::io::stderr().lock().write_all(log.as_bytes());
        written.map_err(|error| format!("standard error: {error}"))?;
        tracing::info!(block = %id, changes = log.lines().count(), "dry run finished");
        return Ok(());
    }
    match dir {
        Some(dir) => {
            let origin = if values.is_on("prom-blocks") { Origin::Any } else { Origin::Labelled };
            transfer.upload_new(bucket, &dir, meta, origin).await.map_err(|error| fail("upload", &error))?;
            tracing::info!(source = %id, %new, "uploaded");
        }
        None => tracing::warn!(source = %id, "nothing is left of the block; no new one was uploaded"),
    }
    if values.is_on("delete-blocks") {
        mark::for_deletion(bucket, id, "block rewritten").await.map_err(|error| fail("mark", &error))?;
    }
    Ok(())
}

fn filters_of_all(values: &Values) -> Result<Filters, String> {
    filters(values).map_err(|error| error.to_string())
}
