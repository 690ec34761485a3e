//! Launches of the attention kernels: a kernel per padded head width, with tiles as in `kernels/attention_fwd.cu` and
//! `kernels/attention_bwd.cu`, and on Hopper as in `kernels/attention_*.sm90.cu`.

use super::backend::Cuda;
use super::device::{Args, Device, halves};
use crate::backend::{AttentionOps, Dropout, F, Heads, Ids, Rows, S, Tokens};
use crate::error::{Error, Result};

/// Head widths that kernels are compiled for; others are padded to the next.
const WIDTHS: [usize; 7] = [32, 64, 80, 96, 128, 192, 256];

/// The tiles of a kernel, as its source has them.
struct Tiles {
    /// Rows that a block owns.
    own: usize,
    /// Rows of the other side that it walks over at a time.
    other: usize,
    /// Tiles of each in shared memory.
    kept: (usize, usize),
    /// Threads of a block.
    threads: u32,
}

impl Tiles {
    fn shared(&self, width: usize) -> u32 {
        let pitch = width * 2 + 16;
        ((self.kept.0 * self.own + self.kept.1 * self.other) * pitch) as u32
    }
}

fn forward(width: usize) -> Tiles {
    Tiles { own: 64, other: if width <= 128 { 64 } else { 32 }, kept: (1, 2), threads: 128 }
}

fn queries(width: usize) -> Tiles {
    match width {
        ..=128 => Tiles { own: 64, other: 64, kept: (2, 2), threads: 128 },
        _ => Tiles { own: 32, other: 32, kept: (2, 2), threads: 64 },
    }
}

fn keys(width: usize) -> Tiles {
    Tiles { own: if width <= 128 { 64 } else { 32 }, other: 32, kept: (2, 2), threads: 128 }
}

/// The width that a head is padded to. Fails where there is no kernel for it.
pub fn padded(dim: usize) -> Result<usize> {
    let width = WIDTHS.into_iter().find(|&width| dim <= width).filter(|_| dim.is_multiple_of(8));
    width.ok_or_else(|| {
        Error::Device(format!(
            "attention heads of {dim} are not supported on CUDA, only multiples of 8 up to 256; train on the CPU \
             (--device cpu)"
        ))
    })
}

/// The kernels' struct of that name (kernels/attention.cuh).
pub(super) fn words(s: Heads) -> [u64; 4] {
    let scale = s.scale as f32;
    let log2 = (s.scale * std::f64::consts::LOG2_E) as f32;
    [
        s.width() as u64,
        halves(s.tokens as u32, s.q as u32),
        halves(s.kv as u32, s.dim as u32),
        halves(scale.to_bits(), log2.to_bits()),
    ]
}

/// Threads of a block of Hopper's kernels, and rows of their tiles (`kernels/attention_sm90.cuh`).
const THREADS: u32 = 384;
const ROWS: usize = 64;

/// What a block of Hopper's kernels keeps in shared memory: tiles that it owns, and rings of `stages` stages, which
/// together have `staged` tiles to a stage and `statistics` bytes.
struct Rings {
    owned: usize,
    stages: usize,
    staged: usize,
    statistics: usize,
}

impl Rings {
    fn shared(&self, dim: usize) -> u32 {
        let barriers = 2 * 16 * self.stages + 8; // of up to two rings, and of what is owned
        let tiles = self.owned + self.stages * self.staged;
        (tiles * ROWS * dim * 2 + self.stages * self.statistics + barriers) as u32
    }
}

/// Queries of two warpgroups; keys and values.
fn forward_sm90() -> Rings {
    Rings { owned: 2, stages: 4, staged: 2, statistics: 0 }
}

/// Queries and gradients of two warpgroups; keys and values.
fn queries_sm90(dim: usize) -> Rings {
    Rings { owned: 4, stages: if dim == 64 { 4 } else { 2 }, staged: 2, statistics: 0 }
}

/// Keys and values of two warpgroups; queries, gradients and what is known of each query.
fn keys_sm90(dim: usize) -> Rings {
    Rings { statistics: 1024, ..queries_sm90(dim) }
}

/// The grid of Hopper's kernels whose blocks own queries: 64 of two heads that share keys, else 128 of one head.
fn by_queries(s: Heads) -> [usize; 2] {
    let heads = if (s.q / s.kv).is_multiple_of(2) { 2 } else { 1 };
    [s.tokens.div_ceil(2 * ROWS / heads), s.q / heads]
}

impl<D: Device> Cuda<D> {
    /// Whether Hopper's kernels do this: whole heads of one or two panels, and no dropout, whose random numbers take
    /// more time than tensor cores could save.
    fn on_hopper(&self, s: Heads, drop: Option<Dropout<Self>>) -> bool {
        self.hopper && matches!(s.dim, 64 | 128) && s.scale > 0.0 && drop.is_none()
    }
}

impl<D: Device> AttentionOps for Cuda<D> {
    fn attention(
        &self, s: Heads, tokens: &Tokens<Self>, qkv: &F<Self>, drop: Option<Dropout<Self>>, y: &mut F<Self>,
        lse: &mut S<Self>,
    ) -> Result {
        if self.on_hopper(s, drop) {
            let args = Args::default()
                .map(self.device.tensor_map(&qkv.memory, [s.tokens, s.width()])?)
                .words(&words(s))
                .addresses([tokens.seg_start.address(), y.address(), lse.address()]);
            let shared = forward_sm90().shared(s.dim);
            return self.blocks(&format!("attention_fwd_sm90_{}", s.dim), by_queries(s), THREADS, shared, args);
        }
        let width = padded(s.dim)?;
        let tiles = forward(width);
        let args = Args::default()
            .words(&words(s))
            .addresses([tokens.seg_start.address(), qkv.address()])
            .words(&Dropout::words(drop))
            .addresses([y.address(), lse.address()]);
        let grid = [s.tokens.div_ceil(tiles.own), s.q];
        self.blocks(&format!("attention_fwd_{width}"), grid, tiles.threads, tiles.shared(width), args)
    }

    fn attention_bwd(
        &self, s: Heads, tokens: &Tokens<Self>, qkv: &F<Self>, drop: Option<Dropout<Self>>, y: &F<Self>, lse: &S<Self>,
        dy: &F<Self>, delta: &mut S<Self>, d_qkv: &mut F<Self>,
    ) -> Result {
        let width = padded(s.dim)?;
        let rows = s.tokens * s.q;
        let args = Args::default().addresses([y.address(), dy.address(), delta.address()]).long(rows).int(s.dim);
        let (threads, lanes) = (256, (s.dim / 8).next_power_of_two());
        self.blocks("attention_delta", [(rows * lanes).div_ceil(threads), 1], threads as u32, 0, args)?;
        if self.on_hopper(s, drop) {
            let by_keys = [s.tokens.div_ceil(2 * ROWS), s.kv];
            for (kernel, rings, grid) in
                [("dq", queries_sm90(s.dim), by_queries(s)), ("dkv", keys_sm90(s.dim), by_keys)]
            {
                let args = Args::default()
                    .map(self.device.tensor_map(&qkv.memory, [s.tokens, s.width()])?)
                    .map(self.device.tensor_map(&dy.memory, [s.tokens, s.q * s.dim])?)
                    .words(&words(s))
                    .addresses([tokens.seg_start.address(), lse.address(), delta.address(), d_qkv.address()]);
                self.blocks(&format!("attention_{kernel}_sm90_{}", s.dim), grid, THREADS, rings.shared(s.dim), args)?;
            }
            return Ok(());
        }
        for (kernel, tiles, heads) in [("dq", queries(width), s.q), ("dkv", keys(width), s.kv)] {
            let args = Args::default()
                .words(&words(s))
                .addresses([tokens.seg_start.address(), qkv.address()])
                .words(&Dropout::words(drop))
                .addresses([dy.address(), lse.address(), delta.address(), d_qkv.address()]);
            let grid = [s.tokens.div_ceil(tiles.own), heads];
            self.blocks(&format!("attention_{kernel}_{width}"), grid, tiles.threads, tiles.shared(width), args)?;
        }
        Ok(())
    }

    fn attention_probs(
        &self, s: Heads, chosen: Rows, tokens: &Tokens<Self>, rows: &Ids<Self>, qkv: &F<Self>, probs: &mut S<Self>,
    ) -> Result {
        padded(s.dim)?; // those that the forward pass has a kernel for
        let args = Args::default()
            .words(&words(s))
            .addresses([rows.address(), tokens.seg_start.address(), qkv.address(), probs.address()])
            .long(chosen.width);
        self.blocks("attention_probs", [chosen.n, s.q], 128, 32 * 4, args)
    }
}
