//! The page, as the plain strings of [`crate::render::html::attention`].

use super::AttentionArgs;
use super::output::{Found, Shown, cell};
use crate::cli::terminal::counted;
use crate::data::contexts::Context;
use crate::data::tokenizer::Tokenizer;
use crate::eval::attention::summary::Figure;
use crate::eval::mean::Interval;
use crate::render::heatmap::{Colours, Heatmap, draw};
use crate::render::html::attention::{Example, Page, Panel, render};
use std::path::PathBuf;

/// Tokens of an answer and of a prompt that a map shows, at most.
const ROWS: usize = 48;
const COLUMNS: usize = 256;

/// Figures whose layers and heads are shown.
const GRIDS: [&str; 5] = ["sink_mass", "recency_focus", "avg_focus", "attn_entropy_normalised", "gaze_mass"];

/// Probabilities at and below the first have the darkest colour.
const SCALE: Colours = Colours::Log(1e-4, 1.0);

/// The content of the page's file.
pub fn page(found: &Found, args: &AttentionArgs, contexts: &[Context], tokenizer: Option<&Tokenizer>) -> String {
    let paired = found.figures.iter().any(|figure| figure.paired.is_some());
    let name = |model: &str, adapter: &Option<PathBuf>| match adapter {
        Some(adapter) => format!("{model} with {}", adapter.display()),
        None => model.to_string(),
    };
    let mut about = vec![format!("model: {}", name(&args.model, &args.adapter))];
    if paired {
        let baseline = args.baseline_model.as_ref().unwrap_or(&args.model);
        about.push(format!("baseline: {}", name(baseline, &args.baseline_adapter)));
    }
    about.push(format!(
        "{}, {} of {}; means over examples with 95 % intervals; without the sink, the first token of the context, \
         unless the name says otherwise",
        counted(found.examples, "example"),
        counted(found.layers, "layer"),
        counted(found.heads, "head")
    ));
    let columns = ["figure", "n", "model"]
        .into_iter()
        .chain(if paired { &["baseline", "difference"][..] } else { &[] }.iter().copied());
    let example = |(shown, context): (&Shown, &Context)| example(shown, context, tokenizer);
    render(&Page {
        title: format!("eyekern attention: {}", args.model),
        about,
        columns: columns.map(String::from).collect(),
        figures: found.figures.iter().filter(|figure| figure.place.is_none()).map(cells).collect(),
        grids: GRIDS.iter().flat_map(|name| grids(found, name)).collect(),
        examples: found.shown.iter().zip(contexts).map(example).collect(),
    })
}

fn cells(figure: &Figure) -> Vec<String> {
    let paired = figure.paired.iter().flatten().map(cell);
    [figure.name.to_string(), figure.model.n.to_string(), cell(&figure.model)].into_iter().chain(paired).collect()
}

/// A figure of every layer and head: of the model, and with a baseline their difference.
fn grids(found: &Found, name: &str) -> Vec<Panel> {
    let of = |figure: &&Figure| figure.name == name && figure.place.is_some();
    let table = |value: &dyn Fn(&Figure) -> Option<Interval>| {
        let mut values = vec![vec![None; found.heads]; found.layers];
        for figure in found.figures.iter().filter(of) {
            if let (Some((layer, head)), Some(interval)) = (figure.place, value(figure)) {
                values[layer][head] = Some(interval.mean).filter(|mean| mean.is_finite());
            }
        }
        values
    };
    let rows: Vec<String> = (0..found.layers).map(|layer| format!("layer {layer}")).collect();
    let columns: Vec<(String, bool)> = (0..found.heads).map(|head| (format!("head {head}"), false)).collect();
    let panel = |caption: String, values: Vec<Vec<Option<f64>>>, colours: &dyn Fn(f64, f64) -> Colours| {
        let all = || values.iter().flatten().flatten().copied();
        all().next()?;
        let ends = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
        let map = Heatmap {
            title: &caption,
            rows: &rows,
            columns: &columns,
            values: &values,
            colours: colours(ends.0, ends.1),
        };
        Some(Panel { svg: draw(&map), caption })
    };
    let own = table(&|figure| Some(figure.model));
    let difference = table(&|figure| figure.paired.map(|[_, difference]| difference));
    let own = panel(format!("{name} of the model"), own, &Colours::Linear);
    let sides = |low: f64, high: f64| Colours::Difference(low.abs().max(high.abs()).max(1e-12));
    let difference = panel(format!("{name}, model minus baseline"), difference, &sides);
    own.into_iter().chain(difference).collect()
}

/// The text of a token, or its id.
fn text(id: u32, tokenizer: Option<&Tokenizer>) -> String {
    tokenizer.map_or_else(|| id.to_string(), |tokenizer| tokenizer.token_text(id))
}

fn example(shown: &Shown, context: &Context, tokenizer: Option<&Tokenizer>) -> Example {
    let title = format!("Row {}", shown.row);
    let answers = vec![("answer of the model".to_string(), shown.text.clone())];
    let Some(map) = shown.model.map.as_ref().filter(|map| !map.rows.is_empty()) else {
        let about = vec!["The answer is empty, so there is no map.".to_string()];
        return Example { title, about, answers, panels: Vec::new() };
    };
    let (prompt, rows) = (&context.prompt.ids, map.rows.len().min(ROWS));
    // the sink, and the tokens next to the answer
    let kept: Vec<usize> = match prompt.len() {
        n if n > COLUMNS => std::iter::once(0).chain(n - COLUMNS + 1..n).collect(),
        n => (0..n).collect(),
    };
    let columns: Vec<(String, bool)> =
        kept.iter().map(|&at| (text(prompt[at], tokenizer), context.prompt.path.get(at) == Some(&true))).collect();
    let names: Vec<String> = map.answer.iter().take(rows).map(|id| text(*id, tokenizer)).collect();
    let mut about = vec![
        "Rows are tokens of the model's answer, columns tokens of the prompt. A cell is the attention with which the \
         row was predicted, the mean over all layers and heads; the colours are logarithmic. The first column is the \
         sink."
            .to_string(),
    ];
    if columns.iter().any(|(_, marked)| *marked) {
        about.push("Bold columns with a bar are on the scan path.".into());
    }
    if rows < map.rows.len() || kept.len() < prompt.len() {
        about.push(format!(
            "Shown: the first {rows} of {} of the answer; the first and the last {} of {} of the prompt.",
            counted(map.rows.len(), "token"),
            kept.len() - 1,
            counted(prompt.len(), "token")
        ));
    }
    let values = |map: &[Vec<f32>]| -> Vec<Vec<Option<f64>>> {
        let row = |row: &Vec<f32>| kept.iter().map(|&at| row.get(at).map(|p| f64::from(*p))).collect();
        map.iter().take(rows).map(row).collect()
    };
    let panel = |caption: &str, values: &[Vec<Option<f64>>], colours: Colours| Panel {
        caption: caption.to_string(),
        svg: draw(&Heatmap { title: caption, rows: &names, columns: &columns, values, colours }),
    };
    let own = values(&map.rows);
    let mut panels = Vec::new();
    if let Some(other) = shown.baseline.as_ref().and_then(|baseline| baseline.map.as_ref()) {
        let other = values(&other.rows);
        let ratio = |(own, other): (&Vec<Option<f64>>, &Vec<Option<f64>>)| {
            let one = |(own, other): (&Option<f64>, &Option<f64>)| {
                own.zip(*other).map(|(own, other)| own.max(1e-9) / other.max(1e-9))
            };
            own.iter().zip(other).map(one).collect()
        };
        let ratios: Vec<Vec<Option<f64>>> = own.iter().zip(&other).map(ratio).collect();
        panels.push(panel("baseline, reading the answer of the model", &other, SCALE));
        panels.push(panel("model", &own, SCALE));
        panels.push(panel("difference: model divided by baseline", &ratios, Colours::Ratio(10.0)));
    } else {
        panels.push(panel("model", &own, SCALE));
    }
    Example { title, about, answers, panels }
}
