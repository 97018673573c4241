//! Where an S3 client looks for credentials that its configuration doesn't give.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};
use tokio::sync::Mutex;

use crate::telemetry::causes::with_causes;

/// All that is looked for, for the error when there is nothing.
const SOUGHT: &str = "no credentials: there are neither access_key and secret_key in the configuration, nor \
                      AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN or \
                      AWS_CONTAINER_CREDENTIALS_* in the environment, nor a profile in ~/.aws/credentials, nor does \
                      the service that was asked last give any";

/// How long credentials hold at least from when they were given: the client asks for others when less of their time
/// is left.
const HOLD_TIME_MIN: Duration = Duration::from_secs(5 * 60);

/// How long the service is waited for while credentials hold.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(5);

/// Time between two questions to who gives no credentials, while the last ones hold.
const QUESTION_PAUSE: Duration = Duration::from_secs(10);

/// What of the environment counts, where it is not empty: who asks, and in which region. Where the bucket is and how
/// objects are stored, the configuration alone says.
const VARIABLES: [&str; 14] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
    "AWS_IMDSV1_FALLBACK",
];

/// Keys of a profile.
#[derive(Default)]
pub struct Keys {
    id: String,
    secret: String,
    token: String,
}

/// A builder that knows what the environment and `~/.aws/credentials` say.
pub(super) fn of_environment() -> AmazonS3Builder {
    completed(&|name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// `credentials`, whose failure says what was looked for, and counts only when the last ones hold no longer.
pub(super) fn sought(credentials: AwsCredentialProvider) -> AwsCredentialProvider {
    Arc::new(Sought { credentials, given: Mutex::default() })
}

#[derive(Debug)]
struct Sought {
    credentials: AwsCredentialProvider,
    given: Mutex<Given>,
}

/// What was given last.
#[derive(Debug, Default)]
struct Given {
    last: Option<(Arc<AwsCredential>, Instant)>,
    /// When a question failed after that.
    failed: Option<Instant>,
}

impl Given {
    /// The last credentials, where they hold.
    fn holding(&self) -> Option<Arc<AwsCredential>> {
        let last = self.last.as_ref().filter(|(_, given)| given.elapsed() < HOLD_TIME_MIN);
        last.map(|(credential, _)| Arc::clone(credential))
    }
}

#[async_trait]
impl CredentialProvider for Sought {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        // Others wait: when the question fails, they need not ask it.
        let mut given = self.given.lock().await;
        let has_just_failed = given.failed.is_some_and(|failed| failed.elapsed() < QUESTION_PAUSE);
        if let Some(credential) = given.holding().filter(|_| has_just_failed) {
            return Ok(credential);
        }
        let question = self.credentials.get_credential();
        let answered = match given.holding() {
            // Requests need not wait for a service that says nothing.
            Some(_) => tokio::time::timeout(QUESTION_TIME_MAX, question).await.unwrap_or_else(|_| Err(unanswered())),
            None => question.await,
        };
        let error = match answered {
            Ok(credential) => {
                *given = Given { last: Some((Arc::clone(&credential), Instant::now())), failed: None };
                return Ok(credential);
            }
            Err(error) => error,
        };
        given.failed = Some(Instant::now());
        if let Some(credential) = given.holding() {
            tracing::warn!(error = with_causes(&error), "no new credentials are given, the last ones go on being used");
            return Ok(credential);
        }
        let source = Box::new(io::Error::other(format!("{SOUGHT}: {}", with_causes(&error))));
        Err(object_store::Error::Generic { store: "S3", source })
    }
}

/// The service that gives credentials said nothing.
fn unanswered() -> object_store::Error {
    let source = Box::new(io::Error::other(format!("no answer within {QUESTION_TIME_MAX:?}")));
    object_store::Error::Generic { store: "S3", source }
}

/// A builder that has read the names that AWS has now, the older names and the file of profiles.
fn completed(environment: &dyn Fn(&str) -> Option<String>) -> AmazonS3Builder {
    let builder = VARIABLES.iter().fold(AmazonS3Builder::new(), |builder, name| {
        let key = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>().ok();
        match key.zip(environment(name)) {
            Some((key, value)) => builder.with_config(key, value),
            None => builder,
        }
    });
    let given = |key: AmazonS3ConfigKey, older: &str| builder.get_config_value(&key).or_else(|| environment(older));
    let id = given(AmazonS3ConfigKey::AccessKeyId, "AWS_ACCESS_KEY");
    let secret = given(AmazonS3ConfigKey::SecretAccessKey, "AWS_SECRET_KEY");
    if let (Some(id), Some(secret)) = (id, secret) {
        return builder.with_access_key_id(id).with_secret_access_key(secret);
    }
    if builder.get_config_value(&AmazonS3ConfigKey::WebIdentityTokenFile).is_some() {
        return builder;
    }
    let Some(keys) = of_file(environment) else { return builder };
    // Not with a token of the environment, which goes with other keys.
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let builder = region.map_or_else(AmazonS3Builder::new, |region| AmazonS3Builder::new().with_region(region));
    let builder = builder.with_access_key_id(keys.id).with_secret_access_key(keys.secret);
    if keys.token.is_empty() { builder } else { builder.with_token(keys.token) }
}

/// The keys of the profile that the environment names in the file of profiles, where there are such.
fn of_file(environment: &dyn Fn(&str) -> Option<String>) -> Option<Keys> {
    let path = environment("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let path = path.or_else(|| Some(PathBuf::from(environment("HOME")?).join(".aws/credentials")))?;
    let text = std::fs::read_to_string(path).ok()?;
    profile(&text, &environment("AWS_PROFILE").unwrap_or_else(|| "default".to_owned()))
}

/// The keys of a profile; `None` where it has none.
pub fn profile(text: &str, name: &str) -> Option<Keys> {
    let (mut keys, mut is_within) = (Keys::default(), false);
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_within = section.trim() == name;
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| is_within) else { continue };
        let value = value.trim().to_owned();
        match key.trim() {
            "aws_access_key_id" => keys.id = value,
            "aws_secret_access_key" => keys.secret = value,
            "aws_session_token" => keys.token = value,
            _ => {}
        }
    }
    Some(keys).filter(|keys| !keys.id.is_empty() && !keys.secret.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILES: &str = "# comment = none\n[default]\naws_access_key_id = A\naws_secret_access_key=b=c\n\n\
                            [ team ]\naws_access_key_id=T\naws_secret_access_key=t\naws_session_token=s\n[empty]\n";

    #[test]
    fn keys_are_those_of_the_environment_or_else_of_the_profile_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("profiles");
        std::fs::write(&file, PROFILES).unwrap();
        let file = file.to_str().unwrap();
        for (variables, expected) in [
            (&[("AWS_ACCESS_KEY", "E"), ("AWS_SECRET_KEY", "e")][..], Some(("E", "e"))),
            (&[("AWS_SHARED_CREDENTIALS_FILE", file)], Some(("A", "b=c"))),
            (&[("AWS_SHARED_CREDENTIALS_FILE", file), ("AWS_PROFILE", "team")], Some(("T", "t"))),
            (&[("AWS_SHARED_CREDENTIALS_FILE", file), ("AWS_PROFILE", "empty")], None),
            (&[("AWS_SHARED_CREDENTIALS_FILE", file), ("AWS_SESSION_TOKEN", "of other keys")], Some(("A", "b=c"))),
            (&[("AWS_ACCESS_KEY_ID", "N"), ("AWS_SECRET_ACCESS_KEY", "n"), ("AWS_REGION", "r")], Some(("N", "n"))),
            (&[("HOME", "/nowhere"), ("AWS_ENDPOINT_URL_S3", "http://elsewhere")], None),
        ] {
            let environment = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let builder = completed(&environment);
            let found = |key| builder.get_config_value(&key);
            let keys = found(AmazonS3ConfigKey::AccessKeyId).zip(found(AmazonS3ConfigKey::SecretAccessKey));
            assert_eq!(keys, expected.map(|(id, secret)| (id.to_owned(), secret.to_owned())), "{variables:?}");
            let token = found(AmazonS3ConfigKey::Token);
            assert_eq!(token.as_deref(), expected.filter(|(id, _)| *id == "T").map(|_| "s"), "{variables:?}");
            // It once took the place of the configured endpoint.
            assert_eq!(found(AmazonS3ConfigKey::S3Endpoint), None);
            let region = environment("AWS_REGION");
            assert_eq!(found(AmazonS3ConfigKey::Region), region);
        }
    }

    #[derive(Debug)]
    struct Nobody;

    #[async_trait]
    impl CredentialProvider for Nobody {
        type Credential = AwsCredential;

        async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
            Err(object_store::Error::NotImplemented { operation: "a".into(), implementer: "b".into() })
        }
    }

    /// Gives credentials to the first who asks.
    #[derive(Debug, Default)]
    struct Once(std::sync::atomic::AtomicU32);

    #[async_trait]
    impl CredentialProvider for Once {
        type Credential = AwsCredential;

        async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
            if self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0 {
                return Nobody.get_credential().await;
            }
            Ok(Arc::new(AwsCredential { key_id: "key".into(), secret_key: "secret".into(), token: None }))
        }
    }

    /// While the service failed, so did all requests, though the credentials held for minutes.
    #[tokio::test]
    async fn credentials_go_on_being_used_while_they_hold_and_no_others_are_given() {
        let once = Arc::new(Once::default());
        let credentials: AwsCredentialProvider = Arc::<Once>::clone(&once);
        let sought = Sought { credentials, given: Mutex::default() };
        for _ in 0..4 {
            assert_eq!(sought.get_credential().await.unwrap().key_id, "key");
        }
        let asked = once.0.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(asked, 2, "who fails is not asked again at once");
        let ended = Instant::now().checked_sub(HOLD_TIME_MIN).unwrap();
        sought.given.lock().await.last.as_mut().unwrap().1 = ended;
        sought.get_credential().await.unwrap_err();
    }

    #[tokio::test]
    async fn a_failure_names_what_was_looked_for() {
        let error = sought(Arc::new(Nobody)).get_credential().await.unwrap_err();
        let text = with_causes(&error);
        assert!(text.contains("AWS_ACCESS_KEY_ID") && text.contains("~/.aws/credentials"), "{text}");
    }
}
