use super::*;
use crate::data::corpus;
use crate::data::corpus::Reading;
use crate::data::samples::{EOS, plain};
use crate::data::template::Task;
use crate::data::weights::drawn::Writing;
use crate::salience::align::Align;
use crate::salience::syntax::Language;
use crate::train::prepare;
use std::path::Path;

/// Rows with weights and roles of their own, a prompt that is supervised, and an unsupervised token inside.
fn given() -> Corpus {
    let row = |n: u32| {
        let words = format!("{}{}", "a b c d e f g h ".repeat(2 + n as usize % 3), n % 10);
        let spans: Vec<String> =
            (0..12).map(|i| format!("[{i}, {}, {}, {}]", i + 1, 1 + (i + n) % 5, i % 3 == 0)).collect();
        format!(r#"{{"prompt": "in {n}: ", "completion": "{words}", "weights": [{}]}}"#, spans.join(", "))
    };
    let ids =
        r#"{"input_ids": [5, 6, 7, 8], "labels": [5, -100, 7, 8], "weights": [9, 9, 4, 0.5], "path": [1, 1, 0, 1]}"#;
    let jsonl = (0..40).map(row).chain([ids.to_string()]).collect::<Vec<_>>().join("\n");
    let reading = Reading { max_length: 60, prompt_weight: Some(0.25), ..Reading::default() };
    corpus::read_str(&jsonl, Path::new("d.jsonl"), Some(&plain()), 512, &reading).unwrap()
}

const CODE: [&str; 4] = [
    "public int size() { if (n == 0) { return 0; } return n; }",
    "void f(int a, int b) { for (int i = 0; i < a; i++) { g(i, b); } }",
    "String name() { try { return read(path); } catch (Exception e) { return null; } }",
    "int sum(int[] xs) { int s = 0; for (int x : xs) { s += x * x; } return s; }",
];

fn recipe(arm: Arm) -> Recipe {
    let mut recipe = Recipe::default();
    recipe.objective.arm = arm;
    recipe.train.seed = 3;
    recipe
}

/// Rows of code whose weights are drawn from scan paths.
fn code(recipe: &mut Recipe) -> Corpus {
    recipe.salience.condition = Some("combined".into());
    recipe.data.task = Task::Translation;
    recipe.salience.target_lang = Some(Writing::Code(Language::Java));
    let jsonl: Vec<String> =
        (0..60).map(|n| serde_json::json!({"code": "x", "content": CODE[n % 4]}).to_string()).collect();
    let source = corpus::DataSource::Jsonl("d.jsonl".into());
    let reading = prepare::reading(recipe, &source, None).unwrap();
    corpus::read_str(&jsonl.join("\n"), Path::new("d.jsonl"), Some(&plain()), 512, &reading).unwrap()
}

fn weighed(recipe: &Recipe, corpus: &Corpus, epoch: u32) -> (Corpus, Option<String>) {
    let mut weighed = corpus.clone();
    let weighing = Weighing::new(recipe, Some(&plain()), corpus).unwrap();
    let note = weighing.weigh(&mut weighed, epoch).unwrap();
    (weighed, note)
}

fn armed(arm: Arm, corpus: &Corpus) -> Corpus {
    weighed(&recipe(arm), corpus, 0).0
}

/// The pairs of an example's answers, or of all of them, in an order of their own.
fn pairs<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Vec<(u32, bool)> {
    let pairs = |e: &'a Example| e.answer_at().map(|t| (e.weights[t].to_bits(), e.path[t])).collect::<Vec<_>>();
    let mut pairs: Vec<_> = examples.into_iter().flat_map(pairs).collect();
    pairs.sort_unstable();
    pairs
}

fn weights(corpus: &Corpus) -> Vec<f32> {
    corpus.examples.iter().flat_map(|e| e.answer_at().map(|t| e.weights[t])).collect()
}

fn mean_of(corpus: &Corpus) -> f64 {
    let weights = weights(corpus);
    weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len() as f64
}

/// The same rows, tokens and masks in every arm; prompts keep their weight.
#[test]
fn arms_change_weights_and_roles_of_answers_alone() {
    let corpus = given();
    for &arm in crate::choices::Choice::ALL {
        if matches!(arm, Arm::Semantic | Arm::Rarity | Arm::ShuffledLabels | Arm::Artifact | Arm::ArtifactBaseline) {
            continue;
        }
        let other = armed(arm, &corpus);
        for (a, b) in corpus.examples.iter().zip(&other.examples) {
            assert_eq!((a.row, &a.ids, &a.labels, a.prompt), (b.row, &b.ids, &b.labels, b.prompt), "{arm}");
            let answers: Vec<usize> = a.answer_at().collect();
            for t in (0..a.ids.len()).filter(|t| !answers.contains(t)) {
                assert_eq!((a.weights[t], a.path[t]), (b.weights[t], b.path[t]), "{arm}: {t}");
            }
        }
        assert_eq!(other.counts.supervised, corpus.counts.supervised);
    }
    assert_eq!(corpus.examples[0].weights[..3], [0.25; 3]);
}

#[test]
fn weights_of_the_plain_arms_by_definition() {
    let corpus = given();
    let mean = mean_of(&corpus);
    assert_eq!(armed(Arm::Data, &corpus).examples, corpus.examples);
    assert!(weights(&armed(Arm::Uniform, &corpus)).iter().all(|&w| w == 1.0));
    assert!(weights(&armed(Arm::Constant, &corpus)).iter().all(|&w| w == mean as f32));
    let (inverse, note) = weighed(&recipe(Arm::Inverse), &corpus, 0);
    let expected: Vec<f32> = weights(&corpus).iter().map(|&w| (2.0 * mean - f64::from(w)).max(0.0) as f32).collect();
    assert_eq!(weights(&inverse), expected);
    let clamped = expected.iter().filter(|&&w| w == 0.0).count() as f64 / expected.len() as f64;
    assert!(clamped > 0.0 && note.unwrap().contains(&format!(": {:.2} %", 100.0 * clamped)));

    let pairs: Vec<(f32, bool)> =
        corpus.examples.iter().flat_map(|e| e.answer_at().map(|t| (e.weights[t], e.path[t]))).collect();
    let on: Vec<f64> = pairs.iter().filter(|(_, on)| *on).map(|(w, _)| f64::from(*w)).collect();
    let on_mean = (on.iter().sum::<f64>() / on.len() as f64) as f32;
    let expected: Vec<f32> = pairs.iter().map(|&(_, on)| if on { on_mean } else { 1.0 }).collect();
    assert_eq!(weights(&armed(Arm::Path, &corpus)), expected);
    for arm in [Arm::Constant, Arm::Path] {
        let mut recipe = recipe(arm);
        recipe.objective.arm_constant = Some(2.5);
        let weights = weights(&weighed(&recipe, &corpus, 0).0);
        assert!(weights.contains(&2.5) && weights.iter().all(|&w| w == 2.5 || (arm == Arm::Path && w == 1.0)));
    }
}

/// The table of rarities is that of the training file, also for another file.
#[test]
fn rarity_counts_supervised_ids_of_the_training_file() {
    let corpus = given();
    let mut count = std::collections::HashMap::<u32, f64>::new();
    corpus.examples.iter().for_each(|e| e.answer_at().for_each(|t| *count.entry(e.labels[t]).or_default() += 1.0));
    let other = corpus::read_str(
        r#"{"prompt": "", "completion": "az"}"#,
        Path::new("v"),
        Some(&plain()),
        512,
        &Reading::default(),
    );
    let mut other = other.unwrap();
    let weighing = Weighing::new(&recipe(Arm::Frequency), Some(&plain()), &corpus).unwrap();
    weighing.weigh(&mut other, 0).unwrap();
    let of = |n: f64| (1.0 + 1.0 / (n + 2.0).ln()) as f32;
    // the first token has no predecessor
    assert_eq!(other.examples[0].weights[1..], [of(0.0), of(count[&EOS])]);
    let mine = armed(Arm::Frequency, &corpus);
    for e in &mine.examples {
        e.answer_at().for_each(|t| assert_eq!(e.weights[t], of(count[&e.labels[t]])));
    }
}

#[test]
fn shuffled_arms_keep_their_multisets() {
    let corpus = given();
    let (shuffled, matched) = (armed(Arm::Shuffled, &corpus), armed(Arm::RandomMatched, &corpus));
    for (a, b) in corpus.examples.iter().zip(&shuffled.examples) {
        assert_eq!(pairs([a]), pairs([b]));
    }
    assert_eq!(pairs(&corpus.examples), pairs(&matched.examples));
    let moved = |other: &Corpus| {
        let (a, b) = (weights(&corpus), weights(other));
        a.iter().zip(&b).filter(|(a, b)| a != b).count() as f64 / a.len() as f64
    };
    assert!(moved(&shuffled) > 0.2 && moved(&matched) > 0.2);
    assert!(corpus.examples.iter().zip(&matched.examples).any(|(a, b)| pairs([a]) != pairs([b])));
    // a function of the seed
    for arm in [Arm::Shuffled, Arm::RandomMatched] {
        assert_eq!(armed(arm, &corpus).examples, armed(arm, &corpus).examples);
        let mut other = recipe(arm);
        other.train.seed = 4;
        assert_ne!(weighed(&other, &corpus, 0).0.examples, armed(arm, &corpus).examples);
    }
    // every place is equally likely: the mean of each token over seeds is that of its example
    let first = |seed: u64| {
        let mut recipe = recipe(Arm::Shuffled);
        recipe.train.seed = seed;
        let (corpus, _) = weighed(&recipe, &corpus, 0);
        let example = &corpus.examples[0];
        example.answer_at().map(|t| f64::from(example.weights[t])).collect::<Vec<_>>()
    };
    let (seeds, n) = (2000, first(0).len());
    let mean = first(0).iter().sum::<f64>() / n as f64;
    let spread = (first(0).iter().map(|w| (w - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
    let sums = (0..seeds).map(first).fold(vec![0.0; n], |sum, w| sum.iter().zip(w).map(|(a, b)| a + b).collect());
    for sum in sums {
        assert!((sum / seeds as f64 - mean).abs() < 5.0 * spread / (seeds as f64).sqrt());
    }
}

/// semantic + rarity - w_base = data on the path, and off it nothing changes; exchanged labels keep the paths, and each
/// label gets the expectation of another one, no two of the same.
#[test]
fn ablations_of_drawn_weights_leave_terms_out() {
    let of = |arm: Arm| {
        let mut recipe = recipe(arm);
        let corpus = code(&mut recipe);
        weighed(&recipe, &corpus, 0).0
    };
    let (data, semantic, rarity) = (of(Arm::Data), of(Arm::Semantic), of(Arm::Rarity));
    let mut different = [0; 2];
    for ((d, s), r) in data.examples.iter().zip(&semantic.examples).zip(&rarity.examples) {
        assert_eq!((&d.path, &d.path), (&s.path, &r.path));
        for t in d.answer_at() {
            let [d, s, r] = [d, s, r].map(|example| example.weights[t]);
            if data.examples[0].path.is_empty() || d == 1.0 {
                assert_eq!([s, r], [d; 2]);
                continue;
            }
            assert!((s + r - 1.0 - d).abs() < 1e-5, "{d} {s} {r}");
            different[0] += usize::from(s != d);
            different[1] += usize::from(r != d);
        }
    }
    assert!(different.iter().all(|&n| n > 100), "{different:?}");

    let (mut recipe, mut plain) = (recipe(Arm::ShuffledLabels), recipe(Arm::Data));
    let corpus = code(&mut recipe);
    code(&mut plain);
    let drawings = [&plain, &recipe].map(|recipe| salience::drawing(recipe).unwrap().unwrap());
    let (mut seen, mut moved) = (HashMap::new(), 0);
    for (row, look) in (0..).zip(&corpus.looks) {
        let [data, other] = drawings.each_ref().map(|drawing| drawing.of(look, row, 0));
        assert_eq!(data.path, other.path);
        for (span, (a, b)) in look.spans.iter().zip(data.tokens.iter().zip(&other.tokens)) {
            assert_eq!(a.on_path, b.on_path);
            if let Some(label) = span.label.filter(|_| a.on_path) {
                let before = seen.insert(label, b.parts.semantic);
                assert!(before.is_none_or(|before| before == b.parts.semantic));
                moved += usize::from(a.parts.semantic != b.parts.semantic);
            }
        }
    }
    let mut values: Vec<u64> = seen.values().map(|value: &f64| value.to_bits()).collect();
    values.sort_unstable();
    values.dedup();
    assert!(values.len() == seen.len() && seen.len() > 5 && moved > 100);
}

#[test]
fn epochs_have_arms_of_their_own_where_paths_are_drawn_anew() {
    for arm in [Arm::Shuffled, Arm::RandomMatched] {
        let mut recipe = recipe(arm);
        let corpus = code(&mut recipe);
        assert_eq!(weighed(&recipe, &corpus, 0).0.examples, weighed(&recipe, &corpus, 1).0.examples);
        recipe.salience.dynamic = true;
        let weighing = Weighing::new(&recipe, Some(&plain()), &corpus).unwrap();
        let mut later = corpus.clone();
        weighing.weigh(&mut later, 0).unwrap();
        assert_eq!(later.examples, weighed(&recipe, &corpus, 0).0.examples);
        // what an epoch exchanged does not reach the next
        weighing.weigh(&mut later, 5).unwrap();
        assert_eq!(later.examples, weighed(&recipe, &corpus, 5).0.examples);
        assert_ne!(later.examples, weighed(&recipe, &corpus, 0).0.examples);
    }
}

#[test]
fn the_published_baseline_supervises_all_but_eos() {
    let baseline = armed(Arm::ArtifactBaseline, &given());
    for example in &baseline.examples {
        for (t, &id) in example.ids.iter().enumerate() {
            assert_eq!(example.labels[t], if id == EOS { IGNORE } else { id });
        }
        assert!(example.weights.iter().all(|&w| w == 1.0) && !example.path.contains(&true));
    }
    assert_eq!((baseline.counts.eos_rows, baseline.counts.on_path), (0, 0));
}

#[test]
fn arms_name_what_they_require() {
    let corpus = given();
    let why = |recipe: &Recipe| Weighing::new(recipe, None, &corpus).err().map(|e| e.to_string());
    for arm in [Arm::Semantic, Arm::Rarity, Arm::ShuffledLabels, Arm::Artifact] {
        let why = why(&recipe(arm)).unwrap();
        let expected =
            format!("objective.arm = \"{arm}\" is about weights that are drawn from scan paths; set salience.");
        assert!(why.contains(&expected), "{why}");
    }
    let weighing = Weighing::new(&recipe(Arm::ArtifactBaseline), None, &corpus).unwrap();
    assert!(weighing.weigh(&mut corpus.clone(), 0).unwrap_err().to_string().contains("without a tokenizer"));
    let mut flat = corpus.clone();
    flat.examples.iter_mut().for_each(|example| example.path.fill(false));
    let weighing = Weighing::new(&recipe(Arm::Path), None, &flat).unwrap();
    assert!(
        weighing.weigh(&mut flat, 0).unwrap_err().to_string().starts_with("d.jsonl: no supervised token is on a path")
    );
    let mut recipe = recipe(Arm::Artifact);
    recipe.salience.condition = Some("combined".into());
    recipe.salience.align = Some(Align::TargetAst);
    assert!(why(&recipe).unwrap().contains("salience.align is target-ast; unset it"));
}
