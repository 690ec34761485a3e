//! Compiles what is not Rust. Each subject has its file in build/.

#[path = "build/cubins.rs"]
mod cubins;
#[cfg(feature = "emulator")]
#[path = "build/emulator.rs"]
mod emulator;

// the command compiles kernels too, on machines for which a build brings none
#[allow(dead_code)]
#[path = "src/backend/cuda/architecture.rs"]
mod architecture;
#[allow(dead_code)]
#[path = "src/backend/cuda/libraries.rs"]
mod libraries;
#[allow(dead_code)]
#[path = "src/backend/cuda/nvrtc.rs"]
mod nvrtc;
#[allow(dead_code)]
#[path = "src/backend/cuda/system.rs"]
mod system;

fn main() {
    if let Err(why) = cubins::embed() {
        // the directive takes a line at a time
        why.lines().for_each(|line| println!("cargo::error={line}"));
        std::process::exit(1);
    }
    #[cfg(feature = "emulator")]
    emulator::build();
}
