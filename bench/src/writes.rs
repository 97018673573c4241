//! Write requests of a fleet: batches of 2,000 series with one sample each, again and again.

use engine::head::{AppendLimits, Head, OUT_OF_ORDER_CAP_MAX, Options, StartTimes, WriteBatch};
use engine::model::Labels;
use engine::wal::Recorder;

/// Series of a batch.
pub const BATCH_SERIES: usize = 2_000;

/// Milliseconds between the samples of a series.
pub const INTERVAL: i64 = 15_000;

/// What heads of the benches are made with.
pub const OPTIONS: Options = Options {
    block_range_ms: 7_200_000,
    out_of_order_window_ms: 0,
    out_of_order_cap_max: OUT_OF_ORDER_CAP_MAX,
    exemplars_max: 0,
    start_times: StartTimes::Dropped,
};

/// No sample is refused.
pub const LIMITS: AppendLimits =
    AppendLimits { time_max: i64::MAX, series_left: None, latest_time: i64::MIN, memory: None };

/// The batches of scrape number `scrape` of `series`: counters that rise by different steps.
pub fn batches(series: &[Labels], scrape: usize) -> Vec<WriteBatch> {
    let batch = |(part, series): (usize, &[Labels])| {
        let mut batch = WriteBatch::new();
        for (at, labels) in series.iter().enumerate() {
            batch.push_series(labels.iter());
            let (time, number) = (scrape as i64 * INTERVAL, part * BATCH_SERIES + at);
            batch.push_sample(time, (scrape * (1 + number % 50) + number) as f64);
        }
        batch
    };
    series.chunks(BATCH_SERIES).enumerate().map(batch).collect()
}

/// Appends all of `batches` to `head`, recorded in `log`.
///
/// # Panics
/// When a sample is refused.
pub fn append(head: &mut Head, batches: &[WriteBatch], log: &mut Recorder) {
    for batch in batches {
        let rows: Vec<u32> = (0..batch.series_len() as u32).collect();
        let report = head.append((batch, &rows), LIMITS, (0, log));
        assert!(report.rejected.is_empty(), "samples of a fleet are in order");
    }
}
