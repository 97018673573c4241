//! Configuration values: checked once, before a port is bound.

/// Configuration that is given in a file or on the command line itself.
pub mod content;
/// How much memory there is.
pub mod memory;
/// Whole numbers in YAML.
pub mod number;
/// Which blocks a component sees.
pub mod selector;
/// How HTTP is served: TLS, users, headers.
pub mod web;

use serde::Deserialize as _;
use serde_saphyr::budget::BudgetBreach;

use crate::cli::Values;

/// Most names and values of a YAML document: those of half a million tenants with limits of their own.
const YAML_NODES_MAX: usize = 4_000_000;

/// What is wrong with the configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The flag that it came by.
    pub flag: String,
    /// What is wrong and what to change.
    pub why: String,
}

impl ConfigError {
    /// An error in the value of `--flag`.
    pub fn new(flag: &str, why: impl Into<String>) -> Self {
        Self { flag: flag.to_owned(), why: why.into() }
    }

    /// The error under the flag that was given, where that is `--flag-file` and not `--flag`.
    pub fn given_by(self, values: &Values) -> Self {
        let given = |flag: &str| values.has(flag).then(|| values.text(flag)).flatten();
        let file = format!("{}-file", self.flag);
        match (given(&self.flag), given(&file)) {
            (None, Some(path)) => Self { why: format!("{path}: {}", self.why), flag: file },
            _ => self,
        }
    }
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "--{}: {}", self.flag, self.why)
    }
}

impl std::error::Error for ConfigError {}

/// Reads a YAML document; the error names line and column.
pub fn from_yaml<T: serde::de::DeserializeOwned>(flag: &str, text: &str) -> Result<T, ConfigError> {
    // Each name and value is an event, and each list and map two.
    let (max_nodes, max_events) = (YAML_NODES_MAX, 4 * YAML_NODES_MAX);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: max_nodes, max_events: max_events },
    };
    let read = serde_saphyr::from_str_with_options(text, options);
    read.map_err(|error| ConfigError::new(flag, yaml_error(&error)))
}

/// What is wrong with a YAML document and where, without the lines around it, which may hold secrets, and without a
/// text where none is expected, which may be one.
pub fn yaml_error(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet();
    if let serde_saphyr::Error::Budget {
        breach: BudgetBreach::Nodes { nodes: count } | BudgetBreach::Events { events: count },
        ..
    } = error
    {
        let most = count.saturating_sub(1);
        return format!(
            "it has more than {most} names and values: give fewer, as of limits those of tenants alone that differ \
             from the default"
        );
    }
    let (serde_saphyr::Error::SerdeInvalidType { unexpected, expected, location }
    | serde_saphyr::Error::SerdeInvalidValue { unexpected, expected, location }) = error
    else {
        return error.to_string();
    };
    // Such as: string "abc", or: integer `5`.
    let found = unexpected.split('"').next().unwrap_or_default().trim();
    format!("invalid value: {found}, expected {expected} at line {}, column {}", location.line(), location.column())
}

/// Reads a field behind whose key there may be nothing, as templates leave it: that is its default.
pub fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_too_large_is_told_how_large_it_may_be() {
        let options = serde_saphyr::options! { budget: serde_saphyr::budget! { max_nodes: 3 } };
        let error = serde_saphyr::from_str_with_options::<Vec<u8>>("[1, 2, 3]", options).unwrap_err();
        let told = yaml_error(&error);
        assert!(told.starts_with("it has more than 3 names and values: give fewer"), "{told}");
    }

    /// Errors once quoted the lines around the one that was wrong, and the log had the keys of the bucket.
    #[test]
    fn errors_in_yaml_hold_no_line_and_no_value_of_it() {
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        struct Bucket {
            #[serde(rename = "access_key")]
            _access_key: String,
            #[serde(rename = "parts", deserialize_with = "number::whole")]
            _parts: Option<u64>,
        }
        for (text, line) in [
            ("access_key: hidden\nsecrt_key: hidden\n", "line 2"),
            ("access_key: hidden\nparts: hidden\n", "line 2"),
            ("access_key: [hidden]\n", "line 1"),
            ("access_key: hidden\n  parts: hidden\n", "line 2"),
            ("hidden\n", "line 1"),
        ] {
            let error = from_yaml::<Bucket>("objstore.config", text).unwrap_err().to_string();
            assert!(error.starts_with("--objstore.config: ") && error.contains(line), "{error}");
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
