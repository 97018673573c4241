//! Text as Go holds it: bytes that are UTF-8 by custom only, and their quoted form.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str;
use std::sync::OnceLock;

use regex_syntax::hir::{ClassUnicode, HirKind};

/// A string of any bytes. PromQL's escapes (`"\xff"`) make strings that are not UTF-8; label values
/// that come from storage always are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteString(Vec<u8>);

impl ByteString {
    /// The text when it is UTF-8. A string that is not equals no label value.
    pub fn as_str(&self) -> Option<&str> {
        str::from_utf8(&self.0).ok()
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text with each invalid byte replaced by U+FFFD.
    pub fn to_string_lossy(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl Deref for ByteString {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for ByteString {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for ByteString {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for ByteString {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<Vec<u8>> for ByteString {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl PartialEq<str> for ByteString {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for ByteString {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

/// Quoted, as [`Quoted`].
impl fmt::Debug for ByteString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Quoted(&self.0), f)
    }
}

/// Displays bytes as Go's `%q` does: double quotes, escapes for what is not printable, `\xff` for
/// bytes that are not UTF-8.
#[derive(Clone, Copy)]
pub struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                write_escaped(f, char, '"')?;
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_str("\"")
    }
}

/// Displays a character as Go's `%q` does: in single quotes.
#[derive(Clone, Copy)]
pub struct QuotedChar(pub char);

impl fmt::Display for QuotedChar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'")?;
        write_escaped(f, self.0, '\'')?;
        f.write_str("'")
    }
}

fn write_escaped(f: &mut fmt::Formatter<'_>, char: char, quote: char) -> fmt::Result {
    match char {
        '\\' => f.write_str("\\\\"),
        '\x07' => f.write_str("\\a"),
        '\x08' => f.write_str("\\b"),
        '\x0c' => f.write_str("\\f"),
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        '\x0b' => f.write_str("\\v"),
        _ if char == quote => write!(f, "\\{quote}"),
        _ if is_printable(char) => write!(f, "{char}"),
        _ => match u32::from(char) {
            code @ ..0x80 => write!(f, "\\x{code:02x}"),
            code @ ..0x10000 => write!(f, "\\u{code:04x}"),
            code => write!(f, "\\U{code:08x}"),
        },
    }
}

/// Whether Go prints `char` as it is: letters, marks, numbers, punctuation, symbols and the space.
pub fn is_printable(char: char) -> bool {
    if char.is_ascii() {
        return (' '..='~').contains(&char);
    }
    static PRINTABLE: OnceLock<ClassUnicode> = OnceLock::new();
    let class = PRINTABLE.get_or_init(|| unicode_class(r"[\pL\pM\pN\pP\pS]"));
    let ranges = class.ranges();
    let at = ranges.partition_point(|range| range.end() < char);
    ranges.get(at).is_some_and(|range| range.start() <= char)
}

/// The characters of a class that this source writes, among those of Unicode 15.0, which is what
/// Go 1.26 knows.
pub(super) fn unicode_class(class: &str) -> ClassUnicode {
    let parsed = regex_syntax::parse(&format!(r"[{class}&&\p{{age:15.0}}]")).map(regex_syntax::hir::Hir::into_kind);
    match parsed {
        Ok(HirKind::Class(regex_syntax::hir::Class::Unicode(class))) => class,
        _ => ClassUnicode::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_that_of_go() {
        for (bytes, quoted) in [
            (&b"a\"b\\"[..], r#""a\"b\\""#),
            (b"\n\t\x07\x0b\x00\x7f", r#""\n\t\a\v\x00\x7f""#),
            (b"\xff\xc3\xa4\xc3", "\"\\xff\u{e4}\\xc3\""),
            ("\u{a0}\u{ad}\u{200b}\u{10ffff}".as_bytes(), r#""\u00a0\u00ad\u200b\U0010ffff""#),
        ] {
            assert_eq!(Quoted(bytes).to_string(), quoted);
        }
        assert_eq!(QuotedChar('\'').to_string(), r"'\''");
        assert_eq!(QuotedChar('"').to_string(), "'\"'");
    }
}
