//! For which GPU architectures kernels are compiled, and on which devices the result runs.
//!
//! Also part of the build script, so it uses the standard library only.

/// What a build compiles for, older first. A letter at the end marks code for exactly that device.
pub const ARCHITECTURES: [&str; 5] = ["sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120"];

/// The oldest device with what the kernels need: bf16 in the tensor cores, asynchronous copies.
pub const OLDEST: (u32, u32) = (8, 0);

/// `sm_90a` as (9, 0, true): major, minor, and whether it is for exactly that device.
fn parts(architecture: &str) -> Option<(u32, u32, bool)> {
    let name = architecture.strip_prefix("sm_")?;
    let number: u32 = name.trim_end_matches('a').parse().ok()?;
    Some((number / 10, number % 10, name.ends_with('a')))
}

/// Devices on boards of their own (Jetson, DRIVE), which refuse code of their family's other devices: Orin.
const APART: [(u32, u32); 2] = [(8, 7), (8, 8)];

/// Whether a cubin of this architecture runs on a device of this compute capability: on a later minor version too,
/// unless it is for exactly one device, or the device takes its own code only.
pub fn runs_on(architecture: &str, device: (u32, u32)) -> bool {
    parts(architecture).is_some_and(|(major, minor, exact)| {
        let older = major == device.0 && minor < device.1;
        (major, minor) == device || (older && !exact && !APART.contains(&device))
    })
}

/// The architecture to compile for on a machine with this device; with all its instructions where it has its own.
pub fn of_device((major, minor): (u32, u32)) -> String {
    let own = if (9..=10).contains(&major) { "a" } else { "" };
    format!("sm_{major}{minor}{own}")
}

/// Whether a kernel file is compiled for an architecture: `gemm.sm90.cu` for Hopper only, `norm.cu` for all.
pub fn wanted(file: &str, architecture: &str) -> bool {
    let stem = file.strip_suffix(".cu").unwrap_or(file);
    match stem.rsplit_once(".sm") {
        Some((_, number)) => parts(architecture).is_some_and(|(major, minor, _)| number == format!("{major}{minor}")),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_runs_on_its_device_and_on_later_ones_of_the_family() {
        let on = |device| ARCHITECTURES.into_iter().filter(|a| runs_on(a, device)).collect::<Vec<_>>();
        assert_eq!(on((8, 0)), ["sm_80"]);
        assert_eq!(on((8, 6)), ["sm_80"]);
        assert_eq!(on((8, 9)), ["sm_80", "sm_89"]);
        assert_eq!(on((9, 0)), ["sm_90a"]);
        assert_eq!(on((10, 0)), ["sm_100a"]);
        assert_eq!(on((12, 1)), ["sm_120"]);
        assert_eq!([on((7, 5)), on((8, 7)), on((10, 3)), on((11, 0))], [[""; 0]; 4]);
    }

    #[test]
    fn a_file_may_be_for_one_architecture() {
        let of = |file| ARCHITECTURES.into_iter().filter(|a| wanted(file, a)).collect::<Vec<_>>();
        assert_eq!(of("norm.cu"), ARCHITECTURES);
        assert_eq!(of("gemm.sm90.cu"), ["sm_90a"]);
        assert_eq!(of("gemm.sm100.cu"), ["sm_100a"]);
        assert_eq!(of("small.gemm.cu"), ARCHITECTURES);
    }

    #[test]
    fn each_device_has_its_own() {
        assert_eq!([(8, 6), (9, 0), (10, 3), (12, 0)].map(of_device), ["sm_86", "sm_90a", "sm_103a", "sm_120"]);
    }
}
