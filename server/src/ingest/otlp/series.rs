//! Series in the making, by their labels; written as a remote write request.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use engine::head::MetricKind;
use engine::model::Reservation;
use proto::otlp::{Exemplar, exemplar};
use proto::wire::put_varint;
use proto::write::{self, Sample, put_double, put_label, put_message, put_sample, put_text};

use super::attributes::text;
use super::milliseconds;
use super::packed::PackedLabels;
use super::points::label_room;
use crate::ingest::room::{Growing, NoRoom, histogram_bytes};

/// Labels of a series, by name.
pub(super) type LabelMap = BTreeMap<String, String>;

/// Characters that all labels of an exemplar may have.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// Bytes of labels of all series that a request is translated into: every bucket of a histogram has all attributes.
const LABEL_BYTES_MAX: usize = 128 << 20;

/// Bytes of a series beside its labels.
const SERIES_BYTES: usize = 256;

/// Bytes of a sample in its list, which has grown to twice of what it holds, in its series' message and in the request.
const SAMPLE_BYTES: usize = 96;

/// Bytes of an exemplar in its list, beside what is encoded.
const EXEMPLAR_BYTES: usize = 80;

/// Bytes that a byte of the id of a trace or span takes in hex, while that is encoded.
const ID_BYTES_PER_BYTE: usize = 8;

/// Bytes of a metric family beside what is encoded.
const FAMILY_BYTES: usize = 160;

/// What a sender is not told, who learns of the memory that there is.
const NO_ROOM: &str = "there is no memory for all series";

/// All series of a request.
#[derive(Debug)]
pub(super) struct SeriesSet {
    series: BTreeMap<PackedLabels, Series>,
    /// How what is said of metric families is encoded, by their names.
    families: BTreeMap<String, Vec<u8>>,
    label_bytes: usize,
    /// Memory for them and for the request that they become.
    room: Growing,
    /// Of that, bytes for what points take while they are translated.
    widest: usize,
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
    /// None yet; `held` grows by what they take.
    pub(super) fn new(held: Reservation) -> Self {
        let (series, families) = (BTreeMap::new(), BTreeMap::new());
        Self { series, families, label_bytes: 0, room: Growing::new(held), widest: 0, is_full: false }
    }

    /// All that is held, if there was room for all.
    pub(super) fn take_held(&mut self) -> Result<Reservation, NoRoom> {
        self.room.take()
    }

    /// Makes room for the `bytes` that a point takes while it is translated. One comes after the other: there is room
    /// for the widest so far.
    pub(super) fn widen(&mut self, bytes: usize) -> Result<(), String> {
        let more = bytes.saturating_sub(self.widest);
        self.widest += more;
        self.take_room(more)
    }

    fn take_room(&mut self, bytes: usize) -> Result<(), String> {
        self.room.add(bytes);
        self.is_full |= !self.room.has_room();
        if self.room.has_room() { Ok(()) } else { Err(NO_ROOM.into()) }
    }

    pub(super) fn sample(&mut self, labels: &LabelMap, sample: Sample) -> Result<(), String> {
        self.series(labels, SAMPLE_BYTES)?.samples.push(sample);
        Ok(())
    }

    pub(super) fn histogram(&mut self, labels: &LabelMap, histogram: write::Histogram) -> Result<(), String> {
        // It is encoded too.
        self.series(labels, 2 * histogram_bytes(&histogram))?.histograms.push(histogram);
        Ok(())
    }

    pub(super) fn exemplar(&mut self, labels: &LabelMap, exemplar: &Exemplar) -> Result<(), String> {
        let ids = ID_BYTES_PER_BYTE * (exemplar.trace_id.len() + exemplar.span_id.len());
        self.widen(ids + label_room(&exemplar.filtered_attributes))?;
        let encoded = encode_exemplar(exemplar);
        let series = self.series(labels, EXEMPLAR_BYTES + 3 * encoded.capacity())?;
        series.exemplars.push((milliseconds(exemplar.time_unix_nano), exemplar_value(exemplar), encoded));
        Ok(())
    }

    /// Notes what is said of the metric family `name`: what it is, its help and its unit. What is said last stays.
    pub(super) fn family(&mut self, name: &str, (kind, help, unit): (MetricKind, &str, &str)) {
        if name.is_empty() {
            // Its series are refused.
            return;
        }
        let mut encoded = vec![1 << 3, kind as u8];
        put_text(&mut encoded, 2, name);
        put_text(&mut encoded, 4, help);
        put_text(&mut encoded, 5, unit);
        if self.families.get(name) == Some(&encoded) {
            return;
        }
        if self.take_room(FAMILY_BYTES + name.len() + 2 * encoded.capacity()).is_ok() {
            self.families.insert(name.to_owned(), encoded);
        }
    }

    /// The series of these labels, made when it is new, for which `more` bytes come.
    fn series(&mut self, labels: &LabelMap, mut more: usize) -> Result<&mut Series, String> {
        let entry = self.series.entry(PackedLabels::of(labels));
        if let Entry::Vacant(new) = &entry {
            self.label_bytes += labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            if self.label_bytes > LABEL_BYTES_MAX {
                // Whatever comes behind it.
                self.is_full = true;
                return Err("the labels of all series come to more than 128 MiB: send fewer points at once".into());
            }
            // They are encoded too.
            more += SERIES_BYTES + 2 * new.key().bytes();
        }
        self.room.add(more);
        if !self.room.has_room() {
            self.is_full = true;
            return Err(NO_ROOM.into());
        }
        Ok(entry.or_default())
    }

    /// The series and what is said of metric families as a remote write request of version 1.
    pub(super) fn into_request(self) -> Vec<u8> {
        let (mut request, mut message, mut histogram_bytes) = (Vec::new(), Vec::new(), Vec::new());
        for (labels, mut series) in self.series {
            message.clear();
            // Resources of one name may come in any order, with points of one series in each.
            series.samples.sort_by_key(|sample| sample.time);
            series.histograms.sort_by_key(|histogram| histogram.time);
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
        self.families.values().for_each(|family| put_message(&mut request, 3, family));
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
    put_varint(&mut bytes, milliseconds(exemplar.time_unix_nano) as u64);
    bytes
}
