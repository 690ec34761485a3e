//! HTML pages, each a single file that works offline and makes no network requests; the page of `eyekern inspect` is
//! here, the page of `eyekern report` in [`run`], the page of `eyekern score` in [`score`], the page of `eyekern
//! attention` in [`attention`].
//!
//! All text from data goes through [`escape`]. In case something gets past it, a policy in the page's head allows no
//! requests, and no script but the page's own.

pub mod attention;
pub mod run;
pub mod score;
pub mod study;

use std::fmt::Write;

/// The style sheet of every page.
const BASE: &str = include_str!("../../assets/page.css");
const STYLE: &str = include_str!("../../assets/inspect/page.css");
const SCRIPT: &str = include_str!("../../assets/inspect/page.js");

/// Number of steps of the colour scale: the classes `h0` to `h8` of the style sheet.
pub const LEVELS: usize = 9;

/// A page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The inspected file.
    pub title: String,
    /// How it was read.
    pub about: Vec<String>,
    /// The summary.
    pub facts: Vec<Fact>,
    /// Smallest and largest weight: the ends of the colour scale.
    pub scale: [f64; 2],
    /// Histograms of weights by origin.
    pub bars: Vec<Bars>,
    /// Rows in full.
    pub rows: Vec<Row>,
}

/// A line of the summary.
#[derive(Clone, Debug, Default)]
pub struct Fact {
    /// Name of the count.
    pub name: String,
    /// The count.
    pub value: String,
    /// Its meaning, and the rows that it concerns.
    pub meaning: String,
    /// Whether it deserves the reader's attention.
    pub alert: bool,
}

/// A histogram.
#[derive(Clone, Debug, Default)]
pub struct Bars {
    /// Name of the counted kind.
    pub name: String,
    /// The total.
    pub count: u64,
    /// Minimum, mean and maximum.
    pub range: [f64; 3],
    /// Counts in equal intervals of the page's scale.
    pub bins: Vec<u64>,
}

/// Details of a subword or token, shown on hover: names and values.
pub type Card = Vec<(&'static str, String)>;

/// A subword.
#[derive(Clone, Debug, Default)]
pub struct Subword {
    /// Its text; if that is empty (for a later part of a character), its bytes are shown.
    pub text: String,
    /// Its bytes in hexadecimal.
    pub bytes: String,
    /// Its weight; `None` if it is not supervised.
    pub weight: Option<f64>,
    /// Whether it lies on the scan path.
    pub on_path: bool,
    /// Whether it ends the text, which is shown as a mark.
    pub end: bool,
    /// The token of [`Code::tokens`] that it takes its weight from.
    pub token: Option<usize>,
    /// Its details.
    pub card: Card,
}

/// A token of the code that the scan path covers.
#[derive(Clone, Debug, Default)]
pub struct Token {
    /// The text between the previous token and this one.
    pub gap: String,
    /// Its text.
    pub text: String,
    /// Its weight.
    pub weight: f64,
    /// If it is on the scan path, the number of its segment, from 1.
    pub segment: Option<usize>,
    /// Its details.
    pub card: Card,
}

/// The code that the scan path covers.
#[derive(Clone, Debug, Default)]
pub struct Code {
    /// Its heading.
    pub title: String,
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// The text after the last token.
    pub rest: String,
    /// The segments of the path: number, tokens, n-gram, count, rarity.
    pub segments: Vec<[String; 5]>,
}

/// A row in full.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Its line, from 1.
    pub line: usize,
    /// Its figures.
    pub about: String,
    /// Remarks on anomalies.
    pub notes: Vec<String>,
    /// The model's input.
    pub prompt: Vec<Subword>,
    /// The text after the prompt, trained or not.
    pub learned: Vec<Subword>,
    /// The truncated part: a mark and the text that is lost.
    pub cut: Option<(String, String)>,
    /// The code with its scan path.
    pub code: Option<Code>,
}

/// Escapes text for HTML content and for attributes in double quotes. Invisible characters are made visible: control
/// characters, and those that change the direction of writing.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\n' | '\t' => out.push(c),
            '\0'..='\x1f' => out.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}')),
            '\u{7f}' => out.push('\u{2421}'),
            '\u{80}'..='\u{9f}' => out.push('\u{fffd}'),
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(out, "⟨U+{:04X}⟩", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out
}

/// The position of a weight on the scale, as a step of the colours; a weight that has no position is at 0.
pub fn level(weight: f64, [low, high]: [f64; 2]) -> usize {
    let heat = ((weight - low) / (high - low)).clamp(0.0, 1.0);
    if heat.is_nan() { 0 } else { (heat * (LEVELS - 1) as f64).round() as usize }
}

/// The content of the page's file.
pub fn render(page: &Page) -> String {
    let mut body = String::new();
    body += &format!("<header><h1>{}</h1>\n", escape(&page.title));
    page.about.iter().for_each(|line| body += &format!("<p class=\"about\">{}</p>\n", escape(line)));
    body += "</header>\n<main>\n";
    body += "<section id=\"summary\"><h2>Summary</h2>\n";
    body += &facts(&page.facts);
    body += "</section>\n";
    body += &histogram(&page.bars, page.scale);
    if !page.rows.is_empty() {
        body += &legend(page);
        page.rows.iter().for_each(|row| body += &row_html(row, page.scale));
    }
    body += "</main>\n<div id=\"card\" role=\"tooltip\" hidden></div>\n";
    document(&page.title, STYLE, &body, Some(SCRIPT))
}

/// A page with this body, the common style sheet followed by its own, and optionally a script.
fn document(title: &str, style: &str, body: &str, script: Option<&str>) -> String {
    // a script injected through data cannot know the nonce, which depends on the whole page
    let nonce = blake3::hash(body.as_bytes()).to_hex();
    let nonce = &nonce[..24];
    let script = script.map(|text| format!("<script nonce=\"{nonce}\">\n{text}</script>\n")).unwrap_or_default();
    let allowed = if script.is_empty() { String::new() } else { format!(" script-src 'nonce-{nonce}';") };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'nonce-{nonce}';{allowed} \
         base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n\
         <style nonce=\"{nonce}\">\n{BASE}{style}</style>\n</head>\n<body>\n{body}{script}</body>\n</html>\n",
        escape(title)
    )
}

fn facts(list: &[Fact]) -> String {
    let mut out = String::from("<table class=\"facts\">\n");
    for fact in list {
        let (class, mark) =
            if fact.alert { (" class=\"alert\"", "<b title=\"worth a look\">!</b> ") } else { ("", "") };
        let [name, value, meaning] = [&fact.name, &fact.value, &fact.meaning].map(|text| escape(text));
        out += &format!("<tr{class}><th scope=\"row\">{mark}{name}</th><td>{value}</td><td>{meaning}</td></tr>\n");
    }
    out + "</table>\n"
}

/// A small chart for each kind; the columns are intervals of a common scale, in its colours.
fn histogram(bars: &[Bars], [low, high]: [f64; 2]) -> String {
    const HEIGHT: f64 = 26.0;
    const STEP: f64 = 11.0;
    if bars.is_empty() {
        return String::new();
    }
    let mut out = String::from(
        "<section id=\"histogram\"><h2>Weights by label</h2>\n<p class=\"about\">Supervised tokens by weight; each \
         chart has its own height, all have the same scale from left to right.</p>\n<div class=\"scroll\"><table \
         class=\"bars\">\n\
         <tr><th scope=\"col\">label</th><th scope=\"col\">tokens</th>",
    );
    let _ = write!(out, "<th scope=\"col\" class=\"ends\"><span>{low:.2}</span><span>{high:.2}</span></th>");
    out += "<th scope=\"col\">least</th><th scope=\"col\">mean</th><th scope=\"col\">greatest</th></tr>\n";
    for row in bars {
        let (n, most) = (row.bins.len(), row.bins.iter().copied().max().unwrap_or(0).max(1));
        let [least, mean, greatest] = row.range;
        let name = escape(&row.name);
        let _ = write!(out, "<tr><th scope=\"row\">{name}</th><td>{}</td><td><svg ", row.count);
        let width = STEP * n as f64;
        let _ = write!(out, "viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" height=\"{HEIGHT}\" role=\"img\">");
        let _ = write!(out, "<title>{name}: {least:.3} to {greatest:.3}, mean {mean:.3}</title>");
        let _ = write!(out, "<path class=\"axis\" d=\"M0 {0}H{width}\"/>", HEIGHT - 0.5);
        for (i, &count) in row.bins.iter().enumerate().filter(|(_, count)| **count > 0) {
            let middle = low + (high - low) * (i as f64 + 0.5) / n as f64;
            // no column is so low that a reader could miss it
            let height = (count as f64 / most as f64 * (HEIGHT - 2.0)).max(1.5);
            let _ = write!(
                out,
                "<rect class=\"f{}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
                level(middle, [low, high]),
                i as f64 * STEP + 0.5,
                HEIGHT - 0.5 - height,
                STEP - 1.0,
            );
        }
        let _ = writeln!(out, "</svg></td><td>{least:.3}</td><td>{mean:.3}</td><td>{greatest:.3}</td></tr>");
    }
    out + "</table></div></section>\n"
}

fn legend(page: &Page) -> String {
    let [low, high] = page.scale;
    let mut out = String::from("<nav id=\"legend\" aria-label=\"Legend and rows\"><span class=\"scale\">weight ");
    for step in 0..LEVELS {
        let weight = low + (high - low) * step as f64 / (LEVELS - 1) as f64;
        let _ = write!(out, "<i class=\"h{step}\">{weight:.2}</i>");
    }
    out += "</span> <span><i class=\"t p h0\">abc</i> on the scan path</span> <span><i class=\"m\">abc</i> not \
            supervised</span> <span><i class=\"end h0\">EOS</i> end</span> \
            <label><input type=\"checkbox\" id=\"arrows\" checked> arrows</label><span class=\"rows\">rows";
    page.rows.iter().for_each(|row| out += &format!(" <a href=\"#row-{0}\">{0}</a>", row.line));
    out + "</span></nav>\n"
}

fn row_html(row: &Row, scale: [f64; 2]) -> String {
    let line = row.line;
    let mut out = format!("<section class=\"row\" id=\"row-{line}\"><h2>Row {line}</h2>\n<p class=\"about\">");
    out += &format!("{}</p>\n", escape(&row.about));
    row.notes.iter().for_each(|note| out += &format!("<p class=\"note\">{}</p>\n", escape(note)));
    if !row.prompt.is_empty() {
        out += &format!("<details><summary>Prompt, {} subwords</summary>\n", row.prompt.len());
        out += &subwords(&row.prompt, line, scale, "");
        out += "</details>\n";
    }
    let mut cut = String::new();
    if let Some((mark, lost)) = &row.cut {
        cut = format!("<b class=\"cut\">{}</b><s>{}</s>", escape(mark), escape(lost));
    }
    out += "<h3>Subwords after the prompt, by weight</h3>\n";
    out += &subwords(&row.learned, line, scale, &cut);
    if let Some(code) = &row.code {
        out += &code_html(code, line, scale);
    }
    out + "</section>\n"
}

/// Names and values in a title attribute: any browser shows it, and the page's script turns it into a card.
fn title(card: &Card) -> String {
    let lines: Vec<String> = card.iter().map(|(name, value)| format!("{name}\t{value}")).collect();
    escape(&lines.join("\n"))
}

/// Only the first element of a list is reachable by the tab key; arrow keys move on from there.
fn stop(index: usize) -> &'static str {
    if index == 0 { "0" } else { "-1" }
}

fn subwords(list: &[Subword], line: usize, scale: [f64; 2], behind: &str) -> String {
    let mut out = String::from("<pre class=\"tokens\">");
    for (i, subword) in list.iter().enumerate() {
        let mut class = match subword.weight {
            Some(weight) => format!("t h{}", level(weight, scale)),
            None => "t m".to_string(),
        };
        class += if subword.on_path { " p" } else { "" };
        class += if subword.end { " end" } else { "" };
        let like = subword.token.map(|token| format!(" data-like=\"r{line}k{token}\"")).unwrap_or_default();
        let text = match subword.text.as_str() {
            "" => format!("<i class=\"hex\">{}</i>", escape(&subword.bytes)),
            // line ends would be invisible
            text => escape(text).replace('\n', "<i>↵</i>\n"),
        };
        let _ = write!(
            out,
            "<span class=\"{class}\" tabindex=\"{}\" title=\"{}\"{like}>{text}</span>",
            stop(i),
            title(&subword.card)
        );
    }
    out + behind + "</pre>\n"
}

fn code_html(code: &Code, line: usize, scale: [f64; 2]) -> String {
    let mut out = format!("<h3>{}</h3>\n<div class=\"code\"><pre class=\"tokens\">", escape(&code.title));
    let mut last = None;
    for (i, token) in code.tokens.iter().enumerate() {
        // the number is shown at the first token of its segment
        let number = token.segment.filter(|_| last != token.segment).map(|n| format!("<b data-n=\"{n}\"></b>"));
        let (class, attribute) = match token.segment {
            Some(segment) => (" p", format!(" data-s=\"{segment}\"")),
            None => ("", String::new()),
        };
        last = token.segment.or(last);
        let _ = write!(
            out,
            "{}<span id=\"r{line}k{i}\" tabindex=\"{}\" title=\"{}\" class=\"t h{}{}\"{}>{}{}</span>",
            escape(&token.gap),
            stop(i),
            title(&token.card),
            level(token.weight, scale),
            class,
            attribute,
            number.unwrap_or_default(),
            escape(&token.text)
        );
    }
    let _ = writeln!(out, "{}</pre><svg aria-hidden=\"true\"></svg></div>", escape(&code.rest));
    if code.segments.is_empty() {
        return out;
    }
    out += "<details><summary>The path, segment by segment</summary>\n<div class=\"scroll\"><table class=\"path\"><tr>";
    ["", "tokens", "n-gram", "count", "rarity"]
        .iter()
        .for_each(|name| out += &format!("<th scope=\"col\">{name}</th>"));
    out += "</tr>\n";
    for cells in &code.segments {
        out += "<tr>";
        cells.iter().for_each(|cell| out += &format!("<td>{}</td>", escape(cell)));
        out += "</tr>\n";
    }
    out + "</table></div></details>\n"
}

#[cfg(test)]
mod tests;
