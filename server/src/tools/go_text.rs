//! Values as Go prints them: durations, grouped numbers, JSON in templates.

use std::fmt::Write as _;

use serde_json::Value;

/// Milliseconds as Go's `time.Duration` prints them, such as `1h59m0.003s`.
pub fn duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".into();
    }
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    if ms < 1000 {
        return format!("{sign}{ms}ms");
    }
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    let fraction = format!("{:03}", ms % 1000);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{}{dot}{fraction}s", ms / 1000 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, _) => format!("{sign}{minutes}m{seconds}"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}"),
    }
}

/// A number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds of the Unix epoch as RFC 3339 without fractions, in UTC.
pub fn time(seconds: i64) -> String {
    engine::bucket::GoTime::from_unix_nanos(i128::from(seconds) * 1_000_000_000).as_str().to_owned()
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    /// Names of fields, outermost first; none for the whole value.
    Field(Vec<String>),
}

/// A template of Go's `text/template`, of text and fields such as `{{.Thanos.Labels}}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Piece>);

impl Template {
    /// Reads a template; conditions, loops and functions are refused.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, after) = after.split_once("}}").ok_or("invalid template: unclosed action {{")?;
            let (trims_before, inside) = inside.strip_prefix("- ").map_or((false, inside), |inside| (true, inside));
            let (trims_after, inside) = inside.strip_suffix(" -").map_or((false, inside), |inside| (true, inside));
            pieces.push(Piece::Text(if trims_before { before.trim_end() } else { before }.to_owned()));
            let inside = inside.trim();
            let fields = inside.strip_prefix('.').filter(|path| path.chars().all(|c| c.is_alphanumeric() || c == '.'));
            let fields = fields.ok_or_else(|| {
                format!("invalid template: {{{{{inside}}}}}: only fields such as {{{{.ULID}}}} are known here")
            })?;
            pieces.push(Piece::Field(fields.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()));
            rest = if trims_after { after.trim_start() } else { after };
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// The template filled from `value`, the JSON of a structure whose fields Go names alike but for
    /// case and underscores.
    pub fn fill(&self, value: &Value) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Field(names) => {
                    let mut at = Found::Value(value);
                    for name in names {
                        at = field(at, name)?;
                    }
                    match at {
                        Found::Value(value) => print(value, &mut text),
                        Found::Zero(zero) => text.push_str(zero),
                    }
                }
            }
        }
        Ok(text)
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found<'v> {
    Value(&'v Value),
    /// It is left out of the JSON as it is zero; so Go prints that.
    Zero(&'static str),
}

/// Fields of a meta.json, in plain letters, that are left out where they are zero.
const LEFT_OUT: [(&str, &str); 20] = [
    ("numsamples", "0"),
    ("numfloatsamples", "0"),
    ("numhistogramsamples", "0"),
    ("numseries", "0"),
    ("numchunks", "0"),
    ("numtombstones", "0"),
    ("deletable", "false"),
    ("failed", "false"),
    ("parents", "[]"),
    ("hints", "[]"),
    ("segmentfiles", "[]"),
    ("files", "[]"),
    ("rewrites", "[]"),
    ("indexstats", "{0 0}"),
    ("seriesmaxsize", "0"),
    ("chunkmaxsize", "0"),
    ("labels", "map[]"),
    ("source", ""),
    ("extensions", "<nil>"),
    ("uploadtime", "0001-01-01 00:00:00 +0000 UTC"),
];

/// The field that Go calls `name`.
fn field<'v>(of: Found<'v>, name: &str) -> Result<Found<'v>, String> {
    let plain = |name: &str| name.replace('_', "").to_ascii_lowercase();
    let found = match of {
        Found::Value(Value::Object(fields)) => fields.iter().find(|(key, _)| plain(key) == plain(name)),
        _ => None,
    };
    let zero = || LEFT_OUT.iter().find(|(known, _)| *known == plain(name)).map(|&(_, zero)| Found::Zero(zero));
    let found = found.map(|(_, value)| Found::Value(value)).or_else(zero);
    found.ok_or_else(|| format!("execute template: {name} is no field of a meta.json, or not there"))
}

/// As Go's `fmt.Print` does: maps as `map[a:b]`, lists as `[a b]`.
fn print(value: &Value, out: &mut String) {
    match value {
        Value::Null => {}
        Value::String(text) => out.push_str(text),
        Value::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                out.push_str(if at > 0 { " " } else { "" });
                print(value, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push_str("map[");
            for (at, (key, value)) in fields.iter().enumerate() {
                let space = if at > 0 { " " } else { "" };
                // Writing to a string can't fail.
                let _ = write!(out, "{space}{key}:");
                print(value, out);
            }
            out.push(']');
        }
        other => drop(write!(out, "{other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_numbers_are_printed_as_go_prints_them() {
        for (ms, text) in [
            (0, "0s"),
            (7, "7ms"),
            (1_500, "1.5s"),
            (60_000, "1m0s"),
            (300_000, "5m0s"),
            (3_600_000, "1h0m0s"),
            (7_180_000, "1h59m40s"),
            (-806_340_003, "-223h59m0.003s"),
        ] {
            assert_eq!(duration(ms), text);
        }
        assert_eq!([0, 100, 1000, 1_584_000].map(grouped), ["0", "100", "1,000", "1,584,000"]);
        assert_eq!(time(1_788_480_021), "2026-09-04T00:00:21Z");
    }

    #[test]
    fn a_template_is_filled_from_fields_and_refuses_what_it_does_not_know() {
        let meta =
            serde_json::json!({"ulid": "A", "minTime": 5, "thanos": {"labels": {"a": "b", "c": "d"}, "list": [1, 2]}});
        let fill = |text: &str| Template::parse(text)?.fill(&meta);
        assert_eq!(fill("{{.ULID}} {{ .MinTime }}|").unwrap(), "A 5|");
        assert_eq!(fill("{{.Thanos.Labels}}  {{- .Thanos.List }}").unwrap(), "map[a:b c:d][1 2]");
        assert_eq!(fill("{{.Thanos.SegmentFiles}} {{.Thanos.IndexStats.ChunkMaxSize}}").unwrap(), "[] 0");
        assert!(fill("{{.Nope}}").unwrap_err().contains("Nope is no field"));
        assert!(fill("{{range .Thanos.List}}").unwrap_err().contains("range"));
        assert!(fill("{{.ULID.X}}").is_err() && fill("{{.ULID").is_err());
    }
}
