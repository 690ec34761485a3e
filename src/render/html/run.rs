//! The page of `eyekern report`: a training run, without a script.

use super::{Fact, document, escape, facts};
use std::fmt::Write;

const STYLE: &str = include_str!("../../../assets/report/page.css");

/// A page about a run.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The run.
    pub title: String,
    /// Its setup, one line each.
    pub about: Vec<String>,
    /// Caveats that the reader must know before trusting the rest.
    pub notes: Vec<String>,
    /// Final figures.
    pub facts: Vec<Fact>,
    /// Charts, as SVG.
    pub charts: Vec<String>,
    /// Evaluations: column names.
    pub columns: Vec<String>,
    /// One row each, and whether it is the best.
    pub evaluations: Vec<(Vec<String>, bool)>,
    /// The recipe as TOML.
    pub recipe: Option<String>,
}

/// The content of the page's file.
pub fn render(page: &Page) -> String {
    let mut body = format!("<header><h1>{}</h1>\n", escape(&page.title));
    page.about.iter().for_each(|line| body += &format!("<p class=\"about\">{}</p>\n", escape(line)));
    page.notes.iter().for_each(|line| body += &format!("<p class=\"note\">{}</p>\n", escape(line)));
    body += "</header>\n<main>\n<section id=\"summary\"><h2>Where it stands</h2>\n";
    body += &facts(&page.facts);
    body += "</section>\n";
    if !page.charts.is_empty() {
        body += "<section id=\"charts\"><h2>Step by step</h2>\n<div class=\"charts\">\n";
        page.charts.iter().for_each(|chart| body += chart);
        body += "</div></section>\n";
    }
    if !page.evaluations.is_empty() {
        body += "<section id=\"evaluations\"><h2>Evaluations</h2>\n<div class=\"scroll\"><table \
                 class=\"evaluations\">\n<tr>";
        page.columns.iter().for_each(|name| body += &format!("<th scope=\"col\">{}</th>", escape(name)));
        for (cells, best) in &page.evaluations {
            let _ = write!(body, "</tr>\n<tr{}>", if *best { " class=\"best\"" } else { "" });
            cells.iter().for_each(|cell| body += &format!("<td>{}</td>", escape(cell)));
        }
        body += "</tr>\n</table></div></section>\n";
    }
    if let Some(recipe) = &page.recipe {
        body += "<section id=\"recipe\"><h2>Recipe</h2>\n<pre class=\"recipe\">";
        body += &escape(recipe);
        body += "</pre></section>\n";
    }
    document(&page.title, STYLE, &(body + "</main>\n"), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::chart::{Chart, Kind, Line, draw};
    use crate::render::svg::SERIES;

    const HOSTILE: &str = "</pre></td><script>alert(1)</script><img src=x onerror=\"alert(1)\">\u{202e}\0";

    #[test]
    fn hostile_text_stays_text() {
        let text = || HOSTILE.to_string();
        let page = render(&Page {
            title: text(),
            about: vec![text()],
            notes: vec![text()],
            facts: vec![Fact { name: text(), value: text(), meaning: text(), alert: true }],
            charts: Vec::new(),
            columns: vec![text()],
            evaluations: vec![(vec![text()], true)],
            recipe: Some(text()),
        });
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}'), "{page}");
        assert_eq!(page.matches("&lt;script&gt;").count(), 10, "each of nine, and the title twice");
        assert!(page.contains("default-src 'none'; style-src 'nonce-") && !page.contains("script-src"));
    }

    #[test]
    fn a_dark_page_has_its_own_for_every_colour_of_a_chart() {
        let line = |kind| Line { name: "a", colour: SERIES[0], kind, points: vec![(1.0, 1.0), (2.0, 1.0)] };
        let mut svg = draw(&Chart { title: "t", from_zero: true, lines: [Kind::Curve, Kind::Feet].map(line).into() });
        SERIES[..4].iter().for_each(|colour| svg += &format!(" fill=\"{colour}\" stroke=\"{colour}\""));
        for part in ["fill=\"#", "stroke=\"#"] {
            for rest in svg.split(part).skip(1) {
                let (name, colour) = (part.split('=').next().expect("a name"), &rest[..6]);
                let rule = format!("svg [{name}=\"#{colour}\"] {{ {name}: #");
                assert!(STYLE.contains(&rule), "no {rule}");
            }
        }
    }
}
