//! Tenancy of a querier: every API shows a tenant its own series and no others, whether the tenant is
//! named by a header or by a client's certificate.

use prost::Message;
use proto::prometheus_copy::{self, LabelMatcher, Query, ReadRequest, ReadResponse};
use proto::thanos::info::ExemplarsInfo;
use proto::thanos::{Exemplar, ExemplarData, ExemplarsResponse, Label, ZLabelSet, exemplars_response};
use serde_json::Value;

use crate::support::authority::Authority;
use crate::support::endpoint::{Answers, Endpoint, Step, label, series_frame};
use crate::support::write;
use crate::support::{Uru, request, run, set_labels, wait, write_block};

const START: i64 = 1_700_000_040_000;

/// A store of two blocks: three series of tenant a, five of tenant b.
fn store(folder: &std::path::Path) -> Uru {
    let bucket = folder.join("bucket");
    for (tenant, series) in [("a", 3), ("b", 5)] {
        let block = write_block(&bucket, series as u128, (series, START));
        set_labels(&block, &[("team", tenant)]);
    }
    let objstore = format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display());
    Uru::start("store", &[&objstore, &format!("--data-dir={}", folder.join("data").display())])
}

#[test]
fn a_tenant_sees_its_own_series_in_every_api() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let endpoint = format!("--endpoint={}", store.grpc);
    let flags = [endpoint.as_str(), "--query.tenant-header=X-Team", "--query.tenant-label-name=team"];
    let more = ["--query.enforce-tenancy", "--enable-feature=promql-experimental-functions"];
    let uru = Uru::start("query", &[&flags[..], &more].concat());
    let ask = |tenant: &str, path: &str| -> Value {
        let (status, _, body) = request(&uru.http, ("GET", path), &[&format!("X-Team: {tenant}")], b"");
        let body = String::from_utf8(body).unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str::<Value>(&body[body.find('{').unwrap()..=body.rfind('}').unwrap()]).unwrap()["data"].take()
    };
    let len = |value: &Value| value.as_array().unwrap().len();
    let (at, range) = (START / 1000, format!("start={}&end={}&step=60", START / 1000, START / 1000 + 600));
    for (tenant, series) in [("a", 3), ("b", 5), ("c", 0)] {
        // A tenant that is named in the query is replaced.
        for selector in ["up", "up%7Bteam%3D%22b%22%7D", "%7B__name__%3D~%22up%22,team%3D~%22.%2B%22%7D"] {
            let found = ask(tenant, &format!("/api/v1/query?time={at}&query={selector}"));
            assert_eq!(len(&found["result"]), series, "{tenant} {selector}: {found}");
            let found = ask(tenant, &format!("/api/v1/query_range?{range}&query={selector}"));
            assert_eq!(len(&found["result"]), series, "{tenant} {selector}: {found}");
            let found = ask(tenant, &format!("/api/v1/series?match[]={selector}"));
            assert_eq!(len(&found), series, "{tenant} {selector}: {found}");
            let found = ask(tenant, &format!("/api/v1/label/instance/values?match[]={selector}"));
            assert_eq!(len(&found), series, "{tenant} {selector}: {found}");
        }
        // Series that a function finds by itself: those of the other tenant have the same instances.
        let added = ask(tenant, &format!("/api/v1/query?time={at}&query=info(up%2B0,%7B__name__=%22up%22%7D)"));
        assert_eq!(len(&added["result"]), series, "{tenant}: {added}");
        let teams = ask(tenant, "/api/v1/label/team/values");
        assert_eq!(teams, if series == 0 { serde_json::json!([]) } else { serde_json::json!([tenant]) });
        let names = ask(tenant, "/api/v1/labels");
        assert_eq!(len(&names), if series == 0 { 0 } else { 3 }, "{names}");
        let theirs = Query {
            start_timestamp_ms: START,
            end_timestamp_ms: START + 60_000,
            matchers: [("__name__", "up"), ("team", "b")]
                .map(|(name, value)| LabelMatcher { r#type: 0, name: name.into(), value: value.into() })
                .to_vec(),
            hints: None,
        };
        let body = ReadRequest { queries: vec![theirs], accepted_response_types: Vec::new() }.encode_to_vec();
        let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        let head = [&format!("X-Team: {tenant}"), "Content-Encoding: snappy", "Content-Type: application/x-protobuf"];
        let (status, head, body) = request(&uru.http, ("POST", "/api/v1/read"), &head, &body);
        assert_eq!(status, 200, "{head}");
        let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
        let read = ReadResponse::decode(plain.as_slice()).unwrap();
        assert_eq!(read.results[0].timeseries.len(), series, "{tenant}");
    }
    let (status, _, body) = request(&uru.http, ("GET", "/api/v1/labels"), &["X-Team: a/b"], b"");
    assert!(status == 400 && String::from_utf8_lossy(&body).contains("tenant name not valid"));
    let open = Uru::start("query", &flags);
    let (_, body) = open.get(&format!("/api/v1/query?time={at}&query=count(up)"));
    assert!(body.contains("\"8\""), "without enforcement all series are seen: {body}");
}

/// A series of a tenant with a sample and an exemplar that names the tenant.
fn with_exemplar(tenant: &str, number: usize) -> prometheus_copy::TimeSeries {
    let instance = format!("i-{number}");
    let mut series = write::float_series(&[("__name__", "a_total"), ("instance", &instance)], &[(write::NOW, 1.0)]);
    let labels = vec![Label { name: "trace_id".into(), value: tenant.into() }];
    series.exemplars.push(prometheus_copy::Exemplar { labels, value: 1.0, timestamp: write::NOW });
    series
}

/// What an API answers to a tenant.
fn ask(uru: &Uru, tenant: &str, path: &str) -> (u16, Value) {
    let (status, _, body) = request(&uru.http, ("GET", path), &[&format!("THANOS-TENANT: {tenant}")], b"");
    let body = String::from_utf8(body).unwrap();
    (status, serde_json::from_str(&body[body.find('{').unwrap()..=body.rfind('}').unwrap()]).unwrap())
}

/// Two tenants of one process, a with three series and b with five, seen by a querier that keeps them apart;
/// the process keeps so many exemplars of a series.
fn assert_exemplars_and_cardinalities_are_apart(written: &Uru, writes: &str, exemplars: usize) {
    let head = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    for (tenant, series) in [("a", 3), ("b", 5)] {
        let series: Vec<_> = (0..series).map(|number| with_exemplar(tenant, number)).collect();
        let head = [&head[..], &[("THANOS-TENANT", tenant)]].concat();
        let body = write::body(&series);
        // The heads of an all-in-one open while it serves blocks already.
        wait(|| {
            let answer = write::post(writes, "/api/v1/receive", &head, &body).unwrap();
            assert!(matches!(answer.status, 200 | 503), "{}", answer.body);
            answer.status == 200
        });
    }
    let endpoint = format!("--endpoint={}", written.grpc);
    // A querier behind a querier is asked with the tenant's matcher, and keeps it.
    let open = Uru::start("query", &[&endpoint]);
    let flags = ["--query.enforce-tenancy", "--enable-feature=promql-experimental-functions"];
    let direct = Uru::start("query", &[&endpoint[..], flags[0], flags[1]]);
    let second = Uru::start("query", &[&format!("--endpoint={}", open.grpc), flags[0], flags[1]]);
    let times = format!("start={}&end={}", write::NOW / 1000 - 60, write::NOW / 1000 + 60);
    for (tenant, series) in [("a", 3), ("b", 5), ("c", 0)] {
        for uru in [&direct, &second] {
            for query in [
                "a_total",
                "rate(a_total%7Btenant_id%3D%22b%22%7D%5B5m%5D)",
                "%7Btenant_id%3D~%22.%2B%22%7D",
                "info(nothing,%7B__name__%3D%22a_total%22%7D)",
            ] {
                let (status, found) = ask(uru, tenant, &format!("/api/v1/query_exemplars?query={query}&{times}"));
                let found = found["data"].as_array().unwrap();
                assert_eq!((status, found.len()), (200, series * exemplars), "{tenant} {query}: {found:?}");
                for data in found {
                    assert_eq!(data["seriesLabels"]["tenant_id"], tenant);
                    assert_eq!(data["exemplars"][0]["labels"]["trace_id"], tenant);
                }
            }
            let (status, found) = ask(uru, tenant, "/api/v1/status/tsdb");
            if series == 0 {
                let error = "retrieving tsdb statistics: c tenant not found";
                assert_eq!((status, &found["errorType"], &found["error"]), (500, &"internal".into(), &error.into()));
                continue;
            }
            assert_eq!((status, &found["data"]["headStats"]["numSeries"]), (200, &series.into()), "{found}");
            let (_, other) = ask(uru, tenant, "/api/v1/status/tsdb?match[]=%7Btenant_id%3D%22b%22%7D");
            assert_eq!(other["status"] == "success", tenant == "b", "{other}");
        }
    }
    let (_, found) = ask(&open, "a", "/api/v1/status/tsdb");
    assert_eq!(found["data"]["headStats"]["numSeries"], 8, "without enforcement all series count: {found}");
    let (_, found) = ask(&open, "a", &format!("/api/v1/query_exemplars?query=a_total&{times}"));
    assert_eq!(found["data"].as_array().unwrap().len(), 8 * exemplars);
}

#[test]
fn a_tenant_sees_its_own_exemplars_and_cardinalities() {
    let data = tempfile::tempdir().unwrap();
    let receiver = write::start(data.path(), &["--tsdb.max-exemplars=100"]);
    assert_exemplars_and_cardinalities_are_apart(&receiver, &receiver.write_address(), 1);
}

#[test]
fn a_tenant_of_an_all_in_one_which_keeps_no_exemplars_sees_its_own_cardinalities() {
    let data = tempfile::tempdir().unwrap();
    let flags = ["--no-self-scrape", &format!("--data-dir={}", data.path().display())];
    let uru = Uru::start("all-in-one", &flags);
    assert_exemplars_and_cardinalities_are_apart(&uru, &uru.http, 0);
}

#[test]
fn exemplars_of_an_endpoint_that_knows_no_tenants_are_told_apart_here() {
    let set = |tenant: &str| ZLabelSet { labels: vec![label("tenant_id", tenant)] };
    let mut answers = Answers::store(&[("tenant_id", "a")], Vec::new());
    answers.info.component_type = "sidecar".into();
    answers.info.label_sets.push(set("b"));
    answers.info.exemplars = Some(ExemplarsInfo { min_time: i64::MIN, max_time: i64::MAX });
    answers.exemplars = ["a", "b"]
        .map(|tenant| {
            let series_labels = Some(ZLabelSet { labels: vec![label("__name__", "up"), label("tenant_id", tenant)] });
            let exemplars = vec![Exemplar { labels: Some(set(tenant)), value: 1.0, ts: 1000 }];
            let data = ExemplarData { series_labels, exemplars };
            ExemplarsResponse { result: Some(exemplars_response::Result::Data(data)) }
        })
        .to_vec();
    let endpoint = Endpoint::start(answers);
    let uru = Uru::start("query", &[&format!("--endpoint={}", endpoint.address), "--query.enforce-tenancy"]);
    let (_, found) = ask(&uru, "b", "/api/v1/query_exemplars?query=up&start=0&end=10");
    let found = found["data"].as_array().unwrap();
    assert_eq!((found.len(), &found[0]["seriesLabels"]["tenant_id"]), (1, &"b".into()), "{found:?}");
    assert_eq!(endpoint.asked().exemplars.pop().unwrap().query, "{__name__=\"up\"}");
}

#[test]
fn a_certificate_names_the_tenant_and_no_header_does() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write_to(folder.path(), "127.0.0.1");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let web = format!(
        "tls_server_config: {{cert_file: {}, key_file: {}, client_ca_file: {}, \
         client_auth_type: RequireAndVerifyClientCert}}\n",
        path("cert.pem"),
        path("key.pem"),
        path("ca.pem")
    );
    std::fs::write(path("web.yaml"), web).unwrap();
    let up = series_frame(&[("__name__", "up"), ("tenant_id", "team-a")], &[(START, 1.0)]);
    let endpoint = Endpoint::start(Answers::store(&[("store", "a")], vec![Step::Send(up)]));
    let uru = Uru::spawn(
        "query",
        &[
            &format!("--endpoint={}", endpoint.address),
            &format!("--http.config={}", path("web.yaml")),
            "--query.tenant-certificate-field=organization",
            "--query.enforce-tenancy",
        ],
    );
    let client = authority.issue_to("client", "team-a");
    let ask = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: uru\r\nTHANOS-TENANT: forged\r\nConnection: close\r\n\r\n");
        run(authority.exchange(&uru.http, &client, request.as_bytes())).unwrap()
    };
    while !ask("/-/ready").starts_with("HTTP/1.1 200") {
        std::thread::yield_now();
    }
    let body = ask(&format!("/api/v1/query?query=up&time={}", START / 1000));
    assert!(body.contains("\"status\":\"success\"") && body.contains("team-a"), "{body}");
    let (asked, head) = endpoint.requests().pop().unwrap();
    let tenant = asked.matchers.iter().find(|matcher| matcher.name == "tenant_id").unwrap();
    let header = head.get("thanos-tenant").unwrap().as_bytes();
    assert_eq!((tenant.value.as_slice(), header), (&b"team-a"[..], &b"team-a"[..]));
}
