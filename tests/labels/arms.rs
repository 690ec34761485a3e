//! The arm `artifact` against the published code's rule, row by row.

use crate::support::json;
use crate::support::trials::{Check, trials};
use eyekern::data::corpus::{self, DataSource};
use eyekern::data::template::Task;
use eyekern::data::tokenizer::Tokenizer;
use eyekern::train::arms::Weighing;
use eyekern::train::prepare;
use eyekern::train::recipe::{Arm, Recipe};
use libtest_mimic::Trial;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    trials!(on_shared: the_artifact_weighs_each_row_as_published).into()
}

/// Every answer, EOS too, has the one weight that the published code gives the row.
fn the_artifact_weighs_each_row_as_published(shared: &Path) -> Check {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR"));
    let expected = json(&fixtures.join("tests/fixtures/artifact_scalars.json"));
    let tokenizer = std::fs::read(fixtures.join("assets/demo/tokenizer.json"))?;
    let tokenizer = Tokenizer::from_bytes(&tokenizer, Some("<|endoftext|>"))?;
    let tasks = [Task::Translation, Task::Summarization, Task::Completion];
    for (condition, task) in ["combined", "reading", "writing"].into_iter().flat_map(|c| tasks.map(|task| (c, task))) {
        let mut recipe = Recipe::default();
        recipe.objective.arm = Arm::Artifact;
        recipe.salience.condition = Some(condition.into());
        recipe.data.max_length = 1 << 20;
        // completion rows have their whole file as prompt and target, which is the task copy
        recipe.data.task = if task == Task::Completion { Task::Copy } else { task };
        let source = DataSource::Jsonl(shared.join(format!("data/labelled/{task}_train_valid.jsonl")));
        let reading = prepare::reading(&recipe, &source, Some(&tokenizer))?;
        let mut corpus = corpus::read(&source, Some(&tokenizer), usize::MAX, &reading)?;
        Weighing::new(&recipe, Some(&tokenizer), &corpus)?.weigh(&mut corpus, 0)?;
        let scalars = expected[condition][task.to_string()].as_array().expect("scalars");
        assert_eq!(corpus.examples.len(), scalars.len());
        for (example, scalar) in corpus.examples.iter().zip(scalars) {
            let scalar = scalar.as_f64().expect("a number");
            let wrong = example.supervised_at().find(|&t| (f64::from(example.weights[t]) - scalar).abs() > 1e-6);
            assert_eq!(wrong, None, "{condition} {task}, row {}: {scalar}", example.row + 1);
            assert_eq!(example.labels.last(), Some(&tokenizer.eos()));
        }
    }
    Ok(())
}
