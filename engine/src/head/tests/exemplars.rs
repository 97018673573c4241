//! What is said of exemplars.

use super::*;

#[test]
fn exemplars_count_as_taken_where_none_are_kept() {
    let mut head = Head::new(Options { exemplars_max: 0, ..OPTIONS }, i64::MIN);
    let mut batch = WriteBatch::new();
    push(&mut batch, &Step { series: 0, time: 5, value: Twin::Float(0) });
    batch.push_exemplar(5, 1.0, [("trace_id", "a")]);
    for duplicates in [0, 1] {
        let report = append(&mut head, &batch, &mut Recorder::default());
        assert_eq!((report.samples, report.exemplars, report.duplicates), (1, 1, duplicates));
        assert!(report.rejected_exemplars.is_empty(), "{report:?}");
    }
    assert_eq!((head.stats().exemplars, head.exemplars_kept().0), (0, 0));
}
