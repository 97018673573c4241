//! Values of many rows of one width, in pieces: what grows is copied while it is one piece, and not behind that.
//!
//! ```text
//! piece 0   row 0 │ row 1 │ … │ row 2^k − 1        grows up to its length
//! piece 1   row 2^k │ …                            has its room from the start
//! ```
//! A piece holds as many rows, a power of two, as have at most [`PIECE_VALUES`] values; one where a row has more. Rows that
//! came together are one piece.

use crate::model::Error;

/// Values of a piece, at most, unless a row has more: 1 MiB.
const PIECE_VALUES: usize = 1 << 17;

/// Rows of `width` values each.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    width: usize,
    /// Binary logarithm of the rows of a piece.
    shift: u32,
    /// Those behind the last row are room.
    pieces: Vec<Vec<f64>>,
    len: usize,
}

impl Rows {
    /// No rows yet, of `width` values each.
    pub fn new(width: usize) -> Self {
        Self { width, shift: (PIECE_VALUES / width.max(1)).max(1).ilog2(), ..Self::default() }
    }

    /// The rows that lie behind each other in `values`, which become one piece, however many they are.
    pub fn from_values(width: usize, values: Vec<f64>) -> Self {
        let len = values.len().checked_div(width).unwrap_or(0);
        let shift = Self::new(width).shift.max(len.next_power_of_two().ilog2());
        Self { width, shift, pieces: vec![values], len }
    }

    /// Values of a piece that is full.
    fn piece_len(&self) -> usize {
        self.width << self.shift
    }

    /// Number of values.
    pub fn values(&self) -> usize {
        self.len * self.width
    }

    /// Makes room for `values` values in all, as far as one piece has it.
    pub fn reserve(&mut self, values: usize) {
        let most = self.piece_len();
        if self.pieces.is_empty() {
            self.pieces.push(Vec::new());
        }
        let first = &mut self.pieces[0];
        first.reserve_exact(values.min(most).saturating_sub(first.len()));
    }

    /// The piece that the next row comes into.
    fn open_piece(&mut self) -> &mut Vec<f64> {
        let at = self.len >> self.shift;
        if at == self.pieces.len() {
            let room = if at == 0 { 0 } else { self.piece_len() };
            self.pieces.push(Vec::with_capacity(room));
        }
        &mut self.pieces[at]
    }

    /// Appends a row of zeros.
    pub fn push_zeros(&mut self) {
        let width = self.width;
        let piece = self.open_piece();
        piece.resize(piece.len() + width, 0.0);
        self.len += 1;
    }

    /// Appends a row.
    pub fn push(&mut self, row: &[f64]) {
        self.open_piece().extend_from_slice(row);
        self.len += 1;
    }

    /// Appends all rows of `other`, which are as wide, and leaves it its room. Fails between two pieces when `check`
    /// does.
    pub fn append(&mut self, other: &mut Self, mut check: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
        let room = |rows: &Self| rows.pieces.iter().map(Vec::capacity).sum::<usize>();
        if self.len == 0 && room(self) <= room(other) {
            std::mem::swap(self, other);
            other.clear();
            return Ok(());
        }
        let full = self.piece_len();
        for piece in &mut other.pieces {
            check()?;
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let open = self.open_piece();
                let (fitting, behind) = rest.split_at(rest.len().min(full - open.len()));
                open.extend_from_slice(fitting);
                self.len += fitting.len() / self.width;
                rest = behind;
            }
        }
        other.clear();
        Ok(())
    }

    /// Removes the last row.
    pub fn pop(&mut self) {
        self.len = self.len.saturating_sub(1);
        let (at, end) = self.place(self.len);
        if let Some(piece) = self.pieces.get_mut(at) {
            piece.truncate(end);
        }
    }

    /// Removes all rows and keeps the room.
    pub fn clear(&mut self) {
        self.pieces.iter_mut().for_each(Vec::clear);
        self.len = 0;
    }

    /// Which piece row `row` lies in, and where.
    #[inline]
    fn place(&self, row: usize) -> (usize, usize) {
        (row >> self.shift, (row & ((1 << self.shift) - 1)) * self.width)
    }

    /// The values of row `row`.
    #[inline]
    pub fn row(&self, row: usize) -> &[f64] {
        let (piece, start) = self.place(row);
        match self.width {
            0 => &[],
            width => &self.pieces[piece][start..start + width],
        }
    }

    /// The values of row `row`, to be written.
    #[inline]
    pub fn row_mut(&mut self, row: usize) -> &mut [f64] {
        let (piece, start) = self.place(row);
        match self.width {
            0 => &mut [],
            width => &mut self.pieces[piece][start..start + width],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is done to rows.
    #[derive(Clone, Debug)]
    enum Change {
        Push(usize),
        Zeros,
        Pop,
        Clear,
        Reserve(usize),
        Append(usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => (1..40usize).prop_map(Change::Push),
            2 => Just(Change::Zeros),
            2 => Just(Change::Pop),
            1 => Just(Change::Clear),
            1 => (0..PIECE_VALUES * 2).prop_map(Change::Reserve),
            3 => (0..70usize).prop_map(Change::Append),
        ]
    }

    fn check(rows: &Rows, expected: &[Vec<f64>], width: usize) {
        assert_eq!(rows.values(), expected.len() * width);
        (0..).zip(expected).for_each(|(at, row)| assert_eq!(rows.row(at), row));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rows_are_those_of_one_list_after_any_changes(
            width in prop_oneof![Just(0usize), Just(1), 3000..9000usize, Just(PIECE_VALUES + 1)],
            changes in prop::collection::vec(change(), 1..12),
        ) {
            let (mut rows, mut expected, mut next) = (Rows::new(width), Vec::new(), 0.0);
            let mut made = |count: usize| -> Vec<Vec<f64>> {
                let few = if width > PIECE_VALUES { count % 4 } else { count };
                (0..few).map(|_| { next += 1.0; vec![next; width] }).collect()
            };
            for change in changes {
                match change {
                    Change::Push(count) => made(count).into_iter().for_each(|row| {
                        rows.push(&row);
                        expected.push(row);
                    }),
                    Change::Zeros => {
                        rows.push_zeros();
                        expected.push(vec![0.0; width]);
                    }
                    Change::Pop => {
                        rows.pop();
                        expected.pop();
                    }
                    Change::Clear => {
                        rows.clear();
                        expected.clear();
                    }
                    Change::Reserve(values) => rows.reserve(values),
                    Change::Append(count) => {
                        let more = made(count);
                        let mut other = Rows::from_values(width, more.concat());
                        rows.append(&mut other, || Ok(())).unwrap();
                        check(&other, &[], width);
                        expected.extend(if width == 0 { Vec::new() } else { more });
                    }
                }
                check(&rows, &expected, width);
            }
        }
    }

    #[test]
    fn appending_ends_between_two_pieces() {
        let mut rows = Rows::new(PIECE_VALUES);
        rows.push_zeros();
        let mut other = Rows::new(PIECE_VALUES);
        (0..4).for_each(|_| other.push_zeros());
        let mut looks = 0;
        let gone = Error::invalid("gone");
        let ended = rows.append(&mut other, || {
            looks += 1;
            if looks < 3 { Ok(()) } else { Err(gone.clone()) }
        });
        assert_eq!((ended, rows.values()), (Err(gone), 3 * PIECE_VALUES));
    }
}
