//! What is said of metrics, within bounds: whoever may write says what he likes, of any name.

use super::{Head, Metadata, OwnedMetadata, WriteBatch};
use crate::wal::Recorder;
use crate::wal::record::MetadataRecord;

/// Metrics of which a head keeps what is said: more are an attack or a mistake.
const METRICS_MAX: usize = 1 << 17;

/// Bytes of the names of these and of all that is said of them.
const BYTES_MAX: usize = 64 << 20;

/// Bytes of each name and text; what has a longer one is left out.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 10;

/// What became of what is said of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is kept from now on.
    New,
    /// It is kept already.
    Known,
    /// It is more than a head keeps. What was said of the metric before stays.
    LeftOut,
}

impl Head {
    /// Notes what `batch` says of metric families; what is new goes to `recorder`.
    pub fn note_families(&mut self, batch: &WriteBatch, (tenant, recorder): (u32, &mut Recorder)) {
        let record = |(name, Metadata { kind, help, unit })| MetadataRecord { kind: kind as u8, name, help, unit };
        let is_new = |(name, said): &(&str, Metadata<'_>)| self.take_metadata(name, *said);
        let new: Vec<_> = batch.families().filter(is_new).map(record).collect();
        recorder.metadata(tenant, &new);
    }

    /// Notes what was sent of the metric `name`; whether it is new. What is left out is counted.
    pub(super) fn take_metadata(&mut self, name: &str, said: Metadata<'_>) -> bool {
        let noted = self.note_metadata(name, said);
        self.stats.metadata_left_out += u64::from(noted == Noted::LeftOut);
        noted == Noted::New
    }

    /// Notes what is said of the metric `name`.
    pub(super) fn note_metadata(&mut self, name: &str, said: Metadata<'_>) -> Noted {
        let Metadata { kind, help, unit } = said;
        let symbol = self.symbols.find(name.as_bytes());
        let before = symbol.and_then(|symbol| self.metadata.get(&symbol));
        if before.is_some_and(|before| before.kind == kind && before.help == help && before.unit == unit) {
            return Noted::Known;
        }
        let freed = before.map_or(0, |before| name.len() + before.help.len() + before.unit.len());
        let bytes = self.stats.metadata_bytes - freed as u64 + (name.len() + help.len() + unit.len()) as u64;
        let is_too_long = [name, help, unit].iter().any(|text| text.len() > TEXT_BYTES_MAX);
        let is_too_many = before.is_none() && self.metadata.len() >= METRICS_MAX;
        let has_room = symbol.is_some() || self.symbols.has_room(name.len());
        if is_too_long || is_too_many || !has_room || bytes > BYTES_MAX as u64 {
            return Noted::LeftOut;
        }
        let symbol = symbol.unwrap_or_else(|| self.symbols.intern(name.as_bytes()));
        self.metadata.insert(symbol, OwnedMetadata { kind, help: help.to_owned(), unit: unit.to_owned() });
        self.stats.metadata_bytes = bytes;
        Noted::New
    }
}

#[cfg(test)]
mod tests {
    use super::super::replay::Replay;
    use super::super::{MetricKind, Options, StartTimes};
    use super::*;
    use crate::wal::records;

    fn head() -> Head {
        let options = Options {
            block_range_ms: 7_200_000,
            out_of_order_window_ms: 0,
            out_of_order_cap_max: 32,
            exemplars_max: 0,
            start_times: StartTimes::Dropped,
        };
        Head::new(options, i64::MIN)
    }

    /// Sends that the help of the metric `name` is `help`.
    fn send(head: &mut Head, name: &str, help: &str, log: &mut Recorder) {
        let mut batch = WriteBatch::new();
        batch.push_family(name, Metadata { kind: MetricKind::Gauge, help, unit: "" });
        head.note_families(&batch, (1, log));
    }

    fn replay(log: &Recorder) -> Head {
        let mut replay = Replay::new(head());
        records(log.bytes(), 0).for_each(|record| replay.record(&record.unwrap()).unwrap());
        replay.finish()
    }

    fn all(head: &Head) -> Vec<(String, OwnedMetadata)> {
        let mut all: Vec<_> = head.metadata().map(|(name, said)| (name.to_owned(), said.clone())).collect();
        all.sort_by(|left, right| left.0.cmp(&right.0));
        all
    }

    /// 400 requests that said a mebibyte each were kept whole, whatever the limit of memory.
    #[test]
    fn what_is_said_of_metrics_takes_so_many_bytes_at_most_and_what_is_left_out_is_counted() {
        let (mut head, mut log) = (head(), Recorder::default());
        let help = "h".repeat(TEXT_BYTES_MAX);
        for number in 0..1200 {
            send(&mut head, &format!("m{number:04}"), &help, &mut log);
        }
        let kept = BYTES_MAX / (TEXT_BYTES_MAX + 5);
        let (stats, bytes) = (*head.stats(), kept * (TEXT_BYTES_MAX + 5));
        assert_eq!((head.metadata().count(), stats.metadata_left_out), (kept, 1200 - kept as u64));
        assert_eq!(stats.metadata_bytes, bytes as u64);
        assert!(head.heap_bytes() >= bytes, "{}", head.heap_bytes());
        // Shorter texts make room for others.
        send(&mut head, "m0000", "short", &mut log);
        send(&mut head, "m1199", &help, &mut log);
        assert_eq!((head.metadata().count(), head.stats().metadata_left_out), (kept + 1, 1200 - kept as u64));
        let replayed = replay(&log);
        assert!(all(&replayed) == all(&head));
        assert_eq!(replayed.stats().metadata_bytes, head.stats().metadata_bytes);
        assert_eq!(replayed.stats().metadata_left_out, 0, "what was replayed is not counted again");
    }

    #[test]
    fn a_text_that_is_too_long_is_left_out_and_what_was_said_before_stays() {
        let (mut head, mut log) = (head(), Recorder::default());
        let long = "h".repeat(TEXT_BYTES_MAX + 1);
        send(&mut head, "up", "is up", &mut log);
        send(&mut head, "up", &long, &mut log);
        send(&mut head, &long, "is long", &mut log);
        let said: Vec<_> = all(&head).into_iter().map(|(name, said)| (name, said.help)).collect();
        assert_eq!(said, [("up".to_owned(), "is up".to_owned())]);
        assert_eq!((head.stats().metadata_left_out, head.stats().metadata_bytes), (2, 7));
        assert_eq!(all(&replay(&log)), all(&head));
    }

    #[test]
    fn of_more_metrics_than_a_head_keeps_the_first_are_kept() {
        let (mut head, mut log) = (head(), Recorder::default());
        let mut batch = WriteBatch::new();
        for number in 0..METRICS_MAX + 3 {
            batch.push_family(&number.to_string(), Metadata { kind: MetricKind::Gauge, help: "", unit: "" });
        }
        head.note_families(&batch, (1, &mut log));
        assert_eq!((head.metadata().count(), head.stats().metadata_left_out), (METRICS_MAX, 3));
        send(&mut head, "0", "may change", &mut log);
        assert_eq!((all(&head)[0].1.help.as_str(), head.stats().metadata_left_out), ("may change", 3));
    }
}
