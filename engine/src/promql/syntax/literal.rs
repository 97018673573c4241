//! Numbers and strings of PromQL, read as Go reads them.

use crate::model::ByteString;
use crate::model::text::Quoted;

/// The value of a number token; fails in Go's words.
pub(super) fn parse_number(text: &str) -> Result<f64, String> {
    let failed = |why| format!("strconv.ParseFloat: parsing {}: {why}", Quoted(text.as_bytes()));
    if let Some(integer) = parse_integer(text) {
        return Ok(integer as f64);
    }
    match text.to_ascii_lowercase().as_str() {
        "inf" => return Ok(f64::INFINITY),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    // A Go float in decimal may hold no underscore unless digits are on both sides of it.
    let has_prefix = text.starts_with("0x") || text.starts_with("0X");
    if has_prefix || !underscores_separate_digits(text) {
        return Err(failed("invalid syntax"));
    }
    match text.replace('_', "").parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(failed("value out of range")),
        Err(_) => Err(failed("invalid syntax")),
    }
}

/// As Go's `ParseInt` of base 0: decimal, `0x` hexadecimal, `0` octal.
fn parse_integer(text: &str) -> Option<i64> {
    let (base, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, text.get(2..)?),
        [b'0', _, ..] => (8, text.get(1..)?),
        _ => (10, text),
    };
    if !underscores_separate_digits(text) {
        return None;
    }
    let digits = digits.replace('_', "");
    i64::from_str_radix(&digits, base).ok()
}

/// Whether every underscore has a digit, or the prefix of the base, before it and a digit after it.
fn underscores_separate_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_hex = matches!(bytes, [b'0', b'x' | b'X', ..]);
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (is_hex && byte.is_ascii_hexdigit());
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_').all(|(at, _)| {
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        let after_prefix = is_hex && at == 2;
        (after_prefix || before.is_some_and(is_digit)) && bytes.get(at + 1).is_some_and(is_digit)
    })
}

/// The string that a token with its quotes stands for; fails in Prometheus' words.
pub(super) fn unquote(token: &str) -> Result<ByteString, &'static str> {
    const INVALID: &str = "invalid syntax";
    let mut chars = token.chars();
    let quote = chars.next().filter(|quote| matches!(quote, '"' | '\'' | '`')).ok_or(INVALID)?;
    let inner = chars.as_str().strip_suffix(quote).ok_or(INVALID)?;
    if quote == '`' {
        return if inner.contains('`') { Err(INVALID) } else { Ok(inner.into()) };
    }
    if inner.contains('\n') {
        return Err(INVALID);
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => push_escaped(&mut bytes, &mut chars, quote).ok_or(INVALID)?,
            _ if char == quote => return Err(INVALID),
            _ => push_char(&mut bytes, char),
        }
    }
    Ok(bytes.into())
}

fn push_char(bytes: &mut Vec<u8>, char: char) {
    bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
}

fn push_escaped(bytes: &mut Vec<u8>, chars: &mut std::str::Chars<'_>, quote: char) -> Option<()> {
    let escape = chars.next()?;
    let mut digits = |first: Option<char>, count: usize, base: u32| {
        let mut code = first.map_or(Some(0), |first| first.to_digit(base))?;
        for _ in 0..count {
            code = code.checked_mul(base)?.checked_add(chars.next()?.to_digit(base)?)?;
        }
        Some(code)
    };
    let byte = match escape {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        'x' => u8::try_from(digits(None, 2, 16)?).ok()?,
        '0'..='7' => u8::try_from(digits(Some(escape), 2, 8)?).ok()?,
        'u' | 'U' => {
            let count = if escape == 'u' { 4 } else { 8 };
            push_char(bytes, char::from_u32(digits(None, count, 16)?)?);
            return Some(());
        }
        _ if escape == quote => quote as u8,
        _ => return None,
    };
    bytes.push(byte);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, value) in [
            ("1", 1.0),
            ("010", 8.0),
            ("09", 9.0),
            ("0x_1F", 31.0),
            ("1_000", 1000.0),
            (".5e-2", 0.005),
            ("1_0.5", 10.5),
            ("INF", f64::INFINITY),
            ("9223372036854775808", 9_223_372_036_854_775_808.0),
        ] {
            assert_eq!(parse_number(text), Ok(value), "{text}");
        }
        for text in ["0x", "1e999", "0xfffffffffffffffff"] {
            assert!(parse_number(text).is_err(), "{text}");
        }
    }

    #[test]
    fn escapes_may_make_any_bytes() {
        assert_eq!(unquote(r#""\xff\377\u00e4\"""#).unwrap(), ByteString::from(b"\xff\xff\xc3\xa4\"".to_vec()));
        assert_eq!(unquote(r"'\'a\n'").unwrap(), "'a\n");
        assert_eq!(unquote(r"`\n`").unwrap(), r"\n");
        assert!(unquote(r#""\'""#).is_err());
    }
}
