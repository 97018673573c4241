//! Matchers as Alertmanager writes them and Thanos' `replicate` reads them: a list such as `a=b, c=~"d.*"`, in braces
//! or not, whose values stand in double quotes or not.

use engine::model::{MatchKind, Matcher};

/// What Go takes for space.
const SPACES: [char; 5] = [' ', '\t', '\n', '\u{c}', '\r'];

/// How a matcher may compare; `=` last, as others begin with it.
const KINDS: [MatchKind; 4] = [MatchKind::Re, MatchKind::NotRe, MatchKind::NotEq, MatchKind::Eq];

/// The matchers in `text`; none in an empty one.
pub fn parse(text: &str) -> Result<Vec<Matcher>, String> {
    let text = text.trim_matches(SPACES);
    let text = text.strip_prefix('{').unwrap_or(text);
    let text = text.strip_suffix('}').unwrap_or(text);
    let mut parts = split(text);
    // Nothing has to follow the last comma.
    parts.pop_if(|last| last.trim_matches(SPACES).is_empty());
    parts.into_iter().map(parse_one).collect()
}

/// What stands between the commas of `text` that are not within double quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, char) in text.char_indices() {
        match char {
            ',' if !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            '"' if !is_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        is_escaped = char == '\\' && !is_escaped;
    }
    parts.push(&text[start..]);
    parts
}

fn parse_one(text: &str) -> Result<Matcher, String> {
    let text = text.trim_matches(SPACES);
    let bad = || format!("{text:?} is not a matcher such as name=\"value\"");
    let is_beyond_name = |char: char| !(char.is_ascii_alphanumeric() || char == '_' || char == ':');
    let (name, rest) = text.split_at(text.find(is_beyond_name).unwrap_or(text.len()));
    if name.is_empty() || name.starts_with(|char: char| char.is_ascii_digit()) {
        return Err(bad());
    }
    let rest = rest.trim_start_matches(SPACES);
    let found = KINDS.iter().find_map(|kind| Some((*kind, rest.strip_prefix(kind.as_str())?)));
    let (kind, raw) = found.ok_or_else(bad)?;
    let value = unescaped(raw.trim_start_matches(SPACES));
    let value =
        value.ok_or_else(|| format!("{text:?}: write a double quote within the value as \\\", and close it"))?;
    Matcher::new(kind, name, value).map_err(|error| error.message().to_owned())
}

/// The value that is written as `raw`; `None` when a double quote in it is not escaped, or the last one is missing.
/// A backslash that escapes nothing is itself.
fn unescaped(raw: &str) -> Option<String> {
    let inner = raw.strip_prefix('"');
    let (mut is_open, mut chars) = (inner.is_some(), inner.unwrap_or(raw).chars());
    let mut value = String::new();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some(escaped @ ('"' | '\\')) => value.push(escaped),
                other => value.extend(['\\'].into_iter().chain(other)),
            },
            '"' if is_open && chars.as_str().is_empty() => is_open = false,
            '"' => return None,
            _ => value.push(char),
        }
    }
    (!is_open).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_are_read_as_alertmanager_reads_them() {
        for (text, expected) in [
            ("", ""),
            ("{}", ""),
            ("tenant=t0", r#"tenant="t0""#),
            (r#" {foo = "bar", dings != "bums", } "#, r#"foo="bar", dings!="bums""#),
            ("foo=bar,dings!~b.ms", r#"foo="bar", dings!~"b.ms""#),
            (r#"{quote="She said: \"Hi, ladies!\""}"#, r#"quote="She said: \"Hi, ladies!\"""#),
            (r#"code=~"5..""#, r#"code=~"5..""#),
            (r"a=\.b\n\\", r#"a="\\.b\n\\""#),
            (r"a=b\", r#"a="b\\""#),
            ("a= , b=c d ", r#"a="", b="c d""#),
        ] {
            let matchers: Vec<String> = parse(text).unwrap().iter().map(Matcher::to_string).collect();
            assert_eq!(matchers.join(", "), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_matcher_is_refused() {
        for (text, why) in [
            ("tenant", "\"tenant\" is not a matcher"),
            ("1a=b", "is not a matcher"),
            ("a=b,,c=d", "\"\" is not a matcher"),
            (r#"a="b"#, "double quote"),
            (r#"a=b"c"#, "double quote"),
            (r#"a="b\""#, "double quote"),
            ("a=~(", "missing closing"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
