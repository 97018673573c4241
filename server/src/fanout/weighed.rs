//! Messages that are weighed before they are decoded: two bytes of one can be a thing of hundreds in a list.
//!
//! ```text
//! bytes ─ weigh what lists will hold ─> memory ─ decode ─> message
//! ```

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use engine::model::{Budget, Reservation};
use prost::Message;
use proto::prometheus_copy::{self, BucketSpan, Histogram, Sample, TimeSeries};
use proto::thanos::{
    ActiveTarget, AlertInstance, DroppedTarget, Exemplar, Label, Meta, MetricMetadataEntry, Rule, Statistic,
    TsdbStatisticsEntry,
};
use proto::wire::{Fields, Malformed, Value};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// A field of a message that holds other messages.
#[derive(Debug)]
pub struct Shape {
    number: u32,
    /// Bytes of each in its list; none where it is a part of the message around it.
    bytes: usize,
    /// Fields of theirs that hold messages.
    within: &'static [Shape],
    /// Whether it holds a list of varints.
    is_packed: bool,
}

/// A list of `T`; of `()` a part.
const fn field<T>(number: u32, within: &'static [Shape]) -> Shape {
    Shape { number, bytes: size_of::<T>(), within, is_packed: false }
}

/// A list of numbers of the type `T`, as varints.
const fn packed<T>(number: u32) -> Shape {
    Shape { number, bytes: size_of::<T>(), within: &[], is_packed: true }
}

const LABELS: &[Shape] = &[field::<Label>(1, &[])];
const ONE_SET: &[Shape] = &[field::<()>(1, LABELS)];
const TWO_SETS: &[Shape] = &[field::<()>(1, LABELS), field::<()>(2, LABELS)];

/// What `thanos.Rules` answers.
pub const RULES: &[Shape] = &[field::<()>(1, GROUP)];
const GROUP: &[Shape] = &[field::<Rule>(3, RULE)];
const RULE: &[Shape] = &[field::<()>(1, RECORDING), field::<()>(2, ALERT)];
const RECORDING: &[Shape] = &[field::<()>(3, LABELS)];
const ALERT: &[Shape] = &[field::<()>(5, LABELS), field::<()>(6, LABELS), field::<AlertInstance>(7, TWO_SETS)];

/// What `thanos.Targets` answers.
pub const TARGETS: &[Shape] = &[field::<()>(1, DISCOVERY)];
const DISCOVERY: &[Shape] = &[field::<ActiveTarget>(1, TWO_SETS), field::<DroppedTarget>(2, ONE_SET)];

/// What `thanos.Metadata` answers.
pub const METADATA: &[Shape] = &[field::<()>(1, METRICS)];
const METRICS: &[Shape] = &[field::<(String, MetricMetadataEntry)>(1, METRIC)];
const METRIC: &[Shape] = &[field::<()>(2, ENTRY)];
const ENTRY: &[Shape] = &[field::<Meta>(2, &[])];

/// What `thanos.Exemplars` answers.
pub const EXEMPLARS: &[Shape] = &[field::<()>(1, OF_SERIES)];
const OF_SERIES: &[Shape] = &[field::<()>(1, LABELS), field::<Exemplar>(2, ONE_SET)];

/// What `thanos.Status` answers.
pub const STATISTICS: &[Shape] = &[field::<()>(1, TENANTS)];
const TENANTS: &[Shape] = &[field::<(String, TsdbStatisticsEntry)>(1, TENANT)];
const TENANT: &[Shape] = &[field::<()>(2, TABLES)];
const TABLES: &[Shape] =
    &[field::<Statistic>(2, &[]), field::<Statistic>(3, &[]), field::<Statistic>(4, &[]), field::<Statistic>(5, &[])];

/// What `thanos.Query` answers. Lists of doubles are as long as their bytes.
pub const RESULTS: &[Shape] = &[field::<TimeSeries>(2, SERIES), field::<()>(4, SEVERAL)];
const SEVERAL: &[Shape] = &[field::<TimeSeries>(1, SERIES)];
const SERIES: &[Shape] = &[
    field::<Label>(1, &[]),
    field::<Sample>(2, &[]),
    field::<prometheus_copy::Exemplar>(3, LABELS),
    field::<Histogram>(4, HISTOGRAM),
];
const HISTOGRAM: &[Shape] =
    &[field::<BucketSpan>(8, &[]), packed::<i64>(9), field::<BucketSpan>(11, &[]), packed::<i64>(12)];

/// How often a thing is in its list meanwhile: where it lies, in the room for as many again, and where it was before
/// the list grew.
const LIST_PLACES: u64 = 3;

/// Bytes of the lists that `message` becomes.
pub fn weigh(message: &[u8], shapes: &[Shape]) -> Result<u64, Malformed> {
    let (mut fields, mut bytes) = (Fields::new("answer", message), 0);
    while let Some((number, value)) = fields.next()? {
        if let Some(shape) = shapes.iter().find(|shape| shape.number == number) {
            bytes += LIST_PLACES * shape.bytes as u64 * shape.things(value);
            if !shape.within.is_empty() {
                bytes += weigh(value.bytes(), shape.within)?;
            }
        }
    }
    Ok(bytes)
}

impl Shape {
    /// How many things a field holds: a varint ends with a byte below 128.
    fn things(&self, value: Value<'_>) -> u64 {
        match (self.is_packed, value) {
            (true, Value::Bytes(packed)) => packed.iter().filter(|byte| **byte < 0x80).count() as u64,
            _ => 1,
        }
    }
}

/// Sends a `Q`, and gives each `M` of the answer with the memory that was there to decode it.
#[derive(Debug)]
pub struct Weighing<Q, M> {
    shapes: &'static [Shape],
    memory: Arc<Budget>,
    messages: PhantomData<fn(Q) -> M>,
}

impl<Q, M> Weighing<Q, M> {
    /// Messages of `shapes`, which are to fit into `memory`.
    pub fn new(shapes: &'static [Shape], memory: &Arc<Budget>) -> Self {
        Self { shapes, memory: Arc::clone(memory), messages: PhantomData }
    }

    fn again(&self) -> Self {
        Self::new(self.shapes, &self.memory)
    }
}

impl<Q: Message + 'static, M: Message + Default + 'static> Codec for Weighing<Q, M> {
    type Encode = Q;
    type Decode = (M, Reservation);
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.again()
    }

    fn decoder(&mut self) -> Self {
        self.again()
    }
}

impl<Q: Message, M> Encoder for Weighing<Q, M> {
    type Item = Q;
    type Error = Status;

    fn encode(&mut self, item: Q, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<Q, M: Message + Default> Decoder for Weighing<Q, M> {
    type Item = (M, Reservation);
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<(M, Reservation)>, Status> {
        let bytes: Bytes = from.copy_to_bytes(from.remaining());
        let lists = weigh(&bytes, self.shapes).map_err(|error| Status::internal(error.to_string()))?;
        let held = self.memory.reserve(bytes.len() as u64 + lists);
        let held = held.map_err(|error| Status::resource_exhausted(error.message()))?;
        let message = M::decode(bytes).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some((message, held)))
    }
}

#[cfg(test)]
mod tests {
    use proto::thanos::{
        Alert, QueryResponse, RuleGroup, RulesResponse, TargetDiscovery, TargetsResponse, TimeSeriesBatch, ZLabelSet,
        query_response, rule, rules_response, targets_response,
    };

    use super::*;

    #[test]
    fn a_message_weighs_what_its_lists_become() {
        let targets = TargetDiscovery {
            active_targets: vec![ActiveTarget::default(); 100],
            dropped_targets: vec![DroppedTarget::default(); 10],
        };
        let message = TargetsResponse { result: Some(targets_response::Result::Targets(targets)) }.encode_to_vec();
        let expected = 100 * size_of::<ActiveTarget>() + 10 * size_of::<DroppedTarget>();
        assert_eq!(weigh(&message, TARGETS), Ok(LIST_PLACES * expected as u64));
        assert_eq!(weigh(&message[..message.len() - 1], TARGETS).ok(), None);

        let labels = Some(ZLabelSet { labels: vec![Label::default(); 5] });
        let instance = AlertInstance { labels: labels.clone(), ..AlertInstance::default() };
        let alert = Alert { annotations: labels, alerts: vec![instance; 3], ..Alert::default() };
        let rules = vec![Rule { result: Some(rule::Result::Alert(alert)) }];
        let group = RuleGroup { rules, ..RuleGroup::default() };
        let message = RulesResponse { result: Some(rules_response::Result::Group(group)) }.encode_to_vec();
        let expected = size_of::<Rule>() + 3 * size_of::<AlertInstance>() + 4 * 5 * size_of::<Label>();
        assert_eq!(weigh(&message, RULES), Ok(LIST_PLACES * expected as u64));
    }

    #[test]
    fn results_weigh_alike_alone_and_together() {
        let (spans, deltas) = (vec![BucketSpan::default(); 2], vec![1, 300, -300]);
        let histogram = Histogram { positive_spans: spans, positive_deltas: deltas, ..Histogram::default() };
        let series = TimeSeries {
            labels: vec![Label::default(); 2],
            samples: vec![Sample::default(); 100],
            histograms: vec![histogram],
            ..TimeSeries::default()
        };
        let numbers = 2 * size_of::<BucketSpan>() + 3 * size_of::<i64>();
        let one = size_of::<TimeSeries>() + 2 * size_of::<Label>() + 100 * size_of::<Sample>();
        let one = LIST_PLACES * (one + size_of::<Histogram>() + numbers) as u64;
        let alone = query_response::Result::Timeseries(series.clone());
        let together = query_response::Result::TimeseriesBatch(TimeSeriesBatch { series: vec![series; 3] });
        for (result, expected) in [(alone, one), (together, 3 * one)] {
            let message = QueryResponse { result: Some(result) }.encode_to_vec();
            assert_eq!(weigh(&message, RESULTS), Ok(expected));
        }
    }
}
