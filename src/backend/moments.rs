//! AdamW's moments of a parameter, as they are or in 8 bits a value.
//!
//! # In 8 bits
//!
//! Values stand in groups of [`GROUP`] with the largest magnitude `absmax` of each (Dettmers et al. 2022, "8-bit
//! Optimizers via Block-wise Quantization", arXiv 2110.02861), so that an outlier spoils its own group only. A code
//! stands for a float with few bits of mantissa and its top code for 1, so that `absmax` itself is kept exactly:
//!
//! * the first moment: a sign, then 7 bits with 3 of mantissa, rounded to the nearest;
//! * the root of the second moment, which is what AdamW divides by: 8 bits with 4 of mantissa, rounded up or down at
//!   random with the mean in the middle. With beta2 = 0.999 a step moves the root by less than half the distance
//!   between two codes, so that rounding to the nearest would never let it move. A root above 0 is never stored as 0:
//!   the first moment would then be divided by eps alone.
//!
//! A step is computed in full from the decoded moments and rounded once at its end. docs/training.md has the error.

use super::{Memory, S};
use crate::choices::choices;
use crate::error::Result;

choices! {
    /// What is kept of the gradients of earlier steps, and how.
    Optim {
        /// AdamW; its two moments take 8 bytes per trained value.
        AdamW = "adamw",
        /// AdamW with moments in 8 bits, 2.03 bytes per trained value; tensors of less than 4,096 values keep theirs in
        /// full.
        AdamW8bit = "adamw_8bit",
    }
}

/// Values that share a largest magnitude.
pub const GROUP: usize = 256;

/// Smaller tensors keep their moments in full: norms and biases, where there is little to save.
pub const SMALLEST: usize = 4096;

/// Values as codes; the device and the host agree on them to the bit.
pub struct Codes<B: Memory> {
    /// `[len]`.
    pub codes: B::Buf<u8>,
    /// `[len / GROUP]`, rounded up.
    pub absmax: S<B>,
}

impl<B: Memory> Codes<B> {
    /// Zeros.
    pub fn new(b: &B, len: usize) -> Result<Codes<B>> {
        Ok(Codes { codes: b.alloc(len)?, absmax: b.alloc(len.div_ceil(GROUP))? })
    }
}

/// Both moments of a parameter of `len` values.
pub enum Moments<B: Memory> {
    /// As they are, `[len]` each.
    Full {
        /// Mean of gradients.
        m: S<B>,
        /// Mean of squared gradients.
        v: S<B>,
    },
    /// In 8 bits.
    Coded {
        /// Mean of gradients.
        m: Codes<B>,
        /// Root of the mean of squared gradients.
        root: Codes<B>,
    },
}

impl<B: Memory> Moments<B> {
    /// Zeros.
    pub fn new(b: &B, len: usize, optim: Optim) -> Result<Moments<B>> {
        Ok(match optim {
            Optim::AdamW8bit if len >= SMALLEST => Moments::Coded { m: Codes::new(b, len)?, root: Codes::new(b, len)? },
            _ => Moments::Full { m: b.alloc(len)?, v: b.alloc(len)? },
        })
    }
}
