//! The questions that the speed of a store gateway is judged on, over the labels of `perf blocks`.

use crate::wire::Message;

/// Series of one frame where a question asks for batches.
const BATCH_SERIES: u64 = 64;

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its name in tables.
    pub name: String,
    /// Whether it is one for series, label values or label names.
    pub call: Call,
    /// The encoded request.
    pub request: Vec<u8>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Series and, often, chunks.
    Series,
    /// Values of a label.
    LabelValues,
    /// Names of labels.
    LabelNames,
}

impl Call {
    /// The path of the call.
    pub fn path(self) -> &'static str {
        match self {
            Self::Series => "/thanos.Store/Series",
            Self::LabelValues => "/thanos.Store/LabelValues",
            Self::LabelNames => "/thanos.Store/LabelNames",
        }
    }
}

/// Types of matchers on the wire.
const EQ: u64 = 0;
const NEQ: u64 = 1;
const RE: u64 = 2;
const NRE: u64 = 3;

type Matchers<'a> = &'a [(&'a str, u64, &'a str)];

/// Series asked for by matchers; everything is asked without chunks too.
const SERIES: [(&str, Matchers<'_>); 7] = [
    (
        "metric, namespace, pods by regexp",
        &[("__name__", EQ, "process_bytes_00"), ("namespace", EQ, "team-05"), ("pod", RE, "svc-0.*")],
    ),
    ("metric, all pods", &[("__name__", EQ, "process_bytes_00")]),
    ("histogram", &[("__name__", EQ, "http_request_duration_seconds_bucket")]),
    ("histogram, namespace", &[("__name__", EQ, "http_request_duration_seconds_bucket"), ("namespace", EQ, "team-05")]),
    ("metrics and namespaces by regexp", &[("__name__", RE, "container_.*"), ("namespace", RE, "team-0[1-4]")]),
    (
        "metric, not a namespace, not some pods",
        &[
            ("__name__", EQ, "http_request_duration_seconds_count"),
            ("namespace", NEQ, "team-01"),
            ("pod", NRE, "svc-1.*"),
        ],
    ),
    ("everything", EVERYTHING),
];

const EVERYTHING: Matchers<'_> = &[("__name__", RE, ".+")];

/// Count, sum, minimum, maximum and counter on the wire.
const AGGREGATES: [u8; 5] = [1, 2, 3, 4, 5];

/// All questions about `min_time` to `max_time`, Unix milliseconds, and data of `resolution` milliseconds at
/// most; 0 is raw data.
pub fn all((min_time, max_time): (u64, u64), resolution: u64) -> Vec<Question> {
    let range = || {
        let range = Message::default().number(1, min_time).number(2, max_time);
        if resolution > 0 { range.number(4, resolution).bytes(5, AGGREGATES) } else { range }
    };
    let series = |name: String, request: Message| Question { name, call: Call::Series, request: request.finish() };
    let mut questions = Vec::new();
    for (name, matchers) in SERIES {
        let request = with_matchers(range(), 3, matchers);
        questions.push(series(name.to_owned(), request.clone()));
        questions.push(series(format!("{name}, batches"), request.number(16, BATCH_SERIES)));
    }
    let no_chunks = with_matchers(range(), 3, EVERYTHING).number(8, 1);
    questions.push(series("everything, no chunks".into(), no_chunks.clone()));
    questions.push(series("everything, no chunks, batches".into(), no_chunks.number(16, BATCH_SERIES)));
    let values = Message::default().bytes(1, "pod").number(4, min_time).number(5, max_time);
    let values_of = with_matchers(values.clone(), 7, &[("namespace", EQ, "team-05")]);
    let labels = |name: &str, call, request: Message| Question { name: name.into(), call, request: request.finish() };
    questions.push(labels("values of pod", Call::LabelValues, values));
    questions.push(labels("values of pod, namespace", Call::LabelValues, values_of));
    let names = Message::default().number(3, min_time).number(4, max_time);
    questions.push(labels("label names", Call::LabelNames, names));
    questions
}

fn with_matchers(request: Message, field: u32, matchers: Matchers<'_>) -> Message {
    matchers.iter().fold(request, |request, (name, kind, value)| {
        request.bytes(field, Message::default().number(1, *kind).bytes(2, name).bytes(3, value).finish())
    })
}
