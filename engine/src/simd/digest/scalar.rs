//! AES byte by byte, as FIPS 197 describes it.

use super::{Key, LANE, STRIPE};

type Lane = [u8; LANE];

/// The digest of `bytes` under `key`.
pub fn digest(Key(key): &Key, bytes: &[u8]) -> u64 {
    let mut lanes = [key[0], key[1], key[2], key[3]];
    lanes[0] = round(round(xor(lanes[0], (bytes.len() as u128).to_le_bytes()), key[4]), key[5]);
    let (whole, last) = bytes.split_at(bytes.len().saturating_sub(STRIPE));
    let mut padded = [0; STRIPE];
    padded[..last.len()].copy_from_slice(last);
    // What is not a whole stripe before the last one is in both.
    let starts = (0..whole.len()).step_by(STRIPE);
    for stripe in starts.map(|start| &bytes[start..start + STRIPE]).chain([padded.as_slice()]) {
        for (lane, piece) in lanes.iter_mut().zip(stripe.as_chunks::<LANE>().0) {
            *lane = round(round(xor(*lane, *piece), key[4]), key[5]);
        }
    }
    let left = round(round(lanes[0], lanes[1]), key[6]);
    let right = round(round(lanes[2], lanes[3]), key[7]);
    let both = round(round(round(left, right), key[6]), key[7]);
    u128::from_le_bytes(both) as u64
}

fn xor(left: Lane, right: Lane) -> Lane {
    std::array::from_fn(|at| left[at] ^ right[at])
}

/// One round: bytes are substituted, rows shifted, columns mixed, then the key is added.
fn round(lane: Lane, key: Lane) -> Lane {
    let shifted = |column: usize, row: usize| SUBSTITUTES[usize::from(lane[4 * ((column + row) % 4) + row])];
    let mixed = |at: usize| {
        let (column, row) = (at / 4, at % 4);
        let [first, second, third, fourth] = [0, 1, 2, 3].map(|step| shifted(column, (row + step) % 4));
        double(first) ^ double(second) ^ second ^ third ^ fourth
    };
    xor(std::array::from_fn(mixed), key)
}

/// Twice `byte` in the field of 256.
const fn double(byte: u8) -> u8 {
    byte << 1 ^ if byte & 0x80 == 0 { 0 } else { 0x1b }
}

/// What each byte is substituted by: its inverse in the field, its bits mixed.
static SUBSTITUTES: [u8; 256] = substitutes();

const fn substitutes() -> [u8; 256] {
    let mut table = [0x63; 256];
    // All but zero are powers of three: as one goes up, its inverse goes down.
    let (mut power, mut inverse) = (1u8, 1u8);
    loop {
        power ^= double(power);
        inverse ^= inverse << 1;
        inverse ^= inverse << 2;
        inverse ^= inverse << 4;
        inverse ^= if inverse & 0x80 == 0 { 0 } else { 0x09 };
        let turned = inverse.rotate_left(1) ^ inverse.rotate_left(2) ^ inverse.rotate_left(3) ^ inverse.rotate_left(4);
        table[power as usize] = inverse ^ turned ^ 0x63;
        if power == 1 {
            return table;
        }
    }
}
