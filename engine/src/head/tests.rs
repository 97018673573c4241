//! A head against a naive twin, a map from labels to samples: what is taken and what is refused, what
//! reads give, what a replay of the records gives, what blocks hold.

mod create;
mod exemplars;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use super::excerpt::Excerpt;
use super::replay::Replay;
use super::snapshot::Position;
use super::*;
use crate::bucket::Meta;
use crate::codec::EncodedLabels;
use crate::model::{BlockId, FloatColumns, FloatHistogram, Histogram, HistogramValue, Matcher, Span, TimeRange};
use crate::wal::{Cut, CutKind, CutPhase, Recorder, records};

const RANGE: i64 = 7_200_000;
const OPTIONS: Options = Options {
    block_range_ms: RANGE,
    out_of_order_window_ms: 600_000,
    out_of_order_cap_max: 32,
    exemplars_max: 100,
    start_times: StartTimes::Dropped,
};
const LIMITS: AppendLimits =
    AppendLimits { time_max: i64::MAX, series_left: None, latest_time: i64::MIN, memory: None };

/// A sample of the twin: the bits of a float, or the count of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Twin {
    Float(u64),
    Integer(u64),
    FloatNative(u64),
}

type TwinSeries = BTreeMap<i64, Twin>;

/// One append of a random run.
#[derive(Clone, Debug)]
struct Step {
    series: u8,
    time: i64,
    value: Twin,
}

fn histogram(count: u64) -> Histogram {
    Histogram {
        count,
        sum: count as f64,
        positive_spans: vec![Span { offset: (count % 3) as i32, length: 1 }],
        positive_buckets: vec![count as i64],
        ..Histogram::default()
    }
}

fn push(batch: &mut WriteBatch, step: &Step) {
    let series = step.series.to_string();
    batch.push_series([("__name__", "metric"), ("series", series.as_str())]);
    match step.value {
        Twin::Float(bits) => batch.push_sample(step.time, f64::from_bits(bits)),
        Twin::Integer(count) => {
            batch.push_histogram(step.time, 0, HistogramValue::Integer(Box::new(histogram(count))));
        }
        Twin::FloatNative(count) => {
            batch.push_histogram(step.time, 0, HistogramValue::Float(Box::new(histogram(count).to_float())));
        }
    }
}

fn append(head: &mut Head, batch: &WriteBatch, recorder: &mut Recorder) -> WriteReport {
    let rows: Vec<u32> = (0..batch.series_len() as u32).collect();
    head.append((batch, &rows), LIMITS, (1, recorder))
}

fn read(excerpt: &Excerpt) -> BTreeMap<String, TwinSeries> {
    let mut all = BTreeMap::new();
    for at in 0..excerpt.len() {
        let name = excerpt.labels(at).iter().map(|(_, value)| excerpt.symbol(*value)).next_back().unwrap().to_owned();
        let series: &mut TwinSeries = all.entry(name).or_default();
        read_chunks(excerpt.chunks(at), series);
    }
    all
}

/// Adds the samples of `chunks`, each of which has a time of its own.
fn read_chunks(chunks: &[series::Closed], series: &mut TwinSeries) {
    for chunk in chunks {
        let (mut floats, mut natives) = (FloatColumns::default(), Vec::new());
        if chunk.encoding == crate::chunk::Encoding::Xor {
            crate::chunk::xor::decode(&chunk.data, &mut floats).unwrap();
        } else {
            native::decode(chunk, &mut natives);
        }
        let floats =
            floats.timestamps.iter().zip(&floats.values).map(|(time, value)| (*time, Twin::Float(value.to_bits())));
        let natives = natives.iter().map(|(time, value)| match value {
            // A stale float that ends a series of histograms has become one.
            value if value.is_stale() => (*time, Twin::Float(crate::model::value::STALE_NAN_BITS)),
            HistogramValue::Integer(value) => (*time, Twin::Integer(value.count)),
            HistogramValue::Float(value) => (*time, Twin::FloatNative(value.count as u64)),
        });
        let times: Vec<(i64, Twin)> = floats.chain(natives).collect();
        assert_eq!((times[0].0, times[times.len() - 1].0), (chunk.min_time, chunk.max_time));
        for (time, value) in times {
            assert!(series.insert(time, value).is_none(), "two samples at {time}");
        }
    }
}

fn read_all(head: &Head) -> BTreeMap<String, TwinSeries> {
    read(&head.excerpt(&[Matcher::equal("__name__", "metric")], TimeRange::ALL).unwrap())
}

fn replay(bytes: &[u8]) -> Head {
    let mut replay = Replay::new(Head::new(OPTIONS, i64::MIN));
    for record in records(bytes, 0) {
        replay.record(&record.unwrap()).unwrap();
    }
    assert_eq!(replay.unknown, 0);
    replay.finish()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![
        8 => any::<u32>().prop_map(|value| Twin::Float(f64::from(value).to_bits())),
        1 => Just(Twin::Float(crate::model::value::STALE_NAN_BITS)),
        1 => (1..50u64).prop_map(Twin::Integer),
        1 => (1..50u64).prop_map(Twin::FloatNative),
    ];
    let step = (0..4u8, -1_000i64..60_000, value).prop_map(|(series, time, value)| Step { series, time, value });
    prop::collection::vec(step, 1..400).prop_map(|mut steps| {
        // Time goes on by 15 s a step, give or take.
        for (at, step) in steps.iter_mut().enumerate() {
            step.time += at as i64 * 15_000;
        }
        // Which of two values a late sample shows at the time of one in order is open.
        let (mut seen, mut last) = (HashSet::new(), [i64::MIN; 4]);
        steps.retain(|step| {
            let is_last = std::mem::replace(&mut last[usize::from(step.series)], step.time) == step.time;
            seen.insert((step.series, step.time)) || is_last
        });
        steps
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_taken_is_read_and_replayed_and_what_is_refused_is_not(steps in steps(), batch_len in 1..20usize) {
        let mut head = Head::new(OPTIONS, i64::MIN);
        let mut twin: BTreeMap<String, TwinSeries> = BTreeMap::new();
        let mut log = Recorder::default();
        for part in steps.chunks(batch_len) {
            let mut batch = WriteBatch::new();
            part.iter().for_each(|step| push(&mut batch, step));
            let report = append(&mut head, &batch, &mut log);
            prop_assert_eq!(report.samples + report.histograms + report.rejected.len() as u64, part.len() as u64);
            for (at, step) in part.iter().enumerate() {
                let rejected = report.rejected.iter().find(|rejected| rejected.series == at as u32);
                let series = twin.entry(step.series.to_string()).or_default();
                match rejected {
                    None => {
                        series.insert(step.time, step.value);
                    }
                    Some(rejected) if rejected.reason == Reason::DuplicateTimestamp => {
                        prop_assert!(series.contains_key(&step.time), "{rejected:?}");
                    }
                    Some(rejected) => prop_assert!(
                        matches!(rejected.reason, Reason::TooOld | Reason::OutOfOrder), "{rejected:?}"
                    ),
                }
            }
        }
        twin.retain(|_, series| !series.is_empty());
        let found = read_all(&head);
        let counts = |all: &BTreeMap<String, TwinSeries>| all.values().map(BTreeMap::len).sum::<usize>();
        prop_assert_eq!(counts(&found), counts(&twin));
        for (series, found) in &found {
            for (at, value) in found {
                prop_assert_eq!(Some(value), twin[series].get(at), "{} of {}", at, series);
            }
        }
        prop_assert_eq!(&read_all(&replay(log.bytes())), &twin);
        // A snapshot gives the same, also when what it holds is replayed onto it again.
        let mut snapshot = Recorder::default();
        let mut next = Some(Position::START);
        while let Some(from) = next {
            next = head.snapshot_part(1, from, &mut snapshot);
        }
        prop_assert_eq!(&read_all(&replay(snapshot.bytes())), &twin);
        // Records that are replayed twice change nothing.
        let twice = [log.bytes(), log.bytes()].concat();
        prop_assert_eq!(&read_all(&replay(&twice)), &twin);
    }
}

fn fill(head: &mut Head, times: impl Iterator<Item = i64>) {
    let mut log = Recorder::default();
    for time in times {
        let mut batch = WriteBatch::new();
        for series in 0..3 {
            push(&mut batch, &Step { series, time, value: Twin::Float((time as f64).to_bits()) });
        }
        assert_eq!(append(head, &batch, &mut log).rejected, []);
    }
}

/// Late samples of two series, few enough times that many come again, with the same value or another.
fn late_steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![
        6 => (0..3u32).prop_map(|value| Twin::Float(f64::from(value).to_bits())),
        1 => (1..3u64).prop_map(Twin::Integer),
        1 => (1..3u64).prop_map(Twin::FloatNative),
    ];
    let step = (0..2u8, 0..300i64, value).prop_map(|(series, time, value)| Step { series, time, value });
    prop::collection::vec(step, 1..500)
}

/// What a naive map says of a sample: it is new, there already, or refused as there is another.
fn twin_append(twin: &mut BTreeMap<String, TwinSeries>, step: &Step) -> (u64, usize) {
    let series = twin.entry(step.series.to_string()).or_default();
    match series.get(&step.time) {
        None => {
            series.insert(step.time, step.value);
            (0, 0)
        }
        Some(known) if *known == step.value => (1, 0),
        Some(_) => (0, 1),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn late_samples_are_told_apart_read_replayed_and_cut_as_by_a_map(
        steps in late_steps(), cut_at in 0..500usize, cap_max in 1..40usize
    ) {
        let options = Options { out_of_order_window_ms: RANGE, out_of_order_cap_max: cap_max, ..OPTIONS };
        let (mut head, mut log) = (Head::new(options, i64::MIN), Recorder::default());
        let latest = Step { series: 0, time: RANGE / 2, value: Twin::Float(0) };
        let latest = [latest.clone(), Step { series: 1, ..latest }];
        let with_latest = |twin: &BTreeMap<String, TwinSeries>| {
            let mut all = twin.clone();
            for step in &latest {
                twin_append(&mut all, step);
            }
            all
        };
        let one = |head: &mut Head, log: &mut Recorder, step: &Step| {
            let mut batch = WriteBatch::new();
            push(&mut batch, step);
            let report = append(head, &batch, log);
            (report.duplicates, report.rejected.len())
        };
        latest.iter().for_each(|step| assert_eq!(one(&mut head, &mut log, step), (0, 0)));
        let (before, after) = steps.split_at(cut_at.min(steps.len()));
        let mut twin = BTreeMap::new();
        for step in before {
            prop_assert_eq!(one(&mut head, &mut log, step), twin_append(&mut twin, step), "{:?}", step);
        }
        prop_assert_eq!(&read_all(&head), &with_latest(&twin));
        prop_assert_eq!(&read_all(&replay(log.bytes())), &with_latest(&twin));
        // What was in a snapshot comes again from the log behind it.
        let mut snapshot = Recorder::default();
        prop_assert_eq!(head.snapshot_part(1, Position::START, &mut snapshot), None);
        let both = [snapshot.bytes(), log.bytes()].concat();
        prop_assert_eq!(&read_all(&replay(&both)), &with_latest(&twin));

        let cut = |phase| Cut { kind: CutKind::OutOfOrder, phase, until: RANGE, blocks: Vec::new() };
        log.cut(1, &cut(CutPhase::Intended));
        let frozen = head.freeze_late();
        let mut in_block: BTreeMap<String, TwinSeries> = BTreeMap::new();
        for at in 0..frozen.len() {
            let name = frozen.labels(at).iter().map(|(_, value)| frozen.symbol(*value)).next_back().unwrap();
            let chunks = out_of_order::merge(frozen.chunks(at), (i64::MIN, i64::MAX));
            prop_assert!(chunks.windows(2).all(|pair| pair[0].max_time < pair[1].min_time));
            read_chunks(&chunks, in_block.entry(name.to_owned()).or_default());
        }
        prop_assert_eq!(&in_block, &twin);
        let mut later = BTreeMap::new();
        for step in after {
            prop_assert_eq!(one(&mut head, &mut log, step), twin_append(&mut later, step), "{:?}", step);
        }
        head.truncate_late();
        log.cut(1, &cut(CutPhase::Done));
        prop_assert_eq!(&read_all(&head), &with_latest(&later));
        prop_assert_eq!(&read_all(&replay(log.bytes())), &with_latest(&later));
        for step in after {
            prop_assert_eq!(one(&mut head, &mut log, step), twin_append(&mut later, step), "{:?}", step);
        }
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("uru-head-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn chunks_hold_120_samples_and_end_with_the_block() {
    let mut head = Head::new(OPTIONS, i64::MIN);
    fill(&mut head, (0..600).map(|at| at * 15_000));
    let excerpt = head.excerpt(&[Matcher::equal("series", "1")], TimeRange::ALL).unwrap();
    let starts: Vec<i64> = excerpt.chunks(0).iter().map(|chunk| chunk.min_time / 15_000).collect();
    assert_eq!(starts, [0, 120, 240, 360, 480]);
    let range = TimeRange::new(130 * 15_000, 140 * 15_000);
    let some = head.excerpt(&[Matcher::equal("series", "1")], range).unwrap();
    assert_eq!((some.len(), some.chunks(0).len()), (1, 1));
    assert!(head.excerpt(&[Matcher::equal("series", "9")], TimeRange::ALL).unwrap().is_empty());
}

#[test]
fn a_frozen_part_becomes_a_sound_block_and_leaves_the_head() {
    let folder = Folder::new("cut");
    let mut head = Head::new(OPTIONS, i64::MIN);
    fill(&mut head, (0..700).map(|at| at * 15_000));
    let (frozen, next) = head.freeze(RANGE, 0);
    assert_eq!(next, None);
    let cut = (CutKind::InOrder, [Meta::new(BlockId::from_parts(1, 1), 0, RANGE)]);
    let meta = cut::write_blocks(&folder.0, vec![frozen], cut, |_, _| {}).unwrap().remove(0);
    assert_eq!((meta.stats.num_series, meta.stats.num_samples, meta.stats.num_chunks), (3, 3 * 480, 12));
    assert_eq!(head.truncate(RANGE, 0), None);
    while head.sweep() {}
    let left = read_all(&head);
    assert!(left.values().all(|series| series.len() == 220 && *series.first_key_value().unwrap().0 == RANGE));
    let (mut batch, mut log) = (WriteBatch::new(), Recorder::default());
    push(&mut batch, &Step { series: 9, time: RANGE - 1, value: Twin::Float(0) });
    assert_eq!(append(&mut head, &batch, &mut log).rejected[0].reason, Reason::TooOld);
    assert!(log.bytes().is_empty());
    head.cut_off(i64::MAX);
    while head.sweep() {}
    assert_eq!(
        (head.stats().series, head.stats().chunks, head.stats().chunk_bytes, head.time_range()),
        (0, 0, 0, None)
    );
}

/// A replay once dropped them: it had put them into one chunk with those that were cut.
#[test]
fn samples_behind_a_cut_stay_wherever_chunks_end_in_the_head_that_replays_it() {
    let kinds = [|value| Twin::Float((value as f64).to_bits()), Twin::Integer, Twin::FloatNative];
    for (kind, block_range_ms) in kinds.into_iter().flat_map(|kind| [300_000, RANGE].map(|range| (kind, range))) {
        let mut head = Head::new(Options { block_range_ms, ..OPTIONS }, i64::MIN);
        let mut log = Recorder::default();
        let push_at = |head: &mut Head, log: &mut Recorder, times: std::ops::Range<i64>| {
            for at in times {
                let mut batch = WriteBatch::new();
                push(&mut batch, &Step { series: 1, time: at * 15_000, value: kind(at as u64 + 1) });
                assert_eq!(append(head, &batch, log).rejected, []);
            }
        };
        let until = 30 * 15_000;
        let cut = |phase| Cut { kind: CutKind::InOrder, phase, until, blocks: Vec::new() };
        push_at(&mut head, &mut log, 0..40);
        log.cut(1, &cut(CutPhase::Intended));
        head.freeze(until, 0);
        push_at(&mut head, &mut log, 40..50);
        head.truncate(until, 0);
        log.cut(1, &cut(CutPhase::Done));
        push_at(&mut head, &mut log, 50..60);
        let expected: TwinSeries = (30..60).map(|at| (at * 15_000, kind(at as u64 + 1))).collect();
        assert_eq!(read_all(&head)["1"], expected);
        let replayed = replay(log.bytes());
        assert_eq!(read_all(&replayed)["1"], expected);
        let excerpt = replayed.excerpt(&[Matcher::equal("series", "1")], TimeRange::ALL).unwrap();
        assert_eq!(replayed.stats().chunks, excerpt.chunks(0).len() as u64);
    }
}

#[test]
fn late_samples_get_a_block_of_their_own_and_later_ones_stay() {
    let folder = Folder::new("late");
    let mut head = Head::new(OPTIONS, i64::MIN);
    fill(&mut head, (0..100).map(|at| at * 15_000));
    let late = |head: &mut Head, time| {
        let (mut batch, mut log) = (WriteBatch::new(), Recorder::default());
        push(&mut batch, &Step { series: 1, time, value: Twin::Float(7) });
        append(head, &batch, &mut log).rejected
    };
    for at in 0..50 {
        assert_eq!(late(&mut head, 1_400_000 - 7 * at), []);
    }
    let frozen = head.freeze_late();
    assert_eq!(late(&mut head, 1_300_001), []);
    let meta = Meta::new(BlockId::from_parts(1, 2), 0, RANGE);
    let meta = cut::write_blocks(&folder.0, vec![frozen], (CutKind::OutOfOrder, [meta]), |_, _| {}).unwrap().remove(0);
    assert_eq!((meta.stats.num_series, meta.stats.num_samples), (1, 50));
    head.truncate_late();
    while head.sweep() {}
    assert_eq!(read_all(&head)["1"].len(), 101);
}

#[test]
fn a_counter_that_began_behind_its_last_sample_gets_a_zero_there_when_that_is_asked_for() {
    let batch = |kind: fn(u64) -> Twin, rows: &[(i64, i64)]| {
        let mut batch = WriteBatch::new();
        batch.push_series([("__name__", "metric"), ("series", "1")]);
        for (start, time) in rows {
            match kind(7) {
                Twin::Float(_) => {
                    batch.push_sample(*time, 7.0);
                    batch.push_start(*start);
                }
                Twin::Integer(count) => {
                    batch.push_histogram(*time, *start, HistogramValue::Integer(Box::new(histogram(count))));
                }
                Twin::FloatNative(count) => {
                    let value = histogram(count).to_float();
                    batch.push_histogram(*time, *start, HistogramValue::Float(Box::new(value)));
                }
            }
        }
        batch
    };
    let kinds = [|value| Twin::Float((value as f64).to_bits()), Twin::Integer, Twin::FloatNative];
    for (kind, start_times) in kinds
        .into_iter()
        .flat_map(|kind| [StartTimes::Dropped, StartTimes::ZeroSamples].map(|start_times| (kind, start_times)))
    {
        let zeros = start_times == StartTimes::ZeroSamples;
        let (mut head, mut log) = (Head::new(Options { start_times, ..OPTIONS }, i64::MIN), Recorder::default());
        // Begun, goes on, begun again, without a beginning, and begun after itself.
        let first = append(&mut head, &batch(kind, &[(500, 1_000), (500, 2_000), (2_500, 3_000)]), &mut log);
        let second = append(&mut head, &batch(kind, &[(0, 4_000), (5_000, 5_000), (5_999, 6_000)]), &mut log);
        assert_eq!([first.samples + first.histograms, second.samples + second.histograms], [3, 3]);
        assert_eq!((first.rejected, second.rejected), (vec![], vec![]));
        let mut expected: TwinSeries = (1..=6).map(|at| (at * 1_000, kind(7))).collect();
        if zeros {
            expected.extend([500, 2_500, 5_999].map(|time| (time, kind(0))));
        }
        assert_eq!(read_all(&head)["1"], expected);
        assert_eq!(read_all(&replay(log.bytes()))["1"], expected);
        // What began before all that is taken in order is left out.
        let late = append(&mut head, &batch(kind, &[(RANGE, 2 * RANGE), (RANGE / 2, 2 * RANGE + 1)]), &mut log);
        assert_eq!(late.rejected, vec![]);
        let times: Vec<i64> = read_all(&head)["1"].keys().copied().filter(|time| *time > 6_000).collect();
        assert_eq!(times, if zeros { vec![RANGE, 2 * RANGE, 2 * RANGE + 1] } else { vec![2 * RANGE, 2 * RANGE + 1] });
    }
}

/// A sample of each of the series numbered `series` at `time`.
fn many(series: impl Iterator<Item = u32>, time: i64) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for number in series {
        let number = number.to_string();
        batch.push_series([("__name__", "metric"), ("series", number.as_str())]);
        batch.push_sample(time, 1.0);
    }
    batch
}

#[test]
fn samples_of_one_batch_do_not_make_each_other_too_old() {
    let (mut head, mut log) = (Head::new(OPTIONS, i64::MIN), Recorder::default());
    fill(&mut head, [RANGE, RANGE + 600_000].into_iter());
    let mut batch = WriteBatch::new();
    // The first is so far ahead that the window would leave the others behind.
    for (series, time) in [(0, 4 * RANGE), (1, RANGE + 1), (2, RANGE), (1, RANGE - 1)] {
        push(&mut batch, &Step { series, time, value: Twin::Float(7) });
    }
    let report = append(&mut head, &batch, &mut log);
    let reasons: Vec<(u32, Reason)> = report.rejected.iter().map(|found| (found.series, found.reason)).collect();
    assert_eq!((report.samples, reasons), (3, vec![(3, Reason::TooOld)]));
    let report = append(&mut head, &batch, &mut log);
    assert_eq!(report.rejected.iter().filter(|found| found.reason == Reason::TooOld).count(), 3);
}

#[test]
fn series_that_end_are_swept_while_others_come_and_some_of_them_come_back() {
    let mut head = Head::new(Options { out_of_order_window_ms: 0, ..OPTIONS }, i64::MIN);
    let mut log = Recorder::default();
    let len = 5000u32;
    append(&mut head, &many(0..len, RANGE - 1), &mut log);
    // Every third goes on; the others end with the block.
    append(&mut head, &many((0..len).step_by(3), RANGE), &mut log);
    let mut frozen = 0;
    let mut from = Some(0);
    while let Some(start) = from {
        let (part, next) = head.freeze(RANGE, start);
        frozen += part.len();
        from = next;
        // What comes in between is not of the block.
        append(&mut head, &many(0..3, RANGE + 1 + i64::from(start)), &mut log);
    }
    assert_eq!(frozen, len as usize);
    from = Some(0);
    while let Some(start) = from {
        from = head.truncate(RANGE, start);
    }
    log.cut(1, &Cut { phase: CutPhase::Done, kind: CutKind::InOrder, until: RANGE, blocks: Vec::new() });
    let mut expected: std::collections::BTreeSet<u32> = (0..len).step_by(3).chain(0..3).collect();
    let mut steps = 0;
    while head.sweep() {
        steps += 1;
        // One that has ended comes back, and one is new.
        let (back, new) = (steps * 300 + 1, len + steps);
        append(&mut head, &many([back, new].into_iter(), RANGE + 5000 + i64::from(steps)), &mut log);
        expected.extend([back, new]);
        assert!(head.time_range().unwrap().0 <= RANGE);
    }
    assert!(steps >= 5, "{steps}");
    let found: std::collections::BTreeSet<u32> = read_all(&head).keys().map(|series| series.parse().unwrap()).collect();
    assert_eq!(found, expected);
    assert_eq!((head.stats().series, head.time_range().unwrap().0), (expected.len() as u64, RANGE));
    // Everything is found by its labels, and goes on as it was.
    for series in [0, 1, 301, 601, 4998, len + 1] {
        let found = head.excerpt(&[Matcher::equal("series", series.to_string())], TimeRange::ALL).unwrap();
        assert_eq!(
            (found.len(), expected.contains(&series)),
            (usize::from(expected.contains(&series)), found.len() == 1)
        );
    }
    let report = append(&mut head, &many(expected.iter().copied(), RANGE + 9999), &mut log);
    assert_eq!((report.samples, report.series_created), (expected.len() as u64, 0));
    // The log gives the same head, although series that came back before they were swept are not named
    // again behind the cut.
    let replayed = replay(log.bytes());
    assert_eq!(replayed.stats().series, expected.len() as u64);
    assert_eq!(read_all(&replayed), read_all(&head));
}

#[test]
fn the_last_sample_is_known_after_a_snapshot_also_when_its_chunk_has_ended() {
    let mut head = Head::new(Options { out_of_order_window_ms: 0, ..OPTIONS }, i64::MIN);
    let mut log = Recorder::default();
    for (series, value) in [(1, Twin::Float(3)), (2, Twin::Integer(4)), (3, Twin::FloatNative(5))] {
        let mut batch = WriteBatch::new();
        push(&mut batch, &Step { series, time: 1000, value });
        append(&mut head, &batch, &mut log);
    }
    head.freeze(5000, 0);
    let mut snapshot = Recorder::default();
    assert_eq!(head.snapshot_part(1, Position::START, &mut snapshot), None);
    let mut restored = replay(snapshot.bytes());
    // Taken again as before; a head that was frozen takes nothing from before in order.
    restored.min_valid_time = i64::MIN;
    for (series, same, other) in [
        (1, Twin::Float(3), Twin::Float(0)),
        (2, Twin::Integer(4), Twin::Integer(5)),
        (3, Twin::FloatNative(5), Twin::FloatNative(6)),
    ] {
        for (value, duplicates) in [(same, 1), (other, 0)] {
            let mut batch = WriteBatch::new();
            push(&mut batch, &Step { series, time: 1000, value });
            let report = append(&mut restored, &batch, &mut log);
            assert_eq!((report.duplicates, report.rejected.len() as u64), (duplicates, 1 - duplicates), "{value:?}");
        }
    }
}

#[test]
fn late_samples_that_come_again_after_a_snapshot_are_not_kept_twice() {
    let mut head = Head::new(OPTIONS, i64::MIN);
    fill(&mut head, (0..100).map(|at| at * 15_000));
    let mut log = Recorder::default();
    let late = |head: &mut Head, log: &mut Recorder, at: i64| {
        let mut batch = WriteBatch::new();
        push(&mut batch, &Step { series: 1, time: 1_400_000 + 7 * at, value: Twin::Float(7) });
        append(head, &batch, log)
    };
    for at in 0..50 {
        assert_eq!(late(&mut head, &mut log, at).duplicates, 0);
    }
    let mut snapshot = Recorder::default();
    assert_eq!(head.snapshot_part(1, Position::START, &mut snapshot), None);
    let mut restored = replay(snapshot.bytes());
    let before = read_all(&restored);
    assert_eq!(before["1"].len(), 150);
    for at in 0..50 {
        assert_eq!(late(&mut restored, &mut log, at).duplicates, 1, "{at}");
    }
    assert_eq!((read_all(&restored), restored.stats().samples_out_of_order.total()), (before, 0));
}

#[test]
fn the_same_sample_again_is_a_duplicate_and_another_value_is_a_conflict() {
    let mut head = Head::new(Options { out_of_order_window_ms: 0, ..OPTIONS }, i64::MIN);
    let mut log = Recorder::default();
    let mut one = |time, value| {
        let mut batch = WriteBatch::new();
        push(&mut batch, &Step { series: 1, time, value });
        append(&mut head, &batch, &mut log)
    };
    assert_eq!(one(10_000_000, Twin::Float(1)).samples, 1);
    assert_eq!(one(10_000_000, Twin::Float(1)).duplicates, 1);
    for (time, value, reason) in [
        (10_000_000, Twin::Float(2), Reason::DuplicateTimestamp),
        (10_000_000, Twin::Integer(2), Reason::DuplicateTimestamp),
        (9_999_999, Twin::Float(1), Reason::OutOfOrder),
        (9_999_999, Twin::Integer(1), Reason::OutOfOrder),
        (6_399_999, Twin::Float(1), Reason::OutOfBounds),
    ] {
        let kind = if matches!(value, Twin::Float(_)) { RejectedKind::Float } else { RejectedKind::Histogram };
        assert_eq!(one(time, value).rejected, [Rejected { kind, series: 0, time, reason }]);
    }
    assert_eq!(one(10_000_001, Twin::Integer(5)).histograms, 1);
    assert_eq!(one(10_000_001, Twin::Integer(5)).duplicates, 1);
    let stats = head.stats();
    assert_eq!(stats.samples, SampleCounts { floats: 1, histograms: 1 });
    assert_eq!(stats.samples_out_of_order.total(), 0);
    assert_eq!(stats.refused_out_of_order, SampleCounts { floats: 1, histograms: 1 });
    assert_eq!(stats.refused_out_of_bounds, SampleCounts { floats: 1, histograms: 0 });
    assert_eq!(replay(log.bytes()).stats().samples.total(), 0);
}

#[test]
fn limits_name_what_they_refuse() {
    let mut head = Head::new(OPTIONS, i64::MIN);
    let mut batch = WriteBatch::new();
    for series in 0..3 {
        push(&mut batch, &Step { series, time: 5, value: Twin::Float(0) });
    }
    batch.push_exemplar(5, 1.0, [("trace_id", "a")]);
    let series_left = Some(SeriesLeft { taken: Arc::default(), taken_max: 2 });
    let limits = AppendLimits { time_max: 10, series_left, latest_time: i64::MIN, memory: None };
    let report = head.append((&batch, &[0, 1, 2]), limits.clone(), (1, &mut Recorder::default()));
    assert_eq!((report.samples, report.series_created, report.rejected[0].reason), (2, 2, Reason::SeriesLimit));
    assert_eq!(report.rejected_exemplars[0].reason, Reason::ExemplarWithoutSeries);
    let mut late = WriteBatch::new();
    push(&mut late, &Step { series: 0, time: 11, value: Twin::Float(0) });
    let broken = FloatHistogram { positive_buckets: vec![1.0], ..FloatHistogram::default() };
    late.push_histogram(6, 0, HistogramValue::Float(Box::new(broken)));
    let report = head.append((&late, &[0]), limits, (1, &mut Recorder::default()));
    let reasons: Vec<Reason> = report.rejected.iter().map(|rejected| rejected.reason).collect();
    assert_eq!(reasons, [Reason::InvalidHistogram, Reason::TooFarInFuture]);
}

#[test]
fn labels_that_nobody_looked_into_make_no_series_when_they_are_bad() {
    let mut head = Head::new(OPTIONS, i64::MIN);
    let all: [&[(&str, &[u8])]; 6] = [
        &[("__name__", b"up"), ("job", b"a")],
        &[("job", b"a"), ("__name__", b"up")],
        &[("a", b"1"), ("a", b"2")],
        &[("a", b"")],
        &[("__name__", b"\xff")],
        &[("__name__", b"up"), ("job", b"b")],
    ];
    for round in 0..2 {
        let (mut batch, mut body) = (WriteBatch::new(), Vec::new());
        for labels in all {
            let at = body.len();
            labels.iter().for_each(|(name, value)| EncodedLabels::push(name.as_bytes(), value, &mut body));
            batch.push_encoded_series(at, EncodedLabels(&body[at..]));
            batch.push_sample(round, 1.0);
        }
        batch.set_body(body);
        let report = append(&mut head, &batch, &mut Recorder::default());
        let bad = BadLabels { out_of_order: 1, duplicate: 1, empty: 1, not_utf8: 1, ..BadLabels::default() };
        assert_eq!((report.bad_labels, report.samples, report.rejected.len()), (bad, 2, 0), "{round}");
        assert_eq!(report.series_created, if round == 0 { 2 } else { 0 });
    }
}

#[test]
fn what_is_no_canonical_labels_is_given_back_with_its_samples_however_often_it_comes() {
    let canonical = |name: &str, value: &str| {
        let mut bytes = Vec::new();
        EncodedLabels::push(name.as_bytes(), value.as_bytes(), &mut bytes);
        bytes
    };
    let up = canonical("__name__", "up");
    let unread = [
        // A sample behind labels, half a label, a value before its name, and lengths of a byte too many.
        [up.as_slice(), &[0x12, 2, 0x10, 5]].concat(),
        up[..up.len() - 1].to_vec(),
        vec![0x0a, 6, 0x12, 1, b'b', 0x0a, 1, b'a'],
        vec![0x0a, 0x86, 0, 0x0a, 1, b'a', 0x12, 1, b'b'],
        vec![0x0a, 7, 0x0a, 0x81, 0, b'a', 0x12, 1, b'b'],
        [up.as_slice(), &canonical("job", "\u{e9}")[..3]].concat(),
        vec![0x0a],
    ];
    let mut head = Head::new(OPTIONS, i64::MIN);
    for round in 0..2 {
        let (mut batch, mut body) = (WriteBatch::new(), Vec::new());
        for bytes in unread.iter().flat_map(|bytes| [&up, bytes]) {
            let at = body.len();
            body.extend_from_slice(bytes);
            batch.push_encoded_series(at, EncodedLabels(bytes));
            batch.push_sample(round, 1.0);
        }
        batch.set_body(body);
        let report = append(&mut head, &batch, &mut Recorder::default());
        let expected = unread.clone().map(|labels| Unread { labels, samples: vec![(round, 1.0)] });
        assert_eq!((report.unread.as_slice(), report.bad_labels), (&expected[..], BadLabels::default()));
        assert_eq!((report.samples, head.stats().series), (unread.len() as u64, 1));
    }
}

#[test]
fn series_are_found_in_whatever_order_they_come() {
    let mut head = Head::new(OPTIONS, i64::MIN);
    let mut seed = 7u64;
    for round in 0..20 {
        let len = 300 + round * 10;
        for (again, swaps) in [(false, round % 3 * len / 50), (true, len)] {
            let mut order: Vec<u64> = (0..len).collect();
            for at in 0..swaps as usize {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                order.swap(at, (seed >> 33) as usize % len as usize);
            }
            let mut batch = WriteBatch::new();
            for series in &order {
                batch.push_series([("series", series.to_string().as_str())]);
                batch.push_sample(round as i64, *series as f64);
            }
            // A sample that goes to another series is in conflict with the one there.
            let report = append(&mut head, &batch, &mut Recorder::default());
            assert_eq!((report.samples, report.duplicates), (len, if again { len } else { 0 }));
            assert_eq!((report.rejected.len(), head.stats().series), (0, len));
        }
    }
}

#[test]
fn names_and_values_and_counts_come_from_the_index() {
    let mut head = Head::new(OPTIONS, i64::MIN);
    fill(&mut head, [0].into_iter());
    let names = |matchers: &[Matcher]| head.label_names(matchers, &|| Ok(())).unwrap().into_iter().collect::<Vec<_>>();
    assert_eq!(names(&[]), ["__name__", "series"]);
    assert_eq!(names(&[Matcher::equal("series", "7")]), Vec::<String>::new());
    let values = |matchers: &[Matcher]| {
        head.label_values("series", matchers, &|| Ok(())).unwrap().into_iter().collect::<Vec<_>>()
    };
    assert_eq!((values(&[]).len(), values(&[Matcher::equal("series", "2")])), (3, vec!["2".to_owned()]));
    let mut counts = cardinality::LabelCounts::default();
    head.count_labels(&mut counts);
    let greatest = counts.greatest(1);
    assert_eq!((greatest.label_pairs, greatest.series_by_metric_name[0].value), (4, 3));
    assert_eq!(greatest.values_by_label_name[0].name, "series");
}
