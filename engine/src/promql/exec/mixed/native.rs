//! Sums and means of the histograms of a window.

use std::sync::Arc;

use crate::batch::Cell;
use crate::model::histogram::{Combined, KahanMean, KahanSum, MixedSchemas};
use crate::model::{CounterReset, FloatHistogram};

use super::super::super::annotations::{Annotation, HistogramOperation};
use super::Function;

/// The sum of `histograms`, of which there is at least one.
pub fn sum(function: &Function<'_>, histograms: &[Arc<FloatHistogram>]) -> Cell {
    let mut sum = KahanSum::new((*histograms[0]).clone());
    let added = add_all(function, histograms, |histogram| sum.add(histogram));
    finish(function, added, sum.finish())
}

/// The mean of `histograms`, of which there is at least one.
pub fn mean(function: &Function<'_>, histograms: &[Arc<FloatHistogram>]) -> Cell {
    let mut mean = KahanMean::new((*histograms[0]).clone());
    let added = add_all(function, histograms, |histogram| mean.add(histogram));
    finish(function, added, mean.finish())
}

fn add_all(
    function: &Function<'_>,
    histograms: &[Arc<FloatHistogram>],
    mut add: impl FnMut(&FloatHistogram) -> Result<Combined, MixedSchemas>,
) -> Result<(), MixedSchemas> {
    let mut reconciled = false;
    for histogram in &histograms[1..] {
        reconciled |= add(histogram)?.bounds_reconciled;
    }
    let seen = |hint| histograms.iter().any(|histogram| histogram.counter_reset == hint);
    let operation = HistogramOperation::Aggregation;
    if seen(CounterReset::Yes) && seen(CounterReset::No) {
        function.note(Annotation::counter_reset_collision(operation, function.first_position));
    }
    if reconciled {
        function.note(Annotation::mismatched_custom_buckets(operation, function.first_position));
    }
    Ok(())
}

fn finish(function: &Function<'_>, added: Result<(), MixedSchemas>, result: FloatHistogram) -> Cell {
    match added {
        Ok(()) => Cell::Histogram(Arc::new(result)),
        Err(MixedSchemas) => {
            function.note(Annotation::mixed_exponential_custom(function.metric, function.first_position));
            Cell::Empty
        }
    }
}
