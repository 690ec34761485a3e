//! The KV cache: rows written to it, and attention of new tokens to it (kernels/attention_cached.cu).

use super::attention::{padded, words};
use super::backend::Cuda;
use super::device::{Args, Device};
use crate::backend::{CacheOps, F, Heads, Ids, Tokens};
use crate::error::Result;

impl<D: Device> CacheOps for Cuda<D> {
    fn write_kv_cache(&self, s: Heads, at: &Ids<Self>, qkv: &F<Self>, cache: &mut F<Self>) -> Result {
        let (from, kept) = (s.q * s.dim, 2 * s.kv * s.dim);
        let args = Args::default()
            .addresses([at.address(), qkv.address(), cache.address()])
            .int(s.width())
            .int(from)
            .int(kept);
        self.per_row("cache_rows", s.tokens, kept, args)
    }

    fn attention_cached(
        &self, s: Heads, tokens: &Tokens<Self>, at: &Ids<Self>, qkv: &F<Self>, cache: &F<Self>, y: &mut F<Self>,
    ) -> Result {
        padded(s.dim)?; // those that a prompt can be read with
        let args = Args::default().words(&words(s)).addresses([
            tokens.pos.address(),
            at.address(),
            qkv.address(),
            cache.address(),
            y.address(),
        ]);
        // of each warp: largest score, sum, weighted values
        let warps = 4;
        self.blocks("attention_cached", [s.tokens, s.q], 32 * warps, warps * (2 + s.dim as u32) * 4, args)
    }
}
