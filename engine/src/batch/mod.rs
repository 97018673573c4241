//! Columns of many series: as they were stored (ragged) and on the steps of a query (dense).

/// From stored samples to steps: lookback, staleness, offset and `@`.
pub mod align;
/// Validity bitmaps over the steps of a row.
pub mod bitmap;
/// Values of many rows, in pieces.
pub mod rows;
/// Many series, each with its own timestamps.
pub mod sample;
/// Many series on shared steps.
pub mod step;
/// Windows of a range selector as index ranges.
pub mod window;

pub use sample::{CountKind, HistogramPoints, SampleBatch, SeriesSamples};
pub use step::{Cell, StepBatch, StepGrid};
pub use window::Windows;
