//! Kernels with one scalar twin each, chosen once per process by what the machine can do.
//!
//! A kernel is a folder `{mod, scalar, avx2, avx512}.rs`: `scalar` is the specification, the others
//! have its signature, and `mod` dispatches on an [`Isa`]. Unsafe code is allowed here.

/// Calls the kernel of this name of the module's `scalar`, `avx2` or `avx512`.
macro_rules! dispatch {
    ($isa:expr, $kernel:ident($($argument:expr),*)) => {
        match $isa {
            // SAFETY: `Isa::Avx512` is only made by `detect`, which found these features.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::$kernel($($argument),*) },
            // SAFETY: `Isa::Avx2` is only made by `detect`, which found these features.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::$kernel($($argument),*) },
            _ => scalar::$kernel($($argument),*),
        }
    };
}

/// Words of bitmaps: and, or, and-not, counts, and the numbers of the set bits.
pub mod bitmap;
/// Bits, most significant first.
pub mod bits;
/// The checksum of chunks, index sections and WAL records.
pub mod crc32c;
/// What tells bytes apart within a process.
pub mod digest;
/// Samples as the bits of XOR chunks.
pub mod fields;
/// Intersection and difference of ascending lists.
pub mod intersect;
/// Rates of windows.
pub mod rate;
/// Rows of floats folded into others.
pub mod reduce;
/// Steps among the samples of a series.
pub mod steps;
/// Integers of a fixed number of bits.
pub mod unpack;
/// Sums over the windows of a series.
pub mod windows;
/// Samples of XOR chunks.
pub mod xor;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set that kernels are written for, in ascending order of what it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// What every machine of the target has: the twins that are the specification.
    Scalar,
    /// AVX2, FMA, BMI1, BMI2, LZCNT, POPCNT and PCLMULQDQ.
    Avx2,
    /// AVX-512 F, BW, CD, DQ, VL, VBMI2 and VPOPCNTDQ, and all of [`Isa::Avx2`].
    Avx512,
}

/// What [`limit_to`] leaves, as the number of an [`Isa`].
static WIDEST: AtomicU8 = AtomicU8::new(u8::MAX);

/// The instruction set that kernels run on: the widest of this machine, looked up once per process,
/// unless [`limit_to`] has said less.
pub fn isa() -> Isa {
    match WIDEST.load(Ordering::Relaxed) {
        0 => Isa::Scalar,
        1 => Isa::Avx2.min(machine()),
        _ => machine(),
    }
}

/// All instruction sets of this machine, scalar first: what tests and benches run a kernel on.
pub fn isas() -> impl Iterator<Item = Isa> {
    [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|candidate| *candidate <= machine())
}

/// From now on the whole process uses nothing wider than `isa`: for tests that run everything on each.
pub fn limit_to(isa: Isa) {
    WIDEST.store(isa as u8, Ordering::Relaxed);
}

/// The widest instruction set of this machine.
fn machine() -> Isa {
    static FOUND: OnceLock<Isa> = OnceLock::new();
    *FOUND.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("pclmulqdq");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("avx512vpopcntdq");
    match (avx2, avx512) {
        (true, true) => Isa::Avx512,
        (true, false) => Isa::Avx2,
        _ => Isa::Scalar,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Scalar
}

/// Plain code that is compiled for each instruction set by [`run_on`], which is worth it where shifts, counts of bits
/// or fused operations are most of the work. What it calls must be inlined to profit.
pub trait Kernel {
    /// What it gives.
    type Output;

    /// Does the work; to be marked `#[inline(always)]`.
    fn run(self) -> Self::Output;
}

/// Runs `kernel` compiled for `isa`, which [`isa`] or [`isas`] gave.
#[inline]
pub fn run_on<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        Isa::Scalar => kernel.run(),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this is only made by `detect`, which found the features.
        Isa::Avx2 => unsafe { run_avx2(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { run_avx512(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Avx2 | Isa::Avx512 => kernel.run(),
    }
}

/// Runs `kernel` with the features of [`Isa::Avx2`].
///
/// # Safety
/// The machine has them.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

/// Runs `kernel` with the features of [`Isa::Avx512`].
///
/// # Safety
/// The machine has them.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vbmi2,avx512vpopcntdq")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

/// `value` where it is less than `kept`, and otherwise `kept`, in one instruction: where a loop wants both this
/// and [`greatest`], compilers put the two into one vector, which takes five.
#[inline(always)]
pub fn least(value: f64, kept: f64) -> f64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_mm_cvtsd_f64, _mm_min_sd, _mm_set_sd};
        _mm_cvtsd_f64(_mm_min_sd(_mm_set_sd(value), _mm_set_sd(kept)))
    }
    #[cfg(not(target_arch = "x86_64"))]
    if value < kept { value } else { kept }
}

/// `value` where it is greater than `kept`, and otherwise `kept`.
#[inline(always)]
pub fn greatest(value: f64, kept: f64) -> f64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_mm_cvtsd_f64, _mm_max_sd, _mm_set_sd};
        _mm_cvtsd_f64(_mm_max_sd(_mm_set_sd(value), _mm_set_sd(kept)))
    }
    #[cfg(not(target_arch = "x86_64"))]
    if value > kept { value } else { kept }
}

/// Asks for the cache line at the start of `value` ahead of its use.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can see and never faults; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
