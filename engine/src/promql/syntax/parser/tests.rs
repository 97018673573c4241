//! What the parser accepts and refuses, and that nothing makes it fall over.

use proptest::prelude::*;

use super::super::{
    Expr, HEIGHT_MAX, NESTING_MAX, Options, ParseError, parse, parse_metric, parse_selector, parse_within, prettify,
};
use crate::model::{Allowance, Budget, Error, ErrorKind, Matcher};

fn parse_match(query: &str) -> Result<Vec<Matcher>, ParseError> {
    super::parse_match(query, &mut Allowance::default())
}

fn error(query: &str) -> String {
    parse(query, Options::ALL).unwrap_err().to_string()
}

#[test]
fn queries_print_in_canonical_form() {
    for (query, printed) in [
        ("SUM(a{b='c'}) BY (d)", r#"sum by (d) (a{b="c"})"#),
        ("-2^a offset -1h30m", "-2 ^ a offset -1h30m"),
        ("a offset -90m", "a offset -1h30m"),
        (r#"{"x.y", "l m"=~"n.*"}[5m] @ 1.5"#, r#"{"l m"=~"n.*",__name__="x.y"}[5m] @ 1.500"#),
        ("0x1f + 1_000 + 017 + 5m", "31 + 1000 + 15 + 5m"),
        (r#""\xff" # comment"#, r#""\xff""#),
        ("a[(step() + 5m) * 2:1m] offset -(3m)", "a[(step() + 5m) * 2:1m] offset -(3m)"),
        ("a </ b + on (b) fill (2) c offset (5m)", "a </ b + on (b) fill (2) c offset (5m)"),
        ("a + on(b) group_left fill_right(-1) c", "a + on (b) group_left () fill_right (-1) c"),
    ] {
        assert_eq!(parse(query, Options::ALL).unwrap().to_string(), printed, "{query}");
    }
}

#[test]
fn errors_name_the_place_and_what_was_expected() {
    for (query, words) in [
        ("", "unknown position: parse error: no expression found in input"),
        ("a +\n\n  sum(b c)", r#"3:9: parse error: unexpected identifier "c" in aggregation"#),
        ("a[5m", "1:5: parse error: unclosed left bracket"),
        ("sum by (without) (a)", r#"1:9: parse error: unexpected <without> in grouping opts, expected label"#),
    ] {
        assert_eq!(error(query), words);
    }
}

#[test]
fn what_regexps_compile_to_counts_as_long_as_the_tree_is_kept_and_a_limit_is_told_as_one() {
    let memory = Budget::new("--query.memory-limit", 1 << 20);
    let within = |query| parse_within(query, Options::default(), &mut Allowance::of_request(&memory));
    let tree = within(r#"sum(up{a=~"x[0-9]+y.*z"})"#).unwrap();
    assert!(memory.usage().used > 0);
    let again = tree.clone();
    drop(tree);
    assert!(memory.usage().used > 0);
    drop(again);
    assert_eq!(memory.usage().used, 0);
    let error = Error::from(within(r#"up + down{a=~"[\\pL]{500}0"}"#).unwrap_err());
    assert_eq!((error.kind(), memory.usage().used), (ErrorKind::Limit, 0));
    let words = r#"1:11: parse error: a=~"[\\pL]{500}0": --query.memory-limit: "#;
    assert!(error.message().starts_with(words), "{error}");
}

#[test]
fn experimental_syntax_must_be_switched_on() {
    for (query, words) in [
        (
            "limitk(1, a)",
            "1:1: parse error: limitk() is experimental and must be enabled with \
          --enable-feature=promql-experimental-functions",
        ),
        ("info(a)", r#"1:1: parse error: function "info" is not enabled"#),
        ("a[5m] smoothed", "1:1: parse error: smoothed modifier is experimental and not enabled"),
        ("a + fill(0) b", "1:1: parse error: binop fill modifiers are experimental and not enabled"),
    ] {
        assert_eq!(parse(query, Options::default()).unwrap_err().to_string(), words);
        assert!(parse(query, Options::ALL).is_ok(), "{query}");
    }
}

#[test]
fn durations_may_be_expressions_without_a_feature() {
    for query in ["a[step()]", "a[5m * 2:1m]", "a offset (5m)", "a offset -min_of(step(), 5m)"] {
        assert_eq!(parse(query, Options::default()).unwrap().to_string(), query);
    }
}

#[test]
fn selectors_and_metrics_stand_alone() {
    assert_eq!(parse_selector("{}").unwrap(), []);
    assert_eq!(parse_selector(r#"a{b!="c"}"#).unwrap().len(), 2);
    assert!(parse_selector("a offset 5m").is_err());
    assert_eq!(parse_metric(r#"a{b="c", "d e"="f"}"#).unwrap().to_string(), r#"{__name__="a", b="c", "d e"="f"}"#);
    assert!(parse_metric(r#"a{b=~"c"}"#).is_err());
}

#[test]
fn modifiers_behind_a_selector_say_nothing_of_which_series_there_are() {
    for query in [r#"a{b="c"}"#, r#"a{b="c"} offset 5m"#, r#"a{b="c"} @ 10 offset -5m"#] {
        assert_eq!(parse_match(query).unwrap(), parse_selector(r#"a{b="c"}"#).unwrap(), "{query}");
    }
    for query in [r#"{b=~".*"}"#, r#"{b=~".*"} offset 5m"#, r#"{b=~".*"} @ 5"#] {
        assert_eq!(parse_match(query).unwrap(), parse_selector(r#"{b=~".*"}"#).unwrap(), "{query}");
    }
    assert_eq!(parse_match("{} offset 5m").unwrap(), []);
    for query in [r#"a{__name__="b"}"#, r#"a{__name__="b"} offset 5m"#] {
        let refused = "1:1: parse error: metric name must not be set twice: \"a\" or \"b\"";
        assert_eq!(parse_match(query).unwrap_err().to_string(), refused);
    }
    for query in ["a[5m]", "a + b", "(a)", "1", "a offset", "{} + {}", "{}[5m]"] {
        assert_eq!(
            parse_match(query).unwrap_err().to_string(),
            parse_selector(query).unwrap_err().to_string(),
            "{query}"
        );
    }
}

#[test]
fn deep_queries_give_an_error_and_not_an_overflow() {
    let deep = 10_000;
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("-", "a", ""),
        ("abs(", "a", ")"),
        ("sum(", "a", ")"),
        ("a ^ ", "a", ""),
        ("a == bool ", "a", ""),
        ("a[", "step()", ""),
        ("", "a[5m:]", "[5m:]"),
        ("", "a[", "-"),
        ("", "a[step()", " + (1"),
        ("", "a offset ", "-"),
        ("", "a", " + a"),
        ("", "a", " + a)"),
    ] {
        let query = format!("{}{middle}{}", open.repeat(deep), close.repeat(deep));
        assert!(parse(&query, Options::ALL).is_err(), "{open}{middle}{close}");
    }
    let words = format!("expression nests deeper than the limit of {NESTING_MAX}");
    assert!(error(&"(".repeat(deep)).ends_with(&words));
}

#[test]
fn the_deepest_accepted_queries_print_and_compare() {
    let half = NESTING_MAX as usize / 2 - 1;
    let chain = format!("a{}", " + a".repeat(HEIGHT_MAX as usize - 1));
    let parens = format!("{}a{}", "(".repeat(half), ")".repeat(half));
    for query in [chain, parens] {
        let expr = parse(&query, Options::ALL).unwrap();
        assert_eq!(parse(&expr.to_string(), Options::ALL).unwrap(), expr.clone());
        assert!(!prettify(&expr).is_empty());
        assert_eq!(expr.to_string(), query);
    }
}

/// Tokens that make sense next to each other often enough to reach deep into the parser.
fn token() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "foo",
        "a:b",
        "sum",
        "topk",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "bool",
        "offset",
        "anchored",
        "smoothed",
        "start",
        "end",
        "step",
        "range",
        "max_of",
        "and",
        "or",
        "unless",
        "atan2",
        "inf",
        "rate",
        "info",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "=",
        "==",
        "!=",
        "=~",
        "!~",
        "<",
        "</",
        ">/",
        "+",
        "-",
        "*",
        "^",
        "@",
        "1",
        "0x1f",
        "5m",
        "\"x\"",
        "'y'",
        "`z`",
        "fill(1)",
        "(foo)",
        "[5m]",
        "[5m:1m]",
        "{a=\"b\"}",
        "#",
        "\n",
        "foo[5m]",
        "by (a)",
        "on (a)",
        "step()",
        "é",
    ])
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(query in ".{0,60}") {
        let _ = parse(&query, Options::ALL);
        let _ = parse_selector(&query);
        let _ = parse_metric(&query);
    }

    #[test]
    fn what_is_printed_parses_back_to_the_same_tree(tokens in prop::collection::vec(token(), 1..12)) {
        let query = tokens.join(" ");
        if let Ok(expr) = parse(&query, Options::ALL) {
            let printed = expr.to_string();
            let again = parse(&printed, Options::ALL).map(|expr| expr.to_string());
            // Infinity is printed with a sign, which binds otherwise: upstream does the same.
            prop_assert!(printed.contains("Inf") || again.as_deref() == Ok(&printed), "{} {:?}", printed, again);
            let pretty = parse(&prettify(&expr), Options::ALL).map(|expr| expr.to_string());
            prop_assert!(printed.contains("Inf") || pretty.as_deref() == Ok(&printed), "{}", prettify(&expr));
        }
    }
}

#[test]
fn positions_of_nodes_are_bytes_of_the_query() {
    let query = "é + sum by (x) (rate(b[5m] offset 1m))";
    assert_eq!(error(query), "1:1: parse error: unexpected character: 'é'");
    let query = "1 + sum by (x) (rate(b[5m] offset 1m))";
    let Expr::Binary(binary) = parse(query, Options::ALL).unwrap() else { panic!("no binary expression") };
    let Expr::Aggregate(aggregate) = &binary.rhs else { panic!("no aggregation") };
    let slice = |expr: &Expr| &query[expr.range().start..expr.range().end];
    assert_eq!(slice(&binary.rhs), "sum by (x) (rate(b[5m] offset 1m))");
    assert_eq!(slice(&aggregate.expr), "rate(b[5m] offset 1m)");
    assert_eq!(slice(aggregate.expr.children()[0]), "b[5m] offset 1m");
}
