//! Requests with whatever a sender may come up with: what is taken of them can be read from a log and from a snapshot,
//! or the next start would end.

use engine::head::replay::Replay;
use engine::head::snapshot::Position;
use engine::head::{AppendLimits, Head, Options, StartTimes};
use engine::model::TimeRange;
use engine::model::value::STALE_NAN_BITS;
use engine::wal::{Recorder, records};
use proto::wire::put_varint;
use proto::write::{self, Buckets, Count, ResetHint, Sample, put_double, put_label, put_message, put_sample};

use super::{Protocol, take_whole};

const OPTIONS: Options = Options {
    block_range_ms: 7_200_000,
    out_of_order_window_ms: 600_000,
    out_of_order_cap_max: 4,
    exemplars_max: 100,
    start_times: StartTimes::ZeroSamples,
};

const LIMITS: AppendLimits =
    AppendLimits { time_max: TimeRange::ASKED.max_time, series_left: None, latest_time: i64::MIN, memory: None };

const NOW: i64 = 1_790_000_000_000;
const TEXTS: [&str; 7] = ["", "a", "b", "\u{e9}", "\0\n", "__name__", "z\u{10ffff}"];
const TIMES: [i64; 8] = [i64::MIN, -1, 0, 5, 9, NOW, NOW + 1, i64::MAX];
const VALUES: [f64; 6] = [0.0, -0.0, 1.5, f64::NAN, f64::INFINITY, f64::from_bits(STALE_NAN_BITS)];
const SPANS: [(i32, u32); 6] = [(0, 1), (0, 2), (3, 0), (i32::MAX, 1), (i32::MIN, 2), (5, u32::MAX)];
const SCHEMAS: [i32; 6] = [-4, 0, 3, 8, 99, -53];
const RESETS: [ResetHint; 4] = [ResetHint::Unknown, ResetHint::Yes, ResetHint::No, ResetHint::Gauge];

/// Numbers that look like chance.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn labels(&mut self, count: usize, out: &mut Vec<u8>) {
        for _ in 0..count {
            let (name, value) = (self.of(&TEXTS), self.of(&TEXTS));
            put_label(out, name.as_bytes(), value.as_bytes());
        }
    }

    fn exemplar(&mut self) -> Vec<u8> {
        let mut message = Vec::new();
        let count = self.below(4);
        self.labels(count, &mut message);
        put_double(&mut message, 2, self.of(&VALUES));
        message.push(3 << 3);
        put_varint(&mut message, self.of(&TIMES) as u64);
        message
    }

    fn histogram(&mut self) -> write::Histogram {
        let spans: Vec<(i32, u32)> = (0..self.below(4)).map(|_| self.of(&SPANS)).collect();
        let buckets = spans.iter().map(|span| span.1 as usize).sum::<usize>().min(6);
        let deltas: Vec<i64> = (0..buckets).map(|_| self.below(3) as i64).collect();
        let absolute = deltas.iter().scan(0i64, |count, delta| {
            *count += delta;
            Some(*count)
        });
        let sum: i64 = absolute.sum();
        let (count, zero_count) = match self.below(2) {
            0 => (Count::Integer(sum as u64), Count::Integer(0)),
            _ => (Count::Float(sum as f64), Count::Float(0.0)),
        };
        let schema = self.of(&SCHEMAS);
        let bounds = if schema == -53 || self.below(8) == 0 { self.below(8) } else { 0 };
        let counts = deltas.iter().map(|delta| *delta as f64).collect();
        write::Histogram {
            time: self.of(&TIMES),
            start: self.of(&[0, 0, 4]),
            count,
            sum: self.of(&VALUES),
            schema,
            zero_threshold: self.of(&[0.0, 0.0, 0.3, f64::NAN]),
            zero_count,
            negative: Buckets::default(),
            positive: Buckets { spans, deltas, counts },
            reset: self.of(&RESETS),
            custom_values: (0..bounds).map(|at| at as f64 - 2.5).collect(),
        }
    }

    fn series(&mut self) -> Vec<u8> {
        let mut series = Vec::new();
        put_label(&mut series, b"__name__", self.of(&["down", "up"]).as_bytes());
        let count = self.below(2);
        self.labels(count, &mut series);
        for _ in 0..self.below(3) {
            let (time, value, start) = (self.of(&TIMES), self.of(&VALUES), self.of(&[0, 0, 3]));
            put_sample(&mut series, Sample { time, value, start });
        }
        for _ in 0..self.below(4) {
            put_message(&mut series, 3, &self.exemplar());
        }
        for _ in 0..self.below(4) {
            let mut message = Vec::new();
            write::put_histogram(&mut message, &self.histogram());
            put_message(&mut series, 4, &message);
        }
        series
    }

    fn request(&mut self) -> Vec<u8> {
        let mut request = Vec::new();
        for _ in 0..1 + self.below(4) {
            put_message(&mut request, 1, &self.series());
            let mut family = vec![0x08, self.below(9) as u8];
            for field in [2, 4, 5] {
                put_message(&mut family, field, self.of(&TEXTS).as_bytes());
            }
            put_message(&mut request, 3, &family);
        }
        request
    }
}

fn replay(bytes: &[u8]) -> Head {
    let mut replay = Replay::new(Head::new(OPTIONS, i64::MIN));
    for record in records(bytes, 0) {
        replay.record(&record.unwrap()).unwrap();
    }
    assert_eq!(replay.unknown, 0);
    replay.finish()
}

/// Labels of exemplars without a value once went to the log, and a stale histogram's schema that is none into chunks.
#[test]
fn whatever_is_taken_of_a_request_can_be_read_from_a_log_and_from_a_snapshot() {
    let (mut exemplars, mut histograms) = (0, 0);
    for seed in 0..1000 {
        let mut draws = Draws(seed);
        let (mut head, mut log) = (Head::new(OPTIONS, i64::MIN), Recorder::default());
        for _ in 0..5 {
            let batch = take_whole(Protocol::V1, draws.request()).batch;
            let rows: Vec<u32> = (0..batch.series_len() as u32).collect();
            let report = head.append((&batch, &rows), LIMITS, (1, &mut log));
            head.note_families(&batch, (1, &mut log));
            exemplars += report.exemplars;
            histograms += report.histograms;
        }
        let (mut snapshot, mut next) = (Recorder::default(), Some(Position::START));
        while let Some(from) = next {
            next = head.snapshot_part(1, from, &mut snapshot);
        }
        let counts = |head: &Head| (head.stats().series, head.exemplars_kept(), head.metadata().count());
        for (bytes, of) in [(log.bytes(), "log"), (snapshot.bytes(), "snapshot")] {
            assert_eq!(counts(&replay(bytes)), counts(&head), "{of} of seed {seed}");
        }
    }
    assert!(exemplars > 100 && histograms > 100, "{exemplars} exemplars and {histograms} histograms");
}

#[test]
fn nothing_of_a_stale_histogram_is_kept_but_that_it_is_stale() {
    for count in [Count::Integer(7), Count::Float(7.0)] {
        let spans = vec![(i32::MAX, u32::MAX); 3];
        let odd = write::Histogram {
            time: 5,
            count,
            sum: f64::from_bits(STALE_NAN_BITS),
            schema: 99,
            zero_threshold: f64::NAN,
            positive: Buckets { spans, ..Buckets::default() },
            reset: ResetHint::Gauge,
            custom_values: vec![f64::NAN],
            ..write::Histogram::default()
        };
        let (mut message, mut series, mut request) = (Vec::new(), Vec::new(), Vec::new());
        write::put_histogram(&mut message, &odd);
        put_label(&mut series, b"__name__", b"up");
        put_message(&mut series, 4, &message);
        put_message(&mut request, 1, &series);
        let batch = take_whole(Protocol::V1, request).batch;
        let kept = &batch.histograms(0)[0];
        assert!(kept.time == 5 && kept.value.is_stale() && kept.value.lens() == (0, 0), "{kept:?}");
        let is_float = matches!(kept.value, engine::model::HistogramValue::Float(_));
        assert_eq!(is_float, matches!(count, Count::Float(_)));
    }
}
