//! Sixteen chunks side by side: two vectors of eight lanes, a chunk in each lane.
//!
//! One step decodes one sample in all lanes:
//!
//! ```text
//! window   p                                  128 bits from the lane's byte on
//!          │dod 1 or 16│control 1, 2 or 13│payload up to 64│
//! ```
//! The window covers control bits and payload, so a step takes one load for each lane. Timestamp
//! fields of 17, 20 and 64 bits are decoded lane by lane; a group with many of them is given to the
//! scalar decoder. So is each chunk whose lane was found behind its end too early: only the scalar
//! decoder says that a chunk is corrupt. After eight steps the samples are transposed and stored.

use std::arch::x86_64::{
    __m256i, __m512i, _mm_loadu_si128, _mm512_add_epi64, _mm512_and_si512, _mm512_castsi128_si512,
    _mm512_castsi512_si256, _mm512_cmpge_epu64_mask, _mm512_cmpgt_epu64_mask, _mm512_extracti64x4_epi64,
    _mm512_inserti64x2, _mm512_loadu_si512, _mm512_mask_add_epi64, _mm512_mask_blend_epi64, _mm512_mask_mov_epi64,
    _mm512_mask_storeu_epi64, _mm512_mask_sub_epi64, _mm512_mask_xor_epi64, _mm512_min_epu64, _mm512_movepi64_mask,
    _mm512_set1_epi64, _mm512_set4_epi32, _mm512_setzero_si512, _mm512_shldv_epi64, _mm512_shuffle_epi8,
    _mm512_shuffle_i64x2, _mm512_slli_epi64, _mm512_sllv_epi64, _mm512_srai_epi64, _mm512_srli_epi64,
    _mm512_srlv_epi64, _mm512_storeu_si512, _mm512_sub_epi64, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use super::lanes::{self, Fields, Group, Lane, STEPS};
use super::{Batch, Fault};

/// Chunks of a vector.
const LANES: usize = 8;

/// Half a vector, within one cache line.
#[repr(align(32))]
struct Half([u64; LANES / 2]);

/// The state of eight lanes.
#[derive(Clone, Copy)]
struct Lanes {
    /// Next bit within the copies.
    at: __m512i,
    time: __m512i,
    delta: __m512i,
    value: __m512i,
    /// 64 less the width of a payload.
    unused: __m512i,
    /// Zeros below the payload.
    below: __m512i,
}

/// What comes next in eight lanes.
struct Ahead {
    /// The window's first 64 bits, and those behind them.
    high: __m512i,
    low: __m512i,
    /// Where the sample begins within the window's first byte.
    bit: __m512i,
    /// The 64 bits from there on.
    field: __m512i,
}

impl Ahead {
    /// The lanes whose timestamp field is wide, one bit each.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn wide(&self) -> u8 {
        _mm512_cmpge_epu64_mask(self.field, all(0b11 << 62))
    }
}

/// As [`scalar::decode_batch`].
///
/// # Safety
/// The machine has AVX-512 F, BW, DQ, VL and VBMI2.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2,bmi1,bmi2")]
pub unsafe fn decode(chunks: &[&[u8]], batch: &mut Batch) -> Result<(), (usize, Fault)> {
    // SAFETY: the caller promises the features; `lanes::decode` copied each lane's chunk.
    lanes::decode(chunks, batch, |group, batch| unsafe { decode_group(group, batch) })
}

/// Decodes a group of chunks; gives the lanes whose chunks it did not decode, one bit each.
///
/// # Safety
/// As for [`decode`]; each lane's chunk lies among the batch's copies.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2,bmi1,bmi2")]
unsafe fn decode_group(group: &Group, batch: &mut Batch) -> u32 {
    let mut pair = [Lanes::load(group.fields(0)), Lanes::load(group.fields(1))];
    let ends = [load(group.ends(0)), load(group.ends(1))];
    let lefts = [load(group.lefts(0)), load(group.lefts(1))];
    let (longest, shortest) = group.longest_and_shortest();
    let mut wide_left = lanes::wide_max(longest);
    let mut suspects = 0u32;
    let mut rows = Rows::default();
    let copies = std::mem::take(&mut batch.copies);
    let mut done = 0;
    while done < longest {
        // SAFETY: each lane is within its copy or less than `SLACK` less a window behind it, also after the
        // steps up to the next clamp.
        let mut step = unsafe { run(&mut pair, 0, &copies, &mut rows) };
        while step < STEPS {
            for lanes in &mut pair {
                // SAFETY: as above.
                wide_left = wide_left.saturating_sub(usize::from(unsafe { lanes.peek(&copies) }.wide() > 0));
                let mut fields = lanes.to_fields();
                step_alone(&mut fields, &copies);
                *lanes = Lanes::load(fields.each_ref());
            }
            rows.set(step, &pair[0], &pair[1]);
            // SAFETY: as above.
            step = unsafe { run(&mut pair, step + 1, &copies, &mut rows) };
        }
        for (half, lanes) in pair.iter_mut().enumerate() {
            suspects |= u32::from(lanes.clamp(ends[half], lefts[half], done)) << (half * LANES);
        }
        if wide_left == 0 {
            break;
        }
        rows.store(group.lanes(), done, done + STEPS <= shortest, batch);
        done += STEPS;
    }
    batch.copies = copies;
    if wide_left == 0 { u32::MAX } else { suspects }
}

/// Decodes samples of all lanes from step `from` on; gives the step at which a timestamp field is wide, or
/// [`STEPS`]. The state of both vectors stays in registers meanwhile, which is why this is no part of its caller.
///
/// # Safety
/// As for [`decode`]; 16 bytes of `copies` follow each lane's byte at each step.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2,bmi1,bmi2")]
#[inline(never)]
unsafe fn run(pair: &mut [Lanes; 2], from: usize, copies: &[u8], rows: &mut Rows) -> usize {
    let [mut low, mut high] = *pair;
    let mut step = from;
    while step < STEPS {
        // SAFETY: the caller promises it.
        let ahead = unsafe { (low.peek(copies), high.peek(copies)) };
        if ahead.0.wide() | ahead.1.wide() > 0 {
            break;
        }
        low.advance(&ahead.0);
        high.advance(&ahead.1);
        rows.set(step, &low, &high);
        step += 1;
    }
    *pair = [low, high];
    step
}

/// Decodes a sample in each lane, one lane after the other. No reference to [`Lanes`] is taken for it: they
/// would lie in memory from the first step on.
#[cold]
#[inline(never)]
fn step_alone(fields: &mut Fields<LANES>, copies: &[u8]) {
    lanes::step_alone(fields, copies);
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(lanes: &[u64; LANES]) -> __m512i {
    // SAFETY: the array is 64 readable bytes.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn lanes_of(vector: __m512i) -> [u64; LANES] {
    let mut lanes = [0; LANES];
    // SAFETY: the array is 64 writable bytes.
    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), vector) };
    lanes
}

#[target_feature(enable = "avx512f")]
#[inline]
fn all(value: i64) -> __m512i {
    _mm512_set1_epi64(value)
}

impl Lanes {
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn load(fields: [&[u64; LANES]; 6]) -> Self {
        let [at, time, delta, value, unused, below] = fields.map(|field| load(field));
        Self { at, time, delta, value, unused, below }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn to_fields(self) -> Fields<LANES> {
        [self.at, self.time, self.delta, self.value, self.unused, self.below].map(|field| lanes_of(field))
    }

    /// The 128 bits from each lane's byte on, as their higher and lower halves.
    ///
    /// # Safety
    /// 16 bytes of `copies` follow each lane's byte.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    #[inline]
    unsafe fn windows(&self, copies: &[u8]) -> (__m512i, __m512i) {
        let bytes = _mm512_srli_epi64::<3>(self.at);
        // The indexes come back from memory, as loads have more room than shuffles. A store of all 64 bytes is
        // not forwarded to loads of its upper half by each machine, those of two halves are; without volatile
        // ones the compiler takes the indexes out of the register.
        let mut halves = [const { Half([0; LANES / 2]) }; 2];
        for (half, vector) in
            halves.iter_mut().zip([_mm512_castsi512_si256(bytes), _mm512_extracti64x4_epi64::<1>(bytes)])
        {
            // SAFETY: a half is 32 writable bytes, aligned as the vector.
            unsafe { (&raw mut *half).cast::<__m256i>().write_volatile(vector) };
        }
        let byte = |lane: usize| {
            let index = &raw const halves[lane / (LANES / 2)].0[lane % (LANES / 2)];
            // SAFETY: it was written above.
            unsafe { index.read_volatile() }
        };
        // SAFETY: the caller promises 16 bytes behind each lane's byte.
        let window = |lane: usize| unsafe { _mm_loadu_si128(copies.as_ptr().add(byte(lane) as usize).cast()) };
        let four = |first: usize| {
            let mut four = _mm512_castsi128_si512(window(first));
            four = _mm512_inserti64x2::<1>(four, window(first + 2));
            four = _mm512_inserti64x2::<2>(four, window(first + 4));
            _mm512_inserti64x2::<3>(four, window(first + 6))
        };
        let (even, odd) = (four(0), four(1));
        let swap = _mm512_set4_epi32(0x0809_0a0b, 0x0c0d_0e0f, 0x0001_0203, 0x0405_0607);
        let (even, odd) = (_mm512_shuffle_epi8(even, swap), _mm512_shuffle_epi8(odd, swap));
        (_mm512_unpacklo_epi64(even, odd), _mm512_unpackhi_epi64(even, odd))
    }

    /// What comes next in each lane.
    ///
    /// # Safety
    /// 16 bytes of `copies` follow each lane's byte.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2")]
    #[inline]
    unsafe fn peek(&self, copies: &[u8]) -> Ahead {
        // SAFETY: the caller promises what `windows` asks for.
        let (high, low) = unsafe { self.windows(copies) };
        let bit = _mm512_and_si512(self.at, all(7));
        Ahead { high, low, bit, field: _mm512_shldv_epi64(high, low, bit) }
    }

    /// Decodes a sample in each lane; none has a wide timestamp field.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi2")]
    #[inline]
    fn advance(&mut self, ahead: &Ahead) {
        let Ahead { high, low, bit, field } = *ahead;
        let two_ones = all(0b11 << 62);
        let has_dod = _mm512_movepi64_mask(field);
        let negated = _mm512_sub_epi64(all((1 << 50) - 1), _mm512_slli_epi64::<2>(field));
        self.delta = _mm512_mask_sub_epi64(self.delta, has_dod, self.delta, _mm512_srai_epi64::<50>(negated));
        self.time = _mm512_add_epi64(self.time, self.delta);

        let dod_len = _mm512_mask_blend_epi64(has_dod, all(1), all(16));
        let control = _mm512_sllv_epi64(field, dod_len);
        let changed = _mm512_movepi64_mask(control);
        let new_window = _mm512_cmpge_epu64_mask(control, two_ones);
        let above = _mm512_and_si512(_mm512_srli_epi64::<57>(control), all(31));
        let width_negated = _mm512_sub_epi64(_mm512_setzero_si512(), _mm512_srli_epi64::<51>(control));
        let unused = _mm512_and_si512(width_negated, all(63));
        self.unused = _mm512_mask_mov_epi64(self.unused, new_window, unused);
        self.below = _mm512_mask_sub_epi64(self.below, new_window, unused, above);

        let mut len = _mm512_add_epi64(dod_len, all(1));
        len = _mm512_mask_add_epi64(len, changed, len, all(1));
        len = _mm512_mask_add_epi64(len, new_window, len, all(11));
        let payload = _mm512_shldv_epi64(high, low, _mm512_add_epi64(bit, len));
        let payload = _mm512_sllv_epi64(_mm512_srlv_epi64(payload, self.unused), self.below);
        self.value = _mm512_mask_xor_epi64(self.value, changed, self.value, payload);
        let after = _mm512_add_epi64(self.at, len);
        let width = _mm512_sub_epi64(all(64), self.unused);
        self.at = _mm512_mask_add_epi64(after, changed, after, width);
    }

    /// Moves lanes that are behind their ends back to them; gives those that may have needed more
    /// than there was for one of their own samples. `done` samples were decoded before the last
    /// steps, and `lefts` are to be decoded in all.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn clamp(&mut self, ends: __m512i, lefts: __m512i, done: usize) -> u8 {
        // Steps that went on behind the lane's last sample took at least two bits each, and exactly
        // two where only zeros followed.
        let steps_end = all((done + STEPS) as i64);
        let own_end = _mm512_min_epu64(lefts, steps_end);
        let beyond = _mm512_min_epu64(_mm512_sub_epi64(steps_end, own_end), all(STEPS as i64));
        let most = _mm512_add_epi64(ends, _mm512_slli_epi64::<1>(beyond));
        let suspects = _mm512_cmpgt_epu64_mask(self.at, most);
        self.at = _mm512_min_epu64(self.at, ends);
        suspects
    }
}

/// The samples of the last steps: a row for each step.
struct Rows {
    times: [[[u64; LANES]; STEPS]; 2],
    values: [[[u64; LANES]; STEPS]; 2],
}

impl Default for Rows {
    fn default() -> Self {
        Self { times: [[[0; LANES]; STEPS]; 2], values: [[[0; LANES]; STEPS]; 2] }
    }
}

impl Rows {
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn set(&mut self, step: usize, low: &Lanes, high: &Lanes) {
        self.times[0][step] = lanes_of(low.time);
        self.times[1][step] = lanes_of(high.time);
        self.values[0][step] = lanes_of(low.value);
        self.values[1][step] = lanes_of(high.value);
    }

    /// Stores the rows to the columns of each lane, from its sample number `done` on. With `whole` there are
    /// sixteen lanes, and each has room for all steps.
    #[target_feature(enable = "avx512f")]
    fn store(&self, group: &[Lane], done: usize, whole: bool, batch: &mut Batch) {
        for (half, lanes) in group.chunks(LANES).enumerate() {
            match lanes.first_chunk() {
                Some(lanes) if whole => self.store_whole(half, lanes, done, batch),
                _ => self.store_part(half, lanes, done, batch),
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn store_whole(&self, half: usize, lanes: &[Lane; LANES], done: usize, batch: &mut Batch) {
        let times = transpose(&self.times[half]);
        for (lane, time) in lanes.iter().zip(times) {
            let slots = &mut batch.times[lane.start + done..][..STEPS];
            // SAFETY: eight places are 64 writable bytes.
            unsafe { _mm512_storeu_si512(slots.as_mut_ptr().cast(), time) };
        }
        let values = transpose(&self.values[half]);
        for (lane, value) in lanes.iter().zip(values) {
            let slots = &mut batch.values[lane.start + done..][..STEPS];
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(slots.as_mut_ptr().cast(), value) };
        }
    }

    #[target_feature(enable = "avx512f")]
    fn store_part(&self, half: usize, lanes: &[Lane], done: usize, batch: &mut Batch) {
        let times = transpose(&self.times[half]);
        let values = transpose(&self.values[half]);
        for (lane, (time, value)) in lanes.iter().zip(times.iter().zip(&values)) {
            let room = lane.left.saturating_sub(done).min(STEPS);
            if room == 0 {
                continue;
            }
            let start = lane.start + done;
            let time_slots = &mut batch.times[start..start + room];
            let value_slots = &mut batch.values[start..start + room];
            let mask = (0xffu16 >> (STEPS - room)) as u8;
            // SAFETY: the mask has as many bits as `time_slots` has places.
            unsafe { _mm512_mask_storeu_epi64(time_slots.as_mut_ptr(), mask, *time) };
            // SAFETY: the mask has as many bits as `value_slots` has places.
            unsafe { _mm512_mask_storeu_epi64(value_slots.as_mut_ptr().cast(), mask, *value) };
        }
    }
}

/// Rows of eight lanes to lanes of eight rows.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose(rows: &[[u64; LANES]; STEPS]) -> [__m512i; LANES] {
    // SAFETY: a row is 64 readable bytes.
    let row = |at: usize| unsafe { _mm512_loadu_si512(rows[at].as_ptr().cast()) };
    let even = |pair: usize| _mm512_unpacklo_epi64(row(2 * pair), row(2 * pair + 1));
    let odd = |pair: usize| _mm512_unpackhi_epi64(row(2 * pair), row(2 * pair + 1));
    let quads = |first: __m512i, second: __m512i, third: __m512i, fourth: __m512i| {
        let (low_02, low_13) = (
            _mm512_shuffle_i64x2::<0b10_00_10_00>(first, second),
            _mm512_shuffle_i64x2::<0b11_01_11_01>(first, second),
        );
        let (high_02, high_13) = (
            _mm512_shuffle_i64x2::<0b10_00_10_00>(third, fourth),
            _mm512_shuffle_i64x2::<0b11_01_11_01>(third, fourth),
        );
        [
            _mm512_shuffle_i64x2::<0b10_00_10_00>(low_02, high_02),
            _mm512_shuffle_i64x2::<0b10_00_10_00>(low_13, high_13),
            _mm512_shuffle_i64x2::<0b11_01_11_01>(low_02, high_02),
            _mm512_shuffle_i64x2::<0b11_01_11_01>(low_13, high_13),
        ]
    };
    let evens = quads(even(0), even(1), even(2), even(3));
    let odds = quads(odd(0), odd(1), odd(2), odd(3));
    [evens[0], odds[0], evens[1], odds[1], evens[2], odds[2], evens[3], odds[3]]
}
