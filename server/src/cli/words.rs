//! The words of a command line as kingpin takes them: `@file` stands for the lines of a file.

use std::ffi::OsString;
use std::fs;

/// `words` with each `@file` replaced by the lines of that file, without those that are empty or begin with
/// `#`. What comes after `--` stays as it is. The error names the file.
pub fn expand(words: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, String> {
    let mut expanded = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            expanded.push(word);
            expanded.extend(words.by_ref());
        } else if let Some(path) = word.to_str().and_then(|word| word.strip_prefix('@')) {
            let text = fs::read_to_string(path)
                .map_err(|error| format!("@{path}: cannot read flags from the file {path:?}: {error}"))?;
            let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            expanded.extend(lines.map(OsString::from));
        } else {
            expanded.push(word);
        }
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_file_stand_where_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flags");
        fs::write(&path, "# of all\n--log.level=debug\n\n--data-dir=a folder\n").unwrap();
        let file = format!("@{}", path.display());
        let words = ["uru", "store", &file, "--x=@y", "--", &file].map(OsString::from);
        let found = expand(words).unwrap();
        assert_eq!(found, ["uru", "store", "--log.level=debug", "--data-dir=a folder", "--x=@y", "--", &file]);
        let error = expand(["uru", "@/nowhere"].map(OsString::from)).unwrap_err();
        assert!(error.contains("/nowhere"), "{error}");
    }
}
