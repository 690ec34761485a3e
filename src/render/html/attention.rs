//! The page of `eyekern attention`: the table of figures, maps of layers and heads, and heat-maps of examples, without
//! a script.

use super::{document, escape};

const STYLE: &str = include_str!("../../../assets/attention/page.css");

/// A page about attention.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The model.
    pub title: String,
    /// How it was measured, one line each.
    pub about: Vec<String>,
    /// Names of the table's columns.
    pub columns: Vec<String>,
    /// The figures.
    pub figures: Vec<Vec<String>>,
    /// Figures of every layer and head.
    pub grids: Vec<Panel>,
    /// Examples with their maps.
    pub examples: Vec<Example>,
}

/// A picture and what it shows.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// What it shows.
    pub caption: String,
    /// The picture, as SVG.
    pub svg: String,
}

/// An example.
#[derive(Clone, Debug, Default)]
pub struct Example {
    /// Its row.
    pub title: String,
    /// What is shown of it.
    pub about: Vec<String>,
    /// The answers: whose, and their text.
    pub answers: Vec<(String, String)>,
    /// The maps.
    pub panels: Vec<Panel>,
}

/// The content of the page's file.
pub fn render(page: &Page) -> String {
    let mut body = format!("<header><h1>{}</h1>\n", escape(&page.title));
    page.about.iter().for_each(|line| body += &format!("<p class=\"about\">{}</p>\n", escape(line)));
    body += "</header>\n<main>\n<section id=\"figures\"><h2>Figures</h2>\n<div class=\"scroll\"><table \
             class=\"figures\">\n<tr>";
    page.columns.iter().for_each(|name| body += &format!("<th scope=\"col\">{}</th>", escape(name)));
    for cells in &page.figures {
        body += "</tr>\n<tr>";
        cells.iter().for_each(|cell| body += &format!("<td>{}</td>", escape(cell)));
    }
    body += "</tr>\n</table></div></section>\n";
    if !page.grids.is_empty() {
        body += "<section id=\"heads\"><h2>Layers and heads</h2>\n<div class=\"panels\">\n";
        page.grids.iter().for_each(|panel| body += &panel_html(panel));
        body += "</div></section>\n";
    }
    for example in &page.examples {
        body += &format!("<section class=\"example\"><h2>{}</h2>\n", escape(&example.title));
        example.about.iter().for_each(|line| body += &format!("<p class=\"about\">{}</p>\n", escape(line)));
        for (whose, text) in &example.answers {
            let (whose, text) = (escape(whose), escape(text));
            // a browser drops the first line end, which may be the text's
            let pre = format!("<pre class=\"answer\">\n{text}</pre>");
            body += &format!("<figure><figcaption>{whose}</figcaption>{pre}</figure>\n");
        }
        example.panels.iter().for_each(|panel| body += &panel_html(panel));
        body += "</section>\n";
    }
    document(&page.title, STYLE, &(body + "</main>\n"), None)
}

fn panel_html(panel: &Panel) -> String {
    let caption = escape(&panel.caption);
    format!(
        "<figure class=\"panel\"><figcaption>{caption}</figcaption><div class=\"scroll\">{}</div></figure>\n",
        panel.svg
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::heatmap::{Colours, Heatmap, draw};

    const HOSTILE: &str = "</pre></td><script>alert(1)</script><img src=x onerror=\"alert(1)\">\u{202e}\0";

    #[test]
    fn hostile_text_stays_text() {
        let text = || HOSTILE.to_string();
        let svg = draw(&Heatmap {
            title: HOSTILE,
            rows: &[text()],
            columns: &[(text(), true)],
            values: &[vec![Some(0.5)]],
            colours: Colours::Log(1e-4, 1.0),
        });
        let panel = || Panel { caption: text(), svg: svg.clone() };
        let page = render(&Page {
            title: text(),
            about: vec![text()],
            columns: vec![text()],
            figures: vec![vec![text()]],
            grids: vec![panel()],
            examples: vec![Example {
                title: text(),
                about: vec![text()],
                answers: vec![(text(), text())],
                panels: vec![panel()],
            }],
        });
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}'), "{page}");
        // the title twice, three above the panels, four of the example, a caption and a title of each panel; texts in
        // a map are cut before the first tag ends
        assert_eq!(page.matches("&lt;script&gt;").count(), 2 + 3 + 4 + 2 * 2);
        assert!(page.contains("default-src 'none'; style-src 'nonce-") && !page.contains("script-src"));
    }
}
