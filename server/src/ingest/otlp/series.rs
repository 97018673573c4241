//! Series in the making, by their labels; written as a remote write request.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use proto::otlp::{Exemplar, exemplar};
use proto::write::{self, Sample, put_double, put_label, put_message, put_sample};

use super::attributes::text;
use super::milliseconds;

/// Labels of a series, by name.
pub(super) type LabelMap = BTreeMap<String, String>;

/// Characters that all labels of an exemplar may have.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// Bytes of labels of all series that a request is translated into: every bucket of a histogram has all attributes.
const LABEL_BYTES_MAX: usize = 128 << 20;

/// All series of a request.
#[derive(Debug, Default)]
pub(super) struct SeriesSet {
    series: BTreeMap<LabelMap, Series>,
    label_bytes: usize,
    /// Whether there was a series too many.
    pub(super) is_full: bool,
}

#[derive(Debug, Default)]
struct Series {
    samples: Vec<Sample>,
    histograms: Vec<write::Histogram>,
    /// Times and values of exemplars, and how they are encoded.
    exemplars: Vec<(i64, f64, Vec<u8>)>,
}

impl SeriesSet {
    pub(super) fn sample(&mut self, labels: LabelMap, sample: Sample) -> Result<(), String> {
        self.series(labels)?.samples.push(sample);
        Ok(())
    }

    pub(super) fn histogram(&mut self, labels: LabelMap, histogram: write::Histogram) -> Result<(), String> {
        self.series(labels)?.histograms.push(histogram);
        Ok(())
    }

    pub(super) fn exemplar(&mut self, labels: LabelMap, exemplar: &Exemplar) -> Result<(), String> {
        let encoded = (milliseconds(exemplar.time_unix_nano), exemplar_value(exemplar), encode_exemplar(exemplar));
        self.series(labels)?.exemplars.push(encoded);
        Ok(())
    }

    /// The series of these labels, made when it is new.
    fn series(&mut self, labels: LabelMap) -> Result<&mut Series, String> {
        let bytes: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        match self.series.entry(labels) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                self.label_bytes += bytes;
                if self.label_bytes > LABEL_BYTES_MAX {
                    // Whatever comes behind it.
                    self.is_full = true;
                    return Err("the labels of all series come to more than 128 MiB: send fewer points at once".into());
                }
                Ok(new.insert(Series::default()))
            }
        }
    }

    /// The series as a remote write request of version 1.
    pub(super) fn into_request(self) -> Vec<u8> {
        let (mut request, mut message, mut histogram_bytes) = (Vec::new(), Vec::new(), Vec::new());
        for (labels, mut series) in self.series {
            message.clear();
            // SDKs tell those of a histogram by bucket; a series has them by time, of one time by value.
            series.exemplars.sort_by(|left, right| left.0.cmp(&right.0).then(left.1.total_cmp(&right.1)));
            // A metric without a name is refused as one, and not kept as a series that nobody finds.
            for (name, value) in labels.iter().filter(|(name, value)| !value.is_empty() || *name == "__name__") {
                put_label(&mut message, name.as_bytes(), value.as_bytes());
            }
            series.samples.iter().for_each(|sample| put_sample(&mut message, *sample));
            series.exemplars.iter().for_each(|(.., exemplar)| put_message(&mut message, 3, exemplar));
            for histogram in &series.histograms {
                histogram_bytes.clear();
                write::put_histogram(&mut histogram_bytes, histogram);
                put_message(&mut message, 4, &histogram_bytes);
            }
            put_message(&mut request, 1, &message);
        }
        request
    }
}

/// The value of an exemplar.
pub(super) fn exemplar_value(exemplar: &Exemplar) -> f64 {
    match exemplar.value {
        Some(exemplar::Value::AsDouble(value)) => value,
        Some(exemplar::Value::AsInt(value)) => value as f64,
        None => 0.0,
    }
}

/// Trace and span first; attributes only where all of them fit.
fn encode_exemplar(exemplar: &Exemplar) -> Vec<u8> {
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let is_set = |id: &[u8]| id.iter().any(|byte| *byte != 0);
    let mut labels: Vec<(String, String)> = Vec::new();
    for (name, id) in [("trace_id", &exemplar.trace_id), ("span_id", &exemplar.span_id)] {
        if is_set(id) {
            labels.push((name.into(), hex(id)));
        }
    }
    let attributes: Vec<(String, String)> =
        exemplar.filtered_attributes.iter().map(|found| (found.key.clone(), text(found.value.as_ref()))).collect();
    let chars = |labels: &[(String, String)]| -> usize {
        labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum()
    };
    if chars(&labels) + chars(&attributes) <= EXEMPLAR_CHARS_MAX {
        labels.extend(attributes);
    }
    let mut bytes = Vec::new();
    labels.iter().for_each(|(name, value)| put_label(&mut bytes, name.as_bytes(), value.as_bytes()));
    put_double(&mut bytes, 2, exemplar_value(exemplar));
    bytes.push(3 << 3);
    proto::wire::put_varint(&mut bytes, milliseconds(exemplar.time_unix_nano) as u64);
    bytes
}
