//! Weights in 4 bits: decoded to bf16 for the operation that reads them.

use super::backend::{Buffer, Cuda};
use super::device::{Args, Device};
use crate::backend::nf4::{LEVELS, OnDevice, Scales};
use crate::backend::{Memory, Stored};
use crate::error::{Error, Result};
use half::bf16;

impl<D: Device> Cuda<D> {
    /// Calls `f` with the values of a weight in bf16, as trained and other frozen weights are here. Those of a weight
    /// in 4 bits lie in a panel that the next such weight takes over: a device does its work in order.
    pub(super) fn with_bf16(&self, w: &Stored<Self>, f: impl FnOnce(&Buffer<D, bf16>) -> Result) -> Result {
        let w = match w {
            Stored::Float(w) | Stored::Bf16(w) => return f(w),
            Stored::Nf4(w) => w,
        };
        let len = w.rows() * w.cols;
        // a panel that is too short is given back before the next one is taken
        let panel = match self.panel.take().filter(|panel| panel.len >= len) {
            Some(panel) => panel,
            None => self.alloc(len)?,
        };
        self.decode(w, &panel)?;
        f(&panel)?;
        self.panel.replace(Some(panel));
        Ok(())
    }

    /// All values of `w`, row by row. Fails where its blocks are of other sizes than bitsandbytes'.
    fn decode(&self, w: &OnDevice<Self>, to: &Buffer<D, bf16>) -> Result {
        let levels = self.levels()?;
        for slice in &w.slices {
            let values = &slice.values;
            let (scales, absmax, map, offset, nested) = match &values.scales {
                Scales::Full(absmax) => (0, absmax, 0, 0.0, 0),
                Scales::Nested { codes, block, absmax, map, offset } => {
                    (codes.address(), absmax, map.address(), *offset, logarithm(*block)?)
                }
            };
            let first = to.address() + (slice.row * w.cols * size_of::<bf16>()) as u64;
            let (heads, dim) = slice.order.map_or((0, 0), |order| (order.heads, order.dim));
            let args = Args::default()
                .addresses([values.codes.address(), scales, absmax.address(), map])
                .float(offset.into())
                .int(logarithm(values.block)?)
                .int(nested)
                .addresses([levels, first])
                .int(w.cols)
                .int(heads)
                .int(dim);
            self.per_row("decode_nf4", slice.rows, w.cols, args)?;
        }
        Ok(())
    }

    /// Where [`LEVELS`] lie on the device, written at the first use.
    fn levels(&self) -> Result<u64> {
        if let Some(levels) = self.levels.get() {
            return Ok(levels.address());
        }
        let mut levels = self.alloc(LEVELS.len())?;
        self.write(&mut levels, &LEVELS)?;
        Ok(self.levels.get_or_init(|| levels).address())
    }
}

/// The logarithm of a block's size to base 2. The kernel takes eight values of a block at a time.
fn logarithm(block: usize) -> Result<usize> {
    if block < 8 || !block.is_power_of_two() {
        return Err(Error::Device(format!(
            "4-bit weights in blocks of {block} are not supported on CUDA, only powers of 2 from 8 on; train on the \
             CPU (--device cpu)"
        )));
    }
    Ok(block.ilog2() as usize)
}
