//! Eight samples side by side, but for two things that depend on the sample before: the window of its
//! payload, and the byte in which it begins.
//!
//! ```text
//! 1  zeros above and below the payloads       eight at once
//! 2  windows                                  one by one: the one before, or the sample's own zeros
//! 3  fields, their lengths and their places   eight at once
//! 4  sample i     byte p    carried bits │ fields … │ zeros    one by one: written, and carried from the byte
//!    sample i+1   byte p+n            carried bits │ fields …  in which the fields have ended, their byte n
//! ```
//! A sample whose timestamp field is wide is the scalar twin's, between those before and those after it. Samples
//! among which nothing changes are zeros.

use std::arch::x86_64::{
    __m512i, _mm_cvtsi32_si128, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_or_si128, _mm_shuffle_epi8, _mm_storeu_si128,
    _mm512_add_epi64, _mm512_alignr_epi64, _mm512_and_si512, _mm512_castsi512_si128, _mm512_cmplt_epu64_mask,
    _mm512_cmpneq_epi64_mask, _mm512_lzcnt_epi64, _mm512_mask_blend_epi64, _mm512_mask_mov_epi64,
    _mm512_maskz_loadu_epi64, _mm512_maskz_mov_epi64, _mm512_maskz_sllv_epi64, _mm512_maskz_sub_epi64,
    _mm512_min_epu64, _mm512_or_si512, _mm512_permutex2var_epi64, _mm512_permutexvar_epi64, _mm512_set1_epi64,
    _mm512_set4_epi32, _mm512_setr_epi64, _mm512_setzero_si512, _mm512_shrdv_epi64, _mm512_shuffle_epi8,
    _mm512_slli_epi64, _mm512_sllv_epi64, _mm512_srli_epi64, _mm512_srlv_epi64, _mm512_storeu_si512, _mm512_sub_epi64,
    _mm512_test_epi64_mask, _mm512_xor_si512,
};
use std::hint::select_unpredictable;
use std::mem::MaybeUninit;

use super::{RUN, Window, scalar};

/// Samples of a vector.
const LANES: usize = 8;

/// Wide timestamp fields of a run beyond which all of it is the scalar twin's: each costs as much to go around as
/// half a dozen samples take there.
const WIDE_MAX: u32 = 8;

/// Zeros above a payload from bit 32 on, zeros below it from bit 0 on, and a bit above each for a borrow.
type Zeros = u64;
const BORROWS: Zeros = 1 << 63 | 1 << 31;
/// More than any window has: those of a value that is the one before.
const SAME: Zeros = 0xffff << 32 | 0xffff;

/// What a run of samples adds, and where.
struct Fields {
    /// Sixteen bytes of each sample, most significant first: zeros where those before end, its fields, zeros.
    bytes: [[MaybeUninit<u64>; 2]; RUN],
    /// The byte of the output in which each begins.
    starts: [MaybeUninit<u64>; RUN],
    /// The byte of its own in which each ends.
    ends: [MaybeUninit<u64>; RUN],
}

/// For each number a shuffle that moves the byte of that number to the front, and clears the others.
static TO_FRONT: [[u8; 16]; 16] = {
    let mut shuffles = [[0x80; 16]; 16];
    let mut at = 0;
    while at < 16 {
        shuffles[at][0] = at as u8;
        at += 1;
    }
    shuffles
};

/// As [`scalar::put`].
///
/// # Safety
/// The machine has AVX-512 F, BW, CD, DQ, VL and VBMI2; there are two times more than samples and one value,
/// no more samples than a run has, and in `out` there is the room that [`super::put`] asks for.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vbmi2,bmi1,bmi2,lzcnt,popcnt")]
pub unsafe fn put(times: &[i64], values: &[f64], window: Window, (out, bit): (&mut [u8], usize)) -> (usize, Window) {
    let samples = values.len() - 1;
    let (zeros, mut wide, is_constant) = survey(times, values);
    if wide.count_ones() > WIDE_MAX {
        return scalar::put(times, values, window, (out, bit));
    }
    if is_constant {
        return (zero_fill(2 * samples, (out, bit)), window);
    }
    let mut windows = [MaybeUninit::uninit(); RUN + 1];
    // SAFETY: the zeros of all samples were found.
    let last = unsafe { follow_windows(&zeros[..samples], window, &mut windows) };
    let mut fields = Fields::NONE;
    let (mut start, mut bit) = (0, bit);
    loop {
        let end = (wide.trailing_zeros() as usize).min(samples);
        if start < end {
            let (times, values) = (&times[start..end + 2], &values[start..=end]);
            // SAFETY: the windows of all samples were followed.
            let behind = unsafe { fields.fill(times, values, &windows[start..=end], bit) };
            // SAFETY: the fields of these samples were made; each starts within the room of all, behind which
            // there are sixteen bytes.
            unsafe { fields.place(end - start, bit, out) };
            bit = behind;
        }
        if end == samples {
            return (bit, window_of(last));
        }
        // SAFETY: the windows of all samples were followed.
        let before = window_of(unsafe { windows[end].assume_init() });
        (bit, _) = scalar::put(&times[end..end + 3], &values[end..end + 2], before, (out, bit));
        start = end + 1;
        wide &= wide - 1;
    }
}

/// The window whose zeros are these.
#[inline(always)]
fn window_of(zeros: Zeros) -> Window {
    Window { above: (zeros >> 32) as u8, below: zeros as u8 }
}

/// Writes `len` zeros; gives the bit behind them.
fn zero_fill(len: usize, (out, bit): (&mut [u8], usize)) -> usize {
    out[bit / 8] &= !(0xff >> (bit % 8));
    out[bit / 8 + 1..(bit + len).div_ceil(8)].fill(0);
    bit + len
}

/// The zeros of all samples, a bit for each whose timestamp field is wide, and whether none differs from the one
/// before it.
#[target_feature(enable = "avx512f,avx512cd,avx512dq,bmi2")]
#[inline]
fn survey(times: &[i64], values: &[f64]) -> ([MaybeUninit<Zeros>; RUN], u64, bool) {
    let mut zeros = [MaybeUninit::uninit(); RUN];
    let (mut wide, mut changed) = (0, _mm512_setzero_si512());
    let starts = (0..values.len() - 1).step_by(LANES);
    for (start, zeros) in starts.zip(zeros.as_chunks_mut::<LANES>().0) {
        let (change, xor) = changes(times, values, start);
        let narrow = _mm512_cmplt_epu64_mask(_mm512_add_epi64(change, all(8191)), all(1 << 14));
        wide |= u64::from(!narrow) << start;
        changed = _mm512_or_si512(changed, _mm512_or_si512(change, xor));
        let above = _mm512_min_epu64(_mm512_lzcnt_epi64(xor), all(31));
        let lowest = _mm512_and_si512(xor, _mm512_sub_epi64(_mm512_setzero_si512(), xor));
        let below = _mm512_sub_epi64(all(63), _mm512_lzcnt_epi64(lowest));
        let both = _mm512_or_si512(_mm512_slli_epi64::<32>(above), below);
        let both = _mm512_mask_mov_epi64(all(SAME as i64), _mm512_test_epi64_mask(xor, xor), both);
        // SAFETY: eight places are 64 writable bytes.
        unsafe { _mm512_storeu_si512(zeros.as_mut_ptr().cast(), both) };
    }
    (zeros, wide, _mm512_test_epi64_mask(changed, changed) == 0)
}

/// Of eight samples from number `start` on, or as many as there are, how the difference of the time differs
/// from the one before, and the bits in which the value differs; zeros for the others.
#[target_feature(enable = "avx512f")]
#[inline]
fn changes(times: &[i64], values: &[f64], start: usize) -> (__m512i, __m512i) {
    let count = (values.len() - 1 - start).min(LANES);
    let (times, values) = (&times[start..start + count + 2], &values[start..=start + count]);
    let lanes = first_lanes(count);
    // SAFETY: from each of the first three on there is a time for each bit of `lanes`.
    let time = |at: usize| unsafe { _mm512_maskz_loadu_epi64(lanes, times[at..].as_ptr()) };
    // SAFETY: from each of the first two on there is a value for each bit of `lanes`.
    let value = |at: usize| unsafe { _mm512_maskz_loadu_epi64(lanes, values[at..].as_ptr().cast()) };
    let last = time(1);
    let change = _mm512_sub_epi64(_mm512_sub_epi64(time(2), last), _mm512_sub_epi64(last, time(0)));
    (change, _mm512_xor_si512(value(1), value(0)))
}

/// The windows behind samples that have these `zeros`, behind the one before them; gives the last one.
///
/// # Safety
/// The zeros are there.
#[inline(always)]
unsafe fn follow_windows(
    zeros: &[MaybeUninit<Zeros>],
    before: Window,
    windows: &mut [MaybeUninit<Zeros>; RUN + 1],
) -> Zeros {
    let [first, windows @ ..] = windows;
    let mut now = u64::from(before.above) << 32 | u64::from(before.below);
    first.write(now);
    for (zeros, window) in zeros.iter().zip(windows) {
        // SAFETY: as the caller says.
        let zeros = unsafe { zeros.assume_init() };
        let fits = (zeros | BORROWS).wrapping_sub(now) & BORROWS == BORROWS;
        now = select_unpredictable(fits, now, zeros);
        window.write(now);
    }
    now
}

impl Fields {
    const NONE: Self = Self {
        bytes: [[MaybeUninit::uninit(); 2]; RUN],
        starts: [MaybeUninit::uninit(); RUN],
        ends: [MaybeUninit::uninit(); RUN],
    };

    /// Makes those of all samples, from the bit number `bit` on; gives the bit behind them.
    ///
    /// # Safety
    /// The windows of all samples are there, behind the one before them.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vbmi2")]
    #[inline]
    unsafe fn fill(&mut self, times: &[i64], values: &[f64], windows: &[MaybeUninit<Zeros>], bit: usize) -> usize {
        let mut end = all(bit as i64);
        for start in (0..values.len() - 1).step_by(LANES) {
            let (change, xor) = changes(times, values, start);
            let lanes = first_lanes(values.len() - 1 - start);
            let (before, window) = (&windows[start..], &windows[start + 1..]);
            // SAFETY: there is a window of each sample, and a sample for each bit of `lanes`.
            let before = unsafe { _mm512_maskz_loadu_epi64(lanes, before.as_ptr().cast()) };
            // SAFETY: as above.
            let window = unsafe { _mm512_maskz_loadu_epi64(lanes, window.as_ptr().cast()) };
            let (high, low, len) = fields(change, xor, (before, window));
            let ends = _mm512_add_epi64(end, running_sum(len));
            let last = (values.len() - 2 - start).min(LANES - 1);
            end = _mm512_permutexvar_epi64(all(last as i64), ends);
            let begins = _mm512_sub_epi64(ends, len);
            let within = _mm512_and_si512(begins, all(7));
            let swap = _mm512_set4_epi32(0x0809_0a0b, 0x0c0d_0e0f, 0x0001_0203, 0x0405_0607);
            let first = _mm512_shuffle_epi8(_mm512_srlv_epi64(high, within), swap);
            let second = _mm512_shuffle_epi8(_mm512_shrdv_epi64(low, high, within), swap);
            let lower = _mm512_permutex2var_epi64(first, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), second);
            let upper = _mm512_permutex2var_epi64(first, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), second);
            let starts = _mm512_srli_epi64::<3>(begins);
            let own_ends = _mm512_sub_epi64(_mm512_srli_epi64::<3>(ends), starts);
            let bytes = &mut self.bytes[start..][..LANES];
            // SAFETY: four places are 64 writable bytes.
            unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), lower) };
            // SAFETY: so are the four behind them.
            unsafe { _mm512_storeu_si512(bytes[LANES / 2..].as_mut_ptr().cast(), upper) };
            // SAFETY: eight places are 64 writable bytes.
            unsafe { _mm512_storeu_si512(self.starts[start..][..LANES].as_mut_ptr().cast(), starts) };
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(self.ends[start..][..LANES].as_mut_ptr().cast(), own_ends) };
        }
        _mm_cvtsi128_si64(_mm512_castsi512_si128(end)) as usize
    }

    /// Writes those of `samples` to `out` from its bit number `bit` on.
    ///
    /// # Safety
    /// They were made, and sixteen bytes can be written from the start of each sample on.
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn place(&self, samples: usize, bit: usize, out: &mut [u8]) {
        let mut carried = _mm_cvtsi32_si128(i32::from(out[bit / 8] & !(0xff >> (bit % 8))));
        let parts = self.bytes.iter().zip(&self.starts).zip(&self.ends).take(samples);
        for ((bytes, start), own_end) in parts {
            // SAFETY: as the caller says.
            let (start, own_end) = unsafe { (start.assume_init() as usize, own_end.assume_init() as usize) };
            // SAFETY: two integers that were made are sixteen readable bytes.
            let bytes = _mm_or_si128(carried, unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
            // SAFETY: as the caller says.
            unsafe { _mm_storeu_si128(out.as_mut_ptr().add(start).cast(), bytes) };
            // SAFETY: fields and the bits before them are at most 100 bits: there is a shuffle for each end.
            let shuffle = unsafe { _mm_loadu_si128(TO_FRONT.as_ptr().add(own_end).cast()) };
            carried = _mm_shuffle_epi8(bytes, shuffle);
        }
    }
}

/// The fields of eight samples, left-aligned in 128 bits, and their lengths; `window` are the windows behind
/// them, `before` those before.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn fields(change: __m512i, xor: __m512i, (before, window): (__m512i, __m512i)) -> (__m512i, __m512i, __m512i) {
    let moved = _mm512_test_epi64_mask(change, change);
    let time = _mm512_or_si512(_mm512_and_si512(change, all(0x3fff)), all(0b10 << 14));
    let time = _mm512_maskz_mov_epi64(moved, time);
    let time_len = _mm512_mask_blend_epi64(moved, all(1), all(16));
    let differs = _mm512_test_epi64_mask(xor, xor);
    let opened = _mm512_cmpneq_epi64_mask(before, window);
    let (above, below) = (_mm512_srli_epi64::<32>(window), _mm512_and_si512(window, all(0xff)));
    let width = _mm512_maskz_sub_epi64(differs, all(64), _mm512_add_epi64(above, below));
    let opening = _mm512_or_si512(_mm512_slli_epi64::<6>(above), _mm512_and_si512(width, all(63)));
    let control = _mm512_maskz_mov_epi64(differs, all(0b10));
    let control = _mm512_mask_mov_epi64(control, opened, _mm512_or_si512(opening, all(0b11 << 11)));
    let control_len = _mm512_mask_blend_epi64(differs, all(1), all(2));
    let control_len = _mm512_mask_mov_epi64(control_len, opened, all(13));
    let head = _mm512_or_si512(_mm512_sllv_epi64(time, control_len), control);
    let head_len = _mm512_add_epi64(time_len, control_len);
    let rest = _mm512_sub_epi64(all(64), head_len);
    // With the zeros below it behind it.
    let payload = _mm512_maskz_sllv_epi64(differs, xor, above);
    let high = _mm512_or_si512(_mm512_sllv_epi64(head, rest), _mm512_srlv_epi64(payload, head_len));
    (high, _mm512_sllv_epi64(payload, rest), _mm512_add_epi64(head_len, width))
}

/// For each lane the sum of those up to it.
#[target_feature(enable = "avx512f")]
#[inline]
fn running_sum(lanes: __m512i) -> __m512i {
    let zero = _mm512_setzero_si512();
    let sum = _mm512_add_epi64(lanes, _mm512_alignr_epi64::<7>(lanes, zero));
    let sum = _mm512_add_epi64(sum, _mm512_alignr_epi64::<6>(sum, zero));
    _mm512_add_epi64(sum, _mm512_alignr_epi64::<4>(sum, zero))
}

/// The first `count` lanes, and at most all, a bit each.
#[inline(always)]
fn first_lanes(count: usize) -> u8 {
    (0xffu16 >> (LANES - count.min(LANES))) as u8
}

#[target_feature(enable = "avx512f")]
#[inline]
fn all(value: i64) -> __m512i {
    _mm512_set1_epi64(value)
}
