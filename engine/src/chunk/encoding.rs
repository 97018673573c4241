//! The byte that says how a chunk's data is encoded.

use std::fmt;

use crate::codec::Corrupt;

/// How a chunk's data is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// Floats.
    Xor = 1,
    /// Integer native histograms.
    Histogram = 2,
    /// Float native histograms.
    FloatHistogram = 3,
    /// Floats with start timestamps.
    Xor2 = 4,
    /// Integer native histograms with start timestamps.
    HistogramSt = 5,
    /// Float native histograms with start timestamps.
    FloatHistogramSt = 6,
    /// Thanos' downsampled data: up to five chunks in one.
    Aggr = 0xff,
}

impl Encoding {
    /// The encoding that `byte` stands for; `offset` is where it lies in its file.
    pub fn parse(byte: u8, offset: u64) -> Result<Self, Corrupt> {
        Ok(match byte {
            1 => Self::Xor,
            2 => Self::Histogram,
            3 => Self::FloatHistogram,
            4 => Self::Xor2,
            5 => Self::HistogramSt,
            6 => Self::FloatHistogramSt,
            0xff => Self::Aggr,
            _ => return Err(Corrupt::new("chunk", offset, format!("encoding {byte} is not known"))),
        })
    }

    /// The byte that stands for it.
    pub fn byte(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xor => "XOR",
            Self::Histogram => "histogram",
            Self::FloatHistogram => "float histogram",
            Self::Xor2 => "XOR2",
            Self::HistogramSt => "histogram with start timestamps",
            Self::FloatHistogramSt => "float histogram with start timestamps",
            Self::Aggr => "aggregates",
        })
    }
}
