//! `eyekern priors show`: prints priors as tables or JSON and draws them.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{Format, figure, order, rarity, spell};
use crate::cli::terminal::Terminal;
use crate::error::Result;
use crate::files;
use crate::salience::Label;
use crate::salience::beta::Beta;
use crate::salience::priors::Priors;

/// The examples at the end of the help.
pub const HELP: &str = "\
Examples:
  eyekern priors show --condition reading
  eyekern priors show --priors mine.json --svg mine.svg

The JSON object has the keys condition, source, ordered, built, labels (id, label, c1, ntok, mono, alpha, beta, mean,
interval), aggregate and monograms, bigrams, trigrams (ids, labels, count, rarity; the most frequent first).";

/// Arguments of `eyekern priors show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// reading, writing or combined (the default); with --priors, a condition of the file, optional if it has only one.
    #[arg(long, value_name = "NAME")]
    pub condition: Option<String>,
    /// A file of priors instead of the built-in priors.
    #[arg(long, value_name = "FILE")]
    pub priors: Option<PathBuf>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Number of bigrams and trigrams in the text and in the picture.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=40))]
    pub top: u16,
    /// Also draw the densities and the most frequent n-grams into this SVG file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Loads the priors, draws them if requested, and prints them.
pub fn run(args: &ShowArgs, out: &mut Terminal) -> Result {
    if let Some(file) = &args.svg {
        files::refuse_input("--svg", file, &args.priors)?;
    }
    let priors = match &args.priors {
        Some(file) => Priors::load(file, args.condition.as_deref())?,
        None => Priors::builtin(args.condition.as_deref().unwrap_or("combined"))?,
    };
    if let Some(file) = &args.svg {
        files::write(file, figure::draw(&priors, args.top.into()))?;
    }
    match args.format {
        Format::Text => text(&priors, args.top.into(), out),
        Format::Json => out.line(&object(&priors).to_string()),
    }
    Ok(())
}

fn text(priors: &Priors, top: usize, out: &mut Terminal) {
    out.line(&out.bold(&format!("Priors of human attention: {}", priors.condition())));
    out.line(&format!("source   {}", priors.source()));
    out.line(&format!("n-grams  {}", order(priors)));
    out.line("");
    let head = format!(
        "{:>2}  {:39} {:>7} {:>7} {:>7} {:>7}  {:>8}  {}",
        "id", "label", "c1", "ntok", "alpha", "beta", "E[theta]", "95 % interval"
    );
    out.line(&out.dim(&head));
    for label in Label::ALL.into_iter().filter(|&label| label != Label::Type) {
        let counts = priors.counts(label);
        let start = format!("{:>2}  {:39} {:>7} {:>7}", label.id(), label.name(), counts.c1, counts.ntok);
        match priors.beta(label) {
            Some(beta) => out.line(&format!("{start} {}", numbers(beta))),
            None => out.line(&format!("{start} {:>7} {:>7}  {:>8}  never shown", "-", "-", "-")),
        }
    }
    let sum = |f: fn(crate::salience::priors::Counts) -> u64| -> u64 {
        Label::ALL.into_iter().map(|label| f(priors.counts(label))).sum()
    };
    let all =
        format!("    {:39} {:>7} {:>7} {}", "aggregate", sum(|c| c.c1), sum(|c| c.ntok), numbers(priors.aggregate()));
    out.line(&out.bold(&all));
    for (name, length) in [("bigrams", 2), ("trigrams", 3)] {
        let ranking = priors.ranking(length);
        out.line("");
        let head = format!("{:>8} {:>10}  {name} ({} with a count)", "count", "1/ln(n+2)", ranking.len());
        out.line(&out.dim(&head));
        for (ngram, count) in ranking.iter().take(top) {
            out.line(&format!("{count:>8} {:>10.4}  {}", rarity(*count), spell(ngram, priors.ordered())));
        }
    }
}

fn numbers(beta: Beta) -> String {
    let [low, high] = beta.interval();
    format!("{:>7} {:>7}  {:>8.4}  {low:.4} to {high:.4}", beta.alpha, beta.beta, beta.mean())
}

fn object(priors: &Priors) -> Value {
    let beta =
        |beta: Beta| json!({"alpha": beta.alpha, "beta": beta.beta, "mean": beta.mean(), "interval": beta.interval()});
    let labels = Label::ALL.into_iter().filter(|&label| label != Label::Type).map(|label| {
        let counts = priors.counts(label);
        let mut row = json!({
            "id": label.id(), "label": label.name(), "c1": counts.c1, "ntok": counts.ntok, "mono": counts.mono,
            "alpha": null, "beta": null, "mean": null, "interval": null,
        });
        if let (Some(row), Some(Value::Object(known))) = (row.as_object_mut(), priors.beta(label).map(beta)) {
            row.extend(known);
        }
        row
    });
    let ngrams = |length: usize| -> Value {
        let entry = |(ngram, count): &(Vec<Label>, u64)| {
            let ids: Vec<u8> = ngram.iter().map(|label| label.id()).collect();
            let names: Vec<&str> = ngram.iter().map(|label| label.name()).collect();
            json!({"ids": ids, "labels": names, "count": count, "rarity": rarity(*count)})
        };
        priors.ranking(length).iter().map(entry).collect()
    };
    json!({
        "condition": priors.condition(),
        "source": priors.source(),
        "ordered": priors.ordered(),
        "built": priors.built(),
        "labels": labels.collect::<Vec<_>>(),
        "aggregate": beta(priors.aggregate()),
        "monograms": ngrams(1),
        "bigrams": ngrams(2),
        "trigrams": ngrams(3),
    })
}
