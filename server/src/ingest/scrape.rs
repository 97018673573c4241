//! A small scraper: the process' own metrics in Prometheus' text format as a write request, so that a
//! process that ingests has something to show at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use engine::head::MetricKind;
use proto::thanos::{ActiveTarget, Label, TargetDiscovery, TargetHealth, ZLabelSet};
use proto::wire::put_varint;
use proto::write::{Sample, put_label, put_message, put_sample};

/// The target of a scraper and how its last scrape went, once there was one; clones share it.
#[derive(Clone, Debug, Default)]
pub struct OwnTarget(Arc<Mutex<Option<ActiveTarget>>>);

impl OwnTarget {
    /// `url` was scraped at `time` in `took`; its series have these labels.
    pub fn scraped(&self, (url, labels): (&str, &[(&str, &str)]), (time, took): (SystemTime, Duration)) {
        let label = |(name, value): &(&str, &str)| Label { name: (*name).into(), value: (*value).into() };
        let mut labels: Vec<Label> = labels.iter().map(label).collect();
        labels.sort_by(|left, right| left.name.cmp(&right.name));
        let target = ActiveTarget {
            labels: Some(ZLabelSet { labels }),
            scrape_pool: "uru".into(),
            scrape_url: url.into(),
            global_url: url.into(),
            health: TargetHealth::Up.into(),
            last_scrape: Some(time.into()),
            last_scrape_duration: took.as_secs_f64(),
            ..ActiveTarget::default()
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(target);
    }

    /// It among targets.
    pub fn discovery(&self) -> TargetDiscovery {
        let target = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        TargetDiscovery { active_targets: target.into_iter().collect(), ..TargetDiscovery::default() }
    }
}

/// Time between two scrapes.
pub const INTERVAL: Duration = Duration::from_secs(15);

/// The samples of `text` at `time` as a remote write request of version 1, each with the labels of
/// `target`; and `up`. Lines that are no samples are left out.
pub fn to_request(text: &str, target: &[(&str, &str)], time: i64) -> Vec<u8> {
    let mut request = Vec::new();
    let mut push = |name: &str, labels: Vec<(String, String)>, value: f64| {
        let mut labels = labels;
        labels.retain(|(name, value)| !value.is_empty() && !target.iter().any(|(known, _)| known == name));
        labels.push(("__name__".into(), name.to_owned()));
        labels.extend(target.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        labels.sort_unstable();
        labels.dedup_by(|left, right| left.0 == right.0);
        let mut message = Vec::new();
        labels.iter().for_each(|(name, value)| put_label(&mut message, name.as_bytes(), value.as_bytes()));
        put_sample(&mut message, Sample { time, value, start: 0 });
        put_message(&mut request, 1, &message);
    };
    let mut families: BTreeMap<&str, (u64, String)> = BTreeMap::new();
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# ") {
            note(said, &mut families);
        } else if let Some((name, labels, value)) = parse(line) {
            push(name, labels, value);
        }
    }
    push("up", Vec::new(), 1.0);
    for (name, (kind, help)) in families {
        let mut message = Vec::new();
        put_message(&mut message, 2, name.as_bytes());
        put_message(&mut message, 4, help.as_bytes());
        message.push(1 << 3);
        put_varint(&mut message, kind);
        put_message(&mut request, 3, &message);
    }
    request
}

/// Notes what a comment says of a metric: `HELP name text` or `TYPE name type`.
fn note<'t>(said: &'t str, families: &mut BTreeMap<&'t str, (u64, String)>) {
    let mut words = said.splitn(3, ' ');
    let (Some(word), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else { return };
    match word {
        "HELP" => families.entry(name).or_default().1 = rest.replace("\\n", "\n").replace("\\\\", "\\"),
        "TYPE" => {
            let kind = (0..8).find(|number| MetricKind::from_number(*number).name() == rest);
            families.entry(name).or_default().0 = kind.unwrap_or_default();
        }
        _ => {}
    }
}

/// Names and values of labels.
type Pairs = Vec<(String, String)>;

/// The name, labels and value of one line.
fn parse(line: &str) -> Option<(&str, Pairs, f64)> {
    let name_len = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_len);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = unquote(after)?;
            labels.push((label.trim_start_matches(',').to_owned(), value));
            rest = after;
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.trim().split(' ').next()?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        value => value.parse().ok()?,
    };
    (!name.is_empty()).then_some((name, labels, value))
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use engine::head::Metadata;

    use super::*;
    use crate::ingest::intake::{Protocol, take_whole};

    #[test]
    fn lines_are_samples_with_the_labels_of_their_target() {
        let text = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"x \\\"y\\\"\\n\",job=\"other\"} 3\nc 1.5e3\nbroken{\nbucket{le=\"+Inf\"} +Inf\n";
        let request = to_request(text, &[("job", "uru"), ("instance", "here")], 9);
        let taken = take_whole(Protocol::V1, request);
        let labels = |series| -> Vec<(String, String)> {
            taken.batch.labels(series).pairs().map(|(name, value)| (name.into(), value.into())).collect()
        };
        assert_eq!(taken.batch.series_len(), 4);
        let said = Metadata { kind: MetricKind::Counter, help: "x", unit: "" };
        assert_eq!(taken.batch.families().collect::<Vec<_>>(), [("a_total", said)]);
        let expected = [("__name__", "a_total"), ("b", "x \"y\"\n"), ("instance", "here"), ("job", "uru")];
        assert_eq!(labels(0), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(taken.batch.samples(1).values, [1500.0]);
        assert_eq!(taken.batch.samples(2).values, [f64::INFINITY]);
        assert_eq!(labels(3)[0].1, "up");
    }
}
