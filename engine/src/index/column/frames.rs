//! Columns of integers in frames of 256, each with its own base and width, so that any value is one
//! look-up in a directory and one unaligned read.
//!
//! ```text
//! ids (u32):    directory, an entry of 8 bytes for each frame:  base u32 │ place u32
//!               value = base + packed
//! times (u64):  directory, an entry of 16 bytes for each frame: base u64 │ slope u32 │ place u32
//!               value = base + slope * position in the frame + packed          (wrapping)
//!
//! place:  width in bits (6 high bits; 63 stands for 64) │ start in units of 32 bytes (26 low bits)
//! packed: 256 integers of width bits, least significant bit first: 32 * width bytes a frame,
//!         then 8 bytes of slack at the very end
//! ```
//!
//! A frame of equal (or, with a slope, evenly spaced) values has width 0 and takes no packed bytes.

use crate::codec::{Corrupt, Cursor};
use crate::simd::{self, isa, unpack::SLACK};

/// Values of a frame.
pub const FRAME: usize = 256;

/// Bytes of a frame for each bit of its width.
const UNIT: usize = FRAME / 8;

/// Directory entry of ids.
const ID_ENTRY: usize = 8;

/// Directory entry of times.
const TIME_ENTRY: usize = 16;

const START_BITS: u32 = 26;

/// Widths above this are stored as 64, so that a value is within eight bytes.
const WIDTH_MAX: u32 = 56;

fn place(width: u32, packed_len: usize) -> u32 {
    let start = packed_len / UNIT;
    assert!(start < 1 << START_BITS, "a column has at most 2 GiB of packed integers");
    (width.min(63) << START_BITS) | start as u32
}

fn width_and_start(place: u32) -> (u32, usize) {
    let width = if place >> START_BITS == 63 { 64 } else { place >> START_BITS };
    (width, (place & ((1 << START_BITS) - 1)) as usize * UNIT)
}

fn pack(values: &[u64; FRAME], width: u32, packed: &mut Vec<u8>) {
    let (mut bits, mut filled) = (0u128, 0);
    for value in values {
        bits |= u128::from(*value) << filled;
        filled += width;
        if filled >= 64 {
            packed.extend((bits as u64).to_le_bytes());
            bits >>= 64;
            filled -= 64;
        }
    }
    debug_assert_eq!(filled, 0, "256 integers fill whole words");
}

fn width_of(widest: u64) -> u32 {
    match 64 - widest.leading_zeros() {
        width @ 0..=WIDTH_MAX => width,
        _ => 64,
    }
}

/// A column of ids in the making.
#[derive(Debug, Default)]
pub struct IdWriter {
    directory: Vec<u8>,
    packed: Vec<u8>,
    frame: Vec<u32>,
}

impl IdWriter {
    /// Number of values so far.
    pub fn len(&self) -> usize {
        self.directory.len() / ID_ENTRY * FRAME + self.frame.len()
    }

    /// Whether there is no value yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a value.
    pub fn push(&mut self, id: u32) {
        self.frame.push(id);
        if self.frame.len() == FRAME {
            self.flush();
        }
    }

    /// Appends zeros until there are `len` values.
    pub fn pad(&mut self, len: usize) {
        while self.len() < len {
            if self.frame.is_empty() && len - self.len() >= FRAME {
                self.directory.extend([0; ID_ENTRY]);
            } else {
                self.push(0);
            }
        }
    }

    /// Bytes held.
    pub fn heap_bytes(&self) -> usize {
        self.directory.capacity() + self.packed.capacity() + FRAME * 4
    }

    /// Appends directory and packed integers to `out`. What follows the last value in its frame reads
    /// as 0.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.seal();
        out.append(&mut self.directory);
        out.append(&mut self.packed);
    }

    /// Ends the column; [`IdWriter::frames`] reads it back.
    pub fn seal(&mut self) {
        if !self.frame.is_empty() {
            self.frame.resize(FRAME, 0);
            self.flush();
        }
        self.packed.extend([0; SLACK]);
    }

    /// The column after [`IdWriter::seal`].
    pub fn frames(&self) -> Ids<'_> {
        Ids { directory: &self.directory, packed: &self.packed }
    }

    fn flush(&mut self) {
        let low = self.frame.iter().copied().min().unwrap_or(0);
        let high = self.frame.iter().copied().max().unwrap_or(0);
        let width = width_of(u64::from(high - low));
        self.directory.extend(low.to_le_bytes());
        self.directory.extend(place(width, self.packed.len()).to_le_bytes());
        if width > 0 {
            let mut values = [0; FRAME];
            values.iter_mut().zip(&self.frame).for_each(|(value, id)| *value = u64::from(id - low));
            pack(&values, width, &mut self.packed);
        }
        self.frame.clear();
    }
}

/// A column of ids.
#[derive(Clone, Copy, Debug)]
pub struct Ids<'a> {
    directory: &'a [u8],
    packed: &'a [u8],
}

/// One frame of a column of ids: its place is looked up once.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdFrame {
    base: u32,
    width: u32,
    start: usize,
}

impl IdFrame {
    /// The value that all of the frame has; `None` when they differ.
    pub fn constant(self) -> Option<u32> {
        (self.width == 0).then_some(self.base)
    }

    /// The value at `position`, out of the packed integers of all frames.
    #[inline]
    pub fn value(self, packed: &[u8], position: usize) -> u32 {
        if self.width == 0 {
            return self.base;
        }
        self.base.wrapping_add(packed_at(packed, self.start, self.width, position) as u32)
    }

    /// The frame for packed integers that `skip` other bytes come before.
    pub fn after(self, skip: usize) -> Self {
        Self { start: self.start + skip, ..self }
    }
}

impl<'a> Ids<'a> {
    /// The column of `frames` frames in `bytes`, a part called `what`; checks that all lie within.
    pub fn decode(what: &'static str, bytes: &'a [u8], frames: usize) -> Result<Self, Corrupt> {
        let mut cursor = Cursor::new(what, bytes, 0);
        let directory = cursor.bytes(frames.saturating_mul(ID_ENTRY))?;
        let packed = cursor.bytes(cursor.remaining())?;
        for entry in directory.as_chunks::<ID_ENTRY>().0 {
            check_place(what, u32_at(entry, 4), 32, packed.len())?;
        }
        Ok(Self { directory, packed })
    }

    /// The column of `frames` frames in `bytes`, which [`Ids::decode`] found sound before.
    pub fn of_checked(bytes: &'a [u8], frames: usize) -> Self {
        let (directory, packed) = bytes.split_at((frames * ID_ENTRY).min(bytes.len()));
        Self { directory, packed }
    }

    /// Number of frames.
    pub fn frames(self) -> usize {
        self.directory.len() / ID_ENTRY
    }

    /// The frame number `at`.
    pub fn frame(self, at: usize) -> IdFrame {
        let entry = &self.directory[at * ID_ENTRY..][..ID_ENTRY];
        let (width, start) = width_and_start(u32_at(entry, 4));
        IdFrame { base: u32_at(entry, 0), width, start }
    }

    /// The value number `at`.
    pub fn get(self, at: usize) -> u32 {
        self.frame(at / FRAME).value(self.packed, at % FRAME)
    }

    /// The packed integers of all frames.
    pub fn packed(self) -> &'a [u8] {
        self.packed
    }

    /// All values of frame number `at`.
    pub fn unpack(self, at: usize, out: &mut [u32; FRAME]) {
        let frame = self.frame(at);
        if frame.width == 0 {
            return out.fill(frame.base);
        }
        simd::unpack::unpack(isa(), &self.packed[frame.start..], frame.width, 0, out);
        out.iter_mut().for_each(|value| *value = value.wrapping_add(frame.base));
    }
}

/// A column of times, places or lengths in the making.
#[derive(Debug, Default)]
pub struct TimeWriter {
    directory: Vec<u8>,
    packed: Vec<u8>,
    frame: Vec<u64>,
}

impl TimeWriter {
    /// Appends a value.
    pub fn push(&mut self, value: u64) {
        self.frame.push(value);
        if self.frame.len() == FRAME {
            self.flush();
        }
    }

    /// Bytes held.
    pub fn heap_bytes(&self) -> usize {
        self.directory.capacity() + self.packed.capacity() + FRAME * 8
    }

    /// Appends directory and packed integers to `out`.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        if !self.frame.is_empty() {
            let last = *self.frame.last().unwrap_or(&0);
            let step = self.frame.first().map_or(0, |first| slope(last.wrapping_sub(*first), self.frame.len()));
            while self.frame.len() < FRAME {
                let next = self.frame[self.frame.len() - 1].wrapping_add(step);
                self.frame.push(next);
            }
            self.flush();
        }
        out.append(&mut self.directory);
        out.append(&mut self.packed);
        out.extend([0; SLACK]);
    }

    fn flush(&mut self) {
        let sloped = slope(self.frame[FRAME - 1].wrapping_sub(self.frame[0]), FRAME);
        let (flat_base, flat_range) = base_and_range(&self.frame, 0);
        let (mut base, mut range) = base_and_range(&self.frame, sloped);
        let mut step = sloped;
        if flat_range <= range {
            (base, range, step) = (flat_base, flat_range, 0);
        }
        let width = width_of(range);
        self.directory.extend(base.to_le_bytes());
        self.directory.extend((step as u32).to_le_bytes());
        self.directory.extend(place(width, self.packed.len()).to_le_bytes());
        if width > 0 {
            let mut values = [0; FRAME];
            for (at, value) in self.frame.iter().enumerate() {
                values[at] = value.wrapping_sub(base).wrapping_sub(step.wrapping_mul(at as u64));
            }
            pack(&values, width, &mut self.packed);
        }
        self.frame.clear();
    }
}

/// The step between `len` values whose last is `rise` above the first; 0 when they don't rise.
fn slope(rise: u64, len: usize) -> u64 {
    let step = rise / (len as u64 - 1).max(1);
    if rise > i64::MAX as u64 || step > u64::from(u32::MAX) { 0 } else { step }
}

/// The least of what is left of the values when `step` is taken off, and how far the greatest is
/// above it. Values are taken as signed: times before 1970 are negative.
fn base_and_range(values: &[u64], step: u64) -> (u64, u64) {
    let (mut low, mut high) = (i64::MAX, i64::MIN);
    for (at, value) in values.iter().enumerate() {
        let rest = value.wrapping_sub(step.wrapping_mul(at as u64)) as i64;
        low = low.min(rest);
        high = high.max(rest);
    }
    (low as u64, high.wrapping_sub(low) as u64)
}

/// A column of times, places or lengths.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a> {
    directory: &'a [u8],
    packed: &'a [u8],
}

impl<'a> Times<'a> {
    /// The column of `frames` frames in `bytes`, a part called `what`; checks that all lie within.
    pub fn decode(what: &'static str, bytes: &'a [u8], frames: usize) -> Result<Self, Corrupt> {
        let mut cursor = Cursor::new(what, bytes, 0);
        let directory = cursor.bytes(frames.saturating_mul(TIME_ENTRY))?;
        let packed = cursor.bytes(cursor.remaining())?;
        for entry in directory.as_chunks::<TIME_ENTRY>().0 {
            check_place(what, u32_at(entry, 12), 64, packed.len())?;
        }
        Ok(Self { directory, packed })
    }

    /// The column of `frames` frames in `bytes`, which [`Times::decode`] found sound before.
    pub fn of_checked(bytes: &'a [u8], frames: usize) -> Self {
        let (directory, packed) = bytes.split_at((frames * TIME_ENTRY).min(bytes.len()));
        Self { directory, packed }
    }

    /// The value number `at`.
    pub fn get(self, at: usize) -> u64 {
        let entry = &self.directory[at / FRAME * TIME_ENTRY..][..TIME_ENTRY];
        let (width, start) = width_and_start(u32_at(entry, 12));
        let position = at % FRAME;
        let base = u64_at(entry, 0).wrapping_add(u64::from(u32_at(entry, 8)) * position as u64);
        if width == 0 {
            return base;
        }
        base.wrapping_add(packed_at(self.packed, start, width, position))
    }
}

fn check_place(what: &'static str, place: u32, width_max: u32, packed_len: usize) -> Result<(), Corrupt> {
    let (width, start) = width_and_start(place);
    let end = start + UNIT * width as usize + SLACK;
    if width > width_max || (width > 0 && end > packed_len) {
        let reason = format!("frame of {width} bits ends at packed byte {end} of {packed_len}");
        return Err(Corrupt::new(what, start as u64, reason));
    }
    Ok(())
}

#[inline]
fn packed_at(packed: &[u8], start: usize, width: u32, position: usize) -> u64 {
    let bit = position * width as usize;
    let value = u64_at(packed, start + bit / 8) >> (bit % 8);
    if width == 64 { value } else { value & ((1 << width) - 1) }
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

#[inline]
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn columns() -> impl Strategy<Value = Vec<u64>> {
        prop_oneof![
            prop::collection::vec(any::<u64>(), 0..600),
            prop::collection::vec(0..9u64, 0..600),
            prop::collection::vec(prop_oneof![Just(0), 1..1000u64], 0..600),
            (any::<u64>(), 0..2000u64, prop::collection::vec(0..50u64, 0..600)).prop_map(|(base, step, noise)| {
                let at = |(at, noise): (usize, u64)| base.wrapping_add(step * at as u64).wrapping_add(noise);
                noise.into_iter().enumerate().map(at).collect()
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_column_of_times_comes_back(values in columns()) {
            let mut writer = TimeWriter::default();
            values.iter().for_each(|value| writer.push(*value));
            let mut bytes = Vec::new();
            writer.finish(&mut bytes);
            let times = Times::decode("times", &bytes, values.len().div_ceil(FRAME)).unwrap();
            for (at, value) in values.iter().enumerate() {
                prop_assert_eq!(times.get(at), *value, "{}", at);
            }
        }

        #[test]
        fn a_column_of_ids_comes_back(values in columns(), pad in 0..1000usize) {
            let mut ids: Vec<u32> = values.iter().map(|value| *value as u32).collect();
            let mut writer = IdWriter::default();
            ids.iter().for_each(|id| writer.push(*id));
            writer.pad(ids.len() + pad);
            ids.resize(ids.len() + pad, 0);
            prop_assert_eq!(writer.len(), ids.len());
            let mut bytes = Vec::new();
            writer.finish(&mut bytes);
            let column = Ids::decode("ids", &bytes, ids.len().div_ceil(FRAME)).unwrap();
            for (at, id) in ids.iter().enumerate() {
                prop_assert_eq!(column.get(at), *id, "{}", at);
            }
            let mut frame = [0; FRAME];
            for (at, expected) in ids.chunks(FRAME).enumerate() {
                column.unpack(at, &mut frame);
                prop_assert_eq!(&frame[..expected.len()], expected);
            }
        }

        #[test]
        fn a_damaged_column_is_an_error_or_readable(values in columns(), at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let mut writer = TimeWriter::default();
            values.iter().for_each(|value| writer.push(*value));
            let mut bytes = Vec::new();
            writer.finish(&mut bytes);
            *at.get_mut(&mut bytes) ^= 1u8 << bit;
            let frames = values.len().div_ceil(FRAME);
            if let Ok(times) = Times::decode("times", &bytes, frames) {
                (0..values.len()).for_each(|at| { times.get(at); });
            }
            if let Ok(ids) = Ids::decode("ids", &bytes, frames) {
                (0..values.len()).for_each(|at| { ids.get(at); });
            }
        }
    }

    #[test]
    fn evenly_spaced_values_take_no_packed_bytes() {
        let mut writer = TimeWriter::default();
        (0..1000).for_each(|at| writer.push(7 + 4 * at));
        let mut bytes = Vec::new();
        writer.finish(&mut bytes);
        assert_eq!(bytes.len(), 4 * TIME_ENTRY + SLACK);
    }
}
