//! Generation against transformers: every folder of fixtures has a greedy continuation, logits and an adapter with its
//! loss.

use crate::support::folder::Folder;
use crate::support::trials::{Check, MORE, SHARED, gate, on_folders};
use crate::support::*;
use eyekern::backend::cpu::Cpu;
use eyekern::data::requests::Prompt;
use eyekern::data::{Example, IGNORE};
use eyekern::model::checkpoint::Checkpoint;
use eyekern::model::config::Spec;
use eyekern::model::decode::{Room, Session};
use eyekern::model::decoder::{Decoder, Init};
use eyekern::model::generate::{self, Continuation, Event, Finish, GenerationConfig};
use eyekern::model::peft::AdapterFiles;
use eyekern::model::sample::Sampling;
use libtest_mimic::Trial;
use std::collections::BTreeSet;
use std::path::Path;

type Model = Decoder<Cpu<f32>>;

/// Logits are of the size of 10, transformers' own noise is 1e-5 of them.
const LOGITS: f64 = 2e-4;

fn files(folder: &Folder) -> (Spec, Checkpoint) {
    let spec = Spec::load(&folder.model().join("config.json")).expect("a fixture's config is supported");
    (spec, Checkpoint::open(&folder.model()).expect("a fixture's weights"))
}

fn build(b: &Cpu<f32>, folder: &Folder) -> Model {
    let (spec, checkpoint) = files(folder);
    Decoder::build(b, spec, &Init::File(&checkpoint), None, 64).expect("builds")
}

fn adapted(b: &Cpu<f32>, folder: &Folder) -> Model {
    let mut model = build(b, folder);
    let (spec, base) = files(folder);
    let adapter = AdapterFiles::open(&folder.dir.join("adapter_final"), &spec, &base).expect("an adapter");
    adapter.attach(b, &mut model).expect("attaches");
    model
}

fn ids(list: &serde_json::Value) -> Vec<u32> {
    nums(list).into_iter().map(|x| x as u32).collect()
}

fn config(sampling: Sampling, max_new_tokens: usize, ends: &[u32]) -> GenerationConfig<'_> {
    GenerationConfig { sampling, max_new_tokens, ends, stops: &[], tokenizer: None, model: Path::new("model") }
}

/// Continues the prompts, `slots` at a time. Rows are numbered from `first` on.
fn continued(
    b: &Cpu<f32>, model: &Model, first: u32, prompts: &[&[u32]], slots: usize, config: &GenerationConfig,
) -> Vec<Continuation> {
    let prompt = |(row, ids): (u32, &&[u32])| Prompt { row, ids: ids.to_vec(), ..Prompt::default() };
    let prompts: Vec<Prompt> = (first..).zip(prompts).map(prompt).collect();
    let mut session = Session::new(b, model, config.room(&prompts, slots)).expect("allocates");
    let mut all = Vec::new();
    let keep = |event: Event| {
        if let Event::Done(index, continuation) = event {
            assert_eq!(index, all.len(), "not in the order of the prompts");
            all.push(continuation);
        }
        Ok(())
    };
    generate::run(&mut session, &prompts, config, keep).expect("generates");
    all
}

fn apart(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, worst)
}

/// Loss of the padded set, its tokens taken one by one from the second on.
fn loss(b: &Cpu<f32>, model: &Model, examples: &[Example]) -> f64 {
    let supervised = |e: &Example| (1..e.ids.len()).filter(|&t| e.labels[t] != IGNORE).map(|t| e.weights[t]).collect();
    let weights: Vec<f32> = examples.iter().flat_map(|e| -> Vec<f32> { supervised(e) }).collect();
    let nll = cached_nll(b, model, examples);
    nll.iter().zip(&weights).map(|(nll, &w)| nll * f64::from(w)).sum::<f64>() / nll.len() as f64
}

fn greedy(dir: &Path) -> Check {
    let (folder, b) = (Folder::open(dir), Cpu::new(1).expect("threads"));
    let model = build(&b, &folder);
    let (prompt, expected) = (ids(&folder.meta["generation"]["prompt"]), ids(&folder.meta["generation"]["greedy_16"]));
    let found = continued(&b, &model, 0, &[&prompt], 1, &config(Sampling::default(), expected.len(), &[]));
    if found[0].ids != expected || found[0].finish != Finish::Length {
        return Err(format!("{:?} {:?}, expected {expected:?}", found[0].ids, found[0].finish).into());
    }
    // an end is no part of the continuation
    let end = expected[5];
    let first = expected.iter().position(|&id| id == end).expect("it is there");
    let found = continued(&b, &model, 0, &[&prompt], 1, &config(Sampling::default(), expected.len(), &[end]));
    if found[0].ids != expected[..first] || found[0].finish != Finish::Eos {
        return Err(format!("{:?} {:?}, expected an end before {end}", found[0].ids, found[0].finish).into());
    }
    Ok(())
}

/// Logits of the padded set's tokens, read one by one after a prompt of `given`, and all at once.
fn logits(dir: &Path) -> Check {
    let (folder, b) = (Folder::open(dir), Cpu::new(2).expect("threads"));
    let model = build(&b, &folder);
    let array = &folder.expected["padded.logits"];
    let (width, vocab) = (array.shape[1], array.shape[2]);
    let rows: Vec<Vec<u32>> = folder.padded().into_iter().map(|e| e.ids).collect();
    for given in [1, 7] {
        for (i, logits) in in_slots(&b, &model, &rows, rows.len(), |_| given).iter().enumerate() {
            for (t, found) in (given - 1..).zip(logits) {
                let expected: Vec<f32> =
                    array.values[(i * width + t) * vocab..][..vocab].iter().map(|&x| x as f32).collect();
                gate(&format!("row {i}, token {t} after a prompt of {given}"), apart(found, &expected), LOGITS)?;
            }
        }
    }
    // cached equals prefill
    let mut session = Session::new(&b, &model, Room::of(rows.iter().map(Vec::len), 0)).expect("allocates");
    let whole: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let prefill = session.start(&whole, 0).expect("reads prompts");
    let stepped = in_slots(&b, &model, &rows, rows.len(), |_| 3);
    for (i, prefill) in prefill.chunks(vocab).enumerate() {
        gate(&format!("row {i}, cached and at once"), apart(prefill, stepped[i].last().expect("steps")), LOGITS)?;
    }
    Ok(())
}

/// Prompts of unequal lengths, which end at different times, in more or fewer slots and alone; greedy and drawn.
fn batches(dir: &Path) -> Check {
    let (folder, b) = (Folder::open(dir), Cpu::new(1).expect("threads"));
    let model = build(&b, &folder);
    let (prompt, expected) = (ids(&folder.meta["generation"]["prompt"]), ids(&folder.meta["generation"]["greedy_16"]));
    let mut prompts = vec![&prompt[..], &prompt[..1], &prompt[2..5], &prompt[..]];
    prompts.extend((1..prompt.len()).rev().map(|n| &prompt[..n]));
    prompts.push(&prompt);
    let (last, mut lengths) = (prompts.len() - 1, BTreeSet::new());
    let drawn = Sampling { temperature: 0.8, top_p: 0.95, repetition_penalty: 1.1, seed: 4, ..Sampling::default() };
    for sampling in [Sampling::default(), drawn] {
        let ends = [expected[4], expected[9]];
        let config = config(sampling, 16, &ends);
        // a row keeps its number, which its draws are keyed by
        let alone = |(row, prompt)| continued(&b, &model, row, &[prompt], 1, &config).remove(0);
        let alone: Vec<Continuation> = (0..).zip(prompts.iter().copied()).map(alone).collect();
        for slots in [1, 2, 3, prompts.len()] {
            let together = continued(&b, &model, 0, &prompts, slots, &config);
            for (row, (found, alone)) in together.iter().zip(&alone).enumerate() {
                if found != alone {
                    return Err(format!("row {row}: alone {alone:?}, in {slots} slots {found:?}").into());
                }
            }
            if sampling != drawn && (together[0].ids != together[3].ids || together[0].ids != together[last].ids) {
                return Err("the same prompt more than once, and different continuations".into());
            }
        }
        lengths.extend(alone.iter().map(|one| one.ids.len()));
    }
    if lengths.len() == 1 {
        return Err("all rows end at the same time: the test is blind".into());
    }
    Ok(())
}

/// Logits of rows that take each other's slots, beside transformers': each row after a prompt of another length.
fn slots(dir: &Path) -> Check {
    let (folder, b) = (Folder::open(dir), Cpu::new(2).expect("threads"));
    let model = build(&b, &folder);
    let array = &folder.expected["padded.logits"];
    let (width, vocab) = (array.shape[1], array.shape[2]);
    let rows: Vec<Vec<u32>> = folder.padded().into_iter().map(|e| e.ids).collect();
    let order: Vec<usize> = (0..4 * rows.len()).map(|i| (i * 3 + i / rows.len()) % rows.len()).collect();
    let repeated: Vec<Vec<u32>> = order.iter().map(|&row| rows[row].clone()).collect();
    let given = |i: usize| 1 + i % 5;
    for count in [1, 2, 3] {
        let found = in_slots(&b, &model, &repeated, count, given);
        for (i, (logits, &row)) in found.iter().zip(&order).enumerate() {
            for (t, found) in (given(i).min(rows[row].len()) - 1..).zip(logits) {
                let expected: Vec<f32> =
                    array.values[(row * width + t) * vocab..][..vocab].iter().map(|&x| x as f32).collect();
                gate(&format!("sequence {i} in {count} slots, token {t}"), apart(found, &expected), LOGITS)?;
            }
        }
    }
    Ok(())
}

/// The loss of the adapter that transformers and PEFT trained, beside the model and merged into it.
fn adapters(dir: &Path) -> Check {
    let (folder, b) = (Folder::open(dir), Cpu::new(1).expect("threads"));
    let examples = folder.padded();
    let lora = &folder.meta["lora"];
    let expected = nums(&lora["losses"]).pop().expect("losses");
    let mut model = adapted(&b, &folder);
    let beside = loss(&b, &model, &examples);
    gate("loss with the adapter", ((beside - expected) / expected).abs(), 2e-5)?;
    let base = loss(&b, &build(&b, &folder), &examples);
    if (base - expected).abs() < 1e-2 {
        return Err("the adapter changes nothing: the test is blind".into());
    }
    let prompt = ids(&folder.meta["generation"]["prompt"]);
    let rows = [prompt.clone()];
    let before = in_slots(&b, &model, &rows, 1, |_| 1);
    model.merge(&b).expect("merges");
    if model.slices().any(|(_, slice)| slice.adapter.is_some()) {
        return Err("an adapter is left beside the merged weights".into());
    }
    let merged = num(&lora["loss_count_final_merged"]);
    gate("loss of the merged model", ((loss(&b, &model, &examples) - merged) / merged).abs(), 2e-5)?;
    let after = in_slots(&b, &model, &rows, 1, |_| 1);
    let most = before[0].iter().zip(&after[0]).map(|(a, b)| apart(a, b)).fold(0.0, worst);
    gate("logits merged and unmerged", most, LOGITS)
}

pub fn trials() -> Vec<Trial> {
    on_folders(
        "generate::",
        &[SHARED, MORE],
        &[
            ("::greedy", greedy),
            ("::logits", logits),
            ("::batches", batches),
            ("::slots", slots),
            ("::adapters", adapters),
        ],
    )
}
