//! The summary: the same lines for the terminal and the page, the same counts as JSON.

use serde_json::{Value, json};

use super::Inspected;
use crate::cli::terminal::{Terminal, counted};
use crate::data::corpus::DataSource;
use crate::data::survey::{Finding, Spread};
use crate::render::html::{Bars, Fact};
use crate::train::salience;

/// Parts of the histogram.
const BINS: usize = 24;

/// `7 of 40 (17.5 %)`.
fn of(n: usize, all: usize) -> String {
    format!("{n} of {all} ({})", percent(n as f64 / all.max(1) as f64))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// The first rows of a finding: `rows 3, 17 (= 4), ...`.
fn rows(finding: &Finding) -> String {
    let one = |&(line, like): &(usize, Option<usize>)| match like {
        Some(like) => format!("{line} (= {like})"),
        None => line.to_string(),
    };
    let list: Vec<String> = finding.first.iter().map(one).collect();
    let more = if finding.count > finding.first.len() { ", ..." } else { "" };
    format!("{} {}{more}", if finding.count == 1 { "row" } else { "rows" }, list.join(", "))
}

/// The name of a data source.
pub fn name(source: &DataSource) -> String {
    match source {
        DataSource::Jsonl(file) => file.display().to_string(),
        DataSource::Parallel(source, target) => format!("{} + {}", source.display(), target.display()),
    }
}

/// How the data were read.
pub fn about(it: &Inspected) -> Vec<String> {
    let r = it.recipe;
    let weights = match it.drawing {
        Some(drawing) => format!("weights drawn from {}", salience::describe(drawing)),
        None => "weights given by the data".into(),
    };
    vec![format!(
        "{weights}; arm {}, seed {}; task {}, at most {} tokens per row",
        r.objective.arm, r.train.seed, r.data.task, r.data.max_length
    )]
}

/// The lines of the summary.
pub fn facts(it: &Inspected) -> Vec<Fact> {
    let (s, c) = (&it.survey, &it.survey.counts);
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String, meaning: String, alert: bool| {
        facts.push(Fact { name: name.into(), value, meaning, alert });
    };
    // a count that should be 0, with its meaning and the first rows otherwise
    let finding = |name: &str, finding: &Finding, all: usize, meaning: &str| {
        let (alert, rows) = (finding.count > 0, rows(finding));
        let meaning = if alert { format!("{rows}: {meaning}") } else { String::new() };
        (name.to_string(), of(finding.count, all), meaning, alert)
    };
    fact("rows", format!("{} read, {} kept", c.rows, c.kept), String::new(), false);
    let share = percent(c.share_supervised());
    fact("tokens", format!("{}, {share} supervised", c.tokens), "of the kept rows".into(), false);
    let mut findings = Vec::new();
    match &s.endless {
        Some(endless) => findings.push(finding(
            "without EOS",
            endless,
            c.kept,
            "EOS is not supervised, so the model does not learn when to stop",
        )),
        None => fact("without EOS", "unknown".into(), "the id of EOS is unknown without a tokenizer".into(), false),
    }
    if let Some([twice, inside]) = &s.misplaced {
        let again = "EOS is learned twice in a row: the text of the completion ends with it already; remove it there";
        findings.push(finding("EOS twice", twice, c.kept, again));
        let within = "the text holds EOS before its end, where the model learns or is shown an end";
        findings.push(finding("EOS inside", inside, c.kept, within));
    }
    let cut =
        format!("longer than data.max_length = {}; the end of the target and EOS are lost", it.recipe.data.max_length);
    findings.push(finding("truncated", &s.truncated, c.rows, &cut));
    findings.push(finding(
        "unsupervised",
        &s.unsupervised,
        c.rows,
        "no token is supervised (often because the prompt fills data.max_length); training skips these rows",
    ));
    findings.push(finding(
        "duplicates",
        &s.duplicates,
        c.rows,
        &format!(
            "same tokens and labels as the row in brackets, so they are trained on twice ({} repeated)",
            counted(s.repeated, "different row")
        ),
    ));
    if s.texts > 0 {
        findings.push(finding(
            "copies",
            &s.copies,
            s.texts,
            "the target equals the code of the prompt: the model learns to repeat it",
        ));
        findings.push(finding(
            "target in prompt",
            &s.contained,
            s.texts,
            "the target occurs verbatim in the prompt, so the model can copy it",
        ));
    }
    if let (Some([sources, pairs]), Some(others)) = (&s.shared, it.others) {
        let there = format!("also in {} (its row in brackets)", name(others));
        let meaning = format!("the same input is {there}: scores on those data are too good");
        findings.push(finding("shared inputs", sources, c.rows, &meaning));
        findings.push(finding("shared pairs", pairs, c.rows, &format!("input and target are {there}")));
    }
    let code = &c.code;
    if code.rows > 0 {
        let share = percent(code.error_share);
        findings.push(finding(
            "unparsed code",
            &s.unparsed,
            code.rows,
            &format!(
                "the code has syntax errors ({share} of all syntax nodes), so its labels and weights are unreliable; \
                 check the code and its language"
            ),
        ));
    }
    // without a path on any row there are no paths
    if it.drawing.is_some() || c.on_path > 0 {
        findings.push(finding(
            "off the path",
            &s.off_path,
            c.kept,
            "no supervised token is on the scan path; these rows do not contribute to a DPO term",
        ));
    }
    findings.into_iter().for_each(|(name, value, meaning, alert)| fact(&name, value, meaning, alert));
    if code.rows > 0 {
        let assumed = match code.assumed {
            0 => String::new(),
            n => format!("{n} of them name no language (`lang`, salience.source_lang), so the default java was taken"),
        };
        fact("language", code.by_language(), assumed, code.assumed > 0);
    }
    if c.split_copies > 0 {
        let meaning =
            "completion rows whose target is missing or repeats the code: the target is cut from the code (data.cut)";
        fact("cut from code", of(c.split_copies, c.rows), meaning.into(), false);
    }
    let (line, tokens) = s.longest;
    fact("longest row", format!("row {line}, {tokens} tokens"), "before truncation".into(), false);
    let range = format!("{:.3} to {:.3}, mean {:.3}", c.weight_min, c.weight_max, c.weight_mean);
    let equal = if c.weight_min == c.weight_max { "all weights are equal: training is not weighted" } else { "" };
    fact("weights", range, equal.into(), false);
    fact("on the path", percent(c.share_on_path()), "of the supervised tokens".into(), false);
    if let Some(paths) = &s.paths {
        let all: u64 = paths.segments.iter().sum();
        let share = |n: u64| percent(n as f64 / all.max(1) as f64);
        let [mono, bi, tri] = paths.segments.map(share);
        let density = percent(paths.on_path() as f64 / paths.tokens.max(1) as f64);
        let meaning = format!(
            "of {all} segments; {} have no count in the priors; {density} of the {} code tokens are on a path",
            share(paths.uncounted),
            paths.tokens
        );
        fact("n-grams", format!("{mono} mono, {bi} bi, {tri} tri"), meaning, false);
    }
    facts
}

/// The histogram of weights by their origin.
pub fn bars(it: &Inspected) -> Vec<Bars> {
    let [low, high] = scale(it);
    let bar = |name: &str, spread: &Spread| Bars {
        name: name.into(),
        count: spread.count(),
        range: spread.range(),
        bins: spread.histogram(low, high, BINS),
    };
    it.survey.weights.iter().map(|(kind, spread)| bar(kind.name(), spread)).collect()
}

/// Least and greatest weight.
pub fn scale(it: &Inspected) -> [f64; 2] {
    [it.survey.counts.weight_min, it.survey.counts.weight_max]
}

/// Lines and histogram on the terminal.
pub fn print(it: &Inspected, out: &mut Terminal) {
    let title = out.bold(&name(it.source));
    out.line(&title);
    about(it).iter().for_each(|line| out.line(line));
    out.line("");
    for fact in facts(it) {
        let (mark, name) = (if fact.alert { '!' } else { ' ' }, out.bold(&format!("{:18}", fact.name)));
        let meaning = if fact.meaning.is_empty() { String::new() } else { out.dim(&format!("  {}", fact.meaning)) };
        out.line(&format!("{mark} {name}{}{meaning}", fact.value));
    }
    let (bars, [low, high]) = (bars(it), scale(it));
    if bars.is_empty() {
        return;
    }
    let title = out.bold("weights by label");
    out.line(&format!("\n{title}{:>34}  {low:<12.3}{high:>12.3}", "tokens"));
    for bar in bars {
        let [least, mean, greatest] = bar.range;
        let columns = columns(&bar.bins);
        out.line(&format!("  {:39}{:>9}  {columns}  {least:.3} to {greatest:.3}, mean {mean:.3}", bar.name, bar.count));
    }
}

/// Counts as columns of eight heights; only 0 is blank.
fn columns(bins: &[u64]) -> String {
    let most = bins.iter().copied().max().unwrap_or(0).max(1);
    let height = |n: u64| ((n as f64 / most as f64 * 8.0).ceil() as usize).min(8);
    bins.iter().map(|&n| [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][height(n)]).collect()
}

/// The counts as one object.
pub fn json(it: &Inspected) -> Value {
    let (s, c) = (&it.survey, &it.survey.counts);
    let first = |&(line, like): &(usize, Option<usize>)| match like {
        Some(like) => json!({"row": line, "like": like}),
        None => json!({ "row": line }),
    };
    let finding = |f: &Finding| json!({"count": f.count, "first": f.first.iter().map(first).collect::<Vec<_>>()});
    let [low, high] = scale(it);
    let bar = |bar: Bars| {
        let [least, mean, greatest] = bar.range;
        json!({"label": bar.name, "tokens": bar.count, "min": least, "mean": mean, "max": greatest, "bins": bar.bins})
    };
    let n_grams = s.paths.map(|paths| {
        let [mono, bi, tri] = paths.segments;
        json!({"tokens": paths.tokens, "on_path": paths.on_path(), "mono": mono, "bi": bi, "tri": tri,
               "uncounted": paths.uncounted})
    });
    let shared = s.shared.as_ref().map(
        |[inputs, pairs]| json!({"with": it.others.map(name), "inputs": finding(inputs), "pairs": finding(pairs)}),
    );
    let mut duplicates = finding(&s.duplicates);
    duplicates["repeated"] = s.repeated.into();
    json!({
        "data": name(it.source),
        "rows": c.rows,
        "kept": c.kept,
        "tokens": c.tokens,
        "supervised": c.supervised,
        "supervised_share": c.share_supervised(),
        "eos_rows": c.eos_rows,
        "eos_share": c.share_eos(),
        "without_eos": s.endless.as_ref().map(finding),
        "eos_twice": s.misplaced.as_ref().map(|[twice, _]| finding(twice)),
        "eos_inside": s.misplaced.as_ref().map(|[_, inside]| finding(inside)),
        "truncated": finding(&s.truncated),
        "unsupervised": finding(&s.unsupervised),
        "duplicates": duplicates,
        "text_rows": s.texts,
        "copies": finding(&s.copies),
        "target_in_prompt": finding(&s.contained),
        "shared": shared,
        "off_path": finding(&s.off_path),
        "unparsed": (c.code.rows > 0).then(|| finding(&s.unparsed)),
        "code": (c.code.rows > 0).then_some(&c.code),
        "split": c.split_copies,
        "longest": {"row": s.longest.0, "tokens": s.longest.1},
        "on_path": c.on_path,
        "on_path_share": c.share_on_path(),
        "weights": {
            "min": c.weight_min, "mean": c.weight_mean, "max": c.weight_max, "bins_from": low, "bins_to": high,
            "by_label": bars(it).into_iter().map(bar).collect::<Vec<_>>(),
        },
        "n_grams": n_grams,
    })
}
