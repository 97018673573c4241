//! Samples to the fields of XOR chunks, from the third sample on. See `chunk::xor` for the layout.
//!
//! ```text
//! bit    0                                        up to 145
//!        time 1, 16, 20, 24 or 68 │ control 1, 2 or 13 │ payload up to 64
//! ```

#[cfg(target_arch = "x86_64")]
mod avx512;
/// The specification.
pub mod scalar;

use super::{Isa, Kernel, run_on};

/// Samples that are encoded at a time, at most.
pub const RUN: usize = 64;

const SAMPLE_BITS_MAX: usize = 68 + 13 + 64;

/// Bytes that the fields of one sample take at most, with bits before them.
pub const SAMPLE_BYTES_MAX: usize = (7 + SAMPLE_BITS_MAX).div_ceil(8);

/// Bytes that must follow the fields of all samples: they are written sixteen at a time.
pub const SLACK: usize = 16;

/// Where the payload of a value lies, as long as the following ones fit there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Zeros above the payload; over 63 before the first payload.
    pub above: u8,
    /// Zeros below the payload.
    pub below: u8,
}

impl Window {
    /// Before the first payload.
    pub const NONE: Self = Self { above: 0xff, below: 0 };
}

/// Writes the fields of samples to `out` from its bit number `bit` on, most significant bit first. Of `times`
/// the two samples before them come first, of `values` the one before. Gives the bit and the window behind
/// them; bits behind, up to [`SLACK`] bytes, may be cleared.
///
/// # Panics
/// When there are not as many times as values or more than [`RUN`] samples, or `out` is shorter than the samples may need.
pub fn put(isa: Isa, times: &[i64], values: &[f64], window: Window, (out, bit): (&mut [u8], usize)) -> (usize, Window) {
    assert!(times.len() == values.len() + 1, "of times two are ahead, of values one");
    if values.len() < 2 {
        return (bit, window);
    }
    assert!(values.len() <= RUN + 1, "{} samples are more than a run", values.len() - 1);
    let room = bit / 8 + (values.len() - 1) * SAMPLE_BYTES_MAX + SLACK;
    assert!(out.len() >= room, "{} samples may end at byte {room} of {}", values.len() - 1, out.len());
    match isa {
        // SAFETY: `Isa::Avx512` is only made by `detect`, which found these features; the room was looked at.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { avx512::put(times, values, window, (out, bit)) },
        _ => run_on(isa, Scalar { times, values, window, to: (out, bit) }),
    }
}

struct Scalar<'a> {
    times: &'a [i64],
    values: &'a [f64],
    window: Window,
    to: (&'a mut [u8], usize),
}

impl Kernel for Scalar<'_> {
    type Output = (usize, Window);

    #[inline(always)]
    fn run(self) -> (usize, Window) {
        scalar::put(self.times, self.values, self.window, self.to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::isas;

    proptest! {
        #[test]
        fn every_isa_puts_the_same_fields_behind_what_is_there(
            samples in prop::collection::vec((-8_191..8_193i64, 0..6u32, any::<u64>()), 0..=RUN),
            wide in prop::collection::btree_map(0..RUN, any::<i64>(), 0..12),
            constant in prop::option::of(prop_oneof![Just(0), 0..=RUN]),
            (above, below) in prop_oneof![Just((0xff, 0)), (0..32u8, 0..32u8)],
            bit in 0..40usize,
        ) {
            let (mut times, mut values, mut delta) = (vec![0i64, 15_000], vec![1.0f64], 15_000i64);
            for (at, (change, kind, bits)) in samples.iter().enumerate() {
                let kind = if constant.is_some_and(|start| at >= start) { 0 } else { *kind };
                let change = if kind == 0 { 0 } else { *change };
                delta = delta.wrapping_add(if kind == 0 { 0 } else { wide.get(&at).copied().unwrap_or(change) });
                times.push(times[at + 1].wrapping_add(delta));
                values.push(match kind {
                    0 | 1 => values[at],
                    2..5 => (bits >> (40 + kind)) as f64,
                    _ => f64::from_bits(*bits),
                });
            }
            let window = Window { above, below };
            let room = bit / 8 + samples.len() * SAMPLE_BYTES_MAX + SLACK;
            let put_on = |isa| {
                let mut out = vec![0b1010_0101; room];
                let (end, window) = put(isa, &times, &values, window, (&mut out, bit));
                out.truncate(end.div_ceil(8));
                (out, end, window)
            };
            let wanted = put_on(Isa::Scalar);
            prop_assert!(wanted.0[..bit / 8].iter().all(|byte| *byte == 0b1010_0101), "the bytes before are kept");
            for isa in isas() {
                prop_assert_eq!(&put_on(isa), &wanted, "{:?}", isa);
            }
        }
    }
}
