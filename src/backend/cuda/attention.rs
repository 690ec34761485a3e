//! Launches of the attention kernels: a kernel per padded head width, tiles from `kernels/attention_fwd.cu` and
//! `kernels/attention_bwd.cu`; and of those on a cache, `kernels/attention_cached.cu`.

use super::backend::Cuda;
use super::device::{Args, Device, halves};
use crate::backend::{Dropout, F, Heads, Ids, S, Tokens};
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
fn words(s: Heads) -> [u64; 4] {
    let scale = s.scale as f32;
    let log2 = (s.scale * std::f64::consts::LOG2_E) as f32;
    [
        s.width() as u64,
        halves(s.tokens as u32, s.q as u32),
        halves(s.kv as u32, s.dim as u32),
        halves(scale.to_bits(), log2.to_bits()),
    ]
}

impl<D: Device> Cuda<D> {
    pub(super) fn attend(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        qkv: &F<Self>,
        drop: Option<Dropout<Self>>,
        y: &mut F<Self>,
        lse: &mut S<Self>,
    ) -> Result {
        let width = padded(s.dim)?;
        let tiles = forward(width);
        let args = Args::default()
            .words(&words(s))
            .address(tokens.seg_start.address())
            .address(qkv.address())
            .words(&Dropout::words(drop))
            .address(y.address())
            .address(lse.address());
        let grid = [s.tokens.div_ceil(tiles.own), s.q];
        self.blocks(&format!("attention_fwd_{width}"), grid, tiles.threads, tiles.shared(width), args)
    }

    pub(super) fn attend_bwd(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        qkv: &F<Self>,
        drop: Option<Dropout<Self>>,
        y: &F<Self>,
        lse: &S<Self>,
        dy: &F<Self>,
        delta: &mut S<Self>,
        d_qkv: &mut F<Self>,
    ) -> Result {
        let width = padded(s.dim)?;
        let rows = s.tokens * s.q;
        let args =
            Args::default().address(y.address()).address(dy.address()).address(delta.address()).long(rows).int(s.dim);
        let warps = 8;
        self.blocks("attention_delta", [rows.div_ceil(warps), 1], 32 * warps as u32, 0, args)?;
        for (kernel, tiles, heads) in [("dq", queries(width), s.q), ("dkv", keys(width), s.kv)] {
            let args = Args::default()
                .words(&words(s))
                .address(tokens.seg_start.address())
                .address(qkv.address())
                .words(&Dropout::words(drop))
                .address(dy.address())
                .address(lse.address())
                .address(delta.address())
                .address(d_qkv.address());
            let grid = [s.tokens.div_ceil(tiles.own), heads];
            self.blocks(&format!("attention_{kernel}_{width}"), grid, tiles.threads, tiles.shared(width), args)?;
        }
        Ok(())
    }

    pub(super) fn keep(&self, s: Heads, at: &Ids<Self>, qkv: &F<Self>, cache: &mut F<Self>) -> Result {
        let (from, kept) = (s.q * s.dim, 2 * s.kv * s.dim);
        let args = Args::default()
            .address(at.address())
            .address(qkv.address())
            .address(cache.address())
            .int(s.width())
            .int(from)
            .int(kept);
        self.per_row("cache_rows", s.tokens, kept, args)
    }

    pub(super) fn attend_cached(
        &self,
        s: Heads,
        tokens: &Tokens<Self>,
        at: &Ids<Self>,
        qkv: &F<Self>,
        cache: &F<Self>,
        y: &mut F<Self>,
    ) -> Result {
        padded(s.dim)?; // those that a prompt can be read with
        let args = Args::default()
            .words(&words(s))
            .address(tokens.pos.address())
            .address(at.address())
            .address(qkv.address())
            .address(cache.address())
            .address(y.address());
        // of each warp: largest score, sum, weighted values
        let warps = 4;
        self.blocks("attention_cached", [s.tokens, s.q], 32 * warps, warps * (2 + s.dim as u32) * 4, args)
    }
}
