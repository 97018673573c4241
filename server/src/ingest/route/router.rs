//! Reading a request whose series are to be placed: rules of relabelling and splitting are applied, and every
//! series is kept encoded, with the hash that places it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use engine::codec::LabelFault;
use engine::model::Labels;
use engine::model::labels::METRIC_NAME;
use engine::model::relabel::{Rule, relabel};
use proto::wire::put_varint;
use proto::write::{self, Exemplar, LabelPairs, Sample, Sink, put_double, put_label, put_message, put_sample};

use crate::cluster::hashring::series_hash;
use crate::ingest::intake::{Counts, LABELS_MAX};
use crate::ingest::refusal::Refusal;
use crate::ingest::tenant;

/// A request whose series are to be placed.
#[derive(Debug, Default)]
pub struct Routed {
    /// What series lie in, each with its key and length.
    pub(super) bytes: Bytes,
    pub(super) series: Vec<RoutedSeries>,
    pub(super) tenants: Vec<Arc<str>>,
    /// The place of each tenant in that list.
    pub(super) numbers: HashMap<Arc<str>, usize>,
    /// Series and floats of each tenant that are to be placed.
    pub(super) shares: Vec<(u64, u64)>,
    /// What is said of metric families to each tenant, encoded.
    pub(super) families: BTreeMap<usize, Vec<u8>>,
    /// What the request held.
    pub counts: Counts,
    /// Series and exemplars whose labels can't be told, which are placed nowhere.
    pub unresolved: u64,
    /// Series with too many labels, which are placed nowhere.
    pub too_many: u64,
}

impl Routed {
    /// A request without series, whose first tenant is `tenant`.
    pub(super) fn of(tenant: &str) -> Self {
        let mut routed = Self::default();
        routed.tenant_number(tenant);
        routed
    }

    /// The place of a tenant in the request's list, made when it is new.
    pub(super) fn tenant_number(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let (name, number) = (Arc::<str>::from(name), self.tenants.len());
        self.tenants.push(Arc::clone(&name));
        self.shares.push((0, 0));
        self.numbers.insert(name, number);
        number
    }

    /// Series and floats of each tenant that has any.
    pub fn shares(&self) -> Vec<(String, (u64, u64))> {
        let shares = self.tenants.iter().zip(&self.shares).filter(|(_, (series, _))| *series > 0);
        shares.map(|(tenant, counts)| (tenant.to_string(), *counts)).collect()
    }
}

/// What becomes of what a request says of metric families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Families {
    /// It is kept, here.
    Kept,
    /// It is left out: upstream's message to other receivers has no place for it.
    LeftOut,
}

/// One series of a request.
#[derive(Clone, Debug)]
pub(super) struct RoutedSeries {
    /// Its tenant, by its place in the request's list.
    pub(super) tenant: usize,
    /// What places it on the tenant's ring.
    pub(super) hash: u64,
    /// Where it lies in the request's bytes.
    pub(super) range: Range<usize>,
}

/// Reads series, applies the rules of relabelling and splitting, and encodes them again.
pub(super) struct Router<'r> {
    rules: &'r [Rule],
    split_label: Option<&'r str>,
    /// The tenant of series that name none.
    tenant: usize,
    routed: Routed,
    /// Encoded series, each with its key and length.
    bytes: Vec<u8>,
    problem: Option<Refusal>,
    /// The current series without its key and length.
    message: Vec<u8>,
    is_open: bool,
    place: (usize, u64),
    keeps: Families,
    /// The metric name of the current series.
    metric: Vec<u8>,
    /// What is said of metric families, by tenant and name.
    families: BTreeMap<(usize, Vec<u8>), Vec<u8>>,
}

impl<'r> Router<'r> {
    /// Reads series of `tenant` where they name no other.
    pub(super) fn new(rules: &'r [Rule], split_label: Option<&'r str>, tenant: &str) -> Self {
        Self {
            rules,
            split_label,
            tenant: 0,
            routed: Routed::of(tenant),
            bytes: Vec::new(),
            problem: None,
            message: Vec::new(),
            is_open: false,
            place: (0, 0),
            keeps: Families::LeftOut,
            metric: Vec::new(),
            families: BTreeMap::new(),
        }
    }

    /// The same with what is said of metric families, or without.
    pub(super) fn with(self, keeps: Families) -> Self {
        Self { keeps, ..self }
    }

    /// Goes on with series of the tenant `name`.
    pub(super) fn set_tenant(&mut self, name: &str) {
        self.close();
        self.tenant = self.routed.tenant_number(name);
    }

    /// All that was read.
    pub(super) fn finish(mut self) -> Result<Routed, Refusal> {
        self.close();
        let mut families: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for ((tenant, _), said) in &self.families {
            put_message(families.entry(*tenant).or_default(), 3, said);
        }
        self.problem.map_or(Ok(Routed { bytes: self.bytes.into(), families, ..self.routed }), Err)
    }

    /// The current series is complete.
    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let start = self.bytes.len();
            put_message(&mut self.bytes, 1, &self.message);
            let (tenant, hash) = self.place;
            self.routed.shares[tenant].0 += 1;
            self.routed.series.push(RoutedSeries { tenant, hash, range: start..self.bytes.len() });
        }
    }

    /// Opens a series with these labels; the one that names its tenant is left out.
    fn open(&mut self, labels: &LabelPairs<'_>) {
        let mut tenant = self.tenant;
        let split = self.split_label.map(str::as_bytes);
        let named = labels.iter().find(|(name, value)| Some(*name) == split && !value.is_empty());
        if let Some((_, value)) = named {
            let checked = std::str::from_utf8(value).map_err(|_| "tenant name not valid".to_owned());
            match checked.and_then(|name| tenant::check(name).map(|()| name)) {
                Ok(name) => tenant = self.routed.tenant_number(name),
                Err(why) => self.problem = Some(Refusal::invalid(why)),
            }
        }
        // Thanos builds the set of labels anew where it takes one out, which leaves those without a value out too.
        let is_kept = |(name, value): &&(&[u8], &[u8])| named.is_none() || Some(*name) != split && !value.is_empty();
        let kept = || labels.iter().filter(is_kept);
        let pairs = kept().map(|(name, value)| (*name, *value));
        self.place = (tenant, series_hash(&self.routed.tenants[tenant], pairs));
        self.message.clear();
        kept().for_each(|(name, value)| put_label(&mut self.message, name, value));
        self.is_open = true;
        if self.keeps == Families::Kept {
            self.metric.clear();
            let metric = labels.iter().find(|(name, _)| *name == METRIC_NAME.as_bytes());
            self.metric.extend_from_slice(metric.map_or(&[], |(_, metric)| metric));
        }
    }

    /// The labels after the rules; `None` when the series is dropped.
    fn relabelled(&self, labels: &LabelPairs<'_>) -> Option<Labels> {
        let text = |bytes| String::from_utf8_lossy(bytes);
        let labels = Labels::from_pairs(labels.iter().map(|(name, value)| (text(name), text(value))));
        relabel(self.rules, &labels)
    }
}

impl<'a> Sink<'a> for Router<'_> {
    fn series(&mut self, labels: &LabelPairs<'a>) {
        self.close();
        self.routed.counts.series += 1;
        if labels.len() > LABELS_MAX {
            // Not all of them are told.
            self.routed.too_many += 1;
            return;
        }
        if self.rules.is_empty() {
            return self.open(labels);
        }
        if let Some(changed) = self.relabelled(labels) {
            let found = LabelFault::of(labels.iter().copied().filter(|(_, value)| !value.is_empty()));
            if found.is_some_and(|fault| fault != LabelFault::Empty) {
                // Its receiver refuses it, as without rules; a set of labels would have repaired it.
                return self.open(labels);
            }
            let pairs: Vec<(&[u8], &[u8])> =
                changed.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            self.open(&pairs);
        }
    }

    fn unresolved(&mut self, what: write::Unresolved) {
        self.routed.unresolved += 1;
        match what {
            write::Unresolved::Series => {
                self.close();
                self.routed.counts.series += 1;
            }
            write::Unresolved::Exemplar => self.routed.counts.exemplars += 1,
            write::Unresolved::Metadata => {}
        }
    }

    fn sample(&mut self, sample: Sample) {
        self.routed.counts.samples += 1;
        if self.is_open {
            self.routed.shares[self.place.0].1 += 1;
        }
        put_sample(&mut self.message, sample);
    }

    fn histogram(&mut self, histogram: write::Histogram) {
        self.routed.counts.histograms += 1;
        let mut bytes = Vec::new();
        write::put_histogram(&mut bytes, &histogram);
        put_message(&mut self.message, 4, &bytes);
    }

    fn exemplar(&mut self, labels: &LabelPairs<'a>, exemplar: Exemplar) {
        self.routed.counts.exemplars += 1;
        let mut bytes = Vec::new();
        labels.iter().for_each(|(name, value)| put_label(&mut bytes, name, value));
        put_double(&mut bytes, 2, exemplar.value);
        bytes.push(3 << 3);
        put_varint(&mut bytes, exemplar.time as u64);
        put_message(&mut self.message, 3, &bytes);
    }

    /// What is said of a family is of no one series, and of the tenant who sends; in version 2 it is of the series
    /// before.
    fn metadata(&mut self, said: write::Metadata<'a>) {
        let is_nothing = said.kind == 0 && said.help.is_empty() && said.unit.is_empty();
        let (tenant, family) = match said.family {
            [] if self.is_open => (self.place.0, self.metric.as_slice()),
            family => (self.tenant, family),
        };
        if self.keeps == Families::LeftOut || is_nothing || family.is_empty() {
            return;
        }
        let mut message = vec![1 << 3, said.kind];
        for (field, text) in [(2, family), (4, said.help), (5, said.unit)] {
            put_message(&mut message, field, text);
        }
        self.families.insert((tenant, family.to_owned()), message);
    }
}
