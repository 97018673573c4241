//! Endpoints and what they say of themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use engine::model::{Error, Labels, TimeRange};
use futures_util::future::join_all;
use proto::thanos::ZLabelSet;
use proto::thanos::info::info_client::InfoClient;
use proto::thanos::info::{InfoRequest, InfoResponse, StoreInfo};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::dial::{self, Dialing, Link, Member, Outcome};
use super::discovery::{Client, Discovery, Found, LastGood, Presence};
use super::metrics::{Connected, FanoutMetrics};
use crate::telemetry::rpc::{Counted, RpcMetrics};

/// How long after its last good answer an endpoint is still listed, where nothing else is said.
const UNHEALTHY_LISTED: Duration = Duration::from_secs(5 * 60);

/// All endpoints.
#[derive(Debug)]
pub struct EndpointSet {
    discovery: Discovery,
    dialing: Dialing,
    metrics: FanoutMetrics,
    unhealthy_listed: Duration,
    known: Mutex<LastGood>,
    peers: RwLock<BTreeMap<String, Arc<Peer>>>,
}

/// One endpoint.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: String,
    /// The way there; connections are made when first used.
    pub channel: Counted<Link>,
    presence: Presence,
    client: Client,
    state: RwLock<State>,
}

/// What is known of an endpoint.
#[derive(Clone, Debug, Default)]
struct State {
    info: Option<Arc<InfoResponse>>,
    label_sets: Arc<Vec<Labels>>,
    checked: Option<SystemTime>,
    answered: Option<SystemTime>,
    error: Option<String>,
}

/// An API that endpoints may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// StoreAPI.
    Store,
    /// Rules.
    Rules,
    /// Targets.
    Targets,
    /// Metric metadata.
    Metadata,
    /// Exemplars.
    Exemplars,
    /// Queries.
    Query,
    /// Cardinality.
    Status,
}

impl EndpointSet {
    /// The endpoints that `discovery` finds; none before the first [`EndpointSet::refresh`].
    pub fn new(discovery: Discovery, dialing: Dialing) -> Self {
        Self {
            discovery,
            dialing,
            metrics: FanoutMetrics::default(),
            unhealthy_listed: UNHEALTHY_LISTED,
            known: Mutex::default(),
            peers: RwLock::default(),
        }
    }

    /// The same endpoints, counted by `metrics`.
    pub fn counted_by(self, metrics: FanoutMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// The same endpoints, each still listed for so long after its last good answer
    /// (`--store.unhealthy-timeout`).
    pub fn listed_for(self, unhealthy_listed: Duration) -> Self {
        Self { unhealthy_listed, ..self }
    }

    /// Resolves addresses and asks every endpoint what it holds; what went wrong with addresses.
    pub async fn refresh(&self) -> Vec<String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (found, mut problems) = self.discovery.endpoints(&self.metrics, &mut known).await;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        let mut peers = BTreeMap::new();
        let known = self.all();
        for (address, found) in found {
            let same = |peer: &&Arc<Peer>| {
                peer.address == address && peer.presence == found.presence && peer.client == found.client
            };
            let outcome = match known.iter().find(same) {
                Some(peer) => peer.follow(&found, &self.dialing).map(|()| Arc::clone(peer)),
                None => Peer::new(&address, &found, (&self.dialing, &self.metrics.calls)).map(Arc::new),
            };
            match outcome {
                Ok(peer) => drop(peers.insert(address, peer)),
                Err(error) => problems.push(error.to_string()),
            }
        }
        join_all(peers.values().map(|peer| peer.check(&self.dialing))).await;
        let healthy = peers.values().filter(|peer| peer.is_healthy());
        self.metrics.connected(healthy.map(|peer| {
            let sets: Vec<String> = peer.label_sets().iter().map(Labels::to_string).collect();
            let kind = peer.info().map_or_else(String::new, |info| info.component_type.clone());
            Connected { external: sets.join(","), kind, address: peer.address.clone() }
        }));
        *self.peers.write().unwrap_or_else(PoisonError::into_inner) = peers;
        problems
    }

    /// What endpoints are found by now, as YAML.
    pub fn to_yaml(&self) -> String {
        self.discovery.to_yaml(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every endpoint.
    pub fn all(&self) -> Vec<Arc<Peer>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The endpoints that serve `api` and answer, or are to be asked all the same.
    pub fn serving(&self, api: Api) -> Vec<Arc<Peer>> {
        self.all().into_iter().filter(|peer| peer.serves(api)).collect()
    }

    /// Endpoints by kind, as Thanos' `/api/v1/stores` lists them.
    pub fn listing(&self) -> Value {
        let mut kinds: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for peer in self.all() {
            let state = peer.state();
            let long_gone =
                state.answered.is_none_or(|time| time.elapsed().unwrap_or_default() > self.unhealthy_listed);
            if state.error.is_some() && long_gone && peer.presence == Presence::WhenHealthy && state.info.is_some() {
                continue;
            }
            let kind = state.info.as_ref().map_or("unknown", |info| info.component_type.as_str());
            kinds.entry(kind.to_owned()).or_default().push(peer.listing(&state));
        }
        json!(kinds)
    }
}

impl Peer {
    fn new(address: &str, found: &Found, (dialing, calls): (&Dialing, &RpcMetrics)) -> Result<Self, Error> {
        let peer = Self {
            address: address.to_owned(),
            channel: Counted::new(Link::new(Vec::new()), calls.clone()),
            presence: found.presence,
            client: found.client.clone(),
            state: RwLock::default(),
        };
        peer.follow(found, dialing)?;
        Ok(peer)
    }

    /// Makes the processes that answer for the endpoint those that were found.
    fn follow(&self, found: &Found, dialing: &Dialing) -> Result<(), Error> {
        let known = self.channel.inner().members();
        if known.iter().map(|member| &member.address).eq(&found.members) {
            return Ok(());
        }
        let dialing = match &found.client {
            Client::AsFlagsSay => dialing.clone(),
            Client::Own(None) => Dialing { tls: None, ..dialing.clone() },
            Client::Own(Some(files)) => {
                let failed = |error: String| Error::invalid(format!("TLS to {}: {error}", self.address));
                Dialing { tls: Some(Arc::new(files.clone().open().map_err(failed)?)), ..dialing.clone() }
            }
        };
        let member = |address: &String| match known.iter().find(|member| member.address == *address) {
            Some(member) => Ok(Arc::clone(member)),
            None => dialing.dial(address, &found.host).map(|channel| Arc::new(Member::new(address.clone(), channel))),
        };
        self.channel.inner().set_members(found.members.iter().map(member).collect::<Result<_, Error>>()?);
        Ok(())
    }

    /// Asks every process that answers for the endpoint what it is; the first that answers counts.
    async fn check(&self, dialing: &Dialing) {
        let (timeout, bytes_max) = (dialing.info_timeout, dialing.info_bytes_max());
        let answers = join_all(self.channel.inner().members().into_iter().map(|member| async move {
            let asked = InfoClient::new(self.channel.over(member.channel.clone()));
            let asked = async move { asked.max_decoding_message_size(bytes_max).info(InfoRequest {}).await };
            let (outcome, answer) = match tokio::time::timeout(timeout, asked).await {
                Ok(Ok(answer)) => (Outcome::Answered, Ok(answer.into_inner())),
                Ok(Err(status)) => {
                    let outcome = if dial::is_timeout(&status) { Outcome::Silent } else { Outcome::Unavailable };
                    let (code, words) = dial::explain(&status);
                    (outcome, Err(format!("{code}: {words}")))
                }
                Err(_) => (Outcome::Silent, Err(format!("no answer to Info within {timeout:?}"))),
            };
            member.set_answers(outcome);
            answer
        }));
        let answer = answers.await.into_iter().reduce(|first, other| if first.is_ok() { first } else { other });
        let now = SystemTime::now();
        let answer = answer.unwrap_or_else(|| Err("the group has no members".to_owned()));
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.checked = Some(now);
        let (address, known) = (&self.address, &state.error);
        match &answer {
            Err(error) if known.as_ref() != Some(error) => tracing::warn!(address, error, "update of endpoint failed"),
            Ok(_) if known.is_some() => tracing::info!(address, "endpoint answers again"),
            _ => {}
        }
        match answer {
            Ok(info) => {
                state.label_sets = Arc::new(info.label_sets.iter().map(labels).collect());
                state.info = Some(Arc::new(info));
                state.answered = Some(now);
                state.error = None;
            }
            Err(error) => state.error = Some(error),
        }
    }

    /// Takes in what the endpoint's store holds by now, also before it has said itself what it is. Every request may
    /// say so: what is known already is neither copied nor read again.
    pub fn holds(&self, label_sets: Vec<ZLabelSet>, store: StoreInfo) {
        if self.info().is_some_and(|info| info.label_sets == label_sets && info.store.as_ref() == Some(&store)) {
            return;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let known = state.info.as_deref().cloned().unwrap_or_default();
        let info = InfoResponse { label_sets, store: Some(store), ..known };
        state.label_sets = Arc::new(info.label_sets.iter().map(labels).collect());
        state.info = Some(Arc::new(info));
    }

    /// Whether the endpoint answered when it was asked last.
    fn is_healthy(&self) -> bool {
        let state = self.state();
        state.info.is_some() && state.error.is_none()
    }

    /// Whether the endpoint serves `api` and is to be asked.
    pub fn serves(&self, api: Api) -> bool {
        let state = self.state();
        let Some(info) = &state.info else { return self.presence == Presence::Always && api == Api::Store };
        let serves = match api {
            Api::Store => info.store.is_some(),
            Api::Rules => info.rules.is_some(),
            Api::Targets => info.targets.is_some(),
            Api::Metadata => info.metric_metadata.is_some(),
            Api::Exemplars => info.exemplars.is_some(),
            Api::Query => info.query.is_some(),
            Api::Status => info.status.is_some(),
        };
        serves && (state.error.is_none() || self.presence == Presence::Always)
    }

    /// External label sets; none for an endpoint that says nothing of them.
    pub fn label_sets(&self) -> Arc<Vec<Labels>> {
        self.state().label_sets
    }

    /// The times that the endpoint's StoreAPI covers.
    pub fn range(&self) -> TimeRange {
        let state = self.state();
        let store = state.info.as_ref().and_then(|info| info.store.as_ref());
        store.map_or(TimeRange::ALL, |store| TimeRange::new(store.min_time, store.max_time))
    }

    /// Whether the endpoint leaves replica labels out by itself and keeps the order then.
    pub fn drops_replica_labels(&self) -> bool {
        let state = self.state();
        let store = state.info.as_ref().and_then(|info| info.store.as_ref());
        store.is_some_and(|store| store.supports_without_replica_labels)
    }

    /// Whether the endpoint gives the share of the series that a request names.
    pub fn takes_shares(&self) -> bool {
        let state = self.state();
        let store = state.info.as_ref().and_then(|info| info.store.as_ref());
        store.is_some_and(|store| store.supports_sharding)
    }

    /// What the endpoint said of itself last.
    pub fn info(&self) -> Option<Arc<InfoResponse>> {
        self.state().info
    }

    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn listing(&self, state: &State) -> Value {
        // Blocks without external labels have a set too, which says nothing.
        let sets = state.label_sets.iter().filter(|set| !set.is_empty()).map(|set| {
            let pairs = set.iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
            Value::Object(pairs.collect())
        });
        let range = self.range();
        let checked = state.checked.unwrap_or(SystemTime::UNIX_EPOCH);
        json!({
            "name": self.address,
            "lastCheck": OffsetDateTime::from(checked).format(&Rfc3339).unwrap_or_default(),
            "lastError": state.error,
            "labelSets": sets.collect::<Vec<_>>(),
            "minTime": range.min_time,
            "maxTime": range.max_time,
        })
    }
}

/// The labels of a label set on the wire.
pub fn labels(set: &proto::thanos::ZLabelSet) -> Labels {
    Labels::from_pairs(set.labels.iter().map(|label| (label.name.as_str(), label.value.as_str())))
}

#[cfg(test)]
mod tests {
    use proto::thanos::Label;

    use super::*;

    /// It was copied and read anew for every request.
    #[test]
    fn what_a_store_holds_is_taken_in_where_it_has_changed() {
        let (members, host) = (Vec::new(), String::new());
        let found = Found { presence: Presence::WhenHealthy, members, host, client: Client::AsFlagsSay };
        let peer = Peer::new("a:1", &found, (&Dialing::default(), &RpcMetrics::default())).unwrap();
        let hold = |value: &str, min_time: i64| {
            let label_sets = vec![ZLabelSet { labels: vec![Label { name: "a".into(), value: value.into() }] }];
            peer.holds(label_sets, StoreInfo { min_time, max_time: 9, ..StoreInfo::default() });
            peer.info().unwrap()
        };
        let first = hold("1", 1);
        assert!(Arc::ptr_eq(&first, &hold("1", 1)));
        assert_eq!(hold("1", 2).store.as_ref().unwrap().min_time, 2);
        assert!(!Arc::ptr_eq(&first, &hold("2", 2)));
        assert_eq!(peer.label_sets().as_slice(), [Labels::from_pairs([("a", "2")])]);
    }
}
