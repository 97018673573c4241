//! `uru tools …` over golden blocks prints and does what `thanos tools …` printed and did.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support;
use crate::support::{blocks_in, copy_block, get, shared};

/// What `thanos tools bucket inspect` printed of the blocks `churn` and the downsampled ones of `long`.
const INSPECTED: &str = "\
|            ULID            |         FROM         |        UNTIL         |     RANGE     |  UNTIL-DOWN   | #SERIES | #SAMPLES | #CHUNKS | COMP-LEVEL | COMP-FAILED |        LABELS        | RESOLUTION |  SOURCE   |
|----------------------------|----------------------|----------------------|---------------|---------------|---------|----------|---------|------------|-------------|----------------------|------------|-----------|
| 01M7YFY8G6VN538AX46T8NB0BW | 2026-09-04T00:00:21Z | 2026-09-14T23:59:21Z | 263h59m0.003s | -23h59m0.003s | 100     | 316,800  | 2,300   | 1          | false       | cluster=c1,replica=a | 5m0s       | compactor |
| 01M7YFY8WFBRF0ZPSVGENYZ2CX | 2026-09-04T00:00:21Z | 2026-09-14T23:59:21Z | 263h59m0.003s | -             | 100     | 26,500   | 300     | 1          | false       | cluster=c1,replica=a | 1h0m0s     | compactor |
| 01M7YFZP7XEVXZPFAJ3G00DZX3 | 2026-09-21T10:00:12Z | 2026-09-21T11:59:44Z | 1h59m31.771s  | 38h0m28.229s  | 300     | 72,000   | 659     | 1          | false       | cluster=c1,replica=a | 0s         | sidecar   |
| 01M7YFZP92YHE8FHFXR3MBA6GA | 2026-09-21T12:00:02Z | 2026-09-21T13:59:52Z | 1h59m49.824s  | 38h0m10.176s  | 300     | 72,000   | 653     | 1          | false       | cluster=c1,replica=a | 0s         | sidecar   |
| 01M7YFZPA408NR1P9ZV9RYRKMN | 2026-09-21T14:00:05Z | 2026-09-21T15:59:54Z | 1h59m48.778s  | 38h0m11.222s  | 300     | 72,000   | 657     | 1          | false       | cluster=c1,replica=a | 0s         | sidecar   |
| 01M7YFZPB7TCST0ZACWKPZDYZM | 2026-09-21T16:00:14Z | 2026-09-21T17:59:50Z | 1h59m36.194s  | 38h0m23.806s  | 300     | 72,000   | 662     | 1          | false       | cluster=c1,replica=a | 0s         | sidecar   |
| 01M7YFZPCANYGPCT1W64PGYX5S | 2026-09-21T18:00:02Z | 2026-09-21T19:59:41Z | 1h59m39.483s  | 38h0m20.517s  | 300     | 72,000   | 657     | 1          | false       | cluster=c1,replica=a | 0s         | sidecar   |
| 01M7YFZPD9297W9EM8XG723ZJR | 2026-09-21T20:00:02Z | 2026-09-21T21:59:55Z | 1h59m52.591s  | 38h0m7.409s   | 300     | 72,000   | 657     | 1          | false       | cluster=c1,replica=a | 0s         | sidecar   |
";

const WIDE: &str = "01M7YFZPB7TCST0ZACWKPZDYZM -- 2026-09-21T16:00:14Z - 2026-09-21T17:59:50Z Diff: 1h59m36s, \
                    Compaction: 1, Downsample: 0, Source: sidecar";

/// A bucket of the golden blocks `churn` and of what Thanos made of `long`.
fn bucket(folder: &Path) -> Option<()> {
    let (churn, long) = (shared("golden/blocks/churn")?, shared("golden/thanos/long")?);
    for block in blocks_in(&churn).iter().chain(&blocks_in(&long)) {
        let resolution = support::meta_of(block)["thanos"]["downsample"]["resolution"].as_i64();
        if block.starts_with(&churn) || resolution != Some(0) {
            copy_block(block, folder, &[("cluster", "c1"), ("replica", "a")]);
        }
    }
    Some(())
}

/// Runs `uru tools` over a bucket.
fn tools(words: &[&str], bucket: &Path) -> Output {
    let config = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", bucket.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_uru"));
    command.arg("tools").args(words).stdin(Stdio::null());
    if words[0] == "bucket" {
        command.arg(config);
    }
    command.output().unwrap()
}

fn text(words: &[&str], bucket: &Path) -> String {
    let output = tools(words, bucket);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(!String::from_utf8_lossy(&output.stderr).contains('\r'), "there is no progress bar in a pipe");
    String::from_utf8(output.stdout).unwrap()
}

fn error(words: &[&str], bucket: &Path) -> String {
    let output = tools(words, bucket);
    assert!(!output.status.success(), "{words:?} is refused");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn blocks_are_listed_and_inspected_as_thanos_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    if bucket(path).is_none() {
        return;
    }
    assert_eq!(text(&["bucket", "inspect"], path), INSPECTED);
    let csv = text(&["bucket", "inspect", "--output=csv", "--sort-by=#SAMPLES", "-l", "cluster=\"c1\""], path);
    let first = "01M7YFY8WFBRF0ZPSVGENYZ2CX,2026-09-04T00:00:21Z,2026-09-14T23:59:21Z,263h59m0.003s,-,100,\"26,500\",\
                 300,1,false,\"cluster=c1,replica=a\",1h0m0s,compactor";
    assert_eq!(csv.lines().nth(1), Some(first));
    assert!(text(&["bucket", "ls", "--output=wide"], path).lines().any(|line| line == WIDE));
    assert_eq!(text(&["bucket", "ls"], path).lines().count(), 8);
    let narrowed = ["bucket", "ls", "--min-time=2026-09-21T20:30:00Z", "-o", "{{.ULID}} {{.Thanos.Labels}}"];
    assert_eq!(text(&narrowed, path), "01M7YFZPD9297W9EM8XG723ZJR map[cluster:c1 replica:a]\n");
    let selected = "--selector.relabel-config=[{action: keep, source_labels: [cluster], regex: c2}]";
    assert_eq!(text(&["bucket", "ls", selected], path), "");
    let json: serde_json::Value =
        serde_json::from_str(&text(&[narrowed[0], "ls", narrowed[2], "-o", "json"], path)).unwrap();
    assert_eq!(json["ulid"], "01M7YFZPD9297W9EM8XG723ZJR");
    assert!(error(&["bucket", "ls", "-o", "{{range .X}}"], path).contains("range"));
    let fields =
        ["bucket", "ls", narrowed[2], "-o", "{{.Compaction.Level}} {{.Thanos.Downsample}} {{.Thanos.Labels.cluster}}"];
    assert_eq!(text(&fields, path), "1 {0} c1\n");
    let unknown = tools(&["bucket", "inspect", "--sort-by=X"], path);
    assert_eq!(unknown.status.code(), Some(2), "as for any word that a flag does not have");
    let told = String::from_utf8(unknown.stderr).unwrap();
    assert!(["'X'", "--sort-by", "ULID", "UNTIL"].iter().all(|word| told.contains(word)), "{told}");
}

#[test]
fn marked_blocks_are_left_out_and_cleaned_after_their_delay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let block = support::write_block(path, 1, (2, 0));
    let id = block.file_name().unwrap().to_str().unwrap().to_owned();
    let id = format!("--id={id}");
    assert!(error(&["bucket", "mark", &id, "--marker=deletion-mark.json"], path).contains("--details"));
    for marker in ["deletion-mark.json", "no-compact-mark.json", "no-downsample-mark.json"] {
        text(&["bucket", "mark", &id, &format!("--marker={marker}"), "--details=it is old"], path);
        let mark: serde_json::Value = serde_json::from_slice(&std::fs::read(block.join(marker)).unwrap()).unwrap();
        assert_eq!((&mark["details"], &mark["version"]), (&"it is old".into(), &1.into()));
    }
    text(&["bucket", "mark", &id, "--marker=no-compact-mark.json", "--remove"], path);
    assert!(!block.join("no-compact-mark.json").exists());
    assert_eq!(text(&["bucket", "ls", "--exclude-delete"], path), "");
    text(&["bucket", "cleanup"], path);
    assert!(block.join("meta.json").exists(), "the mark is younger than 48 h");
    let mark = std::fs::read_to_string(block.join("deletion-mark.json")).unwrap();
    let mut mark: serde_json::Value = serde_json::from_str(&mark).unwrap();
    mark["deletion_time"] = (mark["deletion_time"].as_i64().unwrap() - 49 * 3600).into();
    std::fs::write(block.join("deletion-mark.json"), mark.to_string()).unwrap();
    text(&["bucket", "cleanup"], path);
    assert!(!block.exists(), "the block and its folder are gone");
}

/// They were once left out, and the exit code was 0.
#[test]
fn blocks_that_are_not_understood_are_an_error_and_their_marks_where_they_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let old = support::write_block(path, 1, (2, 0));
    let other = support::write_block(path, 2, (2, 0));
    let id = other.file_name().unwrap().to_str().unwrap();
    std::fs::write(other.join("deletion-mark.json"), format!("{{\"id\":\"{id}\",\"version\":2}}")).unwrap();
    assert_eq!(text(&["bucket", "ls"], path).lines().count(), 2);
    let retention = ["bucket", "retention", "--retention.resolution-raw=1d"];
    for words in [&["bucket", "ls", "--exclude-delete"], &["bucket", "cleanup", "--delete-delay=0s"], &retention] {
        let told = error(words, path);
        assert!(told.contains(&format!("incomplete view: block {id}")), "{words:?}: {told}");
    }
    std::fs::remove_file(other.join("deletion-mark.json")).unwrap();
    let meta = std::fs::read_to_string(other.join("meta.json")).unwrap();
    let meta = meta.replacen("\"version\": 1", "\"version\": 2", 1);
    std::fs::write(other.join("meta.json"), meta).unwrap();
    for words in [&["bucket", "ls"][..], &["bucket", "inspect"], &["bucket", "verify"], &retention] {
        let told = error(words, path);
        assert!(told.contains(&format!("incomplete view: block {id}")), "{words:?}: {told}");
    }
    assert!(!old.join("deletion-mark.json").exists());
}

#[test]
fn blocks_past_their_retention_are_marked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let old = support::write_block(path, 1, (2, 0));
    let new = support::write_block(path, 2, (2, 3_000_000_000_000));
    text(&["bucket", "retention", "--retention.resolution-5m=1d"], path);
    assert!(!old.join("deletion-mark.json").exists());
    text(&["bucket", "retention", "--retention.resolution-raw=1d"], path);
    let mark = std::fs::read_to_string(old.join("deletion-mark.json")).unwrap();
    assert!(mark.contains("block exceeding retention of 24h0m0s"), "{mark}");
    assert!(!new.join("deletion-mark.json").exists());
}

#[test]
fn local_blocks_are_uploaded_once_and_replicated_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (local, first, second) =
        (folder.path().join("local"), folder.path().join("first"), folder.path().join("second"));
    let block = support::write_block(&local, 1, (2, 0));
    let name = block.file_name().unwrap();
    let path = format!("--path={}", local.display());
    assert!(error(&["bucket", "upload-blocks", &path], &first).contains("--label"));
    for _ in 0..2 {
        text(&["bucket", "upload-blocks", &path, "--label=replica=\"a\""], &first);
    }
    let shipped: serde_json::Value =
        serde_json::from_slice(&std::fs::read(local.join("thanos.shipper.json")).unwrap()).unwrap();
    assert_eq!(shipped["uploaded"][0], name.to_str().unwrap());
    let meta = support::meta_of(&first.join(name));
    assert_eq!(
        (&meta["thanos"]["labels"]["replica"], &meta["thanos"]["source"]),
        (&"a".into(), &"bucket.upload".into())
    );
    let to = format!("--objstore-to.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", second.display());
    let replicate = |flags: &[&str]| {
        let words = ["bucket", "replicate", "--single-run", "--http-address=127.0.0.1:0", &to];
        text(&[&words[..], flags].concat(), &first);
    };
    replicate(&["--matcher=replica=\"b\""]);
    replicate(&["--matcher=replica=b"]);
    replicate(&["--compaction=2"]);
    replicate(&["--resolution=5m"]);
    assert!(!second.join(name).exists());
    replicate(&["--matcher=replica=~\"a|b\""]);
    for file in ["meta.json", "index", "chunks/000001"] {
        let read = |bucket: &Path| std::fs::read(bucket.join(name).join(file)).unwrap();
        assert!(read(&first) == read(&second), "{file}");
    }
    // A compactor has begun to delete it.
    std::fs::remove_file(first.join(name).join("index")).unwrap();
    let third = folder.path().join("third");
    let to = format!("--objstore-to.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", third.display());
    let words = ["bucket", "replicate", "--single-run", "--http-address=127.0.0.1:0", &to];
    let why = error(&words, &first);
    assert!(why.contains("/index is gone from the origin bucket") && !third.join(name).exists(), "{why}");
}

/// They once were, and compaction halted for the overlap.
#[test]
fn compacted_blocks_are_not_uploaded_over_others_of_the_same_labels() {
    let folder = tempfile::tempdir().unwrap();
    let (local, bucket) = (folder.path().join("local"), folder.path().join("bucket"));
    let compacted = |seed: u128, start: i64| {
        let block = support::write_block(&local, seed, (2, start));
        let mut meta = support::meta_of(&block);
        meta["compaction"]["level"] = 2.into();
        std::fs::write(block.join("meta.json"), meta.to_string()).unwrap();
        block.file_name().unwrap().to_str().unwrap().to_owned()
    };
    let path = format!("--path={}", local.display());
    let upload = ["bucket", "upload-blocks", &path, "--shipper.upload-compacted"];
    let to = |label: &'static str| [&upload[..], &[label]].concat();
    let present = support::write_block(&bucket, 1, (2, 0)).file_name().unwrap().to_str().unwrap().to_owned();
    let behind = compacted(2, 3_600_000);
    text(&to("--label=cluster=\"c1\""), &bucket);
    assert!(bucket.join(behind).exists());
    let over = compacted(3, 1_800_000);
    let why = error(&to("--label=cluster=\"c1\""), &bucket);
    assert!(why.contains("overlap spotted") && why.contains(&over) && why.contains(&present), "{why}");
    assert!(!bucket.join(&over).exists());
    text(&to("--label=cluster=\"c2\""), &bucket);
    assert!(bucket.join(&over).exists());
}

#[test]
fn the_viewer_shows_blocks_with_their_marks_and_marks_them_unless_that_is_disabled() {
    let folder = tempfile::tempdir().unwrap();
    let block = support::write_block(folder.path(), 1, (2, 0));
    let id = block.file_name().unwrap().to_str().unwrap();
    let config =
        format!("--objstore.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", folder.path().display());
    for flag in ["--disable-admin-operations", "--no-disable-admin-operations"] {
        let web = support::Uru::start_http(&["tools", "bucket", "web", &config, flag, "--label=cluster"]);
        let shown = web.wait_for("/api/v1/blocks?view=global", id);
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["data"]["label"], "cluster");
        assert_eq!(shown["data"]["blocks"][0]["marks"], serde_json::json!([]));
        let (status, answer) =
            support::post(&web.http, "/api/v1/blocks/mark", &format!("id={id}&action=DELETION&detail=x")).unwrap();
        let is_allowed = flag.starts_with("--no-");
        assert_eq!(
            (status, block.join("deletion-mark.json").exists()),
            (if is_allowed { 204 } else { 400 }, is_allowed)
        );
        assert!(is_allowed || answer.contains("Admin operations are disabled"), "{answer}");
        let (status, _) = support::post(&web.http, "/api/v1/blocks/mark", &format!("id={id}&action=OTHER")).unwrap();
        assert_eq!(status, 400);
        assert_eq!(get(&web.http, "/blocks").unwrap().0, 200);
        assert!(get(&web.http, "/api/v1/status/flags").unwrap().1.contains("disable-admin-operations"));
    }
    let web = support::Uru::start_http(&["tools", "bucket", "web", &config]);
    assert!(web.wait_for("/api/v1/blocks", id).contains("\"marks\":[\"deletion\"]"));
    assert_eq!(web.metric("thanos_bucket_blocks_meta_syncs_total"), Some(1.0));
    assert_eq!(web.metric("thanos_bucket_blocks_meta_synced{state=\"loaded\"}"), Some(1.0));
}

#[test]
fn blocks_are_downsampled_to_the_bytes_that_thanos_makes() {
    let (Some(long), Some(golden)) = (shared("golden/blocks/long"), shared("golden/thanos/long")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let bucket = folder.path().join("bucket");
    copy_block(&blocks_in(&long)[0], &bucket, &[("cluster", "c1"), ("replica", "a")]);
    let config = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", bucket.display());
    let data_dir = format!("--data-dir={}", folder.path().join("work").display());
    let uru = support::Uru::start_http(&["tools", "bucket", "downsample", &config, &data_dir]);
    let of = |folder: &Path, resolution: i64| {
        let is_wanted = |block: &std::path::PathBuf| {
            support::meta_of(block)["thanos"]["downsample"]["resolution"].as_i64() == Some(resolution)
        };
        blocks_in(folder).into_iter().find(is_wanted)
    };
    support::wait(|| of(&bucket, 3_600_000).is_some());
    drop(uru);
    for resolution in [300_000, 3_600_000] {
        let (own, theirs) = (of(&bucket, resolution).unwrap(), of(&golden, resolution).unwrap());
        for file in ["index", "chunks/000001"] {
            let same = std::fs::read(own.join(file)).unwrap() == std::fs::read(theirs.join(file)).unwrap();
            assert!(same, "{file} of {resolution}");
        }
    }
}

/// A block of one series with two chunks, the second of which lies behind the block's end.
fn block_with_a_chunk_outside(bucket: &Path) -> std::path::PathBuf {
    use engine::block::writer::{BlockWriter, ChunkData};
    use engine::bucket::Meta;
    use engine::chunk::{Encoding, xor};
    use engine::index::tsdb::Symbols;
    use engine::model::{BlockId, Labels};

    let id = BlockId::from_parts(1, 1);
    std::fs::create_dir_all(bucket).unwrap();
    let mut writer = BlockWriter::create(bucket, id, Symbols::from_sorted(["", "__name__", "up"])).unwrap();
    let encoded = |times: [i64; 2]| {
        let mut data = Vec::new();
        xor::encode(&times, &[1.0, 2.0], &mut data);
        (times, data)
    };
    let chunks = [encoded([0, 60_000]), encoded([7_200_000, 7_260_000])];
    let chunks = chunks.each_ref().map(|([min_time, max_time], data)| ChunkData {
        min_time: *min_time,
        max_time: *max_time,
        encoding: Encoding::Xor,
        data,
    });
    writer.add_labels(&Labels::from_pairs([("__name__", "up")]), &chunks).unwrap();
    let meta = serde_json::json!({
        "ulid": id.to_string(), "minTime": 0, "maxTime": 3_600_000, "version": 1,
        "compaction": {"level": 1, "sources": [id.to_string()]},
        "thanos": {"version": 1, "labels": {"cluster": "c1"}, "downsample": {"resolution": 0}, "source": "sidecar"},
    });
    writer.finish(Meta::parse(meta.to_string().as_bytes()).unwrap()).unwrap();
    bucket.join(id.to_string())
}

#[test]
fn a_block_with_a_chunk_outside_of_its_time_is_found_backed_up_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (bucket, backup) = (folder.path().join("bucket"), folder.path().join("backup"));
    let block = block_with_a_chunk_outside(&bucket);
    let whole = support::write_block(&bucket, 2, (2, 7_200_000));
    let id = block.file_name().unwrap().to_str().unwrap().to_owned();
    let verify = |flags: &[&str]| {
        let output = tools(&[&["bucket", "verify", "--issues=index_known_issues"], flags].concat(), &bucket);
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{log}");
        log.lines().filter(|line| line.contains("detected issue")).map(str::to_owned).collect::<Vec<_>>()
    };
    let found = verify(&[]);
    assert!(found.len() == 1 && found[0].contains(&id), "{found:?}");
    assert!(error(&["bucket", "verify", "--repair"], &bucket).contains("--objstore-backup.config"));
    let to = format!("--objstore-backup.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", backup.display());
    assert_eq!(verify(&["--repair", &to]).len(), 1);
    assert!(!block.join("meta.json").exists(), "the broken block is gone");
    for file in ["index", "chunks/000001", "meta.json"] {
        assert!(backup.join(&id).join(file).exists(), "{file} lies in the backup");
    }
    let left = blocks_in(&bucket);
    assert!(left.len() == 2 && left.contains(&whole), "{left:?}");
    let new = left.iter().find(|path| **path != whole).unwrap();
    assert_eq!(support::meta_of(new)["stats"]["numSamples"], 2);
    assert_eq!(verify(&[]), Vec::<String>::new());
    std::fs::remove_file(whole.join("index")).unwrap();
    let found = verify(&[]);
    assert!(found.len() == 1 && found[0].contains("index: there is no such object"), "{found:?}");
    let why = error(&["bucket", "verify", "--issues=overlapped_blocks", &format!("--id={id}")], &bucket);
    assert!(why.contains("verify overlapped_blocks: id matching is not supported"), "{why}");
}

#[test]
fn a_block_with_chunks_that_reach_over_its_times_stays_for_its_samples_would_be_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (bucket, backup) = (folder.path().join("bucket"), folder.path().join("backup"));
    let block = block_with_a_chunk_outside(&bucket);
    let mut meta = support::meta_of(&block);
    meta["maxTime"] = 7_230_000.into();
    std::fs::write(block.join("meta.json"), meta.to_string()).unwrap();
    let to = format!("--objstore-backup.config={{type: FILESYSTEM, config: {{directory: '{}'}}}}", backup.display());
    let output = tools(&["bucket", "verify", "--issues=index_known_issues", "--repair", &to], &bucket);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && log.contains("could not repair index"), "{log}");
    assert_eq!(blocks_in(&bucket), [block]);
    assert!(!backup.exists() || blocks_in(&backup).is_empty());
}

#[test]
fn a_block_is_rewritten_without_what_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (bucket, work) = (folder.path().join("bucket"), folder.path().join("work"));
    let old = support::write_block(&bucket, 1, (2, 0));
    let id = format!("--id={}", old.file_name().unwrap().to_str().unwrap());
    let work = format!("--tmp.dir={}", work.display());
    let deleted = "--rewrite.to-delete-config=[{matchers: up, intervals: [{mint: 0, maxt: 0}]}]";
    let rewrite = ["bucket", "rewrite", &id, &work, deleted];
    text(&rewrite, &bucket);
    assert_eq!(blocks_in(&bucket), std::slice::from_ref(&old), "a dry run by default");
    text(&[&rewrite[..], &["--no-dry-run"]].concat(), &bucket);
    let new = blocks_in(&bucket).into_iter().find(|block| *block != old).unwrap();
    assert_eq!(support::meta_of(&new)["stats"]["numSamples"], 2 * 59);
    assert!(support::meta_of(&new)["thanos"]["rewrites"][0]["deletions_applied"].is_array());
}

/// It once came back, as what a series is relabelled to has a reference of its own.
#[test]
fn what_tombstones_delete_of_a_block_that_is_relabelled_stays_deleted() {
    use engine::block::tombstones::Tombstones;
    use engine::index::tsdb::{Reader, Series};
    use engine::model::TimeRange;

    let folder = tempfile::tempdir().unwrap();
    let (bucket, work) = (folder.path().join("bucket"), folder.path().join("work"));
    let old = support::write_block(&bucket, 1, (3, 0));
    let index = Reader::open(std::fs::read(old.join("index")).unwrap()).unwrap();
    let (mut scan, mut series, mut tombstones) = (index.series(), Series::default(), Tombstones::default());
    for minutes in [30, 20, 10] {
        assert!(scan.next(&mut series).unwrap());
        tombstones.add(series.series_ref, TimeRange::new(0, minutes * 60_000 - 1));
    }
    std::fs::write(old.join("tombstones"), tombstones.to_bytes()).unwrap();
    let id = format!("--id={}", old.file_name().unwrap().to_str().unwrap());
    let work = format!("--tmp.dir={}", work.display());
    // The first and the last series become one, behind the one between them.
    let rule = "{source_labels: [instance], regex: 'i-000[02]', target_label: instance, replacement: z}";
    let relabelled = format!("--rewrite.to-relabel-config=[{rule}]");
    text(&["bucket", "rewrite", &id, &work, &relabelled, "--no-dry-run"], &bucket);
    let new = blocks_in(&bucket).into_iter().find(|block| *block != old).unwrap();
    let samples = support::faulty::samples_of(&new);
    let of = |instance: &str| {
        let samples = samples.iter().filter(|(labels, _, _)| labels.contains(instance));
        samples.map(|(_, time, _)| time / 60_000).collect::<Vec<i64>>()
    };
    assert_eq!(of("i-0001"), (20..60).collect::<Vec<i64>>());
    assert_eq!(of("\"z\""), (10..60).collect::<Vec<i64>>());
}

/// They once were left out without a word.
#[test]
fn chunks_outside_of_the_times_of_a_block_that_is_rewritten_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (bucket, work) = (folder.path().join("bucket"), folder.path().join("work"));
    let old = block_with_a_chunk_outside(&bucket);
    let id = format!("--id={}", old.file_name().unwrap().to_str().unwrap());
    let work = format!("--tmp.dir={}", work.display());
    let deleted = "--rewrite.to-delete-config=[{matchers: up, intervals: [{mint: 0, maxt: 0}]}]";
    let relabelled = "--rewrite.to-relabel-config=[{target_label: added, replacement: here}]";
    text(&["bucket", "rewrite", &id, &work, deleted, relabelled, "--no-dry-run"], &bucket);
    let new = support::meta_of(&blocks_in(&bucket).into_iter().find(|block| *block != old).unwrap());
    assert_eq!(new["stats"]["numSamples"], 3);
    assert_eq!(new["stats"]["numChunks"], 2);
    assert_eq!(new["maxTime"], 3_600_000);
}

#[test]
fn templates_of_rules_are_refused_in_the_words_of_thanos() {
    let folder = tempfile::tempdir().unwrap();
    let rules = "groups: [{name: a, rules: [{alert: b, expr: up, annotations: {summary: '{{ $values }}'}}]}]";
    std::fs::write(folder.path().join("bad.yaml"), rules).unwrap();
    let why = error(&["rules-check", &format!("--rules={}", folder.path().join("bad.yaml").display())], folder.path());
    let said =
        r#"group \"a\", rule 0, \"b\": annotation \"summary\": template: __alert_b:1: undefined variable \"$values\""#;
    assert!(why.replace('\\', "").contains(&said.replace('\\', "")), "{why}");
}

#[test]
fn files_of_rules_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("good.yaml"), "groups: [{name: a, rules: [{record: b, expr: up}]}]").unwrap();
    let bad = "groups: [{name: a, rules: [{record: b, expr: 'up('}, {record: c, expr: 'info(up)'}]}]";
    std::fs::write(folder.path().join("bad.yaml"), bad).unwrap();
    let pattern = |name: &str| format!("--rules={}", folder.path().join(name).display());
    text(&["rules-check", &pattern("good.*")], folder.path());
    let why = error(&["rules-check", &pattern("good.*"), &pattern("*.yaml")], folder.path());
    assert!(why.contains("bad.yaml") && why.contains("could not parse expression"), "{why}");
    assert!(why.contains("rule 1") && why.contains("is not enabled"), "{why}");
    assert!(error(&["rules-check", &pattern("none*")], folder.path()).contains("matching file not found"));
}

/// Whatever was called like no group, or no block that is to be downsampled, once went with the bucket.
#[test]
fn a_bucket_in_a_folder_of_work_is_refused_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let [data, work] = ["data", "work"].map(|name| folder.path().join(name));
    let http = "--http-address=127.0.0.1:0";
    let (data_dir, tmp) = (format!("--data-dir={}", data.display()), format!("--tmp.dir={}", work.display()));
    let id = "--id=01M7YFY7H37F9ZH8ZQ1CX44W25";
    let deletes = "--rewrite.to-delete-config=[{matchers: up, intervals: [{mint: 0, maxt: 0}]}]";
    let downsample = ["bucket", "downsample", &data_dir, http];
    let rewrite = ["bucket", "rewrite", id, &tmp, deletes];
    for (bucket, words) in [
        (data.join("downsample"), &downsample[..]),
        (data.join("downsample/bucket"), &downsample),
        (data.join("compact"), &["compact", &data_dir, http]),
        (data.join("meta-syncer"), &["compact", &data_dir, http]),
        (work.clone(), &rewrite),
        (work.join("bucket"), &rewrite),
    ] {
        let block = support::write_block(&bucket, 1, (2, 1_790_000_000_000));
        let text = if words[0] == "compact" {
            let directory = bucket.display();
            let config = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: '{directory}'}}}}");
            support::refused(&[words, &[config.as_str()]].concat())
        } else {
            error(words, &bucket)
        };
        let flag = if words[1] == "rewrite" { "--tmp.dir: " } else { "--data-dir: " };
        assert!(text.contains(flag) && text.contains("give folders that lie apart"), "{words:?}: {text}");
        assert!(block.join("meta.json").is_file() && block.join("index").is_file(), "{words:?}");
    }
}
