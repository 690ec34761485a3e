//! The body is that of tests/fuzz/recipe.rs, which stable Rust runs on kept inputs and mutations.
#![no_main]

#[path = "../../tests/fuzz/recipe.rs"]
mod body;
#[path = "../../tests/fuzz/sentence.rs"]
mod sentence;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::run(input));
