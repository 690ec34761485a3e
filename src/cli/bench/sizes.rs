//! The shapes that kernels are timed at.

use crate::backend::Heads;
use clap::ValueEnum;

/// The size of the cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// A smoke test.
    Tiny,
    /// For a CPU.
    Small,
    /// Llama-3.2-1B with 16,384 tokens, for a GPU.
    Full,
}

/// The shapes of a size.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Tokens of a micro-batch.
    pub tokens: usize,
    /// Hidden features.
    pub hidden: usize,
    /// Inner features of the MLP.
    pub inner: usize,
    /// Vocabulary.
    pub vocab: usize,
    /// Query heads.
    pub q: usize,
    /// Key and value heads.
    pub kv: usize,
    /// Features of a head.
    pub dim: usize,
    /// Length of an example; divides `tokens`.
    pub length: usize,
    /// Rank of an adapter.
    pub rank: usize,
    /// Parameters of the optimiser's step.
    pub parameters: usize,
    /// Shares of active rows.
    pub active: &'static [f64],
    /// Query heads, key heads, features and length of each attention; length 0 is packed segments.
    pub attention: &'static [(usize, usize, usize, usize)],
    /// Shortest and longest packed segment.
    pub segments: (usize, usize),
}

/// Features of a head of the largest cases; the CUDA kernels have every width that is timed.
pub const HEAD_DIM: usize = FULL.dim;

const FULL: Sizes = Sizes {
    tokens: 16384,
    hidden: 2048,
    inner: 8192,
    vocab: 128_256,
    q: 32,
    kv: 8,
    dim: 64,
    length: 1024,
    rank: 32,
    parameters: 22_544_384,
    active: &[1.0, 0.35],
    attention: &[
        (32, 8, 64, 256),
        (32, 8, 64, 512),
        (32, 8, 64, 1024),
        (32, 8, 64, 2048),
        (32, 8, 64, 4096),
        (32, 8, 64, 0),
        (16, 8, 128, 256),
        (16, 8, 128, 1024),
        (16, 8, 128, 4096),
        (16, 8, 128, 0),
        (32, 32, 80, 1024),
        (8, 1, 256, 1024),
    ],
    segments: (100, 300),
};

const SMALL: Sizes = Sizes {
    tokens: 1024,
    hidden: 576,
    inner: 1536,
    vocab: 8192,
    q: 9,
    kv: 3,
    dim: 64,
    length: 256,
    rank: 16,
    parameters: 1 << 20,
    active: &[1.0, 0.35],
    attention: &[(9, 3, 64, 256), (9, 3, 64, 1024), (9, 3, 64, 0), (4, 2, 128, 256)],
    segments: (100, 300),
};

const TINY: Sizes = Sizes {
    tokens: 48,
    hidden: 32,
    inner: 64,
    vocab: 96,
    q: 4,
    kv: 2,
    dim: 8,
    length: 24,
    rank: 8,
    parameters: 1000,
    active: &[0.5],
    attention: &[(4, 2, 8, 24), (2, 1, 16, 0)],
    segments: (5, 15),
};

impl Sizes {
    /// The shapes of a size.
    pub fn of(size: Size) -> Sizes {
        match size {
            Size::Tiny => TINY,
            Size::Small => SMALL,
            Size::Full => FULL,
        }
    }

    /// The attention of the model over this many tokens.
    pub fn heads(&self, tokens: usize) -> Heads {
        Heads { tokens, q: self.q, kv: self.kv, dim: self.dim, scale: 1.0 / (self.dim as f64).sqrt() }
    }

    /// Tokens and heads, in words.
    pub fn shape(&self) -> String {
        format!("{} tokens, {}/{} heads of {}", self.tokens, self.q, self.kv, self.dim)
    }
}
