//! Checksums on machines without AVX-512, of blocks about as long as a chunk.
//!
//! ```text
//! first third ──> crc ─ times x^(bits behind it) ─┐
//! second third ─> crc ─ times x^(bits behind it) ─┼─ xor ─> crc of all three
//! last third ───> crc ────────────────────────────┘
//! ```
//! The instruction for eight bytes gives its answer after three cycles and may start in each, so three of them
//! are under way at once.

use std::arch::x86_64::{
    _mm_clmulepi64_si128, _mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64, _mm_cvtsi64_si128, _mm_cvtsi128_si64,
};

/// Bytes of an instruction.
const WORD: usize = 8;
/// Words that a checksum can be moved by, and one more.
const SHIFTS: usize = 128;
/// Words of a third at most: the first is moved by two.
const THIRD_MAX: usize = (SHIFTS - 1) / 2;
/// The polynomial, its lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What moves a checksum by so many words: `x^(64 words - 33)`, as the product without carries of two numbers
/// in this order of bits is short of one power, and the instruction adds 32.
static SHIFT: [u32; SHIFTS] = {
    let mut powers = [0; SHIFTS];
    let (mut power, mut exponent) = (1u32 << 31, 0);
    let mut words = 1;
    while words < SHIFTS {
        while exponent < 64 * words - 33 {
            power = (power >> 1) ^ (POLYNOMIAL & (power & 1).wrapping_neg());
            exponent += 1;
        }
        powers[words] = power;
        words += 1;
    }
    powers
};

/// As [`super::crc32c_scalar`].
///
/// # Safety
/// The machine has SSE4.2 and PCLMULQDQ.
#[target_feature(enable = "sse4.2,pclmulqdq")]
pub unsafe fn crc32c(bytes: &[u8]) -> u32 {
    let (mut crc, mut rest) = (u64::from(!0u32), bytes);
    while rest.len() >= 3 * WORD {
        let words = (rest.len() / (3 * WORD)).min(THIRD_MAX);
        let (block, behind) = rest.split_at(3 * words * WORD);
        crc = thirds(crc, block, words);
        rest = behind;
    }
    let (words, mut rest) = rest.as_chunks::<WORD>();
    for word in words {
        crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
    }
    let mut crc = crc as u32;
    if let Some((half, behind)) = rest.split_first_chunk() {
        crc = _mm_crc32_u32(crc, u32::from_le_bytes(*half));
        rest = behind;
    }
    for byte in rest {
        crc = _mm_crc32_u8(crc, *byte);
    }
    !crc
}

/// The checksum behind `block`, which is three times `words` long, of one that was `crc` before.
#[target_feature(enable = "sse4.2,pclmulqdq")]
#[inline]
fn thirds(mut crc: u64, block: &[u8], words: usize) -> u64 {
    let (first, behind) = block.as_chunks::<WORD>().0.split_at(words);
    let (second, third) = behind.split_at(words);
    let (mut second_crc, mut third_crc) = (0, 0);
    for ((first, second), third) in first.iter().zip(second).zip(third) {
        crc = _mm_crc32_u64(crc, u64::from_le_bytes(*first));
        second_crc = _mm_crc32_u64(second_crc, u64::from_le_bytes(*second));
        third_crc = _mm_crc32_u64(third_crc, u64::from_le_bytes(*third));
    }
    moved(crc, 2 * words) ^ moved(second_crc, words) ^ third_crc
}

/// The checksum behind `words` words of zeros.
#[target_feature(enable = "sse4.2,pclmulqdq")]
#[inline]
fn moved(crc: u64, words: usize) -> u64 {
    let power = _mm_cvtsi64_si128(i64::from(SHIFT[words]));
    let product = _mm_clmulepi64_si128::<0>(_mm_cvtsi64_si128(crc as i64), power);
    _mm_crc32_u64(0, _mm_cvtsi128_si64(product) as u64)
}
