//! Series of one metric that differ in type or unit alone.

use super::*;

const SAME: &str = "vector cannot contain metrics with the same labelset";

/// Labels of a series beside its name, and when (Unix milliseconds) it has a sample.
type Series<'a> = (&'a [(&'a str, &'a str)], &'a [i64]);

/// Series called `m`.
fn series(all: &[Series<'_>]) -> MemorySource {
    let mut batch = SampleBatch::default();
    for (labels, times) in all {
        times.iter().for_each(|time| batch.floats.push(*time, 1.0));
        batch.finish_series(Arc::new(Labels::from_pairs(labels.iter().copied().chain([("__name__", "m")]))));
    }
    MemorySource::new(&batch)
}

/// What `query` gives at two steps, a minute apart: labels and number of samples of each series.
fn ask(query: &str, source: &MemorySource, parts: usize) -> Result<Vec<(String, usize)>, String> {
    let (engine, source) = (Engine::new(Options::default()), Arc::new(source.clone().with_parts(parts)));
    let steps = RangeSteps { start: 60_000, end: 120_000, step: 60_000 };
    let result = engine.range(query, steps, source, &Context::default()).map_err(words)?;
    let QueryValue::Matrix(_, rows) = result.value else { panic!("a range query gives a matrix") };
    Ok((0..rows.len()).map(|row| (rows.rows[row].labels.to_string(), rows.floats(row).count())).collect())
}

#[test]
fn nothing_tells_them_apart_under_what_drops_names() {
    let counter: &[_] = &[("__type__", "counter"), ("a", "1")];
    let others: [&[_]; 3] = [&[("__type__", "gauge"), ("a", "1")], &[("__unit__", "s"), ("a", "1")], &[("a", "1")]];
    for other in others {
        let times = &[0, 60_000, 120_000][..];
        let source = series(&[(counter, times), (other, times)]);
        for query in [
            "sum(rate(m[2m]))",
            "sum by (a) (abs(m))",
            "avg(-m)",
            "count without (a) (m * 2)",
            "max(2 > bool m)",
            "scalar(ceil(m))",
            "absent(m + 1)",
            "topk(1, floor(m))",
            "quantile(0.5, max_over_time(m[2m]))",
            "sum(sum_over_time(abs(m)[2m:1m]))",
            "sum(abs(sum by (__type__, __unit__, a) (m)))",
            "sum(abs(sum without (b) (m)))",
        ] {
            assert_eq!(ask(query, &source, 1).unwrap_err(), SAME, "{query}");
        }
        for query in ["sum(m)", "sum(m > 0)", "sum(last_over_time(m[2m]))", "absent_over_time(m[2m])"] {
            assert!(ask(query, &source, 1).is_ok(), "{query}");
        }
    }
    let times = &[0, 60_000, 120_000][..];
    let source = series(&[(counter, times), (others[0], times)]);
    for query in ["sum(rate(m[2m]))", "sum(abs(m))", "min(-m)"] {
        assert_eq!(ask(query, &source, 2).unwrap_err(), SAME, "{query} in two parts");
    }
}

#[test]
fn they_are_one_where_they_have_no_step_in_common() {
    let (counter, gauge) = ([("__type__", "counter"), ("a", "1")], [("__type__", "gauge"), ("a", "1")]);
    let source = series(&[(counter.as_slice(), [60_000].as_slice()), (gauge.as_slice(), [120_000].as_slice())]);
    let engine = Engine::new(Options { lookback_ms: 1, ..Options::default() });
    let steps = RangeSteps { start: 60_000, end: 120_000, step: 60_000 };
    for query in ["abs(m)", "max_over_time(abs(m)[1m:1m])", "sum by (a) (m * 2)", "sort(-m)"] {
        for parts in [1, 2] {
            let source = Arc::new(source.clone().with_parts(parts));
            let result = engine.range(query, steps, source, &Context::default()).unwrap();
            let QueryValue::Matrix(_, rows) = result.value else { panic!("a range query gives a matrix") };
            let found: Vec<usize> = (0..rows.len()).map(|row| rows.floats(row).count()).collect();
            assert_eq!(found, [2], "{query} in {parts} parts");
        }
    }
    // Series over time are looked at as a whole.
    assert_eq!(ask("sum(count_over_time(m[1m]))", &source, 1).unwrap_err(), SAME);
}

/// A source that does not know the types of its series beforehand.
struct Untold(MemorySource);

impl Source for Untold {
    fn select(&self, request: &SelectRequest<'_>, sink: &mut BatchSink<'_>) -> Result<Selected, Error> {
        self.0.select(request, sink)
    }
}

/// The error of `query` where the source does not know the types of its series.
fn untold(query: &str, source: &MemorySource) -> Option<String> {
    let (engine, source) = (Engine::new(Options::default()), Arc::new(Untold(source.clone())));
    let steps = RangeSteps { start: 60_000, end: 120_000, step: 60_000 };
    engine.range(query, steps, source, &Context::default()).err().map(words)
}

#[test]
fn one_without_a_type_is_told_wherever_its_twin_comes() {
    let times = &[0, 60_000, 120_000][..];
    let alike: [[&[_]; 4]; 3] = [
        // Those with a type come first, and the other in another part.
        [&[("__type__", "counter"), ("a", "1")], &[("__type__", "counter"), ("a", "2")], &[("a", "1")], &[("a", "3")]],
        // It comes before all others.
        [&[], &[("__type__", "counter")], &[("__type__", "counter"), ("a", "1")], &[("a", "2")]],
        [&[("A", "1")], &[("A", "1"), ("__unit__", "s")], &[("a", "1")], &[("a", "2")]],
    ];
    let queries = ["sum(rate(m[2m]))", "sum(abs(m))", "sum(-m)", "sum(abs(m > 0))", "sum(abs(last_over_time(m[2m])))"];
    for labels in alike {
        let source = series(&labels.map(|labels| (labels, times)));
        for query in queries {
            for parts in [1, 2, 4] {
                assert_eq!(ask(query, &source, parts).unwrap_err(), SAME, "{query} in {parts} parts");
            }
            assert_eq!(untold(query, &source).as_deref(), Some(SAME), "{query}");
        }
    }
    let apart: [&[_]; 3] = [&[], &[("__type__", "counter"), ("a", "1")], &[("a", "2")]];
    let source = series(&apart.map(|labels| (labels, times)));
    for query in queries {
        assert!([1, 2, 3].into_iter().all(|parts| ask(query, &source, parts).is_ok()), "{query}");
        assert_eq!(untold(query, &source), None, "{query}");
    }
}
