//! Forest plots: differences with their intervals, a line each, around 0.

use super::svg::{Anchor, Font, GRID, INK, MUTED, Paint, SERIES, Scale, Svg};

const WIDTH: f64 = 860.0;
/// Height of a line.
const LINE: f64 = 26.0;
/// Left and right edge of the plot area.
const AREA: [f64; 2] = [170.0, 600.0];
const TOP: f64 = 44.0;

/// A difference.
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its value.
    pub middle: f64,
    /// The ends of its interval.
    pub ends: [f64; 2],
    /// The figures in words.
    pub note: String,
}

/// A forest plot.
pub struct Forest<'a> {
    /// The quantity shown.
    pub title: &'a str,
    /// From top to bottom.
    pub lines: Vec<Line>,
}

/// Draws the picture. An end that is not finite reaches the edge.
pub fn draw(forest: &Forest) -> String {
    let [left, right] = AREA;
    let bottom = TOP + LINE * forest.lines.len() as f64;
    let mut svg = Svg::new(WIDTH, bottom + 30.0, forest.title);
    svg.text((left, 24.0), forest.title, &Font::new(13.0, INK).bold());
    let finite =
        forest.lines.iter().flat_map(|line| [line.middle, line.ends[0], line.ends[1]]).filter(|x| x.is_finite());
    let (low, high) = finite.fold((0.0f64, 0.0f64), |(low, high), x| (low.min(x), high.max(x)));
    let room = if high > low { (high - low) * 0.06 } else { 1.0 };
    let scale = Scale { domain: (low - room, high + room), range: (left, right) };
    scale.horizontal_axis(&mut svg, TOP - 6.0, bottom, 5);
    svg.line((scale.at(0.0), TOP - 6.0), (scale.at(0.0), bottom), &Paint::line(MUTED, 1.5));
    for (i, line) in forest.lines.iter().enumerate() {
        let y = TOP + LINE * (i as f64 + 0.5);
        svg.text((left - 12.0, y + 4.0), &short(&line.name), &Font::new(12.0, INK).at(Anchor::End));
        let place = |value: f64| scale.at(value.clamp(low - room, high + room));
        let (from, to) = (place(line.ends[0]), place(line.ends[1]));
        svg.line((from, y), (to, y), &Paint::line(SERIES[0], 2.0));
        for end in [from, to] {
            svg.line((end, y - 5.0), (end, y + 5.0), &Paint::line(SERIES[0], 2.0));
        }
        svg.circle((place(line.middle), y), 4.0, &Paint::fill(SERIES[0], 1.0));
        svg.text((right + 14.0, y + 4.0), &line.note, &Font::new(11.0, INK));
    }
    svg.line((left, bottom), (right, bottom), &Paint::line(GRID, 1.0));
    svg.finish()
}

/// A name that fits beside the plot.
fn short(name: &str) -> String {
    const MOST: usize = 22;
    if name.chars().count() <= MOST { name.into() } else { name.chars().take(MOST - 1).chain(['…']).collect() }
}
