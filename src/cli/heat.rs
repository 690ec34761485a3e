//! The colours of a terminal, and the heat map of token weights.

use std::ffi::OsString;

/// The colours of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    None,
    /// The 8 basic colours.
    Basic,
    /// The palette of 256.
    Indexed,
    /// 24 bits.
    True,
}

impl Colour {
    /// Decides from whether the stream is a terminal and from the environment: `NO_COLOR`, `TERM`, `COLORTERM`.
    pub fn decide(is_terminal: bool, var: impl Fn(&str) -> Option<OsString>) -> Colour {
        let text = |name: &str| var(name).unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let (depth, term) = (text("COLORTERM"), text("TERM"));
        // any value of NO_COLOR but an empty one counts (no-color.org)
        if !is_terminal || !text("NO_COLOR").is_empty() || term == "dumb" {
            Colour::None
        } else if depth == "truecolor" || depth == "24bit" {
            Colour::True
        } else if term.contains("256color") {
            Colour::Indexed
        } else {
            Colour::Basic
        }
    }
}

/// The part of a token in the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not supervised.
    Masked,
    /// Supervised, off the scan path.
    Off,
    /// Supervised, on the scan path.
    On,
}

type Rgb = [u8; 3];

/// From dark to bright at equal distances, readable with light text on the first and dark text on the last, and ordered
/// by lightness for any colour vision.
const RAMP: [Rgb; 5] = [[27, 12, 65], [101, 21, 110], [188, 55, 84], [237, 105, 37], [249, 201, 50]];

/// The basic background colours from cold to hot, each with a readable foreground.
const BASIC: [&str; 5] = ["37;44", "30;46", "30;42", "30;43", "37;41"];

/// `text` on a background between cold (`weight` at or below `lo`) and hot (at or above `hi`), underlined where it is
/// on the scan path. Unsupervised text is dim and has no background.
///
/// Without colours the weight follows the text in angle quotes: `total‹1.50›`, on the path `total‹1.50*›`. Line breaks
/// are outside the colour, because terminals would fill the rest of the line with it. Control characters are replaced,
/// because data could contain escape sequences.
pub fn paint_weight(colour: Colour, text: &str, weight: f32, lo: f32, hi: f32, role: Role) -> String {
    let text = printable(text);
    let heat = heat(weight, lo, hi);
    let style = match colour {
        Colour::None if role == Role::Masked => return text,
        Colour::None => return annotated(&text, weight, if role == Role::On { "*" } else { "" }),
        _ if role == Role::Masked => "2".to_string(),
        Colour::Basic => BASIC[(heat * 4.0).round() as usize].to_string(),
        Colour::Indexed => {
            let (index, seen) = indexed(ramp(heat));
            format!("38;5;{};48;5;{index}", if light_text(seen) { 231 } else { 16 })
        }
        Colour::True => {
            let [r, g, b] = ramp(heat);
            let ink = if light_text([r, g, b]) { "255;255;255" } else { "0;0;0" };
            format!("38;2;{ink};48;2;{r};{g};{b}")
        }
    };
    let style = if role == Role::On { style + ";4" } else { style };
    text.split_inclusive('\n')
        .map(|line| match line.strip_suffix('\n') {
            Some("") => "\n".to_string(),
            Some(line) => format!("\x1b[{style}m{line}\x1b[0m\n"),
            None => format!("\x1b[{style}m{line}\x1b[0m"),
        })
        .collect()
}

/// The text with the weight after its last character that is not white space; white space alone has no weight.
fn annotated(text: &str, weight: f32, mark: &str) -> String {
    let word = text.trim_end();
    if word.is_empty() { text.to_string() } else { format!("{word}‹{weight:.2}{mark}›{}", &text[word.len()..]) }
}

/// The position of the weight between the ends, 0 to 1; 0 for NaN.
fn heat(weight: f32, lo: f32, hi: f32) -> f32 {
    let heat = ((weight - lo) / (hi - lo)).clamp(0.0, 1.0);
    if heat.is_nan() { 0.0 } else { heat }
}

fn ramp(heat: f32) -> Rgb {
    let place = heat * (RAMP.len() - 1) as f32;
    let left = (place as usize).min(RAMP.len() - 2);
    let part = place - left as f32;
    std::array::from_fn(|c| {
        let (a, b) = (f32::from(RAMP[left][c]), f32::from(RAMP[left + 1][c]));
        (a + part * (b - a)).round() as u8
    })
}

/// The nearest colour of the 6 x 6 x 6 cube: its index and its value.
fn indexed(rgb: Rgb) -> (u16, Rgb) {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let level = |c: u8| (0..6).min_by_key(|&i| LEVELS[i].abs_diff(c)).unwrap_or(0);
    let [r, g, b] = rgb.map(level);
    ((16 + 36 * r + 6 * g + b) as u16, [LEVELS[r], LEVELS[g], LEVELS[b]])
}

/// Whether white is easier to read on `rgb` than black.
fn light_text(rgb: Rgb) -> bool {
    contrast(1.0, luminance(rgb)) > contrast(luminance(rgb), 0.0)
}

/// Contrast of two luminances, the lighter first (WCAG 2.1).
fn contrast(lighter: f32, darker: f32) -> f32 {
    (lighter + 0.05) / (darker + 0.05)
}

/// Relative luminance of an sRGB colour (WCAG 2.1).
fn luminance(rgb: Rgb) -> f32 {
    let [r, g, b] = rgb.map(|c| {
        let c = f32::from(c) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

/// The text with control characters other than tabs and line breaks replaced.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides() {
        let decide = |terminal, vars: &[(&str, &str)]| {
            Colour::decide(terminal, |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
        };
        let rich = [("COLORTERM", "truecolor"), ("TERM", "xterm-256color")];
        assert_eq!(decide(true, &rich), Colour::True);
        assert_eq!(decide(true, &[("COLORTERM", "24bit")]), Colour::True);
        assert_eq!(decide(true, &rich[1..]), Colour::Indexed);
        assert_eq!(decide(true, &[("TERM", "xterm")]), Colour::Basic);
        assert_eq!(decide(true, &[]), Colour::Basic);
        assert_eq!(decide(false, &rich), Colour::None);
        assert_eq!(decide(true, &[rich[0], ("NO_COLOR", "1")]), Colour::None);
        assert_eq!(decide(true, &[rich[0], ("NO_COLOR", "")]), Colour::True);
        assert_eq!(decide(true, &[rich[0], ("TERM", "dumb")]), Colour::None);
    }

    #[test]
    fn text_reads_on_every_heat() {
        for step in 0..=100 {
            let rgb = ramp(step as f32 / 100.0);
            for seen in [rgb, indexed(rgb).1] {
                let l = luminance(seen);
                let reads = if light_text(seen) { contrast(1.0, l) } else { contrast(l, 0.0) };
                assert!(reads >= 4.5, "{seen:?}: {reads}");
            }
        }
        assert_eq!((ramp(0.0), ramp(0.5), ramp(1.0)), (RAMP[0], RAMP[2], RAMP[4]));
        assert!((1..=20).all(|i| luminance(ramp(i as f32 / 20.0)) > luminance(ramp((i - 1) as f32 / 20.0))));
    }

    #[test]
    fn heat_takes_any_number() {
        assert_eq!((heat(1.0, 0.0, 2.0), heat(-9.0, 0.0, 2.0), heat(9.0, 0.0, 2.0)), (0.5, 0.0, 1.0));
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (w, lo, hi) in [(odd, 0.0, 1.0), (0.0, odd, 1.0), (0.0, 0.0, odd), (1.0, 1.0, 1.0), (odd, odd, odd)] {
                assert!((0.0..=1.0).contains(&heat(w, lo, hi)));
                for colour in [Colour::None, Colour::Basic, Colour::Indexed, Colour::True] {
                    paint_weight(colour, "x", w, lo, hi, Role::Off);
                }
            }
        }
    }

    #[test]
    fn each_depth_writes_its_own_codes() {
        let paint = |colour, weight, role| paint_weight(colour, "int", weight, 0.0, 1.0, role);
        assert_eq!(paint(Colour::True, 0.0, Role::Off), "\x1b[38;2;255;255;255;48;2;27;12;65mint\x1b[0m");
        assert_eq!(paint(Colour::True, 1.0, Role::Off), "\x1b[38;2;0;0;0;48;2;249;201;50mint\x1b[0m");
        assert_eq!(paint(Colour::Indexed, 1.0, Role::Off), "\x1b[38;5;16;48;5;221mint\x1b[0m");
        assert_eq!(paint(Colour::Basic, 0.0, Role::Off), "\x1b[37;44mint\x1b[0m");
        assert_eq!(paint(Colour::True, 1.0, Role::Masked), "\x1b[2mint\x1b[0m");
        assert_eq!(paint(Colour::None, 1.0, Role::Off), "int‹1.00›");
        assert_eq!(paint(Colour::None, 1.0, Role::Masked), "int");
        assert_eq!(paint(Colour::Basic, 0.0, Role::On), "\x1b[37;44;4mint\x1b[0m");
        assert_eq!(paint(Colour::None, 1.0, Role::On), "int‹1.00*›");
    }

    #[test]
    fn lines_end_outside_the_colour() {
        let paint = |colour, text| paint_weight(colour, text, 0.0, 0.0, 1.0, Role::Off);
        assert_eq!(paint(Colour::Basic, "a\n\n  b\n"), "\x1b[37;44ma\x1b[0m\n\n\x1b[37;44m  b\x1b[0m\n");
        assert_eq!(paint(Colour::None, "a;\n  "), "a;‹0.00›\n  ");
        assert_eq!(paint(Colour::None, " \n"), " \n");
        assert_eq!(paint(Colour::Basic, ""), "");
        assert_eq!(paint(Colour::None, "\x1b[31m\té"), "\u{fffd}[31m\té‹0.00›");
    }
}
