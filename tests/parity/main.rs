//! Parity with transformers and PEFT on every folder of fixtures: training ([`training`]), generation ([`generate`])
//! and attention probabilities ([`attention`]). With their models, `train.recompute` gives the same bits
//! ([`recompute`]), and products in bf16 err no more than those of transformers ([`rounding`]). Weights in 4 bits
//! are compared with transformers and bitsandbytes ([`quantized`]).
//!
//! The tiny folder of this project is always there; `EYEKERN_SHARED` and `EYEKERN_PARITY` name more.
#![deny(dead_code)] // a test that no trial runs

mod attention;
mod generate;
mod quantized;
mod recompute;
mod rounding;
#[path = "../support/mod.rs"]
mod support;
mod training;

fn main() {
    let trials = [
        training::trials(),
        generate::trials(),
        attention::trials(),
        recompute::trials(),
        rounding::trials(),
        quantized::trials(),
    ];
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit();
}
