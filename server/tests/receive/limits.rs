//! Who may write and how much: tenants by certificate, limits that change while the process runs, disks
//! that are full or fail.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use engine::io::faulty::{Fault, Faulty};
use engine::io::{BlockIo, Mode as IoMode};
use engine::model::Labels;
use engine::shard::{self, Ingest, IngestOptions, Pool};
use http::{Request, StatusCode};
use prometheus_client::registry::Registry;
use prost::Message as _;
use proto::otlp::any_value::Value;
use proto::otlp::metric::Data;
use proto::otlp::{
    AnyValue, Histogram, HistogramPoint, KeyValue, Metric, MetricsRequest, ResourceMetrics, ScopeMetrics, Temporality,
};
use proto::prometheus_copy::TimeSeries;
use proto::thanos::{LabelMatcher, SeriesRequest, TimeSeriesTenantTuple, WriteResponse};
use proto::write::{Sample, put_label, put_message, put_sample};
use server::cluster::hashring::Algorithm;
use server::ingest::forward::{Compression, ForwardOptions, Peers};
use server::ingest::limits::{Limiter, LimitsConfig};
use server::ingest::metrics::ReceiveMetrics;
use server::ingest::noted::Noted;
use server::ingest::otlp::Translation;
use server::ingest::ring::{RingSource, Rings};
use server::ingest::tenant::Tenancy;
use server::ingest::{Mode, ReceiveOptions, Receiver, http as handlers, request_memory};
use server::telemetry::rpc::RpcMetrics;
use tower::ServiceExt as _;

use crate::support::authority::Authority;
use crate::support::write;
use crate::support::write::{
    Answer, EXTERNAL, NOW, Samples, WriteRequest, body, flags, float_series, post, recorded, samples, start, stored,
    write,
};
use crate::support::{Uru, run, series, unary, wait};

/// What is answered to a remote write over TLS; `client` is a certificate and its key.
async fn post_by_tls(
    uru: &Uru,
    authority: &Authority,
    client: &(String, String),
    body: &[u8],
) -> std::io::Result<String> {
    let head = format!(
        "POST /api/v1/receive HTTP/1.1\r\nHost: a\r\nTHANOS-TENANT: other\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    authority.exchange(&uru.write_address(), client, &[head.as_bytes(), body].concat()).await
}

#[test]
fn a_look_at_the_heads_that_leaves_no_room_for_an_answer_is_refused_at_once() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &["--store.memory-limit=20MB"]);
    for batch in 0..20 {
        let series = (0..2000).map(|at| {
            let id = format!("{batch}-{at}");
            float_series(&[("__name__", "many"), ("id", &id)], &[(NOW, 1.0)])
        });
        assert_eq!(write(&uru, "a", &series.collect::<Vec<_>>()).status, 200);
    }
    let matchers = vec![LabelMatcher { name: "__name__".into(), value: "many".into(), ..LabelMatcher::default() }];
    let request = SeriesRequest { min_time: NOW, max_time: NOW, matchers, ..SeriesRequest::default() };
    run(async {
        let channel = uru.connect().await;
        let refused = tokio::time::timeout(Duration::from_secs(30), series(&channel, request)).await;
        let refused = refused.expect("it does not wait for what it holds itself").unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
        assert!(refused.message().contains("--store.memory-limit"), "{refused}");
    });
    // What another core was still looking at when one had refused is given back when it has been found.
    wait(|| uru.metric("uru_memory_used_bytes") == Some(0.0));
}

#[test]
fn the_tenant_is_who_the_certificate_names_whatever_the_header_says() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let path = |name: &str| folder.path().join(name);
    authority.write_to(folder.path(), "127.0.0.1");
    let flag = |name: &str, path: &Path| format!("--remote-write.server-tls-{name}={}", path.display());
    let uru = start(
        &path("data"),
        &[
            &flag("cert", &path("cert.pem")),
            &flag("key", &path("key.pem")),
            &flag("client-ca", &path("ca.pem")),
            "--receive.tenant-certificate-field=organization",
        ],
    );
    let request = body(&[float_series(&[("__name__", "up")], &[(NOW, 1.0)])]);
    run(async {
        for team in ["team-a", "team-b"] {
            let answer = post_by_tls(&uru, &authority, &authority.issue_to("127.0.0.1", team), &request).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        // A name that leads out of the folder, and a certificate of somebody else's.
        let answer = post_by_tls(&uru, &authority, &authority.issue_to("127.0.0.1", "../x"), &request).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        let stranger = Authority::new().issue_to("127.0.0.1", "team-a");
        let answer = post_by_tls(&uru, &authority, &stranger, &request).await;
        assert!(answer.as_ref().map_or(true, |answer| answer.is_empty()), "{answer:?}");
    });
    let found: Vec<String> =
        stored(&uru, "up").iter().map(|series| write::labels_text(&series.labels, &["receive"])).collect();
    assert_eq!(found, ["team-a", "team-b"].map(|team| format!("__name__=\"up\",tenant_id=\"{team}\"")));
}

fn up(name: &str, samples: i64) -> TimeSeries {
    let samples: Vec<(i64, f64)> = (0..samples).map(|at| (NOW + at, 1.0)).collect();
    float_series(&[("__name__", name)], &samples)
}

/// They once counted for themselves, beside the series that seemed to have one sample.
#[test]
fn samples_before_the_last_of_a_series_count_however_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let limits = "--receive.limits-config={write: {default: {request: {samples_limit: 100}}}}";
    let uru = start(folder.path(), &[limits]);
    let sample = |time: i64| {
        let mut bytes = Vec::new();
        put_sample(&mut bytes, Sample { time, value: 1.0, start: 0 });
        bytes
    };
    // The time before the value, as no sender writes it.
    let odd = |time: i64| {
        let mut bytes = sample(time);
        bytes[2..].rotate_left(9);
        bytes
    };
    let send = |name: &str, hidden: i64| {
        let mut request = Vec::new();
        for at in 0..60 {
            let mut series = Vec::new();
            put_label(&mut series, b"__name__", format!("{name}_{at}").as_bytes());
            (0..hidden).filter(|_| at == 0).for_each(|earlier| series.extend(odd(NOW + earlier)));
            series.extend(sample(NOW + hidden));
            put_message(&mut request, 1, &series);
        }
        let packed = snap::raw::Encoder::new().compress_vec(&request).unwrap();
        let headers = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
        post(&uru.write_address(), "/api/v1/receive", &headers, &packed).unwrap()
    };
    let found = |name: &str| samples(&stored(&uru, name), &EXTERNAL).values().map(|all| all.len()).sum::<usize>();
    assert_eq!(send("few", 40).status, 200);
    assert_eq!(found("few_0"), 41);
    assert_eq!(send("many", 41).status, 413);
    assert_eq!(found("many_0"), 0);
    let beyond = "thanos_receive_write_limits_hit_sum{tenant=\"default-tenant\",limit=\"samples\"}";
    assert_eq!(uru.metric(beyond), Some(1.0));
}

#[test]
fn limits_change_with_their_file_and_a_file_that_cannot_be_read_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("limits.yaml");
    let set = |text: &str| {
        // Whole, or how many looks come upon an empty file would depend on chance.
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
    };
    set("write: {default: {request: {series_limit: 1, samples_limit: 2, size_bytes_limit: 1000}}}");
    let file = format!("--receive.limits-config-file={}", path.display());
    let uru = start(&folder.path().join("data"), &[&file, "--receive.limits-config-reload-timer=100ms"]);
    let two = [up("a", 1), up("b", 1)];
    // It takes as many bytes when it is compressed.
    let large: String = (1..300u32).map(|at| format!("{:08x}", at.wrapping_mul(2_654_435_761))).collect();
    let hit =
        |limit: &str| uru.metric(&format!("thanos_receive_write_limits_hit_count{{tenant=\"t\",limit=\"{limit}\"}}"));
    assert_eq!(write(&uru, "t", &[up("a", 1)]).status, 200);
    assert_eq!(write(&uru, "t", &two).status, 413);
    assert_eq!(write(&uru, "t", &[up("a", 3)]).status, 413);
    assert_eq!(write(&uru, "t", &[float_series(&[("__name__", &large)], &[(NOW, 1.0)])]).status, 413);
    assert_eq!([hit("series"), hit("samples"), hit("body_size")], [Some(1.0); 3]);
    let beyond = |limit: &str| {
        uru.metric(&format!("thanos_receive_write_limits_hit_sum{{tenant=\"t\",limit=\"{limit}\"}}")).unwrap()
    };
    assert_eq!([beyond("series"), beyond("samples")], [1.0; 2]);
    assert!((1.0..2000.0).contains(&beyond("body_size")), "{}", beyond("body_size"));
    let reloads = |count: f64| {
        wait(|| uru.metric("thanos_receive_limits_config_reload_total").is_some_and(|found| found >= count));
    };
    set("write: {tenants: {t: {request: {series_limit: 2}, head_series_limit: 2}}}");
    reloads(1.0);
    assert_eq!(write(&uru, "t", &two).status, 200);
    set("write: [");
    wait(|| uru.metric("thanos_receive_limits_config_reload_err_total") == Some(1.0));
    // The head limit still stands: the tenant has two series and gets no third.
    assert_eq!(write(&uru, "t", &[up("c", 1)]).status, 429);
    set("");
    wait(|| uru.metric("thanos_receive_limits_config_reload_err_total") == Some(2.0));
    assert_eq!(write(&uru, "t", &[up("c", 1)]).status, 429);
    assert_eq!(write(&uru, "other", &[up("a", 1), up("b", 1), up("c", 1)]).status, 200);
    set("write: {}");
    reloads(4.0);
    assert_eq!(write(&uru, "t", &[up("c", 1)]).status, 200);
    assert_eq!(stored(&uru, "c").len(), 2);
}

#[test]
fn variables_are_replaced_in_limits_that_change_as_in_those_of_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("limits.yaml");
    let set = |limit: u64| {
        let limits = format!("write: {{tenants: {{$(LIMITED): {{request: {{series_limit: {limit}}}}}}}}}");
        let new = path.with_extension("new");
        std::fs::write(&new, limits).unwrap();
        std::fs::rename(new, &path).unwrap();
    };
    set(2);
    let file = format!("--receive.limits-config-file={}", path.display());
    let given = flags(&folder.path().join("data"), &[&file, "--receive.limits-config-reload-timer=100ms"]);
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let uru = Uru::start_limited("export LIMITED=team-a", "receive", &given);
    let send = |series: usize| write(&uru, "team-a", &["a", "b", "c"].map(|name| up(name, 1))[..series]);
    assert_eq!((send(2).status, send(3).status), (200, 413));
    set(1);
    wait(|| uru.metric("thanos_receive_limits_config_reload_total") == Some(1.0));
    assert_eq!((send(1).status, send(2).status), (200, 413));
}

/// With one such body each other sender waited for its end.
#[test]
fn a_body_that_comes_slowly_takes_no_turn_from_others() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &["--receive.limits-config={write: {global: {max_concurrency: 1}}}"]);
    let gate = |name: &str| uru.metric(&format!("thanos_receive_write_request_concurrent_gate_write_requests_{name}"));
    assert_eq!(gate("max"), Some(1.0));
    let request = body(&[up("slow", 1)]);
    let mut slow = TcpStream::connect(uru.write_address()).unwrap();
    let head = format!("POST /api/v1/receive HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", request.len());
    slow.write_all(head.as_bytes()).unwrap();
    slow.write_all(&request[..5]).unwrap();
    wait(|| uru.metric("http_inflight_requests{handler=\"receive\"").is_some_and(|requests| requests >= 1.0));
    assert_eq!(write(&uru, "", &[up("quick", 1)]).status, 200);
    assert_eq!((gate("total"), gate("in_flight"), stored(&uru, "quick").len()), (Some(1.0), Some(0.0), 1));
    slow.write_all(&request[5..]).unwrap();
    wait(|| stored(&uru, "slow").len() == 1);
    wait(|| (gate("total"), gate("in_flight")) == (Some(2.0), Some(0.0)));
}

/// A request of a hundred series whose values can't be compressed.
fn noisy(round: i64) -> WriteRequest {
    let series = (0..100u64).map(|number| {
        let name = format!("n{number:02}");
        let noise = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_mul(round as u64 + 7);
        let value = f64::from_bits(noise >> 2 | 1 << 61);
        float_series(&[("__name__", "full"), ("name", &name)], &[(NOW + round, value)])
    });
    WriteRequest { timeseries: series.collect(), ..WriteRequest::default() }
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing_that_was_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let given = flags(data.path(), &["--shipper.sync-interval=100ms"]);
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    // Files may grow to 64 KiB: a write beyond fails as on a full disk.
    let uru = Uru::start_limited("trap '' XFSZ; ulimit -f 128", "receive", &given);
    let mut acknowledged = Samples::new();
    let mut refused = Vec::new();
    for round in 0..400 {
        let request = noisy(round);
        let answer = write(&uru, "", &request.timeseries);
        match answer.status {
            // From the first refusal on nothing is taken until a restart.
            200 if refused.is_empty() => recorded(&request, &mut acknowledged),
            503 => refused.push(answer),
            other => panic!("{other}: {}", answer.body),
        }
    }
    assert!(acknowledged.values().next().unwrap().len() > 10, "{}", acknowledged.len());
    assert!(refused.len() > 10, "{}", refused.len());
    assert!(refused.iter().all(|answer| answer.headers.contains_key("retry-after")));
    assert!(refused.last().unwrap().body.contains("nothing is taken until a restart"), "{:?}", refused.last());
    assert!(uru.metric("uru_receive_wal_broken_partitions").unwrap() >= 1.0);
    wait(|| uru.log().contains("a WAL could not be written"));
    // What is there is read meanwhile.
    assert!(!stored(&uru, "full").is_empty());
    uru.kill();
    let uru = start(data.path(), &[]);
    let found = samples(&stored(&uru, "full"), &EXTERNAL);
    for (labels, samples) in &acknowledged {
        assert!(samples.iter().all(|(time, value)| found[labels].get(time) == Some(value)), "{labels}");
    }
    assert_eq!(write(&uru, "", &noisy(1000).timeseries).status, 200);
}

/// The handlers of a receiver that keeps what it gets in `ingest`.
fn routes(ingest: Arc<Ingest>) -> Router {
    let registry = &mut Registry::default();
    let forward = ForwardOptions { tls: None, compression: Compression::None, workers: 1, pause_max: Duration::ZERO };
    let held = Arc::new(OnceLock::new());
    held.get_or_init(|| ingest);
    let options = ReceiveOptions {
        mode: Mode::Ingestor,
        tenancy: Tenancy { header: "THANOS-TENANT".into(), default: "t".into(), field: None },
        split_label: None,
        replica_header: "THANOS-REPLICA".into(),
        replication_factor: 1,
        local_endpoint: String::new(),
        request_bytes_max: 1 << 20,
        forward_timeout: Duration::from_secs(5),
        translation: Translation::default(),
    };
    handlers::routes(&Arc::new(Receiver {
        noted: Noted::default(),
        options,
        ingest: held,
        limiter: Limiter::new(LimitsConfig::default(), registry),
        relabel: Vec::new(),
        rings: Rings::open(RingSource::Alone, (Algorithm::Ketama, 1), registry).unwrap(),
        peers: Peers::new(forward, RpcMetrics::default()),
        metrics: ReceiveMetrics::register(registry, 1),
        memory: request_memory(4 << 30),
    }))
}

/// Ingestion of which one write in twenty fails, drawn from `seed`; `None` when that is one of the first.
fn failing(data: &Path, fault: Fault, seed: u64) -> Option<Arc<Ingest>> {
    let pool = Pool::start(&shard::Options { io: IoMode::Pread, ..shard::Options::default() }).unwrap();
    let options = IngestOptions {
        data_dir: data.to_owned(),
        external_labels: Labels::from_pairs([("receive", "a")]),
        tenant_label: "tenant_id".into(),
        io: IoMode::Pread,
        ..IngestOptions::default()
    };
    let open = |partition: usize| -> engine::wal::writer::OpenIo {
        Box::new(move || {
            let faulty = Faulty::new(engine::io::open(IoMode::Pread)?, fault, 20, seed + 99 * partition as u64);
            Ok(Box::new(faulty) as Box<dyn BlockIo>)
        })
    };
    Ingest::open_with(&pool, options, open).ok()
}

#[test]
fn a_disk_that_fails_to_write_or_sync_acknowledges_nothing_more() {
    for fault in [Fault::Error, Fault::Torn, Fault::Unsynced] {
        let data = tempfile::tempdir().unwrap();
        let ingest = (1..).find_map(|seed| failing(data.path(), fault, seed)).unwrap();
        let routes = routes(Arc::clone(&ingest));
        let mut acknowledged = Samples::new();
        let mut has_failed = false;
        run(async {
            for round in 0..200 {
                let request = noisy(round);
                let sent = Request::post("/api/v1/receive").body(Body::from(body(&request.timeseries))).unwrap();
                let status = routes.clone().oneshot(sent).await.unwrap().status();
                if status == StatusCode::OK {
                    assert!(!has_failed, "{fault:?}: acknowledged behind a failure");
                    recorded(&request, &mut acknowledged);
                } else {
                    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{fault:?}");
                    has_failed = true;
                }
            }
        });
        assert!(has_failed && ingest.counters().broken_partitions > 0, "{fault:?}");
        drop((routes, ingest));
        let uru = start(data.path(), &[]);
        let found = samples(&stored(&uru, "full"), &EXTERNAL);
        for (labels, samples) in &acknowledged {
            assert!(samples.iter().all(|(time, value)| found[labels].get(time) == Some(value)), "{fault:?}: {labels}");
        }
    }
}

/// A request of `count` series whose labels are a thousand bytes long.
fn long_labels(name: &str, count: usize) -> Vec<TimeSeries> {
    let series = |at: usize| float_series(&[("__name__", name), ("long", &format!("{at:01000}"))], &[(NOW, 1.0)]);
    (0..count).map(series).collect()
}

#[test]
fn what_receivers_forward_shares_the_memory_of_write_requests() {
    let data = tempfile::tempdir().unwrap();
    // A quarter is 10 MB.
    let uru = start(data.path(), &["--store.memory-limit=40MB"]);
    let forward = |series: Vec<TimeSeries>| {
        let tuple = TimeSeriesTenantTuple { timeseries: series, tenant: "a".into() };
        let request = proto::thanos::WriteRequest { timeseries_tenant_data: vec![tuple], ..Default::default() };
        let path = "/thanos.WriteableStore/RemoteWrite";
        run(async { unary::<_, WriteResponse>(&uru.connect().await, path, request).await })
    };
    // That which fits alone and not beside its copy may be sent again: another receiver's sender must not drop it.
    for (count, code) in [(12_000, tonic::Code::ResourceExhausted), (6000, tonic::Code::Unavailable)] {
        let refused = forward(long_labels("large", count)).unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains("share a quarter of --store.memory-limit"), "{refused}");
    }
    forward(long_labels("small", 10)).unwrap();
    assert_eq!(stored(&uru, ".+").len(), 10);
}

/// What is answered to the first request that is not taken, of ever new ones, and how many were taken before it.
fn until_refused(send: impl Fn(usize) -> Answer) -> (usize, Answer) {
    let mut answers = (0..2000).map(|round| (round, send(round)));
    answers.find(|(_, answer)| answer.status != 200).expect("there is an end to the memory")
}

/// It once grew until the system killed it, and again in the replay of what it had acknowledged.
#[test]
fn new_series_are_refused_before_memory_runs_out_and_what_was_acknowledged_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let uru = start(data.path(), &["--tsdb.memory-limit=150MB"]);
    let fill = |uru: &Uru, round: usize| write(uru, "", &long_labels(&format!("fill_{round}"), 1000));
    let (taken, refused) = until_refused(|round| fill(&uru, round));
    // A request that takes less memory itself may find some.
    let headers = [("Content-Type", "application/x-protobuf")];
    let address = uru.write_address();
    let otlp = |round: usize| post(&address, "/api/v1/otlp", &headers, &wide_histogram(20 * round + 1)).unwrap();
    for answer in [refused, until_refused(otlp).1] {
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
        assert!(answer.body.contains("--tsdb.memory-limit: the process has "), "{}", answer.body);
        assert!(answer.body.contains("the limit is 157286400, beyond which no new series"), "{}", answer.body);
    }
    let forward = |round: usize| {
        let timeseries = long_labels(&format!("forwarded_{round}"), 100);
        let tuple = TimeSeriesTenantTuple { timeseries, tenant: String::new() };
        let request = proto::thanos::WriteRequest { timeseries_tenant_data: vec![tuple], ..Default::default() };
        let path = "/thanos.WriteableStore/RemoteWrite";
        run(async { unary::<_, WriteResponse>(&uru.connect().await, path, request).await }).err()
    };
    let refused = (0..2000).find_map(forward).expect("there is an end to the memory");
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    assert!(refused.message().contains("--tsdb.memory-limit: the process has "), "{refused}");
    assert!(uru.metric("uru_receive_memory_limited_requests_total").unwrap() >= 3.0);
    wait(|| uru.log().contains("the process is beyond --tsdb.memory-limit"));
    let known = [float_series(&[("__name__", "fill_0"), ("long", &format!("{:01000}", 0))], &[(NOW + 1000, 2.0)])];
    let answer = write(&uru, "", &known);
    assert_eq!(answer.status, 200, "{}", answer.body);
    uru.kill();
    // All that was acknowledged is more than this one may have.
    let uru = start(data.path(), &["--tsdb.memory-limit=1MB"]);
    let answer = write(&uru, "", &known);
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body.contains("no samples are taken until heads have been cut"), "{}", answer.body);
    uru.kill();
    let uru = start(data.path(), &[]);
    let series = uru.metric("prometheus_tsdb_head_series{tenant=\"default-tenant\"}").unwrap();
    assert!(series >= 1000.0 * taken as f64, "{series} of {taken} requests");
    for round in [0, taken / 2, taken - 1] {
        assert_eq!(stored(&uru, &format!("fill_{round}")).len(), 1000, "{round}");
    }
    let found = samples(&stored(&uru, "fill_0"), &EXTERNAL);
    assert_eq!(found.values().filter(|samples| samples.contains_key(&(NOW + 1000))).count(), 1);
    assert_eq!(fill(&uru, taken).status, 200);
}

#[test]
fn a_receiver_that_does_not_answer_takes_no_memory_from_requests_that_can_do_without_it() {
    let data = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let rings = format!(r#"--receive.hashrings=[{{"endpoints": ["here:1", "{}"]}}]"#, silent.local_addr().unwrap());
    let flags = ["--receive.local-endpoint=here:1", "--receive.replication-factor=2", "--store.memory-limit=32MB"];
    let uru = start(data.path(), &[&flags[..], &[&rings, "--receive-forward-timeout=10m"]].concat());
    // A quarter is 8 MB. One of two copies is enough; the other, of a megabyte, waits for ten minutes.
    for round in 0..10 {
        let answer = write(&uru, "", &long_labels(&format!("round_{round}"), 1000));
        assert_eq!(answer.status, 200, "{round}: {}", answer.body);
    }
    assert_eq!(uru.metric("prometheus_tsdb_head_series{tenant=\"default-tenant\"}"), Some(10_000.0));
}

#[test]
fn a_request_of_a_few_bytes_for_each_of_many_things_takes_no_more_memory_than_there_is() {
    let data = tempfile::tempdir().unwrap();
    // A quarter is 5 MB.
    let uru = start(data.path(), &["--store.memory-limit=20MB"]);
    let many = |two: [u8; 2]| two.repeat(200_000);
    let nested = |fields: &[u64], inner: Vec<u8>| {
        fields.iter().rev().fold(inner, |inner, field| {
            let mut message = Vec::new();
            put_message(&mut message, *field, &inner);
            message
        })
    };
    let packed = |plain: &[u8]| snap::raw::Encoder::new().compress_vec(plain).unwrap();
    let write_headers = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    let mut labels = Vec::new();
    put_label(&mut labels, b"__name__", b"up");
    let of_series = |inner: Vec<u8>| packed(&nested(&[1], [labels.clone(), inner].concat()));
    // Samples, exemplars and histograms of one series, and series.
    let write =
        [of_series(many([0x12, 0])), of_series(many([0x1a, 0])), of_series(many([0x22, 0])), packed(&many([10, 0]))];
    // Metrics, points of one, and attributes of a resource.
    let otlp = [nested(&[1, 2], many([0x12, 0])), nested(&[1, 2, 2, 5], many([10, 0])), nested(&[1, 1], many([10, 0]))];
    let otlp_headers = [("Content-Type", "application/x-protobuf")];
    let json = format!(r#"{{"resourceMetrics":[{{}}{}]}}"#, ",{}".repeat(100_000));
    let write = write.iter().map(|body| post(&uru.write_address(), "/api/v1/receive", &write_headers, body));
    let otlp = otlp.iter().map(|body| post(&uru.write_address(), "/api/v1/otlp", &otlp_headers, body));
    let json = post(&uru.write_address(), "/api/v1/otlp", &[("Content-Type", "application/json")], json.as_bytes());
    for (at, answer) in write.chain(otlp).chain([json]).enumerate() {
        let answer = answer.unwrap();
        assert_eq!(answer.status, 413, "{at}: {}", answer.body);
        assert!(answer.body.contains("share a quarter of --store.memory-limit"), "{at}: {}", answer.body);
    }
    assert_eq!(self::write(&uru, "", &[up("fits", 5)]).status, 200);
}

#[test]
fn a_sender_learns_that_it_is_refused_though_it_is_still_sending() {
    let data = tempfile::tempdir().unwrap();
    let limits = "--receive.limits-config={write: {default: {request: {size_bytes_limit: 1000}}}}";
    let uru = start(data.path(), &[limits]);
    let headers = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    for _ in 0..10 {
        let answer = post(&uru.write_address(), "/api/v1/receive", &headers, &vec![7; 4 << 20]);
        assert_eq!(answer.expect("the connection stays until it is told").status, 413);
    }
}

/// An OTLP request of so many points of a histogram of fifteen bounds, each with ten attributes of its own.
fn wide_histogram(points: usize) -> Vec<u8> {
    let attribute = |name: usize, at: usize| KeyValue {
        key: format!("attribute_{name}"),
        value: Some(AnyValue { value: Some(Value::StringValue(format!("value-{name}-{at:08}"))) }),
    };
    let point = |at: usize| HistogramPoint {
        time_unix_nano: NOW as u64 * 1_000_000,
        attributes: (0..10).map(|name| attribute(name, at)).collect(),
        bucket_counts: vec![1; 16],
        explicit_bounds: (0..15).map(f64::from).collect(),
        ..HistogramPoint::default()
    };
    let data_points = (0..points).map(point).collect();
    let histogram = Histogram { data_points, aggregation_temporality: Temporality::Cumulative as i32 };
    let metrics = vec![Metric { name: "wide".into(), data: Some(Data::Histogram(histogram)), ..Metric::default() }];
    let scope_metrics = vec![ScopeMetrics { metrics }];
    MetricsRequest { resource_metrics: vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }] }
        .encode_to_vec()
}

/// Once it was counted when it was there, or not at all.
#[test]
fn what_a_request_becomes_is_counted_before_it_is_there() {
    let data = tempfile::tempdir().unwrap();
    // A quarter is 5 MB.
    let uru = start(data.path(), &["--store.memory-limit=20MB"]);
    let otlp = |points: usize| {
        let headers = [("Content-Type", "application/x-protobuf")];
        post(&uru.write_address(), "/api/v1/otlp", &headers, &wide_histogram(points)).unwrap()
    };
    let symbols = snap::raw::Encoder::new().compress_vec(&[0x22_u8, 0].repeat(400_000)).unwrap();
    let headers = [
        ("Content-Encoding", "snappy"),
        ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        ("X-Prometheus-Remote-Write-Version", "2.0.0"),
    ];
    let symbols = post(&uru.write_address(), "/api/v1/receive", &headers, &symbols).unwrap();
    for answer in [symbols, otlp(400)] {
        assert_eq!(answer.status, 413, "{}", answer.body);
        assert!(answer.body.contains("share a quarter of --store.memory-limit"), "{}", answer.body);
    }
    let tenants = vec![TimeSeriesTenantTuple::default(); 200_000];
    let request = proto::thanos::WriteRequest { timeseries_tenant_data: tenants, ..Default::default() };
    let path = "/thanos.WriteableStore/RemoteWrite";
    let refused = run(async { unary::<_, WriteResponse>(&uru.connect().await, path, request).await }).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("share a quarter of --store.memory-limit"), "{refused}");
    // What fits alone is to be sent again when it doesn't fit beside another: one of three megabytes that goes on.
    assert_eq!(otlp(100).status, 200);
    let mut slow = TcpStream::connect(uru.write_address()).unwrap();
    slow.write_all(b"POST /api/v1/receive HTTP/1.1\r\nHost: a\r\nContent-Length: 3100000\r\n\r\n").unwrap();
    slow.write_all(&vec![0; 3_000_000]).unwrap();
    wait(|| {
        let answer = otlp(100);
        assert!([200, 503].contains(&answer.status), "{}: {}", answer.status, answer.body);
        let is_refused = answer.status == 503;
        assert_eq!(answer.headers.contains_key("retry-after"), is_refused);
        assert_eq!(answer.body.contains("share a quarter of --store.memory-limit"), is_refused, "{}", answer.body);
        is_refused
    });
    drop(slow);
    wait(|| otlp(100).status == 200);
}
