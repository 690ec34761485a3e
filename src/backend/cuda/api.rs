//! The driver's library: opened once a process, started once.
//!
//! The version is read before any other function is looked up, so that an old driver is called old.
#![allow(unsafe_code)] // calls into the driver

use super::failure::{self, Gpu};
use super::libraries::{self, Opened};
use super::sys::{Cuda, DeviceNumber, Status};
use super::system;
use crate::error::{Error, Result};
use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::OnceLock;

/// A call of the driver that failed, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed(pub Status);

/// What a call of the driver gives.
pub type Attempt<T> = std::result::Result<T, Failed>;

/// The result of a call.
pub fn check(status: Status) -> Attempt<()> {
    if status == 0 { Ok(()) } else { Err(Failed(status)) }
}

/// The driver's functions.
pub struct Api {
    /// The table.
    pub cuda: Cuda,
    /// CUDA version: 1000 x major + 10 x minor.
    pub version: i32,
    /// The library's file.
    pub place: String,
}

/// Opens the driver's library, whose version suffices, without starting it.
pub fn api() -> Result<&'static Api> {
    static API: OnceLock<std::result::Result<Api, String>> = OnceLock::new();
    let opened = API.get_or_init(|| open().map_err(|why| why.to_string()));
    opened.as_ref().map_err(|why| Error::Device(why.clone()))
}

fn open() -> Result<Api> {
    let opened = libraries::driver().map_err(|why| match system::gpu_file() {
        Some(file) => failure::hidden(file, &why),
        None => failure::no_driver(&why),
    })?;
    let (Opened { library, .. }, place) = (&opened, opened.place());
    let lacks = |name: &str| failure::no_driver(&format!("{place} has no {name}"));
    // SAFETY: as the library's header declares it; the library is never closed.
    let version = unsafe { library.get::<unsafe extern "C" fn(*mut c_int) -> Status>("cuDriverGetVersion") };
    let get_version = version.map_err(|_| lacks("cuDriverGetVersion"))?;
    let mut version = 0;
    // SAFETY: a valid place for a number; the driver need not be started.
    match unsafe { get_version(&mut version) } {
        0 if version >= failure::NEEDED.0 => {
            let cuda = Cuda::load(library).map_err(lacks)?;
            Ok(Api { cuda, version, place })
        }
        0 => Err(failure::old_driver(version)),
        status => Err(failure::start(status, "the driver does not tell its version", &place)),
    }
}

/// Starts the driver. The first call of a process may take long: seconds where a GPU wakes up, and without end where it
/// waits for another program.
pub fn start() -> Result<&'static Api> {
    static STARTED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let api = api()?;
    // SAFETY: no preconditions; 0 is the only flag.
    let started = STARTED.get_or_init(|| {
        let status = check(unsafe { (api.cuda.cuInit)(0) });
        status.map_err(|why| failure::start(why.0, &api.words(why), &api.place).to_string())
    });
    started.as_ref().map_err(|why| Error::Device(why.clone()))?;
    Ok(api)
}

impl Api {
    /// The driver's words for a failure.
    fn words(&self, Failed(status): Failed) -> String {
        let mut text = ptr::null();
        // SAFETY: a place for a pointer; the text is the driver's own and stays.
        unsafe {
            match (self.cuda.cuGetErrorString)(status, &mut text) {
                0 if !text.is_null() => CStr::from_ptr(text).to_string_lossy().into_owned(),
                _ => "unknown error".into(),
            }
        }
    }

    /// A failure of a started driver.
    pub fn failed(&self, gpu: Option<&Gpu>, doing: &str, why: Failed) -> Error {
        failure::other(gpu, doing, why.0, &self.words(why))
    }

    /// An attribute of a device; 0 for what the driver gives as negative.
    pub fn device_attribute(&self, device: DeviceNumber, which: c_int) -> Attempt<u32> {
        let mut value = 0;
        // SAFETY: a valid place for a number.
        check(unsafe { (self.cuda.cuDeviceGetAttribute)(&mut value, which, device) })?;
        Ok(u32::try_from(value).unwrap_or(0))
    }
}
