//! Which series a batch makes, under which numbers, and in which order it is taken.

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
    assert_eq!(head.snapshot_part(1, 0, &mut snapshot), None);
    for head in [&mut replayed, &mut replay(snapshot.bytes())] {
        head.next_ref = if head.next_ref == 4 { u32::MAX - 2 } else { panic!("{}", head.next_ref) };
        add(head, &mut Recorder::default(), 6..8);
        assert_eq!(numbers(head)[6..], [4, 5]);
    }
}
