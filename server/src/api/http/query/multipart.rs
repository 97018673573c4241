//! Forms of several parts (`multipart/form-data`), as `curl -F` sends them.

/// The line between the parts of a form of this content type; none where it is another kind of form.
pub fn boundary(content_type: &str) -> Option<String> {
    let (kind, rest) = content_type.split_once(';')?;
    kind.trim().eq_ignore_ascii_case("multipart/form-data").then(|| parameter(rest, "boundary"))?
}

/// Names and values of the parts of a form; files among them are left out.
pub fn parse(boundary: &str, form: &[u8]) -> Result<Vec<(String, String)>, &'static str> {
    let mark = format!("\r\n--{boundary}");
    // What a form begins with is a boundary without the end of a line before it.
    let form = [b"\r\n", form].concat();
    let (_, mut rest) = split(&form, mark.as_bytes()).ok_or("its boundary is not in it")?;
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        let (part, next) = split(rest, mark.as_bytes()).ok_or("its last part has no end")?;
        let (head, value) = split(part, b"\r\n\r\n").ok_or("a part has no head")?;
        if let Some(name) = field_name(&String::from_utf8_lossy(head)) {
            fields.push((name, String::from_utf8_lossy(value).into_owned()));
        }
        rest = next;
    }
    Ok(fields)
}

/// What is before the first `mark`, and what follows it.
fn split<'b>(bytes: &'b [u8], mark: &[u8]) -> Option<(&'b [u8], &'b [u8])> {
    let at = bytes.windows(mark.len()).position(|window| window == mark)?;
    Some((&bytes[..at], &bytes[at + mark.len()..]))
}

/// The name of the part with this head; none of a file.
fn field_name(head: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let (_, disposition) = lines.find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))?;
    let (kind, rest) = disposition.split_once(';')?;
    let is_field = kind.trim().eq_ignore_ascii_case("form-data") && parameter(rest, "filename").is_none();
    parameter(rest, "name").filter(|_| is_field)
}

/// The value of the parameter called `name` among those of a header.
fn parameter(mut rest: &str, name: &str) -> Option<String> {
    loop {
        let (own, after) = rest.trim_start_matches([';', ' ', '\t']).split_once('=')?;
        let (value, after) = parameter_value(after)?;
        if own.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

/// A value at the start of `text`, quoted or not, and what follows it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return Some((text[..end].trim().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut is_escaped = false;
    for (at, character) in quoted.char_indices() {
        match character {
            '"' if !is_escaped => return Some((value, &quoted[at + 1..])),
            '\\' if !is_escaped => is_escaped = true,
            _ => {
                value.push(character);
                is_escaped = false;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_files_are_left_out() {
        let boundary = boundary("Multipart/Form-Data; charset=utf-8; boundary=\"a;b\"").unwrap();
        assert_eq!(boundary, "a;b");
        let form = "preamble\r\n--a;b\r\nContent-Type: text/plain\r\ncontent-disposition: form-data; name=\"a\\\"b\"\r\n\r\n\
                    up\r\n--a;\r\n--a;b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\nfile\r\n\
                    --a;b\r\nContent-Disposition: form-data; name=empty\r\n\r\n\r\n--a;b--\r\n";
        let pairs = [("a\"b", "up\r\n--a;"), ("empty", "")];
        assert_eq!(parse(&boundary, form.as_bytes()).unwrap(), pairs.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn other_forms_have_no_boundary_and_broken_ones_are_refused() {
        for kind in ["application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=\"a"] {
            assert_eq!(boundary(kind), None, "{kind}");
        }
        let whole = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nup\r\n--b--";
        assert_eq!(parse("b", whole.as_bytes()).unwrap().len(), 1);
        for len in 0..whole.len() - 2 {
            assert!(parse("b", &whole.as_bytes()[..len]).is_err(), "{len}");
        }
    }
}
