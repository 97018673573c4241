//! What an appender does with histograms that change, against what Prometheus' appenders do.

use super::*;
use crate::model::{FloatHistogram, Histogram};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The chunks that come of `inputs`, each written as in the fixture.
fn append_all<N: Native>(inputs: &str, with_reset: impl Fn(N, CounterReset) -> N) -> Vec<Vec<u8>> {
    let mut appender = Appender::<N>::default();
    let mut chunks = Vec::new();
    for input in inputs.split(',') {
        let (begins, input) = input.strip_prefix('>').map_or((false, input), |rest| (true, rest));
        let (hint, alone) = input.split_at(1);
        let mut decoded = Vec::new();
        decode::<N>(&hex(alone), |time, histogram| decoded.push((time, histogram))).unwrap();
        let (time, histogram) = decoded.pop().unwrap();
        let counter_reset = match hint {
            "r" => CounterReset::Yes,
            "g" => CounterReset::Gauge,
            _ => CounterReset::Unknown,
        };
        let histogram = with_reset(histogram, counter_reset);
        if begins {
            let next = Appender::after(&appender, time, &histogram);
            chunks.push(std::mem::replace(&mut appender, next).into_data());
        } else {
            chunks.extend(appender.append(time, &histogram));
        }
    }
    chunks.push(appender.into_data());
    chunks
}

#[test]
fn histograms_that_change_are_cut_and_widened_as_prometheus_does() {
    let lines = include_str!("../testdata/appended_histograms.txt").lines().filter(|line| !line.starts_with('#'));
    for (number, line) in lines.enumerate() {
        let [encoding, inputs, chunks] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("line {number}") };
        let made = if encoding == "2" {
            append_all(inputs, |histogram, counter_reset| Histogram { counter_reset, ..histogram })
        } else {
            append_all(inputs, |histogram, counter_reset| FloatHistogram { counter_reset, ..histogram })
        };
        let wanted: Vec<_> = chunks.split(',').map(hex).collect();
        for (at, (made, wanted)) in made.iter().zip(&wanted).enumerate() {
            assert_eq!(made, wanted, "sequence {number}, chunk {at}");
        }
        assert_eq!(made.len(), wanted.len(), "sequence {number}");
    }
}

#[test]
fn a_histogram_of_many_empty_spans_comes_back_with_every_bucket_where_it_was() {
    let empty = Span { offset: 3, length: 0 };
    let mut positive_spans = vec![Span { offset: -2, length: 0 }];
    positive_spans.extend([empty; 2000]);
    positive_spans.push(Span { offset: 5, length: 2 });
    positive_spans.extend([empty; 2000]);
    positive_spans.push(Span { offset: 1, length: 1 });
    positive_spans.push(empty);
    let histogram = Histogram {
        count: 12,
        sum: 1.5,
        positive_spans,
        positive_buckets: vec![3, 1, 1],
        negative_spans: vec![empty; 2000],
        ..Histogram::default()
    };
    histogram.validate().unwrap();
    let mut chunk = Vec::new();
    encode(&[1000, 2000], &[histogram.clone(), histogram.clone()], CounterReset::Unknown, &mut chunk);
    let mut found = Vec::new();
    decode::<Histogram>(&chunk, |_, histogram| found.push(histogram)).unwrap();
    assert_eq!(found.len(), 2);
    for read in found {
        let indexes = |spans: &[Span]| inserts::indexes(spans).collect::<Vec<_>>();
        assert_eq!(indexes(&read.positive_spans), indexes(&histogram.positive_spans));
        assert_eq!(read.positive_spans.len(), 2, "one span for each run of buckets");
        assert_eq!((read.positive_buckets, read.negative_spans), (histogram.positive_buckets.clone(), Vec::new()));
    }
}
