//! What the host does beside the device: tokenising, scan paths and weights, packing, laying out batches.
//!
//! `cargo bench --bench host`: the hand-labelled snippets of every language and the demo's tokenizer; batches are of a
//! thousand examples of 20 to 500 tokens. A step on the device has to take longer than its share of these.

#[path = "../tests/labels/snippets/mod.rs"]
mod snippets;

use criterion::{Criterion, SamplingMode, Throughput};
use eyekern::data::Example;
use eyekern::data::pack::{self, Batching};
use eyekern::data::tokenizer::Tokenizer;
use eyekern::random::{Purpose, Stream};
use eyekern::salience::Span;
use eyekern::salience::labels::{Calls, label};
use eyekern::salience::priors::Priors;
use eyekern::salience::scanpath::{Key, PathSettings, ScanPath};
use eyekern::salience::weights::{WeightSettings, weigh};
use std::hint::black_box;
use std::time::Duration;

fn time<T>(c: &mut Criterion, name: &str, throughput: Throughput, mut f: impl FnMut() -> T) {
    let mut group = c.benchmark_group("host");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).throughput(throughput);
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
    group.bench_function(name, |b| b.iter(|| black_box(f())));
    group.finish();
}

fn tokenising(c: &mut Criterion) {
    let json = include_bytes!("../assets/demo/tokenizer.json");
    let tokenizer = Tokenizer::from_bytes(json, Some("<|endoftext|>")).expect("the demo's tokenizer");
    let texts: Vec<&str> = snippets::ALL.iter().flat_map(|(_, list)| list.iter().map(|(code, _)| *code)).collect();
    let bytes = texts.iter().map(|t| t.len() as u64).sum();
    time(c, "tokenise", Throughput::Bytes(bytes), || {
        texts.iter().map(|text| tokenizer.encode(text).expect("encodes").len()).sum::<usize>()
    });
}

/// All labelled tokens of the snippets of a language, as if they were one file.
fn files() -> Vec<Vec<Span>> {
    let spans = |(language, list): &(_, &[snippets::Snippet])| {
        list.iter().flat_map(|(code, _)| label(code.as_bytes(), *language, Calls::Syntax).expect("labels")).collect()
    };
    snippets::ALL.iter().map(spans).collect()
}

fn salience(c: &mut Criterion) {
    let (files, priors) = (files(), Priors::builtin("combined").expect("built in"));
    let (settings, weighing) = (PathSettings::default(), WeightSettings::default());
    let key = |example| Key { seed: 1, example, epoch: 0 };
    let draw = |(i, spans): (usize, &Vec<Span>)| ScanPath::draw(spans, &priors, &settings, key(i as u64));
    let tokens = Throughput::Elements(files.iter().map(|f| f.len() as u64).sum());
    time(c, "draw scan paths", tokens.clone(), || files.iter().enumerate().map(draw).collect::<Vec<_>>());
    let paths: Vec<ScanPath> = files.iter().enumerate().map(draw).collect();
    time(c, "weigh", tokens, || {
        let weighed = files.iter().zip(&paths).map(|(spans, path)| weigh(spans, path, &priors, &weighing));
        weighed.collect::<Vec<_>>()
    });
}

fn examples() -> Vec<Example> {
    let mut stream = Stream::new(1, Purpose::Init, 0);
    let build = |row| {
        let n = 20 + stream.below(481) as usize;
        let ids: Vec<u32> = (0..n).map(|_| stream.below(32_000)).collect();
        Example { row, labels: ids.clone(), weights: vec![1.0; n], path: vec![false; n], prompt: 0, ids }
    };
    (0..1000).map(build).collect()
}

fn packing(c: &mut Criterion) {
    let examples = examples();
    let tokens = Throughput::Elements(examples.iter().map(|e| e.ids.len() as u64).sum());
    time(c, "order", Throughput::Elements(1000), || pack::order(1000, 1, 3, true));
    let order = pack::order(1000, 1, 3, true);
    let plan = || pack::plan(&examples, &order, Batching::Tokens, 4096, 8);
    time(c, "pack", tokens.clone(), plan);
    let plan = plan();
    time(c, "lay out", tokens, || {
        let batch = |list: &Vec<usize>| pack::batch(&list.iter().map(|&i| &examples[i]).collect::<Vec<_>>(), None);
        plan.iter().map(batch).collect::<Vec<_>>()
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args().without_plots();
    for family in [tokenising, salience, packing] {
        family(&mut criterion);
    }
    criterion.final_summary();
}
