//! When chunks end: after about 120 samples, so that the chunks of a block's time are equally full;
//! at the end of a block's time; when they are too long.

use super::Head;
use super::native::OpenNative;
use super::series::{FLOAT, NATIVE};
use crate::chunk::xor::{HEADER_LEN, Tail};
use crate::model::HistogramValue;

/// Samples that a chunk is made to have.
const SAMPLES: u16 = 120;
/// Bytes of a chunk of floats before which it is not yet too long: a sample more stays within 1024.
const FLOAT_BYTES_MAX: usize = 1024 - 19;
/// Bytes that a chunk of histograms is made to have.
const NATIVE_BYTES: usize = 1024;
/// Histograms that a chunk has at least, however long it gets.
const NATIVE_SAMPLES_MIN: usize = 10;
/// Bytes that an open chunk starts with: a few samples.
const OPEN_BYTES: usize = 48;

/// The end of the range of `range_ms` that `time` lies in.
pub(super) fn range_end(time: i64, range_ms: i64) -> i64 {
    (time / range_ms).saturating_mul(range_ms).saturating_add(range_ms)
}

/// When a chunk from `start` on, now at `now` and `1/ratio` full, should end, so that the chunks up to
/// `max` are equally full.
fn chunk_end(start: i64, now: i64, max: i64, ratio: f64) -> i64 {
    let left = max.wrapping_sub(start) as f64;
    let chunks = left / (now.wrapping_sub(start).wrapping_add(1) as f64 * ratio);
    if chunks <= 1.0 {
        return max;
    }
    (start as f64 + left / chunks.floor()) as i64
}

impl Head {
    /// Appends a float that comes after all samples of series `id`.
    #[inline]
    pub(super) fn push_float(&mut self, id: u32, time: i64, value: f64) {
        let line = &mut self.lines[id as usize];
        let count = line.tail.count();
        if count > 0 {
            if count == SAMPLES / 4 {
                line.next_at = chunk_end(Tail::first_time(&line.data), line.tail.last_time(), line.next_at, 4.0);
            }
            if time < line.next_at && count < SAMPLES * 2 && line.data.len() <= FLOAT_BYTES_MAX {
                line.tail.append(time, value, &mut line.data);
                return;
            }
            self.close_float(id);
        } else if line.tail.mark == NATIVE {
            self.close_native(id);
        }
        self.open_float(id, time, value);
    }

    /// Starts a chunk of floats of series `id`, which has no open one.
    fn open_float(&mut self, id: u32, time: i64, value: f64) {
        let range_ms = self.options.block_range_ms;
        let line = &mut self.lines[id as usize];
        line.next_at = range_end(time, range_ms);
        if line.data.capacity() == 0 {
            line.data.reserve_exact(OPEN_BYTES);
        }
        self.stats.chunks += 1;
        line.tail.mark = FLOAT;
        line.tail.append(time, value, &mut line.data);
    }

    /// Appends a histogram that comes after all samples of series `id`.
    pub(super) fn push_native(&mut self, id: u32, time: i64, value: &HistogramValue) {
        self.close_float(id);
        let range_ms = self.options.block_range_ms;
        let line = &mut self.lines[id as usize];
        let meta = &mut self.metas[id as usize];
        line.tail.mark = NATIVE;
        line.tail.set_last(time, 0);
        let Some(open) = meta.native.as_mut().filter(|open| open.is_of_kind(value)) else {
            self.close_native(id);
            self.metas[id as usize].native = Some(Box::new(OpenNative::new(time, value)));
            self.lines[id as usize].next_at = range_end(time, range_ms);
            self.stats.chunks += 1;
            return;
        };
        let (bytes, samples) = (open.data().len(), open.len());
        let range_start = if open.end_is_computed { range_end(open.min_time, range_ms) } else { line.next_at };
        if !open.end_is_computed && bytes >= NATIVE_BYTES / 4 {
            let ratio = NATIVE_BYTES as f64 / bytes as f64;
            line.next_at = chunk_end(open.min_time, open.last_time(), line.next_at, ratio);
            open.end_is_computed = true;
        }
        let full = time >= line.next_at || bytes >= NATIVE_BYTES * 2;
        let finished = if full && (samples >= NATIVE_SAMPLES_MIN || time >= range_start) {
            Some(open.cut(time, value))
        } else {
            open.append(time, value)
        };
        if let Some(finished) = finished {
            line.next_at = range_end(time, range_ms);
            self.stats.chunks += 1;
            self.stats.chunk_bytes += finished.data.len() as u64;
            meta.closed.push(finished);
        }
    }

    /// Ends the open chunk of floats of series `id`, if there is one.
    pub(super) fn close_float(&mut self, id: u32) {
        let line = &mut self.lines[id as usize];
        if let Some(closed) = line.open_chunk() {
            line.tail.end_chunk();
            // The next chunk is likely to be as long as this one.
            line.data.truncate(HEADER_LEN);
            self.stats.chunk_bytes += closed.data.len() as u64;
            // A block's time has few chunks: room for more would be more than they are.
            let ended = &mut self.metas[id as usize].closed;
            ended.reserve_exact(1);
            ended.push(closed);
        }
    }

    /// Ends the open chunk of histograms of series `id`, if there is one.
    pub(super) fn close_native(&mut self, id: u32) {
        let meta = &mut self.metas[id as usize];
        if let Some(open) = meta.native.take() {
            let closed = open.into_chunk();
            self.stats.chunk_bytes += closed.data.len() as u64;
            meta.closed.push(closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_and_chunks_divide_them_as_in_prometheus() {
        assert_eq!(range_end(0, 100), 100);
        assert_eq!(range_end(99, 100), 100);
        assert_eq!(range_end(100, 100), 200);
        // Vectors of TestComputeChunkEndTime.
        for (start, now, max, ratio, end) in [
            (0, 250, 1000, 4.0, 1000),
            (100, 200, 1000, 4.0, 550),
            (0, 500, 1000, 2.0, 1000),
            (0, 333, 1000, 3.0, 1000),
            (0, 10000, 1000, 4.0, 1000),
            (0, 100, 1000, 4.0, 500),
        ] {
            assert_eq!(chunk_end(start, now, max, ratio), end, "{start} {now} {max} {ratio}");
        }
    }
}
