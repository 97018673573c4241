//! Templates of Go's `text/template`, of text and fields alone, over a block's meta.json: its fields have the
//! names that they have in Go, and are printed as Go prints them.
//!
//! ```text
//! {{.ULID}} {{.Thanos.Labels}}     01M7YFZP7XEVXZPFAJ3G00DZX3 map[cluster:a replica:1]
//! {{.Stats}} {{.Compaction.Level}}     {72000 72000 0 300 657 0} 1
//! ```

use engine::model::float_text::{Notation, format_float_as};
use serde_json::Value;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    /// Names of fields, outermost first; none for the whole value.
    Field(Vec<String>),
}

/// A template of text and fields such as `{{.Thanos.Labels}}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Piece>);

/// What Go makes of a value of a meta.json.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Number,
    Flag,
    Time,
    /// Texts by name.
    Map,
    /// Anything at all.
    Any,
    List(&'static Shape),
    /// What may be missing.
    Optional(&'static Shape),
    Struct(&'static [Field]),
}

/// The name of a field in Go and in JSON, where it is empty for the fields of the structure around it.
type Field = (&'static str, &'static str, Shape);

const META: [Field; 8] = [
    ("BlockMeta", "", Shape::Struct(&BLOCK_META)),
    ("Thanos", "thanos", Shape::Struct(&THANOS)),
    // What is embedded in a structure is a field of it too.
    BLOCK_META[0],
    BLOCK_META[1],
    BLOCK_META[2],
    BLOCK_META[3],
    BLOCK_META[4],
    BLOCK_META[5],
];

const BLOCK_META: [Field; 6] = [
    ("ULID", "ulid", Shape::Text),
    ("MinTime", "minTime", Shape::Number),
    ("MaxTime", "maxTime", Shape::Number),
    ("Stats", "stats", Shape::Struct(&STATS)),
    ("Compaction", "compaction", Shape::Struct(&COMPACTION)),
    ("Version", "version", Shape::Number),
];

const STATS: [Field; 6] = [
    ("NumSamples", "numSamples", Shape::Number),
    ("NumFloatSamples", "numFloatSamples", Shape::Number),
    ("NumHistogramSamples", "numHistogramSamples", Shape::Number),
    ("NumSeries", "numSeries", Shape::Number),
    ("NumChunks", "numChunks", Shape::Number),
    ("NumTombstones", "numTombstones", Shape::Number),
];

const COMPACTION: [Field; 6] = [
    ("Level", "level", Shape::Number),
    ("Sources", "sources", Shape::List(&Shape::Text)),
    ("Deletable", "deletable", Shape::Flag),
    ("Parents", "parents", Shape::List(&Shape::Struct(&PARENT))),
    ("Failed", "failed", Shape::Flag),
    ("Hints", "hints", Shape::List(&Shape::Text)),
];

const PARENT: [Field; 3] =
    [("ULID", "ulid", Shape::Text), ("MinTime", "minTime", Shape::Number), ("MaxTime", "maxTime", Shape::Number)];

const THANOS: [Field; 10] = [
    ("Version", "version", Shape::Number),
    ("Labels", "labels", Shape::Map),
    ("Downsample", "downsample", Shape::Struct(&[("Resolution", "resolution", Shape::Number)])),
    ("Source", "source", Shape::Text),
    ("SegmentFiles", "segment_files", Shape::List(&Shape::Text)),
    ("Files", "files", Shape::List(&Shape::Struct(&FILE))),
    ("Rewrites", "rewrites", Shape::List(&Shape::Struct(&REWRITE))),
    ("IndexStats", "index_stats", Shape::Struct(&INDEX_STATS)),
    ("Extensions", "extensions", Shape::Any),
    ("UploadTime", "upload_time", Shape::Time),
];

const FILE: [Field; 3] = [
    ("RelPath", "rel_path", Shape::Text),
    ("SizeBytes", "size_bytes", Shape::Number),
    (
        "Hash",
        "hash",
        Shape::Optional(&Shape::Struct(&[("Func", "hashFunc", Shape::Text), ("Value", "value", Shape::Text)])),
    ),
];

const REWRITE: [Field; 3] = [
    ("Sources", "sources", Shape::List(&Shape::Text)),
    ("DeletionsApplied", "deletions_applied", Shape::List(&Shape::Struct(&DELETION))),
    ("RelabelsApplied", "relabels_applied", Shape::List(&Shape::Any)),
];

const DELETION: [Field; 3] = [
    ("Matchers", "matchers", Shape::List(&Shape::Any)),
    (
        "Intervals",
        "intervals",
        Shape::List(&Shape::Struct(&[("Mint", "Mint", Shape::Number), ("Maxt", "Maxt", Shape::Number)])),
    ),
    ("RequestID", "request_id", Shape::Text),
];

const INDEX_STATS: [Field; 2] =
    [("SeriesMaxSize", "series_max_size", Shape::Number), ("ChunkMaxSize", "chunk_max_size", Shape::Number)];

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
            let is_path = |path: &&str| path.chars().all(|c| c.is_alphanumeric() || c == '.' || c == '_');
            let fields = inside.strip_prefix('.').filter(is_path).ok_or_else(|| {
                format!("invalid template: {{{{{inside}}}}}: only fields such as {{{{.ULID}}}} are known here")
            })?;
            pieces.push(Piece::Field(fields.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()));
            rest = if trims_after { after.trim_start() } else { after };
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// The template filled from `meta`, a meta.json.
    pub fn fill(&self, meta: &Value) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Field(names) if names.is_empty() => print_meta(meta, &mut text),
                Piece::Field(names) => {
                    let mut at = (Shape::Struct(&META), Some(meta));
                    for name in names {
                        at = field(at, name)?;
                    }
                    print(at, &mut text);
                }
            }
        }
        Ok(text)
    }
}

/// The field `name` of a value, which is zero where the JSON leaves it out.
fn field<'v>((shape, value): (Shape, Option<&'v Value>), name: &str) -> Result<(Shape, Option<&'v Value>), String> {
    let inside = |key: &str| value.and_then(|value| value.get(key)).filter(|value| !value.is_null());
    let found = match shape {
        Shape::Struct(fields) => fields.iter().find(|(known, ..)| *known == name).map(|&(_, key, shape)| match key {
            "" => (shape, value),
            key => (shape, inside(key)),
        }),
        Shape::Map | Shape::Any => Some((Shape::Any, inside(name))),
        _ => None,
    };
    found.ok_or_else(|| format!("execute template: can't evaluate field {name} of a meta.json"))
}

/// A whole meta.json, which has words of its own.
fn print_meta(meta: &Value, out: &mut String) {
    let [id, min_time, max_time] = ["ULID", "MinTime", "MaxTime"].map(|name| {
        let mut text = String::new();
        let found = field((Shape::Struct(&META), Some(meta)), name);
        print(found.expect("these are fields of it"), &mut text);
        text
    });
    out.push_str(&format!("{id} (min time: {min_time}, max time: {max_time})"));
}

/// As Go's `fmt.Print` does: maps as `map[a:b]`, lists as `[a b]`, structures as `{a b}`.
fn print((shape, value): (Shape, Option<&Value>), out: &mut String) {
    match (shape, value) {
        (Shape::Text, value) => out.push_str(value.and_then(Value::as_str).unwrap_or_default()),
        (Shape::Number, None) => out.push('0'),
        (Shape::Flag, None) => out.push_str("false"),
        (Shape::Time, value) => {
            let time = value.and_then(Value::as_str).unwrap_or("0001-01-01T00:00:00Z");
            out.push_str(&time.replace('T', " ").replace('Z', " +0000 UTC"));
        }
        (Shape::Map, None) => out.push_str("map[]"),
        (Shape::List(_), None) => out.push_str("[]"),
        (Shape::Any, None) => out.push_str("<no value>"),
        (Shape::Optional(_), None) => out.push_str("<nil>"),
        (Shape::Optional(shape), value) => print((*shape, value), out),
        (Shape::Struct(fields), value) => {
            for (at, (name, ..)) in fields.iter().enumerate() {
                out.push(if at > 0 { ' ' } else { '{' });
                match field((shape, value), name).expect("it is a field of it") {
                    (Shape::Any, None) => out.push_str("<nil>"),
                    found => print(found, out),
                }
            }
            out.push('}');
        }
        (Shape::List(shape), Some(Value::Array(values))) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                out.push_str(if at > 0 { " " } else { "" });
                print((*shape, Some(value)), out);
            }
            out.push(']');
        }
        (Shape::Number, Some(value)) => out.push_str(&value.to_string()),
        (_, Some(value)) => print_any(value, out),
    }
}

/// A value of no known shape; its numbers are floats in Go.
fn print_any(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::String(text) => out.push_str(text),
        Value::Number(number) => {
            let value = number.as_f64().expect("numbers of JSON are floats here");
            out.push_str(&format_float_as(value, Notation::General));
        }
        Value::Array(_) => print((Shape::List(&Shape::Any), Some(value)), out),
        Value::Object(fields) => {
            out.push_str("map[");
            for (at, (key, value)) in fields.iter().enumerate() {
                out.push_str(if at > 0 { " " } else { "" });
                out.push_str(key);
                out.push(':');
                print_any(value, out);
            }
            out.push(']');
        }
        Value::Bool(flag) => out.push_str(&flag.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_printed_as_go_prints_them_and_what_is_no_field_is_refused() {
        let file = serde_json::json!({"rel_path": "index", "size_bytes": 5});
        let thanos = serde_json::json!({
            "labels": {"a_b": "1", "c": "x y"}, "downsample": {"resolution": 300_000}, "source": "receive",
            "segment_files": ["000001", "000002"], "files": [file], "upload_time": "2026-11-23T14:11:40.12Z",
        });
        let meta = serde_json::json!({
            "ulid": "A", "minTime": 5, "maxTime": 9, "version": 1, "stats": {"numSamples": 3, "numSeries": 2},
            "compaction": {"level": 1, "sources": ["A"], "parents": [{"ulid": "B", "minTime": 1, "maxTime": 2}]},
            "thanos": thanos,
        });
        let fill = |text: &str| Template::parse(text)?.fill(&meta);
        let block = "A 5 9 {3 0 0 2 0 0} {1 [A] false [{B 1 2}] false []} 1";
        let thanos = "0 map[a_b:1 c:x y] {300000} receive [000001 000002] [{index 5 <nil>}] [] {0 0} <nil> \
                      2026-11-23 14:11:40.12 +0000 UTC";
        for (template, expected) in [
            ("{{.}}", "A (min time: 5, max time: 9)"),
            ("{{.ULID}} {{ .MinTime }}|", "A 5|"),
            ("{{.BlockMeta}}", &format!("{{{block}}}")),
            ("{{.BlockMeta.Stats.NumSeries}} {{.Stats}}", "2 {3 0 0 2 0 0}"),
            ("{{.Thanos}}", &format!("{{{thanos}}}")),
            ("{{.Thanos.Labels}}  {{- .Thanos.SegmentFiles }}", "map[a_b:1 c:x y][000001 000002]"),
            ("{{.Thanos.Labels.a_b}} {{.Thanos.Labels.nope}}", "1 <no value>"),
            ("{{.Compaction.Parents}} {{.Compaction.Failed}}", "[{B 1 2}] false"),
            ("{{.Thanos.IndexStats.ChunkMaxSize}} {{.Thanos.Rewrites}}", "0 []"),
        ] {
            assert_eq!(fill(template).unwrap(), *expected, "{template}");
        }
        let numbers = serde_json::json!([0, -1.5, 300_000, 999_999, 1_000_000, -12_345_678, 1e21, 0.0001, 0.00001]);
        let deletion = serde_json::json!({"matchers": [], "intervals": [{"Mint": 1_700_000_000_000_i64, "Maxt": 2}]});
        let rewrites = serde_json::json!([{"deletions_applied": [deletion]}]);
        let meta = serde_json::json!({"thanos": {"extensions": {"a": numbers, "b": true}, "rewrites": rewrites}});
        for (template, expected) in [
            ("{{.Thanos.Extensions.a}}", "[0 -1.5 300000 999999 1e+06 -1.2345678e+07 1e+21 0.0001 1e-05]"),
            ("{{.Thanos.Extensions.b}}", "true"),
            ("{{.Thanos.Rewrites}}", "[{[] [{[] [{1700000000000 2}] }] []}]"),
        ] {
            assert_eq!(Template::parse(template).unwrap().fill(&meta).unwrap(), expected, "{template}");
        }
        assert!(fill("{{.Nope}}").unwrap_err().contains("can't evaluate field Nope"));
        assert!(fill("{{range .Thanos.Files}}").unwrap_err().contains("range"));
        assert!(fill("{{.ULID.X}}").is_err() && fill("{{.thanos}}").is_err() && fill("{{.ULID").is_err());
    }
}
