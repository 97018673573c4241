//! Addresses by DNS, as Thanos has them.
//!
//! ```text
//! dns+host:port, dnsdualstack+host:port   the addresses of the host
//! dnssrv+name                             the addresses of the hosts that the name's SRV records list
//! dnssrvnoa+name                          these hosts themselves
//! ```
//!
//! SRV records tell the port, unless the name has one. A name that there isn't stands for nothing; that is
//! no failure. But whether there is one is known only when all that it may stand for was answered for.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

use engine::model::Error;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record};
use hickory_resolver::system_conf::read_system_conf;

/// What C libraries say of a host that there isn't or that has no address: glibc and musl. Other errors may
/// pass.
const NO_SUCH_HOST: [&str; 4] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
];

/// Whether the addresses behind `address` may change.
pub fn is_dynamic(address: &str) -> bool {
    address.contains('+')
}

/// Looks names up.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    /// The servers that are asked for SRV records and what they list; `None` for those of the system.
    config: Option<ResolverConfig>,
}

impl Resolver {
    /// The addresses that `address` stands for now.
    pub async fn resolve(&self, address: &str) -> Result<Vec<String>, Error> {
        let Some((scheme, name)) = address.split_once('+') else { return Ok(vec![address.to_owned()]) };
        let found = match scheme {
            "dns" | "dnsdualstack" => self.hosts(name).await,
            "dnssrv" => self.services(name, Target::Addresses).await,
            "dnssrvnoa" => self.services(name, Target::Host).await,
            _ => Err(format!("invalid lookup scheme {scheme:?}")),
        };
        found.map(|found| found.into_iter().collect()).map_err(|error| Error::invalid(format!("{address}: {error}")))
    }

    /// The addresses of a host with a port.
    async fn hosts(&self, name: &str) -> Result<BTreeSet<String>, String> {
        let parts = name.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let Some((host, port)) = parts else {
            return Err("missing port in address given for dns lookup".to_owned());
        };
        match tokio::net::lookup_host(name).await {
            Ok(found) => Ok(found.map(|address| address.to_string()).collect()),
            Err(error) if is_no_such_host(&error) => self.host_of_servers(host, port).await,
            Err(error) => Err(error.to_string()),
        }
    }

    /// The addresses of a host as the name servers tell them. The C library says that there is none also where a
    /// server has failed for one kind of them and has none of the other.
    async fn host_of_servers(&self, host: &str, port: u16) -> Result<BTreeSet<String>, String> {
        // Where there are no servers, and of what is no name, the C library knows all.
        let (Ok(servers), Ok(name)) = (self.servers(), Name::from_utf8(host)) else { return Ok(BTreeSet::new()) };
        let found = servers.addresses(name).await?.into_iter();
        Ok(found.map(|address| SocketAddr::new(address, port).to_string()).collect())
    }

    /// The hosts that SRV records of `name` list, or their addresses.
    async fn services(&self, name: &str, target: Target) -> Result<BTreeSet<String>, String> {
        let (name, port) = name.rsplit_once(':').map_or((name, None), |(name, port)| (name, Some(port)));
        let servers = self.servers().map_err(|error| error.to_string())?;
        let names = servers.candidates(Name::from_utf8(name).map_err(|error| error.to_string())?);
        let client = &servers.client;
        let look_up = |name: Name| async move { client.srv_lookup(name).await.map(|found| found.answers().to_vec()) };
        let mut found = BTreeSet::new();
        for record in first_found(names, look_up).await? {
            let RData::SRV(service) = &record.data else { continue };
            let port = port.map_or_else(|| service.port.to_string(), str::to_owned);
            match target {
                Target::Host => {
                    let host = service.target.to_utf8();
                    found.insert(format!("{}:{port}", host.trim_end_matches('.')));
                }
                // The host's name is a whole one: no search domain belongs to it.
                Target::Addresses => {
                    let hosts = servers.addresses(service.target.clone()).await?;
                    found.extend(hosts.into_iter().map(|address| match address {
                        IpAddr::V4(address) => format!("{address}:{port}"),
                        IpAddr::V6(address) => format!("[{address}]:{port}"),
                    }));
                }
            }
        }
        Ok(found)
    }

    fn servers(&self) -> Result<Servers, NetError> {
        let (config, options) = match &self.config {
            Some(config) => (config.clone(), ResolverOpts::default()),
            None => read_system_conf()?,
        };
        let domains = config.domain.iter().chain(&config.search).cloned().collect();
        let ndots = options.ndots;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        Ok(Servers { client: builder.with_options(options).build()?, domains, ndots })
    }
}

/// The name servers, and how a name that is not whole is searched for.
struct Servers {
    client: TokioResolver,
    /// The domains that it may be in, in turn.
    domains: Vec<Name>,
    /// A name of more labels is taken for a whole one first, others last.
    ndots: usize,
}

impl Servers {
    /// The whole names that `name` may stand for, in the order in which they are asked for.
    fn candidates(&self, name: Name) -> Vec<Name> {
        if name.is_fqdn() {
            return vec![name];
        }
        let mut whole = name.clone();
        whole.set_fqdn(true);
        let comes_first = usize::from(name.num_labels()) > self.ndots || name.is_localhost();
        let (first, last) = if comes_first { (Some(whole), None) } else { (None, Some(whole)) };
        // What is too long with a domain is no name.
        let searched = self.domains.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
        let mut names: Vec<Name> = Vec::new();
        for candidate in first.into_iter().chain(searched).chain(last) {
            if !names.contains(&candidate) {
                names.push(candidate);
            }
        }
        names
    }

    /// The addresses of the host `name`; none when there is no such host.
    async fn addresses(&self, name: Name) -> Result<Vec<IpAddr>, String> {
        let records = first_found(self.candidates(name), |name| self.both_kinds(name)).await?;
        Ok(records.iter().filter_map(|record| record.data.ip_addr()).collect())
    }

    /// The addresses of the whole name `name`, of IPv4 and of IPv6. What fails is told by the lookup of the kind that
    /// most hosts have, but that a name has none of that kind says nothing of the other.
    async fn both_kinds(&self, name: Name) -> Result<Vec<Record>, NetError> {
        let client = &self.client;
        match tokio::join!(client.ipv4_lookup(name.clone()), client.ipv6_lookup(name)) {
            (Ok(first), Ok(second)) => Ok([first.answers(), second.answers()].concat()),
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found.answers().to_vec()),
            (Err(none), Err(error)) if code_of_none(&none) == Some(ResponseCode::NoError) => Err(error),
            (Err(error), Err(_)) => Err(error),
        }
    }
}

/// What `look_up` finds of the first of `names` that there is; nothing when there is none of them. Where one could not
/// be asked for, nobody knows: its failure is told, and not what is said of the names behind it.
async fn first_found<F>(names: Vec<Name>, look_up: impl Fn(Name) -> F) -> Result<Vec<Record>, String>
where
    F: Future<Output = Result<Vec<Record>, NetError>>,
{
    let mut failure = None;
    for name in names {
        match look_up(name.clone()).await {
            Ok(found) if found.is_empty() => {}
            Ok(found) => return Ok(found),
            Err(error) if is_no_such_name(&error) => {}
            Err(error) => failure = failure.or_else(|| Some(format!("{name}: {error}"))),
        }
    }
    failure.map_or_else(|| Ok(Vec::new()), Err)
}

/// What becomes of the hosts that SRV records list.
#[derive(Clone, Copy)]
enum Target {
    Host,
    Addresses,
}

fn is_no_such_host(error: &io::Error) -> bool {
    let text = error.to_string();
    NO_SUCH_HOST.iter().any(|words| text.ends_with(words))
}

fn is_no_such_name(error: &NetError) -> bool {
    matches!(code_of_none(error), Some(ResponseCode::NXDomain | ResponseCode::NoError))
}

/// How a server says that it has no records: that there is no such name, or that the name has none of the kind.
fn code_of_none(error: &NetError) -> Option<ResponseCode> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) => Some(*response_code),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use hickory_resolver::config::NameServerConfig;
    use hickory_resolver::proto::op::Message;
    use hickory_resolver::proto::rr::RecordType;
    use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
    use tokio::net::UdpSocket;

    use super::*;

    /// What asks a name server that knows a service, of two ports, and fails at `broken`, at `late`, which there is in
    /// the domain that is searched, and at one of the questions for `half` and `half-six`, or says nothing of what ends
    /// in `silent`. In the domain that is searched there is another host of the service's name. `six` has an address of
    /// IPv6 alone, `bare` has none.
    pub async fn resolver() -> Resolver {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut server = NameServerConfig::udp(socket.local_addr().unwrap().ip());
        server.connections[0].port = socket.local_addr().unwrap().port();
        tokio::spawn(serve_names(socket));
        let search = vec![Name::from_ascii("search.").unwrap()];
        Resolver { config: Some(ResolverConfig::from_parts(None, search, vec![server])) }
    }

    async fn serve_names(socket: UdpSocket) {
        let mut bytes = [0; 512];
        loop {
            let (len, from) = socket.recv_from(&mut bytes).await.unwrap();
            let asked = Message::from_vec(&bytes[..len]).unwrap();
            let name = asked.queries[0].name().clone();
            if name.to_utf8().ends_with(".silent.") {
                continue;
            }
            let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
            answer.add_query(asked.queries[0].clone());
            let data = match (asked.queries[0].query_type(), name.to_utf8().as_str()) {
                (RecordType::SRV, "_grpc._tcp.stores." | "_grpc._tcp.late.search.") => {
                    [4, 5].map(|port| RData::SRV(SRV::new(0, 0, port, Name::from_ascii("store.").unwrap()))).to_vec()
                }
                (RecordType::A, "store.") => vec![RData::A(A::new(10, 0, 0, 1))],
                (RecordType::AAAA, "store.") => vec![RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))],
                (RecordType::AAAA, "six.") => vec![RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 6))],
                (RecordType::A, "store.search.") => vec![RData::A(A::new(10, 0, 0, 2))],
                _ => Vec::new(),
            };
            answer.metadata.response_code = match (asked.queries[0].query_type(), name.to_utf8().as_str()) {
                (_, "_grpc._tcp.broken." | "_grpc._tcp.late.") => ResponseCode::ServFail,
                (RecordType::A, "half.") | (RecordType::AAAA, "half-six.") => ResponseCode::ServFail,
                (_, "half-six." | "six." | "bare.") => ResponseCode::NoError,
                _ if data.is_empty() => ResponseCode::NXDomain,
                _ => ResponseCode::NoError,
            };
            answer.add_answers(data.into_iter().map(|data| Record::from_rdata(name.clone(), 60, data)));
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    }

    #[tokio::test]
    async fn service_records_stand_for_hosts_or_their_addresses() {
        let resolver = resolver().await;
        for (address, found) in [
            ("dnssrvnoa+_grpc._tcp.stores.", &["store:4", "store:5"][..]),
            ("dnssrvnoa+_grpc._tcp.stores.:9", &["store:9"]),
            ("dnssrv+_grpc._tcp.stores.", &["10.0.0.1:4", "10.0.0.1:5", "[fd00::1]:4", "[fd00::1]:5"]),
            ("dnssrv+_grpc._tcp.others.", &[]),
        ] {
            assert_eq!(resolver.resolve(address).await.unwrap(), found, "{address}");
        }
        assert!(resolver.resolve("dnssrv+_grpc._tcp.broken.").await.is_err());
    }

    /// What was said of the last name that was tried counted alone: known endpoints were dropped.
    #[tokio::test]
    async fn where_a_name_that_is_searched_for_could_not_be_asked_for_nobody_knows_that_there_is_none() {
        let resolver = resolver().await;
        let error = resolver.resolve("dnssrvnoa+_grpc._tcp.broken").await.unwrap_err().to_string();
        assert!(error.contains("_grpc._tcp.broken.: "), "{error}");
        for (address, found) in [("_grpc._tcp.late", &["store:4", "store:5"][..]), ("_grpc._tcp.others", &[])] {
            assert_eq!(resolver.resolve(&format!("dnssrvnoa+{address}")).await.unwrap(), found, "{address}");
        }
    }

    /// The C library finds no address of a host whose addresses of one kind could not be asked for.
    #[tokio::test]
    async fn that_there_is_no_host_has_to_be_said_by_the_name_servers_too() {
        let resolver = resolver().await;
        assert!(resolver.host_of_servers("half", 4).await.is_err());
        assert!(resolver.host_of_servers("nobody", 4).await.unwrap().is_empty());
        let found = resolver.host_of_servers("store.", 4).await.unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["10.0.0.1:4", "[fd00::1]:4"]);
    }

    /// The server has the name and no address of IPv4, which counted although those of IPv6 could not be asked for:
    /// endpoints that have these alone were dropped.
    #[tokio::test]
    async fn a_host_without_addresses_of_one_kind_may_have_some_of_the_other() {
        let resolver = resolver().await;
        let error = resolver.host_of_servers("half-six", 4).await.unwrap_err();
        assert!(error.contains("half-six.: "), "{error}");
        assert!(resolver.host_of_servers("bare", 4).await.unwrap().is_empty());
        let found = resolver.host_of_servers("six", 4).await.unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["[fd00::6]:4"]);
    }

    #[tokio::test]
    async fn a_name_is_searched_for_in_each_domain_and_taken_for_a_whole_one() {
        let name = |text: &str| Name::from_utf8(text).unwrap();
        let servers = Servers { domains: ["x", "y.", "x."].map(name).to_vec(), ..resolver().await.servers().unwrap() };
        for (ndots, asked, names) in [
            (1, "a", &["a.x.", "a.y.", "a."][..]),
            (1, "a.b", &["a.b.", "a.b.x.", "a.b.y."]),
            (5, "a.b", &["a.b.x.", "a.b.y.", "a.b."]),
            (5, "a.b.", &["a.b."]),
        ] {
            let servers = Servers { client: servers.client.clone(), domains: servers.domains.clone(), ndots };
            let found: Vec<String> = servers.candidates(name(asked)).iter().map(Name::to_utf8).collect();
            assert_eq!(found, names, "{ndots} {asked}");
        }
    }

    #[tokio::test]
    async fn a_name_needs_a_scheme_that_is_known_and_a_port() {
        let resolver = Resolver::default();
        assert_eq!(resolver.resolve("a:1").await.unwrap(), ["a:1"]);
        assert_eq!(resolver.resolve("dns+127.0.0.1:4").await.unwrap(), ["127.0.0.1:4"]);
        for (wrong, words) in [("dns+localhost", "missing port"), ("dnsx+a:1", "invalid lookup scheme \"dnsx\"")] {
            let error = resolver.resolve(wrong).await.unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_host_that_there_is_not_is_told_from_a_failure() {
        let told = |words: &str| io::Error::other(format!("failed to lookup address information: {words}"));
        assert!(NO_SUCH_HOST.iter().all(|words| is_no_such_host(&told(words))));
        assert!(!is_no_such_host(&told("Temporary failure in name resolution")));
    }
}
