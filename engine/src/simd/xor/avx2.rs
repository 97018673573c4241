//! Sixteen chunks side by side: four vectors of four lanes, a chunk in each lane.
//!
//! As with AVX-512 a step decodes one sample in all lanes from a window of 128 bits, see
//! [`super::lanes`]. What AVX2 lacks is made up for: masks are vectors of ones and zeros, two shifts
//! and an or shift a window, and since no field before the payload ends behind bit 36, only the payload
//! needs that. There is no arithmetic shift of 64 bits: the 14 bits of a timestamp field are moved up by
//! 8191, cut to 14 bits and moved down again.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi64, _mm256_and_si256, _mm256_blendv_epi8, _mm256_castsi128_si256,
    _mm256_castsi256_pd, _mm256_cmpgt_epi64, _mm256_inserti128_si256, _mm256_loadu_si256, _mm256_movemask_pd,
    _mm256_or_si256, _mm256_set_epi64x, _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_shuffle_epi8,
    _mm256_slli_epi64, _mm256_sllv_epi64, _mm256_srli_epi64, _mm256_srlv_epi64, _mm256_storeu_si256, _mm256_sub_epi64,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::lanes::{self, Fields, GROUP, Group, Lane, STEPS};
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
/// The machine has AVX2, BMI1, BMI2 and LZCNT.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
pub unsafe fn decode(chunks: &[&[u8]], batch: &mut Batch) -> Result<(), (usize, Fault)> {
    // SAFETY: the caller promises the features.
    lanes::decode(chunks, batch, |group, batch| unsafe { decode_group(group, batch) })
}

/// Decodes a group; gives the lanes that must be decoded again alone, as bits.
///
/// # Safety
/// As for [`decode`]; the chunks of the lanes lie among the batch's copies.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
unsafe fn decode_group(group: &Group, batch: &mut Batch) -> u32 {
    let mut vectors: [Lanes; VECTORS] = std::array::from_fn(|vector| Lanes::load(group.fields(vector)));
    let ends: [__m256i; VECTORS] = std::array::from_fn(|vector| load(group.ends(vector)));
    let lefts: [__m256i; VECTORS] = std::array::from_fn(|vector| load(group.lefts(vector)));
    let (longest, shortest) = group.longest_and_shortest();
    let mut wide_left = lanes::wide_max(longest);
    let mut suspects = 0u32;
    let mut rows = Rows { times: [[[0; LANES]; STEPS]; VECTORS], values: [[[0; LANES]; STEPS]; VECTORS] };
    let copies = std::mem::take(&mut batch.copies);
    let mut done = 0;
    while done < longest {
        for step in 0..STEPS {
            for (vector, lanes) in vectors.iter_mut().enumerate() {
                // SAFETY: each lane is within its copy or less than the slack less a window behind it.
                if unsafe { lanes.step(&copies) } {
                    wide_left = wide_left.saturating_sub(1);
                    *lanes = Lanes::stepped_wide(*lanes, &copies);
                }
                store(&mut rows.times[vector][step], lanes.time);
                store(&mut rows.values[vector][step], lanes.value);
            }
        }
        for (vector, lanes) in vectors.iter_mut().enumerate() {
            suspects |= lanes.clamp(ends[vector], lefts[vector], done) << (vector * LANES);
        }
        if wide_left == 0 {
            suspects = u32::MAX;
            break;
        }
        rows.store(group.lanes(), done, done + STEPS <= shortest, batch);
        done += STEPS;
    }
    batch.copies = copies;
    suspects
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(lanes: &[u64; LANES]) -> __m256i {
    // SAFETY: the array is 32 readable bytes.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(lanes: &mut [u64; LANES], vector: __m256i) {
    // SAFETY: the array is 32 writable bytes.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), vector) };
}

#[target_feature(enable = "avx2")]
#[inline]
fn lanes_of(vector: __m256i) -> [u64; LANES] {
    let mut lanes = [0; LANES];
    store(&mut lanes, vector);
    lanes
}

#[target_feature(enable = "avx2")]
#[inline]
fn all(value: i64) -> __m256i {
    _mm256_set1_epi64x(value)
}

/// All ones in each lane whose highest bit is set.
#[target_feature(enable = "avx2")]
#[inline]
fn highest(vector: __m256i) -> __m256i {
    _mm256_cmpgt_epi64(_mm256_setzero_si256(), vector)
}

impl Lanes {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(fields: [&[u64; LANES]; 6]) -> Self {
        let [at, time, delta, value, unused, below] = fields.map(|field| load(field));
        Self { at, time, delta, value, unused, below }
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
        let even = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(window(0)), window(2));
        let odd = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(window(1)), window(3));
        let swap = _mm256_set_epi64x(
            0x0809_0a0b_0c0d_0e0f,
            0x0001_0203_0405_0607,
            0x0809_0a0b_0c0d_0e0f,
            0x0001_0203_0405_0607,
        );
        let (even, odd) = (_mm256_shuffle_epi8(even, swap), _mm256_shuffle_epi8(odd, swap));
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
        // The lowest seven bits may be missing; at most the highest 29 are looked at.
        let field = _mm256_sllv_epi64(high, bit);
        let behind = _mm256_slli_epi64::<1>(field);
        if _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_and_si256(field, behind))) != 0 {
            return true;
        }
        let has_dod = highest(field);
        let moved = _mm256_add_epi64(_mm256_srli_epi64::<48>(field), all(8191));
        let change = _mm256_sub_epi64(_mm256_and_si256(moved, all(0x3fff)), all(8191));
        self.delta = _mm256_add_epi64(self.delta, _mm256_and_si256(has_dod, change));
        self.time = _mm256_add_epi64(self.time, self.delta);

        let dod_bits = _mm256_and_si256(has_dod, all(15));
        let control = _mm256_sllv_epi64(behind, dod_bits);
        let changed = highest(control);
        let new_window = highest(_mm256_and_si256(control, _mm256_slli_epi64::<1>(control)));
        let above = _mm256_and_si256(_mm256_srli_epi64::<57>(control), all(31));
        let width_negated = _mm256_sub_epi64(_mm256_setzero_si256(), _mm256_srli_epi64::<51>(control));
        let unused = _mm256_and_si256(width_negated, all(63));
        self.unused = _mm256_blendv_epi8(self.unused, unused, new_window);
        self.below = _mm256_blendv_epi8(self.below, _mm256_sub_epi64(unused, above), new_window);

        let len = _mm256_sub_epi64(_mm256_add_epi64(dod_bits, all(2)), changed);
        let len = _mm256_add_epi64(len, _mm256_and_si256(new_window, all(11)));
        let payload_at = _mm256_add_epi64(bit, len);
        let payload_high = _mm256_sllv_epi64(high, payload_at);
        let payload_low = _mm256_srlv_epi64(low, _mm256_sub_epi64(all(64), payload_at));
        let payload = _mm256_srlv_epi64(_mm256_or_si256(payload_high, payload_low), self.unused);
        let payload = _mm256_sllv_epi64(payload, self.below);
        self.value = _mm256_xor_si256(self.value, _mm256_and_si256(changed, payload));
        let width = _mm256_and_si256(changed, _mm256_sub_epi64(all(64), self.unused));
        self.at = _mm256_add_epi64(_mm256_add_epi64(self.at, len), width);
        false
    }

    /// Decodes a sample in each lane, one lane after the other.
    #[cold]
    #[inline(never)]
    #[target_feature(enable = "avx2")]
    fn stepped_wide(before: Self, copies: &[u8]) -> Self {
        let Self { at, time, delta, value, unused, below } = before;
        let mut fields: Fields<LANES> = [at, time, delta, value, unused, below].map(|field| lanes_of(field));
        lanes::step_alone(&mut fields, copies);
        Self::load(fields.each_ref())
    }

    /// Moves lanes that are behind their ends back to them; gives those that may have needed more
    /// than there was for one of their own samples. `done` samples were decoded before the last
    /// steps, and `lefts` are to be decoded in all.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn clamp(&mut self, ends: __m256i, lefts: __m256i, done: usize) -> u32 {
        // Steps that went on behind the lane's last sample took at least two bits each, and exactly
        // two where only zeros followed.
        let steps_end = all((done + STEPS) as i64);
        let beyond = least(_mm256_sub_epi64(steps_end, least(lefts, steps_end)), all(STEPS as i64));
        let most = _mm256_add_epi64(ends, _mm256_slli_epi64::<1>(beyond));
        let suspects = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(self.at, most)));
        self.at = least(self.at, ends);
        suspects as u32
    }
}

/// The smaller of two, lane by lane.
#[target_feature(enable = "avx2")]
#[inline]
fn least(one: __m256i, other: __m256i) -> __m256i {
    _mm256_blendv_epi8(one, other, _mm256_cmpgt_epi64(one, other))
}

/// The samples of the last steps: a row for each step.
struct Rows {
    times: [[[u64; LANES]; STEPS]; VECTORS],
    values: [[[u64; LANES]; STEPS]; VECTORS],
}

impl Rows {
    /// Stores the rows to the columns of each lane, from its sample number `done` on. With `whole` there are
    /// sixteen lanes, and each has room for all steps.
    #[target_feature(enable = "avx2")]
    fn store(&self, group: &[Lane], done: usize, whole: bool, batch: &mut Batch) {
        for (vector, lanes) in group.chunks(LANES).enumerate() {
            match lanes.first_chunk() {
                Some(lanes) if whole => self.store_whole(vector, lanes, done, batch),
                _ => self.store_part(vector, lanes, done, batch),
            }
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn store_whole(&self, vector: usize, lanes: &[Lane; LANES], done: usize, batch: &mut Batch) {
        let [first, last] = transpose(&self.times[vector]);
        for (lane, times) in lanes.iter().zip(first.into_iter().zip(last)) {
            let slots = &mut batch.times[lane.start + done..][..STEPS];
            // SAFETY: `slots` holds eight numbers of 64 bits.
            unsafe { store_column(slots.as_mut_ptr().cast(), times) };
        }
        let [first, last] = transpose(&self.values[vector]);
        for (lane, values) in lanes.iter().zip(first.into_iter().zip(last)) {
            let slots = &mut batch.values[lane.start + done..][..STEPS];
            // SAFETY: as above.
            unsafe { store_column(slots.as_mut_ptr().cast(), values) };
        }
    }

    fn store_part(&self, vector: usize, lanes: &[Lane], done: usize, batch: &mut Batch) {
        for (at, lane) in lanes.iter().enumerate() {
            let room = lane.left.saturating_sub(done).min(STEPS);
            if room == 0 {
                continue;
            }
            let start = lane.start + done;
            let rows = self.times[vector].iter().zip(&self.values[vector]);
            let slots = batch.times[start..start + room].iter_mut().zip(&mut batch.values[start..start + room]);
            for ((time, value), (time_row, value_row)) in slots.zip(rows) {
                *time = time_row[at] as i64;
                *value = f64::from_bits(value_row[at]);
            }
        }
    }
}

/// Stores eight numbers.
///
/// # Safety
/// There is room for them at `slots`.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store_column(slots: *mut u64, (first, second): (__m256i, __m256i)) {
    // SAFETY: the caller promises room for eight numbers, of which these are the first four.
    unsafe { _mm256_storeu_si256(slots.cast(), first) };
    // SAFETY: as above, these are the last four.
    unsafe { _mm256_storeu_si256(slots.add(LANES).cast(), second) };
}

/// Rows of four lanes to lanes of eight rows, in two halves.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose(rows: &[[u64; LANES]; STEPS]) -> [[__m256i; LANES]; 2] {
    // Halves of two rows are put beside each other by loads, which leaves two shuffles for two lanes.
    let quarter = |first: usize, lane: usize| {
        // SAFETY: two lanes of a row are 16 readable bytes.
        let pair = |at: usize| unsafe { _mm_loadu_si128(rows[first + at][lane..lane + 2].as_ptr().cast()) };
        let even = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(pair(0)), pair(2));
        let odd = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(pair(1)), pair(3));
        (_mm256_unpacklo_epi64(even, odd), _mm256_unpackhi_epi64(even, odd))
    };
    let half = |first: usize| {
        let ((lane_0, lane_1), (lane_2, lane_3)) = (quarter(first, 0), quarter(first, 2));
        [lane_0, lane_1, lane_2, lane_3]
    };
    [half(0), half(LANES)]
}
