//! Files of the machine itself, outside any toolkit: devices, the kernel module's version, folders of drivers.
//!
//! Also part of the build script, so it uses the standard library only.

use std::env;
use std::path::PathBuf;

/// A folder that stands for `/` in this file's paths. For tests only.
pub const ROOT: &str = "EYEKERN_ROOT";

/// The place of an absolute path.
pub fn path(absolute: &str) -> PathBuf {
    let root = env::var_os(ROOT).filter(|root| !root.is_empty()).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    root.join(absolute.trim_start_matches('/'))
}

/// Whether this is Linux under Windows (WSL), which reaches its GPU through Windows.
pub fn wsl() -> bool {
    path("/dev/dxg").exists()
}

/// A file that exists only where there is an NVIDIA GPU: of its kernel module, or of WSL.
pub fn gpu_file() -> Option<&'static str> {
    let there = |file: &&str| path(file).exists();
    ["/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia"].into_iter().find(there)
}

/// The release of the kernel module, which may not be the library's, out of `NVRM version: ... 535.104.05 ...`.
pub fn kernel_module() -> Option<String> {
    let text = std::fs::read_to_string(path("/proc/driver/nvidia/version")).ok()?;
    let line = text.lines().next()?.trim();
    let line = line.strip_prefix("NVRM version:").unwrap_or(line);
    // the release is the only word of digits with a dot
    let release = |word: &&str| word.contains('.') && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let found = line.split_whitespace().find(release).unwrap_or(line.trim());
    Some(found.to_string()).filter(|text| !text.is_empty())
}
