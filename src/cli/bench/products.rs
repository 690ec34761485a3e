//! Projections and their adapters.

use super::case::{Case, Cost, call};
use super::sizes::Sizes;
use crate::backend::{Backend, Gemm, Lora};

/// The shapes of a block: a frozen weight forward and backward, a trained weight, an adapter.
pub fn cases<B: Backend + 'static>(s: Sizes) -> Vec<Case<B>> {
    let mut list: Vec<Case<B>> = Vec::new();
    for (inp, out) in [(s.hidden, (s.q + 2 * s.kv) * s.dim), (s.hidden, 2 * s.inner), (s.inner, s.hidden)] {
        let rows = s.tokens;
        let g = Gemm { rows, inp, out, alpha: 1.0 };
        let shape = format!("{rows} x {inp} to {out}");
        let float = size_of::<B::Float>();
        let (x, y, w) = (rows * inp, rows * out, inp * out);
        let cost = Cost { bytes: (x + y + w) * float, flops: 2 * rows * inp * out };
        list.push(Case::product("linear", shape.clone(), cost, move |lab| {
            let (a, weight, mut to) = (lab.float(x, 1.0)?, lab.weight(w)?, lab.room(y)?);
            call(move |b: &B| b.linear(g, &a, &weight, None, &mut to))
        }));
        list.push(Case::product("linear_bias", shape.clone(), cost, move |lab| {
            let (a, weight, bias) = (lab.float(x, 1.0)?, lab.weight(w)?, lab.float(out, 1.0)?);
            let mut to = lab.room(y)?;
            call(move |b: &B| b.linear(g, &a, &weight, Some(&bias), &mut to))
        }));
        list.push(Case::product("linear_bwd", shape.clone(), cost, move |lab| {
            let (a, weight, dy) = (lab.float(x, 1.0)?, lab.weight(w)?, lab.float(y, 1.0)?);
            let mut dx = lab.room(x)?;
            call(move |b: &B| b.linear_bwd(g, &a, &weight, &dy, Some(&mut dx), None, None))
        }));
        // the gradient of the weight is added to what is there, in statistics
        let trained = Cost { bytes: (2 * x + 2 * y + w) * float + 2 * w * size_of::<B::Stat>(), flops: 2 * cost.flops };
        list.push(Case::product("linear_bwd_full", shape.clone(), trained, move |lab| {
            let (a, weight, dy) = (lab.float(x, 1.0)?, lab.weight(w)?, lab.float(y, 1.0)?);
            let (mut dx, mut dw) = (lab.room(x)?, lab.stat_room(w)?);
            call(move |b: &B| b.linear_bwd(g, &a, &weight, &dy, Some(&mut dx), Some(&mut dw), None))
        }));
        list.extend(adapter(Lora { rows, inp, out, col: 0, stride: out, rank: s.rank, scale: 2.0 }));
    }
    list
}

fn adapter<B: Backend + 'static>(l: Lora) -> [Case<B>; 2] {
    let shape = format!("{} x {} to {}, rank {}", l.rows, l.inp, l.out, l.rank);
    let (float, stat) = (size_of::<B::Float>(), size_of::<B::Stat>());
    let (x, y, low, a, b) = (l.rows * l.inp, l.rows * l.out, l.rows * l.rank, l.rank * l.inp, l.out * l.rank);
    let one = 2 * l.rows * l.rank * (l.inp + l.out);
    let forward = Cost { bytes: (x + 2 * y + low + a + b) * float, flops: one };
    let backward = Cost { bytes: (3 * x + y + low + a + b) * float + 2 * (a + b) * stat, flops: 2 * one };
    [
        Case::product("lora", shape.clone(), forward, move |lab| {
            let (from, wa, wb) = (lab.float(x, 1.0)?, lab.float(a, 0.03)?, lab.float(b, 0.03)?);
            let (mut scratch, mut kept, mut to) = (lab.room(0)?, lab.room(low)?, lab.room(y)?);
            call(move |dev: &B| dev.lora(l, &from, &wa, &wb, None, &mut scratch, &mut kept, &mut to))
        }),
        Case::product("lora_bwd", shape, backward, move |lab| {
            let (from, wa, wb) = (lab.float(x, 1.0)?, lab.float(a, 0.03)?, lab.float(b, 0.03)?);
            let (kept, dy) = (lab.float(low, 1.0)?, lab.float(y, 1.0)?);
            let (mut scratch, mut d_low, mut dx) = (lab.room(0)?, lab.room(low)?, lab.room(x)?);
            let (mut da, mut db) = (lab.stat_room(a)?, lab.stat_room(b)?);
            call(move |dev: &B| {
                let dx = Some(&mut dx);
                dev.lora_bwd(l, &from, &wa, &wb, None, &kept, &dy, &mut scratch, &mut d_low, dx, &mut da, &mut db)
            })
        }),
    ]
}
