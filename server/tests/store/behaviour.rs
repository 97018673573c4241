//! What the store gateway does with requests and blocks, good and bad, over blocks of our own.

use std::path::{Path, PathBuf};

use prost::{Message, Name};
use proto::hintspb::{SeriesRequestHints, SeriesResponseHints};
use proto::thanos::info::{InfoRequest, InfoResponse};
use proto::thanos::series_response::Result as Frame;
use proto::thanos::{
    LabelMatcher, LabelNamesRequest, LabelNamesResponse, LabelValuesRequest, LabelValuesResponse, SeriesRequest,
    ShardInfo,
};
use tonic::Code;
use tonic::transport::Channel;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::{IO_MODES, Uru, everything, frames, refused, run, series, unary, wait, write_block};

const START: i64 = 1_700_000_000_000;

struct Fixture {
    folder: tempfile::TempDir,
    bucket: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bucket = folder.path().join("bucket");
        std::fs::create_dir_all(&bucket).unwrap();
        Self { folder, bucket }
    }

    fn start(&self, flags: &[&str]) -> Uru {
        self.start_as("store", flags)
    }

    fn start_as(&self, component: &str, flags: &[&str]) -> Uru {
        let [objstore, data_dir] = self.flags();
        Uru::start(component, &[&[objstore.as_str(), data_dir.as_str()], flags].concat())
    }

    fn flags(&self) -> [String; 2] {
        let objstore =
            format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", self.bucket.display());
        [objstore, format!("--data-dir={}", self.data_dir().display())]
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

fn matcher(kind: i32, name: &str, value: &str) -> LabelMatcher {
    LabelMatcher { r#type: kind, name: name.into(), value: value.into() }
}

/// The services that reflection lists, but for its own.
async fn reflected(channel: &Channel) -> Vec<String> {
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let asked = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answer = reflection.server_reflection_info(futures_util::stream::iter([asked])).await.unwrap();
    let answer = answer.into_inner().message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("services are listed") };
    let mut services: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    services.retain(|name| !name.starts_with("grpc.reflection."));
    services.sort_unstable();
    services
}

#[test]
fn processes_list_the_services_that_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("--tsdb.path={}", folder.path().display());
    let data = format!("--data-dir={}", folder.path().join("data").display());
    let receive = ["--label=receive=\"a\"", "--remote-write.address=127.0.0.1:0", &path];
    let both = ["grpc.health.v1.Health", "thanos.Exemplars", "thanos.Query", "thanos.Status", "thanos.Store"];
    for (component, flags, more) in [
        ("query", &[][..], &["thanos.Metadata", "thanos.Rules", "thanos.Targets", "thanos.info.Info"][..]),
        ("receive", &receive, &["thanos.Metadata", "thanos.WriteableStore", "thanos.info.Info"]),
        ("all-in-one", &[data.as_str()], &["thanos.Metadata", "thanos.WriteableStore", "thanos.info.Info"]),
    ] {
        let uru = Uru::start(component, flags);
        let mut wanted = [&both, more].concat();
        wanted.sort_unstable();
        assert_eq!(run(async { reflected(&uru.connect().await).await }), wanted, "{component}");
    }
}

#[test]
fn series_come_in_order_batched_limited_sharded_and_without_replica_labels() {
    let fixture = Fixture::new();
    write_block(&fixture.bucket, 1, (500, START));
    for mode in IO_MODES {
        let uru = fixture.start(&[&format!("--io.mode={mode}")]);
        run(async {
            let channel = uru.connect().await;
            let (all, _) = series(&channel, everything()).await.unwrap();
            let names =
                |series: &proto::thanos::Series| series.labels.iter().map(|label| label.value.clone()).collect();
            let values: Vec<Vec<String>> = all.iter().map(names).collect();
            assert!(values.len() == 500 && values.is_sorted());
            assert_eq!(values[7], ["up", "c1", "i-0007"]);

            let batched = SeriesRequest { response_batch_size: 64, ..everything() };
            let batches = frames(&channel, batched.clone()).await.unwrap();
            assert!(batches.len() < 20, "{} frames", batches.len());
            assert!(series(&channel, batched).await.unwrap().0 == all);

            let limited = SeriesRequest { limit: 3, ..everything() };
            assert!(series(&channel, limited).await.unwrap().0 == all[..3]);

            let mut sharded = 0;
            for shard_index in 0..3 {
                let shard = ShardInfo { shard_index, total_shards: 3, by: true, labels: vec!["instance".into()] };
                let request = SeriesRequest { shard_info: Some(shard), ..everything() };
                sharded += series(&channel, request).await.unwrap().0.len();
            }
            assert_eq!(sharded, 500);

            let without = SeriesRequest { without_replica_labels: vec!["cluster".into()], ..everything() };
            assert_eq!(series(&channel, without).await.unwrap().0[0].labels.len(), 2);
        });
        assert!(uru.terminate().success());
    }
}

#[test]
fn what_is_wrong_with_a_request_is_said_in_thanos_words() {
    let fixture = Fixture::new();
    write_block(&fixture.bucket, 1, (50, START));
    let uru = fixture.start(&["--store.limits.request-series=10"]);
    run(async {
        let channel = uru.connect().await;
        let bad = SeriesRequest { matchers: vec![matcher(2, "instance", "(")], ..everything() };
        let status = series(&channel, bad).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("error parsing regexp: missing closing )"), "{status}");

        let names = LabelNamesRequest { matchers: vec![matcher(2, "instance", "(")], ..Default::default() };
        let answer: Result<LabelNamesResponse, _> = unary(&channel, "/thanos.Store/LabelNames", names).await;
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("translate request labels matchers: "), "{status}");

        let reversed = SeriesRequest { min_time: 10, max_time: 5, ..SeriesRequest::default() };
        assert_eq!(series(&channel, reversed).await.unwrap().0, []);

        let status = series(&channel, everything()).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("--store.limits.request-series"), "{status}");
        let few = SeriesRequest { matchers: vec![matcher(2, "instance", "i-000.")], ..everything() };
        assert_eq!(series(&channel, few).await.unwrap().0.len(), 10);
    });
    assert_eq!(uru.metric("thanos_bucket_store_queries_dropped_total{reason=\"series\""), Some(1.0));
}

#[test]
fn info_health_and_hints_say_what_there_is() {
    let fixture = Fixture::new();
    write_block(&fixture.bucket, 1, (5, START));
    write_block(&fixture.bucket, 2, (5, START + 3_600_000));
    let uru = fixture.start(&[]);
    run(async {
        let channel = uru.connect().await;
        let info: InfoResponse = unary(&channel, "/thanos.info.Info/Info", InfoRequest {}).await.unwrap();
        let store = info.store.unwrap();
        assert_eq!(info.component_type, "store");
        assert!(store.supports_sharding && store.supports_without_replica_labels && store.supports_projections);
        assert_eq!((store.min_time, store.max_time), (START, START + 3_600_000 + 59 * 60_000 + 1));
        assert_eq!((info.label_sets.len(), store.tsdb_infos.len()), (1, 1));
        let known = store.tsdb_infos[0].min_time..=store.tsdb_infos[0].max_time;
        assert_eq!(known, store.min_time..=store.max_time, "a gap between blocks is none to those who push queries");

        let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
        let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
        assert_eq!(answer.into_inner().status, 1);

        let services = reflected(&channel).await;
        assert_eq!(services, ["grpc.health.v1.Health", "thanos.Query", "thanos.Store", "thanos.info.Info"]);

        let id = "__block_id";
        let hints = SeriesRequestHints { block_matchers: vec![matcher(2, id, ".+")], enable_query_stats: true };
        let any = prost_types::Any { type_url: SeriesRequestHints::type_url(), value: hints.encode_to_vec() };
        let found = frames(&channel, SeriesRequest { hints: Some(any), ..everything() }).await.unwrap();
        let Some(Frame::Hints(any)) = &found.last().unwrap().result else { panic!("hints come last") };
        let hints = SeriesResponseHints::decode(&*any.value).unwrap();
        assert_eq!(hints.queried_blocks.len(), 2);
        assert_eq!(hints.query_stats.unwrap().merged_series_count, 5);
    });
    let (status, blocks) = uru.get("/api/v1/blocks");
    assert!(status == 200 && blocks.contains("\"numSeries\":5"), "{blocks}");
    for (path, holds) in [("buildinfo", "\"version\":"), ("runtimeinfo", "\"startTime\":"), ("flags", "\"data-dir\":")]
    {
        let (status, body) = uru.get(&format!("/api/v1/status/{path}"));
        assert!(status == 200 && body.contains(holds), "{path}: {body}");
    }
    assert_eq!(uru.metric("thanos_bucket_store_blocks_loaded"), Some(2.0));
    assert_eq!(uru.metric("grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Series\""), Some(1.0));
}

#[test]
fn blocks_come_and_go_with_the_bucket() {
    let fixture = Fixture::new();
    let first = write_block(&fixture.bucket, 1, (5, START));
    std::fs::create_dir_all(fixture.bucket.join("01M7YFZP7XEVXZPFAJ3G00DZX3/chunks")).unwrap();
    std::fs::write(fixture.bucket.join("01M7YFZP7XEVXZPFAJ3G00DZX3/index"), b"half").unwrap();
    let uru = fixture.start(&["--sync-block-duration=50ms", "--ignore-deletion-marks-delay=0s"]);
    let loaded = "thanos_bucket_store_blocks_loaded";
    assert_eq!(uru.metric(loaded), Some(1.0));
    assert_eq!(uru.metric("thanos_blocks_meta_synced{state=\"no-meta-json\"}"), Some(1.0));
    write_block(&fixture.bucket, 2, (5, START + 3_600_000));
    wait(|| uru.metric(loaded) == Some(2.0));
    let id = first.file_name().unwrap().to_str().unwrap();
    let mark = format!("{{\"id\":\"{id}\",\"version\":1,\"deletion_time\":1700000000}}");
    std::fs::write(first.join("deletion-mark.json"), mark).unwrap();
    wait(|| uru.metric(loaded) == Some(1.0));
    assert_eq!(uru.metric("thanos_bucket_store_block_drops_total"), Some(1.0));
    assert!(!fixture.data_dir().join(id).exists());
}

#[test]
fn a_damaged_chunk_fails_its_block_alone() {
    let fixture = Fixture::new();
    let damaged = write_block(&fixture.bucket, 1, (5, START));
    write_block(&fixture.bucket, 2, (5, START + 3_600_000));
    let segment = damaged.join("chunks/000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let uru = fixture.start(&[]);
    run(async {
        let channel = uru.connect().await;
        let (found, warnings) = series(&channel, everything()).await.unwrap();
        assert_eq!(found.len(), 5);
        let id = damaged.file_name().unwrap().to_str().unwrap();
        assert!(warnings[0].contains(id) && warnings[0].contains("chunks/000001"), "{warnings:?}");
        let abort = SeriesRequest { partial_response_strategy: 1, ..everything() };
        assert_eq!(series(&channel, abort).await.unwrap_err().code(), Code::Aborted);
    });
}

#[test]
fn a_block_that_fails_in_every_range_of_an_answer_is_told_of_once() {
    let fixture = Fixture::new();
    let broken = write_block(&fixture.bucket, 1, (10_000, START));
    write_block(&fixture.bucket, 2, (10_000, START + 3_600_000));
    std::fs::remove_file(broken.join("chunks/000001")).unwrap();
    let uru = fixture.start(&[]);
    run(async {
        let channel = uru.connect().await;
        let (found, warnings) = series(&channel, everything()).await.unwrap();
        assert_eq!((found.len(), warnings.len()), (10_000, 1), "{warnings:?}");
    });
    assert_eq!(uru.log().matches("a block failed to answer").count(), 1);
}

#[test]
fn a_store_of_more_segments_than_it_may_open_files_answers_for_all_of_them() {
    const BLOCKS: i64 = 150;
    let fixture = Fixture::new();
    let range = |at: i64| (START + at * 3_600_000, START + at * 3_600_000 + 60_000);
    for at in 0..BLOCKS {
        write_block(&fixture.bucket, 1 + at as u128, (3, range(at).0));
    }
    let [objstore, data_dir] = fixture.flags();
    let uru = Uru::start_limited("ulimit -n 128", "store", &[&objstore, &data_dir]);
    run(async {
        let channel = uru.connect().await;
        for at in (0..BLOCKS).chain(0..BLOCKS) {
            let (min_time, max_time) = range(at);
            let (found, warnings) =
                series(&channel, SeriesRequest { min_time, max_time, ..everything() }).await.unwrap();
            assert_eq!((found.len(), warnings), (3, Vec::new()), "block {at}");
        }
        // All at once are too many: one series is read from a few of them after the others.
        let (found, warnings) = series(&channel, everything()).await.unwrap();
        assert_eq!((found.len(), warnings), (3, Vec::new()));
        assert_eq!(uru.get("/-/healthy").0, 200);
        let (min_time, max_time) = range(BLOCKS - 1);
        let (found, _) = series(&channel, SeriesRequest { min_time, max_time, ..everything() }).await.unwrap();
        assert_eq!(found.len(), 3);
    });
}

/// Indexes of so many blocks once took all files that the process may open, and no connection was taken any more.
#[test]
fn a_store_of_more_indexes_than_it_may_open_files_answers_through_their_index_headers() {
    const BLOCKS: i64 = 300;
    let fixture = Fixture::new();
    let range = |at: i64| (START + at * 3_600_000, START + at * 3_600_000 + 60_000);
    for at in 0..BLOCKS {
        write_block(&fixture.bucket, 1 + at as u128, (3, range(at).0));
    }
    let [objstore, data_dir] = fixture.flags();
    let few = "--block-sync-concurrency=4";
    let uru = Uru::start_limited("ulimit -n 256", "store", &[&objstore, &data_dir, "--store.index=header", few]);
    assert_eq!(uru.metric("thanos_bucket_store_blocks_loaded"), Some(BLOCKS as f64), "{}", uru.log());
    run(async {
        let channel = uru.connect().await;
        for at in 0..BLOCKS {
            let (min_time, max_time) = range(at);
            let (found, warnings) =
                series(&channel, SeriesRequest { min_time, max_time, ..everything() }).await.unwrap();
            assert_eq!((found.len(), warnings), (3, Vec::new()), "block {at}");
        }
    });
}

#[test]
fn a_damaged_column_index_is_built_anew_and_a_broken_index_fails_its_block_alone() {
    let fixture = Fixture::new();
    write_block(&fixture.bucket, 1, (5, START));
    let broken = write_block(&fixture.bucket, 2, (5, START + 3_600_000));
    std::fs::write(broken.join("index"), b"no index").unwrap();
    drop(fixture.start(&[]));
    let folder = blocks_with_index(&fixture.data_dir()).remove(0);
    let mut bytes = std::fs::read(folder.join("column-index")).unwrap();
    let end = bytes.len() - 4;
    bytes[end] ^= 1;
    std::fs::write(folder.join("column-index"), bytes).unwrap();
    let uru = fixture.start(&[]);
    assert_eq!(uru.metric("thanos_bucket_store_column_index_rebuilds_total"), Some(1.0));
    assert_eq!(uru.metric("thanos_bucket_store_block_load_failures_total"), Some(1.0));
    run(async {
        let request = LabelValuesRequest { label: "instance".into(), end: i64::MAX, ..Default::default() };
        let channel = uru.connect().await;
        let answer: LabelValuesResponse = unary(&channel, "/thanos.Store/LabelValues", request).await.unwrap();
        assert_eq!((answer.values.len(), answer.warnings.len()), (5, 1));
    });
}

#[test]
fn the_label_without_a_name_has_the_value_that_it_has_in_thanos() {
    let fixture = Fixture::new();
    write_block(&fixture.bucket, 1, (5, START));
    write_block(&fixture.bucket, 2, (3, START + 3_600_000));
    for form in ["column", "header"] {
        let uru = fixture.start(&[&format!("--store.index={form}")]);
        run(async {
            let channel = uru.connect().await;
            let values = async |matchers: Vec<LabelMatcher>| {
                let request = LabelValuesRequest { end: i64::MAX, matchers, ..Default::default() };
                let answer: LabelValuesResponse = unary(&channel, "/thanos.Store/LabelValues", request).await.unwrap();
                answer.values
            };
            assert_eq!(values(Vec::new()).await, [""], "{form}");
            assert!(values(everything().matchers).await.is_empty(), "{form}");
        });
    }
}

#[test]
fn a_block_whose_index_or_meta_cannot_be_read_is_missed_by_name_until_it_can() {
    let fixture = Fixture::new();
    write_block(&fixture.bucket, 1, (5, START));
    let broken = write_block(&fixture.bucket, 2, (3, START + 3_600_000));
    let id = broken.file_name().unwrap().to_str().unwrap();
    let [index, meta] =
        ["index", "meta.json"].map(|name| (broken.join(name), std::fs::read(broken.join(name)).unwrap()));
    let other = std::fs::read_to_string(&meta.0).unwrap().replace(id, "01M7YFZP7XEVXZPFAJ3G00DZX3");
    let damages: [(&Path, &[u8], &str); 5] = [
        (&index.0, &index.1[..index.1.len() - 9], "index: "),
        (&index.0, b"no index", "index: "),
        (&meta.0, &meta.1[..40], "meta.json: "),
        (&meta.0, other.as_bytes(), "meta.json is that of block 01M7YFZP7XEVXZPFAJ3G00DZX3"),
        (&meta.0, b"{\"version\": 2}", "meta.json: "),
    ];
    for (path, bytes, why) in damages {
        let sound = std::fs::read(path).unwrap();
        std::fs::write(path, bytes).unwrap();
        let uru = fixture.start_as("all-in-one", &["--sync-block-duration=50ms", "--no-self-scrape"]);
        assert_eq!(uru.metric("thanos_bucket_store_blocks_loaded"), Some(1.0), "{why}");
        let (found, warnings) = everything_from(&uru, START, false).unwrap();
        let names = |text: &str| text.starts_with(&format!("block {id}: ")) && text.contains(why);
        assert!(found == 5 && warnings.len() == 1 && names(&warnings[0]), "{why}: {found} {warnings:?}");
        let refused = everything_from(&uru, START, true).unwrap_err();
        assert!(refused.code() == Code::Aborted && names(refused.message()), "{refused:?}");
        let query = format!("/api/v1/query?query=count(up)&time={}", (START + 4_000_000) / 1000);
        let (status, body) = uru.get(&query);
        assert!(status == 200 && body.contains(id) && body.contains("\"result\":[]"), "{body}");
        let (status, body) = uru.get(&format!("{query}&partial_response=false"));
        assert!(status != 200 && body.contains(id), "{body}");
        let (_, blocks) = uru.get("/api/v1/blocks?view=loaded");
        assert!(!blocks.contains(id), "{blocks}");
        std::fs::write(path, sound).unwrap();
        wait(|| uru.metric("thanos_bucket_store_blocks_loaded") == Some(2.0));
        assert_eq!(everything_from(&uru, START, true).unwrap(), (5, Vec::new()), "{why}");
        drop(uru);
        std::fs::remove_dir_all(fixture.data_dir()).unwrap();
    }
}

/// Its times were once left out of those that the store tells, and a querier did not ask for them.
#[test]
fn a_querier_is_told_of_a_block_whose_meta_cannot_be_read_whatever_time_it_asks_for() {
    let fixture = Fixture::new();
    write_block(&fixture.bucket, 1, (5, START));
    let broken = write_block(&fixture.bucket, 2, (3, START + 86_400_000));
    std::fs::write(broken.join("meta.json"), b"{\"version\": 2}").unwrap();
    let store = fixture.start(&[]);
    run(async {
        let info: InfoResponse = unary(&store.connect().await, "/thanos.info.Info/Info", InfoRequest {}).await.unwrap();
        let (told, known) = (info.store.unwrap(), info.label_sets.len());
        assert!(told.min_time < START && told.max_time > START + 86_400_000 && known == 1, "{told:?}");
    });
    let querier = Uru::start("query", &[&format!("--endpoint={}", store.grpc)]);
    let query = format!("/api/v1/query?query=count(up)&time={}", (START + 86_400_000 + 60_000) / 1000);
    querier.wait_for(&query, broken.file_name().unwrap().to_str().unwrap());
}

/// How many series there are from a time on, and the warnings beside them.
fn everything_from(uru: &Uru, min_time: i64, aborts: bool) -> Result<(usize, Vec<String>), tonic::Status> {
    run(async {
        let request = SeriesRequest { min_time, partial_response_strategy: aborts.into(), ..everything() };
        let (found, warnings) = series(&uru.connect().await, request).await?;
        Ok((found.len(), warnings))
    })
}

fn blocks_with_index(data_dir: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(data_dir).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|folder| folder.join("column-index").is_file()).collect()
}

#[test]
fn a_folder_of_the_bucket_that_was_not_there_is_told_of() {
    let fixture = Fixture::new();
    std::fs::remove_dir(&fixture.bucket).unwrap();
    let words = "made the folder of the bucket, which was not there";
    assert!(fixture.start(&[]).log().contains(words));
    assert!(!fixture.start(&[]).log().contains(words), "it is there now");
}

#[test]
fn a_store_that_cannot_write_its_folder_or_has_no_memory_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let objstore =
        format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", folder.path().display());
    let addresses = ["--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"];
    let text = refused(&[&["store", &objstore, &format!("--data-dir={}", file.display())][..], &addresses].concat());
    assert!(text.contains("--data-dir: "), "{text}");
    // As for a querier, 0 is the default.
    let data_dir = format!("--data-dir={}", folder.path().join("data").display());
    let uru = Uru::start("store", &[&objstore, &data_dir, "--store.memory-limit=0"]);
    assert!(uru.metric("uru_memory_limit_bytes").unwrap() > 0.0);
}
