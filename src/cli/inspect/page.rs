//! The page: summary and rows as the plain strings of [`crate::render::html`].

use super::path::{self, Segment};
use super::{Inspected, map, summary};
use crate::data::shown::{Kind, Scan, Shown};
use crate::render::html::{Card, Code, Page, Row, Subword, Token};
use crate::salience::Label;

/// The page of an inspection.
pub fn page(it: &Inspected) -> Page {
    Page {
        title: format!("eyekern inspect: {}", summary::name(it.source)),
        about: summary::about(it),
        facts: summary::facts(it),
        scale: summary::scale(it),
        bars: summary::bars(it),
        rows: it.shown.iter().map(|shown| row(it, shown)).collect(),
    }
}

fn row(it: &Inspected, shown: &Shown) -> Row {
    let segments = match (&shown.scan, it.drawing) {
        (Some(scan), Some(drawing)) => path::segments(scan, drawing.salience.counted()),
        _ => Vec::new(),
    };
    let of = shown.scan.as_ref().map(|scan| scan.path.by_token(scan.spans.len())).unwrap_or_default();
    let mut subwords = shown.subwords.iter().map(|subword| {
        let segment = subword.token.and_then(|token| of.get(token).copied().flatten()).and_then(|i| segments.get(i));
        shown_subword(subword, segment)
    });
    let given = shown.subwords.iter().position(|subword| subword.label.is_some()).unwrap_or(shown.subwords.len());
    let (cut, lost) = &shown.cut;
    Row {
        line: shown.line,
        about: map::about(shown),
        notes: map::notes(shown),
        prompt: subwords.by_ref().take(given).collect(),
        learned: subwords.collect(),
        cut: (*cut > 0).then(|| (map::cut_mark(*cut, it), lost.clone())),
        code: shown.scan.as_ref().map(|scan| code(scan, &of, &segments)),
    }
}

fn shown_subword(subword: &crate::data::shown::Subword, segment: Option<&Segment>) -> Subword {
    let bytes = subword.bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" ");
    let mut card: Card = vec![("token id", subword.id.to_string())];
    if !bytes.is_empty() {
        let text = String::from_utf8(subword.bytes.clone()).ok();
        let text = text.map(|text| format!("  \"{}\"", path::one_line(&text))).unwrap_or_default();
        card.push(("bytes", format!("{bytes}{text}")));
    }
    match subword.label {
        None => card.push(("supervised", "no".into())),
        Some(label) => {
            if label != subword.id {
                card.push(("to predict", format!("id {label}")));
            }
            card.push(("weight", path::terms(subword.weight, subword.parts.as_ref())));
            card.push(("label", subword.kind.name().into()));
            path_lines(&mut card, subword.on_path, segment);
        }
    }
    Subword {
        text: subword.text.clone(),
        bytes,
        weight: subword.label.map(|_| f64::from(subword.weight)),
        on_path: subword.label.is_some() && subword.on_path,
        end: subword.kind == Kind::End && subword.label.is_some(),
        token: subword.token,
        card,
    }
}

fn path_lines(card: &mut Card, on_path: bool, segment: Option<&Segment>) {
    match segment {
        Some(segment) => {
            card.push(("scan path", format!("on it, segment {}", segment.number)));
            card.push(("n-gram", segment.describe()));
        }
        None => card.push(("scan path", if on_path { "on it".into() } else { "off it".into() })),
    }
}

fn code(scan: &Scan, of: &[Option<usize>], segments: &[Segment]) -> Code {
    let mut at = 0;
    let mut token = |(place, span): (usize, &crate::salience::Span)| {
        let gap = scan.text.get(at..span.start).unwrap_or_default().to_string();
        at = span.end;
        let (weight, segment) = (scan.weights[place], of[place].and_then(|index| segments.get(index)));
        let mut card: Card = vec![
            ("token", path::one_line(path::token(scan, place))),
            ("label", span.label.map_or("none", Label::name).into()),
            ("weight", path::terms(weight.value() as f32, Some(&weight.parts))),
        ];
        path_lines(&mut card, weight.on_path, segment);
        Token {
            gap,
            text: path::token(scan, place).to_string(),
            weight: weight.value(),
            segment: segment.map(|segment| segment.number),
            card,
        }
    };
    let tokens = scan.spans.iter().enumerate().map(&mut token).collect();
    let row = |s: &Segment| {
        let count = s.count.map_or("none".into(), |count| count.to_string());
        [s.number.to_string(), s.tokens.clone(), s.ngram.clone(), count, format!("{:.3}", s.rarity)]
    };
    Code {
        title: map::path_title(scan),
        tokens,
        rest: scan.text.get(at..).unwrap_or_default().to_string(),
        segments: segments.iter().map(row).collect(),
    }
}
