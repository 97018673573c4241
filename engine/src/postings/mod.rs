//! Postings: sets of the series of one block, as dense ordinals.
//!
//! Series are numbered 0..n in label order, so a set is one of three shapes, whichever is
//! smallest, and a result is in label order by construction:
//!
//! ```text
//! Range   start..end             all series of a metric name, often
//! List    ascending u32          few
//! Bitmap  one bit for an ordinal many
//! ```

/// Intersection, difference, union and complement of sets of any shape.
pub mod algebra;
/// Sets as one bit for each ordinal.
pub mod bitmap;
/// Sets as bytes: runs, bit-packed deltas or bitmaps, whichever is smallest.
pub mod packed;

use std::ops::Range;

pub use algebra::Union;
pub use bitmap::Bitmap;

use crate::simd::{self, isa};

/// A set of ordinals, ascending.
#[derive(Clone, Debug)]
pub enum Ordinals {
    /// Every ordinal from `start` up to and without `end`.
    Range(Range<u32>),
    /// Strictly ascending ordinals.
    List(Vec<u32>),
    /// One bit for each ordinal.
    Bitmap(Bitmap),
}

impl Ordinals {
    /// The set of nothing.
    pub fn empty() -> Self {
        Self::Range(0..0)
    }

    /// The set of all of `count` series.
    pub fn all(count: u32) -> Self {
        Self::Range(0..count)
    }

    /// Number of ordinals.
    pub fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::List(list) => list.len(),
            Self::Bitmap(bitmap) => bitmap.len(),
        }
    }

    /// Whether there is no ordinal.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `ordinal` is in the set.
    pub fn contains(&self, ordinal: u32) -> bool {
        match self {
            Self::Range(range) => range.contains(&ordinal),
            Self::List(list) => list.binary_search(&ordinal).is_ok(),
            Self::Bitmap(bitmap) => bitmap.contains(ordinal),
        }
    }

    /// Appends all ordinals, ascending.
    pub fn append_to(&self, out: &mut Vec<u32>) {
        match self {
            Self::Range(range) => out.extend(range.clone()),
            Self::List(list) => out.extend_from_slice(list),
            Self::Bitmap(bitmap) => {
                out.reserve(bitmap.len());
                simd::bitmap::ordinals(isa(), bitmap.words(), 0, out);
            }
        }
    }

    /// All ordinals, ascending.
    pub fn into_list(self) -> Vec<u32> {
        match self {
            Self::List(list) => list,
            other => {
                let mut list = Vec::with_capacity(other.len());
                other.append_to(&mut list);
                list
            }
        }
    }

    /// The first `limit` ordinals.
    pub fn truncated(self, limit: usize) -> Self {
        match self {
            Self::Range(range) if range.len() > limit => Self::Range(range.start..range.start + limit as u32),
            other if other.len() > limit => {
                let mut list = other.into_list();
                list.truncate(limit);
                Self::List(list)
            }
            other => other,
        }
    }

    /// Bytes that the set occupies on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Range(_) => 0,
            Self::List(list) => list.capacity() * size_of::<u32>(),
            Self::Bitmap(bitmap) => size_of_val(bitmap.words()),
        }
    }
}

/// Sets are equal when they hold the same ordinals, whatever their shapes.
impl PartialEq for Ordinals {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.clone().into_list() == other.clone().into_list()
    }
}

impl Eq for Ordinals {}

impl From<Vec<u32>> for Ordinals {
    /// The set of `list`, which must ascend strictly.
    fn from(list: Vec<u32>) -> Self {
        debug_assert!(list.is_sorted_by(|a, b| a < b), "ordinals ascend strictly");
        match (list.first(), list.last()) {
            (Some(&first), Some(&last)) if (last - first) as usize + 1 == list.len() => Self::Range(first..last + 1),
            (None, _) => Self::empty(),
            _ => Self::List(list),
        }
    }
}
