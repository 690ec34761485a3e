//! A row on the terminal: its subwords coloured by weight, and the scan path through its code.

use super::{Inspected, path, summary};
use crate::cli::terminal::{Colour, Role, Terminal, counted, printable};
use crate::data::shown::{Kind, Scan, Shown, Subword};

/// The row, a legend, and the path.
pub fn print(it: &Inspected, row: &Shown, out: &mut Terminal) {
    let [low, high] = summary::scale(it).map(|end| end as f32);
    let title = out.bold(&format!("Row {}", row.line));
    out.line(&format!("\n{title}  {}\n", about(row)));
    notes(row).iter().for_each(|note| out.line(&format!("! {note}")));
    let mut text: String = row.subwords.iter().map(|subword| paint(subword, low, high, out)).collect();
    let (cut, lost) = &row.cut;
    if *cut > 0 {
        text += &format!("{}{}", out.bold(&cut_mark(*cut, it)), out.dim(&printable(lost)));
    }
    out.line(text.trim_end_matches('\n'));
    out.line(&format!("\n{}", legend(low, high, out)));
    if let (Some(scan), Some(drawing)) = (&row.scan, it.drawing) {
        out.line(&format!("\n{}", out.bold(&path_title(scan))));
        out.line(&format!("{}\n", walk(scan, low, high, out)));
        for segment in path::segments(scan, drawing.salience.counted()) {
            let (number, tokens) = (segment.number, printable(&segment.tokens));
            out.line(&format!("{number:>4}  {tokens:24}  {}", segment.describe()));
        }
    }
}

/// Numbers of a row.
pub fn about(row: &Shown) -> String {
    let supervised = row.subwords.iter().filter(|subword| subword.label.is_some());
    let on_path = supervised.clone().filter(|subword| subword.on_path).count();
    format!("{} tokens, {} supervised, {on_path} of them on the scan path", row.subwords.len(), supervised.count())
}

/// Peculiarities of a row.
pub fn notes(row: &Shown) -> Vec<String> {
    let mut notes = Vec::new();
    if !row.kept {
        notes.push("no token is supervised: training skips the row".to_string());
    }
    if row.split {
        notes.push("the row has no target of its own: the target is cut from its code (data.cut)".to_string());
    }
    notes
}

/// The mark at the end of a truncated row.
pub fn cut_mark(tokens: usize, it: &Inspected) -> String {
    format!("✂ {} cut off (data.max_length = {})", counted(tokens, "token"), it.recipe.data.max_length)
}

/// The title of the picture of a path.
pub fn path_title(scan: &Scan) -> String {
    let on: usize = scan.path.segments.iter().map(|segment| segment.places().len()).sum();
    let (tokens, segments) = (scan.spans.len(), counted(scan.path.segments.len(), "segment"));
    format!("Looked at: {on} of {tokens} tokens, in {segments}")
}

fn role(subword: &Subword) -> Role {
    match (subword.label, subword.on_path) {
        (None, _) => Role::Masked,
        (Some(_), true) => Role::On,
        (Some(_), false) => Role::Off,
    }
}

fn paint(subword: &Subword, low: f32, high: f32, out: &Terminal) -> String {
    if subword.kind == Kind::End && subword.label.is_some() {
        let painted = out.paint_weight(&format!("[{}]", subword.text), subword.weight, low, high, role(subword));
        return format!(" {painted}");
    }
    out.paint_weight(&subword.text, subword.weight, low, high, role(subword))
}

fn legend(low: f32, high: f32, out: &Terminal) -> String {
    if out.colour() == Colour::None {
        return "‹w› is the weight of the text before it, ‹w*› on the scan path; text without is not supervised".into();
    }
    let on = out.paint_weight("underlined", low, low, high, Role::On);
    format!("{}  {on} on the scan path  {} not supervised", out.weight_scale(low, high), out.dim("dim"))
}

/// The code; each token on the path is followed by the number of its segment.
fn walk(scan: &Scan, low: f32, high: f32, out: &Terminal) -> String {
    let (of, mut text, mut at) = (scan.path.by_token(scan.spans.len()), String::new(), 0);
    for (place, span) in scan.spans.iter().enumerate() {
        text += &printable(scan.text.get(at..span.start).unwrap_or_default());
        at = span.end;
        let (token, weight) = (path::token(scan, place), scan.weights[place].value() as f32);
        text += &match of[place] {
            // without colours the numbers suffice
            Some(segment) if out.colour() == Colour::None => format!("{}{}", printable(token), raised(segment + 1)),
            Some(segment) => {
                let painted = out.paint_weight(token, weight, low, high, Role::On);
                format!("{painted}{}", out.bold(&raised(segment + 1)))
            }
            None => printable(token),
        };
    }
    text + &printable(scan.text.get(at..).unwrap_or_default())
}

/// A number in superscript digits.
fn raised(number: usize) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    number.to_string().bytes().map(|digit| DIGITS[usize::from(digit - b'0')]).collect()
}
