//! A real Prometheus scrapes itself and a real node exporter and writes what it gets to a receiver: PromQL
//! over both answers the same.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::write::start;
use crate::support::{Uru, free_address, wait};

/// Time between two scrapes, in milliseconds.
const INTERVAL: i64 = 500;

/// Scrapes of each target before answers are compared.
const SCRAPES: usize = 40;

/// Queries, of which `W` is a range that holds 20 scrapes.
const QUERIES: [&str; 16] = [
    "up",
    "sum by (job) (rate(prometheus_http_requests_total[W]))",
    "rate(node_cpu_seconds_total[W])",
    "sum without (cpu) (increase(node_cpu_seconds_total[W]))",
    "histogram_quantile(0.9, sum by (le, handler) (rate(prometheus_http_request_duration_seconds_bucket[W])))",
    "max_over_time(go_goroutines[W]) - min_over_time(go_goroutines[W])",
    "count by (__name__) ({job=\"node\"})",
    "topk(3, process_resident_memory_bytes)",
    "node_memory_MemTotal_bytes - node_memory_MemFree_bytes",
    "avg_over_time(node_load1[W])",
    "changes(process_start_time_seconds[W]) + resets(go_memstats_mallocs_total[W])",
    "deriv(node_memory_MemFree_bytes[W])",
    "quantile_over_time(0.5, scrape_duration_seconds[W])",
    "go_gc_duration_seconds{quantile=\"0.5\"} offset 5s",
    "count_over_time(node_network_receive_bytes_total[W])",
    "absent(nothing) or sum(scrape_samples_scraped)",
];

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn start(program: &str, flags: &[String]) -> Self {
        let mut command = Command::new(program);
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether all `programs` are there; said loudly if not, a failure where they are required.
fn are_installed(programs: &[&str]) -> bool {
    programs.iter().all(|program| {
        let found = Command::new(program).arg("--version").output().is_ok();
        assert!(found || std::env::var_os("URU_REQUIRE_ALL").is_none(), "{program} is required");
        if !found {
            eprintln!("SKIPPED: {program} is not installed");
        }
        found
    })
}

fn prometheus(data: &Path, address: &str, (node, write): (&str, &str)) -> Process {
    let config = format!(
        "global: {{scrape_interval: {INTERVAL}ms, scrape_timeout: {INTERVAL}ms}}\n\
         scrape_configs:\n\
         - {{job_name: prometheus, static_configs: [{{targets: ['{address}']}}]}}\n\
         - {{job_name: node, static_configs: [{{targets: ['{node}']}}]}}\n\
         remote_write: [{{url: 'http://{write}/api/v1/receive', queue_config: {{batch_send_deadline: 200ms}}}}]\n"
    );
    let path = data.join("prometheus.yml");
    std::fs::write(&path, config).unwrap();
    let flags = [
        format!("--config.file={}", path.display()),
        format!("--storage.tsdb.path={}", data.join("prometheus").display()),
        format!("--web.listen-address={address}"),
    ];
    Process::start("prometheus", &flags)
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The body of an answer in HTTP/1.0, whose bodies come in one piece.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

/// The result of a query; nothing while there is no answer.
fn ask(address: &str, path: &str) -> Value {
    let answer = get(address, path).and_then(|text| serde_json::from_str::<Value>(&text).ok());
    answer.map_or(Value::Null, |mut answer| answer["data"]["result"].take())
}

fn instant(address: &str, query: &str, time: i64) -> Value {
    ask(address, &format!("/api/v1/query?query={}&time={}", escape(query), time as f64 / 1e3))
}

/// The series of an answer without the labels that the receiver adds, sorted; values as numbers.
fn series(answer: &Value) -> Vec<(String, Vec<f64>)> {
    let number = |pair: &Value| pair[1].as_str().unwrap().parse::<f64>().unwrap();
    let mut found: Vec<_> = answer
        .as_array()
        .unwrap_or(&Vec::new())
        .iter()
        .map(|series| {
            let mut labels = series["metric"].as_object().unwrap().clone();
            labels.retain(|name, _| name != "receive" && name != "tenant_id");
            let values = match series["values"].as_array() {
                Some(values) => values.iter().flat_map(|pair| [pair[0].as_f64().unwrap(), number(pair)]).collect(),
                None => vec![number(&series["value"])],
            };
            (serde_json::to_string(&labels).unwrap(), values)
        })
        .collect();
    found.sort_by(|left, right| left.0.cmp(&right.0));
    found
}

fn assert_equal(query: &str, found: &Value, expected: &Value) {
    let (found, expected) = (series(found), series(expected));
    assert!(!expected.is_empty(), "{query} has no answer");
    let names = |of: &[(String, Vec<f64>)]| of.iter().map(|(labels, _)| labels.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected), "{query}");
    for ((labels, found), (_, expected)) in found.iter().zip(&expected) {
        assert_eq!(found.len(), expected.len(), "{query}: {labels}");
        for (found, expected) in found.iter().zip(expected) {
            // Prometheus sums in the order in which a map gives its series.
            let is_close = (found - expected).abs() <= 1e-9 * expected.abs().max(1e-9);
            assert!(is_close || found.is_nan() && expected.is_nan(), "{query}: {labels}: {found} {expected}");
        }
    }
}

/// A time after the newest scrapes at which no range of whole intervals begins at a sample: versions of
/// Prometheus differ in whether that one counts.
fn between_scrapes(address: &str) -> i64 {
    let newest = ask(address, &format!("/api/v1/query?query={}", escape("timestamp(up)")));
    let times: Vec<i64> = series(&newest).iter().map(|(_, values)| (values[0] * 1e3).round() as i64).collect();
    let latest = *times.iter().max().unwrap();
    let is_apart =
        |time: &i64| times.iter().all(|sample| (5..INTERVAL - 5).contains(&(time - sample).rem_euclid(INTERVAL)));
    (latest + 1..).find(is_apart).unwrap()
}

#[test]
fn promql_over_what_a_real_prometheus_writes_answers_as_prometheus_does() {
    if !are_installed(&["prometheus", "prometheus-node-exporter"]) {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let receiver = start(&data.path().join("receive"), &[]);
    let querier = Uru::start("query", &[&format!("--endpoint={}", receiver.grpc)]);
    let (node, own) = (free_address(), free_address());
    let mut flags = vec![format!("--web.listen-address={node}"), "--collector.disable-defaults".to_owned()];
    flags.extend(["cpu", "loadavg", "meminfo", "netdev", "stat"].map(|name| format!("--collector.{name}")));
    let _exporter = Process::start("prometheus-node-exporter", &flags);
    let _prometheus = prometheus(data.path(), &own, (&node, &receiver.write_address()));
    let now = |address: &str, query: &str| ask(address, &format!("/api/v1/query?query={}", escape(query)));
    let window = format!("{}ms", 20 * INTERVAL);
    // For as long as two windows, and without a failure in the last one.
    let scraped = format!(
        "min(count_over_time(up[5m])) >= {SCRAPES} and count(up) == 2 and min(min_over_time(up[{window}])) == 1"
    );
    wait(|| now(&own, &scraped).as_array().is_some_and(|found| !found.is_empty()));
    let time = between_scrapes(&own);
    // Until both have what came after that time they may still get what came before it.
    let later = format!("count(timestamp(up) > {}) == 2", (time + INTERVAL) as f64 / 1e3);
    for address in [&own, &querier.http] {
        wait(|| now(address, &later).as_array().is_some_and(|found| !found.is_empty()));
    }
    for query in QUERIES {
        let query = query.replace('W', &window);
        assert_equal(&query, &instant(&querier.http, &query, time), &instant(&own, &query, time));
        let steps = format!(
            "/api/v1/query_range?query={}&start={}&end={}&step={}",
            escape(&query),
            (time - 5 * INTERVAL) as f64 / 1e3,
            time as f64 / 1e3,
            INTERVAL as f64 / 1e3
        );
        assert_equal(&query, &ask(&querier.http, &steps), &ask(&own, &steps));
    }
}
