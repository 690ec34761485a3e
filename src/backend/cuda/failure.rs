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

/// The driver whose functions are called here and that accepts the embedded machine code: CUDA version as 1000 x major
/// + 10 x minor, and its release.
pub const NEEDED: (i32, &str) = (12020, "535");

/// The version from which a driver serves libraries of CUDA 13.
pub const CUDA_13: i32 = 13000;

const WITHOUT: &str = "or use --device cpu";

/// The end of a remedy that `eyekern doctor` itself leaves out.
const DOCTOR: &str = " and `eyekern doctor`";

/// A message as `eyekern doctor` gives it: without the advice to run it.
pub fn in_doctor(message: &str) -> String {
    message.replace(DOCTOR, "")
}

/// No driver library.
pub fn no_driver(why: &str) -> Error {
    let (_, release) = NEEDED;
    Error::Device(format!("no NVIDIA driver ({why}): install release {release} or later, {WITHOUT}"))
}

/// No driver library on a machine where `file` shows that it has a GPU.
pub fn hidden(file: &str, why: &str) -> Error {
    let (_, release) = NEEDED;
    let remedy = match file {
        "/dev/dxg" => {
            "under WSL install the driver on Windows and not in Linux, and see that /usr/lib/wsl/lib/libcuda.so.1 is \
             there"
                .to_string()
        }
        _ => format!(
            "start a container with --gpus all and NVIDIA_DRIVER_CAPABILITIES=compute,utility; elsewhere install \
             release {release} or later of the driver, or name the folder of libcuda.so.1 with EYEKERN_CUDA_LIB"
        ),
    };
    // WSL has this file for GPUs of every maker
    let has = if file == "/dev/dxg" { "may have an NVIDIA GPU" } else { "has a GPU" };
    Error::Device(format!(
        "this machine {has} ({file}), but the driver's library cannot be opened ({why}): {remedy}, {WITHOUT}"
    ))
}

/// A driver of an older CUDA.
pub fn old_driver(version: i32) -> Error {
    let (needed, release) = NEEDED;
    let (found, needed) = (cuda(version), cuda(needed));
    Error::Device(format!(
        "the NVIDIA driver is of CUDA {found}, and CUDA {needed} is needed: update it to release {release} or later \
         (for a data-centre GPU NVIDIA's package cuda-compat does, too), {WITHOUT}"
    ))
}

/// 13000 as `13.0`.
pub fn cuda(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// A driver without a device. `library` is its file.
pub fn no_device(library: &str) -> Error {
    Error::Device(format!(
        "the NVIDIA driver ({library}) sees no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES, {WITHOUT}"
    ))
}

/// There are fewer devices.
pub fn no_such_device(index: usize, count: usize) -> Error {
    let there_are = if count == 1 { "there is 1, GPU 0".into() } else { format!("there are {count}, from GPU 0 on") };
    Error::Device(format!("no GPU {index}: {there_are}; see nvidia-smi and CUDA_VISIBLE_DEVICES, {WITHOUT}"))
}

/// Several devices, and none that can be used, for these reasons.
pub fn none_fit(reasons: &[String]) -> Error {
    Error::Device(format!("no GPU can be used: {}", reasons.join("; ")))
}

/// A device from before what the kernels need.
pub fn old_device(gpu: &Gpu, (major, minor): (u32, u32)) -> Error {
    let (least_major, least_minor) = super::architecture::OLDEST;
    Error::Device(format!(
        "{gpu} has compute capability {major}.{minor}, and the kernels need {least_major}.{least_minor}, which GPUs \
         from Ampere on have: choose another GPU with CUDA_VISIBLE_DEVICES, {WITHOUT}"
    ))
}

/// No compiler for a device without machine code, or whose embedded code the device has `refused`.
pub fn no_kernels(gpu: &Gpu, architecture: &str, driver: i32, refused: bool, why: &str) -> Error {
    let lack = match refused {
        true => format!("{gpu} refuses the machine code of this build"),
        false => format!("this build has no machine code for {gpu}"),
    };
    Error::Device(format!(
        "{lack}, {architecture} is needed, and there is no NVRTC to make it ({why}): install {}, or name the library \
         with EYEKERN_NVRTC",
        nvrtc(driver)
    ))
}

/// The package that brings NVRTC for a driver.
pub fn nvrtc(driver: i32) -> &'static str {
    match driver {
        ..CUDA_13 => "the Python package nvidia-cuda-nvrtc-cu12",
        _ => "the Python package nvidia-cuda-nvrtc",
    }
}

/// No library of matrix products.
pub fn no_products(why: &str, driver: i32) -> Error {
    let (package, major) = if driver < CUDA_13 { ("nvidia-cublas-cu12", 12) } else { ("nvidia-cublas", 13) };
    Error::Device(format!(
        "no cublasLt for matrix products ({why}): install the Python package {package} or a CUDA {major} toolkit, or \
         name the library's folder with EYEKERN_CUDA_LIB"
    ))
}

/// A product that cublasLt could not do.
pub fn product(gpu: &Gpu, why: &str) -> Error {
    Error::Device(format!(
        "{gpu}: a matrix product failed: {why}: try another version of cublasLt (EYEKERN_CUDA_LIB), and report it"
    ))
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

const FABRIC: &str = "on a machine with NVSwitch start the service nvidia-fabricmanager of the driver's release; \
                      where confidential computing is on, set the GPU ready (nvidia-smi conf-compute -srs 1)";

const MPS: &str = "see that nvidia-cuda-mps-control runs and is of this user, or end it (echo quit | \
                   nvidia-cuda-mps-control) and unset CUDA_MPS_PIPE_DIRECTORY";

/// The driver could not be started. `library` is its file.
pub fn start(code: i32, words: &str, library: &str) -> Error {
    let remedy = match code {
        // OUT_OF_MEMORY
        2 => "the machine or the container has too little memory left: end other programs or raise its limit".into(),
        // STUB_LIBRARY
        34 => format!(
            "{library} is a stub for linking and no driver: remove its folder from LD_LIBRARY_PATH, or name the folder \
             of the driver's own libcuda.so.1 with EYEKERN_CUDA_LIB"
        ),
        // NO_DEVICE
        100 => return no_device(library),
        // INVALID_DEVICE
        101 => "see `nvidia-smi -L` for the GPUs, and CUDA_VISIBLE_DEVICES".into(),
        // OPERATING_SYSTEM
        304 => "this user or container may not use the files /dev/nvidia*: give it access to them".into(),
        // SYSTEM_NOT_READY
        802 => FABRIC.into(),
        // SYSTEM_DRIVER_MISMATCH
        803 => format!(
            "{library} and the kernel module are of releases that do not fit: remove a folder `compat` from \
             LD_LIBRARY_PATH, and after an update of the driver restart the machine"
        ),
        // COMPAT_NOT_SUPPORTED_ON_DEVICE
        804 => format!(
            "{library} is of the package cuda-compat, which serves data-centre GPUs only: remove its folder `compat` \
             from LD_LIBRARY_PATH and /etc/ld.so.conf.d, so that the driver's own library is used"
        ),
        // from MPS_CONNECTION_FAILED to MPS_MAX_CONNECTIONS_REACHED
        805..=809 => MPS.into(),
        // UNKNOWN
        999 => "see that the kernel module nvidia_uvm is loaded (after a suspend: rmmod nvidia_uvm, then modprobe \
                nvidia_uvm), and that a container has /dev/nvidia-uvm"
            .into(),
        _ => "restart the machine or reinstall the driver, then see nvidia-smi".to_string(),
    };
    Error::Device(format!("the NVIDIA driver does not start: {words} (error {code}): {remedy}, {WITHOUT}"))
}

/// The first use of a GPU.
pub const OPEN: &str = "opening";
/// Getting memory of the host that the GPU reads.
pub const LOCK: &str = "locking memory of the host";

/// Any other failure: the driver's number and words while `doing` something.
pub fn other(gpu: Option<&Gpu>, doing: &str, code: i32, words: &str) -> Error {
    let subject = gpu.map_or("the NVIDIA driver".to_string(), Gpu::to_string);
    let see = format!("see nvidia-smi{DOCTOR}");
    let remedy = match code {
        // OUT_OF_MEMORY
        2 if doing == OPEN => {
            "its memory is full: end other programs on it (see nvidia-smi), or choose another GPU with \
             CUDA_VISIBLE_DEVICES"
        }
        2 if doing == LOCK => {
            "the machine or the container has too little memory that can be locked: end other programs, or raise the \
             limit of memory or of locked memory (ulimit -l)"
        }
        // DEVICE_UNAVAILABLE
        46 => {
            "another process holds it, as its compute mode is exclusive, or the host of a virtual GPU is busy: see \
             nvidia-smi for the process, set the mode with `nvidia-smi -c DEFAULT`, or choose another GPU with \
             CUDA_VISIBLE_DEVICES"
        }
        // ILLEGAL_ADDRESS, ASSERT, from HARDWARE_STACK_ERROR to LAUNCH_FAILED: the context has died of it
        700 | 710 | 714..=719 => {
            "a kernel went wrong, and this process cannot use the GPU any more; please report it with the recipe"
        }
        // ECC_UNCORRECTABLE, NVLINK_UNCORRECTABLE, CONTAINED, CONTEXT_IS_DESTROYED
        214 | 220 | 226 | 709 => "the GPU was lost; see `dmesg` for its Xid, and start again",
        // LAUNCH_OUT_OF_RESOURCES
        701 => "the launch asks for more than the GPU has; please report it with the recipe",
        // NO_BINARY_FOR_GPU, INVALID_PTX, UNSUPPORTED_PTX_VERSION
        209 | 218 | 222 => "the driver does not accept the kernels: update it, or build again with another NVRTC",
        // SYSTEM_NOT_READY
        802 => FABRIC,
        // from MPS_CONNECTION_FAILED to MPS_MAX_CONNECTIONS_REACHED
        805..=809 => MPS,
        _ => &see,
    };
    Error::Device(format!("{subject}: {doing} failed: {words} (error {code}): {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu() -> Gpu {
        Gpu { index: 1, name: "NVIDIA H200".into() }
    }

    const LIBRARY: &str = "/usr/lib/libcuda.so.1";

    /// The code of each cause that people meet, and its remedy.
    #[test]
    fn each_code_at_the_start_has_its_remedy() {
        let says = |code| start(code, "words", LIBRARY).to_string();
        for (code, remedy) in [
            (2, "the machine or the container has too little memory left: end other programs or raise its limit"),
            (3, "restart the machine or reinstall the driver, then see nvidia-smi"),
            (
                34,
                "/usr/lib/libcuda.so.1 is a stub for linking and no driver: remove its folder from LD_LIBRARY_PATH, or \
                 name the folder of the driver's own libcuda.so.1 with EYEKERN_CUDA_LIB",
            ),
            (101, "see `nvidia-smi -L` for the GPUs, and CUDA_VISIBLE_DEVICES"),
            (304, "this user or container may not use the files /dev/nvidia*: give it access to them"),
            (
                802,
                "on a machine with NVSwitch start the service nvidia-fabricmanager of the driver's release; where \
                 confidential computing is on, set the GPU ready (nvidia-smi conf-compute -srs 1)",
            ),
            (
                803,
                "/usr/lib/libcuda.so.1 and the kernel module are of releases that do not fit: remove a folder `compat` \
                 from LD_LIBRARY_PATH, and after an update of the driver restart the machine",
            ),
            (
                804,
                "/usr/lib/libcuda.so.1 is of the package cuda-compat, which serves data-centre GPUs only: remove its \
                 folder `compat` from LD_LIBRARY_PATH and /etc/ld.so.conf.d, so that the driver's own library is used",
            ),
            (
                805,
                "see that nvidia-cuda-mps-control runs and is of this user, or end it (echo quit | \
                 nvidia-cuda-mps-control) and unset CUDA_MPS_PIPE_DIRECTORY",
            ),
            (
                999,
                "see that the kernel module nvidia_uvm is loaded (after a suspend: rmmod nvidia_uvm, then modprobe \
                 nvidia_uvm), and that a container has /dev/nvidia-uvm",
            ),
        ] {
            let whole =
                format!("the NVIDIA driver does not start: words (error {code}): {remedy}, or use --device cpu");
            assert_eq!(says(code), whole);
        }
        let none = "the NVIDIA driver (/usr/lib/libcuda.so.1) sees no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES, or \
                    use --device cpu";
        assert_eq!(says(100), none);
    }

    #[test]
    fn a_gpu_without_a_driver_is_told_how_it_gets_one() {
        let container = "this machine has a GPU (/dev/nvidia0), but the driver's library cannot be opened \
                         (libcuda.so.1 not found): start a container with --gpus all and \
                         NVIDIA_DRIVER_CAPABILITIES=compute,utility; elsewhere install release 535 or later of the \
                         driver, or name the folder of libcuda.so.1 with EYEKERN_CUDA_LIB, or use --device cpu";
        assert_eq!(hidden("/dev/nvidia0", "libcuda.so.1 not found").to_string(), container);
        let wsl = "this machine may have an NVIDIA GPU (/dev/dxg), but the driver's library cannot be opened \
                   (libcuda.so.1 not found): under WSL install the driver on Windows and not in Linux, and see that \
                   /usr/lib/wsl/lib/libcuda.so.1 is there, or use --device cpu";
        assert_eq!(hidden("/dev/dxg", "libcuda.so.1 not found").to_string(), wsl);
    }

    #[test]
    fn each_failure_has_its_sentence_and_exit_code_4() {
        for (error, sentence) in [
            (
                no_driver("libcuda.so.1 is missing"),
                "no NVIDIA driver (libcuda.so.1 is missing): install release 535 or later, or use --device cpu",
            ),
            (
                old_driver(11080),
                "the NVIDIA driver is of CUDA 11.8, and CUDA 12.2 is needed: update it to release 535 or later (for a \
                 data-centre GPU NVIDIA's package cuda-compat does, too), or use --device cpu",
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
                no_products("none found", 12080),
                "no cublasLt for matrix products (none found): install the Python package nvidia-cublas-cu12 or a CUDA \
                 12 toolkit, or name the library's folder with EYEKERN_CUDA_LIB",
            ),
            (
                no_kernels(&gpu(), "sm_87", 12060, true, "none found"),
                "GPU 1 (NVIDIA H200) refuses the machine code of this build, sm_87 is needed, and there is no NVRTC to \
                 make it (none found): install the Python package nvidia-cuda-nvrtc-cu12, or name the library with \
                 EYEKERN_NVRTC",
            ),
            (
                other(Some(&gpu()), OPEN, 2, "out of memory"),
                "GPU 1 (NVIDIA H200): opening failed: out of memory (error 2): its memory is full: end other programs \
                 on it (see nvidia-smi), or choose another GPU with CUDA_VISIBLE_DEVICES",
            ),
            (
                other(Some(&gpu()), LOCK, 2, "out of memory"),
                "GPU 1 (NVIDIA H200): locking memory of the host failed: out of memory (error 2): the machine or the \
                 container has too little memory that can be locked: end other programs, or raise the limit of memory \
                 or of locked memory (ulimit -l)",
            ),
            (
                other(Some(&gpu()), OPEN, 46, "busy"),
                "GPU 1 (NVIDIA H200): opening failed: busy (error 46): another process holds it, as its compute mode \
                 is exclusive, or the host of a virtual GPU is busy: see nvidia-smi for the process, set the mode with \
                 `nvidia-smi -c DEFAULT`, or choose another GPU with CUDA_VISIBLE_DEVICES",
            ),
            (
                other(Some(&gpu()), "a copy", 1, "invalid argument"),
                "GPU 1 (NVIDIA H200): a copy failed: invalid argument (error 1): see nvidia-smi and `eyekern doctor`",
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
        let message = other(None, "a copy", 1, "invalid argument").to_string();
        let without = "the NVIDIA driver: a copy failed: invalid argument (error 1): see nvidia-smi";
        assert_eq!(in_doctor(&message), without);
    }
}
