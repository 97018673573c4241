//! Tenancy of a querier: every API shows a tenant its own series and no others, whether the tenant is
//! named by a header or by a client's certificate.

mod support;

use prost::Message;
use proto::prometheus_copy::{LabelMatcher, Query, ReadRequest, ReadResponse};
use serde_json::Value;
use support::authority::Authority;
use support::endpoint::{Answers, Endpoint, Step, series_frame};
use support::{Uru, request, run, write_block};

const START: i64 = 1_700_000_040_000;

/// A store of two blocks: three series of tenant a, five of tenant b.
fn store(folder: &std::path::Path) -> Uru {
    let bucket = folder.join("bucket");
    for (tenant, series) in [("a", 3), ("b", 5)] {
        let block = write_block(&bucket, series as u128, (series, START));
        let path = block.join("meta.json");
        let mut meta: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        meta["thanos"]["labels"] = serde_json::json!({ "team": tenant });
        std::fs::write(&path, serde_json::to_vec(&meta).unwrap()).unwrap();
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
    let uru = Uru::start("query", &[&flags[..], &["--query.enforce-tenancy"]].concat());
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
    assert_eq!((tenant.value.as_str(), head.get("thanos-tenant").unwrap().as_bytes()), ("team-a", &b"team-a"[..]));
}
