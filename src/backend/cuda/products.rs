//! Whether products are right: small ones of whole numbers, whose sums f32 holds exactly, against the host's, bit for
//! bit. They are of the kinds that training asks for: a bias, odd widths, transposes, sums added to what is there.

use super::device::{Device, Operand, Out, Product, matrix, transpose};
use super::driver::Block;
use super::failure;
use super::gpu::Gpu;
use crate::error::Result;
use half::bf16;

/// m, n, k, and whether a or b is a transpose.
const KINDS: [((usize, usize, usize), [bool; 2]); 4] = [
    ((48, 40, 64), [false, true]),
    ((33, 37, 40), [false, true]),
    ((24, 31, 16), [false; 2]),
    ((17, 9, 56), [true, false]),
];

/// Compares all of `KINDS`, as bf16 with a bias and as f32 that is added.
pub fn check(gpu: &Gpu) -> Result {
    for (shape, transposed) in KINDS {
        for out in [Out::Bf16, Out::F32] {
            let wrong = compare(gpu, shape, transposed, out)?;
            if wrong > 0 {
                let (m, n, k) = shape;
                let what = format!("{wrong} of {} results of [{m}, {k}] x [{k}, {n}] to {out:?} are wrong", m * n);
                return Err(failure::product(&gpu.driver().properties().gpu, &what));
            }
        }
    }
    Ok(())
}

/// Whole numbers from -3 to 3, which look random.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let hash = |i: u32| (i.wrapping_mul(0x9e37_79b1) ^ seed.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35) >> 16;
    (0..count as u32).map(|i| (hash(i) % 7) as f32 - 3.0).collect()
}

fn narrow(values: &[f32]) -> Vec<bf16> {
    values.iter().copied().map(bf16::from_f32).collect()
}

fn upload<T: bytemuck::Pod>(gpu: &Gpu, values: &[T]) -> Result<Block> {
    let bytes = bytemuck::cast_slice(values);
    let mut block = gpu.alloc(bytes.len())?;
    gpu.upload(&mut block, bytes)?;
    Ok(block)
}

/// How many values of a product differ from the host's.
fn compare(gpu: &Gpu, (m, n, k): (usize, usize, usize), [ta, tb]: [bool; 2], out: Out) -> Result<usize> {
    let (a, b, bias, before) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3), numbers(m * n, 4));
    let blocks = [upload(gpu, &narrow(&a))?, upload(gpu, &narrow(&b))?, upload(gpu, &narrow(&bias))?];
    let operand = |block, transposed, rows, columns| -> Operand<Block> {
        if transposed { transpose(block, 0, rows) } else { matrix(block, 0, columns) }
    };
    let product = Product::new((m, n, k), operand(&blocks[0], ta, m, k), operand(&blocks[1], tb, k, n));
    let at = |i: usize, j: usize| {
        let left = |l: usize| if ta { a[l * m + i] } else { a[i * k + l] };
        let right = |l: usize| if tb { b[j * k + l] } else { b[l * n + j] };
        (0..k).map(|l| left(l) * right(l)).sum::<f32>()
    };
    let places = || (0..m).flat_map(|i| (0..n).map(move |j| (i, j)));
    match out {
        Out::Bf16 => {
            let mut c = gpu.alloc(2 * m * n)?;
            gpu.product(product.plus(Some(&blocks[2])), &mut c)?;
            let mut found = vec![bf16::ZERO; m * n];
            gpu.download(&c, bytemuck::cast_slice_mut(&mut found))?;
            let expected = places().map(|(i, j)| bf16::from_f32(at(i, j) + bias[j]));
            Ok(found.iter().zip(expected).filter(|(x, y)| x.to_f32() != y.to_f32()).count())
        }
        Out::F32 => {
            let mut c = upload(gpu, &before)?;
            gpu.product(product.wide().added(), &mut c)?;
            let mut found = vec![0f32; m * n];
            gpu.download(&c, bytemuck::cast_slice_mut(&mut found))?;
            let expected = places().map(|(i, j)| at(i, j) + before[i * n + j]);
            Ok(found.iter().zip(expected).filter(|(x, y)| **x != *y).count())
        }
    }
}
