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
use tokio::sync::Semaphore;

use crate::config::ConfigError;
use crate::config::web::{self, Rate, Web};
use crate::edge::tls::{Stamp, stamp};

/// Passwords whose check is remembered: checking one takes as long as it would take to guess one.
const CHECKED_MAX: usize = 100;

/// Requests that wait at once until their password is checked: who guesses could have any number of them wait.
const WAITING_MAX: usize = 1000;

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
    /// Turns of those whose password is checked: one at a time, as each costs much.
    checking: Arc<Semaphore>,
    /// Places of those who wait for a turn or have it.
    waiting: Semaphore,
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
            checking: Arc::new(Semaphore::new(1)),
            waiting: Semaphore::new(WAITING_MAX),
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

    /// Whether the user is known and the password theirs; `None` where too many wait to be told that. Who is not
    /// remembered waits for a turn, without a thread, and has left the queue when the caller is gone.
    async fn knows(self: &Arc<Self>, web: &Web, (user, password): (String, String)) -> Option<bool> {
        let known = web.users.get(&user);
        // Somebody may be unknown and guess the password that nobody has.
        let is_known = known.is_some();
        let hash = known.map_or(NOBODYS_HASH, String::as_str).to_owned();
        let parts = [&user, &hash, &password].map(|part| digest::digest(&digest::SHA256, part.as_bytes()));
        // A user may come and go whose hash is nobody's.
        let known = [u8::from(is_known)];
        let key: Vec<u8> = parts.iter().flat_map(|part| part.as_ref()).chain(&known).copied().collect();
        if let Some(is_right) = self.remembered(&key) {
            return Some(is_right);
        }
        let _place = self.waiting.try_acquire().ok()?;
        let turn = Arc::clone(&self.checking).acquire_owned().await.ok()?;
        // Others may have waited with the same password.
        if let Some(is_right) = self.remembered(&key) {
            return Some(is_right);
        }
        let guard = Arc::clone(self);
        let checked = tokio::task::spawn_blocking(move || {
            // Everybody may know the password that nobody has: it is no right one that would stay longer.
            let is_right = bcrypt::verify(password, &hash).unwrap_or(false) && is_known;
            guard.remember(key, is_right);
            // A check goes on when its caller is gone, and no other begins meanwhile.
            drop(turn);
            is_right
        });
        Some(checked.await.unwrap_or(false))
    }

    fn remembered(&self, key: &[u8]) -> Option<bool> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    /// Remembers whether a password is right. Those that are stay longer: wrong ones come as often as somebody guesses.
    fn remember(&self, key: Vec<u8>, is_right: bool) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= CHECKED_MAX {
            checked.retain(|_, is_right| *is_right);
        }
        if checked.len() >= CHECKED_MAX {
            if !is_right {
                return;
            }
            checked.clear();
        }
        checked.insert(key, is_right);
    }
}

/// Answers a request if its sender may ask; with the headers that answers have.
pub async fn watch(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let Ok(web) = guard.current() else { return plain(StatusCode::INTERNAL_SERVER_ERROR) };
    if !guard.lets_one_more() {
        return plain(StatusCode::TOO_MANY_REQUESTS);
    }
    let mut response = match may_ask(&guard, &web, request.headers()).await {
        Some(true) => next.run(request).await,
        Some(false) => {
            let mut refused = plain(StatusCode::UNAUTHORIZED);
            refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
            refused
        }
        None => plain(StatusCode::SERVICE_UNAVAILABLE),
    };
    for (name, value) in &web.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// Whether the sender of a request may ask; `None` where that can't be told now.
async fn may_ask(guard: &Arc<Guard>, web: &Web, headers: &HeaderMap) -> Option<bool> {
    if web.users.is_empty() {
        return Some(true);
    }
    let Some(credentials) = credentials(headers) else { return Some(false) };
    guard.knows(web, credentials).await
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whoever guessed passwords once held back all others, each guess with a thread.
    #[tokio::test]
    async fn a_password_that_is_remembered_waits_for_no_other_and_who_is_gone_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        std::fs::write(&path, format!("basic_auth_users: {{alice: {NOBODYS_HASH}}}")).unwrap();
        let guard = Arc::new(Guard::open("http.config", path).unwrap());
        let web = guard.current().unwrap();
        let asks_as = async |user: &str, password: &str| {
            let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::try_from(value).unwrap())]);
            tokio::time::timeout(Duration::from_millis(500), may_ask(&guard, &web, &headers)).await
        };
        let asks = async |password: &str| asks_as("alice", password).await;
        // The check itself may take longer than this waits; it goes on.
        let is_answered = async |user: &str, password: &str, expected: bool| {
            for _ in 0..100 {
                if let Ok(found) = asks_as(user, password).await {
                    return found == Some(expected);
                }
            }
            false
        };
        assert!(is_answered("alice", "fakepassword", true).await);
        let turn = Arc::clone(&guard.checking).acquire_owned().await.unwrap();
        assert!(asks("guess").await.is_err(), "it waits for a turn");
        assert_eq!(asks("fakepassword").await, Ok(Some(true)));
        // Nobody else waits: who guesses could have requests wait until there is no memory.
        let places = guard.waiting.try_acquire_many(WAITING_MAX as u32).unwrap();
        assert_eq!(asks("guess").await, Ok(None));
        assert_eq!(asks("fakepassword").await, Ok(Some(true)));
        drop((turn, places));
        for guess in 0..2 * CHECKED_MAX {
            guard.remember(vec![guess as u8, 0], false);
        }
        assert_eq!(asks("fakepassword").await, Ok(Some(true)));
        assert!(guard.checked.lock().unwrap().len() <= CHECKED_MAX);
        assert!(is_answered("alice", "guess", false).await);
        // The password that nobody has, of users that there are not, once drove out right ones.
        for user in 0..2 {
            assert!(is_answered(&format!("nobody{user}"), "fakepassword", false).await);
        }
        let right = guard.checked.lock().unwrap().values().filter(|is_right| **is_right).count();
        assert_eq!(right, 1, "alice's");
    }
}
