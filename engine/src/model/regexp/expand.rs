//! Replacement templates: `$1`, `${name}` and `$$`, as Go expands them.

use super::Regexp;

impl Regexp {
    /// `template` with the groups that the pattern finds in `text` put in; `None` when the pattern
    /// does not match. A group that is not there is empty.
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        let mut groups = self.regex.create_captures();
        self.regex.captures(text, &mut groups);
        if !groups.is_match() {
            return None;
        }
        let group = |name: &str| {
            let span = match name.parse::<usize>() {
                Ok(index) => groups.get_group(index),
                Err(_) => groups.get_group_by_name(name),
            };
            span.map_or("", |span| &text[span.range()])
        };
        let mut out = String::new();
        let mut rest = template;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some((name, after)) = reference(rest) {
                out.push_str(group(name));
                rest = after;
            } else {
                out.push('$');
            }
        }
        out.push_str(rest);
        Some(out)
    }
}

/// The name of the group at the start of `text`, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let (inner, braced) = match text.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (text, false),
    };
    let end = inner.find(|char| !is_word(char)).unwrap_or(inner.len());
    let (name, after) = inner.split_at(end);
    if name.is_empty() {
        return None;
    }
    if braced { Some((name, after.strip_prefix('}')?)) } else { Some((name, after)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_put_in_by_number_and_name() {
        let regexp = Regexp::new_anchored(&"(.*)-(?P<last>.*)".into()).unwrap();
        assert_eq!(regexp.expand("a-b", "$1/${2}x/$last/$$/$9").as_deref(), Some("a/bx/b/$/"));
        assert_eq!(regexp.expand("a-b", "$1x").as_deref(), Some(""));
        assert_eq!(regexp.expand("ab", "$1"), None);
    }
}
