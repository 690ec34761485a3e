//! The emulator as the backend's device.

#![allow(unsafe_code)] // a launch: what a kernel does with its addresses is the kernel's

use super::device::{Args, Device, Operand, Out, Product, matrix};
use super::emulated::{Emulator, Memory, Schedule};
use super::{Geometry, TensorMap};
use crate::backend::cpu::gemm::{Mat, Mode, gemm};
use crate::error::Result;
use half::bf16;

/// An emulated device. Products are the CPU library's: bf16 in, sums in f32, rounded once.
pub struct Emulated {
    emulator: Emulator,
}

impl Emulated {
    /// A device of 8 GiB that runs threads in this order.
    pub fn open(schedule: Schedule) -> Result<Emulated> {
        Ok(Emulated { emulator: Emulator::new(8 << 30, schedule) })
    }

    /// Bytes that it can still give out.
    pub fn free_bytes(&self) -> u64 {
        self.emulator.free_bytes()
    }
}

/// A bf16 matrix out of a copy of the memory it lies in.
fn widen(operand: &Operand<Memory<u8>>) -> Result<Vec<f32>> {
    let bytes = operand.memory.read()?;
    let (pairs, _) = bytes.as_chunks::<2>();
    let values = pairs.get(operand.first..).unwrap_or_default();
    Ok(values.iter().map(|&pair| bf16::from_le_bytes(pair).to_f32()).collect())
}

impl Device for Emulated {
    type Memory = Memory<u8>;

    fn alloc(&self, bytes: usize) -> Result<Memory<u8>> {
        let mut memory = self.emulator.alloc(bytes.max(1))?;
        memory.fill(0)?;
        Ok(memory)
    }

    fn address(memory: &Memory<u8>) -> u64 {
        memory.address()
    }

    fn hopper(&self) -> bool {
        true
    }

    fn tensor_map(&self, memory: &Memory<u8>, shape: [usize; 2]) -> Result<TensorMap> {
        self.emulator.tensor_map::<bf16>(memory.address(), shape, [64, 64], 128)
    }

    fn upload(&self, to: &mut Memory<u8>, bytes: &[u8]) -> Result {
        to.write(bytes)
    }

    fn download(&self, from: &Memory<u8>, bytes: &mut [u8]) -> Result {
        from.read_at(0, bytes)
    }

    fn clear(&self, memory: &mut Memory<u8>, bytes: usize) -> Result {
        memory.write(&vec![0; bytes])
    }

    fn launch(&self, kernel: &str, geometry: Geometry, args: Args) -> Result {
        // SAFETY: the backend passes each kernel the operands of its declaration, in buffers of the shapes' size.
        unsafe { self.emulator.launch(kernel, geometry, &args.0) }
    }

    fn product(&self, p: Product<Memory<u8>>, c: &mut Memory<u8>) -> Result {
        let (m, n, _) = p.shape;
        if m == 0 || n == 0 {
            return Ok(());
        }
        let (a, b) = (widen(&p.a)?, widen(&p.b)?);
        let view = |values, o: &Operand<_>| {
            let rows = Mat::rows(values, o.ld);
            if o.transposed { rows.t() } else { rows }
        };
        let (left, right) = (view(&a, &p.a), view(&b, &p.b));
        let mut bytes = c.read()?;
        match p.out {
            Out::F32 => {
                let mut values: Vec<f32> = bytemuck::allocation::pod_collect_to_vec(&bytes);
                gemm(p.shape, left, right, &mut values[p.first..], p.ld, p.alpha, p.accumulate, Mode::PLAIN);
                c.write(bytemuck::cast_slice(&values))
            }
            Out::Bf16 => {
                let mut sums = vec![0f32; m * n];
                gemm(p.shape, left, right, &mut sums, n, p.alpha, false, Mode::PLAIN);
                if let Some(bias) = p.bias {
                    let bias = widen(&matrix(bias, 0, n))?;
                    sums.chunks_mut(n).for_each(|row| row.iter_mut().zip(&bias).for_each(|(y, b)| *y += b));
                }
                let (pairs, _) = bytes.as_chunks_mut::<2>();
                for (i, row) in sums.chunks(n).enumerate() {
                    for (pair, &sum) in pairs[p.first + i * p.ld..].iter_mut().zip(row) {
                        let before = if p.accumulate { bf16::from_le_bytes(*pair).to_f32() } else { 0.0 };
                        *pair = bf16::from_f32(sum + before).to_le_bytes();
                    }
                }
                c.write(&bytes)
            }
        }
    }
}
