//! The querier as an endpoint of another one: what a request asks for holds for all of its endpoints
//! together.

use proto::thanos::info::{InfoRequest, InfoResponse};
use proto::thanos::{
    LabelNamesRequest, LabelNamesResponse, LabelValuesRequest, LabelValuesResponse, SeriesRequest, ShardInfo,
};

use crate::support;
use crate::support::endpoint::{Answers, Endpoint, Step, series_frame};
use crate::support::{Uru, everything, series, set_labels, unary, write_block};

const START: i64 = 1_700_000_040_000;

fn store(folder: &std::path::Path, cluster: &str) -> Uru {
    let bucket = folder.join("bucket");
    set_labels(&write_block(&bucket, 1, (3, START)), &[("cluster", cluster)]);
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    Uru::start("store", &[&objstore, &format!("--data-dir={}", folder.join("data").display())])
}

fn values(label: &str, limit: i64) -> LabelValuesRequest {
    LabelValuesRequest { label: label.into(), end: i64::MAX, limit, ..LabelValuesRequest::default() }
}

#[test]
fn a_limit_holds_for_all_endpoints_together() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (store(one.path(), "a"), store(two.path(), "b"));
    let uru = Uru::start("query", &[&format!("--endpoint={}", a.grpc), &format!("--endpoint={}", b.grpc)]);
    support::run(async {
        let channel = uru.connect().await;
        for (limit, expected) in [(0, 6), (1, 1), (4, 4), (9, 6), (-1, 6)] {
            let (found, warnings) = series(&channel, SeriesRequest { limit, ..everything() }).await.unwrap();
            assert_eq!((found.len(), warnings), (expected, Vec::new()), "{limit}");
        }
        for (limit, expected) in [(0, &["a", "b"][..]), (1, &["a"]), (2, &["a", "b"])] {
            let found: LabelValuesResponse =
                unary(&channel, "/thanos.Store/LabelValues", values("cluster", limit)).await.unwrap();
            assert_eq!(found.values, expected, "{limit}");
        }
        let names = LabelNamesRequest { end: i64::MAX, limit: 2, ..LabelNamesRequest::default() };
        let found: LabelNamesResponse = unary(&channel, "/thanos.Store/LabelNames", names).await.unwrap();
        assert_eq!(found.names, ["__name__", "cluster"]);
    });
}

#[test]
fn each_series_is_in_one_share_and_the_querier_says_that_it_makes_shares() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), "a");
    let uru = Uru::start("query", &[&format!("--endpoint={}", store.grpc)]);
    support::run(async {
        let channel = uru.connect().await;
        let info: InfoResponse = unary(&channel, "/thanos.info.Info/Info", InfoRequest {}).await.unwrap();
        assert!(info.store.unwrap().supports_sharding);
        let mut found = Vec::new();
        for shard_index in 0..2 {
            let shard = ShardInfo { shard_index, total_shards: 2, by: true, labels: vec!["instance".into()] };
            let asked = SeriesRequest { shard_info: Some(shard), ..everything() };
            found.extend(series(&channel, asked).await.unwrap().0);
        }
        found.sort_by_key(|series| format!("{:?}", series.labels));
        assert_eq!(found, series(&channel, everything()).await.unwrap().0);
    });
}

#[test]
fn warnings_come_with_a_limit_that_is_reached() {
    let up = |instance: &str| series_frame(&[("__name__", "up"), ("instance", instance)], &[(START, 1.0)]);
    let steps = vec![Step::Send(up("a")), Step::Send(up("b")), Step::Send(up("c"))];
    let store = Endpoint::start(Answers::store(&[("store", "a")], steps));
    let gone = support::free_address();
    let flags = [format!("--endpoint={}", store.address), format!("--endpoint-strict={gone}")];
    let uru = Uru::start("query", &[&flags[0], &flags[1]]);
    support::run(async {
        let channel = uru.connect().await;
        let (found, warnings) = series(&channel, SeriesRequest { limit: 2, ..everything() }).await.unwrap();
        assert_eq!((found.len(), warnings.len()), (2, 1), "{warnings:?}");
    });
}

#[test]
fn a_request_says_in_either_of_two_fields_that_nothing_may_be_missing() {
    let up = series_frame(&[("__name__", "up"), ("instance", "a")], &[(START, 1.0)]);
    let store = Endpoint::start(Answers::store(&[("store", "a")], vec![Step::Send(up)]));
    let gone = support::free_address();
    let flags = [format!("--endpoint={}", store.address), format!("--endpoint-strict={gone}")];
    let uru = Uru::start("query", &[&flags[0], &flags[1]]);
    support::run(async {
        let channel = uru.connect().await;
        let (found, warnings) = series(&channel, everything()).await.unwrap();
        assert_eq!((found.len(), warnings.len()), (1, 1), "{warnings:?}");
        for (partial_response_strategy, partial_response_disabled) in [(1, false), (0, true), (1, true)] {
            let strict = SeriesRequest { partial_response_strategy, partial_response_disabled, ..everything() };
            let refused = series(&channel, strict).await.unwrap_err();
            assert!(refused.message().contains(&gone), "{refused}");
            let strict =
                LabelValuesRequest { partial_response_strategy, partial_response_disabled, ..values("instance", 0) };
            let asked = unary::<_, LabelValuesResponse>(&channel, "/thanos.Store/LabelValues", strict);
            let refused = asked.await.unwrap_err();
            assert!(refused.message().contains(&gone), "{refused}");
            let strict = LabelNamesRequest {
                partial_response_strategy,
                partial_response_disabled,
                end: i64::MAX,
                ..LabelNamesRequest::default()
            };
            let asked = unary::<_, LabelNamesResponse>(&channel, "/thanos.Store/LabelNames", strict);
            assert!(asked.await.is_err());
        }
    });
}

#[test]
fn values_of_no_label_are_refused() {
    let store = Endpoint::start(Answers::store(&[("store", "a")], Vec::new()));
    let uru = Uru::start("query", &[&format!("--endpoint={}", store.address)]);
    support::run(async {
        let channel = uru.connect().await;
        let asked = unary::<_, LabelValuesResponse>(&channel, "/thanos.Store/LabelValues", values("", 0));
        let status = asked.await.unwrap_err();
        let expected = (tonic::Code::InvalidArgument, "label name parameter cannot be empty");
        assert_eq!((status.code(), status.message()), expected);
    });
}
