//! Charts of values over the steps of a run, as SVG.
//!
//! A picture has about 800 columns, and a run may have 100,000 steps. If there are more steps than points to draw,
//! neighbouring steps are grouped: the line goes through the means of the groups, a band behind it spans their minima
//! and maxima, and the chart states this. A value that is not finite is not drawn: the line has a gap there.

use super::svg::{Anchor, Font, GRID, INK, MUTED, Paint, Scale, Svg};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 300.0;
/// Left, right, upper and lower edge of the plot area.
const AREA: [f64; 4] = [64.0, 832.0, 40.0, 262.0];
/// The largest number of points of a line.
const POINTS: usize = 500;

/// How the values of a line are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value at every step, connected.
    Curve,
    /// Values at some steps, each drawn as a dot and never grouped.
    Dots,
    /// Values are fractions: a mark at the bottom of the chart, as opaque as the fraction of steps whose value is 1.
    Feet,
}

/// One line of a chart.
pub struct Line<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// Its colour.
    pub colour: &'a str,
    /// How it is drawn.
    pub kind: Kind,
    /// Step and value, by step.
    pub points: Vec<(f64, f64)>,
}

/// A chart over steps.
pub struct Chart<'a> {
    /// The quantity shown, with its unit.
    pub title: &'a str,
    /// Whether the axis begins at 0.
    pub from_zero: bool,
    /// The lines, back to front.
    pub lines: Vec<Line<'a>>,
}

/// A group of neighbouring points.
struct Group {
    step: f64,
    least: f64,
    mean: f64,
    greatest: f64,
}

/// The number of points per group.
fn together(points: usize) -> usize {
    points.div_ceil(POINTS).max(1)
}

/// The groups of a line; `None` for a group without a finite value.
fn groups(points: &[(f64, f64)], size: usize) -> Vec<Option<Group>> {
    let group = |points: &[(f64, f64)]| {
        let finite: Vec<f64> = points.iter().map(|p| p.1).filter(|y| y.is_finite()).collect();
        let n = finite.len() as f64;
        (!finite.is_empty()).then(|| Group {
            step: points.iter().map(|p| p.0).sum::<f64>() / points.len() as f64,
            least: finite.iter().copied().fold(f64::INFINITY, f64::min),
            mean: finite.iter().map(|y| y / n).sum(),
            greatest: finite.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    };
    points.chunks(size).map(group).collect()
}

/// Draws the picture.
pub fn draw(chart: &Chart) -> String {
    let [left, right, top, bottom] = AREA;
    let mut svg = Svg::new(WIDTH, HEIGHT, chart.title);
    let longest = chart.lines.iter().filter(|l| l.kind != Kind::Dots).map(|l| l.points.len()).max().unwrap_or(0);
    let size = together(longest);
    let x = Scale { domain: steps(chart), range: (left, right) };
    let y = Scale { domain: values(chart), range: (bottom, top) };
    svg.line((left, bottom), (right, bottom), &Paint::line(GRID, 1.0));
    y.vertical_axis(&mut svg, left, right, 5);
    x.horizontal_axis(&mut svg, top, bottom, 8);
    svg.text((right, bottom + 33.0), "step", &Font::new(12.0, MUTED).at(Anchor::End));
    if size > 1 {
        let text = format!("{size} steps to a point: mean, with a band from the least to the greatest");
        svg.text((left, bottom + 33.0), &text, &Font::new(12.0, MUTED));
    }
    legend(&mut svg, chart);
    for line in &chart.lines {
        match line.kind {
            Kind::Curve => curve(&mut svg, line, size, x, y),
            Kind::Dots => {
                for (step, value) in line.points.iter().filter(|p| p.1.is_finite()) {
                    svg.circle((x.at(*step), y.at(*value)), 3.5, &Paint::fill(line.colour, 1.0));
                }
            }
            Kind::Feet => {
                for group in groups(&line.points, size).into_iter().flatten().filter(|g| g.mean > 0.0) {
                    let (at, strength) = (x.at(group.step), group.mean.max(0.1));
                    let paint = Paint { stroke_opacity: strength, ..Paint::line(line.colour, 1.5) };
                    svg.line((at, bottom), (at, bottom - 9.0), &paint);
                }
            }
        }
    }
    svg.finish()
}

fn curve(svg: &mut Svg, line: &Line, size: usize, x: Scale, y: Scale) {
    let groups = groups(&line.points, size);
    for run in groups.split(Option::is_none).filter(|run| !run.is_empty()) {
        let run: Vec<&Group> = run.iter().flatten().collect();
        let through = |f: fn(&Group) -> f64| run.iter().map(move |g| (x.at(g.step), y.at(f(g))));
        if size > 1 {
            let edge: Vec<_> = through(|g| g.greatest).chain(through(|g| g.least).rev()).collect();
            svg.polygon(&edge, &Paint::fill(line.colour, 0.18));
        }
        match &through(|g| g.mean).collect::<Vec<_>>()[..] {
            [alone] => svg.circle(*alone, 2.5, &Paint::fill(line.colour, 1.0)),
            points => svg.polyline(points, &Paint::line(line.colour, 1.6)),
        }
    }
}

/// First and last step; a run of one step gets a margin on both sides.
fn steps(chart: &Chart) -> (f64, f64) {
    let all = || chart.lines.iter().flat_map(|l| &l.points).map(|p| p.0);
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    if low < high { (low, high) } else { (0.0, 2.0 * if high.is_finite() { high.max(1.0) } else { 1.0 }) }
}

/// Smallest and largest finite value, with a margin.
fn values(chart: &Chart) -> (f64, f64) {
    let all = || {
        let lines = chart.lines.iter().filter(|l| l.kind != Kind::Feet);
        lines.flat_map(|l| &l.points).map(|p| p.1).filter(|y| y.is_finite())
    };
    let start = if chart.from_zero { 0.0 } else { f64::INFINITY };
    let (low, high) = (all().fold(start, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    match (low, high) {
        (low, high) if low < high => {
            (if chart.from_zero { low } else { low - 0.04 * (high - low) }, high + 0.04 * (high - low))
        }
        (_, high) if high.is_finite() => (high - 0.5, high + 0.5),
        _ => (0.0, 1.0),
    }
}

fn legend(svg: &mut Svg, chart: &Chart) {
    let mut at = AREA[0];
    svg.text((at, 24.0), chart.title, &Font::new(13.0, INK).bold());
    at = AREA[1];
    for line in chart.lines.iter().rev() {
        at -= 7.2 * line.name.chars().count() as f64;
        svg.text((at, 24.0), line.name, &Font::new(12.0, MUTED));
        at -= 18.0;
        svg.rect([at, 17.0, 12.0, 5.0], 1.0, &Paint::fill(line.colour, 1.0));
        at -= 14.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>, kind: Kind) -> String {
        let line = Line { name: "loss", colour: "#0072b2", kind, points };
        draw(&Chart { title: "Loss, nats", from_zero: false, lines: vec![line] })
    }

    #[test]
    fn a_gap_stays_a_gap() {
        let text = chart(vec![(1.0, 2.0), (2.0, 1.0), (3.0, f64::NAN), (4.0, f64::INFINITY), (5.0, 1.5)], Kind::Curve);
        assert_eq!(text.matches("<polyline").count(), 1, "the first two");
        assert_eq!(text.matches("<circle").count(), 1, "the last, alone");
        assert!(!text.contains("NaN") && !text.contains("inf") && !text.contains("to a point"), "{text}");
    }

    #[test]
    fn many_steps_are_put_together_and_nothing_is_hidden() {
        let mut points: Vec<(f64, f64)> = (1..=100_000).map(|step| (f64::from(step), 1.0)).collect();
        points[77_777].1 = 9.0;
        let groups = groups(&points, together(points.len()));
        assert_eq!((together(points.len()), groups.len()), (200, 500));
        let peak = groups.iter().flatten().find(|g| g.greatest > 1.0).expect("there");
        assert_eq!((peak.least, peak.greatest), (1.0, 9.0));
        assert!((peak.mean - (1.0 + 8.0 / 200.0)).abs() < 1e-12, "{}", peak.mean);
        assert_eq!(peak.step, 77_700.5, "the middle of steps 77601 to 77800");
        let text = chart(points, Kind::Curve);
        assert!(text.contains("200 steps to a point") && text.matches("<polygon").count() == 1, "says so, with a band");
        assert!(text.len() < 40_000, "{}", text.len());
        assert_eq!(together(500), 1);
    }

    #[test]
    fn empty_flat_and_single_are_drawn() {
        for points in [vec![], vec![(1.0, 3.0)], vec![(1.0, 3.0), (2.0, 3.0)], vec![(1.0, f64::NAN)]] {
            for kind in [Kind::Curve, Kind::Dots, Kind::Feet] {
                let text = chart(points.clone(), kind);
                assert!(text.ends_with("</svg>\n") && !text.contains("NaN"), "{text}");
            }
        }
    }

    #[test]
    fn feet_are_as_strong_as_their_share() {
        let points =
            (1..=1000).map(|step| (f64::from(step), if step <= 2 || step % 4 == 0 { 1.0 } else { 0.0 })).collect();
        let text = chart(points, Kind::Feet);
        // two steps per point: 1 and 2 both; then every other group has one of two
        assert_eq!(text.matches("stroke-width=\"1.5\"").count(), 251);
        assert_eq!(text.matches("stroke-opacity=\"0.5\" stroke=\"#0072b2\"").count(), 250);
    }
}
