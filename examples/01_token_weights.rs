//! Weights on character spans become weights on tokens.
//!
//! A row names stretches of its completion, in characters; a token takes the weight of the span that covers most of its
//! bytes, and 1 where none does. The tokenizer may cut words where it likes.
//!
//!     cargo run --release --example 01_token_weights

use eyekern::data::IGNORE;
use eyekern::data::corpus::{self, Reading};
use eyekern::data::tokenizer::Tokenizer;
use eyekern::error::Result;
use std::path::Path;

/// `balance` counts three times and lies on the scan path, `-=` counts a tenth, the rest is left at 1.
const ROW: &str =
    r#"{"prompt": "Withdraw:\n", "completion": "balance -= amount;", "weights": [[0, 7, 3.0, true], [8, 10, 0.1]]}"#;

fn main() -> Result {
    let tokenizer = Tokenizer::from_bytes(include_bytes!("../assets/demo/tokenizer.json"), Some("<|endoftext|>"))?;
    let corpus = corpus::read_str(ROW, Path::new("row"), Some(&tokenizer), tokenizer.id_end(), &Reading::default())?;
    let example = &corpus.examples[0];

    println!("{:<16} {:>10} {:>7}  path", "token", "supervised", "weight");
    let mut heavy = String::new();
    for t in 0..example.ids.len() {
        let text = tokenizer.token_text(example.ids[t]);
        let supervised = example.labels[t] != IGNORE;
        let (weight, on_path) = (example.weights[t], example.path[t]);
        let shown = if supervised { format!("{weight:.1}") } else { String::new() };
        println!("{:<16} {supervised:>10} {shown:>7}  {on_path}", format!("{text:?}"));
        if supervised && on_path {
            assert_eq!(weight, 3.0);
            heavy.push_str(&text);
        }
    }
    // the tokens on the path are exactly the span, however many there are
    assert_eq!(heavy, "balance");
    // the completion ends with EOS, which is supervised with weight 1
    assert_eq!((example.labels.last(), example.weights.last()), (Some(&tokenizer.eos()), Some(&1.0)));
    println!("\nmean weight of {} supervised tokens: {:.3}", corpus.counts.supervised, corpus.counts.weight_mean);
    Ok(())
}
