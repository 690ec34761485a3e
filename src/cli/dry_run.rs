//! `eyekern train --dry-run`: the memory and work of a run, counted without training.

use super::device::{self, Place};
use super::machine::{self, gib};
use super::terminal::Terminal;
use super::{Device, Format};
use crate::backend::cpu::cores;
use crate::backend::plan::Plan;
use crate::error::Result;
use crate::train::estimate::{self, Bytes, Parameters, Work};
use crate::train::prepare::Prepared;
use serde_json::json;

/// Counts and prints.
pub fn run(prepared: &Prepared, device: Device, format: Format, out: &mut Terminal) -> Result {
    let threads = cores(prepared.recipe.train.threads);
    let dtype = prepared.recipe.train.compute_dtype;
    let cuda = device::plan(device, prepared.origin.spec().head_dim, dtype, out)? != Place::Cpu;
    let bytes = match cuda {
        true => estimate::bytes(Plan::cuda, prepared)?,
        false => estimate::bytes(|| Plan::cpu(threads), prepared)?,
    };
    let (parameters, work) = (estimate::parameters(prepared)?, estimate::work(prepared)?);
    let device = if cuda { "cuda, bf16 with f32 masters".into() } else { device::cpu_name(threads, dtype) };
    for note in &prepared.notes {
        out.note(&format!("note: {note}"));
    }
    match format {
        Format::Json => out.line(&format!(
            "{:#}",
            json!({
                "device": device,
                "parameters": parameters,
                "bytes": bytes,
                "total_bytes": bytes.total(),
                "per_step": { "flops": work.flops, "micro_batches": work.micro_batches, "tokens": work.tokens,
                              "supervised": work.supervised },
                "steps": work.steps,
                "epochs": work.epochs,
            })
        )),
        Format::Text => text(prepared, &device, (parameters, bytes, work), cuda, out),
    }
    Ok(())
}

fn text(
    prepared: &Prepared, device: &str, (parameters, bytes, work): (Parameters, Bytes, Work), cuda: bool,
    out: &mut Terminal,
) {
    let recipe = &prepared.recipe;
    let Work { flops, micro_batches, tokens, supervised, steps, epochs } = work;
    let mut line = |name: &str, text: String| {
        let name = out.bold(&format!("{name:14}"));
        out.line(format!("{name}{text}").trim_end());
    };
    let Parameters { model, trained } = parameters;
    line("model", format!("{}, {model} parameters, {trained} trained", prepared.origin.spec().model_type));
    line("device", device.into());
    line("run", format!("{steps} steps, {epochs:.2} epochs"));
    let each = format!("{micro_batches:.1} micro-batches, {tokens:.0} tokens, {supervised:.0} supervised");
    line("step", format!("on average {each}"));
    let memory = |bytes: u64, what: &str| format!("{:9.3} GiB  {what}", gib(bytes));
    let parts = [
        ("weights", bytes.weights, ""),
        ("gradients", bytes.gradients, ""),
        ("optimiser", bytes.optimiser, if cuda { "moments and f32 masters" } else { "moments" }),
        ("activations", bytes.activations, &format!("kept for backward, recompute = {}", recipe.train.recompute)),
        ("workspace", bytes.workspace, "gradients of activations, micro-batch, rows and logits of the head"),
        ("scratch", bytes.scratch, "of the backend"),
        ("generation", bytes.generation, "KV cache and activations of the texts of an evaluation"),
        ("reference", bytes.reference, "freed before activations and workspace are allocated"),
    ];
    for (name, part, what) in
        parts.into_iter().filter(|(name, part, _)| *part > 0 || !["generation", "reference"].contains(name))
    {
        line(name, memory(part, what));
    }
    let available = machine::available().filter(|_| !cuda);
    let beside = available.map_or(String::new(), |bytes| format!("of {:.3} GiB available", gib(bytes)));
    line("total", memory(bytes.total(), &beside));
    for (name, part) in [("forward", flops.forward), ("backward", flops.backward), ("recompute", flops.recompute)] {
        line(name, format!("{:9.3} TFLOP a step", part / 1e12));
    }
}
