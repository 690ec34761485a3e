//! Weights and roles given on character spans of a text, carried over to its subwords.

use std::ops::Range;

use serde_json::Value;

use crate::data::json;
use crate::data::tokenizer::Piece;

/// The spans of one text, in bytes and in order.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    /// `weights`: disjoint stretches, each with its weight and whether it lies on the scan path.
    weighted: Vec<(Range<usize>, f32, bool)>,
    /// `path`: stretches on the scan path; they may overlap.
    path: Vec<Range<usize>>,
}

impl Spans {
    /// Reads `weights` (a list of [start, end, weight] or [start, end, weight, on_path]) and `path` (a list of
    /// [start, end]). Offsets count the characters (Unicode scalar values) of `text`, as slices of a Python string
    /// do. The error is a sentence that names the entry, counted from 0.
    pub(crate) fn read(text: &str, weights: Option<&Value>, path: Option<&Value>) -> Result<Spans, String> {
        if weights.is_none() && path.is_none() {
            return Ok(Spans::default());
        }
        let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut spans = Spans::default();
        let form = "[start, end, weight] or [start, end, weight, on_path]";
        for (index, entry) in entries("weights", form, weights)? {
            let name = |why: String| format!("`weights`[{index}]: {why}");
            let (start, end, weight, on_path) = match entry {
                [start, end, weight] => (start, end, weight, false),
                [start, end, weight, role] => {
                    let role = json::flag(role).ok_or_else(|| name("on_path must be true or false".into()))?;
                    (start, end, weight, role)
                }
                _ => return Err(name(format!("{form} is needed"))),
            };
            let range = range(&bytes, start, end).map_err(name)?;
            spans.weighted.push((range, json::weight(weight).map_err(name)?, on_path));
        }
        for (index, entry) in entries("path", "[start, end]", path)? {
            let name = |why: String| format!("`path`[{index}]: {why}");
            let [start, end] = entry else { return Err(name("[start, end] is needed".into())) };
            spans.path.push(range(&bytes, start, end).map_err(name)?);
        }
        spans.weighted.retain(|(range, ..)| !range.is_empty());
        spans.weighted.sort_by_key(|(range, ..)| range.start);
        if let Some(at) = spans.weighted.windows(2).find_map(|w| match w {
            [(a, ..), (b, ..)] if b.start < a.end => Some(b.start),
            _ => None,
        }) {
            let character = bytes.partition_point(|&byte| byte < at);
            return Err(format!("two spans of `weights` overlap at character {character}; give each character once"));
        }
        spans.path.retain(|range| !range.is_empty());
        spans.path.sort_by_key(|range| range.start);
        spans.path.dedup_by(|next, kept| {
            let joined = next.start <= kept.end;
            if joined {
                kept.end = kept.end.max(next.end);
            }
            joined
        });
        Ok(spans)
    }

    /// Weight and role of one subword of `text`: those of the weighted span that covers most of its bytes (the
    /// earlier one of two that cover the same), 1 and off the path where none does. `path` puts a subword on the
    /// path if it covers at least half of its bytes that are not blank.
    pub(crate) fn at(&self, text: &str, piece: Piece) -> (f32, bool) {
        let subword = piece.start..piece.end;
        let (weight, weighted_on_path) = match covering(&self.weighted, |(range, ..)| range, &piece) {
            Some(&(_, weight, on_path)) => (weight, on_path),
            None => (1.0, false),
        };
        let ink = |range: Range<usize>| {
            let bytes = text.as_bytes().get(range).unwrap_or_default();
            bytes.iter().filter(|b| !b.is_ascii_whitespace()).count()
        };
        let mut gazed = overlapping(&self.path, |range| range, &subword).peekable();
        let on_path = gazed.peek().is_some() && {
            let covered: usize = gazed.map(|range| ink(common(range, &subword))).sum();
            2 * covered >= ink(subword)
        };
        (weight, weighted_on_path || on_path)
    }
}

/// The entries of a list of lists, with their index.
fn entries<'a>(key: &str, form: &str, list: Option<&'a Value>) -> Result<Vec<(usize, &'a [Value])>, String> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let wrong = |what: &Value| format!("`{key}` must be a list of {form}, but here is {}", json::brief(what));
    let list = list.as_array().ok_or_else(|| wrong(list))?;
    list.iter().enumerate().map(|(i, e)| Ok((i, e.as_array().ok_or_else(|| wrong(e))?.as_slice()))).collect()
}

/// The bytes of a span of characters; `bytes[c]` is where character `c` begins.
fn range(bytes: &[usize], start: &Value, end: &Value) -> Result<Range<usize>, String> {
    let whole = |v: &Value| v.as_u64().and_then(|v| usize::try_from(v).ok());
    let (Some(first), Some(last)) = (whole(start), whole(end)) else {
        return Err(format!("start {} and end {} must be whole numbers from 0", json::brief(start), json::brief(end)));
    };
    if first > last {
        return Err(format!("start {first} lies behind end {last}"));
    }
    match (bytes.get(first), bytes.get(last)) {
        (Some(&first), Some(&last)) => Ok(first..last),
        _ => Err(format!("characters {first} to {last} reach past the completion, which has {}", bytes.len() - 1)),
    }
}

/// Of some spans, sorted and disjoint, the one that covers most of a subword's bytes (the earlier one of two that cover
/// the same).
pub(crate) fn covering<'a, T>(
    spans: &'a [T], range: impl Fn(&T) -> &Range<usize> + Copy + 'a, piece: &Piece,
) -> Option<&'a T> {
    let subword = piece.start..piece.end;
    let covered = |span: &T| common(range(span), &subword).len();
    let sharing = overlapping(spans, range, &subword).filter(|span| covered(span) > 0);
    sharing.reduce(|best, span| if covered(span) > covered(best) { span } else { best })
}

/// The spans, sorted and disjoint, that share a byte with `subword`.
fn overlapping<'a, T>(
    spans: &'a [T], range: impl Fn(&T) -> &Range<usize> + Copy + 'a, subword: &Range<usize>,
) -> impl Iterator<Item = &'a T> {
    let subword = subword.clone();
    let first = spans.partition_point(|span| range(span).end <= subword.start);
    spans.iter().skip(first).take_while(move |span| range(span).start < subword.end)
}

fn common(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    a.start.max(b.start)..a.end.min(b.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spans(text: &str, weights: Value, path: Value) -> Result<Spans, String> {
        Spans::read(text, Some(&weights), Some(&path))
    }

    fn at(spans: &Spans, text: &str, start: usize, end: usize) -> (f32, bool) {
        spans.at(text, Piece { id: 0, start, end })
    }

    #[test]
    fn the_span_that_covers_most_wins() {
        let text = "abcdefgh";
        let s = spans(text, json!([[4, 6, 3.0, true], [0, 2, 2.0], [2, 4, -1, 1]]), json!([])).unwrap();
        assert_eq!(at(&s, text, 0, 2), (2.0, false));
        assert_eq!(at(&s, text, 1, 4), (-1.0, true));
        assert_eq!(at(&s, text, 0, 3), (2.0, false));
        assert_eq!(at(&s, text, 1, 3), (2.0, false), "one byte each: the earlier span");
        assert_eq!(at(&s, text, 0, 8), (2.0, false), "two bytes each: the earliest span");
        assert_eq!(at(&s, text, 5, 8), (3.0, true), "one covered byte of three");
        assert_eq!(at(&s, text, 6, 8), (1.0, false));
        assert_eq!(at(&s, text, 3, 3), (1.0, false), "a subword without bytes");
    }

    #[test]
    fn spans_count_characters_and_pieces_bytes() {
        let text = "é漢🙂x"; // 2 + 3 + 4 + 1 bytes
        let s = spans(text, json!([[1, 2, 2.0], [2, 3, 4.0, true]]), json!([[0, 1], [3, 4]])).unwrap();
        assert_eq!(at(&s, text, 0, 2), (1.0, true));
        assert_eq!(at(&s, text, 2, 5), (2.0, false));
        assert_eq!(at(&s, text, 5, 9), (4.0, true));
        assert_eq!(at(&s, text, 9, 10), (1.0, true));
    }

    #[test]
    fn path_needs_half_of_what_is_not_blank() {
        let text = "   x = yz";
        let s = spans(text, json!([]), json!([[7, 8], [3, 4], [3, 4]])).unwrap();
        assert_eq!(at(&s, text, 0, 4), (1.0, true), "blanks do not count");
        assert_eq!(at(&s, text, 6, 9), (1.0, true), "one of two");
        assert_eq!(at(&s, text, 4, 9), (1.0, false), "one of three");
        let s = spans(text, json!([]), json!([[0, 2]])).unwrap();
        assert_eq!(at(&s, text, 0, 3), (1.0, true), "only blanks, and some are on it");
    }

    #[test]
    fn bad_spans_are_named() {
        for (weights, path, why) in [
            (
                json!("x"),
                json!([]),
                "`weights` must be a list of [start, end, weight] or [start, end, weight, on_path], but here is \"x\"",
            ),
            (json!([]), json!("src/A.java"), "`path` must be a list of [start, end], but here is \"src/A.java\""),
            (json!([]), json!([3, 4]), "`path` must be a list of [start, end], but here is 3"),
            (
                json!([[0, 1]]),
                json!([]),
                "`weights`[0]: [start, end, weight] or [start, end, weight, on_path] is needed",
            ),
            (json!([]), json!([[0, 1], [0, 1, 2]]), "`path`[1]: [start, end] is needed"),
            (json!([[0, 1.5, 1]]), json!([]), "`weights`[0]: start 0 and end 1.5 must be whole numbers from 0"),
            (json!([[-1, 1, 1]]), json!([]), "`weights`[0]: start -1 and end 1 must be whole numbers from 0"),
            (json!([[2, 1, 1]]), json!([]), "`weights`[0]: start 2 lies behind end 1"),
            (
                json!([[0, 1, 1], [2, 5, 1]]),
                json!([]),
                "`weights`[1]: characters 2 to 5 reach past the completion, which has 4",
            ),
            (json!([]), json!([[0, 9]]), "`path`[0]: characters 0 to 9 reach past the completion, which has 4"),
            (
                json!([[2, 4, 1], [0, 3, 1]]),
                json!([]),
                "two spans of `weights` overlap at character 2; give each character once",
            ),
            (json!([[0, 1, 1], [1, 2, "NaN"]]), json!([]), "`weights`[1]: the weight NaN is not a finite number"),
            (json!([[0, 1, 1, "yes"]]), json!([]), "`weights`[0]: on_path must be true or false"),
        ] {
            assert_eq!(spans("ab漢d", weights, path).unwrap_err(), why);
        }
    }

    #[test]
    fn touching_and_empty_spans_are_fine() {
        assert!(spans("abcd", json!([[0, 2, 1], [2, 4, 1], [1, 1, 5]]), json!([[4, 4]])).is_ok());
        assert!(spans("", json!([]), json!([])).is_ok());
    }
}
