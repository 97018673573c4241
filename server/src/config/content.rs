//! Configuration that is given in a file (`--x-file`) or on the command line itself (`--x`).

use std::path::Path;

use super::ConfigError;
use crate::cli::Values;

/// The content of the pair of flags `name-file` and `name`, with `$(VARIABLE)` replaced by the value
/// that `environment` has for it; `None` when neither flag is given.
pub fn read(
    values: &Values,
    name: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<String>, ConfigError> {
    let file_flag = format!("{name}-file");
    match (values.text(&file_flag), values.text(name)) {
        (Some(_), Some(_)) => Err(ConfigError::new(name, format!("give either --{file_flag} or --{name}, not both"))),
        (Some(path), None) => read_file(&file_flag, Path::new(path), environment).map(Some),
        (None, Some(text)) => expand(text, environment).map(Some).map_err(|why| ConfigError::new(name, why)),
        (None, None) => Ok(None),
    }
}

/// The content of the file that `flag` names, with `$(VARIABLE)` replaced like that of a pair of flags.
pub fn read_file(flag: &str, path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::new(flag, format!("cannot read {path:?}: {error}")))?;
    expand(&text, environment).map_err(|why| ConfigError::new(flag, why))
}

/// Replaces `$(VARIABLE)`.
fn expand(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("$(") {
        expanded.push_str(before);
        let name_len = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let (name, closed) = after.split_at(name_len);
        match closed.strip_prefix(')') {
            Some(remaining) if !name.is_empty() => {
                let value = environment(name)
                    .ok_or_else(|| format!("$({name}) refers to an environment variable that is not set"))?;
                expanded.push_str(&value);
                rest = remaining;
            }
            _ => {
                expanded.push_str("$(");
                rest = after;
            }
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_missing_ones_named() {
        let environment = |name: &str| (name == "KEY").then(|| "secret".to_owned());
        assert_eq!(expand("a: $(KEY)\nb: $(not closed $()", &environment).unwrap(), "a: secret\nb: $(not closed $()");
        let error = expand("a: $(OTHER)", &environment).unwrap_err();
        assert!(error.contains("$(OTHER)"), "{error}");
    }

    #[test]
    fn a_file_is_read_with_its_variables_replaced_and_its_flag_is_named_in_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("limits.yaml");
        let environment = |name: &str| (name == "KEY").then(|| "secret".to_owned());
        let read = || read_file("x-file", &path, &environment);
        assert!(read().unwrap_err().to_string().starts_with("--x-file: cannot read"));
        std::fs::write(&path, "a: $(KEY)").unwrap();
        assert_eq!(read().unwrap(), "a: secret");
        std::fs::write(&path, "a: $(OTHER)").unwrap();
        assert!(read().unwrap_err().to_string().starts_with("--x-file: $(OTHER)"));
    }
}
