//! A bucket of S3: an S3 server that the test starts, the same blocks as in a folder, the same answers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine::bucket::Meta;
use proto::thanos::{LabelMatcher, LabelValuesRequest, LabelValuesResponse, SeriesRequest};
use server::objstore::{Bucket, BucketConfig};

use crate::support;
use crate::support::s3::FakeS3;
use crate::support::{Uru, everything, get, run, series, unary, write_block};

const START: i64 = 1_700_000_000_000;

/// moto, an S3 server; ended when dropped.
struct Moto {
    child: Child,
    address: String,
}

impl Moto {
    /// Starts it; `None`, said loudly, where it isn't installed (`pip install 'moto[server]'`).
    fn start() -> Option<Self> {
        let path = std::env::var("PATH").unwrap_or_default();
        let program = path.split(':').map(|folder| Path::new(folder).join("moto_server")).find(|path| path.is_file());
        let Some(program) = program else {
            assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "moto_server is required");
            eprintln!("SKIPPED: moto_server is not on the PATH");
            return None;
        };
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let port = free.port().to_string();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port]).stdout(Stdio::null()).stderr(Stdio::null());
        let moto = Self { child: command.spawn().unwrap(), address: free.to_string() };
        let begin = Instant::now();
        while get(&moto.address, "/moto-api/").is_none() {
            assert!(begin.elapsed() < Duration::from_secs(60), "moto_server never answered");
            std::thread::sleep(Duration::from_millis(20));
        }
        moto.create_bucket();
        Some(moto)
    }

    fn create_bucket(&self) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&self.address).unwrap();
        let request = "PUT /metrics HTTP/1.1\r\nHost: s3\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Uploads every file of `folder`, under its path.
fn upload(config: &str, folder: &Path) {
    // Another test of this process may have done so before.
    drop(rustls::crypto::ring::default_provider().install_default());
    let config = BucketConfig::parse("objstore.config", config).unwrap();
    let bucket = Bucket::open(&config, &mut prometheus_client::registry::Registry::default()).unwrap();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    run(async {
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                    bucket.upload(name, std::fs::read(&path).unwrap().into()).await.unwrap();
                }
            }
        }
    });
}

/// The meta.json of every block in the bucket.
fn metas(config: &str) -> Vec<Meta> {
    let config = BucketConfig::parse("objstore.config", config).unwrap();
    let bucket = Bucket::open(&config, &mut prometheus_client::registry::Registry::default()).unwrap();
    run(async {
        let mut names = Vec::new();
        bucket.list("", |object| names.push(object.name)).await.unwrap();
        let mut metas = Vec::new();
        for name in names.iter().filter(|name| name.ends_with("/meta.json")) {
            metas.push(Meta::parse(&bucket.get(name).await.unwrap().unwrap()).unwrap());
        }
        metas
    })
}

fn config(endpoint: &str) -> String {
    format!(
        "{{type: S3, config: {{bucket: metrics, endpoint: '{endpoint}', insecure: true, access_key: key, \
         secret_key: secret, max_retries: 1}}, prefix: team/a}}"
    )
}

#[test]
fn foreign_keys_are_passed_over_and_objects_are_deleted_one_by_one() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let fake = FakeS3::start(folder.path());
    let config = BucketConfig::parse("objstore.config", &fake.config()).unwrap();
    let bucket = Bucket::open(&config, &mut prometheus_client::registry::Registry::default()).unwrap();
    run(async {
        let mut names = Vec::new();
        bucket.list("", |object| names.push(object.name)).await.unwrap();
        names.sort();
        assert_eq!(names, ["a", "b"]);
        bucket.delete("a").await.unwrap();
    });
    assert!(!folder.path().join("a").exists() && folder.path().join("b").exists());
}

#[test]
fn blocks_in_s3_are_compacted_and_answered_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let Some(moto) = Moto::start() else { return };
    let bucket = folder.path().join("bucket");
    let two_hours = 2 * 3_600_000;
    let start = START - START % (4 * two_hours);
    for at in 0..6 {
        write_block(&bucket, 1 + at as u128, (3, start + at * two_hours));
    }
    upload(&config(&moto.address), &bucket);
    let objstore = format!("--objstore.config={}", config(&moto.address));
    let answers = |name: &str| {
        let data_dir = format!("--data-dir={}", folder.path().join(name).display());
        let store = Uru::start("store", &[&objstore, &data_dir]);
        let (found, warnings) = run(async { series(&store.connect().await, everything()).await.unwrap() });
        assert!(warnings.is_empty(), "{warnings:?}");
        found
    };
    let before = answers("before");
    support::compact_once(&objstore, &folder.path().join("compact"));
    let metas = metas(&config(&moto.address));
    let mut sources: Vec<usize> = metas.iter().map(|meta| meta.compaction.sources.len()).collect();
    sources.sort_unstable();
    assert_eq!(sources, [1, 1, 4], "four blocks of two hours became one of eight, and are gone");
    assert!(answers("after") == before);
}

#[test]
fn blocks_in_s3_are_answered_as_blocks_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let Some(moto) = Moto::start() else { return };
    let bucket = folder.path().join("bucket");
    write_block(&bucket, 1, (300, START));
    write_block(&bucket, 2, (200, START + 3_600_000));
    upload(&config(&moto.address), &bucket);
    let local = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    let data_dir = format!("--data-dir={}", folder.path().join("local").display());
    let in_folder = Uru::start("store", &[&local, &data_dir]);
    let flags = [
        format!("--objstore.config={}", config(&moto.address)),
        format!("--data-dir={}", folder.path().join("data").display()),
    ];
    let in_s3 = Uru::start("store", &[&flags[0], &flags[1]]);
    run(async {
        let (left, right) = (in_folder.connect().await, in_s3.connect().await);
        for request in [everything(), SeriesRequest { response_batch_size: 64, skip_chunks: true, ..everything() }] {
            let (expected, _) = series(&left, request.clone()).await.unwrap();
            let (found, warnings) = series(&right, request).await.unwrap();
            assert!(warnings.is_empty(), "{warnings:?}");
            assert_eq!(found.len(), 300);
            assert!(found == expected);
        }
        let request = LabelValuesRequest { label: "instance".into(), end: i64::MAX, ..Default::default() };
        let values: LabelValuesResponse = unary(&right, "/thanos.Store/LabelValues", request).await.unwrap();
        assert_eq!(values.values.len(), 300);
    });
    let fetched = "thanos_objstore_bucket_operations_total{bucket=\"metrics\",operation=\"get_range\"}";
    assert!(in_s3.metric(fetched).unwrap() > 0.0);

    // A second start reads neither metas nor indexes from the bucket.
    assert!(in_s3.terminate().success());
    let again = Uru::start("store", &[&flags[0], &flags[1]]);
    let got = "thanos_objstore_bucket_operations_total{bucket=\"metrics\",operation=\"get\"}";
    assert_eq!(again.metric(got), Some(0.0));

    // A bucket that is away: what is cached is answered; of what is not there is a warning, or an error,
    // that names the block, and the process goes on.
    let uncached = Uru::start("store", &[&flags[0], &flags[1], "--index-cache-size=0"]);
    drop(moto);
    run(async {
        let (found, warnings) = series(&again.connect().await, everything()).await.unwrap();
        assert!(found.len() == 300 && warnings.is_empty(), "{} series, {warnings:?}", found.len());
        let channel = uncached.connect().await;
        let matcher = LabelMatcher { r#type: 0, name: "instance".into(), value: "i-0007".into() };
        let request = SeriesRequest { matchers: vec![matcher], ..everything() };
        let (_, warnings) = series(&channel, request.clone()).await.unwrap();
        assert!(
            warnings.iter().all(|warning| warning.contains("chunks/000001")) && !warnings.is_empty(),
            "{warnings:?}"
        );
        let request = SeriesRequest { partial_response_strategy: 1, ..request };
        assert_eq!(series(&channel, request).await.unwrap_err().code(), tonic::Code::Aborted);
        let (found, _) = series(&channel, SeriesRequest { skip_chunks: true, ..everything() }).await.unwrap();
        assert_eq!(found.len(), 300);
    });
}
