//! Reading a request of version 1 whose series are forwarded as they lie in it.

use std::ops::Range;

use engine::codec::EncodedLabels;
use proto::write::{Exemplar, Histogram, LabelPairs, LabelRun, Metadata, Sample, Sink};

use super::router::{Routed, RoutedSeries};
use crate::cluster::hashring::{SeriesHasher, series_hash};

/// Notes where series lie and which hash places them.
pub(super) struct Passing {
    tenant: usize,
    hasher: SeriesHasher,
    routed: Routed,
    /// Where the next series lies.
    field: Range<usize>,
}

impl Passing {
    /// Reads series of `tenant`.
    pub(super) fn new(tenant: &str) -> Self {
        Self { tenant: 0, hasher: SeriesHasher::new(tenant), routed: Routed::of(tenant), field: 0..0 }
    }

    /// Goes on with series of the tenant `name`.
    pub(super) fn set_tenant(&mut self, name: &str) {
        self.tenant = self.routed.tenant_number(name);
        self.hasher = SeriesHasher::new(name);
    }

    /// All that was read; the request's bytes are still to be added.
    pub(super) fn finish(self) -> Routed {
        self.routed
    }

    fn add(&mut self, hash: u64) {
        self.routed.counts.series += 1;
        self.routed.shares[self.tenant].0 += 1;
        self.routed.series.push(RoutedSeries { tenant: self.tenant, hash, range: self.field.clone() });
    }
}

impl<'a> Sink<'a> for Passing {
    #[inline]
    fn series_field(&mut self, field: Range<usize>) {
        self.field = field;
    }

    #[inline]
    fn label_run(&mut self, run: LabelRun<'a>) -> bool {
        let hash = self.hasher.hash(EncodedLabels(run.bytes));
        self.add(hash);
        true
    }

    fn series(&mut self, labels: &LabelPairs<'a>) {
        let hash = series_hash(&self.routed.tenants[self.tenant], labels.iter().copied());
        self.add(hash);
    }

    #[inline]
    fn sample(&mut self, _: Sample) {
        self.routed.counts.samples += 1;
        self.routed.shares[self.tenant].1 += 1;
    }

    fn histogram(&mut self, _: Histogram) {
        self.routed.counts.histograms += 1;
    }

    fn exemplar(&mut self, _: &LabelPairs<'a>, _: Exemplar) {
        self.routed.counts.exemplars += 1;
    }

    fn metadata(&mut self, _: Metadata<'a>) {}
}

#[cfg(test)]
mod tests {
    use proto::write::{put_label, put_message, put_sample};

    use super::super::router::Router;
    use super::*;
    use crate::ingest::intake::Protocol;

    const LABELS: [(&[u8], &[u8]); 2] = [(b"__name__", b"up"), (b"job", b"a")];

    /// A request of one series with a sample, its labels each written by `label`.
    fn request(label: impl Fn(&mut Vec<u8>, &[u8], &[u8])) -> Vec<u8> {
        // Metadata comes before the series.
        let (mut request, mut series) = (vec![0x1a, 2, 0x08, 1], Vec::new());
        LABELS.iter().for_each(|(name, value)| label(&mut series, name, value));
        put_sample(&mut series, Sample { time: 1_790_000_000_000, value: 1.5, start: 0 });
        put_message(&mut request, 1, &series);
        request
    }

    #[test]
    fn series_are_placed_as_when_they_are_encoded_again_whatever_form_their_labels_come_in() {
        let plain = request(put_label);
        let odd = request(|out, name, value| {
            let mut label = Vec::new();
            put_message(&mut label, 2, value);
            put_message(&mut label, 1, name);
            put_message(out, 1, &label);
        });
        for request in [&plain, &odd] {
            let (mut passing, mut router) = (Passing::new("t"), Router::new(&[], Some("tenant"), "t"));
            Protocol::V1.scan(request, &mut passing).unwrap();
            Protocol::V1.scan(request, &mut router).unwrap();
            let (passed, encoded) = (passing.finish(), router.finish().unwrap());
            assert_eq!(passed.series[0].hash, series_hash("t", LABELS));
            assert_eq!(passed.series[0].hash, encoded.series[0].hash);
            assert_eq!((passed.counts, passed.shares()), (encoded.counts, encoded.shares()));
            assert_eq!(&request[passed.series[0].range.clone()], &request[4..]);
            assert_eq!(encoded.bytes, plain[4..]);
        }
    }

    #[test]
    fn a_series_of_which_not_all_labels_are_told_is_counted_and_placed_nowhere() {
        let (mut series, mut request) = (Vec::new(), request(put_label));
        (0..20_000).for_each(|at| put_label(&mut series, format!("l{at:05}").as_bytes(), b"v"));
        put_message(&mut request, 1, &series);
        // With one left out as many would be told as a series may have.
        let mut router = Router::new(&[], Some("l00000"), "t");
        Protocol::V1.scan(&request, &mut router).unwrap();
        let routed = router.finish().unwrap();
        assert_eq!((routed.series.len(), routed.counts.series, routed.too_many), (1, 2, 1));
    }

    #[test]
    fn a_series_that_names_its_tenant_is_that_tenants_without_the_label() {
        let mut router = Router::new(&[], Some("job"), "t");
        Protocol::V1.scan(&request(put_label), &mut router).unwrap();
        let routed = router.finish().unwrap();
        assert_eq!(routed.shares(), [("a".to_owned(), (1, 1))]);
        assert_eq!(routed.series[0].hash, series_hash("a", [LABELS[0]]));
    }
}
