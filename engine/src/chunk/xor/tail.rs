//! The end of a chunk that grows, without the chunk: what the next append needs, in half a cache line.

use crate::codec::bits::{BitEnd, BitWriter};
use crate::codec::varint;
use crate::simd::fields::Window;

use super::encode::{self, State};
use super::{HEADER_LEN, SAMPLES_MAX};

/// Where a chunk of floats ends. Its data lies elsewhere and lacks the count at its start until
/// [`Tail::write_count`].
#[derive(Clone, Copy, Debug)]
pub struct Tail {
    time: i64,
    delta: i64,
    value: u64,
    count: u16,
    above: u8,
    below: u8,
    used: u8,
    /// For the owner: what kind of chunk this is.
    pub mark: u8,
}

const _: () = assert!(size_of::<Tail>() == 32, "a tail and a vector and a time are one cache line");

/// What a tail knows that its chunk and the time of the last sample don't say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailState {
    /// Milliseconds between the last two samples.
    pub delta: i64,
    /// Bits of the value of the last sample.
    pub value: u64,
    /// Zeros above the payload of a value; over 63 before the first payload.
    pub above: u8,
    /// Zeros below the payload of a value.
    pub below: u8,
    /// Bits of the last byte that are taken.
    pub used: u8,
}

impl Default for Tail {
    /// Before the first sample; its time is the earliest there is.
    fn default() -> Self {
        Self { time: i64::MIN, delta: 0, value: 0, count: 0, above: 0xff, below: 0, used: 0, mark: 0 }
    }
}

impl Tail {
    /// The tail of the whole chunk `data`, whose samples end at `time` with `value`: appended again
    /// from `columns`.
    pub fn resume(times: &[i64], values: &[f64], data: &mut Vec<u8>) -> Self {
        let mut tail = Self::default();
        data.clear();
        times.iter().zip(values).for_each(|(time, value)| tail.append(*time, *value, data));
        tail
    }

    /// What [`Tail::restore`] needs besides the chunk and the time of its last sample.
    pub fn to_state(&self) -> TailState {
        let Self { delta, value, above, below, used, .. } = *self;
        TailState { delta, value, above, below, used }
    }

    /// The tail of the whole chunk `data` whose last sample is at `time`, as it was when `state` was
    /// taken of it; `None` when it is no state of any chunk.
    pub fn restore(time: i64, state: TailState, data: &[u8]) -> Option<Self> {
        let TailState { delta, value, above, below, used } = state;
        let count = u16::from_be_bytes(*data.first_chunk::<HEADER_LEN>()?);
        let has_payload = above < 64;
        let fits = if has_payload { above + below.min(64) < 64 } else { above == 0xff && below == 0 };
        let is_whole = data.len() > HEADER_LEN && (1..SAMPLES_MAX).contains(&usize::from(count));
        (fits && is_whole && used < 8).then_some(Self { time, delta, value, count, above, below, used, mark: 0 })
    }

    /// Unix milliseconds of the last sample, also of a chunk that was ended.
    pub fn last_time(&self) -> i64 {
        self.time
    }

    /// Bits of the value of the last sample.
    pub fn last_bits(&self) -> u64 {
        self.value
    }

    /// Samples of the chunk.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Notes a sample that went into another kind of chunk.
    pub fn set_last(&mut self, time: i64, bits: u64) {
        (self.time, self.value) = (time, bits);
    }

    /// Ends the chunk: the next sample starts another one. Time and value of the last sample stay.
    pub fn end_chunk(&mut self) {
        (self.count, self.delta, self.above, self.below, self.used) = (0, 0, 0xff, 0, 0);
    }

    /// Appends a sample to `data`, which is empty before the first one of a chunk.
    ///
    /// # Panics
    /// When the chunk already holds [`SAMPLES_MAX`] samples.
    #[inline]
    pub fn append(&mut self, time: i64, value: f64, data: &mut Vec<u8>) {
        assert!(usize::from(self.count) < SAMPLES_MAX, "a chunk holds at most {SAMPLES_MAX} samples");
        let value = value.to_bits();
        if self.count < 2 {
            return self.append_first(time, value, data);
        }
        if data.capacity() - data.len() < encode::SAMPLE_ROOM {
            grow(data);
        }
        let mut writer = BitWriter::resume(data, BitEnd { used: self.used });
        let (place, bytes) = writer.reserve_few::<{ encode::SAMPLE_ROOM }>();
        let state = self.state();
        let (end, state) = encode::put_sample(time, value, state, (*place, bytes));
        *place = end;
        self.used = writer.finish().used;
        self.set_state(state);
        self.count += 1;
    }

    #[cold]
    fn append_first(&mut self, time: i64, value: u64, data: &mut Vec<u8>) {
        if self.count == 0 {
            let mut state = State::START;
            data.clear();
            data.extend_from_slice(&[0; HEADER_LEN]);
            encode::first(time, value, &mut state, data);
            self.set_state(state);
        } else {
            let mut state = self.state();
            encode::second_time(time, &mut state, data);
            let mut writer = BitWriter::new(data);
            let (place, bytes) = writer.reserve(encode::SAMPLE_ROOM);
            (*place, state) = encode::put_value(value, state, (*place, bytes));
            self.used = writer.finish().used;
            self.set_state(state);
        }
        self.count += 1;
    }

    /// Puts the count in front of `data`, which is then a whole chunk.
    pub fn write_count(&self, data: &mut [u8]) {
        if let Some(header) = data.first_chunk_mut::<HEADER_LEN>() {
            *header = self.count.to_be_bytes();
        }
    }

    /// Unix milliseconds of the first sample of the chunk `data`.
    pub fn first_time(data: &[u8]) -> i64 {
        data.get(HEADER_LEN..).and_then(varint::decode_i64).map_or(0, |(time, _)| time)
    }

    #[inline(always)]
    fn state(&self) -> State {
        let window = Window { above: self.above, below: self.below };
        State { time: self.time, delta: self.delta, value: self.value, window }
    }

    #[inline(always)]
    fn set_state(&mut self, state: State) {
        (self.time, self.delta, self.value) = (state.time, state.delta, state.value);
        (self.above, self.below) = (state.window.above, state.window.below);
    }
}

/// Makes room for a sample and some more: two fifths at a time, to sizes that allocators have classes for, as there
/// are as many open chunks as series. Doubled, a third of their memory would be unused.
#[cold]
fn grow(data: &mut Vec<u8>) {
    let wanted = (data.capacity() * 7 / 5).next_multiple_of(16).max(data.len() + encode::SAMPLE_ROOM);
    data.reserve_exact(wanted - data.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::xor;

    #[test]
    fn an_open_chunk_has_little_more_room_than_it_needs() {
        let (mut tail, mut data) = (Tail::default(), Vec::with_capacity(48));
        for at in 0..120 {
            tail.append(1_700_000_000_000 + at * 15_000, (at as f64).sqrt(), &mut data);
            let needed = data.len() + encode::SAMPLE_ROOM;
            assert!(data.capacity() <= 48.max(needed * 7 / 5 + 16), "{} of {needed}", data.capacity());
        }
    }

    #[test]
    fn a_tail_writes_what_the_appender_writes() {
        let (mut tail, mut data) = (Tail::default(), Vec::new());
        let mut appender = xor::Appender::default();
        let mut state = 9u64;
        for at in 0..300i64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (time, value) = (1_700_000_000_000 + at * 15_000 + (state >> 60) as i64, (state >> 50) as f64);
            if at == 150 {
                tail.end_chunk();
                data.clear();
                appender = xor::Appender::default();
            }
            tail.append(time, value, &mut data);
            appender.append(time, value);
            tail.write_count(&mut data);
            assert_eq!(data, appender.data());
            assert_eq!((tail.last_time(), tail.last_bits()), (time, value.to_bits()));
            // What was put aside goes on in the same way.
            tail = Tail::restore(time, tail.to_state(), &data).unwrap();
        }
    }

    #[test]
    fn a_state_that_no_chunk_has_is_refused() {
        let (mut tail, mut data) = (Tail::default(), Vec::new());
        for at in 0..5 {
            tail.append(at * 1000, at as f64 * 1.7, &mut data);
        }
        tail.write_count(&mut data);
        let state = tail.to_state();
        assert!(Tail::restore(4000, state, &data).is_some());
        for bad in [
            TailState { used: 8, ..state },
            TailState { above: 64, ..state },
            TailState { above: 32, below: 32, ..state },
            TailState { above: 0xff, below: 1, ..state },
        ] {
            assert!(Tail::restore(4000, bad, &data).is_none(), "{bad:?}");
        }
        assert!(Tail::restore(4000, state, &data[..1]).is_none());
        assert!(Tail::restore(4000, state, &[0, 0, 1]).is_none());
        assert!(Tail::restore(4000, state, &[0xff, 0xff, 1]).is_none());
    }
}
