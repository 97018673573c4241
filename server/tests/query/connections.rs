//! How a querier finds and reaches endpoints: groups whose members take turns, TLS that is verified or
//! not.

use serde_json::Value;

use crate::support::authority::Authority;
use crate::support::endpoint::{Answers, Endpoint, Step, series_frame};
use crate::support::{Uru, wait};

/// A time near which every endpoint here has a sample.
const NOW: i64 = 1_789_984_800;

fn member() -> Endpoint {
    Endpoint::start(answers())
}

fn answers() -> Answers {
    let up = series_frame(&[("__name__", "up"), ("instance", "a")], &[(NOW * 1000, 1.0)]);
    Answers::store(&[("store", "a")], vec![Step::Send(up)])
}

fn assert_answered(uru: &Uru) {
    let (status, body) = uru.get(&format!("/api/v1/query?query=up&time={NOW}&partial_response=false"));
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["data"]["result"].as_array().map(Vec::len), Some(1), "{body}");
}

#[test]
fn members_of_a_group_take_turns_and_the_others_stand_in_for_one_that_is_gone() {
    let (one, two) = (member(), member());
    let injected = [&one, &two].map(|member| format!("--inject-test-addresses={}", member.address));
    let uru = Uru::start("query", &["--endpoint-group=dns:///stores:10901", &injected[0], &injected[1]]);
    let (_, listed) = uru.get("/api/v1/stores");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let stores = listed["data"]["store"].as_array().unwrap();
    assert_eq!((stores.len(), &stores[0]["name"]), (1, &"thanos:///stores:10901".into()), "{listed}");
    (0..6).for_each(|_| assert_answered(&uru));
    assert_eq!((one.requests().len(), two.requests().len()), (3, 3));
    drop(two);
    (0..6).for_each(|_| assert_answered(&uru));
    assert_eq!(one.requests().len(), 9);
}

#[test]
fn an_endpoint_that_is_given_twice_is_one_and_lists_no_empty_labels() {
    let store = Endpoint::start(Answers::store(&[], Vec::new()));
    let (flag, again) = (format!("--endpoint={}", store.address), format!("--endpoint=dns+{}", store.address));
    let uru = Uru::start("query", &[&flag, &again]);
    let listed: Value = serde_json::from_str(&uru.wait_for("/api/v1/stores", "\"lastError\":null")).unwrap();
    let stores = listed["data"]["store"].as_array().unwrap();
    assert_eq!((stores.len(), &stores[0]["labelSets"]), (1, &serde_json::json!([])), "{listed}");
    assert!(uru.metric("thanos_query_duplicated_endpoint_addresses_total") >= Some(1.0));
}

#[test]
fn addresses_are_those_that_grpc_of_go_takes() {
    let store = member();
    let (_, port) = store.address.rsplit_once(':').unwrap();
    for address in
        [format!(":{port}"), format!("dns:///{}", store.address), format!("passthrough:///{}", store.address)]
    {
        let uru = Uru::start("query", &[&format!("--endpoint={address}")]);
        uru.wait_for("/api/v1/stores", &address);
        assert_answered(&uru);
    }
}

#[test]
fn an_endpoint_that_is_down_is_listed_for_as_long_as_is_said() {
    let store = Endpoint::start_on("127.0.0.2", answers());
    let flags = [format!("--endpoint={}", store.address), "--store.unhealthy-timeout=300ms".to_owned()];
    let uru = Uru::start("query", &[&flags[0], &flags[1], "--endpoint.info-timeout=100ms"]);
    uru.wait_for("/api/v1/stores", &store.address);
    assert!(!uru.log().contains("update of endpoint failed"), "{}", uru.log());
    let address = store.address.clone();
    drop(store);
    wait(|| !uru.get("/api/v1/stores").1.contains(&address));
    let log = uru.log();
    let told = log.lines().filter(|line| line.contains("update of endpoint failed") && line.contains(&address));
    assert_eq!(told.count(), 1, "{log}");
}

#[test]
fn certificates_of_endpoints_are_verified_unless_that_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write_to(folder.path(), "somebody.else");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir(path("bucket")).unwrap();
    let store = Uru::start(
        "store",
        &[
            &format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", path("bucket")),
            &format!("--data-dir={}", path("data")),
            &format!("--grpc-server-tls-cert={}", path("cert.pem")),
            &format!("--grpc-server-tls-key={}", path("key.pem")),
        ],
    );
    let endpoint = format!("--endpoint={}", store.grpc);
    let (secure, ca) = ("--grpc-client-tls-secure", format!("--grpc-client-tls-ca={}", path("ca.pem")));
    let last_error = |uru: &Uru| {
        let (_, body) = uru.get("/api/v1/stores");
        let listed: Value = serde_json::from_str(&body).unwrap();
        listed["data"].as_object().unwrap().values().next().map(|kind| kind[0]["lastError"].clone())
    };
    let strict = |uru: &Uru| last_error(uru).is_some_and(|error| error.is_string());
    let healthy = |uru: &Uru| last_error(uru).is_some_and(|error| error.is_null());
    let mistrusting = Uru::start("query", &[&endpoint, secure, &ca]);
    wait(|| strict(&mistrusting));
    let named = Uru::start("query", &[&endpoint, secure, &ca, "--grpc-client-server-name=somebody.else"]);
    wait(|| healthy(&named));
    let trusting = Uru::start("query", &[&endpoint, secure, "--grpc-client-tls-skip-verify"]);
    wait(|| healthy(&trusting));
    let plain = Uru::start("query", &[&endpoint]);
    wait(|| last_error(&plain).is_some_and(|error| error.to_string().contains("--grpc-client-tls-secure")));
    // The same of one endpoint in a file.
    let config = path("endpoints.yaml");
    let text = format!(
        "endpoints:\n- address: {}\n  client_config: {{tls_config: {{insecure_skip_verify: true}}}}\n",
        store.grpc
    );
    std::fs::write(&config, text).unwrap();
    let configured = Uru::start("query", &[&format!("--endpoint.sd-config-file={config}")]);
    wait(|| healthy(&configured));
    let (_, shown) = configured.get("/api/v1/status/config");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert!(shown["data"]["yaml"].as_str().unwrap().contains(&store.grpc), "{shown}");
    // What it leaves out is as the flags say.
    let text = format!("endpoints:\n- address: {}\n  client_config: {{server_name: somebody.else}}\n", store.grpc);
    std::fs::write(&config, text).unwrap();
    let named = Uru::start("query", &[&format!("--endpoint.sd-config-file={config}"), secure, &ca]);
    wait(|| healthy(&named));
}
