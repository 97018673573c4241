//! Text in pieces that follow each other, so that those who write side by side each have their own, and
//! nobody copies what another has written.

/// Text, written at its end.
#[derive(Debug, Default)]
pub struct Pieces {
    before: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl From<Vec<u8>> for Pieces {
    fn from(text: Vec<u8>) -> Self {
        Self { before: Vec::new(), last: text }
    }
}

impl Pieces {
    /// The piece that text is appended to.
    pub fn last(&mut self) -> &mut Vec<u8> {
        &mut self.last
    }

    /// Appends a piece, to which text is appended from then on.
    pub fn push(&mut self, piece: Vec<u8>) {
        self.before.push(std::mem::replace(&mut self.last, piece));
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.before.iter().map(Vec::len).sum::<usize>() + self.last.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces, in order.
    pub fn into_pieces(mut self) -> Vec<Vec<u8>> {
        self.before.push(self.last);
        self.before
    }

    /// All of it in one.
    pub fn into_whole(self) -> Vec<u8> {
        if self.before.is_empty() { self.last } else { self.into_pieces().concat() }
    }
}
