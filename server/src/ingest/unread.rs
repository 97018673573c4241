//! What lies in the data folder and is not read, or lay there: told at the start, as queries don't show that it is
//! missing.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use engine::shard::Ingest;
use engine::shard::ingest::OWN_FOLDER;

/// Logs what WALs hold of unknown series, what was set aside of damaged ones, blocks that could not be opened, folders
/// that were removed, and WALs of Thanos and Prometheus.
pub fn tell(ingest: &Ingest, data_dir: &Path) {
    let unknown = ingest.counters().replayed_unknown;
    if unknown > 0 {
        tracing::warn!(
            samples = unknown,
            folder = %data_dir.join(OWN_FOLDER).join("wal").display(),
            "leaving out samples and chunks in the WAL of series that it never names, or that no head takes: they are \
             lost, which a WAL whose files nobody has moved or changed should never have"
        );
    }
    for aside in ingest.set_aside() {
        tracing::error!(
            damage = %aside.why,
            files = ?aside.files,
            bytes = aside.bytes,
            "samples that were acknowledged with --tsdb.wal-durability=relaxed are lost: what the WAL holds behind its \
             first damage is set aside in these files, which nothing reads; remove them when they are of no use"
        );
    }
    for removed in ingest.removed_folders() {
        tracing::warn!(
            tenant = %removed.tenant,
            folder = %removed.path.display(),
            held = %removed.content,
            "removed what was left of a block that was never whole or was being deleted"
        );
    }
    for block in ingest.unreadable_blocks() {
        let (tenant, folder) = (&block.tenant, block.path.display());
        tracing::error!(
            %tenant,
            %folder,
            error = %block.error,
            "leaving out a local block that can't be read: it is neither queried nor uploaded; mend what the error \
             names or move the block out of the data folder, and start again"
        );
    }
    for folder in thanos_wals(data_dir) {
        tracing::warn!(
            folder = %folder.display(),
            "samples in a WAL of Thanos are not read: unless it is flushed, move the folder {OWN_FOLDER}, which Thanos \
             takes for a tenant, out of this data folder, let Thanos run over it once more and end by SIGTERM with a \
             bucket configured, then remove the WAL's folder and move {OWN_FOLDER} back; the samples of a tenant's very \
             newest time stay in the WAL and are lost"
        );
    }
    if holds_segments(&data_dir.join("wal")) {
        tracing::warn!(
            folder = %data_dir.display(),
            "this is a data folder of Prometheus: neither its WAL nor its blocks are read; have that Prometheus take a \
             snapshot (POST /api/v1/admin/tsdb/snapshot) and move the snapshot's blocks into the folder of a tenant"
        );
    }
}

/// Folders of a tenant in which Thanos keeps samples that are in no block yet.
const THANOS_FOLDERS: [&str; 3] = ["wal", "wbl", "chunks_head"];

/// Whether the folder of a tenant holds samples of Thanos that are in no block yet, as far as can be told: nothing of
/// them is to be removed.
pub fn holds_samples_of_thanos(tenant: &Path) -> bool {
    THANOS_FOLDERS.iter().any(|name| has_bytes(&tenant.join(name)))
}

/// Folders below `data_dir` that hold what Thanos wrote ahead for a tenant.
fn thanos_wals(data_dir: &Path) -> Vec<PathBuf> {
    let tenants = entries(data_dir).filter(|entry| entry.file_name() != OWN_FOLDER);
    let wals = tenants.map(|tenant| tenant.path().join("wal"));
    let mut found: Vec<PathBuf> = wals.filter(|wal| has_bytes(wal)).collect();
    found.sort_unstable();
    found
}

/// Whether `folder` is a WAL of Prometheus, and not a tenant that is called like one.
fn holds_segments(folder: &Path) -> bool {
    let is_segment = |name: &str| name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_digit());
    let is_part = |name: &str| is_segment(name) || name.starts_with("checkpoint.");
    has_bytes(folder) && entries(folder).any(|entry| entry.file_name().to_str().is_some_and(is_part))
}

fn has_bytes(folder: &Path) -> bool {
    entries(folder).any(|file| file.metadata().is_ok_and(|found| found.is_dir() || found.len() > 0))
}

fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wals_of_thanos_are_found_when_there_is_something_in_them() {
        let data = tempfile::tempdir().unwrap();
        for (tenant, text) in [("a", "samples"), ("b", ""), (".uru", "ours")] {
            let wal = data.path().join(tenant).join("wal");
            let file = if tenant == ".uru" { wal.join("000/0") } else { wal.join("00000000") };
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        std::fs::create_dir_all(data.path().join("c/wal/checkpoint.00000001")).unwrap();
        std::fs::write(data.path().join("file"), "").unwrap();
        assert_eq!(thanos_wals(data.path()), ["a", "c"].map(|tenant| data.path().join(tenant).join("wal")));
        std::fs::create_dir_all(data.path().join("d/chunks_head")).unwrap();
        let holds = |tenant: &str| holds_samples_of_thanos(&data.path().join(tenant));
        assert_eq!(["a", "b", "c", "d", "file", "nobody"].map(holds), [true, false, true, false, false, false]);
        std::fs::write(data.path().join("d/chunks_head/000001"), "samples").unwrap();
        assert!(holds("d"));
    }

    /// It was told as nothing.
    #[test]
    fn a_wal_of_prometheus_is_told_from_a_tenant_that_is_called_like_one() {
        let data = tempfile::tempdir().unwrap();
        let wal = data.path().join("wal");
        std::fs::create_dir_all(wal.join("01HZY0000000000000000000AB")).unwrap();
        assert!(!holds_segments(&wal));
        std::fs::write(wal.join("00000007"), "").unwrap();
        assert!(holds_segments(&wal), "a part of it may be empty");
        assert!(!holds_segments(&data.path().join("nobody")));
    }
}
