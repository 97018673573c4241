//! What is said of metrics.

use super::super::append::METADATA_MAX;
use super::*;

#[test]
fn what_is_said_of_more_metrics_than_a_head_keeps_is_counted() {
    let mut head = Head::new(OPTIONS, i64::MIN);
    let said = |help: &str| OwnedMetadata { kind: MetricKind::Gauge, help: help.to_owned(), unit: String::new() };
    for at in 0..METADATA_MAX + 2 {
        assert_eq!(head.note_metadata(&format!("m{at}"), said("")), at < METADATA_MAX, "{at}");
    }
    assert_eq!((head.metadata().count(), head.stats().metadata_dropped), (METADATA_MAX, 2));
    // Of those that are known it may change.
    assert!(head.note_metadata("m0", said("new")));
    assert_eq!(head.stats().metadata_dropped, 2);
}
