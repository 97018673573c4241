//! The parser against what Prometheus 3.14's says of 2,570 queries: verdict, error, canonical form.

use engine::promql::syntax::{Options, parse, prettify};
use serde_json::Value;

#[test]
fn every_recorded_query_gets_prometheus_verdict_error_and_form() {
    let Some(path) = tests::shared("golden/promql-parse.jsonl") else { return };
    let recorded = std::fs::read_to_string(path).expect("the recording is text");
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in recorded.lines() {
        let case: Value = serde_json::from_str(line).expect("each line is JSON");
        let text = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
        let query = text("Expr");
        let (printed, error) = match parse(&query, Options::ALL) {
            Ok(expr) => (expr.to_string(), String::new()),
            Err(error) => (String::new(), error.to_string()),
        };
        if printed != text("Str") || error != text("Err") || error.is_empty() != (case["OK"] == true) {
            wrong.push(format!("{}:{} {query:?}: {printed:?} {error:?}, recorded {case}", text("File"), case["Line"]));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 2_570, "only {count} queries are recorded");
}

#[test]
fn recorded_queries_round_trip_plain_and_formatted() {
    let Some(path) = tests::shared("golden/promql-parse.jsonl") else { return };
    let recorded = std::fs::read_to_string(path).expect("the recording is text");
    for line in recorded.lines() {
        let case: Value = serde_json::from_str(line).expect("each line is JSON");
        let printed = case["Str"].as_str().unwrap_or_default();
        // An infinity prints with a sign, which reads back as one before a number.
        if case["OK"] != true || printed.contains("Inf") {
            continue;
        }
        let expr = parse(printed, Options::ALL).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(expr.to_string(), printed);
        let formatted = prettify(&expr);
        let again = parse(&formatted, Options::ALL).unwrap_or_else(|error| panic!("{formatted}: {error}"));
        assert_eq!(again.to_string(), printed, "{formatted}");
    }
}
