//! Addresses of endpoints: as given, by DNS, and from files that are read again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::model::Error;
use serde::Deserialize;

use super::metrics::FanoutMetrics;

/// An address that endpoints are found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// `host:port`, or with `dns+`, `dnssrv+`, `dnssrvnoa+` before it.
    pub address: String,
    /// Whether the endpoint stays even while it does not answer.
    pub presence: Presence,
}

/// Whether an endpoint stays while it does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// It is left out until it answers.
    WhenHealthy,
    /// It is asked all the same (`--endpoint-strict`).
    Always,
}

/// All that endpoints are found by.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// From the command line.
    pub given: Vec<Source>,
    /// Files of addresses (`--store.sd-files`), patterns of the last part of a path allowed.
    pub files: Vec<String>,
    /// A file of endpoints (`--endpoint.sd-config-file`).
    pub config_file: Option<PathBuf>,
}

/// One entry of a file of addresses, as Prometheus' file_sd has it.
#[derive(Deserialize)]
struct Group {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    endpoints: Vec<ConfigEndpoint>,
}

#[derive(Deserialize)]
struct ConfigEndpoint {
    address: String,
    #[serde(default)]
    strict: bool,
}

impl Discovery {
    /// Every address now, resolved, each once; and what could not be read or resolved.
    pub async fn addresses(&self, metrics: &FanoutMetrics) -> (BTreeMap<String, Presence>, Vec<String>) {
        let mut problems = Vec::new();
        let mut sources = self.given.clone();
        for pattern in &self.files {
            for file in expand(pattern) {
                match read_group(&file) {
                    Ok(found) => sources.extend(found),
                    Err(error) => problems.push(error.to_string()),
                }
            }
        }
        if let Some(file) = &self.config_file {
            match std::fs::read_to_string(file) {
                Ok(text) => match parse_config(&text) {
                    Ok(found) => sources.extend(found),
                    Err(error) => problems.push(error.within(file.display()).to_string()),
                },
                Err(error) => problems.push(format!("{}: {error}", file.display())),
            }
        }
        let mut addresses = BTreeMap::new();
        for source in sources {
            if source.address.starts_with("dns") && source.address.contains('+') {
                metrics.lookups.inc();
            }
            match resolve(&source.address).await {
                Ok(found) => addresses.extend(found.into_iter().map(|address| (address, source.presence))),
                Err(error) => {
                    metrics.lookup_failures.inc();
                    problems.push(error.to_string());
                }
            }
        }
        (addresses, problems)
    }
}

/// The endpoints of an `--endpoint.sd-config`.
pub fn parse_config(text: &str) -> Result<Vec<Source>, Error> {
    let config: Config =
        serde_saphyr::from_str(text).map_err(|error| Error::invalid(format!("endpoint.sd-config: {error}")))?;
    let presence = |strict: bool| if strict { Presence::Always } else { Presence::WhenHealthy };
    Ok(config
        .endpoints
        .into_iter()
        .map(|endpoint| Source { address: endpoint.address, presence: presence(endpoint.strict) })
        .collect())
}

fn read_group(file: &PathBuf) -> Result<Vec<Source>, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::invalid(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
    let groups: Vec<Group> = serde_saphyr::from_str(&text).map_err(|error| failed(&error))?;
    let targets = groups.into_iter().flat_map(|group| group.targets);
    Ok(targets.map(|address| Source { address, presence: Presence::WhenHealthy }).collect())
}

/// Files whose path matches `pattern`, which may have `*` in its last part.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let path = PathBuf::from(pattern);
    let (Some(name), true) = (path.file_name().and_then(|name| name.to_str()), pattern.contains('*')) else {
        return vec![path];
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(".".into(), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let matches = |path: &PathBuf| {
        let found = path.file_name().and_then(|found| found.to_str());
        found.is_some_and(|found| crate::cluster::hashring::glob::matches(name, found) == Some(true))
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(matches).collect();
    files.sort();
    files
}

/// The addresses that `address` stands for.
async fn resolve(address: &str) -> Result<Vec<String>, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::invalid(format!("{address}: {error}"));
    if let Some(name) = address.strip_prefix("dns+").or_else(|| address.strip_prefix("dnsdualstack+")) {
        let found = tokio::net::lookup_host(name).await.map_err(|error| failed(&error))?;
        let mut addresses: Vec<String> = found.map(|address| address.to_string()).collect();
        addresses.sort();
        addresses.dedup();
        return Ok(addresses);
    }
    if let Some(name) = address.strip_prefix("dnssrv+").or_else(|| address.strip_prefix("dnssrvnoa+")) {
        let resolver = hickory_resolver::TokioResolver::builder_tokio().map_err(|error| failed(&error))?.build();
        let resolver = resolver.map_err(|error| failed(&error))?;
        let found = resolver.srv_lookup(name).await.map_err(|error| failed(&error))?;
        let targets = found.answers().iter().filter_map(|record| match &record.data {
            hickory_resolver::proto::rr::RData::SRV(service) => {
                Some(format!("{}:{}", service.target.to_utf8().trim_end_matches('.'), service.port))
            }
            _ => None,
        });
        return Ok(targets.collect());
    }
    Ok(vec![address.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_lists_endpoints() {
        let found = parse_config("endpoints:\n- address: a:1\n- address: dns+b:2\n  strict: true\n").unwrap();
        assert_eq!(found[0], Source { address: "a:1".into(), presence: Presence::WhenHealthy });
        assert_eq!(found[1], Source { address: "dns+b:2".into(), presence: Presence::Always });
    }

    #[tokio::test]
    async fn files_are_read_and_what_is_wrong_with_them_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), "- targets: [\"c:3\", \"d:4\"]\n").unwrap();
        std::fs::write(folder.path().join("b.yaml"), "- targets: 7\n").unwrap();
        let files = vec![folder.path().join("*.yaml").display().to_string()];
        let (addresses, problems) =
            Discovery { files, ..Discovery::default() }.addresses(&FanoutMetrics::default()).await;
        assert_eq!(addresses.keys().collect::<Vec<_>>(), ["c:3", "d:4"]);
        assert!(problems[0].contains("b.yaml"), "{problems:?}");
    }
}
