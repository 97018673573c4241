//! What holds for every query: limits end it in Prometheus' words, and its operators account for
//! what they did.

mod functions;
mod peaks;
mod twins;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::batch::SampleBatch;
use crate::model::histogram::CUSTOM_BUCKETS_SCHEMA;
use crate::model::{Error, ErrorKind, FloatHistogram, Labels, Span, TimeRange};

use super::source::{BatchSink, MemorySource, SelectRequest, Selected, Source};
use super::value::QueryValue;
use super::{Context, Engine, NameRemoval, Options, QueryResult, RangeSteps, Stage};

const HOUR: RangeSteps = RangeSteps { start: 0, end: 3_600_000, step: 60_000 };

/// Four counters in two groups, a sample every 15 s for an hour.
fn counters() -> MemorySource {
    let mut batch = SampleBatch::default();
    for series in 0..4 {
        for at in 0..240 {
            batch.floats.push(at * 15_000, (at * (series + 1)) as f64);
        }
        let (group, instance) = ((series % 2).to_string(), series.to_string());
        let labels = [("__name__", "a_total"), ("group", &group), ("instance", &instance)];
        batch.finish_series(Arc::new(Labels::from_pairs(labels)));
    }
    MemorySource::new(&batch)
}

#[test]
fn many_that_would_match_many_are_not_paired_before_that_is_told() {
    // Pairs of all would take hours.
    let mut batch = SampleBatch::default();
    for series in 0..60_000 {
        // One is there earlier than all others.
        (0..2).filter(|at| *at > 0 || series == 0).for_each(|at| batch.floats.push(at * 60_000, 1.0));
        batch.finish_series(Arc::new(Labels::from_pairs([("__name__", "a"), ("instance", &format!("{series:05}"))])));
    }
    let source = Arc::new(MemorySource::new(&batch));
    let steps = RangeSteps { start: 0, end: 60_000, step: 60_000 };
    let run = |query: &str| {
        let engine = Engine::new(Options::default());
        engine.range(query, steps, Arc::clone(&source) as Arc<_>, &Context::default()).unwrap_err().error.to_string()
    };
    for query in ["a / on() a", "a * on() group_left a", "a > on() group_right a"] {
        assert!(run(query).contains("found duplicate series for the match group {}"), "{query}");
    }
}

#[test]
fn a_query_in_parts_gives_what_it_gives_as_a_whole() {
    let engine = Engine::new(Options::default());
    let rows = |parts| {
        let source = Arc::new(counters().with_parts(parts));
        let result = engine.range("sum by (group) (rate(a_total[5m]))", HOUR, source, &Context::default()).unwrap();
        let QueryValue::Matrix(_, rows) = result.value else { panic!("a range query gives a matrix") };
        (0..rows.len()).map(|row| rows.floats(row).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(rows(1).len(), 2);
    for (whole, parted) in rows(1).concat().into_iter().zip(rows(3).concat()) {
        assert_eq!(whole.0, parted.0);
        assert!((whole.1 - parted.1).abs() <= 1e-12 * whole.1.abs(), "{whole:?} {parted:?}");
    }
}

#[test]
fn rows_that_stand_side_by_side_match_as_those_that_are_looked_for() {
    let engine = Engine::new(Options::default());
    let rows = |query: &str| {
        let result = engine.range(query, HOUR, Arc::new(counters()), &Context::default()).unwrap();
        let QueryValue::Matrix(_, rows) = result.value else { panic!("a range query gives a matrix") };
        let row = |row: usize| (rows.rows[row].labels.to_string(), rows.floats(row).collect::<Vec<_>>());
        (0..rows.len()).map(row).collect::<Vec<_>>()
    };
    let (rate, late) = ("rate(a_total[5m])", "rate(a_total[5m] offset 30m)");
    for (beside, looked_for) in [
        (format!("{rate} - {late}"), format!("{rate} - on(group, instance) group_left {late}")),
        (format!("{rate} / on(group, instance) {late}"), format!("{rate} / ignoring(a) group_left {late}")),
        (
            format!("sum by (group) ({rate}) * sum by (group) ({late})"),
            format!("sum by (group) ({rate}) * on(group) group_left sum by (group) ({late})"),
        ),
        // What rows on one side only have, or what does not count.
        (format!("{rate} + ({late} > 0.1)"), format!("{rate} + on(group, instance) group_left() ({late} > 0.1)")),
        (
            format!("{rate} + ignoring(group) {late}"),
            format!("sum by (instance) ({rate}) + sum by (instance) ({late})"),
        ),
    ] {
        assert_eq!(rows(&beside), rows(&looked_for), "{beside}");
        assert!(!rows(&beside).is_empty(), "{beside}");
    }
}

/// Floats called `f` and histograms called `h`, alike otherwise, at the same two times.
fn both_kinds() -> Arc<MemorySource> {
    both_kinds_at([0, 60_000], [0, 60_000])
}

/// Floats called `f` and histograms called `h`, alike otherwise, at these times.
fn both_kinds_at(floats: [i64; 2], histograms: [i64; 2]) -> Arc<MemorySource> {
    let mut batch = SampleBatch::default();
    for at in floats {
        batch.floats.push(at, 1.0);
    }
    batch.finish_series(Arc::new(Labels::from_pairs([("__name__", "f")])));
    for at in histograms {
        batch.histograms.timestamps.push(at);
        batch.histograms.values.push(Arc::new(FloatHistogram { count: 2.0, ..FloatHistogram::default() }));
    }
    batch.finish_series(Arc::new(Labels::from_pairs([("__name__", "h")])));
    Arc::new(MemorySource::new(&batch))
}

#[test]
fn floats_and_histograms_that_lose_their_names_become_one_series() {
    let engine = Engine::new(Options::default());
    let steps = RangeSteps { start: 0, end: 60_000, step: 60_000 };
    let range =
        |query| Ok::<_, String>(engine.range(query, steps, both_kinds(), &Context::default()).map_err(words)?.value);
    let query = r#"-{__name__=~"f|h"}"#;
    let Ok(QueryValue::Matrix(_, rows)) = range(query) else { panic!("a range query gives a matrix") };
    assert_eq!((rows.len(), rows.floats(0).count(), rows.histograms(0).len()), (1, 2, 2));
    let result = engine.instant(query, 60_000, both_kinds(), &Context::default()).unwrap();
    let QueryValue::Vector(_, rows) = result.value else { panic!("an instant query gives a vector") };
    assert_eq!((rows.len(), rows.floats(0).count(), rows.histograms(0).len()), (1, 0, 1));
    let same = "vector cannot contain metrics with the same labelset";
    assert_eq!(range(r#"{__name__=~"f|h"} * 2"#).unwrap_err(), same);
    assert_eq!(range(r#"-{__name__=~"f|h"} @ 60"#).unwrap_err(), "unexpected number of samples");
}

#[test]
fn the_regexp_of_label_replace_counts_in_the_memory_of_the_query() {
    let engine = Engine::new(Options { bytes_max: 1 << 20, ..Options::default() });
    let ask = |pattern: &str| {
        let query = format!(r#"label_replace(f, "a", "$1", "b", "{pattern}")"#);
        engine.instant(&query, 60_000, both_kinds(), &Context::default()).map(drop).map_err(|failed| failed.error)
    };
    assert_eq!(ask(r"(x[0-9]+|)"), Ok(()));
    let error = ask(r"([\\pL]{200}|)").unwrap_err();
    assert!(error.kind() == ErrorKind::Limit && error.message().contains("query.memory-limit"), "{error}");
}

#[test]
fn a_window_that_ends_where_a_float_and_a_histogram_are_ends_with_the_float() {
    let engine = Engine::new(Options { lookback_ms: 1, ..Options::default() });
    let ask = |function: &str, at: i64| {
        let query = format!(r#"{function}((-{{__name__=~"f|h"}})[2m:1m])"#);
        let result = engine.instant(&query, at, both_kinds(), &Context::default()).unwrap();
        let QueryValue::Vector(_, rows) = result.value else { panic!("an instant query gives a vector") };
        (rows.floats(0).map(|(_, value)| value).next(), rows.histograms(0).len())
    };
    assert_eq!((ask("count_over_time", 60_000), ask("count_over_time", 90_000)), ((Some(3.0), 0), (Some(4.0), 0)));
    assert_eq!((ask("last_over_time", 60_000), ask("last_over_time", 90_000)), ((Some(-1.0), 0), (None, 1)));
}

#[test]
fn of_a_float_and_a_histogram_at_one_time_the_float_is_the_later_one() {
    let engine = Engine::new(Options { lookback_ms: 1, ..Options::default() });
    let ask = |floats, histograms| {
        let query = r#"idelta((-{__name__=~"f|h"})[10m:1m])"#;
        let source = both_kinds_at(floats, histograms);
        let result = engine.instant(query, 240_000, source, &Context::default()).unwrap();
        let QueryValue::Vector(_, rows) = result.value else { panic!("an instant query gives a vector") };
        (rows.len(), result.warnings.len())
    };
    // The last two are the float of the first minute and the histogram of the second.
    assert_eq!(ask([0, 60_000], [60_000, 120_000]), (0, 1));
    // Between these two there is no time.
    assert_eq!(ask([60_000, 120_000], [60_000, 120_000]), (0, 0));
    assert_eq!(ask([0, 60_000], [120_000, 180_000]).0, 1);
}

#[test]
fn an_operation_behind_a_plus_tells_its_own_place() {
    let engine = Engine::new(Options::default());
    for (query, place) in [("h + on () f", "(1:1)"), ("+(h + on () f)", "(1:3)"), ("1 + +(h * 2 / h)", "(1:7)")] {
        let result = engine.instant(query, 60_000, both_kinds(), &Context::default()).unwrap();
        assert!(result.infos.len() == 1 && result.infos[0].ends_with(place), "{query}: {:?}", result.infos);
    }
}

#[test]
fn a_function_behind_a_plus_tells_its_own_place() {
    let engine = Engine::new(Options::default());
    for (query, place) in [("sort(f)", "(1:1)"), ("+(sort(f))", "(1:3)"), ("1 + +sort(f)", "(1:6)")] {
        let result = engine.range(query, HOUR, both_kinds(), &Context::default()).unwrap();
        assert!(result.warnings.len() == 1 && result.warnings[0].ends_with(place), "{query}: {:?}", result.warnings);
    }
}

#[test]
fn values_that_become_metric_names_are_lost_with_them() {
    let mut batch = SampleBatch::default();
    for (instance, value) in [("1", 1.0), ("2", 2.0)] {
        batch.floats.push(60_000, value);
        batch.finish_series(Arc::new(Labels::from_pairs([("__name__", "m"), ("instance", instance)])));
    }
    let (engine, source) = (Engine::new(Options::default()), Arc::new(MemorySource::new(&batch)));
    let ask = |label: &str, query: &str| {
        let query = query.replace("VALUES", &format!("count_values({label:?}, m)"));
        engine.instant(&query, 60_000, Arc::clone(&source) as _, &Context::default()).map(drop).map_err(words)
    };
    let same = Err("vector cannot contain metrics with the same labelset".to_owned());
    for query in [
        "count(abs(VALUES))",
        "-VALUES",
        "VALUES + 1",
        "VALUES > bool 1",
        "ceil(+VALUES)",
        "max_over_time(VALUES[1m:1m])",
        "abs(topk(100, VALUES))",
    ] {
        assert_eq!(ask("__name__", query), same, "{query}");
        assert_eq!(ask("__type__", query), same, "{query}");
        assert_eq!(ask("value", query), Ok(()), "{query}");
    }
    assert_eq!(ask("__name__", "VALUES"), Ok(()));
}

#[test]
fn a_bare_subquery_is_sorted_loses_names_at_its_end_and_has_no_series_without_samples() {
    let mut batch = SampleBatch::default();
    for name in ["m1", "m2"] {
        batch.floats.push(60_000, 1.0);
        batch.finish_series(Arc::new(Labels::from_pairs([("__name__", name)])));
    }
    let same_times = Arc::new(MemorySource::new(&batch));
    let ask = |query: &str, source: Arc<MemorySource>| {
        let engine = Engine::new(Options { name_removal: NameRemoval::Delayed, ..Options::default() });
        let result = engine.instant(query, 60_000, source, &Context::default()).map_err(words)?;
        let QueryValue::Samples(batch) = result.value else { panic!("a range vector gives samples") };
        let shown = batch.iter().map(|found| (found.labels.to_string(), found.values.len(), found.histograms.len()));
        Ok::<_, String>(shown.collect::<Vec<_>>())
    };
    let series = |labels: &str, floats: usize, histograms: usize| (labels.to_owned(), floats, histograms);
    for query in [r#"(-{__name__=~"m."})[1m:1m]"#, r#"cosh({__name__=~"m."})[2m:1m]"#] {
        let same = "vector cannot contain metrics with the same labelset";
        assert_eq!(ask(query, Arc::clone(&same_times)).unwrap_err(), same, "{query}");
    }
    let both = [series(r#"{__name__="m1"}"#, 1, 0), series(r#"{__name__="m2"}"#, 1, 0)];
    assert_eq!(ask("(m2 or on(__name__) m1)[1m:1m]", same_times).unwrap(), both);
    assert_eq!(ask(r#"(-{__name__=~"f|h"})[2m:1m]"#, both_kinds()).unwrap(), [series("{}", 2, 2)]);
    for query in ["abs(h)[5m:1m]", "(f == 99)[5m:1m]"] {
        assert!(ask(query, both_kinds()).unwrap().is_empty(), "{query}");
    }
}

#[test]
fn of_the_durations_of_a_subquery_the_first_bad_one_is_told_in_prometheus_order() {
    let engine = Engine::new(Options { syntax: super::syntax::Options::ALL, ..Options::default() });
    for (query, told) in [
        ("f[step()*1:range()-1m]", "11:21: duration must be greater than 0"),
        ("f[step()*1:range()-1m] offset (1/range())", "31:40: division by zero"),
        ("f[step()*1:1m] offset 1m", "2:10: duration must be greater than 0"),
    ] {
        let failed = engine.instant(query, 60_000, both_kinds(), &Context::default()).unwrap_err();
        assert!(failed.stage == Stage::Prepare && failed.error.message().ends_with(told), "{query}: {failed:?}");
    }
}

#[test]
fn areas_of_the_largest_numbers_are_finite() {
    let engine = Engine::new(Options::default());
    for (query, area) in
        [("acosh(1.7e308 * f)", 710.419_984_073_788_1), ("asinh(-1.7e308 * f)", -710.419_984_073_788_1)]
    {
        let result = engine.instant(query, 60_000, both_kinds(), &Context::default()).unwrap();
        let QueryValue::Vector(_, rows) = result.value else { panic!("an instant query gives a vector") };
        assert_eq!(rows.floats(0).map(|(_, value)| value).collect::<Vec<_>>(), [area]);
    }
}

#[test]
fn sums_of_windows_that_overlap_overflow_where_each_on_its_own_does() {
    let mut batch = SampleBatch::default();
    let mut state = 1u64;
    for at in 0..1000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        batch.floats.push(at * 15_000, if state >> 63 == 0 { 1e307 } else { -1e307 });
    }
    batch.finish_series(Arc::new(Labels::from_pairs([("__name__", "m")])));
    let (source, engine) = (Arc::new(MemorySource::new(&batch)), Engine::new(Options::default()));
    let steps = RangeSteps { start: 3_600_000, end: 14_400_000, step: 60_000 };
    for query in ["sum_over_time(m[30m])", "avg_over_time(m[30m])"] {
        let result = engine.range(query, steps, Arc::clone(&source) as _, &Context::default()).unwrap();
        let QueryValue::Matrix(_, rows) = result.value else { panic!("a range query gives a matrix") };
        let mut finite = 0;
        for (step, value) in rows.floats(0) {
            let time = steps.start + step as i64 * steps.step;
            let alone = engine.instant(query, time, Arc::clone(&source) as _, &Context::default()).unwrap();
            let QueryValue::Vector(_, alone) = alone.value else { panic!("an instant query gives a vector") };
            let (_, alone) = alone.floats(0).next().unwrap();
            assert_eq!(value.to_bits(), alone.to_bits(), "{query} at {time}: {value} {alone}");
            finite += usize::from(value.is_finite());
        }
        assert!(finite > 20, "{query}: {finite}");
    }
}

fn words(failed: super::QueryError) -> String {
    failed.error.message().to_owned()
}

#[test]
fn too_many_samples_end_a_query_in_prometheus_words() {
    let engine = Engine::new(Options { samples_max: 100, ..Options::default() });
    let failed = engine.range("a_total", HOUR, Arc::new(counters()), &Context::default()).unwrap_err();
    let words = "query processing would load too many samples into memory in query execution";
    assert_eq!((failed.stage, failed.error.kind(), failed.error.message()), (Stage::Execute, ErrorKind::Limit, words));
    assert!(engine.instant("sum(a_total)", 60_000, Arc::new(counters()), &Context::default()).is_ok());
}

/// The least limit under which `ends_well`.
fn needed(ends_well: impl Fn(u64) -> bool) -> u64 {
    let (mut enough, mut little) = (64 << 20, 0);
    while little + 1 < enough {
        let half = (little + enough) / 2;
        if ends_well(half) { enough = half } else { little = half }
    }
    enough
}

/// The least limit of bytes under which `ask` ends well.
fn bytes_needed(ask: impl Fn(&Engine) -> bool) -> u64 {
    needed(|bytes_max| ask(&Engine::new(Options { bytes_max, ..Options::default() })))
}

#[test]
fn what_a_subquery_dropped_counts_no_longer_when_it_has_ended() {
    let samples_needed = |query: &str| {
        needed(|samples_max| {
            let engine = Engine::new(Options { samples_max, ..Options::default() });
            engine.range(query, HOUR, Arc::new(counters()), &Context::default()).is_ok()
        })
    };
    let side = "max_over_time((a_total > 1000)[1h:1m])";
    let (one, both) = (samples_needed(side), samples_needed(&format!("{side} + {side}")));
    assert!(one > 100 && both == one, "{both} samples, {one} for one side");
}

#[test]
fn copies_count_beside_what_they_are_made_of() {
    let over_steps = |query: &str| {
        bytes_needed(|engine| engine.range(query, HOUR, Arc::new(counters()), &Context::default()).is_ok())
    };
    let once = |query: &str| {
        bytes_needed(|engine| engine.instant(query, 60_000, Arc::new(counters()), &Context::default()).is_ok())
    };
    let bytes = |query: &str| {
        let result = Engine::new(Options::default()).range(query, HOUR, Arc::new(counters()), &Context::default());
        result.unwrap().value.heap_bytes() as u64
    };
    // Rows that are sorted at the end of a query; `group` is turned around.
    let turned = r#"label_replace(a_total, "group", "9", "group", "0")"#;
    assert!(over_steps(turned) >= over_steps("a_total").max(2 * bytes(turned)), "{}", over_steps(turned));
    // What grows lies there twice, as a copy does; values don't.
    assert!(once("sort_desc(a_total)") > once("a_total"));
    let gathered = over_steps("a_total").checked_sub(bytes("a_total")).unwrap();
    assert!((1..bytes("a_total") / 4).contains(&gathered), "{gathered} of {}", bytes("a_total"));
    // A subquery's rows, over 720 steps for each of 4 series, and the samples that are made of them, once each.
    let (rows, samples) = (4 * 720 * 8, 4 * 360 * 16);
    let subquery = over_steps("count_over_time((a_total + 0)[1h:10s])");
    assert!((rows + samples..(rows + samples) * 5 / 4).contains(&subquery), "{subquery}");
    // What is repeated for every step.
    assert!(over_steps("a_total @ 60") >= 4 * 61 * 8);
}

/// The process once ended where the allocator had no room for a row of so many steps.
#[test]
fn steps_take_memory_before_room_is_made_for_them() {
    let engine = Engine::new(Options { bytes_max: 1 << 30, ..Options::default() });
    let is_refused = |failed: super::QueryError| {
        assert_eq!(failed.error.kind(), ErrorKind::Limit);
        assert!(words(failed).contains("this query needs more than"));
    };
    for query in ["a_total", "sum by (group) (rate(a_total[5m]))", "vector(1)", "sum(a_total @ 60)"] {
        let subquery = format!("max_over_time(({query})[1000d:1ms])");
        is_refused(engine.instant(&subquery, 60_000, Arc::new(counters()), &Context::default()).unwrap_err());
        for start in [0, i64::MIN / 4] {
            let steps = RangeSteps { start, end: i64::MAX / 4, step: 1 };
            is_refused(engine.range(query, steps, Arc::new(counters()), &Context::default()).unwrap_err());
        }
    }
}

#[test]
fn labels_that_a_query_makes_count_as_they_are_made() {
    let long = "x".repeat(1 << 20);
    for query in [
        format!("label_join(a_total, \"b\", \"{long}\", \"group\", \"group\")"),
        format!("label_replace(a_total, \"b\", \"{long}\", \"group\", \".*\")"),
        format!("count_values by (group) (\"{long}\", a_total)"),
    ] {
        let needed =
            bytes_needed(|engine| match engine.instant(&query, 1_800_000, Arc::new(counters()), &Context::default()) {
                Ok(_) => true,
                Err(failed) => {
                    assert_eq!(failed.error.kind(), ErrorKind::Limit, "{}", &query[..20]);
                    false
                }
            });
        assert!(((2 << 20)..(10 << 20)).contains(&needed), "{needed} for {}", &query[..20]);
    }
}

#[test]
fn values_that_occur_once_take_no_room_for_all_steps() {
    // Each value of a counter is one of its own: 4 series over 61 steps are 244 rows.
    let ask = |engine: &Engine, query: &str| engine.range(query, HOUR, Arc::new(counters()), &Context::default());
    let needed = bytes_needed(|engine| ask(engine, "count_values by (group) (\"v\", a_total)").is_ok());
    let dense = bytes_needed(|engine| ask(engine, "count_values by (group) (\"v\", a_total) * 1").is_ok());
    let counted = bytes_needed(|engine| ask(engine, "count(count_values by (group) (\"v\", a_total))").is_ok());
    assert!(needed < 128 << 10 && counted < 128 << 10 && dense > 2 * needed, "{needed}, {counted}, {dense}");
    let engine = Engine::new(Options::default());
    for input in ["a_total", "a_total > bool 100", "vector(NaN)", "nothing"] {
        let text = |query: String| {
            let mut text = Vec::new();
            super::json::push_value(&mut text, &ask(&engine, &query).unwrap().value, 0);
            String::from_utf8(text).unwrap()
        };
        let query = format!("count_values by (group) (\"v\", {input})");
        assert_eq!(text(query.clone()), text(format!("{query} * 1")), "{input}");
        assert_eq!(text(query.clone()), text(format!("max by (group, v) ({query})")), "{input}");
    }
}

#[test]
fn a_canceled_query_and_one_out_of_time_end() {
    let engine = Engine::new(Options::default());
    let context = Context::default();
    context.patience.canceled.store(true, Ordering::Relaxed);
    let failed = engine.instant("a_total", 0, Arc::new(counters()), &context).unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::Canceled);
    let mut context = Context::default();
    context.patience.deadline = Some(Instant::now());
    let failed = engine.instant("a_total", 0, Arc::new(counters()), &context).unwrap_err();
    assert_eq!(failed.error.message(), "query timed out in query execution");
}

#[test]
fn a_query_over_long_windows_of_histograms_ends_when_its_time_is_over() {
    let mut batch = SampleBatch::default();
    let buckets = vec![1.0; 64];
    for second in 0..20_000 {
        batch.histograms.timestamps.push(second * 1000);
        batch.histograms.values.push(Arc::new(FloatHistogram {
            count: 64.0,
            positive_spans: vec![Span { offset: 0, length: 64 }],
            positive_buckets: buckets.clone(),
            ..FloatHistogram::default()
        }));
    }
    batch.finish_series(Arc::new(Labels::from_pairs([("__name__", "h")])));
    let source = Arc::new(MemorySource::new(&batch));
    let engine = Engine::new(Options::default());
    let mut context = Context::default();
    context.patience.deadline = Some(Instant::now() + Duration::from_millis(100));
    let steps = RangeSteps { start: 0, end: 20_000_000, step: 2_000 };
    let failed = engine.range("sum_over_time(h[5h])", steps, source, &context).unwrap_err();
    assert_eq!(failed.error.message(), "query timed out in query execution");
    // All of it takes minutes.
    assert!(context.patience.deadline.unwrap().elapsed() < Duration::from_secs(10));
}

#[test]
fn values_of_one_long_series_are_counted_no_longer_when_the_time_is_over() {
    let mut batch = SampleBatch::default();
    (0..100_000).for_each(|at| batch.floats.push(at, at as f64));
    batch.finish_series(Arc::new(Labels::from_pairs([("__name__", "a")])));
    let source = Arc::new(MemorySource::new(&batch));
    let engine = Engine::new(Options::default());
    let steps = RangeSteps { start: 0, end: 99_999, step: 1 };
    let run = |context: &Context| {
        let begin = Instant::now();
        let result = engine.range("count_values(\"v\", a)", steps, Arc::clone(&source) as Arc<_>, context);
        (begin.elapsed(), result)
    };
    let (whole, result) = run(&Context::default());
    assert!(result.is_ok());
    let mut context = Context::default();
    context.patience.deadline = Some(Instant::now() + whole / 4);
    let (took, result) = run(&context);
    assert_eq!(result.unwrap_err().error.message(), "query timed out in query execution");
    assert!(took < whole * 3 / 4, "{took:?} of {whole:?}");
}

#[test]
fn operators_account_for_their_series_and_samples() {
    let engine = Engine::new(Options::default());
    let result =
        engine.range("sum by (group) (rate(a_total[5m]))", HOUR, Arc::new(counters()), &Context::default()).unwrap();
    let sum = &result.explained;
    assert_eq!((sum.name.as_str(), sum.series), ("sum by (group)", 2));
    assert_eq!((sum.children.len(), sum.children[0].series), (1, 4));
    assert!(sum.children[0].samples > sum.samples && result.stats.samples_read >= 4 * 240);
    // As Prometheus counts: a selector's samples at each step, and those of each window.
    for (query, queried) in
        [("a_total", 4), ("rate(a_total[5m])", 80), ("sum(a_total) + max_over_time(a_total[1m])", 20)]
    {
        let result = engine.instant(query, 1_800_000, Arc::new(counters()), &Context::default()).unwrap();
        assert_eq!(result.stats.samples_queried, queried, "{query}");
    }
}

#[test]
fn of_histograms_that_do_not_fit_in_a_sum_the_first_is_told_and_none_behind_a_float() {
    let mut batch = SampleBatch::default();
    batch.floats.push(0, 1.0);
    batch.finish_series(Arc::new(Labels::from_pairs([("__name__", "a")])));
    for (name, schema) in [("b", 0), ("c", CUSTOM_BUCKETS_SCHEMA), ("d", 0), ("e", CUSTOM_BUCKETS_SCHEMA)] {
        batch.histograms.timestamps.push(0);
        batch.histograms.values.push(Arc::new(FloatHistogram { schema, count: 1.0, ..FloatHistogram::default() }));
        batch.finish_series(Arc::new(Labels::from_pairs([("__name__", name)])));
    }
    let engine = Engine::new(Options::default());
    for (names, expected) in [
        ("bcde", "exponential and custom buckets schemas for metric name \"c\""),
        ("bde", "exponential and custom buckets schemas for metric name \"e\""),
        ("abcd", "encountered a mix of histograms and floats for aggregation"),
    ] {
        for (operator, parts) in [("sum", 1), ("sum", 2), ("avg", 3), ("sum", 4)] {
            let query = format!("{operator}({{__name__=~\"[{names}]\"}})");
            let source = Arc::new(MemorySource::new(&batch).with_parts(parts));
            let told = engine.instant(&query, 0, source, &Context::default()).unwrap().warnings;
            assert!(told.len() == 1 && told[0].contains(expected), "{query} in {parts} parts: {told:?}");
        }
    }
}

#[test]
fn operators_tell_what_was_taken_from_series_below_them_and_what_they_gave() {
    let engine = Engine::new(Options::default());
    let explained = |query: &str, source: Arc<dyn Source>| {
        engine.range(query, HOUR, source, &Context::default()).unwrap().explained
    };
    for parts in [1, 3] {
        let query = "sum(rate(a_total[5m])) / count(a_total)";
        let root = explained(query, Arc::new(counters().with_parts(parts)));
        let [sum, count] = &root.children[..] else { panic!("two sides: {root:?}") };
        assert_eq!(root.queried, sum.queried + count.queried);
        assert_eq!((count.queried, count.samples, count.children[0].samples), (4 * 61, 61, 4 * 61));
        assert_eq!(sum.queried, sum.children[0].queried);
        assert!(sum.queried > 4 * 60 * 15 && sum.samples == 60, "{sum:?}");
        assert_eq!(root.queried_at_once, sum.children[0].queried_at_once);
        assert!(sum.queried_at_once <= sum.queried && sum.queried_at_once > sum.queried / 4, "{sum:?}");
    }
    // Floats have no count: there are no series of it.
    let counts = explained("histogram_count(a_total)", Arc::new(counters()));
    assert_eq!((counts.series, counts.samples, counts.queried), (0, 0, 4 * 61));
    // The samples of a subquery count in its windows and nowhere else.
    let windows = explained("max_over_time(a_total[5m:1m])", Arc::new(counters()));
    assert!(windows.queried > windows.children[0].queried && windows.children[0].queried > 0, "{windows:?}");
}

/// What counts as queried, and most samples at a time, of `query` at 1,800 s, or at all steps of an hour.
fn counted(query: &str, steps: Option<RangeSteps>, source: Arc<dyn Source>) -> (u64, u64) {
    let (engine, context) = (Engine::new(Options::default()), Context::default());
    let result = match steps {
        Some(steps) => engine.range(query, steps, source, &context),
        None => engine.instant(query, 1_800_000, source, &context),
    };
    let QueryResult { stats, explained, .. } = result.unwrap();
    assert_eq!(explained.queried, stats.samples_queried, "the sum of what operators took for {query}");
    (stats.samples_queried, stats.peak_samples)
}

#[test]
fn samples_of_subqueries_and_of_what_all_steps_share_count_as_in_prometheus() {
    for (query, steps, queried) in [
        ("a_total[5m]", None, 80),
        // The windows of a function alone; without one what the selector gives.
        ("sum_over_time(a_total[5m:1m])", None, 20),
        ("max_over_time(rate(a_total[2m])[10m:1m])", None, 40),
        ("max_over_time(sum_over_time(a_total[2m:1m])[10m:1m])", None, 40),
        ("a_total[5m:1m]", None, 20),
        ("sum_over_time(a_total[5m:1m])", Some(HOUR), 4 * (61 * 5 - 4 - 3 - 2 - 1)),
        // Once for each step.
        ("a_total @ 60", None, 4),
        ("a_total @ 60", Some(HOUR), 61 * 4),
        ("a_total * scalar(sum(a_total @ 60))", Some(HOUR), 2 * 61 * 4),
        ("rate(a_total[5m] @ 1800)", Some(HOUR), 61 * 80),
        ("max_over_time((a_total @ 60)[5m:1m])", Some(HOUR), 61 * 20),
        ("(a_total @ 60)[5m:1m]", None, 20),
        ("a_total + scalar(sum(a_total @ 60) + 1)", Some(HOUR), 2 * 61 * 4),
        ("timestamp(a_total)", None, 4),
    ] {
        for parts in [1, 3] {
            let found = counted(query, steps, Arc::new(counters().with_parts(parts))).0;
            assert_eq!(found, queried, "{query} in {parts} parts");
        }
    }
}

/// Why `query` at half an hour fails where so many samples are allowed, if it does.
fn within(samples_max: u64, query: &str, source: Arc<dyn Source>) -> Option<ErrorKind> {
    let engine = Engine::new(Options { samples_max, ..Options::default() });
    engine.instant(query, 1_800_000, source, &Context::default()).err().map(|failed| failed.error.kind())
}

#[test]
fn histograms_in_windows_count_as_many_samples_as_they_have_the_size_of() {
    // 168 bytes are 11 floats with their times.
    let source = || both_kinds_at([1_740_000, 1_800_000], [1_740_000, 1_800_000]);
    for query in ["h[2m]", "count_over_time(h[2m])", "rate(h[2m])", "max_over_time(h[2m:1m])"] {
        let (queried, peak) = counted(query, None, source());
        assert!(queried == 22 && peak >= 22, "{query}: {queried}, {peak}");
        assert_eq!(within(peak, query, source()), None, "{query}");
        assert_eq!(within(21, query, source()), Some(ErrorKind::Limit), "{query}");
    }
    assert_eq!(counted("count_over_time(h[1m])", None, source()), (11, 12));
}

#[test]
fn windows_count_beside_the_rows_of_earlier_batches() {
    let mut batch = SampleBatch::default();
    for series in 0..256 {
        (0..300).for_each(|at| batch.floats.push(1_500_001 + at * 1000, 1.0));
        batch.finish_series(Arc::new(Labels::from_pairs([("a", &*series.to_string())])));
    }
    // All series have the same times. The last window is there when all rows are.
    let counts = counted(r#"count_over_time({a!=""}[5m])"#, None, Arc::new(MemorySource::new(&batch)));
    assert_eq!(counts, (256 * 300, 256 + 300));
}

/// A source that gives all samples of its series, as one whose chunks are long does.
struct Whole(MemorySource);

impl Source for Whole {
    fn select(&self, request: &SelectRequest<'_>, sink: &mut BatchSink<'_>) -> Result<Selected, Error> {
        self.0.select(&SelectRequest { range: TimeRange::ALL, ..request.clone() }, sink)
    }
}

#[test]
fn of_a_bare_range_what_lies_in_the_window_counts() {
    let source = || Arc::new(Whole(counters()));
    assert_eq!(counted("a_total[5m]", None, source()), (80, 80));
    assert_eq!(within(80, "a_total[5m]", source()), None);
    assert_eq!(within(79, "a_total[5m]", source()), Some(ErrorKind::Limit));
    // Many batches, of which little is kept: one at a time is there beside it.
    let mut batch = SampleBatch::default();
    for series in 0..1024 {
        (0..64).for_each(|at| batch.floats.push(at * 15_000, 1.0));
        batch.finish_series(Arc::new(Labels::from_pairs([("a", &*series.to_string())])));
    }
    let source = Arc::new(Whole(MemorySource::new(&batch)));
    let query = r#"{a!=""}[15s]"#;
    let ask = |engine: &Engine| engine.instant(query, 600_000, Arc::clone(&source) as _, &Context::default());
    let needed = bytes_needed(|engine| ask(engine).is_ok());
    let kept = ask(&Engine::new(Options::default())).unwrap().value.heap_bytes() as u64;
    assert!((kept..batch.heap_bytes() as u64).contains(&needed), "{needed}, {kept} kept of {}", batch.heap_bytes());
}

#[test]
fn a_range_vector_is_no_range_query() {
    let engine = Engine::new(Options::default());
    let failed = engine.range("a_total[5m]", HOUR, Arc::new(counters()), &Context::default()).unwrap_err();
    let words = "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector";
    assert_eq!((failed.stage, failed.error.message()), (Stage::Prepare, words));
}

/// A source without series that remembers what it was asked for, and over what replicas are merged.
#[derive(Default)]
struct Asked(Mutex<Vec<(TimeRange, TimeRange)>>);

impl Source for Asked {
    fn select(&self, request: &SelectRequest<'_>, _sink: &mut BatchSink<'_>) -> Result<Selected, Error> {
        self.0.lock().unwrap().push((request.range, request.extent));
        Ok(Selected::default())
    }
}

/// What selectors ask for and merge over, Unix milliseconds, when `query` is asked at 10,007 s.
fn asked_for(query: &str) -> Vec<[i64; 4]> {
    let engine = Engine::new(Options { syntax: super::syntax::Options::ALL, ..Options::default() });
    let source = Arc::new(Asked::default());
    engine.instant(query, 10_007_000, Arc::clone(&source) as Arc<dyn Source>, &Context::default()).unwrap();
    let asked = source.0.lock().unwrap();
    asked.iter().map(|(range, all)| [range.min_time, range.max_time, all.min_time, all.max_time]).collect()
}

#[test]
fn selectors_in_a_subquery_ask_from_where_its_range_begins() {
    // The first step is at 9,720 s.
    assert_eq!(asked_for("count_over_time(a[5m:20s])"), [[9_407_001, 10_007_000, 9_407_001, 10_007_000]]);
    let nested = asked_for("sum_over_time(rate(a[1m])[2m:7s] offset 10s)");
    assert_eq!(nested, [[9_817_001, 9_997_000, 9_817_001, 9_997_000]]);
}

#[test]
fn replicas_are_merged_over_all_that_extended_windows_look_at() {
    assert_eq!(asked_for("increase(a[1m] anchored)"), [[9_647_001, 10_007_000, 9_647_001, 10_007_000]]);
    assert_eq!(asked_for("increase(a[1m] smoothed)"), [[9_647_001, 10_307_000, 9_647_001, 10_307_000]]);
    // Prometheus asks for one millisecond less, which the sample before a step may need.
    assert_eq!(asked_for("a smoothed"), [[9_707_000, 10_307_000, 9_707_000, 10_307_000]]);
}

#[test]
fn sort_warns_in_a_range_of_one_step_too() {
    let engine = Engine::new(Options::default());
    let warnings = |query: &str, end: i64| {
        let steps = RangeSteps { start: 600_000, end, step: 60_000 };
        engine.range(query, steps, Arc::new(counters()), &Context::default()).unwrap().warnings.len()
    };
    for query in ["sort(a_total)", "sort_desc(a_total)"] {
        assert_eq!([600_000, 600_001, 659_999, 660_000].map(|end| warnings(query, end)), [0, 1, 1, 1], "{query}");
    }
    // What is the same at all steps is sorted once; a subquery has an end of its own.
    assert_eq!(warnings("sort(a_total @ 60)", 660_000), 0);
    assert_eq!(warnings("max_over_time(sort(a_total)[7m:5m])", 600_000), 1);
    // It is the last step, wherever the query ends.
    let aligned = "max_over_time(sort(a_total)[5m:5m])";
    assert_eq!([600_000, 600_001, 659_999, 660_000].map(|end| warnings(aligned, end)), [0, 0, 0, 1]);
}

#[test]
fn of_what_fails_in_a_match_the_earliest_step_is_told() {
    let engine = Engine::new(Options::default());
    let told = |query: &str| {
        let failed = engine.range(query, HOUR, Arc::new(counters()), &Context::default()).unwrap_err();
        failed.error.message().to_owned()
    };
    let (early, late) = ("(a_total and on() vector(time()) < 600)", "(a_total and on() vector(time()) > 900)");
    let one = r#"(a_total{instance="0"} and on() vector(time()) < 600)"#;
    let duplicate = "found duplicate series for the match group {}";
    let multiple = "multiple matches for labels";
    assert!(told(&format!("a_total + on() {early}")).starts_with(duplicate));
    assert!(told(&format!("a_total + on() ({one} or {late})")).starts_with(multiple));
    assert!(told(&format!("{late} + on() ({one} or {late})")).starts_with(duplicate));
}
