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

use crate::cli::Values;

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
    serde_saphyr::from_str(text).map_err(|error| ConfigError::new(flag, error.to_string()))
}
