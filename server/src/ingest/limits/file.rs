//! The limits file, read again while the process runs.

use std::path::PathBuf;
use std::time::Duration;

use super::Limiter;
use crate::config::{ConfigError, content};

/// The flag that names the file.
const FLAG: &str = "receive.limits-config-file";

/// Time for which a changed file stays as it is before it is taken: one that is being written may be cut off
/// anywhere and still be YAML.
const SETTLE: Duration = Duration::from_millis(50);

/// A file of limits that were taken from it.
#[derive(Clone, Debug)]
pub struct LimitsFile {
    /// Where it is.
    pub path: PathBuf,
    /// Time between two looks at it.
    pub interval: Duration,
    /// What was taken, with its variables replaced.
    pub text: String,
}

impl LimitsFile {
    /// Gives `limiter` what the file becomes, for ever, with its variables replaced by what `environment` has for them.
    pub async fn follow(&self, limiter: &Limiter, environment: fn(&str) -> Option<String>) {
        let mut last = self.text.clone();
        let mut is_readable = true;
        loop {
            tokio::time::sleep(self.interval).await;
            let found = self.read(environment);
            let was_readable = std::mem::replace(&mut is_readable, found.is_ok());
            match found {
                Ok(text) if text == last => {}
                Ok(text) => {
                    tokio::time::sleep(SETTLE).await;
                    if self.read(environment).as_ref() != Ok(&text) {
                        // Somebody is writing it.
                        continue;
                    }
                    match limiter.reload(&text) {
                        Ok(()) => tracing::info!(file = %self.path.display(), "took changed limits"),
                        Err(error) => tracing::error!(%error, "cannot use the limits, keeping the old ones"),
                    }
                    last = text;
                }
                Err(_) if !was_readable => {}
                Err(error) => {
                    limiter.reload_failed();
                    tracing::error!(%error, "cannot read the limits, keeping the old ones");
                }
            }
        }
    }

    fn read(&self, environment: fn(&str) -> Option<String>) -> Result<String, ConfigError> {
        content::read_file(FLAG, &self.path, &environment)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::super::LimitsConfig;
    use super::*;

    const NONE: &str = "write: {}";

    fn environment(name: &str) -> Option<String> {
        (name == "SERIES").then(|| "7".to_owned())
    }

    /// A limiter without limits and the file that they came from, which `now` stands in since.
    fn file(folder: &tempfile::TempDir, now: &str) -> (Limiter, LimitsFile) {
        let path = folder.path().join("limits.yaml");
        std::fs::write(&path, now).unwrap();
        let limiter = Limiter::new(LimitsConfig::parse(NONE).unwrap(), &mut Registry::default());
        (limiter, LimitsFile { path, interval: Duration::from_millis(10), text: NONE.to_owned() })
    }

    /// Follows the file until `is_over`.
    fn follow((limiter, file): (&Limiter, &LimitsFile), is_over: impl Fn() -> bool) {
        let over = async {
            while !is_over() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let followed = async {
            tokio::select! {
                () = file.follow(limiter, environment) => {}
                () = over => {}
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let ended = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), followed).await });
        ended.expect("it comes to that");
    }

    /// It was never taken: what was there when following began was held to be what had been loaded. And variables
    /// were replaced at the start alone.
    #[test]
    fn a_file_that_changes_before_it_is_followed_is_taken_with_its_variables_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (limiter, file) = file(&folder, "write: {default: {request: {series_limit: $(SERIES)}}}");
        follow((&limiter, &file), || limiter.content("a", 8, 0).is_err());
        assert_eq!(limiter.content("a", 7, 0), Ok(()));
    }

    #[test]
    fn a_variable_that_is_not_set_leaves_the_old_limits_and_is_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        let (limiter, file) = file(&folder, "write: {default: {request: {series_limit: 1, samples_limit: $(GONE)}}}");
        let errors = || limiter.metrics.reload_errors.get_or_create(&Vec::new()).get();
        follow((&limiter, &file), || errors() == 1);
        assert_eq!(limiter.content("a", 8, 8), Ok(()));
        // The next look finds the same.
        let begin = std::time::Instant::now();
        follow((&limiter, &file), || errors() == 2 && begin.elapsed() > Duration::from_millis(100));
        assert_eq!(errors(), 2);
    }

    #[test]
    fn a_file_that_stays_as_it_was_taken_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let (limiter, file) = file(&folder, NONE);
        let begin = std::time::Instant::now();
        follow((&limiter, &file), || begin.elapsed() > Duration::from_millis(100));
        assert_eq!(limiter.metrics.reloads.get_or_create(&Vec::new()).get(), 0);
    }
}
