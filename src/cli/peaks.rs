//! Peak bf16 FLOP/s of known GPUs: the denominator of MFU.

/// Dense bf16 products with f32 sums in TFLOP/s, by a part of the driver's name of the GPU; the first that fits counts.
/// Data sheets that give figures "with sparsity" are halved. Sources, all NVIDIA: the data sheets of H100, H200, HGX
/// B200, A100, A30, A40, A10, L4, L40 and L40S; the white papers of the GA102 (RTX 3090, A6000), Ada (RTX 4090, 6000
/// Ada) and Blackwell (RTX 5090) graphics chips, of which the figures with f32 sums are taken.
const PEAKS: [(&str, f64); 20] = [
    ("B200", 2250.0),
    ("H200 NVL", 835.5),
    ("H200", 989.5),
    ("GH200", 989.5),
    ("H100 NVL", 835.5),
    ("H100 PCIe", 756.5),
    ("H100", 989.5),
    ("A100", 312.0),
    ("A800", 312.0),
    ("A30", 165.0),
    ("A40", 149.7),
    ("A10", 125.0),
    ("L40S", 362.05),
    ("L40", 181.05),
    ("L4", 121.0),
    ("RTX 6000 Ada Generation", 364.2),
    ("RTX A6000", 154.8),
    ("GeForce RTX 5090", 209.5),
    ("GeForce RTX 4090", 165.2),
    ("GeForce RTX 3090", 71.0),
];

/// FLOP/s of the GPU that the driver calls `name`; `None` for an unknown GPU. Names are compared by whole words, so
/// that an A10 is no A100. Laptop and Ti versions of a card are unknown.
pub fn bf16(name: &str) -> Option<f64> {
    let words: Vec<&str> = name.split([' ', '-']).collect();
    let unlike = words.iter().any(|word| ["Laptop", "Ti", "D", "SUPER", "MIG"].contains(word));
    let fits = |known: &str| {
        let known: Vec<&str> = known.split(' ').collect();
        words.windows(known.len()).any(|part| part == known)
    };
    PEAKS.iter().find(|(known, _)| !unlike && fits(known)).map(|(_, tflops)| 1e12 * tflops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_driver_are_known() {
        for (name, tflops) in [
            ("NVIDIA H100 80GB HBM3", 989.5),
            ("NVIDIA H100 PCIe", 756.5),
            ("NVIDIA H100 NVL", 835.5),
            ("NVIDIA H200", 989.5),
            ("NVIDIA GH200 480GB", 989.5),
            ("NVIDIA A100-SXM4-40GB", 312.0),
            ("NVIDIA A100 80GB PCIe", 312.0),
            ("NVIDIA A10", 125.0),
            ("NVIDIA L4", 121.0),
            ("NVIDIA L40S", 362.05),
            ("NVIDIA GeForce RTX 4090", 165.2),
        ] {
            assert_eq!(bf16(name), Some(1e12 * tflops), "{name}");
        }
    }

    #[test]
    fn a_gpu_that_is_like_a_known_one_is_not_it() {
        for name in ["", "NVIDIA A10G", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D", "Tesla V100"]
        {
            assert_eq!(bf16(name), None, "{name}");
        }
    }
}
