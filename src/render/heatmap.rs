//! Heat-maps as SVG: a coloured cell for each value, texts beside the rows and above the columns.
//!
//! Values are put into a few steps of colour. Neighbours of a row with the same step are one shape, so that a map
//! of ten thousand cells remains a small file.

use super::svg::{Anchor, Font, GRID, INK, MUTED, Paint, SERIES, Svg, ramp, short};
use std::fmt::Write;

/// Steps of the colour scale.
const LEVELS: usize = 24;
/// Edge of a cell, room for the texts of rows and of columns, margin, and the height of the legend, in pixels.
const CELL: f64 = 12.0;
const LEFT: f64 = 150.0;
const TOP: f64 = 112.0;
const MARGIN: f64 = 12.0;
const LEGEND: f64 = 44.0;
/// Characters of a text that fit.
const LONGEST: usize = 16;

/// From values to colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Colours {
    /// From the darkest to the brightest colour.
    Linear(f64, f64),
    /// The same over the logarithm of values above 0; smaller values than the first have its colour.
    Log(f64, f64),
    /// Ratios, over their logarithm: blue where below 1, orange where above, to this factor on both sides.
    Ratio(f64),
    /// Differences: blue below 0, orange above, to this size on both sides.
    Difference(f64),
}

impl Colours {
    /// The place of a value on the scale, from 0 to 1.
    fn place(self, x: f64) -> f64 {
        let part = match self {
            Colours::Linear(low, high) => (x - low) / (high - low),
            Colours::Log(low, high) => (x.max(low) / low).ln() / (high / low).ln(),
            Colours::Ratio(most) => 0.5 + 0.5 * x.max(1e-300).ln() / most.ln(),
            Colours::Difference(most) => 0.5 + 0.5 * x / most,
        };
        if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.5 }
    }

    fn level(self, x: f64) -> usize {
        ((self.place(x) * LEVELS as f64) as usize).min(LEVELS - 1)
    }

    /// Colour and opacity of a step.
    fn paint(self, level: usize) -> (String, f64) {
        let part = (level as f64 + 0.5) / LEVELS as f64;
        match self {
            Colours::Linear(..) | Colours::Log(..) => (ramp(part), 1.0),
            _ => (SERIES[usize::from(part > 0.5)].to_string(), (2.0 * part - 1.0).abs()),
        }
    }

    /// The values under the legend, from its left end to its right end.
    fn ticks(self) -> Vec<(f64, String)> {
        match self {
            Colours::Linear(low, high) => [low, 0.5 * (low + high), high].map(|x| (self.place(x), short(x))).to_vec(),
            Colours::Log(low, high) => {
                let decades = (high / low).log10().round() as i32;
                let values = (0..=decades).map(|i| low * 10f64.powi(i));
                values.map(|x| (self.place(x), short(x))).collect()
            }
            Colours::Ratio(most) => {
                let text = |x: f64| if x < 1.0 { format!("1/{}", short(1.0 / x)) } else { format!("x {}", short(x)) };
                [1.0 / most, 1.0, most].map(|x| (self.place(x), text(x))).to_vec()
            }
            Colours::Difference(most) => [-most, 0.0, most].map(|x| (self.place(x), short(x))).to_vec(),
        }
    }
}

/// A heat-map.
pub struct Heatmap<'a> {
    /// What is shown; screen readers read it, and browsers show it on hover.
    pub title: &'a str,
    /// Texts beside the rows.
    pub rows: &'a [String],
    /// Texts above the columns, and whether a column is marked.
    pub columns: &'a [(String, bool)],
    /// A value for each column of each row; a cell without a value is not drawn.
    pub values: &'a [Vec<Option<f64>>],
    /// The scale.
    pub colours: Colours,
}

/// The picture of a map.
pub fn draw(map: &Heatmap) -> String {
    let (rows, columns) = (map.rows.len() as f64, map.columns.len() as f64);
    let width = (LEFT + columns * CELL + 2.0 * MARGIN).max(420.0);
    let mut svg = Svg::new(width, TOP + rows * CELL + LEGEND + MARGIN, map.title);
    let (x0, y0) = (MARGIN + LEFT, TOP);
    for (i, text) in map.rows.iter().enumerate() {
        let font = Font { mono: true, ..Font::new(9.5, INK) };
        svg.text((x0 - 5.0, y0 + (i as f64 + 0.78) * CELL), &shown(text), &font.at(Anchor::End));
    }
    for (j, (text, marked)) in map.columns.iter().enumerate() {
        let font = Font { mono: true, bold: *marked, ..Font::new(9.5, if *marked { INK } else { MUTED }) };
        let x = x0 + (j as f64 + 0.78) * CELL;
        svg.text_up((x, y0 - 7.0), &shown(text), &font);
        if *marked {
            svg.rect([x0 + j as f64 * CELL, y0 - 5.0, CELL, 3.0], 0.0, &Paint::fill(SERIES[1], 1.0));
        }
    }
    for (level, shape) in shapes(map, x0, y0).iter().enumerate().filter(|(_, shape)| !shape.is_empty()) {
        let (colour, opacity) = map.colours.paint(level);
        svg.cells(shape, &Paint::fill(&colour, opacity));
    }
    let frame = Paint { stroke: GRID, ..Paint::default() };
    svg.rect([x0, y0, columns * CELL, rows * CELL], 0.0, &frame);
    legend(&mut svg, map.colours, (x0, y0 + rows * CELL + MARGIN));
    svg.finish()
}

/// The cells of each step of colour as one outline.
fn shapes(map: &Heatmap, x0: f64, y0: f64) -> Vec<String> {
    let mut shapes = vec![String::new(); LEVELS];
    for (i, row) in map.values.iter().enumerate() {
        let levels: Vec<Option<usize>> =
            row.iter().map(|x| x.filter(|x| x.is_finite()).map(|x| map.colours.level(x))).collect();
        let mut at = 0;
        for run in levels.chunk_by(|a, b| a == b) {
            if let Some(level) = run[0] {
                let (x, y) = (x0 + at as f64 * CELL, y0 + i as f64 * CELL);
                let width = run.len() as f64 * CELL;
                let _ = write!(shapes[level], "M{x} {y}h{width}v{CELL}h-{width}z");
            }
            at += run.len();
        }
    }
    shapes
}

fn legend(svg: &mut Svg, colours: Colours, (x, y): (f64, f64)) {
    const WIDTH: f64 = 216.0;
    let step = WIDTH / LEVELS as f64;
    for level in 0..LEVELS {
        let (colour, opacity) = colours.paint(level);
        svg.rect([x + level as f64 * step, y, step, 9.0], 0.0, &Paint::fill(&colour, opacity));
    }
    for (place, text) in colours.ticks() {
        let font = Font::new(11.0, MUTED).at(Anchor::Middle);
        svg.text((x + place * WIDTH, y + 23.0), &text, &font);
    }
}

/// The beginning of a text, line ends visible.
fn shown(text: &str) -> String {
    let text = text.replace('\n', "↵").replace('\t', "→");
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_place_of_their_scale() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} and {b}");
        near(Colours::Log(1e-4, 1.0).place(1e-2), 0.5);
        near(Colours::Log(1e-4, 1.0).place(0.0), 0.0);
        near(Colours::Ratio(10.0).place(1.0), 0.5);
        near(Colours::Ratio(10.0).place(100.0), 1.0);
        near(Colours::Ratio(10.0).place(10f64.powf(-0.5)), 0.25);
        near(Colours::Difference(2.0).place(-1.0), 0.25);
        near(Colours::Linear(1.0, 3.0).place(1.5), 0.25);
        near(Colours::Linear(1.0, 1.0).place(1.0), 0.5);
        assert_eq!(Colours::Log(1e-2, 1.0).ticks(), [(0.0, "0.01".into()), (0.5, "0.1".into()), (1.0, "1".into())]);
    }

    /// Two cells of a colour beside each other are one shape; a cell without a value is none.
    #[test]
    fn neighbours_of_a_colour_are_one_shape() {
        let values = [vec![Some(0.5), Some(0.5), Some(1.0)], vec![Some(0.5), None, Some(f64::NAN)]];
        let columns = ["a", "b", "c"].map(|text| (text.to_string(), text == "b"));
        let rows = ["<x>\n".to_string(), "a very long token of a text".to_string()];
        let colours = Colours::Linear(0.0, 1.0);
        let map = Heatmap { title: "t", rows: &rows, columns: &columns, values: &values, colours };
        let svg = draw(&map);
        assert_eq!((svg.matches("<path").count(), svg.matches("h24v12h-24z").count()), (2, 1));
        assert_eq!(svg.matches("h12v12h-12z").count(), 2);
        assert!(svg.contains(">&lt;x&gt;↵<") && svg.contains(">a very long toke…<"));
    }
}
