//! A round an instruction.

use std::arch::x86_64::{__m128i, _mm_aesenc_si128, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_set_epi64x, _mm_xor_si128};

use super::{Key, LANE, STRIPE};

/// As [`super::scalar::digest`].
#[inline]
#[target_feature(enable = "avx2,aes")]
pub fn digest(Key(key): &Key, bytes: &[u8]) -> u64 {
    let key = key.each_ref().map(load);
    let mut lanes = [key[0], key[1], key[2], key[3]];
    let len = _mm_xor_si128(lanes[0], _mm_set_epi64x(0, bytes.len() as i64));
    lanes[0] = _mm_aesenc_si128(_mm_aesenc_si128(len, key[4]), key[5]);
    match bytes.last_chunk::<STRIPE>() {
        Some(last) => {
            let mut rest = bytes;
            while let Some((stripe, behind)) = rest.split_first_chunk::<STRIPE>()
                && !behind.is_empty()
            {
                absorb(&mut lanes, stripe, &key);
                rest = behind;
            }
            absorb(&mut lanes, last, &key);
        }
        None => {
            let mut padded = [0; STRIPE];
            padded[..bytes.len()].copy_from_slice(bytes);
            absorb(&mut lanes, &padded, &key);
        }
    }
    let left = _mm_aesenc_si128(_mm_aesenc_si128(lanes[0], lanes[1]), key[6]);
    let right = _mm_aesenc_si128(_mm_aesenc_si128(lanes[2], lanes[3]), key[7]);
    let both = _mm_aesenc_si128(_mm_aesenc_si128(_mm_aesenc_si128(left, right), key[6]), key[7]);
    _mm_cvtsi128_si64(both) as u64
}

#[inline]
#[target_feature(enable = "avx2,aes")]
fn absorb(lanes: &mut [__m128i; 4], stripe: &[u8; STRIPE], key: &[__m128i; 8]) {
    for (lane, piece) in lanes.iter_mut().zip(stripe.as_chunks::<LANE>().0) {
        let mixed = _mm_xor_si128(*lane, load(piece));
        *lane = _mm_aesenc_si128(_mm_aesenc_si128(mixed, key[4]), key[5]);
    }
}

#[inline(always)]
fn load(lane: &[u8; LANE]) -> __m128i {
    // SAFETY: sixteen bytes can be read at a lane; the load asks for no alignment; SSE2 is part of x86-64.
    unsafe { _mm_loadu_si128(lane.as_ptr().cast()) }
}
