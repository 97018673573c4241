//! XXH3 of 64 bits. Bytes of a length that the labels of most series have are hashed here, where the crate takes
//! half as long again: its compiled loop loads bytes and secret word by word.

use std::ops::RangeInclusive;

use xxhash_rust::xxh3::xxh3_64;

use super::LANE;

/// Lengths of which the labels of most series are, and for which XXH3 has a way of its own.
pub const MIDDLE: RangeInclusive<usize> = 129..=240;

/// Pieces that XXH3 adds up before it stirs what it has.
pub const FIRST_PIECES: usize = 8;

/// Words of XXH3's secret for each piece.
pub const SECRET: [[u64; 2]; 15] = [
    [0xbe4b_a423_396c_feb8, 0x1cad_21f7_2c81_017c],
    [0xdb97_9083_e96d_d4de, 0x1f67_b3b7_a4a4_4072],
    [0x78e5_c0cc_4ee6_79cb, 0x2172_ffcc_7dd0_5a82],
    [0x8e24_43f7_7446_08b8, 0x4c26_3a81_e690_35e0],
    [0xcb00_c391_bb52_283c, 0xa32e_531b_8b65_d088],
    [0x4ef9_0da2_9748_6471, 0xd8ac_dea9_46ef_1938],
    [0x3f34_9ce3_3f76_faa8, 0x1d4f_0bc7_c7bb_dcf9],
    [0x3159_b4cd_4be0_518a, 0x6473_78d9_c97e_9fc8],
    [0x8101_7cbe_4ba4_2339, 0x6dd4_de1c_ad21_f72c],
    [0xa440_72db_9790_83e9, 0xe679_cb1f_67b3_b7a4],
    [0xd05a_8278_e5c0_cc4e, 0x4608_b821_72ff_cc7d],
    [0x9035_e08e_2443_f774, 0x5228_3c4c_263a_81e6],
    [0x65d0_88cb_00c3_91bb, 0x4864_71a3_2e53_1b8b],
    [0xef19_384e_f90d_a297, 0x76fa_a8d8_acde_a946],
    [0xbbdc_f93f_349c_e33f, 0xe051_8a1d_4f0b_c7c7],
];

/// Words of XXH3's secret for the last piece.
const SECRET_LAST: [u64; 2] = [0x7378_d9c9_7e9f_c831, 0xebd3_3483_acc5_ea64];

/// The hash of `bytes`.
#[inline]
pub fn hash(bytes: &[u8]) -> u64 {
    if !MIDDLE.contains(&bytes.len()) {
        return xxh3_64(bytes);
    }
    let (first, others) = bytes.split_at(FIRST_PIECES * LANE);
    finish(bytes, sum(first, &SECRET), sum(others, &SECRET[FIRST_PIECES..]))
}

/// The sum of the whole pieces of `bytes`, mixed with as many words of the secret.
#[inline(always)]
pub fn sum(bytes: &[u8], secret: &[[u64; 2]]) -> u64 {
    let pieces = bytes.as_chunks::<LANE>().0;
    pieces.iter().zip(secret).fold(0u64, |sum, (piece, secret)| sum.wrapping_add(mixed(piece, *secret)))
}

/// As [`sum`], of at most four pieces, each on its own: a loop over as many as there are would go on vectors, which
/// have no such products.
#[inline(always)]
pub fn sum_of_few(bytes: &[u8], secret: &[[u64; 2]]) -> u64 {
    let pieces = bytes.as_chunks::<LANE>().0;
    let product = |at: usize| match (pieces.get(at), secret.get(at)) {
        (Some(piece), Some(secret)) => mixed(piece, *secret),
        _ => 0,
    };
    product(0).wrapping_add(product(1)).wrapping_add(product(2)).wrapping_add(product(3))
}

/// The hash of `bytes`, as many as [`MIDDLE`] says, from the sums of its first pieces and of the others.
#[inline(always)]
pub fn finish(bytes: &[u8], first: u64, others: u64) -> u64 {
    const PRIME: u64 = 0x9e37_79b1_85eb_ca87;
    let start = (bytes.len() as u64).wrapping_mul(PRIME).wrapping_add(first);
    let last = bytes.last_chunk().map_or(0, |piece| mixed(piece, SECRET_LAST));
    stirred(stirred(start).wrapping_add(others).wrapping_add(last))
}

#[inline(always)]
fn mixed(piece: &[u8; LANE], [low, high]: [u64; 2]) -> u64 {
    let both = u128::from_le_bytes(*piece);
    let product = u128::from(both as u64 ^ low) * u128::from((both >> 64) as u64 ^ high);
    product as u64 ^ (product >> 64) as u64
}

#[inline(always)]
fn stirred(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 37).wrapping_mul(0x1656_6791_9e37_79f9);
    hash ^ hash >> 32
}
