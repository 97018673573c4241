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
