//! Sixteen chunks side by side: four vectors of four lanes, a chunk in each lane.
//!
//! A step is that of `avx512`. What AVX2 lacks is done in other ways: a condition is the sign of a
//! field, by which lanes are blended, and a difference of 14 bits is moved by 8191, so that no shift
//! needs a sign.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi64, _mm256_and_si256, _mm256_blendv_pd, _mm256_castpd_si256,
    _mm256_castsi128_si256, _mm256_castsi256_pd, _mm256_cmpgt_epi64, _mm256_inserti128_si256, _mm256_loadu_si256,
    _mm256_movemask_pd, _mm256_or_si256, _mm256_permute2x128_si256, _mm256_set1_epi64x, _mm256_setr_epi8,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi64, _mm256_sllv_epi64, _mm256_srli_epi64,
    _mm256_srlv_epi64, _mm256_storeu_si256, _mm256_sub_epi64, _mm256_unpackhi_epi64, _mm256_unpacklo_epi64,
    _mm256_xor_si256,
};

use super::lanes::{self, GROUP, Lane, STEPS};
use super::scalar::{self, State};
use super::{Batch, Fault};

/// Chunks of a vector.
const LANES: usize = 4;
const VECTORS: usize = GROUP / LANES;

/// The state of four lanes.
#[derive(Clone, Copy)]
struct Lanes {
    /// Next bit within the copies.
    at: __m256i,
    time: __m256i,
    delta: __m256i,
    value: __m256i,
    /// 64 less the width of a payload.
    unused: __m256i,
    /// Zeros below the payload.
    below: __m256i,
}

/// As [`scalar::decode_batch`].
///
/// # Safety
/// The machine has AVX2, BMI1 and BMI2.
#[target_feature(enable = "avx2,bmi1,bmi2")]
pub unsafe fn decode(chunks: &[&[u8]], batch: &mut Batch) -> Result<(), (usize, Fault)> {
    // SAFETY: the caller promises the features; `lanes::decode` copied each lane's chunk.
    lanes::decode(chunks, batch, |group, batch| unsafe { decode_group(group, batch) })
}

/// Decodes a group of chunks; gives the lanes whose chunks it did not decode, one bit each.
///
/// # Safety
/// As for [`decode`]; each lane's chunk was copied.
#[target_feature(enable = "avx2,bmi1,bmi2")]
unsafe fn decode_group(group: &[Lane], batch: &mut Batch) -> u32 {
    let lane = |at: usize| group.get(at).unwrap_or(&group[0]);
    let mut vectors: [Lanes; VECTORS] = std::array::from_fn(|vector| Lanes::load(|at| lane(vector * LANES + at).state));
    let ends: [__m256i; VECTORS] = std::array::from_fn(|vector| load(|at| lane(vector * LANES + at).end));
    let lefts: [__m256i; VECTORS] = std::array::from_fn(|vector| load(|at| lane(vector * LANES + at).left as u64));
    let longest = group.iter().map(|lane| lane.left).max().unwrap_or(0);
    let shortest = if group.len() == GROUP { group.iter().map(|lane| lane.left).min().unwrap_or(0) } else { 0 };
    let mut wide_left = lanes::wide_max(longest);
    let mut suspects = 0u32;
    let mut rows = Rows::default();
    let copies = std::mem::take(&mut batch.copies);
    let mut done = 0;
    while done < longest {
        for step in 0..STEPS {
            for (at, vector) in vectors.iter_mut().enumerate() {
                // SAFETY: each lane is within its copy or less than the slack less a window behind it.
                let wide = unsafe { vector.step(&copies) };
                if wide {
                    wide_left = wide_left.saturating_sub(1);
                    vector.step_wide(&copies);
                }
                rows.times[at][step] = lanes_of(vector.time);
                rows.values[at][step] = lanes_of(vector.value);
            }
        }
        for (at, vector) in vectors.iter_mut().enumerate() {
            suspects |= vector.clamp(ends[at], lefts[at], done) << (at * LANES);
        }
        if wide_left == 0 {
            break;
        }
        rows.store(group, done, done + STEPS <= shortest, batch);
        done += STEPS;
    }
    batch.copies = copies;
    if wide_left == 0 { u32::MAX } else { suspects }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(lane: impl Fn(usize) -> u64) -> __m256i {
    let lanes: [u64; LANES] = std::array::from_fn(lane);
    load_row(&lanes)
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_row(lanes: &[u64; LANES]) -> __m256i {
    // SAFETY: the array is 32 readable bytes.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn lanes_of(vector: __m256i) -> [u64; LANES] {
    let mut lanes = [0; LANES];
    // SAFETY: the array is 32 writable bytes.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), vector) };
    lanes
}

#[target_feature(enable = "avx2")]
#[inline]
fn all(value: i64) -> __m256i {
    _mm256_set1_epi64x(value)
}

/// Lanes of `set` where the highest bit of `condition` is set, else of `unset`.
#[target_feature(enable = "avx2")]
#[inline]
fn blend(condition: __m256i, set: __m256i, unset: __m256i) -> __m256i {
    let [condition, set, unset] = [condition, set, unset].map(|vector| _mm256_castsi256_pd(vector));
    _mm256_castpd_si256(_mm256_blendv_pd(unset, set, condition))
}

/// The highest bit of each lane.
#[target_feature(enable = "avx2")]
#[inline]
fn signs(vector: __m256i) -> u32 {
    _mm256_movemask_pd(_mm256_castsi256_pd(vector)) as u32
}

impl Lanes {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(state: impl Fn(usize) -> State) -> Self {
        Self {
            at: load(|at| state(at).at as u64),
            time: load(|at| state(at).time as u64),
            delta: load(|at| state(at).delta as u64),
            value: load(|at| state(at).value),
            unused: load(|at| u64::from(64 - state(at).width)),
            below: load(|at| state(at).below as i32 as u64),
        }
    }

    /// The 128 bits from each lane's byte on, as their higher and lower halves.
    ///
    /// # Safety
    /// 16 bytes of `copies` follow each lane's byte.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn windows(&self, copies: &[u8]) -> (__m256i, __m256i) {
        let bytes = lanes_of(_mm256_srli_epi64::<3>(self.at));
        // SAFETY: the caller promises 16 bytes behind each lane's byte.
        let window = |lane: usize| unsafe { _mm_loadu_si128(copies.as_ptr().add(bytes[lane] as usize).cast()) };
        let pair = |first: usize, second: usize| {
            _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(window(first)), window(second))
        };
        let swap = _mm256_setr_epi8(
            7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8,
        );
        let (even, odd) = (_mm256_shuffle_epi8(pair(0, 2), swap), _mm256_shuffle_epi8(pair(1, 3), swap));
        (_mm256_unpacklo_epi64(even, odd), _mm256_unpackhi_epi64(even, odd))
    }

    /// Decodes a sample in each lane, unless one of them has a wide timestamp field: then nothing
    /// changes and `true` is given.
    ///
    /// # Safety
    /// 16 bytes of `copies` follow each lane's byte.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn step(&mut self, copies: &[u8]) -> bool {
        // SAFETY: the caller promises what `windows` asks for.
        let (high, low) = unsafe { self.windows(copies) };
        let bit = _mm256_and_si256(self.at, all(7));
        // 57 bits at least, of which the control bits are 29 at most.
        let field = _mm256_sllv_epi64(high, bit);
        if signs(_mm256_and_si256(field, _mm256_slli_epi64::<1>(field))) != 0 {
            return true;
        }
        let moved = _mm256_add_epi64(_mm256_srli_epi64::<48>(field), all(8191));
        let dod = _mm256_sub_epi64(_mm256_and_si256(moved, all(0x3fff)), all(8191));
        self.delta = _mm256_add_epi64(self.delta, blend(field, dod, _mm256_setzero_si256()));
        self.time = _mm256_add_epi64(self.time, self.delta);

        let dod_len = blend(field, all(16), all(1));
        let control = _mm256_sllv_epi64(field, dod_len);
        let new_window = _mm256_and_si256(control, _mm256_slli_epi64::<1>(control));
        let above = _mm256_and_si256(_mm256_srli_epi64::<57>(control), all(31));
        let width_negated = _mm256_sub_epi64(_mm256_setzero_si256(), _mm256_srli_epi64::<51>(control));
        let unused = _mm256_and_si256(width_negated, all(63));
        self.unused = blend(new_window, unused, self.unused);
        self.below = blend(new_window, _mm256_sub_epi64(unused, above), self.below);

        let control_len = blend(new_window, all(13), blend(control, all(2), all(1)));
        let len = _mm256_add_epi64(dod_len, control_len);
        let skip = _mm256_add_epi64(bit, len);
        let from_low = _mm256_srlv_epi64(low, _mm256_sub_epi64(all(64), skip));
        let payload = _mm256_or_si256(_mm256_sllv_epi64(high, skip), from_low);
        let payload = _mm256_sllv_epi64(_mm256_srlv_epi64(payload, self.unused), self.below);
        let nothing = _mm256_setzero_si256();
        self.value = _mm256_xor_si256(self.value, blend(control, payload, nothing));
        let width = blend(control, _mm256_sub_epi64(all(64), self.unused), nothing);
        self.at = _mm256_add_epi64(_mm256_add_epi64(self.at, len), width);
        false
    }

    /// Decodes a sample in each lane, one lane after the other.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn step_wide(&mut self, copies: &[u8]) {
        *self = Self::stepped_wide(*self, copies);
    }

    #[cold]
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    fn stepped_wide(before: Self, copies: &[u8]) -> Self {
        let (at, time, delta) = (lanes_of(before.at), lanes_of(before.time), lanes_of(before.delta));
        let (value, unused, below) = (lanes_of(before.value), lanes_of(before.unused), lanes_of(before.below));
        let states: [State; LANES] = std::array::from_fn(|lane| {
            let mut state = State {
                at: at[lane] as usize,
                time: time[lane] as i64,
                delta: delta[lane] as i64,
                value: value[lane],
                width: 64 - unused[lane] as u32,
                below: below[lane] as u32,
            };
            scalar::run(copies, usize::MAX, &mut state, &mut [0], &mut [0.0]);
            state
        });
        Self::load(|lane| states[lane])
    }

    /// Moves lanes that are behind their ends back to them; gives those that may have needed more
    /// than there was for one of their own samples. `done` samples were decoded before the last
    /// steps, and `lefts` are to be decoded in all. No number here has its highest bit set.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn clamp(&mut self, ends: __m256i, lefts: __m256i, done: usize) -> u32 {
        // Steps that went on behind the lane's last sample took at least two bits each, and exactly
        // two where only zeros followed.
        let least = |one: __m256i, other: __m256i| blend(_mm256_cmpgt_epi64(one, other), other, one);
        let steps_end = all((done + STEPS) as i64);
        let beyond = least(_mm256_sub_epi64(steps_end, least(lefts, steps_end)), all(STEPS as i64));
        let most = _mm256_add_epi64(ends, _mm256_slli_epi64::<1>(beyond));
        let suspects = signs(_mm256_cmpgt_epi64(self.at, most));
        self.at = least(self.at, ends);
        suspects
    }
}

/// The samples of the last steps: a row for each step.
struct Rows {
    times: [[[u64; LANES]; STEPS]; VECTORS],
    values: [[[u64; LANES]; STEPS]; VECTORS],
}

impl Default for Rows {
    fn default() -> Self {
        Self { times: [[[0; LANES]; STEPS]; VECTORS], values: [[[0; LANES]; STEPS]; VECTORS] }
    }
}

impl Rows {
    /// Stores the rows to the columns of each lane, from its sample number `done` on. With `whole`
    /// every lane has room for all steps.
    #[target_feature(enable = "avx2")]
    fn store(&self, group: &[Lane], done: usize, whole: bool, batch: &mut Batch) {
        for (vector, lanes) in group.chunks(LANES).enumerate() {
            let times = transpose(&self.times[vector]);
            let values = transpose(&self.values[vector]);
            for (lane, (times, values)) in lanes.iter().zip(times.iter().zip(&values)) {
                let room = if whole { STEPS } else { lane.left.saturating_sub(done).min(STEPS) };
                if room == 0 {
                    continue;
                }
                let start = lane.start + done;
                store(times, &mut batch.times[start..start + room]);
                store(values, &mut batch.values[start..start + room]);
            }
        }
    }
}

/// Stores the first numbers of a lane: as many as `slots` has room for.
#[target_feature(enable = "avx2")]
#[inline]
fn store<T: Slot>(lane: &[__m256i; 2], slots: &mut [T]) {
    if let Ok(slots) = <&mut [T; STEPS]>::try_from(&mut *slots) {
        for (half, vector) in slots.chunks_exact_mut(LANES).zip(lane) {
            // SAFETY: a half is 32 writable bytes of numbers for which all bits are valid.
            unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), *vector) };
        }
        return;
    }
    let numbers = lane.map(|vector| lanes_of(vector));
    for (slot, bits) in slots.iter_mut().zip(numbers.as_flattened()) {
        *slot = T::from_bits(*bits);
    }
}

/// What columns hold.
trait Slot {
    fn from_bits(bits: u64) -> Self;
}

impl Slot for i64 {
    fn from_bits(bits: u64) -> Self {
        bits as Self
    }
}

impl Slot for f64 {
    fn from_bits(bits: u64) -> Self {
        Self::from_bits(bits)
    }
}

/// Rows of four lanes to lanes of eight rows.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose(rows: &[[u64; LANES]; STEPS]) -> [[__m256i; 2]; LANES] {
    let quads = |first: usize| {
        let row = |at: usize| load_row(&rows[first + at]);
        let (even_02, odd_02) = (_mm256_unpacklo_epi64(row(0), row(1)), _mm256_unpackhi_epi64(row(0), row(1)));
        let (even_13, odd_13) = (_mm256_unpacklo_epi64(row(2), row(3)), _mm256_unpackhi_epi64(row(2), row(3)));
        [
            _mm256_permute2x128_si256::<0x20>(even_02, even_13),
            _mm256_permute2x128_si256::<0x20>(odd_02, odd_13),
            _mm256_permute2x128_si256::<0x31>(even_02, even_13),
            _mm256_permute2x128_si256::<0x31>(odd_02, odd_13),
        ]
    };
    let (first, second) = (quads(0), quads(4));
    std::array::from_fn(|lane| [first[lane], second[lane]])
}
