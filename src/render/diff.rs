//! The differences of two texts, for display.

/// A piece of a text, and whether the other text lacks it.
pub type Piece = (bool, String);

/// The largest table of the longest common subsequence, in entries; longer texts differ as a whole between their common
/// start and end.
const TABLE: usize = 4_000_000;

/// The pieces of two texts. A word, a run of white space and every other character are compared as units.
pub fn pieces(a: &str, b: &str) -> [Vec<Piece>; 2] {
    let (a, b) = (units(a), units(b));
    let start = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let end = a[start..].iter().rev().zip(b[start..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (middle_a, middle_b) = (&a[start..a.len() - end], &b[start..b.len() - end]);
    let [mut lacking_a, mut lacking_b] = [vec![false; a.len()], vec![false; b.len()]];
    let [in_a, in_b] = lacking(middle_a, middle_b);
    lacking_a[start..start + in_a.len()].copy_from_slice(&in_a);
    lacking_b[start..start + in_b.len()].copy_from_slice(&in_b);
    [joined(&a, &lacking_a), joined(&b, &lacking_b)]
}

fn units(text: &str) -> Vec<&str> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = text;
    std::iter::from_fn(|| {
        let first = rest.chars().next()?;
        let same: fn(char) -> bool =
            if first.is_whitespace() { char::is_whitespace } else { |c| c.is_alphanumeric() || c == '_' };
        let length = match word(first) || first.is_whitespace() {
            true => rest.find(|c| !same(c)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (unit, after) = rest.split_at(length);
        rest = after;
        Some(unit)
    })
    .collect()
}

/// Which units lie outside a longest common subsequence.
fn lacking(a: &[&str], b: &[&str]) -> [Vec<bool>; 2] {
    let mut found = [vec![true; a.len()], vec![true; b.len()]];
    let width = b.len() + 1;
    if (a.len() + 1).saturating_mul(width) > TABLE {
        return found;
    }
    // at (i, j): the length for the rests of both from there; at most 2000, the root of the table's size
    let mut lengths = vec![0_u16; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            let at = i * width + j;
            lengths[at] = match a[i] == b[j] {
                true => lengths[at + width + 1] + 1,
                false => lengths[at + width].max(lengths[at + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let at = i * width + j;
        if a[i] == b[j] {
            (found[0][i], found[1][j]) = (false, false);
            (i, j) = (i + 1, j + 1);
        } else if lengths[at + width] >= lengths[at + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    found
}

/// Neighbouring units of the same kind as one piece.
fn joined(units: &[&str], lacking: &[bool]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (unit, &lacking) in units.iter().zip(lacking) {
        match pieces.last_mut() {
            Some((kind, text)) if *kind == lacking => text.push_str(unit),
            _ => pieces.push((lacking, unit.to_string())),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(pieces: &[Piece]) -> String {
        pieces.iter().map(|(lacking, text)| if *lacking { format!("[{text}]") } else { text.clone() }).collect()
    }

    #[test]
    fn differences_are_marked_in_both() {
        for (a, b, in_a, in_b) in [
            ("", "", "", ""),
            ("", "a b", "", "[a b]"),
            ("int a = b;", "int a = b;", "int a = b;", "int a = b;"),
            ("int a = b;", "long a = b + 1;", "[int] a = b;", "[long] a = b[ + 1];"),
            ("f(x, y)", "f(y, x)", "f([x], [y])", "f([y], [x])"),
            ("é x\n", "e x ", "[é] x[\n]", "[e] x[ ]"),
            ("((a", "(a", "([(]a", "(a"),
        ] {
            let [pieces_a, pieces_b] = pieces(a, b);
            assert_eq!((marked(&pieces_a).as_str(), marked(&pieces_b).as_str()), (in_a, in_b), "{a:?} {b:?}");
        }
    }

    #[test]
    fn long_texts_differ_as_a_whole_in_the_middle() {
        let [a, b] = ["x ", "y "].map(|word| format!("start {}end", word.repeat(3000)));
        let [in_a, in_b] = pieces(&a, &b);
        assert_eq!((in_a.len(), in_b.len()), (3, 3));
        assert_eq!((in_a[0].1.as_str(), in_b[2].1.as_str()), ("start ", " end"));
    }
}
