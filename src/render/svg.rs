//! A small writer of SVG pictures, and the building blocks of charts.
//!
//! Coordinates are pixels from the upper left corner. Every picture has its own light background and colours, so that
//! it looks the same in a browser, a viewer and a paper, in any theme. Colours are those of Okabe and Ito ("Color
//! Universal Design", 2008), which remain distinct for people with colour vision deficiencies. Numbers that are not
//! finite are drawn at 0, so that they do not break the file.

use std::fmt::Write;

/// The colours for series, in order of use.
pub const SERIES: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a0522d"];
/// For text that must be readable.
pub const INK: &str = "#1f2328";
/// For less important text; its contrast to [`PAPER`] is above 4.5.
pub const MUTED: &str = "#5b6470";
/// For grid lines and frames.
pub const GRID: &str = "#d8dce1";
/// The background.
pub const PAPER: &str = "#fdfdfc";

/// How a shape is painted. The default paints nothing.
#[derive(Clone, Copy, Debug)]
pub struct Paint<'a> {
    /// Colour of the inside, or `none`.
    pub fill: &'a str,
    /// Opacity of the inside, 0 to 1.
    pub fill_opacity: f64,
    /// Colour of the line, or `none`.
    pub stroke: &'a str,
    /// Width of the line in pixels.
    pub width: f64,
    /// Opacity of the line, 0 to 1.
    pub stroke_opacity: f64,
    /// Whether the line is dashed.
    pub dashed: bool,
}

impl Default for Paint<'_> {
    fn default() -> Self {
        Paint { fill: "none", fill_opacity: 1.0, stroke: "none", width: 1.0, stroke_opacity: 1.0, dashed: false }
    }
}

impl<'a> Paint<'a> {
    /// An area without an outline.
    pub fn fill(colour: &'a str, opacity: f64) -> Paint<'a> {
        Paint { fill: colour, fill_opacity: opacity, ..Paint::default() }
    }

    /// A line without an inside.
    pub fn line(colour: &'a str, width: f64) -> Paint<'a> {
        Paint { stroke: colour, width, ..Paint::default() }
    }

    fn attributes(&self) -> String {
        let mut text = format!(" fill=\"{}\"", escape(self.fill));
        let mut opacity = |name: &str, value: f64| {
            if value < 1.0 {
                let _ = write!(text, " {name}=\"{}\"", number(value));
            }
        };
        opacity("fill-opacity", self.fill_opacity);
        opacity("stroke-opacity", self.stroke_opacity);
        if self.stroke != "none" {
            let _ = write!(text, " stroke=\"{}\" stroke-width=\"{}\"", escape(self.stroke), number(self.width));
        }
        if self.dashed {
            text.push_str(" stroke-dasharray=\"4 3\"");
        }
        text
    }
}

/// The point of a text that its position refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    /// The left end.
    #[default]
    Start,
    /// The middle.
    Middle,
    /// The right end.
    End,
}

/// How a text is set. The position of a text lies on its baseline.
#[derive(Clone, Copy, Debug)]
pub struct Font<'a> {
    /// Height in pixels.
    pub size: f64,
    /// Colour.
    pub colour: &'a str,
    /// The point that the position refers to.
    pub anchor: Anchor,
    /// Bold type.
    pub bold: bool,
    /// A monospaced type.
    pub mono: bool,
    /// The width to which the text is stretched or squeezed, if it must fit.
    pub fit: Option<f64>,
}

impl Default for Font<'_> {
    fn default() -> Self {
        Font { size: 13.0, colour: INK, anchor: Anchor::Start, bold: false, mono: false, fit: None }
    }
}

impl<'a> Font<'a> {
    /// A size and a colour.
    pub fn new(size: f64, colour: &'a str) -> Font<'a> {
        Font { size, colour, ..Font::default() }
    }

    /// The same, with another anchor.
    pub fn at(self, anchor: Anchor) -> Font<'a> {
        Font { anchor, ..self }
    }

    /// The same in bold.
    pub fn bold(self) -> Font<'a> {
        Font { bold: true, ..self }
    }
}

/// A picture under construction.
pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

impl Svg {
    /// An empty picture of this size in pixels; screen readers read `title`, and browsers show it on hover.
    pub fn new(width: f64, height: f64, title: &str) -> Svg {
        let mut svg = Svg { width, height, body: String::new() };
        let _ = writeln!(svg.body, "<title>{}</title>", escape(title));
        svg.rect([0.0, 0.0, width, height], 0.0, &Paint::fill(PAPER, 1.0));
        svg
    }

    /// A rectangle `[x, y, width, height]` with rounded corners of this radius.
    pub fn rect(&mut self, area: [f64; 4], radius: f64, paint: &Paint) {
        let [x, y, w, h] = area.map(number);
        let round = if radius > 0.0 { format!(" rx=\"{}\"", number(radius)) } else { String::new() };
        self.element(&format!("<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"{round}"), paint);
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), paint: &Paint) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(number);
        self.element(&format!("<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\""), paint);
    }

    /// A straight line with an arrowhead at its end. If it is too short for one, it is only a line.
    pub fn arrow(&mut self, from: (f64, f64), to: (f64, f64), head: f64, paint: &Paint) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy);
        if length < 1.5 * head || head <= 0.0 {
            return self.line(from, to, paint);
        }
        let (ux, uy) = (dx / length, dy / length);
        let neck = (to.0 - head * ux, to.1 - head * uy);
        self.line(from, neck, paint);
        let wing = |side: f64| (neck.0 - side * 0.45 * head * uy, neck.1 + side * 0.45 * head * ux);
        let tip = Paint::fill(paint.stroke, paint.stroke_opacity);
        self.polygon(&[to, wing(1.0), wing(-1.0)], &tip);
    }

    /// A circle.
    pub fn circle(&mut self, centre: (f64, f64), radius: f64, paint: &Paint) {
        let [x, y, r] = [centre.0, centre.1, radius].map(number);
        self.element(&format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{r}\""), paint);
    }

    /// A line through points.
    pub fn polyline(&mut self, points: &[(f64, f64)], paint: &Paint) {
        self.element(&format!("<polyline points=\"{}\" stroke-linejoin=\"round\"", coordinates(points)), paint);
    }

    /// A closed area.
    pub fn polygon(&mut self, points: &[(f64, f64)], paint: &Paint) {
        self.element(&format!("<polygon points=\"{}\"", coordinates(points)), paint);
    }

    /// Cells with sharp edges, in the commands of SVG's `path`: from numbers only.
    pub fn cells(&mut self, commands: &str, paint: &Paint) {
        self.element(&format!("<path d=\"{commands}\" shape-rendering=\"crispEdges\""), paint);
    }

    /// A text whose baseline is at `(x, y)`.
    pub fn text(&mut self, at: (f64, f64), text: &str, font: &Font) {
        self.turned(at, text, font, "");
    }

    /// A text that runs upwards from `(x, y)`.
    pub fn text_up(&mut self, at: (f64, f64), text: &str, font: &Font) {
        self.turned(at, text, font, &format!(" transform=\"rotate(-90 {} {})\"", number(at.0), number(at.1)));
    }

    fn turned(&mut self, at: (f64, f64), text: &str, font: &Font, turn: &str) {
        let [x, y, size] = [at.0, at.1, font.size].map(number);
        let family = if font.mono { "ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace" } else { SANS };
        let anchor = match font.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if font.bold { " font-weight=\"600\"" } else { "" };
        let fit = match font.fit {
            Some(width) => format!(" textLength=\"{}\" lengthAdjust=\"spacingAndGlyphs\"", number(width)),
            None => String::new(),
        };
        let (colour, text) = (escape(font.colour), escape(text));
        let _ = writeln!(
            self.body,
            "<text x=\"{x}\" y=\"{y}\" font-family=\"{family}\" font-size=\"{size}\" \
             fill=\"{colour}\"{anchor}{weight}{fit}{turn} \
             xml:space=\"preserve\">{text}</text>"
        );
    }

    fn element(&mut self, start: &str, paint: &Paint) {
        let _ = writeln!(self.body, "{start}{}/>", paint.attributes());
    }

    /// The content of the file.
    pub fn finish(self) -> String {
        let [w, h] = [self.width, self.height].map(number);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             role=\"img\">\n{}</svg>\n",
            self.body
        )
    }
}

const SANS: &str = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif";

/// A linear scale from values to pixels.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Smallest and largest value.
    pub domain: (f64, f64),
    /// Their positions in pixels. The second may be smaller, as for a vertical axis.
    pub range: (f64, f64),
}

impl Scale {
    /// The position of a value in pixels. In a domain without extent, every value is at its start.
    pub fn at(&self, value: f64) -> f64 {
        let part = (value - self.domain.0) / (self.domain.1 - self.domain.0);
        self.range.0 + if part.is_finite() { part } else { 0.0 } * (self.range.1 - self.range.0)
    }

    /// A horizontal axis: a grid line from `top` to `bottom` at each round value, and its number below.
    pub fn horizontal_axis(&self, svg: &mut Svg, top: f64, bottom: f64, count: usize) {
        for (tick, text) in labelled(&ticks(self.domain.0, self.domain.1, count)) {
            let x = self.at(tick);
            svg.line((x, top), (x, bottom), &Paint::line(GRID, 1.0));
            svg.text((x, bottom + 17.0), &text, &Font::new(12.0, MUTED).at(Anchor::Middle));
        }
    }

    /// A vertical axis: a grid line from `left` to `right` at each round value, and its number to the left.
    pub fn vertical_axis(&self, svg: &mut Svg, left: f64, right: f64, count: usize) {
        for (tick, text) in labelled(&ticks(self.domain.0, self.domain.1, count)) {
            let y = self.at(tick);
            svg.line((left, y), (right, y), &Paint::line(GRID, 1.0));
            svg.text((left - 7.0, y + 4.0), &text, &Font::new(12.0, MUTED).at(Anchor::End));
        }
    }
}

/// Round values (1, 2 or 5 times a power of ten apart) from `low` to `high`, about `count` of them; none if there is no
/// extent.
pub fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let rough = (high - low) / count.max(1) as f64;
    if !(rough.is_finite() && rough > 0.0) {
        return Vec::new();
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    // Multiplied by the index instead of added up, so that 0.3 does not become 0.30000000000000004.
    let first = (low / step - 1e-9).ceil();
    let last = (high / step + 1e-9).floor();
    let count = (last - first).clamp(0.0, 1000.0) as usize;
    (0..=count).map(|i| (first + i as f64) * step).filter(|t| *t <= high + 1e-9 * step.abs()).collect()
}

/// Each tick with its number, in as many decimals as all of them need: rounded ones could be the same number twice.
fn labelled(ticks: &[f64]) -> impl Iterator<Item = (f64, String)> {
    let exact = |decimals: usize| ticks.iter().all(|&t| short_to(t, decimals) == short_to(t, decimals + 3));
    let apart = |decimals: usize| ticks.windows(2).all(|t| short_to(t[0], decimals) != short_to(t[1], decimals));
    let decimals = (2..12).find(|&decimals| exact(decimals) && apart(decimals)).unwrap_or(12);
    ticks.iter().map(move |&tick| (tick, short_to(tick, decimals)))
}

/// One bar of [`bars`].
pub struct Bar<'a> {
    /// Text above the bar.
    pub label: &'a str,
    /// Its length.
    pub value: f64,
    /// Text behind the bar.
    pub note: String,
}

/// Horizontal bars below one another in `[x, y, width, _]`, each with its label above it and a note behind it. The
/// longest bar leaves room for notes of `note_width`. Returns the height used.
pub fn bars(svg: &mut Svg, area: [f64; 4], list: &[Bar], colour: &str, note_width: f64) -> f64 {
    const PITCH: f64 = 33.0;
    let [x, y, width, _] = area;
    let most = list.iter().map(|bar| bar.value).fold(0.0, f64::max);
    let scale = Scale { domain: (0.0, most), range: (x, x + (width - note_width).max(1.0)) };
    for (i, bar) in list.iter().enumerate() {
        let top = y + i as f64 * PITCH;
        let length = (scale.at(bar.value) - x).max(1.0);
        svg.text((x, top + 11.0), bar.label, &Font::new(12.5, INK));
        svg.rect([x, top + 15.5, length, 10.0], 1.5, &Paint::fill(colour, 0.85));
        svg.text((x + length + 6.0, top + 25.0), &bar.note, &Font::new(12.0, MUTED));
    }
    list.len() as f64 * PITCH
}

/// A colour from dark blue (0) through grey to yellow (1): the ends and stops of cividis (Nuñez, Anderton and Renslow,
/// 2018), whose order is visible with any colour vision.
pub fn ramp(part: f64) -> String {
    const STOPS: [[f64; 3]; 5] =
        [[0.0, 34.0, 78.0], [65.0, 77.0, 107.0], [124.0, 123.0, 120.0], [188.0, 174.0, 108.0], [254.0, 232.0, 56.0]];
    let place = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 } * 4.0;
    let left = (place as usize).min(3);
    let mix = |c: usize| STOPS[left][c] + (place - left as f64) * (STOPS[left + 1][c] - STOPS[left][c]);
    let [r, g, b] = [0, 1, 2].map(|c| mix(c).round() as u8);
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn coordinates(points: &[(f64, f64)]) -> String {
    let mut text = String::with_capacity(points.len() * 14);
    for (x, y) in points {
        let _ = write!(text, "{}{},{}", if text.is_empty() { "" } else { " " }, number(*x), number(*y));
    }
    text
}

/// At most two decimals, without trailing zeros; 0 for a number that is not finite.
pub fn number(value: f64) -> String {
    number_to(value, 2)
}

fn number_to(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", if value.is_finite() { value } else { 0.0 });
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

/// A number in a few characters: 0.25, 2e-5, 12k.
pub fn short(value: f64) -> String {
    short_to(value, 2)
}

fn short_to(value: f64, decimals: usize) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size < 0.01 => {
            let text = format!("{value:.*e}", decimals - 1);
            let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'))
        }
        size if size >= 1e9 => format!("{}G", number_to(value / 1e9, decimals)),
        size if size >= 1e6 => format!("{}M", number_to(value / 1e6, decimals)),
        size if size >= 1e4 => format!("{}k", number_to(value / 1e3, decimals)),
        _ => number_to(value, decimals),
    }
}

/// Text for an element or an attribute; characters that XML forbids or that turn the writing become U+FFFD.
pub fn escape(text: &str) -> String {
    let bidi = |c| matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\t' | '\n' => safe.push(c),
            c if c.is_control() || bidi(c) || c == '\u{fffe}' || c == '\u{ffff}' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        assert_eq!(ticks(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(
            ticks(0.0, 1.0, 5).into_iter().map(number).collect::<Vec<_>>(),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!(ticks(3.0, 97.0, 5), [20.0, 40.0, 60.0, 80.0]);
        assert_eq!(ticks(-1.0, 1.0, 2), [-1.0, 0.0, 1.0]);
        for (low, high) in [(1.0, 1.0), (2.0, 1.0), (f64::NAN, 1.0), (0.0, f64::INFINITY)] {
            assert!(ticks(low, high, 5).is_empty());
        }
    }

    #[test]
    fn a_scale_maps_its_ends() {
        let scale = Scale { domain: (0.0, 4.0), range: (100.0, 20.0) };
        assert_eq!([0.0, 1.0, 4.0].map(|v| scale.at(v)), [100.0, 80.0, 20.0]);
        let flat = Scale { domain: (2.0, 2.0), range: (5.0, 9.0) };
        assert_eq!((flat.at(2.0), flat.at(f64::NAN)), (5.0, 5.0));
    }

    #[test]
    fn text_cannot_break_out_of_its_element() {
        let mut svg = Svg::new(10.0, 10.0, "a < b");
        svg.text((1.0, 2.0), "x\"><script>&\u{1b}", &Font::default());
        let text = svg.finish();
        assert!(text.contains("<title>a &lt; b</title>"));
        assert!(text.contains(">x&quot;&gt;&lt;script&gt;&amp;\u{fffd}</text>"), "{text}");
        assert!(!text.contains("<script"));
    }

    #[test]
    fn shapes_are_written_with_short_numbers() {
        let mut svg = Svg::new(10.0, 10.0, "t");
        svg.circle((1.0 / 3.0, f64::NAN), 2.0, &Paint::fill("#123456", 0.5));
        svg.line((0.0, 0.0), (3.0, -0.001), &Paint { dashed: true, ..Paint::line("#abcdef", 1.5) });
        let text = svg.finish();
        assert!(
            text.contains("<circle cx=\"0.33\" cy=\"0\" r=\"2\" fill=\"#123456\" fill-opacity=\"0.5\"/>"),
            "{text}"
        );
        let line = "<line x1=\"0\" y1=\"0\" x2=\"3\" y2=\"0\" fill=\"none\" stroke=\"#abcdef\" stroke-width=\"1.5\" \
                    stroke-dasharray=\"4 3\"/>";
        assert!(text.contains(line), "{text}");
        assert!(text.starts_with("<svg xmlns=") && text.ends_with("</svg>\n"));
    }

    #[test]
    fn an_arrow_points_at_its_end() {
        let mut svg = Svg::new(10.0, 10.0, "t");
        svg.arrow((0.0, 5.0), (100.0, 5.0), 10.0, &Paint::line("#000000", 1.0));
        svg.arrow((0.0, 5.0), (3.0, 5.0), 10.0, &Paint::line("#000000", 1.0));
        let text = svg.finish();
        assert!(text.contains("points=\"100,5 90,9.5 90,0.5\""), "{text}");
        assert_eq!(text.matches("<polygon").count(), 1, "a short one has no head");
    }

    #[test]
    fn the_longest_bar_leaves_room_for_its_note() {
        let mut svg = Svg::new(300.0, 100.0, "t");
        let list = [("a", 4.0), ("b", 1.0)].map(|(label, value)| Bar { label, value, note: format!("{value} n") });
        assert_eq!(bars(&mut svg, [10.0, 0.0, 200.0, 0.0], &list, SERIES[0], 50.0), 66.0);
        let text = svg.finish();
        assert!(text.contains("width=\"150\"") && text.contains("width=\"37.5\""), "{text}");
        assert!(text.contains("<text x=\"166\"") && text.contains("<text x=\"53.5\""));
    }

    #[test]
    fn the_ramp_goes_from_dark_to_bright() {
        assert_eq!((ramp(0.0).as_str(), ramp(0.5).as_str(), ramp(7.0).as_str()), ("#00224e", "#7c7b78", "#fee838"));
        assert_eq!(ramp(f64::NAN), "#00224e");
    }

    #[test]
    fn no_two_ticks_have_the_same_number() {
        for (low, high, texts) in [
            (0.6796, 0.6971, &["0.68", "0.685", "0.69", "0.695"][..]),
            (0.0, 1.0, &["0", "0.2", "0.4", "0.6", "0.8", "1"]),
            (0.00121, 0.00129, &["1.22e-3", "1.24e-3", "1.26e-3", "1.28e-3"]),
            (-0.001, 0.001, &["-1e-3", "-5e-4", "0", "5e-4", "1e-3"]),
            (100_001.0, 100_010.0, &["100.002k", "100.004k", "100.006k", "100.008k", "100.01k"]),
        ] {
            assert_eq!(labelled(&ticks(low, high, 5)).map(|(_, text)| text).collect::<Vec<_>>(), texts);
        }
        for (power, count) in (-12..12).flat_map(|power| [(power, 5), (power, 8)]) {
            let low = 10f64.powi(power);
            for part in [1e-4, 3e-3, 0.02, 0.7, 40.0] {
                let texts: Vec<_> = labelled(&ticks(low, low * (1.0 + part), count)).map(|(_, text)| text).collect();
                let distinct: std::collections::BTreeSet<_> = texts.iter().collect();
                assert!(texts.len() > 1 && distinct.len() == texts.len(), "{low} {part}: {texts:?}");
            }
        }
    }

    #[test]
    fn numbers_of_axes_are_short() {
        let texts = [0.0, 1e-4, 2.5e-5, 0.01, 0.25, -3.0, 9999.0, 12_000.0, 2.5e6, 1e10].map(short);
        assert_eq!(texts, ["0", "1e-4", "2.5e-5", "0.01", "0.25", "-3", "9999", "12k", "2.5M", "10G"]);
    }
}
