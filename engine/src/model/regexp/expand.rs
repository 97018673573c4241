//! Templates of replacements, as Go's `regexp.Expand` reads them.

/// `template` with its references replaced by what `group` says of the group's number. `names` are
/// those of the groups from 1. A reference to a group that is not, or took no part, is replaced by
/// nothing; `$$` is a dollar, and so is one that no name follows.
pub(super) fn expand<'t>(template: &str, names: &[String], group: impl Fn(usize) -> Option<&'t str>) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = reference(rest) {
            rest = after;
            let found = match number(name) {
                Some(number) => group(number),
                None => {
                    let named = names.iter().enumerate().filter(|(_, known)| *known == name);
                    named.into_iter().find_map(|(at, _)| group(at + 1))
                }
            };
            out.push_str(found.unwrap_or_default());
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The name after a dollar and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let is_name = |char: char| char == '_' || char.is_alphanumeric();
    let (braced, inner) = match text.strip_prefix('{') {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    let (name, rest) = inner.split_at(inner.find(|char| !is_name(char)).unwrap_or(inner.len()));
    if name.is_empty() {
        return None;
    }
    Some((name, if braced { rest.strip_prefix('}')? } else { rest }))
}

/// The number of a group, unless `name` is no plain number.
fn number(name: &str) -> Option<usize> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && (name.len() == 1 || !name.starts_with('0'));
    if is_number && name.len() <= 8 { name.parse().ok() } else { None }
}
