//! A bucket of S3: an S3 server in this process, the same blocks as in a folder, the same answers.

mod support;

use std::path::Path;

use proto::thanos::{LabelMatcher, LabelValuesRequest, LabelValuesResponse, SeriesRequest};
use support::{Uru, copy_folder, everything, run, series, unary, write_block};

const START: i64 = 1_700_000_000_000;

/// Serves the folder `root`, whose folders are buckets, over S3 until the test's end.
fn serve_s3(root: &Path) -> (String, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut builder = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    builder.set_auth(s3s::auth::SimpleAuth::from_single("key", "secret"));
    let service = builder.build();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    runtime.spawn(async move {
        loop {
            let Ok((socket, _)) = listener.accept().await else { return };
            let service = service.clone();
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                let _ = server.serve_connection(hyper_util::rt::TokioIo::new(socket), service).await;
            });
        }
    });
    (address, runtime)
}

fn flags(endpoint: &str, data_dir: &Path) -> [String; 2] {
    let config = format!(
        "{{type: S3, config: {{bucket: metrics, endpoint: '{endpoint}', insecure: true, access_key: key, \
         secret_key: secret, max_retries: 1}}, prefix: team/a}}"
    );
    [format!("--objstore.config={config}"), format!("--data-dir={}", data_dir.display())]
}

#[test]
fn blocks_in_s3_are_answered_as_blocks_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (bucket, root) = (folder.path().join("bucket"), folder.path().join("s3"));
    write_block(&bucket, 1, (300, START));
    write_block(&bucket, 2, (200, START + 3_600_000));
    copy_folder(&bucket, &root.join("metrics/team/a"));
    let (endpoint, s3) = serve_s3(&root);
    let local = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    let data_dir = format!("--data-dir={}", folder.path().join("local").display());
    let in_folder = Uru::start("store", &[&local, &data_dir]);
    let flags = flags(&endpoint, &folder.path().join("data"));
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
    drop(in_s3);
    let again = Uru::start("store", &[&flags[0], &flags[1]]);
    let got = "thanos_objstore_bucket_operations_total{bucket=\"metrics\",operation=\"get\"}";
    assert_eq!(again.metric(got), Some(0.0));

    // A bucket that is away: a warning, or an error, that names the block; the process goes on.
    s3.shutdown_background();
    run(async {
        let channel = again.connect().await;
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
