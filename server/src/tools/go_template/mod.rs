//! Whether a text is a template of Go's `text/template`: read as Go reads it, refused in its words.
//!
//! ```text
//! text {{- /* comment */ -}} {{ $x := pipeline }} {{ if pipeline }} … {{ else }} … {{ end }}
//! pipeline   command | command | …
//! command    operand operand …
//! operand    term .Field .Field …
//! term       function  .  nil  $variable  .Field  true  'c'  12  "text"  (pipeline)
//! ```

/// Characters to tokens.
mod lex;
/// Tokens to what may stand where.
mod parse;

/// What is wrong with a template, as Go says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// The line where it was found, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Checks a template that may call `functions` besides Go's own.
pub fn check(text: &str, functions: &[&str]) -> Result<(), TemplateError> {
    parse::Parser::new(lex::tokens(text), functions).check()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        check(&format!("{{{{$value := .Value}}}}{text}"), &["query", "value", "humanize"])
            .map_or_else(|error| format!("{}: {}", error.line, error.message), |()| String::new())
    }

    #[test]
    fn what_go_takes_is_taken() {
        for text in [
            "no action",
            "{{ $value | }}",
            "{{ range query \"up\" }}{{ . | value | humanize }}{{ else }}none{{ end }}",
            "{{ template \"x\" }}{{ template \"x\" . }}{{ block \"a\" . }}{{ end }}",
            "{{ define \"a\" }}x{{ end }}",
            "{{/* c */}}{{- /* c */ -}}{{- $x := 1 -}}{{ $x }}{{ with $y := 2 }}{{ $y }}{{ end }}",
            "{{ .Labels.x.y }}{{ .ExternalURL }}{{ and 1 2 }}{{ nil }}{{ . 1 }}{{ (.a).b }}",
            "{{ range $i, $v := .Labels }}{{ continue }}{{ break }}{{ end }}",
            "{{ if 1 }}{{ else if 2 }}{{ else }}{{ end }}{{ with 1 }}{{ else with 2 }}{{ end }}",
            "{{ $x = 1 }}{{ 1 2 | printf }}{{ 'a' }}{{ '\\'' }}{{ `raw }}` }}",
            "{{ -1 }}{{ 0x1F }}{{ 0b1 }}{{ 0o7 }}{{ 1_000 }}{{ 1e3 }}{{ .5 }}{{ 2i }}{{ 1+2i }}{{ 0x1p-2 }}",
            "{{ eq 1 2 }}\n{{\n  1\n}}",
        ] {
            assert_eq!(error(text), "", "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (text, message) in [
            ("{{ $valu }}", "1: undefined variable \"$valu\""),
            ("{{ foo 1 }}", "1: function \"foo\" not defined"),
            ("{{ if $value }}x", "1: unexpected EOF"),
            ("{{ $value ", "1: unclosed action"),
            ("{{ end }}", "1: unexpected {{end}}"),
            ("{{ \"abc }}", "1: unterminated quoted string"),
            ("{{ 1 | 2 }}", "1: non executable command in pipeline stage 2"),
            ("{{ }}", "1: missing value for command"),
            ("{{ break }}", "1: {{break}} outside {{range}}"),
            ("{{ (1 }}", "1: unclosed left paren"),
            ("{{ 1) }}", "1: unexpected right paren"),
            ("{{ 0x }}", "1: illegal number syntax: \"0x\""),
            ("{{ #x }}", "1: unexpected \"#\" in command"),
            ("{{ with $y := 2 }}{{ end }}{{ $y }}", "1: undefined variable \"$y\""),
            ("{{ 'ab' }}", "1: malformed character constant: 'ab'"),
            ("{{ else }}", "1: unexpected {{else}}"),
            ("{{ if 1 }}{{ else }}{{ else }}{{ end }}", "1: expected end; found {{else}}"),
            ("{{/* open", "1: unclosed comment"),
            ("a\nb {{ printf \"%s\" 1 | nope }}", "2: function \"nope\" not defined"),
            ("{{ 3.x }}", "1: bad number syntax: \"3.x\""),
            ("{{ nil.a }}", "1: unexpected . after term \"nil\""),
            ("{{ template x }}", "1: unexpected \"x\" in template clause"),
            ("{{ $a, $b := 1 }}", "1: too many declarations in command"),
            ("{{ range $a, 1 }}{{ end }}", "1: range can only initialize variables"),
            ("{{ end x }}", "1: unexpected \"x\" in end"),
            ("{{ if 1 }}{{ define \"a\" }}{{ end }}{{ end }}", "1: unexpected <define> in command"),
        ] {
            assert_eq!(error(text), message, "{text}");
        }
    }
}
