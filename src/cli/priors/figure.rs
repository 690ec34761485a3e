//! The picture of priors: a density per label on the left, the most frequent n-grams on the right.

use super::{order, rarity, spell};
use crate::render::svg::{self, Anchor, Bar, Font, GRID, INK, MUTED, Paint, SERIES, Scale, Svg};
use crate::salience::Label;
use crate::salience::beta::Beta;
use crate::salience::priors::Priors;

const WIDTH: f64 = 1400.0;
const TOP: f64 = 118.0;
const ROW: f64 = 37.0;
/// Left and right end of the densities' axis.
const AXIS: (f64, f64) = (292.0, 700.0);
const BARS: (f64, f64) = (920.0, 440.0);

/// An SVG file with the `top` most frequent bigrams and trigrams.
pub fn draw(priors: &Priors, top: usize) -> String {
    let mut rows: Vec<(&str, Beta)> =
        Label::ALL.into_iter().filter_map(|label| Some((label.name(), priors.beta(label)?))).collect();
    rows.sort_by(|a, b| b.1.mean().total_cmp(&a.1.mean()));
    let [bigrams, trigrams] = [2, 3].map(|n| priors.ranking(n).into_iter().take(top).collect::<Vec<_>>());
    let left = TOP + (rows.len() as f64 + 1.6) * ROW + 46.0;
    let right = TOP + (bigrams.len() + trigrams.len()) as f64 * 33.0 + 110.0;
    let height = left.max(right) + 56.0;
    let mut svg = Svg::new(WIDTH, height, &format!("Priors of human attention: {}", priors.condition()));

    svg.text((28.0, 40.0), &format!("Priors of human attention: {}", priors.condition()), &Font::new(22.0, INK).bold());
    let caption = "How likely a token of each label is to be fixated, and which labels follow one another";
    svg.text((28.0, 64.0), caption, &Font::new(14.0, MUTED));
    densities(&mut svg, &rows, priors.aggregate());

    let mut y = TOP;
    for (name, list, colour) in [("Bigrams", &bigrams, SERIES[2]), ("Trigrams", &trigrams, SERIES[4])] {
        svg.text((BARS.0, y - 14.0), name, &Font::new(15.0, INK).bold());
        let note = "count, and the bonus 1/ln(count + 2) of a token in it";
        svg.text((BARS.0 + 80.0, y - 14.0), note, &Font::new(12.0, MUTED));
        let spelled: Vec<String> = list.iter().map(|(ngram, _)| spell(ngram, priors.ordered())).collect();
        let entries: Vec<Bar> = list
            .iter()
            .zip(&spelled)
            .map(|((_, n), label)| Bar { label, value: *n as f64, note: format!("{n}   {:.3}", rarity(*n)) })
            .collect();
        if entries.is_empty() {
            svg.text((BARS.0, y + 11.0), "no counts", &Font::new(12.5, MUTED));
        }
        y += svg::bars(&mut svg, [BARS.0, y, BARS.1, 0.0], &entries, colour, 100.0) + 50.0;
    }
    svg.text((BARS.0, y - 30.0), &format!("Counts are {}.", order(priors)), &Font::new(12.0, MUTED));
    let source = shorten(priors.source(), 210);
    svg.text((28.0, height - 18.0), &format!("Source: {source}"), &Font::new(12.0, MUTED));
    svg.finish()
}

/// One ridge per label, each scaled to its row: a narrow ridge is a certain estimate.
fn densities(svg: &mut Svg, rows: &[(&str, Beta)], aggregate: Beta) {
    let x = Scale { domain: (0.0, 1.0), range: AXIS };
    let bottom = TOP + (rows.len() as f64 + 1.6) * ROW;
    svg.text((28.0, TOP - 14.0), "Beta densities", &Font::new(15.0, INK).bold());
    let note = "each scaled to its row; dot: mean, bar: 95 % interval";
    svg.text((AXIS.0, TOP - 14.0), note, &Font::new(12.0, MUTED));
    x.horizontal_axis(svg, TOP, bottom, 5);
    let middle = (AXIS.0 + AXIS.1) / 2.0;
    let axis = "\u{3b8}, probability that a token is fixated";
    svg.text((middle, bottom + 38.0), axis, &Font::new(13.0, INK).at(Anchor::Middle));
    let mean = x.at(aggregate.mean());
    svg.line((mean, TOP), (mean, bottom), &Paint { dashed: true, ..Paint::line(SERIES[1], 1.2) });
    for (i, (name, beta)) in rows.iter().enumerate() {
        let base = TOP + (i as f64 + 1.0) * ROW;
        ridge(svg, name, *beta, x, base, SERIES[0]);
    }
    let base = TOP + (rows.len() as f64 + 1.45) * ROW;
    ridge(svg, "aggregate of all labels", aggregate, x, base, SERIES[1]);
}

fn ridge(svg: &mut Svg, name: &str, beta: Beta, x: Scale, base: f64, colour: &str) {
    svg.line((AXIS.0, base), (AXIS.1, base), &Paint::line(GRID, 1.0));
    let [low, high] = beta.interval();
    // Fine steps where the density is: five standard deviations around the mean.
    let (from, to) = ((beta.mean() - 5.0 * beta.sd()).max(0.0), (beta.mean() + 5.0 * beta.sd()).min(1.0));
    let places: Vec<f64> = (0..=160).map(|i| from + (to - from) * f64::from(i) / 160.0).collect();
    let heights: Vec<f64> = places.iter().map(|&p| beta.ln_pdf(p)).collect();
    let most = heights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let curve = places.iter().zip(&heights).map(|(&p, &h)| (x.at(p), base - (ROW - 7.0) * (h - most).exp()));
    let mut outline = vec![(x.at(from), base)];
    outline.extend(curve);
    outline.push((x.at(to), base));
    svg.polygon(&outline, &Paint { stroke: colour, width: 1.3, ..Paint::fill(colour, 0.25) });
    svg.line((x.at(low), base), (x.at(high), base), &Paint::line(colour, 3.5));
    svg.circle((x.at(beta.mean()), base), 3.6, &Paint { stroke: svg::PAPER, width: 1.0, ..Paint::fill(colour, 1.0) });
    let bold = colour == SERIES[1];
    let font = |size, colour| Font { bold, ..Font::new(size, colour) };
    svg.text((AXIS.0 - 12.0, base - 2.0), name, &font(13.0, INK).at(Anchor::End));
    svg.text((AXIS.1 + 14.0, base - 2.0), &format!("{:.3}", beta.mean()), &font(13.0, INK));
    let counted = format!("Beta({}, {})", beta.alpha, beta.beta);
    svg.text((AXIS.1 + 64.0, base - 2.0), &counted, &Font::new(12.0, MUTED));
}

/// The text, cut at a word where it is longer than `most` characters.
fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_string();
    }
    let start: String = text.chars().take(most).collect();
    let cut = start.rfind(' ').unwrap_or(start.len());
    format!("{} ...", &start[..cut])
}
