//! Whether a GPU computes what it should: bf16 to f32 and back, bit for bit against the host.

use super::arguments::{Arg, Geometry};
use super::driver::Driver;
use crate::error::{Error, Result};
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
