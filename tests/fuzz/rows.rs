//! What must hold of any row of a data file.

use eyekern::data::corpus::{self, Reading};
use eyekern::data::tokenizer::Tokenizer;
use eyekern::data::weights::drawn::{Drawing, PathReading, Writing};
use eyekern::salience::align::{Align, Salience};
use eyekern::salience::labels::Calls;
use eyekern::salience::priors::Priors;
use std::path::Path;
use std::sync::OnceLock;

const TOKENIZER: &[u8] = include_bytes!("../../assets/demo/tokenizer.json");
/// Ids of the demo's tokenizer.
const VOCAB: usize = 640;

/// The rows are refused with the file's name and a line that they have, or every example is fit to be trained on.
pub fn run(input: &[u8]) {
    static TOKENS: OnceLock<Tokenizer> = OnceLock::new();
    let tokenizer =
        TOKENS.get_or_init(|| Tokenizer::from_bytes(TOKENIZER, Some("<|endoftext|>")).expect("the demo's tokenizer"));
    let Ok(text) = std::str::from_utf8(input) else { return };
    read(text, tokenizer, Reading::default());
    for align in [Align::Identity, Align::TargetAst, Align::Lexical, Align::BroadcastMax] {
        let paths =
            PathReading { align, calls: Calls::Syntax, source: None, target: Some(Writing::Words), recorded: false };
        read(text, tokenizer, Reading { paths: Some(paths), ..Reading::default() });
    }
}

fn read(text: &str, tokenizer: &Tokenizer, reading: Reading) {
    match corpus::read_str(text, Path::new("rows.jsonl"), Some(tokenizer), VOCAB, &reading) {
        Err(refusal) => {
            let refusal = refusal.to_string();
            let place = refusal.strip_prefix("rows.jsonl:").expect("the file's name");
            let line = place.split(':').next().and_then(|line| line.parse::<usize>().ok());
            assert!(line.is_none_or(|line| (1..=text.lines().count()).contains(&line)), "{refusal}");
        }
        Ok(mut corpus) => {
            if let Some(paths) = reading.paths {
                let priors = Priors::builtin("combined").expect("built in");
                let (path, weights) = Default::default();
                let salience = Salience { priors, path, weights, align: paths.align, weighing: None };
                corpus.draw(&Drawing { salience, seed: 1, artifact: false }, 0);
            }
            for example in &corpus.examples {
                let n = example.ids.len();
                assert!(n <= reading.max_length && example.labels.len() == n);
                assert!(example.weights.len() == n && example.path.len() == n);
                assert!(example.ids.iter().all(|&id| (id as usize) < VOCAB));
                assert!(example.weights.iter().all(|w| w.is_finite()));
            }
        }
    }
}
