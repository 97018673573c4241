//! Most samples at a time, as Prometheus 3.15 counts them.

use super::*;

#[test]
fn operators_count_what_prometheus_has_in_memory_from_step_to_step() {
    let engine = Engine::new(Options { syntax: crate::promql::syntax::Options::ALL, ..Options::default() });
    let source = Arc::new(counters());
    // At half an hour, and at all steps of an hour.
    for (query, instant, range) in [
        ("1", 1, 61),
        ("1 + 2", 5, 61),
        ("max_of(1, time())", 5, 185),
        ("vector(1)", 3, 61),
        ("minute()", 1, 61),
        ("a_total", 4, 244),
        ("a_total @ 60", 4, 244),
        ("sum(a_total)", 4, 244),
        ("abs(a_total)", 12, 492),
        ("abs(ceil(a_total))", 12, 492),
        ("sum(abs(a_total))", 12, 492),
        ("clamp(a_total, 1, 5)", 16, 616),
        ("-a_total", 4, 244),
        ("a_total + 1", 14, 554),
        ("1 - a_total", 14, 554),
        ("a_total > 300", 12, 410),
        ("a_total > bool 300", 14, 554),
        ("a_total + a_total", 20, 740),
        ("a_total and a_total", 20, 740),
        ("a_total or vector(1)", 15, 615),
        ("sum(a_total) / count(a_total)", 5, 305),
        ("a_total * on(group) group_left() sum by (group) (a_total)", 16, 616),
        ("topk(2, a_total)", 5, 305),
        ("quantile(0.5, a_total)", 5, 305),
        (r#"count_values("v", a_total)"#, 12, 489),
        ("rate(a_total[5m])", 24, 259),
        ("sum(rate(a_total[5m]))", 24, 259),
        ("quantile_over_time(0.5, a_total[5m])", 25, 324),
        ("max_over_time(a_total[5m:1m])", 29, 493),
        ("sum(max_over_time(rate(a_total[2m])[10m:1m]))", 54, 490),
        ("absent(a_total)", 8, 248),
        ("absent_over_time(a_total[5m])", 24, 263),
        ("scalar(a_total)", 9, 309),
        ("a_total * scalar(sum(a_total))", 14, 554),
        ("timestamp(a_total)", 8, 248),
        ("timestamp(abs(a_total))", 12, 492),
        ("sort(a_total)", 12, 492),
        (r#"sort_by_label(a_total, "group")"#, 12, 492),
        ("info(a_total)", 12, 492),
        (r#"label_replace(a_total, "x", "$1", "group", "(.*)")"#, 4, 244),
    ] {
        let context = Context::default();
        let found = engine.instant(query, 1_800_000, Arc::clone(&source) as _, &context).unwrap();
        assert_eq!(found.stats.peak_samples, instant, "{query}");
        let found = engine.range(query, HOUR, Arc::clone(&source) as _, &context).unwrap();
        assert_eq!(found.stats.peak_samples, range, "{query} at all steps");
    }
}

#[test]
fn histograms_are_gathered_without_their_buckets() {
    let source = || both_kinds_at([1_740_000, 1_800_000], [1_740_000, 1_800_000]);
    // A histogram counts for 11 samples.
    for (query, peak) in [
        ("h", 11),
        ("h * 2", 11 + 1 + 2 + 11),
        ("h + h", 22 + 2 + 11),
        ("histogram_count(h)", 11 + 1 + 1),
        ("histogram_quantile(0.5, h)", 11 + 1 + 2 + 1),
        ("histogram_fraction(0, 1, h)", 11 + 2 + 3 + 1),
        ("count_over_time(h[1m])", 11 + 1),
        ("last_over_time(h[2m])", 22 + 11),
    ] {
        assert_eq!(counted(query, None, source()).1, peak, "{query}");
    }
}
