//! Relabelling: rules that rewrite, drop and choose label sets, as Prometheus' `relabel_configs`.

use md5::{Digest, Md5};
use serde::{Deserialize, Deserializer};

use super::error::Error;
use super::labels::{Labels, LabelsBuilder};
use super::regexp::Regexp;
use super::text::{ByteString, Quoted};

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Action {
    /// Writes `replacement` to `target_label` where `regex` matches the source.
    #[default]
    Replace,
    /// Drops sets whose source does not match `regex`.
    Keep,
    /// Drops sets whose source matches `regex`.
    Drop,
    /// Drops sets whose source differs from `target_label`.
    KeepEqual,
    /// Drops sets whose source equals `target_label`.
    DropEqual,
    /// Writes the source's hash modulo `modulus` to `target_label`.
    HashMod,
    /// Copies labels whose name matches `regex` to the name `replacement`.
    LabelMap,
    /// Removes labels whose name matches `regex`.
    LabelDrop,
    /// Removes labels whose name does not match `regex`.
    LabelKeep,
    /// Writes the source in lower case to `target_label`.
    Lowercase,
    /// Writes the source in upper case to `target_label`.
    Uppercase,
}

const ACTIONS: [Action; 11] = [
    Action::Replace,
    Action::Keep,
    Action::Drop,
    Action::KeepEqual,
    Action::DropEqual,
    Action::HashMod,
    Action::LabelMap,
    Action::LabelDrop,
    Action::LabelKeep,
    Action::Lowercase,
    Action::Uppercase,
];

impl Action {
    /// Its name in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::KeepEqual => "keepequal",
            Self::DropEqual => "dropequal",
            Self::HashMod => "hashmod",
            Self::LabelMap => "labelmap",
            Self::LabelDrop => "labeldrop",
            Self::LabelKeep => "labelkeep",
            Self::Lowercase => "lowercase",
            Self::Uppercase => "uppercase",
        }
    }

    /// The action called `name`, in any case.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let lower = name.to_lowercase();
        let known = ACTIONS.into_iter().find(|action| action.as_str() == lower);
        known.ok_or_else(|| Error::invalid(format!("unknown relabel action {}", Quoted(name.as_bytes()))))
    }

    fn is_equality(self) -> bool {
        matches!(self, Self::KeepEqual | Self::DropEqual)
    }

    fn is_case(self) -> bool {
        matches!(self, Self::Lowercase | Self::Uppercase)
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).map_err(serde::de::Error::custom)
    }
}

/// A rule as it is written in configuration; what is left out has Prometheus' default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Labels whose values, joined by `separator`, are the source.
    pub source_labels: Vec<String>,
    /// What stands between the values of source labels.
    pub separator: String,
    /// What the source, or a label's name, must match as a whole.
    pub regex: Option<String>,
    /// Divisor of the hash.
    pub modulus: u64,
    /// The label that is written; may refer to groups of `regex`.
    pub target_label: String,
    /// What is written; may refer to groups of `regex`.
    pub replacement: String,
    /// What is done.
    pub action: Action,
}

const SEPARATOR: &str = ";";
const REGEX: &str = "(.*)";
const REPLACEMENT: &str = "$1";

impl Default for Config {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: SEPARATOR.to_owned(),
            regex: Some(REGEX.to_owned()),
            modulus: 0,
            target_label: String::new(),
            replacement: REPLACEMENT.to_owned(),
            action: Action::Replace,
        }
    }
}

impl Config {
    /// Fails in Prometheus' words when the fields don't fit the action.
    fn validate(&self) -> Result<(), Error> {
        let action = self.action;
        let name = action.as_str();
        let quoted = |text: &str| Quoted(text.as_bytes()).to_string();
        let invalid = |message: String| Err(Error::invalid(message));
        let writes = matches!(action, Action::Replace | Action::HashMod) || action.is_case() || action.is_equality();
        if let Some(label) = self.source_labels.iter().find(|label| label.is_empty()) {
            return invalid(format!("{} is not a valid label name", quoted(label)));
        }
        if action == Action::HashMod && self.modulus == 0 {
            return invalid("relabel configuration for hashmod requires non-zero modulus".to_owned());
        }
        if writes && self.target_label.is_empty() {
            return invalid(format!("relabel configuration for {name} action requires 'target_label' value"));
        }
        if (action.is_case() || action.is_equality()) && self.replacement != REPLACEMENT {
            return invalid(format!("'replacement' can not be set for {name} action"));
        }
        if action == Action::LabelMap && self.replacement.is_empty() {
            return invalid(format!("{} is invalid 'replacement' for {name} action", quoted(&self.replacement)));
        }
        let is_plain = self.modulus == 0 && self.separator == SEPARATOR && self.replacement == REPLACEMENT;
        if action.is_equality() && !(is_plain && self.regex.as_deref() == Some(REGEX)) {
            let fields = "'source_labels' and `target_label`";
            return invalid(format!("{name} action requires only {fields}, and no other fields"));
        }
        let is_only_regex = is_plain && self.source_labels.is_empty() && self.target_label.is_empty();
        if matches!(action, Action::LabelDrop | Action::LabelKeep) && !is_only_regex {
            return invalid(format!("{name} action requires only 'regex', and no other fields"));
        }
        Ok(())
    }
}

/// A rule that was checked and compiled.
#[derive(Debug)]
pub struct Rule {
    config: Config,
    regexp: Regexp,
}

/// What became of a label set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It stays, perhaps with other labels.
    Keep,
    /// A rule dropped it.
    Drop,
}

impl Rule {
    /// The rule that `config` writes; fails in Prometheus' words.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.validate()?;
        let regexp = Regexp::new_anchored(&ByteString::from(config.regex.as_deref().unwrap_or_default()))?;
        Ok(Self { config, regexp })
    }

    /// What the rule was made from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn apply(&self, labels: &mut LabelsBuilder) -> Verdict {
        let config = &self.config;
        let source = self.source(labels);
        let target = config.target_label.as_str();
        let drops = match config.action {
            Action::Drop => self.regexp.is_match(&source),
            Action::Keep => !self.regexp.is_match(&source),
            Action::DropEqual => labels.get(target).unwrap_or_default() == source,
            Action::KeepEqual => labels.get(target).unwrap_or_default() != source,
            _ => false,
        };
        match config.action {
            Action::Replace => self.replace(&source, labels),
            Action::Lowercase => drop(labels.set(target, &lowercase(&source))),
            Action::Uppercase => drop(labels.set(target, &uppercase(&source))),
            Action::HashMod => drop(labels.set(target, &(hash(&source) % config.modulus).to_string())),
            Action::LabelMap | Action::LabelDrop | Action::LabelKeep => self.rename(labels),
            Action::Drop | Action::Keep | Action::DropEqual | Action::KeepEqual => {}
        }
        if drops { Verdict::Drop } else { Verdict::Keep }
    }

    fn source(&self, labels: &LabelsBuilder) -> String {
        let names = &self.config.source_labels;
        let values: Vec<&str> = names.iter().map(|name| labels.get(name).unwrap_or_default()).collect();
        values.join(&self.config.separator)
    }

    fn replace(&self, source: &str, labels: &mut LabelsBuilder) {
        let Some(target) = self.regexp.expand(source, &self.config.target_label) else { return };
        if target.is_empty() {
            return;
        }
        let value = self.regexp.expand(source, &self.config.replacement).unwrap_or_default();
        labels.set(&target, &value);
    }

    /// Copies or removes labels by their names.
    fn rename(&self, labels: &mut LabelsBuilder) {
        let before = labels.build();
        for (name, value) in before.iter() {
            let matches = self.regexp.is_match(name);
            match self.config.action {
                Action::LabelMap if matches => {
                    let copy = self.regexp.expand(name, &self.config.replacement).unwrap_or_default();
                    if !copy.is_empty() {
                        labels.set(&copy, value);
                    }
                }
                Action::LabelDrop if matches => drop(labels.remove(name)),
                Action::LabelKeep if !matches => drop(labels.remove(name)),
                _ => {}
            }
        }
    }
}

/// Applies `rules` one after the other; stops at the one that drops the set.
pub fn process(rules: &[Rule], labels: &mut LabelsBuilder) -> Verdict {
    for rule in rules {
        if rule.apply(labels) == Verdict::Drop {
            return Verdict::Drop;
        }
    }
    Verdict::Keep
}

/// `labels` after `rules`; `None` when they drop the set.
pub fn relabel(rules: &[Rule], labels: &Labels) -> Option<Labels> {
    let mut builder = LabelsBuilder::from_labels(labels);
    (process(rules, &mut builder) == Verdict::Keep).then(|| builder.build())
}

/// The last eight bytes of the MD5 of `source`, big-endian.
fn hash(source: &str) -> u64 {
    let digest = Md5::digest(source.as_bytes());
    digest.iter().skip(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
}

/// Character by character, as Go does it: no character becomes several.
fn lowercase(text: &str) -> String {
    text.chars().map(|char| char.to_lowercase().next().unwrap_or(char)).collect()
}

/// Character by character, as Go does it: what would become several characters stays.
fn uppercase(text: &str) -> String {
    let upper = |char: char| {
        let mut upper = char.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(single), None) => single,
            _ => char,
        }
    };
    text.chars().map(upper).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(action: Action) -> Config {
        Config { action, ..Config::default() }
    }

    fn relabelled(config: Config) -> Option<String> {
        let labels = Labels::from_pairs([("a", "foo"), ("b", "Bar"), ("c", "baz"), ("meta_ip", "1")]);
        relabel(&[Rule::new(config).unwrap()], &labels).map(|labels| labels.to_string())
    }

    fn from_source(action: Action, source: &[&str], target: &str) -> Config {
        let source_labels = source.iter().map(|name| (*name).to_owned()).collect();
        Config { source_labels, target_label: target.to_owned(), ..config(action) }
    }

    #[test]
    fn every_action_does_what_prometheus_does() {
        let regex = |config: Config, regex: &str, replacement: &str| Config {
            regex: Some(regex.to_owned()),
            replacement: replacement.to_owned(),
            ..config
        };
        let all = r#"a="foo", b="Bar", c="baz", meta_ip="1""#;
        for (config, expected) in [
            (
                regex(from_source(Action::Replace, &["a", "b"], "d"), "f(.*);(?P<x>.*)r", "$1-${x}"),
                Some(r#"a="foo", b="Bar", c="baz", d="oo-Ba", meta_ip="1""#),
            ),
            (
                regex(from_source(Action::Replace, &["a"], "${1}_x"), "(f).*", "v"),
                Some(r#"a="foo", b="Bar", c="baz", f_x="v", meta_ip="1""#),
            ),
            (regex(from_source(Action::Replace, &["a"], "b"), ".*", ""), Some(r#"a="foo", c="baz", meta_ip="1""#)),
            (regex(from_source(Action::Replace, &["a"], "d"), "o+", "v"), Some(all)),
            (regex(from_source(Action::Keep, &["a"], ""), "fo.", "$1"), Some(all)),
            (regex(from_source(Action::Keep, &["a"], ""), "f", "$1"), None),
            (regex(from_source(Action::Drop, &["a", "b"], ""), "foo;Bar", "$1"), None),
            (from_source(Action::KeepEqual, &["a"], "b"), None),
            (from_source(Action::DropEqual, &["a"], "b"), Some(all)),
            (from_source(Action::Lowercase, &["b"], "c"), Some(r#"a="foo", b="Bar", c="bar", meta_ip="1""#)),
            (from_source(Action::Uppercase, &["b"], "c"), Some(r#"a="foo", b="Bar", c="BAR", meta_ip="1""#)),
            (
                Config { modulus: 1000, ..from_source(Action::HashMod, &["c"], "d") },
                Some(r#"a="foo", b="Bar", c="baz", d="976", meta_ip="1""#),
            ),
            (
                regex(config(Action::LabelMap), "meta_(.*)", "$1"),
                Some(r#"a="foo", b="Bar", c="baz", ip="1", meta_ip="1""#),
            ),
            (regex(config(Action::LabelDrop), "[ab]", "$1"), Some(r#"c="baz", meta_ip="1""#)),
            (regex(config(Action::LabelKeep), "[ab]", "$1"), Some(r#"a="foo", b="Bar""#)),
        ] {
            let shown = format!("{config:?}");
            assert_eq!(relabelled(config), expected.map(|labels| format!("{{{labels}}}")), "{shown}");
        }
    }

    #[test]
    fn fields_that_do_not_fit_the_action_are_refused() {
        for (config, words) in [
            (config(Action::HashMod), "relabel configuration for hashmod requires non-zero modulus"),
            (config(Action::Replace), "relabel configuration for replace action requires 'target_label' value"),
            (
                Config { replacement: "x".to_owned(), ..from_source(Action::Lowercase, &["a"], "b") },
                "'replacement' can not be set for lowercase action",
            ),
            (
                Config { separator: ",".to_owned(), ..from_source(Action::DropEqual, &["a"], "b") },
                "dropequal action requires only 'source_labels' and `target_label`, and no other fields",
            ),
            (from_source(Action::LabelDrop, &["a"], ""), "labeldrop action requires only 'regex', and no other fields"),
            (
                Config { replacement: String::new(), ..config(Action::LabelMap) },
                "\"\" is invalid 'replacement' for labelmap action",
            ),
            (
                Config { regex: Some("(".to_owned()), ..config(Action::Keep) },
                "error parsing regexp: missing closing ): `(`",
            ),
        ] {
            assert_eq!(Rule::new(config).unwrap_err().message(), words);
        }
    }

    #[test]
    fn configuration_has_prometheus_defaults() {
        let parse = |json: &str| serde_json::from_str::<Config>(json);
        assert_eq!(parse("{}").unwrap(), Config::default());
        assert_eq!(
            parse(r#"{"action":"LabelDrop","regex":null}"#).unwrap(),
            Config { regex: None, ..config(Action::LabelDrop) }
        );
        let error = parse(r#"{"action":"nope"}"#).unwrap_err().to_string();
        assert!(error.starts_with("unknown relabel action \"nope\""), "{error}");
    }
}
