//! Which blocks or label sets a component sees, by relabelling rules over external labels.

use std::collections::BTreeMap;

use engine::model::Labels;
use engine::model::relabel::{self, Action, Rule};
use serde::de::IgnoredAny;

use super::{ConfigError, content, from_yaml};
use crate::cli::Values;

/// Tells by a block's labels whether it is kept.
pub type Keeps = Box<dyn Fn(&Labels) -> bool + Send + Sync>;

/// Actions that can only keep or drop; others could change what a block's labels are.
const ACTIONS: [Action; 3] = [Action::Keep, Action::Drop, Action::HashMod];

/// Whether the rules of `--selector.relabel-config` keep a block of these labels: one that is dropped
/// or loses all labels is left out. A component without the flag keeps all.
pub fn keeps(values: &Values) -> Result<Keeps, ConfigError> {
    let Some(rules) = given(values)? else { return Ok(Box::new(|_| true)) };
    Ok(Box::new(move |labels| relabel::relabel(&rules, labels).is_some_and(|left| !left.is_empty())))
}

/// The rules of `--selector.relabel-config`; `None` when none are given.
pub fn given(values: &Values) -> Result<Option<Vec<Rule>>, ConfigError> {
    let flag = "selector.relabel-config";
    if !values.has(flag) {
        return Ok(None);
    }
    let environment = |name: &str| std::env::var(name).ok();
    let text = content::read(values, flag, &environment)?.filter(|text| !text.trim().is_empty());
    text.map(|text| selecting(flag, &text)).transpose().map_err(|error| error.given_by(values))
}

/// The relabelling rules in `text`, which came by `flag`, that can only keep or drop.
fn selecting(flag: &str, text: &str) -> Result<Vec<Rule>, ConfigError> {
    let rules = rules(flag, text)?;
    if let Some(other) = rules.iter().map(|rule| rule.config().action).find(|action| !ACTIONS.contains(action)) {
        let why = format!("action {} is not supported here: use keep, drop or hashmod", other.as_str());
        return Err(ConfigError::new(flag, why));
    }
    Ok(rules)
}

/// The relabelling rules in `text`, which came by `flag`.
pub fn rules(flag: &str, text: &str) -> Result<Vec<Rule>, ConfigError> {
    let configs: Vec<relabel::Config> = from_yaml(flag, text).map_err(|error| match is_map(text) {
        true => ConfigError::new(flag, "expected a list of rules, each begun by `- `"),
        false => error,
    })?;
    let rule = |(at, config): (usize, relabel::Config)| {
        Rule::new(config).map_err(|error| ConfigError::new(flag, format!("rule {}: {}", at + 1, error.message())))
    };
    configs.into_iter().enumerate().map(rule).collect()
}

/// Whether `text` is a map, as that of one rule is.
fn is_map(text: &str) -> bool {
    serde_saphyr::from_str::<BTreeMap<String, IgnoredAny>>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_without_a_list_and_the_number_of_a_bad_one_are_told_of() {
        let error = |text: &str| rules("f", text).map(drop).unwrap_err().to_string();
        assert_eq!(error("{action: keep, regex: a}"), "--f: expected a list of rules, each begun by `- `");
        let said = error("- {action: keep, source_labels: [a], regex: b}\n- {source_labels: [a], regex: '('}");
        assert!(said.starts_with("--f: rule 2: "), "{said}");
        let said = error("- {action: nonsense}");
        assert!(!said.contains("a list of rules"), "{said}");
    }

    #[test]
    fn rules_that_could_change_labels_select_nothing() {
        assert_eq!(
            selecting("f", "- {action: keep, source_labels: [a], regex: b}").map(|rules| rules.len()).ok(),
            Some(1)
        );
        for action in ["replace", "labelmap", "labeldrop", "labelkeep", "lowercase"] {
            let text = format!("- {{action: {action}, source_labels: [a], target_label: b, regex: a}}");
            let error = selecting("f", &text).map(drop).unwrap_err().to_string();
            assert!(error.starts_with("--f: ") && error.contains(action), "{error}");
        }
    }
}
