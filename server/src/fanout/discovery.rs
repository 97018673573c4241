//! Addresses of endpoints: as given, by DNS, and from files that are read again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use engine::model::{Error, ErrorKind};
use futures_util::future::join_all;
use serde::Deserialize;

use super::dial;
use super::dns::{self, Resolver};
use super::metrics::FanoutMetrics;
use crate::cli::Values;
use crate::config::yaml_error;
use crate::edge::algorithms::Version;
use crate::edge::connect;
use crate::edge::connect::{TlsFiles, Trust};

/// An address that endpoints are found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// `host:port`, or with `dns+`, `dnssrv+`, `dnssrvnoa+` before it.
    pub address: String,
    /// Whether the endpoint stays even while it does not answer.
    pub presence: Presence,
    /// What becomes of several processes behind the address.
    pub grouping: Grouping,
    /// How it is connected to.
    pub client: Client,
}

/// Longest time that a name is waited for: all endpoints wait for it as long, those that need no name too. The first of
/// several name servers may be away, which takes 5 s to find out.
const RESOLVING_MAX: Duration = Duration::from_secs(10);

/// What processes behind one address are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grouping {
    /// Endpoints of their own.
    Each,
    /// One endpoint: they have the same data, and each call goes to another (`--endpoint-group`).
    Group,
}

/// How an endpoint is connected to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// As the flags `--grpc-client-*` say.
    AsFlagsSay,
    /// As its entry in a configuration says: with TLS or without.
    Own(Option<TlsFiles>),
}

/// An endpoint that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whether it stays even while it does not answer.
    pub presence: Presence,
    /// The processes that answer for it; one, but for a group.
    pub members: Vec<String>,
    /// The name that certificates of members have.
    pub host: String,
    /// How it is connected to.
    pub client: Client,
}

/// Whether an endpoint stays while it does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// It is left out until it answers.
    WhenHealthy,
    /// It is asked all the same (`--endpoint-strict`).
    Always,
}

/// What was found when it could be found last, for when it can't be.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    /// What each address stood for when it was resolved.
    pub resolved: BTreeMap<Source, Vec<(String, Found)>>,
    /// The addresses of each file when it could be read.
    pub files: BTreeMap<PathBuf, Vec<Source>>,
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
    /// Members of every group instead of what its name stands for (`--inject-test-addresses`).
    pub injected: Vec<String>,
    /// What looks names up.
    pub resolver: Resolver,
    /// What entries of the file that say something of TLS leave to the flags.
    pub flags: ClientConfig,
}

/// One entry of a file of addresses, as Prometheus' file_sd has it.
#[derive(Deserialize)]
struct Group {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    default_client_config: ClientConfig,
    #[serde(default)]
    endpoints: Vec<ConfigEndpoint>,
}

#[derive(Deserialize)]
struct ConfigEndpoint {
    address: String,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    group: bool,
    #[serde(default)]
    service_config: String,
    #[serde(default)]
    client_config: ClientConfig,
}

/// How endpoints are connected to, as a configuration or the flags `--grpc-client-*` have it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClientConfig {
    tls_config: TlsConfig,
    server_name: Option<String>,
    compression: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TlsConfig {
    enabled: Option<bool>,
    insecure_skip_verify: Option<bool>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    min_version: Option<String>,
}

impl ClientConfig {
    /// What the flags `--grpc-client-*` say.
    pub fn of_flags(values: &Values) -> Self {
        let text = |name: &str| values.text(&format!("grpc-client-{name}")).map(str::to_owned);
        let is_on = |name: &str| Some(values.is_on(&format!("grpc-client-{name}")));
        let tls_config = TlsConfig {
            enabled: is_on("tls-secure"),
            insecure_skip_verify: is_on("tls-skip-verify"),
            cert_file: text("tls-cert").map(PathBuf::from),
            key_file: text("tls-key").map(PathBuf::from),
            ca_file: text("tls-ca").map(PathBuf::from),
            min_version: text("tls-min-version"),
        };
        Self { tls_config, server_name: text("server-name"), compression: None }
    }

    fn check(&self) -> Result<(), Error> {
        match self.compression.as_deref() {
            None | Some("" | "none" | "snappy") => Ok(()),
            Some(other) => Err(Error::invalid(format!("invalid compression: {other}, must be 'none' or 'snappy'"))),
        }
    }

    fn says_nothing(&self) -> bool {
        let tls = &self.tls_config;
        self.server_name.is_none() && tls.enabled.is_none() && tls.min_version.is_none() && !tls.is_detailed()
    }

    /// How endpoints of this entry are connected to. What it leaves out is as in `default`, or as the flags say where
    /// that says nothing; as nobody says where it turns TLS on itself. The name of the server is its own alone, but
    /// where it says nothing at all. An empty text stands for nothing, whatever they say.
    fn client(&self, default: &Self, flags: &Self) -> Result<Client, Error> {
        if self.says_nothing() && default.says_nothing() {
            return Ok(Client::AsFlagsSay);
        }
        let nothing = Self::default();
        let fallback = match self.tls_config.enabled {
            Some(true) => &nothing,
            _ if default.says_nothing() => flags,
            _ => default,
        };
        let (own, other) = (&self.tls_config, &fallback.tls_config);
        // Whoever names files wants TLS.
        let enabled = own.enabled.or(own.is_detailed().then_some(true));
        if !enabled.or(other.enabled).unwrap_or(other.is_detailed()) {
            return Ok(Client::Own(None));
        }
        let path = |own: &Option<PathBuf>, other: &Option<PathBuf>| {
            own.clone().or_else(|| other.clone()).filter(|path| !path.as_os_str().is_empty())
        };
        let certificate = path(&own.cert_file, &other.cert_file);
        let identity = TlsFiles::identity(certificate, path(&own.key_file, &other.key_file)).map_err(Error::invalid)?;
        let version = match own.min_version.as_deref().or(other.min_version.as_deref()) {
            None => "1.3",
            Some("") => "1.2",
            Some(version) => version,
        };
        let server_name = if self.says_nothing() { &fallback.server_name } else { &self.server_name };
        let skips = own.insecure_skip_verify.or(other.insecure_skip_verify).unwrap_or(false);
        Ok(Client::Own(Some(TlsFiles {
            ca: path(&own.ca_file, &other.ca_file),
            identity,
            server_name: server_name.clone().filter(|name| !name.is_empty()),
            trust: if skips { Trust::Anybody } else { Trust::Verified },
            version_min: Version::parse(version).map_err(Error::invalid)?,
        })))
    }
}

impl TlsConfig {
    fn is_detailed(&self) -> bool {
        let files = [&self.cert_file, &self.key_file, &self.ca_file];
        files.iter().any(|file| file.is_some()) || self.insecure_skip_verify.is_some()
    }
}

impl Source {
    /// An address whose processes are endpoints of their own.
    pub fn each(address: impl Into<String>, presence: Presence) -> Self {
        Self { address: address.into(), presence, grouping: Grouping::Each, client: Client::AsFlagsSay }
    }

    /// An address whose processes are one endpoint.
    pub fn group(address: impl Into<String>, presence: Presence) -> Self {
        Self { grouping: Grouping::Group, ..Self::each(address, presence) }
    }

    /// Whether endpoints are found by looking its name up.
    pub fn is_looked_up(&self) -> bool {
        self.grouping == Grouping::Group || dns::is_dynamic(&self.address)
    }

    /// Whether it can be what it is said to be: what stays even while it does not answer has to be known
    /// without asking for it.
    pub fn check(&self) -> Result<(), Error> {
        if dns::is_dynamic(&self.address) && self.presence == Presence::Always {
            let why =
                "is a dynamically specified endpoint i.e. it uses SD and that is not permitted under strict mode.";
            return Err(Error::invalid(format!("{} {why}", self.address)));
        }
        Ok(())
    }

    /// The name that certificates of its endpoints have.
    fn host(&self, address: &str) -> String {
        let name = match self.grouping {
            Grouping::Each => address,
            Grouping::Group => self.plain_address(),
        };
        connect::host(&dial::host_and_port(name)).to_owned()
    }

    /// The address of a group as it is looked up and listed.
    pub fn name(&self) -> &str {
        self.address.strip_prefix("dns:///").unwrap_or(&self.address)
    }

    /// The address of a group without the schemes that say how it is resolved.
    fn plain_address(&self) -> &str {
        let address = self.name();
        address.split_once('+').filter(|(scheme, _)| scheme.starts_with("dns")).map_or(address, |(_, rest)| rest)
    }

    /// The endpoints behind the address, each with the name that it is listed under.
    async fn resolve(&self, (resolver, injected): (&Resolver, &[String])) -> Result<Vec<(String, Found)>, Error> {
        let found = |members: Vec<String>, host: String| Found {
            presence: self.presence,
            members,
            host,
            client: self.client.clone(),
        };
        match self.grouping {
            Grouping::Each => {
                let addresses = resolver.resolve(&self.address).await?.into_iter();
                Ok(addresses
                    .map(|address| (address.clone(), found(vec![address.clone()], self.host(&address))))
                    .collect())
            }
            Grouping::Group => {
                let address = self.name();
                let members = match (injected.is_empty(), dns::is_dynamic(address)) {
                    (false, _) => injected.to_vec(),
                    (true, true) => resolver.resolve(address).await?,
                    (true, false) => resolver.resolve(&format!("dns+{address}")).await?,
                };
                Ok(vec![(format!("thanos:///{address}"), found(members, self.host(address)))])
            }
        }
    }
}

impl Discovery {
    /// Every endpoint now by the name that it is listed under; and what could not be read or resolved.
    /// That stands for what it stood for when it was written into `known`.
    pub async fn endpoints(
        &self,
        metrics: &FanoutMetrics,
        known: &mut LastGood,
    ) -> (BTreeMap<String, Found>, Vec<String>) {
        let (sources, mut problems) = self.sources(&mut known.files);
        let (mut endpoints, mut now) = (BTreeMap::new(), BTreeMap::new());
        let resolved = self.resolve_all(&sources, RESOLVING_MAX).await;
        for (source, resolved) in sources.into_iter().zip(resolved) {
            let before = known.resolved.get(&source).cloned();
            metrics.looked_up(&source, &resolved);
            let found = match resolved {
                Ok(found) => {
                    let is_nothing = found.iter().all(|(_, found)| found.members.is_empty());
                    if is_nothing {
                        problems.push(format!("{}: there is no such host", source.address));
                    }
                    // A group keeps the members that it had, as in Thanos.
                    before.filter(|_| is_nothing && source.grouping == Grouping::Group).unwrap_or(found)
                }
                Err(error) => {
                    problems.push(error.to_string());
                    before.unwrap_or_default()
                }
            };
            for (address, found) in found.iter().cloned() {
                if endpoints.insert(address, found).is_some() {
                    metrics.duplicated.inc();
                }
            }
            now.insert(source, found);
        }
        metrics.resolved(&now);
        known.resolved = now;
        (endpoints, problems)
    }

    /// What `sources` stand for now, all looked up at once, each for no longer than `patience`.
    async fn resolve_all(&self, sources: &[Source], patience: Duration) -> Vec<Result<Vec<(String, Found)>, Error>> {
        join_all(sources.iter().map(|source| async move {
            let resolving = source.resolve((&self.resolver, &self.injected));
            tokio::time::timeout(patience, resolving).await.unwrap_or_else(|_| {
                let why = format!("{}: no name server has answered within {patience:?}", source.address);
                Err(Error::new(ErrorKind::Unavailable, why))
            })
        }))
        .await
    }

    /// What endpoints are found by now, as the YAML of an `--endpoint.sd-config`.
    pub fn to_yaml(&self, known: &LastGood) -> String {
        let (sources, _) = self.sources(&mut known.files.clone());
        let mut text = String::from(if sources.is_empty() { "endpoints: []\n" } else { "endpoints:\n" });
        for source in sources {
            let (strict, group) = (source.presence == Presence::Always, source.grouping == Grouping::Group);
            let address = serde_json::Value::from(source.address);
            text.push_str(&format!("- address: {address}\n  strict: {strict}\n  group: {group}\n"));
        }
        text
    }

    /// Every address of flags and files, and what could not be read. A file that is there and can't be
    /// read has the addresses that are `known` of it, and the configuration has them even when it is gone.
    fn sources(&self, known: &mut BTreeMap<PathBuf, Vec<Source>>) -> (Vec<Source>, Vec<String>) {
        let (mut problems, mut now) = (Vec::new(), BTreeMap::new());
        let listed = self.files.iter().flat_map(|pattern| expand(pattern));
        let mut take = |file: PathBuf, read: Result<Vec<Source>, Error>, stays: bool| {
            let last = known.remove(&file).filter(|_| stays);
            let sources = read.map(Some).unwrap_or_else(|error| {
                problems.push(error.to_string());
                last
            });
            now.extend(sources.map(|sources| (file, sources)));
        };
        for file in listed {
            let (read, is_there) = (read_group(&file), file.exists());
            take(file, read, is_there);
        }
        if let Some(file) = &self.config_file {
            take(file.clone(), read_config(file, &self.flags), true);
        }
        let sources = self.given.iter().chain(now.values().flatten()).cloned().collect();
        *known = now;
        (sources, problems)
    }
}

/// The endpoints of the file of `--endpoint.sd-config-file`, which leave to `flags` what they don't say.
pub fn read_config(file: &PathBuf, flags: &ClientConfig) -> Result<Vec<Source>, Error> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| Error::invalid(format!("{}: {error}", file.display())))?;
    parse_config(&text, flags).map_err(|error| error.within(file.display()))
}

/// The endpoints of an `--endpoint.sd-config`, which leave to `flags` what they don't say.
pub fn parse_config(text: &str, flags: &ClientConfig) -> Result<Vec<Source>, Error> {
    let config: Config = serde_saphyr::from_str(text).map_err(|error| Error::invalid(yaml_error(&error)))?;
    let presence = |strict: bool| if strict { Presence::Always } else { Presence::WhenHealthy };
    let source = |endpoint: ConfigEndpoint| {
        if !endpoint.group && !endpoint.service_config.is_empty() {
            let why = "service_config is only valid for endpoint groups.";
            return Err(Error::invalid(format!("{} {why}", endpoint.address)));
        }
        endpoint.client_config.check().map_err(|error| error.within(format!("endpoint {}", endpoint.address)))?;
        let source = Source {
            presence: presence(endpoint.strict),
            grouping: if endpoint.group { Grouping::Group } else { Grouping::Each },
            client: endpoint.client_config.client(&config.default_client_config, flags)?,
            address: endpoint.address,
        };
        source.check()?;
        Ok(source)
    };
    config.endpoints.into_iter().map(source).collect()
}

fn read_group(file: &PathBuf) -> Result<Vec<Source>, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::invalid(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| failed(&error))?;
    let groups: Vec<Group> = serde_saphyr::from_str(&text).map_err(|error| failed(&yaml_error(&error)))?;
    let targets = groups.into_iter().flat_map(|group| group.targets);
    Ok(targets.map(|address| Source::each(address, Presence::WhenHealthy)).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Source>, Error> {
        parse_config(text, &ClientConfig::default())
    }

    #[test]
    fn a_configuration_lists_endpoints() {
        let text = "endpoints:\n- address: a:1\n- address: b:2\n  strict: true\n- address: c:3\n  group: true\n";
        let found = parse(text).unwrap();
        assert_eq!(found[0], Source::each("a:1", Presence::WhenHealthy));
        assert_eq!(found[1], Source::each("b:2", Presence::Always));
        assert_eq!(found[2], Source::group("c:3", Presence::WhenHealthy));
        for (wrong, word) in [
            ("{address: dns+b:2, strict: true}", "not permitted under strict mode"),
            ("{address: b:2, service_config: x}", "b:2 service_config is only valid for endpoint groups."),
            ("{address: b:2, client_config: {compression: zip}}", "invalid compression: zip"),
            (
                "{address: b:2, client_config: {tls_config: {min_version: \"1\", enabled: true}}}",
                "invalid TLS version: 1",
            ),
        ] {
            let error = parse(&format!("endpoints: [{wrong}]")).unwrap_err().to_string();
            assert!(error.contains(word), "{wrong}: {error}");
        }
        let discovery = Discovery { given: found.clone(), ..Discovery::default() };
        assert_eq!(parse(&discovery.to_yaml(&LastGood::default())).unwrap(), found);
    }

    #[test]
    fn a_configuration_says_how_endpoints_are_connected_to() {
        let text = "default_client_config: {tls_config: {ca_file: ca}, server_name: s}\nendpoints:\n- address: a:1\n\
                    - address: b:2\n  client_config: {tls_config: {enabled: false}}\n\
                    - address: c:3\n  client_config: {tls_config: {insecure_skip_verify: true}, server_name: t}\n";
        let found = parse(text).unwrap();
        let tls = TlsFiles { ca: Some("ca".into()), server_name: Some("s".into()), ..TlsFiles::default() };
        assert_eq!(found[0].client, Client::Own(Some(tls.clone())));
        assert_eq!(found[1].client, Client::Own(None));
        let blind = TlsFiles { server_name: Some("t".into()), trust: Trust::Anybody, ..tls };
        assert_eq!(found[2].client, Client::Own(Some(blind)));
        let half = "endpoints:\n- address: a:1\n  client_config: {tls_config: {cert_file: c}}\n";
        assert!(parse(half).unwrap_err().message().contains("both client key and certificate"));
    }

    /// What an entry said of TLS once made it forget all that the flags say, and speak without TLS.
    #[test]
    fn what_an_entry_leaves_out_is_as_the_flags_say() {
        let tls_config = TlsConfig { enabled: Some(true), ca_file: Some("ca".into()), ..TlsConfig::default() };
        let flags = ClientConfig { tls_config, server_name: Some("s".to_owned()), compression: None };
        // But the name of the server, which Thanos takes from an entry alone.
        let text = "endpoints:\n- address: a:1\n- address: b:2\n  client_config: {server_name: ''}\n\
                    - address: c:3\n  client_config: {tls_config: {min_version: '1.2'}}\n\
                    - address: d:4\n  client_config: {tls_config: {ca_file: '', insecure_skip_verify: true}}\n\
                    - address: e:5\n  client_config: {tls_config: {enabled: false}}\n";
        let found = parse_config(text, &flags).unwrap().into_iter().map(|source| source.client).collect::<Vec<_>>();
        let tls = TlsFiles { ca: Some("ca".into()), ..TlsFiles::default() };
        let older = TlsFiles { version_min: Version::Tls12, ..tls.clone() };
        let blind = TlsFiles { ca: None, trust: Trust::Anybody, ..tls.clone() };
        let own = |files| Client::Own(Some(files));
        assert_eq!(found, [Client::AsFlagsSay, own(tls), own(older), own(blind), Client::Own(None)]);
        // A default of the configuration stands above the flags.
        let text = "default_client_config: {tls_config: {ca_file: other}, server_name: d}\n\
                    endpoints:\n- address: a:1\n- address: b:2\n  client_config: {server_name: t}\n\
                    - address: c:3\n  client_config: {tls_config: {min_version: '1.2'}}\n";
        let found = parse_config(text, &flags).unwrap();
        let other = TlsFiles { ca: Some("other".into()), ..TlsFiles::default() };
        let named = |name: &str| own(TlsFiles { server_name: Some(name.to_owned()), ..other.clone() });
        assert_eq!((&found[0].client, &found[1].client), (&named("d"), &named("t")));
        assert_eq!(found[2].client, own(TlsFiles { version_min: Version::Tls12, ..other }));
    }

    /// Such an entry once spoke with anybody where the flags or the default do, and showed them their certificate.
    #[test]
    fn an_entry_that_turns_tls_on_leaves_nothing_to_others() {
        let tls_config = TlsConfig {
            enabled: Some(true),
            insecure_skip_verify: Some(true),
            cert_file: Some("cert".into()),
            key_file: Some("key".into()),
            ca_file: Some("ca".into()),
            min_version: Some("1.2".to_owned()),
        };
        let flags = ClientConfig { tls_config, server_name: Some("s".to_owned()), compression: None };
        let endpoints = "endpoints:\n- address: a:1\n  client_config: {tls_config: {enabled: true}}\n\
                         - address: b:2\n  client_config: {tls_config: {enabled: true, ca_file: own}}\n";
        let default = "default_client_config: {tls_config: {insecure_skip_verify: true, cert_file: cert, \
                       key_file: key, ca_file: ca, min_version: '1.2'}, server_name: s}\n";
        let with_default = format!("{default}{endpoints}");
        for (text, flags) in [(endpoints, flags), (with_default.as_str(), ClientConfig::default())] {
            let found = parse_config(text, &flags).unwrap();
            assert_eq!(found[0].client, Client::Own(Some(TlsFiles::default())), "{text}");
            let own = TlsFiles { ca: Some("own".into()), ..TlsFiles::default() };
            assert_eq!(found[1].client, Client::Own(Some(own)), "{text}");
        }
    }

    #[tokio::test]
    async fn files_are_read_and_what_is_wrong_with_them_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), "- targets: [\"c:3\", \"d:4\"]\n").unwrap();
        std::fs::write(folder.path().join("b.yaml"), "- targets: 7\n").unwrap();
        let files = vec![folder.path().join("*.yaml").display().to_string()];
        let (found, problems) = Discovery { files, ..Discovery::default() }
            .endpoints(&FanoutMetrics::default(), &mut LastGood::default())
            .await;
        assert_eq!(found.keys().collect::<Vec<_>>(), ["c:3", "d:4"]);
        assert!(problems[0].contains("b.yaml"), "{problems:?}");
    }

    #[tokio::test]
    async fn a_group_is_one_endpoint_of_all_addresses_of_its_name() {
        let given = vec![Source::group("dns:///localhost:4", Presence::WhenHealthy)];
        let discovery = Discovery { given, ..Discovery::default() };
        let (found, problems) = discovery.endpoints(&FanoutMetrics::default(), &mut LastGood::default()).await;
        let group = &found["thanos:///localhost:4"];
        assert!(group.members.iter().any(|member| member == "127.0.0.1:4"), "{found:?} {problems:?}");
        assert_eq!(group.host, "localhost");
    }

    #[tokio::test]
    async fn names_that_nobody_answers_for_are_waited_for_at_once_and_not_for_long() {
        let silent = |at| Source::each(format!("dnssrv+_grpc._tcp.n{at}.silent."), Presence::WhenHealthy);
        let sources: Vec<Source> = (0..20).map(silent).chain([Source::each("a:1", Presence::WhenHealthy)]).collect();
        let discovery = Discovery { resolver: dns::tests::resolver().await, ..Discovery::default() };
        let (begin, patience) = (std::time::Instant::now(), Duration::from_millis(300));
        let resolved = discovery.resolve_all(&sources, patience).await;
        assert!(begin.elapsed() < 10 * patience, "one after the other take 20 times as long");
        let (found, failed): (Vec<_>, Vec<_>) = resolved.into_iter().partition(Result::is_ok);
        assert_eq!((found[0].as_ref().unwrap()[0].0.as_str(), failed.len()), ("a:1", 20));
        let words = failed[0].as_ref().unwrap_err().message();
        assert!(words.contains("no name server has answered within 300ms"), "{words}");
    }

    fn published(metrics: &FanoutMetrics) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        metrics.register(&mut registry);
        crate::telemetry::metrics::render(&registry, "*/*").1
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_resolved_stands_for_what_it_stood_for() {
        // Given twice, as on the command line and in a file.
        let source = Source::each("dnssrv+_grpc._tcp.broken.", Presence::WhenHealthy);
        let resolver = dns::tests::resolver().await;
        let discovery = Discovery { given: vec![source.clone(); 2], resolver, ..Discovery::default() };
        let found = Found {
            presence: Presence::WhenHealthy,
            members: vec!["10.0.0.1:1".into()],
            host: "10.0.0.1".into(),
            client: Client::AsFlagsSay,
        };
        let resolved = BTreeMap::from([(source, vec![("10.0.0.1:1".to_owned(), found.clone())])]);
        let (metrics, mut known) = (FanoutMetrics::default(), LastGood { resolved, ..LastGood::default() });
        for _ in 0..2 {
            let (endpoints, problems) = discovery.endpoints(&metrics, &mut known).await;
            assert_eq!((endpoints.get("10.0.0.1:1"), problems.len()), (Some(&found), 2));
        }
        let text = published(&metrics);
        for line in [
            "thanos_query_endpoints_dns_lookups_total 4",
            "thanos_query_endpoints_dns_failures_total 4",
            "thanos_query_endpoints_dns_provider_results{addr=\"dnssrv+_grpc._tcp.broken.\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[tokio::test]
    async fn a_name_that_there_is_no_more_stands_for_nothing_and_has_not_failed() {
        let sources = ["dns+no-such-host.invalid:1", "dns+localhost", "dns+127.0.0.1:7", "b:2"]
            .map(|address| Source::each(address, Presence::WhenHealthy));
        let group = Source::group("no-such-group.invalid:1", Presence::WhenHealthy);
        let found = |members: &[&str]| Found {
            presence: Presence::WhenHealthy,
            members: members.iter().map(|member| (*member).to_owned()).collect(),
            host: String::new(),
            client: Client::AsFlagsSay,
        };
        let before = |name: &str| vec![(name.to_owned(), found(&["10.0.0.1:1"]))];
        let resolved = BTreeMap::from([
            (sources[0].clone(), before("10.0.0.1:1")),
            (group.clone(), before("thanos:///no-such-group.invalid:1")),
        ]);
        let mut known = LastGood { resolved, ..LastGood::default() };
        let given = sources.into_iter().chain([group]).collect();
        let metrics = FanoutMetrics::default();
        let discovery = Discovery { given, ..Discovery::default() };
        let (endpoints, problems) = discovery.endpoints(&metrics, &mut known).await;
        if problems.iter().any(|problem| problem.contains("invalid:1: ") && !problem.contains("no such host")) {
            assert!(std::env::var_os("URU_REQUIRE_ALL").is_none(), "{problems:?}");
            eprintln!("SKIPPED: there is no DNS: {problems:?}");
            return;
        }
        assert_eq!(endpoints.keys().collect::<Vec<_>>(), ["127.0.0.1:7", "b:2", "thanos:///no-such-group.invalid:1"]);
        assert_eq!(endpoints["thanos:///no-such-group.invalid:1"].members, ["10.0.0.1:1"]);
        assert_eq!(problems.len(), 3, "{problems:?}");
        let text = published(&metrics);
        for line in [
            "thanos_query_store_apis_dns_lookups_total 4",
            "thanos_query_store_apis_dns_failures_total 1",
            "thanos_query_endpoints_dns_lookups_total 3",
            "thanos_query_endpoints_dns_failures_total 1",
            "thanos_query_endpoints_dns_provider_results{addr=\"dns+no-such-host.invalid:1\"} 0",
            "thanos_query_endpoints_dns_provider_results{addr=\"dns+127.0.0.1:7\"} 1",
            "thanos_query_endpoint_groups_dns_failures_total 0",
            "thanos_query_endpoint_groups_dns_provider_results{addr=\"no-such-group.invalid:1\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[tokio::test]
    async fn a_file_that_breaks_stands_for_what_it_stood_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
        let files = vec![path("*.yaml").display().to_string()];
        let discovery = Discovery { files, config_file: Some(path("config.yml")), ..Discovery::default() };
        let mut known = LastGood::default();
        let mut found = async || {
            let (found, problems) = discovery.endpoints(&FanoutMetrics::default(), &mut known).await;
            (found.into_keys().collect::<Vec<_>>(), problems.len())
        };
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        write("a.yaml", "- targets: ['a:1']\n");
        write("config.yml", "endpoints: [{address: 'c:3'}]\n");
        assert_eq!(found().await, (named(&["a:1", "c:3"]), 0));
        write("a.yaml", "- targets: [");
        write("config.yml", "endpoints: [");
        for _ in 0..2 {
            assert_eq!(found().await, (named(&["a:1", "c:3"]), 2));
        }
        // A list that is gone lists nothing; a configuration that is gone will come again.
        std::fs::remove_file(path("a.yaml")).unwrap();
        std::fs::remove_file(path("config.yml")).unwrap();
        assert_eq!(found().await, (named(&["c:3"]), 1));
        write("config.yml", "");
        assert_eq!(found().await, (named(&[]), 0));
    }
}
