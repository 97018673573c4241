//! What functions and aggregations do to labels, and what they say.

use super::*;

#[test]
fn of_two_operations_that_say_the_same_the_outer_one_tells_its_place() {
    let engine = Engine::new(Options { syntax: crate::promql::syntax::Options::ALL, ..Options::default() });
    for (query, place) in [
        ("quantile(-1, quantile by (inst) (-1, f))", "(1:10)"),
        ("histogram_quantile(-1, quantile by (le) (-1, f))", "(1:20)"),
        (r#"histogram_quantiles(quantile by (le) (-1, f), "q", -1)"#, "(1:52)"),
        ("limit_ratio(2, limit_ratio(2, f))", "(1:13)"),
    ] {
        let result = engine.range(query, HOUR, both_kinds(), &Context::default()).unwrap();
        let told = result.warnings.iter().filter(|text| text.contains("should be between")).collect::<Vec<_>>();
        assert!(told.len() == 1 && told[0].ends_with(place), "{query}: {:?}", result.warnings);
    }
}

#[test]
fn behind_histograms_that_do_not_fit_no_float_is_looked_at() {
    let mut batch = SampleBatch::default();
    let schemas = [("b", Some(0)), ("c", Some(CUSTOM_BUCKETS_SCHEMA)), ("d", None), ("e", Some(0)), ("f", None)];
    for (name, schema) in schemas {
        match schema {
            None => batch.floats.push(0, 1.0),
            Some(schema) => {
                batch.histograms.timestamps.push(0);
                let histogram = FloatHistogram { schema, count: 1.0, ..FloatHistogram::default() };
                batch.histograms.values.push(Arc::new(histogram));
            }
        }
        batch.finish_series(Arc::new(Labels::from_pairs([("__name__", name)])));
    }
    let engine = Engine::new(Options::default());
    let kinds = "encountered a mix of histograms and floats for aggregation (1:5)".to_owned();
    let mix = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
    let buckets = |name: &str| format!("{mix} {name:?} (1:5)");
    for (names, expected) in [
        ("bcd", vec![buckets("c")]),
        ("bcdf", vec![buckets("c")]),
        ("cde", vec![kinds.clone(), buckets("e")]),
        ("cdef", vec![kinds.clone(), buckets("e")]),
        ("cdf", vec![kinds.clone()]),
        ("de", vec![kinds.clone()]),
    ] {
        for (operator, parts) in [("sum", 1), ("avg", 1), ("sum", 2), ("avg", 2), ("sum", 3), ("avg", 4)] {
            let query = format!("{operator}({{__name__=~\"[{names}]\"}})");
            let source = Arc::new(MemorySource::new(&batch).with_parts(parts));
            let mut told = engine.instant(&query, 0, source, &Context::default()).unwrap().warnings;
            told.sort();
            let expected: Vec<String> = expected.iter().map(|text| format!("PromQL warning: {text}")).collect();
            assert_eq!(told, expected, "{query} in {parts} parts");
        }
    }
}

#[test]
fn of_samples_that_a_number_is_not_trimmed_by_the_last_of_each_step_is_told() {
    let engine = Engine::new(Options { lookback_ms: 1, ..Options::default() });
    let told = |query: &str, (floats, histograms): ([i64; 2], [i64; 2]), parts: usize| {
        let source = Arc::new((*both_kinds_at(floats, histograms)).clone().with_parts(parts));
        let steps = RangeSteps { start: 0, end: 60_000, step: 60_000 };
        let result = engine.range(query, steps, source, &Context::default()).unwrap();
        let QueryValue::Matrix(_, rows) = result.value else { panic!("a range query gives a matrix") };
        assert!(rows.is_empty(), "{query}");
        result.infos
    };
    let info = |kind: &str, place: &str| {
        let words = "PromQL info: incompatible sample types encountered for binary operator";
        format!(r#"{words} "</": float </ {kind} {place}"#)
    };
    for parts in [1, 2] {
        // The histogram comes behind the float.
        let (both, apart) = (([0, 60_000], [0, 60_000]), ([0, 60_000], [60_000, 120_000]));
        let query = r#"1 </ {__name__=~"f|h"}"#;
        assert_eq!(told(query, both, parts), [info("histogram", "(1:1)")]);
        assert_eq!(told(query, apart, parts), [info("float", "(1:1)"), info("histogram", "(1:1)")]);
        assert_eq!(told("count(1 </ f)", both, parts), [info("float", "(1:7)")]);
    }
}

#[test]
fn what_is_made_of_a_histogram_loses_its_name_and_keeps_its_type_and_unit() {
    let mut batch = SampleBatch::default();
    for (name, kind) in [("h1", "histogram"), ("h2", "gaugehistogram")] {
        batch.histograms.timestamps.push(60_000);
        batch.histograms.values.push(Arc::new(FloatHistogram { count: 2.0, ..FloatHistogram::default() }));
        let labels = [("__name__", name), ("__type__", kind), ("__unit__", "seconds"), ("a", "b")];
        batch.finish_series(Arc::new(Labels::from_pairs(labels)));
    }
    let source = Arc::new(MemorySource::new(&batch));
    let ask = |query: &str, name_removal| {
        let engine = Engine::new(Options { name_removal, ..Options::default() });
        let result = engine.instant(query, 60_000, Arc::clone(&source) as _, &Context::default()).map_err(words)?;
        let QueryValue::Vector(_, rows) = result.value else { panic!("an instant query gives a vector") };
        Ok::<_, String>(rows.rows.iter().map(|row| row.labels.to_string()).collect::<Vec<_>>())
    };
    let at_once = |query: &str| ask(query, NameRemoval::Immediate);
    let kept = |kind: &str| format!(r#"{{__type__="{kind}", __unit__="seconds", a="b"}}"#);
    for function in ["count", "sum", "avg", "stddev", "stdvar"] {
        let query = format!("histogram_{function}(h1)");
        assert_eq!(at_once(&query).unwrap(), [kept("histogram")], "{query}");
        assert_eq!(ask(&query, NameRemoval::Delayed).unwrap(), [r#"{a="b"}"#], "{query}");
    }
    for query in ["histogram_quantile(0.5, h1)", "histogram_fraction(0, 1, h1)", "histogram_count(h1) + 1"] {
        assert_eq!(at_once(query).unwrap(), [r#"{a="b"}"#], "{query}");
    }
    // What the type alone tells apart.
    let mut both = at_once(r#"histogram_count({__name__=~"h."})"#).unwrap();
    both.sort();
    assert_eq!(both, [kept("gaugehistogram"), kept("histogram")]);
    let same = "vector cannot contain metrics with the same labelset";
    assert_eq!(at_once(r#"abs(histogram_count({__name__=~"h."}))"#).unwrap_err(), same);
    assert_eq!(at_once("sum by (__type__) (histogram_count(h1))").unwrap(), [r#"{__type__="histogram"}"#]);
}
