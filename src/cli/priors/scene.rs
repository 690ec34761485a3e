//! The picture of one participant's fixations over the code they looked at.

use crate::render::svg::{Anchor, Font, GRID, INK, MUTED, Paint, Svg, ramp};
use crate::salience::gaze::boxes::Hit;
use crate::salience::gaze::build::{Study, Viewing};

/// Around the code, in pixels of the screen.
const MARGIN: f64 = 60.0;
const HEAD: f64 = 104.0;
const NARROWEST: f64 = 760.0;
/// Up to this many fixations each has its number and each saccade its arrow head.
const NUMBERED: usize = 80;
/// Opacity of a fixation on a token, and near one.
const ON: f64 = 0.5;
const NEAR: f64 = 0.22;

/// An SVG file; `None` where the viewing's layout is not there.
pub fn draw(study: &Study, viewing: &Viewing) -> Option<String> {
    let snippet = study.snippets.find(&viewing.snippet)?;
    let layout = snippet.layouts.get(&viewing.layout)?;
    let bound = |pick: fn([f64; 4]) -> f64, fold: fn(f64, f64) -> f64, start: f64| {
        layout.boxes.iter().map(|b| pick(b.area)).fold(start, fold)
    };
    let left = bound(|a| a[0], f64::min, f64::MAX) - MARGIN;
    let top = bound(|a| a[1], f64::min, f64::MAX) - MARGIN;
    let right = bound(|a| a[0] + a[2], f64::max, f64::MIN) + MARGIN;
    let bottom = bound(|a| a[1] + a[3], f64::max, f64::MIN) + MARGIN;
    let (width, height) = ((right - left).max(NARROWEST), bottom - top + HEAD);
    let place = |x: f64, y: f64| (x - left, y - top + HEAD);
    let inside = |x: f64, y: f64| (left..left + width).contains(&x) && (top..bottom).contains(&y);

    let title = format!("{} read by {}", viewing.snippet, viewing.participant);
    let mut svg = Svg::new(width, height, &title);
    for token in &layout.boxes {
        let [x, y, w, h] = token.area;
        let (px, py) = place(x, y);
        if snippet.label(token).is_some() {
            let edge = Paint { stroke: "#c3ccd6", width: 0.8, ..Paint::fill("#eef2f6", 1.0) };
            svg.rect([px, py + 1.0, w, h - 2.0], 2.0, &edge);
        }
    }

    let list = &viewing.fixations;
    let part = |at: usize| at as f64 / (list.len().max(2) - 1) as f64;
    let few = list.len() <= NUMBERED;
    for (at, pair) in list.windows(2).enumerate() {
        let [(from, _), (to, _)] = pair else { continue };
        if inside(from.x, from.y) && inside(to.x, to.y) {
            let colour = ramp(part(at));
            let stroke_opacity = if few { 0.75 } else { 0.25 };
            let paint = Paint { stroke_opacity, ..Paint::line(&colour, 1.2) };
            svg.arrow(place(from.x, from.y), place(to.x, to.y), if few { 7.0 } else { 0.0 }, &paint);
        }
    }
    let mut beyond = 0;
    for (at, (fixation, hit)) in list.iter().enumerate() {
        if !inside(fixation.x, fixation.y) {
            beyond += 1;
            continue;
        }
        let colour = ramp(part(at));
        let fill_opacity = match hit {
            Some(Hit::On(_)) => ON,
            Some(Hit::Near(_)) => NEAR,
            None => 0.0,
        };
        let paint = Paint { stroke: &colour, width: 1.4, fill_opacity, ..Paint::fill(&colour, fill_opacity) };
        svg.circle(place(fixation.x, fixation.y), radius(fixation.ms()), &paint);
    }
    // The code above the circles, so that it can be read through them.
    for token in &layout.boxes {
        let [x, y, w, h] = token.area;
        let (px, py) = place(x, y);
        let text = String::from_utf8_lossy(&snippet.code[token.start..token.end]);
        let text = text.lines().next().unwrap_or_default();
        let colour = if snippet.label(token).is_some() { INK } else { MUTED };
        let fit = Some(w).filter(|_| text.chars().count() > 1);
        let at = if fit.is_some() { px } else { px + w / 2.0 };
        let anchor = if fit.is_some() { Anchor::Start } else { Anchor::Middle };
        let font = Font { mono: true, fit, anchor, ..Font::new((0.7 * h).min(22.0), colour) };
        svg.text((at, py + 0.72 * h), text, &font);
    }
    let mut plates = Plates::default();
    for (at, (fixation, _)) in list.iter().enumerate().filter(|(_, (f, _))| inside(f.x, f.y)) {
        let number = at + 1;
        if few || number == 1 || number == list.len() || number % 10 == 0 {
            plates.number(&mut svg, place(fixation.x, fixation.y), radius(fixation.ms()), number);
        }
    }
    head(&mut svg, width, &title, viewing, beyond);
    Some(svg.finish())
}

/// The area of a circle is proportional to the duration; 100 ms have a radius of 5.
fn radius(ms: f64) -> f64 {
    (5.0 * (ms / 100.0).max(0.0).sqrt()).min(60.0)
}

/// The places of the numbers that are already drawn beside circles.
#[derive(Default)]
struct Plates(Vec<[f64; 4]>);

impl Plates {
    /// Draws a number on a small plate on the first of four sides of its circle with room for it. Without room it draws
    /// none: the number would be unreadable, and its neighbours show the order.
    fn number(&mut self, svg: &mut Svg, (x, y): (f64, f64), radius: f64, number: usize) {
        let text = number.to_string();
        let (width, height, off) = (6.0 * text.len() as f64 + 4.0, 12.0, 0.6 * radius);
        let (right, left, above, below) = (x + off, x - off - width, y - off - height, y + off);
        let free = |&(px, py): &(f64, f64)| {
            let apart =
                |a: &[f64; 4]| px + width <= a[0] || a[0] + a[2] <= px || py + height <= a[1] || a[1] + a[3] <= py;
            self.0.iter().all(apart)
        };
        let places = [(right, above), (left, above), (right, below), (left, below)];
        let Some(&(px, py)) = places.iter().find(|p| free(p)) else { return };
        self.0.push([px, py, width, height]);
        svg.rect([px, py, width, height], 3.0, &Paint::fill("#ffffff", 0.9));
        svg.text((px + width / 2.0, py + 9.6), &text, &Font::new(10.0, INK).bold().at(Anchor::Middle));
    }
}

fn head(svg: &mut Svg, width: f64, title: &str, viewing: &Viewing, beyond: usize) {
    let list = &viewing.fixations;
    let count = |f: fn(&Option<Hit>) -> bool| list.iter().filter(|(_, hit)| f(hit)).count();
    let on = count(|hit| matches!(hit, Some(Hit::On(_))));
    let near = count(|hit| matches!(hit, Some(Hit::Near(_))));
    let seconds: f64 = list.iter().map(|(f, _)| f.ms()).sum::<f64>() / 1000.0;
    svg.rect([0.0, 0.0, width, HEAD - 8.0], 0.0, &Paint::fill("#ffffff", 0.9));
    svg.line((0.0, HEAD - 8.0), (width, HEAD - 8.0), &Paint::line(GRID, 1.0));
    svg.text((24.0, 34.0), title, &Font::new(19.0, INK).bold());
    let unmapped = list.len() - on - near;
    let mut text =
        format!("{} fixations, {seconds:.1} s: {on} on a token, {near} near one, {unmapped} on none", list.len());
    if beyond > 0 {
        text.push_str(&format!(" ({beyond} beyond the picture)"));
    }
    svg.text((24.0, 57.0), &text, &Font::new(13.0, MUTED));
    // the legend: order, duration, what a fixation meets
    let y = 80.0;
    let font = Font::new(12.0, MUTED);
    svg.text((24.0, y + 4.0), "first", &font);
    for step in 0..24 {
        let x = 56.0 + 4.0 * f64::from(step);
        svg.rect([x, y - 6.0, 4.3, 12.0], 0.0, &Paint::fill(&ramp(f64::from(step) / 23.0), 1.0));
    }
    svg.text((158.0, y + 4.0), "last", &font);
    let circle = |x: f64, ms: f64, opacity: f64, svg: &mut Svg| {
        let paint = Paint { stroke: MUTED, width: 1.4, ..Paint::fill(MUTED, opacity) };
        svg.circle((x, y), radius(ms), &paint);
    };
    for (x, ms, name) in [(212.0, 100.0, "100 ms"), (292.0, 400.0, "400 ms")] {
        circle(x, ms, 0.0, svg);
        svg.text((x + radius(ms) + 5.0, y + 4.0), name, &font);
    }
    for (x, opacity, name) in [(390.0, ON, "on a token"), (484.0, NEAR, "near one"), (570.0, 0.0, "on none")] {
        circle(x, 130.0, opacity, svg);
        svg.text((x + 11.0, y + 4.0), name, &font);
    }
}
