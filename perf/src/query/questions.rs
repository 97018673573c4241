//! The fourteen queries of `shared/tools/promdiff.py --fixed`: instant and range, few and many series,
//! sums, quantiles, joins and subqueries, over the labels that `perf blocks` writes.

/// A query and when it is evaluated.
pub struct Question {
    /// Its name in tables.
    pub name: &'static str,
    /// Path of the API.
    pub path: &'static str,
    /// Parameters, as a form.
    pub form: String,
}

const INSTANT: &[(&str, &str)] =
    &[("instant_sum_rate", "sum by (namespace) (rate(http_request_duration_seconds_count[5m]))")];

const RANGE: &[(&str, &str)] = &[
    ("range_sum_rate", "sum by (namespace) (rate(http_request_duration_seconds_count[5m]))"),
    (
        "range_p99_by_ns",
        "histogram_quantile(0.99, sum by (namespace, le) (rate(http_request_duration_seconds_bucket[5m])))",
    ),
    ("range_raw_metric", "process_bytes_00"),
    ("range_avg_over_time", "avg by (namespace) (avg_over_time(process_bytes_00[10m]))"),
    ("range_max_gauge", "max by (job) (queue_ratio_04)"),
    ("range_topk", "topk(5, sum by (pod) (rate(http_request_duration_seconds_count[5m])))"),
    (
        "range_join",
        "sum by (job) (rate(http_request_duration_seconds_sum[5m])) \
         / sum by (job) (rate(http_request_duration_seconds_count[5m]))",
    ),
    (
        "range_join_pods",
        "rate(http_request_duration_seconds_sum{handler=\"/api/v1/h0\"}[5m]) \
         / rate(http_request_duration_seconds_count{handler=\"/api/v1/h0\"}[5m])",
    ),
    ("range_subquery", "max_over_time(sum by (namespace) (rate(errors_total_03[5m]))[30m:1m])"),
    ("range_count_regex", "count by (__name__) ({__name__=~\"container_.*\", namespace=~\"team-0[1-4]\"})"),
    ("range_absent", "absent(nonexistent_metric{job=\"x\"})"),
    ("range_quantile_ot", "quantile_over_time(0.9, queue_ratio_04[15m])"),
    ("range_deriv", "sum(deriv(process_bytes_05[10m]))"),
];

/// The times that are asked about.
#[derive(clap::Args)]
pub struct Times {
    /// Start of the blocks, Unix seconds.
    #[arg(long, default_value_t = 1_789_984_800)]
    pub start: i64,
    /// End of the times that are asked about, Unix seconds.
    #[arg(long, default_value_t = 1_789_992_000)]
    pub end: i64,
    /// Seconds between steps.
    #[arg(long, default_value_t = 60)]
    pub step: i64,
}

/// Names of all questions.
#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    INSTANT.iter().chain(RANGE).map(|(name, _)| *name)
}

/// All questions over blocks of these times.
pub fn all(times: &Times) -> Vec<Question> {
    let (first, last, step) = (times.start + 600, times.end - 60, times.step);
    let instant = INSTANT.iter().map(|&(name, query)| {
        let form = format!("query={}&time={last}", encoded(query));
        Question { name, path: "/api/v1/query", form }
    });
    let range = RANGE.iter().map(|&(name, query)| {
        let form = format!("query={}&start={first}&end={last}&step={step}", encoded(query));
        Question { name, path: "/api/v1/query_range", form }
    });
    instant.chain(range).collect()
}

/// `text` as a value of a form.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut form, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            form.push(char::from(byte));
        } else {
            form.push_str(&format!("%{byte:02X}"));
        }
        form
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fourteen_queries_are_asked_within_the_block() {
        let all = all(&Times { start: 0, end: 7200, step: 60 });
        assert_eq!(all.len(), 14);
        assert!(all[0].form.ends_with("&time=7140") && all[1].form.ends_with("&start=600&end=7140&step=60"));
        assert!(all[0].form.starts_with("query=sum%20by%20%28namespace%29"), "{}", all[0].form);
    }
}
