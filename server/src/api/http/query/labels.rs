//! `series`, `labels` and `label/<name>/values`.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use engine::model::{Error, ErrorKind, Labels};
use engine::promql::budget::Patience;
use engine::promql::pieces::Pieces;

use super::Api;
use super::backend::{Found, Wanted};
use super::ending::compute;
use super::params::{Params, Told};
use super::respond::{Failure, OPENING, closed, success};

const TRUNCATED: &str = "results truncated due to limit";

pub(super) async fn series(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    if params.all("match[]").is_empty() {
        return Err(Failure::bad_data("no match[] parameter provided"));
    }
    let wanted = wanted(&api, &params, Told::Named("match[]")).await?;
    let scope = params.series_scope(&api).await?;
    let mut found = looked_up(&api, api.backend.series(&scope, &wanted)).await?;
    truncate(&mut found, params.limit()?);
    let bytes = found.data.iter().map(text_bytes).sum();
    found.held.grow(bytes)?;
    // Many series are much text, which is written on a thread that may compute.
    let answered = compute(move |patience| {
        let text = series_json(&found.data, bytes, patience)?;
        Ok(closed(Pieces::from(text), &found.warnings, &[]))
    });
    Ok(answered.await?)
}

pub(super) async fn names(State(api): State<Arc<Api>>, params: Params) -> Result<Response, Failure> {
    let wanted = wanted(&api, &params, Told::Bare).await?;
    let scope = params.labels_scope(&api).await?;
    let found = looked_up(&api, api.backend.label_names(&scope, &wanted)).await?;
    listed(found, params.limit()?).await
}

pub(super) async fn values(
    State(api): State<Arc<Api>>,
    name: Result<Path<String>, PathRejection>,
    params: Params,
) -> Result<Response, Failure> {
    let Path(name) = name.map_err(|_| Failure::bad_data("invalid label name: it is not UTF-8"))?;
    let name = unescape(&name).unwrap_or(name);
    if name.is_empty() {
        return Err(Failure::bad_data(format!("invalid label name: {name:?}")));
    }
    let wanted = wanted(&api, &params, Told::Bare).await?;
    let scope = params.labels_scope(&api).await?;
    let found = looked_up(&api, api.backend.label_values(&scope, &name, &wanted)).await?;
    listed(found, params.limit()?).await
}

/// Label sets that are written between two looks at the caller.
const SERIES_UNWATCHED: usize = 1024;

/// Bytes of the text of `labels`, as far as nothing is escaped.
fn text_bytes(labels: &Labels) -> u64 {
    3 + labels.iter().map(|(name, value)| name.len() + value.len() + 6).sum::<usize>() as u64
}

/// The beginning of an answer, of about `bytes`: a list of objects, one for each label set.
fn series_json(series: &[Labels], bytes: u64, patience: &Patience) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(64 + bytes as usize);
    out.extend_from_slice(OPENING);
    let push = |out: &mut Vec<u8>, text: &str| {
        serde_json::to_writer(out, text).expect("a string can always be written to a vector");
    };
    out.push(b'[');
    for (at, labels) in series.iter().enumerate() {
        if at.is_multiple_of(SERIES_UNWATCHED) {
            patience.check()?;
        }
        out.extend_from_slice(if at > 0 { b",{" } else { b"{" });
        for (at, (name, value)) in labels.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            push(&mut out, name);
            out.push(b':');
            push(&mut out, value);
        }
        out.push(b'}');
    }
    out.push(b']');
    Ok(out)
}

/// What `work` gives; that an endpoint failed or can't answer is an error of execution here, as in
/// Thanos.
async fn looked_up<T>(api: &Api, work: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    let as_execution = |error: Error| match error.kind() {
        ErrorKind::Invalid | ErrorKind::Unavailable | ErrorKind::Corrupt => {
            Error::new(ErrorKind::Limit, error.message())
        }
        _ => error,
    };
    api.within(async { work.await.map_err(as_execution) }).await
}

async fn wanted(api: &Api, params: &Params, told: Told) -> Result<Wanted, Failure> {
    let range = params.range(api.settings.metadata_range)?;
    // One more than wanted shows that some are left out.
    let limit = match params.limit()? {
        0 => 0,
        limit => limit.saturating_add(1),
    };
    Ok(Wanted { matchers: params.matchers(api, told).await?, range, limit })
}

/// Leaves out what is beyond `limit`, and says so; 0 for no limit.
fn truncate<T>(found: &mut Found<Vec<T>>, limit: usize) {
    if limit > 0 && found.data.len() > limit {
        found.data.truncate(limit);
        found.warnings.push(TRUNCATED.to_owned());
    }
}

async fn listed(mut found: Found<Vec<String>>, limit: usize) -> Result<Response, Failure> {
    truncate(&mut found, limit);
    found.held.grow(found.data.iter().map(|text| text.len() as u64 + 3).sum())?;
    Ok(compute(move |_| Ok(success(&found.data, &found.warnings))).await?)
}

/// The label name that a path writes escaped: `U__` starts names whose other characters are written
/// `_<hex>_`, and `__` is an underscore. `None` when it is not, or badly: then it is meant as it stands.
pub fn unescape(name: &str) -> Option<String> {
    let mut parts = name.strip_prefix("U__")?.split('_');
    let mut plain = parts.next()?.to_owned();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            plain.push('_');
        } else {
            let digits = Some(part).filter(|part| part.len() <= 6 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
            plain.push(char::from_u32(u32::from_str_radix(digits?, 16).ok()?)?);
        }
        plain.push_str(parts.next()?);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_written_as_objects() {
        let series = [Labels::from_pairs([("a", "\"b\""), ("c", "ä")]), Labels::default()];
        let patience = Patience::default();
        let text = String::from_utf8(series_json(&series, 0, &patience).unwrap()).unwrap();
        assert_eq!(text, r#"{"status":"success","data":[{"a":"\"b\"","c":"ä"},{}]"#);
        assert_eq!(series_json(&[], 0, &patience).unwrap(), [OPENING, b"[]"].concat());
        patience.canceled.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(series_json(&series, 0, &patience).unwrap_err().kind(), ErrorKind::Canceled);
    }

    #[test]
    fn escaped_names_are_plain_again() {
        assert_eq!(unescape("U__http_2e_status__code").as_deref(), Some("http.status_code"));
        assert_eq!(unescape("U___1f600_").as_deref(), Some("😀"));
        for plain in ["job", "", "U__a_zz_", "U__job_", "U__a_+1f_b", "U__a_0000041_b", "U__a_d800_b"] {
            assert_eq!(unescape(plain), None, "{plain}");
        }
    }
}
