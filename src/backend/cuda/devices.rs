//! What the GPUs of a started driver are.
#![allow(unsafe_code)] // calls into the driver

use super::api::{Api, Attempt, check, start};
use super::failure::Gpu;
use super::sys::{DeviceNumber, attribute};
use crate::error::Result;
use std::ffi::{c_char, c_int};

/// How many GPUs a started driver shows.
pub fn count() -> Result<usize> {
    let (api, mut count) = (start()?, 0);
    // SAFETY: a valid place for a number.
    let counted = check(unsafe { (api.cuda.cuDeviceGetCount)(&mut count) });
    counted.map_err(|why| api.failed(None, "counting GPUs", why))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// What a GPU is.
#[derive(Clone, Debug)]
pub struct Properties {
    /// Its number and name.
    pub gpu: Gpu,
    /// What the driver knows it by.
    pub(super) number: DeviceNumber,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Bytes of memory.
    pub memory: usize,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of shared memory that a block can have.
    pub shared: u32,
}

/// What the GPU of this number is, as the driver counts. One that does not answer is an error that names it.
pub fn properties(index: usize) -> Result<Properties> {
    let api = start()?;
    let mut gpu = Gpu { index, name: "unknown".into() };
    look(api, &mut gpu).map_err(|why| api.failed(Some(&gpu), "asking what it is", why))
}

fn look(api: &Api, gpu: &mut Gpu) -> Attempt<Properties> {
    let (cuda, mut number, mut memory, mut name) = (&api.cuda, 0, 0, [0u8; 256]);
    let ordinal = c_int::try_from(gpu.index).unwrap_or(c_int::MAX);
    // SAFETY: valid places for a number, a size and a text of the given length.
    unsafe {
        check((cuda.cuDeviceGet)(&mut number, ordinal))?;
        let room = name.len() as c_int - 1;
        check((cuda.cuDeviceGetName)(name.as_mut_ptr().cast::<c_char>(), room, number))?;
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        gpu.name = String::from_utf8_lossy(&name[..end]).into_owned();
        check((cuda.cuDeviceTotalMem_v2)(&mut memory, number))?;
    }
    let value = |which| api.device_attribute(number, which);
    Ok(Properties {
        number,
        capability: (value(attribute::COMPUTE_CAPABILITY_MAJOR)?, value(attribute::COMPUTE_CAPABILITY_MINOR)?),
        memory,
        multiprocessors: value(attribute::MULTIPROCESSOR_COUNT)?,
        shared: value(attribute::MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        gpu: gpu.clone(),
    })
}
