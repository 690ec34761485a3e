//! The labels against the published examples and, for C#, against the Java twins of translation pairs.

use crate::support::trials::{Check, trials};
use eyekern::salience::Label;
use eyekern::salience::labels::compat::{ArtifactToken, artifact};
use eyekern::salience::labels::{Calls, label};
use eyekern::salience::syntax::Language;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    trials!(on_shared:
        java_agrees_with_the_published_labels_by_the_lexicon,
        java_agrees_with_the_published_labels_by_syntax,
        pseudo_lines_are_the_published_ones,
        a_c_sharp_method_is_labelled_like_its_java_twin,
    )
    .into()
}

fn read(file: &Path) -> Result<String, Failed> {
    std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()).into())
}

struct Gold {
    code: String,
    tokens: Vec<(String, u8)>,
    lines: Vec<u32>,
}

fn gold(dir: &Path) -> Result<Vec<Gold>, Failed> {
    let mut list = Vec::new();
    for name in ["summarization", "translation", "completion"] {
        for row in read(&dir.join(format!("data/labelled/{name}_train_valid.jsonl")))?.lines() {
            let row: Value = serde_json::from_str(row)?;
            let array = |key: &str| row[key].as_array().cloned().unwrap_or_default();
            let number = |v: &Value| v.as_u64().unwrap_or(0);
            let texts = array("code_tokens");
            let ids = array("semantic_token_sequence");
            list.push(Gold {
                code: row["code"].as_str().ok_or("no code")?.into(),
                tokens: texts
                    .iter()
                    .zip(&ids)
                    .map(|(t, i)| (t.as_str().unwrap_or("").into(), number(i) as u8))
                    .collect(),
                lines: array("line_numbers").iter().map(|v| number(v) as u32).collect(),
            });
        }
    }
    Ok(list)
}

/// The best alignment of two token lists, then, whatever their order, equal spellings among the tokens that the
/// published lists move to the end of a method (in an order that is not known). Pairs of indices.
fn align(gold: &[(String, u8)], ours: &[(String, u8)]) -> Vec<(usize, usize)> {
    let mut pairs = in_order(gold, ours);
    let moved = |t: &(String, u8)| [Label::ExternalClass.id(), Label::ExternallyDefined.id()].contains(&t.1);
    let mut left: Vec<usize> = (0..ours.len()).filter(|j| pairs.iter().all(|p| p.1 != *j)).collect();
    for i in (0..gold.len()).filter(|i| pairs.iter().all(|p| p.0 != *i)).collect::<Vec<_>>() {
        let same = |j: &usize| ours[*j].0 == gold[i].0 && (moved(&ours[*j]) || moved(&gold[i]));
        let exact = left.iter().position(|j| same(j) && ours[*j].1 == gold[i].1);
        if let Some(at) = exact.or_else(|| left.iter().position(same)) {
            pairs.push((i, left.remove(at)));
        }
    }
    pairs
}

/// The alignment with most equal spellings, then most equal labels.
fn in_order(gold: &[(String, u8)], ours: &[(String, u8)]) -> Vec<(usize, usize)> {
    let (n, m) = (gold.len(), ours.len());
    let mut best = vec![0u32; (n + 1) * (m + 1)];
    let at = |i: usize, j: usize| i * (m + 1) + j;
    let gain = |i: usize, j: usize| {
        if gold[i].0 == ours[j].0 { 1 << 16 | u32::from(gold[i].1 == ours[j].1) } else { 0 }
    };
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            let skip = best[at(i + 1, j)].max(best[at(i, j + 1)]);
            let take = if gain(i, j) > 0 { best[at(i + 1, j + 1)] + gain(i, j) } else { 0 };
            best[at(i, j)] = skip.max(take);
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut pairs = Vec::new();
    while i < n && j < m {
        if gain(i, j) > 0 && best[at(i, j)] == best[at(i + 1, j + 1)] + gain(i, j) {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if best[at(i, j)] == best[at(i + 1, j)] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

fn plain(tokens: &[ArtifactToken]) -> Vec<(String, u8)> {
    tokens.iter().map(|t| (t.text.clone(), t.label.map_or(0, Label::id))).collect()
}

fn java_agrees_with_the_published_labels_by_the_lexicon(shared: &Path) -> Check {
    agreement(shared, Calls::Lexicon, 0.995)
}

fn java_agrees_with_the_published_labels_by_syntax(shared: &Path) -> Check {
    agreement(shared, Calls::Syntax, 0.985)
}

fn agreement(dir: &Path, calls: Calls, least: f64) -> Check {
    // by label id: in gold, found and right, ours
    let mut counts = [[0usize; 3]; 21];
    let verbose = std::env::var_os("EYEKERN_VERBOSE").is_some();
    for example in gold(dir)? {
        let ours = plain(&artifact(example.code.as_bytes(), Language::Java, calls)?);
        let pairs = align(&example.tokens, &ours);
        example.tokens.iter().for_each(|t| counts[usize::from(t.1)][0] += 1);
        ours.iter().for_each(|t| counts[usize::from(t.1)][2] += 1);
        for &(i, j) in &pairs {
            let right = example.tokens[i].1 == ours[j].1;
            counts[usize::from(example.tokens[i].1)][1] += usize::from(right);
            if !right && verbose {
                let around = &example.tokens[i.saturating_sub(3)..(i + 4).min(example.tokens.len())];
                let around: Vec<_> = around.iter().map(|t| t.0.as_str()).collect();
                println!(
                    "{:?}: published {} ours {} in {}",
                    ours[j].0,
                    example.tokens[i].1,
                    ours[j].1,
                    around.join(" ")
                );
            }
        }
        if verbose {
            let missed: Vec<_> = (0..example.tokens.len()).filter(|i| pairs.iter().all(|p| p.0 != *i)).collect();
            let extra: Vec<_> = (0..ours.len()).filter(|j| pairs.iter().all(|p| p.1 != *j)).collect();
            if missed.len() + extra.len() > 0 {
                let text = |list: &[(String, u8)], of: &[usize]| -> Vec<String> {
                    of.iter().map(|&i| format!("{} {}", list[i].0, list[i].1)).collect()
                };
                println!("missed {:?} extra {:?}", text(&example.tokens, &missed), text(&ours, &extra));
            }
        }
    }
    let total: [usize; 3] = std::array::from_fn(|k| counts.iter().map(|c| c[k]).sum());
    let share = |part: usize, of: usize| if of == 0 { 1.0 } else { part as f64 / of as f64 };
    println!("{calls:?}: {} of {} = {:.4}", total[1], total[0], share(total[1], total[0]));
    let mut low = Vec::new();
    for id in 0..=20u8 {
        let [n, right, ours] = counts[usize::from(id)];
        let name = Label::from_id(id).map_or("none", Label::name);
        println!("{name:42} {n:6} recall {:.4} precision {:.4}", share(right, n), share(right, ours));
        let gated = matches!(
            Label::from_id(id),
            Some(
                Label::Parameter
                    | Label::Return
                    | Label::FunctionDeclaration
                    | Label::Loop
                    | Label::VariableDeclaration
            )
        );
        // two published comments are mis-encoded
        let comments = id == Label::Comment.id() && right + 2 < n;
        if comments || gated && share(right, n) < 0.998 {
            low.push(name);
        }
    }
    if !low.is_empty() {
        return Err(format!("recall too low: {low:?}").into());
    }
    if share(total[1], total[0]) < least { Err("agreement too low".into()) } else { Ok(()) }
}

/// Where the tokens are the published ones in their order, so are the lines.
fn pseudo_lines_are_the_published_ones(dir: &Path) -> Check {
    let (mut same, mut n) = (0, 0);
    for example in gold(dir)? {
        let ours = artifact(example.code.as_bytes(), Language::Java, Calls::Lexicon)?;
        n += 1;
        if ours.iter().map(|t| &t.text).eq(example.tokens.iter().map(|t| &t.0)) {
            same += 1;
            if !ours.iter().map(|t| t.line).eq(example.lines.iter().copied()) {
                return Err(format!("lines differ in {}", example.code).into());
            }
        }
    }
    println!("{same} of {n} examples have the published tokens in the published order");
    if same * 10 < n * 8 { Err("too few examples in the published order".into()) } else { Ok(()) }
}

/// Spelling without regard to case (C# writes `ToString` and `String` as `string`), label.
type Words = Vec<(String, u8)>;

fn words(code: &str, language: Language) -> Result<Words, Failed> {
    let spans = label(code.as_bytes(), language, Calls::Syntax)?;
    Ok(spans.iter().map(|s| (code[s.start..s.end].to_lowercase(), s.label.map_or(0, Label::id))).collect())
}

/// Labels of the two sides of the translation pairs. Many pairs are no translations word by word, so all pairs are only
/// reported; in those that are (nine tokens in ten have a twin), the tokens that are twins must have one label.
fn a_c_sharp_method_is_labelled_like_its_java_twin(dir: &Path) -> Check {
    let mut all = [[0usize; 2]; 21];
    let mut close = [[0usize; 2]; 21];
    // by the Java label: twins, twins with one label
    let mut same = [[0usize; 2]; 21];
    let mut unlike = std::collections::BTreeMap::<(u8, u8), (usize, String)>::new();
    let (mut n, mut n_close) = (0, 0);
    for part in ["train", "valid"] {
        let side = |end: &str| read(&dir.join(format!("data/codexglue/{part}.java-cs.txt.{end}")));
        for (java, cs) in side("java")?.lines().zip(side("cs")?.lines()) {
            let sides = [words(java, Language::Java)?, words(cs, Language::CSharp)?];
            let pairs = in_order(&sides[0], &sides[1]);
            let literal = pairs.len() * 20 >= (sides[0].len() + sides[1].len()) * 9;
            n += 1;
            n_close += usize::from(literal);
            for (k, side) in sides.iter().enumerate() {
                for token in side {
                    all[usize::from(token.1)][k] += 1;
                    close[usize::from(token.1)][k] += usize::from(literal);
                }
            }
            for (i, j) in pairs.into_iter().filter(|_| literal) {
                let (a, b) = (&sides[0][i], &sides[1][j]);
                same[usize::from(a.1)][0] += 1;
                same[usize::from(a.1)][1] += usize::from(a.1 == b.1);
                if a.1 != b.1 {
                    let entry = unlike.entry((a.1, b.1)).or_insert((0, format!("{} in {cs}", a.0)));
                    entry.0 += 1;
                }
            }
        }
    }
    let sums = |counts: &[[usize; 2]; 21]| [0, 1].map(|k| counts.iter().map(|c| c[k]).sum::<usize>().max(1) as f64);
    let (of_all, of_close, of_same) = (sums(&all), sums(&close), sums(&same));
    println!("{n} pairs, {n_close} of them word by word; shares in percent, Java and C#; twins with one label:");
    let mut wrong = Vec::new();
    for id in 0..=20u8 {
        let at = usize::from(id);
        let share = |counts: &[[usize; 2]; 21], of: [f64; 2]| [0, 1].map(|k| 100.0 * counts[at][k] as f64 / of[k]);
        let ([a, b], [c, d]) = (share(&all, of_all), share(&close, of_close));
        let agree = same[at][1] as f64 / same[at][0].max(1) as f64;
        let name = Label::from_id(id).map_or("none", Label::name);
        println!(
            "{name:40} all {a:5.2} {b:5.2}  close {c:5.2} {d:5.2} ({:+.2})  twins {agree:.4} of {}",
            d - c,
            same[at][0]
        );
        // C# has `virtual` and `override` where Java has nothing or an annotation
        let far = if id == Label::FunctionDeclaration.id() { 1.5 } else { 0.5 };
        if (c - d).abs() > far || same[at][0] >= 1000 && agree < 0.93 {
            wrong.push(name);
        }
    }
    let agree = of_same[1] / of_same[0];
    println!("twins with one label: {agree:.4} of {}", of_same[0]);
    if std::env::var_os("EYEKERN_VERBOSE").is_some() {
        let mut list: Vec<_> = unlike.into_iter().collect();
        list.sort_by_key(|e| std::cmp::Reverse(e.1.0));
        list.iter().take(25).for_each(|e| println!("{:?} {} {}", e.0, e.1.0, e.1.1));
    }
    if !wrong.is_empty() {
        return Err(format!("the two sides differ too much: {wrong:?}").into());
    }
    if agree < 0.985 { Err("too few twins have one label".into()) } else { Ok(()) }
}
