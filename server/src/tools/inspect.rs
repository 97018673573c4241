//! `tools bucket inspect`: a table of blocks.

use engine::bucket::Meta;
use engine::model::Labels;

use super::go_text::{duration, grouped, time};
use super::table::Table;

/// The columns.
pub const COLUMNS: [&str; 13] = [
    "ULID",
    "FROM",
    "UNTIL",
    "RANGE",
    "UNTIL-DOWN",
    "#SERIES",
    "#SAMPLES",
    "#CHUNKS",
    "COMP-LEVEL",
    "COMP-FAILED",
    "LABELS",
    "RESOLUTION",
    "SOURCE",
];

/// Milliseconds that a raw block covers at least when it is downsampled.
const RANGE_TO_5M: i64 = 40 * 3_600_000;

/// Milliseconds that a block of 5 minutes covers at least when it is downsampled.
const RANGE_TO_1H: i64 = 10 * 24 * 3_600_000;

/// A row for each block that has all labels of `selector`.
pub fn table<'m>(metas: impl IntoIterator<Item = &'m Meta>, selector: &Labels) -> Table {
    let has = |meta: &Meta, name: &str, value: &str| {
        meta.thanos.as_ref().and_then(|thanos| thanos.labels.get(name)).is_some_and(|found| found == value)
    };
    let chosen = metas.into_iter().filter(|meta| selector.iter().all(|(name, value)| has(meta, name, value)));
    Table { header: COLUMNS.to_vec(), rows: chosen.map(row).collect() }
}

fn row(meta: &Meta) -> Vec<String> {
    let range = meta.max_time - meta.min_time;
    let resolution = meta.resolution().0;
    let until_downsampling = match resolution {
        0 => duration(RANGE_TO_5M - range),
        300_000 => duration(RANGE_TO_1H - range),
        _ => "-".into(),
    };
    let labels = meta.thanos.iter().flat_map(|thanos| &thanos.labels);
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
    vec![
        meta.ulid.to_string(),
        time(meta.min_time / 1000),
        time(meta.max_time / 1000),
        duration(range),
        until_downsampling,
        grouped(meta.stats.num_series),
        grouped(meta.stats.num_samples),
        grouped(meta.stats.num_chunks),
        grouped(u64::from(meta.compaction.level)),
        meta.compaction.failed.to_string(),
        labels.join(","),
        duration(resolution),
        meta.thanos.as_ref().map_or_else(String::new, |thanos| thanos.source.clone()),
    ]
}

/// The labels of flags such as `name="value"`, whose value is a Go string.
pub fn parse_labels(flag: &str, pairs: &[String]) -> Result<Labels, String> {
    let bad = |pair: &str| format!("--{flag}: {pair:?} is not a label such as name=\"value\"");
    let mut labels = Vec::new();
    for pair in pairs {
        let (name, value) = pair.split_once('=').ok_or_else(|| bad(pair))?;
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let is_name = name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
        let raw = value.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')).map(str::to_owned);
        let value = raw.or_else(|| serde_json::from_str::<String>(value).ok());
        match value.filter(|_| is_name) {
            Some(value) => labels.push((name.to_owned(), value)),
            None => return Err(bad(pair)),
        }
    }
    Ok(Labels::from_pairs(labels))
}

#[cfg(test)]
mod tests {
    use engine::bucket::meta::Thanos;

    use super::*;

    #[test]
    fn blocks_are_chosen_by_labels_and_described() {
        let id = "01M7YFZPB7TCST0ZACWKPZDYZM".parse().unwrap();
        let labels = [("a".to_owned(), "b".to_owned())].into();
        let thanos = Some(Thanos { labels, source: "sidecar".into(), ..Thanos::default() });
        let meta = Meta { thanos, ..Meta::new(id, 1_790_006_414_000, 1_790_013_590_123) };
        let selector = |pair: &str| parse_labels("selector", &[pair.to_owned()]).unwrap();
        assert!(table([&meta], &selector("a=\"c\"")).rows.is_empty());
        let rows = table([&meta], &selector("a=\"b\"")).rows;
        let expected = "01M7YFZPB7TCST0ZACWKPZDYZM 2026-09-21T16:00:14Z 2026-09-21T17:59:50Z 1h59m36.123s \
                        38h0m23.877s 0 0 0 1 false a=b 0s sidecar";
        assert_eq!(rows[0].join(" "), expected);
    }

    #[test]
    fn a_label_without_quotes_is_refused() {
        for bad in ["a=b", "a", "1=\"b\"", "=\"b\""] {
            assert!(parse_labels("label", &[bad.to_owned()]).unwrap_err().contains("--label"), "{bad}");
        }
    }
}
