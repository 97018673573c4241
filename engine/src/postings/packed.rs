//! Sets as bytes, in whichever of three forms is smallest. The number of ordinals is kept by whoever
//! keeps the bytes.
//!
//! ```text
//! ┌──────┬───────────────────────────────────────────────────────────────────────────────────┐
//! │ tag  │ body                                                                              │
//! │ u8   │                                                                                   │
//! ├──────┼───────────────────────────────────────────────────────────────────────────────────┤
//! │ 0    │ runs:   uvarint number of runs, then for each                                     │
//! │      │         uvarint ordinals left out since the end of the run before, uvarint len - 1│
//! │ 1    │ packed: for each 128 ordinals: u8 width, 16 * width bytes (BitPacker4x, strictly  │
//! │      │         sorted); for what is left: u8 width, distance - 1 to the ordinal before,  │
//! │      │         width bits each, least significant bit first, to a whole byte             │
//! │ 2    │ bitmap: uvarint number of the first word, u64 words (little-endian) to the last   │
//! │      │         that isn't zero                                                           │
//! └──────┴───────────────────────────────────────────────────────────────────────────────────┘
//! ```

use bitpacking::{BitPacker, BitPacker4x};

use super::{Bitmap, Ordinals};
use crate::codec::{Corrupt, Cursor, varint};

const WHAT: &str = "postings";
const RUNS: u8 = 0;
const PACKED: u8 = 1;
const BITMAP: u8 = 2;

/// Ordinals that BitPacker4x packs at once.
const BLOCK: usize = BitPacker4x::BLOCK_LEN;

/// Appends the strictly ascending `list`.
pub fn encode(list: &[u32], out: &mut Vec<u8>) {
    debug_assert!(list.is_sorted_by(|a, b| a < b), "ordinals ascend strictly");
    let start = out.len();
    let (Some(&first), Some(&last)) = (list.first(), list.last()) else {
        return out.extend([RUNS, 0]);
    };
    let words = first as usize / 64..last as usize / 64 + 1;
    let bitmap_len = 1 + varint::len_u64(words.start as u64) + words.len() * 8;
    let runs = 1 + list.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
    if runs <= 1 + list.len() / 4 {
        encode_runs(list, runs, out);
    } else {
        encode_packed(list, out);
    }
    if out.len() - start > bitmap_len {
        out.truncate(start);
        encode_bitmap(list, words.start, words.len(), out);
    }
}

fn encode_runs(list: &[u32], runs: usize, out: &mut Vec<u8>) {
    out.push(RUNS);
    varint::encode_u64(runs as u64, out);
    let mut end = 0;
    for run in list.chunk_by(|a, b| a + 1 == *b) {
        varint::encode_u64(u64::from(run[0] - end), out);
        varint::encode_u64(run.len() as u64 - 1, out);
        end = run[0] + run.len() as u32;
    }
}

fn encode_packed(list: &[u32], out: &mut Vec<u8>) {
    out.push(PACKED);
    let packer = BitPacker4x::new();
    let mut before = None;
    let blocks = list.chunks_exact(BLOCK);
    let tail = blocks.remainder();
    for block in blocks {
        let width = packer.num_bits_strictly_sorted(before, block);
        out.push(width);
        let at = out.len();
        out.resize(at + BitPacker4x::compressed_block_size(width), 0);
        packer.compress_strictly_sorted(before, block, &mut out[at..], width);
        before = block.last().copied();
    }
    if tail.is_empty() {
        return;
    }
    let gaps = |mut next: u32| {
        tail.iter().map(move |ordinal| {
            let gap = ordinal - next;
            next = ordinal + 1;
            gap
        })
    };
    let next = before.map_or(0, |last| last + 1);
    let width = gaps(next).map(|gap| 32 - gap.leading_zeros()).max().unwrap_or(0);
    out.push(width as u8);
    let (mut bits, mut filled) = (0u64, 0);
    for gap in gaps(next) {
        bits |= u64::from(gap) << filled;
        filled += width;
        while filled >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(bits as u8);
    }
}

fn encode_bitmap(list: &[u32], first: usize, len: usize, out: &mut Vec<u8>) {
    out.push(BITMAP);
    varint::encode_u64(first as u64, out);
    let mut words = vec![0u64; len];
    for ordinal in list {
        words[*ordinal as usize / 64 - first] |= 1 << (ordinal % 64);
    }
    words.iter().for_each(|word| out.extend(word.to_le_bytes()));
}

/// The set of `len` ordinals in `bytes`, all of which must be below `count`.
pub fn decode(bytes: &[u8], len: usize, count: u32) -> Result<Ordinals, Corrupt> {
    let mut cursor = Cursor::new(WHAT, bytes, 0);
    if len > count as usize {
        return Err(cursor.corrupt(format!("{len} ordinals announced for {count} series")));
    }
    let set = match cursor.u8()? {
        RUNS => decode_runs(&mut cursor, len, count)?,
        PACKED => decode_packed(&mut cursor, len, count)?,
        BITMAP => decode_bitmap(&mut cursor, count)?,
        tag => return Err(cursor.corrupt(format!("form {tag} is unknown"))),
    };
    if set.len() != len {
        return Err(cursor.corrupt(format!("{len} ordinals announced, {} found", set.len())));
    }
    Ok(set)
}

fn decode_runs(cursor: &mut Cursor<'_>, len: usize, count: u32) -> Result<Ordinals, Corrupt> {
    let runs = cursor.count()?;
    let mut list = Vec::with_capacity(if runs > 1 { len } else { 0 });
    let mut end = 0u64;
    for _ in 0..runs {
        let start = end.saturating_add(cursor.uvarint()?);
        end = start.saturating_add(cursor.uvarint()?).saturating_add(1);
        if end > u64::from(count) {
            return Err(cursor.corrupt(format!("run ends at {end} of {count} series")));
        }
        if runs == 1 {
            return Ok(Ordinals::Range(start as u32..end as u32));
        }
        list.extend(start as u32..end as u32);
    }
    Ok(Ordinals::List(list))
}

fn decode_packed(cursor: &mut Cursor<'_>, len: usize, count: u32) -> Result<Ordinals, Corrupt> {
    let packer = BitPacker4x::new();
    let mut list = vec![0; len];
    let mut before = None;
    let mut blocks = list.chunks_exact_mut(BLOCK);
    for block in &mut blocks {
        let width = decode_width(cursor)?;
        let packed = cursor.bytes(BitPacker4x::compressed_block_size(width))?;
        packer.decompress_strictly_sorted(before, packed, block, width);
        before = block.last().copied();
    }
    let tail = blocks.into_remainder();
    if !tail.is_empty() {
        let width = u32::from(decode_width(cursor)?);
        let packed = cursor.bytes((tail.len() * width as usize).div_ceil(8))?;
        unpack_gaps(packed, width, before.map_or(0, |last: u32| last.wrapping_add(1)), tail);
    }
    let ascending = list.iter().zip(list.iter().skip(1)).fold(true, |so_far, (a, b)| so_far & (a < b));
    if !ascending || list.last().is_some_and(|last| *last >= count) {
        return Err(cursor.corrupt(format!("ordinals don't ascend below {count}")));
    }
    Ok(Ordinals::List(list))
}

fn decode_width(cursor: &mut Cursor<'_>) -> Result<u8, Corrupt> {
    match cursor.u8()? {
        width @ 0..=32 => Ok(width),
        width => Err(cursor.corrupt(format!("width of {width} bits"))),
    }
}

fn unpack_gaps(packed: &[u8], width: u32, mut next: u32, out: &mut [u32]) {
    let mask = (1u64 << width) - 1;
    let mut bytes = packed.iter();
    let (mut bits, mut filled) = (0u64, 0);
    for ordinal in out {
        while filled < width {
            bits |= u64::from(bytes.next().copied().unwrap_or(0)) << filled;
            filled += 8;
        }
        *ordinal = next.wrapping_add((bits & mask) as u32);
        next = ordinal.wrapping_add(1);
        bits >>= width;
        filled -= width;
    }
}

fn decode_bitmap(cursor: &mut Cursor<'_>, count: u32) -> Result<Ordinals, Corrupt> {
    let first = cursor.uvarint()?;
    let bytes = cursor.bytes(cursor.remaining() / 8 * 8)?;
    let end = first.saturating_add(bytes.len() as u64 / 8);
    if end > u64::from(count).div_ceil(64) {
        return Err(cursor.corrupt(format!("bitmap ends at word {end} for {count} series")));
    }
    let mut words = vec![0; first as usize];
    words.extend(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)));
    let beyond = words.len() * 64;
    if beyond > count as usize && words.last().is_some_and(|word| word >> (64 - (beyond - count as usize)) != 0) {
        return Err(cursor.corrupt(format!("bitmap has ordinals beyond {count} series")));
    }
    Ok(Ordinals::Bitmap(Bitmap::from_words(words)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn lists() -> impl Strategy<Value = Vec<u32>> {
        let sorted = |set: BTreeSet<u32>| set.into_iter().collect::<Vec<u32>>();
        prop_oneof![
            prop::collection::btree_set(0..100_000u32, 0..600).prop_map(sorted),
            prop::collection::btree_set(0..1000u32, 0..600).prop_map(sorted),
            prop::collection::btree_set(any::<u32>().prop_map(|ordinal| ordinal / 2), 0..300).prop_map(sorted),
            (0..5000u32, 0..3000u32).prop_map(|(start, len)| (start..start + len).collect()),
            prop::collection::vec((0..400u32, 1..50u32), 0..20).prop_map(|runs| {
                let mut end = 0;
                let run = |(skip, len): (u32, u32)| {
                    let start = end + skip;
                    end = start + len;
                    start..end
                };
                runs.into_iter().flat_map(run).collect()
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_packed_set_comes_back(list in lists(), beyond in 1..200u32) {
            let mut bytes = Vec::new();
            encode(&list, &mut bytes);
            let count = list.last().map_or(0, |last| last + beyond);
            let set = decode(&bytes, list.len(), count).unwrap();
            prop_assert_eq!(set.into_list(), list);
        }

        #[test]
        fn damaged_bytes_are_an_error_or_a_valid_set(list in lists(), at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let mut bytes = Vec::new();
            encode(&list, &mut bytes);
            *at.get_mut(&mut bytes) ^= 1u8 << bit;
            let count = list.last().map_or(0, |last| last + 1);
            if let Ok(set) = decode(&bytes, list.len(), count) {
                let found = set.into_list();
                prop_assert!(found.is_sorted_by(|a, b| a < b) && found.last().is_none_or(|last| *last < count));
            }
            let cut = at.index(bytes.len());
            let _ = decode(&bytes[..cut], list.len(), count);
        }
    }

    #[test]
    fn each_shape_takes_its_smallest_form() {
        let len = |list: Vec<u32>| {
            let mut bytes = Vec::new();
            encode(&list, &mut bytes);
            bytes.len()
        };
        assert_eq!(len((1000..500_000).collect()), 7);
        assert!(len((0..12800).map(|at| at * 10).collect()) < 12800 * 5 / 8);
        assert!(len((0..64_000).filter(|at| at % 3 != 0).collect()) <= 8003);
        assert_eq!(len(vec![77]), 4);
    }
}
