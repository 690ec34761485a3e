//! The body is that of tests/fuzz/priors.rs, which stable Rust runs on kept inputs and mutations.
#![no_main]

#[path = "../../tests/fuzz/priors.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::run(input));
