//! `tools rules-check`: whether files of recording and alerting rules are valid, by Prometheus' rules
//! for such files and with Thanos' `partial_response_strategy`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::promql::syntax;
use serde::Deserialize;

use super::go_template;

/// Functions that templates of alerts have besides Go's own.
const FUNCTIONS: [&str; 28] = [
    "args",
    "externalURL",
    "first",
    "graphLink",
    "humanize",
    "humanize1024",
    "humanizeDuration",
    "humanizePercentage",
    "humanizeTimestamp",
    "label",
    "match",
    "now",
    "parseDuration",
    "pathPrefix",
    "query",
    "reReplaceAll",
    "safeHtml",
    "sortByLabel",
    "stripDomain",
    "stripPort",
    "strvalue",
    "tableLink",
    "title",
    "toDuration",
    "toLower",
    "toTime",
    "toUpper",
    "value",
];

/// What stands before every template of an alert.
const DEFINITIONS: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
                           {{$externalURL := .ExternalURL}}{{$value := .Value}}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "interval")]
    _interval: Option<RuleDuration>,
    #[serde(default, rename = "query_offset")]
    _query_offset: Option<RuleDuration>,
    #[serde(default, rename = "limit")]
    _limit: Option<i64>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    partial_response_strategy: String,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    record: String,
    #[serde(default)]
    alert: String,
    #[serde(default)]
    expr: String,
    #[serde(default, rename = "for")]
    hold: Option<RuleDuration>,
    #[serde(default)]
    keep_firing_for: Option<RuleDuration>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// A duration as Prometheus writes it.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct RuleDuration(bool);

impl TryFrom<String> for RuleDuration {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        crate::cli::parse::parse_duration(&text).map(|duration| Self(!duration.is_zero()))
    }
}

/// The number of rules in a file of rules, or everything that is wrong with it.
pub fn check(text: &str) -> Result<usize, Vec<String>> {
    let file = parse(text).map_err(|error| vec![error])?;
    let mut wrong = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for group in &file.groups {
        if group.name.is_empty() {
            wrong.push("Groupname should not be empty".to_owned());
        }
        if names.contains(&group.name.as_str()) {
            wrong.push(format!("groupname: {:?} is repeated in the same file", group.name));
        }
        names.push(&group.name);
        if !matches!(group.partial_response_strategy.to_ascii_uppercase().as_str(), "" | "WARN" | "ABORT") {
            let given = &group.partial_response_strategy;
            let why = "as 'partial_response_strategy'. Possible values are ABORT,WARN";
            wrong.push(format!("group {:?}: failed to unmarshal {given:?} {why}", group.name));
        }
        wrong.extend(wrong_labels(&group.labels).map(|why| format!("group {:?}: {why}", group.name)));
        for (at, rule) in group.rules.iter().enumerate() {
            let name = if rule.alert.is_empty() { &rule.record } else { &rule.alert };
            let place = format!("group {:?}, rule {at}, {name:?}", group.name);
            wrong.extend(rule.wrong().into_iter().map(|why| format!("{place}: {why}")));
        }
    }
    if wrong.is_empty() { Ok(file.groups.iter().map(|group| group.rules.len()).sum()) } else { Err(wrong) }
}

/// The first YAML document of a file: Thanos takes no notice of others.
fn parse(text: &str) -> Result<File, String> {
    let error = match serde_saphyr::from_str(text) {
        Ok(file) => return Ok(file),
        Err(error) => error,
    };
    if !matches!(error.without_snippet(), serde_saphyr::Error::MultipleDocuments { .. }) {
        return Err(error.to_string());
    }
    tracing::warn!("the file holds several YAML documents: only the rules of the first one are checked and used");
    let mut bytes = text.as_bytes();
    let first = serde_saphyr::read::<_, File>(&mut bytes).next();
    first.unwrap_or(Err(error)).map_err(|error| error.to_string())
}

impl Rule {
    fn wrong(&self) -> Vec<String> {
        let is_set = |duration: &Option<RuleDuration>| duration.as_ref().is_some_and(|duration| duration.0);
        let (is_recording, is_alerting) = (!self.record.is_empty(), !self.alert.is_empty());
        let mut wrong: Vec<String> = [
            (is_recording && is_alerting, "only one of 'record' and 'alert' must be set"),
            (!is_recording && !is_alerting, "one of 'record' or 'alert' must be set"),
            (self.expr.is_empty(), "field 'expr' must be set in rule"),
            (is_recording && !self.annotations.is_empty(), "invalid field 'annotations' in recording rule"),
            (is_recording && is_set(&self.hold), "invalid field 'for' in recording rule"),
            (is_recording && is_set(&self.keep_firing_for), "invalid field 'keep_firing_for' in recording rule"),
        ]
        .into_iter()
        .filter(|(is_wrong, _)| *is_wrong)
        .map(|(_, why)| why.to_owned())
        .collect();
        if !self.expr.is_empty()
            // Rulers take what is experimental only when they are told to.
            && let Err(error) = syntax::parse(&self.expr, syntax::Options::default())
        {
            wrong.push(format!("could not parse expression: {error}"));
        }
        if self.record.contains(['{', '}']) {
            let name = &self.record;
            wrong.push(format!("braces present in the recording rule name; should it be in expr?: {name}"));
        }
        wrong.extend(wrong_labels(&self.labels));
        let unnamed = self.annotations.keys().filter(|name| name.is_empty());
        wrong.extend(unnamed.map(|name| format!("invalid annotation name: {name}")));
        if is_alerting {
            let labels = self.labels.iter().map(|pair| ("label", pair));
            let templates = labels.chain(self.annotations.iter().map(|pair| ("annotation", pair)));
            wrong.extend(templates.filter_map(|(kind, pair)| self.wrong_template(kind, pair)));
        }
        wrong
    }

    /// What is wrong with a label or annotation as a template.
    fn wrong_template(&self, kind: &str, (name, text): (&String, &String)) -> Option<String> {
        let error = go_template::check(&format!("{DEFINITIONS}{text}"), &FUNCTIONS).err()?;
        let place = format!("{kind} {name:?}: template: __alert_{}:{}", self.alert, error.line);
        Some(format!("{place}: {}", error.message))
    }
}

fn wrong_labels(labels: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
    let wrong = labels.keys().filter(|name| name.is_empty() || *name == "__name__");
    wrong.map(|name| format!("invalid label name: {name}"))
}

/// The files that a pattern names, in which `*`, `?` and `[…]` stand for parts of a file's name.
pub fn matching(pattern: &str) -> Vec<PathBuf> {
    let path = PathBuf::from(pattern);
    if !pattern.contains(['*', '?', '[']) {
        return if path.exists() { vec![path] } else { Vec::new() };
    }
    let mut found = vec![if path.is_absolute() { PathBuf::from("/") } else { PathBuf::new() }];
    for part in path.components() {
        let std::path::Component::Normal(part) = part else {
            found.iter_mut().for_each(|found| found.push(part));
            continue;
        };
        let part = part.to_string_lossy();
        found = found.into_iter().flat_map(|folder| entries(folder, &part)).collect();
    }
    found.sort();
    found
}

/// The entries of `folder` whose names match `part`.
fn entries(folder: PathBuf, part: &str) -> Vec<PathBuf> {
    if !part.contains(['*', '?', '[']) {
        let path = folder.join(part);
        return if path.exists() { vec![path] } else { Vec::new() };
    }
    let open = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.clone() };
    let names = std::fs::read_dir(open).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let matching =
        names.filter(|name| name_matches(&part.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>()));
    matching.map(|name| folder.join(name)).collect()
}

fn name_matches(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => (0..=name.len()).any(|skipped| name_matches(rest, &name[skipped..])),
        (Some(('?', rest)), Some((_, name))) => name_matches(rest, name),
        (Some(('[', rest)), Some((first, name))) => {
            let Some(end) = rest.iter().position(|c| *c == ']') else { return false };
            let (set, negated) = match rest[..end].split_first() {
                Some(('^', set)) => (set, true),
                _ => (&rest[..end], false),
            };
            let mut is_in = false;
            let mut at = 0;
            while at < set.len() {
                let last = if set.get(at + 1) == Some(&'-') && at + 2 < set.len() { set[at + 2] } else { set[at] };
                is_in |= (set[at]..=last).contains(first);
                at += if last == set[at] { 1 } else { 3 };
            }
            is_in != negated && name_matches(&rest[end + 1..], name)
        }
        (Some((wanted, rest)), Some((first, name))) => wanted == first && name_matches(rest, name),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "
groups:
- name: a
  interval: 30s
  partial_response_strategy: warn
  rules:
  - {record: 'job:up:sum', expr: sum by (job) (up), labels: {team: x}}
  - {alert: Down, expr: up == 0, for: 5m, annotations: {summary: 'it is {{ $value }}'}}
- name: b
";

    #[test]
    fn valid_rules_are_counted() {
        assert_eq!(check(VALID), Ok(2));
        assert_eq!(check("groups: []"), Ok(0));
    }

    #[test]
    fn only_the_first_document_of_a_file_counts() {
        assert_eq!(check(&format!("---{VALID}---\nother: 1\n")), Ok(2));
        let errors = check(&format!("{}---{VALID}", VALID.replace("name: b", "name: a"))).unwrap_err();
        assert!(errors.iter().all(|error| error.contains("repeated")), "{errors:?}");
    }

    #[test]
    fn everything_that_is_wrong_is_named_with_its_place() {
        for (from, to, why) in [
            ("name: b", "name: a", "repeated"),
            ("name: b", "name: ''", "empty"),
            ("sum by", "sum bi", "could not parse expression"),
            ("alert: Down", "alert: Down, record: x", "only one of"),
            ("alert: Down, ", "", "one of 'record' or 'alert'"),
            ("expr: up == 0, ", "", "'expr' must be set"),
            ("{team: x}", "{__name__: x}", "invalid label name: __name__"),
            ("job:up:sum", "job{}", "braces"),
            ("{{ $value }}", "{{ $value", "annotation \"summary\": template: __alert_Down:1: unclosed action"),
            ("{{ $value }}", "{{ $values }}", "undefined variable \"$values\""),
            ("{{ $value }}", "{{ $value | humanise }}", "function \"humanise\" not defined"),
            ("for: 5m, ann", "labels: {a: '{{ if 1 }}'}, ann", "label \"a\": template: __alert_Down:1: unexpected EOF"),
            ("strategy: warn", "strategy: maybe", "partial_response_strategy"),
            ("expr: sum", "for: 5m, expr: sum", "invalid field 'for'"),
            ("interval: 30s", "interval: soon", "soon"),
            ("interval", "intervall", "intervall"),
        ] {
            assert!(VALID.contains(from));
            let errors = check(&VALID.replace(from, to)).unwrap_err();
            assert!(errors.iter().any(|error| error.contains(why)), "{why}: {errors:?}");
        }
    }

    #[test]
    fn patterns_find_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.yaml", "b.yaml", "c.yml"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let count = |pattern: &str| matching(folder.path().join(pattern).to_str().unwrap()).len();
        let found = ["*.yaml", "?.y*ml", "[ab].yaml", "[^a-b].*", "a.yaml", "z*", "z.yaml", "[a"].map(count);
        assert_eq!(found, [2, 3, 2, 1, 1, 0, 0, 0]);
    }
}
