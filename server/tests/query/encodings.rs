//! Chunks of encodings that StoreAPI lacks, as Thanos' sidecar passes them on from its Prometheus: those that are known
//! are read, and served on as others that every client reads; those that are not are left out, and said to be.

use engine::chunk::{float_histogram, histogram, native, xor, xor2};
use engine::model::{CounterReset, FloatHistogram, FloatHistogramColumns, Histogram, HistogramColumns, Span};
use proto::thanos::series_response;
use serde_json::Value;

use crate::support;
use crate::support::endpoint::{Answers, Endpoint, Step, series_frame};
use crate::support::{Uru, everything, series};

const START: i64 = 1_700_000_040_000;

/// A chunk of each kind of sample without start timestamps, and the same with them.
fn chunks() -> [(Vec<u8>, Vec<u8>); 3] {
    let (starts, times) = ([START - 60_000], vec![START]);
    let histogram = Histogram {
        count: 5,
        sum: 7.5,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![2, 1],
        ..Histogram::default()
    };
    let mut chunks: [(Vec<u8>, Vec<u8>); 3] = Default::default();
    let [(floats, floats_with), (integers, integers_with), (doubles, doubles_with)] = &mut chunks;
    xor::encode(&times, &[3.0], floats);
    xor2::encode(&times, &[3.0], &starts, floats_with);
    let columns = FloatHistogramColumns { timestamps: times.clone(), values: vec![histogram.to_float()] };
    float_histogram::encode(&columns, CounterReset::Unknown, doubles);
    native::add_starts::<FloatHistogram>(doubles, &starts, doubles_with);
    let columns = HistogramColumns { timestamps: times, values: vec![histogram] };
    histogram::encode(&columns, CounterReset::Yes, integers);
    native::add_starts::<Histogram>(integers, &starts, integers_with);
    chunks
}

/// A series of one chunk whose encoding has this number on the wire.
fn step(instance: &str, number: i32, data: &[u8]) -> Step {
    let mut frame = series_frame(&[("__name__", "up"), ("instance", instance)], &[(START, 1.0)]);
    let Some(series_response::Result::Series(series)) = &mut frame.result else { panic!("it is a series") };
    let raw = series.chunks[0].raw.as_mut().unwrap();
    raw.r#type = number;
    raw.data = data.to_vec().into();
    Step::Send(frame)
}

/// What is answered to `query`: the value of each instance, and the warnings.
fn answer(uru: &Uru, query: &str) -> (Vec<(String, String)>, Vec<String>) {
    let (status, body) = uru.get(&format!("/api/v1/query?query={query}&time={}", START / 1000));
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200, "{answer}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let result = answer["data"]["result"].as_array().unwrap();
    let values = result.iter().map(|one| (text(&one["metric"]["instance"]), text(&one["value"][1])));
    let mut values: Vec<(String, String)> = values.collect();
    values.sort();
    (values, answer["warnings"].as_array().into_iter().flatten().map(text).collect())
}

#[test]
fn chunks_of_other_encodings_are_read_or_left_out_and_cost_no_other_series() {
    let [(floats, floats_with), (integers, integers_with), (doubles, doubles_with)] = chunks();
    let steps = vec![
        step("a", 3, &floats_with),
        step("b", 4, &integers_with),
        step("c", 5, &doubles_with),
        step("d", 9, &floats),
        step("e", 3, &[0, 9, 1]),
        step("f", 0, &floats),
    ];
    let sidecar = Endpoint::start(Answers::store(&[("store", "a")], steps));
    let uru = Uru::start("query", &[&format!("--endpoint={}", sidecar.address)]);
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(instance, value)| ((*instance).to_owned(), (*value).to_owned())).collect()
    };
    let said = format!(
        "endpoint {}: chunks that cannot be read are left out, one of series \
         {{__name__=\"up\", instance=\"d\"}}: chunk encoding 9 is not known",
        sidecar.address
    );
    for (query, expected) in [
        ("max%20by%20(instance)(up)", pairs(&[("a", "3"), ("f", "3")])),
        ("histogram_sum(up)", pairs(&[("b", "7.5"), ("c", "7.5")])),
        ("histogram_count(up)", pairs(&[("b", "5"), ("c", "5")])),
    ] {
        let (values, warnings) = answer(&uru, query);
        assert_eq!(values, expected, "{query}");
        assert_eq!(warnings, [said.as_str()], "{query}");
    }
    let (status, body) = uru.get(&format!("/api/v1/query?query=up&time={}&partial_response=0", START / 1000));
    assert!(status == 422 && body.contains("chunk encoding 9 is not known"), "{status} {body}");
    // As an endpoint of another querier.
    support::run(async {
        let (found, warnings) = series(&uru.connect().await, everything()).await.unwrap();
        assert_eq!(warnings, [said]);
        let chunks = found.iter().map(|series| {
            let raw = series.chunks.iter().map(|chunk| chunk.raw.as_ref().unwrap());
            raw.map(|chunk| (chunk.r#type, chunk.data.to_vec())).collect::<Vec<_>>()
        });
        let floats = vec![(0, floats)];
        let expected = [floats.clone(), vec![(1, integers)], vec![(2, doubles)], vec![], vec![], floats];
        assert_eq!(chunks.collect::<Vec<_>>(), expected);
    });
}
