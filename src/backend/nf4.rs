//! NF4: frozen weights in 4 bits, in the format of bitsandbytes (Dettmers et al. 2023, "QLoRA", arXiv 2305.14314,
//! section 3).
//!
//! A tensor is a line of values, in the order of its file, cut into blocks of 64. A block keeps its largest magnitude
//! `absmax` in f32 and a code of 4 bits for each value: the nearest of 16 [`LEVELS`] between -1 and 1, the quantiles of
//! a normal distribution. A value is `LEVELS[code] * absmax`.
//!
//! With double quantisation the `absmax` of 256 blocks are themselves in 8 bits: their mean is taken off, and what is
//! left is coded by a map of 256 levels with a largest magnitude of its own (Dettmers et al. 2022, arXiv
//! 2110.02861). That makes 4.127 bits a value, and 4.5 without.
//!
//! All arithmetic is in f32, each operation rounded, so that codes and values have the bits of bitsandbytes' operations
//! on the CPU. Values are rounded to a device's working type after that.

mod nested;

use super::{Elem, Memory};
use crate::error::Result;
use rayon::prelude::*;

/// What the codes stand for.
pub const LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Values of a block.
pub const BLOCK: usize = 64;
/// Blocks whose `absmax` share a scale.
pub const NESTED_BLOCK: usize = 256;

/// A tensor in 4 bits; `C` holds bytes, `S` holds f32.
pub struct Coded<C, S> {
    /// Values.
    pub len: usize,
    /// Values of a block.
    pub block: usize,
    /// Two codes a byte, the first in the upper half: `[len / 2]`, rounded up.
    pub codes: C,
    /// The `absmax` of all blocks.
    pub scales: Scales<C, S>,
}

/// The largest magnitude of each block.
pub enum Scales<C, S> {
    /// As it is, `[blocks]`.
    Full(S),
    /// `map[codes[i]] * absmax[i / block] + offset`.
    Nested {
        /// `[blocks]`.
        codes: C,
        /// Blocks that share a scale.
        block: usize,
        /// `[blocks / block]`, rounded up.
        absmax: S,
        /// What the codes stand for, `[256]`.
        map: S,
        /// Mean of all magnitudes.
        offset: f32,
    },
}

/// On the host.
pub type Host = Coded<Vec<u8>, Vec<f32>>;

/// Rows that a file keeps as `[head, (query, key, value), dim]` where ours are `[(query, key, value), head, dim]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerHead {
    /// Heads.
    pub heads: usize,
    /// Features per head.
    pub dim: usize,
}

impl PerHead {
    /// Where row `r` of ours lies in the file.
    pub fn stored_row(self, r: usize) -> usize {
        let PerHead { heads, dim } = self;
        let (part, head, d) = (r / (heads * dim), r / dim % heads, r % dim);
        (head * 3 + part) * dim + d
    }
}

/// Consecutive rows of a matrix that are one tensor of a file.
pub struct Slice<C, S> {
    /// The first of them.
    pub row: usize,
    /// How many.
    pub rows: usize,
    /// The order of its rows in the file, where that differs.
    pub order: Option<PerHead>,
    /// Its values, in the order of the file.
    pub values: Coded<C, S>,
}

/// A matrix `[rows, cols]` of one tensor or several, whose blocks do not run on from one to the next.
pub struct Nf4<C, S> {
    /// Columns.
    pub cols: usize,
    /// In the order of their rows.
    pub slices: Vec<Slice<C, S>>,
}

/// In the memory of a device.
pub type OnDevice<B> = Nf4<<B as Memory>::Buf<u8>, <B as Memory>::Buf<f32>>;

/// How weights are quantised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scheme {
    /// Whether the scales of blocks are quantised too.
    pub double: bool,
}

impl<C, S> Coded<C, S> {
    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.len.div_ceil(self.block)
    }

    /// The same tensor in other memory: `bytes` and `floats` copy a buffer of so many values.
    fn copied<D, T>(
        &self, bytes: &impl Fn(&C, usize) -> Result<D>, floats: &impl Fn(&S, usize) -> Result<T>,
    ) -> Result<Coded<D, T>> {
        let blocks = self.blocks();
        let scales = match &self.scales {
            Scales::Full(absmax) => Scales::Full(floats(absmax, blocks)?),
            Scales::Nested { codes, block, absmax, map, offset } => Scales::Nested {
                codes: bytes(codes, blocks)?,
                block: *block,
                absmax: floats(absmax, blocks.div_ceil(*block))?,
                map: floats(map, 256)?,
                offset: *offset,
            },
        };
        Ok(Coded { len: self.len, block: self.block, codes: bytes(&self.codes, self.len.div_ceil(2))?, scales })
    }
}

impl Host {
    /// Quantises values in the order of their file, by the threads of the pool. They must be finite.
    pub fn of(values: &[f32], scheme: Scheme) -> Host {
        /// Values of a task, whole blocks.
        const TASK: usize = 256 * BLOCK;
        let mut codes = vec![0; values.len().div_ceil(2)];
        let mut absmax = vec![0.0; values.len().div_ceil(BLOCK)];
        let tasks = codes.par_chunks_mut(TASK / 2).zip(absmax.par_chunks_mut(TASK / BLOCK));
        tasks.zip(values.par_chunks(TASK)).for_each(|((codes, absmax), values)| {
            for ((codes, most), values) in codes.chunks_mut(BLOCK / 2).zip(absmax).zip(values.chunks(BLOCK)) {
                *most = encode(values, codes);
            }
        });
        let scales = if scheme.double { nested::encode(&absmax) } else { Scales::Full(absmax) };
        Coded { len: values.len(), block: BLOCK, codes, scales }
    }

    /// A tensor of `len` values that holds none, where only sizes count.
    pub fn sizes(len: usize, scheme: Scheme) -> Host {
        let scales = match scheme.double {
            false => Scales::Full(Vec::new()),
            true => Scales::Nested {
                codes: Vec::new(),
                block: NESTED_BLOCK,
                absmax: Vec::new(),
                map: Vec::new(),
                offset: 0.0,
            },
        };
        Coded { len, block: BLOCK, codes: Vec::new(), scales }
    }

    /// All values.
    pub fn decode(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.len];
        const TASK: usize = 1 << 14;
        values.par_chunks_mut(TASK).enumerate().for_each(|(i, values)| self.values(i * TASK, values));
        values
    }

    /// The values from `first` on.
    #[inline]
    pub fn values<T: From<f32>>(&self, first: usize, to: &mut [T]) {
        let (mut at, mut to) = (first, to);
        while !to.is_empty() {
            let block = at / self.block;
            let n = to.len().min((block + 1) * self.block - at);
            let (head, rest) = std::mem::take(&mut to).split_at_mut(n);
            decode(&self.codes, at, self.absmax(block), head);
            (at, to) = (at + n, rest);
        }
    }

    /// The largest magnitude of a block.
    #[inline]
    fn absmax(&self, i: usize) -> f32 {
        match &self.scales {
            Scales::Full(absmax) => absmax[i],
            Scales::Nested { codes, block, absmax, map, offset } => {
                map[usize::from(codes[i])] * absmax[i / block] + offset
            }
        }
    }
}

impl<C, S> Nf4<C, S> {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.slices.last().map_or(0, |last| last.row + last.rows)
    }

    /// The same matrix in other memory ([`Coded::copied`]).
    fn copied<D, T>(
        &self, bytes: &impl Fn(&C, usize) -> Result<D>, floats: &impl Fn(&S, usize) -> Result<T>,
    ) -> Result<Nf4<D, T>> {
        let slice = |s: &Slice<C, S>| {
            Ok(Slice { row: s.row, rows: s.rows, order: s.order, values: s.values.copied(bytes, floats)? })
        };
        Ok(Nf4 { cols: self.cols, slices: self.slices.iter().map(slice).collect::<Result<_>>()? })
    }
}

impl<C> Nf4<C, C> {
    /// Every buffer.
    pub fn buffers(&self) -> Vec<&C> {
        fn of<C>(values: &Coded<C, C>) -> Vec<&C> {
            match &values.scales {
                Scales::Full(absmax) => vec![&values.codes, absmax],
                Scales::Nested { codes, absmax, map, .. } => vec![&values.codes, codes, absmax, map],
            }
        }
        self.slices.iter().flat_map(|slice| of(&slice.values)).collect()
    }
}

impl<C, S> FromIterator<Nf4<C, S>> for Nf4<C, S> {
    /// One matrix below the other.
    fn from_iter<I: IntoIterator<Item = Nf4<C, S>>>(parts: I) -> Self {
        let mut whole = Nf4 { cols: 0, slices: Vec::new() };
        for part in parts {
            let row = whole.rows();
            whole.cols = part.cols;
            whole.slices.extend(part.slices.into_iter().map(|slice| Slice { row: row + slice.row, ..slice }));
        }
        whole
    }
}

impl Nf4<Vec<u8>, Vec<f32>> {
    /// The same in the memory of a device.
    pub fn upload<B: Memory>(&self, b: &B) -> Result<OnDevice<B>> {
        fn copy<B: Memory, T: Elem>(b: &B, host: &[T], len: usize) -> Result<B::Buf<T>> {
            let mut buffer = b.alloc(len)?;
            b.write(&mut buffer, host)?;
            Ok(buffer)
        }
        self.copied(&|host, len| copy(b, host, len), &|host, len| copy(b, host, len))
    }

    /// A copy of what lies on a device.
    pub fn download<B: Memory>(b: &B, from: &OnDevice<B>) -> Result<Self> {
        fn copy<B: Memory, T: Elem>(b: &B, buffer: &B::Buf<T>, len: usize) -> Result<Vec<T>> {
            let mut host = vec![T::default(); len];
            b.read(buffer, &mut host)?;
            Ok(host)
        }
        from.copied(&|buffer, len| copy(b, buffer, len), &|buffer, len| copy(b, buffer, len))
    }

    /// All values, row by row.
    pub fn decode(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows() * self.cols];
        values.par_chunks_mut(self.cols).enumerate().for_each(|(row, to)| self.row(row, 0, to));
        values
    }

    /// The values of row `row` from column `first` on.
    #[inline]
    pub fn row<T: From<f32>>(&self, row: usize, first: usize, to: &mut [T]) {
        let Some(slice) = self.slices.iter().rfind(|slice| slice.row <= row) else { return };
        let r = row - slice.row;
        let r = slice.order.map_or(r, |order| order.stored_row(r));
        slice.values.values(r * self.cols + first, to);
    }
}

/// Codes of a block, and its largest magnitude. The half of a byte behind the last value has the code of 0.
fn encode(values: &[f32], codes: &mut [u8]) -> f32 {
    let most = values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    // bitsandbytes multiplies whole blocks by the reciprocal, and divides the shorter one at the end
    let (whole, floor) = (values.len() == BLOCK, most.max(1e-38));
    let scaled = |x: f32| if whole { x * (1.0 / floor) } else { x / floor };
    for (codes, values) in codes.iter_mut().zip(values.chunks(2)) {
        let [first, second] = [0, 1].map(|i| values.get(i).map_or(code(0.0), |&x| code(scaled(x))));
        *codes = first << 4 | second;
    }
    if whole { most } else { floor }
}

/// The level nearest to `x` in [-1, 1]; of two the lower.
#[inline(always)]
fn code(x: f32) -> u8 {
    const THRESHOLDS: [f32; 15] = {
        let mut between = [0.0; 15];
        let mut i = 0;
        while i < 15 {
            between[i] = (LEVELS[i] + LEVELS[i + 1]) / 2.0;
            i += 1;
        }
        between
    };
    THRESHOLDS.iter().map(|threshold| u8::from(x > *threshold)).sum()
}

/// Values of one block from `first` of the tensor on.
#[inline(always)]
fn decode<T: From<f32>>(codes: &[u8], first: usize, absmax: f32, to: &mut [T]) {
    // a product for each level, not for each value: the same bits
    let levels = LEVELS.map(|level| level * absmax);
    let value = |code: u8| T::from(levels[usize::from(code & 15)]);
    let (mut at, mut to) = (first, to);
    if at % 2 == 1 {
        let [x, rest @ ..] = to else { return };
        *x = value(codes[at / 2]);
        (at, to) = (at + 1, rest);
    }
    let codes = &codes[at / 2..][..to.len().div_ceil(2)];
    let (pairs, last) = to.as_chunks_mut::<2>();
    for (pair, &byte) in pairs.iter_mut().zip(codes) {
        *pair = [value(byte >> 4), value(byte)];
    }
    if let ([x], Some(&byte)) = (last, codes.last()) {
        *x = value(byte >> 4);
    }
}

#[cfg(test)]
mod tests;
