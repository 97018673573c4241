//! Addresses by DNS, as Thanos has them.
//!
//! ```text
//! dns+host:port, dnsdualstack+host:port   the addresses of the host
//! dnssrv+name                             the addresses of the hosts that the name's SRV records list
//! dnssrvnoa+name                          these hosts themselves
//! ```
//!
//! SRV records tell the port, unless the name has one. A name that there isn't stands for nothing; that is
//! no failure.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use engine::model::Error;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RData;

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
            "dns" | "dnsdualstack" => addresses(name).await,
            "dnssrv" => self.services(name, Target::Addresses).await,
            "dnssrvnoa" => self.services(name, Target::Host).await,
            _ => Err(format!("invalid lookup scheme {scheme:?}")),
        };
        found.map(|found| found.into_iter().collect()).map_err(|error| Error::invalid(format!("{address}: {error}")))
    }

    /// The hosts that SRV records of `name` list, or their addresses.
    async fn services(&self, name: &str, target: Target) -> Result<BTreeSet<String>, String> {
        let (name, port) = name.rsplit_once(':').map_or((name, None), |(name, port)| (name, Some(port)));
        let resolver = self.client().map_err(|error| error.to_string())?;
        let mut found = BTreeSet::new();
        let Some(records) = there_is(resolver.srv_lookup(name).await)? else { return Ok(found) };
        for record in records.answers() {
            let RData::SRV(service) = &record.data else { continue };
            let port = port.map_or_else(|| service.port.to_string(), str::to_owned);
            match target {
                Target::Host => {
                    let host = service.target.to_utf8();
                    found.insert(format!("{}:{port}", host.trim_end_matches('.')));
                }
                // The host's name is a whole one: no search domain belongs to it.
                Target::Addresses => {
                    let hosts = there_is(resolver.lookup_ip(service.target.clone()).await)?;
                    found.extend(hosts.into_iter().flatten().map(|address| match address {
                        IpAddr::V4(address) => format!("{address}:{port}"),
                        IpAddr::V6(address) => format!("[{address}]:{port}"),
                    }));
                }
            }
        }
        Ok(found)
    }

    fn client(&self) -> Result<TokioResolver, NetError> {
        let mut builder = match &self.config {
            Some(config) => TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default()),
            None => TokioResolver::builder_tokio()?,
        };
        // What fails is then told by the lookup of the kind that every host has.
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        builder.build()
    }
}

/// What becomes of the hosts that SRV records list.
#[derive(Clone, Copy)]
enum Target {
    Host,
    Addresses,
}

/// The addresses of a host with a port.
async fn addresses(name: &str) -> Result<BTreeSet<String>, String> {
    if name.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        return Err("missing port in address given for dns lookup".to_owned());
    }
    match tokio::net::lookup_host(name).await {
        Ok(found) => Ok(found.map(|address| address.to_string()).collect()),
        Err(error) if is_no_such_host(&error) => Ok(BTreeSet::new()),
        Err(error) => Err(error.to_string()),
    }
}

fn is_no_such_host(error: &io::Error) -> bool {
    let text = error.to_string();
    NO_SUCH_HOST.iter().any(|words| text.ends_with(words))
}

/// What was found; `None` when there is no such name.
fn there_is<T>(found: Result<T, NetError>) -> Result<Option<T>, String> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_no_such_name(&error) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn is_no_such_name(error: &NetError) -> bool {
    let NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) = error else { return false };
    matches!(response_code, ResponseCode::NXDomain | ResponseCode::NoError)
}

#[cfg(test)]
pub(super) mod tests {
    use hickory_resolver::config::NameServerConfig;
    use hickory_resolver::proto::op::Message;
    use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
    use hickory_resolver::proto::rr::{Name, Record, RecordType};
    use tokio::net::UdpSocket;

    use super::*;

    /// What asks a name server that knows a service, of two ports, and fails at what ends in `broken`, or says
    /// nothing of what ends in `silent`. In the domain that is searched first there is another host of the service's name.
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
                (RecordType::SRV, "_grpc._tcp.stores.") => {
                    [4, 5].map(|port| RData::SRV(SRV::new(0, 0, port, Name::from_ascii("store.").unwrap()))).to_vec()
                }
                (RecordType::A, "store.") => vec![RData::A(A::new(10, 0, 0, 1))],
                (RecordType::AAAA, "store.") => vec![RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))],
                (RecordType::A, "store.search.") => vec![RData::A(A::new(10, 0, 0, 2))],
                _ => Vec::new(),
            };
            answer.metadata.response_code = match name.to_utf8().as_str() {
                "_grpc._tcp.broken." => ResponseCode::ServFail,
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
