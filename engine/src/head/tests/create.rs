//! Which series a batch makes, under which numbers, and in which order it is taken.

use std::collections::BTreeSet;

use super::*;

#[test]
fn a_stale_float_ends_a_series_of_histograms_as_one_of_its_kind_also_when_it_is_late() {
    use crate::chunk::Encoding::{FloatHistogram, Histogram};
    let stale = Twin::Float(crate::model::value::STALE_NAN_BITS);
    for (kind, encoding) in [(Twin::Integer as fn(u64) -> Twin, Histogram), (Twin::FloatNative, FloatHistogram)] {
        let (mut head, mut log) = (Head::new(OPTIONS, i64::MIN), Recorder::default());
        let steps = [(10_000, kind(1)), (20_000, kind(2)), (30_000, stale), (40_000, kind(3)), (35_000, stale)];
        for (time, value) in steps {
            let mut batch = WriteBatch::new();
            push(&mut batch, &Step { series: 1, time, value });
            let report = append(&mut head, &batch, &mut log);
            let is_float = matches!(value, Twin::Float(_));
            assert_eq!((report.samples, report.histograms), (u64::from(is_float), u64::from(!is_float)));
            assert_eq!(append(&mut head, &batch, &mut log).duplicates, 1, "the same again at {time}");
        }
        for head in [&head, &replay(log.bytes())] {
            let excerpt = head.excerpt(&[Matcher::equal("series", "1")], TimeRange::ALL).unwrap();
            let chunks: Vec<_> = excerpt.chunks(0).iter().map(|chunk| (chunk.min_time, chunk.encoding)).collect();
            assert!(chunks.iter().all(|(_, found)| *found == encoding), "{chunks:?}");
            assert_eq!(read(&excerpt)["1"].len(), 5);
        }
    }
}

#[test]
fn floats_and_histograms_of_one_series_in_one_batch_are_taken_in_the_order_of_their_times() {
    let options = Options { out_of_order_window_ms: 0, ..OPTIONS };
    let (mut head, mut log) = (Head::new(options, i64::MIN), Recorder::default());
    let mut batch = WriteBatch::new();
    batch.push_series([("__name__", "metric"), ("series", "1")]);
    let times = [10_000, 20_000, 40_000, 60_000];
    for time in times {
        batch.push_histogram(time, 0, HistogramValue::Integer(Box::new(histogram(time as u64))));
    }
    batch.push_sample(30_000, 3.0);
    batch.push_sample(50_000, f64::from_bits(crate::model::value::STALE_NAN_BITS));
    let report = append(&mut head, &batch, &mut log);
    assert_eq!((report.samples, report.histograms, report.rejected.len()), (2, 4, 0));
    for head in [&head, &replay(log.bytes())] {
        let found = &read_all(head)["1"];
        let expected = times.map(|time| (time, Twin::Integer(time as u64)));
        let stale = Twin::Float(crate::model::value::STALE_NAN_BITS);
        let floats = [(30_000, Twin::Float(3f64.to_bits())), (50_000, stale)];
        assert_eq!(*found, expected.into_iter().chain(floats).collect());
    }
}

#[test]
fn a_new_series_without_a_sample_that_is_taken_is_none() {
    let (mut head, mut batch) = (Head::new(OPTIONS, i64::MIN), WriteBatch::new());
    batch.push_series([("__name__", "metric"), ("series", "1")]);
    let broken = FloatHistogram { positive_buckets: vec![1.0], ..FloatHistogram::default() };
    batch.push_histogram(6, 0, HistogramValue::Float(Box::new(broken)));
    let report = append(&mut head, &batch, &mut Recorder::default());
    assert_eq!((report.rejected[0].reason, report.rejected.len()), (Reason::InvalidHistogram, 1));
    assert_eq!((head.stats().series, report.series_created), (0, 0));
}

/// They once stayed at the last one, which all later series had in the log.
#[test]
fn numbers_of_series_begin_anew_when_there_are_no_more_and_leave_out_those_that_are_taken() {
    let (mut head, mut log) = (Head::new(OPTIONS, i64::MIN), Recorder::default());
    let add = |head: &mut Head, log: &mut Recorder, series: std::ops::Range<u8>| {
        let mut batch = WriteBatch::new();
        series.for_each(|series| push(&mut batch, &Step { series, time: 5, value: Twin::Float(u64::from(series)) }));
        assert_eq!(append(head, &batch, log).rejected, []);
    };
    let numbers = |head: &Head| head.numbers.iter().copied().collect::<Vec<u32>>();
    add(&mut head, &mut log, 0..2);
    head.next_ref = u32::MAX - 2;
    add(&mut head, &mut log, 2..6);
    assert_eq!(numbers(&head), [0, 1, u32::MAX - 2, u32::MAX - 1, 2, 3]);
    let mut replayed = replay(log.bytes());
    assert_eq!(read_all(&replayed), read_all(&head));
    let mut snapshot = Recorder::default();
    assert_eq!(head.snapshot_part(1, Position::START, &mut snapshot), None);
    for head in [&mut replayed, &mut replay(snapshot.bytes())] {
        head.next_ref = if head.next_ref == 4 { u32::MAX - 2 } else { panic!("{}", head.next_ref) };
        add(head, &mut Recorder::default(), 6..8);
        assert_eq!(numbers(head)[6..], [4, 5]);
    }
}

#[test]
fn series_that_come_in_order_are_found_without_the_table_whatever_page_they_are_on() {
    let (mut head, mut log) = (Head::new(OPTIONS, i64::MIN), Recorder::default());
    append(&mut head, &many(0..9000, 0), &mut log);
    head.table = SeriesTable::default();
    for (time, first, end) in [(1, 0, 9000), (2, 4000, 4200), (3, 8190, 8194), (4, 4095, 4096), (5, 8999, 9000)] {
        head.next_id = first;
        let report = append(&mut head, &many(first..end, time), &mut log);
        assert_eq!((report.samples, report.series_created), (u64::from(end - first), 0), "from {first}");
        assert_eq!(head.next_id, end);
    }
}

/// What becomes of the sample of a row whose series is new.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Taken,
    TooFarInFuture,
    EmptyValue,
    Unread,
}

/// Values of labels by their names, both as numbers.
type TwinLabels = BTreeMap<u8, u8>;

fn name_of(name: u8) -> String {
    char::from(b'a' + name).to_string()
}

fn rows() -> impl Strategy<Value = Vec<(TwinLabels, Fate)>> {
    let fate = prop_oneof![
        12 => Just(Fate::Taken),
        1 => Just(Fate::TooFarInFuture),
        1 => Just(Fate::EmptyValue),
        1 => Just(Fate::Unread),
    ];
    prop::collection::vec((prop::collection::btree_map(0..5u8, 0..3u8, 1..5), fate), 1..200)
}

fn batch_of(rows: &[(TwinLabels, Fate)]) -> WriteBatch {
    let (mut batch, mut body) = (WriteBatch::new(), Vec::new());
    for (labels, fate) in rows {
        let at = body.len();
        for (name, value) in labels {
            EncodedLabels::push(name_of(*name).as_bytes(), value.to_string().as_bytes(), &mut body);
        }
        match fate {
            Fate::Taken | Fate::TooFarInFuture => {}
            Fate::EmptyValue => EncodedLabels::push(b"z", b"", &mut body),
            Fate::Unread => body.push(0),
        }
        batch.push_encoded_series(at, EncodedLabels(&body[at..]));
        batch.push_sample(if *fate == Fate::TooFarInFuture { 11 } else { 5 }, 1.0);
    }
    batch.set_body(body);
    batch
}

/// Checks which series are under each label, and how many.
fn check_postings(head: &Head, twin: &BTreeSet<TwinLabels>) {
    let mut pairs = BTreeMap::new();
    for (name, value) in (0..5u8).flat_map(|name| (0..3u8).map(move |value| (name, value))) {
        let having = twin.iter().filter(|labels| labels.get(&name) == Some(&value));
        let text = |labels: &TwinLabels| -> Vec<(String, String)> {
            labels.iter().map(|(name, value)| (name_of(*name), value.to_string())).collect()
        };
        let expected: BTreeSet<Vec<(String, String)>> = having.map(text).collect();
        let ids = head.select(&[Matcher::equal(name_of(name), value.to_string())], &|| Ok(())).unwrap();
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let found: BTreeSet<Vec<(String, String)>> =
            ids.iter().map(|id| head.labels_of(*id).map(owned).collect()).collect();
        assert_eq!((ids.len(), found), (expected.len(), expected.clone()));
        if !expected.is_empty() {
            pairs.insert(format!("{}={value}", name_of(name)), expected.len() as u64);
        }
    }
    let mut counts = cardinality::LabelCounts::default();
    head.count_labels(&mut counts);
    let counted = counts.greatest(100).series_by_label_pair.into_iter().map(|count| (count.name, count.value));
    assert_eq!(counted.collect::<BTreeMap<_, _>>(), pairs);
    for (name, series) in head.postings.names() {
        let name = head.symbols.text(name);
        let having = twin.iter().filter(|labels| labels.keys().any(|own| name_of(*own) == name));
        assert_eq!(series as usize, having.count(), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Series come again within a batch and in later ones, some are left out in between, and there is room for so many.
    #[test]
    fn each_series_is_made_once_and_under_all_its_labels_whatever_else_is_in_its_batch(
        batches in prop::collection::vec(rows(), 1..4), taken_max in 0..500u64
    ) {
        let (mut head, mut log) = (Head::new(OPTIONS, i64::MIN), Recorder::default());
        let mut twin: BTreeSet<TwinLabels> = BTreeSet::new();
        let series_left = SeriesLeft { taken: Arc::default(), taken_max };
        for rows in &batches {
            let batch = batch_of(rows);
            let numbers: Vec<u32> = (0..rows.len() as u32).collect();
            let limits = AppendLimits { time_max: 10, series_left: Some(series_left.clone()), ..LIMITS };
            let report = head.append((&batch, &numbers), limits, (1, &mut log));
            let (before, mut samples) = (twin.len(), 0);
            for (labels, _) in rows.iter().filter(|(_, fate)| *fate == Fate::Taken) {
                if twin.contains(labels) || (twin.len() as u64) < taken_max {
                    twin.insert(labels.clone());
                    samples += 1;
                }
            }
            let having = |wanted: Fate| rows.iter().filter(|(_, fate)| *fate == wanted).count();
            prop_assert_eq!((report.series_created, report.samples), ((twin.len() - before) as u64, samples));
            prop_assert_eq!(report.unread.len(), having(Fate::Unread));
            prop_assert_eq!(report.bad_labels.empty as usize, having(Fate::EmptyValue));
            check_postings(&head, &twin);
        }
        check_postings(&replay(log.bytes()), &twin);
    }
}
