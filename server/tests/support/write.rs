//! Writing to receivers: requests over HTTP, and what is read back.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use engine::chunk::xor;
use engine::model::FloatColumns;
use prost::Message;
use proto::prometheus_copy::{Sample, TimeSeries};
use proto::thanos::{Label, LabelMatcher, Series, SeriesRequest};

use crate::support::{Uru, run, series};

/// External labels that every receiver of the tests adds.
pub const EXTERNAL: [&str; 2] = ["receive", "tenant_id"];

/// Some time in the present, in Unix milliseconds.
pub const NOW: i64 = 1_790_000_000_000;

/// Starts a receiver over the folder `data`.
pub fn start(data: &Path, more: &[&str]) -> Uru {
    let flags = flags(data, more);
    Uru::start("receive", &flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The flags of a receiver over the folder `data`.
pub fn flags(data: &Path, more: &[&str]) -> Vec<String> {
    let mut flags = vec![format!("--tsdb.path={}", data.display())];
    let defaults = ["--label=receive=\"a\"", "--remote-write.address=127.0.0.1:0", "--tsdb.retention=0d"];
    let given = |flag: &&&str| more.iter().any(|own| own.split('=').next() == flag.split('=').next());
    flags.extend(defaults.iter().filter(|flag| !given(flag)).map(|flag| (*flag).to_owned()));
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    flags
}

/// A write request of version 1; the schema has only its series.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    /// The series.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
    /// What is said of metric families.
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<Family>,
}

/// What is said of a metric family in version 1.
#[derive(Clone, PartialEq, Message)]
pub struct Family {
    /// Its type.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What it means.
    #[prost(string, tag = "4")]
    pub help: String,
}

/// Float samples by the labels of their series, as text.
pub type Samples = BTreeMap<String, BTreeMap<i64, u64>>;

/// An answer over HTTP.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// Posts `body` over a connection of its own; `None` when nobody answers.
pub fn post(address: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).ok()?;
    // A request that is refused early may not be read to its end.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Some(Answer { status, headers, body: body.to_owned() })
}

/// A series of one float sample for each of `samples`.
pub fn float_series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
    TimeSeries {
        labels: labels.iter().map(|(name, value)| Label { name: (*name).into(), value: (*value).into() }).collect(),
        samples: samples.iter().map(|(timestamp, value)| Sample { timestamp: *timestamp, value: *value }).collect(),
        ..TimeSeries::default()
    }
}

/// Series as a compressed body of version 1.
pub fn body(series: &[TimeSeries]) -> Vec<u8> {
    packed(&WriteRequest { timeseries: series.to_vec(), ..WriteRequest::default() })
}

/// A request as it is sent.
pub fn packed(request: &WriteRequest) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap()
}

/// Writes series of version 1 to a receiver, as `tenant` where one is given.
pub fn write(uru: &Uru, tenant: &str, series: &[TimeSeries]) -> Answer {
    let mut headers = vec![("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    if !tenant.is_empty() {
        headers.push(("THANOS-TENANT", tenant));
    }
    post(&uru.write_address(), "/api/v1/receive", &headers, &body(series)).expect("the receiver answers")
}

/// The float samples of a recorded request.
pub fn recorded(request: &WriteRequest, into: &mut Samples) {
    for series in &request.timeseries {
        let of_series = into.entry(labels_text(&series.labels, &[])).or_default();
        of_series.extend(series.samples.iter().map(|sample| (sample.timestamp, sample.value.to_bits())));
    }
}

/// Every series whose metric name matches, over the StoreAPI.
pub fn stored(uru: &Uru, name_regexp: &str) -> Vec<Series> {
    let matcher = LabelMatcher { r#type: 2, name: "__name__".into(), value: name_regexp.into() };
    let request =
        SeriesRequest { min_time: i64::MIN, max_time: i64::MAX, matchers: vec![matcher], ..SeriesRequest::default() };
    run(async {
        let channel = uru.connect().await;
        let (found, warnings) = series(&channel, request).await.unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        found
    })
}

/// The labels of a series as text, without those called `without`.
pub fn labels_text(labels: &[Label], without: &[&str]) -> String {
    let kept = labels.iter().filter(|label| !without.contains(&&*label.name));
    kept.map(|label| format!("{}={:?}", label.name, label.value)).collect::<Vec<_>>().join(",")
}

/// The float samples of series, each found once.
pub fn samples(found: &[Series], without: &[&str]) -> Samples {
    let mut samples = Samples::new();
    for series in found {
        let of_series = samples.entry(labels_text(&series.labels, without)).or_default();
        for raw in series.chunks.iter().filter_map(|chunk| chunk.raw.as_ref()).filter(|raw| raw.r#type == 0) {
            let mut columns = FloatColumns::default();
            xor::decode(&raw.data, &mut columns).unwrap();
            for (time, value) in columns.timestamps.iter().zip(&columns.values) {
                let before = of_series.insert(*time, value.to_bits());
                assert_eq!(before, None, "a sample at {time} came twice");
            }
        }
    }
    samples
}
