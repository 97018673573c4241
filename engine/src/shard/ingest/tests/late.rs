//! Samples that come late: blocks of their own, and answers in which nothing overlaps.

use super::*;

#[test]
fn late_samples_go_into_blocks_of_their_own() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    let times: Vec<i64> = (1..100).map(|at| at * STEP).collect();
    for time in &times {
        append(&ingest, 10, *time).unwrap();
    }
    let late: Vec<i64> = (70..90).map(|at| at * STEP + 1).collect();
    for time in late.iter().rev() {
        assert_eq!(append(&ingest, 10, *time).unwrap().samples, 10);
    }
    let before = read(&ingest);
    assert_eq!(before["000"].len(), times.len() + late.len());
    let blocks = block_on(ingest.flush(None, Flush::All)).unwrap();
    let hints: Vec<usize> = blocks.iter().map(|block| block.meta.compaction.hints.len()).collect();
    assert_eq!(hints, [0, 1]);
    assert_eq!(blocks[1].meta.stats.num_samples, 10 * late.len() as u64);
    assert_eq!(read(&ingest), before);
    drop(ingest);
    assert_eq!(read(&Ingest::open(&pool(1), folder.options()).unwrap()), before);
}

#[test]
fn late_samples_are_cut_where_nothing_in_order_is() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), folder.options()).unwrap();
    for at in (60..=100).rev() {
        assert_eq!(append(&ingest, 10, at * STEP).unwrap().samples, 10);
    }
    assert!(block_on(ingest.flush(None, Flush::Due)).unwrap().is_empty());
    let tenant = ingest.known(&tenant()).unwrap();
    *tenant.late_cuts.0.lock().unwrap() -= Duration::from_millis(RANGE as u64 / 2 * 3);
    let before = read(&ingest);
    let blocks = block_on(ingest.flush(None, Flush::Due)).unwrap();
    assert_eq!(blocks.iter().map(|block| block.meta.stats.num_samples).collect::<Vec<_>>(), [10 * 40]);
    assert_eq!(blocks[0].meta.compaction.hints.len(), 1);
    assert_eq!(read(&ingest), before);
    assert!(block_on(ingest.flush(None, Flush::Due)).unwrap().is_empty(), "and only then");
}

/// The samples of all series in an answer of the StoreAPI, by metric name: floats and the counts of histograms; none of its chunks begins before the one before it has ended, or has more than 120 samples.
fn answered(ingest: &Ingest) -> Vec<(String, Vec<(i64, u64)>)> {
    let matchers = vec![Matcher::new(MatchKind::NotEq, "__name__", "").unwrap()];
    let range = TimeRange::new(0, i64::MAX);
    let blocks = block_on(ingest.view(&view_of(&matchers))).unwrap();
    let request = crate::select::Request::new(range, matchers);
    let answer = shard_tests::run(&shard_tests::selector(2, io::Mode::Pread), &blocks, request).unwrap();
    let samples = |sets: Vec<shard_tests::Set>| {
        let mut all: Vec<(i64, u64)> = Vec::new();
        for (min_time, max_time, parts) in sets {
            assert!(all.last().is_none_or(|last| last.0 < min_time), "a chunk begins in the one before it");
            let mut samples = Samples::default();
            samples.decode(Encoding::parse(parts[0].1, 0).unwrap(), &parts[0].2).unwrap();
            assert!((1..=120).contains(&samples.times.len()), "{} samples", samples.times.len());
            assert_eq!((samples.times[0], *samples.times.last().unwrap()), (min_time, max_time));
            all.extend(samples.times.iter().zip(&samples.values).map(|(time, value)| match value {
                Value::Float(value) => (*time, *value as u64),
                Value::Histogram(value) => (*time, value.count),
                Value::FloatHistogram(value) => (*time, value.count as u64),
            }));
        }
        all
    };
    answer.into_iter().map(|(labels, sets)| (labels.metric_name().to_owned(), samples(sets))).collect()
}

/// One sample at `time` of a series of each kind; the value tells the sample's time.
fn of_all_kinds(time: i64) -> WriteBatch {
    let count = time as u64 / 1_000;
    let histogram = Histogram {
        count,
        sum: count as f64,
        positive_spans: vec![Span { offset: (count % 3) as i32, length: 1 }],
        positive_buckets: vec![count as i64],
        ..Histogram::default()
    };
    let mut batch = WriteBatch::new();
    batch.push_series([("__name__", "floats")]);
    batch.push_sample(time, count as f64);
    batch.push_series([("__name__", "histograms")]);
    batch.push_histogram(time, 0, HistogramValue::Integer(Box::new(histogram.clone())));
    batch.push_series([("__name__", "float_histograms")]);
    batch.push_histogram(time, 0, HistogramValue::Float(Box::new(histogram.to_float())));
    batch
}

/// Queriers skip what a chunk has in common with the one before it: a block of late samples sent as it was beside
/// that of the others lost them two samples of five.
#[test]
fn late_samples_are_in_the_chunks_of_the_store_api_once_wherever_they_are() {
    let folder = Folder::new();
    let options = IngestOptions { out_of_order_window_ms: 6 * RANGE, ..folder.options() };
    let ingest = Ingest::open(&pool(2), options.clone()).unwrap();
    let mut times: Vec<i64> = (1..840).map(|at| at * 30_000).collect();
    times.extend((1..600).map(|at| at * 30_000 + 15_000));
    for time in &times {
        let report = block_on(ingest.append(&tenant(), of_all_kinds(*time), WriteLimits::default())).unwrap();
        assert_eq!(report.rejected, []);
    }
    times.sort_unstable();
    let samples: Vec<(i64, u64)> = times.iter().map(|time| (*time, *time as u64 / 1_000)).collect();
    let expected = ["float_histograms", "floats", "histograms"].map(|name| (name.to_owned(), samples.clone()));
    assert_eq!(answered(&ingest), expected);
    // Late samples are in blocks and partly in the head, then more come, and all are in blocks at last.
    block_on(ingest.flush(None, Flush::Due)).unwrap();
    assert!(!ingest.local_blocks("team-a").is_empty());
    assert_eq!(answered(&ingest), expected);
    let later: Vec<i64> = (500..650).map(|at| at * 30_000 + 7_000).collect();
    for time in &later {
        block_on(ingest.append(&tenant(), of_all_kinds(*time), WriteLimits::default())).unwrap();
    }
    let mut samples = samples;
    samples.extend(later.iter().map(|time| (*time, *time as u64 / 1_000)));
    samples.sort_unstable();
    let expected = expected.map(|(name, _)| (name, samples.clone()));
    assert_eq!(answered(&ingest), expected);
    block_on(ingest.flush(None, Flush::All)).unwrap();
    assert_eq!(ingest.stats("team-a").unwrap().series, 0);
    assert_eq!(answered(&ingest), expected);
    drop(ingest);
    assert_eq!(answered(&Ingest::open(&pool(2), options).unwrap()), expected);
}

#[test]
fn series_that_a_dropped_label_told_apart_are_not_made_one() {
    let folder = Folder::new();
    let options = IngestOptions { out_of_order_window_ms: 6 * RANGE, ..folder.options() };
    let ingest = Ingest::open(&pool(2), options).unwrap();
    let write = |time: i64, replicas: &[&str]| {
        let mut batch = WriteBatch::new();
        for replica in replicas {
            batch.push_series([("__name__", "metric"), ("replica", replica)]);
            batch.push_sample(time, 1.0);
        }
        assert_eq!(block_on(ingest.append(&tenant(), batch, WriteLimits::default())).unwrap().rejected, []);
    };
    (1..480).for_each(|at| write(at * STEP, &["a"]));
    (1..480).for_each(|at| write(at * STEP + 1, &["b"]));
    (1..480).for_each(|at| write(at * STEP + 2, &["a"]));
    block_on(ingest.flush(None, Flush::All)).unwrap();
    let matchers = vec![Matcher::equal("__name__", "metric")];
    let blocks = block_on(ingest.view(&view_of(&matchers))).unwrap();
    let request = crate::select::Request {
        without_labels: vec!["replica".to_owned()],
        ..crate::select::Request::new(TimeRange::ALL, matchers)
    };
    let answer = shard_tests::run(&shard_tests::selector(1, io::Mode::Pread), &blocks, request).unwrap();
    let [(_, sets)] = &answer[..] else { panic!("{} series", answer.len()) };
    let (mut of_a, mut of_b) = (0, 0);
    for (.., parts) in sets {
        let mut samples = Samples::default();
        samples.decode(Encoding::Xor, &parts[0].2).unwrap();
        let b = samples.times.iter().filter(|time| *time % STEP == 1).count();
        assert!(b == 0 || b == samples.times.len(), "a chunk has samples of both");
        of_b += b;
        of_a += samples.times.len() - b;
    }
    assert_eq!((of_a, of_b), (2 * 479, 479));
}

#[test]
fn late_samples_are_found_in_whichever_head_they_are_alone() {
    let folder = Folder::new();
    let ingest = Ingest::open(&pool(2), hours_late(&folder)).unwrap();
    // One head has the latest sample, and the other is far behind or empty.
    append(&ingest, 1, 1000 * STEP).unwrap();
    assert_eq!(append(&ingest, 10, 600 * STEP).unwrap().samples, 10);
    let found = read(&ingest);
    assert_eq!((found.len(), found["000"].len()), (10, 2));
    drop(ingest);
    assert_eq!(read(&Ingest::open(&pool(2), hours_late(&folder)).unwrap()), found, "replayed");
}

#[test]
fn what_comes_late_while_blocks_are_about_to_be_intended_is_not_taken_for_theirs() {
    let (folder, early) = (Folder::new(), Folder::new());
    let late = cut_late(&folder, &early, &[1000, 600]);
    assert_eq!(late.len(), 1);
    intend(&early, &late_intent(&[]));
    let ingest = Ingest::open(&pool(2), hours_late(&early)).unwrap();
    append(&ingest, 10, 500 * STEP).unwrap();
    drop(ingest);
    intend(&early, &late_intent(&late));
    copy_tree(&late[0].path, &early.0.join("team-a").join(late[0].meta.ulid.to_string()));
    let ingest = Ingest::open(&pool(2), hours_late(&early)).unwrap();
    expect(&read(&ingest), 10, &[500 * STEP, 600 * STEP, 1000 * STEP]);
    assert_eq!(ingest.stats("team-a").unwrap().chunks, 10, "those of the block have left the heads");
}

/// They once stayed, and their samples were cut and shipped again by every start that ended so.
#[test]
fn the_first_blocks_of_a_cut_that_a_crash_has_ended_are_cut_anew() {
    let (folder, early) = (Folder::new(), Folder::new());
    let late = cut_late(&folder, &early, &[1000, 100, 600]);
    intend(&early, &late_intent(&[]));
    intend(&early, &late_intent(&late));
    let first = early.0.join("team-a").join(late[0].meta.ulid.to_string());
    copy_tree(&late[0].path, &first);
    let ingest = Ingest::open(&pool(2), hours_late(&early)).unwrap();
    assert!(!first.exists());
    expect(&read(&ingest), 10, &[100 * STEP, 600 * STEP, 1000 * STEP]);
    block_on(ingest.flush(None, Flush::All)).unwrap();
    let samples = ingest.local_blocks("team-a").iter().map(|block| block.meta.stats.num_samples).sum::<u64>();
    assert_eq!(samples, 30);
}
