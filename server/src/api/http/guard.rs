//! Who may ask over HTTP and how often, and the headers of every answer: what the file of `--http.config`
//! says besides TLS. It is read again when it changes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use ring::digest;

use crate::config::ConfigError;
use crate::config::web::{self, Rate, Web};
use crate::edge::tls::{Stamp, stamp};

/// Passwords whose check is remembered: checking one takes as long as it would take to guess one.
const CHECKED_MAX: usize = 100;

/// What an unknown user's password is held against, so that the time tells nothing.
const NOBODYS_HASH: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

/// Keeps the HTTP server.
#[derive(Debug)]
pub struct Guard {
    flag: String,
    path: PathBuf,
    /// What it said first: one that is being written may say nothing.
    first: Arc<Web>,
    loaded: Mutex<(Stamp, Result<Arc<Web>, String>)>,
    bucket: Option<Mutex<Bucket>>,
    checked: Mutex<HashMap<Vec<u8>, bool>>,
    /// Held while a password is checked: one at a time, as each costs much.
    checking: Mutex<()>,
}

/// Requests that may come now, as of the last one.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    left: f64,
    at: Instant,
}

impl Guard {
    /// The guard that the file at `path` describes.
    pub fn open(flag: &str, path: PathBuf) -> Result<Self, ConfigError> {
        let (stamp, web) = (stamp(&path), Arc::new(web::read(flag, &path)?));
        let bucket = web.rate.map(|rate| Bucket { rate, left: f64::from(rate.burst), at: Instant::now() });
        Ok(Self {
            flag: flag.to_owned(),
            path,
            first: Arc::clone(&web),
            loaded: Mutex::new((stamp, Ok(web))),
            bucket: bucket.map(Mutex::new),
            checked: Mutex::default(),
            checking: Mutex::default(),
        })
    }

    fn current(&self) -> Result<Arc<Web>, String> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.path);
        if now != loaded.0 {
            let web = web::read(&self.flag, &self.path).map_err(|error| error.to_string());
            let web = match web {
                Ok(web) if self.first.tls.is_some() && web.tls.is_none() => Err("TLS config is not present".to_owned()),
                Ok(web) if !self.first.users.is_empty() && web.is_empty() => {
                    Err("the file has become empty".to_owned())
                }
                web => web.map(Arc::new),
            };
            if let Err(error) = &web {
                tracing::error!(%error, "unable to parse configuration");
            }
            *loaded = (now, web);
        }
        loaded.1.clone()
    }

    fn lets_one_more(&self) -> bool {
        let Some(bucket) = &self.bucket else { return true };
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let more = (now - bucket.at).as_secs_f64() / bucket.rate.interval.as_secs_f64();
        bucket.left = (bucket.left + more).min(f64::from(bucket.rate.burst));
        bucket.at = now;
        let lets = bucket.left >= 1.0;
        if lets {
            bucket.left -= 1.0;
        }
        lets
    }

    /// Whether the user is known and the password theirs. Blocks for the time that a check takes.
    fn knows(&self, web: &Web, (user, password): &(String, String)) -> bool {
        let known = web.users.get(user);
        let hash = known.map_or(NOBODYS_HASH, String::as_str);
        let parts = [user, hash, password].map(|part| digest::digest(&digest::SHA256, part.as_bytes()));
        let key: Vec<u8> = parts.iter().flat_map(|part| part.as_ref()).copied().collect();
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some(is_right) = checked {
            return is_right && known.is_some();
        }
        let turn = self.checking.lock().unwrap_or_else(PoisonError::into_inner);
        let is_right = bcrypt::verify(password, hash).unwrap_or(false);
        drop(turn);
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= CHECKED_MAX {
            checked.clear();
        }
        checked.insert(key, is_right);
        // Somebody may be unknown and guess the password that nobody has.
        is_right && known.is_some()
    }
}

/// Answers a request if its sender may ask; with the headers that answers have.
pub async fn watch(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let Ok(web) = guard.current() else { return plain(StatusCode::INTERNAL_SERVER_ERROR) };
    if !guard.lets_one_more() {
        return plain(StatusCode::TOO_MANY_REQUESTS);
    }
    let mut response = if may_ask(&guard, &web, request.headers()).await {
        next.run(request).await
    } else {
        let mut refused = plain(StatusCode::UNAUTHORIZED);
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
        refused
    };
    for (name, value) in &web.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

async fn may_ask(guard: &Arc<Guard>, web: &Arc<Web>, headers: &HeaderMap) -> bool {
    if web.users.is_empty() {
        return true;
    }
    let Some(credentials) = credentials(headers) else { return false };
    let (guard, web) = (Arc::clone(guard), Arc::clone(web));
    tokio::task::spawn_blocking(move || guard.knows(&web, &credentials)).await.unwrap_or(false)
}

/// The user and the password of a request.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let decoded = STANDARD.decode(encoded).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// A status and its words, as Go's `http.Error` sends them.
fn plain(status: StatusCode) -> Response {
    let words = format!("{}\n", status.canonical_reason().unwrap_or_default());
    let kind = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
    (status, [kind, (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], words).into_response()
}
