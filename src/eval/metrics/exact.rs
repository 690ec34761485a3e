//! Equality and containment of two texts.

use super::mean::Mean;
use super::text::{split, strip, without_space};
use super::{Family, Metric, Pair};

const METRICS: [Metric; 6] = [
    Metric { name: "strict_exact", scale: 1.0 },
    Metric { name: "codexglue_exact", scale: 1.0 },
    Metric { name: "codexglue_line_exact", scale: 1.0 },
    Metric { name: "contain", scale: 1.0 },
    Metric { name: "h_exact", scale: 1.0 },
    Metric { name: "h_exact_paper", scale: 1.0 },
];

/// The six metrics; p is the prediction and r the reference, p' and r' are the same without white space.
///
/// * `strict_exact`: p' = r'.
/// * `codexglue_exact`: `p.strip() == r.strip()`, as CodeXGLUE's evaluator of translations.
/// * `codexglue_line_exact`: `p.split() == r.split()`, as its evaluator of line completion.
/// * `contain`: p' contains r' or r' contains p', neither of them empty. The paper's tables call it "Exact".
/// * `h_exact`: the mean of `strict_exact` and `contain`, as the published code has it.
/// * `h_exact_paper`: the mean of `strict_exact` and "r' contains p', which is not empty" (equation 2 of the paper).
pub fn exact() -> impl Family {
    Mean { metrics: &METRICS, values }
}

fn values(pair: &Pair, values: &mut [f64]) {
    let [hyp, reference] = pair.texts();
    let (p, r) = (without_space(hyp), without_space(reference));
    let equal = p == r;
    let inside = !p.is_empty() && r.contains(&p);
    let contain = inside || !r.is_empty() && p.contains(&r);
    let half = |x: bool, y: bool| 0.5 * f64::from(x) + 0.5 * f64::from(y);
    values.copy_from_slice(&[
        f64::from(equal),
        f64::from(strip(hyp) == strip(reference)),
        f64::from(split(hyp).eq(split(reference))),
        f64::from(contain),
        half(equal, contain),
        half(equal, inside),
    ]);
}
