//! Read plans: which byte ranges to read so that all wanted pieces are there, in few requests.
//!
//! ```text
//! wanted   [a]  [b]        [c]                                  [d]
//! ranges   [a....b]        [c]        gap too wide              [d]
//! ```

/// Widest gap that is read and thrown away rather than asked for separately in an object store, in
/// bytes: Thanos' figure.
pub const REMOTE_GAP_BYTES_MAX: u64 = 512 << 10;

/// Widest gap that is read rather than skipped in a local file, in bytes: about what one more
/// operation costs.
pub const LOCAL_GAP_BYTES_MAX: u64 = 4 << 10;

/// A piece of a file that is wanted; `file` is the caller's number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// The caller's number for the file.
    pub file: u32,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// A range to read; it covers wanted pieces and the gaps between them.
pub type Range = Wanted;

/// Where a wanted piece is once the ranges have been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Place {
    /// The range, by its number.
    pub range: u32,
    /// Its first byte within the range.
    pub start: u64,
}

/// What to read, and where the wanted pieces are then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadPlan {
    /// By file, then offset; no two overlap.
    pub ranges: Vec<Range>,
    /// Of each wanted piece, in the order in which they were given.
    pub places: Vec<Place>,
    /// Bytes of all ranges together.
    pub bytes: u64,
}

/// Covers `wanted` with ranges that leave out gaps wider than what `gap_max` says of their file.
/// Overlapping and equal pieces are read once.
pub fn coalesce(wanted: &[Wanted], gap_max: impl Fn(u32) -> u64) -> ReadPlan {
    let mut order: Vec<u32> = (0..wanted.len() as u32).collect();
    if !wanted.is_sorted() {
        order.sort_unstable_by_key(|at| wanted[*at as usize]);
    }
    let mut plan = ReadPlan { ranges: Vec::new(), places: vec![Place::default(); wanted.len()], bytes: 0 };
    for at in order {
        let piece = wanted[at as usize];
        let end = piece.offset.saturating_add(piece.len);
        match plan.ranges.last_mut() {
            Some(range)
                if range.file == piece.file
                    && piece.offset <= (range.offset + range.len).saturating_add(gap_max(piece.file)) =>
            {
                let grown = (end - range.offset).max(range.len);
                plan.bytes += grown - range.len;
                range.len = grown;
                let start = piece.offset - range.offset;
                plan.places[at as usize] = Place { range: plan.ranges.len() as u32 - 1, start };
            }
            _ => {
                plan.places[at as usize] = Place { range: plan.ranges.len() as u32, start: 0 };
                plan.ranges.push(Range { len: end - piece.offset, ..piece });
                plan.bytes += end - piece.offset;
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(file: u32, offset: u64, len: u64) -> Wanted {
        Wanted { file, offset, len }
    }

    #[test]
    fn near_pieces_share_a_range_and_far_ones_do_not() {
        let wanted = [piece(1, 100, 10), piece(1, 115, 5), piece(1, 200, 1), piece(2, 201, 4)];
        let plan = coalesce(&wanted, |_| 5);
        assert_eq!(plan.ranges, [piece(1, 100, 20), piece(1, 200, 1), piece(2, 201, 4)]);
        let places: Vec<_> = plan.places.iter().map(|place| (place.range, place.start)).collect();
        assert_eq!(places, [(0, 0), (0, 15), (1, 0), (2, 0)]);
        assert_eq!(plan.bytes, 25);
    }

    #[test]
    fn every_piece_is_found_where_the_plan_says_whatever_the_order() {
        let mut state = 7u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..300 {
            let wanted: Vec<Wanted> = (0..draw(40)).map(|_| piece(draw(3) as u32, draw(5000), draw(80))).collect();
            let plan = coalesce(&wanted, |_| round % 50);
            assert_eq!(plan.bytes, plan.ranges.iter().map(|range| range.len).sum::<u64>());
            for (piece, place) in wanted.iter().zip(&plan.places) {
                let range = plan.ranges[place.range as usize];
                assert_eq!((range.file, range.offset + place.start), (piece.file, piece.offset));
                assert!(place.start + piece.len <= range.len);
            }
        }
    }
}
