//! Rings of receivers that change while samples come: none that was acknowledged is lost.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use proto::prometheus_copy::{Histogram, TimeSeries, histogram};
use proto::thanos::{Label, TimeSeriesTenantTuple, WriteResponse};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::support::authority::Authority;
use crate::support::write::{
    EXTERNAL, Family, NOW, Samples, WriteRequest, body, float_series, packed, post, recorded, samples, start, stored,
    write,
};
use crate::support::{Uru, free_address, run, unary, wait};

const FORWARD: &str = "/thanos.WriteableStore/RemoteWrite";

/// Series of each request.
const SERIES: usize = 30;

/// Request number `round` of sender number `sender`: the next sample of each of its series.
fn request(sender: usize, round: i64) -> Vec<TimeSeries> {
    let series = (0..SERIES).map(|number| {
        let (name, sender) = (format!("r{number:02}"), sender.to_string());
        let labels = [("__name__", "ring"), ("name", &*name), ("sender", &*sender)];
        float_series(&labels, &[(NOW + 1000 * round, round as f64)])
    });
    series.collect()
}

/// Senders that write to `addresses` in turn until they are told to end, and what was acknowledged.
struct Load {
    is_over: AtomicBool,
    acknowledged: AtomicUsize,
}

impl Load {
    fn new() -> Self {
        Self { is_over: AtomicBool::new(false), acknowledged: AtomicUsize::new(0) }
    }

    /// Sends until the end; a request that is not acknowledged is sent again, to the next address.
    fn send(&self, sender: usize, addresses: &[String]) -> Samples {
        let mut sent = Samples::new();
        let mut attempts = sender;
        let snappy = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
        for round in 0.. {
            let series = request(sender, round);
            let packed = body(&series);
            loop {
                if self.is_over.load(Ordering::Relaxed) {
                    return sent;
                }
                attempts += 1;
                let answer = post(&addresses[attempts % addresses.len()], "/api/v1/receive", &snappy, &packed);
                match answer.map(|answer| answer.status) {
                    Some(200) => break,
                    // Away, or not yet of one mind about the ring.
                    None | Some(500 | 503) => {}
                    Some(other) => panic!("{other}"),
                }
            }
            recorded(&WriteRequest { timeseries: series, ..WriteRequest::default() }, &mut sent);
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        unreachable!("the rounds have no end")
    }

    /// Waits until `more` requests are acknowledged from now on.
    fn goes_on(&self, more: usize) {
        let until = self.acknowledged.load(Ordering::Relaxed) + more;
        wait(|| self.acknowledged.load(Ordering::Relaxed) >= until);
    }
}

/// Runs `change` while the senders numbered `senders` write to `addresses`; gives all that was
/// acknowledged.
fn under_load(addresses: &[String], senders: [usize; 2], change: impl FnOnce(&Load)) -> Samples {
    let load = Load::new();
    std::thread::scope(|scope| {
        let own = &load;
        let senders = senders.map(|sender| scope.spawn(move || own.send(sender, addresses)));
        // Ended also when the change fails, or its failure would never be seen.
        struct End<'a>(&'a Load);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.is_over.store(true, Ordering::Relaxed);
            }
        }
        let end = End(&load);
        load.goes_on(10);
        change(&load);
        drop(end);
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    })
}

fn ring(endpoints: &[&str]) -> String {
    let quoted: Vec<String> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    format!("[{{\"algorithm\": \"ketama\", \"endpoints\": [{}]}}]", quoted.join(","))
}

/// Replaces the hashrings file, whole.
fn set(path: &Path, endpoints: &[&str]) {
    let new = path.with_extension("new");
    std::fs::write(&new, ring(endpoints)).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// How many of `receivers` have each of the samples, at least.
fn copies(expected: &Samples, receivers: &[&Uru]) -> usize {
    let found: Vec<Samples> = receivers.iter().map(|uru| samples(&stored(uru, "ring"), &EXTERNAL)).collect();
    let of = |labels: &String, time: &i64, value: &u64| {
        found.iter().filter(|found| found.get(labels).and_then(|samples| samples.get(time)) == Some(value)).count()
    };
    let all =
        expected.iter().flat_map(|(labels, samples)| samples.iter().map(move |(time, value)| (labels, time, value)));
    all.map(|(labels, time, value)| of(labels, time, value)).min().unwrap()
}

fn changes(uru: &Uru) -> f64 {
    uru.metric("thanos_receive_hashrings_file_changes_total").unwrap()
}

#[test]
fn a_router_that_is_told_to_end_answers_what_is_under_way_on_a_connection_of_another_thread() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = start(folder.path(), &[]);
    let file = folder.path().join("rings.json");
    set(&file, &[&receiver.grpc]);
    let flag = format!("--receive.hashrings-file={}", file.display());
    let snappy = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    // Which of the router's threads serves a connection nobody can say beforehand.
    for round in 0..5 {
        let own = tempfile::tempdir().unwrap();
        let router = start(own.path(), &[&flag]);
        let send = |sender| post(&router.write_address(), "/api/v1/receive", &snappy, &body(&request(sender, round)));
        wait(|| send(0).is_some_and(|answer| answer.status == 200));
        receiver.signal("STOP");
        let answer = std::thread::scope(|scope| {
            let sending = scope.spawn(|| send(1));
            std::thread::sleep(Duration::from_millis(200));
            router.signal("TERM");
            std::thread::sleep(Duration::from_millis(200));
            receiver.signal("CONT");
            sending.join().unwrap()
        });
        let answer = answer.map(|answer| (answer.status, answer.body));
        assert!(matches!(answer, Some((200, _))), "{round}: {answer:?}");
    }
}

#[test]
fn a_hashrings_file_that_changes_under_load_loses_nothing() {
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let file = folders[3].path().join("rings.json");
    let receivers: Vec<Uru> = folders[..3].iter().map(|folder| start(folder.path(), &[])).collect();
    let grpc: Vec<&str> = receivers.iter().map(|uru| &*uru.grpc).collect();
    set(&file, &grpc[..1]);
    let flag = format!("--receive.hashrings-file={}", file.display());
    let router = start(folders[3].path(), &[&flag]);
    let acknowledged = under_load(&[router.write_address()], [0, 1], |load| {
        for (number, endpoints) in [&grpc[..2], &grpc[1..], &grpc[..]].into_iter().enumerate() {
            set(&file, endpoints);
            wait(|| changes(&router) > number as f64);
            load.goes_on(20);
        }
        std::fs::write(&file, "[").unwrap();
        let is_successful = || router.metric("thanos_receive_config_last_reload_successful");
        wait(|| is_successful() == Some(0.0));
        load.goes_on(20);
        set(&file, &grpc[..]);
        wait(|| is_successful() == Some(1.0));
        std::fs::remove_file(&file).unwrap();
        wait(|| is_successful() == Some(0.0));
        load.goes_on(20);
        // The same file again.
        set(&file, &grpc[..]);
        wait(|| is_successful() == Some(1.0));
    });
    assert!(acknowledged.values().map(|samples| samples.len()).sum::<usize>() > 90 * SERIES);
    let all: Vec<&Uru> = receivers.iter().collect();
    assert!(copies(&acknowledged, &all) >= 1);
    // The last change took effect: each receiver was given something.
    assert!(receivers.iter().all(|uru| !stored(uru, "ring").is_empty()));
}

/// A receiver that places and keeps, at the gRPC address `grpc` and the ring of `file`.
fn member(data: &Path, file: &Path, (grpc, write): (&str, &str)) -> Uru {
    let flags = [
        format!("--grpc-address={grpc}"),
        format!("--receive.local-endpoint={grpc}"),
        format!("--remote-write.address={write}"),
        format!("--receive.hashrings-file={}", file.display()),
        "--receive.replication-factor=3".to_owned(),
    ];
    start(data, &flags.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn of_three_replicas_one_is_killed_and_comes_back_one_is_added_and_two_have_every_sample() {
    let folders: Vec<_> = (0..5).map(|_| tempfile::tempdir().unwrap()).collect();
    let addresses: Vec<(String, String)> = (0..4).map(|_| (free_address(), free_address())).collect();
    let grpc: Vec<&str> = addresses.iter().map(|(grpc, _)| &**grpc).collect();
    let writes: Vec<String> = addresses.iter().map(|(_, write)| write.clone()).collect();
    let file = folders[4].path().join("rings.json");
    set(&file, &grpc[..3]);
    let join = |at: usize| member(folders[at].path(), &file, (grpc[at], &writes[at]));
    let mut receivers: Vec<Uru> = (0..3).map(join).collect();
    let acknowledged = under_load(&writes[..3], [0, 1], |load| {
        for _ in 0..2 {
            // In the middle of requests, also of those that it was sent itself.
            receivers.remove(0).kill();
            load.goes_on(20);
            receivers.insert(0, join(0));
            load.goes_on(20);
        }
    });
    // Two of three are the quorum of each acknowledgement.
    assert!(copies(&acknowledged, &receivers.iter().collect::<Vec<_>>()) >= 2);
    assert!(receivers[1].metric("thanos_receive_replications_total{result=\"success\"}").unwrap() > 0.0);
    receivers.push(join(3));
    let while_added = under_load(&writes, [2, 3], |load| {
        set(&file, &grpc);
        wait(|| receivers.iter().all(|uru| uru.metric("thanos_receive_hashring_nodes") == Some(4.0)));
        load.goes_on(30);
    });
    let settled = under_load(&writes, [4, 5], |load| load.goes_on(30));
    let all: Vec<&Uru> = receivers.iter().collect();
    assert!(!stored(all[3], "ring").is_empty());
    // As long as receivers have different rings, two replicas may come to be on one of them.
    assert!(copies(&while_added, &all) >= 1);
    assert!(copies(&settled, &all) >= 2 && copies(&acknowledged, &all) >= 2);
}

#[test]
fn a_router_shows_the_certificate_that_its_file_holds_now_and_verifies_unless_that_is_skipped() {
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let path = |name: &str| folders[3].path().join(name).display().to_string();
    authority.write_to(folders[3].path(), "somebody.else");
    let put = |authority: &Authority| {
        let (certificate, key) = authority.issue();
        std::fs::write(path("client.pem"), certificate).unwrap();
        std::fs::write(path("client-key.pem"), key).unwrap();
    };
    put(&stranger);
    let tls = [("cert", "cert.pem"), ("key", "key.pem"), ("client-ca", "ca.pem")]
        .map(|(flag, file)| format!("--grpc-server-tls-{flag}={}", path(file)));
    let receiver = start(folders[0].path(), &[&tls[0], &tls[1], &tls[2]]);
    let rings = format!("--receive.hashrings={}", ring(&[&receiver.grpc]));
    let [certificate, key, ca] = [("cert", "client.pem"), ("key", "client-key.pem"), ("ca", "ca.pem")]
        .map(|(flag, file)| format!("--remote-write.client-tls-{flag}={}", path(file)));
    let common = [&*rings, "--remote-write.client-tls-secure", &certificate, &key];
    let router = |folder: usize, more: &[&str]| start(folders[folder].path(), &[&common[..], more].concat());
    let named = router(1, &[&ca, "--remote-write.client-server-name=somebody.else"]);
    let trusting = router(2, &["--remote-write.client-tls-skip-verify"]);
    let status = |uru: &Uru, round| write(uru, "", &request(0, round)).status;
    // A certificate of somebody else's is not believed; the one that takes its place is, without a restart.
    assert_eq!((status(&named, 0), status(&trusting, 0)), (503, 503));
    put(&authority);
    wait(|| status(&named, 0) == 200 && status(&trusting, 1) == 200);
    assert_eq!(status(&router(2, &[&ca]), 2), 503, "the certificate names another host");
}

#[test]
fn a_receiver_knows_itself_by_either_of_its_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let rings = r#"--receive.hashrings=[{"endpoints": [{"address": "127.0.0.1:1", "capnproto_address": "a:2"}]}]"#;
    let uru =
        start(folder.path(), &[rings, "--receive.local-endpoint=a:2", "--receive.replication-protocol=capnproto"]);
    assert_eq!(write(&uru, "", &request(0, 0)).status, 200);
    // What it refuses itself counts as an error, as with Thanos; what others refuse as a conflict does not.
    assert_eq!(write(&uru, "", &[float_series(&[("__name__", "ring")], &[(NOW, 1.0), (NOW, 2.0)])]).status, 409);
    for (result, count) in [("success", 1.0), ("error", 1.0)] {
        for name in ["forward_requests", "replications"] {
            let name = format!("thanos_receive_{name}_total{{result=\"{result}\"}}");
            assert_eq!(uru.metric(&name), Some(count), "{name}");
        }
    }
    assert!(uru.log().contains("Thanos routers with capnproto can't forward here"), "{}", uru.log());
}

#[test]
fn a_ring_without_receivers_refuses_its_tenants_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    for empty in ["\"endpoints\": null", "\"endpoints\": []", "\"algorithm\": \"other\""] {
        let rings = format!(
            r#"--receive.hashrings=[{{"tenants": ["q"], {empty}}}, {{"tenants": null, "endpoints": ["a:1"]}}]"#
        );
        let uru = start(folder.path(), &[&rings, "--receive.local-endpoint=a:1"]);
        assert_eq!(["q", "z"].map(|tenant| write(&uru, tenant, &request(0, 0)).status), [500, 200], "{empty}");
    }
}

/// Two receivers with one worker each, of which each has a ring of the other alone.
fn crossed(folders: &[TempDir; 2]) -> [Uru; 2] {
    let addresses = [0, 1].map(|_| (free_address(), free_address()));
    [0, 1].map(|at| {
        let file = folders[at].path().join("rings.json");
        set(&file, &[&addresses[1 - at].0]);
        let (grpc, write) = &addresses[at];
        let flags = [
            format!("--grpc-address={grpc}"),
            format!("--receive.local-endpoint={grpc}"),
            format!("--remote-write.address={write}"),
            format!("--receive.hashrings-file={}", file.display()),
            "--receive.forward.async-workers=1".to_owned(),
        ];
        start(folders[at].path(), &flags.iter().map(String::as_str).collect::<Vec<_>>())
    })
}

fn kept(uru: &Uru) -> usize {
    samples(&stored(uru, "ring"), &EXTERNAL).values().map(|all| all.len()).sum()
}

/// They once sent it to each other until nobody had a worker left, and left each other alone for seconds.
#[test]
fn what_receivers_with_different_rings_would_send_to_each_other_is_kept() {
    let folders = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let receivers = crossed(&folders);
    let statuses: Vec<u16> = (0..20).map(|round| write(&receivers[0], "", &request(0, round)).status).collect();
    assert_eq!(statuses, [200; 20]);
    assert_eq!(receivers.each_ref().map(kept), [20 * SERIES, 0]);
}

/// Each once held the worker that the other needed, until the forward timeout was over.
#[test]
fn receivers_with_different_rings_that_are_both_written_to_do_not_wait_for_each_other() {
    let folders = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let receivers = crossed(&folders);
    let send = |sender: usize| -> Vec<u16> {
        (0..20).map(|round| write(&receivers[sender % 2], "", &request(sender, round)).status).collect()
    };
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let senders = [0, 1, 2, 3].map(|sender| scope.spawn(move || send(sender)));
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 80]);
    assert_eq!(receivers.each_ref().map(kept), [40 * SERIES; 2]);
}

/// Two receivers that place and keep, on a ring of both that takes the tenant `a` and no other.
fn of_one_tenant(folders: &[TempDir; 2], more: &[&str]) -> [Uru; 2] {
    let addresses = [0, 1].map(|_| (free_address(), free_address()));
    let rings = format!(r#"[{{"tenants": ["a"], "endpoints": ["{}", "{}"]}}]"#, addresses[0].0, addresses[1].0);
    [0, 1].map(|at| {
        let (grpc, write) = &addresses[at];
        let own = [
            format!("--grpc-address={grpc}"),
            format!("--receive.local-endpoint={grpc}"),
            format!("--remote-write.address={write}"),
            format!("--receive.hashrings={rings}"),
        ];
        let flags: Vec<&str> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
        start(folders[at].path(), &flags)
    })
}

/// A ring was once needed for the tenant that requests are of unless they say otherwise, though it had sent nothing.
#[test]
fn rings_need_not_take_a_tenant_that_has_no_series() {
    for (flags, tenant, team) in
        [(&[][..], "a", None), (&["--receive.split-tenant-label-name=team"][..], "", Some("a"))]
    {
        let folders = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let receivers = of_one_tenant(&folders, flags);
        let mut series = request(0, 0);
        let team = team.map(|team: &str| Label { name: "team".into(), value: team.into() });
        series.iter_mut().for_each(|series| series.labels.extend(team.clone()));
        let answer = write(&receivers[0], tenant, &series);
        assert_eq!(answer.status, 200, "{flags:?}: {}", answer.body);
        let counts = receivers.each_ref().map(kept);
        assert!(counts.iter().all(|count| *count > 0) && counts.iter().sum::<usize>() == SERIES, "{counts:?}");
        // What is said of metrics is placed nowhere.
        let family = Family { kind: 1, name: "ring".into(), help: "is placed".into() };
        let families = WriteRequest { metadata: vec![family], ..WriteRequest::default() };
        let answer = post(&receivers[0].write_address(), "/api/v1/receive", &[], &packed(&families)).unwrap();
        assert_eq!(answer.status, 200, "{flags:?}: {}", answer.body);
        assert_eq!(write(&receivers[0], "b", &request(1, 0)).status, 500, "{flags:?}");
    }
}

/// It was once sent again for ever.
#[test]
fn what_another_receiver_of_the_ring_refuses_for_good_is_not_to_be_sent_again() {
    let folders = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let receivers = of_one_tenant(&folders, &[]);
    let mut series = request(0, 0);
    for series in &mut series {
        series.samples.clear();
        // An observation that no bucket has.
        let count = Some(histogram::Count::CountInt(1));
        series.histograms.push(Histogram { count, timestamp: NOW, ..Histogram::default() });
    }
    let answer = write(&receivers[0], "a", &series);
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert!(answer.body.contains("forwarding request to endpoint"), "{}", answer.body);
    // Of receivers that differ in the replication factor that is no fault of the series.
    let timeseries_tenant_data = vec![TimeSeriesTenantTuple { timeseries: request(0, 1), tenant: "a".into() }];
    let second = proto::thanos::WriteRequest { timeseries_tenant_data, replica: 2, ..Default::default() };
    let refused = run(async { unary::<_, WriteResponse>(&receivers[1].connect().await, FORWARD, second).await });
    assert_eq!(refused.unwrap_err().code(), tonic::Code::InvalidArgument);
}

/// Forwards to a receiver that does not answer, and goes away when told to.
async fn forward_until(uru: &Uru, forwarded: proto::thanos::WriteRequest, left: oneshot::Receiver<()>) {
    let channel = uru.connect().await;
    tokio::select! {
        answer = unary::<_, WriteResponse>(&channel, FORWARD, forwarded) => panic!("{answer:?}"),
        _ = left => {}
    }
}

/// It was once counted for ever.
#[test]
fn a_call_whose_caller_goes_away_is_not_pending_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let rings = format!(r#"--receive.hashrings=[{{"endpoints": ["{}"]}}]"#, silent.local_addr().unwrap());
    let uru = start(folder.path(), &["--receive-forward-timeout=10m", &rings]);
    let pending = || uru.metric("thanos_receive_pending_write_requests");
    let (leave, left) = oneshot::channel();
    let timeseries_tenant_data = vec![TimeSeriesTenantTuple { timeseries: request(0, 0), tenant: String::new() }];
    let forwarded = proto::thanos::WriteRequest { timeseries_tenant_data, ..Default::default() };
    std::thread::scope(|scope| {
        scope.spawn(|| run(forward_until(&uru, forwarded, left)));
        wait(|| pending() == Some(1.0));
        leave.send(()).unwrap();
    });
    wait(|| pending() == Some(0.0));
}

#[test]
fn a_receiver_that_never_answers_is_left_alone_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    // It is connected to, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let rings = format!(r#"--receive.hashrings=[{{"endpoints": ["{}"]}}]"#, silent.local_addr().unwrap());
    let flags = ["--receive-forward-timeout=300ms", "--receive-forward-max-backoff=1m", &rings];
    let uru = start(folder.path(), &flags);
    let answers: Vec<(u16, String)> =
        (0..20).map(|round| write(&uru, "", &request(0, round))).map(|answer| (answer.status, answer.body)).collect();
    assert!(answers.iter().all(|(status, _)| *status == 503), "{answers:?}");
    assert!(answers[0].1.contains("did not answer in time"), "{answers:?}");
    assert!(answers[1].1.contains("backing off"), "{answers:?}");
    let silences = answers.iter().filter(|(_, text)| text.contains("did not answer in time")).count();
    assert!(silences < 10, "{answers:?}");
}
