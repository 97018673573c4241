//! Requests written by the generated code and read by the scanners; requests that lie.

use prost::Message;

use super::*;
use crate::prometheus_copy::{self as copied, histogram};
use crate::{thanos, write_v2};

/// Everything that a request holds, as text: what two ways of reading it must agree on.
#[derive(Default)]
struct Lines(Vec<String>);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl<'a> Sink<'a> for Lines {
    fn series(&mut self, labels: &LabelPairs<'a>) {
        self.0.push("series".into());
        self.0.extend(labels.iter().map(|(name, value)| format!("{}={}", text(name), text(value))));
    }
    fn unresolved(&mut self, what: Unresolved) {
        self.0.push(format!("left out: {what:?}"));
    }
    fn sample(&mut self, sample: Sample) {
        self.0.push(format!("{} {} {}", sample.time, sample.value, sample.start));
    }
    fn histogram(&mut self, histogram: Histogram) {
        self.0.push(format!("{histogram:?}"));
    }
    fn exemplar(&mut self, labels: &LabelPairs<'a>, exemplar: Exemplar) {
        self.0.extend(labels.iter().map(|(name, value)| format!("# {}={}", text(name), text(value))));
        self.0.push(format!("# {} {}", exemplar.time, exemplar.value));
    }
    fn metadata(&mut self, metadata: Metadata<'a>) {
        self.0.push(format!("{} {} {}", metadata.kind, text(metadata.help), text(metadata.unit)));
    }
}

fn wire_label(name: &str, value: &str) -> thanos::Label {
    thanos::Label { name: name.into(), value: value.into() }
}

fn long() -> String {
    "x".repeat(300)
}

fn wire_series() -> copied::TimeSeries {
    copied::TimeSeries {
        labels: vec![wire_label("__name__", "up"), wire_label("path", &long()), wire_label("empty", "")],
        samples: vec![copied::Sample { value: 1.5, timestamp: -7 }, copied::Sample { value: -0.0, timestamp: 1 << 41 }],
        exemplars: vec![copied::Exemplar { labels: vec![wire_label("id", "7")], value: 2.0, timestamp: 9 }],
        histograms: vec![wire_histogram()],
    }
}

fn wire_histogram() -> copied::Histogram {
    copied::Histogram {
        count: Some(histogram::Count::CountInt(12)),
        zero_count: Some(histogram::ZeroCount::ZeroCountInt(1)),
        sum: 3.5,
        schema: -4,
        zero_threshold: 0.001,
        positive_spans: vec![copied::BucketSpan { offset: -3, length: 2 }],
        positive_deltas: vec![5, -2],
        negative_spans: vec![copied::BucketSpan { offset: 300, length: 1 }],
        negative_deltas: vec![1 << 40],
        reset_hint: 3,
        timestamp: 77,
        custom_values: vec![0.5, f64::MAX],
        ..copied::Histogram::default()
    }
}

fn lines_of(scan: impl FnOnce(&mut Lines) -> Result<(), Malformed>) -> Vec<String> {
    let mut lines = Lines::default();
    scan(&mut lines).unwrap();
    lines.0
}

/// A request of version 2 with the same content as `wire_series`.
fn v2_request() -> write_v2::Request {
    let symbols = ["", "__name__", "up", "path", &long(), "empty", "id", "7", "help", "bytes"];
    let histogram = write_v2::Histogram::decode(&*wire_histogram().encode_to_vec()).unwrap();
    let samples = wire_series().samples.into_iter().map(|sample| write_v2::Sample {
        value: sample.value,
        timestamp: sample.timestamp,
        start_timestamp: 0,
    });
    write_v2::Request {
        symbols: symbols.map(str::to_owned).to_vec(),
        timeseries: vec![write_v2::TimeSeries {
            labels_refs: vec![1, 2, 3, 4, 5, 0],
            samples: samples.collect(),
            histograms: vec![histogram],
            exemplars: vec![write_v2::Exemplar { labels_refs: vec![6, 7], value: 2.0, timestamp: 9 }],
            metadata: Some(write_v2::Metadata { r#type: 1, help_ref: 8, unit_ref: 9 }),
        }],
    }
}

fn v1_bytes() -> Vec<u8> {
    let mut request = Vec::new();
    put_message(&mut request, 1, &wire_series().encode_to_vec());
    let metadata = copied::MetricMetadata {
        r#type: 1,
        metric_family_name: "up".into(),
        help: "help".into(),
        unit: "bytes".into(),
    };
    put_message(&mut request, 3, &metadata.encode_to_vec());
    request
}

#[test]
fn both_versions_of_one_series_read_alike() {
    let first = lines_of(|lines| scan_v1(&v1_bytes(), lines));
    let bytes = v2_request().encode_to_vec();
    let second = lines_of(|lines| scan_v2(&bytes, lines));
    assert_eq!(first.len(), second.len());
    for line in &first {
        assert!(second.contains(line), "{line} is not in {second:?}");
    }
    assert!(first.contains(&"1 help bytes".into()) && first.contains(&"-7 1.5 0".into()), "{first:?}");
    assert!(first.iter().any(|line| line.contains("Integer(12)")), "{first:?}");
}

#[test]
fn zeros_are_no_request() {
    for bytes in [&[0][..], &[0; 64], &[1, 0, 0, 0, 0, 0, 0, 0, 0]] {
        assert!(scan_v1(bytes, &mut Lines::default()).is_err(), "{bytes:?}");
        assert!(scan_v2(bytes, &mut Lines::default()).is_err(), "{bytes:?}");
    }
}

#[test]
fn what_our_encoder_writes_the_generated_code_reads() {
    let mut read = None;
    struct One<'b>(&'b mut Option<Histogram>);
    impl<'a> Sink<'a> for One<'_> {
        fn series(&mut self, _: &LabelPairs<'a>) {}
        fn sample(&mut self, _: Sample) {}
        fn histogram(&mut self, histogram: Histogram) {
            *self.0 = Some(histogram);
        }
        fn exemplar(&mut self, _: &LabelPairs<'a>, _: Exemplar) {}
        fn metadata(&mut self, _: Metadata<'a>) {}
    }
    scan_v1(&v1_bytes(), &mut One(&mut read)).unwrap();
    let mut written = Vec::new();
    put_histogram(&mut written, &read.unwrap());
    assert_eq!(copied::Histogram::decode(&*written).unwrap(), wire_histogram());
    let mut series = Vec::new();
    put_label(&mut series, b"a", b"");
    put_sample(&mut series, Sample { time: -1, value: 2.0, start: 0 });
    let series = copied::TimeSeries::decode(&*series).unwrap();
    assert_eq!((series.labels, series.samples[0].timestamp), (vec![wire_label("a", "")], -1));
}

#[test]
fn a_sink_that_takes_runs_gets_the_labels_as_they_lie() {
    #[derive(Default)]
    struct Runs<'b> {
        runs: Vec<(usize, &'b [u8])>,
        told: usize,
        samples: Vec<Sample>,
        exemplar_labels: usize,
    }
    impl<'a> Sink<'a> for Runs<'a> {
        fn label_run(&mut self, run: LabelRun<'a>) -> bool {
            self.runs.push((run.offset, run.bytes));
            true
        }
        fn series(&mut self, _: &LabelPairs<'a>) {
            self.told += 1;
        }
        fn sample(&mut self, sample: Sample) {
            self.samples.push(sample);
        }
        fn histogram(&mut self, _: Histogram) {}
        fn exemplar(&mut self, labels: &LabelPairs<'a>, _: Exemplar) {
            self.exemplar_labels += labels.len();
        }
        fn metadata(&mut self, _: Metadata<'a>) {}
    }
    let (mut labels, mut bytes) = (Vec::new(), Vec::new());
    put_label(&mut labels, b"__name__", b"up");
    put_label(&mut labels, b"path", long().as_bytes());
    let rest = copied::TimeSeries { labels: Vec::new(), ..wire_series() };
    put_message(&mut bytes, 1, &[labels.as_slice(), &rest.encode_to_vec()].concat());
    let mut runs = Runs::default();
    scan_v1(&bytes, &mut runs).unwrap();
    assert_eq!(runs.runs.iter().map(|(_, run)| *run).collect::<Vec<_>>(), [labels.as_slice()]);
    assert_eq!(bytes[runs.runs[0].0..][..labels.len()], labels);
    let times: Vec<i64> = runs.samples.iter().map(|sample| sample.time).collect();
    assert_eq!((times, runs.samples[0].value), (vec![-7, 1 << 41], 1.5));
    assert_eq!((runs.told, runs.exemplar_labels), (0, 1));
    // Lengths of two bytes where one is enough, and a label without a name, are no such run.
    let odd: [&[u8]; 3] = [
        &[0x0a, 0x87, 0x00, 0x0a, 1, b'a', 0x12, 2, b'b', b'c'],
        &[0x0a, 7, 0x0a, 0x81, 0x00, b'a', 0x12, 1, b'b'],
        &[0x0a, 3, 0x12, 1, b'b'],
    ];
    for label in odd {
        let mut request = Vec::new();
        put_message(&mut request, 1, label);
        let mut runs = Runs::default();
        scan_v1(&request, &mut runs).unwrap();
        assert_eq!((runs.runs.len(), runs.told), (0, 1), "{label:?}");
    }
}

#[test]
fn a_start_timestamp_is_read_and_written() {
    let sample = Sample { time: 1000, value: 1.0, start: 400 };
    let mut series = Vec::new();
    put_sample(&mut series, sample);
    let mut request = Vec::new();
    put_message(&mut request, 1, &series);
    assert_eq!(lines_of(|lines| scan_v1(&request, lines))[1], "1000 1 400");
}

fn forwarded(request: &[u8]) -> (Vec<TenantSeries<'_>>, i64) {
    scan_forwarded(request, |_| Ok::<_, Malformed>(())).unwrap()
}

#[test]
fn forwarded_requests_of_both_forms_name_their_tenants() {
    let series = wire_series();
    let old = thanos::WriteRequest {
        timeseries: vec![series.clone()],
        tenant: "a".into(),
        replica: 2,
        ..thanos::WriteRequest::default()
    };
    let tuple = thanos::TimeSeriesTenantTuple { timeseries: vec![series], tenant: "b".into() };
    let new =
        thanos::WriteRequest { timeseries_tenant_data: vec![tuple.clone(), tuple], ..thanos::WriteRequest::default() };
    let (old, new) = (old.encode_to_vec(), new.encode_to_vec());
    let (tenants, replica) = forwarded(&old);
    assert_eq!((tenants.len(), tenants[0].tenant, replica), (1, &b"a"[..], 2));
    let lines = lines_of(|lines| tenants[0].read(lines));
    let (tenants, replica) = forwarded(&new);
    assert_eq!((tenants.len(), tenants[1].tenant, replica), (2, &b"b"[..], 0));
    assert_eq!(lines_of(|lines| tenants[1].read(lines)), lines);
    assert!(forwarded(&[]).0.is_empty());
    // How many there are is told before anything is kept of them.
    let refused = scan_forwarded(&new, |count| {
        assert_eq!(count, 2);
        Err(Malformed { offset: 0, reason: "no room" })
    });
    assert_eq!(refused.unwrap_err().reason, "no room");
}

#[test]
fn a_length_that_lies_is_an_error_at_its_offset() {
    let error = scan_v1(&[0x0a, 3, 0x0a, 9, 0], &mut Lines::default()).unwrap_err();
    assert_eq!(error.to_string(), "malformed write request at byte 3: a length goes beyond its message");
    let error = scan_v1(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], &mut Lines::default());
    assert_eq!(error.unwrap_err().offset, 1);
}

#[test]
fn what_refers_to_no_symbol_is_left_out_and_the_rest_is_read() {
    let whole = lines_of(|lines| scan_v2(&v2_request().encode_to_vec(), lines));
    for refs in [vec![1, 99], vec![1, 2, 3], vec![u32::MAX, 2]] {
        let mut request = v2_request();
        request
            .timeseries
            .insert(0, write_v2::TimeSeries { labels_refs: refs.clone(), ..request.timeseries[0].clone() });
        let mut expected = vec!["left out: Series".to_owned()];
        expected.extend(whole.iter().cloned());
        assert_eq!(lines_of(|lines| scan_v2(&request.encode_to_vec(), lines)), expected, "{refs:?}");
        let mut request = v2_request();
        request.timeseries[0].metadata = Some(write_v2::Metadata { unit_ref: 99, ..Default::default() });
        let found = lines_of(|lines| scan_v2(&request.encode_to_vec(), lines));
        assert_eq!(found.iter().filter(|line| *line == "left out: Metadata").count(), 1);
        assert_eq!(found.len(), whole.len(), "in place of what was told");
        let mut request = v2_request();
        request.timeseries[0].exemplars[0].labels_refs = refs;
        let found = lines_of(|lines| scan_v2(&request.encode_to_vec(), lines));
        assert_eq!(found.iter().filter(|line| *line == "left out: Exemplar").count(), 1);
        assert_eq!(found.len(), whole.len() - 1);
    }
}

#[test]
fn a_request_cut_or_changed_anywhere_never_panics() {
    for (bytes, version) in [(v1_bytes(), 1), (v2_request().encode_to_vec(), 2)] {
        let read = |bytes: &[u8]| match version {
            1 => scan_v1(bytes, &mut Lines::default()),
            _ => scan_v2(bytes, &mut Lines::default()),
        };
        for cut in 0..bytes.len() {
            let _ = read(&bytes[..cut]);
            let mut damaged = bytes.clone();
            for bit in 0..8 {
                damaged[cut] = bytes[cut] ^ 1 << bit;
                let _ = read(&damaged);
            }
        }
    }
}

#[test]
fn references_that_stand_for_too_much_are_an_error_however_few_bytes_they_take() {
    let request = |series: usize| {
        let one = write_v2::TimeSeries { labels_refs: vec![1, 2], ..write_v2::TimeSeries::default() };
        let symbols = vec![String::new(), "a".into(), "v".repeat(1 << 20)];
        write_v2::Request { symbols, timeseries: vec![one; series] }.encode_to_vec()
    };
    struct Count(usize);
    impl<'a> Sink<'a> for Count {
        fn series(&mut self, _: &LabelPairs<'a>) {
            self.0 += 1;
        }
        fn sample(&mut self, _: Sample) {}
        fn histogram(&mut self, _: Histogram) {}
        fn exemplar(&mut self, _: &LabelPairs<'a>, _: Exemplar) {}
        fn metadata(&mut self, _: Metadata<'a>) {}
    }
    let mut count = Count(0);
    scan_v2(&request(127), &mut count).unwrap();
    assert_eq!(count.0, 127);
    let error = scan_v2(&request(1000), &mut count).unwrap_err();
    assert!(error.reason.contains("128 MiB"), "{error}");
    assert_eq!(count.0, 254);
}

/// How many labels are told of each series and exemplar, histograms, and what room reading takes: that of `room`.
#[derive(Default)]
struct Roomy {
    room: usize,
    taken: usize,
    given: usize,
    series: Vec<usize>,
    exemplars: Vec<usize>,
    histograms: Vec<usize>,
    unresolved: usize,
}

impl Roomy {
    fn of(room: usize) -> Self {
        Self { room, ..Self::default() }
    }
}

impl<'a> Sink<'a> for Roomy {
    fn take_room(&mut self, bytes: usize) -> bool {
        self.taken += bytes;
        self.taken <= self.room
    }
    fn give_room(&mut self, bytes: usize) {
        self.given += bytes;
    }
    fn series(&mut self, labels: &LabelPairs<'a>) {
        self.series.push(labels.len());
    }
    fn unresolved(&mut self, _: Unresolved) {
        self.unresolved += 1;
    }
    fn sample(&mut self, _: Sample) {}
    fn histogram(&mut self, histogram: Histogram) {
        self.histograms.push(histogram.positive.deltas.len());
    }
    fn exemplar(&mut self, labels: &LabelPairs<'a>, _: Exemplar) {
        self.exemplars.push(labels.len());
    }
    fn metadata(&mut self, _: Metadata<'a>) {}
}

/// Labels of two bytes once took sixteen times as many each, and there was no end to them.
#[test]
fn of_too_many_labels_one_more_than_there_may_be_is_told_and_all_are_looked_at() {
    // The key of a label and its length.
    let empty = |count: usize| [0x0a_u8, 0].repeat(count);
    let request = |labels: &[u8], exemplar: &[u8]| {
        let (mut series, mut request) = (labels.to_vec(), Vec::new());
        put_message(&mut series, 3, exemplar);
        put_message(&mut request, 1, &series);
        request
    };
    for (count, told, exemplar_told) in [(100, 100, 100), (10_000, 10_000, 129), (50_000, 10_001, 129)] {
        let mut found = Roomy::default();
        scan_v1(&request(&empty(count), &empty(count)), &mut found).unwrap();
        assert_eq!((found.series, found.exemplars), (vec![told], vec![exemplar_told]), "{count} labels");
        let refs = vec![0; 2 * count];
        let exemplars = vec![write_v2::Exemplar { labels_refs: refs.clone(), ..Default::default() }];
        let series = write_v2::TimeSeries { labels_refs: refs, exemplars, ..Default::default() };
        let symbols = vec![String::new()];
        let second = write_v2::Request { symbols: symbols.clone(), timeseries: vec![series.clone()] };
        let mut found = Roomy::of(usize::MAX);
        scan_v2(&second.encode_to_vec(), &mut found).unwrap();
        assert_eq!((found.series, found.exemplars), (vec![told], vec![exemplar_told]), "{count} references");
        // The last of all is no symbol.
        let mut odd = series;
        *odd.labels_refs.last_mut().unwrap() = 1;
        let mut found = Roomy::of(usize::MAX);
        scan_v2(&write_v2::Request { symbols, timeseries: vec![odd] }.encode_to_vec(), &mut found).unwrap();
        assert_eq!((found.unresolved, found.series.len()), (1, 0));
    }
    // A label whose name is a number.
    let odd = [empty(50_000), vec![0x0a, 2, 0x08, 1]].concat();
    for request in [request(&odd, &[]), request(&[], &odd)] {
        assert!(scan_v1(&request, &mut Roomy::default()).unwrap_err().reason.contains("wire type"));
    }
}

#[test]
fn room_for_symbols_is_taken_before_they_are_listed_and_given_back() {
    let request = |symbols: usize| {
        let series = write_v2::TimeSeries { labels_refs: vec![1, 2], ..write_v2::TimeSeries::default() };
        let request = write_v2::Request { symbols: vec![String::new(); 3], timeseries: vec![series] };
        [request.encode_to_vec(), [0x22, 0].repeat(symbols - 3)].concat()
    };
    let mut found = Roomy::of(usize::MAX);
    scan_v2(&request(100_000), &mut found).unwrap();
    assert!((1_600_000..3_500_000).contains(&found.taken), "{}", found.taken);
    assert_eq!((found.given, found.series), (found.taken, vec![1]));
    // Where there is no room the request is read on, and how much it would take is told.
    let mut found = Roomy::of(100_000);
    scan_v2(&request(100_000), &mut found).unwrap();
    assert!(found.taken >= 1_600_000, "{}", found.taken);
    let mut found = Roomy::default();
    scan_v2(&request(1000), &mut found).unwrap();
    assert_eq!((found.unresolved, found.series.len()), (1, 0), "there are no symbols");
    let cut = [&request(1000)[..], &[0x22, 9]].concat();
    assert!(scan_v2(&cut, &mut Roomy::default()).is_err());
}

#[test]
fn room_for_a_large_histogram_is_taken_before_it_is_read() {
    let histogram = |deltas: usize| {
        let (mut message, mut series, mut request) = (Vec::new(), Vec::new(), Vec::new());
        put_message(&mut message, 12, &vec![0; deltas]);
        put_message(&mut series, 4, &message);
        put_message(&mut request, 1, &series);
        request
    };
    for (deltas, room, told) in [(100, 0, true), (100_000, 1 << 20, true), (100_000, 1 << 19, false)] {
        let mut found = Roomy::of(room);
        scan_v1(&histogram(deltas), &mut found).unwrap();
        assert_eq!(found.histograms, if told { vec![deltas] } else { Vec::new() });
        assert_eq!(found.taken >= 8 * deltas, deltas > 100, "{}", found.taken);
        assert_eq!(found.given, if told { found.taken } else { 0 });
    }
}

#[test]
fn packed_numbers_of_a_histogram_take_the_room_that_they_need() {
    struct Room(Option<[usize; 2]>);
    impl<'a> Sink<'a> for Room {
        fn series(&mut self, _: &LabelPairs<'a>) {}
        fn sample(&mut self, _: Sample) {}
        fn histogram(&mut self, histogram: Histogram) {
            self.0 = Some([histogram.positive.deltas.capacity(), histogram.custom_values.capacity()]);
        }
        fn exemplar(&mut self, _: &LabelPairs<'a>, _: Exemplar) {}
        fn metadata(&mut self, _: Metadata<'a>) {}
    }
    let deltas = (0..1025).map(|at| at * at - 1000).collect();
    let positive = Buckets { deltas, ..Buckets::default() };
    let histogram = Histogram { positive, custom_values: vec![0.5; 1025], ..Histogram::default() };
    let (mut message, mut series, mut request) = (Vec::new(), Vec::new(), Vec::new());
    put_histogram(&mut message, &histogram);
    put_message(&mut series, 4, &message);
    put_message(&mut request, 1, &series);
    let mut room = Room(None);
    scan_v1(&request, &mut room).unwrap();
    assert_eq!(room.0, Some([1025; 2]));
}
