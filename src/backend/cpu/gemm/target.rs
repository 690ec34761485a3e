//! What of a processor the loops of a product are compiled for, and the choice at run time.

#![allow(unsafe_code)] // calls of functions that are compiled for AVX2 or AVX-512

use super::few::{Few, Lines, product};
use super::kernel::block;
use super::lanes::{Baseline, BaselinePairs, Lanes};
#[cfg(target_arch = "x86_64")]
use super::lanes::{Bf16Pairs, Fma, FmaPairs};
use super::pack::{self, left, right};
use super::{Mat, Plain, ROOM_OF, Right, Tiles, UNIT, few_pairs};
use crate::backend::cpu::Real;
use half::bf16;
use std::cell::Cell;
#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

/// Bytes of a cache line.
const LINE: usize = 64;

type PackLeft<R> = unsafe fn(Mat<R>, usize, usize, &mut [R]);
type PackRight<R> = unsafe fn(Plain<R>, usize, usize, &mut [R]);
type Block<R> = unsafe fn(Tiles<R>, &mut [R]);
type OfFew<R> = unsafe fn(Few<R>, Plain<R>, &mut Lines<R>);

/// The loops of a product for the processor at hand.
#[derive(Clone, Copy)]
pub struct Kernel<R> {
    /// Rows of a tile.
    pub(super) mr: usize,
    /// Columns of a tile, a multiple of 8.
    pub(super) nr: usize,
    /// Whether operands are packed as [`pairs`](super::pairs).
    pub(super) pairs: bool,
    /// Floats for a pair, or a value, of the left operand in its panels.
    pub(super) parts: usize,
    left: PackLeft<R>,
    rows: PackLeft<R>,
    right: PackRight<R>,
    block: Block<R>,
    few: OfFew<R>,
}

impl<R> Kernel<R> {
    /// [`left`].
    pub(super) fn pack_left(&self, a: Mat<R>, m: usize, depth: usize, to: &mut [R]) {
        // SAFETY: `Product::kernel` gives a function only where the processor has what it was compiled for.
        unsafe { (self.left)(a, m, depth, to) }
    }

    /// [`right`].
    pub(super) fn pack_right(&self, b: Right<R>, n: usize, depth: usize, to: &mut [R])
    where
        R: Real,
    {
        match b {
            // SAFETY: as in `pack_left`.
            Right::Plain(b) => unsafe { (self.right)(b, n, depth, to) },
            Right::Coded(b) => {
                let column = to.len() / n.next_multiple_of(self.nr);
                b.decoded(Side::Left, (n, self.nr), depth, |columns, b| {
                    let panels = columns.start * column..columns.end.next_multiple_of(self.nr) * column;
                    self.pack_right(b.into(), columns.len(), depth, &mut to[panels]);
                });
            }
        }
    }

    /// Rows of `a`, each as a line of pairs.
    pub(super) fn pack_rows(&self, a: Mat<R>, m: usize, depth: usize, to: &mut [R]) {
        // SAFETY: as in `pack_left`.
        unsafe { (self.rows)(a, m, depth, to) }
    }

    /// [`block`].
    pub(super) fn multiply(&self, tiles: Tiles<R>, c: &mut [R]) {
        // SAFETY: as in `pack_left`.
        unsafe { (self.block)(tiles, c) }
    }

    /// [`product`].
    pub(super) fn multiply_few(&self, few: Few<R>, b: Right<R>, c: &mut Lines<R>)
    where
        R: Real,
    {
        match b {
            // SAFETY: as in `pack_left`.
            Right::Plain(b) => unsafe { (self.few)(few, b, c) },
            Right::Coded(b) => b.decoded(Side::Right, (c[0].len(), UNIT), few.depth, |columns, b| {
                let mut part: Lines<R> = std::array::from_fn(|_| Default::default());
                for (part, line) in part.iter_mut().zip(c.iter_mut()).filter(|(_, line)| !line.is_empty()) {
                    *part = &mut line[columns.clone()];
                }
                self.multiply_few(few, b.into(), &mut part);
            }),
        }
    }
}

/// A kernel of tiles of `$mr` rows and two vectors of `$w` columns, compiled with `$feature`. Products with few rows
/// have vectors of `$few` on every processor, since the bits of an inner product depend on their width.
macro_rules! kernel {
    ($t:ty, $lanes:ty, $mr:literal x 2 x $w:literal, $few:literal $(, $feature:literal)?) => {{
        $(#[target_feature(enable = $feature)])?
        fn pack_left(a: Mat<$t>, m: usize, depth: usize, to: &mut [$t]) {
            left::<$t, $mr>(a, m, depth, to);
        }
        $(#[target_feature(enable = $feature)])?
        fn pack_right(b: Plain<$t>, n: usize, depth: usize, to: &mut [$t]) {
            match b {
                Plain::Full(b) => right::<$lanes, $t, $t, $w, { 2 * $w }>(b, n, depth, to),
                Plain::Bf16(b) => right::<$lanes, $t, bf16, $w, { 2 * $w }>(b, n, depth, to),
            }
        }
        $(#[target_feature(enable = $feature)])?
        fn multiply(tiles: Tiles<$t>, c: &mut [$t]) {
            block::<$lanes, $t, $mr, $w>(tiles, c);
        }
        $(#[target_feature(enable = $feature)])?
        fn multiply_few(few: Few<$t>, b: Plain<$t>, c: &mut Lines<$t>) {
            product::<$lanes, $t, $few>(few, b, c);
        }
        Kernel {
            mr: $mr,
            nr: 2 * $w,
            pairs: false,
            parts: 1,
            left: pack_left,
            rows: pack_left, // not in use: rows are read as they are
            right: pack_right,
            block: multiply,
            few: multiply_few,
        }
    }};
}

/// The same for operands in bf16. `$lanes` multiplies tiles, `$round` rounds, and multiplies few rows.
macro_rules! pairs_kernel {
    ($lanes:ty, $round:ty, $mr:literal x 2 x $w:literal $(, $feature:literal)?) => {{
        $(#[target_feature(enable = $feature)])?
        fn pack_left(a: Mat<f32>, m: usize, depth: usize, to: &mut [f32]) {
            pack::left_pairs::<$lanes, $round, $w, $mr>(a, m, depth, to);
        }
        $(#[target_feature(enable = $feature)])?
        fn pack_rows(a: Mat<f32>, m: usize, depth: usize, to: &mut [f32]) {
            pack::pairs::<$round, f32, $w, 1>(a.t(), m, depth, to);
        }
        $(#[target_feature(enable = $feature)])?
        fn pack_right(b: Plain<f32>, n: usize, depth: usize, to: &mut [f32]) {
            match b {
                Plain::Full(b) => pack::pairs::<$round, f32, $w, { 2 * $w }>(b, n, depth, to),
                Plain::Bf16(b) => pack::pairs::<$round, bf16, $w, { 2 * $w }>(b, n, depth, to),
            }
        }
        $(#[target_feature(enable = $feature)])?
        fn multiply(tiles: Tiles<f32>, c: &mut [f32]) {
            block::<$lanes, f32, $mr, $w>(tiles, c);
        }
        $(#[target_feature(enable = $feature)])?
        fn multiply_few(few: Few<f32>, b: Plain<f32>, c: &mut Lines<f32>) {
            few_pairs::product::<$round>(few, b, c);
        }
        Kernel {
            mr: $mr,
            nr: 2 * $w,
            pairs: true,
            parts: <$lanes as Lanes<f32, $w>>::PARTS,
            left: pack_left,
            rows: pack_rows,
            right: pack_right,
            block: multiply,
            few: multiply_few,
        }
    }};
}

/// What the operands of a product are rounded to. Sums are in working precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Operands {
    /// Nothing: they stay in working precision.
    #[default]
    Full,
    /// bf16.
    Bf16,
}

impl Operands {
    /// Whether products of them are faster than those in full precision.
    pub fn fast(self) -> bool {
        matches!(best::<f32>(self), Some((Target::Avx512Bf16, _)))
    }

    /// The instructions that multiply such operands in f32 on this processor.
    pub fn instructions(self) -> &'static str {
        match best::<f32>(self) {
            Some((Target::Avx512Bf16, _)) => "avx512_bf16",
            Some((Target::Avx512, _)) => "avx512f",
            Some((Target::Avx2, _)) => "avx2",
            _ => "baseline instructions",
        }
    }
}

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// x86-64 with AVX512_BF16, for operands in bf16.
    Avx512Bf16,
    /// x86-64 with AVX-512.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// Any processor.
    Baseline,
}

impl Target {
    /// From the fastest on.
    pub(super) const ALL: [Target; 4] = [Target::Avx512Bf16, Target::Avx512, Target::Avx2, Target::Baseline];
}

/// The fastest kernel that this processor can run, and its target.
pub(super) fn best<R: Product>(operands: Operands) -> Option<(Target, Kernel<R>)> {
    let fast = |target: &Target| !matches!(target, Target::Avx512Bf16) || fast_instruction();
    Target::ALL.into_iter().filter(fast).find_map(|target| Some((target, R::kernel(target, operands)?)))
}

/// Whether `vdpbf16ps` is faster than the two fused multiplications and additions that it stands for. Processors by
/// Intel start one in two cycles, and two of the others in each (measured by `benches/peers/products.py`).
fn fast_instruction() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::__cpuid;
        // in a virtual machine the instruction that asks takes long
        static INTEL: LazyLock<bool> = LazyLock::new(|| {
            let vendor = __cpuid(0);
            [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
        });
        !*INTEL
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// A type that there are kernels for.
pub trait Product: Copy + 'static {
    /// The kernel for a target, if this processor is one. Only f32 has kernels for operands in bf16.
    fn kernel(target: Target, operands: Operands) -> Option<Kernel<Self>>;
    /// Lends room for packed panels to `f`, apart for left and right operands; what it holds is unspecified. Each
    /// thread keeps its own, so that a warm step allocates nothing.
    fn with_room<T>(side: Side, f: impl FnOnce(&mut [Self]) -> T) -> T;
}

/// An operand of a product.
#[derive(Clone, Copy)]
pub enum Side {
    /// The one whose rows are those of the result.
    Left,
    /// The one whose columns are.
    Right,
}

/// Tiles are as large as the vector registers hold beside two vectors of `b` and one of `a`.
macro_rules! product {
    ($t:ty, $narrow:literal, $wide:literal, $base:literal $(, $pairs:path)?) => {
        impl Product for $t {
            fn kernel(target: Target, operands: Operands) -> Option<Kernel<$t>> {
                match (target, operands) {
                    $((_, Operands::Bf16) => $pairs(target),)?
                    #[cfg(target_arch = "x86_64")]
                    (Target::Avx512, _) if is_x86_feature_detected!("avx512f") => {
                        Some(kernel!($t, Fma, 12 x 2 x $wide, $narrow, "avx512f"))
                    }
                    #[cfg(target_arch = "x86_64")]
                    (Target::Avx2, _) if fma() => Some(kernel!($t, Fma, 6 x 2 x $narrow, $narrow, "avx2,fma")),
                    (Target::Baseline, _) => Some(kernel!($t, Baseline, $base x 2 x 4, $narrow)),
                    _ => None,
                }
            }

            fn with_room<T>(side: Side, f: impl FnOnce(&mut [$t]) -> T) -> T {
                thread_local! {
                    static ROOM: [Cell<Vec<$t>>; 2] = const { [Cell::new(Vec::new()), Cell::new(Vec::new())] };
                }
                let mut room = ROOM.with(|room| room[side as usize].take());
                if room.is_empty() {
                    // all that is ever asked for, and a cache line to begin on the next; what is not used takes no
                    // memory
                    room = vec![0.0; ROOM_OF[side as usize] + LINE / size_of::<$t>()];
                }
                let start = room.as_ptr().align_offset(LINE);
                let result = f(&mut room[start..]);
                ROOM.with(|kept| kept[side as usize].set(room));
                result
            }
        }
    };
}
product!(f32, 8, 16, 4, pairs_kernel);
product!(f64, 4, 8, 2);

#[cfg(target_arch = "x86_64")]
fn fma() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
fn bf16_instructions() -> bool {
    is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vl")
}

fn pairs_kernel(target: Target) -> Option<Kernel<f32>> {
    match target {
        #[cfg(target_arch = "x86_64")]
        Target::Avx512Bf16 if bf16_instructions() => {
            Some(pairs_kernel!(Bf16Pairs, Bf16Pairs, 12 x 2 x 16, "avx512bf16,avx512vl"))
        }
        #[cfg(target_arch = "x86_64")]
        // few rows wait for memory, whatever multiplies them
        Target::Avx512 if bf16_instructions() => {
            Some(pairs_kernel!(FmaPairs, Bf16Pairs, 12 x 2 x 16, "avx512bf16,avx512vl"))
        }
        #[cfg(target_arch = "x86_64")]
        Target::Avx512 if is_x86_feature_detected!("avx512f") => {
            Some(pairs_kernel!(FmaPairs, FmaPairs, 12 x 2 x 16, "avx512f"))
        }
        #[cfg(target_arch = "x86_64")]
        Target::Avx2 if fma() => Some(pairs_kernel!(FmaPairs, FmaPairs, 6 x 2 x 8, "avx2,fma")),
        Target::Baseline => Some(pairs_kernel!(BaselinePairs, BaselinePairs, 4 x 2 x 4)),
        _ => None,
    }
}

/// Tiles as of AVX512_BF16, for any processor: what lies around the instruction is tested everywhere.
#[cfg(test)]
pub(super) fn wide_pairs() -> Kernel<f32> {
    pairs_kernel!(BaselinePairs, BaselinePairs, 12 x 2 x 16)
}
