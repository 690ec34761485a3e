//! The CPU, memory and instruction sets of the machine, and the memory of this process.

use super::cgroup;

/// Bytes of memory that this process can still get: those of the machine and of its control group, whichever are fewer;
/// `None` where the system reports neither.
pub fn available() -> Option<u64> {
    [memory("MemAvailable"), cgroup::allowed().left].into_iter().flatten().min()
}

/// Bytes of memory that this process can have at most.
pub fn total() -> Option<u64> {
    [memory("MemTotal"), cgroup::allowed().limit].into_iter().flatten().min()
}

/// Bytes of an entry of /proc/meminfo.
fn memory(entry: &str) -> Option<u64> {
    kib(&field("/proc/meminfo", entry)?)
}

/// Bytes in GiB.
pub fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

/// Peak memory of this process in bytes; `None` where the system does not report it.
pub fn peak() -> Option<u64> {
    kib(&field("/proc/self/status", "VmHWM")?)
}

/// The name of the CPU.
pub fn processor() -> String {
    field("/proc/cpuinfo", "model name").unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH))
}

/// Whether this process was started with `signal` ignored; `false` where the system does not report it.
pub fn ignores(signal: i32) -> bool {
    let mask = field("/proc/self/status", "SigIgn").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// The text after `entry:` in a file of the system.
fn field(file: &str, entry: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(entry)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_string())
}

/// `16 kB` in bytes.
fn kib(value: &str) -> Option<u64> {
    value.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// The vector instructions that matrix products can use.
pub fn instructions() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let known = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    #[cfg(target_arch = "aarch64")]
    let known = [("neon", true)];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let known: [(&str, bool); 0] = [];
    known.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}
