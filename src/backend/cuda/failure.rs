//! What the driver's failures mean for the person at the terminal: what is wrong, and what to do.

use crate::error::Error;

/// Which GPU: `GPU 0 (NVIDIA H200)`.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// As the driver counts, from 0.
    pub index: usize,
    /// As the driver calls it.
    pub name: String,
}

impl std::fmt::Display for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GPU {} ({})", self.index, self.name)
    }
}

/// The driver that the kernels and cudarc's bindings need: 1000 x major + 10 x minor, and its release.
pub const NEEDED: (i32, &str) = (13000, "580");

const WITHOUT: &str = "or use --device cpu";

/// No driver library.
pub fn no_driver(why: &str) -> Error {
    let (_, release) = NEEDED;
    Error::Device(format!("no NVIDIA driver ({why}): install release {release} or later, {WITHOUT}"))
}

/// A driver of an older CUDA.
pub fn old_driver(version: i32) -> Error {
    let (needed, release) = NEEDED;
    let (found, needed) = (cuda(version), cuda(needed));
    Error::Device(format!(
        "the NVIDIA driver is of CUDA {found}, and CUDA {needed} is needed: update it to release {release} or later, \
         {WITHOUT}"
    ))
}

/// 13000 as `13.0`.
pub fn cuda(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// A driver without a device.
pub fn no_device() -> Error {
    Error::Device(format!("the NVIDIA driver sees no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES, {WITHOUT}"))
}

/// There are fewer devices.
pub fn no_such_device(index: usize, count: usize) -> Error {
    if count == 0 {
        return no_device();
    }
    let there_are = if count == 1 { "there is 1, GPU 0".into() } else { format!("there are {count}, from GPU 0 on") };
    Error::Device(format!("no GPU {index}: {there_are}; see nvidia-smi and CUDA_VISIBLE_DEVICES, {WITHOUT}"))
}

/// A device from before what the kernels need.
pub fn old_device(gpu: &Gpu, (major, minor): (u32, u32)) -> Error {
    let (least_major, least_minor) = super::architecture::OLDEST;
    Error::Device(format!(
        "{gpu} has compute capability {major}.{minor}, and the kernels need {least_major}.{least_minor}, which GPUs \
         from Ampere on have: choose another GPU with CUDA_VISIBLE_DEVICES, {WITHOUT}"
    ))
}

/// Neither machine code nor a compiler for a device.
pub fn no_kernels(gpu: &Gpu, architecture: &str, why: &str) -> Error {
    Error::Device(format!(
        "this build has no machine code for {gpu}, {architecture}, and there is no NVRTC to make it ({why}): \
         install the Python package nvidia-cuda-nvrtc of version 13 or name the library with EYEKERN_NVRTC; \
         or build with NVRTC: {}",
        super::kernels::REMEDY
    ))
}

/// No library of matrix products.
pub fn no_products(why: &str) -> Error {
    Error::Device(format!(
        "no cublasLt for matrix products ({why}): install the Python package nvidia-cublas of version 13 or a CUDA 13 \
         toolkit, or name the library's folder with EYEKERN_CUDA_LIB"
    ))
}

/// A product that cublasLt could not do.
pub fn product(gpu: &Gpu, why: &str) -> Error {
    Error::Device(format!("{gpu}: a matrix product failed: {why}: see `eyekern doctor`, and report it with the recipe"))
}

/// Too little memory. `free` and `total` as far as the driver still tells.
pub fn out_of_memory(gpu: &Gpu, asked: usize, memory: Option<(usize, usize)>) -> Error {
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let free = memory
        .map_or(String::new(), |(free, total)| format!(", and {:.1} of {:.1} MiB are free", mib(free), mib(total)));
    Error::Device(format!(
        "{gpu} is out of memory: {:.1} MiB were asked for{free}; lower data.max_tokens, \
         train.per_device_train_batch_size or data.max_length, or end other programs on it (see nvidia-smi)",
        mib(asked)
    ))
}

/// Any other failure: the driver's number and words while `doing` something.
pub fn other(gpu: Option<&Gpu>, doing: &str, code: u32, words: &str) -> Error {
    let subject = gpu.map_or("the NVIDIA driver".to_string(), Gpu::to_string);
    let remedy = match code {
        // CUDA_ERROR_NO_DEVICE
        100 => return no_device(),
        // NOT_INITIALIZED, SYSTEM_NOT_READY, SYSTEM_DRIVER_MISMATCH, COMPAT_NOT_SUPPORTED_ON_DEVICE, UNKNOWN
        3 | 802..=804 | 999 if doing == START => "restart the machine or reinstall the driver, then see nvidia-smi",
        // ILLEGAL_ADDRESS, ASSERT, from HARDWARE_STACK_ERROR to LAUNCH_FAILED: the context has died of it
        700 | 710 | 714..=719 => {
            "a kernel went wrong, and this process cannot use the GPU any more; please report it with the recipe"
        }
        // DEVICE_UNAVAILABLE, ECC_UNCORRECTABLE, NVLINK_UNCORRECTABLE, CONTAINED, CONTEXT_IS_DESTROYED
        46 | 214 | 220 | 226 | 709 => "the GPU was lost; see `dmesg` for its Xid, and start again",
        // LAUNCH_OUT_OF_RESOURCES
        701 => "the launch asks for more than the GPU has; please report it with the recipe",
        // NO_BINARY_FOR_GPU, INVALID_PTX, UNSUPPORTED_PTX_VERSION
        209 | 218 | 222 => "the driver does not accept the kernels: update it, or build again with another NVRTC",
        _ => "see nvidia-smi and `eyekern doctor`",
    };
    Error::Device(format!("{subject}: {doing} failed: {words} (error {code}): {remedy}"))
}

/// The first thing that is done with a driver.
pub const START: &str = "starting the driver";

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu() -> Gpu {
        Gpu { index: 1, name: "NVIDIA H200".into() }
    }

    #[test]
    fn each_failure_has_its_sentence_and_exit_code_4() {
        for (error, sentence) in [
            (
                no_driver("libcuda.so.1 is missing"),
                "no NVIDIA driver (libcuda.so.1 is missing): install release 580 or later, or use --device cpu",
            ),
            (
                old_driver(12040),
                "the NVIDIA driver is of CUDA 12.4, and CUDA 13.0 is needed: update it to release 580 or later, or \
                 use --device cpu",
            ),
            (
                no_such_device(3, 1),
                "no GPU 3: there is 1, GPU 0; see nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu",
            ),
            (
                old_device(&gpu(), (7, 5)),
                "GPU 1 (NVIDIA H200) has compute capability 7.5, and the kernels need 8.0, which GPUs from Ampere on \
                 have: choose another GPU with CUDA_VISIBLE_DEVICES, or use --device cpu",
            ),
            (
                out_of_memory(&gpu(), 3 << 30, Some((1 << 30, 4 << 30))),
                "GPU 1 (NVIDIA H200) is out of memory: 3072.0 MiB were asked for, and 1024.0 of 4096.0 MiB are \
                 free; lower data.max_tokens, train.per_device_train_batch_size or data.max_length, or end other \
                 programs on it (see nvidia-smi)",
            ),
            (
                other(None, START, 100, "no CUDA-capable device is detected"),
                "the NVIDIA driver sees no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu",
            ),
            (
                other(None, START, 999, "unknown error"),
                "the NVIDIA driver: starting the driver failed: unknown error (error 999): restart the machine or \
                 reinstall the driver, then see nvidia-smi",
            ),
            (
                other(Some(&gpu()), "a copy", 214, "uncorrectable ECC error encountered"),
                "GPU 1 (NVIDIA H200): a copy failed: uncorrectable ECC error encountered (error 214): the GPU was \
                 lost; see `dmesg` for its Xid, and start again",
            ),
            (
                other(Some(&gpu()), "a kernel", 700, "an illegal memory access was encountered"),
                "GPU 1 (NVIDIA H200): a kernel failed: an illegal memory access was encountered (error 700): a kernel \
                 went wrong, and this process cannot use the GPU any more; please report it with the recipe",
            ),
        ] {
            assert_eq!((error.to_string().as_str(), error.exit_code()), (sentence, 4));
        }
    }
}
