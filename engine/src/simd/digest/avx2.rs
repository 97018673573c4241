//! A round an instruction.

use std::arch::x86_64::{__m128i, _mm_aesenc_si128, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_set_epi64x, _mm_xor_si128};

use super::xxh3::{self, FIRST_PIECES, SECRET};
use super::{Key, LANE, STRIPE};

/// As [`super::scalar::digest`].
#[inline]
#[target_feature(enable = "avx2,aes")]
pub fn digest(Key(key): &Key, bytes: &[u8]) -> u64 {
    let key = key.each_ref().map(load);
    let mut lanes = begin(&key, bytes.len());
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
    finish(&lanes, &key)
}

/// As [`super::xxh3::hash`] and [`super::scalar::digest`], of bytes as many as [`xxh3::MIDDLE`] says: two stripes
/// and at most two more.
#[target_feature(enable = "avx2,aes")]
pub fn with_hash(Key(key): &Key, bytes: &[u8]) -> (u64, u64) {
    const _: () = assert!(FIRST_PIECES * LANE == 2 * STRIPE && *xxh3::MIDDLE.end() <= 4 * STRIPE);
    let key = key.each_ref().map(load);
    let mut lanes = begin(&key, bytes.len());
    let (mut rest, mut first, mut others) = (bytes, 0u64, 0u64);
    for secret in SECRET[..FIRST_PIECES].chunks(STRIPE / LANE) {
        if let Some((stripe, behind)) = rest.split_first_chunk::<STRIPE>() {
            first = first.wrapping_add(xxh3::sum(stripe, secret));
            absorb(&mut lanes, stripe, &key);
            rest = behind;
        }
    }
    let mut secret = &SECRET[FIRST_PIECES..];
    if let Some((stripe, behind)) = rest.split_first_chunk::<STRIPE>()
        && !behind.is_empty()
    {
        others = xxh3::sum(stripe, secret);
        absorb(&mut lanes, stripe, &key);
        (rest, secret) = (behind, &secret[STRIPE / LANE..]);
    }
    others = others.wrapping_add(xxh3::sum_of_few(rest, secret));
    if let Some(last) = bytes.last_chunk::<STRIPE>() {
        absorb(&mut lanes, last, &key);
    }
    (xxh3::finish(bytes, first, others), finish(&lanes, &key))
}

#[inline]
#[target_feature(enable = "avx2,aes")]
fn begin(key: &[__m128i; 8], len: usize) -> [__m128i; 4] {
    let len = _mm_xor_si128(key[0], _mm_set_epi64x(0, len as i64));
    [_mm_aesenc_si128(_mm_aesenc_si128(len, key[4]), key[5]), key[1], key[2], key[3]]
}

#[inline]
#[target_feature(enable = "avx2,aes")]
fn finish(lanes: &[__m128i; 4], key: &[__m128i; 8]) -> u64 {
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
