//! Zeros where counters began: a sample of zero at the start timestamp that a sample is sent with.
//!
//! ```text
//! sent      start 5 ─────── sample 20 of 7     start 5 ── sample 35 of 9     start 40 ── sample 50 of 2
//! stored    5: 0            20: 7              35: 9                         40: 0       50: 2
//! ```
//!
//! A start timestamp that is not behind all that the series has says nothing new: that of a long-lived counter
//! comes with each of its samples. So does one that is too old to be taken in order.

use super::Head;
use super::append::{Pass, Place};
use super::batch::HistogramRow;
use crate::model::{CounterReset, FloatHistogram, Histogram, HistogramValue};
use crate::wal::record::Order;

impl Head {
    /// Appends a zero at `start` to series `id`, whose next sample is at `time`.
    pub(super) fn append_zero(&mut self, id: u32, number: u32, times: (i64, i64), pass: &mut Pass<'_>) {
        if self.takes_zero(id, times, pass) {
            self.push_float(id, times.0, 0.0);
            self.stats.samples.floats += 1;
            self.note_time(times.0);
            pass.keep_float(number, times.0, 0.0);
        }
    }

    /// Appends an empty histogram where `next`, the next of series `id`, began to count.
    pub(super) fn append_zero_native(&mut self, id: u32, number: u32, next: &HistogramRow, pass: &mut Pass<'_>) {
        if next.value.validate().is_err() || !self.takes_zero(id, (next.start, next.time), pass) {
            return;
        }
        let zero = empty(&next.value);
        self.push_native(id, next.start, &zero);
        self.stats.samples.histograms += 1;
        self.note_time(next.start);
        pass.record();
        pass.recorder.histograms(pass.tenant, Order::Kept, std::iter::once((number, next.start, &zero)));
    }

    fn takes_zero(&self, id: u32, (start, time): (i64, i64), pass: &Pass<'_>) -> bool {
        start != 0 && start < time && self.place(id, start, pass, |_, _| true) == Place::InOrder
    }
}

/// A histogram without observations with the buckets of `value`; a reset, for it is a beginning.
fn empty(value: &HistogramValue) -> HistogramValue {
    let counter_reset = CounterReset::Yes;
    match value {
        HistogramValue::Integer(value) => {
            let (schema, zero_threshold) = (value.schema, value.zero_threshold);
            let custom_values = value.custom_values.clone();
            let empty = Histogram { counter_reset, schema, zero_threshold, custom_values, ..Histogram::default() };
            HistogramValue::Integer(Box::new(empty))
        }
        HistogramValue::Float(value) => {
            let (schema, zero_threshold) = (value.schema, value.zero_threshold);
            let custom_values = value.custom_values.clone();
            let empty =
                FloatHistogram { counter_reset, schema, zero_threshold, custom_values, ..FloatHistogram::default() };
            HistogramValue::Float(Box::new(empty))
        }
    }
}
