//! `--request.logging-config`: which requests are logged when they start and end, with Thanos' keys.
//!
//! ```yaml
//! options: {level: DEBUG, decision: {log_start: false, log_end: true}}
//! grpc: {options: {…}, config: [{service: thanos.Store, method: Series}]}
//! http: {options: {…}, config: [{path: /api/v1/query, port: 10902}]}
//! ```

use serde::Deserialize;

use crate::cli::Values;
use crate::config::{ConfigError, content, from_yaml};

const FLAG: &str = "request.logging-config";

/// When a request is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    /// Never.
    #[default]
    Nothing,
    /// At its end.
    End,
    /// At its start and its end.
    StartAndEnd,
}

/// How grave a line about a request must be to be written; what is graver is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Gravity {
    #[default]
    Debug,
    Info,
    Warning,
    Error,
}

/// Which requests are logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestLog {
    http: Rule,
    grpc: Rule,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rule {
    decision: Decision,
    least: Gravity,
    /// Requests that the rule is for; empty: all.
    only: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    http: HttpConfig,
    grpc: GrpcConfig,
    options: Options,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpConfig {
    options: Options,
    config: Vec<HttpRequest>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GrpcConfig {
    options: Options,
    config: Vec<GrpcRequest>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpRequest {
    path: String,
    port: u64,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GrpcRequest {
    service: String,
    method: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    level: String,
    decision: DecisionConfig,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DecisionConfig {
    log_start: bool,
    log_end: bool,
}

impl RequestLog {
    /// What the flags say; nothing is logged when they are absent, or the component has none.
    pub fn of(values: &Values) -> Result<Self, ConfigError> {
        if !values.has(FLAG) {
            return Ok(Self::default());
        }
        let environment = |name: &str| std::env::var(name).ok();
        let text = content::read(values, FLAG, &environment)?.filter(|text| !text.trim().is_empty());
        let log = text.map_or_else(|| Ok(Self::default()), |text| Self::parse(&text));
        log.map_err(|error| error.given_by(values))
    }

    /// Reads the YAML.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let Config { http, grpc, options } = from_yaml(FLAG, text)?;
        let paths = http.config.iter().map(|request| format!("{}:{}", request.path, request.port)).collect();
        let calls = grpc.config.iter().map(|request| format!("/{}/{}", request.service, request.method)).collect();
        Ok(Self { http: rule(&[&options, &http.options], paths)?, grpc: rule(&[&options, &grpc.options], calls)? })
    }

    /// Whether any HTTP request is logged.
    pub fn has_http(&self) -> bool {
        self.http.decision != Decision::Nothing
    }

    /// When a call of `path` (`/package.Service/Method`) is logged.
    pub fn grpc(&self, path: &str) -> Decision {
        self.grpc.of(path)
    }

    /// When a request for `target`, which has path and query, is logged that came to `host`.
    pub fn http(&self, target: &str, host: &str) -> Decision {
        match host.rsplit_once(':') {
            Some((_, port)) => self.http.of(&format!("{target}:{port}")),
            None => self.http.of(target),
        }
    }

    /// Whether the end of an HTTP request with this status is grave enough to be written.
    pub fn writes_http(&self, status: u16) -> bool {
        let gravity = if (200..500).contains(&status) { Gravity::Debug } else { Gravity::Error };
        gravity >= self.http.least
    }
}

impl Rule {
    fn of(&self, request: &str) -> Decision {
        if self.only.is_empty() || self.only.iter().any(|only| only == request) {
            self.decision
        } else {
            Decision::Nothing
        }
    }
}

/// The rule of the last options that say something.
fn rule(options: &[&Options], only: Vec<String>) -> Result<Rule, ConfigError> {
    let wrong = |why: String| ConfigError::new(FLAG, why);
    let mut rule = Rule { only, least: Gravity::Error, ..Rule::default() };
    for Options { level, decision } in options {
        let chosen = match (decision.log_start, decision.log_end) {
            (false, false) if level.is_empty() => continue,
            _ if level.is_empty() => return Err(wrong("level field is empty".into())),
            (false, false) => Decision::Nothing,
            (false, true) => Decision::End,
            (true, true) => Decision::StartAndEnd,
            (true, false) => return Err(wrong("log decision combination is not supported: set log_end too".into())),
        };
        let least = match level.as_str() {
            "DEBUG" => Gravity::Debug,
            "INFO" => Gravity::Info,
            "WARNING" => Gravity::Warning,
            "ERROR" => Gravity::Error,
            other => {
                let why = "the format of level is invalid. Expected INFO/DEBUG/ERROR/WARNING, got this";
                return Err(wrong(format!("{why} {other}")));
            }
        };
        (rule.decision, rule.least) = (chosen, least);
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_protocol_take_the_place_of_those_for_all() {
        let text = "options: {level: INFO, decision: {log_end: true}}\n\
                    grpc: {options: {level: DEBUG, decision: {log_start: true, log_end: true}}, \
                    config: [{service: thanos.Store, method: Series}]}\n";
        let log = RequestLog::parse(text).unwrap();
        assert_eq!(log.grpc("/thanos.Store/Series"), Decision::StartAndEnd);
        assert_eq!(log.grpc("/thanos.Store/LabelNames"), Decision::Nothing);
        assert_eq!(log.http("/api/v1/query?query=up", "localhost:10902"), Decision::End);
        assert!(log.writes_http(500) && !log.writes_http(200));
    }

    #[test]
    fn requests_of_http_are_told_by_path_and_port() {
        let text = "http: {options: {level: DEBUG, decision: {log_end: true}}, \
                    config: [{path: /api/v1/blocks, port: 10902}]}";
        let log = RequestLog::parse(text).unwrap();
        assert_eq!(log.http("/api/v1/blocks", "h:10902"), Decision::End);
        assert_eq!(log.http("/api/v1/blocks", "h:80"), Decision::Nothing);
        assert_eq!(log.grpc("/thanos.Store/Series"), Decision::Nothing);
    }

    #[test]
    fn what_thanos_refuses_is_refused() {
        for text in [
            "options: {decision: {log_end: true}}",
            "options: {level: LOUD, decision: {log_end: true}}",
            "options: {level: INFO, decision: {log_start: true}}",
            "nonsense: 1",
        ] {
            assert!(RequestLog::parse(text).is_err(), "{text}");
        }
    }
}
