//! The page of `eyekern score`: the table of metrics, and predictions beside their references, without a script.

use super::{document, escape};
use crate::render::diff::{Piece, pieces};
use std::fmt::Write;

const STYLE: &str = include_str!("../../../assets/score/page.css");

/// Characters of a text that are shown.
const LONGEST: usize = 20_000;

/// A page about the scores of predictions.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The files.
    pub title: String,
    /// The first line of the report.
    pub headline: String,
    /// How the texts were scored, one line each.
    pub about: Vec<String>,
    /// Names of the table's columns: metric, value, scale, trivial predictors, remark.
    pub columns: Vec<String>,
    /// The metrics.
    pub metrics: Vec<Metric>,
    /// Which rows are shown.
    pub shown: String,
    /// Rows in full.
    pub rows: Vec<Row>,
}

/// A metric of the table.
#[derive(Clone, Debug, Default)]
pub struct Metric {
    /// One per column.
    pub cells: Vec<String>,
    /// Whether it is the headline.
    pub best: bool,
    /// Whether a constant wins it.
    pub alert: bool,
}

/// A prediction and its reference.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Its number.
    pub title: String,
    /// Its metrics: name and value.
    pub figures: Vec<(String, String)>,
    /// Remarks: the outcome of a check.
    pub notes: Vec<String>,
    /// The prediction.
    pub hyp: String,
    /// The reference.
    pub reference: String,
}

/// The content of the page's file.
pub fn render(page: &Page) -> String {
    let mut body =
        format!("<header><h1>{}</h1>\n<p class=\"headline\">{}</p>\n", escape(&page.title), escape(&page.headline));
    page.about.iter().for_each(|line| body += &format!("<p class=\"about\">{}</p>\n", escape(line)));
    body += "</header>\n<main>\n<section id=\"metrics\"><h2>Metrics</h2>\n<p class=\"about\">Beside each value of the \
             predictions are those of trivial predictors: constants, the source copied, the reference with a run-on, \
             and references of other rows.</p>\n<div class=\"scroll\"><table class=\"metrics\">\n<tr>";
    page.columns.iter().for_each(|name| body += &format!("<th scope=\"col\">{}</th>", escape(name)));
    for metric in &page.metrics {
        let class =
            [("best", metric.best), ("alert", metric.alert)].iter().filter(|c| c.1).map(|c| c.0).collect::<Vec<_>>();
        let _ = write!(body, "</tr>\n<tr class=\"{}\">", class.join(" "));
        metric.cells.iter().for_each(|cell| body += &format!("<td>{}</td>", escape(cell)));
    }
    body += "</tr>\n</table></div></section>\n";
    let _ = write!(body, "<section id=\"rows\"><h2>Predictions</h2>\n<p class=\"about\">{}", escape(&page.shown));
    body += " <ins>Marked</ins> in a prediction is what its reference lacks, and <del>marked</del> in a reference what \
             the prediction lacks.</p>\n";
    page.rows.iter().for_each(|row| body += &row_html(row));
    document(&page.title, STYLE, &(body + "</section>\n</main>\n"), None)
}

fn row_html(row: &Row) -> String {
    let mut out = format!("<section class=\"row\"><h3>{}</h3>\n<p class=\"about\">", escape(&row.title));
    for (name, value) in &row.figures {
        let _ = write!(out, "<span class=\"figure\">{} <b>{}</b></span> ", escape(name), escape(value));
    }
    out += "</p>\n";
    row.notes.iter().for_each(|note| out += &format!("<p class=\"note\">{}</p>\n", escape(note)));
    let [(hyp, hyp_rest), (reference, reference_rest)] = [&row.hyp, &row.reference].map(|text| cut(text));
    let [in_hyp, in_reference] = pieces(hyp, reference);
    out += "<div class=\"pair\">";
    out += &text_html("prediction", "ins", &in_hyp, hyp_rest);
    out += &text_html("reference", "del", &in_reference, reference_rest);
    out + "</div></section>\n"
}

/// The beginning of a text, and how many characters are left out.
fn cut(text: &str) -> (&str, usize) {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => (&text[..at], text[at..].chars().count()),
        None => (text, 0),
    }
}

fn text_html(name: &str, tag: &str, pieces: &[Piece], rest: usize) -> String {
    let mut out = format!("<figure><figcaption>{name}</figcaption><pre class=\"{name}\">");
    for (lacking, text) in pieces {
        match lacking {
            // a line's end alone would be invisible
            true => out += &format!("<{tag}>{}</{tag}>", escape(text).replace('\n', "↵\n")),
            false => out += &escape(text),
        }
    }
    match (pieces.is_empty(), rest) {
        (true, _) => out += "<i>empty</i>",
        (_, 0) => {}
        (_, rest) => out += &format!("<i>… {rest} characters more</i>"),
    }
    out + "</pre></figure>"
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</pre></td><script>alert(1)</script><img src=x onerror=\"alert(1)\">\u{202e}\0";

    #[test]
    fn hostile_text_stays_text() {
        let text = || HOSTILE.to_string();
        let row = |hyp: &str| Row {
            title: text(),
            figures: vec![(text(), text())],
            notes: vec![text()],
            hyp: hyp.into(),
            reference: text(),
        };
        let page = render(&Page {
            title: text(),
            headline: text(),
            about: vec![text()],
            columns: vec![text()],
            metrics: vec![Metric { cells: vec![text()], best: true, alert: true }],
            shown: text(),
            rows: vec![row(HOSTILE), row("")],
        });
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}'), "{page}");
        // the title twice, five beside it, four of each row, two predictions and references but for an empty one
        assert_eq!(page.matches("&lt;script&gt;").count(), 2 + 5 + 2 * 4 + 3);
        assert!(page.contains("default-src 'none'; style-src 'nonce-") && !page.contains("script-src"));
    }

    #[test]
    fn differences_and_cuts_are_shown() {
        let row = |hyp: &str, reference: &str| {
            row_html(&Row { hyp: hyp.into(), reference: reference.into(), ..Row::default() })
        };
        let shown = row("a b\nc", "a x c");
        assert!(shown.contains("<pre class=\"prediction\">a <ins>b↵\n</ins>c</pre>"), "{shown}");
        assert!(shown.contains("<pre class=\"reference\">a <del>x </del>c</pre>"), "{shown}");
        assert!(row("", "a").contains("<pre class=\"prediction\"><i>empty</i></pre>"));
        let long = "é".repeat(LONGEST + 3);
        assert!(row(&long, "a").contains("é</ins><i>… 3 characters more</i></pre>"));
    }
}
