//! What labelling costs beside parsing alone (a tree and a walk over its leaves), in bytes of code per second.
//!
//! `cargo bench --bench labels`: the hand-labelled snippets of every language; with `EYEKERN_SHARED` also the methods
//! of the CodeXGLUE translation pairs. At the end the ratios, from the shortest of many alternating rounds.

#[path = "../tests/labels/snippets/mod.rs"]
mod snippets;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use eyekern::salience::labels::{Calls, label};
use eyekern::salience::syntax::{Language, parse};
use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

struct Set {
    name: String,
    language: Language,
    pieces: Vec<String>,
}

fn sets() -> Vec<Set> {
    let mut sets = Vec::new();
    for (language, list) in snippets::ALL {
        let pieces = list.iter().map(|(code, _)| code.to_string()).collect();
        sets.push(Set { name: format!("snippets/{language}"), language, pieces });
    }
    if let Some(shared) = std::env::var_os("EYEKERN_SHARED").map(PathBuf::from) {
        for (language, end) in [(Language::Java, "java"), (Language::CSharp, "cs")] {
            let file = shared.join(format!("data/codexglue/train.java-cs.txt.{end}"));
            let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let pieces = text.lines().map(str::to_string).collect();
            sets.push(Set { name: format!("codexglue/{language}"), language, pieces });
        }
    }
    sets
}

/// Parses every piece and counts the leaves.
fn parse_all(set: &Set) -> usize {
    set.pieces.iter().map(|code| parse(code.as_bytes(), set.language).map_or(0, |tree| tree.leaves().count())).sum()
}

/// Parses and labels every piece and counts the labels.
fn label_all(set: &Set) -> usize {
    set.pieces
        .iter()
        .map(|code| label(code.as_bytes(), set.language, Calls::Syntax).map_or(0, |spans| spans.len()))
        .sum()
}

/// The shortest times of parsing and of labelling; the two take turns, so that a busy machine slows both.
fn shortest(set: &Set) -> [Duration; 2] {
    let mut best = [Duration::MAX; 2];
    let start = Instant::now();
    for round in 0.. {
        if round >= 5 && start.elapsed() > Duration::from_secs(2) {
            break;
        }
        for (best, run) in best.iter_mut().zip([parse_all, label_all]) {
            let start = Instant::now();
            black_box(run(set));
            *best = start.elapsed().min(*best);
        }
    }
    best
}

fn main() {
    let sets = sets();
    let mut criterion = Criterion::default().configure_from_args().without_plots();
    for set in &sets {
        let mut group = criterion.benchmark_group(&set.name);
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(800));
        group.throughput(Throughput::Bytes(set.pieces.iter().map(|p| p.len() as u64).sum()));
        group.bench_function(BenchmarkId::from_parameter("parse"), |b| b.iter(|| parse_all(black_box(set))));
        group.bench_function(BenchmarkId::from_parameter("label"), |b| b.iter(|| label_all(black_box(set))));
        group.finish();
    }
    criterion.final_summary();
    println!("\n{:22} {:>6} {:>8} {:>10} {:>12}", "set", "pieces", "labels", "labels/s", "label/parse");
    for set in &sets {
        let [parse, label] = shortest(set);
        let labels = label_all(set);
        println!(
            "{:22} {:6} {labels:8} {:10.0} {:12.2}",
            set.name,
            set.pieces.len(),
            labels as f64 / label.as_secs_f64(),
            label.as_secs_f64() / parse.as_secs_f64()
        );
    }
}
