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
