//! Parts of requests, and words of command lines, that the process parses in its own ways.

use serde_json::Value;
use server::api::http::query;
use server::edge::target::forgiven;
use server::tools::line_template::Template;
use server::tools::matchers;

/// The start of a connection: however it is cut into pieces, the same comes of it.
pub fn http_target(data: &[u8]) {
    let whole = forgiven([data]);
    assert_eq!(forgiven(data.chunks(1)), whole, "byte by byte");
    let (start, rest) = data.split_at(data.len() / 2);
    assert_eq!(forgiven([start, rest]), whole, "in halves");
}

/// The name of a label as a path writes it.
pub fn label_escaped(data: &[u8]) {
    let _ = query::unescape(&String::from_utf8_lossy(data));
}

/// A template over a meta.json, in a line of its own before what it is filled from.
pub fn line_template(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (line, meta) = text.split_once('\n').unwrap_or((&*text, "{}"));
    let (Ok(template), Ok(meta)) = (Template::parse(line), serde_json::from_str::<Value>(meta)) else { return };
    let _ = template.fill(&meta);
}

/// Matchers as `tools bucket replicate` takes them.
pub fn matchers(data: &[u8]) {
    let _ = matchers::parse(&String::from_utf8_lossy(data));
}

/// The body of a remote read request.
pub fn remote_read(data: &[u8]) {
    let _ = query::is_request(data);
}
