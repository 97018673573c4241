//! File name patterns as Go's `path/filepath.Match` reads them.

/// Whether all of `name` matches `pattern`: `*` any run without `/`, `?` one character but `/`,
/// `[a-z]` and `[^a-z]` classes, `\` escapes. `None` when the pattern is malformed.
pub fn matches(pattern: &str, name: &str) -> Option<bool> {
    let tokens = parse(pattern)?;
    let name: Vec<char> = name.chars().collect();
    // reached[at]: the tokens so far can match the first `at` characters.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for token in &tokens {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            match token {
                Token::Run => next[at] = reached[at] || (at > 0 && next[at - 1] && name[at - 1] != '/'),
                one => next[at] = at > 0 && reached[at - 1] && one.takes(name[at - 1]),
            }
        }
        reached = next;
    }
    Some(reached[name.len()])
}

enum Token {
    Run,
    Any,
    Literal(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Token {
    fn takes(&self, found: char) -> bool {
        match self {
            Self::Run => false,
            Self::Any => found != '/',
            Self::Literal(wanted) => *wanted == found,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&found)) != *negated
            }
        }
    }
}

fn parse(pattern: &str) -> Option<Vec<Token>> {
    let mut rest = pattern.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(next) = rest.next() {
        tokens.push(match next {
            '*' => Token::Run,
            '?' => Token::Any,
            '\\' => Token::Literal(rest.next()?),
            '[' => {
                let negated = rest.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
                    let low = bound(&mut rest)?;
                    let high = if rest.next_if_eq(&'-').is_some() { bound(&mut rest)? } else { low };
                    ranges.push((low, high));
                }
                Token::Class { negated, ranges }
            }
            literal => Token::Literal(literal),
        });
    }
    Some(tokens)
}

fn bound(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_go() {
        let yes = [("abc", "abc"), ("*", "abc"), ("*c", "abc"), ("a*b?c*x", "abxbbxdbxebxczzx"), ("ab[b-d]", "abc")];
        let no = [("*", "a/b"), ("a*/b", "a/c/b"), ("ab[e-g]", "abc"), ("[^a]", "a"), ("a?b", "a/b"), ("", "a")];
        assert!(yes.iter().all(|(pattern, name)| matches(pattern, name) == Some(true)));
        assert!(no.iter().all(|(pattern, name)| matches(pattern, name) == Some(false)));
        assert_eq!(matches("a\\*b", "a*b"), Some(true));
        assert_eq!(matches("[\\]a]", "]"), Some(true));
    }

    #[test]
    fn a_malformed_pattern_is_told_apart_from_no_match() {
        for pattern in ["[", "[]a]", "[-]", "[x-]", "a[", "[a-b-c]", "\\"] {
            assert_eq!(matches(pattern, "a"), None, "{pattern}");
        }
    }
}
