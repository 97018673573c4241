//! Label names and label values: found on the shards, answered in Thanos' words.

use engine::codec::StringList;
use engine::model::{Error, ErrorKind, Reservation, TimeRange};
use engine::select::{Failure, LabelAnswer, LabelRequest};
use prost::{Message, Name};
use prost_types::Any;
use proto::hintspb::{
    Block, LabelNamesRequestHints, LabelNamesResponseHints, LabelValuesRequestHints, LabelValuesResponseHints,
};
use proto::thanos::{LabelMatcher, LabelNamesRequest, LabelNamesResponse, LabelValuesRequest, LabelValuesResponse};
use tonic::{Code, Status};

use super::Gateway;
use super::held::add_labels;
use super::request::{self, Partial};
use crate::api::error::block_status;
use crate::api::grpc::call::Incoming;
use crate::api::grpc::wire::parse_matchers;

/// Names or values, warnings, and the blocks that were asked.
type Found = (StringList, Vec<String>, Vec<Block>);

/// What is answered, and the memory that it is accounted for with until it is sent.
type Accounted<M> = Result<(M, Vec<Reservation>), Status>;

/// A message as the bytes of its parts: the strings, which the shards have written, and the rest.
type Parts = [Vec<u8>; 2];

impl Gateway {
    /// Answers a LabelNames request.
    pub async fn label_names(&self, incoming: Incoming<LabelNamesRequest>) -> Accounted<Parts> {
        let Incoming { message, tenant, .. } = incoming;
        let hints: Option<LabelNamesRequestHints> =
            request::parse_hints(message.hints.as_ref(), "label names").map_err(invalid)?;
        let wants_hints = hints.is_some();
        let block_matchers = hints.map(|hints| hints.block_matchers).unwrap_or_default();
        let request = LabelRequest {
            name: None,
            range: TimeRange::new(message.start, message.end),
            without_labels: message.without_replica_labels,
            ..self.parse_labels((&message.matchers, &block_matchers), message.limit, &tenant).await?
        };
        let partial = Partial::parse(message.partial_response_strategy, message.partial_response_disabled);
        let ((names, warnings, queried_blocks), held) = self.labels(request, partial, &tenant).await?;
        let hints = wants_hints.then(|| any(&LabelNamesResponseHints { queried_blocks }));
        let rest = LabelNamesResponse { names: Vec::new(), warnings, hints };
        Ok(([names.into_bytes(), rest.encode_to_vec()], held))
    }

    /// Answers a LabelValues request.
    pub async fn label_values(&self, incoming: Incoming<LabelValuesRequest>) -> Accounted<Parts> {
        let Incoming { message, tenant, .. } = incoming;
        if self.ingest.is_some() && message.label.is_empty() {
            return Err(Status::invalid_argument("label name parameter cannot be empty"));
        }
        let hints: Option<LabelValuesRequestHints> =
            request::parse_hints(message.hints.as_ref(), "label values").map_err(invalid)?;
        let wants_hints = hints.is_some();
        let block_matchers = hints.map(|hints| hints.block_matchers).unwrap_or_default();
        let request = LabelRequest {
            name: Some(message.label),
            range: TimeRange::new(message.start, message.end),
            without_labels: message.without_replica_labels,
            ..self.parse_labels((&message.matchers, &block_matchers), message.limit, &tenant).await?
        };
        let partial = Partial::parse(message.partial_response_strategy, message.partial_response_disabled);
        let ((values, warnings, queried_blocks), held) = self.labels(request, partial, &tenant).await?;
        let hints = wants_hints.then(|| any(&LabelValuesResponseHints { queried_blocks }));
        let rest = LabelValuesResponse { values: Vec::new(), warnings, hints };
        Ok(([values.into_bytes(), rest.encode_to_vec()], held))
    }

    /// What requests for names and for values have in common.
    async fn parse_labels(
        &self,
        (matchers, block_matchers): (&[LabelMatcher], &[LabelMatcher]),
        limit: i64,
        tenant: &str,
    ) -> Result<LabelRequest, Status> {
        let refuse = |error: Error| self.refuse_said(&error, tenant);
        let mut allowance = self.parsing.allowance();
        let matchers = self.parsing.parse(matchers, &mut allowance, parse_matchers).await;
        let matchers = matchers.map_err(|error| refuse(error.within("translate request labels matchers")))?;
        let block_matchers = self.parse_block_matchers(block_matchers, &mut allowance).await.map_err(refuse)?;
        Ok(LabelRequest {
            name: None,
            range: TimeRange::ALL,
            matchers,
            without_labels: Vec::new(),
            limit: usize::try_from(limit).unwrap_or(0),
            block_matchers,
        })
    }

    async fn labels(&self, request: LabelRequest, partial: Partial, tenant: &str) -> Accounted<Found> {
        let kept = self.kept_labels(request.clone()).await.map_err(|error| self.refuse_labels(&error, tenant))?;
        // Looked at last: what is no longer kept here is among them by then.
        let (blocks, limit) = (self.blocks.current(), request.limit);
        let asked = blocks.set.overlapping(&request.matchers, request.range, &request.block_matchers);
        let asked = asked.iter().map(|chosen| Block { id: chosen.block.id().to_string() }).collect();
        let answer = self.selector.labels(&blocks.set, request, self.request_limits()).await;
        let mut answer = answer.map_err(|error| self.refuse_labels(&error, tenant))?;
        if let Some(kept) = kept {
            add_labels(&mut answer, kept, limit);
        }
        let LabelAnswer { strings, failures, held } = answer;
        let mut warnings = Vec::new();
        for Failure { block, error } in failures {
            tracing::warn!(%block, %error, "a block failed to answer");
            if partial == Partial::Abort {
                return Err(self.refuse_labels(&error, tenant));
            }
            warnings.push(error.message().to_owned());
        }
        Ok(((strings, warnings, asked), held))
    }

    fn refuse_labels(&self, error: &Error, tenant: &str) -> Status {
        match error.kind() {
            ErrorKind::Limit => self.refuse(error, tenant),
            _ => block_status(error, Code::Internal),
        }
    }
}

fn invalid(error: Error) -> Status {
    Status::invalid_argument(error.message())
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}
