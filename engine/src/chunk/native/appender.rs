//! A chunk of native histograms that grows sample by sample, readable after each.

use crate::codec::Corrupt;
use crate::codec::bits::{BitEnd, BitWriter};
use crate::model::value::is_stale_nan;
use crate::model::{CounterReset, Span};

use super::inserts::{self, Inserts, Side};
use super::layout::Layout;
use super::{Cause, HEADER_LEN, Native, SAMPLES_MAX, decode, header, reset_byte, reset_of};

/// A chunk that grows histogram by histogram; its data is whole after each.
#[derive(Clone, Debug)]
pub struct Appender<N: Native> {
    data: Vec<u8>,
    end: BitEnd,
    count: u16,
    layout: Layout,
    state: N::State,
}

/// What makes the chunk and a new histogram alike.
#[derive(Default)]
struct Fit {
    positive: Inserts,
    negative: Inserts,
    /// Spans of both, where that is not for the caller to find out.
    merged: Option<(Vec<Span>, Vec<Span>)>,
}

impl<N: Native> Default for Appender<N> {
    fn default() -> Self {
        Self::with_reset(CounterReset::Unknown)
    }
}

impl<N: Native> Appender<N> {
    /// An empty chunk before which `counter_reset` is known.
    pub fn with_reset(counter_reset: CounterReset) -> Self {
        Self {
            data: vec![0, 0, reset_byte(counter_reset)],
            end: BitEnd::default(),
            count: 0,
            layout: Layout::default(),
            state: N::State::default(),
        }
    }

    /// A chunk that begins with `histogram` after the chunk `previous` was ended for a reason of its
    /// own; what is known of a reset comes from comparing the two.
    pub fn after(previous: &Self, time: i64, histogram: &N) -> Self {
        let known = match histogram.fields().counter_reset {
            CounterReset::Gauge => CounterReset::Gauge,
            CounterReset::Yes => CounterReset::Yes,
            _ => N::reset_after(previous.fit_counter(histogram).err()),
        };
        let mut next = Self::with_reset(known);
        next.push(time, histogram);
        next
    }

    /// An appender that goes on where the chunk `data` ends.
    pub fn resume(data: &[u8]) -> Result<Self, Corrupt> {
        let mut appender = Self::with_reset(header::<N>(data)?.1);
        decode(data, |time, histogram| appender.push(time, &histogram))?;
        Ok(appender)
    }

    /// Appends a histogram at `time` (Unix milliseconds). When the chunk cannot hold it, the chunk
    /// is replaced by a new one that begins with it, and the data of the finished one is given back.
    ///
    /// # Panics
    /// When the chunk already holds [`SAMPLES_MAX`] histograms.
    pub fn append(&mut self, time: i64, histogram: &N) -> Option<Vec<u8>> {
        let gauge = histogram.fields().counter_reset == CounterReset::Gauge;
        if self.count == 0 {
            if let known @ (CounterReset::Gauge | CounterReset::Yes) = histogram.fields().counter_reset {
                self.set_reset(known);
            }
            self.push(time, histogram);
            return None;
        }
        let fit = if gauge { self.fit_gauge(histogram) } else { self.fit_counter(histogram) };
        match fit {
            Ok(fit) => {
                self.append_fitting(time, histogram, fit);
                None
            }
            Err(cause) => {
                let known = if gauge { CounterReset::Gauge } else { N::reset_when_cut(cause) };
                let finished = std::mem::replace(self, Self::with_reset(known));
                self.push(time, histogram);
                Some(finished.data)
            }
        }
    }

    /// The chunk's data.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The chunk's data, with the appender given up.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// Number of histograms.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is no histogram.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Timestamp of the last histogram, in Unix milliseconds; 0 without one.
    pub fn last_time(&self) -> i64 {
        N::last_time(&self.state)
    }

    /// What is known of a reset before the chunk.
    pub fn counter_reset(&self) -> CounterReset {
        reset_of(self.data.get(HEADER_LEN - 1).copied().unwrap_or(0))
    }

    fn set_reset(&mut self, counter_reset: CounterReset) {
        if let Some(flags) = self.data.get_mut(HEADER_LEN - 1) {
            *flags = reset_byte(counter_reset);
        }
    }

    /// Appends a histogram of the chunk's layout; the first one sets that.
    pub(super) fn push(&mut self, time: i64, histogram: &N) {
        assert!(self.len() < SAMPLES_MAX, "a chunk holds at most {SAMPLES_MAX} histograms");
        let fields = histogram.fields();
        let mut writer = BitWriter::resume(&mut self.data, self.end);
        if self.count == 0 {
            self.layout = if is_stale_nan(fields.sum) {
                Layout::default()
            } else {
                Layout {
                    schema: fields.schema,
                    zero_threshold: fields.zero_threshold,
                    positive_spans: fields.positive.0.to_vec(),
                    negative_spans: fields.negative.0.to_vec(),
                    custom_values: fields.custom_values.clone(),
                }
            };
            self.layout.put(&mut writer);
            histogram.put_first(time, &mut self.state, &mut writer);
        } else {
            histogram.put_next(time, &mut self.state, &mut writer);
        }
        self.end = writer.finish();
        self.count += 1;
        let count = self.count.to_be_bytes();
        self.data.iter_mut().zip(count).for_each(|(byte, count)| *byte = count);
    }

    /// What a counter histogram and the chunk lack of each other, or why they do not go together.
    fn fit_counter(&self, histogram: &N) -> Result<Fit, Cause> {
        let fields = histogram.fields();
        if self.count > 0 && self.counter_reset() == CounterReset::Gauge {
            return Err(Cause::GaugeBefore);
        }
        if fields.counter_reset == CounterReset::Yes {
            return Err(Cause::SaidReset);
        }
        if is_stale_nan(fields.sum) {
            return Ok(Fit::default());
        }
        if is_stale_nan(N::last_sum(&self.state)) {
            return Err(Cause::StaleBefore);
        }
        if histogram.count_fell(&self.state) {
            return Err(Cause::Reset);
        }
        if fields.schema != self.layout.schema || fields.zero_threshold != self.layout.zero_threshold {
            return Err(Cause::LayoutChange);
        }
        if !self.same_bounds(&fields.custom_values[..]) || histogram.zero_count_fell(&self.state) {
            return Err(Cause::Reset);
        }
        let (positive, negative) = N::last_counts(&self.state);
        let expand = |spans: &[Span], counts: &[N::Count], new: (&[Span], &[N::Bucket])| {
            let new_counts = N::absolute(new.1);
            inserts::expand(Side { spans, counts }, Side { spans: new.0, counts: &new_counts }).ok_or(Cause::Reset)
        };
        Ok(Fit {
            positive: expand(&self.layout.positive_spans, &positive, fields.positive)?,
            negative: expand(&self.layout.negative_spans, &negative, fields.negative)?,
            merged: None,
        })
    }

    /// What a gauge histogram and the chunk lack of each other, or why they do not go together.
    fn fit_gauge(&self, histogram: &N) -> Result<Fit, Cause> {
        let fields = histogram.fields();
        if self.counter_reset() != CounterReset::Gauge {
            return Err(Cause::GaugeBefore);
        }
        if is_stale_nan(fields.sum) {
            return Ok(Fit::default());
        }
        if is_stale_nan(N::last_sum(&self.state)) {
            return Err(Cause::StaleBefore);
        }
        if fields.schema != self.layout.schema
            || fields.zero_threshold != self.layout.zero_threshold
            || !self.same_bounds(&fields.custom_values[..])
        {
            return Err(Cause::LayoutChange);
        }
        let (positive, positive_spans) = inserts::merge(&self.layout.positive_spans, fields.positive.0);
        let (negative, negative_spans) = inserts::merge(&self.layout.negative_spans, fields.negative.0);
        Ok(Fit { positive, negative, merged: Some((positive_spans, negative_spans)) })
    }

    fn same_bounds(&self, bounds: &[f64]) -> bool {
        let same = |(left, right): (&f64, &f64)| left.to_bits() == right.to_bits();
        let own = &self.layout.custom_values;
        self.layout.schema != crate::model::histogram::CUSTOM_BUCKETS_SCHEMA
            || own.len() == bounds.len() && own.iter().zip(bounds).all(same)
    }

    /// Appends a histogram after the chunk or the histogram got the buckets that it lacks.
    fn append_fitting(&mut self, time: i64, histogram: &N, fit: Fit) {
        let forward = !fit.positive.forward.is_empty() || !fit.negative.forward.is_empty();
        let backward = !fit.positive.backward.is_empty() || !fit.negative.backward.is_empty();
        let widened = backward.then(|| self.widen(histogram, &fit, forward));
        let histogram = widened.as_ref().unwrap_or(histogram);
        if forward {
            self.recode(histogram, &fit);
        }
        self.push(time, histogram);
    }

    /// `histogram` with the empty buckets that only the chunk has.
    fn widen(&self, histogram: &N, fit: &Fit, forward: bool) -> N {
        let fields = histogram.fields();
        let (positive_spans, negative_spans) = match &fit.merged {
            Some(merged) => merged.clone(),
            None if forward => (
                inserts::widen(fields.positive.0, &fit.positive.backward),
                inserts::widen(fields.negative.0, &fit.negative.backward),
            ),
            None => (self.layout.positive_spans.clone(), self.layout.negative_spans.clone()),
        };
        histogram.with_sides(
            (positive_spans, inserts::insert(&N::absolute(fields.positive.1), &fit.positive.backward)),
            (negative_spans, inserts::insert(&N::absolute(fields.negative.1), &fit.negative.backward)),
        )
    }

    /// Encodes the chunk again with the spans of `like`.
    fn recode(&mut self, like: &N, fit: &Fit) {
        let spans = like.fields();
        let (positive_spans, negative_spans) = (spans.positive.0.to_vec(), spans.negative.0.to_vec());
        let mut wide = Self::with_reset(self.counter_reset());
        let decoded = decode::<N>(&self.data, |time, histogram| {
            let fields = histogram.fields();
            let positive = inserts::insert(&N::absolute(fields.positive.1), &fit.positive.forward);
            let negative = inserts::insert(&N::absolute(fields.negative.1), &fit.negative.forward);
            let sides = ((positive_spans.clone(), positive), (negative_spans.clone(), negative));
            wide.push(time, &histogram.with_sides(sides.0, sides.1));
        });
        assert!(decoded.is_ok(), "an appender's own chunk can be decoded");
        *self = wide;
    }
}
