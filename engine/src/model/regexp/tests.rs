//! Regexps against what Go's say: errors in its words, matches of the same strings.
//!
//! `vectors.jsonl` was made by a Go program over patterns of our own: the first line lists inputs,
//! each further line a pattern with the error of Prometheus' matcher, or the inputs that
//! `regexp.MatchString` of the anchored pattern accepts.

use serde_json::Value;

use super::*;

fn compile(pattern: &str) -> Result<Regexp, Error> {
    Regexp::new_anchored(&ByteString::from(pattern))
}

fn disagreements(vectors: &str) -> Vec<String> {
    let mut lines = vectors.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let inputs = lines.next().unwrap();
    let inputs: Vec<&str> = inputs["inputs"].as_array().unwrap().iter().map(|input| input.as_str().unwrap()).collect();
    let mut wrong = Vec::new();
    for line in lines {
        let pattern = line["pattern"].as_str().unwrap();
        match (compile(pattern), line["error"].as_str()) {
            (Err(error), Some(words)) if error.message() == words => {}
            (Ok(regexp), None) => {
                let expected: Vec<u64> =
                    line["matches"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap()).collect();
                let matches = |input: &str| regexp.is_match(input);
                let got: Vec<u64> = (0u64..).zip(&inputs).filter(|(_, text)| matches(text)).map(|(at, _)| at).collect();
                if got != expected {
                    wrong.push(format!("{pattern:?} matches {got:?}, Go's {expected:?}: {:?}", regexp.shape));
                }
                for text in inputs.iter().filter(|text| matches(text)) {
                    assert!(
                        text.starts_with(regexp.prefix()) && text.ends_with(regexp.suffix()),
                        "{pattern:?} {text:?}"
                    );
                    assert!(regexp.set_matches().is_none_or(|set| set.iter().any(|known| known == text)));
                }
            }
            (got, words) => wrong.push(format!("{pattern:?} gives {:?}, Go {words:?}", got.err())),
        }
    }
    wrong
}

#[test]
fn patterns_match_and_fail_as_in_go() {
    let wrong = disagreements(include_str!("vectors.jsonl"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn shapes_are_found() {
    for (pattern, set) in [
        ("a(b|[cd])", &["ab", "ac", "ad"][..]),
        ("foo|bar|foo", &["bar", "foo"]),
        ("^(?:foo)$", &["foo"]),
        ("", &[""]),
        ("(?i)1", &["1"]),
    ] {
        assert_eq!(compile(pattern).unwrap().set_matches().unwrap(), set, "{pattern}");
    }
    for (pattern, prefix, suffix) in [
        ("foo.*", "foo", ""),
        (".+foo", "", "foo"),
        ("foo[0-9]+bar", "foo", "bar"),
        (".*foo.*", "", ""),
        ("(?i)foo.*", "", ""),
        ("foo|.*", "", ""),
        ("a?b", "", "b"),
    ] {
        let regexp = compile(pattern).unwrap();
        assert_eq!((regexp.prefix(), regexp.suffix()), (prefix, suffix), "{pattern}");
        assert_eq!(regexp.set_matches(), None);
    }
}

#[test]
fn templates_are_expanded_as_in_go() {
    let regexp = compile("(?P<first>[a-z]+)-(\\d+)?(x)?.*").unwrap();
    for (template, expanded) in [
        ("$1", "ab"),
        ("${1}x$2", "abx12"),
        ("$1x", ""),
        ("$first.${first}", "ab.ab"),
        ("$0", "ab-12.5"),
        ("$$1 $ ${ ${1 $-", "$1 $ ${ ${1 $-"),
        ("$3|$9|$nope|$01", "|||"),
        ("plain", "plain"),
    ] {
        assert_eq!(regexp.expand("ab-12.5", template).as_deref(), Some(expanded), "{template}");
    }
    assert_eq!(regexp.expand("12", "$1"), None);
    assert_eq!(compile("foo|bar").unwrap().expand("bar", "<$0$1>").as_deref(), Some("<bar>"));
    assert_eq!(compile(".*").unwrap().expand("x", "$0").as_deref(), Some("x"));
}

#[test]
fn patterns_that_would_take_too_much_are_refused() {
    for pattern in ["(".repeat(100_000), "(?:\\pL{500}){2}".repeat(200), "[".repeat(10_000)] {
        assert!(compile(&pattern).is_err());
    }
    assert!(compile(&format!("{}a{}", "(".repeat(200), ")".repeat(200))).unwrap().is_match("a"));
}

#[test]
fn patterns_that_would_take_too_long_to_parse_are_refused() {
    for pattern in [
        "\\pL".repeat(10_000),
        format!("[{}]", "\\pL".repeat(10_000)),
        format!("(?i){}", "[b-\u{f0000}]".repeat(1000)),
        format!("(?i){}", "\\p{Any}".repeat(100)),
        format!("(?i){}", "\\P{Any}".repeat(100)),
        "\\p{Zl}".repeat(10_000),
        ".".repeat((1 << 20) + 1),
    ] {
        let error = compile(&pattern).unwrap_err();
        assert!(error.message().contains("expression too large"), "{}", &pattern[..20]);
    }
    // Descending characters that do not touch were sorted once for each.
    let class: String = (0..20_000u32).rev().filter_map(|at| char::from_u32(0x10000 + 2 * at)).collect();
    assert!(compile(&format!("[{class}]x.y")).unwrap().is_match("\u{10004}x.y"));
    // Long literals are made in place.
    let long = compile(&"a\\.".repeat(100_000)).unwrap();
    assert!(long.is_match(&"a.".repeat(100_000)) && long.set_matches().is_some());
    // A list of literals may be longer.
    let list = (0..200_000).map(|number| format!("host-{number}")).collect::<Vec<_>>().join("|");
    assert!(compile(&list).unwrap().is_match("host-199999"));
}

#[test]
fn bytes_that_are_not_text_match_nothing() {
    let literal = Regexp::new_anchored(&ByteString::from(vec![0xff])).unwrap();
    assert!(!literal.is_match("\u{ff}") && !literal.is_match(""));
    assert!(Regexp::new_anchored(&ByteString::from(b".\xff".to_vec())).is_err());
}
