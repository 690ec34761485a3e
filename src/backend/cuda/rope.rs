//! Rotary positions, in place on the packed buffer.

use super::attention::padded;
use super::backend::Cuda;
use super::device::{Args, Device};
use crate::backend::{F, Heads, RopeOps, S, Tokens, Turn};
use crate::error::Result;

impl<D: Device> RopeOps for Cuda<D> {
    fn rope(&self, s: Heads, tokens: &Tokens<Self>, table: &S<Self>, turn: Turn, qkv: &mut F<Self>) -> Result {
        padded(s.dim)?; // as attention, which follows: a thread turns four pairs
        let args = Args::default()
            .addresses([tokens.pos.address(), table.address()])
            .float(if turn == Turn::Forward { 1.0 } else { -1.0 })
            .address(qkv.address())
            .int(s.q + s.kv)
            .int(s.dim)
            .int(s.width());
        let threads = ((s.q + s.kv) * s.dim / 8).next_multiple_of(32).clamp(32, 256) as u32;
        self.blocks("rope", [s.tokens, 1], threads, 0, args)
    }
}
