//! Trees to JSON, as Prometheus' `/api/v1/parse_query` answers them for its tree view.
//!
//! Keys ascend and characters of HTML are escaped, as Go's encoder does both.

use crate::model::DurationNs;
use crate::model::Matcher;
use crate::model::float_text::{Notation, format_float, format_float_as};

use super::ast::{
    At, Binary, Call, DurationExpr, DurationKind, Expr, Extension, NumberLiteral, Subquery, VectorMatching,
    VectorSelector,
};

/// The tree of `expr` as a JSON object.
pub fn to_json(expr: &Expr) -> String {
    let mut out = String::new();
    write_expr(&mut out, expr);
    out
}

/// An object in the making; keys must be given in ascending order.
struct Object<'a> {
    out: &'a mut String,
    is_empty: bool,
}

impl<'a> Object<'a> {
    fn new(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, is_empty: true }
    }

    fn with(&mut self, key: &str, write: impl FnOnce(&mut String)) -> &mut Self {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(',');
        }
        write_string(self.out, key.as_bytes());
        self.out.push(':');
        write(self.out);
        self
    }

    fn text(&mut self, key: &str, text: &str) -> &mut Self {
        self.with(key, |out| write_string(out, text.as_bytes()))
    }

    fn raw(&mut self, key: &str, json: impl AsRef<str>) -> &mut Self {
        self.with(key, |out| out.push_str(json.as_ref()))
    }

    fn flag(&mut self, key: &str, flag: Flag) -> &mut Self {
        self.raw(key, if flag.0 { "true" } else { "false" })
    }

    fn millis(&mut self, key: &str, duration: DurationNs) -> &mut Self {
        self.raw(key, duration.as_millis().to_string())
    }

    fn expr(&mut self, key: &str, expr: &Expr) -> &mut Self {
        self.with(key, |out| write_expr(out, expr))
    }

    fn duration(&mut self, key: &str, duration: Option<&DurationExpr>) -> &mut Self {
        self.with(key, |out| match duration {
            Some(duration) => write_duration(out, duration),
            None => out.push_str("null"),
        })
    }

    fn names(&mut self, key: &str, names: &[String]) -> &mut Self {
        self.with(key, |out| write_list(out, names, |out, name| write_string(out, name.as_bytes())))
    }

    fn at(&mut self, at: Option<At>) -> &mut Self {
        let edge = match at {
            Some(At::Start) => Some("start"),
            Some(At::End) => Some("end"),
            Some(At::Time(_)) | None => None,
        };
        self.with("startOrEnd", |out| match edge {
            Some(edge) => write_string(out, edge.as_bytes()),
            None => out.push_str("null"),
        })
    }

    fn timestamp(&mut self, at: Option<At>) -> &mut Self {
        match at {
            Some(At::Time(ms)) => self.raw("timestamp", ms.to_string()),
            _ => self.raw("timestamp", "null"),
        }
    }

    fn end(&mut self) {
        self.out.push('}');
    }
}

/// A truth value of a key.
struct Flag(bool);

fn write_list<T>(out: &mut String, items: &[T], write: impl Fn(&mut String, &T)) {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

fn write_expr(out: &mut String, expr: &Expr) {
    let mut object = Object::new(out);
    match expr {
        Expr::Aggregate(node) => {
            object.expr("expr", &node.expr).names("grouping", &node.grouping).text("op", node.op.as_str());
            match &node.param {
                Some(param) => object.expr("param", param),
                None => object.raw("param", "null"),
            };
            object.text("type", "aggregation").flag("without", Flag(node.without));
        }
        Expr::Binary(node) => binary(&mut object, node),
        Expr::Call(node) => call(&mut object, node),
        Expr::Matrix(node) => {
            let window = Window { length: node.window, expr: node.window_expr.as_deref() };
            selector(&mut object, &node.selector, Some(window));
        }
        Expr::Subquery(node) => subquery(&mut object, node),
        Expr::Number(node) => {
            object.text("type", "numberLiteral").text("val", &format_float_as(node.value, Notation::Fixed));
        }
        Expr::Paren(node) => {
            object.expr("expr", &node.expr).text("type", "parenExpr");
        }
        Expr::String(node) => {
            object.text("type", "stringLiteral").with("val", |out| write_string(out, &node.value));
        }
        Expr::Unary(node) => {
            object.expr("expr", &node.expr).text("op", node.op.as_str()).text("type", "unaryExpr");
        }
        Expr::Vector(node) => selector(&mut object, node, None),
    }
    object.end();
}

fn binary(object: &mut Object<'_>, node: &Binary) {
    object.flag("bool", Flag(node.return_bool)).expr("lhs", &node.lhs);
    object.with("matching", |out| match &node.matching {
        Some(matching) => write_matching(out, matching),
        None => out.push_str("null"),
    });
    object.text("op", node.op.as_str()).expr("rhs", &node.rhs).text("type", "binaryExpr");
}

fn write_matching(out: &mut String, matching: &VectorMatching) {
    // JSON has no word for NaN and infinities; upstream's answer fails on them.
    let number =
        |value: Option<f64>| value.filter(|value| value.is_finite()).map_or_else(|| "null".to_owned(), format_float);
    let mut object = Object::new(out);
    object.text("card", matching.cardinality.as_str());
    object.with("fillValues", |out| {
        let mut fill = Object::new(out);
        fill.raw("lhs", number(matching.fill_left)).raw("rhs", number(matching.fill_right)).end();
    });
    object.names("include", &matching.include).names("labels", &matching.labels);
    object.flag("on", Flag(matching.on)).end();
}

fn call(object: &mut Object<'_>, node: &Call) {
    let function = node.function;
    object.with("args", |out| write_list(out, &node.args, write_expr));
    object.with("func", |out| {
        let mut func = Object::new(out);
        func.with("argTypes", |out| {
            write_list(out, function.arg_types, |out, kind| write_string(out, kind.as_str().as_bytes()));
        });
        func.text("name", function.name).text("returnType", function.return_type.as_str());
        func.raw("variadic", function.variadic.to_string()).end();
    });
    object.text("type", "call");
}

/// The window of a range selector.
struct Window<'a> {
    length: DurationNs,
    expr: Option<&'a DurationExpr>,
}

fn selector(object: &mut Object<'_>, node: &VectorSelector, window: Option<Window<'_>>) {
    object.flag("anchored", Flag(node.extension == Some(Extension::Anchored)));
    object.with("matchers", |out| write_list(out, &node.matchers, write_matcher));
    object.text("name", &node.name).millis("offset", node.offset);
    object.duration("offsetExpr", node.offset_expr.as_deref());
    let kind = match &window {
        Some(window) => {
            object.millis("range", window.length).duration("rangeExpr", window.expr);
            "matrixSelector"
        }
        None => "vectorSelector",
    };
    object.flag("smoothed", Flag(node.extension == Some(Extension::Smoothed)));
    object.at(node.at).timestamp(node.at).text("type", kind);
}

fn write_matcher(out: &mut String, matcher: &Matcher) {
    let mut object = Object::new(out);
    object.text("name", matcher.name()).text("type", matcher.kind().as_str());
    object.with("value", |out| write_string(out, matcher.value())).end();
}

fn subquery(object: &mut Object<'_>, node: &Subquery) {
    object.expr("expr", &node.expr).millis("offset", node.offset);
    object.duration("offsetExpr", node.offset_expr.as_deref());
    object.millis("range", node.window).duration("rangeExpr", node.window_expr.as_deref());
    object.at(node.at).millis("step", node.step).duration("stepExpr", node.step_expr.as_deref());
    object.timestamp(node.at).text("type", "subquery");
}

fn write_duration(out: &mut String, node: &DurationExpr) {
    let (op, lhs, rhs) = match &node.kind {
        DurationKind::Number(literal) => return write_duration_number(out, literal),
        DurationKind::Step => ("step", None, None),
        DurationKind::Range => ("range", None, None),
        DurationKind::Plus(rhs) => ("+", None, Some(rhs)),
        DurationKind::Minus(rhs) => ("-", None, Some(rhs)),
        DurationKind::Binary(op, lhs, rhs) => (op.as_str(), Some(lhs), Some(rhs)),
        DurationKind::MinOf(lhs, rhs) => ("min_of", Some(lhs), Some(rhs)),
        DurationKind::MaxOf(lhs, rhs) => ("max_of", Some(lhs), Some(rhs)),
    };
    let mut object = Object::new(out);
    object.duration("lhs", lhs.map(|node| &**node)).text("op", op).duration("rhs", rhs.map(|node| &**node));
    object.text("type", "durationExpr").flag("wrapped", Flag(node.wrapped)).end();
}

fn write_duration_number(out: &mut String, literal: &NumberLiteral) {
    let mut object = Object::new(out);
    object.flag("duration", Flag(literal.is_duration)).text("type", "numberLiteral");
    object.text("val", &format_float_as(literal.value, Notation::Fixed)).end();
}

/// A string in quotes; an invalid byte becomes the escape of U+FFFD.
fn write_string(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|char| write_char(out, char));
        chunk.invalid().iter().for_each(|_| out.push_str("\\ufffd"));
    }
    out.push('"');
}

fn write_char(out: &mut String, char: char) {
    match char {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
            out.push_str(&format!("\\u{:04x}", u32::from(char)));
        }
        _ => out.push(char),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, parse};
    use super::*;

    #[test]
    fn trees_are_those_of_parse_query() {
        let json = |query| to_json(&parse(query, Options::ALL).unwrap());
        assert_eq!(
            json(r#"a{b=~"<c>"}[step()+1m] offset -5m"#),
            concat!(
                r#"{"anchored":false,"matchers":[{"name":"b","type":"=~","value":"\u003cc\u003e"},"#,
                r#"{"name":"__name__","type":"=","value":"a"}],"name":"a","offset":-300000,"offsetExpr":null,"#,
                r#""range":0,"rangeExpr":{"lhs":{"lhs":null,"op":"step","rhs":null,"type":"durationExpr","#,
                r#""wrapped":false},"op":"+","rhs":{"duration":true,"type":"numberLiteral","val":"60"},"#,
                r#""type":"durationExpr","wrapped":false},"smoothed":false,"startOrEnd":null,"timestamp":null,"#,
                r#""type":"matrixSelector"}"#
            )
        );
        assert_eq!(
            json("1 < bool 2e-7"),
            concat!(
                r#"{"bool":true,"lhs":{"type":"numberLiteral","val":"1"},"matching":null,"op":"\u003c","#,
                r#""rhs":{"type":"numberLiteral","val":"0.0000002"},"type":"binaryExpr"}"#
            )
        );
        assert_eq!(json(r#""\xff\n""#), r#"{"type":"stringLiteral","val":"\ufffd\n"}"#);
        for query in [
            "a + fill(NaN) b",
            "sum without(a) (b @ 3)",
            "topk(1, a + on (b) group_left fill (1) c)",
            "abs(a)[5m:1m] @ end()",
        ] {
            let value: serde_json::Value = serde_json::from_str(&json(query)).unwrap();
            assert!(value["type"].is_string());
        }
    }
}
