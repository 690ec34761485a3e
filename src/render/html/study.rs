//! The page of `eyekern compare`: forest plots, tables, loss curves, and predictions that differ, without a script.

use super::{document, escape};
use crate::render::diff::{Piece, pieces};
use std::fmt::Write;

const STYLE: &str =
    concat!(include_str!("../../../assets/report/page.css"), include_str!("../../../assets/study/page.css"));

/// Characters of a text that are shown.
const LONGEST: usize = 5_000;

/// A page about a study.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Its title.
    pub title: String,
    /// How to read it, a sentence each.
    pub about: Vec<String>,
    /// Why a comparison may not be fair.
    pub marks: Vec<String>,
    /// Forest plots, as SVG of our own.
    pub forests: Vec<String>,
    /// The arms.
    pub arms: Table,
    /// The comparisons.
    pub comparisons: Table,
    /// Tests of two checkpoints, a line each.
    pub checkpoints: Vec<String>,
    /// Loss curves, as SVG of our own.
    pub charts: Vec<String>,
    /// Which predictions are shown.
    pub shown: String,
    /// Predictions that differ.
    pub rows: Vec<Row>,
}

/// A table of words and numbers.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Cells of the rows.
    pub rows: Vec<Vec<String>>,
}

/// Two predictions for a row.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Its number and what it gains.
    pub title: String,
    /// The prediction of the baseline.
    pub baseline: String,
    /// The prediction of the arm.
    pub arm: String,
    /// The reference.
    pub reference: String,
}

/// The content of the page's file.
pub fn render(page: &Page) -> String {
    let mut body = format!("<header><h1>{}</h1>\n", escape(&page.title));
    page.about.iter().for_each(|line| body += &format!("<p class=\"about\">{}</p>\n", escape(line)));
    page.marks.iter().for_each(|line| body += &format!("<p class=\"mark\">{}</p>\n", escape(line)));
    body += "</header>\n<main>\n<section id=\"forest\"><h2>Differences</h2>\n<div class=\"charts\">";
    page.forests.iter().for_each(|svg| body += svg);
    body += "</div></section>\n";
    body += &table("comparisons", "Comparisons", &page.comparisons);
    body += &table("arms", "Arms", &page.arms);
    if !page.checkpoints.is_empty() {
        body += "<section id=\"checkpoints\"><h2>Pairs of checkpoints</h2>\n<p class=\"about\">Tests of the two \
                 checkpoints of a seed. They say nothing of another run.</p>\n<ul>";
        page.checkpoints.iter().for_each(|line| body += &format!("<li>{}</li>\n", escape(line)));
        body += "</ul></section>\n";
    }
    if !page.charts.is_empty() {
        body += "<section id=\"loss\"><h2>Loss</h2>\n<div class=\"charts\">";
        page.charts.iter().for_each(|svg| body += svg);
        body += "</div></section>\n";
    }
    if !page.rows.is_empty() {
        let _ = write!(body, "<section id=\"rows\"><h2>Predictions</h2>\n<p class=\"about\">{}", escape(&page.shown));
        body += " <ins>Marked</ins> is what the reference lacks.</p>\n";
        page.rows.iter().for_each(|row| body += &row_html(row));
        body += "</section>\n";
    }
    document(&page.title, STYLE, &(body + "</main>\n"), None)
}

fn table(id: &str, title: &str, table: &Table) -> String {
    let mut out = format!("<section id=\"{id}\"><h2>{title}</h2>\n<div class=\"scroll\"><table>\n<tr>");
    table.columns.iter().for_each(|name| out += &format!("<th scope=\"col\">{}</th>", escape(name)));
    for row in &table.rows {
        out += "</tr>\n<tr>";
        row.iter().for_each(|cell| out += &format!("<td>{}</td>", escape(cell)));
    }
    out + "</tr>\n</table></div></section>\n"
}

fn row_html(row: &Row) -> String {
    let cut = |text: &str| text.chars().take(LONGEST).collect::<String>();
    let reference = cut(&row.reference);
    let mut out = format!("<section class=\"row\"><h3>{}</h3>\n<div class=\"pair\">", escape(&row.title));
    for (name, text) in [("baseline", &row.baseline), ("arm", &row.arm)] {
        let text = cut(text);
        let [marked, _] = pieces(&text, &reference);
        let _ = write!(out, "<figure><figcaption>{name}</figcaption><pre>{}</pre></figure>", marked_html(&marked));
    }
    let _ = write!(out, "<figure><figcaption>reference</figcaption><pre>{}</pre></figure>", escape(&reference));
    out + "</div></section>\n"
}

fn marked_html(pieces: &[Piece]) -> String {
    if pieces.is_empty() {
        return "<i>empty</i>".into();
    }
    let piece = |(lacking, text): &Piece| match lacking {
        // a line's end alone would be invisible
        true => format!("<ins>{}</ins>", escape(text).replace('\n', "↵\n")),
        false => escape(text),
    };
    pieces.iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</pre></td><script>alert(1)</script><img src=x onerror=\"alert(1)\">\u{202e}\0";

    #[test]
    fn hostile_text_stays_text() {
        let text = || HOSTILE.to_string();
        let table = || Table { columns: vec![text()], rows: vec![vec![text()]] };
        let page = render(&Page {
            title: text(),
            about: vec![text()],
            marks: vec![text()],
            forests: Vec::new(),
            arms: table(),
            comparisons: table(),
            checkpoints: vec![text()],
            charts: Vec::new(),
            shown: text(),
            rows: vec![Row { title: text(), baseline: text(), arm: String::new(), reference: text() }],
        });
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}'), "{page}");
        // the title twice, two sentences, two tables with two cells, a test, what is shown, three texts of the row
        assert_eq!(page.matches("&lt;script&gt;").count(), 2 + 2 + 4 + 1 + 1 + 3);
        assert!(page.contains("default-src 'none'; style-src 'nonce-") && !page.contains("script-src"));
    }
}
