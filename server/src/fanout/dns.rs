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

use engine::model::Error;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{ResolverBuilder, TokioResolver};

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

/// The addresses that `address` stands for now.
pub async fn resolve(address: &str) -> Result<Vec<String>, Error> {
    let Some((scheme, name)) = address.split_once('+') else { return Ok(vec![address.to_owned()]) };
    let found = match scheme {
        "dns" | "dnsdualstack" => addresses(name).await,
        "dnssrv" | "dnssrvnoa" => services(TokioResolver::builder_tokio(), (scheme, name)).await,
        _ => Err(format!("invalid lookup scheme {scheme:?}")),
    };
    found.map(|found| found.into_iter().collect()).map_err(|error| Error::invalid(format!("{address}: {error}")))
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

/// The hosts that SRV records of `name` list, or their addresses.
async fn services(
    resolver: Result<ResolverBuilder<TokioRuntimeProvider>, NetError>,
    (scheme, name): (&str, &str),
) -> Result<BTreeSet<String>, String> {
    let (name, port) = name.rsplit_once(':').map_or((name, None), |(name, port)| (name, Some(port)));
    let resolver = resolver.and_then(ResolverBuilder::build).map_err(|error| error.to_string())?;
    let records = match resolver.srv_lookup(name).await {
        Ok(records) => records,
        Err(error) if is_no_such_name(&error) => return Ok(BTreeSet::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mut found = BTreeSet::new();
    for record in records.answers() {
        let RData::SRV(service) = &record.data else { continue };
        let host = service.target.to_utf8();
        let port = port.map_or_else(|| service.port.to_string(), str::to_owned);
        let target = format!("{}:{port}", host.trim_end_matches('.'));
        if scheme == "dnssrvnoa" {
            found.insert(target);
        } else {
            found.extend(addresses(&target).await?);
        }
    }
    Ok(found)
}

fn is_no_such_name(error: &NetError) -> bool {
    let NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) = error else { return false };
    matches!(response_code, ResponseCode::NXDomain | ResponseCode::NoError)
}

#[cfg(test)]
mod tests {
    use hickory_resolver::config::{NameServerConfig, ResolverConfig};
    use hickory_resolver::proto::op::Message;
    use hickory_resolver::proto::rr::rdata::SRV;
    use hickory_resolver::proto::rr::{Name, Record};
    use tokio::net::UdpSocket;

    use super::*;

    /// A name server that knows two services and fails at what ends in `broken`.
    async fn serve_names(socket: UdpSocket) {
        let mut bytes = [0; 512];
        loop {
            let (len, from) = socket.recv_from(&mut bytes).await.unwrap();
            let asked = Message::from_vec(&bytes[..len]).unwrap();
            let name = asked.queries[0].name().clone();
            let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
            answer.add_query(asked.queries[0].clone());
            match name.to_utf8().as_str() {
                "_grpc._tcp.stores." => drop(answer.add_answers([4, 5].map(|port| {
                    let service = SRV::new(0, 0, port, Name::from_ascii("localhost.").unwrap());
                    Record::from_rdata(name.clone(), 60, RData::SRV(service))
                }))),
                "_grpc._tcp.broken." => answer.metadata.response_code = ResponseCode::ServFail,
                _ => answer.metadata.response_code = ResponseCode::NXDomain,
            }
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    }

    #[tokio::test]
    async fn service_records_stand_for_hosts_or_their_addresses() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut server = NameServerConfig::udp(socket.local_addr().unwrap().ip());
        server.connections[0].port = socket.local_addr().unwrap().port();
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let asked = |scheme, name| {
            let builder = TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default());
            services(Ok(builder), (scheme, name))
        };
        let told = async {
            let hosts = asked("dnssrvnoa", "_grpc._tcp.stores.").await.unwrap();
            assert!(hosts.iter().eq(["localhost:4", "localhost:5"]), "{hosts:?}");
            let hosts = asked("dnssrv", "_grpc._tcp.stores.").await.unwrap();
            assert!(hosts.contains("127.0.0.1:4") && hosts.contains("127.0.0.1:5"), "{hosts:?}");
            let hosts = asked("dnssrvnoa", "_grpc._tcp.stores.:9").await.unwrap();
            assert!(hosts.iter().eq(["localhost:9"]), "{hosts:?}");
            assert!(asked("dnssrv", "_grpc._tcp.others.").await.unwrap().is_empty());
            assert!(asked("dnssrv", "_grpc._tcp.broken.").await.is_err());
        };
        tokio::select! {
            () = serve_names(socket) => {}
            () = told => {}
        }
    }

    #[tokio::test]
    async fn a_name_needs_a_scheme_that_is_known_and_a_port() {
        assert_eq!(resolve("a:1").await.unwrap(), ["a:1"]);
        assert_eq!(resolve("dns+127.0.0.1:4").await.unwrap(), ["127.0.0.1:4"]);
        for (wrong, words) in [("dns+localhost", "missing port"), ("dnsx+a:1", "invalid lookup scheme \"dnsx\"")] {
            let error = resolve(wrong).await.unwrap_err().to_string();
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
