//! Whether a GPU computes what it should: bf16 to f32 and back, bit for bit against the host; and what kernels for its
//! architecture compute, against those that serve all.

use super::arguments::{Arg, Geometry};
use super::backend::Cuda;
use super::device::Device;
use super::driver::Driver;
use crate::backend::{AttentionOps, F, Heads, Memory, Tokens};
use crate::error::{Error, Result};
use crate::random::{Purpose, Stream};
use half::bf16;

const BLOCK: u32 = 256;

/// Every bf16 value widened, and f32 values between two bf16 values, at them and beyond them rounded.
pub fn run(driver: &Driver) -> Result {
    let narrow: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    // odd steps through all exponents and signs; with infinities and NaN, subnormal and tied values among them
    let mut wide: Vec<f32> = (0..1u32 << 17).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b1))).collect();
    wide.extend((0..=u16::MAX).map(|bits| f32::from_bits(u32::from(bits) << 16 | 0x8000)));

    let widened: Vec<f32> = convert(driver, "widen_bf16", &narrow)?;
    let rounded: Vec<bf16> = convert(driver, "round_bf16", &wide)?;
    let same = |x: f32, y: f32| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
    let wrong = narrow.iter().zip(&widened).filter(|(x, y)| !same(x.to_f32(), **y)).count()
        + wide.iter().zip(&rounded).filter(|(x, y)| !same(bf16::from_f32(**x).to_f32(), y.to_f32())).count();
    match wrong {
        0 => Ok(()),
        n => Err(Error::Device(format!(
            "{}: {n} of {} results are wrong",
            driver.properties().gpu,
            narrow.len() + wide.len()
        ))),
    }
}

/// A kernel of (input, output, number of elements) on every element.
fn convert<A: bytemuck::Pod, B: bytemuck::Pod>(driver: &Driver, kernel: &str, input: &[A]) -> Result<Vec<B>> {
    let mut output = vec![B::zeroed(); input.len()];
    let mut x = driver.alloc(size_of_val(input))?;
    let y = driver.alloc(size_of_val(&output[..]))?;
    driver.write(&mut x, 0, bytemuck::cast_slice(input))?;
    let n = input.len();
    let geometry = Geometry::line((n as u32).div_ceil(BLOCK), BLOCK, 0);
    driver.launch(kernel, geometry, &[Arg::Address(x.address()), Arg::Address(y.address()), Arg::I64(n as i64)])?;
    driver.read(&y, 0, bytemuck::cast_slice_mut(&mut output))?;
    Ok(output)
}

impl<D: Device> Cuda<D> {
    /// Fails where the kernels that are for this architecture only disagree with those that serve all. They are
    /// compared by attention and its gradient on random numbers.
    pub fn proven(self) -> Result<Cuda<D>> {
        if !self.hopper {
            return Ok(self);
        }
        let found = attended(&self)?;
        let portable = self.portable();
        let expected = attended(&portable)?;
        for (x, y) in found.iter().zip(&expected) {
            let distance = distance(&x.values, &y.values, x.width);
            if distance >= AGREE {
                let Heads { q, kv, dim, .. } = x.heads;
                return Err(Error::Device(format!(
                    "{}, {q} heads over {kv} of {dim} features: the kernels for Hopper and for all GPUs differ by \
                     {distance:.2e}",
                    x.name
                )));
            }
        }
        Ok(Cuda { hopper: true, ..portable })
    }
}

/// Both round to bf16 at the same places, and add in another order: they differ by up to 6e-3 on the emulator.
const AGREE: f64 = 2e-2;

/// The largest of ||x - y|| / ||y|| of a row of `width` values. A row that is small beside the others counts as a tenth
/// of their mean. Infinite where a value is no number.
fn distance(x: &[f64], y: &[f64], width: usize) -> f64 {
    let norm = |row: &mut dyn Iterator<Item = f64>| row.map(|v| v * v).sum::<f64>().sqrt();
    let mean = norm(&mut y.iter().copied()) / ((y.len() / width) as f64).sqrt();
    let rows = x.chunks(width).zip(y.chunks(width)).map(|(x, y)| {
        let apart = norm(&mut x.iter().zip(y).map(|(x, y)| x - y)) / norm(&mut y.iter().copied()).max(mean / 10.0);
        if apart.is_finite() { apart } else { f64::INFINITY }
    });
    rows.fold(0.0, f64::max)
}

/// What a kernel wrote, in rows of a head's width.
struct Attended {
    name: &'static str,
    heads: Heads,
    width: usize,
    values: Vec<f64>,
}

/// Lengths of the segments: tiles enough for every stage of a ring to be used again several times, a second segment
/// that begins within a tile, and a last tile of 128 tokens of which two are there.
const LENGTHS: [u32; 2] = [700, 70];

/// Outputs and gradients of attention for both widths of heads that have kernels of their own, each with heads that
/// share keys (two in a block) and with one that does not.
fn attended<D: Device>(cuda: &Cuda<D>) -> Result<Vec<Attended>> {
    let lengths = LENGTHS;
    let n = lengths.iter().sum::<u32>() as usize;
    let filled = |values: Vec<u32>| -> Result<_> {
        let mut ids = cuda.alloc(n)?;
        cuda.write(&mut ids, &values)?;
        Ok(ids)
    };
    let starts = (0..n as u32).map(|t| if t < lengths[0] { 0 } else { lengths[0] });
    let tokens = Tokens::<Cuda<D>> {
        count: n,
        ids: cuda.alloc(n)?,
        pos: filled(starts.clone().zip(0..).map(|(start, t): (u32, u32)| t - start).collect())?,
        seg_start: filled(starts.collect())?,
        example: cuda.alloc(n)?,
    };
    let mut stream = Stream::new(1, Purpose::Init, 0);
    let mut random = |len: usize| -> Result<F<Cuda<D>>> {
        let mut buffer = cuda.alloc(len)?;
        let values: Vec<bf16> = (0..len).map(|_| bf16::from_f64(2.0 * stream.uniform() - 1.0)).collect();
        cuda.write(&mut buffer, &values)?;
        Ok(buffer)
    };
    let mut results = Vec::new();
    for (q, kv, dim) in [(2, 1, 64), (1, 1, 64), (2, 1, 128), (1, 1, 128)] {
        let s = Heads { tokens: n, q, kv, dim, scale: 2.0 / (dim as f64).sqrt() };
        let (qkv, dy) = (random(n * s.width())?, random(n * q * dim)?);
        let (mut y, mut d_qkv) = (cuda.alloc(n * q * dim)?, cuda.alloc(n * s.width())?);
        let (mut lse, mut delta) = (cuda.alloc(n * q)?, cuda.alloc(n * q)?);
        cuda.attention(s, &tokens, &qkv, None, &mut y, &mut lse)?;
        cuda.attention_bwd(s, &tokens, &qkv, None, &y, &lse, &dy, &mut delta, &mut d_qkv)?;
        for (name, values) in [("attention", &y), ("the gradient of attention", &d_qkv)] {
            let mut host = vec![bf16::ZERO; values.len];
            cuda.read(values, &mut host)?;
            let values = host.into_iter().map(bf16::to_f64).collect();
            results.push(Attended { name, heads: s, width: dim, values });
        }
    }
    Ok(results)
}
