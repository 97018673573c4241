//! Memory for writes past the page cache, which take whole blocks from memory that is aligned like them.

/// Bytes of a block: what the logical blocks of all usual disks divide.
pub const BLOCK_BYTES: usize = 4096;

/// Blocks whose memory is kept when far fewer are needed.
const BLOCKS_KEPT: usize = 64;

/// Blocks of zeros that one operation writes at most.
static ZEROS: [Block; 32] = [Block([0; BLOCK_BYTES]); 32];

/// Whole blocks in memory, aligned to their size.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    blocks: Vec<Block>,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES]);

impl Blocks {
    /// Holds `parts` one after the other from now on, then zeros, `len` bytes together and up to the end
    /// of the last block.
    ///
    /// # Panics
    /// When the parts are longer than that.
    pub fn fill(&mut self, parts: &[&[u8]], len: usize) {
        let count = len.div_ceil(BLOCK_BYTES);
        if self.blocks.capacity() < count || self.blocks.capacity() > BLOCKS_KEPT.max(8 * count) {
            // What was there is of no use.
            self.blocks = Vec::new();
            self.blocks.reserve_exact(count);
        }
        self.blocks.resize(count, Block([0; BLOCK_BYTES]));
        let mut rest = self.bytes_mut();
        for part in parts {
            let (own, behind) = rest.split_at_mut(part.len());
            own.copy_from_slice(part);
            rest = behind;
        }
        rest.fill(0);
    }

    /// All bytes, whole blocks of them.
    pub fn bytes(&self) -> &[u8] {
        bytes_of(&self.blocks)
    }

    /// All bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.blocks.len() * BLOCK_BYTES;
        // SAFETY: as above; every value of a byte is one of a block.
        unsafe { std::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast(), len) }
    }
}

/// `len` zeros or, where that is more, as many as [`ZEROS`] are.
pub(super) fn zeros(len: usize) -> &'static [u8] {
    let all = bytes_of(&ZEROS);
    &all[..len.min(all.len())]
}

fn bytes_of(blocks: &[Block]) -> &[u8] {
    // SAFETY: a block is an array of as many bytes as it is long, without padding.
    unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast(), size_of_val(blocks)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_filled_up_with_zeros_whatever_was_there_before() {
        let mut blocks = Blocks::default();
        blocks.fill(&[&[7; 5000]], 9000);
        assert_eq!(blocks.bytes().len(), 3 * BLOCK_BYTES);
        blocks.fill(&[b"ab", b"", b"c"], 3);
        assert_eq!(blocks.bytes().len(), BLOCK_BYTES);
        assert_eq!(&blocks.bytes()[..3], b"abc");
        assert!(blocks.bytes()[3..].iter().all(|byte| *byte == 0));
        assert_eq!(blocks.bytes().as_ptr() as usize % BLOCK_BYTES, 0);
    }
}
